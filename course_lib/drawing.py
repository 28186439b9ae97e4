"""What every figure of the course stands on: colors, the style, PNG bytes, and a sheet to draw boxes and arrows on.

Figures have a light card of their own, so that they keep their contrast on light and dark pages and in gray. They
are made without pyplot: nothing is kept, and nothing is ever shown twice.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib
import matplotlib.figure
import torch
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

from .validate import check_number

#: Colors that people with any kind of color vision can tell apart (after Okabe & Ito 2008), and a red for what fails.
COLORS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "purple": "#AA4A85",
    "yellow": "#E69F00",
    "sky": "#56B4E9",
    "black": "#222222",
    "gray": "#8A8A8A",
    "red": "#C81E1E",
}
#: The colors of curves, in order; lines differ in dashes too, for print in gray.
CYCLE = ("blue", "orange", "green", "purple", "yellow", "sky")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
#: The ground that figures stand on, and their resolution in pixels an inch.
CARD = "#FBFAF7"
DPI = 100
_STYLE = {
    "figure.facecolor": CARD,
    "savefig.facecolor": CARD,
    "axes.facecolor": CARD,
    "axes.edgecolor": "#777777",
    "axes.labelcolor": "#222222",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.prop_cycle": cycler(color=[COLORS[name] for name in CYCLE]),
    "grid.color": "#DDDBD5",
    "grid.linewidth": 0.7,
    "text.color": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 2,
    "hatch.linewidth": 0.6,
}
P = ParamSpec("P")
R = TypeVar("R")


class Png(bytes):
    """The bytes of a PNG; Jupyter shows them as a picture."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = struct.unpack(">II", self[16:24])
        return width, height

    def pixels(self) -> Tensor:
        """The decoded pixels, uint8, (H, W) for gray and (H, W, 3) for color."""
        with Image.open(io.BytesIO(self)) as opened:
            image = opened.convert("L" if opened.mode == "L" else "RGB")
        flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return flat.view(image.height, image.width, *((3,) if image.mode == "RGB" else ()))

    def _repr_png_(self) -> bytes:
        return bytes(self)

    def __repr__(self) -> str:
        return f"Png({self.size[0]}×{self.size[1]} pixels, {len(self):,} bytes)"

    __str__ = __repr__


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure in the course's style that shows itself in Jupyter, sharp on any screen."""

    def __init__(self, width: float, height: float, **options: Any) -> None:
        with style():
            super().__init__(figsize=(width, height), dpi=DPI, **options)
        FigureCanvasAgg(self)

    def draw(self, renderer: Any) -> None:
        with style():  # ticks are made while drawing
            super().draw(renderer)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = (round(inches * DPI) for inches in self.get_size_inches())
        return bytes(figure_png(self, 2)), {"width": width, "height": height}


def style() -> AbstractContextManager[None]:
    """The course's matplotlib style as a context: fonts, colors that survive color blindness, a light card."""
    return matplotlib.rc_context(_STYLE)


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function inside `style`."""

    @wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with style():
            return function(*args, **kwargs)

    return inner


@styled
def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Any]]:
    """An empty figure in the course's style.

    Args:
        width: in inches; a Jupyter page shows about 8 of them.
        height: in inches.
        rows: rows of axes.
        columns: columns of axes.

    Returns:
        The figure and its axes, row by row.
    """
    figure = Figure(width, height, layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


@styled
def figure_png(figure: matplotlib.figure.Figure, scale: float = 1.0) -> Png:
    """A figure as PNG bytes.

    Args:
        figure: any matplotlib figure.
        scale: 1 for 100 pixels an inch.
    """
    if scale == 1 and figure.get_dpi() == DPI:  # quicker: no second canvas, and our own encoder
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        width, height = canvas.get_width_height()
        pixels = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8).view(height, width, 4)
        return encode(pixels[..., :3])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI * scale, metadata={"Software": None})
    return Png(buffer.getvalue())


#: Neutral colors of the style, in words of SVG that follow the page's own text color.
_NEUTRAL = {
    f"fill: {CARD}": "fill: none",
    "stroke: #dddbd5": "stroke: currentColor; stroke-opacity: 0.18",
    **{f"{use}: {gray}": f"{use}: currentColor" for use in ("fill", "stroke") for gray in
       ("#222222", "#444444", "#555555", "#777777", "#000000")},
}  # fmt: skip


@styled
def figure_svg(figure: matplotlib.figure.Figure) -> str:
    """A figure as SVG without a ground, its grays replaced by the color of the text around it.

    Args:
        figure: any matplotlib figure in the course's style.

    Returns:
        The element, in units of a 72nd of an inch, as wide as what holds it. The same figure gives the same text.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "course"}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg[svg.index("<svg") :])
    for color, neutral in _NEUTRAL.items():
        svg = re.sub(re.escape(color), neutral, svg, flags=re.IGNORECASE)
    return svg


def encode(pixels: Tensor, scale: int = 1) -> Png:
    """Bytes as a PNG, each pixel a square of scale × scale.

    Repeated lines are stored as "the same as above", which makes this quicker than a general encoder.

    Args:
        pixels: uint8, (H, W) for gray or (H, W, 3) for color, on the CPU.
        scale: enlargement, nearest neighbor.

    Raises:
        TypeError, ValueError: not uint8, another shape, or a scale below 1.
    """
    check_number("scale", scale, 1, integer=True)
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8:
        got = pixels.dtype if isinstance(pixels, Tensor) else type(pixels).__name__
        raise TypeError(f"pixels must be a uint8 tensor, got {got}; use course_lib.data.to_uint8")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(f"pixels must have shape (H, W) or (H, W, 3), got {tuple(pixels.shape)}")
    height, width = pixels.shape[:2]
    lines = pixels.repeat_interleave(scale, 1).reshape(height, -1)
    raw = torch.zeros(height, scale, lines.shape[1] + 1, dtype=torch.uint8)
    raw[:, 0, 1:] = lines
    raw[:, 1:, 0] = 2  # filter type "up": this line minus the one above, all zeros here
    header = struct.pack(">IIBBBBB", width * scale, height * scale, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw.numpy().tobytes(), 1)), (b"IEND", b""))
    parts = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks)
    return Png(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


class Sheet:
    """A figure to draw on in inches from the top left corner, without the cost of axes.

    Args:
        width: in inches.
        height: in inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(width, height)
        self._height = height

    def _add(self, artist: Any) -> None:
        artist.set_transform(self.figure.dpi_scale_trans)
        self.figure.add_artist(artist)

    def box(
        self, x: float, y: float, w: float, h: float, fill: str | None, edge: str | None = None, **look: Any
    ) -> None:
        """A rectangle with its top left corner at (x, y)."""
        options = {"facecolor": fill or "none", "edgecolor": edge or "none", "linewidth": 1.0 if edge else 0.0}
        self._add(Rectangle((x, self._height - y - h), w, h, **{**options, **look}))

    def text(self, x: float, y: float, words: str, size: float = 10, color: str = "#222222", **look: Any) -> None:
        """Words centered at (x, y)."""
        options = {"ha": "center", "va": "center", "fontsize": size, "color": color}
        self._add(Text(x, self._height - y, words, **{**options, **look}))

    def lines(
        self, segments: Sequence[tuple[tuple[float, float], tuple[float, float]]], color: str, width: float
    ) -> None:
        """Many thin lines at once."""
        flipped = [[(x, self._height - y) for x, y in segment] for segment in segments]
        self._add(LineCollection(flipped, colors=color, linewidths=width))

    def arrow(
        self, start: tuple[float, float], end: tuple[float, float], color: str, dash: Any = "-", width: float = 1.4
    ) -> None:
        """A straight arrow."""
        (x0, y0), (x1, y1) = start, end
        length = max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-9)
        ux, uy = (x1 - x0) / length, (y1 - y0) / length
        head = min(0.11, length)
        bx, by = x1 - head * ux, y1 - head * uy
        top = self._height
        self._add(Line2D([x0, bx], [top - y0, top - by], color=color, linestyle=dash, linewidth=width))
        wing = 0.42 * head
        corners = [(x1, top - y1), (bx - wing * uy, top - by - wing * ux), (bx + wing * uy, top - by + wing * ux)]
        self._add(Polygon(corners, facecolor=color, edgecolor="none"))
