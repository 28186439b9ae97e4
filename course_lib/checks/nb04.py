"""The exercises of notebook 04: training to predict noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..blocks import sinusoidal_embedding
from ..forward import solve_x0_eps, to_x0_eps
from ..objective import denoising_loss
from ..schedule import make_schedule
from ..train import EMA
from .inputs import SHAPES, at, noise, pictures, random_alpha_bar, schedule_of, times
from .judge import Choice, Exercise, Question
from .nb03 import Mistakes
from .nb04_loss import LOSS
from .nb04_step import TRAINING_STEP

# ---------------------------------------------------------------------------------------------- the clocks


def my_embedding(t: Tensor, dim: int) -> Tensor:
    i = torch.arange(dim // 2, device=t.device)
    omega = 10000.0 ** (-2 * i / dim)
    angle = t[:, None] * omega
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def _omega(dim: int) -> Tensor:
    return 10000.0 ** (-2 * torch.arange(dim // 2) / dim)


def _to_the_last(dim: int) -> Tensor:
    """Frequencies that reach 1/10000, as some libraries have them."""
    return 10000.0 ** (-torch.arange(dim // 2) / (dim // 2 - 1))


def _waves(omega: Callable[[int], Tensor]) -> Callable[[Tensor, int], Tensor]:
    """The embedding with other frequencies."""

    def embedding(t: Tensor, dim: int) -> Tensor:
        angle = t[:, None] * omega(dim)
        return torch.cat([angle.cos(), angle.sin()], dim=1)

    return embedding


def _swapped(embedding: Tensor) -> Tensor:
    return embedding.roll(embedding.shape[1] // 2, 1)


EMBEDDING = Exercise(
    sinusoidal_embedding,
    lambda g: [(times(5, g, 9), 8), (times(3, g, 9), 4), (times(4, g, 9), 10)],
    {
        "Sines and cosines are swapped: here the first half are the cosines.": (
            lambda t, d: _swapped(_waves(_omega)(t, d))
        ),
        "Sines and cosines take turns, as in the paper on transformers; here all cosines come first, then all sines.": (
            lambda t, d: torch.stack([(t[:, None] * _omega(d)).sin(), (t[:, None] * _omega(d)).cos()], dim=2).flatten(1)
        ),
        "Cosines and sines take turns; here all the cosines come first, then all the sines.": (
            lambda t, d: torch.stack([(t[:, None] * _omega(d)).cos(), (t[:, None] * _omega(d)).sin()], dim=2).flatten(1)
        ),
        "The frequencies grow: the minus in the exponent is missing.": _waves(lambda d: 1 / _omega(d)),
        "The frequencies come in the wrong order: i = 0 is the fastest, with ω = 1.": _waves(
            lambda d: _omega(d).flip(0)
        ),
        "The exponent is half of what it should be: it is -2i/dim, so that i is divided by dim/2.": _waves(
            lambda d: _omega(d).sqrt()
        ),
        "i is divided by dim/2 - 1, as in some libraries, so that the last ω is 1/10000. Here i is divided by dim/2.": (
            _waves(_to_the_last)
        ),
        "That is the embedding of a well-known blog: i is divided by dim/2 - 1 there, and sines come first. Here i is "
        "divided by dim/2, and cosines come first.": lambda t, d: _swapped(_waves(_to_the_last)(t, d)),
        "i starts at 1; start at 0, where ω = 1.": _waves(lambda d: 10000.0 ** (-2 * torch.arange(1, d // 2 + 1) / d)),
        "The base is 1000; it should be 10000.": _waves(lambda d: 1000.0 ** (-2 * torch.arange(d // 2) / d)),
        "t does not enter, so every timestep looks alike: multiply ω by t[:, None].": (
            lambda t, d: _waves(_omega)(torch.ones_like(t), d)
        ),
        "t is off by one: in this course t = 0 is the picture, and t enters as it is.": (
            lambda t, d: _waves(_omega)(t - 1, d)
        ),
        "t is divided by 1000; it enters as it is.": lambda t, d: _waves(_omega)(t / 1000, d),
        "The second half holds cosines once more; sines belong there.": (
            lambda t, d: _waves(_omega)(t, d)[:, : d // 2].repeat(1, 2)
        ),
        "There is a factor of 2π too many: the angle is ω · t.": _waves(lambda d: 2 * torch.pi * _omega(d)),
    },
    answer=my_embedding,
    library=[sinusoidal_embedding],
    equation=r"e_i(t) = \cos(\omega_i t), \qquad e_{\text{dim}/2+i}(t) = \sin(\omega_i t), \qquad "
    r"\omega_i = 10000^{-2i/\text{dim}}",
    praise="The same numbers as the library's function, for several lengths, and on the device of t.",
)

# ---------------------------------------------------------------------------------------------- the picture behind


def my_x0_hat(x_t: Tensor, eps_hat: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    ab = alpha_bar[t].view(-1, 1, 1, 1)
    return (x_t - (1 - ab).sqrt() * eps_hat) / ab.sqrt()


#: Wrong ways to solve for x0_hat, by what to say of them. They also take t as an int.
WRONG_GUESSES: Mistakes = {
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
    "Both square roots are missing: the weights are √(1 - alpha_bar) and √alpha_bar.": (
        lambda x, e, t, a: (x - (1 - at(a, t)) * e) / at(a, t)
    ),
    "This is 1 - √alpha_bar; the root goes over the whole of 1 - alpha_bar.": (
        lambda x, e, t, a: (x - (1 - at(a, t).sqrt()) * e) / at(a, t).sqrt()
    ),
    "The noise was scaled when it was mixed in: subtract √(1 - alpha_bar) · eps_hat, not eps_hat.": (
        lambda x, e, t, a: (x - e) / at(a, t).sqrt()
    ),
    "The noise is subtracted after the division: put both terms over √alpha_bar.": (
        lambda x, e, t, a: x / at(a, t).sqrt() - (1 - at(a, t)).sqrt() * e
    ),
    "Brackets are missing: divide the whole difference by √alpha_bar, not the noise alone.": (
        lambda x, e, t, a: x - (1 - at(a, t)).sqrt() * e / at(a, t).sqrt()
    ),
    "Multiplying by √alpha_bar scales the picture down once more: divide by it.": (
        lambda x, e, t, a: (x - (1 - at(a, t)).sqrt() * e) * at(a, t).sqrt()
    ),
    "That mixes the noise in once more. Solve the equation for x_0: subtract the noise, then divide.": (
        lambda x, e, t, a: at(a, t).sqrt() * x + (1 - at(a, t)).sqrt() * e
    ),
    "The two weights are swapped.": lambda x, e, t, a: (x - at(a, t).sqrt() * e) / (1 - at(a, t)).sqrt(),
    "t is off by one: alpha_bar has T + 1 entries, so alpha_bar[t] is the right one.": (
        lambda x, e, t, a: (x - (1 - at(a, t - 1)).sqrt() * e) / at(a, t - 1).sqrt()
    ),
    "alpha_t, of one step, stands where alpha_bar_t belongs.": (
        lambda x, e, t, a: (x - (1 - at(a, t) / at(a, t - 1)).sqrt() * e) / (at(a, t) / at(a, t - 1)).sqrt()
    ),
}

X0_HAT = Exercise(
    lambda x_t, eps_hat, t, alpha_bar: to_x0_eps("eps", schedule_of(alpha_bar), eps_hat, x_t, t)[0],
    lambda g: [(noise(s, g), noise(s, g), times(s[0], g), random_alpha_bar(g)) for s in SHAPES],
    {
        **WRONG_GUESSES,
        "x0_hat is clamped to [-1, 1]. Samplers do that, as notebook 05 shows; here the equation is solved as it is.": (
            lambda *case: my_x0_hat(*case).clamp(-1, 1)
        ),
        "Every picture got the timestep of the first: use alpha_bar[t], one entry per picture.": (
            lambda x, e, t, a: my_x0_hat(x, e, t[:1].expand_as(t), a)
        ),
        "alpha_bar[t] met the wrong axis: shape (B,) lines up with the columns, W. Give it shape (B, 1, 1, 1) first.": (
            lambda x, e, t, a: (x - (1 - a[t]).sqrt() * e) / a[t].sqrt()
        ),
    },
    answer=my_x0_hat,
    library=[to_x0_eps, solve_x0_eps],
    equation=r"\hat x_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}}",
)

# ---------------------------------------------------------------------------------------------- the average


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
        "Brackets are missing: 1 - decay belongs together, before the weights.": lambda m, w, d: d * m + 1 - d * w,
        "That is the plain mean of the two; decay says how much of the average stays.": lambda m, w, d: (m + w) / 2,
        "Those are the weights themselves: nothing of the average is left.": lambda m, w, d: w.clone(),
        "The sign is wrong: the average moves towards the weights, not away from them.": (
            lambda m, w, d: m - (1 - d) * (w - m)
        ),
    },
    answer=my_ema,
    library=[EMA],
    equation=r"m \leftarrow d\,m + (1 - d)\,w",
)

# ---------------------------------------------------------------------------------------------- two questions


def _loss_of_zero() -> float:
    """The loss of a network that answers 0, on noise of variance 1 to the last digit."""
    g = torch.Generator().manual_seed(0)
    x0, eps = pictures((8, 1, 8, 8), g), noise((8, 1, 8, 8), g)
    eps /= eps.square().mean().sqrt()
    model: Any = lambda x_t, t, y: torch.zeros_like(x_t)  # noqa: E731 - stands in for a network
    return round(denoising_loss(model, make_schedule("cosine"), x0, torch.arange(1, 9), eps).mean().item(), 6)


FIRST_LOSS = Question(
    _loss_of_zero,
    "The error is eps itself, and the mean of its square is the variance of N(0, 1). A measured loss scatters about 1.",
    {
        0: "The answer is 0, but the noise is not: the error is 0 - eps.",
        0.5: "Half of what? The error is 0 - eps; take the mean of its square.",
        2: "That would be an answer as large as the noise and unlike it. The answer is 0, so the error is eps alone.",
        784: "That is the sum over the 784 pixels; the loss is the mean.",
    },
    tolerance=0.03,  # of one batch of 16 pictures the standard error is 0.013
)


def _hardest() -> str:
    """Where the best guess at the noise is worst, for pictures whose pixels are N(0, 1/4): a² v / (a² v + b²)."""
    schedule = make_schedule("cosine")
    at_t = {"a": 20, "b": 500, "c": 980}
    error = {letter: float(1 / (1 + 4 / schedule.snr[t])) for letter, t in at_t.items()}
    if max(error.values()) < 2 * min(error.values()):
        return "d"
    return max(error, key=lambda letter: error[letter])


HARD_TIMES = Choice(
    _hardest,
    "There the noise is a whisper: x_t is nearly all picture, and hardly anything of eps can be read off it.",
    {
        "b": "In the middle both can be read off x_t. Where is the noise hardest to see?",
        "c": "There the picture is hard to guess. But the network is asked for the noise, and x_t is nearly all noise.",
        "d": "The noise itself is the same at every t; how much of it the network can see in x_t is not.",
    },
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "embedding": EMBEDDING,
    "x0_hat": X0_HAT,
    "loss": LOSS,
    "first_loss": FIRST_LOSS,
    "training_step": TRAINING_STEP,
    "ema": EMA_UPDATE,
    "hard_times": HARD_TIMES,
}
