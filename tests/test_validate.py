"""Each kind of bad input meets its own sentence."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch

from course_lib.validate import (
    RANGE_SLACK,
    validate_choice,
    validate_counts,
    validate_finite,
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
    ("value", "known", "message"),
    [
        ("c", ("a", "b"), "name='c' is unknown; choose one of 'a', 'b'"),
        (None, iter(["a", "b"]), "name=None is unknown; choose one of 'a', 'b'"),
        (True, (1, 2), "name=True is unknown; choose one of 1, 2"),
        (False, (0, 1), "name=False is unknown; choose one of 0, 1"),
    ],
)
def test_an_unknown_choice_lists_the_known_ones(value: Any, known: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        validate_choice("name", value, known)


@pytest.mark.parametrize(
    ("value", "integer", "error", "message"),
    [
        ("1", False, TypeError, "n must be a number, got str"),
        (True, False, TypeError, "n must be a number, got bool"),
        (1.0, True, TypeError, "n must be an int, got float"),
        (4, True, ValueError, r"n must lie in \[0, 3\], got 4"),
        (-0.1, False, ValueError, r"n must lie in \[0, 3\], got -0.1"),
        (math.nan, False, ValueError, r"n must lie in \[0, 3\], got nan"),
    ],
)
def test_bad_numbers_are_refused(value: float, integer: bool, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        validate_number("n", value, 0, 3, integer=integer)


@pytest.mark.parametrize("value", [math.inf, -math.inf, 10**400])
def test_a_number_is_finite_where_it_has_no_bounds_too(value: float) -> None:
    with pytest.raises(ValueError, match=f"n must be finite, got {value}"):
        validate_number("n", value)


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: validate_flag("clip", "no"), "clip must be True or False, got 'no'"),
        (lambda: validate_flag("clip", 1), "clip must be True or False, got 1"),
        (lambda: validate_counts(size=2, kernel=0), "kernel must lie in"),
        (lambda: validate_levels("features", ()), "features must name at least one level, got none"),
        (lambda: validate_levels("features", 8), "features must be a sequence of ints, .*got int"),  # type: ignore
        (lambda: validate_levels("features", "8"), "features must be a sequence of ints, .*got str"),  # type: ignore
        (lambda: validate_levels("attention", [2], 0, 1), r"attention must lie in \[0, 1\], got 2"),
        (lambda: validate_model(None), "model must be a torch.nn.Module, got NoneType"),  # type: ignore[arg-type]
        (lambda: validate_model("a.safetensors", "weak"), "weak must .* got str; .*load_checkpoint"),  # type: ignore
        (lambda: validate_model(torch.relu), "model must be a torch.nn.Module, got builtin"),  # type: ignore[arg-type]
        (lambda: validate_finite(GOOD / 0, "g"), "g holds 32 value"),
    ],
)
def test_flags_counts_levels_and_models(refuse: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        refuse()


@pytest.mark.parametrize(("low", "high"), [(-1.5, 0.0), (0.0, 255.0), (-1.0, 1 + 2 * RANGE_SLACK), (-9.0, -8.0)])
def test_pictures_out_of_range_say_the_range(low: float, high: float) -> None:
    x = torch.tensor([low, high]).view(1, 1, 1, 2)
    with pytest.raises(ValueError, match=re.escape(f"lie in [-1, 1], got values from {low:.3g} to {high:.3g}")):
        validate_pictures(x, in_range=True)


@pytest.mark.parametrize(
    ("refuse", "error", "message"),
    [
        (lambda: validate_pictures(GOOD[0]), ValueError, r"4 dimensions .* got 3 with shape \(1, 4, 4\).*x\[None\]"),
        (lambda: validate_pictures(GOOD[0, 0]), ValueError, r"4 dimensions .* got 2 with shape \(4, 4\)$"),
        (lambda: validate_pictures(GOOD, channels=3), ValueError, r"x must have 3 channel\(s\), got 1"),
        (lambda: validate_same(GOOD, 0.5, "x0", "eps"), TypeError, "eps must be a torch.Tensor"),  # type: ignore
        (lambda: validate_same(GOOD, GOOD.to("meta"), "x0", "eps"), ValueError, "eps must be on .*cpu, got meta"),
        (lambda: validate_index(1.0, "t"), TypeError, "t must be an int or a tensor of integers"),  # type: ignore
        (lambda: validate_index(True, "t"), TypeError, "t must be an int or a tensor of integers, got bool"),
        (lambda: validate_index(torch.tensor(1), "t"), ValueError, r"shape \(B,\) with B >= 1, got shape \(\)"),
        (lambda: validate_index(torch.arange(0), "t"), ValueError, r"shape \(B,\) with B >= 1, got shape \(0,\)"),
    ],
)
def test_tensors_that_do_not_fit(refuse: Any, error: type[Exception], message: str) -> None:
    """The rest of their sentences is asked of every function in test_arguments."""
    with pytest.raises(error, match=message):
        refuse()
