"""Notebook 03, exercises 6 and 7: variance and mean of the step back when the picture is known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..forward import q_posterior
from ..schedule import Schedule
from .effects import Case
from .inputs import SHAPES, at, noise, pictures, random_alpha_bar, schedule_of, times
from .judge import Exercise


def _variance_cases(g: torch.Generator) -> list[Case]:
    return [(torch.arange(1, 21), random_alpha_bar(g)), (times(5, g), random_alpha_bar(g))]


def _beta_of(t: Tensor, alpha_bar: Tensor) -> Tensor:
    return 1 - alpha_bar[t] / alpha_bar[t - 1]


def my_posterior_variance(t: Tensor, alpha_bar: Tensor) -> Tensor:
    beta = 1 - alpha_bar[t] / alpha_bar[t - 1]
    return (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta


def _variance(of: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A variance made of beta_t, alpha_bar_(t-1) and alpha_bar_t."""
    return lambda t, alpha_bar: of(_beta_of(t, alpha_bar), alpha_bar[t - 1], alpha_bar[t])


POSTERIOR_VARIANCE = Exercise(
    lambda t, alpha_bar: schedule_of(alpha_bar).posterior_variance(t - 1, t),
    _variance_cases,
    {
        "That is beta_t, the variance of the step forward. Knowing x_0 makes it smaller.": _beta_of,
        "The fraction is upside down: 1 - alpha_bar at t-1 goes on top, so that nothing is left at t = 1.": _variance(
            lambda beta, before, now: (1 - now) / (1 - before) * beta
        ),
        "That is the standard deviation; leave out the root.": lambda t, a: my_posterior_variance(t, a).sqrt(),
        "The root over the fraction does not belong here: a variance has no roots.": _variance(
            lambda beta, before, now: ((1 - before) / (1 - now)).sqrt() * beta
        ),
        "The root over beta_t does not belong here: a variance has no roots.": _variance(
            lambda beta, before, now: (1 - before) / (1 - now) * beta.sqrt()
        ),
        "beta_t is missing as a factor.": _variance(lambda beta, before, now: (1 - before) / (1 - now)),
        "The fraction needs 1 - alpha_bar above and below, not alpha_bar.": _variance(
            lambda beta, before, now: before / now * beta
        ),
        "beta_t is 1 - alpha_bar_t/alpha_bar_(t-1); here 1 - alpha_bar_t stands in its place.": _variance(
            lambda beta, before, now: (1 - before) / (1 - now) * (1 - now)
        ),
        "alpha_bar_t stands where beta_t belongs: beta_t is 1 - alpha_bar_t/alpha_bar_(t-1).": _variance(
            lambda beta, before, now: (1 - before) / (1 - now) * now
        ),
        "beta_t is 1 - alpha_bar_t/alpha_bar_(t-1); your ratio is upside down.": _variance(
            lambda beta, before, now: (1 - before) / (1 - now) * (1 - before / now)
        ),
        "Brackets are missing: write (1 - alpha_bar_(t-1)) / (1 - alpha_bar_t), each difference in its own pair.": (
            _variance(lambda beta, before, now: 1 - before / 1 - now * beta)
        ),
        "alpha_t stands where beta_t belongs: beta_t = 1 - alpha_t.": _variance(
            lambda beta, before, now: (1 - before) / (1 - now) * (1 - beta)
        ),
    },
    answer=my_posterior_variance,
    library=[Schedule.posterior_variance],
    equation=r"\tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\,\beta_t",
)


def _mean_cases(g: torch.Generator) -> list[Case]:
    """t stays below T in the first case and reaches it in the last, where an index that is one too high fails.

    x0 leaves [-1, 1], as a sampler's guess may: a clamp must show.
    """
    first, second, third = SHAPES
    spans = ((first, (9, 2, 16, 5)), (second, (1, 12, 3)), (third, (20, 1)))
    return [(noise(s, g), 2 * pictures(s, g), torch.tensor(t), random_alpha_bar(g)) for s, t in spans]


def my_posterior_mean(x_t: Tensor, x0: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    now, before = alpha_bar[t].view(-1, 1, 1, 1), alpha_bar[t - 1].view(-1, 1, 1, 1)
    alpha = now / before
    return (alpha.sqrt() * (1 - before) * x_t + before.sqrt() * (1 - alpha) * x0) / (1 - now)


def _weighing(weights: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    """Adds x_t and x0 with the weights that a function makes of α_t, ᾱ_(t−1) and ᾱ_t."""

    def mean(x_t: Tensor, x0: Tensor, t: Tensor, a: Tensor) -> Tensor:
        of_x_t, of_x0 = weights(at(a, t) / at(a, t - 1), at(a, t - 1), at(a, t))
        return of_x_t * x_t + of_x0 * x0

    return mean


POSTERIOR_MEAN = Exercise(
    lambda x_t, x0, t, alpha_bar: q_posterior(schedule_of(alpha_bar), x_t, x0, t - 1, t)[0],
    _mean_cases,
    {
        "Both square roots are missing: over alpha_t before x_t, and over alpha_bar_(t-1) before x_0.": _weighing(
            lambda al, b, n: (al * (1 - b) / (1 - n), b * (1 - al) / (1 - n))
        ),
        "The root over alpha_t, in the weight of x_t, is missing.": _weighing(
            lambda al, b, n: (al * (1 - b) / (1 - n), b.sqrt() * (1 - al) / (1 - n))
        ),
        "The root over alpha_bar_(t-1), in the weight of x_0, is missing.": _weighing(
            lambda al, b, n: (al.sqrt() * (1 - b) / (1 - n), b * (1 - al) / (1 - n))
        ),
        "The two weights are swapped: at t = 1 all of the weight must be on x_0.": _weighing(
            lambda al, b, n: (b.sqrt() * (1 - al) / (1 - n), al.sqrt() * (1 - b) / (1 - n))
        ),
        "alpha_bar_t stands where alpha_t belongs, in the weight of x_t.": _weighing(
            lambda al, b, n: (n.sqrt() * (1 - b) / (1 - n), b.sqrt() * (1 - al) / (1 - n))
        ),
        "alpha_bar_t stands where alpha_bar_(t-1) belongs, in the weight of x_0.": _weighing(
            lambda al, b, n: (al.sqrt() * (1 - b) / (1 - n), n.sqrt() * (1 - al) / (1 - n))
        ),
        "beta_t is 1 - alpha_bar_t/alpha_bar_(t-1); in the weight of x_0, 1 - alpha_bar_t stands in its place.": (
            _weighing(lambda al, b, n: (al.sqrt() * (1 - b) / (1 - n), b.sqrt()))
        ),
        "beta_t is missing in the weight of x_0.": _weighing(
            lambda al, b, n: (al.sqrt() * (1 - b) / (1 - n), b.sqrt() / (1 - n))
        ),
        "alpha_t stands where beta_t belongs, in the weight of x_0.": _weighing(
            lambda al, b, n: (al.sqrt() * (1 - b) / (1 - n), b.sqrt() * al / (1 - n))
        ),
        "That form of the mean wants the noise, and x0 stands in its place. Give each of x_t and x_0 its own weight.": (
            _weighing(lambda al, b, n: (1 / al.sqrt(), -(1 - al) / ((1 - n) * al).sqrt()))
        ),
        "The denominator 1 - alpha_bar_t is missing.": _weighing(
            lambda al, b, n: (al.sqrt() * (1 - b), b.sqrt() * (1 - al))
        ),
        "Only the term with x_0 is divided by 1 - alpha_bar_t: brackets around the sum are missing.": _weighing(
            lambda al, b, n: (al.sqrt() * (1 - b), b.sqrt() * (1 - al) / (1 - n))
        ),
        "Only the term with x_t is divided by 1 - alpha_bar_t; divide both.": _weighing(
            lambda al, b, n: (al.sqrt() * (1 - b) / (1 - n), b.sqrt() * (1 - al))
        ),
        "The denominator is 1 - alpha_bar_t itself, without a root.": _weighing(
            lambda al, b, n: (al.sqrt() * (1 - b) / (1 - n).sqrt(), b.sqrt() * (1 - al) / (1 - n).sqrt())
        ),
        "That is what the picture alone says, the mean of q(x_(t-1) | x_0). x_t has something to say, too.": _weighing(
            lambda al, b, n: (torch.zeros_like(b), b.sqrt())
        ),
        "x0 is clamped to [-1, 1]. The formula takes it as it is, also where a guess leaves that range.": (
            lambda x_t, x0, t, a: my_posterior_mean(x_t, x0.clamp(-1, 1), t, a)
        ),
        "Every picture got the timestep of the first: use alpha_bar[t], one entry per picture.": (
            lambda x_t, x0, t, a: my_posterior_mean(x_t, x0, t[:1].expand_as(t), a)
        ),
        "alpha_bar[t] met the wrong axis: shape (B,) lines up with the columns, W. Give it shape (B, 1, 1, 1) first.": (
            lambda x_t, x0, t, a: (
                (a[t] / a[t - 1]).sqrt() * (1 - a[t - 1]) / (1 - a[t]) * x_t
                + a[t - 1].sqrt() * _beta_of(t, a) / (1 - a[t]) * x0
            )
        ),
        "t is one too low: the later entry is alpha_bar[t], the earlier alpha_bar[t - 1].": (
            lambda x_t, x0, t, a: my_posterior_mean(x_t, x0, t - 1, a)
        ),
        "t is one too high: the later entry is alpha_bar[t], the earlier alpha_bar[t - 1].": (
            lambda x_t, x0, t, a: my_posterior_mean(x_t, x0, t + 1, a)
        ),
    },
    answer=my_posterior_mean,
    library=[q_posterior],
    equation=r"\tilde\mu_t = \frac{\sqrt{\alpha_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\;x_t "
    r"+ \frac{\sqrt{\bar\alpha_{t-1}}\;\beta_t}{1 - \bar\alpha_t}\;x_0",
)
