"""What several test files need."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from course_lib.schedule import Schedule, linear_amount, make_schedule, zero_terminal_snr

Network = TypeVar("Network", bound=nn.Module)


def randomize(module: Network, seed: int = 0) -> Network:
    """Every parameter a random number, also those that start at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.3)
    return module


class Tame(nn.Module):
    """A network without weights: small, smooth, and never the same answer at two timesteps."""

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.tanh(0.7 * x_t.roll(1, 3) + torch.sin(t.to(x_t.dtype) / 50).view(-1, 1, 1, 1))


def every_schedule(T: int) -> dict[str, Schedule]:
    """One schedule of each kind: variance preserving, straight, and with no picture left at T."""
    kinds = {name: make_schedule(name, T) for name in ("linear", "quadratic", "sigmoid", "cosine")}
    kinds["linear amount"] = linear_amount(T)
    kinds["zero terminal SNR"] = zero_terminal_snr(make_schedule("linear", T))
    return kinds


SCHEDULE_NAMES = ("linear", "quadratic", "sigmoid", "cosine", "linear amount", "zero terminal SNR")
