"""The exercises of notebook 00: the first steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..data import to_float
from .effects import Case
from .judge import Choice, Exercise, Question


def byte_cases(g: torch.Generator) -> list[Case]:
    """Bytes of several shapes, among them pictures in which hardly anything is bright."""
    usual = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=g) for shape in ((2, 1, 4, 4), (5, 7))]
    dark = [torch.randint(0, most, (3, 1, 2, 5), dtype=torch.uint8, generator=g) for most in (60, 2)]
    return [(images,) for images in (*usual, *dark, torch.tensor([0, 127, 128, 255], dtype=torch.uint8))]


def my_to_float(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


BATCH_STATISTICS = (
    "The numbers depend on what else is in the batch: its darkest and brightest pixel, or its mean and spread. Bytes "
    "always run from 0 to 255, so use fixed numbers; otherwise dark pictures would come out bright."
)
DATA_CONSTANTS = (
    "These are the mean and the standard deviation of one data set, taken from another recipe. Here the range decides: "
    "0 becomes -1 and 255 becomes 1."
)
WRAPS_BELOW = "Change to float before you subtract: a uint8 wraps around below 0 (10 - 128 becomes 138)."
WRAPS_ABOVE = "Change to float before you multiply: a uint8 wraps around above 255 (2 * 200 becomes 144)."
ZERO_TO_ONE = (
    "This gives [0, 1]. The course wants [-1, 1], dark below 0 and light above: stretch by 2, then subtract 1."
)
ZERO_TO_TWO = "This gives [0, 2]. The width is right, but the middle must be 0: subtract 1."
STILL_BYTES = "The values still run from 0 to 255: divide by 127.5, then subtract 1."


def stretched(b: Tensor) -> Tensor:
    """The batch stretched until it fills [-1, 1]."""
    return (b.float() - b.min()) / (b.max() - b.min()) * 2 - 1


TO_FLOAT = Exercise(
    to_float,
    byte_cases,
    {
        ZERO_TO_ONE: lambda b: b.float() / 255,
        ZERO_TO_TWO: lambda b: b.float() / 127.5,
        "Bytes end at 255, not at 256. Half of the range is 127.5, and then white becomes exactly 1.": (
            lambda b: b.float() / 128 - 1
        ),
        "This gives [-0.5, 0.5]: multiply by 2.": lambda b: b.float() / 255 - 0.5,
        "This gives [-1, 0], because 1 is subtracted before the values are stretched to a width of 2.": (
            lambda b: b.float() / 255 - 1
        ),
        "This gives [-127.5, 127.5]. The middle is right; now divide by 127.5.": lambda b: b.float() - 127.5,
        STILL_BYTES: lambda b: b.float(),
        "The picture is inverted. Black (0) must become -1 and white (255) must become 1.": (
            lambda b: 1 - b.float() / 127.5
        ),
        WRAPS_BELOW: [
            lambda b: (b - 128).float() / 127.5,
            lambda b: (b - 127).float() / 127.5,
            lambda b: (b - 128).float() / 128,
        ],
        WRAPS_ABOVE: [lambda b: 2 * b / 255 - 1, lambda b: (2 * b).float() / 255 - 1, lambda b: 2 * b // 255 - 1.0],
        "An int8 ends at 127, so that every bright byte has become negative: change to float instead.": (
            lambda b: b.to(torch.int8).float() / 127.5 - 1
        ),
        "The fractions are lost, and only whole numbers are left: no //, no long() and no round() here.": [
            lambda b: b.float() // 127.5 - 1,
            lambda b: (b / 127.5 - 1).long(),
            lambda b: (b / 127.5 - 1).round(),
        ],
        "Division comes before subtraction: here only the 1 is divided. Set brackets or change the order.": [
            lambda b: b.float() - 1 / 127.5,
            lambda b: b.float() - 127.5 / 127.5,
        ],
        BATCH_STATISTICS: [
            stretched,
            lambda b: (b.float() - b.min()) / (b.max() - b.min()),
            lambda b: b.float() / b.max() * 2 - 1,
            lambda b: b.float() / b.max(),
            lambda b: (b.float() - b.float().mean()) / b.float().std(),
            lambda b: b.float() / 127.5 - 1 if b.max() > 1 else b.float(),
            lambda b: b.float() / 127.5 - 1 if b.max() > 1 else b.float() * 2 - 1,
        ],
        DATA_CONSTANTS: [
            lambda b: (b.float() / 255 - 0.1307) / 0.3081,  # MNIST
            lambda b: (b.float() / 255 - 0.286) / 0.353,  # Fashion-MNIST
            lambda b: (b.float() / 255 - 0.2860) / 0.3205,
        ],
    },
    answer=my_to_float,
    library=[to_float],
    equation=r"x = \frac{\text{byte}}{127.5} - 1",
)

VALUES_IN_BATCH = Question(
    lambda: math.prod((16, 1, 28, 28)),
    "16 · 1 · 28 · 28: B pictures, C channels, H rows, W columns.",
    {
        784: "784 = 28 · 28 is one picture. The batch has 16 of them.",
        448: "448 = 16 · 28 counts one row of each picture. B · C · H · W has four factors.",
        37632: "37,632 would be right for three channels. Grey pictures have C = 1.",
        16: "16 is the number of pictures. How many pixels does each of them have?",
        28: "28 is the length of one side. A picture has 28 rows and 28 columns.",
        73: "You added the four lengths; multiply them. Each of the 16 pictures has 28 rows of 28 pixels.",
    },
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "to_float": TO_FLOAT,
    "values_in_batch": VALUES_IN_BATCH,
}
