"""What several checks hand to an answer: random inputs, all in float64, and a small network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..schedule import Schedule, from_betas
from .effects import Wrong

#: Shapes (B, C, H, W). The first is square all over: a tensor that meets the wrong axis broadcasts in it.
SHAPES = ((4, 1, 4, 4), (3, 2, 5, 3), (2, 3, 8, 6))


ONE_TIME_EACH = (
    "The network wants one timestep for each picture: int64, shape (B,), as t comes. With one number for all, make it "
    "torch.full((len(x),), t, device=x.device)."
)
SHARE_OF_T = "The network is told t divided by something, such as t/T. It wants t itself, an int from 0 to T."
FLOAT_TIMES = "The network wants its timesteps as ints, from 0 to T; here they are floats. Hand t over as it is."


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
    alpha_bar = alpha_bar.double()
    return Schedule(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def column(v: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, 1), ready to multiply pictures."""
    return v.view(-1, 1, 1, 1)


def at(alpha_bar: Tensor, t: Tensor) -> Tensor:
    """ᾱ_t ready to multiply pictures; of the mistakes that have nothing wrong in this."""
    return column(alpha_bar[t])


class Network(nn.Module):
    """Stands in for a network: four weights, and an answer that depends on every pixel, the time and the neighbors.

    It notes each call, so that a check can see what it was asked.

    Args:
        batch_norm: in train mode the mean of the batch is subtracted, as BatchNorm does.

    Raises:
        Wrong: the timesteps are not int64 of shape (B,).
    """

    def __init__(self, batch_norm: bool = False) -> None:
        super().__init__()
        self.batch_norm = batch_norm
        self.weights = nn.Parameter(torch.tensor([0.5, -0.3, 0.2, 0.1], dtype=torch.float64))
        #: Of each call: its timesteps, and whether its pictures carried gradients of earlier calls.
        self.calls: list[tuple[list[int], bool]] = []

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if not isinstance(t, Tensor) or t.shape != x_t.shape[:1]:
            raise Wrong(ONE_TIME_EACH)
        if t.is_floating_point():
            raise Wrong(SHARE_OF_T if t.max() <= 1 else FLOAT_TIMES)
        w, wave = self.weights, column(t.to(x_t.dtype)).sin()
        eps_hat = w[0] * x_t + w[1] * x_t.roll(1, -1) + w[2] * wave + w[3]
        self.calls.append((t.tolist(), x_t.requires_grad))
        return eps_hat - x_t.mean(0) if self.batch_norm and self.training else eps_hat
