"""Each kind of bad input meets its own sentence."""

from __future__ import annotations

import re

import pytest
import torch

from course_lib.validate import (
    RANGE_SLACK,
    validate_choice,
    validate_finite,
    validate_index,
    validate_number,
    validate_pictures,
    validate_same,
)

GOOD = torch.zeros(2, 1, 4, 4)


def test_an_unknown_name_lists_the_known_ones() -> None:
    validate_choice("name", "a", ("a", "b"))
    with pytest.raises(ValueError, match=re.escape("name='c' is unknown; choose one of 'a', 'b'")):
        validate_choice("name", "c", ("a", "b"))
    with pytest.raises(ValueError, match="choose one of 'a', 'b'"):
        validate_choice("name", None, iter(["a", "b"]))


def test_good_pictures_pass() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        validate_pictures(GOOD.to(dtype), in_range=True, channels=1)
    validate_pictures(GOOD + 7)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([[0.0]], TypeError, "x must be a torch.Tensor, got list"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), TypeError, r"got torch.uint8; .* course_lib.data.to_float"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.int64), TypeError, "must hold floats in .*got torch.int64"),
        (torch.zeros(1, 4, 4), ValueError, r"4 dimensions \(B, C, H, W\), got 3 .*\(1, 4, 4\).*x\[None\]"),
        (torch.zeros(4, 4), ValueError, r"4 dimensions \(B, C, H, W\), got 2 with shape \(4, 4\)$"),
        (torch.zeros(0, 1, 4, 4), ValueError, r"x is empty, shape \(0, 1, 4, 4\)"),
        (torch.full((1, 1, 2, 2), float("nan")), ValueError, "x holds 4 value.* NaN or infinite"),
        (torch.tensor([0.0, float("inf")]).view(1, 1, 1, 2), ValueError, "x holds 1 value"),
    ],
)
def test_bad_pictures_are_refused(x: torch.Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        validate_pictures(x)


def test_wrong_channels_say_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"x must have 3 channel\(s\), got 1"):
        validate_pictures(GOOD, channels=3)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.5), (-1.5, 0.0), (0.0, 255.0), (-1.5, 1.0), (-1.0, 1.1), (1.2, 1.3), (-9.0, -8.0)]
)
def test_pictures_out_of_range_say_the_range(low: float, high: float) -> None:
    x = torch.tensor([low, high]).view(1, 1, 1, 2)
    validate_pictures(x)
    with pytest.raises(ValueError, match=re.escape(f"lie in [-1, 1], got values from {low:.3g} to {high:.3g}")):
        validate_pictures(x, in_range=True)


def test_rounding_may_leave_the_range_by_a_hair() -> None:
    validate_pictures(GOOD + 1 + RANGE_SLACK / 2, in_range=True)
    with pytest.raises(ValueError, match="lie in"):
        validate_pictures(GOOD + 1 + 2 * RANGE_SLACK, in_range=True)


def test_finite() -> None:
    validate_finite(GOOD, "g")
    with pytest.raises(ValueError, match="g holds 32 value"):
        validate_finite(GOOD / 0, "g")


@pytest.mark.parametrize(
    ("other", "error", "message"),
    [
        (0.5, TypeError, "eps must be a torch.Tensor, got float"),
        (torch.zeros(1, 1, 4, 4), ValueError, r"eps must have the shape of x0, \(2, 1, 4, 4\), got \(1, 1, 4, 4\)"),
        (GOOD.double(), TypeError, "eps must have the dtype of x0, torch.float32, got torch.float64"),
        (GOOD.to("meta"), ValueError, "eps must be on the device of x0, cpu, got meta"),
    ],
)
def test_two_tensors_that_differ_are_refused(other: torch.Tensor, error: type[Exception], message: str) -> None:
    validate_same(GOOD, GOOD + 1, "x0", "eps")
    with pytest.raises(error, match=message):
        validate_same(GOOD, other, "x0", "eps")


@pytest.mark.parametrize("t", [3, torch.tensor([1, 2]), torch.tensor([1, 2], dtype=torch.int32)])
def test_good_timesteps_pass(t: int | torch.Tensor) -> None:
    validate_index(t, "t", batch=2, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("t", "error", "message"),
    [
        (1.0, TypeError, "t must be an int or a tensor of integers, got float"),
        (True, TypeError, "got bool"),
        ([1, 2], TypeError, "got list"),
        (None, TypeError, "got NoneType"),
        (torch.tensor([1.0, 2.0]), TypeError, r"int64 or int32 timesteps, got torch.float32; use t.long\(\)"),
        (torch.tensor(1), ValueError, r"shape \(B,\) with B >= 1, got shape \(\)"),
        (torch.tensor([[1], [2]]), ValueError, r"got shape \(2, 1\)"),
        (torch.tensor([], dtype=torch.int64), ValueError, r"got shape \(0,\)"),
        (torch.tensor([1, 2, 3]), ValueError, "one entry per picture, 2, got 3"),
        (torch.tensor([1]), ValueError, "one entry per picture, 2, got 1"),
        (
            torch.tensor([1, 2], device="meta"),
            ValueError,
            r"device of the pictures, cpu, got meta; use t.to\(x.device\)",
        ),
    ],
)
def test_bad_timesteps_are_refused(t: int | torch.Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        validate_index(t, "t", batch=2, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("value", "integer", "error", "message"),
    [
        ("1", False, TypeError, "n must be a number, got str"),
        (True, False, TypeError, "n must be a number, got bool"),
        (1.0, True, TypeError, "n must be an int, got float"),
        (True, True, TypeError, "n must be an int, got bool"),
        (4, True, ValueError, r"n must lie in \[0, 3\], got 4"),
        (-0.1, False, ValueError, r"n must lie in \[0, 3\], got -0.1"),
        (float("nan"), False, ValueError, r"n must lie in \[0, 3\], got nan"),
        (float("inf"), False, ValueError, "got inf"),
    ],
)
def test_bad_numbers_are_refused(value: float, integer: bool, error: type[Exception], message: str) -> None:
    for good in (0, 3) if integer else (0, 1.5, 3):
        validate_number("n", good, 0, 3, integer=integer)
    with pytest.raises(error, match=message):
        validate_number("n", value, 0, 3, integer=integer)
