"""What the tests of training share: a tiny network, a few pictures, and threads for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.data import Pictures
from course_lib.schedule import make_schedule
from course_lib.train import TrainConfig, Update, train

SCHEDULE = make_schedule("linear", 10)


def some_pictures(n: int = 12, *, labels: bool = False, size: int = 4) -> Pictures:
    """Picture i is noise of its own around the shade 20 · i; its label is i % 3."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 30, (n, 1, 4, 4), generator=generator) + 20 * torch.arange(n).view(n, 1, 1, 1)
    images = images.to(torch.uint8).repeat(1, 1, size // 4, size // 4)
    return Pictures(images, torch.arange(n) % 3 if labels else None)


class Tiny(nn.Module):
    """A network that trains in no time, and keeps what it was asked."""

    def __init__(self, num_classes: int | None = None) -> None:
        super().__init__()
        self.config = dict(in_channels=1, num_classes=num_classes)
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.mix = nn.Conv2d(16, 16, 1)  # the one matrix
        self.out = nn.Conv2d(16, 1, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
        self.asked: list[tuple[Tensor, Tensor, Tensor | None, bool]] = []

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        self.asked.append((x_t.detach(), t, y, self.training))
        return self.out(torch.tanh(self.mix(torch.tanh(self.conv(x_t) + t.view(-1, 1, 1, 1) / 10))))


def updates_of(model: nn.Module, config: TrainConfig, **options: Any) -> list[Update]:
    """A whole training on the few pictures, labelled if the network asks for classes."""
    labels = getattr(model, "config", {}).get("num_classes") is not None
    return list(train(model, SCHEDULE, some_pictures(labels=labels), config, **options))


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for PyTorch, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Clock:
    """Goes on by one second each time it is read."""

    now = 0.0

    def perf_counter(self) -> float:
        self.now += 1
        return self.now
