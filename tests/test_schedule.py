"""The two tables, what follows from them, and the timesteps of a sampler."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

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
from helpers import every_schedule

VP = ("linear", "quadratic", "sigmoid", "cosine")


def table(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# The betas and the tables


def test_linear_betas_are_those_of_ddpm() -> None:
    betas = linear_betas(1000)
    assert betas.dtype == torch.float64 and betas.shape == (1000,)
    for i in (0, 1, 499, 999):
        assert betas[i].item() == pytest.approx(1e-4 + i * (0.02 - 1e-4) / 999, rel=1e-12)


def test_quadratic_betas_have_a_straight_square_root() -> None:
    root = quadratic_betas(50).sqrt()
    torch.testing.assert_close(root.diff(), root.diff()[:1].expand(49), rtol=1e-10, atol=0)
    assert root[0].item() == pytest.approx(0.01) and root[-1].item() == pytest.approx(math.sqrt(0.02))


def test_sigmoid_betas_are_symmetric_and_reach_the_ends_within_a_quarter_percent() -> None:
    betas = sigmoid_betas(101, 0.1, 0.3)
    torch.testing.assert_close(betas + betas.flip(0), torch.full_like(betas, 0.4))
    assert 0 < (betas[0].item() - 0.1) / 0.2 < 0.0025 and 0 < (0.3 - betas[-1].item()) / 0.2 < 0.0025
    assert betas[75].item() == pytest.approx(0.1 + 0.2 / (1 + math.exp(-3)))  # three quarters of the way, at 3


def test_cosine_signal_follows_the_squared_cosine_until_beta_is_bounded() -> None:
    schedule = make_schedule("cosine", 1000)

    def f(t: int) -> float:
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    for t in (1, 10, 500, 990, 999):
        assert schedule.alpha_bar[t].item() == pytest.approx(f(t) / f(0), rel=1e-9)
    assert schedule.beta.max().item() == pytest.approx(0.999)
    assert cosine_betas(1000, largest=0.5).max().item() == 0.5


@pytest.mark.parametrize("name", VP)
def test_alpha_bar_is_the_product_of_one_minus_beta(name: str) -> None:
    betas = {
        "linear": linear_betas,
        "quadratic": quadratic_betas,
        "sigmoid": sigmoid_betas,
        "cosine": cosine_betas,
    }[name](200)
    schedule = make_schedule(name, 200)
    product = 1.0
    for t, beta in enumerate(betas.tolist(), start=1):
        product *= 1 - beta
        assert schedule.signal[t].item() == pytest.approx(math.sqrt(product), rel=1e-10)
        assert schedule.noise[t].item() == pytest.approx(math.sqrt(1 - product), rel=1e-10)
    assert schedule.name == name and schedule.is_variance_preserving
    torch.testing.assert_close(schedule.beta[1:], betas, rtol=1e-7, atol=1e-13)
    assert schedule.beta[0] == 0 and schedule.alpha_bar[0] == 1


def test_ddpm_leaves_almost_no_picture_and_a_short_chain_leaves_half() -> None:
    assert make_schedule("linear", 1000).signal[-1].item() == pytest.approx(0.00635, abs=1e-5)
    assert make_schedule("linear", 150).signal[-1].item() == pytest.approx(0.47, abs=0.005)


def test_linear_amount_is_straight_and_its_variance_sags() -> None:
    schedule = linear_amount(10)
    torch.testing.assert_close(schedule.noise, torch.arange(11).double() / 10)
    torch.testing.assert_close(schedule.signal + schedule.noise, torch.ones(11).double())
    assert (schedule.signal[5] ** 2 + schedule.noise[5] ** 2).item() == pytest.approx(0.5)
    assert not schedule.is_variance_preserving and schedule.signal[-1] == 0


def test_every_schedule_starts_at_the_picture_and_only_loses_it(schedule: Schedule) -> None:
    a, b = schedule.signal, schedule.noise
    assert schedule.T == 100 == len(a) - 1 and a.dtype == b.dtype == torch.float64
    assert a[0] == 1 and b[0] == 0
    assert (a.diff() < 0).all() and (b.diff() > 0).all()
    assert schedule.snr[0] == math.inf and (schedule.snr[1:].diff() < 0).all()
    torch.testing.assert_close(schedule.snr[1:], (a[1:] / b[1:]) ** 2)
    finite = a[1:] > 0
    torch.testing.assert_close(schedule.log_snr_half[1:][finite].exp(), (a[1:] / b[1:])[finite])


def test_zero_terminal_snr_moves_the_last_step_and_keeps_the_first() -> None:
    old = make_schedule("linear", 100)
    new = zero_terminal_snr(old)
    assert new.signal[-1] == 0 and new.noise[-1] == 1
    assert new.signal[1].item() == pytest.approx(old.signal[1].item(), rel=1e-12)
    # Shift and stretch: gaps keep their proportions.
    ratio = new.signal[1:].diff() / old.signal[1:].diff()
    torch.testing.assert_close(ratio, ratio[:1].expand(99))
    assert new.is_variance_preserving and "zero terminal" in new.name
    torch.testing.assert_close(zero_terminal_snr(new).signal, new.signal)


# What follows from the tables


def test_one_step_kernel_is_ddpm_equation_2() -> None:
    schedule = make_schedule("linear", 1000)
    betas = linear_betas(1000)
    for t in (1, 2, 500, 1000):
        scale, std = schedule.step_kernel(t - 1, t)
        assert scale.item() == pytest.approx(math.sqrt(1 - betas[t - 1].item()), rel=1e-12)
        assert std.item() == pytest.approx(math.sqrt(betas[t - 1].item()), rel=1e-7)


def test_two_steps_make_one(schedule: Schedule) -> None:
    """x_t = scale2 (scale1 x_r + std1 z1) + std2 z2 has the same law as the direct step."""
    for r, s, t in ((0, 1, 2), (0, 40, 100), (1, 50, 99), (30, 31, 32), (10, 99, 100)):
        scale1, std1 = schedule.step_kernel(r, s)
        scale2, std2 = schedule.step_kernel(s, t)
        scale, std = schedule.step_kernel(r, t)
        torch.testing.assert_close(scale1 * scale2, scale, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close((scale2 * std1) ** 2 + std2**2, std**2, rtol=1e-9, atol=1e-14)


def test_all_single_steps_together_are_the_closed_form(schedule: Schedule) -> None:
    mean, variance = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for t in range(1, schedule.T + 1):
        scale, std = schedule.step_kernel(t - 1, t)
        mean, variance = scale * mean, scale**2 * variance + std**2
        torch.testing.assert_close(mean, schedule.signal[t], rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(variance.sqrt(), schedule.noise[t], rtol=1e-9, atol=1e-13)


def test_posterior_variance_is_beta_tilde_of_ddpm_equation_7() -> None:
    schedule = make_schedule("linear", 1000)
    beta, alpha_bar = schedule.beta, schedule.alpha_bar
    for t in (2, 3, 500, 1000):
        tilde = (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta[t]
        torch.testing.assert_close(schedule.posterior_variance(t - 1, t), tilde, rtol=1e-8, atol=0)


def test_posterior_variance_ends_at_exactly_zero_and_stays_below_both_of_its_sources(schedule: Schedule) -> None:
    t = torch.arange(2, schedule.T + 1)
    for s in (t - 1, t // 2):
        var = schedule.posterior_variance(s, t)
        _, std = schedule.step_kernel(s, t)
        scale, _ = schedule.step_kernel(s, t)
        # A product of Gaussians: 1/var = 1/b_s² + scale²/std².
        precision = 1 / schedule.noise[s] ** 2 + (scale / std) ** 2
        torch.testing.assert_close(var, 1 / precision, rtol=1e-7, atol=1e-14)
    for t in (1, 2, schedule.T):  # type: ignore[assignment]
        assert schedule.posterior_variance(0, t).item() == 0.0


def test_kernels_take_one_timestep_per_picture(schedule: Schedule) -> None:
    s, t = torch.tensor([0, 3, 50]), torch.tensor([1, 10, 100])
    scales, stds = schedule.step_kernel(s, t)
    variances = schedule.posterior_variance(s, t)
    for i in range(3):
        scale, std = schedule.step_kernel(int(s[i]), int(t[i]))
        assert scales[i] == scale and stds[i] == std
        assert variances[i] == schedule.posterior_variance(int(s[i]), int(t[i]))
    assert schedule.step_kernel(0, t)[0].shape == (3,)


def test_at_hands_out_the_dtype_and_one_number_per_picture() -> None:
    schedule = make_schedule("cosine", 20)
    t = torch.tensor([20, 0, 7])
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        like = torch.zeros(3, 1, 2, 2, dtype=dtype)
        a, b = schedule.at(t, like)
        assert a.shape == b.shape == (3, 1, 1, 1) and a.dtype == b.dtype == dtype
        assert torch.equal(a.flatten(), schedule.signal[t].to(dtype))
        assert torch.equal(b.flatten(), schedule.noise[t].to(dtype))
        one, _ = schedule.at(7, like)
        assert one.shape == (1, 1, 1, 1) and one.item() == a[2].item()
    assert schedule.at(t, torch.zeros(3, 4))[0].shape == (3, 1)


# The timesteps of a sampler


@pytest.mark.parametrize("spacing", SPACINGS)
def test_sampling_times_fall_strictly_to_zero_for_every_number_of_steps(spacing: str) -> None:
    for T in (1, 2, 3, 7, 10, 50, 97):
        for steps in range(1, T + 1):
            times = sampling_times(T, steps, spacing)
            assert len(times) == steps + 1 and times[-1] == 0 and times[0] <= T
            assert all(isinstance(t, int) for t in times)
            assert all(t > s for t, s in itertools.pairwise(times)), (T, steps, times)
        assert sampling_times(T, T, spacing) == list(range(T, -1, -1))


def test_where_each_spacing_starts_and_ends() -> None:
    assert sampling_times(1000, 50)[:2] == [1000, 980] and sampling_times(1000, 50)[-2] == 20
    assert sampling_times(1000, 50, "leading")[:2] == [981, 961] and sampling_times(1000, 50, "leading")[-2] == 1
    assert sampling_times(1000, 3, "linspace") == [1000, 501, 1, 0]
    assert sampling_times(1000, 1) == [1000, 0]


def test_a_walk_that_starts_below_T_is_spaced_as_if_that_were_T() -> None:
    for spacing in SPACINGS:
        assert sampling_times(1000, 7, spacing, start=600) == sampling_times(600, 7, spacing)
    assert sampling_times(1000, 5, start=5) == [5, 4, 3, 2, 1, 0]


def test_the_start_time_is_the_last_where_noise_is_at_most_80_times_the_signal(schedule: Schedule) -> None:
    for largest in (0.5, 5.0, 80.0, 1e9):
        t = start_time(schedule, largest=largest)
        ratio = schedule.noise / schedule.signal
        assert ratio[t] <= largest or t == 1
        assert t == schedule.T or ratio[t + 1] > largest
    assert start_time(schedule, "v") == start_time(schedule, "x0") == start_time(schedule, "velocity") == schedule.T
    assert start_time(make_schedule("linear", 1000)) == 930


# Bad input


@pytest.mark.parametrize(
    ("signal", "noise", "error", "message"),
    [
        ([1.0, 0.5], table(0, 1), TypeError, "signal must be a float64 tensor, got list"),
        (table(1, 0.5).float(), table(0, 1), TypeError, r"signal .* got torch.float32; use table.double\(\)"),
        (table(1, 0.5), table(0, 1).float(), TypeError, "noise must be a float64"),
        (table(1), table(0), ValueError, r"signal must have shape \(T\+1,\) with T >= 1"),
        (table(1, 0.5)[None], table(0, 1), ValueError, r"signal must have shape .* got \(1, 2\)"),
        (table(1, 0.5).to("meta"), table(0, 1), ValueError, r"got \(2,\) on meta"),
        (table(1, 0.5, 0.2), table(0, 1), ValueError, "same length, got 3 and 2"),
        (table(1, math.nan), table(0, 1), ValueError, "signal holds NaN"),
        (table(1, 0.5), table(0, math.inf), ValueError, "noise holds NaN or infinity"),
        (table(0.9, 0.5), table(0, 1), ValueError, "t = 0 must be the picture itself .* prepend that entry"),
        (table(1, 0.5), table(0.1, 1), ValueError, r"\(signal 1, noise 0\), got 1 and 0.1"),
        (table(1, -0.5), table(0, 1), ValueError, "signal must be >= 0 everywhere and noise > 0"),
        (table(1, 0.5, 0.4), table(0, 0, 1), ValueError, "noise > 0 from t = 1"),
        (table(1, 0.5, 0.6), table(0, 0.7, 0.7), ValueError, "never grow with t; is the table in reverse order"),
        (table(1, 0.5, 0.5), table(0, 0.7, 0.6), ValueError, "never grow with t"),
        (table(1, 0.5, 0, 0), table(0, 0.7, 1, 1), ValueError, "got 0 at t = 2 of 3.*use fewer steps"),
    ],
)
def test_tables_that_are_no_process_are_refused(
    signal: torch.Tensor, noise: torch.Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Schedule(signal, noise)


@pytest.mark.parametrize("what", ["alpha_bar", "beta"])
def test_beta_and_alpha_bar_exist_only_where_variance_is_preserved(what: str) -> None:
    with pytest.raises(ValueError, match=rf"{what} is defined where signal² \+ noise² = 1; 'linear amount' is not"):
        getattr(linear_amount(10), what)


BAD_TIMES = [
    (-1, ValueError, r"must lie in 0..10, got -1"),
    (11, ValueError, r"must lie in 0..10, got 11"),
    (torch.tensor([0, 11]), ValueError, r"must lie in 0..10, got 0..11"),
    (torch.tensor([-3, 4]), ValueError, r"must lie in 0..10, got -3..4"),
    (2.0, TypeError, "must be an int or a tensor of integers, got float"),
    (torch.tensor([1.0]), TypeError, "got torch.float32"),
    (torch.tensor([], dtype=torch.int64), ValueError, r"got shape \(0,\)"),
]


@pytest.mark.parametrize(("t", "error", "message"), BAD_TIMES)
def test_timesteps_out_of_range_are_refused(t: Any, error: type[Exception], message: str) -> None:
    schedule = make_schedule("linear", 10)
    with pytest.raises(error, match=f"^t .*{message}"):
        schedule.validate_t(t)
    for kernel in (schedule.step_kernel, schedule.posterior_variance):
        with pytest.raises(error, match=f"^t .*{message}"):
            kernel(0, t)
        with pytest.raises(error, match=f"^s .*{message}"):
            kernel(t, 10)


def test_check_t_knows_where_noise_begins() -> None:
    schedule = make_schedule("linear", 10)
    schedule.validate_t(10, low=1)
    schedule.validate_t(torch.tensor([1, 10]), low=1)
    with pytest.raises(ValueError, match=r"t must lie in 1..10, got 0; t = 0 is the picture itself"):
        schedule.validate_t(0, low=1)
    with pytest.raises(ValueError, match="one entry per picture, 3, got 2"):
        schedule.validate_t(torch.tensor([1, 2]), batch=3)
    with pytest.raises(ValueError, match="device of the pictures, cpu, got meta"):
        schedule.validate_t(torch.tensor([1, 2], device="meta"), device=torch.device("cpu"))


def test_kernels_refuse_steps_that_do_not_go_forward() -> None:
    schedule = make_schedule("linear", 10)
    for kernel in (schedule.step_kernel, schedule.posterior_variance):
        for s, t in ((3, 3), (4, 3), (torch.tensor([1, 5]), torch.tensor([2, 5]))):
            with pytest.raises(ValueError, match="s must be earlier than t, got s = "):
                kernel(s, t)
        with pytest.raises(ValueError, match="one entry per picture, 2, got 3"):
            kernel(torch.tensor([1, 2]), torch.tensor([3, 4, 5]))


def test_an_unknown_schedule_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'cosin' is unknown; choose one of " + ", ".join(map(repr, SCHEDULES))):
        make_schedule("cosin")
    for name in SCHEDULES:
        assert make_schedule(name, 5).T == 5


@pytest.mark.parametrize("T", [0, -1, 1.5, True, "10"])
@pytest.mark.parametrize(
    "make",
    [linear_betas, quadratic_betas, sigmoid_betas, cosine_betas, linear_amount, lambda T: make_schedule("cosine", T)],
)
def test_a_bad_number_of_steps_is_refused(make: Callable[[Any], object], T: Any) -> None:
    with pytest.raises(ValueError if type(T) is int else TypeError, match="T must"):
        make(T)


@pytest.mark.parametrize("make", [linear_betas, quadratic_betas, sigmoid_betas])
@pytest.mark.parametrize("end", ["start", "end"])
@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, -0.1, 1.1, math.nan])
def test_betas_out_of_range_are_refused(make: Callable[..., object], end: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{end} must lie (in \[0, 1\]|strictly between 0 and 1), got {value}"):
        make(10, **{end: value})


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.1, math.nan])
def test_the_bounds_of_the_cosine_are_checked(value: float) -> None:
    with pytest.raises(ValueError, match=rf"largest must lie .*got {value}"):
        cosine_betas(10, largest=value)
    if value < 0 or value != value:
        with pytest.raises(ValueError, match="offset must lie in"):
            cosine_betas(10, offset=value)


@pytest.mark.parametrize(
    ("betas", "error", "message"),
    [
        ([0.1], TypeError, "betas must be a floating-point tensor"),
        (torch.tensor([1]), TypeError, "betas must be a floating-point tensor"),
        (torch.tensor([[0.1]]), ValueError, r"shape \(T,\) with values in \(0, 1\], got shape \(1, 1\)"),
        (torch.tensor([]), ValueError, r"got shape \(0,\)"),
        (torch.tensor([0.1, 0.0]), ValueError, r"values in \(0, 1\]"),
        (torch.tensor([0.1, 1.1]), ValueError, r"values in \(0, 1\]"),
        (torch.tensor([0.1, math.nan]), ValueError, r"values in \(0, 1\]"),
        (torch.tensor([0.1, 1.0, 0.1]), ValueError, "got 0 at t = 2 of 3"),
    ],
)
def test_tensors_that_are_no_betas_are_refused(betas: torch.Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_betas(betas)


def test_from_betas_takes_float32_and_a_last_beta_of_one() -> None:
    schedule = from_betas(torch.tensor([0.5, 1.0]), "mine")
    torch.testing.assert_close(schedule.alpha_bar, table(1, 0.5, 0))
    assert schedule.name == "mine"


def test_zero_terminal_snr_refuses_what_it_cannot_stretch() -> None:
    with pytest.raises(ValueError, match="'linear amount' is not such a schedule"):
        zero_terminal_snr(linear_amount(10))
    with pytest.raises(ValueError, match="needs T >= 2"):
        zero_terminal_snr(make_schedule("linear", 1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 1), ValueError, "T must lie in"),
        ((1.0, 1), TypeError, "T must be an int"),
        ((10, 0), ValueError, r"steps must lie in \[1, 10\], got 0"),
        ((10, 11), ValueError, r"steps must lie in \[1, 10\], got 11"),
        ((10, 2.0), TypeError, "steps must be an int"),
        ((10, 2, "trailing", 0), ValueError, r"start must lie in \[1, 10\], got 0"),
        ((10, 2, "trailing", 11), ValueError, r"start must lie in \[1, 10\], got 11"),
        ((10, 6, "trailing", 5), ValueError, r"steps must lie in \[1, 5\], got 6"),
        ((10, 2, "even"), ValueError, "spacing='even' is unknown; choose one of 'trailing', 'leading', 'linspace'"),
    ],
)
def test_bad_sampling_times_are_refused(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sampling_times(*arguments)


@pytest.mark.cuda
def test_tables_follow_the_pictures_to_the_gpu() -> None:
    for schedule in every_schedule(10).values():
        like = torch.zeros(3, 1, 2, 2, device="cuda")
        a, b = schedule.at(torch.tensor([10, 0, 7], device="cuda"), like)
        assert a.device.type == b.device.type == "cuda"
        assert torch.equal(a.flatten().cpu(), schedule.signal[[10, 0, 7]].float())


@pytest.mark.parametrize("steps", [3, 7, 61, 300])
def test_the_times_are_the_nearest_to_even_ones(steps: int) -> None:
    for i, t in enumerate(sampling_times(1000, steps)[:-1]):
        assert abs(t - (1000 - i * 1000 / steps)) <= 0.5
    for i, t in enumerate(sampling_times(1000, steps, "linspace")[:-1]):
        assert abs(t - (1000 - i * 999 / (steps - 1))) <= 0.5


@pytest.mark.parametrize("largest", [0, -1.0, math.nan, "80"])
def test_a_bad_bound_of_the_start_is_refused(largest: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="largest must"):
        start_time(make_schedule("linear", 10), largest=largest)


def test_offset_and_ends_of_the_betas_have_a_say() -> None:
    assert (1 - cosine_betas(10, offset=0.0))[:5].prod().item() == pytest.approx(0.5)  # cos²(π/4)
    for make in (linear_betas, quadratic_betas):
        assert make(5, 0.1, 0.3)[[0, -1]].tolist() == pytest.approx([0.1, 0.3])


def test_numbers_that_were_looked_up_without_gradients_can_be_trained_with() -> None:
    schedule, x = make_schedule("linear", 10), torch.zeros(1, 1, 2, 2)
    with torch.inference_mode():
        schedule.at(5, x)
    weight = torch.ones(1, requires_grad=True)
    a, _ = schedule.at(5, x)
    (a * weight).sum().backward()
    assert weight.grad is not None and weight.grad.item() == pytest.approx(schedule.signal[5].item())
