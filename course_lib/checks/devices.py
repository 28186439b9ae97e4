"""Whether an answer would also work on a GPU, found out without one.

An answer that makes a tensor on the CPU is right on this machine; `on_a_gpu` shows where it would not be.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Mixed(Exception):
    """A tensor of the input meets one that was made without naming a device, or such a one is returned."""


class _TwoDevices(TorchFunctionMode):
    """Follows tensors as if the input were on a GPU, and what is made without naming a device on the CPU.

    As on a real GPU, single numbers may come from anywhere, and indices may stay on the CPU.
    """

    def __init__(self, case: tuple[Any, ...]) -> None:
        super().__init__()
        self.away = {id(tensor): True for tensor in _leaves(case)}
        self.kept: list[Tensor] = []  # keeps every tensor alive, so that no id is used twice

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        given = [tensor for tensor in _leaves([args, kwargs]) if id(tensor) in self.away]
        meet = {self.away[id(tensor)] for tensor in given if tensor.ndim}
        indexed = name in ("__getitem__", "__setitem__") and self.away.get(id(args[0]), False)
        if len(meet) == 2 and not indexed and name not in ("to", "type_as", "copy_"):
            raise Mixed
        result = func(*args, **kwargs)
        named = [a for a in (*args[1:], *kwargs.values()) if isinstance(a, Tensor | torch.device | str)]
        away = any(self.away[id(tensor)] for tensor in given)
        if name == "cpu" or (name == "to" and named):
            away = name == "to" and named[0] != "cpu"
        elif not away:
            away = kwargs.get("device") not in (None, "cpu")
        if given or not _leaves([args, kwargs]):  # a result of weights alone stays unknown
            fresh = _leaves(result)
            self.kept += fresh
            self.away |= {id(tensor): away for tensor in fresh}
        return result


def _leaves(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [leaf for part in parts for leaf in _leaves(part)]


def on_a_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which raises `Mixed` where its arguments would have to be on the CPU to go on.

    Args:
        function: what a learner wrote. A class stays as it is: what it makes knows nothing of an input yet.
    """
    if isinstance(function, type):
        return function

    @functools.wraps(function)
    def followed(*args: Any) -> Any:
        devices = _TwoDevices(args)
        with devices:
            result = function(*args)
        if _leaves(args) and any(one.ndim and not devices.away.get(id(one), True) for one in _leaves(result)):
            raise Mixed
        return result

    return followed
