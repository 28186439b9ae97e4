"""The exercises of notebook 01: corrupting with a linear amount."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..data import load_folder, to_float
from ..forward import corrupt, noise_like
from ..schedule import linear_amount
from .inputs import SHAPES, column, noise, pictures
from .judge import Choice, Exercise, Question


def _file_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    """Square pictures, in which rows and columns can be swapped without another shape."""
    shapes = ((2, 4, 4, 3), (5, 6, 6, 3), (1, 7, 7, 3))
    return [(torch.randint(0, 256, shape, dtype=torch.uint8, generator=g),) for shape in shapes]


def _channels_first(files: Tensor) -> Tensor:
    return files.permute(0, 3, 1, 2)


def my_batch(files: Tensor) -> Tensor:
    return files.permute(0, 3, 1, 2).float() / 127.5 - 1


FILES_TO_BATCH = Exercise(
    lambda files: to_float(_channels_first(files)),
    _file_cases,
    {
        "reshape leaves the bytes in their order and cuts them up anew, so that colors become pixels: use permute.": (
            lambda f: to_float(f.reshape(f.shape[0], f.shape[3], f.shape[1], f.shape[2]))
        ),
        "Rows and columns are swapped, so that the pictures lie on their side: the order of axes is (0, 3, 1, 2).": (
            lambda f: to_float(f.permute(0, 3, 2, 1))
        ),
        "The channels are reversed, blue first. OpenCV keeps them so; here red stays channel 0.": (
            lambda f: to_float(_channels_first(f).flip(1))
        ),
        "The axes are right, but the values lie in [0, 1], as torchvision gives them: stretch by 2, shift by -1.": (
            lambda f: _channels_first(f).float() / 255
        ),
        "The axes are right, but the values are still 0 to 255: divide by 127.5, then subtract 1.": (
            lambda f: _channels_first(f).float()
        ),
        "The axes are right, but this gives [0, 2]: subtract 1.": lambda f: _channels_first(f).float() / 127.5,
        "The axes are right, but 2 times a byte wraps around above 255 (2 * 200 becomes 144): use float() first.": (
            lambda f: 2 * _channels_first(f) / 255 - 1
        ),
        "The axes are right, but a byte wraps around below 0 (10 - 128 becomes 138): use float() first.": (
            lambda f: (_channels_first(f) - 128).float() / 127.5
        ),
    },
    answer=my_batch,
    library=[load_folder, to_float],
    equation=r"x_{b,c,h,w} = \frac{\text{byte}_{b,h,w,c}}{127.5} - 1",
)


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


def _draw_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(pictures(s, g), torch.Generator().manual_seed(i)) for i, s in enumerate(SHAPES, start=1)]


def _drawn(shape: tuple[int, ...], x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(shape, dtype=x.dtype, device=x.device, generator=generator)


def my_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)


DRAW_NOISE = Exercise(
    lambda x, generator: corrupt(x, 1.0, generator=generator)[1],
    _draw_cases,
    {
        "This is uniform noise on [0, 1), never negative, of variance 1/12. Gaussian noise comes from torch.randn.": (
            lambda x, g: torch.rand(x.shape, dtype=x.dtype, generator=g)
        ),
        "This is uniform noise on [-1, 1), of variance 1/3. Gaussian noise, of variance 1, comes from torch.randn.": (
            lambda x, g: torch.rand(x.shape, dtype=x.dtype, generator=g) * 2 - 1
        ),
        "All pictures got the same noise: draw as many numbers as x has, not one picture's worth.": (
            lambda x, g: _drawn(x.shape[1:], x, g).expand_as(x)
        ),
        "All pixels of a picture got the same number: every pixel needs one of its own.": (
            lambda x, g: _drawn((len(x), 1, 1, 1), x, g).expand_as(x)
        ),
        "The generator that is given is not used: pass generator=generator.": (lambda x, g: _drawn(x.shape, x, None)),
        "The numbers were drawn as float32, but x is float64 here: pass dtype=x.dtype.": (
            lambda x, g: torch.randn(x.shape, generator=g)
        ),
        "The noise is cut off at -1 and 1. Gaussian noise has no bounds; only a screen cuts it off.": (
            lambda x, g: _drawn(x.shape, x, g).clamp(-1, 1)
        ),
        "The pictures are in it: return the noise alone.": lambda x, g: x + _drawn(x.shape, x, g),
    },
    answer=my_noise,
    library=[corrupt, noise_like],
    equation=r"n \sim \mathcal N(0, I)",
    praise="The same numbers as the library draws from the same generator.",
)


def _noise_that_hides_more() -> str:
    x, generator = torch.zeros(1, 1, 100, 100), torch.Generator().manual_seed(0)
    uniform, gaussian = (corrupt(x, 0.6, kind, generator=generator)[0].var() for kind in ("uniform", "gaussian"))
    return "b" if gaussian > uniform else "a"


STRONGER_NOISE = Choice(
    _noise_that_hides_more,
    "At the same amount the variance of Gaussian noise is three times that of uniform noise: 1 against 1/3.",
    {
        "a": "All values equally often sounds wild, but none lies outside of [-1, 1]: the variance is only 1/3.",
        "c": "The amount is the same, but it multiplies noise of another size: variance 1, or 1/3.",
    },
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
    praise="The same numbers as the library's weights give, for random amounts and variances.",
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


def _amount_of_equal_shares() -> float:
    schedule = linear_amount(10_000)
    return int((0.5 * schedule.snr - 1).abs().argmin()) / schedule.T


EQUAL_SHARES = Question(
    _amount_of_equal_shares,
    "1/(1 + √2) ≈ 0.414: there (1 - u)² · 0.5 = u². The pictures are the weaker part even before the middle.",
    {
        0.5: "At 0.5 the weights are equal, but the variances are not: the SNR is 0.5 there.",
        1 / 3: "The weights come squared: at 1/3 they are as 2 to 1, their squares as 4 to 1, and the SNR is still 2.",
        2 / 3: "At 2/3 the noise has twice the weight and twice the variance to begin with: the SNR is 1/8 there.",
        1 / (1 + math.sqrt(0.5)): "The variances are swapped: the noise has 1, the pictures 0.5.",
    },
    tolerance=0.02,
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "files_to_batch": FILES_TO_BATCH,
    "corrupt": CORRUPT,
    "draw_noise": DRAW_NOISE,
    "stronger_noise": STRONGER_NOISE,
    "mixture_variance": MIXTURE_VARIANCE,
    "least_variance": LEAST_VARIANCE,
    "equal_shares": EQUAL_SHARES,
}
