"""Mixing, the chain and its closed form, the posterior, targets: each against something that is not the code."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch

from course_lib.forward import (
    NOISES,
    TARGETS,
    corrupt,
    left_in_words,
    make_target,
    noise_like,
    q_posterior,
    q_sample,
    q_step,
    to_x0_eps,
)
from course_lib.schedule import Schedule, linear_amount, make_schedule, zero_terminal_snr
from helpers import SCHEDULE_NAMES, every_schedule
from helpers_models import gen, randn


def pictures(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=gen(), dtype=dtype) * 2 - 1


noise = partial(randn, seed=1)


# corrupt


def test_corrupt_is_the_mixture_and_returns_the_noise_it_used(generator: torch.Generator) -> None:
    x, given = pictures(3, 1, 4, 4), noise(3, 1, 4, 4)
    for kind in (None, *NOISES, given):
        mixed, used = corrupt(x, 0.3, kind, generator=generator)
        assert mixed.dtype == torch.float32 and (kind is not given or used is given)
        torch.testing.assert_close(mixed, 0.7 * x + 0.3 * used)
    assert torch.equal(corrupt(x, 0, given)[0], x) and torch.equal(corrupt(x, 1.0, given)[0], given)


def test_one_amount_per_picture_is_the_linear_amount_schedule() -> None:
    x, eps, t = pictures(4, 2, 4, 5), noise(4, 2, 4, 5), torch.tensor([0, 3, 7, 10])
    mixed, _ = corrupt(x, t / 10, eps)
    torch.testing.assert_close(mixed, q_sample(linear_amount(10), x, t, eps)[0])
    for i in range(4):
        assert torch.equal(mixed[i : i + 1], corrupt(x[i : i + 1], t[i].item() / 10, eps[i : i + 1])[0])
    for one in (torch.tensor(0.25), torch.tensor([[0.25]]), torch.tensor(0.25).double()):
        torch.testing.assert_close(corrupt(x, one, eps)[0], corrupt(x, 0.25, eps)[0])


@pytest.mark.parametrize(("kind", "variance", "kurtosis"), [("gaussian", 1.0, 3.0), ("uniform", 1 / 3, 1.8)])
def test_the_two_kinds_of_noise_have_their_moments(
    kind: str, variance: float, kurtosis: float, generator: torch.Generator
) -> None:
    x = torch.zeros(1, 1, 500, 500)
    used = noise_like(x, kind, generator=generator).double()
    assert abs(used.mean().item()) < 4 * math.sqrt(variance / x.numel())  # four standard errors
    assert abs(used.var().item() - variance) < 4 * variance * math.sqrt((kurtosis - 1) / x.numel())
    if kind == "uniform":
        assert used.min() >= -1 and 0.999 < used.max() < 1 and used.min() < -0.999


@pytest.mark.parametrize("kind", ["corrupt", "uniform", "q_sample", "q_step"])
def test_same_seed_same_noise_and_given_noise_leaves_the_generator_alone(kind: str) -> None:
    x, schedule, state = pictures(2, 1, 4, 4), make_schedule("linear", 10), torch.get_rng_state()
    noised: Any = {
        "corrupt": partial(corrupt, x, 0.5),
        "uniform": lambda given, generator: corrupt(x, 0.5, given or "uniform", generator=generator),
        "q_sample": partial(q_sample, schedule, x, 5),
        "q_step": partial(q_step, schedule, x, 5, 6),
    }[kind]
    first, second, other = (noised(None, generator=gen(seed)) for seed in (5, 5, 6))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[1], other[1])
    if kind != "uniform":
        generator = gen(5)
        assert torch.equal(noised(first[1], generator=generator)[0], first[0])
        assert torch.equal(generator.get_state(), gen(5).get_state())
    assert torch.equal(torch.get_rng_state(), state)  # an explicit generator leaves the global one alone


# One step, any step

PIXELS = torch.tensor([-1.0, 0.2, 0.9], dtype=torch.float64)


def assert_moments(schedule: Schedule, x_t: torch.Tensor, t: int) -> None:
    """Copies of each pixel, (3, n): mean a_t x_0 and variance b_t² within four standard errors, b_t/√n, b_t² √(2/n)."""
    a, b, n = schedule.signal[t].item(), schedule.noise[t].item(), x_t[0].numel()
    off = (x_t.flatten(1).mean(1) - a * PIXELS) / (b / math.sqrt(n))
    assert off.abs().max() < 4, f"mean at t = {t} is off by {off.tolist()} standard errors"
    off = (x_t.flatten(1).var(1) - b**2) / (b**2 * math.sqrt(2 / n))
    assert off.abs().max() < 4, f"variance at t = {t} is off by {off.tolist()} standard errors"


def test_the_closed_form_has_the_moments_of_the_simulated_chain(schedule: Schedule) -> None:
    """19,600 copies of each of three pixels walk through the chain, in short or in long steps; 19,600 others jump."""
    x0 = PIXELS.view(3, 1, 1, 1).expand(3, 1, 140, 140)
    for times in (range(101), (0, 7, 60, 100)):
        x_t, generator = x0, gen(11)
        for s, t in pairwise(times):
            x_t, _ = q_step(schedule, x_t, s, t, generator=generator)
            if t in (1, 2, 10, 50, 99, 100):
                assert_moments(schedule, x_t, t)
                assert_moments(schedule, q_sample(schedule, x0, t, generator=gen(t))[0], t)


def test_one_timestep_per_picture_is_each_picture_at_its_own(schedule: Schedule) -> None:
    x0, eps = pictures(4, 3, 2, 5), noise(4, 3, 2, 5)
    s, t = torch.tensor([0, 1, 49, 99]), torch.tensor([1, 80, 50, 100])
    jump, step = q_sample(schedule, x0, t, eps)[0], q_step(schedule, x0, s, t, eps)[0]
    mean, var = q_posterior(schedule, x0, eps, s, t)
    assert var.shape == (4, 1, 1, 1)
    for i in range(4):
        one, its = slice(i, i + 1), (int(s[i]), int(t[i]))
        torch.testing.assert_close(jump[one], q_sample(schedule, x0[one], its[1], eps[one])[0])
        torch.testing.assert_close(step[one], q_step(schedule, x0[one], *its, eps[one])[0])
        own_mean, own_var = q_posterior(schedule, x0[one], eps[one], *its)
        torch.testing.assert_close(mean[one], own_mean)
        torch.testing.assert_close(var[one], own_var)


# The posterior


@pytest.mark.parametrize(("s", "t"), [(1, 2), (1, 100), (5, 6), (30, 70), (50, 51), (98, 99), (99, 100)])
def test_the_posterior_is_bayes_by_quadrature(schedule: Schedule, s: int, t: int) -> None:
    """q(x_s | x_t, x_0) ∝ q(x_t | x_s) q(x_s | x_0), summed on a fine grid of x_s, in float64."""
    a_s, b_s = schedule.signal[s].item(), schedule.noise[s].item()
    a_t, b_t = schedule.signal[t].item(), schedule.noise[t].item()
    scale = a_t / a_s
    std = math.sqrt(b_t**2 - scale**2 * b_s**2)
    for x0, surprise in ((0.4, 0.7), (-1.0, -2.0)):
        x_t = a_t * x0 + b_t * surprise
        grid = torch.linspace(a_s * x0 - 12 * b_s, a_s * x0 + 12 * b_s, 400_001, dtype=torch.float64)
        weight = torch.exp(-0.5 * (((x_t - scale * grid) / std) ** 2 + ((grid - a_s * x0) / b_s) ** 2))
        weight /= weight.sum()
        mean = (weight * grid).sum()
        variance = (weight * (grid - mean) ** 2).sum()

        one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        got_mean, got_var = q_posterior(schedule, x_t * one, x0 * one, s, t)
        assert got_mean.item() == pytest.approx(mean.item(), abs=1e-9)
        assert got_var.item() == pytest.approx(variance.item(), rel=1e-7)
        assert schedule.posterior_variance(s, t).item() == got_var.item()


def test_the_posterior_at_0_is_the_picture(schedule: Schedule) -> None:
    x_t, x0 = noise(2, 1, 3, 3), pictures(2, 1, 3, 3)
    for t in (1, 50, 100):
        mean, var = q_posterior(schedule, x_t, x0, 0, t)
        assert torch.equal(mean, x0) and var.shape == (1, 1, 1, 1) and var.item() == 0


# Targets


def test_the_targets_by_hand() -> None:
    """a = 0.6, b = 0.8, x0 = 1, eps = 2."""
    schedule = Schedule(torch.tensor([1, 0.6]).double(), torch.tensor([0, 0.8]).double())
    x0, eps = torch.full((1, 1, 1, 1), 1.0), torch.full((1, 1, 1, 1), 2.0)
    answers = {kind: make_target(kind, schedule, x0, eps, 1).item() for kind in TARGETS}
    assert answers == pytest.approx({"eps": 2.0, "x0": 1.0, "v": 0.6 * 2 - 0.8 * 1, "velocity": 2.0 - 1.0})


@pytest.mark.parametrize("kind", TARGETS)
def test_any_answer_gives_the_pair_that_explains_x_t_and_the_answer(kind: str, schedule: Schedule) -> None:
    """Right or wrong, a x0_hat + b eps_hat = x_t, and the pair gives back the answer.

    With one timestep per picture and with one for all: wherever eps has a picture left, and x0 has noise.
    """
    left = {"eps": schedule.signal > 0, "x0": schedule.noise > 0}.get(kind, torch.ones(101))
    times = [t for t in (0, 1, 2, 50, 99, 100) if left[t]]
    t = torch.tensor(times)
    x_t, answer = (noise(len(times), 1, 4, 4, seed=seed, dtype=torch.float64) for seed in (2, 3))
    x0_hat, eps_hat = to_x0_eps(kind, schedule, answer, x_t, t)
    a, b = schedule.at(t, x_t)
    torch.testing.assert_close(a * x0_hat + b * eps_hat, x_t, rtol=0, atol=1e-10)
    torch.testing.assert_close(make_target(kind, schedule, x0_hat, eps_hat, t), answer, rtol=0, atol=1e-9)
    for i, one in enumerate(times):
        alone = to_x0_eps(kind, schedule, answer[i : i + 1], x_t[i : i + 1], one)
        torch.testing.assert_close(torch.cat(alone), torch.stack([x0_hat[i], eps_hat[i]]))


@pytest.mark.parametrize("name", ["zero terminal SNR", "linear amount"])
def test_half_of_the_pair_is_unknown_where_no_picture_or_no_noise_is_left(name: str) -> None:
    schedule, x_t = every_schedule(10)[name], noise(2, 1, 2, 2)
    assert torch.equal(q_sample(schedule, pictures(2, 1, 2, 2), 10, x_t)[0], x_t)
    for t in (10, torch.tensor([3, 10])):
        with pytest.raises(ValueError, match=r"signal = 0.*'x0', 'v' or 'velocity', or start below T"):
            to_x0_eps("eps", schedule, x_t, x_t, t)
    for t in (0, torch.tensor([3, 0])):
        with pytest.raises(ValueError, match="nothing about the noise at t = 0"):
            to_x0_eps("x0", schedule, x_t, x_t, t)
    for kind, t in (("eps", 9), ("x0", 10), ("v", 10), ("velocity", 10)):
        assert all(half.isfinite().all() for half in to_x0_eps(kind, schedule, x_t, x_t, t))


@pytest.mark.cuda
@pytest.mark.parametrize("name", SCHEDULE_NAMES)
def test_on_the_gpu_as_on_the_cpu(name: str) -> None:
    schedule = every_schedule(100)[name]
    x0, eps = pictures(3, 1, 4, 4), noise(3, 1, 4, 4)
    s, t = torch.tensor([0, 40, 98]), torch.tensor([1, 50, 99])
    far = [tensor.cuda() for tensor in (x0, eps)]
    for near, there in (
        (q_sample(schedule, x0, t, eps)[0], q_sample(schedule, far[0], t.cuda(), far[1])[0]),
        (q_step(schedule, x0, s, t, eps)[0], q_step(schedule, far[0], s.cuda(), t.cuda(), far[1])[0]),
        (q_posterior(schedule, eps, x0, s, t)[0], q_posterior(schedule, far[1], far[0], s.cuda(), t.cuda())[0]),
        (to_x0_eps("v", schedule, eps, x0, t)[0], to_x0_eps("v", schedule, far[1], far[0], t.cuda())[0]),
    ):
        torch.testing.assert_close(there.cpu(), near)
    with pytest.raises(ValueError, match=r"device of the pictures, cuda:0, got cpu; use t.to\(x.device\)"):
        q_sample(schedule, far[0], t)


@pytest.mark.parametrize(
    ("T", "words"), [(150, "still holds the picture: 0.47"), (500, "Careful"), (1000, "every practical purpose")]
)
def test_what_is_left_in_words(T: int, words: str) -> None:
    assert words in left_in_words(make_schedule("linear", T))
    assert "nothing of the picture" in left_in_words(zero_terminal_snr(make_schedule("linear", T)))
