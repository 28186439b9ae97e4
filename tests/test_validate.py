"""Bad input meets its own sentence: the cases that test_arguments does not try with every function of the core."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from course_lib.validate import (
    RANGE_SLACK,
    validate_choice,
    validate_flag,
    validate_index,
    validate_levels,
    validate_model,
    validate_number,
    validate_pictures,
    validate_same,
)

GOOD = torch.zeros(2, 1, 4, 4)


def test_good_arguments_pass() -> None:
    validate_choice("order", 1, iter([1, 2]))
    validate_levels("attention", (), 0, 1, empty=True)
    validate_model(torch.relu, function=True)  # type: ignore[arg-type]
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        validate_pictures(GOOD.to(dtype), in_range=True, channels=1)
    validate_pictures(GOOD + 1 + RANGE_SLACK / 2, in_range=True)  # rounding may leave the range by a hair
    validate_index(torch.tensor([1, 2], dtype=torch.int32), "t", batch=2, device=torch.device("cpu"))
    for good in (0, 1.5, 3):
        validate_number("n", good, 0, 3)


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: validate_choice("name", None, iter(["a", "b"])), "name=None is unknown; choose one of 'a', 'b'"),
        (lambda: validate_choice("name", False, (0, 1)), "name=False is unknown; choose one of 0, 1"),
        (lambda: validate_flag("clip", 1), "clip must be True or False, got 1"),
        (lambda: validate_number("n", True), "n must be a number, got bool"),
        (lambda: validate_number("n", 1.0, integer=True), "n must be an int, got float"),
        (lambda: validate_number("n", math.nan, 0, 3), "n must lie in [0, 3], got nan"),
        (lambda: validate_number("n", -math.inf), "n must be finite, got -inf"),
        (lambda: validate_number("n", 10**400), "n must be finite, got 1000"),
        (lambda: validate_levels("features", "8"), "features must be a sequence of ints, one per level, got str"),  # type: ignore[arg-type]
        (lambda: validate_model(torch.relu), "model must be a torch.nn.Module, got builtin"),  # type: ignore[arg-type]
        (lambda: validate_pictures(GOOD[0]), "x must have 4 dimensions (B, C, H, W), got 3 with shape (1, 4, 4); add"),
        (lambda: validate_pictures(GOOD, channels=3), "x must have 3 channel(s), got 1"),
        (lambda: validate_same(GOOD, GOOD.to("meta"), "x0", "eps"), "eps must be on the device of x0, cpu, got meta"),
        (lambda: validate_index(True, "t"), "t must be an int or a tensor of integers, got bool"),
        (lambda: validate_index(torch.tensor(1), "t"), "t must be an int or have shape (B,) with B >= 1, got shape ()"),
        (lambda: validate_index(torch.arange(0), "t"), "t must be an int or have shape (B,) with B >= 1, got shape (0"),
    ],
)
def test_bad_arguments_meet_their_sentence(refuse: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match="^" + re.escape(message)):
        refuse()


@pytest.mark.parametrize(("low", "high"), [(-1.5, 0.0), (0.0, 255.0), (-1.0, 1 + 2 * RANGE_SLACK), (-9.0, -8.0)])
def test_pictures_out_of_range_say_the_range(low: float, high: float) -> None:
    x = torch.tensor([low, high]).view(1, 1, 1, 2)
    with pytest.raises(ValueError, match=re.escape(f"lie in [-1, 1], got values from {low:.3g} to {high:.3g}")):
        validate_pictures(x, in_range=True)
