"""The exercises of notebook 00: the first steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..data import to_float
from .judge import Choice, Exercise, Question


def _byte_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    cases = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=g) for shape in ((2, 1, 4, 4), (5, 7))]
    return [(images,) for images in (*cases, torch.tensor([0, 127, 128, 255], dtype=torch.uint8))]


def my_to_float(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


TO_FLOAT = Exercise(
    to_float,
    _byte_cases,
    {
        "This gives [0, 1]. The course wants [-1, 1], dark below 0 and light above: stretch by 2, shift by 1.": (
            lambda b: b.float() / 255
        ),
        "This gives [0, 2]: the width is right, but the middle must be 0. Subtract 1.": lambda b: b.float() / 127.5,
        "Bytes end at 255, not 256: half of the range is 127.5, so that white becomes exactly 1.": (
            lambda b: b.float() / 128 - 1
        ),
        "This gives [-0.5, 0.5]: multiply by 2.": lambda b: b.float() / 255 - 0.5,
        "The values are still 0 to 255: divide by 127.5, then subtract 1.": lambda b: b.float(),
        "The picture is inverted: black (0) must become -1 and white (255) must become 1.": (
            lambda b: 1 - b.float() / 127.5
        ),
        "Subtract after changing to float: a uint8 wraps around below 0 (10 - 128 becomes 138).": (
            lambda b: (b - 128).float() / 127.5
        ),
        "Change to float first: a uint8 wraps around above 255 (2 * 200 becomes 144).": lambda b: 2 * b / 255 - 1,
    },
    answer=my_to_float,
    library=[to_float],
    equation=r"x = \frac{\text{byte}}{127.5} - 1",
)

VALUES_IN_BATCH = Question(
    lambda: math.prod((16, 1, 28, 28)),
    "16 · 1 · 28 · 28: B pictures, C channels, H rows, W columns.",
    {
        784: "784 is one picture, 28 · 28. The batch has 16.",
        448: "448 = 16 · 28 counts only one row of each picture: B · C · H · W has four factors.",
        37632: "37,632 is for three channels. Grey pictures have C = 1.",
        16: "16 is the number of pictures; how many pixels does each have?",
    },
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "to_float": TO_FLOAT,
    "values_in_batch": VALUES_IN_BATCH,
}
