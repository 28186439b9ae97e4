"""Notebook 03, exercise 5: four schedules, judged one by one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..schedule import cosine_betas, linear_betas, quadratic_betas, sigmoid_betas
from .effects import Wrong
from .judge import Exercise

Betas = Callable[[int], Tensor]

#: With 1000 steps the first betas of the cosine schedule lie below 0.0001, so that a clip there shows.
SIZES = (8, 25, 1000)

RIGHT: dict[str, Betas] = {
    "linear": linear_betas,
    "quadratic": quadratic_betas,
    "sigmoid": sigmoid_betas,
    "cosine": cosine_betas,
}


def line(start: float, end: float, T: int) -> Tensor:
    return torch.linspace(start, end, T, dtype=torch.float64)


def between(share: Tensor) -> Tensor:
    """From beta_min to beta_max as the share goes from 0 to 1."""
    return 0.0001 + (0.02 - 0.0001) * share


def cosine(T: int, offset: float = 0.008, power: int = 2, low: float | None = None, cap: float = 0.999) -> Tensor:
    """The cosine schedule with everything open that people set to something else."""
    f = torch.cos((line(0, 1, T + 1) + offset) / (1 + offset) * math.pi / 2) ** power
    return (1 - f[1:] / f[:-1]).clamp(low, cap)


def share_left(T: int) -> Tensor:
    """alpha_bar_1 to alpha_bar_T of the cosine schedule, before the cap."""
    f = torch.cos((line(0, 1, T + 1) + 0.008) / 1.008 * math.pi / 2) ** 2
    return f[1:] / f[0]


def without_brackets(T: int) -> Tensor:
    """The cosine of t/T + (0.008/1.008 · π/2)."""
    f = torch.cos(line(0, 1, T + 1) + 0.008 / 1.008 * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


WRONG_BETAS: dict[str, dict[str, Betas]] = {
    "linear": {
        "linear: your betas fall. They should grow from 0.0001 to 0.02, so that the first steps are gentle.": (
            lambda T: linear_betas(T).flip(0)
        ),
        "linear: the last beta is not 0.02. T numbers have T - 1 gaps between them; torch.linspace knows.": (
            lambda T: between(torch.arange(T, dtype=torch.float64) / T)
        ),
        "linear: the first beta is not 0.0001. ρ starts at 0, so both ends belong to the list.": (
            lambda T: line(0.0001, 0.02, T + 1)[1:]
        ),
        "linear: you multiply the ends by 1000/T, as some code does. Here they stay the same for every T.": (
            lambda T: linear_betas(T) * 1000 / T
        ),
        "linear: 0.00085 and 0.012 are the ends of latent diffusion. DDPM's, used here, are 0.0001 and 0.02.": (
            lambda T: line(0.00085, 0.012, T)
        ),
        "linear: your betas end at 0.2; the end is 0.02.": lambda T: line(0.0001, 0.2, T),
        "linear: your betas start at 0.001; the start is 0.0001.": lambda T: line(0.001, 0.02, T),
    },
    "quadratic": {
        "quadratic: that is √beta, which rises in a straight line; square it.": lambda T: line(
            0.01, math.sqrt(0.02), T
        ),
        "quadratic: that is the square of the linear betas. The straight line runs between the roots of the ends.": (
            lambda T: linear_betas(T).square()
        ),
        "quadratic: you let the square of beta rise in a straight line; its root should.": (
            lambda T: line(0.0001**2, 0.02**2, T).sqrt()
        ),
        "quadratic: you square ρ between the two ends. Square the straight line between their roots instead.": (
            lambda T: between(line(0, 1, T).square())
        ),
        "quadratic: 0.00085 and 0.012 are the ends of latent diffusion. Here they are 0.0001 and 0.02.": (
            lambda T: line(math.sqrt(0.00085), math.sqrt(0.012), T).square()
        ),
    },
    "sigmoid": {
        "sigmoid: your S runs from 0 to 1. Stretch it by 0.02 - 0.0001 and shift it by 0.0001.": (
            lambda T: line(-6, 6, T).sigmoid()
        ),
        "sigmoid: the S is not shifted: add 0.0001.": lambda T: (0.02 - 0.0001) * line(-6, 6, T).sigmoid(),
        "sigmoid: the S is stretched by 0.02, so it ends too high. Stretch it by 0.02 - 0.0001.": (
            lambda T: 0.0001 + 0.02 * line(-6, 6, T).sigmoid()
        ),
        "sigmoid: between 0 and 1 the logistic function is nearly straight. Take it from -6 to 6.": (
            lambda T: between(line(0, 1, T).sigmoid())
        ),
        "sigmoid: you take the logistic function from -3 to 3. Take it from -6 to 6.": (
            lambda T: between(line(-3, 3, T).sigmoid())
        ),
        "sigmoid: your S falls. The exponent is -(12ρ - 6), so that the betas grow.": (
            lambda T: between(line(6, -6, T).sigmoid())
        ),
    },
    "cosine": {
        "cosine: the last beta is 1, so nothing at all is left of the picture. Cap the betas at 0.999.": (
            lambda T: cosine(T, cap=1.0)
        ),
        "cosine: your cap is 0.9999, as in a well-known blog. Here it is 0.999.": lambda T: cosine(T, cap=0.9999),
        "cosine: you clip from below at 0.0001, as a well-known blog does. Here the first betas may be smaller.": (
            lambda T: cosine(T, low=0.0001)
        ),
        "cosine: you clip to 0.0001..0.9999, as a well-known blog does. Here the only limit is the cap, 0.999.": (
            lambda T: cosine(T, low=0.0001, cap=0.9999)
        ),
        "cosine: you clip at 0.02, the end of the other schedules. Cap the betas at 0.999.": (
            lambda T: cosine(T, cap=0.02)
        ),
        "cosine: that is alpha_bar, which falls. beta_t is 1 - alpha_bar_t/alpha_bar_(t-1).": share_left,
        "cosine: that is 1 - alpha_bar_t. For one step, divide by the entry before, not by the first.": (
            lambda T: (1 - share_left(T)).clamp(max=0.999)
        ),
        "cosine: that is alpha_t, the share that a step keeps. beta_t is 1 - alpha_t.": lambda T: (
            1 - cosine(T, cap=1.0)
        ),
        "cosine: the offset 0.008 is missing, so the first betas are too small.": lambda T: cosine(T, offset=0.0),
        "cosine: the cosine is not squared.": lambda T: cosine(T, power=1),
        "cosine: brackets are missing: (t/T + 0.008) is divided by 1.008 as a whole, then multiplied by π/2.": (
            without_brackets
        ),
    },
}


def close(got: list[Tensor], right: list[Tensor]) -> bool:
    """In float32 the cosine schedule loses three digits near t = T, where f is tiny; its cap stays exact."""
    return all(
        torch.allclose(a.double(), b, rtol=3e-4, atol=1e-6) and abs(a[-1] - b[-1]) < 1e-5
        for a, b in zip(got, right, strict=True)
    )


def of_all_sizes(betas: Betas) -> list[Tensor]:
    return [betas(T) for T in SIZES]


def kind_by_kind(answer: Any) -> Callable[..., Any]:
    """The answer for all sizes, which stops at the first kind that is wrong or not written yet."""

    def betas(kind: str) -> Any:
        got = [answer(kind, T) for T in SIZES]
        if got[0] is None or got[0] is ...:
            if kind == "linear":
                return None
            raise Wrong(f"{kind}: nothing is returned yet. Everything before it is right.")
        right = of_all_sizes(RIGHT[kind])
        if not all(isinstance(a, Tensor) and a.shape == b.shape for a, b in zip(got, right, strict=True)):
            return got
        if close(got, right):
            return [b.to(a) for a, b in zip(got, right, strict=True)]
        known = [sentence for sentence, wrong in WRONG_BETAS[kind].items() if close(got, of_all_sizes(wrong))]
        apart, T = max(((a - b).abs().max().item(), len(a)) for a, b in zip(got, right, strict=True))
        raise Wrong([*known, f"{kind}: the numbers differ by up to {apart:.3g} (for T = {T})."][0])

    return betas


def but_for(kind: str, wrong: Betas) -> Callable[[str, int], Tensor]:
    """All four kinds right but for this one."""
    betas = {**RIGHT, kind: wrong}
    return lambda kind, T: betas[kind](T)


def my_betas(kind: str, T: int) -> Tensor:
    start, end = 0.0001, 0.02
    if kind == "linear":
        return torch.linspace(start, end, T, dtype=torch.float64)
    if kind == "quadratic":
        return torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64) ** 2
    if kind == "sigmoid":
        return start + (end - start) * torch.linspace(-6, 6, T, dtype=torch.float64).sigmoid()
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    f = torch.cos((u + 0.008) / 1.008 * torch.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=0.999)


BETAS = Exercise(
    lambda kind, T: RIGHT[kind](T),
    lambda g: [(kind,) for kind in RIGHT],
    {sentence: but_for(kind, wrong) for kind, mistakes in WRONG_BETAS.items() for sentence, wrong in mistakes.items()},
    answer=my_betas,
    library=[linear_betas, quadratic_betas, sigmoid_betas, cosine_betas],
    equation=r"""\begin{aligned}
\text{linear}\quad & \beta_t = \beta_{\min} + \rho\,(\beta_{\max} - \beta_{\min}), \qquad \rho = \tfrac{t-1}{T-1} \\
\text{quadratic}\quad & \sqrt{\beta_t} = (1 - \rho)\sqrt{\beta_{\min}} + \rho\,\sqrt{\beta_{\max}} \\
\text{sigmoid}\quad & \beta_t = \beta_{\min} + \frac{\beta_{\max} - \beta_{\min}}{1 + e^{-(12\rho - 6)}} \\
\text{cosine}\quad & \beta_t = \min\Big(1 - \frac{f(t)}{f(t-1)},\ 0.999\Big),
\qquad f(t) = \cos^2\Big(\frac{t/T + 0.008}{1.008} \cdot \frac{\pi}{2}\Big)
\end{aligned}""",
    adapt=kind_by_kind,
    praise="The same numbers as the library's four functions.",
)
