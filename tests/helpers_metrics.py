"""Features and pictures to measure."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.data import Pictures, load_fashion_mnist


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=gen(seed), dtype=torch.float64)


def two_sets(n: int = 150, m: int = 150, d: int = 6) -> tuple[Tensor, Tensor]:
    """Random features whose means, spreads and correlations differ, (n, d) and (m, d)."""
    return randn(n, d) @ randn(d, d, seed=1) + randn(d, seed=2), randn(m, d, seed=3) @ randn(d, d, seed=4)


@cache
def train_pictures() -> Pictures:
    """2,000 of the packaged training pictures, so that the tests stay quick."""
    pictures = load_fashion_mnist("train", source="packaged")
    return Pictures(pictures.images[torch.randperm(len(pictures), generator=gen())[:2000]])


@cache
def held_out_pictures() -> Pictures:
    return load_fashion_mnist("test", source="packaged")


def blur(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), value=-1), 3, 1)
