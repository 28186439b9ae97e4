"""What an answer does besides returning a value: to its arguments, to their dtype, to random numbers, to gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Case = tuple[Any, ...]

#: The seed of PyTorch's global generator while an answer runs. Nobody types it by accident.
SEED = 7_411_026

IN_PLACE = "It changes its input in place (+=, mul_ and the like); make a new tensor instead."
LIST_IN_PLACE = (
    "It changes the list that it is given (pop, append, reverse, sort and the like). Work on a copy instead: list(...)."
)
MODE = "It leaves the network in another mode than it should: mind where train() and eval() are called."
WEIGHTS = "It changes the network, its weights or what its BatchNorms remember; it should only ask it."
RESEEDED = "It seeds the generator anew, so that every call draws the same numbers: use the generator as it comes."
GLOBAL_SEED = (
    "It seeds PyTorch's global generator (torch.manual_seed), so that all later random numbers of the notebook repeat "
    "themselves: leave that line out."
)
COPIED = (
    "The numbers are right, but they come from a copy of the generator, so that the next call draws them again: "
    "draw from the generator itself."
)
UNTOUCHED = "The generator is not used: draw from it, with generator=generator."
NO_GRADIENT = (
    "The number is right, but no gradient leads from it back to the network's weights, so that nothing would be "
    "learned: no torch.no_grad(), detach() or item() here."
)
FLOAT64 = "a network keeps its weights in float32 and refuses float64. float() makes float32 of it."
GRADIENT_CUT = (
    "The numbers are right, but part of the gradient is cut off on its way to the weights: no detach(), "
    "torch.no_grad() or item() in between."
)


class Wrong(Exception):
    """Raised where the mistake is already certain; carries its sentence."""


def copied(value: Any) -> Any:
    """A value that an answer may change without a trace."""
    if isinstance(value, torch.Generator):
        return torch.Generator().set_state(value.get_state())
    if isinstance(value, nn.Module):
        return copy.deepcopy(value)
    if isinstance(value, tuple | list):
        return type(value)(map(copied, value))
    return value.clone() if isinstance(value, Tensor) else value


def call(function: Callable[..., Any], case: Case) -> Any:
    """The result for one case; PyTorch's global random numbers are the same each time, and as before afterwards.

    Raises:
        Wrong: the function returns something and has seeded the global generator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)  # torch.manual_seed would spend a millisecond on GPUs
        result = function(*case)
        if torch.initial_seed() != SEED and result is not None and result is not ...:
            raise Wrong(GLOBAL_SEED)
        return result


def reseeded(given: Case, case: Case) -> bool:
    """Whether a generator among the arguments was seeded anew."""
    pairs = zip(given, case, strict=True)
    return any(isinstance(a, torch.Generator) and a.initial_seed() != b.initial_seed() for a, b in pairs)


def untouched(given: Case, case: Case, solved: Case) -> bool:
    """Whether a generator that the solution draws from is still as it was."""
    return any(
        isinstance(a, torch.Generator) and _same_state(a, b) and not _same_state(c, b)
        for a, b, c in zip(given, case, solved, strict=True)
    )


def changed(given: Case, solved: Case) -> str | None:
    """The sentence for an argument that the answer leaves in another state than the solution does.

    Args:
        given: the arguments after the answer.
        solved: the same after the solution.
    """
    sentences = (_changed(a, b) for a, b in zip(given, solved, strict=True))
    return next((sentence for sentence in sentences if sentence), None)


def _changed(a: Any, b: Any) -> str | None:
    if isinstance(a, Tensor):
        return None if torch.equal(a, b) else IN_PLACE
    if isinstance(a, nn.Module):
        if [m.training for m in a.modules()] != [m.training for m in b.modules()]:
            return MODE
        left, right = a.state_dict(), b.state_dict()
        return None if all(torch.equal(left[name], right[name]) for name in right) else WEIGHTS
    if isinstance(a, list):
        same = len(a) == len(b) and all(_changed(one, other) is None for one, other in zip(a, b, strict=True))
        return None if same else LIST_IN_PLACE
    return LIST_IN_PLACE if isinstance(a, int | float | str) and a != b else None  # an entry of a list


def _same_state(a: torch.Generator, b: torch.Generator) -> bool:
    return torch.equal(a.get_state(), b.get_state())


def gradient_lost(result: Any, given: Case, truth: Any, solved: Case) -> str | None:
    """The sentence for a result with the right numbers that does not lead back to the weights as the solution does.

    Args:
        result: what the answer returned.
        given: the arguments after the answer.
        truth: what the solution returned.
        solved: the arguments after the solution.
    """
    ours, theirs = _gradients(result, given), _gradients(truth, solved)
    if all(gradient is None for gradient in ours.values()):
        return NO_GRADIENT
    for name, gradient in theirs.items():
        mine = ours[name]
        if gradient is not None and (mine is None or not torch.allclose(mine, gradient, rtol=1e-4, atol=1e-6)):
            return GRADIENT_CUT
    return None


def _gradients(result: Any, given: Case) -> dict[str, Tensor | None]:
    """The gradient of a result's sum for each weight of the networks among the arguments; None where none arrives."""
    weights = [pair for one in given if isinstance(one, nn.Module) for pair in one.named_parameters()]
    parts = result if isinstance(result, tuple | list) else [result]
    sums = [part.sum() for part in parts if isinstance(part, Tensor) and part.requires_grad]
    if not sums:
        return {name: None for name, _ in weights}
    found = torch.autograd.grad(sums, [weight for _, weight in weights], allow_unused=True, retain_graph=True)
    return {name: gradient for (name, _), gradient in zip(weights, found, strict=True)}


def in_float32(value: Any) -> Any:
    """The same with tensors and networks in float32, the dtype that people work in."""
    value = copied(value)
    if isinstance(value, nn.Module) or (isinstance(value, Tensor) and value.is_floating_point()):
        return value.float()
    return value


def other_dtype(result: Any, truth: Any) -> str | None:
    """What to remark where tensors are floats of another length than the solution's."""
    for a, b in zip(*(v if isinstance(v, tuple | list) else [v] for v in (result, truth)), strict=True):
        if isinstance(a, Tensor) and isinstance(b, Tensor) and a.ndim and a.dtype != b.dtype:
            got, wanted = (str(v.dtype).removeprefix("torch.") for v in (a, b))
            if a.is_floating_point() and b.is_floating_point():
                why = FLOAT64 if a.dtype == torch.float64 else "digits get lost that way."
                return f"It returns {got} where {wanted} is wanted: {why}"
    return None
