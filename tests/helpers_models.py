"""Networks whose right answer is a formula, for the tests of sampling and guidance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from course_lib.schedule import Schedule

DOUBLE = torch.float64


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=gen(seed), dtype=dtype)


class Oracle(nn.Module):
    """Knows the picture, or the best guess at it from x_t, and says it as a network of this kind would."""

    def __init__(self, schedule: Schedule, x0: Tensor, kind: str = "x0") -> None:
        super().__init__()
        self.schedule, self.x0, self.kind = schedule, x0, kind

    def guess(self, a: float, b: float, x_t: Tensor) -> Tensor:
        return self.x0.expand_as(x_t)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        a, b = self.schedule.signal[t[0]].item(), self.schedule.noise[t[0]].item()
        x0 = self.guess(a, b, x_t)
        eps = (x_t - a * x0) / b
        return {"eps": eps, "x0": x0, "v": a * eps - b * x0, "velocity": eps - x0}[self.kind]


class GaussianDenoiser(Oracle):
    """The best guess if every pixel of the clean pictures comes from N(mean, std²).

    E[x_0 | x_t] = mean + a std² / (a² std² + b²) · (x_t − a mean).
    """

    def __init__(self, schedule: Schedule, mean: float, std: float, kind: str = "x0") -> None:
        super().__init__(schedule, torch.tensor(mean), kind)
        self.mean, self.std = mean, std

    def guess(self, a: float, b: float, x_t: Tensor) -> Tensor:
        return self.mean + a * self.std**2 / (a**2 * self.std**2 + b**2) * (x_t - a * self.mean)


class Recorder(nn.Module):
    """Answers with a tame function of its input and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))
        self.calls: list[tuple[Tensor, Tensor, Tensor | None, bool]] = []

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        self.calls.append((x_t, t, y, self.training))
        return torch.tanh(self.weight * x_t + t.view(-1, 1, 1, 1) / 10)


class Always(nn.Module):
    """Gives the same answer to everything."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.answer
