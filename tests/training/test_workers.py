"""Threads that share a batch go when the training goes; test_train and test_engine compare what is learned."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from course_lib.optim import Muon
from course_lib.train import TrainConfig, train
from course_lib.training.workers import Workers
from course_lib.unet import UNet
from helpers_training import SCHEDULE, Tiny, some_pictures, threads


@pytest.fixture
def three_threads() -> Iterator[None]:
    with threads(3):
        yield


def test_a_layer_that_looks_across_the_batch_or_at_dice_is_not_shared_out(three_threads: None) -> None:
    conv = nn.Conv2d(1, 1, 1)
    assert Workers.suit(nn.Sequential(conv))
    for layer in (nn.BatchNorm2d(1), nn.BatchNorm2d(1, track_running_stats=False), nn.Dropout2d(0.1)):
        assert not Workers.suit(nn.Sequential(conv, layer))


@pytest.mark.parametrize("leave_after", [1, None])
def test_threads_and_model_go_with_the_training(three_threads: None, leave_after: int | None) -> None:
    """Whether it is left early or goes to its end."""
    before, model = set(threading.enumerate()), Tiny()
    gone = weakref.ref(model)
    for update in train(model, SCHEDULE, some_pictures(), TrainConfig(steps=2, batch_size=6)):
        assert set(threading.enumerate()) - before
        assert torch.get_num_threads() == 3  # at each yield the learner finds what there was
        if update.step == leave_after:
            break
    del model, update
    gc.collect()
    assert gone() is None
    deadline = time.monotonic() + 60
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("place", [(UNet, "forward"), (Muon, "step")], ids=["network", "optimizer"])
def test_what_goes_wrong_in_a_thread_comes_out(
    place: tuple[type, str], three_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(*place, fail)
    model = UNet(4, channels=(16, 16), patch=1)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        next(train(model, SCHEDULE, some_pictures(), TrainConfig(steps=2, batch_size=6)))
    assert torch.get_num_threads() == 3


def test_gradients_are_laid_out_as_their_weights(three_threads: None) -> None:
    """A fused optimizer reads both as they lie in memory."""
    torch.manual_seed(0)
    model = UNet(8, channels=(8, 16)).to(memory_format=torch.channels_last)
    workers, x0, t = Workers(model), some_pictures(size=8)[:6], torch.arange(1, 7)

    def loss_of(x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return model(x0, t).flatten(1).square().mean(1) + sum(p.sum() for p in model.parameters()), torch.ones(len(t))

    with workers:
        workers.backward(loss_of, [x0, t], 1.0)
    assert all(p.grad is not None and p.grad.stride() == p.stride() for p in model.parameters())
    assert not all(p.is_contiguous() for p in model.parameters())
