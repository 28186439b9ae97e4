"""A training goes on from its state as if it had never been interrupted, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from course_lib.optim import is_matrix
from course_lib.schedule import make_schedule
from course_lib.train import EMA, TrainConfig, TrainState, train
from course_lib.unet import UNet
from helpers_training import SCHEDULE, Tiny, same, some_pictures, threads, updates_of, weights


def fresh() -> tuple[UNet, EMA[UNet]]:
    torch.manual_seed(0)
    model = UNet(8, channels=(8, 16)).to(memory_format=torch.channels_last)
    return model, EMA(model)


@pytest.mark.parametrize("count", [1, 2])
def test_a_training_goes_on_as_if_never_interrupted(count: int) -> None:
    """Stopped after 4 of 8 updates: weights, average, losses and learning rates are the same, bit for bit.

    The layout in memory stays too: a fused optimizer that met moments laid out otherwise would mix them up. Two
    threads share the batches, and the matrices of Muon.
    """
    config, pictures = TrainConfig(steps=8, batch_size=5, warmup=3), some_pictures(size=8)
    (whole, average), (model, ema), (again, renewed) = fresh(), fresh(), fresh()
    with threads(count):
        expected = list(train(whole, SCHEDULE, pictures, config, ema=average))
        for update in train(model, SCHEDULE, pictures, config, ema=ema):
            if update.step == 4:
                break
        state = update.state()
        state = replace(state, moments={key: value.contiguous().clone() for key, value in state.moments.items()})
        assert state.step == 4 and state.seconds == update.seconds
        kinds = {key.rpartition(".")[2] for key in state.moments}
        matrices = sum(is_matrix(parameter) for parameter in model.parameters())
        assert kinds == {"exp_avg", "exp_avg_sq", "step", "momentum_buffer"} and matrices > 0
        assert len(state.moments) == matrices + 3 * (len(weights(model)) - matrices)
        again.load_state_dict(model.state_dict())
        renewed.model.load_state_dict(ema.model.state_dict())
        renewed.updates = ema.updates
        rest = list(train(again, SCHEDULE, pictures, config, ema=renewed, start=state))
    assert [update.step for update in rest] == list(range(5, 9)) and rest[-1].seconds > state.seconds
    assert same([u.loss for u in rest], [u.loss for u in expected[4:]])
    assert [u.lr for u in rest] == [u.lr for u in expected[4:]]
    assert same(weights(again), weights(whole)) and same(weights(renewed.model), weights(average.model))


def test_a_training_that_is_over_makes_no_update() -> None:
    config = TrainConfig(steps=5, minutes=2)
    assert updates_of(Tiny(), config, start=TrainState(5)) == []
    assert updates_of(Tiny(), config, start=TrainState(3, 120.0)) == []


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", ["frozen", "unused"])
def test_frozen_and_unused_weights_stay_as_they_are(kind: str, count: int) -> None:
    model: Any = Tiny()
    if kind == "frozen":
        model.conv.requires_grad_(False)
    else:
        model.spare = nn.Linear(16, 16)
    still = model.conv if kind == "frozen" else model.spare
    was = weights(still)
    with threads(count):
        *_, update = updates_of(model, TrainConfig(steps=2, batch_size=6))
        assert len(updates_of(model, TrainConfig(steps=3, batch_size=6), start=update.state())) == 1
    assert same(was, weights(still))


def test_a_state_of_another_model_is_refused() -> None:
    (update,) = updates_of(Tiny(), TrainConfig(steps=1))
    state, config = update.state(), TrainConfig(steps=2)
    with pytest.raises(ValueError, match=r"start.moments\['conv.weight.step'\] .* belongs to no parameter"):
        updates_of(UNet(8, channels=(8,), attention=()), config, start=state)
    few = {key: value for key, value in state.moments.items() if key.startswith("conv")}
    with pytest.raises(ValueError, match=r"has nothing for 4 parameters of this model, such as mix.weight"):
        updates_of(Tiny(), config, start=replace(state, moments=few))
    turned = {key: value.repeat(2, *[1] * (value.ndim - 1)) if value.ndim else value for key, value in few.items()}
    with pytest.raises(ValueError, match="belongs to no parameter of this model"):
        updates_of(Tiny(), config, start=replace(state, moments=turned))
    for bad in (dict(step=-1), dict(seconds=-1.0), dict(step=1.5)):
        with pytest.raises((TypeError, ValueError), match=f"{next(iter(bad))} must"):
            TrainState(**bad)


@pytest.mark.cuda
def test_a_training_goes_on_on_the_gpu() -> None:
    """The state leaves the GPU and comes back: counters too must be where the fused optimizer wants them."""
    config, schedule = TrainConfig(steps=20, batch_size=8, warmup=3), make_schedule("cosine")
    pictures = some_pictures(size=8)
    whole, model, again = (fresh()[0].cuda() for _ in range(3))
    expected = [update.loss for update in train(whole, schedule, pictures, config)]
    for update in train(model, schedule, pictures, config):
        if update.step == 7:
            break
    state = update.state()
    moments = {key: value.cpu().contiguous().clone() for key, value in state.moments.items()}
    again.load_state_dict({key: value.cpu() for key, value in model.state_dict().items()})
    start = TrainState(state.step, state.seconds, moments)
    rest = [update.loss for update in train(again, schedule, pictures, config, start=start)]
    torch.testing.assert_close(torch.stack(rest), torch.stack(expected[7:]), rtol=1e-3, atol=1e-4)
