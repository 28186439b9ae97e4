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

#: Steps of each sample; guided, a step takes two evaluations.
EVALUATIONS = 25
#: How `AutoGuidance` guides by default; rows that were guided otherwise do not compare.
GUIDANCE = {name: inspect.signature(AutoGuidance).parameters[name].default for name in ("strength", "largest")}
#: Rows whose distances come from another feature network do not compare either.
FEATURES_ID = FEATURES_SHA256[:12]


def load_data(source: str) -> tuple[Pictures, Pictures]:
    """Training and held-out pictures: all of Fashion-MNIST ("full") or the course's subset ("packaged")."""
    return load_fashion_mnist("train", source=source), load_fashion_mnist("test", source=source)


def make_samples(
    model: nn.Module, schedule: Schedule, target: str, count: int, clipped: bool = False, weak: nn.Module | None = None
) -> Tensor:
    """Samples (count, 1, 28, 28) on the CPU, by the stochastic DPM-Solver++(2M) or, `clipped`, by DDPM.

    DPM-Solver++ begins at `start_time` and looks back at its last guess of the picture, so clipping would spoil it.
    DDPM begins at T and clips to [-1, 1], as the other libraries' own samplers do by default. Every model gets the same
    noise. Each of the steps evaluates the model once and, if there is one, the weak network that guides it.
    """
    device = next(model.parameters()).device
    generator = make_generator(0, device)
    return sample(
        model if weak is None else AutoGuidance(model, weak, schedule),
        schedule,
        torch.randn(count, 1, 28, 28, generator=generator, device=device),
        times=sampling_times(schedule.T, EVALUATIONS, start=None if clipped else start_time(schedule, target)),
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
