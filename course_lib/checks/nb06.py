"""The exercises of notebook 06: eleven programs with one mistake each, to be named and mended.

Where a function of an earlier notebook is to be mended, its check serves again under another name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..sample import predict, sample
from ..schedule import Schedule, zero_terminal_snr
from ..unet import DoubleConvUNet
from .effects import Case
from .inputs import SHAPES, Network, column, noise, random_alpha_bar, schedule_of, times
from .judge import Choice, Exercise, Question
from .nb00 import TO_FLOAT
from .nb03 import EXERCISES as OF_03
from .nb04 import EXERCISES as OF_04
from .nb05 import EXERCISES as OF_05
from .nb06_diagnoses import DIAGNOSES
from .nb06_networks import MEND_7, MEND_8

# ---------------------------------------------------------------------------------------------- 3: terminal SNR


def my_rescaled(alpha_bar: Tensor) -> Tensor:
    a = alpha_bar.sqrt()
    a = (a - a[-1]) * a[1] / (a[1] - a[-1])
    return torch.cat([torch.ones_like(a[:1]), a[1:].square()])


def _rescaled(of: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The table made of another a', with the entry of t = 0 put first."""
    return lambda alpha_bar: torch.cat([alpha_bar[:1], of(alpha_bar.sqrt())[1:].square()])


def _moved(a: Tensor) -> Tensor:
    return (a - a[-1]) * a[1] / (a[1] - a[-1])


MEND_3 = Exercise(
    lambda alpha_bar: zero_terminal_snr(schedule_of(alpha_bar)).alpha_bar,
    lambda g: [(random_alpha_bar(g, T),) for T in (20, 7, 3)],
    {
        "alpha_bar itself is shifted and stretched. Take its root first: a is what is shifted.": (
            lambda ab: torch.cat([ab[:1], _moved(ab)[1:]])
        ),
        "The table is shifted, but not stretched: a_1 must stay where it was.": _rescaled(lambda a: a - a[-1]),
        "It is stretched until a_0 fits. The entry to keep is a_1: multiply by a_1, divide by a_1 - a_T.": _rescaled(
            lambda a: (a - a[-1]) / (1 - a[-1])
        ),
        "The factor is upside down: multiply by a_1, divide by a_1 - a_T.": _rescaled(
            lambda a: (a - a[-1]) * (a[1] - a[-1]) / a[1]
        ),
        "Brackets are missing: a_t - a_T is multiplied as a whole.": _rescaled(
            lambda a: a - a[-1] * a[1] / (a[1] - a[-1])
        ),
        "Entry 0 was moved, too. t = 0 is the picture itself, and stays 1.": lambda ab: _moved(ab.sqrt()).square(),
        "This is a, the root. The table to return is alpha_bar = a².": (
            lambda ab: torch.cat([ab[:1], _moved(ab.sqrt())[1:]])
        ),
        "Only the last entry is 0 now, so that the last step would have to make up all that was left. Move them all.": (
            lambda ab: torch.cat([ab[:-1], torch.zeros_like(ab[-1:])])
        ),
    },
    answer=my_rescaled,
    library=[zero_terminal_snr],
    equation=r"a'_t = (a_t - a_T)\,\frac{a_1}{a_1 - a_T}, \qquad \bar\alpha'_t = a_t'^2 \quad (t \ge 1)",
)

# ---------------------------------------------------------------------------------------------- 6: the plane of time


def my_input(x_t: Tensor, t: Tensor, T: int) -> Tensor:
    plane = (t / T).to(x_t.dtype).view(-1, 1, 1, 1).expand(-1, 1, *x_t.shape[2:])
    return torch.cat([x_t, plane], dim=1)


def _library_input(x_t: Tensor, t: Tensor, T: int) -> Tensor:
    """What reaches the first convolution of the library's network with a time plane."""
    channels = x_t.shape[1]
    seen: list[Tensor] = []
    with torch.random.fork_rng(devices=[]), x_t.device:
        net = DoubleConvUNet(channels, channels, features=(1,), bottleneck=1, batch_norm=False, time_plane=T)
    net.to(x_t.dtype).down[0][0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))  # type: ignore[index]
    net(x_t, t)
    return seen[0]


def _with_plane(x_t: Tensor, plane: Tensor) -> Tensor:
    return torch.cat([x_t, plane.to(x_t.dtype).expand(len(x_t), 1, *x_t.shape[2:])], dim=1)


MEND_6 = Exercise(
    _library_input,
    lambda g: [
        (noise(s, g), times(s[0], g, T), T) for s, T in (((4, 1, 4, 4), 20), ((3, 2, 6, 2), 300), ((2, 3, 8, 6), 999))
    ],
    {
        "The plane holds t itself. Divide by T, so that it lies in [0, 1] beside pixels in [-1, 1].": (
            lambda x, t, T: _with_plane(x, column(t))
        ),
        "T is an argument; this divides by 1000 whatever it is.": lambda x, t, T: _with_plane(x, column(t) / 1000),
        "Divide by T, not by T - 1: t runs from 0 to T, and t = T should give 1.": (
            lambda x, t, T: _with_plane(x, column(t) / (T - 1))
        ),
        "t counts from 0, the picture, so t = T should give 1: nothing needs to be subtracted.": (
            lambda x, t, T: _with_plane(x, (column(t) - 1) / T)
        ),
        "// throws away all digits after the point, so the plane is 0 up to t = T: divide with /.": (
            lambda x, t, T: _with_plane(x, column(t) // T)
        ),
        "The plane runs from -1 to 1 here. It should be 0 at t = 0 and 1 at t = T: plain t/T.": (
            lambda x, t, T: _with_plane(x, 2 * column(t) / T - 1)
        ),
        "The plane runs the wrong way: it should be 0 at t = 0 and 1 at t = T.": (
            lambda x, t, T: _with_plane(x, 1 - column(t) / T)
        ),
        "The plane comes first here. The pictures come first, and the plane is the last channel.": (
            lambda x, t, T: _with_plane(x, column(t) / T).roll(1, 1)
        ),
        "Every picture got the timestep of the first: t has one entry for each.": (
            lambda x, t, T: _with_plane(x, column(t[:1]) / T)
        ),
        "t met the wrong axis: shape (B,) lines up with the columns, W. Give it shape (B, 1, 1, 1) first.": (
            lambda x, t, T: _with_plane(x, t / T)
        ),
    },
    answer=my_input,
    library=[DoubleConvUNet.forward],
    equation=r"\text{input} = [\,x_t,\ \text{plane}\,], \qquad \text{plane}_{b,0,h,w} = t_b / T",
)

# ---------------------------------------------------------------------------------------------- 9: the time it is told


def my_draw(model: nn.Module, x: Tensor, times: Sequence[int], alpha_bar: Tensor) -> Tensor:
    for i in range(len(times) - 1):
        now, then = alpha_bar[times[i]], alpha_bar[times[i + 1]]
        t = torch.full((len(x),), times[i], device=x.device)
        eps_hat = model(x, t)
        x0_hat = ((x - (1 - now).sqrt() * eps_hat) / now.sqrt()).clamp(-1, 1)
        eps_hat = (x - now.sqrt() * x0_hat) / (1 - now).sqrt()
        x = then.sqrt() * x0_hat + (1 - then).sqrt() * eps_hat
    return x


def _draw(
    told: Callable[[int, list[int], int], int] = lambda i, times, T: times[i], clamp: bool = True, follow: bool = True
) -> Callable[..., Tensor]:
    """`my_draw` with the places open in which it goes wrong."""

    def draw(model: nn.Module, x: Tensor, times: list[int], alpha_bar: Tensor) -> Tensor:
        for i in range(len(times) - 1):
            now, then = alpha_bar[times[i]], alpha_bar[times[i + 1]]
            eps_hat = model(x, torch.full((len(x),), told(i, times, len(alpha_bar) - 1)))
            x0_hat = (x - (1 - now).sqrt() * eps_hat) / now.sqrt()
            x0_hat = x0_hat.clamp(-1, 1) if clamp else x0_hat
            eps_hat = (x - now.sqrt() * x0_hat) / (1 - now).sqrt() if follow else eps_hat
            x = then.sqrt() * x0_hat + (1 - then).sqrt() * eps_hat
        return x

    return draw


def _drawing_cases(g: torch.Generator) -> list[Case]:
    """The network is in eval mode, so that an answer may say eval() and change nothing."""
    return [
        (Network().eval(), noise(s, g), list(steps), random_alpha_bar(g))
        for s, steps in zip(SHAPES, ((20, 13, 6, 2, 0), (17, 9, 4, 0), (20, 15, 0)), strict=True)
    ]


MEND_9 = Exercise(
    lambda model, x, times, alpha_bar: sample(model, schedule_of(alpha_bar), x, times=times, eta=0.0),
    _drawing_cases,
    {
        "The network is still told the number of steps that are left. Tell it times[i].": _draw(
            lambda i, times, T: len(times) - 1 - i
        ),
        "The network is told i, the number of the step. Tell it times[i].": _draw(lambda i, times, T: i),
        "The network is told times[i + 1], where x is going. Tell it where x is: times[i].": _draw(
            lambda i, times, T: times[i + 1]
        ),
        "The network is told t - 1. In this course t = 0 is the picture, and the network is told t itself.": _draw(
            lambda i, times, T: times[i] - 1
        ),
        "The network is told T - t, counted from the wrong end.": _draw(lambda i, times, T: T - times[i]),
        "The network is told times[0], where the walk began. Tell it where x is now: times[i].": _draw(
            lambda i, times, T: times[0]
        ),
        "The timestep is right now, but the guess is no longer kept in [-1, 1].": _draw(clamp=False),
        "The timestep is right now, but eps_hat no longer follows the clamp: the two must mix to x.": _draw(
            follow=False
        ),
    },
    answer=my_draw,
    library=[sample, predict],
    equation=r"\hat\varepsilon = f(x_t,\ t), \qquad t = \text{times}[i]",
)

# ---------------------------------------------------------------------------------------------- 11: the last step


def my_sigma(s: int, t: int, alpha_bar: Tensor) -> Tensor:
    beta = 1 - alpha_bar[t] / alpha_bar[s]
    return ((1 - alpha_bar[s]) / (1 - alpha_bar[t]) * beta).sqrt()


def _sigma(of: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[int, int, Tensor], Tensor]:
    """A standard deviation made of beta of the stride, alpha_bar_s and alpha_bar_t."""
    return lambda s, t, a: of(1 - a[t] / a[s], a[s], a[t])


MEND_11 = Exercise(
    lambda s, t, alpha_bar: schedule_of(alpha_bar).posterior_variance(s, t).sqrt(),
    lambda g: [(s, t, random_alpha_bar(g)) for s, t in ((19, 20), (4, 15), (0, 1), (0, 8))],
    {
        "That is √beta, the noise of the step forward, which is not 0 for s = 0. Knowing x_0 makes it smaller.": _sigma(
            lambda beta, at_s, at_t: beta.sqrt()
        ),
        "√beta with an exception for the last step is DDPM's other choice. It samples, too; here the posterior's is "
        "asked for.": lambda s, t, a: (1 - a[t] / a[s]).sqrt() * (s > 0),
        "That is the variance; the standard deviation is its root.": _sigma(
            lambda beta, at_s, at_t: (1 - at_s) / (1 - at_t) * beta
        ),
        "The root covers the fraction alone; it goes over the whole product.": _sigma(
            lambda beta, at_s, at_t: ((1 - at_s) / (1 - at_t)).sqrt() * beta
        ),
        "The root covers the second factor alone; it goes over the whole product.": _sigma(
            lambda beta, at_s, at_t: (1 - at_s) / (1 - at_t) * beta.sqrt()
        ),
        "The fraction is upside down: 1 - alpha_bar at s goes on top, so that nothing is left at s = 0.": _sigma(
            lambda beta, at_s, at_t: ((1 - at_t) / (1 - at_s) * beta).sqrt()
        ),
        "alpha_bar_t/alpha_bar_s, the share that is kept, stands where 1 minus it belongs.": _sigma(
            lambda beta, at_s, at_t: ((1 - at_s) / (1 - at_t) * (1 - beta)).sqrt()
        ),
        "That is all of the noise at s. Part of it is eps_hat, which is there already.": _sigma(
            lambda beta, at_s, at_t: (1 - at_s).sqrt()
        ),
        "The second factor, 1 - alpha_bar_t/alpha_bar_s, is missing.": _sigma(
            lambda beta, at_s, at_t: ((1 - at_s) / (1 - at_t)).sqrt()
        ),
        "t - 1 stands where s belongs: the step may be longer than one.": (lambda s, t, a: my_sigma(t - 1, t, a)),
        "In the fraction, t - 1 stands where s belongs: the step may be longer than one.": (
            lambda s, t, a: ((1 - a[t - 1]) / (1 - a[t]) * (1 - a[t] / a[s])).sqrt()
        ),
        "In the second factor, t - 1 stands where s belongs: the step may be longer than one.": (
            lambda s, t, a: ((1 - a[s]) / (1 - a[t]) * (1 - a[t] / a[t - 1])).sqrt()
        ),
    },
    answer=my_sigma,
    library=[Schedule.posterior_variance],
    equation=r"\sigma = \sqrt{\frac{1 - \bar\alpha_s}{1 - \bar\alpha_t}\Big(1 - \frac{\bar\alpha_t}{\bar\alpha_s}\Big)}"
    r", \qquad \sigma = 0 \text{ for } s = 0",
)

MENDS: dict[int, Exercise | Question | Choice] = {
    1: OF_03["alpha_bar"],
    2: TO_FLOAT,
    3: MEND_3,
    4: OF_03["q_sample"],
    5: OF_04["loss"],
    6: MEND_6,
    7: MEND_7,
    8: MEND_8,
    9: MEND_9,
    10: OF_05["ddim_step"],
    11: MEND_11,
}
EXERCISES: dict[str, Exercise | Question | Choice] = {
    name: exercise
    for case, mend in MENDS.items()
    for name, exercise in ((f"diagnosis_{case}", DIAGNOSES[case]), (f"mend_{case}", mend))
}
