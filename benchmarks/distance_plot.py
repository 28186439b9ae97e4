"""One plot for several benchmarks: distances with their intervals, both axes logarithmic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from course_lib.viz import COLORS, Figure, new_figure, styled
from records import Row


@dataclass(frozen=True)
class Line:
    """One line of the plot: solid with filled circles, or dashed with hollow squares."""

    label: str
    color: str  # a name in `COLORS`
    solid: bool
    distances: Mapping[float, Row]  # by x
    width: float


@styled
def plot_distances(lines: Sequence[Line], floor: float, xlabel: str, title: str) -> Figure:
    """Draw all lines and, dotted, the floor: the distance of as many real pictures."""
    figure, (axes,) = new_figure(8, 5.4)
    for number, line in enumerate(lines):
        shift = 1 + 0.012 * (number - len(lines) // 2)  # so that intervals at the same x do not hide each other
        found = line.distances.values()
        axes.errorbar(
            [x * shift for x in line.distances],
            [d["value"] for d in found],
            yerr=[[d["value"] - d["low"] for d in found], [d["high"] - d["value"] for d in found]],
            color=COLORS[line.color],
            fmt="-o" if line.solid else "--s",
            markerfacecolor=COLORS[line.color] if line.solid else "white",
            capsize=3,
            linewidth=line.width,
            label=line.label,
        )
    axes.axhline(floor, color=COLORS["gray"], linestyle=":", label=f"as many real pictures ({floor:.2f})")
    axes.set(xscale="log", yscale="log", xlabel=xlabel, ylabel="Fréchet distance, our features", title=title)
    numbers = sorted({x for line in lines for x in line.distances})
    axes.set_xticks(numbers, [f"{x:g}" for x in numbers])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    ticks = [each for each in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if low <= each <= high]
    axes.set_yticks(ticks, [f"{each:g}" for each in ticks])
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure
