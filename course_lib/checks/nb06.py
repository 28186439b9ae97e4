"""The exercises of notebook 06: eleven programs with one mistake each, to be named and mended.

Where what is to be mended is a function of an earlier notebook, its check is used again under a name of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..sample import predict, sample
from ..schedule import Schedule, make_schedule, zero_terminal_snr
from ..unet import BottleneckUNet, DoubleConvUNet
from .effects import Case
from .inputs import SHAPES, column, noise, random_alpha_bar, schedule_of, times
from .judge import Choice, Exercise, Question
from .nb00 import TO_FLOAT
from .nb03 import EXERCISES as OF_03
from .nb04 import EXERCISES as OF_04
from .nb05 import EXERCISES as OF_05

Answer = Callable[..., Any]


def _whole(*parts: Any) -> Any:
    """Several results as one; a stub that returns nothing yet stays nothing."""
    return parts[0] if parts[0] is None or parts[0] is ... else parts


# ---------------------------------------------------------------------------------------------- diagnoses

DIAGNOSIS_1 = Choice(
    lambda: "c",
    "The table grows from 0 to almost 1: it says how much noise has been added. mix_1 reads it as how much picture is "
    "left, so t = 0 is the noisiest.",
    {
        "a": "Falling betas would change how fast the noise comes, but the product would still begin at 1: the picture "
        "at t = 0 would be clean.",
        "b": "Noise that is too strong would be too strong at every t. At t = 1000 there is none to be seen.",
        "d": "The titles are the numbers that mix_1 was given, and 0 comes first. The order is right; what it finds "
        "there is not.",
    },
)
DIAGNOSIS_2 = Choice(
    lambda: "d",
    "Black is 0 and shown as mid-gray; all above 1 is white. With pixels up to 255, noise of strength 1 "
    "hardly shows on them, until a_t is tiny.",
    {
        "a": "Too few steps would leave the picture at t = 1000, too. There it is gone: the schedule is long enough.",
        "b": "In the background, where pixels are 0, the noise is as strong as it should be. And the picture "
        "is wrong at t = 0 already, where there is no noise.",
        "c": "Swapped, the background would be white and the boot dark. Here it is gray, and the boot white.",
    },
)
DIAGNOSIS_3 = Choice(
    lambda: "b",
    "The ends 0.0001 and 0.02 were made for 1000 steps. 150 such steps multiply to a_T = 0.47: nearly half of the "
    "picture is left.",
    {
        "a": "The weight of the picture does not ask how strong the noise is: with weak noise x_T would be dim and "
        "smooth, not a picture.",
        "c": "One step more or less changes a_t by 0.005 here, which nobody sees. Half of the picture is left.",
        "d": "With the one-step alpha a_T would be √(1 - 0.02) = 0.99: the last picture as clean as the first.",
    },
)
DIAGNOSIS_4 = Choice(
    lambda: "a",
    "The picture goes back in with the weight alpha_bar instead of its root. At the next step the network expects a_s "
    "of it and finds a_s²: its guess is paler than the last one, and so on to flat gray.",
    {
        "b": "With too little noise put back the network has too little to take away: the pictures would come out "
        "smooth, but they would be garments.",
        "c": "These are the weights that notebook 05 samples from. And a poor network draws blots, in full black and "
        "white.",
        "d": "predict comes from the library and is told t, and x is at t. Look at what is done with its answers.",
    },
)
DIAGNOSIS_5 = Choice(
    lambda: "d",
    "The target is b_t · eps, noise that is already weighted. It is smaller than eps, so even the answer 0 has a loss "
    "of only E[b_t²], one half on this schedule.",
    {
        "a": "A new network answers 0 whatever it is shown, eps included: its first loss would still be 1.",
        "b": "The first loss is taken before the first update. No learning rate can have touched it.",
        "c": "Answers other than 0 would add an error of their own: the first loss would be above 1.",
    },
)
DIAGNOSIS_6 = Choice(
    lambda: "b",
    "The plane holds t itself, up to 1000, beside pixels of about 1: the answer grows with t, and the network spends "
    "its time on unlearning that.",
    {
        "a": "The first loss is taken before the first update, and it is far above 1 already. No learning rate has "
        "touched it.",
        "c": "Weights that are too large would make every answer too large. At t = 1 this one is of a normal size.",
        "d": "A sum over 784 pixels would end near 784 for an answer of 0. This loss ends near 1, so it is a mean.",
    },
)
DIAGNOSIS_7 = Choice(
    lambda: "a",
    "The dense layers are built, counted and handed to the optimizer, and forward never calls them: what they are "
    "cannot change the answer, and no gradient reaches them.",
    {
        "b": "The seed makes pictures and noise the same. Two networks with dense layers of different width would give "
        "different answers to them.",
        "c": "The learning rate acts from the second loss on. Networks of different width should differ in the first.",
        "d": "Layers that are called and never trained would still be two different random maps: the first losses "
        "would differ.",
    },
)
DIAGNOSIS_8 = Choice(
    lambda: "c",
    "The network is in train mode: BatchNorm subtracts the mean of the batch at hand and divides by its spread, so the "
    "neighbors decide how bright the boot is.",
    {
        "a": "This network has no dropout. And dropout would be random: the same call twice would give two answers.",
        "b": "The same call twice gives the same answer, to the last bit. There is no fresh noise in it.",
        "d": "Then parts of the neighbors would show up in the boot. Beside clothes it is the same boot, brighter or "
        "darker as a whole; beside black pictures all turns white, and none of their black is in it.",
    },
)
DIAGNOSIS_9 = Choice(
    lambda: "b",
    "The network is told 25, 24, … 1, the number of the step, while x is at 1000, 960, … 40. It believes in hardly any "
    "noise and takes hardly any away.",
    {
        "a": "The loss on test pictures is as low as it should be, and notebook 05 draws garments with these weights.",
        "c": "After x_T nothing in draw is random: DDIM adds no noise. Look for randn.",
        "d": "The standard deviation of x_T is printed, and it is close to 1, as it should be.",
    },
)
DIAGNOSIS_10 = Choice(
    lambda: "d",
    "The step hands on the guess itself. The network is asked about timestep s, finds a picture without noise, takes "
    "its dim parts for noise and removes them, again and again.",
    {
        "a": "40 steps of the library make garments from the same noise: see the last row.",
        "b": "Without the division x would shrink towards 0, and 0 is mid-gray. These pictures go to -1, black, and 1.",
        "c": "predict comes from the library and keeps the guess in [-1, 1]; and nothing here is brighter than white.",
    },
)
DIAGNOSIS_11 = Choice(
    lambda: "c",
    "sigma is not 0 for s = 0: the last step adds fresh noise to pictures that were finished.",
    {
        "a": "Few steps make coarse pictures, and row x0_hat shows how coarse. Its background is clean; that of the "
        "samples, one step later, is not.",
        "b": "Row x0_hat is the network's last guess, and its background is clean.",
        "d": "One byte is 0.008 wide. The grain in the background is more than ten times that.",
    },
)

# ---------------------------------------------------------------------------------------------- 2: the range of pixels


# ---------------------------------------------------------------------------------------------- 3: terminal SNR


def my_rescaled(alpha_bar: Tensor) -> Tensor:
    a = alpha_bar.sqrt()
    a = (a - a[-1]) * a[1] / (a[1] - a[-1])
    return torch.cat([torch.ones_like(a[:1]), a[1:].square()])


def _from_signal(first: Tensor, a: Tensor) -> Tensor:
    """ᾱ of the table a, with the entry of t = 0 put first."""
    return torch.cat([first[:1], a[1:].square()])


def _shifted(a: Tensor) -> Tensor:
    return a - a[-1]


MEND_3 = Exercise(
    lambda alpha_bar: zero_terminal_snr(schedule_of(alpha_bar)).alpha_bar,
    lambda g: [(random_alpha_bar(g, T),) for T in (20, 7, 3)],
    {
        "alpha_bar itself is shifted and stretched. Take its root first: a is what is shifted.": (
            lambda ab: torch.cat([ab[:1], ((ab - ab[-1]) * ab[1] / (ab[1] - ab[-1]))[1:]])
        ),
        "The table is shifted, but not stretched: a_1 must stay where it was.": (
            lambda ab: _from_signal(ab, _shifted(ab.sqrt()))
        ),
        "It is stretched until a_0 fits. The entry to keep is a_1: multiply by a_1, divide by a_1 - a_T.": (
            lambda ab: _from_signal(ab, _shifted(ab.sqrt()) / (1 - ab[-1].sqrt()))
        ),
        "Entry 0 was moved, too. t = 0 is the picture itself, and stays 1.": (
            lambda ab: (_shifted(ab.sqrt()) * ab[1].sqrt() / (ab[1].sqrt() - ab[-1].sqrt())).square()
        ),
        "This is a, the root. The table to return is alpha_bar = a².": (
            lambda ab: torch.cat([ab[:1], (_shifted(ab.sqrt()) * ab[1].sqrt() / (ab[1].sqrt() - ab[-1].sqrt()))[1:]])
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
        net = DoubleConvUNet(channels, channels, features=(1,), bottleneck=1, batch_norm=False, time_plane=T).double()
    net.down[0][0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))  # type: ignore[index]
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
        "Divide by T, not by T - 1: t runs from 0 to T, and t = T is to give 1.": (
            lambda x, t, T: _with_plane(x, column(t) / (T - 1))
        ),
        "t counts from 0, the picture, so t = T is to give 1: nothing needs to be subtracted.": (
            lambda x, t, T: _with_plane(x, (column(t) - 1) / T)
        ),
        "The plane comes first here. The pictures come first, and the plane is the last channel.": (
            lambda x, t, T: _with_plane(x, column(t) / T).roll(1, 1)
        ),
        "Every picture got the timestep of the first: t has one entry for each.": (
            lambda x, t, T: _with_plane(x, (t[0] / T).view(1, 1, 1, 1))
        ),
        "t met the wrong axis: shape (B,) lines up with the columns, W. Give it shape (B, 1, 1, 1) first.": (
            lambda x, t, T: _with_plane(x, t / T)
        ),
    },
    answer=my_input,
    library=[DoubleConvUNet.forward],
    equation=r"\text{input} = [\,x_t,\ \text{plane}\,], \qquad \text{plane}_{b,0,h,w} = t_b / T",
)

# ---------------------------------------------------------------------------------------------- 7: every layer called


def my_forward(net: BottleneckUNet, x: Tensor) -> Tensor:
    x, skips = net.stem(x), []
    for block in net.down:
        x = block(x)
        skips.append(x)
    x = net.unflatten(net.dense(net.flatten(x)))
    for block in net.up:
        x = block(x, skips.pop())
    return net.out(x)


def _nets(g: torch.Generator, mode: bool) -> list[Case]:
    """Small networks in float64 that have seen a batch, each with pictures."""
    cases: list[Case] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for batch, channels in ((3, 1), (1, 2)):
            net = BottleneckUNet(channels, features=(4, 8), size=8, dense=6).double().train()
            with torch.no_grad():
                net(noise((16, channels, 8, 8), g) * 2 + 0.5)
            cases.append((net.train(mode), noise((batch, channels, 8, 8), g)))
    return cases


def _path(net: BottleneckUNet, x: Tensor, deepest: Answer, with_skips: bool = True) -> Tensor:
    """The network with something else at its deepest point."""
    x, skips = net.stem(x), []
    for block in net.down:
        x = block(x)
        skips.append(x)
    x = net.unflatten(deepest(net, net.flatten(x)))
    for block in net.up:
        x = block(x, skips.pop() if with_skips else x)
    return net.out(x)


def _on_a_copy(answer: Answer) -> Answer:
    """The answer at work on a network of its own, so that nothing that it does to it stays."""
    return lambda net, x: answer(copy.deepcopy(net), x)


MEND_7 = Exercise(
    lambda net, x: net(x),
    lambda g: _nets(g, mode=False),
    {
        "The dense layers are built and still not called: flatten, dense, unflatten.": (
            lambda net, x: _path(net, x, lambda net, x: x)
        ),
        "The answer of the dense layers is added to what went in; it is to take its place.": (
            lambda net, x: _path(net, x, lambda net, x: x + net.dense(x))
        ),
        "The dense layers are called, but the map from below stands in for the skip: block(x, skips.pop()).": (
            lambda net, x: _path(net, x, lambda net, x: net.dense(x), with_skips=False)
        ),
    },
    answer=my_forward,
    library=[BottleneckUNet.forward],
    equation=r"\text{out} \circ \text{up} \circ \text{unflatten} \circ \text{dense} \circ \text{flatten} "
    r"\circ \text{down} \circ \text{stem}",
    adapt=_on_a_copy,
    praise="The same numbers as the library's network, and every layer is used.",
)

# ---------------------------------------------------------------------------------------------- 8: eval mode


def my_clean(net: nn.Module, noisy: Tensor) -> Tensor:
    was_training = net.training
    net.eval()
    with torch.no_grad():
        answer = net(noisy)
    net.train(was_training)
    return answer


def _library_clean(net: nn.Module, noisy: Tensor) -> Tensor:
    return predict(net, make_schedule("linear", 10), noisy, 1, target="x0", clip=False)[0]


def _with_mode(answer: Answer) -> Answer:
    """The answer, and the mode in which it leaves the network."""

    def function(net: nn.Module, noisy: Tensor) -> Any:
        own = copy.deepcopy(net)
        return _whole(answer(own, noisy), float(own.training))

    return function


def _clean_cases(g: torch.Generator) -> list[Case]:
    """One network in train mode with three pictures, one in eval mode with one."""
    return [_nets(g, mode=True)[0], _nets(g, mode=False)[1]]


def _in_mode(net: nn.Module, x: Tensor, mode: bool, after: bool | None = None) -> Tensor:
    before = net.training
    with torch.no_grad():
        answer: Tensor = net.train(mode)(x)
    net.train(before if after is None else after)
    return answer


MEND_8 = Exercise(
    _library_clean,
    _clean_cases,
    {
        "The network still works in the mode that it was found in: call net.eval() first.": (
            lambda net, x: _in_mode(net, x, net.training)
        ),
        "train() stands where eval() belongs.": lambda net, x: _in_mode(net, x, True),
        "The answer is right, but the network is left in eval mode: put back the mode that it was found in.": (
            lambda net, x: _in_mode(net, x, False, after=False)
        ),
        "The answer is right, but the network is always left in train mode: put back the mode that it was found in.": (
            lambda net, x: _in_mode(net, x, False, after=True)
        ),
        "One picture at a time is no way out: in train mode each is normalized by its own statistics. Use eval().": (
            lambda net, x: torch.cat([_in_mode(net, one, net.training) for one in x.split(1)])
        ),
    },
    answer=my_clean,
    library=[predict],
    equation=r"\text{BatchNorm, eval mode:}\quad h \leftarrow \gamma\,\frac{h - \mu_\text{running}}"
    r"{\sqrt{\sigma^2_\text{running} + 10^{-5}}} + \beta",
    adapt=_with_mode,
    praise="The same numbers as the library's function, whatever the neighbors, and the mode is as it was.",
)

# ---------------------------------------------------------------------------------------------- 9: the time it is told


class _Toy(nn.Module):
    """Stands in for a network: its answer depends on every pixel and on the time."""

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return 0.3 * x_t + 0.1 * x_t.roll(1, -1) + 0.4 * column(t.to(x_t.dtype)).sin()


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
    model: nn.Module,
    x: Tensor,
    times: Sequence[int],
    alpha_bar: Tensor,
    told: Callable[[int, int], int] = lambda i, t: t,
    clamp: bool = True,
    follow: bool = True,
) -> Tensor:
    """`my_draw` with the places open in which it goes wrong."""
    for i in range(len(times) - 1):
        now, then = alpha_bar[times[i]], alpha_bar[times[i + 1]]
        eps_hat = model(x, torch.full((len(x),), told(i, times[i])))
        x0_hat = (x - (1 - now).sqrt() * eps_hat) / now.sqrt()
        x0_hat = x0_hat.clamp(-1, 1) if clamp else x0_hat
        eps_hat = (x - now.sqrt() * x0_hat) / (1 - now).sqrt() if follow else eps_hat
        x = then.sqrt() * x0_hat + (1 - then).sqrt() * eps_hat
    return x


MEND_9 = Exercise(
    lambda model, x, times, alpha_bar: sample(model, schedule_of(alpha_bar), x, times=times, eta=0.0),
    lambda g: [
        (_Toy(), noise(s, g), list(steps), random_alpha_bar(g))
        for s, steps in zip(SHAPES, ((20, 13, 6, 2, 0), (17, 9, 4, 0), (20, 15, 0)), strict=True)
    ],
    {
        "The network is still told the number of steps that are left. Tell it times[i].": (
            lambda m, x, ts, a: _draw(m, x, ts, a, lambda i, t: len(ts) - 1 - i)
        ),
        "The network is told i, the number of the step. Tell it times[i].": (
            lambda m, x, ts, a: _draw(m, x, ts, a, lambda i, t: i)
        ),
        "The network is told times[i + 1], where x is going. Tell it where x is: times[i].": (
            lambda m, x, ts, a: _draw(m, x, ts, a, lambda i, t: ts[i + 1])
        ),
        "The network is told t - 1. In this course t = 0 is the picture, and the network is told t itself.": (
            lambda m, x, ts, a: _draw(m, x, ts, a, lambda i, t: t - 1)
        ),
        "The network is told T - t, counted from the wrong end.": (
            lambda m, x, ts, a: _draw(m, x, ts, a, lambda i, t: len(a) - 1 - t)
        ),
        "The timestep is right now, but the guess is no longer kept in [-1, 1].": (
            lambda m, x, ts, a: _draw(m, x, ts, a, clamp=False)
        ),
        "The timestep is right now, but eps_hat no longer follows the clamp: the two must mix to x.": (
            lambda m, x, ts, a: _draw(m, x, ts, a, follow=False)
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


def _beta(s: int, t: int, alpha_bar: Tensor) -> Tensor:
    return 1 - alpha_bar[t] / alpha_bar[s]


MEND_11 = Exercise(
    lambda s, t, alpha_bar: schedule_of(alpha_bar).posterior_variance(s, t).sqrt(),
    lambda g: [(s, t, random_alpha_bar(g)) for s, t in ((19, 20), (4, 15), (0, 1), (0, 8))],
    {
        "That is √beta, the noise of the step forward, which is not 0 for s = 0. Knowing x_0 makes it smaller.": (
            lambda s, t, a: _beta(s, t, a).sqrt()
        ),
        "√beta with an exception for the last step is DDPM's other choice. It samples; asked is the posterior's.": (
            lambda s, t, a: _beta(s, t, a).sqrt() * (s > 0)
        ),
        "That is the variance; the standard deviation is its root.": (
            lambda s, t, a: (1 - a[s]) / (1 - a[t]) * _beta(s, t, a)
        ),
        "The fraction is upside down: 1 - alpha_bar at s goes on top, so that nothing is left at s = 0.": (
            lambda s, t, a: ((1 - a[t]) / (1 - a[s]) * _beta(s, t, a)).sqrt()
        ),
        "That is all of the noise at s. Part of it is eps_hat, which is there already.": (
            lambda s, t, a: (1 - a[s]).sqrt()
        ),
        "beta is missing as a factor.": lambda s, t, a: ((1 - a[s]) / (1 - a[t])).sqrt(),
    },
    answer=my_sigma,
    library=[Schedule.posterior_variance],
    equation=r"\sigma = \sqrt{\frac{1 - \bar\alpha_s}{1 - \bar\alpha_t}\Big(1 - \frac{\bar\alpha_t}{\bar\alpha_s}\Big)}"
    r", \qquad \sigma = 0 \text{ for } s = 0",
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "diagnosis_1": DIAGNOSIS_1,
    "mend_1": OF_03["alpha_bar"],
    "diagnosis_2": DIAGNOSIS_2,
    "mend_2": TO_FLOAT,
    "diagnosis_3": DIAGNOSIS_3,
    "mend_3": MEND_3,
    "diagnosis_4": DIAGNOSIS_4,
    "mend_4": OF_03["q_sample"],
    "diagnosis_5": DIAGNOSIS_5,
    "mend_5": OF_04["loss"],
    "diagnosis_6": DIAGNOSIS_6,
    "mend_6": MEND_6,
    "diagnosis_7": DIAGNOSIS_7,
    "mend_7": MEND_7,
    "diagnosis_8": DIAGNOSIS_8,
    "mend_8": MEND_8,
    "diagnosis_9": DIAGNOSIS_9,
    "mend_9": MEND_9,
    "diagnosis_10": DIAGNOSIS_10,
    "mend_10": OF_05["ddim_step"],
    "diagnosis_11": DIAGNOSIS_11,
    "mend_11": MEND_11,
}
