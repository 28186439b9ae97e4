"""Sampling: one reverse step, one loop that is a generator, and two numbers that choose the sampler.

eta = 1 at every timestep is DDPM (Ho et al. 2020, arXiv:2006.11239); eta = 0 is DDIM (Song et al. 2021,
arXiv:2010.02502); on the linear amount, eta = 0 is Euler's method on the flow. Any falling list of timesteps works.

order = 2 also uses the answer of the step before: with eta = 0 this is DPM-Solver++(2M) (Lu et al. 2022,
arXiv:2211.01095, algorithm 2), with eta = 1 its stochastic form. It needs fewer steps for equally good pictures.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .forward import TARGETS, solve_x0_eps, validate_invertible
from .runtime import in_mode
from .schedule import Schedule, validate_schedule
from .validate import (
    validate_choice,
    validate_finite,
    validate_flag,
    validate_labels,
    validate_model,
    validate_number,
    validate_pictures,
    validate_same,
)


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

    var is the variance of the posterior q(x_s | x_t, x_0). It is 0 at s = 0, so the last step adds no noise.

    Args:
        schedule: the tables a and b.
        x0_hat: the picture that the network sees at t, (B, C, H, W).
        eps_hat: the noise that the network sees at t, shaped like x0_hat.
        t: where we are, 1..T.
        s: where we go, 0 <= s < t.
        eta: 1 for DDPM, 0 for DDIM, or anything between.
        generator: source of z, on the device of x0_hat; untouched where the step adds no noise.

    Returns:
        x_s, shaped like x0_hat.
    """
    validate_schedule(schedule)
    validate_pictures(x0_hat, "x0_hat")
    validate_same(x0_hat, eps_hat, "x0_hat", "eps_hat")
    validate_finite(eps_hat, "eps_hat")
    for name, index in (("t", t), ("s", s)):
        validate_number(name, index, 0, schedule.T, integer=True)
    validate_number("eta", eta, 0, 1)
    if not s < t:
        raise ValueError(f"s must be earlier than t, got s = {s} and t = {t}")
    return _reverse(_numbers(schedule, t), _numbers(schedule, s), x0_hat, eps_hat, eta, generator)


def _numbers(schedule: Schedule, t: int) -> tuple[float, float]:
    return schedule.signal[t].item(), schedule.noise[t].item()


def _reverse(
    at_t: tuple[float, float],
    at_s: tuple[float, float],
    x0: Tensor,
    eps: Tensor,
    eta: float,
    generator: torch.Generator | None,
) -> Tensor:
    """`reverse_step` without validation, with (a, b) at t and at s as plain numbers."""
    (a_t, b_t), (a_s, b_s) = at_t, at_s
    var = (eta * b_s) ** 2 * (1 - (a_t * b_s / (a_s * b_t)) ** 2)
    x_s = a_s * x0 + max(b_s**2 - var, 0.0) ** 0.5 * eps
    if var > 0:
        z = torch.randn(x_s.shape, dtype=x_s.dtype, device=x_s.device, generator=generator)
        x_s += var**0.5 * z
    return x_s


def extrapolate(schedule: Schedule, x0_hat: Tensor, x0_before: Tensor, t: int, s: int, t_before: int) -> Tensor:
    """Guess what the network would see half way from t to s: a straight line in λ = log(a/b) through two answers.

    D = x0_hat + (x0_hat − x0_before) / (2r), r = (λ_t − λ_before) / (λ_s − λ_t) (DPM-Solver++, algorithm 2). λ_0 is
    infinite, so the step to s = 0 has no half way: there D = x0_hat, and the step is of first order.

    Args:
        schedule: the tables a and b.
        x0_hat: the picture that the network sees at t, (B, C, H, W).
        x0_before: the picture that it saw at t_before, shaped like x0_hat.
        t: where we are, 1..T.
        s: where we go, 0 <= s < t.
        t_before: where the step before began, t < t_before <= T.

    Returns:
        D, shaped like x0_hat; it can leave [-1, 1] even where both answers lie inside.
    """
    validate_schedule(schedule)
    validate_pictures(x0_hat, "x0_hat")
    validate_same(x0_hat, x0_before, "x0_hat", "x0_before")
    validate_finite(x0_before, "x0_before")
    for name, index in (("s", s), ("t", t), ("t_before", t_before)):
        validate_number(name, index, 0, schedule.T, integer=True)
    if not s < t < t_before:
        raise ValueError(f"timesteps must fall: s < t < t_before, got s = {s}, t = {t} and t_before = {t_before}")
    return x0_hat + _reach(*(_numbers(schedule, i) for i in (t_before, t, s))) * (x0_hat - x0_before)


def _reach(before: tuple[float, float], now: tuple[float, float], after: tuple[float, float]) -> float:
    """1/(2r) of `extrapolate`, from (a, b) at the three timesteps."""
    if after[1] == 0 or before[0] == 0:  # λ is infinite at the picture itself, and where no picture is left
        return 0.0
    clock = [math.log(a / b) for a, b in (before, now, after)]
    if clock[1] == clock[0]:  # λ did not change, so there is no slope to extrapolate
        return 0.0
    return (clock[2] - clock[1]) / (clock[1] - clock[0]) / 2


@dataclass(frozen=True)
class SampleStep:
    """One step of a sampling run; every tensor is (B, C, H, W).

    Args:
        t: the timestep that the step starts from.
        s: the timestep that it reaches.
        x_t: the noisy pictures at t.
        x0_hat: the pictures that the network sees in them.
        eps_hat: the noise that it sees in them.
        x_s: the noisy pictures at s; at s = 0 these are the samples.
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
    """Walk from noise to pictures (DDPM, algorithm 2) and yield every step as soon as it is done.

    Args:
        model: called as model(x_t, t, y), in eval mode and without gradients; between steps it has its own mode.
        schedule: the tables a and b.
        x_T: where to start, (B, C, H, W), on the model's device; usually noise from N(0, I).
        times: the timesteps to visit: strictly falling, from that of x_T to 0; see `schedule.sampling_times`. None
            visits every timestep from T.
        eta: 1 for DDPM, 0 for DDIM, or anything between.
        order: 1, or 2 to extrapolate from the last two answers; see `extrapolate`.
        target: what the model predicts, one of `forward.TARGETS`.
        clip: clamp x0_hat to [-1, 1] and let eps_hat follow, so that x_t = a x0_hat + b eps_hat still holds. It harms
            order 2 in few steps (about 10): rather begin at `schedule.start_time` and do not clip.
        y: class labels, int64 (B,), or None.
        generator: source of the noise, on the device of x_T.

    Yields:
        A `SampleStep` after each step.

    Raises:
        TypeError, ValueError: at the call, also for a target that cannot be inverted at the first timestep. What the
            model itself refuses comes at that step; its answers are searched for NaN on the CPU alone, so that a GPU
            never waits.
    """
    _validate_question(model, schedule, x_T, "x_T", target, clip, y)
    validate_number("eta", eta, 0, 1)
    validate_choice("order", order, (1, 2))
    visited = _validate_times(schedule, times)
    validate_invertible(target, schedule, visited[0])
    see = partial(_see, model, target=target, clip=clip, y=y)
    return _walk(see, schedule, x_T, visited, eta, order, generator)


def _walk(
    see: Callable[[float, float, Tensor, int], tuple[Tensor, Tensor]],
    schedule: Schedule,
    x_t: Tensor,
    times: Sequence[int],
    eta: float,
    order: int,
    generator: torch.Generator | None,
) -> Iterator[SampleStep]:
    """The loop of `trajectory`; `see` asks the network, with a and b at t as plain numbers."""
    at = [*zip(schedule.signal.tolist(), schedule.noise.tolist(), strict=True)]  # (a, b) at every timestep
    before = None
    for t, s in pairwise(times):
        with torch.no_grad():
            x0_hat, eps_hat = see(*at[t], x_t, t)
            x0, eps = x0_hat, eps_hat
            if order == 2 and before is not None:
                x0 = x0_hat + _reach(at[before.t], at[t], at[s]) * (x0_hat - before.x0_hat)
                eps = (x_t - at[t][0] * x0) / at[t][1]
            x_s = _reverse(at[t], at[s], x0, eps, eta, generator)
        before = SampleStep(t, s, x_t, x0_hat, eps_hat, x_s)
        yield before
        x_t = x_s


def _validate_question(
    model: nn.Module, schedule: Schedule, x: Tensor, name: str, target: str, clip: bool, y: Tensor | None
) -> None:
    validate_model(model)
    validate_schedule(schedule)
    validate_pictures(x, name)
    validate_choice("target", target, TARGETS)
    validate_flag("clip", clip)
    if y is not None:
        validate_labels(y, "y", batch=len(x), device=x.device)


def _validate_times(schedule: Schedule, times: Sequence[int] | None) -> list[int]:
    """Give back the timesteps to visit, or refuse them."""
    visited = list(range(schedule.T, -1, -1)) if times is None else [*times]
    for t in visited:
        validate_number("times", t, 0, schedule.T, integer=True)
    if len(visited) < 2 or visited[-1] != 0 or any(t <= s for t, s in pairwise(visited)):
        raise ValueError(f"times must fall strictly and end with 0, got {visited[:3]} ... {visited[-3:]}")
    return visited


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
    """
    _validate_question(model, schedule, x_t, "x_t", target, clip, y)
    validate_number("t", t, 1, schedule.T, integer=True)
    validate_invertible(target, schedule, t)
    return _see(model, *_numbers(schedule, t), x_t, t, target, clip, y)


def _see(
    model: nn.Module, a: float, b: float, x_t: Tensor, t: int, target: str, clip: bool, y: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`predict` without validation of its arguments."""
    with in_mode(model, training=False):
        answer = model(x_t, torch.full((len(x_t),), t, device=x_t.device), y).to(x_t.dtype)
    validate_same(x_t, answer, "x_t", "prediction")
    if answer.device.type == "cpu" and not math.isfinite(answer.sum().item()):  # one sum is the quickest look
        validate_finite(answer, "prediction")
    x0_hat, eps_hat = solve_x0_eps(target, a, b, answer, x_t)
    if clip:
        x0_hat = x0_hat.clamp(-1, 1)
        eps_hat = (x_t - a * x0_hat) / b
    return x0_hat, eps_hat


def sample(
    model: nn.Module,
    schedule: Schedule,
    x_T: Tensor,
    *,
    y: Tensor | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> Tensor:
    """The pictures at the end of a `trajectory`.

    Args:
        model, schedule, x_T, y: as `trajectory`. On a GPU, torch.compile(model) pays if you sample many pictures.
        batch_size: how many pictures to work on at a time, where all at once do not fit into memory. With eta = 0 this
            changes only rounding; with eta > 0 each batch takes its own noise, so the pictures change.
        options: times, eta, order, target, clip and generator, as `trajectory`.

    Returns:
        Samples, shaped like x_T; in [-1, 1] where clip is on.

    Raises:
        TypeError, ValueError: as `trajectory`, or a sample is not finite.
    """
    validate_pictures(x_T, "x_T")
    size = len(x_T) if batch_size is None else batch_size
    validate_number("batch_size", size, 1, integer=True)
    if y is not None:
        validate_labels(y, "y", batch=len(x_T), device=x_T.device)
    done = []
    for i in range(0, len(x_T), size):
        labels = None if y is None else y[i : i + size]
        steps = trajectory(model, schedule, x_T[i : i + size], y=labels, **options)
        with torch.inference_mode():  # a few percent faster; a trajectory's tensors may have to take part in training
            (last,) = deque(steps, maxlen=1)
        done.append(last.x_s)
    samples = torch.cat(done)  # made outside inference mode, so it may take part in training
    validate_finite(samples, "the samples")
    return samples
