"""What the tests of the benchmarks share: tiny networks, a clock, and rows as the benchmarks write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import trainings
from contestants import CONTESTANTS, Contestant, Shifted
from course_lib.data import Pictures, load_fashion_mnist
from course_lib.objective import denoising_loss
from course_lib.schedule import make_schedule
from course_lib.unet import UNet
from judging import FEATURES_ID, GUIDANCE
from records import Row
from trainings import OwnTraining

CPU = torch.device("cpu")
#: Little data, to train on and to judge with.
PICTURES = Pictures(load_fashion_mnist("train", source="packaged").images[::50].clone())
HELDOUT = Pictures(load_fashion_mnist("test", source="packaged").images[::20].clone())


def without_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the trials of bfloat16, which take seconds and may end either way."""
    monkeypatch.setattr(trainings, "pick_autocast", lambda *_: None)


class Clock:
    """Stands in for the module `time`, and goes on only as it is told."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Tiny(nn.Module):
    """A network of "another library": it counts timesteps from 0 and answers with an object."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Any:
        return type("Answer", (), {"sample": self.conv(x)})()


def own_tiny(model: nn.Module, pictures: Pictures, seed: int) -> OwnTraining:
    from ema_pytorch import EMA

    schedule = make_schedule("linear")
    return OwnTraining(
        model,
        pictures,
        seed,
        schedule=schedule,
        target="eps",
        batch_size=8,
        loss=lambda x0, t, eps: denoising_loss(model, schedule, x0, t, eps).mean(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        grad_clip=1.0,
        average=EMA(model, beta=0.9, update_every=2, update_after_step=0, include_online_model=False),
    )


TINY = {
    **CONTESTANTS,
    "unet": Contestant("UNet of this course", lambda: UNet(channels=(8, 8), attention=())),
    "diffusers": Contestant("diffusers UNet2DModel", lambda: Shifted(Tiny()), own_tiny),
}


@dataclass
class Judged:
    """What `judge` found: everything at one distance."""

    value: float

    def as_dict(self) -> Row:
        distance = dict(value=self.value, low=0.9 * self.value, high=1.1 * self.value, n=20, floor=0.18)
        score = dict(value=0.5, real=0.9)
        return {"frechet": distance, "kernel": distance, "precision": score, "recall": score, "sure": score}


OWN = {"batch size": 128, "optimizer": "Adam", "lr": 1e-3, "ema": None, "target": "eps", "schedule": "linear"}


def row(model: str, recipe: str, minutes: float, *values: float, **changes: Any) -> Row:
    """A row of pictures_per_minute.py; values are the distances unclipped, clipped and guided."""
    ways = zip(("unclipped", "clipped", "guided"), values, strict=False)
    about = {"model": model, "recipe": recipe, "minutes": minutes, "details": OWN if recipe == "own" else {}}
    trained = {"data": "full", "seed": 0, "pictures": 12345, "updates": 67, "pictures_per_second": 89.0}
    judging = {"samples": 1000, "evaluations": 25, "guidance": GUIDANCE, "features": FEATURES_ID}
    where = {"machine": "M", "threads": 2, "versions": {"torch": "2"}, "date": "2025-01-02T00:00:00+00:00"}
    reports = {way: Judged(value).as_dict() for way, value in ways}
    return {**about, **trained, **judging, **where, "reports": reports, **changes}
