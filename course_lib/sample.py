"""Sampling: one reverse step, one loop that is a generator, and two numbers that choose the sampler.

eta = 1 visiting every timestep is DDPM (Ho et al. 2020); eta = 0 is DDIM (Song et al. 2021, arXiv:2010.02502);
on the linear amount, eta = 0 is Euler's method on the flow. Any falling list of timesteps will do.

order = 2 looks back at the step before: DPM-Solver++(2M) with eta = 0, its stochastic form with eta = 1 (Lu et al.
2022, arXiv:2211.01095, algorithm 2 and appendix). It needs fewer steps for the same picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from .forward import TARGETS, to_x0_eps
from .schedule import Schedule
from .validate import check_choice, check_number, check_pictures, check_same


def reverse_step(
    schedule: Schedule,
    x0_hat: Tensor,
    eps_hat: Tensor,
    t: int,
    s: int,
    eta: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One step back, from t to s: x_s = a_s x0_hat + √(b_s² − η² var) eps_hat + η √var z (DDIM, eqs. 12 and 16).

    var is the variance of the posterior q(x_s | x_t, x_0). It is 0 for s = 0, so the last step adds no noise; z is
    drawn only where it is used.

    Args:
        schedule: the tables a and b.
        x0_hat: the picture as the network sees it at t, (B, C, H, W).
        eps_hat: the noise as the network sees it, shaped like x0_hat.
        t: where we are, 1..T.
        s: where to go, 0 <= s < t.
        eta: 1 for DDPM, 0 for DDIM, or between.
        generator: source of z, on the device of x0_hat.

    Returns:
        x_s, shaped like x0_hat.

    Raises:
        TypeError, ValueError: bad or different pictures, timesteps out of order or range, eta out of [0, 1].
    """
    check_pictures(x0_hat, "x0_hat")
    check_same(x0_hat, eps_hat, "x0_hat", "eps_hat")
    for name, index in (("t", t), ("s", s)):
        check_number(name, index, 0, schedule.T, integer=True)
    check_number("eta", eta, 0, 1)
    var = eta**2 * schedule.posterior_variance(s, t).item()
    a_s, b_s = schedule.signal[s].item(), schedule.noise[s].item()
    x_s = a_s * x0_hat + max(b_s**2 - var, 0.0) ** 0.5 * eps_hat
    if var > 0:
        z = torch.randn(x_s.shape, dtype=x_s.dtype, device=x_s.device, generator=generator)
        x_s = x_s + var**0.5 * z
    return x_s


@dataclass(frozen=True)
class SampleStep:
    """One step of a sampling run; every tensor is (B, C, H, W).

    Args:
        t: the timestep that was left.
        s: the timestep that was reached.
        x_t: the noisy pictures at t.
        x0_hat: the pictures as the network saw them at t.
        eps_hat: the noise as the network saw it at t.
        x_s: the noisy pictures at s; at s = 0 the samples.
    """

    t: int
    s: int
    x_t: Tensor
    x0_hat: Tensor
    eps_hat: Tensor
    x_s: Tensor


def trajectory(
    model: nn.Module,
    schedule: Schedule,
    x_T: Tensor,
    *,
    times: Sequence[int] | None = None,
    eta: float = 1.0,
    order: int = 1,
    target: str = "eps",
    clip: bool = True,
    y: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[SampleStep]:
    """Walk from noise to pictures (DDPM, algorithm 2), yielding every step; nothing is computed ahead.

    Args:
        model: called as model(x_t, t, y), in eval mode and without gradients; its mode is given back each step.
        schedule: the tables a and b.
        x_T: where to start, (B, C, H, W), on the model's device; usually noise from N(0, I).
        times: strictly falling timesteps, the first that of x_T, the last 0; see `schedule.sampling_times`. Every
            timestep from T where None.
        eta: 1 for DDPM, 0 for DDIM, or between.
        order: 1, or 2 to correct each step by the one before it (see `extrapolate`).
        target: what the model predicts, one of `forward.TARGETS`.
        clip: keep x0_hat in [-1, 1] and let eps_hat follow, x_t = a x0_hat + b eps_hat.
        y: class labels, int64 (B,), or None.
        generator: source of the noise, on the device of x_T.

    Yields:
        A `SampleStep` after each step.

    Raises:
        TypeError, ValueError: bad pictures or timesteps, an unknown target: raised here, before the first step.
            What the model refuses, and a target that cannot be inverted at the first of the times: at that step.
    """
    check_pictures(x_T, "x_T")
    check_choice("target", target, TARGETS)
    check_number("eta", eta, 0, 1)
    check_choice("order", order, (1, 2))
    times = list(range(schedule.T, -1, -1)) if times is None else [*times]
    for t in times:
        check_number("times", t, 0, schedule.T, integer=True)
    if len(times) < 2 or times[-1] != 0 or any(t <= s for t, s in pairwise(times)):
        raise ValueError(f"times must fall strictly and end with 0, got {times[:3]} ... {times[-3:]}")
    return _walk(model, schedule, x_T, times, eta, order, target, clip, y, generator)


def _walk(
    model: nn.Module,
    schedule: Schedule,
    x_t: Tensor,
    times: list[int],
    eta: float,
    order: int,
    target: str,
    clip: bool,
    y: Tensor | None,
    generator: torch.Generator | None,
) -> Iterator[SampleStep]:
    before: SampleStep | None = None
    for t, s in pairwise(times):
        x0_hat, eps_hat = predict(model, schedule, x_t, t, target=target, clip=clip, y=y)
        x0, eps = x0_hat, eps_hat
        if order == 2 and before is not None:
            x0 = extrapolate(schedule, x0_hat, before.x0_hat, t, s, before.t)
            a, b = schedule.at(t, x_t)
            eps = (x_t - a * x0) / b
        x_s = reverse_step(schedule, x0, eps, t, s, eta, generator=generator)
        before = SampleStep(t, s, x_t, x0_hat, eps_hat, x_s)
        yield before
        x_t = x_s


def extrapolate(schedule: Schedule, x0_hat: Tensor, x0_before: Tensor, t: int, s: int, t_before: int) -> Tensor:
    """What the network would see half way from t to s, by a straight line in λ = log(a/b) through the last two answers.

    D = x0_hat + (x0_hat − x0_before) / (2r), r = (λ_t − λ_before) / (λ_s − λ_t) (DPM-Solver++, algorithm 2). In the
    step to s = 0 there is no half way, since λ_0 is infinite: D = x0_hat, and the step is of first order.

    Args:
        schedule: the tables a and b.
        x0_hat: the picture as the network sees it at t, (B, C, H, W).
        x0_before: the picture as it saw it at t_before, shaped like x0_hat.
        t: where we are, 1..T.
        s: where to go, 0 <= s < t.
        t_before: where the step before began, t < t_before <= T.

    Returns:
        D, shaped like x0_hat; it may leave [-1, 1] where x0_hat does not.
    """
    if s == 0:
        return x0_hat
    clock = schedule.log_snr_half
    weight = ((clock[s] - clock[t]) / (clock[t] - clock[t_before]) / 2).item()
    return x0_hat + weight * (x0_hat - x0_before)


@torch.no_grad()
def predict(
    model: nn.Module,
    schedule: Schedule,
    x_t: Tensor,
    t: int,
    *,
    target: str = "eps",
    clip: bool = True,
    y: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Ask the network what it sees in x_t: the picture and the noise.

    Args:
        model, schedule, target, clip, y: as `trajectory`.
        x_t: noisy pictures, (B, C, H, W).
        t: their timestep, 1..T.

    Returns:
        x0_hat and eps_hat, both shaped like x_t.

    Raises:
        TypeError, ValueError: bad pictures or timestep, an unknown target, what the model refuses.
    """
    check_choice("target", target, TARGETS)
    check_number("t", t, 1, schedule.T, integer=True)
    was_training = model.training
    model.eval()
    try:
        answer = model(x_t, torch.full((len(x_t),), t, device=x_t.device), y)
    finally:
        model.train(was_training)
    x0_hat, eps_hat = to_x0_eps(target, schedule, answer.to(x_t.dtype), x_t, t)
    if clip:
        a, b = schedule.at(t, x_t)
        x0_hat = x0_hat.clamp(-1, 1)
        eps_hat = (x_t - a * x0_hat) / b
    return x0_hat, eps_hat


def sample(
    model: nn.Module,
    schedule: Schedule,
    x_T: Tensor,
    *,
    times: Sequence[int] | None = None,
    eta: float = 1.0,
    order: int = 1,
    target: str = "eps",
    clip: bool = True,
    y: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The last picture of a `trajectory`.

    Args, Raises: as `trajectory`.

    Returns:
        Samples, shaped like x_T; in [-1, 1] where clip is on.
    """
    steps = trajectory(
        model, schedule, x_T, times=times, eta=eta, order=order, target=target, clip=clip, y=y, generator=generator
    )
    for step in steps:
        x_s = step.x_s
    return x_s
