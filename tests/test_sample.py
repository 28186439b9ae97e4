"""Samplers against mathematics that can be done by hand: a known picture, and pictures drawn from a Gaussian."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from course_lib.checkpoint import load_shipped
from course_lib.forward import TARGETS, q_posterior, q_sample
from course_lib.guide import AutoGuidance
from course_lib.sample import extrapolate, predict, reverse_step, sample, trajectory
from course_lib.schedule import Schedule, linear_amount, make_schedule, sampling_times, start_time
from course_lib.unet import UNet
from helpers import SCHEDULE_NAMES, every_schedule, randomize

DOUBLE = torch.float64


def answer(kind: str, a: float, b: float, x0: Tensor, x_t: Tensor) -> Tensor:
    """What a network of this kind says if it thinks that x0 is in x_t."""
    eps = (x_t - a * x0) / b
    return {"eps": eps, "x0": x0.expand_as(x_t), "v": a * eps - b * x0, "velocity": eps - x0}[kind]


class Oracle(nn.Module):
    """Knows the picture."""

    def __init__(self, schedule: Schedule, x0: Tensor, kind: str = "x0") -> None:
        super().__init__()
        self.schedule, self.x0, self.kind = schedule, x0, kind

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        a, b = self.schedule.signal[t[0]].item(), self.schedule.noise[t[0]].item()
        return answer(self.kind, a, b, self.x0, x_t)


class GaussianDenoiser(nn.Module):
    """The best answer if every pixel of the clean pictures is drawn from N(mean, std²).

    E[x_0 | x_t] = mean + a std² / (a² std² + b²) · (x_t − a mean).
    """

    def __init__(self, schedule: Schedule, mean: float, std: float, kind: str = "x0") -> None:
        super().__init__()
        self.schedule, self.mean, self.std, self.kind = schedule, mean, std, kind

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        a, b = self.schedule.signal[t[0]].item(), self.schedule.noise[t[0]].item()
        gain = a * self.std**2 / (a**2 * self.std**2 + b**2)
        return answer(self.kind, a, b, self.mean + gain * (x_t - a * self.mean), x_t)


class Recorder(nn.Module):
    """Answers with a tame function of its input and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))
        self.calls: list[tuple[Tensor, Tensor, Tensor | None, bool]] = []

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        self.calls.append((x_t, t, y, self.training))
        return torch.tanh(self.weight * x_t + t.view(-1, 1, 1, 1) / 10)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_moments(x: Tensor, mean: float, std: float, slack: float = 0.0) -> None:
    """Mean and standard deviation within four standard errors, std/√n and std/√(2n), plus slack · std."""
    n = x.numel()
    off = abs(x.mean().item() - mean)
    assert off < (4 / math.sqrt(n) + slack) * std + 1e-12, f"the mean is off by {off:.2e}"
    off = abs(x.std().item() - std)
    assert off < (4 / math.sqrt(2 * n) + slack) * std + 1e-12, f"the standard deviation is off by {off:.2e}"


# One reverse step


def test_the_reverse_step_with_eta_1_draws_from_the_posterior(schedule: Schedule) -> None:
    x0, eps = torch.rand(2, 1, 4, 4, generator=gen(), dtype=DOUBLE), randn(2, 1, 4, 4, dtype=DOUBLE)
    for s, t in ((99, 100), (1, 2), (10, 60)):
        x_t, _ = q_sample(schedule, x0, t, eps)
        mean, var = q_posterior(schedule, x_t, x0, s, t)
        z = randn(2, 1, 4, 4, seed=5, dtype=DOUBLE)
        x_s = reverse_step(schedule, x0, eps, t, s, eta=1.0, generator=gen(5))
        torch.testing.assert_close(x_s, mean + var.sqrt() * z, rtol=0, atol=1e-9)


def test_the_reverse_step_with_eta_0_is_the_mixture_at_s(schedule: Schedule) -> None:
    x0, eps = torch.rand(2, 1, 4, 4, generator=gen()), randn(2, 1, 4, 4)
    for s, t in ((99, 100), (1, 2), (10, 60), (0, 1)):
        torch.testing.assert_close(reverse_step(schedule, x0, eps, t, s, eta=0), q_sample(schedule, x0, s, eps)[0])


def test_the_last_step_adds_no_noise(schedule: Schedule) -> None:
    x0, eps = torch.rand(2, 1, 4, 4, generator=gen()), randn(2, 1, 4, 4)
    for t in (1, 50, 100):
        generator = gen(3)
        state = generator.get_state()
        assert torch.equal(reverse_step(schedule, x0, eps, t, 0, eta=1.0, generator=generator), x0)
        assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_the_marginals_are_right_whatever_eta_and_however_few_the_steps(schedule: Schedule, eta: float) -> None:
    """If the picture is known, x_s must have the law N(a_s x_0, b_s²) all the way down (DDIM, lemma 1)."""
    x0 = torch.full((1, 1, 200, 200), 0.6, dtype=DOUBLE)
    x_T, _ = q_sample(schedule, x0, 100, generator=gen(1))
    for times in (sampling_times(100, 5), [100, 99, 98, 30, 1, 0]):
        for step in trajectory(
            Oracle(schedule, x0), schedule, x_T, times=times, eta=eta, target="x0", generator=gen(2)
        ):
            a, b = schedule.signal[step.s].item(), schedule.noise[step.s].item()
            assert_moments(step.x_s, a * 0.6, b)
        assert step.s == 0 and torch.equal(step.x_s, x0)


def test_on_the_linear_amount_eta_0_is_euler_on_the_flow() -> None:
    """x_s = x_t + (u_s − u_t) · velocity."""
    schedule, model, x_t = linear_amount(10), Recorder(), randn(2, 1, 4, 4, dtype=DOUBLE)
    by_hand, times = x_t, [10, 7, 3, 1, 0]
    for t, s in pairwise(times):
        by_hand = by_hand + (s - t) / 10 * model(by_hand, torch.full((2,), t)).detach()
    got = sample(model, schedule, x_t, times=times, eta=0, target="velocity", clip=False)
    torch.testing.assert_close(got, by_hand, rtol=0, atol=1e-12)


# Pictures drawn from a Gaussian

MEAN, STD = 0.3, 0.5


def expected_std(schedule: Schedule, times: list[int], eta: float) -> float:
    """Standard deviation of the samples after these very steps.

    Every step is linear in x_t, so the variance goes through it by hand: x_s − a_s mean = c (x_t − a_t mean) + noise.
    The posterior's variance is taken from precisions that add, not from the library.
    """
    a, b = schedule.signal.tolist(), schedule.noise.tolist()
    variance = a[times[0]] ** 2 * STD**2 + b[times[0]] ** 2
    for t, s in pairwise(times):
        scale = a[t] / a[s]
        step = b[t] ** 2 - scale**2 * b[s] ** 2
        noise = 0.0 if s == 0 else eta**2 / (1 / b[s] ** 2 + scale**2 / step)
        gain = a[t] * STD**2 / (a[t] ** 2 * STD**2 + b[t] ** 2)
        c = a[s] * gain + math.sqrt(b[s] ** 2 - noise) * (1 - a[t] * gain) / b[t]
        variance = c**2 * variance + noise
    return math.sqrt(variance)


def start(schedule: Schedule, t: int, side: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """x_t for pictures from N(MEAN, STD²)."""
    a, b = schedule.signal[t].item(), schedule.noise[t].item()
    return a * MEAN + math.sqrt(a**2 * STD**2 + b**2) * randn(1, 1, side, side, seed=8, dtype=dtype)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("name", ["linear", "cosine", "linear amount"])
def test_the_exact_denoiser_gives_back_mean_and_variance(name: str, eta: float) -> None:
    """1,000 steps: the standard deviation comes out up to 0.8 % small, the price of finite steps; 1 % is allowed."""
    schedule = make_schedule(name, 1000)
    assert 0 < 1 - expected_std(schedule, sampling_times(1000, 1000), eta) / STD < 0.008
    x_T, model = start(schedule, 1000, 150), GaussianDenoiser(schedule, MEAN, STD)
    x_0 = sample(model, schedule, x_T, eta=eta, target="x0", clip=False, generator=gen(4))
    assert_moments(x_0, MEAN, STD, slack=0.01)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_few_steps_have_the_bias_that_they_must_have(schedule: Schedule, eta: float) -> None:
    """With 6 steps the samples are visibly too narrow, by exactly as much as the arithmetic says."""
    for times in (sampling_times(100, 6), [100, 80, 20, 0]):
        std = expected_std(schedule, times, eta)
        assert std < 0.93 * STD
        x_T, model = start(schedule, times[0], 400), GaussianDenoiser(schedule, MEAN, STD)
        x_0 = sample(model, schedule, x_T, times=times, eta=eta, target="x0", clip=False, generator=gen(4))
        assert_moments(x_0, MEAN, std)


def test_the_bias_of_ddim_halves_when_steps_double() -> None:
    """η = 0 maps x_T to x_0 by a straight line whose exact slope, that of the flow, is STD / std(x_T)."""
    schedule = make_schedule("cosine", 1000)
    model = GaussianDenoiser(schedule, MEAN, STD)
    exact = STD / math.sqrt((schedule.signal[-1] ** 2 * STD**2 + schedule.noise[-1] ** 2).item())
    points = torch.tensor([-1.0, 1.0], dtype=DOUBLE).view(2, 1, 1, 1)
    errors = []
    for steps in (125, 250, 500, 1000):
        low, high = sample(
            model, schedule, points, times=sampling_times(1000, steps), eta=0, target="x0", clip=False
        ).flatten()
        errors.append(exact - (high - low).item() / 2)
    assert errors[-1] < 0.001
    for coarse, fine in pairwise(errors):
        assert 1.8 < coarse / fine < 2.2


# The second order


@pytest.mark.parametrize(("order", "low", "high"), [(1, 1.9, 2.1), (2, 3.8, 4.4)])
def test_the_error_falls_with_the_order_of_the_solver(order: int, low: float, high: float) -> None:
    """From t = 980 down to t = 20 the flow of a Gaussian is a straight line of known slope, std(x_20) / std(x_980).

    The step to s = 0 is left out: it is of first order, and exact where the last x0_hat is.
    """
    schedule = make_schedule("cosine", 1000)
    model, points = GaussianDenoiser(schedule, MEAN, STD), torch.tensor([-1.0, 1.0], dtype=DOUBLE).view(2, 1, 1, 1)
    stds = [math.hypot(schedule.signal[t].item() * STD, schedule.noise[t].item()) for t in (20, 980)]
    errors = []
    for steps in (30, 60, 120, 240):
        times = [round(980 - 960 * i / steps) for i in range(steps + 1)] + [0]
        options = dict(times=times, eta=0, order=order, target="x0", clip=False)
        *_, last = trajectory(model, schedule, points, **options)  # type: ignore[arg-type]
        low_end, high_end = last.x_t.flatten()
        errors.append(abs((high_end - low_end).item() / 2 - stds[0] / stds[1]))
    for coarse, fine in pairwise(errors):
        assert low < coarse / fine < high
    assert errors[-1] < (0.003 if order == 1 else 1e-4)


def test_with_20_steps_the_second_order_is_twenty_times_nearer() -> None:
    schedule = make_schedule("cosine", 1000)
    model, points = GaussianDenoiser(schedule, MEAN, STD), torch.tensor([-1.0, 1.0], dtype=DOUBLE).view(2, 1, 1, 1)
    exact = STD / math.hypot(schedule.signal[-1].item() * STD, schedule.noise[-1].item())
    errors = []
    for order in (1, 2):
        options = dict(times=sampling_times(1000, 20), eta=0, order=order, target="x0", clip=False)
        low, high = sample(model, schedule, points, **options).flatten()  # type: ignore[arg-type]
        errors.append(abs((high - low).item() / 2 - exact))
    assert errors[1] < errors[0] / 20


def test_a_network_that_sees_a_straight_line_is_solved_exactly(schedule: Schedule) -> None:
    """If x0_hat is p + q λ, then x_s/b_s = x_t/b_t + ∫ e^λ (p + q λ) dλ, and D must be what it is half way."""
    p, q = randn(1, 1, 4, 4, dtype=DOUBLE), randn(1, 1, 4, 4, seed=1, dtype=DOUBLE)
    clock = schedule.log_snr_half.tolist()
    for before, t, s in ((90, 80, 60), (99, 98, 1), (3, 2, 1)):
        half_way = p + q * (clock[t] + clock[s]) / 2
        got = extrapolate(schedule, p + q * clock[t], p + q * clock[before], t, s, before)
        torch.testing.assert_close(got, half_way, rtol=0, atol=1e-10)
    assert torch.equal(extrapolate(schedule, p, q, 5, 0, 9), p)


def test_the_first_and_the_last_step_are_of_first_order(schedule: Schedule) -> None:
    target = "v"
    x_T, times = randn(2, 1, 4, 4, dtype=DOUBLE), [100, 60, 30, 0]
    for eta in (0.0, 1.0):
        first, second, last = trajectory(
            Recorder(), schedule, x_T, times=times, eta=eta, order=2, target=target, generator=gen(1)
        )
        plain = next(trajectory(Recorder(), schedule, x_T, times=times, eta=eta, target=target, generator=gen(1)))
        assert torch.equal(first.x_s, plain.x_s)
        assert torch.equal(last.x_s, last.x0_hat)
        generator = gen(1)
        torch.randn(x_T.shape, generator=generator, dtype=DOUBLE)
        D = extrapolate(schedule, second.x0_hat, first.x0_hat, 60, 30, 100)
        a, b = schedule.signal[60].item(), schedule.noise[60].item()
        torch.testing.assert_close(a * second.x0_hat + b * second.eps_hat, second.x_t, rtol=0, atol=1e-10)
        expected = reverse_step(schedule, D, (second.x_t - a * D) / b, 60, 30, eta, generator=generator)
        torch.testing.assert_close(second.x_s, expected, rtol=0, atol=1e-12)
        changed = (second.x_s - reverse_step(schedule, second.x0_hat, second.eps_hat, 60, 30, 0)).abs().max()
        assert changed > 1e-3 or schedule.signal[100] == 0  # λ_T = −∞ there: the step before says nothing


def test_timesteps_that_do_not_fall_cannot_be_extrapolated() -> None:
    x = randn(1, 1, 2, 2)
    for times in ((5, 5, 9), (5, 3, 5), (5, 6, 9)):
        with pytest.raises(ValueError, match="timesteps must fall: s < t < t_before, got"):
            extrapolate(SCHEDULE, x, x, times[0], times[1], times[2])
    with pytest.raises(ValueError, match=r"t_before must lie in \[0, 10\], got 11"):
        extrapolate(SCHEDULE, x, x, 5, 3, 11)
    with pytest.raises(ValueError, match="x0_before must have the shape of x0_hat"):
        extrapolate(SCHEDULE, x, x[:, :, :1], 5, 3, 9)


# Where to start


def test_a_start_below_T_mends_an_eps_network_that_is_not_clipped() -> None:
    """1 % off in eps is 200 off in the first x0_hat on the cosine schedule, and 0.7 at `start_time`."""
    schedule = make_schedule("cosine", 1000)
    exact = GaussianDenoiser(schedule, MEAN, STD, "eps")

    class Off(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
            answer: Tensor = exact(x_t, t) + 0.01 * torch.sin(40 * x_t)
            return answer

    x_T = randn(1, 1, 40, 40)
    first = start_time(schedule)
    assert first == 991
    for steps in (10, 50):
        stds = [
            sample(Off(), schedule, x_T, times=sampling_times(1000, steps, start=start), eta=0, clip=False).std().item()
            for start in (None, first)
        ]
        assert stds[0] > 3 * STD and abs(stds[1] / STD - 1) < 0.25, stds


def test_the_shipped_weights_sample_without_clipping_from_the_start_time() -> None:
    """Fashion-MNIST has a standard deviation of 0.70; unclipped from T the first eps weights gave 450."""
    made = load_shipped()
    T, start = made.schedule.T, start_time(made.schedule, made.target)
    size = made.model.config["size"]
    x_T = randn(8, made.model.config["in_channels"], size, size)
    options = dict(times=sampling_times(T, 20, start=start), eta=0, target=made.target)
    free = sample(made.model, made.schedule, x_T, clip=False, **options)  # type: ignore[arg-type]
    clipped = sample(made.model, made.schedule, x_T, **options)  # type: ignore[arg-type]
    assert 0.4 < clipped.std() < 0.9 and abs(free.std() - clipped.std()) < 0.25
    if made.target == "eps":
        options["times"] = sampling_times(T, 20)
        assert sample(made.model, made.schedule, x_T, clip=False, **options).std() > 10  # type: ignore[arg-type]


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_every_target_walks_the_same_way(eta: float) -> None:
    schedule = make_schedule("linear", 50)
    x_T = randn(2, 1, 4, 4, dtype=DOUBLE)
    walks = [
        [
            step.x_s
            for step in trajectory(
                GaussianDenoiser(schedule, MEAN, STD, kind), schedule, x_T, eta=eta, target=kind, generator=gen()
            )
        ]
        for kind in TARGETS
    ]
    for other in walks[1:]:
        for x, y in zip(walks[0], other, strict=True):
            torch.testing.assert_close(x, y, rtol=0, atol=1e-10)


# The loop


def test_it_asks_about_each_timestep_once_and_goes_on_from_where_it_came() -> None:
    schedule, model, x_T, y = make_schedule("linear", 10), Recorder(), randn(3, 1, 4, 4), torch.tensor([4, 0, 2])
    steps = list(trajectory(model, schedule, x_T, times=(10, 6, 5, 0), y=y, generator=gen()))
    assert [(step.t, step.s) for step in steps] == [(10, 6), (6, 5), (5, 0)]
    assert steps[0].x_t is x_T
    assert all(after.x_t is before.x_s for before, after in pairwise(steps))
    for step, (x_t, t, label, training) in zip(steps, model.calls, strict=True):
        assert x_t is step.x_t and label is y and not training
        assert t.dtype == torch.int64 and torch.equal(t, torch.full((3,), step.t))
        assert not any(tensor.requires_grad for tensor in (step.x0_hat, step.eps_hat, step.x_s))


def test_every_timestep_is_visited_where_none_are_named() -> None:
    model = Recorder()
    sample(model, make_schedule("linear", 10), randn(1, 1, 2, 2), generator=gen())
    assert [int(t) for _, t, _, _ in model.calls] == list(range(10, 0, -1))


def test_nothing_is_computed_ahead() -> None:
    model = Recorder()
    steps = trajectory(model, make_schedule("linear", 10), randn(1, 1, 2, 2), generator=gen())
    for already in range(4):
        assert len(model.calls) == already
        next(steps)


def test_the_sample_is_the_end_of_the_trajectory() -> None:
    schedule, model, x_T = make_schedule("cosine", 10), Recorder(), randn(2, 1, 4, 4)
    for eta in (0.0, 1.0):
        *_, last = trajectory(model, schedule, x_T, eta=eta, generator=gen(3))
        assert torch.equal(sample(model, schedule, x_T, eta=eta, generator=gen(3)), last.x_s)


def test_same_seed_same_picture_and_another_seed_another() -> None:
    schedule, model, x_T = make_schedule("cosine", 10), Recorder(), randn(2, 1, 4, 4)
    first, second, other = (sample(model, schedule, x_T, generator=gen(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_eta_0_draws_nothing_and_eta_1_once_for_each_step_but_the_last() -> None:
    schedule, model, x_T = make_schedule("cosine", 10), Recorder(), randn(2, 1, 4, 4)
    state = torch.get_rng_state()
    for eta, draws in ((0.0, 0), (1.0, 9)):
        used, reference = gen(1), gen(1)
        sample(model, schedule, x_T, eta=eta, generator=used)
        for _ in range(draws):
            torch.randn(x_T.shape, generator=reference)
        assert torch.equal(used.get_state(), reference.get_state())
    sample(model, schedule, x_T, eta=0.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_walk_can_start_anywhere() -> None:
    """From x_6 of a longer walk the rest is the same."""
    schedule, model = make_schedule("linear", 10), Recorder()
    steps = list(trajectory(model, schedule, randn(2, 1, 4, 4), eta=0.0))
    halfway = next(step for step in steps if step.t == 6)
    again = sample(model, schedule, halfway.x_t, times=range(6, -1, -1), eta=0.0)
    assert torch.equal(again, steps[-1].x_s)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_the_modes_of_all_layers_are_given_back_at_every_step_and_after_an_error(mode: bool, frozen: bool) -> None:
    """Also that of a layer which stays in eval mode while the rest is trained."""
    schedule, x_T = make_schedule("linear", 5), randn(1, 1, 8, 8)
    unet = UNet(8, channels=(8,), attention=()).train(mode)
    if frozen:
        unet.stem.eval()
    seen: list[bool] = []
    unet.out.register_forward_hook(lambda layer, *_: seen.append(layer.training))
    before = [layer.training for layer in unet.modules()]
    for _ in trajectory(unet, schedule, x_T, generator=gen()):
        assert [layer.training for layer in unet.modules()] == before
    assert seen == [False] * 5
    with pytest.raises(ValueError, match="x_t must have 1 channel"):
        sample(unet, schedule, randn(1, 3, 8, 8))
    assert [layer.training for layer in unet.modules()] == before


def test_where_nothing_has_changed_the_second_order_is_the_first() -> None:
    """Two timesteps of one noise level, as a table of one's own may have: no line goes through two equal points."""
    a = torch.tensor([1.0, 0.8, 0.6, 0.6, 0.3], dtype=DOUBLE)
    schedule, x = Schedule(a, (1 - a * a).sqrt(), "my own"), randn(1, 1, 4, 4, dtype=DOUBLE)
    assert torch.equal(extrapolate(schedule, x, 2 * x, 2, 1, 3), x)


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
    if eta == 0:
        for i in range(4):
            alone = sample(model, schedule, x_T[i : i + 1], times=times, eta=eta)
            torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=1e-8)


def test_clipping_keeps_the_picture_in_range_and_lets_the_noise_follow() -> None:
    schedule = make_schedule("linear", 50)
    wild = 3 * randn(2, 1, 4, 4, seed=1, dtype=DOUBLE)
    x_t = 2 * randn(2, 1, 4, 4, dtype=DOUBLE)
    model = Oracle(schedule, wild)
    for t in (1, 25, 50):
        a, b = schedule.signal[t], schedule.noise[t]
        free, _ = predict(model, schedule, x_t, t, target="x0", clip=False)
        assert torch.equal(free, wild)
        x0_hat, eps_hat = predict(model, schedule, x_t, t, target="x0")
        assert torch.equal(x0_hat, wild.clamp(-1, 1))
        torch.testing.assert_close(a * x0_hat + b * eps_hat, x_t)
    x_0 = sample(model, schedule, x_t, target="x0", generator=gen())
    assert x_0.abs().max() <= 1


@pytest.mark.parametrize("order", [1, 2])
def test_batches_give_the_same_pictures(order: int) -> None:
    schedule, x_T, y = make_schedule("cosine", 20), randn(7, 1, 8, 8, dtype=DOUBLE), torch.arange(7) % 3
    model = randomize(UNet(8, channels=(8,), attention=(), num_classes=3)).double()
    options = dict(times=sampling_times(20, 5), y=y, order=order)
    together = sample(model, schedule, x_T, eta=0, **options)  # type: ignore[arg-type]
    for size in (1, 3, 7, 50):
        batched = sample(model, schedule, x_T, eta=0, batch_size=size, **options)  # type: ignore[arg-type]
        torch.testing.assert_close(batched, together, rtol=0, atol=1e-10)
    recorder = Recorder()
    sample(recorder, schedule, x_T, times=[5, 0], eta=0, batch_size=3)
    assert [len(x_t) for x_t, *_ in recorder.calls] == [3, 3, 1]
    draws = [sample(model, schedule, x_T, batch_size=3, generator=gen(), **options) for _ in range(2)]  # type: ignore[arg-type]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0][:3], draws[0][3:6])


def test_what_is_handed_out_can_take_part_in_training() -> None:
    """Tensors made under inference mode cannot: neither the samples nor the steps are such."""
    model, schedule, x_T = Recorder(), make_schedule("linear", 5), randn(2, 1, 4, 4)
    step = next(trajectory(model, schedule, x_T, generator=gen()))
    samples = sample(model, schedule, x_T, generator=gen())
    assert all(x_t.is_inference() for x_t, *_ in model.calls[-4:])  # but for x_T; and yet, outside:
    for x in (samples, step.x_s, step.x0_hat, step.eps_hat):
        assert not x.is_inference() and not x.requires_grad
        model(x, torch.ones(2)).sum().backward()
    assert not torch.is_inference_mode_enabled()


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_pictures() -> None:
    """By the eager backend, which needs no compiler."""
    model, schedule, x_T = (
        randomize(UNet(8, channels=(8,), attention=())),
        make_schedule("cosine", 20),
        randn(3, 1, 8, 8),
    )
    options = dict(times=sampling_times(20, 3), eta=0)
    expected = sample(model, schedule, x_T, **options)  # type: ignore[arg-type]
    got = sample(torch.compile(model, backend="eager"), schedule, x_T, batch_size=2, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


class Timed(nn.Module):
    """A model that adds up the seconds spent in it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.seconds = model, 0.0

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        start = time.perf_counter()
        answer = self.model(x_t, t, y)
        self.seconds += time.perf_counter() - start
        return answer


def overhead(batch: int, steps: int = 10, repeats: int = 5, **options: Any) -> float:
    """Seconds of sampling with the shipped weights outside the network over those inside, each the median of repeats.

    The two are told apart within one run of the loop, so that a slow moment of the machine is in both.
    """
    made = load_shipped()
    model, size = Timed(made.model).eval(), made.model.config["size"]
    x_T, times = randn(batch, made.model.config["in_channels"], size, size), sampling_times(made.schedule.T, steps)
    inside, outside = [], []
    for _ in range(repeats):
        model.seconds, start = 0.0, time.perf_counter()
        sample(model, made.schedule, x_T, times=times, target=made.target, **options)
        outside.append(time.perf_counter() - start - model.seconds)
        inside.append(model.seconds)
    return statistics.median(outside) / statistics.median(inside)


def test_the_loop_costs_at_most_5_percent() -> None:
    """In the batch of the `sample` command; with the second order, which costs most. One of three must be good."""
    measured: list[float] = []
    while len(measured) < 3 and min(measured, default=1) > 0.05:
        measured.append(overhead(64, eta=1.0, order=2))
    assert min(measured) <= 0.05, measured


def test_a_step_of_the_loop_takes_few_operations_beside_the_network() -> None:
    """What it costs wherever it runs: 23 operations where every choice asks for its own, 10 where none does."""

    class Count(TorchDispatchMode):
        number = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.number += 1
            return func(*args, **kwargs or {})

    class Echo(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
            return x_t

    def operations(steps: int, **options: Any) -> int:
        schedule = make_schedule("cosine", 100)
        with Count() as count:
            sample(Echo().eval(), schedule, randn(2, 1, 4, 4), times=sampling_times(100, steps), **options)
        return count.number

    for options, most in ({"eta": 1.0, "order": 2}, 23), ({"eta": 0.0, "clip": False}, 10):
        assert operations(12, **options) - operations(11, **options) == most


def test_a_low_precision_answer_is_worked_on_in_the_precision_of_the_pictures() -> None:
    class Half(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
            return x_t.bfloat16()

    step = next(trajectory(Half(), make_schedule("linear", 10), randn(1, 1, 2, 2), generator=gen()))
    assert {tensor.dtype for tensor in (step.x0_hat, step.eps_hat, step.x_s)} == {torch.float32}


# Bad input

SCHEDULE = make_schedule("linear", 10)
X = randn(2, 1, 4, 4)


def test_predict_asks_once_at_t_with_the_labels_and_gives_the_mode_back() -> None:
    model, y = Recorder().train(), torch.tensor([4, 0])
    predict(model, SCHEDULE, X, 3, y=y)
    ((x_t, t, label, training),) = model.calls
    assert torch.equal(x_t, X) and t.tolist() == [3, 3] and label is y and not training and model.training


def test_finite_answers_that_overflow_are_refused_at_the_end() -> None:
    class Huge(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
            return torch.full_like(x_t, 3e38)

    with pytest.raises(ValueError, match="the samples hold"):
        sample(Huge(), make_schedule("cosine", 10), X, times=[10, 0], clip=False)


BAD_STEP: list[tuple[dict[str, Any], type[Exception], str]] = [
    (dict(x0_hat=[0.0]), TypeError, "x0_hat must be a torch.Tensor"),
    (dict(x0_hat=X.to(torch.uint8)), TypeError, "x0_hat must hold floats"),
    (dict(x0_hat=X[0]), ValueError, "x0_hat must have 4 dimensions"),
    (dict(x0_hat=X / 0), ValueError, "x0_hat holds 32 value"),
    (dict(eps_hat=X[:1]), ValueError, "eps_hat must have the shape of x0_hat"),
    (dict(eps_hat=X.double()), TypeError, "eps_hat must have the dtype of x0_hat"),
    (dict(t=11), ValueError, r"t must lie in \[0, 10\], got 11"),
    (dict(t=torch.tensor([4, 4])), TypeError, "t must be an int, got Tensor"),
    (dict(s=-1), ValueError, r"s must lie in \[0, 10\], got -1"),
    (dict(s=4), ValueError, "s must be earlier than t"),
    (dict(t=0, s=0), ValueError, "s must be earlier than t"),
    (dict(eta=1.5), ValueError, r"eta must lie in \[0, 1\], got 1.5"),
    (dict(eta=-0.1), ValueError, "eta must lie in"),
    (dict(eta=math.nan), ValueError, "eta must lie in"),
    (dict(eta=None), TypeError, "eta must be a number"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD_STEP)
def test_bad_steps(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    good: dict[str, Any] = dict(schedule=SCHEDULE, x0_hat=X, eps_hat=X, t=4, s=3, eta=0.5)
    reverse_step(**good)
    with pytest.raises(error, match=message):
        reverse_step(**(good | changes))


BAD_WALK: list[tuple[dict[str, Any], type[Exception], str]] = [
    (dict(x_T=X.to(torch.uint8)), TypeError, "x_T must hold floats"),
    (dict(x_T=X[0]), ValueError, "x_T must have 4 dimensions"),
    (dict(x_T=X / 0), ValueError, "x_T holds 32 value"),
    (dict(target="noise"), ValueError, "target='noise' is unknown; choose one of 'eps', 'x0', 'v', 'velocity'"),
    (dict(eta=2), ValueError, "eta must lie in"),
    (dict(order=3), ValueError, "order=3 is unknown; choose one of 1, 2"),
    (dict(y=torch.tensor([1])), ValueError, "y must have one entry per picture, 2, got 1"),
    (dict(y=torch.tensor([1.0, 2.0])), TypeError, "y must hold int64"),
    (dict(y=7), TypeError, "y must be a tensor of integers, one per picture, got int"),
    (dict(times=[11, 0]), ValueError, r"times must lie in \[0, 10\], got 11"),
    (dict(times=[5, -1]), ValueError, r"times must lie in \[0, 10\], got -1"),
    (dict(times=[5, 1]), ValueError, "times must fall strictly and end with 0"),
    (dict(times=[5, 5, 0]), ValueError, "times must fall strictly"),
    (dict(times=[1, 5, 0]), ValueError, "times must fall strictly"),
    (dict(times=[0]), ValueError, "times must fall strictly"),
    (dict(times=[]), ValueError, "times must fall strictly"),
    (dict(times=[5.0, 0]), TypeError, "times must be an int, got float"),
    (dict(times=torch.tensor([5, 0])), TypeError, "times must be an int, got Tensor"),
]


@pytest.mark.parametrize("function", [trajectory, sample], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("changes", "error", "message"), BAD_WALK)
def test_bad_walks_are_refused_before_the_first_step(
    function: Callable[..., Any], changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = Recorder()
    with pytest.raises(error, match=message):
        function(**(dict(model=model, schedule=SCHEDULE, x_T=X) | changes))
    assert not model.calls


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError)])
def test_bad_batch_sizes(size: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="batch_size must"):
        sample(Recorder(), SCHEDULE, X, batch_size=size)


def test_bad_predictions() -> None:
    for t, error, message in (
        (0, ValueError, r"t must lie in \[1, 10\], got 0"),
        (11, ValueError, r"t must lie in \[1, 10\], got 11"),
        (torch.tensor([1, 2]), TypeError, "t must be an int, got Tensor"),
    ):
        with pytest.raises(error, match=message):
            predict(Recorder(), SCHEDULE, X, t)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"(target|kind)='noise' is unknown"):
        predict(Recorder(), SCHEDULE, X, 3, target="noise")


def test_an_answer_that_is_nothing_or_of_another_shape_is_named() -> None:
    for model, message in (
        (Oracle(SCHEDULE, X / 0), "prediction holds 32 value"),
        (Oracle(SCHEDULE, X[:, :, :2].repeat(1, 3, 1, 1)), "prediction must have the shape of x_t"),
    ):
        model.forward = lambda x_t, t, y=None, model=model: model.x0  # type: ignore[method-assign, misc]
        with pytest.raises(ValueError, match=message):
            sample(model, SCHEDULE, X, target="x0")


def test_eps_cannot_start_where_no_picture_is_left() -> None:
    for name in ("zero terminal SNR", "linear amount"):
        schedule = every_schedule(10)[name]
        with pytest.raises(ValueError, match="'x0', 'v' or 'velocity', or start below T"):
            sample(Recorder(), schedule, X)
        sample(Recorder(), schedule, X, times=range(9, -1, -1), generator=gen())
        sample(Recorder(), schedule, X, target="v", generator=gen())


@pytest.mark.cuda
@pytest.mark.parametrize("name", SCHEDULE_NAMES)
def test_on_the_gpu_as_on_the_cpu(name: str) -> None:
    schedule, x_T = every_schedule(100)[name], randn(2, 1, 8, 8)
    model, times = Recorder(), sampling_times(100, 10)
    near = sample(model, schedule, x_T, times=times, eta=0, target="v")
    there = sample(model.cuda(), schedule, x_T.cuda(), times=times, eta=0, target="v")
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), near, rtol=0, atol=1e-4)
    draws = [
        sample(
            model, schedule, x_T.cuda(), times=times, target="v", generator=torch.Generator("cuda").manual_seed(seed)
        )
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


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


# --- a network guided by a worse version of itself


def test_guidance_goes_on_from_the_weak_answer_past_the_better_one() -> None:
    schedule = make_schedule("cosine", 100)
    better, worse = randn(3, 1, 4, 4, dtype=DOUBLE), randn(3, 1, 4, 4, dtype=DOUBLE)
    model, weak = (Oracle(schedule, x0).eval() for x0 in (better, worse))
    options = dict(times=sampling_times(100, 8), eta=0, target="x0", clip=False)
    x_T = randn(3, 1, 4, 4, dtype=DOUBLE)
    for strength, expected in ((0, worse), (1, better), (2.5, better + 1.5 * (better - worse))):
        guided = AutoGuidance(model, weak, schedule, strength).eval()
        drawn = sample(guided, schedule, x_T, **options)  # type: ignore[arg-type]
        torch.testing.assert_close(drawn, expected)


def test_guidance_keeps_out_of_where_noise_prevails() -> None:
    schedule, late = make_schedule("cosine"), make_schedule("linear")
    model, weak = (Oracle(schedule, x0).eval() for x0 in (torch.ones(4, 1, 2, 2), torch.zeros(4, 1, 2, 2)))
    guided = AutoGuidance(model, weak, schedule, strength=3)
    ratio = schedule.noise / schedule.signal
    assert ratio[guided.start] <= 2 < ratio[guided.start + 1] and 650 < guided.start < 750
    t = torch.tensor([1, guided.start, guided.start + 1, 1000])
    torch.testing.assert_close(guided(randn(4, 1, 2, 2), t)[:, 0, 0, 0], torch.tensor([3.0, 3, 1, 1]))
    assert AutoGuidance(model, weak, schedule, largest=1).start == start_time(schedule, largest=1) == 496
    assert AutoGuidance(model, weak, late).start != guided.start
    with pytest.raises(ValueError, match="largest"):
        AutoGuidance(model, weak, schedule, largest=0)


def test_guidance_hands_labels_and_mode_to_both_and_refuses_what_does_not_fit() -> None:
    schedule, y = make_schedule("cosine", 20), torch.tensor([1, 0])
    model, weak = (randomize(UNet(8, channels=(8,), attention=(), num_classes=2)) for _ in range(2))
    with torch.no_grad():
        for parameter in weak.parameters():
            parameter.mul_(0.9)
    guided = AutoGuidance(model.train(), weak.eval(), schedule, 2)
    x_t, t = randn(2, 1, 8, 8), torch.tensor([7, 7])
    eps_hat = predict(guided, schedule, x_t, 7, clip=False, y=y)[1]
    assert model.training and not weak.training and guided.training
    guided.eval()
    with torch.no_grad():
        answers = model(x_t, t, y), weak(x_t, t, y)
        torch.testing.assert_close(eps_hat, 2 * answers[0] - answers[1])
        assert not torch.allclose(*answers, atol=0.01)
        assert not torch.allclose(eps_hat, guided(x_t, t, 1 - y), atol=0.01)
    for strength in (-1, float("nan")):
        with pytest.raises(ValueError, match="strength"):
            AutoGuidance(model, weak, schedule, strength)

    classless = randomize(UNet(8, channels=(8,), attention=())).eval()
    guided = AutoGuidance(model, classless, schedule, 3).eval()  # one that knows no classes is asked without
    with torch.no_grad():
        torch.testing.assert_close(guided(x_t, t, y), 3 * answers[0] - 2 * classless(x_t, t))

    class Cropped(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
            return x_t[..., 1:]

    with pytest.raises(ValueError, match="answer of weak must have the shape of answer of model"):
        AutoGuidance(model, Cropped(), schedule)(x_t, t, y)
