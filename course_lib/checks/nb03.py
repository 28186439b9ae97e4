"""The exercises of notebook 03: jumping to any timestep."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..forward import q_sample
from ..schedule import Schedule, from_betas, linear_betas
from .inputs import SHAPES, at, noise, pictures, random_alpha_bar, schedule_of, times
from .judge import Choice, Exercise, Question


def _beta_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [
        (linear_betas(50, 0.01, 0.2),),
        (0.02 + 0.3 * torch.rand(12, dtype=torch.float64, generator=g),),
    ]


def _with_one(x: Tensor) -> Tensor:
    return torch.cat([torch.ones(1, dtype=x.dtype), x])


def my_alpha_bar(betas: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(betas[:1]), (1 - betas).cumprod(0)])


ALPHA_BAR = Exercise(
    lambda betas: from_betas(betas).alpha_bar,
    _beta_cases,
    {
        "This is alpha_t, one step. alpha_bar is the product of all alphas up to t: cumprod.": lambda b: _with_one(
            1 - b
        ),
        "The product runs over beta; it must run over alpha = 1 - beta.": lambda b: _with_one(b.cumprod(0)),
        "This is 1 - alpha_bar, which grows: alpha_bar starts at 1 and falls.": lambda b: (
            1 - _with_one((1 - b).cumprod(0))
        ),
        "This is √alpha_bar, the weight of the picture; leave out the root.": (
            lambda b: _with_one((1 - b).cumprod(0)).sqrt()
        ),
        "The steps multiply, they do not add up: a product of (1 - beta), not 1 minus the sum of beta.": (
            lambda b: _with_one(1 - b.cumsum(0))
        ),
        "The order is reversed: entry 0 is the picture (1), the last entry is the noisiest.": (
            lambda b: _with_one((1 - b).cumprod(0)).flip(0)
        ),
        "The product starts one step late: entry 1 must already hold 1 - beta_1.": (
            lambda b: _with_one(_with_one((1 - b).cumprod(0))[:-1])
        ),
        "One square too many: the variance left by one step is 1 - beta itself, not its square.": (
            lambda b: _with_one((1 - b).square().cumprod(0))
        ),
    },
    answer=my_alpha_bar,
    library=[from_betas],
    equation=r"\bar\alpha_t = \prod_{s=1}^{t} (1 - \beta_s), \qquad \bar\alpha_0 = 1",
)


def _q_sample_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(pictures(s, g), times(s[0], g), noise(s, g), random_alpha_bar(g)) for s in SHAPES]


def my_q_sample(x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    ab = alpha_bar[t].view(-1, 1, 1, 1)
    return ab.sqrt() * x0 + (1 - ab).sqrt() * eps


Q_SAMPLE = Exercise(
    lambda x0, t, eps, alpha_bar: q_sample(schedule_of(alpha_bar), x0, t, eps)[0],
    _q_sample_cases,
    {
        "Both square roots are missing: alpha_bar is a variance, the weights are its roots.": (
            lambda x, t, e, a: at(a, t) * x + (1 - at(a, t)) * e
        ),
        "The root over alpha_bar is missing: the picture is scaled too far down.": (
            lambda x, t, e, a: at(a, t) * x + (1 - at(a, t)).sqrt() * e
        ),
        "The root over 1 - alpha_bar is missing: the noise is too weak.": (
            lambda x, t, e, a: at(a, t).sqrt() * x + (1 - at(a, t)) * e
        ),
        "The two weights are swapped: t near 0 must give the picture.": (
            lambda x, t, e, a: (1 - at(a, t)).sqrt() * x + at(a, t).sqrt() * e
        ),
        "This is 1 - √alpha_bar; the root goes over the whole of 1 - alpha_bar.": (
            lambda x, t, e, a: at(a, t).sqrt() * x + (1 - at(a, t).sqrt()) * e
        ),
        "t is off by one, too early: alpha_bar has T + 1 entries, so alpha_bar[t] is the right one.": (
            lambda x, t, e, a: at(a, t - 1).sqrt() * x + (1 - at(a, t - 1)).sqrt() * e
        ),
        "This is a single step with beta_t. The jump from x_0 uses alpha_bar_t.": (
            lambda x, t, e, a: (at(a, t) / at(a, t - 1)).sqrt() * x + (1 - at(a, t) / at(a, t - 1)).sqrt() * e
        ),
        "Every picture got the timestep of the first: use alpha_bar[t], one entry per picture.": (
            lambda x, t, e, a: a[t[0]].sqrt() * x + (1 - a[t[0]]).sqrt() * e
        ),
        "The picture does not fade: weigh it by √alpha_bar.": lambda x, t, e, a: x + (1 - at(a, t)).sqrt() * e,
        "alpha_bar[t] met the wrong axis: shape (B,) lines up with the columns, W. Give it shape (B, 1, 1, 1) first.": (
            lambda x, t, e, a: a[t].sqrt() * x + (1 - a[t]).sqrt() * e
        ),
    },
    answer=my_q_sample,
    library=[q_sample],
    equation=r"x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1 - \bar\alpha_t}\,\epsilon",
)


def _posterior_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(torch.arange(1, 21), random_alpha_bar(g)), (times(5, g), random_alpha_bar(g))]


def _beta_of(t: Tensor, alpha_bar: Tensor) -> Tensor:
    return 1 - alpha_bar[t] / alpha_bar[t - 1]


def my_posterior_variance(t: Tensor, alpha_bar: Tensor) -> Tensor:
    beta = 1 - alpha_bar[t] / alpha_bar[t - 1]
    return (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta


POSTERIOR_VARIANCE = Exercise(
    lambda t, alpha_bar: schedule_of(alpha_bar).posterior_variance(t - 1, t),
    _posterior_cases,
    {
        "That is beta_t, the variance of the step forward. Knowing x_0 makes it smaller.": _beta_of,
        "The fraction is upside down: 1 - alpha_bar at t-1 goes on top, so that nothing is left at t = 1.": (
            lambda t, a: (1 - a[t]) / (1 - a[t - 1]) * _beta_of(t, a)
        ),
        "That is the standard deviation; leave out the root.": (
            lambda t, a: ((1 - a[t - 1]) / (1 - a[t]) * _beta_of(t, a)).sqrt()
        ),
        "beta_t is missing as a factor.": lambda t, a: (1 - a[t - 1]) / (1 - a[t]),
        "The fraction needs 1 - alpha_bar above and below, not alpha_bar.": lambda t, a: (
            a[t - 1] / a[t] * _beta_of(t, a)
        ),
        "beta_t is 1 - alpha_bar_t/alpha_bar_(t-1); here 1 - alpha_bar_t stands in its place.": (
            lambda t, a: (1 - a[t - 1]) / (1 - a[t]) * (1 - a[t])
        ),
    },
    answer=my_posterior_variance,
    library=[Schedule.posterior_variance],
    equation=r"\tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\,\beta_t",
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "alpha_bar": ALPHA_BAR,
    "q_sample": Q_SAMPLE,
    "posterior_variance": POSTERIOR_VARIANCE,
}
