"""Figures in words, for people who cannot see them."""

from __future__ import annotations

import math
from typing import Any

import matplotlib.figure
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch
from matplotlib.text import Text


def counted(number: int, what: str = "picture") -> str:
    """A number with its noun, such as "1 picture" or "3 pictures"."""
    return f"{number} {what}{'s' * (number != 1)}"


def describe(figure: matplotlib.figure.Figure) -> str:
    """A figure in words, for people who cannot see it.

    Args:
        figure: any matplotlib figure.

    Returns:
        For each plot: the labels of its axes, where every labelled curve begins and ends, and its lowest and highest
        point in between. For a drawing without axes: the words on it, in the order in which they were drawn.
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
    """Where a labelled curve begins, turns and ends; or where a straight line crosses the plot."""
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
        if container[0] is None:  # error bars without dots
            return ""
        bars, noun = list(zip(container[0].get_xdata(False), container[0].get_ydata(False), strict=True)), "dot"
    if not bars:
        return ""
    (x0, y0), (x1, y1) = bars[0], bars[-1]
    ends = f"from {y0:.3g} at {x0:.4g} to {y1:.3g} at {x1:.4g}" if len(bars) > 1 else f"{y0:.3g} at {x0:.4g}"
    return f"{len(bars)} {noun}{'s' * (len(bars) > 1)}{_named(container)}, {ends}"
