"""The check of every exercise: right, not done yet, or wrong with the mistake named.

    check("corrupt", my_corrupt)

The learner's function is compared with the library's own on random inputs of several shapes, in float64. If it
differs, it is compared with the mistakes that people make, each written down here as the wrong function itself;
the one that gives the learner's numbers is named. A check reports and never raises.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from .blocks import DoubleConv
from .data import to_float
from .forward import corrupt, q_sample, to_x0_eps
from .objective import denoising_loss
from .sample import reverse_step
from .schedule import Schedule, from_betas, linear_betas
from .shapes import conv_out, conv_transpose_out, count_parameters
from .train import EMA
from .validate import check_choice

NOT_DONE, CORRECT, WRONG = "not done yet", "correct", "wrong"
_MARK = {NOT_DONE: ("○", "#777777"), CORRECT: ("✓", "#1b7f4b"), WRONG: ("✗", "#c2410c")}


@dataclass(frozen=True)
class Result:
    """What a check found; Jupyter shows it with a colored bar, other places as text.

    Args:
        exercise: name of the exercise.
        status: "not done yet", "correct" or "wrong".
        message: one or two sentences.
    """

    exercise: str
    status: str
    message: str

    def __str__(self) -> str:
        return f"{_MARK[self.status][0]} {self.exercise}: {self.status}. {self.message}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        mark, color = _MARK[self.status]
        return (
            f'<div style="border-left: 4px solid {color}; padding: 0.4em 0.8em; margin: 0.2em 0">'
            f'<span style="color: {color}; font-weight: bold">{mark} {self.status}</span> '
            f"&nbsp;{html.escape(self.message)}</div>"
        )


@dataclass(frozen=True)
class Exercise:
    """One exercise whose answer is a function.

    Args:
        solution: the library's function, with the signature that the learner is asked for.
        cases: makes the inputs from a generator: a list of argument tuples.
        mistakes: sentence → the wrong function that it describes, same signature.
        praise: what to say when it is right.
    """

    solution: Callable[..., Any]
    cases: Callable[[torch.Generator], list[tuple[Any, ...]]]
    mistakes: dict[str, Callable[..., Any]]
    praise: str = "The same numbers as the library's function, on random inputs of several shapes."


@dataclass(frozen=True)
class Question:
    """One exercise whose answer is a number.

    Args:
        solution: works the answer out with the library.
        why: said when the answer is right.
        mistakes: wrong number → sentence.
    """

    solution: Callable[[], float]
    why: str
    mistakes: dict[float, str] = field(default_factory=dict)


def check(name: str, answer: Any) -> Result:
    """Check the answer to an exercise.

    Args:
        name: name of the exercise, one of `EXERCISES`.
        answer: the learner's function, or number for a question.

    Returns:
        A `Result`, which displays itself.

    Raises:
        ValueError: an unknown name; the message lists the known ones. Whatever the answer does is reported.
    """
    check_choice("name", name, EXERCISES)
    exercise = EXERCISES[name]
    if isinstance(exercise, Question):
        return Result(name, *_judge_value(exercise, answer))
    return Result(name, *_judge_function(exercise, answer))


def _judge_value(question: Question, answer: Any) -> tuple[str, str]:
    if answer is None or answer is ...:
        return NOT_DONE, "Replace the three dots by a number."
    if isinstance(answer, Tensor) and answer.numel() == 1:
        answer = answer.item()
    if isinstance(answer, bool) or not isinstance(answer, Real):
        return WRONG, f"The answer is a number, but this is {_name(answer)}."
    if math.isclose(answer, question.solution(), rel_tol=1e-6):
        return CORRECT, question.why
    for wrong, sentence in question.mistakes.items():
        if math.isclose(answer, wrong, rel_tol=1e-6):
            return WRONG, sentence
    return WRONG, f"It is not {answer:g}. The hints below take it in steps."


def _judge_function(exercise: Exercise, answer: Any) -> tuple[str, str]:
    if answer is None or answer is ...:
        return NOT_DONE, "Write the function above, then run this cell again."
    if not callable(answer):
        return WRONG, f"Hand over the function itself, without calling it; this is {_name(answer)}."
    cases = exercise.cases(torch.Generator().manual_seed(0))
    truths = [exercise.solution(*_copy(case)) for case in cases]
    answers: list[Tensor | Exception] = []
    in_place = False
    for case, truth in zip(cases, truths, strict=True):
        given = _copy(case)
        try:
            got = answer(*given)
        except NotImplementedError:
            return NOT_DONE, "Write the function above, then run this cell again."
        except Exception as error:  # whatever a learner's code may raise
            answers.append(error)
            break
        if got is None or got is ...:
            return NOT_DONE, "The function returns nothing yet: write it, then run this cell again."
        problem = _form(got, truth, case)
        if problem:
            return WRONG, problem
        in_place |= any(isinstance(a, Tensor) and not torch.equal(a, b) for a, b in zip(given, case, strict=True))
        answers.append(_number(got))
    if _agree(answers, [_number(truth) for truth in truths]):
        if in_place:
            return WRONG, "It changes its input in place (+=, mul_ and the like); make a new tensor instead."
        return CORRECT, exercise.praise
    for sentence, wrong in exercise.mistakes.items():
        if _agree(answers, _outcomes(wrong, cases)):
            return WRONG, sentence
    return WRONG, _difference(answers, truths, cases)


def _outcomes(function: Callable[..., Any], cases: list[tuple[Any, ...]]) -> list[Tensor | Exception]:
    """What a wrong function gives for each case, up to the first that it cannot take."""
    outcomes: list[Tensor | Exception] = []
    for case in cases:
        try:
            outcomes.append(_number(function(*_copy(case))))
        except RuntimeError as error:
            return [*outcomes, error]
    return outcomes


def _agree(left: Sequence[Tensor | Exception], right: Sequence[Tensor | Exception]) -> bool:
    """Same numbers and failures in the same places, up to what float32 rounding inside a function may cost.

    A failure at the very first case says nothing: two functions that both fail there need have nothing in common.
    """

    def same(a: Tensor | Exception, b: Tensor | Exception) -> bool:
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            return a.shape == b.shape and torch.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)
        return isinstance(a, RuntimeError) and isinstance(b, RuntimeError)

    if len(left) != len(right) or isinstance(left[0], Exception):
        return False
    return all(same(a, b) for a, b in zip(left, right, strict=True))


def _difference(answers: list[Tensor | Exception], truths: list[Any], cases: list[tuple[Any, ...]]) -> str:
    """What to say of a mistake that nobody has written down yet."""
    worst, where = 0.0, 0
    for i, answer in enumerate(answers):
        if isinstance(answer, Exception):
            return f"It raises {type(answer).__name__}: {answer} (for {_describe(cases[i])})."
        if not torch.isfinite(answer).all():
            return (
                f"It gives NaN or infinity (for {_describe(cases[i])}): "
                "is there a division by 0, or the root of a negative number?"
            )
        difference = (answer - _number(truths[i])).abs().max().item()
        if difference > worst:
            worst, where = difference, i
    return f"The numbers differ by up to {worst:.3g} (for {_describe(cases[where])}). The hints below may help."


def _number(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64).detach().cpu()


def _form(got: Any, truth: Any, case: tuple[Any, ...]) -> str | None:
    """What is wrong with the type or shape of an answer, before its numbers are looked at."""
    if isinstance(truth, Tensor) and truth.ndim and not isinstance(got, Tensor):
        return f"It must return a tensor of shape {tuple(truth.shape)}, but returns {_name(got)}."
    if not isinstance(got, Tensor | Real) or isinstance(got, bool):
        return f"It must return a number, but returns {_name(got)}."
    shape, wanted = (tuple(v.shape) if isinstance(v, Tensor) else () for v in (got, truth))
    if shape == wanted:
        return None
    hint = ""
    if len(shape) == len(wanted) == 1 and shape[0] == wanted[0] - 1:
        hint = " One entry is missing: t = 0, the picture itself, comes first."
    elif not wanted:
        hint = " One number is wanted: take the mean over everything."
    return f"It returns shape {shape} where {wanted} is wanted (for {_describe(case)}).{hint}"


def _copy(case: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.clone() if isinstance(a, Tensor) else a for a in case)


def _describe(case: tuple[Any, ...]) -> str:
    def one(a: Any) -> str:
        if isinstance(a, Tensor):
            return f"{a.item():.4g}" if a.ndim == 0 else f"a tensor of shape {tuple(a.shape)}"
        return f"{a:.4g}" if isinstance(a, float) else str(a) if isinstance(a, int) else "a model"

    return ", ".join(one(a) for a in case)


def _name(answer: Any) -> str:
    name = type(answer).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


# ---------------------------------------------------------------------------------------------- inputs

_SHAPES = ((4, 1, 4, 4), (3, 2, 5, 3), (2, 3, 8, 6))  # the first is square all over: wrong axes broadcast in it


def _pictures(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=generator) * 2 - 1


def _noise(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def _random_alpha_bar(generator: torch.Generator, T: int = 20) -> Tensor:
    betas = 0.02 + 0.2 * torch.rand(T, dtype=torch.float64, generator=generator)
    return from_betas(betas).alpha_bar


def _times(count: int, generator: torch.Generator, T: int = 20) -> Tensor:
    return torch.randint(2, T + 1, (count,), generator=generator)


def _schedule(alpha_bar: Tensor) -> Schedule:
    return Schedule(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def _at(alpha_bar: Tensor, t: Tensor) -> Tensor:
    """ᾱ_t ready to multiply pictures; of the mistakes that have nothing wrong in this."""
    return alpha_bar[t].view(-1, 1, 1, 1)


# ---------------------------------------------------------------------------------------------- 00


def _byte_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    cases = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=g) for shape in ((2, 1, 4, 4), (5, 7))]
    return [(images,) for images in (*cases, torch.tensor([0, 127, 128, 255], dtype=torch.uint8))]


_TO_FLOAT = Exercise(
    to_float,
    _byte_cases,
    {
        "This gives [0, 1]. The course wants [-1, 1], dark below 0 and light above: stretch by 2, shift by 1.": (
            lambda b: b.float() / 255
        ),
        "This gives [0, 2]: the width is right, but the middle must be 0. Subtract 1.": lambda b: b.float() / 127.5,
        "Bytes end at 255, not 256: half of the range is 127.5, so that white becomes exactly 1.": (
            lambda b: b.float() / 128 - 1
        ),
        "This gives [-0.5, 0.5]: multiply by 2.": lambda b: b.float() / 255 - 0.5,
        "The picture is inverted: black (0) must become -1 and white (255) must become 1.": (
            lambda b: 1 - b.float() / 127.5
        ),
        "Subtract after changing to float: a uint8 wraps around below 0 (10 - 128 becomes 138).": (
            lambda b: (b - 128).float() / 127.5
        ),
    },
)

_VALUES_IN_BATCH = Question(
    lambda: math.prod((16, 1, 28, 28)),
    "16 · 1 · 28 · 28: B pictures, C channels, H rows, W columns.",
    {
        784: "784 is one picture, 28 · 28. The batch has 16.",
        448: "448 = 16 · 28 counts only one row of each picture: B · C · H · W has four factors.",
        37632: "37,632 is for three channels. Grey pictures have C = 1.",
        16: "16 is the number of pictures; how many pixels does each have?",
    },
)

# ---------------------------------------------------------------------------------------------- 01


def _corrupt_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(_pictures(s, g), torch.rand(s[0], dtype=torch.float64, generator=g), _noise(s, g)) for s in _SHAPES]


def _column(u: Tensor) -> Tensor:
    return u.view(-1, 1, 1, 1)


_CORRUPT = Exercise(
    lambda x, amount, noise: corrupt(x, amount, noise)[0],
    _corrupt_cases,
    {
        "Amount and 1 - amount are swapped: amount 0 must give the picture, amount 1 the noise.": (
            lambda x, u, n: _column(u) * x + (1 - _column(u)) * n
        ),
        "The noise is added, but the picture does not fade: weigh it by 1 - amount.": lambda x, u, n: (
            x + _column(u) * n
        ),
        "The picture fades, but the noise enters at full strength: weigh it by amount.": (
            lambda x, u, n: (1 - _column(u)) * x + n
        ),
        "These are square-root weights. They come in notebook 03; here the amount is linear.": (
            lambda x, u, n: (1 - _column(u)).sqrt() * x + _column(u).sqrt() * n
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


_MIXTURE_VARIANCE = Exercise(
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
)

_LEAST_VARIANCE = Question(
    lambda: _mixture_variance(0.5, 1.0, 1.0),
    "0.5² · 1 + 0.5² · 1 = 0.5: half the variance is gone in the middle, and that is the sag of the curve.",
    {
        1.0: "It would be 1 if the weights were √0.5 each. They are 0.5, and are squared.",
        0.25: "That is one of the two terms: picture and noise each bring 0.25.",
        0.7071067811865476: "That is the standard deviation; the variance is its square.",
        0.0: "Something is left: both halves still vary.",
    },
)

# ---------------------------------------------------------------------------------------------- 02


def _conv_cases(_: torch.Generator) -> list[tuple[Any, ...]]:
    return [(28, 3, 1, 1), (28, 3, 2, 1), (29, 5, 2, 0), (572, 3, 1, 0), (10, 4, 3, 2), (7, 2, 2, 0)]


_CONV_OUT = Exercise(
    lambda size, kernel, stride, padding: conv_out(size, kernel, stride, padding),
    _conv_cases,
    {
        "Padding is added on both sides: 2 · padding.": lambda n, k, s, p: (n + p - k) // s + 1,
        "The + 1 at the end is missing: the first placement counts, too.": lambda n, k, s, p: (n + 2 * p - k) // s,
        "Round down, not up: a placement that does not fit whole is left out.": (
            lambda n, k, s, p: math.ceil((n + 2 * p - k) / s) + 1
        ),
        "Nothing is rounded down: use //, since sizes are whole numbers.": lambda n, k, s, p: (n + 2 * p - k) / s + 1,
        "Stride and kernel are swapped.": lambda n, k, s, p: (n + 2 * p - s) // k + 1,
        "The padding is forgotten.": lambda n, k, s, p: (n - k) // s + 1,
        "The stride is forgotten: only every stride-th placement is kept.": lambda n, k, s, p: n + 2 * p - k + 1,
        "Add the 1 after dividing by the stride, not before.": lambda n, k, s, p: (n + 2 * p - k + 1) // s,
    },
    "The same sizes as the library's function, for six layers.",
)


def _conv_transpose_cases(_: torch.Generator) -> list[tuple[Any, ...]]:
    return [(14, 2, 2, 0, 0), (4, 3, 2, 1, 1), (7, 4, 2, 1, 0), (5, 5, 3, 2, 2), (9, 3, 1, 1, 0)]


_CONV_TRANSPOSE_OUT = Exercise(
    lambda size, kernel, stride, padding, output_padding: conv_transpose_out(
        size, kernel, stride, padding, output_padding
    ),
    _conv_transpose_cases,
    {
        "output_padding is forgotten.": lambda n, k, s, p, o: (n - 1) * s - 2 * p + k,
        "Padding takes away here: - 2 · padding, since this layer undoes a padded convolution.": (
            lambda n, k, s, p, o: (n - 1) * s + 2 * p + k + o
        ),
        "There are size - 1 strides between size placements, not size.": lambda n, k, s, p, o: n * s - 2 * p + k + o,
        "Padding is taken off both sides: 2 · padding.": lambda n, k, s, p, o: (n - 1) * s - p + k + o,
        "One pixel too many: dilation · (kernel - 1) + 1 is just kernel.": (
            lambda n, k, s, p, o: (n - 1) * s - 2 * p + k + o + 1
        ),
        "One pixel short: the first placement covers kernel pixels, (kernel - 1) + 1.": (
            lambda n, k, s, p, o: (n - 1) * s - 2 * p + (k - 1) + o
        ),
        "output_padding is added on one side only, so count it once.": (
            lambda n, k, s, p, o: (n - 1) * s - 2 * p + k + 2 * o
        ),
        "That is the formula of the ordinary convolution, which shrinks.": lambda n, k, s, p, o: (
            (n + 2 * p - k) // s + 1
        ),
    },
    "The same sizes as the library's function, for five layers.",
)

_DOUBLE_CONV_PARAMETERS = Exercise(
    lambda in_channels, out_channels: count_parameters(DoubleConv(in_channels, out_channels)),
    lambda _: [(1, 8), (3, 16), (16, 4), (8, 8)],
    {
        "The biases are forgotten: one for each output channel of each convolution.": lambda i, o: (
            9 * i * o + 9 * o * o
        ),
        "The second convolution takes what the first gives: out_channels in, not in_channels.": (
            lambda i, o: 2 * (9 * i * o + o)
        ),
        "That is the first convolution alone; there are two.": lambda i, o: 9 * i * o + o,
        "A 3×3 kernel has nine weights, not three.": lambda i, o: 3 * i * o + 3 * o * o + 2 * o,
        "Each output channel has one bias, whatever the input: out_channels biases, not in_channels.": (
            lambda i, o: 9 * i * o + 9 * o * o + i + o
        ),
        "Each output channel has one kernel for every input channel: multiply in by out.": (
            lambda i, o: 9 * (i + o) + 9 * (o + o) + 2 * o
        ),
        "Both convolutions have biases, but these are counted once.": lambda i, o: 9 * i * o + 9 * o * o + o,
    },
    "The same count as PyTorch's, for four blocks.",
)

_MERGE_CHANNELS = Question(
    lambda: 2 * 64,
    "64 from the skip and 64 from below, side by side: concatenation adds the channels up.",
    {
        64: "64 would be right if skip and upsampled map were added; they are concatenated.",
        256: "256 is one level deeper: at the top, skip and upsampled map have 64 channels each.",
        192: "The up-convolution has already halved 128 to 64 when the two meet.",
        1024: "1024 enters the deepest merge, 512 + 512. The question is about the top one.",
    },
)

# ---------------------------------------------------------------------------------------------- 03


def _beta_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [
        (linear_betas(50, 0.01, 0.2),),
        (0.02 + 0.3 * torch.rand(12, dtype=torch.float64, generator=g),),
    ]


def _with_one(x: Tensor) -> Tensor:
    return torch.cat([torch.ones(1, dtype=x.dtype), x])


_ALPHA_BAR = Exercise(
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
)


def _q_sample_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(_pictures(s, g), _times(s[0], g), _noise(s, g), _random_alpha_bar(g)) for s in _SHAPES]


_Q_SAMPLE = Exercise(
    lambda x0, t, eps, alpha_bar: q_sample(_schedule(alpha_bar), x0, t, eps)[0],
    _q_sample_cases,
    {
        "Both square roots are missing: alpha_bar is a variance, the weights are its roots.": (
            lambda x, t, e, a: _at(a, t) * x + (1 - _at(a, t)) * e
        ),
        "The root over alpha_bar is missing: the picture is scaled too far down.": (
            lambda x, t, e, a: _at(a, t) * x + (1 - _at(a, t)).sqrt() * e
        ),
        "The root over 1 - alpha_bar is missing: the noise is too weak.": (
            lambda x, t, e, a: _at(a, t).sqrt() * x + (1 - _at(a, t)) * e
        ),
        "The two weights are swapped: t near 0 must give the picture.": (
            lambda x, t, e, a: (1 - _at(a, t)).sqrt() * x + _at(a, t).sqrt() * e
        ),
        "This is 1 - √alpha_bar; the root goes over the whole of 1 - alpha_bar.": (
            lambda x, t, e, a: _at(a, t).sqrt() * x + (1 - _at(a, t).sqrt()) * e
        ),
        "t is off by one, too early: alpha_bar has T + 1 entries, so alpha_bar[t] is the right one.": (
            lambda x, t, e, a: _at(a, t - 1).sqrt() * x + (1 - _at(a, t - 1)).sqrt() * e
        ),
        "This is a single step with beta_t. The jump from x_0 uses alpha_bar_t.": (
            lambda x, t, e, a: (_at(a, t) / _at(a, t - 1)).sqrt() * x + (1 - _at(a, t) / _at(a, t - 1)).sqrt() * e
        ),
        "Every picture got the timestep of the first: use alpha_bar[t], one entry per picture.": (
            lambda x, t, e, a: a[t[0]].sqrt() * x + (1 - a[t[0]]).sqrt() * e
        ),
        "The picture does not fade: weigh it by √alpha_bar.": lambda x, t, e, a: x + (1 - _at(a, t)).sqrt() * e,
        "alpha_bar[t] met the wrong axis: shape (B,) lines up with the columns, W. Give it shape (B, 1, 1, 1) first.": (
            lambda x, t, e, a: a[t].sqrt() * x + (1 - a[t]).sqrt() * e
        ),
    },
)


def _posterior_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(torch.arange(1, 21), _random_alpha_bar(g)), (_times(5, g), _random_alpha_bar(g))]


def _beta_of(t: Tensor, alpha_bar: Tensor) -> Tensor:
    return 1 - alpha_bar[t] / alpha_bar[t - 1]


_POSTERIOR_VARIANCE = Exercise(
    lambda t, alpha_bar: _schedule(alpha_bar).posterior_variance(t - 1, t),
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
)

# ---------------------------------------------------------------------------------------------- 04


def _prediction_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(_noise(s, g), _noise(s, g), _times(s[0], g), _random_alpha_bar(g)) for s in _SHAPES]


_X0_HAT = Exercise(
    lambda x_t, eps_hat, t, alpha_bar: to_x0_eps("eps", _schedule(alpha_bar), eps_hat, x_t, t)[0],
    _prediction_cases,
    {
        "Subtracting the noise is half of it: divide by √alpha_bar, since the picture was scaled down.": (
            lambda x, e, t, a: x - (1 - _at(a, t)).sqrt() * e
        ),
        "Take the noise away: the sign before eps_hat is a minus.": (
            lambda x, e, t, a: (x + (1 - _at(a, t)).sqrt() * e) / _at(a, t).sqrt()
        ),
        "The root over 1 - alpha_bar is missing.": lambda x, e, t, a: (x - (1 - _at(a, t)) * e) / _at(a, t).sqrt(),
        "The root in the denominator is missing: divide by √alpha_bar.": (
            lambda x, e, t, a: (x - (1 - _at(a, t)).sqrt() * e) / _at(a, t)
        ),
        "Both square roots are missing.": lambda x, e, t, a: (x - (1 - _at(a, t)) * e) / _at(a, t),
        "The noise was scaled when it was mixed in: subtract √(1 - alpha_bar) · eps_hat, not eps_hat.": (
            lambda x, e, t, a: (x - e) / _at(a, t).sqrt()
        ),
        "The noise is subtracted after the division: put both terms over √alpha_bar.": (
            lambda x, e, t, a: x / _at(a, t).sqrt() - (1 - _at(a, t)).sqrt() * e
        ),
        "The two weights are swapped.": lambda x, e, t, a: (x - _at(a, t).sqrt() * e) / (1 - _at(a, t)).sqrt(),
        "t is off by one: alpha_bar has T + 1 entries, so alpha_bar[t] is the right one.": (
            lambda x, e, t, a: (x - (1 - _at(a, t - 1)).sqrt() * e) / _at(a, t - 1).sqrt()
        ),
    },
)


def _toy_model(x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    """Stands in for a network: its answer depends on every pixel and on the time."""
    return 0.3 * x_t + 0.1 * x_t.roll(1, -1) + 0.05 * t.to(x_t.dtype).view(-1, 1, 1, 1).sin()


def _loss_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(_toy_model, _pictures(s, g), _times(s[0], g), _noise(s, g), _random_alpha_bar(g)) for s in _SHAPES]


def _mixed(x: Tensor, t: Tensor, e: Tensor, a: Tensor) -> Tensor:
    return _at(a, t).sqrt() * x + (1 - _at(a, t)).sqrt() * e


_LOSS = Exercise(
    lambda model, x0, t, eps, alpha_bar: denoising_loss(model, _schedule(alpha_bar), x0, t, eps).mean(),
    _loss_cases,
    {
        "The network is asked to predict the noise: compare its answer with eps, not with x0.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - x).square().mean()
        ),
        "The answer is compared with x_t. The target is eps, the noise that was mixed in.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - _mixed(x, t, e, a)).square().mean()
        ),
        "The network sees the clean picture: give it x_t.": lambda m, x, t, e, a: (m(x, t) - e).square().mean(),
        "The network sees the noise itself: give it x_t.": lambda m, x, t, e, a: (m(e, t) - e).square().mean(),
        "That is the sum; take the mean, so that the loss does not grow with the size of the pictures.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).square().sum()
        ),
        "That is the absolute error; DDPM squares it.": lambda m, x, t, e, a: (
            (m(_mixed(x, t, e, a), t) - e).abs().mean()
        ),
        "That is the root of the mean square; leave out the root.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).square().mean().sqrt()
        ),
        "The square comes before the mean: errors of opposite sign must not cancel.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).mean().square()
        ),
        "Both square roots are missing where x_t is mixed.": (
            lambda m, x, t, e, a: (m(_at(a, t) * x + (1 - _at(a, t)) * e, t) - e).square().mean()
        ),
        "The network is told t - 1. In this course t = 0 is the picture, and the network is told t itself.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t - 1) - e).square().mean()
        ),
        "The network is not told the time: pass t as the second argument.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), torch.zeros_like(t)) - e).square().mean()
        ),
        "The target is already multiplied by √(1 - alpha_bar); the network is to predict eps itself.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - (1 - _at(a, t)).sqrt() * e).square().mean()
        ),
    },
)


def _ema(average: Tensor, weights: Tensor, decay: float) -> Tensor:
    """One update of the library's EMA, far enough into a run that its decay is the one asked for."""
    ours, theirs = (torch.nn.ParameterList([torch.nn.Parameter(w.clone())]) for w in (average, weights))
    ema = EMA(ours, decay)
    ema.updates = 10**6
    ema.update(theirs)
    return next(iter(ema.model.parameters())).detach()


_EMA = Exercise(
    _ema,
    lambda g: [(_noise((3, 4), g), _noise((3, 4), g), 0.9), (_noise((5,), g), _noise((5,), g), 0.995)],
    {
        "decay and 1 - decay are swapped: a decay near 1 keeps almost all of the average.": (
            lambda m, w, d: (1 - d) * m + d * w
        ),
        "The new weights enter whole: weigh them by 1 - decay, so that the two weights add up to 1.": (
            lambda m, w, d: d * m + w
        ),
        "The old average must shrink by decay, or it grows without end.": lambda m, w, d: m + (1 - d) * w,
        "That is the plain mean of the two; decay says how much of the average stays.": lambda m, w, d: (m + w) / 2,
        "The sign is wrong: the average moves towards the weights, not away from them.": (
            lambda m, w, d: m - (1 - d) * (w - m)
        ),
    },
)

# ---------------------------------------------------------------------------------------------- 05


def _step_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [
        (_noise(s, g), _noise(s, g), t, to, _random_alpha_bar(g))
        for s, t, to in zip(_SHAPES, (20, 12, 7), (15, 4, 0), strict=True)
    ]


def _from_eps(x: Tensor, e: Tensor, t: int, a: Tensor) -> Tensor:
    return (x - (1 - a[t]).sqrt() * e) / a[t].sqrt()


def _ddim(x: Tensor, e: Tensor, t: int, s: int, a: Tensor) -> Tensor:
    schedule = _schedule(a)
    return reverse_step(schedule, *to_x0_eps("eps", schedule, e, x, t), t, s, eta=0.0)


_DDIM_STEP = Exercise(
    _ddim,
    _step_cases,
    {
        "That is x0_hat, all the way to the picture. Put the noise of timestep s back in.": (
            lambda x, e, t, s, a: _from_eps(x, e, t, a)
        ),
        "The noise is put back at the strength of t; at s it is √(1 - alpha_bar_s).": (
            lambda x, e, t, s, a: a[s].sqrt() * _from_eps(x, e, t, a) + (1 - a[t]).sqrt() * e
        ),
        "x0_hat is scaled by √alpha_bar_t; at s it is √alpha_bar_s.": (
            lambda x, e, t, s, a: a[t].sqrt() * _from_eps(x, e, t, a) + (1 - a[s]).sqrt() * e
        ),
        "x0_hat must be scaled down by √alpha_bar_s before the noise is added.": (
            lambda x, e, t, s, a: _from_eps(x, e, t, a) + (1 - a[s]).sqrt() * e
        ),
        "The noise eps_hat is forgotten: without it the picture at s has too little noise.": (
            lambda x, e, t, s, a: a[s].sqrt() * _from_eps(x, e, t, a)
        ),
        "The square roots are missing when going to s: the weights are √alpha_bar_s and √(1 - alpha_bar_s).": (
            lambda x, e, t, s, a: a[s] * _from_eps(x, e, t, a) + (1 - a[s]) * e
        ),
        "x_t itself is mixed with eps_hat: work out x0_hat first.": (
            lambda x, e, t, s, a: a[s].sqrt() * x + (1 - a[s]).sqrt() * e
        ),
        "s and t are swapped.": lambda x, e, t, s, a: (
            a[t].sqrt() * (x - (1 - a[s]).sqrt() * e) / a[s].sqrt() + (1 - a[t]).sqrt() * e
        ),
        "The sign of eps_hat is wrong when going to s: it is put back with a plus.": (
            lambda x, e, t, s, a: a[s].sqrt() * _from_eps(x, e, t, a) - (1 - a[s]).sqrt() * e
        ),
    },
)


def _ddpm_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [
        (_noise(s, g), _noise(s, g), _noise(s, g), t, _random_alpha_bar(g))
        for s, t in zip((*_SHAPES, _SHAPES[0]), (20, 12, 7, 1), strict=True)
    ]


def _ddpm(x: Tensor, e: Tensor, z: Tensor, t: int, a: Tensor) -> Tensor:
    """The library's step with z in place of its own draw: the noise part is what eta=1 has and its mean has not."""
    schedule = _schedule(a)
    x0_hat, eps_hat = to_x0_eps("eps", schedule, e, x, t)
    seed = 0
    drawn = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))
    step = reverse_step(schedule, x0_hat, eps_hat, t, t - 1, generator=torch.Generator().manual_seed(seed))
    return step + schedule.posterior_variance(t - 1, t).sqrt() * (z - drawn)


def _ddpm_mean(x: Tensor, e: Tensor, t: int, a: Tensor) -> Tensor:
    alpha = a[t] / a[t - 1]
    return (x - (1 - alpha) / (1 - a[t]).sqrt() * e) / alpha.sqrt()


def _ddpm_var(t: int, a: Tensor) -> Tensor:
    return (1 - a[t - 1]) / (1 - a[t]) * (1 - a[t] / a[t - 1])


_DDPM_STEP = Exercise(
    _ddpm,
    _ddpm_cases,
    {
        "σ_t² = beta_t is DDPM's other choice, and it adds noise at the last step; use the posterior variance.": (
            lambda x, e, z, t, a: _ddpm_mean(x, e, t, a) + (1 - a[t] / a[t - 1]).sqrt() * z
        ),
        "σ_t² = beta_t is DDPM's other choice. It samples, too; here the posterior variance is asked for.": (
            lambda x, e, z, t, a: _ddpm_mean(x, e, t, a) + (t > 1) * (1 - a[t] / a[t - 1]).sqrt() * z
        ),
        "The noise is scaled by the variance; scale it by its root, the standard deviation.": (
            lambda x, e, z, t, a: _ddpm_mean(x, e, t, a) + _ddpm_var(t, a) * z
        ),
        "That is the mean alone: add √variance · z.": lambda x, e, z, t, a: _ddpm_mean(x, e, t, a),
        "eps_hat is used as the fresh noise: the noise that is added is z.": (
            lambda x, e, z, t, a: _ddpm_mean(x, e, t, a) + _ddpm_var(t, a).sqrt() * e
        ),
        "The factor 1/√alpha_t before the bracket is missing.": (
            lambda x, e, z, t, a: x - (1 - a[t] / a[t - 1]) / (1 - a[t]).sqrt() * e + _ddpm_var(t, a).sqrt() * z
        ),
        "The root over 1 - alpha_bar_t below beta_t is missing.": (
            lambda x, e, z, t, a: (
                (x - (1 - a[t] / a[t - 1]) / (1 - a[t]) * e) / (a[t] / a[t - 1]).sqrt() + _ddpm_var(t, a).sqrt() * z
            )
        ),
        "All of the noise is subtracted at once; one step takes away beta_t/√(1 - alpha_bar_t) of it.": (
            lambda x, e, z, t, a: (x - (1 - a[t]).sqrt() * e) / (a[t] / a[t - 1]).sqrt() + _ddpm_var(t, a).sqrt() * z
        ),
        "alpha_bar_t stands where alpha_t belongs, before the bracket.": (
            lambda x, e, z, t, a: (
                (x - (1 - a[t] / a[t - 1]) / (1 - a[t]).sqrt() * e) / a[t].sqrt() + _ddpm_var(t, a).sqrt() * z
            )
        ),
    },
)


def _count_noise_draws() -> float:
    variance = from_betas(linear_betas()).posterior_variance(torch.arange(1000), torch.arange(1, 1001))
    return float((variance > 0).sum())


_NOISE_DRAWS = Question(
    _count_noise_draws,
    "One at each of the 1,000 steps but the last: the posterior variance at s = 0 is 0, so nothing is drawn there.",
    {
        1000: "Nearly: at the last step, to t = 0, the posterior variance is 0 and nothing is drawn.",
        1001: "x_T itself was not to be counted, and the last step draws nothing.",
        0: "That is DDIM (η = 0). DDPM (η = 1) adds fresh noise on the way.",
        1: "One draw makes x_T. DDPM draws fresh noise on the way, too.",
    },
)

#: Every exercise by its name, in the order of the notebooks.
EXERCISES: dict[str, Exercise | Question] = {
    "to_float": _TO_FLOAT,
    "values_in_batch": _VALUES_IN_BATCH,
    "corrupt": _CORRUPT,
    "mixture_variance": _MIXTURE_VARIANCE,
    "least_variance": _LEAST_VARIANCE,
    "conv_out": _CONV_OUT,
    "conv_transpose_out": _CONV_TRANSPOSE_OUT,
    "double_conv_parameters": _DOUBLE_CONV_PARAMETERS,
    "merge_channels": _MERGE_CHANNELS,
    "alpha_bar": _ALPHA_BAR,
    "q_sample": _Q_SAMPLE,
    "posterior_variance": _POSTERIOR_VARIANCE,
    "x0_hat": _X0_HAT,
    "loss": _LOSS,
    "ema": _EMA,
    "ddim_step": _DDIM_STEP,
    "ddpm_step": _DDPM_STEP,
    "noise_draws": _NOISE_DRAWS,
}
