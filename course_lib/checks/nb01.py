"""The exercises of notebook 01: corrupting with a linear amount."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..data import load_folder, to_float
from ..forward import corrupt, noise_like
from ..schedule import linear_amount
from .effects import UNTOUCHED, Case
from .inputs import SHAPES, column, noise, pictures
from .judge import Choice, Exercise, Mistake, Question, variants
from .nb00 import DATA_CONSTANTS, TO_FLOAT, stretched

AXES_ARE_RIGHT = "The axes are right. "


def _file_cases(g: torch.Generator) -> list[Case]:
    """First square pictures of three channels, in which swapped axes keep the shape; then all kinds, also dark ones."""
    bright = ((2, 3, 3, 3, 256), (5, 6, 6, 3, 256), (3, 4, 7, 3, 256), (2, 5, 3, 1, 256))
    shapes = (*bright, (4, 2, 6, 3, 60), (3, 2, 4, 3, 2))
    return [(torch.randint(0, most, shape, dtype=torch.uint8, generator=g),) for *shape, most in shapes]


def _channels_first(files: Tensor) -> Tensor:
    return files.permute(0, 3, 1, 2)


def _per_channel(red: float, green: float, blue: float) -> Tensor:
    return torch.tensor([red, green, blue]).view(3, 1, 1)


def _with_channels_first(mistake: Mistake) -> list[Callable[[Tensor], Tensor]]:
    """The same mistakes in the values, with the axes moved."""

    def moved(wrong: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda files: wrong(_channels_first(files))

    return [moved(wrong) for wrong in variants(mistake)]


def my_batch(files: Tensor) -> Tensor:
    return files.permute(0, 3, 1, 2).float() / 127.5 - 1


FILES_TO_BATCH = Exercise(
    lambda files: to_float(_channels_first(files)),
    _file_cases,
    {
        "The values are right, but the axes are not moved: they are still (B, H, W, C). Use permute.": to_float,
        "reshape keeps the bytes in their order and only cuts them up anew, so colors turn into pixels: use permute.": (
            lambda f: to_float(f.reshape(f.shape[0], f.shape[3], f.shape[1], f.shape[2]))
        ),
        "Rows and columns are swapped, so the pictures lie on their side. The order of axes is (0, 3, 1, 2).": (
            lambda f: to_float(f.permute(0, 3, 2, 1))
        ),
        "The channels went to the front, before the pictures: the order of axes is (0, 3, 1, 2).": (
            lambda f: to_float(f.permute(3, 0, 1, 2))
        ),
        "The channels are reversed, blue first. OpenCV keeps them that way; here red is channel 0.": (
            lambda f: to_float(_channels_first(f).flip(1))
        ),
        "The axes are moved, but only the first channel is left: keep all of them.": (
            lambda f: to_float(_channels_first(f)[:, :1])
        ),
        "The colors are averaged to grey. Keep all channels.": (
            lambda f: to_float(_channels_first(f)).mean(1, keepdim=True)
        ),
        **{AXES_ARE_RIGHT + sentence: _with_channels_first(wrong) for sentence, wrong in TO_FLOAT.mistakes.items()},
        AXES_ARE_RIGHT + "Each picture is stretched by itself, so that dark ones come out bright.": (
            lambda f: torch.stack([stretched(one) for one in _channels_first(f)])
        ),
        AXES_ARE_RIGHT + DATA_CONSTANTS.replace("one data set", "ImageNet"): lambda f: (
            (_channels_first(f).float() / 255 - _per_channel(0.485, 0.456, 0.406)) / _per_channel(0.229, 0.224, 0.225)
        ),
    },
    answer=my_batch,
    library=[load_folder, to_float],
    equation=r"x_{b,c,h,w} = \frac{\text{byte}_{b,h,w,c}}{127.5} - 1",
)


def _corrupt_cases(g: torch.Generator) -> list[Case]:
    return [(pictures(s, g), torch.rand(s[0], dtype=torch.float64, generator=g), noise(s, g)) for s in SHAPES]


def my_corrupt(x: Tensor, amount: Tensor, noise: Tensor) -> Tensor:
    u = amount.view(-1, 1, 1, 1)
    return (1 - u) * x + u * noise


def _mixed_with(u: Tensor, x: Tensor, n: Tensor) -> Tensor:
    """The mixture with weights of any shape."""
    return (1 - u) * x + u * n


CORRUPT = Exercise(
    lambda x, amount, noise: corrupt(x, amount, noise)[0],
    _corrupt_cases,
    {
        "Amount and 1 - amount are swapped. Amount 0 must give the picture, amount 1 the noise.": (
            lambda x, u, n: column(u) * x + (1 - column(u)) * n
        ),
        "The noise is added, but the picture does not fade: weigh it by 1 - amount.": lambda x, u, n: x + column(u) * n,
        "The picture fades, but the noise comes in at full strength: weigh it by amount.": (
            lambda x, u, n: (1 - column(u)) * x + n
        ),
        "The noise is subtracted: the two parts are added.": lambda x, u, n: (1 - column(u)) * x - column(u) * n,
        "The noise is missing: add amount times noise.": lambda x, u, n: (1 - column(u)) * x,
        "These are square-root weights. They come in notebook 03; here the amount is linear.": (
            lambda x, u, n: (1 - column(u)).sqrt() * x + column(u).sqrt() * n
        ),
        "The mixture is divided by √((1-u)² + u²), which keeps the variance. That comes below; here it may sag.": (
            lambda x, u, n: my_corrupt(x, u, n) / ((1 - column(u)) ** 2 + column(u) ** 2).sqrt()
        ),
        "The mixture is right, but then it is cut off at -1 and 1. Noise may go beyond; only a screen cuts it off.": (
            lambda x, u, n: my_corrupt(x, u, n).clamp(-1, 1)
        ),
        "It draws noise of its own. Use the noise that is given: the third argument.": [
            lambda x, u, n: my_corrupt(x, u, torch.randn_like(x)),
            lambda x, u, n: my_corrupt(x, u, torch.randn(x.shape)),
            lambda x, u, n: my_corrupt(x, u, torch.rand_like(x)),
        ],
        "Every picture got the amount of the first one. Use all of amount: one entry for each picture.": (
            lambda x, u, n: (1 - u[0]) * x + u[0] * n
        ),
        "Every picture got the average amount. Picture i wants amount[i].": (
            lambda x, u, n: (1 - u.mean()) * x + u.mean() * n
        ),
        "amount met the columns: PyTorch lines up (B,) with W, the last axis. Give it shape (B, 1, 1, 1) first.": (
            lambda x, u, n: (1 - u) * x + u * n
        ),
        "amount met the channels, since it has only three axes here. Give it shape (B, 1, 1, 1), with four.": (
            lambda x, u, n: _mixed_with(u.view(-1, 1, 1), x, n)
        ),
        "amount met the rows, since it has only two axes here. Give it shape (B, 1, 1, 1), with four.": (
            lambda x, u, n: _mixed_with(u.view(-1, 1), x, n)
        ),
    },
    answer=my_corrupt,
    library=[corrupt],
    equation=r"x_u = (1-u)\,x + u\,n",
)


def _draw_cases(g: torch.Generator) -> list[Case]:
    """Generators that have been used before, so that starting them again shows."""
    cases: list[Case] = [(pictures(s, g), torch.Generator().manual_seed(i)) for i, s in enumerate(SHAPES, start=1)]
    for _, generator in cases:
        torch.rand(3, generator=generator)
    return cases


def _randn(shape: tuple[int, ...], x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(shape, dtype=x.dtype, device=x.device, generator=generator)


def my_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)


DRAW_NOISE = Exercise(
    lambda x, generator: corrupt(x, 1.0, generator=generator)[1],
    _draw_cases,
    {
        "This is uniform noise on [0, 1): never negative, with variance 1/12. torch.randn draws Gaussian noise.": (
            lambda x, g: torch.rand(x.shape, dtype=x.dtype, generator=g)
        ),
        "This is uniform noise on [-1, 1), with variance 1/3. torch.randn draws Gaussian noise, with variance 1.": (
            lambda x, g: torch.rand(x.shape, dtype=x.dtype, generator=g) * 2 - 1
        ),
        "All pictures got the same noise. Draw as many numbers as x has, not one picture's worth.": (
            lambda x, g: _randn(x.shape[1:], x, g).expand_as(x)
        ),
        "All channels of a picture got the same noise, which is grey. Every channel needs its own.": (
            lambda x, g: _randn((len(x), 1, *x.shape[2:]), x, g).expand_as(x)
        ),
        "All pixels of a picture got the same number. Every pixel needs its own.": (
            lambda x, g: _randn((len(x), 1, 1, 1), x, g).expand_as(x)
        ),
        "The numbers are drawn one picture at a time, and so they are others. Draw them all in one call.": (
            lambda x, g: torch.stack([_randn(x.shape[1:], x, g) for _ in x])
        ),
        UNTOUCHED: lambda x, g: _randn(x.shape, x, None),
        "The numbers are drawn as float32, but x is float64 here: pass dtype=x.dtype.": (
            lambda x, g: torch.randn(x.shape, generator=g)
        ),
        "The noise is cut off at -1 and 1. Gaussian noise has no bounds; only a screen cuts it off.": (
            lambda x, g: _randn(x.shape, x, g).clamp(-1, 1)
        ),
        "The pictures are in it: return the noise alone.": lambda x, g: x + _randn(x.shape, x, g),
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
    "At the same amount Gaussian noise has three times the variance of uniform noise: 1 against 1/3.",
    {
        "a": "That all values are equally likely sounds wild, but none lies outside of [-1, 1]: the variance is 1/3.",
        "c": "The amount is the same, but it multiplies noise of another size: variance 1 here, 1/3 there.",
    },
)


def _variance_cases(g: torch.Generator) -> list[Case]:
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
        "The weights are swapped. The picture has 1 - amount, the noise has amount.": lambda u, p, n: (
            u**2 * p + (1 - u) ** 2 * n
        ),
        "Only the weight of the noise is squared; square the picture's, too.": lambda u, p, n: (1 - u) * p + u**2 * n,
        "Only the weight of the picture is squared; square the noise's, too.": lambda u, p, n: (1 - u) ** 2 * p + u * n,
        "The square goes over all of 1 - amount, not over amount alone: (1 - amount) ** 2.": lambda u, p, n: (
            (1 - u**2) * p + u**2 * n
        ),
        "That is a term too many. Picture and noise are independent, so their covariance is 0.": [
            lambda u, p, n: (1 - u) ** 2 * p + u**2 * n + 2 * u * (1 - u) * math.sqrt(p * n),
            lambda u, p, n: (1 - u) ** 2 * p + u**2 * n + 2 * u * (1 - u) * p * n,
        ],
        "Variances of independent things add up, also where the things are subtracted: plus, not minus.": (
            lambda u, p, n: (1 - u) ** 2 * p - u**2 * n
        ),
        "The two terms are multiplied; variances of independent things add up.": (
            lambda u, p, n: (1 - u) ** 2 * p * u**2 * n
        ),
        "That is the standard deviation: leave out the square root.": (
            lambda u, p, n: math.sqrt((1 - u) ** 2 * p + u**2 * n)
        ),
        "The variances are squares already. Square the weights, and nothing else.": (
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
    "0.5² · 1 + 0.5² · 1 = 0.5. Half of the variance is gone in the middle, and that is the sag of the curve.",
    {
        1.0: "It would be 1 if the weights were √0.5 each. They are 0.5, and they come squared.",
        0.25: "That is one of the two terms: picture and noise bring 0.25 each.",
        0.125: "The square is taken once too often: 0.5² is 0.25, and there are two such terms.",
        0.7071067811865476: "That is the standard deviation; the variance is its square.",
        0.0: "Something is left, because both halves still vary.",
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
        1 / 3: "The weights come squared. At 1/3 they are as 2 to 1, their squares as 4 to 1, and the SNR is still 2.",
        2 / 3: "At 2/3 the noise has twice the weight, and twice the variance to begin with: the SNR is 1/8 there.",
        1
        - math.sqrt(
            0.5
        ): "At 0.293 the picture's weight squared is 0.5, but the noise's is only 0.086: the SNR is 2.9.",
        1 / (1 + math.sqrt(0.5)): "The variances are swapped: the noise has 1, the pictures have 0.5.",
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
