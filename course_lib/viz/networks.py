"""A whole network as a U, drawn from the shapes that `course_lib.shapes.trace` saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..shapes import LayerShape
from .sheet import Sheet
from .style import COLORS, Figure, styled

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
_HATCH = "////"
_BUMP = 0.45  # the width of an arrow between two levels, in stages


@dataclass(frozen=True)
class Stage:
    """One of the shapes that the maps have on their way through a network.

    Args:
        channels: of the maps.
        side: height and width of the maps; 0 for a vector.
        level: how far down the U.
        kind: what made it, a key of `_FILLS`.
        skip: how many of the channels come from a skip, in a concatenation.
        source: the number of the stage that the skip comes from, or None if no stage fits.
    """

    channels: int
    side: int
    level: int
    kind: str
    skip: int = 0
    source: int | None = None

    def __str__(self) -> str:
        """Such as 64×4×4, "a vector of 32", or 32+32×8×8 with a skip."""
        if not self.side:
            return f"a vector of {self.channels}"
        return f"{'+'.join(self.parts)}×{self.side}×{self.side}"

    @property
    def parts(self) -> list[str]:
        """The channels, those of the skip first."""
        numbers = [self.skip, self.channels - self.skip] if self.kind == "concat" else [self.channels]
        return [str(number) for number in numbers]


def stages_of(rows: Sequence[LayerShape]) -> list[Stage]:
    """A stage for each new shape along a trace, and one for each concatenation.

    Args:
        rows: of `course_lib.shapes.trace`, with at least one layer of pictures.
    """
    first = next((row.in_shape for row in rows if len(row.in_shape) == 4), None)
    if first is None:
        raise ValueError(
            "rows must hold at least one layer of pictures; make them with course_lib.shapes.trace(model, x)"
        )
    stages = [Stage(first[1], first[2], 0, "picture")]
    for row in rows:
        here = stages[-1]
        ranks = len(row.in_shape), len(row.out_shape)
        if not set(ranks) <= {2, 4}:
            continue
        if ranks[0] == 2 and row.in_shape[1] != here.channels * max(here.side, 1) ** 2:
            continue  # the time embedding, which does not come from the pictures
        added = row.in_shape[1] - here.channels
        if ranks[0] == 4 and here.side and added > 0:
            channels, side = row.in_shape[1:3]
            here = Stage(channels, side, here.level, "concat", added, _source(stages, added, side))
            stages.append(here)
        channels, side = row.out_shape[1], row.out_shape[2] if ranks[1] == 4 else 0
        if (channels, side) != (here.channels, here.side):
            stages.append(Stage(channels, side, *_step(here, side)))
    return stages


def _source(stages: Sequence[Stage], channels: int, side: int) -> int | None:
    """The stage that a skip comes from: the last one on the way down that is large enough, best on this level."""
    end = next((i for i, stage in enumerate(stages) if stage.kind in ("concat", "up")), len(stages))
    fits = [i for i, stage in enumerate(stages[:end]) if stage.channels == channels and stage.side >= side]
    fits = [i for i in fits if stages[i].level == stages[-1].level] or fits
    return fits[-1] if fits else None


def _step(here: Stage, side: int) -> tuple[int, str]:
    """Level and kind of the stage that follows."""
    if here.side == 0 or side == 0:
        deeper = (side == 0) - (here.side == 0)
        return here.level + deeper, "up" if deeper < 0 else "dense"
    if 2 * side <= here.side + 1:
        return here.level + 1, "down"
    if 2 * side >= 3 * here.side:
        return here.level - 1, "up"
    return here.level, "conv"


@styled
def plot_unet(rows: Sequence[LayerShape], title: str | None = None, width: float = 9.0) -> Figure:
    """A network as a U: a bar for each shape of the maps, with the channels above it and height = width below.

    A bar is taller where the map is larger and wider where it has more channels. A concatenation has two parts, and a
    dashed arrow shows where the first comes from.

    Args:
        rows: `trace(model, x)`; for `UNet` better `trace(model, x, t, depth=2)`.
        title: words above the drawing.
        width: of the figure, in inches.
    """
    stages = stages_of(rows)
    top = 0.62 + (0.25 if title else 0)
    drawing = _Drawing(stages, width, top)
    sheet = drawing.sheet
    lanes: dict[int, int] = {}  # skips drawn at each level so far, so that arrows do not lie on each other
    for i, stage in enumerate(stages):
        if i and stages[i - 1].level != stage.level:
            (right, above), (left, y) = drawing.edge(i - 1, 1), drawing.edge(i, -1)
            sheet.arrow((right + 0.03, above), (left - 0.03, y), "#666666", width=1.0)
        if stage.source is not None:
            lane = lanes[stage.level] = lanes.get(stage.level, -1) + 1
            (right, _), (left, y) = drawing.edge(stage.source, 1), drawing.edge(i, -1)
            at = y + drawing.tall(stage) * (0.0, -0.28, 0.28)[lane % 3]
            sheet.arrow((right, at), (left, at), COLORS["orange"], (0, (4, 2)), width=1.1)
        drawing.bar(i)
    if title:
        sheet.text(0.15, 0.2, title, 11, ha="left")
    _legend(sheet, {stage.kind for stage in stages}, drawing.bottom - 0.2)
    way = " → ".join(map(str, stages))
    sheet.figure.alt = f"{f'{title}: a' if title else 'A'} network as a U, channels×height×width: {way}."
    return sheet.figure


class _Drawing:
    """Where the bars of a U stand, and how to draw one.

    Args:
        stages: of the network.
        width: of the figure, in inches.
        top: height of the uppermost level.
    """

    ROOM = 1.02  # between two levels

    def __init__(self, stages: Sequence[Stage], width: float, top: float) -> None:
        self.stages, self.top = stages, top
        jumps = [a.level != b.level for a, b in pairwise(stages)]
        self.pitch = min(0.6, (width - 0.3) / (len(stages) + _BUMP * sum(jumps)))
        x, self.xs = (width - self.pitch * (len(stages) + _BUMP * sum(jumps))) / 2, []
        for jump in [False, *jumps]:
            x += _BUMP * self.pitch * jump
            self.xs.append(x + self.pitch / 2)
            x += self.pitch
        self.bottom = top + self.ROOM * (max(stage.level for stage in stages) + 0.5) + 0.62
        self.sheet = Sheet(width, self.bottom)

    def wide(self, stage: Stage) -> float:
        """The width of a bar."""
        most = max(each.channels for each in self.stages)
        return self.pitch * (0.25 + 0.45 * math.log2(1 + stage.channels) / math.log2(1 + most))

    def tall(self, stage: Stage) -> float:
        """The height of a bar."""
        largest = max(each.side for each in self.stages)
        return 0.14 + 0.44 * math.log2(1 + stage.side) / math.log2(1 + largest)

    def edge(self, i: int, side: int) -> tuple[float, float]:
        """The middle of a bar's right edge (side 1) or left edge (side -1)."""
        stage = self.stages[i]
        return self.xs[i] + side * self.wide(stage) / 2, self.top + self.ROOM * stage.level

    def bar(self, i: int) -> None:
        """Draw a bar with its numbers."""
        stage = self.stages[i]
        w, h, y = self.wide(stage), self.tall(stage), self.top + self.ROOM * stage.level
        left, skip = self.xs[i] - w / 2, w * stage.skip / stage.channels
        fill = _FILLS["up" if stage.kind == "concat" else stage.kind]
        self.sheet.box(left + skip, y - h / 2, w - skip, h, fill, "#222222", linewidth=0.7, zorder=3)
        if skip:
            look: dict[str, Any] = {"linewidth": 0.7, "hatch": _HATCH, "zorder": 3}
            self.sheet.box(left, y - h / 2, skip, h, COLORS["yellow"], "#222222", **look)
        font = max(6.0, min(9.0, 25 * self.pitch))
        above: dict[str, Any] = {"va": "bottom", "weight": "bold", "linespacing": 0.95, "zorder": 4}
        self.sheet.text(self.xs[i], y - h / 2 - 0.03, "\n+".join(stage.parts), font, **above)
        self.sheet.text(self.xs[i], y + h / 2 + 0.03, str(stage.side or "vector"), font, va="top", zorder=4)


def _legend(sheet: Sheet, kinds: set[str], y: float) -> None:
    sheet.text(0.2, y - 0.28, "above a bar: channels;  below: height = width", 8.5, "#444444", ha="left")
    x = 0.2
    for kind, words in _LEGEND.items():
        if kind in kinds:
            fill, hatch = (COLORS["yellow"], _HATCH) if kind == "concat" else (_FILLS[kind], None)
            sheet.box(x, y - 0.06, 0.16, 0.12, fill, "#222222", linewidth=0.7, hatch=hatch)
            if kind == "concat":
                sheet.box(x + 0.16, y - 0.06, 0.16, 0.12, _FILLS["up"], "#222222", linewidth=0.7)
                x += 0.16
            sheet.text(x + 0.24, y, words, 8.5, ha="left")
            x += 0.5 + 0.075 * len(words)
