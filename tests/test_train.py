"""Training: update by update against a loop written out here, the learning rate, the average, and what is learned."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from course_lib.data import Pictures, load_fashion_mnist, to_float
from course_lib.objective import denoising_loss
from course_lib.optim import orthogonalize
from course_lib.schedule import from_betas, make_schedule, zero_terminal_snr
from course_lib.train import EMA, RandomBatches, TrainConfig, train
from course_lib.unet import UNet
from helpers_models import gen, randn
from helpers_training import SCHEDULE, Tiny, same, some_pictures, threads, updates_of, weights

# What an update is


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("target", "gamma", "longest"), [("eps", None, 6.0), ("eps", 20.0, 2.0), ("v", 0.5, 0.06)])
def test_training_is_the_loop_that_the_docstring_promises(
    target: str, gamma: float | None, longest: float, count: int
) -> None:
    """Twelve updates by hand: batch, t, eps, mean square error, weights, clipped gradient, Muon for the matrix and
    Adam with its bias correction for the rest.

    The gradient is clipped to a length that some updates exceed and others do not. The loss that is told has no
    weights.
    """
    config = TrainConfig(
        steps=12, batch_size=5, lr=0.02, warmup=4, grad_clip=longest, seed=3, target=target, snr_gamma=gamma
    )
    pictures, model = some_pictures(), Tiny()
    with threads(count):
        updates = updates_of(model, config)

    ours = Tiny()
    parameters = list(ours.parameters())
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    batches = RandomBatches(pictures, SCHEDULE, config.batch_size, config.seed)
    clipped = 0
    for step, update in enumerate(updates, start=1):
        index, t, eps = batches(step)
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
    """Whoever uses the global generator or the model in between trains to the same weights, and it stays as it was."""
    quiet, curious, config = Tiny(), Tiny(), TrainConfig(steps=6, batch_size=4)
    state = torch.get_rng_state()
    updates_of(quiet, config)
    assert torch.equal(torch.get_rng_state(), state)
    for _ in train(curious, SCHEDULE, some_pictures(), config):
        curious.eval()
        curious(torch.randn(2, 1, 4, 4), torch.tensor([1, 2]))
    assert same(weights(quiet), weights(curious))
    for update in train(curious, SCHEDULE, some_pictures(), config):
        if update.step == 2:
            break
    assert update.progress == pytest.approx(1 / 3)


@pytest.mark.parametrize("mode", [True, False])
def test_the_model_trains_in_train_mode_and_is_handed_over_as_it_was(mode: bool) -> None:
    """A layer that was frozen stays so in a model in train mode; one in eval mode trains as a whole."""
    for frozen in (mode, not mode):
        model = Tiny().train(mode)
        model.conv.train(frozen)
        seen: list[bool] = []
        model.conv.register_forward_hook(lambda layer, *_, seen=seen: seen.append(layer.training))
        for _ in train(model, SCHEDULE, some_pictures(), TrainConfig(steps=2)):
            assert model.training is mode and model.conv.training is frozen
        assert all(training for *_, training in model.asked) and set(seen) == {frozen or not mode}


def test_labels_go_with_their_pictures_where_the_model_has_classes() -> None:
    """With next to no noise the network sees the pictures themselves."""
    faint = from_betas(torch.tensor([1e-14], dtype=torch.float64))
    model = Tiny(num_classes=3)
    list(train(model, faint, some_pictures(labels=True), TrainConfig(steps=6, batch_size=4)))
    for x_t, _, y, _ in model.asked:
        number = ((x_t.mean((1, 2, 3)) + 1) * 127.5 / 20).floor().long()
        assert y is not None and torch.equal(y, number % 3)
    without = Tiny()
    list(train(without, faint, some_pictures(labels=True), TrainConfig(steps=1)))
    assert without.asked[0][2] is None


def test_it_ends_after_the_steps_or_where_it_is_stopped() -> None:
    for steps in (1, 7):
        updates = updates_of(Tiny(), TrainConfig(steps=steps))
        assert len(updates) == steps and updates[-1].progress == 1
    asked = iter([False, False, True, False])
    updates = updates_of(Tiny(), TrainConfig(steps=9), stop=lambda: next(asked))
    assert [update.step for update in updates] == [1, 2, 3] and updates[-1].progress == pytest.approx(1 / 3)


# The average


def test_the_average_follows_the_training_it_was_given_to() -> None:
    """d = min(decay, (1 + n)/(10 + n)): 2/11, 3/12, then the 0.3 that was asked for instead of 4/13 = 0.308."""
    model, pictures, config = Tiny(), some_pictures(), TrainConfig(steps=5, batch_size=4)
    ema, average, after = EMA(model, decay=0.3), weights(model), []
    updates = train(model, SCHEDULE, pictures, config, ema=ema)
    for decay, _ in zip((2 / 11, 3 / 12, 0.3, 0.3, 0.3), updates, strict=True):
        average = [decay * old + (1 - decay) * new for old, new in zip(average, weights(model), strict=True)]
        for mine, theirs in zip(average, ema.model.parameters(), strict=True):
            torch.testing.assert_close(theirs, mine)
        after = weights(model)
    assert ema.updates == 5
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


# Does it learn?


def fashion(n: int, size: int = 16) -> Pictures:
    pictures = load_fashion_mnist("test", size, source="packaged")
    return Pictures(pictures.images[:n].clone())


def test_one_batch_can_be_learned_by_heart() -> None:
    """Pictures, noise and timesteps stay the same: the loss falls from 1, the variance of the noise, to nearly 0."""
    torch.manual_seed(0)
    model, x0, schedule = UNet(16, channels=(16, 32)), fashion(8)[:], make_schedule("cosine", 1000)
    eps, t = randn(*x0.shape), torch.randint(1, 1001, (8,), generator=gen(1))
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
    t, eps = torch.randint(1, 1001, (256,), generator=gen(5)), randn(*unseen.shape)
    with torch.no_grad():
        assert denoising_loss(ema.model, schedule, unseen, t, eps).mean() < 0.3


@pytest.mark.parametrize("count", [1, 3])
def test_training_in_bfloat16_keeps_weights_and_loss_in_float32(count: int) -> None:
    seen, model = set[torch.dtype](), UNet(8, channels=(8,), patch=1)
    model.stem.register_forward_hook(lambda module, inputs, answer: seen.add(answer.dtype))
    pictures = some_pictures(size=8)
    with threads(count):
        for update in train(model, SCHEDULE, pictures, TrainConfig(steps=3), autocast=torch.bfloat16):
            assert update.loss.dtype == torch.float32 and update.loss.isfinite()
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.parameters())
    assert seen == {torch.bfloat16}


# Bad input


BAD: dict[str, tuple[Any, ...]] = dict(
    steps=(None, 0, 1.5, 10**24),
    minutes=(0, math.inf, "3"),
    batch_size=(0, 10**24),
    accumulate=(0, True),
    lr=(0, math.nan, math.inf),
    warmup=(-1, 10**24),
    grad_clip=(0, math.inf),
    snr_gamma=(0, math.inf),
    seed=(-1, 10**24),
    target=("noise",),
)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_configs(name: str, value: Any) -> None:
    message = "give steps, minutes or both" if value is None else f"{name}(=.*is unknown| must (be|lie in))"
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        TrainConfig(**{"steps": 1, name: value})


@pytest.mark.parametrize(
    ("model", "pictures", "message"),
    [
        (Tiny(), Pictures(torch.zeros(2, 3, 4, 4).byte()), r"must have 1 channel\(s\), got 3"),
        (Tiny(3), some_pictures(), "built with classes, but these pictures have no labels"),
        (Tiny(2), some_pictures(labels=True), r"classes 0..1, these pictures have 0..2"),
        (Tiny(3), Pictures(some_pictures().images, torch.arange(12) % 3 - 1), r"classes 0..2, these .* have -1..1"),
    ],
)
def test_pictures_that_do_not_fit_are_refused_at_the_call(model: Tiny, pictures: Pictures, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(model, SCHEDULE, pictures, TrainConfig(1))


def test_a_timestep_without_weight_is_refused() -> None:
    """At T of a schedule with zero terminal SNR: v must be learned there, the noise has its full weight."""
    schedule, v = zero_terminal_snr(SCHEDULE), TrainConfig(steps=1, target="v")
    with pytest.raises(ValueError, match="snr_gamma must be None"):
        train(Tiny(), schedule, some_pictures(), v)
    for model, config in ((Tiny(), replace(v, snr_gamma=None)), (Tiny(), TrainConfig(steps=1))):
        assert len(list(train(model, schedule, some_pictures(), config))) == 1
    assert len(list(train(Tiny(), SCHEDULE, some_pictures(), v))) == 1


# With a GPU


@pytest.mark.cuda
def test_training_on_the_gpu() -> None:
    schedule, config, results = make_schedule("cosine", 1000), TrainConfig(steps=200, lr=4e-3, warmup=20), []
    for _ in range(2):
        torch.manual_seed(0)
        model = UNet(16, channels=(16, 32)).cuda()
        ema = EMA(model, 0.95)
        losses = [u.loss for u in train(model, schedule, fashion(200), config, ema=ema, autocast=torch.bfloat16)]
        assert losses[0].device.type == "cuda" and next(ema.model.parameters()).is_cuda
        results.append(torch.stack(losses[-50:]).mean().item())
    assert results[0] < 0.3 and results[1] == pytest.approx(results[0], rel=0.05)


@pytest.mark.cuda
@pytest.mark.parametrize("engine", ["plain", "accelerate"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_nobody_waits_for_the_gpu(engine: str, autocast: torch.dtype | None) -> None:
    """After two updates, in which tables are copied, nothing makes the host wait: PyTorch would raise.

    A new pass through the pictures begins every three updates, parts and labels and the average take part, and the
    gradient is looked at twice.
    """
    AcceleratorState._reset_state(True)
    accelerator = None
    if engine == "accelerate":
        accelerator = Accelerator(mixed_precision="bf16" if autocast else "no", gradient_accumulation_steps=2)
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
