"""Drawings of sizes: which pixels a kernel covers, and how a size shrinks and grows again in a U-Net."""

from __future__ import annotations

import textwrap

from ..shapes import halve, layer_size
from .sheet import Sheet
from .style import COLORS, Figure, styled

# The two grids, in inches: side, top, and the left edges of the input's and the output's.
_SIDE, _TOP, _LEFTS = 2.55, 0.42, (0.3, 3.55)


def _grid(sheet: Sheet, left: float, size: int, title: str, first: int, last: int) -> float:
    """Draw a square of size × size cells, hatched outside first..last. Returns the side of a cell."""
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


def _landing(sheet: Sheet, left: float, cell: float, column: int, kernel: int, dilation: int, place: int) -> None:
    """Draw the cells that a kernel touches at one position, and the square that it spans."""
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
    """A layer's kernel at its first two positions, on the input and on the output.

    A convolution or a pooling gathers the cells of a square into one cell; a transposed convolution spreads one cell
    over a square. Hatched cells are padding: added before a convolution, cut off after a transposed one.

    Args:
        kind, size, kernel, stride, padding, output_padding, dilation: as `course_lib.shapes.layer_size`.
    """
    out, _ = layer_size(kind, size, kernel, stride, padding, output_padding, dilation)
    sheet, transposed = Sheet(6.4, 3.3), kind == "transposed conv"
    inner = out if transposed else size  # of the grid that the kernel spans
    places, full = (size if transposed else out), inner + 2 * padding
    sides = [(size, 0, size), (out, 0, out)]
    sides[transposed] = (full, padding, padding + inner)
    titles = (f"input {size}×{size}", f"output {out}×{out}")
    cells = [
        _grid(sheet, left, count, title, first, last)
        for left, title, (count, first, last) in zip(_LEFTS, titles, sides, strict=True)
    ]
    shown = min(2, places)
    for place in range(shown):
        _landing(sheet, _LEFTS[not transposed], cells[not transposed], place, 1, 1, place + 1)
        _landing(sheet, _LEFTS[transposed], cells[transposed], place * stride, kernel, dilation, place + 1)
    sheet.arrow((3.0, _TOP + _SIDE / 2), (3.4, _TOP + _SIDE / 2), COLORS["black"])
    notes = _kernel_notes(kind, size, out, kernel, stride, padding, output_padding, dilation)
    sheet.text(3.2, 3.14, notes, 9)
    options = {"stride": (stride, 1), "padding": (padding, 0), "output padding": (output_padding, 0)}
    options["dilation"] = (dilation, 1)
    said = [kind, *(f"{name} {number}" for name, (number, usual) in options.items() if number != usual)]
    sheet.figure.alt = (
        f"The first {shown} positions of a {kernel}×{kernel} kernel, {', '.join(said)}: input {size}×{size}, "
        f"output {out}×{out}.{' ' if notes else ''}{notes}"
    )
    return sheet.figure


def _kernel_notes(
    kind: str, size: int, out: int, kernel: int, stride: int, padding: int, output_padding: int, dilation: int
) -> str:
    """Words that explain the hatching, and say what the kernel never looks at."""
    notes = []
    if kind == "transposed conv":
        if padding:
            notes.append("Hatched: cut off by the padding.")
        if output_padding:
            notes.append(f"The output padding adds {output_padding} at the right and at the bottom.")
        return " ".join(notes)
    if padding:
        notes.append("Hatched: padding.")
    last = (
        (out - 1) * stride + dilation * (kernel - 1) + 1
    )  # where the kernel ends at its last position, in the padded input
    unseen = size + padding - last  # only rows of the picture count, not those of the padding
    if unseen > 0:
        notes.append(
            f"The last {'row and column are' if unseen == 1 else f'{unseen} rows and columns are'} never looked at."
        )
    return " ".join(notes)


@styled
def plot_halvings(size: int, halvings: int = 4, levels: int | None = None) -> Figure:
    """How a size shrinks through poolings and grows again by doubling; sizes that do not match are red.

    Args:
        size: height and width of the input, >= 1.
        halvings: number of 2×2 poolings, >= 1.
        levels: leave room for this many poolings, so that several drawings in a row have the same height.
    """
    down, up, problem = halve(size, halvings)
    bottom = max(halvings, levels or 0)
    ladder = _Ladder(Sheet(6.4, _Ladder.STEP * (bottom + 1) + 0.55), halvings)
    for level, side in enumerate(down):
        ladder.box(1, level, side, "blue", "#E2EEF6")
        if level + 1 < len(down):
            ladder.arrow_down(level)
    for level, (doubled, skip) in zip(reversed(range(len(up))), up, strict=True):
        ladder.arrow_up(level)
        ladder.skip(level, doubled, skip)
    times = "once" if halvings == 1 else f"{halvings} times"
    words = problem or f"{size} can be halved {times}: every skip fits."
    color = COLORS["red" if problem else "black"]
    ladder.sheet.text(3.2, ladder.y(bottom) + 0.5, textwrap.fill(words, 72), 10, color)
    way = " → ".join(f"{side}×{side}" for side in down)
    back = ", ".join(
        f"{doubled}×{doubled} {'fits' if doubled == skip else 'does not fit'} the skip of {skip}×{skip}"
        for doubled, skip in up
    )
    ladder.sheet.figure.alt = f"Down {way}.{f' Up: {back}.' if back else ''} {' '.join(words.split())}"
    return ladder.sheet.figure


class _Ladder:
    """The parts of `plot_halvings`: boxes on the way down (side 1) and up (side -1), arrows, skips.

    Args:
        sheet: to draw on.
        halvings: the level at the bottom, where both ways meet in the middle.
    """

    STEP = 0.58
    HALF, TALL = 0.42, 0.18  # half the width and height of a box

    def __init__(self, sheet: Sheet, halvings: int) -> None:
        self.sheet, self.halvings = sheet, halvings

    def x(self, side: int, level: int) -> float:
        left = 0.65 + 1.7 * level / self.halvings if level < self.halvings else 3.2
        return left if side > 0 else 6.4 - left

    def y(self, level: int) -> float:
        return 0.32 + self.STEP * level

    def end(self, side: int, level: int) -> tuple[float, float]:
        """Where an arrow between this level and the one above touches this level's box."""
        x = self.x(side, level)
        if level == self.halvings:
            return x - side * self.HALF, self.y(level)
        return x - 0.2 * side, self.y(level) - self.TALL

    def box(self, side: int, level: int, size: int, edge: str, fill: str) -> None:
        x, y = self.x(side, level), self.y(level)
        self.sheet.box(x - self.HALF, y - self.TALL, 2 * self.HALF, 2 * self.TALL, fill, COLORS[edge], linewidth=1.8)
        self.sheet.text(x, y, f"{size}×{size}", 11, COLORS["red" if edge == "red" else "black"], weight="bold")

    def arrow_down(self, level: int) -> None:
        start = self.x(1, level) + 0.15, self.y(level) + self.TALL
        self.sheet.arrow(start, self.end(1, level + 1), COLORS["blue"])

    def arrow_up(self, level: int) -> None:
        end = self.x(-1, level) - 0.15, self.y(level) + self.TALL
        self.sheet.arrow(self.end(-1, level + 1), end, COLORS["green"])

    def skip(self, level: int, doubled: int, skip: int) -> None:
        """The dashed arrow across, the box that it ends at, and whether the two fit."""
        bad, y = doubled != skip, self.y(level)
        start, end = (self.x(1, level) + self.HALF, y), (self.x(-1, level) - self.HALF, y)
        self.sheet.arrow(start, end, COLORS["red" if bad else "gray"], (0, (4, 2)))
        self.box(-1, level, doubled, "red" if bad else "green", "#F8D7D7" if bad else "#E0F2EA")
        if bad:
            self.sheet.text(3.2, y - 0.12, f"{doubled} ≠ {skip}", 11, COLORS["red"], weight="bold")
        else:
            self.sheet.text(3.2, y - 0.1, "skip fits", 8.5, "#555555")
