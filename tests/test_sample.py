"""Samplers against mathematics that can be done by hand: a known picture, and pixels from a Gaussian."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from course_lib.forward import q_posterior, q_sample
from course_lib.sample import extrapolate, predict, reverse_step, sample, trajectory
from course_lib.schedule import Schedule, linear_amount, make_schedule, sampling_times, start_time
from course_lib.unet import UNet
from helpers import SCHEDULE_NAMES, every_schedule, randomize
from helpers_models import DOUBLE, Always, GaussianDenoiser, Oracle, Recorder, gen, randn

SCHEDULE = make_schedule("linear", 10)
X = randn(2, 1, 4, 4)


def assert_moments(x: Tensor, mean: float, std: float) -> None:
    """Mean and standard deviation within four standard errors, std/√n and std/√(2n)."""
    assert abs(x.mean().item() - mean) < 4 / math.sqrt(x.numel()) * std + 1e-12
    assert abs(x.std().item() - std) < 4 / math.sqrt(2 * x.numel()) * std + 1e-12


# One reverse step


def test_eta_1_samples_the_posterior_and_eta_0_mixes_anew(schedule: Schedule) -> None:
    x0, eps = torch.rand(2, 1, 4, 4, generator=gen(), dtype=DOUBLE), randn(2, 1, 4, 4, dtype=DOUBLE)
    for s, t in ((99, 100), (1, 2), (10, 60), (0, 1)):
        mean, var = q_posterior(schedule, q_sample(schedule, x0, t, eps)[0], x0, s, t)
        z = randn(2, 1, 4, 4, seed=5, dtype=DOUBLE)
        x_s = reverse_step(schedule, x0, eps, t, s, eta=1.0, generator=gen(5))
        torch.testing.assert_close(x_s, mean + var.sqrt() * z, rtol=0, atol=1e-9)
        torch.testing.assert_close(reverse_step(schedule, x0, eps, t, s, eta=0), q_sample(schedule, x0, s, eps)[0])


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_the_marginals_are_right_whatever_eta_and_however_few_the_steps(schedule: Schedule, eta: float) -> None:
    """If the picture is known, x_s must have the law N(a_s x_0, b_s²) all the way down (DDIM, lemma 1)."""
    x0 = torch.full((1, 1, 200, 200), 0.6, dtype=DOUBLE)
    x_T, _ = q_sample(schedule, x0, 100, generator=gen(1))
    options: dict[str, Any] = dict(eta=eta, target="x0")
    for times in (sampling_times(100, 5), [100, 99, 98, 30, 1, 0]):
        for step in trajectory(Oracle(schedule, x0), schedule, x_T, times=times, generator=gen(2), **options):
            assert_moments(step.x_s, schedule.signal[step.s].item() * 0.6, schedule.noise[step.s].item())
        assert step.s == 0 and torch.equal(step.x_s, x0)


def test_on_the_linear_amount_eta_0_is_euler_on_the_flow() -> None:
    """x_s = x_t + (u_s − u_t) · velocity."""
    schedule, model, x_t = linear_amount(10), Recorder(), randn(2, 1, 4, 4, dtype=DOUBLE)
    by_hand, times = x_t, [10, 7, 3, 1, 0]
    for t, s in pairwise(times):
        by_hand = by_hand + (s - t) / 10 * model(by_hand, torch.full((2,), t)).detach()
    got = sample(model, schedule, x_t, times=times, eta=0, target="velocity", clip=False)
    torch.testing.assert_close(got, by_hand, rtol=0, atol=1e-12)


# Pixels from a Gaussian

MEAN, STD = 0.3, 0.5
ENDS = torch.tensor([-1.0, 1.0], dtype=DOUBLE).view(2, 1, 1, 1)


def expected_std(schedule: Schedule, times: Sequence[int], eta: float) -> float:
    """Standard deviation of the samples after these very steps.

    Every step is linear in x_t, so the variance goes through it by hand: x_s − a_s mean = c (x_t − a_t mean) + noise.
    The posterior's variance comes from precisions that add, not from the library.
    """
    a, b = schedule.signal.tolist(), schedule.noise.tolist()
    variance = a[times[0]] ** 2 * STD**2 + b[times[0]] ** 2
    for t, s in pairwise(times):
        scale = a[t] / a[s]
        step = b[t] ** 2 - scale**2 * b[s] ** 2
        noise = 0.0 if s == 0 else eta**2 / (1 / b[s] ** 2 + scale**2 / step)
        gain = a[t] * STD**2 / (a[t] ** 2 * STD**2 + b[t] ** 2)
        c = a[s] * gain + math.sqrt(max(b[s] ** 2 - noise, 0)) * (1 - a[t] * gain) / b[t]
        variance = c**2 * variance + noise
    return math.sqrt(variance)


def gaussian(schedule: Schedule, times: Sequence[int], eta: float) -> Tensor:
    """Samples of the exact denoiser, from x_t that has the right law."""
    a, b = schedule.signal[times[0]].item(), schedule.noise[times[0]].item()
    x_t = a * MEAN + math.hypot(a * STD, b) * randn(1, 1, 400, 400, seed=8)
    model = GaussianDenoiser(schedule, MEAN, STD)
    return sample(model, schedule, x_t, times=times, eta=eta, target="x0", clip=False, generator=gen(4))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_exact_denoiser_gives_back_mean_and_variance(schedule: Schedule, eta: float) -> None:
    """100 steps make the samples a little too narrow and few steps visibly so, by as much as the arithmetic says."""
    for times in (range(100, -1, -1), sampling_times(100, 6), [100, 80, 20, 0]):
        std = expected_std(schedule, times, eta)
        assert 0.95 < std / STD < 1 if len(times) > 100 else std / STD < 0.93
        assert_moments(gaussian(schedule, times, eta), MEAN, std)


@pytest.mark.parametrize(("order", "low", "high", "least"), [(1, 1.9, 2.1, 0.003), (2, 3.8, 4.4, 1e-4)])
def test_the_error_falls_with_the_order_of_the_solver(order: int, low: float, high: float, least: float) -> None:
    """From t = 980 down to t = 20 the flow of a Gaussian is a straight line of known slope, std(x_20) / std(x_980).

    The step to s = 0 is left out: it is of first order, and exact where the last x0_hat is.
    """
    schedule, errors = make_schedule("cosine", 1000), []
    stds = [math.hypot(schedule.signal[t].item() * STD, schedule.noise[t].item()) for t in (20, 980)]
    options: dict[str, Any] = dict(eta=0, order=order, target="x0", clip=False)
    for steps in (30, 60, 120, 240):
        times = [round(980 - 960 * i / steps) for i in range(steps + 1)] + [0]
        *_, last = trajectory(GaussianDenoiser(schedule, MEAN, STD), schedule, ENDS, times=times, **options)
        errors.append(abs(last.x_t.diff(dim=0).item() / 2 - stds[0] / stds[1]))
    assert all(low < coarse / fine < high for coarse, fine in pairwise(errors)) and errors[-1] < least


# The second order


def test_a_network_that_sees_a_straight_line_is_solved_exactly(schedule: Schedule) -> None:
    """If x0_hat is p + q λ, then x_s/b_s = x_t/b_t + ∫ e^λ (p + q λ) dλ, and D must be what it is half way."""
    p, q = randn(1, 1, 4, 4, dtype=DOUBLE), randn(1, 1, 4, 4, seed=1, dtype=DOUBLE)
    clock = schedule.log_snr_half.tolist()
    for before, t, s in ((90, 80, 60), (99, 98, 1), (3, 2, 1)):
        half_way = p + q * (clock[t] + clock[s]) / 2
        got = extrapolate(schedule, p + q * clock[t], p + q * clock[before], t, s, before)
        torch.testing.assert_close(got, half_way, rtol=0, atol=1e-10)
    assert torch.equal(extrapolate(schedule, p, q, 5, 0, 9), p)
    level = (torch.tensor([end, *[x] * 3], dtype=DOUBLE) for end, x in ((1, 0.6), (0, 0.8)))
    flat = Schedule(next(level), next(level), "of one level")
    assert torch.equal(extrapolate(flat, p, q, 2, 1, 3), p)  # no line goes through two points of one λ


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_first_and_the_last_step_are_of_first_order(schedule: Schedule, eta: float) -> None:
    x_T = randn(2, 1, 4, 4, dtype=DOUBLE)
    options: dict[str, Any] = dict(times=[100, 60, 30, 0], eta=eta, target="v")
    first, second, last = trajectory(Recorder(), schedule, x_T, order=2, generator=gen(1), **options)
    plain = next(trajectory(Recorder(), schedule, x_T, generator=gen(1), **options))
    assert torch.equal(first.x_s, plain.x_s) and torch.equal(last.x_s, last.x0_hat)
    D = extrapolate(schedule, second.x0_hat, first.x0_hat, 60, 30, 100)
    a, b = schedule.signal[60].item(), schedule.noise[60].item()
    generator = gen(1)
    torch.randn(x_T.shape, generator=generator, dtype=DOUBLE)
    expected = reverse_step(schedule, D, (second.x_t - a * D) / b, 60, 30, eta, generator=generator)
    torch.testing.assert_close(second.x_s, expected, rtol=0, atol=1e-12)
    assert (D - second.x0_hat).abs().max() > 1e-3 or schedule.signal[100] == 0  # λ_T = −∞: nothing to go by


# Where to start


def test_a_start_below_T_mends_an_eps_network_that_is_not_clipped() -> None:
    """1 % off in eps is 200 off in the first x0_hat on the cosine schedule, and 0.7 at `start_time`."""
    schedule = make_schedule("cosine", 1000)

    class Off(GaussianDenoiser):
        def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
            return super().forward(x_t, t) + 0.01 * torch.sin(40 * x_t)

    model, x_T = Off(schedule, MEAN, STD, "eps"), randn(1, 1, 40, 40)
    for steps in (10, 50):
        times = (sampling_times(1000, steps, start=first) for first in (None, start_time(schedule)))
        wild, good = (sample(model, schedule, x_T, times=each, eta=0, clip=False).std() for each in times)
        assert wild > 3 * STD and abs(good / STD - 1) < 0.25


# The loop


def test_it_asks_about_each_timestep_once_and_goes_on_from_where_it_came() -> None:
    model, x_T, y = Recorder().train(), randn(3, 1, 4, 4), torch.tensor([4, 0, 2])
    steps = []
    for step in trajectory(model, SCHEDULE, x_T, times=(10, 6, 5, 0), y=y, generator=gen()):
        steps.append(step)
        assert len(model.calls) == len(steps)  # nothing is computed ahead
    assert [(step.t, step.s) for step in steps] == [(10, 6), (6, 5), (5, 0)]
    assert steps[0].x_t is x_T and all(after.x_t is before.x_s for before, after in pairwise(steps))
    for step, (x_t, t, label, training) in zip(steps, model.calls, strict=True):
        assert x_t is step.x_t and label is y and not training
        assert t.dtype == torch.int64 and torch.equal(t, torch.full((3,), step.t))
        assert not any(tensor.requires_grad for tensor in (step.x0_hat, step.eps_hat, step.x_s))


@pytest.mark.parametrize(("eta", "times"), [(0.0, 0), (1.0, 9)])
def test_the_sample_is_the_end_of_a_trajectory_through_every_timestep(eta: float, times: int) -> None:
    """With eta = 0 no step takes noise from the generator, with eta = 1 every one but the last."""
    model, used, reference, state = Recorder(), gen(3), gen(3), torch.get_rng_state()
    *_, last = trajectory(model, SCHEDULE, X, eta=eta, generator=used)
    assert [int(t[0]) for _, t, *_ in model.calls] == list(range(10, 0, -1))
    for _ in range(times):
        torch.randn(X.shape, generator=reference)
    assert torch.equal(used.get_state(), reference.get_state())
    assert torch.equal(sample(model, SCHEDULE, X, eta=eta, generator=gen(3)), last.x_s)
    assert torch.equal(sample(model, SCHEDULE, X, eta=eta, generator=gen(4)), last.x_s) == (eta == 0)
    sample(model, SCHEDULE, X, eta=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("mode", "frozen"), [(True, False), (True, True), (False, False)])
def test_the_modes_of_all_layers_are_given_back_at_every_step_and_after_an_error(mode: bool, frozen: bool) -> None:
    """Also that of a layer which stays in eval mode while the rest is trained."""
    unet = UNet(8, channels=(8,)).train(mode)
    if frozen:
        unet.stem.eval()
    seen: list[bool] = []
    unet.out.register_forward_hook(lambda layer, *_: seen.append(layer.training))
    before = [layer.training for layer in unet.modules()]
    for _ in trajectory(unet, make_schedule("linear", 5), randn(1, 1, 8, 8), generator=gen()):
        assert [layer.training for layer in unet.modules()] == before
    assert seen == [False] * 5
    with pytest.raises(ValueError, match="x_t must have 1 channel"):
        sample(unet, SCHEDULE, randn(1, 3, 8, 8))
    assert [layer.training for layer in unet.modules()] == before


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_sample_does_not_depend_on_its_neighbors(eta: float) -> None:
    schedule = make_schedule("cosine", 20)
    model = randomize(UNet(8, channels=(16, 16), patch=1, attention=(1,))).double()
    x_T, times = randn(4, 1, 8, 8, dtype=DOUBLE), sampling_times(20, 5)
    together = sample(model, schedule, x_T, times=times, eta=eta, generator=gen(1))
    other = torch.cat([x_T[:1], 3 * randn(3, 1, 8, 8, seed=9, dtype=DOUBLE)])
    replaced = sample(model, schedule, other, times=times, eta=eta, generator=gen(1))
    torch.testing.assert_close(replaced[0], together[0], rtol=0, atol=1e-8)
    assert not torch.allclose(replaced[1:], together[1:], atol=1e-3)


@pytest.mark.parametrize("order", [1, 2])
def test_batches_give_the_same_pictures(order: int) -> None:
    schedule, x_T, y = make_schedule("cosine", 20), randn(7, 1, 8, 8, dtype=DOUBLE), torch.arange(7) % 3
    model = randomize(UNet(8, channels=(8,), num_classes=3)).double()
    options: dict[str, Any] = dict(times=sampling_times(20, 5), y=y, order=order)
    together = sample(model, schedule, x_T, eta=0, **options)
    for size in (1, 3, 50):
        batched = sample(model, schedule, x_T, eta=0, batch_size=size, **options)
        torch.testing.assert_close(batched, together, rtol=0, atol=1e-10)
    recorder = Recorder()
    sample(recorder, schedule, x_T, times=[5, 0], eta=0, batch_size=3)
    assert [len(x_t) for x_t, *_ in recorder.calls] == [3, 3, 1]


def test_clipping_keeps_the_picture_in_range_and_lets_the_noise_follow() -> None:
    wild, x_t = 3 * randn(2, 1, 4, 4, seed=1, dtype=DOUBLE), 2 * randn(2, 1, 4, 4, dtype=DOUBLE)
    model = Oracle(SCHEDULE, wild)
    for t in (1, 5, 10):
        assert torch.equal(predict(model, SCHEDULE, x_t, t, target="x0", clip=False)[0], wild)
        x0_hat, eps_hat = predict(model, SCHEDULE, x_t, t, target="x0")
        assert torch.equal(x0_hat, wild.clamp(-1, 1))
        torch.testing.assert_close(SCHEDULE.signal[t] * x0_hat + SCHEDULE.noise[t] * eps_hat, x_t)
    assert sample(model, SCHEDULE, x_t, target="x0", generator=gen()).abs().max() <= 1


def test_what_is_handed_out_can_take_part_in_training() -> None:
    """Tensors made under inference mode cannot: neither the samples nor the steps are such."""
    model = Recorder()
    step = next(trajectory(model, SCHEDULE, X, generator=gen()))
    samples = sample(model, SCHEDULE, X, generator=gen())
    assert all(x_t.is_inference() for x_t, *_ in model.calls[-4:])  # and yet, outside:
    for x in (samples, step.x_s, step.x0_hat, step.eps_hat):
        assert not x.is_inference() and not x.requires_grad
        model(x, torch.ones(2)).sum().backward()


def test_a_low_precision_answer_is_worked_on_in_the_precision_of_the_pictures() -> None:
    step = next(trajectory(Always(X.bfloat16()), SCHEDULE, X, generator=gen()))
    assert {tensor.dtype for tensor in (step.x0_hat, step.eps_hat, step.x_s)} == {torch.float32}


# Answers that lead nowhere


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (X / 0, "prediction holds 32 value"),
        (X[:, :, :2], "prediction must have the shape of x_t"),
        (torch.full_like(X, 3e38), "the samples hold"),  # finite, and too large for what follows
    ],
)
def test_an_answer_that_leads_nowhere_is_named(answer: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample(Always(answer), make_schedule("cosine", 10), X, times=[10, 0], clip=False)


@pytest.mark.parametrize("name", ["zero terminal SNR", "linear amount"])
def test_eps_cannot_start_where_no_picture_is_left(name: str) -> None:
    schedule = every_schedule(10)[name]
    with pytest.raises(ValueError, match="'x0', 'v' or 'velocity', or start below T"):
        sample(Recorder(), schedule, X)
    sample(Recorder(), schedule, X, times=range(9, -1, -1), generator=gen())
    sample(Recorder(), schedule, X, target="v", generator=gen())


@pytest.mark.cuda
@pytest.mark.parametrize("name", SCHEDULE_NAMES)
def test_on_the_gpu_as_on_the_cpu(name: str) -> None:
    schedule, x_T, model = every_schedule(100)[name], randn(2, 1, 8, 8), Recorder()
    options: dict[str, Any] = dict(times=sampling_times(100, 10), target="v")
    near = sample(model, schedule, x_T, eta=0, **options)
    there = sample(model.cuda(), schedule, x_T.cuda(), eta=0, **options)
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), near, rtol=0, atol=1e-4)
    generators = (torch.Generator("cuda").manual_seed(seed) for seed in (1, 1, 2))
    one, again, other = (sample(model, schedule, x_T.cuda(), generator=each, **options) for each in generators)
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.cuda
@pytest.mark.parametrize("order", [1, 2])
def test_no_step_waits_for_the_gpu(order: int) -> None:
    """After the first one PyTorch would raise."""
    model, x_T = UNet(16, channels=(16, 32)).cuda().eval(), randn(4, 1, 16, 16).cuda()
    generator = torch.Generator("cuda").manual_seed(0)
    walk = trajectory(model, SCHEDULE, x_T, eta=1.0, order=order, target="v", generator=generator)
    next(walk)
    try:
        torch.cuda.set_sync_debug_mode("error")
        *_, last = walk
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert last.s == 0 and last.x_s.isfinite().all()
