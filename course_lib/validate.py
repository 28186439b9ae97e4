"""What the public functions ask of their arguments, said once.

Every message names the argument, says what was expected and what came, and what to do next.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

#: How far pictures may stray outside [-1, 1], since resizing rounds.
RANGE_SLACK = 1e-3


def validate_choice(name: str, value: object, known: Iterable[object]) -> None:
    """Refuse a value that is not in the list, and print the list; True is not 1."""
    known = list(known)
    alike = (
        each for each in known if isinstance(value, type(each)) and isinstance(value, bool) == (type(each) is bool)
    )
    if not any(value == each for each in alike):
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, known))}")


def validate_flag(name: str, value: object) -> None:
    """Refuse anything but True and False: the word "False" would count as true."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def validate_number(
    name: str, value: float, low: float = float("-inf"), high: float = float("inf"), *, integer: bool = False
) -> None:
    """Refuse anything but a finite number from `low` to `high`.

    Raises:
        TypeError: not a number, or not an int where `integer` asks for one.
        ValueError: out of range, infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, int if integer else int | float):
        raise TypeError(f"{name} must be {'an int' if integer else 'a number'}, got {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {value!r}")
    if not integer and abs(value) > sys.float_info.max:
        raise ValueError(f"{name} must be finite, got {value!r}")


def validate_counts(**counts: int) -> None:
    """Refuse anything but an int >= 1; give each argument under its own name."""
    for name, value in counts.items():
        validate_number(name, value, 1, integer=True)


def validate_levels(
    name: str, values: Sequence[int], low: int = 1, high: float = float("inf"), *, empty: bool = False
) -> None:
    """Refuse anything but a list of ints from `low` to `high`, about levels of a network; `empty` allows none."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise TypeError(f"{name} must be a sequence of ints, one per level, got {type(values).__name__}")
    if not values and not empty:
        raise ValueError(f"{name} must name at least one level, got none")
    for value in values:
        validate_number(name, value, low, high, integer=True)


def validate_model(model: nn.Module, name: str = "model", *, function: bool = False) -> None:
    """Refuse a path, a checkpoint, None: anything but a network, or a plain function if `function` allows it."""
    if not isinstance(model, nn.Module) and not (function and callable(model)):
        raise TypeError(
            f"{name} must be a torch.nn.Module, got {type(model).__name__}; "
            "course_lib.checkpoint.load_checkpoint(path).model reads one from a file"
        )


def validate_pictures(
    x: Tensor, name: str = "x", *, in_range: bool = False, channels: int | None = None, values: bool = True
) -> None:
    """Refuse anything but a batch of finite float pictures, (B, C, H, W).

    Args:
        x: the tensor to look at.
        name: what the message calls it.
        in_range: also ask that every value lies in [-1, 1].
        channels: also ask for this many channels.
        values: False looks at dtype and shape alone: to see values, the program would have to wait for a GPU.

    Raises:
        TypeError: not a tensor, or not floating point (uint8 pictures).
        ValueError: not four dimensions, empty, NaN or infinite, out of range, wrong channels.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(
            f"{name} must hold floats in [-1, 1], got {x.dtype}; convert uint8 pictures with course_lib.data.to_float"
        )
    if x.ndim != 4:
        hint = f"; add the missing axes, for one picture {name}[None]" if x.ndim == 3 else ""
        raise ValueError(f"{name} must have 4 dimensions (B, C, H, W), got {x.ndim} with shape {tuple(x.shape)}{hint}")
    if x.numel() == 0:
        raise ValueError(f"{name} is empty, shape {tuple(x.shape)}")
    if channels is not None and x.shape[1] != channels:
        raise ValueError(f"{name} must have {channels} channel(s), got {x.shape[1]} with shape {tuple(x.shape)}")
    if not values:
        return
    validate_finite(x, name)
    if in_range:
        low, high = x.amin().item(), x.amax().item()
        if low < -1 - RANGE_SLACK or high > 1 + RANGE_SLACK:
            raise ValueError(
                f"{name} must lie in [-1, 1], got values from {low:.3g} to {high:.3g}; "
                "scale bytes with course_lib.data.to_float, and [0, 1] pictures with 2 * x - 1"
            )


def validate_finite(x: Tensor, name: str) -> None:
    """Refuse NaN and infinity."""
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"{name} holds {bad} value(s) that are NaN or infinite; look at the step that made it")


def validate_same(x: Tensor, other: Tensor, name: str, other_name: str) -> None:
    """Refuse two tensors that differ in shape, dtype or device."""
    for each, label in ((x, name), (other, other_name)):
        if not isinstance(each, Tensor):
            raise TypeError(f"{label} must be a torch.Tensor, got {type(each).__name__}")
    if x.shape != other.shape:
        raise ValueError(f"{other_name} must have the shape of {name}, {tuple(x.shape)}, got {tuple(other.shape)}")
    if x.dtype != other.dtype:
        raise TypeError(f"{other_name} must have the dtype of {name}, {x.dtype}, got {other.dtype}")
    if x.device != other.device:
        raise ValueError(f"{other_name} must be on the device of {name}, {x.device}, got {other.device}")


def validate_index(t: int | Tensor, name: str, *, batch: int | None = None, device: torch.device | None = None) -> None:
    """Refuse anything but an int, or one integer per picture on the pictures' device.

    This does not look at the values, so the program need not wait for a GPU; `Schedule.validate_t` does.
    """
    if isinstance(t, bool) or not isinstance(t, int | Tensor):
        raise TypeError(f"{name} must be an int or a tensor of integers, got {type(t).__name__}")
    if isinstance(t, int):
        return
    if t.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} must hold int64 or int32 timesteps, got {t.dtype}; use {name}.long()")
    if t.ndim != 1 or t.shape[0] == 0:
        raise ValueError(f"{name} must be an int or have shape (B,) with B >= 1, got shape {tuple(t.shape)}")
    if batch is not None and t.shape[0] != batch:
        raise ValueError(f"{name} must have one entry per picture, {batch}, got {t.shape[0]}")
    if device is not None and t.device != device:
        raise ValueError(
            f"{name} must be on the device of the pictures, {device}, got {t.device}; use {name}.to(x.device)"
        )


def validate_labels(y: Tensor, name: str, *, batch: int, device: torch.device) -> None:
    """Refuse anything but one integer per picture on the pictures' device; this does not look at their values."""
    if not isinstance(y, Tensor):
        raise TypeError(f"{name} must be a tensor of integers, one per picture, got {type(y).__name__}")
    validate_index(y, name, batch=batch, device=device)
