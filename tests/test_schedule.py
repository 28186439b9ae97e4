"""The two tables, what follows from them, and the timesteps of a sampler."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch

from course_lib.schedule import (
    SCHEDULES,
    SPACINGS,
    Schedule,
    cosine_betas,
    from_betas,
    linear_amount,
    linear_betas,
    make_schedule,
    quadratic_betas,
    sampling_times,
    sigmoid_betas,
    start_time,
    zero_terminal_snr,
)

BETAS = {"linear": linear_betas, "quadratic": quadratic_betas, "sigmoid": sigmoid_betas, "cosine": cosine_betas}


def table(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# The betas and the tables


def test_betas_by_hand() -> None:
    for betas in (linear_betas(50, 0.1, 0.3), quadratic_betas(50, 0.1, 0.3)):
        assert betas.dtype == torch.float64 and betas[[0, -1]].tolist() == pytest.approx([0.1, 0.3])
    for straight in (linear_betas(50), quadratic_betas(50).sqrt()):
        torch.testing.assert_close(straight.diff(), straight.diff()[:1].expand(49), rtol=1e-10, atol=0)
    betas = sigmoid_betas(101, 0.1, 0.3)
    torch.testing.assert_close(betas + betas.flip(0), torch.full_like(betas, 0.4))
    assert 0 < (betas[0].item() - 0.1) / 0.2 < 0.0025
    assert betas[75].item() == pytest.approx(0.1 + 0.2 / (1 + math.exp(-3)))  # three quarters of the way, at 3


def test_cosine_signal_follows_the_squared_cosine_until_beta_is_bounded() -> None:
    schedule = make_schedule("cosine", 1000)
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
    for t in (1, 10, 500, 990, 999):
        assert schedule.alpha_bar[t].item() == pytest.approx(f[t] / f[0], rel=1e-9)
    assert schedule.beta.max().item() == pytest.approx(0.999)
    assert cosine_betas(1000, largest=0.5).max().item() == 0.5
    assert (1 - cosine_betas(10, offset=0.0))[:5].prod().item() == pytest.approx(0.5)  # cos²(π/4)


@pytest.mark.parametrize("name", BETAS)
def test_alpha_bar_is_the_product_of_one_minus_beta(name: str) -> None:
    betas, schedule = BETAS[name](200), make_schedule(name, 200)
    products = [1.0, *itertools.accumulate((1 - betas).tolist(), lambda x, y: x * y)]
    assert schedule.signal.tolist() == pytest.approx([math.sqrt(p) for p in products], rel=1e-10)
    assert schedule.noise.tolist() == pytest.approx([math.sqrt(1 - p) for p in products], rel=1e-10)
    assert schedule.name == name and schedule.is_variance_preserving
    torch.testing.assert_close(schedule.beta[1:], betas, rtol=1e-7, atol=1e-13)
    assert schedule.beta[0] == 0 and schedule.alpha_bar[0] == 1


# What follows from the tables


def test_two_steps_make_one_and_all_of_them_the_closed_form(schedule: Schedule) -> None:
    """x_t = scale2 (scale1 x_r + std1 z1) + std2 z2 has the same law as the direct step."""
    for r, s, t in ((0, 1, 2), (0, 40, 100), (1, 50, 99), (30, 31, 32), (10, 99, 100)):
        (scale1, std1), (scale2, std2) = schedule.step_kernel(r, s), schedule.step_kernel(s, t)
        scale, std = schedule.step_kernel(r, t)
        torch.testing.assert_close(scale1 * scale2, scale, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close((scale2 * std1) ** 2 + std2**2, std**2, rtol=1e-9, atol=1e-14)
    every = torch.arange(1, schedule.T + 1)
    for numbers, of_the_table in zip(schedule.step_kernel(0, every), (schedule.signal, schedule.noise), strict=True):
        torch.testing.assert_close(numbers, of_the_table[every])


def test_step_and_posterior_are_ddpm_equations_2_and_7() -> None:
    schedule, t = make_schedule("linear", 1000), torch.arange(2, 1001)
    beta, alpha_bar = torch.cat([table(0), linear_betas(1000)]), schedule.alpha_bar
    scale, std = schedule.step_kernel(t - 1, t)
    torch.testing.assert_close(scale, (1 - beta[t]).sqrt(), rtol=1e-12, atol=0)
    torch.testing.assert_close(std, beta[t].sqrt(), rtol=1e-7, atol=0)
    tilde = (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta[t]
    torch.testing.assert_close(schedule.posterior_variance(t - 1, t), tilde, rtol=1e-8, atol=0)


def test_at_hands_out_the_dtype_and_one_number_per_picture() -> None:
    schedule, t = make_schedule("cosine", 20), torch.tensor([20, 0, 7])
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        like = torch.zeros(3, 1, 2, 2, dtype=dtype)
        for got, whole in zip(schedule.at(t, like), (schedule.signal, schedule.noise), strict=True):
            assert got.dtype == dtype and torch.equal(got, whole[t].to(dtype).view(3, 1, 1, 1))
        assert schedule.at(7, like)[0].shape == (1, 1, 1, 1)
    assert schedule.at(t, torch.zeros(3, 4))[0].shape == (3, 1)


def test_numbers_that_were_looked_up_without_gradients_can_be_trained_with() -> None:
    schedule, x, weight = make_schedule("linear", 10), torch.zeros(1, 1, 2, 2), torch.ones(1, requires_grad=True)
    with torch.inference_mode():
        schedule.at(5, x)
    (schedule.at(5, x)[0] * weight).sum().backward()


# The timesteps of a sampler


@pytest.mark.parametrize("spacing", SPACINGS)
def test_sampling_times_are_those_of_diffusers_plus_1_and_fall_to_0(spacing: str) -> None:
    """Except that its "trailing" list sometimes has one more timestep, which is its −1: a picture that is done."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is an extra of the tests")
    for T in (1, 2, 7, 97, 1000):
        scheduler, longer = diffusers.DDIMScheduler(T, timestep_spacing=spacing, steps_offset=0), []
        for steps in range(1, T + 1):
            scheduler.set_timesteps(steps)
            theirs = (scheduler.timesteps + 1).tolist()
            if len(theirs) > steps:
                longer.append(steps)
                assert theirs.pop() == 0
            times = sampling_times(T, steps, spacing)
            assert times == [*theirs, 0] and times == sorted(set(times), reverse=True), (T, steps)
    assert longer[:3] == ([61, 103, 121] if spacing == "trailing" else [])
    assert sampling_times(1000, 7, spacing, start=600) == sampling_times(600, 7, spacing)


def test_the_start_time_is_the_last_where_noise_is_at_most_80_times_the_signal(schedule: Schedule) -> None:
    ratio = schedule.noise / schedule.signal
    for largest in (0.5, 5.0, 80.0, 1e9):
        t = start_time(schedule, largest=largest)
        assert ratio[t] <= largest or t == 1
        assert t == schedule.T or ratio[t + 1] > largest
    assert {start_time(schedule, target) for target in ("v", "x0", "velocity")} == {schedule.T}
    assert start_time(make_schedule("linear", 1000)) == 930


# Bad input


@pytest.mark.parametrize(
    ("signal", "noise", "error", "message"),
    [
        ([1.0, 0.5], table(0, 1), TypeError, "signal must be a float64 tensor, got list"),
        (table(1, 0.5).float(), table(0, 1), TypeError, r"signal .* got torch.float32; use table.double\(\)"),
        (table(1), table(0), ValueError, r"signal must have shape \(T\+1,\) with T >= 1"),
        (table(1, 0.5)[None], table(0, 1), ValueError, r"signal must have shape .* got \(1, 2\)"),
        (table(1, 0.5).to("meta"), table(0, 1), ValueError, r"got \(2,\) on meta"),
        (table(1, 0.5, 0.2), table(0, 1), ValueError, "same length, got 3 and 2"),
        (table(1, math.nan), table(0, 1), ValueError, r"signal holds 1 value\(s\) that are NaN"),
        (table(1, 0.5), table(0, math.inf), ValueError, "noise holds 1 value.* infinite"),
        (table(0.9, 0.5), table(0, 1), ValueError, "t = 0 must be the picture itself .* prepend that entry"),
        (table(1, -0.5), table(0, 1), ValueError, "signal must be >= 0 everywhere and noise > 0"),
        (table(1, 0.5, 0.4), table(0, 0, 1), ValueError, "noise > 0 from t = 1"),
        (table(1, 0.5, 0.6), table(0, 0.7, 0.7), ValueError, "never grow with t; is the table in reverse order"),
        (table(1, 0.5, 0, 0), table(0, 0.7, 1, 1), ValueError, "got 0 at t = 2 of 3.*use fewer steps"),
    ],
)
def test_tables_that_are_no_process_are_refused(
    signal: torch.Tensor, noise: torch.Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Schedule(signal, noise)


NOT_VP = "is defined where signal² \\+ noise² = 1; 'linear amount' is not such a schedule"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: make_schedule("cosin"), ValueError, "'cosin' is unknown.*" + ", ".join(map(repr, SCHEDULES))),
        (lambda: linear_amount(10).beta, ValueError, f"beta {NOT_VP}"),
        (lambda: linear_amount(10).alpha_bar, ValueError, f"alpha_bar {NOT_VP}"),
        (lambda: zero_terminal_snr(linear_amount(10)), ValueError, NOT_VP),
        (lambda: zero_terminal_snr(make_schedule("linear", 1)), ValueError, "needs T >= 2"),
        (lambda: cosine_betas(10, offset=-0.1), ValueError, "offset must lie in"),
        (lambda: cosine_betas(10, offset=math.inf), ValueError, "offset must be finite"),
        (lambda: from_betas([0.1]), TypeError, "betas must be a floating-point tensor"),  # type: ignore[arg-type]
        (lambda: from_betas(table(0.1)[None]), ValueError, r"with values in \(0, 1\], got shape \(1, 1\)"),
        (lambda: from_betas(table(0.1, 0)), ValueError, r"values in \(0, 1\]"),
        (lambda: from_betas(table(0.1, math.nan)), ValueError, r"values in \(0, 1\]"),
        (lambda: from_betas(table(0.1, 1, 0.1)), ValueError, "got 0 at t = 2 of 3"),
        (lambda: sampling_times(0, 1), ValueError, "T must lie in"),
        (lambda: sampling_times(10, 11), ValueError, r"steps must lie in \[1, 10\], got 11"),
        (lambda: sampling_times(10, 2.0), TypeError, "steps must be an int"),  # type: ignore[arg-type]
        (lambda: sampling_times(10, 2, start=11), ValueError, r"start must lie in \[1, 10\], got 11"),
        (lambda: sampling_times(10, 6, start=5), ValueError, r"steps must lie in \[1, 5\], got 6"),
        (lambda: sampling_times(10, 2, "even"), ValueError, "spacing='even' is unknown; choose one of 'trailing'"),
    ],
)
def test_bad_arguments_are_refused(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("make", [*BETAS.values(), linear_amount])
def test_a_bad_number_of_steps_or_end_is_refused(make: Callable[..., object]) -> None:
    for T in (0, 1.5, True):
        with pytest.raises(ValueError if T == 0 else TypeError, match="T must"):
            make(T)
    ends = {cosine_betas: ["largest"], linear_amount: []}.get(make, ["start", "end"])
    for end, value in itertools.product(ends, (0, 1.0, -0.1, 1.1, math.nan)):
        with pytest.raises(ValueError, match=rf"{end} must lie (in \[0, 1\]|strictly between 0 and 1), got {value}"):
            make(10, **{end: value})
