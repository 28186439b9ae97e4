"""The exercises of notebook 03: jumping to any timestep."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..forward import q_posterior, q_sample, q_step
from ..schedule import Schedule, cosine_betas, from_betas, linear_betas, quadratic_betas, sigmoid_betas
from .effects import Wrong
from .inputs import SHAPES, at, noise, pictures, random_alpha_bar, schedule_of, times
from .judge import Choice, Exercise, Question


def _step_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    """The last step is the last case, since an index that is one too high fails there."""
    betas = 0.02 + 0.3 * torch.rand(12, dtype=torch.float64, generator=g)
    return [(noise(s, g), t, betas, noise(s, g)) for s, t in zip(SHAPES, (7, 2, 12), strict=True)]


def my_step(x: Tensor, t: int, betas: Tensor, z: Tensor) -> Tensor:
    beta = betas[t - 1]
    return (1 - beta).sqrt() * x + beta.sqrt() * z


def _jump_of(t: int, betas: Tensor) -> Tensor:
    return (1 - betas[:t]).prod()


Q_STEP = Exercise(
    lambda x, t, betas, z: q_step(from_betas(betas), x, t - 1, t, z)[0],
    _step_cases,
    {
        "Both square roots are missing: beta is a variance, and the weights are √(1 - beta) and √beta.": (
            lambda x, t, b, z: (1 - b[t - 1]) * x + b[t - 1] * z
        ),
        "The root over 1 - beta is missing: the picture fades too fast.": (
            lambda x, t, b, z: (1 - b[t - 1]) * x + b[t - 1].sqrt() * z
        ),
        "The root over beta is missing: beta is the variance of the noise, √beta its weight.": (
            lambda x, t, b, z: (1 - b[t - 1]).sqrt() * x + b[t - 1] * z
        ),
        "The weight of the picture is 1 - √beta here; the root goes over the whole of 1 - beta.": (
            lambda x, t, b, z: (1 - b[t - 1].sqrt()) * x + b[t - 1].sqrt() * z
        ),
        "The two weights are swapped: one step keeps nearly all of the picture.": (
            lambda x, t, b, z: b[t - 1].sqrt() * x + (1 - b[t - 1]).sqrt() * z
        ),
        "The picture does not fade, so the variance grows with every step: weigh it by √(1 - beta).": (
            lambda x, t, b, z: x + b[t - 1].sqrt() * z
        ),
        "The noise comes at full strength: weigh it by √beta.": lambda x, t, b, z: (1 - b[t - 1]).sqrt() * x + z,
        "t is off by one: betas starts with beta_1 and Python counts from 0, so beta_t is betas[t - 1].": (
            lambda x, t, b, z: (1 - b[t]).sqrt() * x + b[t].sqrt() * z
        ),
        "That is a jump over all steps from 1 to t. One step uses beta_t alone.": (
            lambda x, t, b, z: _jump_of(t, b).sqrt() * x + (1 - _jump_of(t, b)).sqrt() * z
        ),
    },
    answer=my_step,
    library=[q_step, Schedule.step_kernel],
    equation=r"x_t = \sqrt{1 - \beta_t}\;x_{t-1} + \sqrt{\beta_t}\;z_t",
)


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
    equation=r"\bar\alpha_t = \prod_{i=1}^{t} (1 - \beta_i), \qquad \bar\alpha_0 = 1",
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
    equation=r"x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1 - \bar\alpha_t}\,\varepsilon",
)


def _mean_of_copies() -> str:
    """Averages 256 copies of a picture at t = 500 and looks whether it is there, and how strong."""
    picture = torch.linspace(-1, 1, 784).view(1, 1, 28, 28)
    schedule, generator = from_betas(linear_betas()), torch.Generator().manual_seed(0)
    mean = q_sample(schedule, picture.expand(256, -1, -1, -1), 500, generator=generator)[0].mean(0)
    contrast = (mean * picture[0]).sum() / picture.square().sum()
    if contrast < 0.1:
        return "b" if mean.std() < 0.2 else "a"
    return "c" if contrast > 0.9 else "d"


MEAN_OF_COPIES = Choice(
    _mean_of_copies,
    "The noise averages out and leaves √alpha_bar_500 · x_0: the picture, at 0.28 of its contrast.",
    {
        "a": "Each copy has its own noise. The mean of 256 independent draws has 1/16 of their standard deviation.",
        "b": "The noise does average out, but the picture was only outshouted: its share √alpha_bar_500 is 0.28.",
        "c": "The noise averages out, but every step has also shrunk the picture, in all copies alike.",
    },
)

_Betas = Callable[[int], Tensor]
_RIGHT_BETAS: dict[str, _Betas] = {
    "linear": linear_betas,
    "quadratic": quadratic_betas,
    "sigmoid": sigmoid_betas,
    "cosine": cosine_betas,
}


def _line(start: float, end: float, T: int) -> Tensor:
    return torch.linspace(start, end, T, dtype=torch.float64)


def _cosine(T: int, offset: float = 0.008, power: int = 2) -> Tensor:
    """f(0)..f(T) of the cosine schedule."""
    return torch.cos((_line(0, 1, T + 1) + offset) / (1 + offset) * math.pi / 2) ** power


_WRONG_BETAS: dict[str, dict[str, _Betas]] = {
    "linear": {
        "linear: beta falls here. It grows, from 0.0001 to 0.02, so that the first steps are gentle.": (
            lambda T: linear_betas(T).flip(0)
        ),
        "linear: the last beta is not 0.02. T numbers have T - 1 gaps between them, as torch.linspace knows.": (
            lambda T: 0.0001 + (0.02 - 0.0001) * torch.arange(T, dtype=torch.float64) / T
        ),
        "linear: the ends are multiplied by 1000/T, as some code does. Here they are the same for every T.": (
            lambda T: linear_betas(T) * 1000 / T
        ),
    },
    "quadratic": {
        "quadratic: that is √beta, which rises in a straight line; square it.": (
            lambda T: _line(math.sqrt(0.0001), math.sqrt(0.02), T)
        ),
        "quadratic: that is the square of the linear betas. The straight line runs between the roots of the ends.": (
            lambda T: linear_betas(T).square()
        ),
        "quadratic: here the square of beta rises in a straight line; its root must.": (
            lambda T: _line(0.0001**2, 0.02**2, T).sqrt()
        ),
    },
    "sigmoid": {
        "sigmoid: the S runs from 0 to 1. Stretch it by 0.02 - 0.0001 and shift it by 0.0001.": (
            lambda T: _line(-6, 6, T).sigmoid()
        ),
        "sigmoid: the S is not shifted: add 0.0001.": lambda T: (0.02 - 0.0001) * _line(-6, 6, T).sigmoid(),
        "sigmoid: the S is stretched by 0.02, which ends too high: stretch it by 0.02 - 0.0001.": (
            lambda T: 0.0001 + 0.02 * _line(-6, 6, T).sigmoid()
        ),
        "sigmoid: from 0 to 1 the logistic function is nearly straight. Take it from -6 to 6.": (
            lambda T: 0.0001 + (0.02 - 0.0001) * _line(0, 1, T).sigmoid()
        ),
    },
    "cosine": {
        "cosine: without the cap the last beta is 1, and nothing at all is left of the picture: at most 0.999.": (
            lambda T: 1 - _cosine(T)[1:] / _cosine(T)[:-1]
        ),
        "cosine: that is alpha_bar, which falls. beta_t is 1 - alpha_bar_t/alpha_bar_(t-1).": (
            lambda T: _cosine(T)[1:] / _cosine(T)[0]
        ),
        "cosine: that is 1 - alpha_bar_t. For one step, divide by the entry before, not by the first.": (
            lambda T: (1 - _cosine(T)[1:] / _cosine(T)[0]).clamp(max=0.999)
        ),
        "cosine: the offset 0.008 is missing, so the first betas are too small.": (
            lambda T: (1 - _cosine(T, offset=0.0)[1:] / _cosine(T, offset=0.0)[:-1]).clamp(max=0.999)
        ),
        "cosine: the cosine is not squared.": (
            lambda T: (1 - _cosine(T, power=1)[1:] / _cosine(T, power=1)[:-1]).clamp(max=0.999)
        ),
    },
}


def _close(left: Tensor, right: Tensor) -> bool:
    return torch.allclose(left.double(), right, rtol=1e-5, atol=1e-6)


def _kind_by_kind(answer: Any) -> Callable[..., Any]:
    """The answer itself, which stops at the first kind that is wrong or not there: the others can wait."""

    def betas(kind: str, T: int) -> Any:
        got = answer(kind, T)
        if (got is None or got is ...) and kind != "linear":
            raise Wrong(f"{kind}: nothing is returned yet. What comes before it is right.")
        if isinstance(got, Tensor) and got.shape == (T,) and not _close(got, _RIGHT_BETAS[kind](T)):
            known = [sentence for sentence, wrong in _WRONG_BETAS[kind].items() if _close(got, wrong(T))]
            difference = (got - _RIGHT_BETAS[kind](T)).abs().max()
            raise Wrong([*known, f"{kind}: the numbers differ by up to {difference:.3g} (for T = {T})."][0])
        return got

    return betas


def _but(kind: str, wrong: _Betas) -> Callable[[str, int], Tensor]:
    """All four kinds right but for this one."""
    betas = {**_RIGHT_BETAS, kind: wrong}
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
    lambda kind, T: _RIGHT_BETAS[kind](T),
    lambda g: [(kind, T) for kind in _RIGHT_BETAS for T in (8, 25)],
    {sentence: _but(kind, wrong) for kind, mistakes in _WRONG_BETAS.items() for sentence, wrong in mistakes.items()},
    answer=my_betas,
    library=[linear_betas, quadratic_betas, sigmoid_betas, cosine_betas],
    equation=r"""\begin{aligned}
\text{linear}\quad & \beta_t = \beta_{\min} + \rho\,(\beta_{\max} - \beta_{\min}), \qquad \rho = \tfrac{t-1}{T-1} \\
\text{quadratic}\quad & \sqrt{\beta_t} = (1 - \rho)\sqrt{\beta_{\min}} + \rho\,\sqrt{\beta_{\max}} \\
\text{sigmoid}\quad & \beta_t = \beta_{\min} + \frac{\beta_{\max} - \beta_{\min}}{1 + e^{-(12\rho - 6)}} \\
\text{cosine}\quad & \beta_t = \min\Big(1 - \frac{f(t)}{f(t-1)},\ 0.999\Big),
\qquad f(t) = \cos^2\Big(\frac{t/T + 0.008}{1.008} \cdot \frac{\pi}{2}\Big)
\end{aligned}""",
    adapt=_kind_by_kind,
    praise="The same numbers as the library's four functions.",
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


def _mean_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    """t stays below T in the first case and reaches it in the last, as an index that is one too high fails there."""
    first, second, third = SHAPES
    spans = ((first, (9, 2, 16, 5)), (second, (1, 12, 3)), (third, (20, 1)))
    return [(noise(s, g), pictures(s, g), torch.tensor(t), random_alpha_bar(g)) for s, t in spans]


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
        "The denominator 1 - alpha_bar_t is missing.": _weighing(
            lambda al, b, n: (al.sqrt() * (1 - b), b.sqrt() * (1 - al))
        ),
        "That is what the picture alone says, the mean of q(x_(t-1) | x_0). x_t is a witness, too.": _weighing(
            lambda al, b, n: (torch.zeros_like(b), b.sqrt())
        ),
        "alpha_bar[t] met the wrong axis: shape (B,) lines up with the columns, W. Give it shape (B, 1, 1, 1) first.": (
            lambda x_t, x0, t, a: (
                (a[t] / a[t - 1]).sqrt() * (1 - a[t - 1]) / (1 - a[t]) * x_t
                + a[t - 1].sqrt() * _beta_of(t, a) / (1 - a[t]) * x0
            )
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

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "q_step": Q_STEP,
    "alpha_bar": ALPHA_BAR,
    "q_sample": Q_SAMPLE,
    "mean_of_copies": MEAN_OF_COPIES,
    "betas": BETAS,
    "posterior_variance": POSTERIOR_VARIANCE,
    "posterior_mean": POSTERIOR_MEAN,
}
