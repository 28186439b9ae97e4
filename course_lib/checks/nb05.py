"""The exercises of notebook 05: sampling."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..forward import to_x0_eps
from ..sample import reverse_step, sample, trajectory
from ..schedule import Schedule, from_betas, linear_betas, make_schedule, sampling_times
from .effects import Wrong
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
    equation=r"x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1 - \bar\alpha_s}\,\hat\varepsilon",
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
    drawn = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=torch.Generator().manual_seed(seed))
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
        "var = beta_t is DDPM's other choice, and it adds noise at the last step; use the posterior variance.": (
            lambda x, e, z, t, a: _ddpm_mean(x, e, t, a) + (1 - a[t] / a[t - 1]).sqrt() * z
        ),
        "var = beta_t is DDPM's other choice. It samples, too; here the posterior variance is asked for.": (
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
    r"+ \sqrt{1 - \bar\alpha_{t-1} - \text{var}}\;\hat\varepsilon + \sqrt{\text{var}}\;z",
)


ONE_EACH = "The network wants a timestep for each picture, int64 (B,), not one number: torch.full((len(x),), t, ...)."
GRADIENTS = "The result still carries gradients, so every step of the walk is kept in memory: use torch.no_grad()."
DRAWS = "It draws random numbers. DDIM starts from x_T and puts eps_hat back: after x_T nothing is drawn."


class _Neighborly(nn.Module):
    """Stands in for a network with BatchNorm, in train mode: each picture's answer then depends on its neighbors."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        if not isinstance(t, Tensor) or t.shape != x_t.shape[:1] or t.is_floating_point():
            raise Wrong(ONE_EACH)
        eps_hat = self.scale * x_t + 0.1 * x_t.roll(1, -1) + 0.05 * t.to(x_t.dtype).view(-1, 1, 1, 1).sin()
        return eps_hat - x_t.mean(0) if self.training else eps_hat


def _walk_of(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The learner's loop, on a network that comes in train mode."""

    def run(x_T: Tensor, times: list[int], alpha_bar: Tensor) -> Any:
        before = torch.get_rng_state()
        result = answer(_Neighborly(), x_T, list(times), alpha_bar)
        if not torch.equal(torch.get_rng_state(), before):
            raise Wrong(DRAWS)
        if isinstance(result, Tensor) and result.requires_grad:
            raise Wrong(GRADIENTS)
        return result

    return run


def my_sample(model: nn.Module, x_T: Tensor, times: list[int], alpha_bar: Tensor) -> Tensor:
    model.eval()
    x = x_T
    with torch.no_grad():
        for t, s in pairwise(times):
            eps_hat = model(x, torch.full((len(x),), t, device=x.device))
            x0_hat = (x - (1 - alpha_bar[t]).sqrt() * eps_hat) / alpha_bar[t].sqrt()
            x = alpha_bar[s].sqrt() * x0_hat + (1 - alpha_bar[s]).sqrt() * eps_hat
    return x


def _ask(model: nn.Module, x: Tensor, t: int) -> Any:
    return model(x, torch.full((len(x),), t, device=x.device))


def _wrong_walk(
    model: nn.Module,
    x_T: Tensor,
    times: list[int],
    alpha_bar: Tensor,
    *,
    step: Callable[..., Tensor] = my_ddim_step,
    ask: Callable[[nn.Module, Tensor, int, int], Tensor] = lambda model, x, t, s: _ask(model, x, t),
    train: bool = False,
    gradients: bool = False,
) -> Tensor:
    """The loop with one thing changed."""
    model.train(train)
    x = x_T
    with torch.set_grad_enabled(gradients):
        for t, s in pairwise(times):
            x = step(x, ask(model, x, t, s), t, s, alpha_bar)
    return x


def _clamped(x: Tensor, e: Tensor, t: int, s: int, a: Tensor) -> Tensor:
    return a[s].sqrt() * _from_eps(x, e, t, a).clamp(-1, 1) + (1 - a[s]).sqrt() * e


def _clamped_and_followed(x: Tensor, e: Tensor, t: int, s: int, a: Tensor) -> Tensor:
    x0_hat = _from_eps(x, e, t, a).clamp(-1, 1)
    return a[s].sqrt() * x0_hat + (1 - a[s]).sqrt() * (x - a[t].sqrt() * x0_hat) / (1 - a[t]).sqrt()


def _renoised(x: Tensor, e: Tensor, t: int, s: int, a: Tensor) -> Tensor:
    return a[s].sqrt() * _from_eps(x, e, t, a) + (1 - a[s]).sqrt() * torch.randn_like(x)


SAMPLE = Exercise(
    lambda model, x_T, times, alpha_bar: sample(model, schedule_of(alpha_bar), x_T, times=times, eta=0.0, clip=False),
    lambda g: [
        (noise(s, g), times, random_alpha_bar(g))
        for s, times in zip(SHAPES, ([20, 9, 0], [20, 15, 4, 1, 0], [12, 7, 3, 0]), strict=True)
    ],
    {
        "The walk goes up: start at the first of the times, the largest, and fall to 0.": (
            lambda m, x, times, a: _wrong_walk(m, x, times[::-1], a)
        ),
        "The walk stops too early: the last step, to t = 0, is missing.": (
            lambda m, x, times, a: _wrong_walk(m, x, times[:-1], a)
        ),
        "It visits every timestep: only those in `times` are wanted, however far apart.": (
            lambda m, x, times, a: _wrong_walk(m, x, list(range(times[0], -1, -1)), a)
        ),
        "The network is asked about s; x is still at t, so tell it t.": (
            lambda m, x, times, a: _wrong_walk(m, x, times, a, ask=lambda m, x, t, s: _ask(m, x, s))
        ),
        "The network is told t - 1. In this course t = 0 is the picture, and the network is told t itself.": (
            lambda m, x, times, a: _wrong_walk(m, x, times, a, ask=lambda m, x, t, s: _ask(m, x, t - 1))
        ),
        "x0_hat goes on as if it were x_s: mix it with eps_hat again, as at s.": (
            lambda m, x, times, a: _wrong_walk(m, x, times, a, step=lambda x, e, t, s, a: _from_eps(x, e, t, a))
        ),
        "Noise of s is not put back: x_s is √alpha_bar_s · x0_hat and √(1 - alpha_bar_s) · eps_hat.": (
            lambda m, x, times, a: _wrong_walk(
                m, x, times, a, step=lambda x, e, t, s, a: a[s].sqrt() * _from_eps(x, e, t, a)
            )
        ),
        "x0_hat is clamped. That comes below; here the numbers go on as they are.": (
            lambda m, x, times, a: _wrong_walk(m, x, times, a, step=_clamped)
        ),
        "x0_hat is clamped, and eps_hat follows. That comes below; here the numbers go on as they are.": (
            lambda m, x, times, a: _wrong_walk(m, x, times, a, step=_clamped_and_followed)
        ),
        "The network is asked once and never again: ask it at every step.": (
            lambda m, x, times, a: _wrong_walk(m, x, times, a, ask=lambda m, _x, t, s: _ask(m, x, times[0]))
        ),
        "The network is shown x_T at every step: show it the x that the last step gave.": (
            lambda m, x, times, a: _wrong_walk(m, x, times, a, ask=lambda m, _x, t, s: _ask(m, x, t))
        ),
        "The network is in train mode while sampling: call model.eval() first, or BatchNorm mixes neighbors.": (
            lambda m, x, times, a: _wrong_walk(m, x, times, a, train=True)
        ),
        ONE_EACH: lambda m, x, times, a: _wrong_walk(m, x, times, a, ask=lambda m, x, t, s: m(x, t)),
        GRADIENTS: lambda m, x, times, a: _wrong_walk(m, x, times, a, gradients=True),
        DRAWS: lambda m, x, times, a: _wrong_walk(m, x, times, a, step=_renoised),
    },
    answer=my_sample,
    library=[sample, trajectory],
    equation=r"x_s = \sqrt{\bar\alpha_s}\,\hat x_0(x_t, t) + \sqrt{1 - \bar\alpha_s}\,\hat\varepsilon(x_t, t)"
    r"\qquad \text{for } (t, s) = (t_K, t_{K-1}), \dots, (t_2, t_1), (t_1, 0)",
    adapt=_walk_of,
    praise="The same pictures as from sample(..., eta=0, clip=False), along several lists of times.",
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


class _OfGaussians(nn.Module):
    """The exact answer where pixels are N(0, 1/4): the mean of all noise that could be in x_t."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        a, b = self.schedule.at(t, x_t)
        return b * x_t / (a.square() / 4 + b.square())


def _what_eta_does() -> str:
    """Sampled with the exact answer: does η = 1 change the spread of the samples, and do they still follow x_T?"""
    schedule = make_schedule("cosine")
    g = torch.Generator().manual_seed(0)
    x_T, times = noise((1, 1, 50, 50), g), sampling_times(schedule.T, 25)
    calm, stirred = (
        sample(_OfGaussians(schedule), schedule, x_T, times=times, eta=eta, clip=False, generator=g).flatten()
        for eta in (0.0, 1.0)
    )
    if abs(torch.corrcoef(torch.stack([calm, stirred]))[0, 1]) < 0.5:
        return "c"
    return "a" if stirred.std() > 1.1 * calm.std() else "b"


FRESH_NOISE = Choice(
    _what_eta_does,
    "Fresh noise takes the place of old noise, so there is as much of it as before, and at s = 0 none. "
    "But it is other noise, so x_T is forgotten step by step.",
    {
        "a": "At each s the roots keep the variance at b_s², whatever η is, and at s = 0 that is 0: no grain is left.",
        "b": "The network is asked as often as before. And a draw at each step cannot leave the picture where it was.",
    },
)

HALFWAY = Question(
    lambda: 0.5**2 + 0.5**2,
    "¼ + ¼: variances add up with the weights squared, so halfway on the line half of the variance is lost.",
    {
        1: "So it would be if weights added up as they are: ½ + ½. In a variance they come squared.",
        0.25: "That is the share of one of the two. Both add up, as they are independent.",
        0.5**0.5: "That is the standard deviation; the variance is its square.",
        0: "Independent tensors do not cancel out.",
        2: "That is the variance of z1 + z2, without the weights ½.",
    },
    tolerance=1e-3,
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "ddim_step": DDIM_STEP,
    "ddpm_step": DDPM_STEP,
    "sample": SAMPLE,
    "noise_draws": NOISE_DRAWS,
    "fresh_noise": FRESH_NOISE,
    "halfway": HALFWAY,
}
