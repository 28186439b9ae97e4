"""Notebook 05, exercise 1: the step of DDIM. Notebook 06 asks for it again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..forward import to_x0_eps
from ..sample import reverse_step
from .inputs import SHAPES, noise, random_alpha_bar, schedule_of
from .judge import Exercise
from .nb03 import WRONG_MIXES, Mistakes, my_q_sample
from .nb04 import WRONG_GUESSES, my_x0_hat

CLAMPED = "x0_hat is clamped to [-1, 1]. That comes later in the notebook; here the numbers go on as they are."
CLAMPED_AND_FOLLOWED = (
    "x0_hat is clamped, and eps_hat is worked out anew from it. That comes later in the notebook; here the numbers go "
    "on as they are."
)


def _ddim(x: Tensor, e: Tensor, t: int, s: int, a: Tensor) -> Tensor:
    schedule = schedule_of(a)
    return reverse_step(schedule, *to_x0_eps("eps", schedule, e, x, t), t, s, eta=0.0)


def my_ddim_step(x_t: Tensor, eps_hat: Tensor, t: int, s: int, alpha_bar: Tensor) -> Tensor:
    x0_hat = (x_t - (1 - alpha_bar[t]).sqrt() * eps_hat) / alpha_bar[t].sqrt()
    return alpha_bar[s].sqrt() * x0_hat + (1 - alpha_bar[s]).sqrt() * eps_hat


def step_with(
    guess: Callable[..., Tensor] = my_x0_hat,
    mix: Callable[..., Tensor] = my_q_sample,
    follow: bool = False,
) -> Callable[..., Tensor]:
    """The step with another guess at x0, or mixed at s in another way; with `follow`, eps_hat follows the guess."""

    def step(x: Tensor, e: Tensor, t: int, s: int, a: Tensor) -> Tensor:
        x0_hat = guess(x, e, torch.tensor([t]), a)
        e = (x - a[t].sqrt() * x0_hat) / (1 - a[t]).sqrt() if follow else e
        return mix(x0_hat, torch.tensor([s]), e, a)

    return step


def _mix_with(weights: Callable[[Tensor, Tensor], tuple[Tensor | int, Tensor | int]]) -> Callable[..., Tensor]:
    """x0_hat and eps_hat mixed with weights that are made of alpha_bar at t and at s."""

    def step(x: Tensor, e: Tensor, t: int, s: int, a: Tensor) -> Tensor:
        of_x0, of_e = weights(a[t], a[s])
        return of_x0 * my_x0_hat(x, e, torch.tensor([t]), a) + of_e * e

    return step


def _clamped(*case: Tensor) -> Tensor:
    return my_x0_hat(*case).clamp(-1, 1)


def _ddpm_mean(x: Tensor, e: Tensor, t: int, s: int, a: Tensor) -> Tensor:
    var = (1 - a[s]) / (1 - a[t]) * (1 - a[t] / a[s])
    return a[s].sqrt() * my_x0_hat(x, e, torch.tensor([t]), a) + (1 - a[s] - var).sqrt() * e


#: Wrong steps, by what to say of them.
WRONG_STEPS: Mistakes = {
    "That is x0_hat, all the way to the picture. Mix it with the noise again, as at timestep s.": _mix_with(
        lambda at_t, at_s: (1, 0)
    ),
    "The noise is put back at the strength of t; at s it is √(1 - alpha_bar_s).": _mix_with(
        lambda at_t, at_s: (at_s.sqrt(), (1 - at_t).sqrt())
    ),
    "x0_hat is scaled by √alpha_bar_t; at s it is √alpha_bar_s.": _mix_with(
        lambda at_t, at_s: (at_t.sqrt(), (1 - at_s).sqrt())
    ),
    "The noise eps_hat is forgotten: without it the picture at s has too little noise.": _mix_with(
        lambda at_t, at_s: (at_s.sqrt(), 0)
    ),
    "The noise is put back at the strength of t - 1; at s it is √(1 - alpha_bar_s).": (
        lambda x, e, t, s, a: my_ddim_step(x, e, t, s, a) + ((1 - a[t - 1]).sqrt() - (1 - a[s]).sqrt()) * e
    ),
    "All square roots are missing, at t and at s: the weights are √alpha_bar and √(1 - alpha_bar).": (
        lambda x, e, t, s, a: a[s] * (x - (1 - a[t]) * e) / a[t] + (1 - a[s]) * e
    ),
    "alpha_bar is already a product; you multiply it up once more.": (
        lambda x, e, t, s, a: my_ddim_step(x, e, t, s, a.cumprod(0))
    ),
    "x_t itself is mixed with eps_hat: work out x0_hat first.": step_with(lambda x, e, t, a: x),
    "s and t are swapped.": lambda x, e, t, s, a: my_ddim_step(x, e, s, t, a),
    "The step goes to t - 1; it should go to s, however far that is.": (
        lambda x, e, t, s, a: my_ddim_step(x, e, t, t - 1, a)
    ),
    "That is the mean of DDPM's step, with room left for fresh noise. In DDIM all of eps_hat is put back.": _ddpm_mean,
    CLAMPED: step_with(_clamped),
    CLAMPED_AND_FOLLOWED: step_with(_clamped, follow=True),
    **{f"Look at x0_hat. {sentence}": step_with(guess) for sentence, guess in WRONG_GUESSES.items()},
    **{
        f"Look at the mixture at s. {sentence.replace('eps.', 'eps_hat.')}": step_with(mix=mix)
        for sentence, mix in WRONG_MIXES.items()
        if not sentence.startswith(
            ("Every picture", "alpha_bar[t] met", "x_t is clamped", "t is off", "This is a single")
        )
    },
}

DDIM_STEP = Exercise(
    _ddim,
    lambda g: [
        (noise(s, g), noise(s, g), t, to, random_alpha_bar(g))
        for s, t, to in zip(SHAPES, (20, 12, 7), (15, 4, 0), strict=True)
    ],
    WRONG_STEPS,
    answer=my_ddim_step,
    library=[reverse_step],
    equation=r"x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1 - \bar\alpha_s}\,\hat\varepsilon",
)
