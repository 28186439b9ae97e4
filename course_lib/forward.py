"""From picture to noise: mix, take one step, jump to any timestep; and what a network learns to predict.

Every function takes pictures as (B, C, H, W) floats; clean pictures lie in [-1, 1]. A timestep is one int for the
whole batch, or int64 of shape (B,) on the device of the pictures; it lies in 0..T. `schedule` holds the tables a and b.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .schedule import TARGETS as TARGETS
from .schedule import Schedule, validate_schedule
from .validate import validate_choice, validate_finite, validate_number, validate_pictures, validate_same

#: The kinds of noise that `noise_like` knows.
NOISES = ("gaussian", "uniform")

#: Below the first a_T a network finds nothing of the picture in x_T; above the second a person sees it.
LEFT_LIMITS = (0.02, 0.1)


def corrupt(
    x: Tensor,
    amount: float | Tensor,
    noise: str | Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Mix pictures with noise: (1 − amount) · x + amount · noise.

    Args:
        x: pictures, (B, C, H, W), floats in [-1, 1].
        amount: 0 (the picture) to 1 (noise alone); one number, or a tensor of shape (B,).
        noise: a kind of noise, see `noise_like` (None is "gaussian"), or the noise itself, shaped like x.
        generator: source of the noise, on the device of x; untouched if you give the noise.

    Returns:
        The corrupted pictures and the noise in them, both shaped like x.
    """
    validate_pictures(x, "x", in_range=True)
    if isinstance(amount, Tensor):
        _validate_amounts(amount, x)
        amount = amount.to(x.dtype).view(-1, 1, 1, 1)
    else:
        validate_number("amount", amount, 0, 1)
    if isinstance(noise, Tensor):
        validate_same(x, noise, "x", "noise")
        validate_finite(noise, "noise")
    else:
        noise = noise_like(x, "gaussian" if noise is None else noise, generator=generator)
    return (1 - amount) * x + amount * noise, noise


def _validate_amounts(amount: Tensor, x: Tensor) -> None:
    if amount.numel() != 1 and amount.shape != x.shape[:1]:
        raise ValueError(f"amount must be one number or one per picture, ({len(x)},), got shape {tuple(amount.shape)}")
    if amount.device != x.device:
        raise ValueError(f"amount must be on the device of x, {x.device}, got {amount.device}")
    if not ((amount >= 0) & (amount <= 1)).all():
        raise ValueError(f"amount must lie in [0, 1], got {amount.min():.3g} to {amount.max():.3g}")


def noise_like(x: Tensor, kind: str = "gaussian", *, generator: torch.Generator | None = None) -> Tensor:
    """Fresh noise with the shape, dtype and device of x.

    Args:
        x: anything of floats.
        kind: "gaussian" has mean 0 and variance 1; "uniform" fills [-1, 1], the range of the pictures, and has
            variance 1/3.
        generator: source of the noise, on the device of x.
    """
    validate_choice("noise", kind, NOISES)
    if kind == "uniform":
        return torch.rand(x.shape, dtype=x.dtype, device=x.device, generator=generator) * 2 - 1
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)


def _given_or_fresh(x: Tensor, eps: Tensor | None, generator: torch.Generator | None) -> Tensor:
    if eps is None:
        return noise_like(x, generator=generator)
    validate_same(x, eps, "x", "eps")
    validate_finite(eps, "eps")
    return eps


def q_step(
    schedule: Schedule,
    x_s: Tensor,
    s: int | Tensor,
    t: int | Tensor,
    eps: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Take one noising step, x_t ~ q(x_t | x_s): x_t = (a_t/a_s) x_s + √(b_t² − (a_t/a_s)² b_s²) · eps.

    For s = t − 1 this is DDPM, eq. 2: √(1−β_t) x_(t−1) + √β_t eps.

    Args:
        schedule: the tables a and b.
        x_s: pictures at timestep s, (B, C, H, W).
        s: where the pictures are, 0..T−1.
        t: where they go, s < t <= T.
        eps: the noise of this step, shaped like x_s; None takes fresh noise from N(0, I).
        generator: source of fresh noise.

    Returns:
        x_t and the noise of the step, both shaped like x_s.
    """
    validate_schedule(schedule)
    validate_pictures(x_s, "x_s")
    for name, index in (("s", s), ("t", t)):
        schedule.validate_t(index, name, like=x_s)
    scale, std = (_spread(number, x_s) for number in schedule.step_kernel(s, t))
    eps = _given_or_fresh(x_s, eps, generator)
    return scale * x_s + std * eps, eps


def q_sample(
    schedule: Schedule,
    x0: Tensor,
    t: int | Tensor,
    eps: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Jump to any timestep, x_t ~ q(x_t | x_0): x_t = a_t x_0 + b_t eps (DDPM, eq. 4).

    Args:
        schedule: the tables a and b.
        x0: clean pictures, (B, C, H, W), floats in [-1, 1].
        t: timesteps in 0..T.
        eps: the noise, shaped like x0; None takes fresh noise from N(0, I).
        generator: source of fresh noise.

    Returns:
        x_t and the noise in it, both shaped like x0.
    """
    validate_schedule(schedule)
    validate_pictures(x0, "x0", in_range=True)
    schedule.validate_t(t, like=x0)
    a, b = schedule.at(t, x0)
    eps = _given_or_fresh(x0, eps, generator)
    return a * x0 + b * eps, eps


def q_posterior(schedule: Schedule, x_t: Tensor, x0: Tensor, s: int | Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
    """The step back if you know the clean picture, q(x_s | x_t, x_0) (DDPM, eqs. 6 and 7).

    var = b_s² (1 − a_t² b_s² / (a_s² b_t²)), mean = a_s x_0 + √(b_s² − var) · eps, eps = (x_t − a_t x_0)/b_t.

    Args:
        schedule: the tables a and b.
        x_t: noisy pictures, (B, C, H, W).
        x0: clean pictures, or a guess (which may leave [-1, 1]), shaped like x_t.
        s: where to go, 0..T−1.
        t: where x_t is, s < t <= T.

    Returns:
        The mean, shaped like x_t, and the variance, (1, 1, 1, 1) or (B, 1, 1, 1).
    """
    validate_schedule(schedule)
    validate_pictures(x_t, "x_t")
    validate_same(x_t, x0, "x_t", "x0")
    validate_finite(x0, "x0")
    for name, index in (("s", s), ("t", t)):
        schedule.validate_t(index, name, like=x_t)
    var = schedule.posterior_variance(s, t)
    b_s = schedule.noise[torch.as_tensor(s, device="cpu")]
    direction = _spread((b_s.square() - var).clamp(min=0).sqrt(), x_t)
    a_s, _ = schedule.at(s, x_t)
    a_t, b_t = schedule.at(t, x_t)
    return a_s * x0 + direction * (x_t - a_t * x0) / b_t, _spread(var, x_t)


def make_target(kind: str, schedule: Schedule, x0: Tensor, eps: Tensor, t: int | Tensor) -> Tensor:
    """What a network of this kind should predict.

    "eps" is the noise (DDPM), "x0" the picture, "v" = a·eps − b·x0 (Salimans & Ho 2022, arXiv:2202.00512),
    "velocity" = eps − x0 (flow matching).

    Args:
        kind: one of `TARGETS`.
        schedule: the tables a and b.
        x0: clean pictures, (B, C, H, W).
        eps: the noise in x_t, shaped like x0.
        t: timesteps in 0..T.

    Returns:
        The target, shaped like x0.
    """
    validate_choice("kind", kind, TARGETS)
    validate_schedule(schedule)
    validate_pictures(x0, "x0")
    validate_same(x0, eps, "x0", "eps")
    validate_finite(eps, "eps")
    schedule.validate_t(t, like=x0)
    return target_of(kind, *schedule.at(t, x0), x0, eps)


def target_of(kind: str, a: Tensor, b: Tensor, x0: Tensor, eps: Tensor) -> Tensor:
    """The formulas of `make_target` for given a and b, without validation."""
    if kind == "eps":
        return eps
    if kind == "x0":
        return x0
    return a * eps - b * x0 if kind == "v" else eps - x0


def to_x0_eps(kind: str, schedule: Schedule, prediction: Tensor, x_t: Tensor, t: int | Tensor) -> tuple[Tensor, Tensor]:
    """Turn a network's prediction into the pair that samplers use: the picture and the noise in x_t.

    For each kind, `solve_x0_eps` solves x_t = a x0 + b eps together with the definition of the target. On a
    variance-preserving schedule, "v" gives the usual x0 = a x_t − b v.

    Args:
        kind: what the network predicts, one of `TARGETS`.
        schedule: the tables a and b.
        prediction: what it predicts, shaped like x_t.
        x_t: the noisy pictures that it saw, (B, C, H, W).
        t: timesteps in 0..T.

    Returns:
        x0_hat and eps_hat, both shaped like x_t; x0_hat may leave [-1, 1].

    Raises:
        ValueError: also "eps" where a_t = 0 and "x0" where b_t = 0, since the other half is unknown there.
    """
    validate_choice("kind", kind, TARGETS)
    validate_schedule(schedule)
    validate_pictures(x_t, "x_t")
    validate_same(x_t, prediction, "x_t", "prediction")
    validate_finite(prediction, "prediction")
    schedule.validate_t(t, like=x_t)
    validate_invertible(kind, schedule, t)
    a, b = schedule.at(t, x_t)
    return solve_x0_eps(kind, a, b, prediction, x_t)


def validate_invertible(kind: str, schedule: Schedule, t: int | Tensor) -> None:
    """Refuse a timestep where this prediction leaves half of the pair unknown: "eps" if a_t = 0, "x0" if t = 0."""
    t = torch.as_tensor(t, device="cpu")
    if kind == "eps" and (schedule.signal[t] == 0).any():
        raise ValueError(
            "a prediction of eps says nothing about the picture where signal = 0 (zero terminal SNR); "
            "use a network that predicts 'x0', 'v' or 'velocity', or start below T"
        )
    if kind == "x0" and (t == 0).any():
        raise ValueError("a prediction of x0 says nothing about the noise at t = 0, where there is none")


def solve_x0_eps(
    kind: str, a: Tensor | float, b: Tensor | float, prediction: Tensor, x_t: Tensor
) -> tuple[Tensor, Tensor]:
    """The formulas of `to_x0_eps` for given a and b, without validation."""
    if kind == "eps":
        return (x_t - b * prediction) / a, prediction
    if kind == "x0":
        return prediction, (x_t - a * prediction) / b
    if kind == "v":
        power = a * a + b * b
        return (a * x_t - b * prediction) / power, (b * x_t + a * prediction) / power
    return (x_t - b * prediction) / (a + b), (x_t + a * prediction) / (a + b)


def _spread(numbers: Tensor, like: Tensor) -> Tensor:
    """Float64 numbers, () or (B,), as (1, 1, 1, 1) or (B, 1, 1, 1) with the dtype and device of like."""
    return numbers.to(like.dtype).to(like.device).view((-1,) + (1,) * (like.ndim - 1))


def left_in_words(schedule: Schedule) -> str:
    """How much of the picture is left in x_T, and what follows from it, in words.

    Args:
        schedule: the tables a and b; what counts is a_T, which is √ᾱ_T on a DDPM schedule.
    """
    validate_schedule(schedule)
    a = float(schedule.signal[-1])
    low, high = LEFT_LIMITS
    if a == 0:
        return "x_T is noise alone: nothing of the picture is left."
    if a < low:
        return f"x_T is noise for every practical purpose: {a:.4f} of the picture is left."
    if a < high:
        hidden = "Nobody sees it, but a network can tell bright pictures from dark ones."
        return f"Careful: {a:.3f} of the picture is left in x_T. {hidden}"
    return (
        f"x_T still holds the picture: {a:.2f} of it is left. Sampling starts from pure noise, which the network "
        "then never saw at t = T. Use more steps or a steeper schedule."
    )
