"""The exercises of notebook 05: sampling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..forward import to_x0_eps
from ..sample import reverse_step
from ..schedule import from_betas, linear_betas
from .inputs import SHAPES, noise, random_alpha_bar, schedule_of
from .judge import Choice, Exercise, Question


def _step_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [
        (noise(s, g), noise(s, g), t, to, random_alpha_bar(g))
        for s, t, to in zip(SHAPES, (20, 12, 7), (15, 4, 0), strict=True)
    ]


def _from_eps(x: Tensor, e: Tensor, t: int, a: Tensor) -> Tensor:
    return (x - (1 - a[t]).sqrt() * e) / a[t].sqrt()


def _ddim(x: Tensor, e: Tensor, t: int, s: int, a: Tensor) -> Tensor:
    schedule = schedule_of(a)
    return reverse_step(schedule, *to_x0_eps("eps", schedule, e, x, t), t, s, eta=0.0)


def my_ddim_step(x_t: Tensor, eps_hat: Tensor, t: int, s: int, alpha_bar: Tensor) -> Tensor:
    x0_hat = (x_t - (1 - alpha_bar[t]).sqrt() * eps_hat) / alpha_bar[t].sqrt()
    return alpha_bar[s].sqrt() * x0_hat + (1 - alpha_bar[s]).sqrt() * eps_hat


DDIM_STEP = Exercise(
    _ddim,
    _step_cases,
    {
        "That is x0_hat, all the way to the picture. Put the noise of timestep s back in.": (
            lambda x, e, t, s, a: _from_eps(x, e, t, a)
        ),
        "The noise is put back at the strength of t; at s it is √(1 - alpha_bar_s).": (
            lambda x, e, t, s, a: a[s].sqrt() * _from_eps(x, e, t, a) + (1 - a[t]).sqrt() * e
        ),
        "x0_hat is scaled by √alpha_bar_t; at s it is √alpha_bar_s.": (
            lambda x, e, t, s, a: a[t].sqrt() * _from_eps(x, e, t, a) + (1 - a[s]).sqrt() * e
        ),
        "x0_hat must be scaled down by √alpha_bar_s before the noise is added.": (
            lambda x, e, t, s, a: _from_eps(x, e, t, a) + (1 - a[s]).sqrt() * e
        ),
        "The noise eps_hat is forgotten: without it the picture at s has too little noise.": (
            lambda x, e, t, s, a: a[s].sqrt() * _from_eps(x, e, t, a)
        ),
        "The square roots are missing when going to s: the weights are √alpha_bar_s and √(1 - alpha_bar_s).": (
            lambda x, e, t, s, a: a[s] * _from_eps(x, e, t, a) + (1 - a[s]) * e
        ),
        "x_t itself is mixed with eps_hat: work out x0_hat first.": (
            lambda x, e, t, s, a: a[s].sqrt() * x + (1 - a[s]).sqrt() * e
        ),
        "s and t are swapped.": lambda x, e, t, s, a: (
            a[t].sqrt() * (x - (1 - a[s]).sqrt() * e) / a[s].sqrt() + (1 - a[t]).sqrt() * e
        ),
        "The sign of eps_hat is wrong when going to s: it is put back with a plus.": (
            lambda x, e, t, s, a: a[s].sqrt() * _from_eps(x, e, t, a) - (1 - a[s]).sqrt() * e
        ),
    },
    answer=my_ddim_step,
    library=[reverse_step],
    equation=r"x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1 - \bar\alpha_s}\,\hat\epsilon",
)


def _ddpm_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [
        (noise(s, g), noise(s, g), noise(s, g), t, random_alpha_bar(g))
        for s, t in zip((*SHAPES, SHAPES[0]), (20, 12, 7, 1), strict=True)
    ]


def _ddpm(x: Tensor, e: Tensor, z: Tensor, t: int, a: Tensor) -> Tensor:
    """The library's step with z in place of its own draw: the noise part is what eta=1 has and its mean has not."""
    schedule = schedule_of(a)
    x0_hat, eps_hat = to_x0_eps("eps", schedule, e, x, t)
    seed = 0
    drawn = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))
    step = reverse_step(schedule, x0_hat, eps_hat, t, t - 1, generator=torch.Generator().manual_seed(seed))
    return step + schedule.posterior_variance(t - 1, t).sqrt() * (z - drawn)


def _ddpm_mean(x: Tensor, e: Tensor, t: int, a: Tensor) -> Tensor:
    alpha = a[t] / a[t - 1]
    return (x - (1 - alpha) / (1 - a[t]).sqrt() * e) / alpha.sqrt()


def _ddpm_var(t: int, a: Tensor) -> Tensor:
    return (1 - a[t - 1]) / (1 - a[t]) * (1 - a[t] / a[t - 1])


def my_ddpm_step(x_t: Tensor, eps_hat: Tensor, z: Tensor, t: int, alpha_bar: Tensor) -> Tensor:
    before, now = alpha_bar[t - 1], alpha_bar[t]
    x0_hat = (x_t - (1 - now).sqrt() * eps_hat) / now.sqrt()
    var = (1 - before) / (1 - now) * (1 - now / before)
    return before.sqrt() * x0_hat + (1 - before - var).sqrt() * eps_hat + var.sqrt() * z


DDPM_STEP = Exercise(
    _ddpm,
    _ddpm_cases,
    {
        "σ_t² = beta_t is DDPM's other choice, and it adds noise at the last step; use the posterior variance.": (
            lambda x, e, z, t, a: _ddpm_mean(x, e, t, a) + (1 - a[t] / a[t - 1]).sqrt() * z
        ),
        "σ_t² = beta_t is DDPM's other choice. It samples, too; here the posterior variance is asked for.": (
            lambda x, e, z, t, a: _ddpm_mean(x, e, t, a) + (t > 1) * (1 - a[t] / a[t - 1]).sqrt() * z
        ),
        "The noise is scaled by the variance; scale it by its root, the standard deviation.": (
            lambda x, e, z, t, a: _ddpm_mean(x, e, t, a) + _ddpm_var(t, a) * z
        ),
        "That is the mean alone: add √variance · z.": lambda x, e, z, t, a: _ddpm_mean(x, e, t, a),
        "eps_hat is used as the fresh noise: the noise that is added is z.": (
            lambda x, e, z, t, a: _ddpm_mean(x, e, t, a) + _ddpm_var(t, a).sqrt() * e
        ),
        "The factor 1/√alpha_t before the bracket is missing.": (
            lambda x, e, z, t, a: x - (1 - a[t] / a[t - 1]) / (1 - a[t]).sqrt() * e + _ddpm_var(t, a).sqrt() * z
        ),
        "The root over 1 - alpha_bar_t below beta_t is missing.": (
            lambda x, e, z, t, a: (
                (x - (1 - a[t] / a[t - 1]) / (1 - a[t]) * e) / (a[t] / a[t - 1]).sqrt() + _ddpm_var(t, a).sqrt() * z
            )
        ),
        "All of the noise is subtracted at once; one step takes away beta_t/√(1 - alpha_bar_t) of it.": (
            lambda x, e, z, t, a: (x - (1 - a[t]).sqrt() * e) / (a[t] / a[t - 1]).sqrt() + _ddpm_var(t, a).sqrt() * z
        ),
        "alpha_bar_t stands where alpha_t belongs, before the bracket.": (
            lambda x, e, z, t, a: (
                (x - (1 - a[t] / a[t - 1]) / (1 - a[t]).sqrt() * e) / a[t].sqrt() + _ddpm_var(t, a).sqrt() * z
            )
        ),
    },
    answer=my_ddpm_step,
    library=[reverse_step],
    equation=r"x_{t-1} = \sqrt{\bar\alpha_{t-1}}\,\hat x_0 "
    r"+ \sqrt{1 - \bar\alpha_{t-1} - \text{var}}\;\hat\epsilon + \sqrt{\text{var}}\;z",
)


def _count_noise_draws() -> float:
    variance = from_betas(linear_betas()).posterior_variance(torch.arange(1000), torch.arange(1, 1001))
    return float((variance > 0).sum())


NOISE_DRAWS = Question(
    _count_noise_draws,
    "One at each of the 1,000 steps but the last: the posterior variance at s = 0 is 0, so nothing is drawn there.",
    {
        1000: "Nearly: at the last step, to t = 0, the posterior variance is 0 and nothing is drawn.",
        1001: "x_T itself was not to be counted, and the last step draws nothing.",
        0: "That is DDIM (η = 0). DDPM (η = 1) adds fresh noise on the way.",
        1: "One draw makes x_T. DDPM draws fresh noise on the way, too.",
    },
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "ddim_step": DDIM_STEP,
    "ddpm_step": DDPM_STEP,
    "noise_draws": NOISE_DRAWS,
}
