"""The parts of explorers: controls, and pictures as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import ipywidgets
import numpy as np
import torch
from torch import Tensor

from .. import viz
from ..validate import validate_number, validate_pictures

#: How many pixels wide a page is, at least.
WIDE = 640


def decimal(label: str, value: float, low: float, high: float, step: float) -> Any:
    """A slider for decimal numbers."""
    return ipywidgets.FloatSlider(
        value, min=low, max=high, step=step, description=label, continuous_update=True, readout_format=".2f",
        style={"description_width": "initial"}, layout={"width": "360px"},
    )  # fmt: skip


def integer(label: str, value: int, low: int, high: int, step: int = 1, width: str = "420px") -> Any:
    """A slider for whole numbers."""
    return ipywidgets.IntSlider(
        value, min=low, max=high, step=step, description=label, continuous_update=True,
        style={"description_width": "initial"}, layout={"width": width},
    )  # fmt: skip


def choice(label: str, options: Iterable[Any], value: Any, width: str = "auto") -> Any:
    """A row of buttons, one of which is pressed."""
    return ipywidgets.ToggleButtons(
        options=list(options), value=value, description=label,
        style={"description_width": "initial", "button_width": "auto"}, layout={"width": width},
    )  # fmt: skip


def scale_for(x: Tensor, columns: int, wide: int = WIDE) -> int:
    """The largest enlargement, up to 4, at which a grid with this many columns stays within `wide` pixels."""
    return max(1, min(4, wide // (columns * (x.shape[3] + 1) + 1)))


def validate_row(x0: Tensor) -> None:
    """Refuse anything but clean pictures that fit in one row."""
    validate_pictures(x0, "x0", in_range=True)
    if len(x0) > 8:
        raise ValueError(f"x0 must hold at most 8 pictures, to fit in a row, got {len(x0)}; use x0[:8]")


def columns_for(x: Tensor, columns: int | None) -> int:
    """Pictures in a row: the wanted number, or up to 8."""
    if columns is None:
        return min(len(x), 8)
    validate_number("columns", columns, 1, integer=True)
    return columns


def noise_for(x: Tensor, seed: int) -> Tensor:
    """Gaussian noise of the shape of x; the same seed gives the same noise on every device."""
    validate_number("seed", seed, 0, integer=True)
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)


def pixels(x: Tensor, columns: int, span: float = 1.0) -> np.ndarray:
    """`viz.grid` as an array."""
    return viz.grid(x, columns, span=span).numpy()
