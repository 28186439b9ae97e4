"""The random part of a training: every picture once a pass, and numbers that follow from seed and update alone."""

from __future__ import annotations

import math

import pytest
import torch

from course_lib.data import Pictures
from course_lib.training.batches import RandomBatches
from helpers_training import SCHEDULE, same, some_pictures


@pytest.mark.parametrize("size", [1, 5, 20])
def test_every_pass_goes_through_all_pictures_in_an_order_of_its_own(size: int) -> None:
    """12 pictures in batches of 5: batches go on from one pass into the next; 20 do so more than once."""
    batches = RandomBatches(some_pictures(), SCHEDULE, size)
    order = torch.cat([batches(step)[0] for step in range(1, 61)])[:60].view(5, 12)
    assert torch.equal(order.sort(1).values, torch.arange(12).expand(5, 12))
    assert len({tuple(row.tolist()) for row in order}) == 5


def test_a_batch_is_the_same_whatever_came_before() -> None:
    forward, backward = (RandomBatches(some_pictures(), SCHEDULE, 7, seed=5) for _ in range(2))
    first = [[*forward(step)] for step in range(1, 9)]
    last = [[*backward(step)] for step in range(8, 0, -1)][::-1]
    assert all(same(a, b) for a, b in zip(first, last, strict=True))
    other = RandomBatches(some_pictures(), SCHEDULE, 7, seed=6)
    assert not any(torch.equal(a, b) for a, b in zip(other(3), first[2], strict=True))


def test_timesteps_are_uniform_on_1_to_T() -> None:
    batches = RandomBatches(some_pictures(), SCHEDULE, 200)
    counts = torch.cat([batches(step)[1] for step in range(1, 51)]).bincount(minlength=11)
    assert counts[0] == 0 and len(counts) == 11
    assert ((counts[1:] - 1000).abs() < 4 * math.sqrt(10_000 * 0.1 * 0.9)).all()  # four standard deviations


def test_noise_of_neighboring_updates_and_seeds_has_nothing_in_common() -> None:
    """Correlations of 4,096 normal numbers stay within five standard errors; with seed + step two would be equal."""
    pictures = Pictures(torch.zeros(16, 1, 16, 16, dtype=torch.uint8))
    noises = [
        RandomBatches(pictures, SCHEDULE, 16, seed)(step)[2].flatten() for seed in range(4) for step in range(1, 9)
    ]
    correlations = torch.corrcoef(torch.stack(noises)) - torch.eye(32)
    assert correlations.abs().max() < 5 / math.sqrt(4096)
    noise = torch.cat(noises)
    assert abs(noise.mean()) < 5 / math.sqrt(len(noise)) and abs(noise.var() - 1) < 5 * math.sqrt(2 / len(noise))


@pytest.mark.cuda
def test_the_gpu_goes_through_the_pictures_in_the_order_of_the_cpu() -> None:
    near, there = (RandomBatches(some_pictures().to(device), SCHEDULE, 7) for device in ("cpu", "cuda"))
    for step in range(1, 6):
        index, t, eps = there(step)
        assert index.is_cuda and t.is_cuda and eps.is_cuda
        assert torch.equal(index.cpu(), near(step)[0])
