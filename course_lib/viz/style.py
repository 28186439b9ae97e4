"""The look of every figure: colors, fonts, and a matplotlib figure that shows itself.

A figure stands on a light card of its own, so it keeps its contrast on light pages, on dark pages and in gray. Figures
are made without pyplot: pyplot would keep every one of them in memory and show some of them twice.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib
import matplotlib.figure
import torch
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg

from .png import Png, encode
from .words import describe

#: Colors that people with any kind of color vision can tell apart (after Okabe & Ito 2008), and a red for what fails.
#: tests/viz/test_style.py measures how far apart every two of them are.
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
#: The colors of curves, in order. Curves differ in dashes too, so that they can be told apart when printed in gray.
CYCLE = ("blue", "orange", "green", "purple", "yellow", "sky")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
#: The background of figures, and their resolution in pixels an inch.
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


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure in the course's style that shows itself in Jupyter, sharp on any screen.

    Args:
        width, height: in inches.
        options: as matplotlib's `Figure`.
    """

    _alt = ""

    def __init__(self, width: float, height: float, **options: Any) -> None:
        with style():
            super().__init__(figsize=(width, height), dpi=DPI, **options)
        FigureCanvasAgg(self)

    def draw(self, renderer: Any) -> None:
        with style():  # matplotlib makes ticks only now
            super().draw(renderer)

    @property
    def alt(self) -> str:
        """The figure in words, for people who cannot see it; `describe` writes them unless they were set."""
        return self._alt or describe(self)

    @alt.setter
    def alt(self, words: str) -> None:
        self._alt = words

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        # Not _repr_png_: once pyplot is imported, IPython prefers its printer, which shows nothing without axes.
        width, height = (round(inches * DPI) for inches in self.get_size_inches())
        png = base64.b64encode(figure_png(self, 2)).decode()
        return {"image/png": png}, {"image/png": {"width": width, "height": height, "alt": self.alt}}


def style() -> AbstractContextManager[None]:
    """The course's matplotlib style, as a context."""
    return matplotlib.rc_context(_STYLE)


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """A function that runs inside `style`."""

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
    if scale == 1 and figure.get_dpi() == DPI:  # faster: no second canvas, and our own encoder
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


#: Neutral colors of the style, as SVG that follows the text color of the page.
_NEUTRAL = {
    f"fill: {CARD}": "fill: none",
    "stroke: #dddbd5": "stroke: currentColor; stroke-opacity: 0.18",
    **{f"{use}: {gray}": f"{use}: currentColor" for use in ("fill", "stroke") for gray in
       ("#222222", "#444444", "#555555", "#777777", "#000000")},
}  # fmt: skip


@styled
def figure_svg(figure: matplotlib.figure.Figure) -> str:
    """A figure as SVG without a background, in which the text color of the page replaces the grays.

    Args:
        figure: any matplotlib figure in the course's style.

    Returns:
        The element, in units of 1/72 inch, as wide as its container. The same figure gives the same text.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "course"}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg[svg.index("<svg") :])
    for color, neutral in _NEUTRAL.items():
        svg = re.sub(re.escape(color), neutral, svg, flags=re.IGNORECASE)
    return svg
