"""The loss that a network is trained with, and how much each timestep counts in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .forward import TARGETS, target_of
from .runtime import in_mode
from .schedule import Schedule, validate_schedule
from .validate import (
    validate_choice,
    validate_finite,
    validate_index,
    validate_model,
    validate_number,
    validate_pictures,
    validate_same,
)


def denoising_loss(
    model: nn.Module,
    schedule: Schedule,
    x0: Tensor,
    t: Tensor,
    eps: Tensor,
    *,
    target: str = "eps",
    y: Tensor | None = None,
) -> Tensor:
    """How far the prediction is from the target: the mean over pixels of |model(x_t, t) − target|².

    For target "eps" the mean over a batch is L_simple (DDPM, eq. 14); a network that always predicts 0 has a loss of
    1, the variance of the noise. Values are searched for NaN on the CPU alone, so that a GPU never waits.

    Args:
        model: called as model(x_t, t, y).
        schedule: the tables a and b.
        x0: clean pictures, (B, C, H, W), floats in [-1, 1].
        t: timesteps, int64 (B,), in 1..T, on the device of x0.
        eps: noise from N(0, I), shaped like x0.
        target: what the network predicts, one of `forward.TARGETS`.
        y: class labels, int64 (B,), or None.

    Returns:
        One number per picture, float32 (B,).
    """
    validate_model(model, function=True)
    validate_schedule(schedule)
    validate_choice("target", target, TARGETS)
    on_cpu = isinstance(x0, Tensor) and x0.device.type == "cpu"
    validate_pictures(x0, "x0", in_range=True, values=on_cpu)
    validate_same(x0, eps, "x0", "eps")
    validate_index(t, "t", batch=len(x0), device=x0.device)
    if on_cpu:
        validate_finite(eps, "eps")
        schedule.validate_t(t, low=1)
    a, b = schedule.at(t, x0)
    answer = model(a * x0 + b * eps, t, y)
    if answer.shape != x0.shape:  # PyTorch would broadcast one of them, with a warning at most
        raise ValueError(f"prediction must have the shape of x0, {tuple(x0.shape)}, got {tuple(answer.shape)}")
    error = F.mse_loss(answer.float(), target_of(target, a, b, x0, eps).float(), reduction="none")
    return error.flatten(1).mean(1)


def min_snr_weights(schedule: Schedule, target: str = "eps", gamma: float = 5.0) -> Tensor:
    """Weights that turn the loss of any target into the same one: min(SNR, gamma) · |x0_hat − x0|².

    This is min-SNR-gamma (Hang et al. 2023, arXiv:2303.09556, section 3.4, for eps, x0 and v). For "eps" the weight is
    min(SNR, gamma)/SNR: 1 up to a signal-to-noise ratio of gamma, and less above, where nobody could see the error.

    Args:
        schedule: the tables a and b.
        target: what the network predicts, one of `forward.TARGETS`.
        gamma: > 0; the authors recommend 5 and find that other values do hardly worse.

    Returns:
        One weight for each timestep, float64 (T+1,): 0 at t = 0, which nobody trains on, and 0 where no signal is left,
        since no x0_hat can be right there (1 if the target is "eps").
    """
    validate_schedule(schedule)
    validate_choice("target", target, TARGETS)
    validate_number("gamma", gamma, 1e-12, 1e12)
    a, b = schedule.signal[1:], schedule.noise[1:]
    # SNR · |x0_hat − x0|² = this · |model(x_t, t) − target|²
    shares = {"eps": torch.ones_like(a), "x0": a / b, "v": a / (a * a + b * b), "velocity": a / (a + b)}
    weights = shares[target].square() * (gamma / schedule.snr[1:]).clamp(max=1)
    return torch.cat([weights.new_zeros(1), weights])


@torch.no_grad()
def loss_by_timestep(
    model: nn.Module,
    schedule: Schedule,
    x0: Tensor,
    times: Tensor,
    *,
    target: str = "eps",
    y: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The mean loss of a batch at each of several timesteps, with the same noise at all of them.

    Args:
        model, schedule, x0, target, y: as `denoising_loss`; the model runs in eval mode and gets its own mode back.
        times: int64 (K,), in 1..T.
        generator: source of the noise, on the device of x0.

    Returns:
        float32, (K,), on the CPU.
    """
    validate_model(model)
    validate_schedule(schedule)
    validate_pictures(x0, "x0", in_range=True)
    if not isinstance(times, Tensor):
        raise TypeError(f"times must be a tensor of integers, (K,), got {type(times).__name__}")
    schedule.validate_t(times, "times", low=1)
    eps = torch.randn(x0.shape, dtype=x0.dtype, device=x0.device, generator=generator)
    with in_mode(model, training=False):
        rows = [
            denoising_loss(model, schedule, x0, t.expand(len(x0)).to(x0.device), eps, target=target, y=y).mean()
            for t in times
        ]
    return torch.stack(rows).cpu()


def smoothed(losses: Sequence[float], smooth: float = 0.98) -> list[float]:
    """The running mean of a loss curve: m ← smooth·m + (1 − smooth)·loss, divided by 1 − smooth^n.

    The division keeps the first values from being pulled towards 0, as in Adam (arXiv:1412.6980, algorithm 1).

    Args:
        losses: one number per update.
        smooth: in [0, 1); 0.98 averages over about 50 updates.
    """
    validate_number("smooth", smooth, 0, 1 - 1e-9)
    out, mean, weight = [], 0.0, 0.0
    for loss in losses:
        mean = smooth * mean + (1 - smooth) * float(loss)
        weight = smooth * weight + (1 - smooth)
        out.append(mean / weight)
    return out
