"""The exercises of notebook 05: sampling."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..forward import to_x0_eps
from ..sample import reverse_step, sample
from ..schedule import Schedule, from_betas, linear_betas, make_schedule, sampling_times
from .effects import Case
from .inputs import SHAPES, noise, random_alpha_bar, schedule_of
from .judge import Choice, Exercise, Question
from .nb03 import Mistakes, my_q_sample
from .nb04 import WRONG_GUESSES, my_x0_hat
from .nb05_loop import SAMPLE
from .nb05_step import CLAMPED, CLAMPED_AND_FOLLOWED, DDIM_STEP

# ---------------------------------------------------------------------------------------------- the step of DDPM


def _ddpm_cases(g: torch.Generator) -> list[Case]:
    """t = 2 and t = 1 are among them: at 2 there is still noise to add, at 1 there is none."""
    shapes = (*SHAPES, SHAPES[1], SHAPES[0])
    return [
        (noise(s, g), noise(s, g), noise(s, g), t, random_alpha_bar(g))
        for s, t in zip(shapes, (20, 12, 7, 2, 1), strict=True)
    ]


def _ddpm(x: Tensor, e: Tensor, z: Tensor, t: int, a: Tensor) -> Tensor:
    """The library's step with z in place of its own draw: the noise part is what eta=1 has and its mean has not."""
    schedule = schedule_of(a)
    x0_hat, eps_hat = to_x0_eps("eps", schedule, e, x, t)
    seed = 0
    drawn = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=torch.Generator().manual_seed(seed))
    step = reverse_step(schedule, x0_hat, eps_hat, t, t - 1, generator=torch.Generator().manual_seed(seed))
    return step + schedule.posterior_variance(t - 1, t).sqrt().to(x.dtype) * (z - drawn)


def my_ddpm_step(x_t: Tensor, eps_hat: Tensor, z: Tensor, t: int, alpha_bar: Tensor) -> Tensor:
    before, now = alpha_bar[t - 1], alpha_bar[t]
    x0_hat = (x_t - (1 - now).sqrt() * eps_hat) / now.sqrt()
    var = (1 - before) / (1 - now) * (1 - now / before)
    return before.sqrt() * x0_hat + (1 - before - var).sqrt() * eps_hat + var.sqrt() * z


def _var(t: int, a: Tensor) -> Tensor:
    return (1 - a[t - 1]) / (1 - a[t]) * (1 - a[t] / a[t - 1])


def _mean(x: Tensor, e: Tensor, t: int, a: Tensor) -> Tensor:
    alpha = a[t] / a[t - 1]
    return (x - (1 - alpha) / (1 - a[t]).sqrt() * e) / alpha.sqrt()


def _papers(
    of_eps: Callable[[int, Tensor], Tensor], divide_by: Callable[[int, Tensor], Tensor]
) -> Callable[..., Tensor]:
    """The papers' form of the step, (x − of_eps · eps_hat) / divide_by + √var · z."""
    return lambda x, e, z, t, a: (x - of_eps(t, a) * e) / divide_by(t, a) + _var(t, a).sqrt() * z


def _root_of_alpha(t: int, a: Tensor) -> Tensor:
    return (a[t] / a[t - 1]).sqrt()


def _share_of_eps(t: int, a: Tensor) -> Tensor:
    return (1 - a[t] / a[t - 1]) / (1 - a[t]).sqrt()


def _with_var(var: Callable[[int, Tensor], Tensor]) -> Callable[..., Tensor]:
    """The three terms with another variance, in both places where it stands."""

    def step(x: Tensor, e: Tensor, z: Tensor, t: int, a: Tensor) -> Tensor:
        x0_hat = my_x0_hat(x, e, torch.tensor([t]), a)
        return a[t - 1].sqrt() * x0_hat + (1 - a[t - 1] - var(t, a)).sqrt() * e + var(t, a).sqrt() * z

    return step


def _with_guess(guess: Callable[..., Tensor], follow: bool = False) -> Callable[..., Tensor]:
    """The three terms with another x0_hat."""

    def step(x: Tensor, e: Tensor, z: Tensor, t: int, a: Tensor) -> Tensor:
        x0_hat = guess(x, e, torch.tensor([t]), a)
        e = (x - a[t].sqrt() * x0_hat) / (1 - a[t]).sqrt() if follow else e
        return a[t - 1].sqrt() * x0_hat + (1 - a[t - 1] - _var(t, a)).sqrt() * e + _var(t, a).sqrt() * z

    return step


def _clamped(*case: Tensor) -> Tensor:
    return my_x0_hat(*case).clamp(-1, 1)


_VARIANCES: Mistakes = {
    "var is upside down: 1 - alpha_bar at t - 1 goes on top, so that nothing is left at t = 1.": _with_var(
        lambda t, a: (1 - a[t]) / (1 - a[t - 1]) * (1 - a[t] / a[t - 1])
    ),
    "All of the noise is fresh, and nothing of eps_hat is left: var is less than 1 - alpha_bar_(t-1).": _with_var(
        lambda t, a: 1 - a[t - 1]
    ),
    "In var, the factor 1 - alpha_bar_t/alpha_bar_(t-1) is missing.": _with_var(
        lambda t, a: (1 - a[t - 1]) / (1 - a[t])
    ),
    "In var, the root over the fraction does not belong there: a variance has no roots.": _with_var(
        lambda t, a: ((1 - a[t - 1]) / (1 - a[t])).sqrt() * (1 - a[t] / a[t - 1])
    ),
}

DDPM_STEP = Exercise(
    _ddpm,
    _ddpm_cases,
    {
        "var = beta_t is DDPM's other choice, and it adds noise at the last step; use the posterior variance.": (
            lambda x, e, z, t, a: _mean(x, e, t, a) + (1 - a[t] / a[t - 1]).sqrt() * z
        ),
        "var = beta_t is DDPM's other choice. It samples, too; here the posterior variance is asked for.": (
            lambda x, e, z, t, a: _mean(x, e, t, a) + (t > 1) * (1 - a[t] / a[t - 1]).sqrt() * z
        ),
        "The noise is scaled by the variance; scale it by its root, the standard deviation.": (
            lambda x, e, z, t, a: _mean(x, e, t, a) + _var(t, a) * z
        ),
        "That is the mean alone: add √var · z.": lambda x, e, z, t, a: _mean(x, e, t, a),
        "At t = 2 there is still noise to add. Only the step from t = 1 adds none, and there var is 0 already.": (
            lambda x, e, z, t, a: _mean(x, e, t, a) + (t > 2) * _var(t, a).sqrt() * z
        ),
        "z comes at full strength: weigh it by √var.": lambda x, e, z, t, a: _mean(x, e, t, a) + z,
        "√var · z is subtracted; add it.": lambda x, e, z, t, a: _mean(x, e, t, a) - _var(t, a).sqrt() * z,
        "z is weighed by √(1 - alpha_bar_(t-1)), as if all noise at t - 1 were fresh; its weight is √var.": (
            lambda x, e, z, t, a: _mean(x, e, t, a) + (1 - a[t - 1]).sqrt() * z
        ),
        "In the weight of z, the root covers the fraction alone; it goes over the whole of var.": (
            lambda x, e, z, t, a: _mean(x, e, t, a) + ((1 - a[t - 1]) / (1 - a[t])).sqrt() * (1 - a[t] / a[t - 1]) * z
        ),
        "In the weight of z, the root covers the second factor alone; it goes over the whole of var.": (
            lambda x, e, z, t, a: _mean(x, e, t, a) + (1 - a[t - 1]) / (1 - a[t]) * (1 - a[t] / a[t - 1]).sqrt() * z
        ),
        "That is x0_hat with noise on it. In the papers' form alpha_t is alpha_bar_t/alpha_bar_(t-1), one step.": (
            lambda x, e, z, t, a: my_x0_hat(x, e, torch.tensor([t]), a) + _var(t, a).sqrt() * z
        ),
        "Brackets are missing: 1/√alpha_t multiplies the whole difference, eps_hat included.": (
            lambda x, e, z, t, a: x / _root_of_alpha(t, a) - _share_of_eps(t, a) * e + _var(t, a).sqrt() * z
        ),
        "eps_hat is used as the fresh noise: the noise that is added is z.": (
            lambda x, e, z, t, a: _mean(x, e, t, a) + _var(t, a).sqrt() * e
        ),
        "That is the step of DDIM, in which nothing is fresh. DDPM replaces part of eps_hat by √var · z.": (
            lambda x, e, z, t, a: my_q_sample(my_x0_hat(x, e, torch.tensor([t]), a), torch.tensor([t - 1]), e, a)
        ),
        "√var · z comes on top of all of eps_hat. Make room: eps_hat has the weight √(1 - alpha_bar_(t-1) - var).": (
            lambda x, e, z, t, a: (
                my_q_sample(my_x0_hat(x, e, torch.tensor([t]), a), torch.tensor([t - 1]), e, a) + _var(t, a).sqrt() * z
            )
        ),
        "The weight of eps_hat lacks its root: √(1 - alpha_bar_(t-1) - var).": (
            lambda x, e, z, t, a: (
                a[t - 1].sqrt() * my_x0_hat(x, e, torch.tensor([t]), a)
                + (1 - a[t - 1] - _var(t, a)) * e
                + _var(t, a).sqrt() * z
            )
        ),
        "x0_hat lacks the root in its weight: √alpha_bar_(t-1).": (
            lambda x, e, z, t, a: (
                a[t - 1] * my_x0_hat(x, e, torch.tensor([t]), a)
                + (1 - a[t - 1] - _var(t, a)).sqrt() * e
                + _var(t, a).sqrt() * z
            )
        ),
        "The factor 1/√alpha_t before the bracket is missing.": _papers(
            _share_of_eps, lambda t, a: torch.ones_like(a[t])
        ),
        "The root over 1 - alpha_bar_t below beta_t is missing.": _papers(
            lambda t, a: (1 - a[t] / a[t - 1]) / (1 - a[t]), _root_of_alpha
        ),
        "All of the noise is subtracted at once; one step takes away beta_t/√(1 - alpha_bar_t) of it.": _papers(
            lambda t, a: (1 - a[t]).sqrt(), _root_of_alpha
        ),
        "alpha_bar_t stands where alpha_t belongs, before the bracket.": _papers(
            _share_of_eps, lambda t, a: a[t].sqrt()
        ),
        "alpha_t lacks its root before the bracket: divide by √alpha_t.": _papers(
            _share_of_eps, lambda t, a: a[t] / a[t - 1]
        ),
        **_VARIANCES,
        CLAMPED: _with_guess(_clamped),
        CLAMPED_AND_FOLLOWED: _with_guess(_clamped, follow=True),
        **{f"Look at x0_hat. {sentence}": _with_guess(guess) for sentence, guess in WRONG_GUESSES.items()},
    },
    answer=my_ddpm_step,
    library=[reverse_step],
    equation=r"x_{t-1} = \sqrt{\bar\alpha_{t-1}}\,\hat x_0 "
    r"+ \sqrt{1 - \bar\alpha_{t-1} - \text{var}}\;\hat\varepsilon + \sqrt{\text{var}}\;z",
)

# ---------------------------------------------------------------------------------------------- three questions


def _count_noise_draws() -> float:
    variance = from_betas(linear_betas()).posterior_variance(torch.arange(1000), torch.arange(1, 1001))
    return float((variance > 0).sum())


NOISE_DRAWS = Question(
    _count_noise_draws,
    "One at each of the 1,000 steps but the last: the posterior variance at s = 0 is 0, so nothing is drawn there.",
    {
        1000: "Nearly: at the last step, to t = 0, the posterior variance is 0 and nothing is drawn.",
        1001: "x_T itself was not to be counted, and the last step draws nothing.",
        998: "Only one step draws nothing, the last one. At t = 2 there is still noise to add.",
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
    "Fresh noise takes the place of old noise, so there is as much of it as before, and none at s = 0. "
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
        1: "It would be, if weights added up as they are: ½ + ½. In a variance they are squared.",
        0.25: "That is the share of one of the two. Both add up, since they are independent.",
        0.5**0.5: "That is the standard deviation; the variance is its square.",
        0: "Independent tensors do not cancel out.",
        2: "That is the variance of z1 + z2, without the weights ½.",
    },
    tolerance=0.03,  # wide enough for a variance measured over a few thousand pixels
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "ddim_step": DDIM_STEP,
    "ddpm_step": DDPM_STEP,
    "sample": SAMPLE,
    "noise_draws": NOISE_DRAWS,
    "fresh_noise": FRESH_NOISE,
    "halfway": HALFWAY,
}
