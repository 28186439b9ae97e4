"""A gauge that shows how much of the picture is left at the last timestep."""

from __future__ import annotations

import torch
from torch import Tensor

from ..forward import LEFT_LIMITS
from ..schedule import Schedule, validate_schedule
from .sheet import Sheet
from .style import COLORS, Figure, styled

_WORDS = 0.32  # inches for the words above the scale

#: Height of a needle's tip on the bare scale, in points from the top.
GAUGE_TIP = 72 * (0.62 - _WORDS)


def gauge_place(a: Tensor) -> Tensor:
    """Where a_T stands on the gauge, in points from its left edge.

    Args:
        a: any shape, in [0, 1].
    """
    return 72 * (0.3 + 5.8 * a.sqrt())  # a square root leaves room for the small numbers, which matter


@styled
def plot_gauge(schedule: Schedule | None = None) -> Figure:
    """A gauge that shows how much of the picture is left in x_T, a_T = √ᾱ_T, with a verdict in a word.

    Args:
        schedule: the tables a and b; None draws the scale alone, for a needle that moves.
    """
    if schedule is not None:
        validate_schedule(schedule)
    low, high = LEFT_LIMITS
    up = 0 if schedule else _WORDS  # the bare scale has no words above it
    sheet = Sheet(6.4, 1.35 - up)

    def at(value: float) -> float:
        return float(gauge_place(torch.tensor(value, dtype=torch.float64))) / 72

    for left, right, fill, hatch in ((0, low, "#8FD3BF", ""), (low, high, "#F2CF86", "//"), (high, 1, "#E39A9A", "xx")):
        sheet.box(at(left), 0.58 - up, at(right) - at(left), 0.28, fill, "#555555", hatch=hatch, linewidth=0.8)
    for value in (0, 0.02, 0.1, 0.25, 0.5, 0.75, 1):
        sheet.text(at(value), 0.97 - up, f"{value:g}", 9)
    sheet.text(3.2, 1.2 - up, "a_T: what is left of the picture in x_T", 9)
    if schedule is None:
        return sheet.figure
    a = float(schedule.signal[-1])
    sheet.arrow((at(a), 0.42), (at(a), 0.72), COLORS["black"], width=3)
    sheet.text(0.3, 0.2, f"{schedule.name}, T = {schedule.T}:  a_T = {a:.4f}", 11, ha="left", weight="bold")
    word = "noise" if a < low else "careful" if a < high else "still holds the picture"
    sheet.figure.alt = (
        f"A gauge of a_T, what is left of the picture in x_T, from 0 to 1: noise up to {low:g}, careful up to "
        f"{high:g}, above that it still holds the picture. For {schedule.name}, T = {schedule.T}, the needle stands "
        f"at {a:.4f}: {word}."
    )
    sheet.text(6.1, 0.2, word, 11, COLORS["black" if a < high else "red"], ha="right", weight="bold")
    return sheet.figure
