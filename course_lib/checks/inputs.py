"""Random inputs that several checks share, all in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from ..schedule import Schedule, from_betas

#: Shapes (B, C, H, W). The first is square all over: a tensor that meets the wrong axis broadcasts in it.
SHAPES = ((4, 1, 4, 4), (3, 2, 5, 3), (2, 3, 8, 6))


def pictures(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform in [-1, 1]."""
    return torch.rand(shape, dtype=torch.float64, generator=generator) * 2 - 1


def noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """From N(0, 1)."""
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def random_alpha_bar(generator: torch.Generator, T: int = 20) -> Tensor:
    """ᾱ_0 = 1 to ᾱ_T, (T+1,), of betas between 0.02 and 0.22."""
    betas = 0.02 + 0.2 * torch.rand(T, dtype=torch.float64, generator=generator)
    return from_betas(betas).alpha_bar


def times(count: int, generator: torch.Generator, T: int = 20) -> Tensor:
    """Timesteps from 2 to T, (count,)."""
    return torch.randint(2, T + 1, (count,), generator=generator)


def schedule_of(alpha_bar: Tensor) -> Schedule:
    """The schedule with a = √ᾱ and b = √(1 − ᾱ)."""
    return Schedule(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def column(v: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, 1), ready to multiply pictures."""
    return v.view(-1, 1, 1, 1)


def at(alpha_bar: Tensor, t: Tensor) -> Tensor:
    """ᾱ_t ready to multiply pictures; of the mistakes that have nothing wrong in this."""
    return column(alpha_bar[t])
