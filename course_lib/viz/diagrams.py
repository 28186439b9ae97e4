"""Drawings of shapes: where a kernel lands, how sizes shrink and grow again, and a whole network as a U."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..shapes import LayerShape, conv_out, conv_transpose_out, nearest_sizes, pool_out
from ..validate import validate_choice, validate_number
from .style import COLORS, Figure, Sheet, styled

#: The layers that `layer_size` and `plot_kernel` know.
KINDS = ("conv", "pool", "transposed conv")


def layer_size(
    kind: str, size: int, kernel: int, stride: int = 1, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> tuple[int, str]:
    """Output size of a layer, and the formula with the numbers put in.

    Args:
        kind: one of `KINDS`.
        size, kernel, stride, padding, dilation: as `course_lib.shapes.conv_out`.
        output_padding: for the transposed convolution only; the others must leave it at 0.

    Returns:
        The size, and a line such as "⌊(28 + 2·1 − 1·(3 − 1) − 1) / 2⌋ + 1 = 14".

    Raises:
        TypeError, ValueError: an unknown kind, or what the functions of `course_lib.shapes` refuse.
    """
    validate_choice("kind", kind, KINDS)
    if kind == "transposed conv":
        out = conv_transpose_out(size, kernel, stride, padding, output_padding, dilation)
        return out, f"({size} − 1)·{stride} − 2·{padding} + {dilation}·({kernel} − 1) + {output_padding} + 1 = {out}"
    if output_padding:
        raise ValueError(
            f"output_padding is for transposed convolutions; with a {kind} it must be 0, got {output_padding}"
        )
    out = (pool_out if kind == "pool" else conv_out)(size, kernel, stride, padding, dilation)
    return out, f"⌊({size} + 2·{padding} − {dilation}·({kernel} − 1) − 1) / {stride}⌋ + 1 = {out}"


_SIDE, _TOP, _LEFTS = 2.55, 0.42, (0.3, 3.55)


def _cells(sheet: Sheet, left: float, size: int, title: str, first: int, last: int) -> float:
    """A square of size × size cells, hatched outside first..last; returns the side of a cell."""
    cell = _SIDE / size
    inner = (left + first * cell, _TOP + first * cell, (last - first) * cell, (last - first) * cell)
    if (first, last) != (0, size):
        sheet.box(left, _TOP, _SIDE, _SIDE, "#ECEAE4", "#B5B2AA", hatch="////", linewidth=0.0)
    sheet.box(*inner, "white")
    at = [i * cell for i in range(size + 1)]
    across = [((left, _TOP + y), (left + _SIDE, _TOP + y)) for y in at]
    sheet.lines(across + [((left + x, _TOP), (left + x, _TOP + _SIDE)) for x in at], "#C4C4C4", 0.6)
    sheet.box(*inner, None, COLORS["black"], linewidth=1.6, zorder=4)
    sheet.text(left + _SIDE / 2, _TOP - 0.2, title, weight="bold")
    return cell


def _taps(sheet: Sheet, left: float, cell: float, column: int, kernel: int, dilation: int, place: int) -> None:
    """The cells that one placement of a kernel touches, and the square that it spans."""
    color, dash = (COLORS["orange"], "-") if place == 1 else (COLORS["blue"], (0, (3, 1.5)))
    x = left + column * cell
    for i in range(kernel):
        for j in range(kernel):
            corner = (x + j * dilation * cell, _TOP + i * dilation * cell)
            sheet.box(*corner, cell, cell, color, alpha=0.38, zorder=3)
    reach = (dilation * (kernel - 1) + 1) * cell
    sheet.box(x, _TOP, reach, reach, None, color, linewidth=2.4, linestyle=dash, zorder=5)
    size = min(9.0, 40 * cell)
    sheet.text(x + cell / 2, _TOP + cell / 2, str(place), size, weight="bold", zorder=6)


@styled
def plot_kernel(
    kind: str, size: int, kernel: int, stride: int = 1, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> Figure:
    """Where the kernel lands: its first two places, and what they make of the output.

    A convolution or pooling gathers the cells of a square into one cell; a transposed convolution spreads one cell
    over a square. Hatched cells are padding: added before a convolution, cut off after a transposed one.

    Args:
        kind: one of `KINDS`.
        size, kernel, stride, padding, output_padding, dilation: as `layer_size`.

    Raises:
        TypeError, ValueError: as `layer_size`.
    """
    out, _ = layer_size(kind, size, kernel, stride, padding, output_padding, dilation)
    reach = dilation * (kernel - 1) + 1
    sheet = Sheet(6.4, 3.3)
    titles, (left, right), notes = (f"input {size}×{size}", f"output {out}×{out}"), _LEFTS, []
    if kind == "transposed conv":
        full = out + 2 * padding
        cells = (
            _cells(sheet, left, size, titles[0], 0, size),
            _cells(sheet, right, full, titles[1], padding, padding + out),
        )
        single, square, count = (left, cells[0]), (right, cells[1]), min(2, size)
        if padding:
            notes.append("Hatched: cut off by the padding.")
        if output_padding:
            notes.append(f"The output padding adds {output_padding} at the right and at the bottom.")
    else:
        full = size + 2 * padding
        cells = (
            _cells(sheet, left, full, titles[0], padding, padding + size),
            _cells(sheet, right, out, titles[1], 0, out),
        )
        single, square, count = (right, cells[1]), (left, cells[0]), min(2, out)
        rest = max(0, full - ((out - 1) * stride + reach) - padding)  # of the input: padding may be left over too
        if padding:
            notes.append("Hatched: padding.")
        if rest:
            notes.append(
                f"The last {'row and column are' if rest == 1 else f'{rest} rows and columns are'} never looked at."
            )
    for place in range(1, count + 1):
        _taps(sheet, *single, place - 1, 1, 1, place)
        _taps(sheet, *square, (place - 1) * stride, kernel, dilation, place)
    sheet.arrow((3.0, _TOP + _SIDE / 2), (3.4, _TOP + _SIDE / 2), COLORS["black"])
    sheet.text(3.2, 3.14, " ".join(notes), 9)
    numbers = {"stride": stride, "padding": padding, "output padding": output_padding, "dilation": dilation}
    plain = {"stride": 1, "padding": 0, "output padding": 0, "dilation": 1}
    said = [f"{name} {number}" for name, number in numbers.items() if number != plain[name]]
    sheet.figure.alt = (
        f"The first {count} places of a {kernel}×{kernel} kernel, {', '.join([kind, *said])}: input {size}×{size}, "
        f"output {out}×{out}.{' ' if notes else ''}{' '.join(notes)}"
    )
    return sheet.figure


def halve(size: int, halvings: int) -> tuple[list[int], list[tuple[int, int]], str]:
    """A size through 2×2 poolings and up again by doubling, and what is wrong with it, in words.

    Args:
        size: height and width of the input, >= 1.
        halvings: number of poolings, >= 1.

    Returns:
        The sizes on the way down; on the way up, deepest first, pairs of (doubled size, size of the skip), each
        starting from the skip below as if a map that does not fit had been resized; a sentence, empty where all fit.

    Raises:
        TypeError, ValueError: a number out of range.

    >>> halve(28, 4)[:2]
    ([28, 14, 7, 3, 1], [(2, 3), (6, 7), (14, 14), (28, 28)])
    """
    validate_number("size", size, 1, integer=True)
    validate_number("halvings", halvings, 1, integer=True)
    sizes = [size]
    while len(sizes) <= halvings and sizes[-1] >= 2:
        sizes.append(pool_out(sizes[-1], 2))
    good = nearest_sizes(size, 2**halvings)
    near = f"The nearest good size{'s are' if len(good) > 1 else ' is'} {' and '.join(map(str, good))}."
    if len(sizes) <= halvings:
        return sizes, [], f"Nothing is left to halve after {len(sizes) - 1} pooling{'s' * (len(sizes) != 2)}. {near}"
    up = [(conv_transpose_out(below, kernel=2, stride=2), skip) for skip, below in pairwise(sizes)][::-1]
    bad = [f"{skip} → {skip // 2} → {doubled} ≠ {skip}" for doubled, skip in reversed(up) if doubled != skip]
    return sizes, up, f"{',  '.join(bad)}. {near}" if bad else ""


@styled
def plot_halvings(size: int, halvings: int = 4, levels: int | None = None) -> Figure:
    """A size on its way down through poolings and up again by doubling; where the two do not meet stands in red.

    Args:
        size: height and width of the input, >= 1.
        halvings: number of 2×2 poolings, >= 1.
        levels: leave room for so many poolings, so that a slider's picture keeps its size.

    Raises:
        TypeError, ValueError: a number out of range.
    """
    down, up, problem = halve(size, halvings)
    room, step, half, tall = max(halvings, levels or 0), 0.58, 0.42, 0.18
    sheet = Sheet(6.4, step * (room + 1) + 0.55)

    def left(level: int) -> float:
        return 0.65 + 1.7 * level / halvings if level < halvings else 3.2

    def y(level: int) -> float:
        return 0.32 + step * level

    def enter(level: int, side: int) -> tuple[float, float]:
        x = left(level) if side > 0 else 6.4 - left(level)
        return (x - side * half, y(level)) if level == halvings else (x - 0.2 * side, y(level) - tall)

    def box(x: float, level: int, side: int, edge: str, fill: str) -> None:
        sheet.box(x - half, y(level) - tall, 2 * half, 2 * tall, fill, COLORS[edge], linewidth=1.8)
        sheet.text(x, y(level), f"{side}×{side}", 11, COLORS["red" if edge == "red" else "black"], weight="bold")

    for level, side in enumerate(down):
        box(left(level), level, side, "blue", "#E2EEF6")
        if level + 1 < len(down):
            sheet.arrow((left(level) + 0.15, y(level) + tall), enter(level + 1, 1), COLORS["blue"])
    for level, (doubled, skip) in zip(reversed(range(len(up))), up, strict=True):
        x, bad = 6.4 - left(level), doubled != skip
        sheet.arrow(enter(level + 1, -1), (x - 0.15, y(level) + tall), COLORS["green"])
        sheet.arrow((left(level) + half, y(level)), (x - half, y(level)), COLORS["red" if bad else "gray"], (0, (4, 2)))
        box(x, level, doubled, "red" if bad else "green", "#F8D7D7" if bad else "#E0F2EA")
        if bad:
            sheet.text(3.2, y(level) - 0.12, f"{doubled} ≠ {skip}", 11, COLORS["red"], weight="bold")
        else:
            sheet.text(3.2, y(level) - 0.1, "skip fits", 8.5, "#555555")
    times = "once" if halvings == 1 else f"{halvings} times"
    words = problem or f"{size} can be halved {times}: every skip fits."
    sheet.text(3.2, y(room) + 0.5, textwrap.fill(words, 72), 10, COLORS["red" if problem else "black"])
    way = " → ".join(f"{side}×{side}" for side in down)
    back = ", ".join(
        f"{doubled}×{doubled} {'fits' if doubled == skip else 'does not fit'} the skip of {skip}×{skip}"
        for doubled, skip in up
    )
    sheet.figure.alt = f"Down {way}.{f' Up: {back}.' if back else ''} {' '.join(words.split())}"
    return sheet.figure


@dataclass
class _Bar:
    """One bar of the U: maps of side × side, or a vector where side is 0; skip of its channels come from source."""

    channels: int
    side: int
    level: int
    kind: str
    skip: int = 0
    source: int | None = None
    x: float = 0.0


def _bars(rows: Sequence[LayerShape]) -> list[_Bar]:
    """A bar for each new shape along the trace, and one for each concatenation."""
    first = next((row.in_shape for row in rows if len(row.in_shape) == 4), None)
    if first is None:
        raise ValueError(
            "rows must hold at least one layer of pictures; make them with course_lib.shapes.trace(model, x)"
        )
    bars = [_Bar(first[1], first[2], 0, "picture")]
    for row in rows:
        here = bars[-1]
        ranks = len(row.in_shape), len(row.out_shape)
        if not set(ranks) <= {2, 4}:
            continue
        if ranks[0] == 2 and row.in_shape[1] != here.channels * max(here.side, 1) ** 2:
            continue  # beside the flow of the pictures: the embedding of the time
        added = row.in_shape[1] - here.channels
        if ranks[0] == 4 and here.side and added > 0:
            way_up = next((i for i, b in enumerate(bars) if b.kind in ("concat", "up")), len(bars))
            fits = [i for i, b in enumerate(bars[:way_up]) if b.channels == added and b.side >= row.in_shape[2]]
            fits = [i for i in fits if bars[i].level == here.level] or fits
            here = _Bar(row.in_shape[1], row.in_shape[2], here.level, "concat", added, fits[-1] if fits else None)
            bars.append(here)
        channels, side = row.out_shape[1], row.out_shape[2] if ranks[1] == 4 else 0
        if (channels, side) != (here.channels, here.side):
            bars.append(_Bar(channels, side, *_step(here, side)))
    return bars


def _step(here: _Bar, side: int) -> tuple[int, str]:
    """Level and kind of the bar that follows."""
    if here.side == 0 or side == 0:
        deeper = (side == 0) - (here.side == 0)
        return here.level + deeper, "up" if deeper < 0 else "dense"
    if 2 * side <= here.side + 1:
        return here.level + 1, "down"
    if 2 * side >= 3 * here.side:
        return here.level - 1, "up"
    return here.level, "conv"


_FILLS = {
    "picture": "#444444",
    "conv": COLORS["blue"],
    "down": COLORS["sky"],
    "up": COLORS["green"],
    "dense": COLORS["purple"],
    "concat": COLORS["green"],
}
_LEGEND = {
    "conv": "convolved",
    "down": "halved",
    "up": "doubled",
    "dense": "dense",
    "concat": "concatenated (hatched: the skip)",
}


@styled
def plot_unet(rows: Sequence[LayerShape], title: str | None = None, width: float = 9.0) -> Figure:
    """A network as a U: a bar for each shape that the pictures take on, channels above it, height = width below.

    A bar is taller where the map is larger and wider where it has more channels; a concatenation is drawn in two
    parts, and a dashed arrow shows where its first part comes from.

    Args:
        rows: `trace(model, x)`; for `UNet` better `trace(model, x, t, depth=2)`.
        title: above.
        width: of the figure, in inches.

    Raises:
        ValueError: rows without a layer of pictures.
    """
    bars = _bars(rows)
    largest, widest = max(bar.side for bar in bars), max(bar.channels for bar in bars)
    deepest = max(bar.level for bar in bars)
    jumps = sum(one.level != other.level for one, other in pairwise(bars))
    pitch = min(0.6, (width - 0.3) / (len(bars) + 0.45 * jumps))
    font, room = max(6.0, min(9.0, 25 * pitch)), 1.02
    top = 0.62 + (0.25 if title else 0)
    sheet = Sheet(width, top + room * (deepest + 0.5) + 0.62)

    def wide(bar: _Bar) -> float:
        return pitch * (0.25 + 0.45 * math.log2(1 + bar.channels) / math.log2(1 + widest))

    def tall(bar: _Bar) -> float:
        return 0.14 + 0.44 * math.log2(1 + bar.side) / math.log2(1 + largest)

    x = (width - pitch * (len(bars) + 0.45 * jumps)) / 2
    arrivals: dict[int, int] = {}
    for i, bar in enumerate(bars):
        if i and bars[i - 1].level != bar.level:
            x += 0.45 * pitch
        bar.x = x + pitch / 2
        x += pitch
        w, h, y = wide(bar), tall(bar), top + room * bar.level
        if i and bars[i - 1].level != bar.level:
            before = bars[i - 1]
            start = (before.x + wide(before) / 2 + 0.03, top + room * before.level)
            sheet.arrow(start, (bar.x - w / 2 - 0.03, y), "#666666", width=1.0)
        if bar.kind == "concat":
            part = w * bar.skip / bar.channels
            if bar.source is not None:
                lane = arrivals.get(bar.level, 0)
                arrivals[bar.level] = lane + 1
                source, at = bars[bar.source], y + h * (0.0, -0.28, 0.28)[lane % 3]
                start = (source.x + wide(source) / 2, at)
                sheet.arrow(start, (bar.x - w / 2, at), COLORS["orange"], (0, (4, 2)), width=1.1)
            sheet.box(bar.x - w / 2 + part, y - h / 2, w - part, h, _FILLS["up"], "#222222", linewidth=0.7, zorder=3)
            sheet.box(
                bar.x - w / 2, y - h / 2, part, h, COLORS["yellow"], "#222222", linewidth=0.7, hatch="////", zorder=3
            )
        else:
            sheet.box(bar.x - w / 2, y - h / 2, w, h, _FILLS[bar.kind], "#222222", linewidth=0.7, zorder=3)
        above = f"{bar.skip}\n+{bar.channels - bar.skip}" if bar.kind == "concat" else str(bar.channels)
        sheet.text(bar.x, y - h / 2 - 0.03, above, font, va="bottom", weight="bold", linespacing=0.95, zorder=4)
        sheet.text(bar.x, y + h / 2 + 0.03, str(bar.side or "vector"), font, va="top", zorder=4)
    if title:
        sheet.text(0.15, 0.2, title, 11, ha="left")
    _unet_legend(sheet, {bar.kind for bar in bars}, top + room * (deepest + 0.5) + 0.42)
    way = " → ".join(_bar_in_words(bar) for bar in bars)
    sheet.figure.alt = f"{f'{title}: a' if title else 'A'} network as a U, channels×height×width: {way}."
    return sheet.figure


def _bar_in_words(bar: _Bar) -> str:
    """Such as 64×4×4, a vector of 32, or 32+32×8×8 where a skip is concatenated."""
    if not bar.side:
        return f"a vector of {bar.channels}"
    channels = f"{bar.skip}+{bar.channels - bar.skip}" if bar.kind == "concat" else f"{bar.channels}"
    return f"{channels}×{bar.side}×{bar.side}"


def _unet_legend(sheet: Sheet, kinds: set[str], y: float) -> None:
    sheet.text(0.2, y - 0.28, "above a bar: channels;  below: height = width", 8.5, "#444444", ha="left")
    x = 0.2
    for kind, words in _LEGEND.items():
        if kind in kinds:
            fill, hatch = (COLORS["yellow"], "////") if kind == "concat" else (_FILLS[kind], None)
            sheet.box(x, y - 0.06, 0.16, 0.12, fill, "#222222", linewidth=0.7, hatch=hatch)
            if kind == "concat":
                sheet.box(x + 0.16, y - 0.06, 0.16, 0.12, _FILLS["up"], "#222222", linewidth=0.7)
                x += 0.16
            sheet.text(x + 0.24, y, words, 8.5, ha="left")
            x += 0.5 + 0.075 * len(words)
