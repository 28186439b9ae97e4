"""What to say of an answer that is wrong in a way that nobody has written down: only what is true of its numbers."""

from __future__ import annotations

import inspect
import math
import traceback
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .effects import Case

#: The numbers of a result, part by part; or what was raised instead.
Outcome = list[Tensor] | Exception

#: Sentence → what was made of the right numbers.
CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "Each number is the square of what it should be.": torch.square,
    "Each number is the root of what it should be.": torch.sqrt,
    "Each number is 1 divided by what it should be.": torch.reciprocal,
    "Each number has lost its sign: is there an abs() too many?": torch.abs,
    "The numbers are rounded; the digits after the point are wanted, too.": torch.round,
    "The digits after the point are cut off; they are wanted, too.": torch.trunc,
    "The numbers are rounded down; the digits after the point are wanted, too.": torch.floor,
    "The first axis is in reverse order.": lambda v: v.flip(0),
    "Everything stands one place too late along the first axis.": lambda v: v.roll(1, 0),
    "Everything stands one place too early along the first axis.": lambda v: v.roll(-1, 0),
    "Rows and columns are swapped.": lambda v: v.transpose(-1, -2),
    "The rows come in reverse order.": lambda v: v.flip(-2),
    "The columns come in reverse order.": lambda v: v.flip(-1),
}


def parts_of(value: Any) -> Sequence[Any]:
    """The parts of a result, which may be only one."""
    return value if isinstance(value, tuple | list) else [value]


def numbers_of(value: Any) -> list[Tensor]:
    """The parts of a result in float64."""
    return [torch.as_tensor(part, dtype=torch.float64).detach().cpu() for part in parts_of(value)]


def close(left: Tensor, right: Tensor) -> bool:
    """The same shape and numbers, up to what float32 rounding inside of a function may cost."""
    return left.shape == right.shape and torch.allclose(left, right, rtol=1e-5, atol=1e-6, equal_nan=True)


def agree(left: Sequence[Outcome], right: Sequence[Outcome]) -> bool:
    """The same numbers and failures in the same places.

    A failure at the very first case says nothing: two functions that both fail there need have nothing in common.
    """

    def same(a: Outcome, b: Outcome) -> bool:
        if isinstance(a, Exception) or isinstance(b, Exception):
            return type(a) is type(b)
        return len(a) == len(b) and all(map(close, a, b))

    return len(left) == len(right) and not isinstance(left[0], Exception) and all(map(same, left, right))


def difference(
    answer: Callable[..., Any], answers: list[Outcome], truths: list[list[Tensor]], told: Callable[[int], str]
) -> str:
    """Describe how an answer is wrong.

    Args:
        answer: the learner's function, for the line that raised.
        answers: what it gave for each case, up to the first failure.
        truths: what is right for each case.
        told: describes the case of a number.
    """
    found: list[tuple[float, int, Tensor, Tensor]] = []  # how far apart, case, number, right number
    for i, got in enumerate(answers):
        if isinstance(got, Exception):
            return f"It raises {type(got).__name__}: {got}{_line(answer, got)} (for {told(i)})."
        for value, truth in zip(got, truths[i], strict=True):
            if not torch.isfinite(value).all() and torch.isfinite(truth).all():
                return (
                    f"It gives NaN or infinity (for {told(i)}): "
                    "is there a division by 0, or the root of a negative number?"
                )
            if value.numel():
                most, where = (value - truth).abs().flatten().max(0)
                found.append((most.item(), i, value.flatten()[where], truth.flatten()[where]))
    known = [got for got in answers if not isinstance(got, Exception)]
    sentence = _relation(known, truths) or _places(known, truths, told)
    if sentence:
        return sentence
    apart, i, value, right = max(found, key=lambda one: one[0])
    example = f"it gives {value.item():.6g} where {right.item():.6g} is right"
    if all(truth.ndim == 0 for truth in truths[i]):
        return f"{example.capitalize()} (for {told(i)}). The hints below may help."
    return f"The numbers differ by up to {apart:.3g}: {example} (for {told(i)}). The hints below may help."


def _relation(answers: list[list[Tensor]], truths: list[list[Tensor]]) -> str | None:
    """One rule that makes all of the answer's numbers out of the right ones."""
    pairs = [pair for got, truth in zip(answers, truths, strict=True) for pair in zip(got, truth, strict=True)]
    got, truth = (torch.cat([pair[k].flatten() for pair in pairs]) for k in (0, 1))
    if len(truth.unique()) < 4:
        return None
    for sentence, change in CHANGES.items():
        if all(_is(value, change, right) for value, right in pairs):
            return sentence
    line = _line_through(got, truth)
    if line:
        return _of_line(*line)
    ends = [
        (end, cut.sum() > 1)
        for end, cut in ((got.min().item(), truth < got.min() - 1e-6), (got.max().item(), truth > got.max() + 1e-6))
    ]
    if len(truth) > 12 and any(cut for _, cut in ends) and close(got, truth.clamp(ends[0][0], ends[1][0])):
        told = " and ".join(f"{end:.4g}" for end, cut in ends if cut)
        return f"The numbers are right, but cut off at {told}: nothing is clamped here."
    large = [(value, right) for value, right in pairs if len(right.unique()) > 4]
    lines = [_line_through(value.flatten(), right.flatten()) for value, right in large]
    if lines and all(line is not None for line in lines):
        return (
            "For one input alone the numbers are right but for a factor and a shift, but these change from input to "
            "input: is a minimum, maximum, mean or spread of the input in it?"
        )
    batches = [pair for value, right in large if right.ndim > 1 for pair in zip(value, right, strict=True)]
    factors = [_line_through(value.flatten(), right.flatten()) for value, right in batches]
    if factors and all(line is not None and abs(line[1]) < 1e-5 for line in factors):
        return "Each picture is right but for a factor, which is another one for each: a weight is wrong or missing."
    if ((got - truth).abs() <= 0.05 * truth.abs()).all():
        return "All numbers are right to within 5 %, but not exactly: is something rounded, simulated or approximated?"
    if all(close(value.flatten().sort()[0], right.flatten().sort()[0]) for value, right in pairs):
        return "These are the right numbers in another order."
    return None


def _is(value: Tensor, change: Callable[[Tensor], Tensor], truth: Tensor) -> bool:
    try:
        return close(value, change(truth))
    except (IndexError, RuntimeError):  # there is no such axis
        return False


def _line_through(got: Tensor, truth: Tensor) -> tuple[float, float] | None:
    """Slope and shift of the straight line on which all pairs lie, if they do."""
    from_mean = truth - truth.mean()
    slope = ((got - got.mean()) @ from_mean / (from_mean @ from_mean)).item()
    shift = (got.mean() - slope * truth.mean()).item()
    return (slope, shift) if close(slope * truth + shift, got) else None


def _of_line(slope: float, shift: float) -> str:
    if abs(slope) < 1e-6:
        return f"Every number is {shift:.4g}, whatever the input."
    if abs(slope - 1) < 1e-5:
        return f"Every number is too {'large' if shift > 0 else 'small'} by {abs(shift):.4g}."
    if abs(shift) > 1e-5:
        return (
            f"Every number is {slope:.4g} times what it should be, {'plus' if shift > 0 else 'minus'} {abs(shift):.4g}."
        )
    return (
        "Every number has the wrong sign."
        if abs(slope + 1) < 1e-5
        else (f"Every number is {slope:.4g} times what it should be.")
    )


def _places(answers: list[list[Tensor]], truths: list[list[Tensor]], told: Callable[[int], str]) -> str | None:
    """Where the numbers are right and where they are not, if there is a pattern."""
    pairs = [pair for got, truth in zip(answers, truths, strict=True) for pair in zip(got, truth, strict=True)]
    if all(value.ndim and len(value) > 2 for value, _ in pairs):
        rows = [[close(a, b) for a, b in zip(value, truth, strict=True)] for value, truth in pairs]
        for sentence, pattern in (
            ("Only the first entry along the first axis is right.", lambda row: row[0] and not any(row[1:])),
            ("All is right but the first entry along the first axis.", lambda row: not row[0] and all(row[1:])),
            ("All is right but the last entry along the first axis.", lambda row: not row[-1] and all(row[:-1])),
        ):
            if all(map(pattern, rows)):
                return sentence
    good = [all(map(close, got, truth)) for got, truth in zip(answers, truths, strict=True)]
    if any(good):
        right, wrong = good.index(True), good.index(False)
        if told(right) != told(wrong):
            return f"It is right for {told(right)}, but not for {told(wrong)}. What is different there?"
    return None


def _line(answer: Callable[..., Any], error: Exception) -> str:
    """The learner's line in which an error arose, if its text is at hand."""
    functions = vars(answer).values() if isinstance(answer, type) else [inspect.unwrap(answer)]
    files = {f.__code__.co_filename for f in functions if hasattr(f, "__code__")}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    return f', in "{frames[-1].line}"' if frames and frames[-1].line else ""


def form(got: Any, truth: Any, case: str) -> str | None:
    """What is wrong with the type or shape of an answer, before its numbers are looked at.

    Args:
        got: what the answer returned.
        truth: what the solution returned.
        case: the arguments in words.
    """
    if not isinstance(truth, tuple | list):
        return _form_of_one(got, truth, case)
    if not isinstance(got, tuple | list):
        return f"It must return {len(truth)} values, but returns {name_of(got)}."
    if len(got) != len(truth):
        return f"It must return {len(truth)} values, but returns {len(got)} (for {case})."
    problems = [_form_of_one(one, wanted, case) for one, wanted in zip(got, truth, strict=True)]
    return next((problem for problem in problems if problem), None)


def _form_of_one(got: Any, truth: Any, case: str) -> str | None:
    if isinstance(truth, Tensor) and truth.ndim and not isinstance(got, Tensor):
        return f"It must return a tensor of shape {tuple(truth.shape)}, but returns {name_of(got)}."
    number = isinstance(got, Real) or (isinstance(got, np.ndarray) and got.ndim == 0)
    if not (isinstance(got, Tensor) or number) or isinstance(got, bool):
        return f"It must return a number, but returns {name_of(got)}."
    shape, wanted = (tuple(v.shape) if isinstance(v, Tensor) else () for v in (got, truth))
    if shape == wanted:
        return None
    hint = ""
    if len(shape) == len(wanted) == 1 and shape[0] == wanted[0] - 1:
        hint = " One entry is missing: t = 0, the picture itself, comes first."
    elif not wanted and math.prod(shape) > 1:
        hint = " One number is wanted: take the mean over everything."
    elif sorted(shape) == sorted(wanted):
        hint = " The lengths are right, but the axes stand in another order."
    return f"It returns shape {shape} where {wanted} is wanted (for {case}).{hint}"


def describe(case: Case, names: Sequence[str] = ()) -> str:
    """The arguments in words.

    Args:
        case: the arguments.
        names: what the learner's function calls them, if that is known.
    """
    names = names if len(names) == len(case) else [""] * len(case)
    told = [_described(a, name) for a, name in zip(case, names, strict=True) if not isinstance(a, bool)]
    return ", ".join(one for one in told if one) or "no input"


def _described(value: Any, name: str) -> str:
    if isinstance(value, Tensor) and value.ndim:
        return f"{name or 'a tensor'} of shape {tuple(value.shape)}"
    equals = f"{name} = " if name else ""
    if isinstance(value, Tensor | float):
        return f"{equals}{float(value):.4g}"
    if isinstance(value, int | str | tuple | list):
        return f"{equals}{value!r}"
    return "a generator" if isinstance(value, torch.Generator) else "a network"


def name_of(value: Any) -> str:
    """The type of a value, with its article."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
