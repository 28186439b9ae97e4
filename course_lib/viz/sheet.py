"""A sheet to draw boxes, words and arrows on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle
from matplotlib.text import Text

from .style import Figure


class Sheet:
    """A figure to draw on, measured in inches from its top left corner; much faster than axes.

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
