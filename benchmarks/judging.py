"""Samples from a network, and how far they are from real pictures: the same way for every benchmark."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

from course_lib.data import Pictures, load_fashion_mnist
from course_lib.guide import AutoGuidance
from course_lib.metrics import FEATURES_SHA256, Report, measure
from course_lib.runtime import make_generator
from course_lib.sample import sample
from course_lib.schedule import Schedule, sampling_times, start_time

#: How `AutoGuidance` guides by default; rows of another guidance do not compare.
GUIDANCE = {name: inspect.signature(AutoGuidance).parameters[name].default for name in ("strength", "largest")}
#: Rows that were judged with different feature networks do not compare either.
FEATURES_ID = FEATURES_SHA256[:12]


def load_data(source: str) -> tuple[Pictures, Pictures]:
    """Training and held-out pictures: all of Fashion-MNIST ("full") or the course's subset ("packaged")."""
    return load_fashion_mnist("train", source=source), load_fashion_mnist("test", source=source)


def draw_samples(
    model: nn.Module,
    schedule: Schedule,
    target: str,
    count: int,
    *,
    evaluations: int,
    clipped: bool = False,
    weak: nn.Module | None = None,
    seed: int = 0,
) -> Tensor:
    """Samples by the stochastic DPM-Solver++(2M), guided or not, or by DDPM; every model gets the same noise.

    DPM-Solver++ looks back at the last guess of the picture, which clipping would spoil, and begins at `start_time`.
    DDPM begins at T and clips to [-1, 1], as the other libraries' own samplers do by default.

    Args:
        model, schedule, target: a network in eval mode, and what it was trained with.
        count, seed: number of samples, and seed of all noise.
        evaluations: steps; each asks the model once.
        clipped: sample by DDPM.
        weak: a network that guides the model and is asked as often.

    Returns:
        float32 (count, 1, 28, 28), on the CPU.
    """
    device = next(model.parameters()).device
    generator = make_generator(seed, device)
    return sample(
        model if weak is None else AutoGuidance(model, weak, schedule),
        schedule,
        torch.randn(count, 1, 28, 28, generator=generator, device=device),
        times=sampling_times(schedule.T, evaluations, start=None if clipped else start_time(schedule, target)),
        eta=1.0,
        order=1 if clipped else 2,
        target=target,
        clip=clipped,
        batch_size=250,
        generator=generator,
    ).cpu()


def judge(samples: Pictures | Tensor, train: Pictures, heldout: Pictures) -> Report:
    """All measures of samples against the training pictures, beside those of the same held-out pictures every time."""
    return measure(samples, train, heldout, generator=make_generator(0))
