"""What every figure of the course stands on: colors, the style, PNG bytes, and a sheet to draw boxes and arrows on.

Figures have a light card of their own, so that they keep their contrast on light and dark pages and in gray. They
are made without pyplot: nothing is kept, and nothing is ever shown twice.
"""

from __future__ import annotations

import base64
import io
import math
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
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle, StepPatch
from matplotlib.text import Text
from PIL import Image
from torch import Tensor

from ..validate import validate_number

#: Colors that people with any kind of color vision can tell apart (after Okabe & Ito 2008), and a red for what fails.
#: tests/test_accessibility.py holds every pair that one drawing uses together at a distance.
COLORS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "purple": "#AA4A85",
    "yellow": "#E69F00",
    "sky": "#56B4E9",
    "black": "#222222",
    "gray": "#5A5A5A",
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
    """The bytes of a PNG; Jupyter shows them as a picture.

    `alt` is the picture in words, for those who do not see it; it travels as the metadata "alt" of image/png.
    """

    alt: str = ""

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

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        words = self.alt or f"A picture of {self.size[0]}×{self.size[1]} pixels."
        return {"image/png": base64.b64encode(self).decode()}, {"image/png": {"alt": words}}

    def __repr__(self) -> str:
        return f"Png({self.size[0]}×{self.size[1]} pixels, {len(self):,} bytes)"

    __str__ = __repr__


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure in the course's style that shows itself in Jupyter, sharp on any screen."""

    _alt = ""

    def __init__(self, width: float, height: float, **options: Any) -> None:
        with style():
            super().__init__(figsize=(width, height), dpi=DPI, **options)
        FigureCanvasAgg(self)

    def draw(self, renderer: Any) -> None:
        with style():  # ticks are made while drawing
            super().draw(renderer)

    @property
    def alt(self) -> str:
        """The figure in words, for those who do not see it: what was set, or else what `describe` says."""
        return self._alt or describe(self)

    @alt.setter
    def alt(self, words: str) -> None:
        self._alt = words

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        # Not _repr_png_: where pyplot has been used, IPython prefers its printer, which shows nothing without axes.
        width, height = (round(inches * DPI) for inches in self.get_size_inches())
        png = base64.b64encode(figure_png(self, 2)).decode()
        return {"image/png": png}, {"image/png": {"width": width, "height": height, "alt": self.alt}}


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
        png = encode(pixels[..., :3])
    else:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI * scale, metadata={"Software": None})
        png = Png(buffer.getvalue())
    png.alt = figure.alt if isinstance(figure, Figure) else describe(figure)
    return png


# ------------------------------------------------------------------------------------------ figures in words


def describe(figure: matplotlib.figure.Figure) -> str:
    """A figure in words, for those who do not see it.

    Args:
        figure: any matplotlib figure.

    Returns:
        For each plot what stands on its axes, where every labelled curve begins and ends and where between it is lowest
        or highest; for a drawing without axes the words that stand on it, in the order in which they were drawn.
    """
    plots = [axes for axes in figure.axes if axes.axison and axes.get_label() != "<colorbar>"]
    if plots:
        return " ".join(_describe_plot(axes) for axes in plots)
    texts = [*figure.texts, *(artist for artist in figure.artists if isinstance(artist, Text))]
    words = dict.fromkeys(" ".join(text.get_text().split()).rstrip(".") for text in texts)
    return f"A drawing with the words: {'; '.join(filter(None, words))}." if any(words) else "A drawing without words."


def _describe_plot(axes: Any) -> str:
    """What one plot shows, in sentences."""
    title = axes.get_title(loc="left") or axes.get_title()
    x, y = axes.get_xlabel(), axes.get_ylabel()
    if axes.images:
        rows, columns = axes.images[0].get_array().shape[:2]
        low, high = (f"{limit:.3g}" for limit in axes.images[0].get_clim())
        head = f"A heat map of {rows} rows ({y or 'not named'}) and {columns} columns ({x or 'not named'}), its colors "
        return f"{head}from {low} to {high}{f': {title}' if title else ''}."
    what, rest = (y, f", titled {title}" if title else "") if y or not title else (title, "")
    powers = ", in powers of ten" if axes.get_yscale() == "log" else ""
    parts = [_describe_line(line) for line in axes.get_lines()]
    parts += [_describe_dots(container) for container in axes.containers]
    parts += [
        f"a histogram{_named(patch)}" for patch in axes.patches if isinstance(patch, StepPatch) and not patch.fill
    ]
    found = "; ".join(dict.fromkeys(filter(None, parts))) or "nothing is drawn yet"
    return f"A plot{f' of {what}' if what else ''}{powers}{f' against {x}' if x else ''}{rest}: {found}."


def _named(artist: Any) -> str:
    label = str(artist.get_label() or "")
    return "" if not label or label.startswith("_") else f" of {label}"


def _describe_line(line: Line2D) -> str:
    """Where a labelled curve begins and ends, and where between it turns; where a line stands across the plot."""
    label = str(line.get_label())
    pairs = [(float(x), float(y)) for x, y in zip(line.get_xdata(False), line.get_ydata(False), strict=True)]  # type: ignore[arg-type]
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    name = "" if label.startswith("_") else f"{label}, "
    if len(pairs) == 2 and pairs[0][0] == pairs[1][0]:
        return f"{name}a line from top to bottom at {pairs[0][0]:.4g}"
    if len(pairs) == 2 and pairs[0][1] == pairs[1][1] and line.get_transform() != line.axes.transData:  # type: ignore[union-attr]
        return f"{name}a line across at {pairs[0][1]:.3g}"
    if not name or len(pairs) < 2:
        return ""
    (x0, y0), (x1, y1) = pairs[0], pairs[-1]
    turns = []
    for word, pick, edge in (("lowest", min, min(y0, y1)), ("highest", max, max(y0, y1))):
        x, y = pick(pairs, key=lambda pair: pair[1])
        if abs(y - edge) > 0.02 * (max(p[1] for p in pairs) - min(p[1] for p in pairs)):
            turns.append(f", {word} {y:.3g} at {x:.4g}")
    return f"{name}from {y0:.3g} at {x0:.4g} to {y1:.3g} at {x1:.4g}{''.join(turns)}"


def _describe_dots(container: Any) -> str:
    """Measured dots, or bars: how many, and the first and the last of them."""
    if isinstance(container, BarContainer):
        bars = [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in container]
        noun = "bar"
    else:
        if container[0] is None:  # error bars on something else
            return ""
        bars, noun = list(zip(container[0].get_xdata(False), container[0].get_ydata(False), strict=True)), "dot"
    if not bars:
        return ""
    (x0, y0), (x1, y1) = bars[0], bars[-1]
    ends = f"from {y0:.3g} at {x0:.4g} to {y1:.3g} at {x1:.4g}" if len(bars) > 1 else f"{y0:.3g} at {x0:.4g}"
    return f"{len(bars)} {noun}{'s' * (len(bars) > 1)}{_named(container)}, {ends}"


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
    validate_number("scale", scale, 1, integer=True)
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
