"""The exercises of notebook 04: training to predict noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..forward import to_x0_eps
from ..objective import denoising_loss
from ..train import EMA
from .inputs import SHAPES, at, noise, pictures, random_alpha_bar, schedule_of, times
from .judge import Choice, Exercise, Question


def _prediction_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(noise(s, g), noise(s, g), times(s[0], g), random_alpha_bar(g)) for s in SHAPES]


def my_x0_hat(x_t: Tensor, eps_hat: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    ab = alpha_bar[t].view(-1, 1, 1, 1)
    return (x_t - (1 - ab).sqrt() * eps_hat) / ab.sqrt()


X0_HAT = Exercise(
    lambda x_t, eps_hat, t, alpha_bar: to_x0_eps("eps", schedule_of(alpha_bar), eps_hat, x_t, t)[0],
    _prediction_cases,
    {
        "Subtracting the noise is half of it: divide by √alpha_bar, since the picture was scaled down.": (
            lambda x, e, t, a: x - (1 - at(a, t)).sqrt() * e
        ),
        "Take the noise away: the sign before eps_hat is a minus.": (
            lambda x, e, t, a: (x + (1 - at(a, t)).sqrt() * e) / at(a, t).sqrt()
        ),
        "The root over 1 - alpha_bar is missing.": lambda x, e, t, a: (x - (1 - at(a, t)) * e) / at(a, t).sqrt(),
        "The root in the denominator is missing: divide by √alpha_bar.": (
            lambda x, e, t, a: (x - (1 - at(a, t)).sqrt() * e) / at(a, t)
        ),
        "Both square roots are missing.": lambda x, e, t, a: (x - (1 - at(a, t)) * e) / at(a, t),
        "The noise was scaled when it was mixed in: subtract √(1 - alpha_bar) · eps_hat, not eps_hat.": (
            lambda x, e, t, a: (x - e) / at(a, t).sqrt()
        ),
        "The noise is subtracted after the division: put both terms over √alpha_bar.": (
            lambda x, e, t, a: x / at(a, t).sqrt() - (1 - at(a, t)).sqrt() * e
        ),
        "The two weights are swapped.": lambda x, e, t, a: (x - at(a, t).sqrt() * e) / (1 - at(a, t)).sqrt(),
        "t is off by one: alpha_bar has T + 1 entries, so alpha_bar[t] is the right one.": (
            lambda x, e, t, a: (x - (1 - at(a, t - 1)).sqrt() * e) / at(a, t - 1).sqrt()
        ),
    },
    answer=my_x0_hat,
    library=[to_x0_eps],
    equation=r"\hat x_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t}\,\hat\epsilon}{\sqrt{\bar\alpha_t}}",
)


def _toy_model(x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    """Stands in for a network: its answer depends on every pixel and on the time."""
    return 0.3 * x_t + 0.1 * x_t.roll(1, -1) + 0.05 * t.to(x_t.dtype).view(-1, 1, 1, 1).sin()


def _loss_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(_toy_model, pictures(s, g), times(s[0], g), noise(s, g), random_alpha_bar(g)) for s in SHAPES]


def _mixed(x: Tensor, t: Tensor, e: Tensor, a: Tensor) -> Tensor:
    return at(a, t).sqrt() * x + (1 - at(a, t)).sqrt() * e


def my_loss(model: Callable[..., Tensor], x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    ab = alpha_bar[t].view(-1, 1, 1, 1)
    x_t = ab.sqrt() * x0 + (1 - ab).sqrt() * eps
    return (model(x_t, t) - eps).square().mean()


LOSS = Exercise(
    lambda model, x0, t, eps, alpha_bar: denoising_loss(model, schedule_of(alpha_bar), x0, t, eps).mean(),
    _loss_cases,
    {
        "The network is asked to predict the noise: compare its answer with eps, not with x0.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - x).square().mean()
        ),
        "The answer is compared with x_t. The target is eps, the noise that was mixed in.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - _mixed(x, t, e, a)).square().mean()
        ),
        "The network sees the clean picture: give it x_t.": lambda m, x, t, e, a: (m(x, t) - e).square().mean(),
        "The network sees the noise itself: give it x_t.": lambda m, x, t, e, a: (m(e, t) - e).square().mean(),
        "That is the sum; take the mean, so that the loss does not grow with the size of the pictures.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).square().sum()
        ),
        "That is the absolute error; DDPM squares it.": lambda m, x, t, e, a: (
            (m(_mixed(x, t, e, a), t) - e).abs().mean()
        ),
        "That is the root of the mean square; leave out the root.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).square().mean().sqrt()
        ),
        "The square comes before the mean: errors of opposite sign must not cancel.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).mean().square()
        ),
        "Both square roots are missing where x_t is mixed.": (
            lambda m, x, t, e, a: (m(at(a, t) * x + (1 - at(a, t)) * e, t) - e).square().mean()
        ),
        "The network is told t - 1. In this course t = 0 is the picture, and the network is told t itself.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t - 1) - e).square().mean()
        ),
        "The network is not told the time: pass t as the second argument.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), torch.zeros_like(t)) - e).square().mean()
        ),
        "The target is already multiplied by √(1 - alpha_bar); the network is to predict eps itself.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - (1 - at(a, t)).sqrt() * e).square().mean()
        ),
    },
    answer=my_loss,
    library=[denoising_loss],
    equation=r"L = \operatorname{mean}\left(\hat\epsilon(x_t, t) - \epsilon\right)^2",
)


def _ema(average: Tensor, weights: Tensor, decay: float) -> Tensor:
    """One update of the library's EMA, far enough into a run that its decay is the one asked for."""
    ours, theirs = (torch.nn.ParameterList([torch.nn.Parameter(w.clone())]) for w in (average, weights))
    ema = EMA(ours, decay)
    ema.updates = 10**6
    ema.update(theirs)
    return next(iter(ema.model.parameters())).detach()


def my_ema(average: Tensor, weights: Tensor, decay: float) -> Tensor:
    return decay * average + (1 - decay) * weights


EMA_UPDATE = Exercise(
    _ema,
    lambda g: [(noise((3, 4), g), noise((3, 4), g), 0.9), (noise((5,), g), noise((5,), g), 0.995)],
    {
        "decay and 1 - decay are swapped: a decay near 1 keeps almost all of the average.": (
            lambda m, w, d: (1 - d) * m + d * w
        ),
        "The new weights enter whole: weigh them by 1 - decay, so that the two weights add up to 1.": (
            lambda m, w, d: d * m + w
        ),
        "The old average must shrink by decay, or it grows without end.": lambda m, w, d: m + (1 - d) * w,
        "That is the plain mean of the two; decay says how much of the average stays.": lambda m, w, d: (m + w) / 2,
        "The sign is wrong: the average moves towards the weights, not away from them.": (
            lambda m, w, d: m - (1 - d) * (w - m)
        ),
    },
    answer=my_ema,
    library=[EMA],
    equation=r"m \leftarrow d\,m + (1 - d)\,w",
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "x0_hat": X0_HAT,
    "loss": LOSS,
    "ema": EMA_UPDATE,
}
