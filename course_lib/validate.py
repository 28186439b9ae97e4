"""What the public functions ask of their arguments, said once.

Every message names the argument, says what was expected and what came, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

#: Pictures may leave [-1, 1] by this much: resizing rounds.
RANGE_SLACK = 1e-3


def validate_choice(name: str, value: object, known: Iterable[object]) -> None:
    """Refuse a name that is not in the list, and print the list.

    Raises:
        ValueError: `value` is none of `known`.
    """
    known = list(known)
    if value not in known:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, known))}")


def validate_pictures(
    x: Tensor, name: str = "x", *, in_range: bool = False, channels: int | None = None, values: bool = True
) -> None:
    """Refuse what is not a batch of finite float pictures, (B, C, H, W).

    Args:
        x: the tensor to look at.
        name: what to call it in the message.
        in_range: also ask that every value lies in [-1, 1].
        channels: also ask for this many channels.
        values: False looks at dtype and shape alone, since looking at values makes the host wait for a GPU.

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
    """Refuse NaN and infinity.

    Raises:
        ValueError: some value of `x` is not finite.
    """
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"{name} holds {bad} value(s) that are NaN or infinite; look at the step that made it")


def validate_same(x: Tensor, other: Tensor, name: str, other_name: str) -> None:
    """Refuse two tensors that differ in shape, dtype or device.

    Raises:
        TypeError: `other` is not a tensor, or of another dtype.
        ValueError: another shape or another device.
    """
    if not isinstance(other, Tensor):
        raise TypeError(f"{other_name} must be a torch.Tensor, got {type(other).__name__}")
    if x.shape != other.shape:
        raise ValueError(f"{other_name} must have the shape of {name}, {tuple(x.shape)}, got {tuple(other.shape)}")
    if x.dtype != other.dtype:
        raise TypeError(f"{other_name} must have the dtype of {name}, {x.dtype}, got {other.dtype}")
    if x.device != other.device:
        raise ValueError(f"{other_name} must be on the device of {name}, {x.device}, got {other.device}")


def validate_index(t: int | Tensor, name: str, *, batch: int | None = None, device: torch.device | None = None) -> None:
    """Refuse a timestep that is neither an int nor one integer per picture on the pictures' device.

    The range is not looked at: that would make the host wait for a GPU. See `Schedule.validate_t`.

    Raises:
        TypeError: not an int, not a tensor of integers.
        ValueError: wrong number of dimensions, wrong length, another device.
    """
    if isinstance(t, bool) or not isinstance(t, int | Tensor):
        raise TypeError(f"{name} must be an int or a tensor of integers, got {type(t).__name__}")
    if isinstance(t, int):
        return
    if t.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} must hold int64 or int32 timesteps, got {t.dtype}; use {name}.long()")
    if t.ndim != 1 or len(t) == 0:
        raise ValueError(f"{name} must be an int or have shape (B,) with B >= 1, got shape {tuple(t.shape)}")
    if batch is not None and len(t) != batch:
        raise ValueError(f"{name} must have one entry per picture, {batch}, got {len(t)}")
    if device is not None and t.device != device:
        raise ValueError(
            f"{name} must be on the device of the pictures, {device}, got {t.device}; use {name}.to(x.device)"
        )


def validate_labels(y: Tensor, name: str, *, batch: int, device: torch.device) -> None:
    """Refuse what is not one class per picture on the pictures' device; as in `validate_index`, not looking at values.

    Raises:
        TypeError: not a tensor of integers.
        ValueError: wrong number of dimensions, wrong length, another device.
    """
    if not isinstance(y, Tensor):
        raise TypeError(f"{name} must be a tensor of integers, one per picture, got {type(y).__name__}")
    validate_index(y, name, batch=batch, device=device)


def validate_number(
    name: str, value: float, low: float = float("-inf"), high: float = float("inf"), *, integer: bool = False
) -> None:
    """Refuse what is not a number from `low` to `high`.

    Raises:
        TypeError: not a number, or not an int where one is needed.
        ValueError: out of range, or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, int if integer else int | float):
        raise TypeError(f"{name} must be {'an int' if integer else 'a number'}, got {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {value!r}")
