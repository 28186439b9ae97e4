"""What the tests of the benchmarks share: small networks, little data, and rows as the benchmarks write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import trainings
from contestants import CONTESTANTS, Contestant, Shifted, own_lucidrains
from course_lib.data import Pictures, load_fashion_mnist
from course_lib.unet import UNet
from judging import FEATURES_ID, GUIDANCE
from records import Row

CPU = torch.device("cpu")
#: Little data, to train on and to judge with.
PICTURES = Pictures(load_fashion_mnist("train", source="packaged").images[::50].clone())
HELDOUT = Pictures(load_fashion_mnist("test", source="packaged").images[::20].clone())


def without_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the trials of bfloat16, which take seconds and may end either way."""
    monkeypatch.setattr(trainings, "pick_autocast", lambda *_: None)


class Tiny(nn.Module):
    """One layer in the place of denoising-diffusion-pytorch's network, with what its training asks of it."""

    channels, out_dim, self_condition = 1, 1, False

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, condition: None = None) -> Any:
        return self.conv(x)


TINY = {
    **CONTESTANTS,
    "unet": Contestant("UNet of this course", lambda: UNet(channels=(8, 8), attention=())),
    "lucidrains": Contestant("denoising-diffusion-pytorch", lambda: Shifted(Tiny()), own_lucidrains),
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
