"""A gradient that is no number ends the training: at once on a CPU, and elsewhere before anybody waits for it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from course_lib import train as train_module
from course_lib.schedule import make_schedule
from course_lib.train import TrainConfig, train
from course_lib.training.watch import GradientWatch
from course_lib.unet import UNet
from helpers_training import Tiny, some_pictures, updates_of


def broken() -> Tiny:
    model = Tiny()
    nn.init.constant_(model.out.bias, math.nan)  # type: ignore[arg-type]
    return model


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    with pytest.raises(FloatingPointError, match=r"the gradient is nan at update 1 .*lower lr, or train without"):
        updates_of(broken(), TrainConfig(steps=150, batch_size=1))
    with pytest.raises(FloatingPointError, match="the gradient is inf at update 1"):
        GradientWatch(torch.device("cpu"))(1, torch.tensor(math.inf), torch.tensor(1.0))


def test_elsewhere_than_on_a_cpu_the_gradient_of_fifty_updates_ago_is_read() -> None:
    watch, good, bad = GradientWatch(torch.device("mps")), torch.tensor(1.0), torch.tensor(math.nan)
    for step in range(1, 150):
        watch(step, good if step == 50 else bad, good)  # of these only 50 and 100 are fetched
    with pytest.raises(FloatingPointError, match=r"the gradient is nan at update 100 \(loss 1\)"):
        watch(150, bad, bad)
    watch(150, bad, bad)
    with pytest.raises(FloatingPointError, match="the gradient is nan at update 150"):
        watch.close()  # the end of the training
    watch.close()


def test_what_was_not_read_is_when_the_training_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "GradientWatch", lambda _: GradientWatch(torch.device("mps")))
    with pytest.raises(FloatingPointError, match="at update 50"):
        updates_of(broken(), TrainConfig(steps=60, batch_size=1))


@pytest.mark.cuda
def test_a_gradient_that_is_no_number_is_seen_on_the_gpu() -> None:
    model, steps = UNet(8, channels=(16, 32)).cuda(), 0
    pictures = some_pictures(size=8)
    with pytest.raises(FloatingPointError, match=r"the gradient is nan at update (50|100)"):
        for update in train(model, make_schedule("cosine"), pictures, TrainConfig(steps=150, batch_size=8)):
            steps = update.step
            if steps == 10:
                nn.init.constant_(model.stem.weight, math.nan)
    assert steps <= 100
