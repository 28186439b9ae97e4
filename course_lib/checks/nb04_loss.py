"""Notebook 04, exercise 3: the loss. Notebook 06 asks for it again."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..objective import denoising_loss
from .effects import Case
from .inputs import SHAPES, Network, at, noise, pictures, random_alpha_bar, schedule_of, times
from .judge import Exercise
from .nb03 import WRONG_MIXES, Mistakes, my_q_sample


def _loss_cases(g: torch.Generator) -> list[Case]:
    """The first schedule ends in noise; the others stay near the picture, where the SNR is above 5."""
    cases: list[Case] = []
    for shape, power in zip(SHAPES, (1, 0.1, 0.1), strict=True):
        t = times(shape[0], g)
        t[-1] = 1
        cases.append((Network(), pictures(shape, g), t, noise(shape, g), random_alpha_bar(g) ** power))
    return cases


def my_loss(model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    ab = alpha_bar[t].view(-1, 1, 1, 1)
    x_t = ab.sqrt() * x0 + (1 - ab).sqrt() * eps
    return (model(x_t, t) - eps).square().mean()


def _loss_with(
    mix: Callable[..., Tensor] = my_q_sample,
    ask: Callable[..., Tensor] = lambda model, x_t, t: model(x_t, t),
    target: Callable[..., Tensor] = lambda x0, t, eps, alpha_bar: eps,
    measure: Callable[[Tensor], Tensor] = lambda error: error.square().mean(),
) -> Callable[..., Tensor]:
    """The loss with one part of it changed."""

    def loss(model: nn.Module, *case: Tensor) -> Tensor:
        return measure(ask(model, mix(*case), case[1]) - target(*case))

    return loss


def _v(x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    return at(alpha_bar, t).sqrt() * eps - (1 - at(alpha_bar, t)).sqrt() * x0


def _min_snr_loss(model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    snr = alpha_bar[t] / (1 - alpha_bar[t])
    each = (model(my_q_sample(x0, t, eps, alpha_bar), t) - eps).square().flatten(1).mean(1)
    return (snr.clamp(max=5) / snr * each).mean()


def _picture_loss(model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """The error of x0_hat, which is that of eps divided by the SNR."""
    a, b = at(alpha_bar, t).sqrt(), (1 - at(alpha_bar, t)).sqrt()
    return (b / a * (model(my_q_sample(x0, t, eps, alpha_bar), t) - eps)).square().mean()


#: Wrong losses, by what to say of them.
WRONG_LOSSES: Mistakes = {
    "The network is asked to predict the noise: compare its answer with eps, not with x0.": _loss_with(
        target=lambda x0, t, eps, alpha_bar: x0
    ),
    "The answer is compared with x_t. The target is eps, the noise that was mixed in.": _loss_with(target=my_q_sample),
    "The target is v, a·eps - b·x0. Here it is eps.": _loss_with(target=_v),
    "The target is eps - x0, as in flow matching. Here it is eps.": _loss_with(target=lambda x0, t, eps, a: eps - x0),
    "The target is already multiplied by √(1 - alpha_bar); the network is to predict eps itself.": _loss_with(
        target=lambda x0, t, eps, a: (1 - at(a, t)).sqrt() * eps
    ),
    "That is the error of x0_hat, the picture; DDPM takes the error of the noise.": _picture_loss,
    "eps is added to the answer; subtract it.": _loss_with(target=lambda x0, t, eps, alpha_bar: -eps),
    "The network sees the clean picture: give it x_t.": _loss_with(mix=lambda x0, *_: x0),
    "The network sees the noise itself: give it x_t.": _loss_with(mix=lambda x0, t, eps, alpha_bar: eps),
    "That is the sum; take the mean, so that the loss does not grow with the size of the pictures.": _loss_with(
        measure=lambda error: error.square().sum()
    ),
    "That is a sum over the pixels and a mean over the batch alone: take the mean over both.": _loss_with(
        measure=lambda error: error.square().flatten(1).sum(1).mean()
    ),
    "That is half of the mean squared error; leave out the factor ½.": _loss_with(
        measure=lambda error: error.square().mean() / 2
    ),
    "That is the absolute error; DDPM squares it.": _loss_with(measure=lambda error: error.abs().mean()),
    "That is the Huber loss (smooth L1), which does not square large errors; DDPM squares all of them.": _loss_with(
        measure=lambda error: F.smooth_l1_loss(error, torch.zeros_like(error))
    ),
    "That is the root of the mean square; leave out the root.": _loss_with(
        measure=lambda error: error.square().mean().sqrt()
    ),
    "The square comes before the mean: errors of opposite sign must not cancel.": _loss_with(
        measure=lambda error: error.mean().square()
    ),
    "The mean over the batch comes before the square: the errors of different pictures must not cancel.": _loss_with(
        measure=lambda error: error.mean(0).square().mean()
    ),
    "The network is told t - 1. In this course t = 0 is the picture, and the network is told t itself.": _loss_with(
        ask=lambda model, x_t, t: model(x_t, t - 1)
    ),
    "The network is told t = 0, whatever t is: pass t as the second argument.": _loss_with(
        ask=lambda model, x_t, t: model(x_t, torch.zeros_like(t))
    ),
    **{f"Look at how x_t is mixed. {sentence}": _loss_with(mix=mix) for sentence, mix in WRONG_MIXES.items()},
}

LOSS = Exercise(
    lambda model, x0, t, eps, alpha_bar: denoising_loss(model, schedule_of(alpha_bar), x0, t, eps).mean(),
    _loss_cases,
    {
        **WRONG_LOSSES,
        "Each picture's loss is weighed by min(SNR, 5)/SNR. That comes later in the notebook; here all timesteps count "
        "the same.": _min_snr_loss,
    },
    answer=my_loss,
    library=[denoising_loss],
    equation=r"L = \operatorname{mean}\left(\hat\varepsilon(x_t, t) - \varepsilon\right)^2",
    gradient=True,
)
