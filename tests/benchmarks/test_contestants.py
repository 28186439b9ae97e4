"""Everybody trains as published, and a training that was stopped goes on as if nothing had happened."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import contestants
from contestants import CONTESTANTS, Shifted, start_training
from course_lib.objective import denoising_loss
from course_lib.shapes import count_parameters
from course_lib.train import TrainConfig
from course_lib.training.batches import RandomBatches
from course_lib.unet import DoubleConvUNet
from helpers_benchmarks import CPU, PICTURES, TINY, without_trials
from trainings import OurTraining, OwnTraining

PEERS = {"diffusers": "diffusers", "lucidrains": "denoising_diffusion_pytorch", "double-conv": "torch", "unet": "torch"}
same = partial(torch.testing.assert_close, rtol=0, atol=0)
EVERY = [(name, recipe) for name in PEERS for recipe in ("ours", "own") if (name, recipe) != ("unet", "own")]
THEIRS = {"target": "v", "betas": [0.9, 0.99], "grad clip": 1, "ema": 0.995}


@pytest.mark.parametrize(("name", "recipe"), EVERY)
def test_one_update_of_everybody(name: str, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(PEERS[name])
    without_trials(monkeypatch)
    monkeypatch.setattr(contestants, "OurTraining", partial(OurTraining, batch_size=2))  # big ones take long
    contestant = CONTESTANTS[name]
    if (name, recipe) == ("double-conv", "ours"):
        narrow = partial(DoubleConvUNet, 1, 1, (8, 8, 8, 8), 8, time_plane=1000, resize_to_skip=True)
        contestant = replace(contestant, build=narrow)
    training = start_training(contestant, recipe, 3.0, PICTURES, 0, CPU)
    if isinstance(training, OwnTraining):
        training.batches = RandomBatches(PICTURES, training.schedule, 2)
    before = [parameter.detach().clone() for parameter in training.model.parameters()]
    training.run(1e-9)
    assert training.step == 1 and training.seconds > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, training.model.parameters(), strict=True))
    judged = training.to_sample_from()
    assert not judged.training
    with torch.no_grad():
        assert judged(PICTURES[:2], torch.tensor([1, 1000]), None).shape == (2, 1, 28, 28)


@pytest.mark.parametrize(
    ("name", "optimizer", "lr", "batch", "schedule", "others"),
    [
        ("diffusers", "Adam", 1e-3, 128, "squaredcos_cap_v2", {}),
        (
            "lucidrains",
            "Adam",
            1e-4,
            16,
            "sigmoid",
            {"target": "v", "betas": [0.9, 0.99], "grad clip": 1, "ema": 0.995},
        ),
        ("double-conv", "AdamW", 3e-4, 16, "linear", {"weight_decay": 0.01}),
    ],
)
def test_own_recipes_are_the_published_ones(
    name: str, optimizer: str, lr: float, batch: int, schedule: str, others: dict[str, Any]
) -> None:
    pytest.importorskip(PEERS[name])
    training = start_training(CONTESTANTS[name], "own", 3.0, PICTURES, 0, CPU)
    usual = {"target": "eps", "betas": [0.9, 0.999], "weight_decay": 0, "grad clip": None, "ema": None, "seed": 0}
    named = {"optimizer": optimizer, "lr": lr, "batch size": batch, "schedule": schedule}
    assert isinstance(training, OwnTraining) and training.details == {**usual, **named, **others}
    assert sum(p.numel() for p in training.optimizer.param_groups[0]["params"]) == count_parameters(training.model)
    assert training.batches.size == batch and training.grad_clip == training.details["grad clip"]
    assert training.average is None or training.average.update_every == 10

    # the loss is ours with its schedule and target, and the other libraries' networks are asked about t − 1
    x0, t = PICTURES[:3], torch.tensor([1, 400, 1000])
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    net = training.model.net if isinstance(training.model, Shifted) else training.model
    seen: list[tuple[Tensor, Tensor]] = []
    hook = net.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[:2]))
    with torch.no_grad():
        found = training.loss(x0, t, eps)
        hook.remove()
        each = denoising_loss(training.model, training.schedule, x0, t, eps, target=training.target)
    a, b = training.schedule.at(t, x0)
    torch.testing.assert_close(seen[0][0], a * x0 + b * eps, rtol=0, atol=2e-4)
    assert torch.equal(seen[0][1], t if name == "double-conv" else t - 1)
    weight = training.schedule.alpha_bar[t].float() if name == "lucidrains" else torch.ones(3)
    torch.testing.assert_close(found, (weight * each).mean(), rtol=1e-3, atol=1e-5)


def test_the_defaults_of_lucidrains_are_what_we_say() -> None:
    package = pytest.importorskip("denoising_diffusion_pytorch")

    def defaults(of: type, *names: str) -> tuple[Any, ...]:
        return tuple(inspect.signature(of).parameters[name].default for name in names)

    trainer = "train_batch_size", "train_lr", "adam_betas", "ema_decay", "ema_update_every", "max_grad_norm", "amp"
    assert defaults(package.Trainer, *trainer) == (16, 1e-4, (0.9, 0.99), 0.995, 10, 1.0, False)
    diffusion = "objective", "beta_schedule", "timesteps"
    assert defaults(package.GaussianDiffusion, *diffusion) == ("pred_v", "sigmoid", 1000)


def test_an_own_training_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    pytest.importorskip("denoising_diffusion_pytorch")
    whole, part, rest = (start_training(TINY["lucidrains"], "own", 3.0, PICTURES, 0, CPU) for _ in range(3))
    for training in (*[whole] * 5, *[part] * 2):
        training.run(1e-9)
    part.save(tmp_path / "a.pt")
    assert rest.load(tmp_path / "a.pt")
    assert (rest.step, rest.seconds) == (2, part.seconds)
    for _ in range(3):
        rest.run(1e-9)
    assert rest.step == whole.step == 5
    same(rest.state(), whole.state())


def test_our_training_has_the_defaults_and_is_restored_in_full(tmp_path: Path) -> None:
    part, rest, other = (start_training(TINY["unet"], "ours", each, PICTURES, 0, CPU) for each in (3.0, 3.0, 10.0))
    assert isinstance(part, OurTraining) and part.config == TrainConfig(minutes=3.0)
    for _ in range(2):
        part.run(1e-9)
    part.autocast = torch.bfloat16  # a trial decides, and the next may end the other way
    part.save(tmp_path / "a.pt")
    assert rest.load(tmp_path / "a.pt") and rest.autocast == torch.bfloat16
    same(rest.state(), part.state())
    rest.run(1e-9)
    assert rest.step == 3 and rest.seconds > part.seconds
    assert isinstance(rest, OurTraining) and rest.ema.updates == 3
    assert not other.load(tmp_path / "a.pt")  # it is of another budget
    assert not other.load(tmp_path / "b.pt")  # there is none
