"""The exercises of notebook 03: jumping to any timestep."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..forward import q_sample, q_step
from ..schedule import Schedule, from_betas, linear_betas
from .effects import Case
from .inputs import SHAPES, at, noise, pictures, random_alpha_bar, schedule_of, times
from .judge import Choice, Exercise, Question
from .nb03_betas import BETAS
from .nb03_posterior import POSTERIOR_MEAN, POSTERIOR_VARIANCE

#: What to say of a wrong function → the function.
Mistakes = dict[str, Callable[..., Tensor]]


# ---------------------------------------------------------------------------------------------- one step


def _step_cases(g: torch.Generator) -> list[Case]:
    """The last step is the last case, since an index that is one too high fails there."""
    betas = 0.02 + 0.3 * torch.rand(12, dtype=torch.float64, generator=g)
    return [(noise(s, g), t, betas, noise(s, g)) for s, t in zip(SHAPES, (7, 2, 12), strict=True)]


def my_step(x: Tensor, t: int, betas: Tensor, z: Tensor) -> Tensor:
    beta = betas[t - 1]
    return (1 - beta).sqrt() * x + beta.sqrt() * z


def _step_with(weights: Callable[[Tensor], tuple[Tensor | int, Tensor | int]]) -> Callable[..., Tensor]:
    """One step whose weights, of x and of z, are made of beta_t."""

    def step(x: Tensor, t: int, betas: Tensor, z: Tensor) -> Tensor:
        of_x, of_z = weights(betas[t - 1])
        return of_x * x + of_z * z

    return step


def _jump_of(t: int, betas: Tensor) -> Tensor:
    return (1 - betas[:t]).prod()


Q_STEP = Exercise(
    lambda x, t, betas, z: q_step(from_betas(betas), x, t - 1, t, z)[0],
    _step_cases,
    {
        "Both square roots are missing: beta is a variance, and the weights are √(1 - beta) and √beta.": _step_with(
            lambda b: (1 - b, b)
        ),
        "The root over 1 - beta is missing: the picture fades too fast.": _step_with(lambda b: (1 - b, b.sqrt())),
        "The root over beta is missing: beta is the variance of the noise, √beta its weight.": _step_with(
            lambda b: ((1 - b).sqrt(), b)
        ),
        "The weight of the picture is 1 - √beta; the root should cover all of 1 - beta.": _step_with(
            lambda b: (1 - b.sqrt(), b.sqrt())
        ),
        "You treat beta as the weight of the noise, not as its variance: the weights are √(1 - beta) and √beta.": (
            _step_with(lambda b: ((1 - b * b).sqrt(), b))
        ),
        "The two weights are swapped: one step keeps nearly all of the picture.": _step_with(
            lambda b: (b.sqrt(), (1 - b).sqrt())
        ),
        "The picture does not fade, so the variance grows with every step: weigh it by √(1 - beta).": _step_with(
            lambda b: (1, b.sqrt())
        ),
        "The picture does not fade, and the root over beta is missing: the weights are √(1 - beta) and √beta.": (
            _step_with(lambda b: (1, b))
        ),
        "The noise comes at full strength: weigh it by √beta.": _step_with(lambda b: ((1 - b).sqrt(), 1)),
        "The noise is subtracted; add it.": _step_with(lambda b: ((1 - b).sqrt(), -b.sqrt())),
        "Brackets are missing: 1 - beta belongs together, under the root and before x.": (
            lambda x, t, b, z: 1 - b[t - 1].sqrt() * x + b[t - 1].sqrt() * z
        ),
        "t is off by one: betas starts with beta_1 and Python counts from 0, so beta_t is betas[t - 1].": (
            lambda x, t, b, z: (1 - b[t]).sqrt() * x + b[t].sqrt() * z
        ),
        "That is a jump over all steps from 1 to t. One step uses beta_t alone.": (
            lambda x, t, b, z: _jump_of(t, b).sqrt() * x + (1 - _jump_of(t, b)).sqrt() * z
        ),
        "The result is clamped to [-1, 1]. Leave it as it is: noise may go beyond black and white.": (
            lambda *case: my_step(*case).clamp(-1, 1)
        ),
    },
    answer=my_step,
    library=[q_step, Schedule.step_kernel],
    equation=r"x_t = \sqrt{1 - \beta_t}\;x_{t-1} + \sqrt{\beta_t}\;z_t",
)


# ---------------------------------------------------------------------------------------------- the product


def _with_one(x: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(x[:1]), x])


def my_alpha_bar(betas: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(betas[:1]), (1 - betas).cumprod(0)])


ALPHA_BAR = Exercise(
    lambda betas: from_betas(betas).alpha_bar.to(betas.device),
    lambda g: [(linear_betas(50, 0.01, 0.2),), (0.02 + 0.3 * torch.rand(12, dtype=torch.float64, generator=g),)],
    {
        "This is alpha_t, one step. alpha_bar is the product of all alphas up to t: cumprod.": (
            lambda b: _with_one(1 - b)
        ),
        "The product runs over beta; it should run over alpha = 1 - beta.": lambda b: _with_one(b.cumprod(0)),
        "You take 1 minus the product of the betas. Take the product of all 1 - beta.": (
            lambda b: _with_one(1 - b.cumprod(0))
        ),
        "This is 1 - alpha_bar, which grows: alpha_bar starts at 1 and falls.": (
            lambda b: 1 - _with_one((1 - b).cumprod(0))
        ),
        "Entry 0 should be 1: at t = 0 nothing has happened to the picture yet.": (
            lambda b: torch.cat([torch.zeros_like(b[:1]), (1 - b).cumprod(0)])
        ),
        "This is √alpha_bar, the weight of the picture; leave out the root.": (
            lambda b: _with_one((1 - b).cumprod(0)).sqrt()
        ),
        "The shares that are left multiply, the betas do not add up: take the product of (1 - beta), not 1 minus the "
        "sum of beta.": lambda b: _with_one(1 - b.cumsum(0)),
        "exp(-sum of beta) is only close to the product, and only for small betas. Multiply the alphas: cumprod.": (
            lambda b: _with_one((-b.cumsum(0)).exp())
        ),
        "The order is reversed: entry 0 is the picture (1), the last entry is the noisiest.": (
            lambda b: _with_one((1 - b).cumprod(0)).flip(0)
        ),
        "The product starts one step late: entry 1 should already hold 1 - beta_1.": (
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


# ---------------------------------------------------------------------------------------------- the jump


def _jump_cases(g: torch.Generator) -> list[Case]:
    """t reaches T in the last case, where an index that is one too high fails."""
    *first, last = [(pictures(s, g), times(s[0], g, 19), noise(s, g), random_alpha_bar(g)) for s in SHAPES]
    return [*first, (last[0], torch.tensor([1, 20]), *last[2:])]


def my_q_sample(x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    ab = alpha_bar[t].view(-1, 1, 1, 1)
    return ab.sqrt() * x0 + (1 - ab).sqrt() * eps


def _mix(weights: Callable[[Tensor, Tensor], tuple[Tensor | int, Tensor | int]]) -> Callable[..., Tensor]:
    """A mixture whose weights, of x0 and of eps, are made of alpha_bar at t and at t - 1."""

    def mix(x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
        of_x0, of_eps = weights(at(alpha_bar, t), at(alpha_bar, t - 1))
        return of_x0 * x0 + of_eps * eps

    return mix


#: Wrong ways to mix x_t, by what to say of them.
WRONG_MIXES: Mistakes = {
    "Both square roots are missing: alpha_bar is a variance, the weights are its roots.": _mix(lambda n, _: (n, 1 - n)),
    "The root over alpha_bar is missing: the picture is scaled too far down.": _mix(lambda n, _: (n, (1 - n).sqrt())),
    "The root over 1 - alpha_bar is missing: the noise is too weak.": _mix(lambda n, _: (n.sqrt(), 1 - n)),
    "The two weights are swapped: t near 0 must give the picture.": _mix(lambda n, _: ((1 - n).sqrt(), n.sqrt())),
    "This is 1 - √alpha_bar; the root goes over the whole of 1 - alpha_bar.": _mix(
        lambda n, _: (n.sqrt(), 1 - n.sqrt())
    ),
    "The noise is weighed by √alpha_bar, too. Its weight is √(1 - alpha_bar).": _mix(lambda n, _: (n.sqrt(), n.sqrt())),
    "The picture lacks its root, and the noise has the picture's: the weights are √alpha_bar and √(1 - alpha_bar).": (
        _mix(lambda n, _: (n, n.sqrt()))
    ),
    "1 - alpha_bar is the variance of the noise already: its weight is √(1 - alpha_bar), with no square inside.": _mix(
        lambda n, _: (n.sqrt(), (1 - n * n).sqrt())
    ),
    "alpha_bar is a², not a: the picture's weight is its root, and nothing is squared for the noise's.": _mix(
        lambda n, _: (n, (1 - n * n).sqrt())
    ),
    "The picture does not fade: weigh it by √alpha_bar.": _mix(lambda n, _: (1, (1 - n).sqrt())),
    "The noise comes at full strength: weigh it by √(1 - alpha_bar).": _mix(lambda n, _: (n.sqrt(), 1)),
    "The noise is subtracted; add it.": _mix(lambda n, _: (n.sqrt(), -(1 - n).sqrt())),
    "Brackets are missing: 1 - alpha_bar belongs together, under the root and before eps.": (
        lambda x, t, e, a: at(a, t).sqrt() * x + 1 - at(a, t).sqrt() * e
    ),
    "t is off by one, too early: alpha_bar has T + 1 entries, so alpha_bar[t] is the right one.": _mix(
        lambda _, before: (before.sqrt(), (1 - before).sqrt())
    ),
    "t is off by one, too late: alpha_bar has T + 1 entries, so alpha_bar[t] is the right one.": (
        lambda x, t, e, a: my_q_sample(x, t + 1, e, a)
    ),
    "This is a single step with beta_t. The jump from x_0 uses alpha_bar_t.": _mix(
        lambda n, before: ((n / before).sqrt(), (1 - n / before).sqrt())
    ),
    "alpha_bar is already a product; you multiply it up once more.": (
        lambda x, t, e, a: my_q_sample(x, t, e, a.cumprod(0))
    ),
    "That is the linear amount of notebook 01, t/T. Here the weights are √alpha_bar and √(1 - alpha_bar).": (
        lambda x, t, e, a: (1 - _share(t, a)) * x + _share(t, a) * e
    ),
    "Every picture got the timestep of the first: use alpha_bar[t], one entry per picture.": (
        lambda x, t, e, a: my_q_sample(x, t[:1].expand_as(t), e, a)
    ),
    "alpha_bar[t] met the wrong axis: shape (B,) lines up with the columns, W. Give it shape (B, 1, 1, 1) first.": (
        lambda x, t, e, a: a[t].sqrt() * x + (1 - a[t]).sqrt() * e
    ),
    "x_t is clamped to [-1, 1]. Leave it as it is: noise may go beyond black and white.": (
        lambda *case: my_q_sample(*case).clamp(-1, 1)
    ),
}


def _share(t: Tensor, alpha_bar: Tensor) -> Tensor:
    return (t / (len(alpha_bar) - 1)).view(-1, 1, 1, 1)


Q_SAMPLE = Exercise(
    lambda x0, t, eps, alpha_bar: q_sample(schedule_of(alpha_bar), x0, t, eps)[0],
    _jump_cases,
    WRONG_MIXES,
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
        "b": "The noise does average out, but the picture was only drowned, not lost: √alpha_bar_500 of it, 0.28, is "
        "still there.",
        "c": "The noise averages out, but every step has also shrunk the picture, in all copies alike.",
    },
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
