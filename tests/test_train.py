"""Training: update by update against a loop written out here, the learning rate, the average, and what is learned."""

from __future__ import annotations

import copy
import gc
import math
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from course_lib import train as train_module
from course_lib.data import Pictures, load_fashion_mnist, to_float
from course_lib.objective import denoising_loss
from course_lib.optim import Muon, is_matrix, orthogonalize
from course_lib.schedule import Schedule, from_betas, make_schedule, zero_terminal_snr
from course_lib.train import EMA, RandomBatches, TrainConfig, TrainState, Update, train
from course_lib.training import clock as clock_module
from course_lib.training.watch import GradientWatch
from course_lib.training.workers import Workers
from course_lib.unet import UNet

SCHEDULE = make_schedule("linear", 10)


def some_pictures(n: int = 12, *, labels: bool = False) -> Pictures:
    """Picture i is noise of its own around the shade 20 · i; its label is i % 3."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 30, (n, 1, 4, 4), generator=generator) + 20 * torch.arange(n).view(n, 1, 1, 1)
    return Pictures(images.to(torch.uint8), torch.arange(n) % 3 if labels else None)


class Tiny(nn.Module):
    """A network that can be trained in no time, and keeps what it was asked."""

    def __init__(self, num_classes: int | None = None) -> None:
        super().__init__()
        self.config = dict(in_channels=1, num_classes=num_classes)
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.mix = nn.Conv2d(16, 16, 1)  # the one matrix
        self.out = nn.Conv2d(16, 1, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
        self.asked: list[tuple[Tensor, Tensor, Tensor | None, bool]] = []

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        self.asked.append((x_t.detach(), t, y, self.training))
        return self.out(torch.tanh(self.mix(torch.tanh(self.conv(x_t) + t.view(-1, 1, 1, 1) / 10))))


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# What an update is


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("target", "gamma", "longest"), [("eps", None, 6.0), ("eps", 20.0, 2.0), ("v", 0.5, 0.06)])
def test_training_is_the_loop_that_the_docstring_promises(
    target: str, gamma: float | None, longest: float, threads: int
) -> None:
    """Twelve updates by hand: batch, t, eps, mean square error, weights, clipped gradient, Muon for the matrix and
    Adam with its bias correction for the rest.

    The gradient is clipped to a length that some updates exceed and others do not. The loss that is told has no
    weights.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _is_the_loop_that_the_docstring_promises(target, gamma, longest)
    finally:
        torch.set_num_threads(before)


def _is_the_loop_that_the_docstring_promises(target: str, gamma: float | None, longest: float) -> None:
    config = TrainConfig(
        steps=12, batch_size=5, lr=0.02, warmup=4, grad_clip=longest, seed=3, target=target, snr_gamma=gamma
    )
    pictures, model = some_pictures(), Tiny()
    updates = list(train(model, SCHEDULE, pictures, config))

    ours = Tiny()
    parameters = list(ours.parameters())
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    draws = RandomBatches(pictures, SCHEDULE, config.batch_size, config.seed)
    clipped = 0
    for step, update in enumerate(updates, start=1):
        index, t, eps = draws(step)
        x0 = to_float(pictures.images[index])
        a, b = (table[t].float().view(-1, 1, 1, 1) for table in (SCHEDULE.signal, SCHEDULE.noise))
        truth = eps if target == "eps" else a * eps - b * x0
        error = (ours(a * x0 + b * eps, t) - truth).square()
        snr = (a / b).square()
        weight = torch.ones_like(snr) if gamma is None else snr.clamp(max=gamma) / (snr if target == "eps" else snr + 1)
        loss = error.mean()
        gradients = torch.autograd.grad((weight * error).mean(), parameters)
        length = math.sqrt(sum(g.square().sum().item() for g in gradients))
        shrink = min(1.0, longest / length)
        clipped += shrink < 1
        lr = 0.02 * min(1, step / 4) * (0.01 + 0.99 * (1 + math.cos(math.pi * (step - 1) / 12)) / 2)
        with torch.no_grad():
            for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                if p is ours.mix.weight:
                    m.mul_(0.95).add_(0.05 * shrink * g)
                    direction = (0.05 * shrink * g + 0.95 * m).view(1, 16, 16)
                    p.sub_(lr * 0.2 * 16**0.5 * orthogonalize(direction).view(p.shape))
                    continue
                m.mul_(0.9).add_(0.1 * shrink * g)
                v.mul_(0.99).add_(0.01 * (shrink * g) ** 2)
                p.sub_(lr * (m / (1 - 0.9**step)) / ((v / (1 - 0.99**step)).sqrt() + 1e-8))
        assert update.step == step
        assert update.loss.item() == pytest.approx(loss.item(), rel=1e-4)
        assert update.grad_norm.item() == pytest.approx(length, rel=1e-3)
        assert update.lr == pytest.approx(lr)
        assert update.progress == pytest.approx(step / 12)
    assert 0 < clipped < 12
    for mine, theirs in zip(weights(ours), weights(model), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_an_update_is_yielded_after_it_was_made() -> None:
    model, pictures = Tiny(), some_pictures()
    last = weights(model)
    updates = train(model, SCHEDULE, pictures, TrainConfig(steps=4, batch_size=4))
    assert same(last, weights(model)) and not model.asked  # nothing happens before the first is asked for
    for number, update in enumerate(updates, start=1):
        assert update.step == number == len(model.asked)
        assert not any(torch.equal(x, y) for x, y in zip(last, weights(model), strict=True))
        assert all(parameter.grad is None for parameter in model.parameters())
        last = weights(model)
    assert number == 4 and same(last, weights(model))


def test_the_loop_can_be_left_and_looked_into_without_changing_it() -> None:
    """Whoever draws from the global generator or runs the model in between trains to the same weights."""
    quiet, curious = Tiny(), Tiny()
    config = TrainConfig(steps=6, batch_size=4)
    list(train(quiet, SCHEDULE, some_pictures(), config))
    for _ in train(curious, SCHEDULE, some_pictures(), config):
        curious.eval()
        curious(torch.randn(2, 1, 4, 4), torch.tensor([1, 2]))
    assert same(weights(quiet), weights(curious))
    for update in train(curious, SCHEDULE, some_pictures(), config):
        if update.step == 2:
            break
    assert update.progress == pytest.approx(1 / 3)


def test_same_seed_same_weights_bit_for_bit() -> None:
    def trained(seed: int) -> list[Tensor]:
        torch.manual_seed(7)
        model = UNet(8, channels=(8, 8), patch=1, num_classes=3)
        pictures = Pictures(some_pictures().images.repeat(1, 1, 2, 2), torch.arange(12) % 3)
        torch.manual_seed(torch.seed())  # the state of the global generator has no say
        list(train(model, SCHEDULE, pictures, TrainConfig(steps=5, batch_size=4, warmup=0, seed=seed)))
        return weights(model)

    first, second, other = trained(1), trained(1), trained(2)
    assert same(first, second) and not same(first, other)


def test_the_global_generator_is_left_alone() -> None:
    model, state = Tiny(), torch.get_rng_state()
    list(train(model, SCHEDULE, some_pictures(), TrainConfig(steps=2)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("mode", [True, False])
def test_the_model_trains_in_train_mode_and_is_handed_over_as_it_was(mode: bool) -> None:
    model = Tiny().train(mode)
    for _ in train(model, SCHEDULE, some_pictures(), TrainConfig(steps=3)):
        assert model.training is mode and model.conv.training is mode
    assert all(training for *_, training in model.asked)


def test_a_layer_that_was_frozen_stays_so() -> None:
    """In a model in train mode; one in eval mode trains as a whole, and gets back what was."""
    for mode in (True, False):
        model = Tiny().train(mode)
        model.conv.train(not mode)
        seen: list[bool] = []
        model.conv.register_forward_hook(lambda layer, *_, seen=seen: seen.append(layer.training))
        for _ in train(model, SCHEDULE, some_pictures(), TrainConfig(steps=2)):
            assert model.training is mode and model.conv.training is not mode
        assert seen and set(seen) == {not mode}


def test_timesteps_are_uniform_on_1_to_T() -> None:
    model = Tiny()
    list(train(model, SCHEDULE, some_pictures(), TrainConfig(steps=50, batch_size=200)))
    counts = torch.cat([t for _, t, _, _ in model.asked]).bincount(minlength=11)
    assert counts[0] == 0 and len(counts) == 11
    assert ((counts[1:] - 1000).abs() < 4 * math.sqrt(10_000 * 0.1 * 0.9)).all()  # four standard deviations


def test_pictures_enter_in_their_range_and_every_one_of_them() -> None:
    """With next to no noise the network sees the pictures themselves."""
    model, pictures = Tiny(), some_pictures()
    faint = from_betas(torch.tensor([1e-14], dtype=torch.float64))
    list(train(model, faint, pictures, TrainConfig(steps=3, batch_size=4)))
    seen = torch.cat([x for x, *_ in model.asked])
    shades = to_float(pictures.images).flatten(1)
    nearest = torch.cdist(seen.flatten(1), shades)
    assert nearest.amin(1).max() < 1e-4
    assert sorted(nearest.argmin(1).tolist()) == list(range(12))


def test_labels_go_with_their_pictures_where_the_model_has_classes() -> None:
    faint = from_betas(torch.tensor([1e-14], dtype=torch.float64))
    model = Tiny(num_classes=3)
    list(train(model, faint, some_pictures(labels=True), TrainConfig(steps=6, batch_size=4)))
    for x_t, _, y, _ in model.asked:
        number = ((x_t.mean((1, 2, 3)) + 1) * 127.5 / 20).floor().long()
        assert y is not None and torch.equal(y, number % 3)
    without = Tiny()
    list(train(without, faint, some_pictures(labels=True), TrainConfig(steps=1)))
    assert without.asked[0][2] is None


# What is random


def test_every_pass_goes_through_all_pictures_in_an_order_of_its_own() -> None:
    """12 pictures in batches of 5: batches go on from one pass into the next; 20 do so more than once."""
    for size in (1, 5, 20):
        draws = RandomBatches(some_pictures(), SCHEDULE, size)
        order = torch.cat([draws(step)[0] for step in range(1, 61)])[:60].view(5, 12)
        assert torch.equal(order.sort(1).values, torch.arange(12).expand(5, 12))
        assert len({tuple(row.tolist()) for row in order}) == 5


def test_an_update_draws_the_same_whatever_was_drawn_before() -> None:
    def drawn(draws: RandomBatches, step: int) -> list[Tensor]:
        return list(draws(step))

    config = TrainConfig(steps=1, batch_size=7, seed=5)
    forward, backward = (RandomBatches(some_pictures(), SCHEDULE, config.batch_size, config.seed) for _ in range(2))
    first = [drawn(forward, step) for step in range(1, 9)]
    last = [drawn(backward, step) for step in range(8, 0, -1)][::-1]
    assert all(same(a, b) for a, b in zip(first, last, strict=True))
    other = RandomBatches(some_pictures(), SCHEDULE, config.batch_size, 6)
    assert not any(torch.equal(a, b) for a, b in zip(other(3), first[2], strict=True))


def test_draws_of_neighboring_updates_and_seeds_have_nothing_in_common() -> None:
    """Correlations of 4,096 normal numbers stay within five standard errors; with seed + step two would be equal."""
    pictures = Pictures(torch.zeros(16, 1, 16, 16, dtype=torch.uint8))
    noises = [
        RandomBatches(pictures, SCHEDULE, 16, seed)(step)[2].flatten() for seed in range(4) for step in range(1, 9)
    ]
    correlations = torch.corrcoef(torch.stack(noises)) - torch.eye(32)
    assert correlations.abs().max() < 5 / math.sqrt(4096)
    noise = torch.cat(noises)
    assert abs(noise.mean()) < 5 / math.sqrt(len(noise)) and abs(noise.var() - 1) < 5 * math.sqrt(2 / len(noise))


# Going on


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_goes_on_as_if_never_interrupted(threads: int) -> None:
    """Stopped after 7 of 20 updates: weights, average, losses and learning rates are the same, bit for bit.

    The layout in memory stays too: a fused optimizer that met moments laid out otherwise would mix them up. Two
    threads share the batches, and the matrices of Muon.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _goes_on_as_if_never_interrupted()
    finally:
        torch.set_num_threads(before)


def _goes_on_as_if_never_interrupted() -> None:
    config, pictures = (
        TrainConfig(steps=20, batch_size=5, warmup=3),
        Pictures(some_pictures().images.repeat(1, 1, 2, 2)),
    )

    def fresh() -> tuple[UNet, EMA[UNet]]:
        torch.manual_seed(0)
        model = UNet(8, channels=(8, 16)).to(memory_format=torch.channels_last)
        return model, EMA(model)

    whole, average = fresh()
    expected = list(train(whole, SCHEDULE, pictures, config, ema=average))
    model, ema = fresh()
    for update in train(model, SCHEDULE, pictures, config, ema=ema):
        if update.step == 7:
            break
    state = update.state()
    state = TrainState(state.step, state.seconds, {k: v.contiguous().clone() for k, v in state.moments.items()})
    assert state.step == 7 and state.seconds == update.seconds
    kinds = {key.rpartition(".")[2] for key in state.moments}
    matrices = sum(is_matrix(parameter) for parameter in model.parameters())
    assert kinds == {"exp_avg", "exp_avg_sq", "step", "momentum_buffer"} and matrices > 0
    assert len(state.moments) == matrices + 3 * (len(weights(model)) - matrices)

    again, renewed = fresh()
    again.load_state_dict(model.state_dict())
    renewed.model.load_state_dict(ema.model.state_dict())
    renewed.updates = ema.updates
    rest = list(train(again, SCHEDULE, pictures, config, ema=renewed, start=state))
    assert [update.step for update in rest] == list(range(8, 21))
    assert same([u.loss for u in rest], [u.loss for u in expected[7:]])
    assert [u.lr for u in rest] == [u.lr for u in expected[7:]]
    assert same(weights(again), weights(whole)) and same(weights(renewed.model), weights(average.model))
    assert rest[-1].seconds > state.seconds


def test_a_training_that_is_over_makes_no_update() -> None:
    config = TrainConfig(steps=5, minutes=2)
    assert list(train(Tiny(), SCHEDULE, some_pictures(), config, start=TrainState(5))) == []
    assert list(train(Tiny(), SCHEDULE, some_pictures(), config, start=TrainState(3, 120.0))) == []


def test_a_state_of_another_model_is_refused() -> None:
    (update,) = train(Tiny(), SCHEDULE, some_pictures(), TrainConfig(steps=1))
    state, config = update.state(), TrainConfig(steps=2)
    wide = UNet(8, channels=(8,), attention=())
    with pytest.raises(ValueError, match=r"start.moments\['conv.weight.step'\] .* belongs to no parameter"):
        train(wide, SCHEDULE, some_pictures(), config, start=state)
    few = {key: value for key, value in state.moments.items() if key.startswith("conv")}
    with pytest.raises(
        ValueError, match=r"start.moments has nothing for 4 parameters of this model, such as mix.weight"
    ):
        train(Tiny(), SCHEDULE, some_pictures(), config, start=replace(state, moments=few))
    turned = {key: value.repeat(2, *[1] * (value.ndim - 1)) if value.ndim else value for key, value in few.items()}
    with pytest.raises(ValueError, match="belongs to no parameter of this model"):
        train(Tiny(), SCHEDULE, some_pictures(), config, start=replace(state, moments=turned))
    for bad in (dict(step=-1), dict(seconds=-1.0), dict(step=1.5)):
        with pytest.raises((TypeError, ValueError), match=f"{next(iter(bad))} must"):
            TrainState(**bad)


def test_stop_ends_the_training_after_the_update() -> None:
    asked = iter([False, False, True, False])
    updates = list(train(Tiny(), SCHEDULE, some_pictures(), TrainConfig(steps=9), stop=lambda: next(asked)))
    assert [update.step for update in updates] == [1, 2, 3] and updates[-1].progress == pytest.approx(1 / 3)


# Parts of a batch


@pytest.mark.parametrize("engine", ["plain", "accelerate"])
def test_a_batch_in_parts_gives_what_the_whole_batch_gives(engine: str) -> None:
    """Losses, gradients and weights of 12 updates, in one part and in four, within the precision of floats."""

    def run(parts: int) -> tuple[list[Update], Tiny]:
        model = Tiny(num_classes=3)
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=parts) if engine == "accelerate" else None
        config = TrainConfig(steps=12, batch_size=8, accumulate=parts, lr=0.02, warmup=4)
        return list(train(model, SCHEDULE, some_pictures(labels=True), config, accelerator=accelerator)), model

    (whole, one), (parts, four) = run(1), run(4)
    assert len(one.asked) == 12 and len(four.asked) == 48 and all(len(x) == 2 for x, *_ in four.asked)
    seen = [torch.cat([call[0] for call in four.asked[i : i + 4]]) for i in range(0, 48, 4)]
    for a, b, x, (y, *_) in zip(whole, parts, seen, one.asked, strict=True):
        assert torch.equal(x, y)
        torch.testing.assert_close(b.loss, a.loss, rtol=1e-5, atol=0)
        torch.testing.assert_close(b.grad_norm, a.grad_norm, rtol=1e-4, atol=0)
    for mine, theirs in zip(weights(four), weights(one), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_the_accelerator_changes_nothing_in_one_process() -> None:
    plain, driven = Tiny(), Tiny()
    config = TrainConfig(steps=8, batch_size=4)
    list(train(plain, SCHEDULE, some_pictures(), config))
    list(train(driven, SCHEDULE, some_pictures(), config, accelerator=Accelerator(cpu=True)))
    assert same(weights(plain), weights(driven))


def test_batches_and_accelerators_that_do_not_fit() -> None:
    with pytest.raises(
        ValueError, match=r"batch_size must be a multiple of 3 \(1 process\(es\) × accumulate=3\), got 32"
    ):
        TrainConfig(steps=1, accumulate=3)
    with pytest.raises(ValueError, match="batch_size must be a multiple of 6"):
        TrainConfig(steps=1, batch_size=8, accumulate=2).share(3)
    assert TrainConfig(steps=1, batch_size=12, accumulate=2).share(3) == 2
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    config = TrainConfig(steps=1, batch_size=4)
    with pytest.raises(ValueError, match=r"config.accumulate=1, but the accelerator was made with .*=2"):
        train(Tiny(), SCHEDULE, some_pictures(), config, accelerator=accelerator)
    scaled: Any = SimpleNamespace(scaler=object(), gradient_accumulation_steps=1, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="mixed_precision='fp16', which needs a scaled loss"):
        train(Tiny(), SCHEDULE, some_pictures(), config, accelerator=scaled)
    with pytest.raises(ValueError, match="autocast must be None with an accelerator"):
        train(Tiny(), SCHEDULE, some_pictures(), config, accelerator=accelerator, autocast=torch.bfloat16)
    elsewhere: Any = SimpleNamespace(device=torch.device("cuda", 1))
    with pytest.raises(ValueError, match="model is on cpu: move it, and its average, to the accelerator's cuda:1"):
        train(Tiny(), SCHEDULE, some_pictures(), config, accelerator=elsewhere)


def test_importing_the_loop_does_not_import_the_engine() -> None:
    code = "import sys, course_lib.train, course_lib.__main__; print('accelerate' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# When it ends


def test_it_ends_after_the_steps() -> None:
    for steps in (1, 7):
        updates = list(train(Tiny(), SCHEDULE, some_pictures(), TrainConfig(steps=steps)))
        assert len(updates) == steps and updates[-1].progress == 1


class Clock:
    """Goes on by one second each time it is read."""

    now = 0.0

    def perf_counter(self) -> float:
        self.now += 1
        return self.now


def test_a_training_by_the_clock_goes_on_from_the_seconds_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "time", Clock())
    model, config = Tiny(), TrainConfig(minutes=0.1, warmup=0, lr=1.0)
    *_, third = train(model, SCHEDULE, some_pictures(), replace(config, steps=3))
    monkeypatch.setattr(clock_module, "time", Clock())
    rest = list(train(model, SCHEDULE, some_pictures(), config, start=third.state()))
    assert [update.seconds for update in rest] == [4, 5, 6] and rest[-1].progress == 1
    assert [update.lr for update in rest] == pytest.approx([config.learning_rate(9, s / 6) for s in (3, 4, 5)])


def test_a_pause_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a computer that slept, or a reader of a notebook: the update after it took as long as the longest one."""
    for waits, expected in (
        ((1000, 0, 30, 10_000, 500, 0), (1, 1, 1, 31, 31, 501, 1)),
        ((100, 100, 100, 100, 100, 100), (1, 1, 101, 101, 101, 101, 101)),  # each time, so it is no pause
    ):
        clock, seconds = Clock(), [0.0]
        monkeypatch.setattr(clock_module, "time", clock)
        updates = train(Tiny(), SCHEDULE, some_pictures(), TrainConfig(steps=7, minutes=600))
        for update, wait in zip(updates, (*waits, 0), strict=True):
            seconds.append(update.seconds)
            clock.now += wait
        assert [b - a for a, b in pairwise(seconds)] == [*expected]


def test_it_ends_after_the_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    for options, expected in (
        (dict(minutes=0.1), 6),
        (dict(minutes=0.1, steps=4), 4),
        (dict(minutes=0.1, steps=100), 6),
    ):
        monkeypatch.setattr(clock_module, "time", Clock())
        config = TrainConfig(warmup=0, lr=1.0, **options)  # type: ignore[arg-type]
        updates = list(train(Tiny(), SCHEDULE, some_pictures(), config))
        assert len(updates) == expected and updates[-1].progress == 1
        assert [update.seconds for update in updates] == list(range(1, expected + 1))
        assert updates[0].lr == 1 and updates[-1].lr == pytest.approx(config.learning_rate(9, 1 - 1 / expected))


def test_the_learning_rate_rises_in_a_line_and_falls_along_a_cosine() -> None:
    config = TrainConfig(steps=100, lr=2.0, warmup=10)
    assert [config.learning_rate(step, 0.0) for step in (1, 5, 10, 11)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    assert [config.learning_rate(50, p) for p in (0.0, 0.5, 1.0)] == pytest.approx([2.0, 1.01, 0.02])
    falling = [config.learning_rate(50, p / 20) for p in range(21)]
    assert falling == sorted(falling, reverse=True)
    assert replace(config, warmup=0).learning_rate(1, 0.0) == 2.0


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    model = Tiny()
    with torch.no_grad():
        model.out.bias.fill_(math.nan)  # type: ignore[union-attr]
    with pytest.raises(FloatingPointError, match=r"the gradient is nan at update 1 .*lower lr, or train without"):
        list(train(model, SCHEDULE, some_pictures(), TrainConfig(steps=150, batch_size=1)))


def test_an_infinite_gradient_is_refused_too() -> None:
    check = GradientWatch(torch.device("cpu"))
    with pytest.raises(FloatingPointError, match="the gradient is inf at update 1"):
        check(1, torch.tensor(math.inf), torch.tensor(1.0))


def test_what_was_not_looked_at_is_when_the_training_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(GradientWatch):
        def __init__(self, device: torch.device) -> None:
            super().__init__(torch.device("mps"))  # as elsewhere than on a CPU

    monkeypatch.setattr(train_module, "GradientWatch", Late)
    model = Tiny()
    with torch.no_grad():
        model.out.bias.fill_(math.nan)  # type: ignore[union-attr]
    with pytest.raises(FloatingPointError, match="at update 50"):
        list(train(model, SCHEDULE, some_pictures(), TrainConfig(steps=60, batch_size=1)))


@pytest.mark.parametrize("threads", [1, 3])
def test_frozen_and_unused_weights_stay_as_they_are(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for kind in ("frozen", "unused"):
            model: Any = Tiny()
            if kind == "frozen":
                model.conv.requires_grad_(False)
            else:
                model.spare = nn.Linear(16, 16)
            still = model.conv if kind == "frozen" else model.spare
            was = weights(still)
            *_, update = train(model, SCHEDULE, some_pictures(), TrainConfig(steps=2, batch_size=6))
            assert same(was, weights(still))
            more = TrainConfig(steps=3, batch_size=6)
            assert len(list(train(model, SCHEDULE, some_pictures(), more, start=update.state()))) == 1
            assert same(was, weights(still))
    finally:
        torch.set_num_threads(before)


def test_elsewhere_than_on_a_cpu_the_gradient_of_fifty_updates_ago_is_looked_at() -> None:
    check, good, bad = GradientWatch(torch.device("mps")), torch.tensor(1.0), torch.tensor(math.nan)
    for step in range(1, 50):
        check(step, bad, bad)  # is not looked at
    check(50, good, good)
    for step in range(51, 101):
        check(step, bad, good)
    for step in range(101, 150):
        check(step, bad, good)
    with pytest.raises(FloatingPointError, match=r"the gradient is nan at update 100 \(loss 1\)"):
        check(150, bad, bad)
    check(150, bad, bad)
    with pytest.raises(FloatingPointError, match="the gradient is nan at update 150"):
        check.close()  # the end of the training
    check.close()


# The average


def test_the_average_by_hand() -> None:
    """d = min(decay, (1 + n)/(10 + n)): 2/11, 3/12, then the 0.3 that was asked for instead of 4/13 = 0.308."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    ema = EMA(model, decay=0.3)
    average = 1.0
    for decay, weight in ((2 / 11, 5.0), (3 / 12, -2.0), (0.3, 4.0), (0.3, 0.0)):
        model.weight.data.fill_(weight)
        ema.update(model)
        average = decay * average + (1 - decay) * weight
        assert ema.model.weight.item() == pytest.approx(average, rel=1e-5)
    assert ema.updates == 4 and model.weight.item() == 0.0


def test_the_average_follows_the_training_it_was_given_to() -> None:
    model, pictures, config = Tiny(), some_pictures(), TrainConfig(steps=5, batch_size=4)
    ema, average, after = EMA(model, decay=0.9), weights(model), []
    for update in train(model, SCHEDULE, pictures, config, ema=ema):
        decay = (1 + update.step) / (10 + update.step)
        average = [decay * old + (1 - decay) * new for old, new in zip(average, weights(model), strict=True)]
        for mine, theirs in zip(average, ema.model.parameters(), strict=True):
            torch.testing.assert_close(theirs, mine)
        after = weights(model)
    alone = Tiny()
    list(train(alone, SCHEDULE, pictures, config))
    assert same(weights(alone), after)  # the average does not disturb the training


def test_the_average_is_a_model_of_its_own_in_eval_mode() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).train()
    ema = EMA(model, decay=0.5)
    assert model.training and model[0].weight.requires_grad
    assert not any(module.training for module in ema.model.modules())
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
    before = copy.deepcopy(ema.model.state_dict())
    model(torch.randn(4, 1, 3, 3) + 5)
    assert all(torch.equal(value, before[key]) for key, value in ema.model.state_dict().items())
    ema.update(model)
    assert not any(parameter.requires_grad or parameter.grad_fn for parameter in ema.model.parameters())
    for mine, theirs in zip(ema.model.buffers(), model.buffers(), strict=True):
        assert torch.equal(mine, theirs) and mine is not theirs  # statistics are copied, not averaged
    for decay in (1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="decay must lie in"):
            EMA(model, decay)


# Does it learn?


def fashion(n: int, size: int = 16) -> Pictures:
    pictures = load_fashion_mnist("test", size, source="packaged")
    return Pictures(pictures.images[:n].clone())


def test_one_batch_can_be_learned_by_heart() -> None:
    """Eight pictures, their noise and their timesteps stay the same: a network that works brings the loss near 0.

    It starts at 1, the variance of the noise. A network that cannot see its input stays there.
    """
    torch.manual_seed(0)
    model, x0 = UNet(16, channels=(16, 32)), fashion(8)[:]
    schedule = make_schedule("cosine", 1000)
    generator = torch.Generator().manual_seed(1)
    eps, t = torch.randn(x0.shape, generator=generator), torch.randint(1, 1001, (8,), generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    losses = []
    for _ in range(70):
        loss = denoising_loss(model, schedule, x0, t, eps).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(1, abs=0.1)
    assert max(losses[-10:]) < 0.03, f"the loss ended at {losses[-1]:.3f}"


def test_training_learns_to_find_the_noise() -> None:
    """120 updates on 200 real pictures bring the loss from 1 to about 0.2, on pictures that it has not seen too."""
    torch.manual_seed(0)
    model, schedule = UNet(16, channels=(16, 16)), make_schedule("cosine", 1000)
    ema, config = EMA(model, 0.95), TrainConfig(steps=120, batch_size=16, lr=6e-3, warmup=20)
    losses = [update.loss for update in train(model, schedule, fashion(200), config, ema=ema)]
    assert losses[0].item() == pytest.approx(1, abs=0.1)
    assert torch.stack(losses[-40:]).mean() < 0.3
    unseen = load_fashion_mnist("train", 16, source="packaged")[:256]
    generator = torch.Generator().manual_seed(5)
    t, eps = torch.randint(1, 1001, (256,), generator=generator), torch.randn(unseen.shape, generator=generator)
    with torch.no_grad():
        assert denoising_loss(ema.model, schedule, unseen, t, eps).mean() < 0.3


@pytest.mark.parametrize("threads", [1, 3])
def test_training_in_bfloat16_keeps_weights_and_loss_in_float32(threads: int) -> None:
    before, seen = torch.get_num_threads(), set[torch.dtype]()
    torch.set_num_threads(threads)
    try:
        _trains_in_bfloat16(seen)
    finally:
        torch.set_num_threads(before)
    assert seen == {torch.bfloat16}


def _trains_in_bfloat16(seen: set[torch.dtype]) -> None:
    model = UNet(8, channels=(8, 8), patch=1)
    model.stem.register_forward_hook(lambda module, inputs, answer: seen.add(answer.dtype))
    pictures = Pictures(some_pictures().images.repeat(1, 1, 2, 2))
    update = None
    for update in train(model, SCHEDULE, pictures, TrainConfig(steps=3), autocast=torch.bfloat16):
        assert update.loss.dtype == torch.float32 and update.loss.isfinite()
    assert update is not None
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.parameters())


# Bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(), ValueError, "give steps, minutes or both"),
        (dict(steps=0), ValueError, "steps must lie in"),
        (dict(steps=1.5), TypeError, "steps must be an int, got float"),
        (dict(minutes=0), ValueError, "minutes must lie in"),
        (dict(minutes=-1), ValueError, "minutes must lie in"),
        (dict(minutes="3"), TypeError, "minutes must be a number, got str"),
        (dict(steps=1, batch_size=0), ValueError, "batch_size must lie in"),
        (dict(steps=1, accumulate=0), ValueError, "accumulate must lie in"),
        (dict(steps=1, lr=0), ValueError, "lr must lie in"),
        (dict(steps=1, lr=math.nan), ValueError, "lr must lie in"),
        (dict(steps=1, warmup=-1), ValueError, "warmup must lie in"),
        (dict(steps=1, grad_clip=0), ValueError, "grad_clip must lie in"),
        (dict(steps=1, snr_gamma=0), ValueError, "snr_gamma must lie in"),
        (dict(steps=1, snr_gamma=math.inf), ValueError, "snr_gamma must lie in"),
        (dict(steps=1, seed=-1), ValueError, "seed must lie in"),
        (dict(steps=1, seed=1.0), TypeError, "seed must be an int"),
        (
            dict(steps=1, target="noise"),
            ValueError,
            "target='noise' is unknown; choose one of 'eps', 'x0', 'v', 'velocity'",
        ),
    ],
)
def test_bad_configs(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TrainConfig(**options)


def test_pictures_that_do_not_fit() -> None:
    config = TrainConfig(steps=1)
    color = Pictures(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    negative = Pictures(some_pictures().images, torch.arange(12) % 3 - 1)
    for model, pictures, error, message in (
        (Tiny(), some_pictures()[:], TypeError, r"pictures must be course_lib.data.Pictures, got Tensor"),
        (Tiny(), color, ValueError, r"pictures must have 1 channel\(s\), got 3"),
        (Tiny(num_classes=3), some_pictures(), ValueError, "built with classes, but these pictures have no labels"),
        (Tiny(num_classes=2), some_pictures(labels=True), ValueError, r"classes 0..1, these pictures have 0..2"),
        (Tiny(num_classes=3), negative, ValueError, r"classes 0..2, these pictures have -1..1"),
    ):
        with pytest.raises(error, match=message):  # at the call, not at the first update
            train(model, SCHEDULE, pictures, config)  # type: ignore[arg-type]
    coarse = UNet(8, channels=(8,), attention=(), patch=8)
    with pytest.raises(ValueError, match="nearest good sizes are 8"):
        next(train(coarse, SCHEDULE, some_pictures(), config))


def test_a_timestep_without_weight_is_refused() -> None:
    """At T of a schedule with zero terminal SNR: v must be learned there, the noise has its full weight."""
    schedule, v = zero_terminal_snr(SCHEDULE), TrainConfig(steps=1, target="v")
    with pytest.raises(ValueError, match="snr_gamma must be None"):
        train(Tiny(), schedule, some_pictures(), v)
    for model, config in ((Tiny(), replace(v, snr_gamma=None)), (Tiny(), TrainConfig(steps=1))):
        assert len(list(train(model, schedule, some_pictures(), config))) == 1
    assert len(list(train(Tiny(), SCHEDULE, some_pictures(), v))) == 1


# With a GPU


# Threads that share a batch


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_threads_share_a_batch_without_changing_the_result(three_threads: None, accumulate: int) -> None:
    """Ten pictures in three shares of unequal size: losses, gradients and weights as in one thread."""
    config = TrainConfig(steps=8, batch_size=20, accumulate=accumulate, lr=0.02, warmup=0)
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        model, alive = Tiny(), set(threading.enumerate())
        updates = []
        for update in train(model, SCHEDULE, some_pictures(), config):
            assert torch.get_num_threads() == threads  # at each yield the learner finds what there was
            updates.append((update.loss.item(), update.grad_norm.item()))
            shared = bool(set(threading.enumerate()) - alive)
        assert shared == (threads == 3)
        results.append((updates, weights(model)))
    for mine, theirs in zip(results[0][0], results[1][0], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_a_layer_that_looks_across_the_batch_is_not_shared_out(three_threads: None) -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    assert not Workers.suit(model)
    assert Workers.suit(model[:1])
    assert not Workers.suit(nn.Sequential(model[0], nn.BatchNorm2d(1, track_running_stats=False)))
    assert not Workers.suit(nn.Sequential(model[0], nn.Dropout2d(0.1)))


@pytest.mark.parametrize("leave_after", [1, None])
def test_threads_and_model_go_with_the_training(three_threads: None, leave_after: int | None) -> None:
    """Whether it is left early or goes to its end."""
    before = set(threading.enumerate())
    model = Tiny()
    gone = weakref.ref(model)
    for update in train(model, SCHEDULE, some_pictures(), TrainConfig(steps=2, batch_size=6)):
        assert set(threading.enumerate()) - before
        if update.step == leave_after:
            break
    del model, update
    gc.collect()
    assert gone() is None
    deadline = time.monotonic() + 60
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(threading.enumerate()) <= before


def test_what_goes_wrong_in_a_thread_comes_out(three_threads: None) -> None:
    class Broken(Tiny):
        def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
            raise RuntimeError("broken on purpose")

    with pytest.raises(RuntimeError, match="broken on purpose"):
        next(train(Broken(), SCHEDULE, some_pictures(), TrainConfig(steps=2, batch_size=6)))
    assert torch.get_num_threads() == 3


def test_optimizers_step_in_threads_of_their_own(three_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()
    all_here = threading.Barrier(3, timeout=60)  # passed only where three threads step at the same time
    step = Muon.step

    def watched(self: Muon) -> None:
        seen.add(threading.get_ident())
        all_here.wait()
        step(self)

    monkeypatch.setattr(Muon, "step", watched)
    model = UNet(4, channels=(16, 16), patch=1)
    next(train(model, SCHEDULE, some_pictures(), TrainConfig(steps=2, batch_size=6)))
    assert len(seen) == 3 and threading.get_ident() not in seen


def test_an_optimizer_that_fails_in_a_thread_is_heard(three_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Muon) -> None:
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(Muon, "step", fail)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        next(train(UNet(4, channels=(16, 16), patch=1), SCHEDULE, some_pictures(), TrainConfig(steps=2, batch_size=6)))


def test_gradients_are_laid_out_as_their_weights(three_threads: None) -> None:
    """A fused optimizer reads both as they lie in memory."""
    torch.manual_seed(0)
    model = UNet(8, channels=(8, 16)).to(memory_format=torch.channels_last)
    pictures = Pictures(some_pictures().images.repeat(1, 1, 2, 2))
    workers = Workers(model)
    x0, t = pictures[:6], torch.arange(1, 7)

    def each_loss(x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return model(x0, t).flatten(1).square().mean(1) + sum(p.sum() for p in model.parameters()), torch.ones(len(t))

    with workers:
        workers.backward(each_loss, [x0, t], 1.0)
    for p in model.parameters():
        assert p.grad is not None and p.grad.stride() == p.stride()
    assert not all(p.is_contiguous() for p in model.parameters())


@pytest.mark.cuda
def test_training_on_the_gpu() -> None:
    torch.manual_seed(0)
    schedule: Schedule = make_schedule("cosine", 1000)
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        model = UNet(16, channels=(16, 32)).cuda()
        ema = EMA(model, 0.95)
        config = TrainConfig(steps=200, lr=4e-3, warmup=20)
        losses = [u.loss for u in train(model, schedule, fashion(200), config, ema=ema, autocast=torch.bfloat16)]
        assert losses[0].device.type == "cuda" and next(ema.model.parameters()).is_cuda
        results.append(torch.stack(losses[-50:]).mean().item())
    assert results[0] < 0.3 and results[1] == pytest.approx(results[0], rel=0.05)


@pytest.mark.cuda
def test_loss_on_the_gpu_is_that_of_the_cpu() -> None:
    torch.manual_seed(0)
    model, x0 = UNet(16, channels=(16, 32)), fashion(8)[:]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) / 20)
    t, eps = torch.arange(1, 9) * 100, torch.randn(x0.shape)
    near = F.relu(denoising_loss(model, make_schedule("cosine"), x0, t, eps)).mean()
    there = denoising_loss(model.cuda(), make_schedule("cosine"), x0.cuda(), t.cuda(), eps.cuda()).mean()
    torch.testing.assert_close(there.cpu(), near, rtol=1e-2, atol=1e-2)


@pytest.mark.cuda
@pytest.mark.parametrize("engine", ["plain", "accelerate"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_nobody_waits_for_the_gpu(engine: str, autocast: torch.dtype | None) -> None:
    """After two updates, in which tables are copied, nothing makes the host wait: PyTorch would raise.

    A new pass through the pictures begins every three updates, parts and labels and the average take part, and the
    gradient is looked at twice.
    """
    AcceleratorState._reset_state(True)
    precision = "no" if autocast is None else "bf16"
    accelerator = None
    if engine == "accelerate":
        accelerator = Accelerator(mixed_precision=precision, gradient_accumulation_steps=2)
    pictures = Pictures(fashion(24).images, torch.arange(24) % 3)
    model = UNet(16, channels=(16, 32), num_classes=3).cuda().to(memory_format=torch.channels_last)
    config = TrainConfig(steps=120, minutes=10, batch_size=8, accumulate=2)
    how = dict(ema=EMA(model), autocast=None if accelerator else autocast, accelerator=accelerator)
    try:
        for update in train(model, make_schedule("cosine"), pictures, config, **how):  # type: ignore[arg-type]
            if update.step == 2:
                torch.cuda.set_sync_debug_mode("error")
    finally:
        torch.cuda.set_sync_debug_mode("default")
        AcceleratorState._reset_state(True)
    assert update.step == 120 and update.loss.item() < 2


@pytest.mark.cuda
def test_a_gradient_that_is_no_number_is_seen_on_the_gpu() -> None:
    model = UNet(16, channels=(16, 32)).cuda()
    steps = 0
    with pytest.raises(FloatingPointError, match=r"the gradient is nan at update (50|100)"):
        for update in train(model, make_schedule("cosine"), fashion(24), TrainConfig(steps=150, batch_size=8)):
            steps = update.step
            if steps == 10:
                with torch.no_grad():
                    model.stem.weight.fill_(math.nan)
    assert steps <= 100


@pytest.mark.cuda
@pytest.mark.slow
def test_a_compiled_network_learns_the_same_on_the_gpu() -> None:
    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = UNet(16, channels=(16, 32)).cuda().to(memory_format=torch.channels_last)
        names = list(model.state_dict())
        if compiled:
            model.compile()
        config = TrainConfig(steps=100, batch_size=16)
        updates = list(train(model, make_schedule("cosine"), fashion(200), config, autocast=torch.bfloat16))
        losses.append(torch.stack([update.loss for update in updates]).cpu())
        assert list(model.state_dict()) == names
    torch.testing.assert_close(losses[0][:3], losses[1][:3], rtol=2e-2, atol=0)
    torch.testing.assert_close(losses[0][-50:].mean(), losses[1][-50:].mean(), rtol=5e-2, atol=0)


@pytest.mark.cuda
def test_a_training_goes_on_on_the_gpu() -> None:
    """The state leaves the GPU and comes back: counters too must be where the fused optimizer wants them."""
    config, schedule = TrainConfig(steps=20, batch_size=8, warmup=3), make_schedule("cosine")

    def fresh() -> UNet:
        torch.manual_seed(0)
        return UNet(16, channels=(16, 32)).cuda().to(memory_format=torch.channels_last)

    whole, model, again = fresh(), fresh(), fresh()
    expected = [update.loss for update in train(whole, schedule, fashion(24), config)]
    for update in train(model, schedule, fashion(24), config):
        if update.step == 7:
            break
    state = update.state()
    moments = {key: value.cpu().contiguous().clone() for key, value in state.moments.items()}
    again.load_state_dict({key: value.cpu() for key, value in model.state_dict().items()})
    start = TrainState(state.step, state.seconds, moments)
    rest = [update.loss for update in train(again, schedule, fashion(24), config, start=start)]
    torch.testing.assert_close(torch.stack(rest), torch.stack(expected[7:]), rtol=1e-3, atol=1e-4)


@pytest.mark.cuda
def test_the_gpu_goes_through_the_pictures_in_the_order_of_the_cpu() -> None:
    config = TrainConfig(steps=1, batch_size=7)
    near, there = (
        RandomBatches(some_pictures().to(device), SCHEDULE, config.batch_size, config.seed)
        for device in ("cpu", "cuda")
    )
    for step in range(1, 6):
        index, t, eps = there(step)
        assert index.is_cuda and t.is_cuda and eps.is_cuda
        assert torch.equal(index.cpu(), near(step)[0])
