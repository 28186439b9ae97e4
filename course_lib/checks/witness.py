"""What an answer calls and what it leaves unused: functions of PyTorch, arguments, the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .differences import close, numbers_of
from .effects import Case, call, copied
from .inputs import Network

#: Functions that draw random numbers.
NOISE = {"randn", "randn_like", "normal", "normal_", "rand", "rand_like", "uniform_"}
TIMES = {"randint", "randint_like", "randperm", "random_"}
RANDOM = NOISE | TIMES | {"bernoulli", "bernoulli_", "multinomial"}


class Witness(TorchFunctionMode):
    """Notes calls while it is entered.

    Attributes:
        random: names of the functions called that draw random numbers, each once.
        unseeded: those of them that were called without a generator.
        backward: whether backward was called, or a gradient asked for in another way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.random: list[str] = []
        self.unseeded: list[str] = []
        self.backward = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        self.backward |= name in ("backward", "grad")
        kwargs = kwargs or {}
        for names in (self.random, self.unseeded):
            if name in RANDOM and name not in names and not (names is self.unseeded and kwargs.get("generator")):
                names.append(name)
        return func(*args, **kwargs)


def drawn(names: Sequence[str], given: Sequence[str]) -> str:
    """What to say where everything random is handed over, and numbers are drawn all the same.

    Args:
        names: of the functions that drew them.
        given: the arguments that should be used in their place, if they can be named.
    """
    calls = " and ".join(f"torch.{name}" if not name.endswith("_") else f"{name}()" for name in names)
    instead = (
        f"Everything random is handed over here: use {' and '.join(given)} instead"
        if given
        else ("Nothing is to be drawn here: the answer follows from what you are given")
    )
    return f"You draw random numbers of your own ({calls}). {instead}."


def overlooked(
    answer: Callable[..., Any], right: Sequence[Callable[..., Any]], cases: Sequence[Case], names: Sequence[str]
) -> str | None:
    """What to say of an answer that draws its own random numbers or has no use for an argument; None if neither.

    Args:
        answer: the learner's function, which takes the cases without raising.
        right: functions that are right; what they draw or ignore, the answer may.
        cases: the arguments, several times.
        names: what they are called.
    """
    case = cases[0]
    if len(names) != len(case):
        return None
    seen, due = Witness(), Witness()
    given = copied(case)
    with seen:
        call(answer, given)
    for name, argument in zip(names, given, strict=True):
        if isinstance(argument, Network) and not argument.calls:
            return f"The network is never asked: call {name}(x_t, t)."
    with due:
        for function in right:
            call(function, copied(case))
    unused = [
        name
        for i, name in enumerate(names)
        if _ignores(answer, cases, i) and not any(_ignores(function, cases[:1], i) for function in right)
    ]
    if seen.unseeded and not due.unseeded:
        return drawn(seen.unseeded, unused)
    if 0 < len(unused) < len(names):
        return f"Your answer never uses {unused[0]}: the result is the same whatever {unused[0]} is."
    return None


def _ignores(function: Callable[..., Any], cases: Sequence[Case], i: int) -> bool:
    """Whether the result stays the same in every case when argument i is another one."""
    return all(_ignores_in(function, case, i) for case in cases)


def _ignores_in(function: Callable[..., Any], case: Case, i: int) -> bool:
    before, after = copied(case), copied(case)
    other = _other(case[i])
    if other is None:
        return False
    try:
        pair = [numbers_of(call(function, one)) for one in (before, (*after[:i], other, *after[i + 1 :]))]
    except Exception:  # the other value is none that the function can take
        return False
    finite = all(value.isfinite().all() for value in pair[0])
    return finite and len(pair[0]) == len(pair[1]) and all(map(close, *pair))


def _other(value: Any) -> Any:
    """Another value of the same kind; None where there is none to be had."""
    if isinstance(value, Tensor):
        if value.is_floating_point():  # a plain factor or shift may cancel out
            return value * (0.9 + 0.05 * torch.arange(value.numel(), dtype=value.dtype).cos().view_as(value))
        return 255 - value if value.dtype == torch.uint8 else torch.where(value > 1, value - 1, value + 1)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value * 0.6 + 0.17 if isinstance(value, float) else value - 1 if value > 1 else value + 1
