"""The exercises of notebook 01: corrupting with a linear amount."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..forward import corrupt
from .inputs import SHAPES, column, noise, pictures
from .judge import Choice, Exercise, Question


def _corrupt_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(pictures(s, g), torch.rand(s[0], dtype=torch.float64, generator=g), noise(s, g)) for s in SHAPES]


def my_corrupt(x: Tensor, amount: Tensor, noise: Tensor) -> Tensor:
    u = amount.view(-1, 1, 1, 1)
    return (1 - u) * x + u * noise


CORRUPT = Exercise(
    lambda x, amount, noise: corrupt(x, amount, noise)[0],
    _corrupt_cases,
    {
        "Amount and 1 - amount are swapped: amount 0 must give the picture, amount 1 the noise.": (
            lambda x, u, n: column(u) * x + (1 - column(u)) * n
        ),
        "The noise is added, but the picture does not fade: weigh it by 1 - amount.": lambda x, u, n: x + column(u) * n,
        "The picture fades, but the noise enters at full strength: weigh it by amount.": (
            lambda x, u, n: (1 - column(u)) * x + n
        ),
        "These are square-root weights. They come in notebook 03; here the amount is linear.": (
            lambda x, u, n: (1 - column(u)).sqrt() * x + column(u).sqrt() * n
        ),
        "Every picture got the amount of the first one: use all of amount, one entry per picture.": (
            lambda x, u, n: (1 - u[0]) * x + u[0] * n
        ),
        "Every picture got the average amount: use amount[i] for picture i, not the mean.": (
            lambda x, u, n: (1 - u.mean()) * x + u.mean() * n
        ),
        "amount met the wrong axis: shape (B,) lines up with the columns, W. Give it shape (B, 1, 1, 1) first.": (
            lambda x, u, n: (1 - u) * x + u * n
        ),
    },
    answer=my_corrupt,
    library=[corrupt],
    equation=r"x_u = (1-u)\,x + u\,n",
)


def _variance_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    rows = torch.rand(4, 3, dtype=torch.float64, generator=g)
    return [(row[0].item(), 0.2 + row[1].item(), 1.3 + row[2].item()) for row in rows]


def _mixture_variance(amount: float, picture_variance: float, noise_variance: float) -> float:
    """Variance of (1 − amount) x + amount n for independent x and n, from `corrupt` itself.

    `corrupt` is linear, so its weights are what it gives for (picture 1, noise 0) and (picture 0, noise 1).
    """
    one, zero = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    of_picture, of_noise = corrupt(one, amount, zero)[0].item(), corrupt(zero, amount, one)[0].item()
    return of_picture**2 * picture_variance + of_noise**2 * noise_variance


def my_variance(amount: float, picture_variance: float, noise_variance: float) -> float:
    return (1 - amount) ** 2 * picture_variance + amount**2 * noise_variance


MIXTURE_VARIANCE = Exercise(
    _mixture_variance,
    _variance_cases,
    {
        "The weights must be squared: Var(c · x) = c² · Var(x).": lambda u, p, n: (1 - u) * p + u * n,
        "The weights are swapped: the picture has 1 - amount, the noise has amount.": lambda u, p, n: (
            u**2 * p + (1 - u) ** 2 * n
        ),
        "Only the weight of the noise is squared; the picture's must be, too.": lambda u, p, n: (1 - u) * p + u**2 * n,
        "Only the weight of the picture is squared; the noise's must be, too.": lambda u, p, n: (
            (1 - u) ** 2 * p + u * n
        ),
        "There is a term too many: picture and noise are independent, so their covariance is 0.": (
            lambda u, p, n: (1 - u) ** 2 * p + u**2 * n + 2 * u * (1 - u) * math.sqrt(p * n)
        ),
        "That is a standard deviation: leave out the square root.": (
            lambda u, p, n: math.sqrt((1 - u) ** 2 * p + u**2 * n)
        ),
        "The variances are already squares; only the weights need squaring.": (
            lambda u, p, n: (1 - u) ** 2 * p**2 + u**2 * n**2
        ),
    },
    answer=my_variance,
    library=[corrupt],
    equation=r"\operatorname{Var}(x_u) = (1-u)^2 \operatorname{Var}(x) + u^2 \operatorname{Var}(n)",
)

LEAST_VARIANCE = Question(
    lambda: _mixture_variance(0.5, 1.0, 1.0),
    "0.5² · 1 + 0.5² · 1 = 0.5: half the variance is gone in the middle, and that is the sag of the curve.",
    {
        1.0: "It would be 1 if the weights were √0.5 each. They are 0.5, and are squared.",
        0.25: "That is one of the two terms: picture and noise each bring 0.25.",
        0.7071067811865476: "That is the standard deviation; the variance is its square.",
        0.0: "Something is left: both halves still vary.",
    },
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "corrupt": CORRUPT,
    "mixture_variance": MIXTURE_VARIANCE,
    "least_variance": LEAST_VARIANCE,
}
