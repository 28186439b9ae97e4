"""Notebook 05, exercise 3: the sampling loop, run on a small network that notes what it is asked."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..sample import sample, trajectory
from .effects import LIST_IN_PLACE, Wrong
from .inputs import FLOAT_TIMES, ONE_TIME_EACH, SHAPES, Network, noise, random_alpha_bar, schedule_of
from .judge import Exercise
from .nb03 import Mistakes
from .nb05_step import CLAMPED, WRONG_STEPS, my_ddim_step
from .witness import Witness

GRADIENTS = "Gradients are tracked, so the memory of every step of the walk is kept: work under torch.no_grad()."
DRAWS = "It draws random numbers. DDIM starts from x_T and puts eps_hat back: after x_T nothing is drawn."
NEVER_ASKED = "The network is never asked: call model(x, t) at every step."
ASKED_AT_0 = (
    "The network is asked about t = 0, too. There the picture is finished: the last step goes to 0, none leaves it."
)
ASKED_TOO_OFTEN = "The network is asked more than once in some step. Once is enough, and each call takes time."


def walk_of(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The learner's loop, on a network that comes in train mode."""

    def run(x_T: Tensor, times: list[int], alpha_bar: Tensor) -> Any:
        model = Network(batch_norm=True).to(x_T.dtype)
        given = list(times)
        with Witness() as seen:
            result = answer(model, x_T, given, alpha_bar)
        if not isinstance(result, Tensor):
            return result
        if seen.random:
            raise Wrong(DRAWS)
        if given != times:
            raise Wrong(LIST_IN_PLACE)
        if result.requires_grad or any(carried for _, carried in model.calls):
            raise Wrong(GRADIENTS)
        _look(model, times)
        return result

    return run


def _look(model: Network, times: list[int]) -> None:
    """Name what the calls of the network already show of an answer that asks at the right times."""
    if not model.calls:
        raise Wrong(NEVER_ASKED)
    asked = [t[0] for t, _ in model.calls if len(set(t)) == 1]
    if asked[: len(times)] == times:
        raise Wrong(ASKED_AT_0)
    if [*dict.fromkeys(asked)] == times[:-1] and len(asked) > len(times) - 1:
        raise Wrong(ASKED_TOO_OFTEN)


def my_sample(model: nn.Module, x_T: Tensor, times: list[int], alpha_bar: Tensor) -> Tensor:
    model.eval()
    x = x_T
    with torch.no_grad():
        for t, s in pairwise(times):
            eps_hat = model(x, torch.full((len(x),), t, device=x.device))
            x0_hat = (x - (1 - alpha_bar[t]).sqrt() * eps_hat) / alpha_bar[t].sqrt()
            x = alpha_bar[s].sqrt() * x0_hat + (1 - alpha_bar[s]).sqrt() * eps_hat
    return x


def ask(model: nn.Module, x: Tensor, t: int) -> Any:
    return model(x, torch.full((len(x),), t, device=x.device))


def loop(
    step: Callable[..., Tensor] = my_ddim_step,
    asks: Callable[..., Tensor] = lambda model, x, t, s, i, left: ask(model, x, t),
    times_of: Callable[[list[int]], list[int]] = list,
    train: bool = False,
    gradients: bool = False,
) -> Callable[..., Tensor]:
    """The loop with one thing changed: the step, what the network is asked, the times, its mode, the gradients."""

    def walk(model: nn.Module, x_T: Tensor, times: list[int], alpha_bar: Tensor) -> Tensor:
        model.train(train)
        x = x_T
        with torch.set_grad_enabled(gradients):
            for i, (t, s) in enumerate(pairwise(times_of(times))):
                x = step(x, asks(model, x, t, s, i, len(times) - 1 - i), t, s, alpha_bar)
        return x

    return walk


def _always(model_x: Callable[..., Any]) -> Callable[..., Tensor]:
    """The loop that forgets x, or the timestep, and goes on with what it began with."""

    def walk(model: nn.Module, x_T: Tensor, times: list[int], alpha_bar: Tensor) -> Tensor:
        return loop(asks=lambda m, x, t, s, i, left: model_x(m, x_T, t, times))(model, x_T, times, alpha_bar)

    return walk


def _one_more(model: nn.Module, x_T: Tensor, times: list[int], alpha_bar: Tensor) -> Tensor:
    x = my_sample(model, x_T, times, alpha_bar)
    with torch.no_grad():
        ask(model, x, 0)
    return x


def _asks_twice(model: nn.Module, x: Tensor, t: int, *_: int) -> Any:
    ask(model, x, t)
    return ask(model, x, t)


def _popping(model: nn.Module, x_T: Tensor, times: list[int], alpha_bar: Tensor) -> Tensor:
    x = my_sample(model, x_T, times, alpha_bar)
    times.pop()
    return x


def _renoised(x: Tensor, e: Tensor, t: int, s: int, a: Tensor) -> Tensor:
    return my_ddim_step(x, e, t, s, a) + (1 - a[s]).sqrt() * (torch.randn_like(x) - e)


_STEPS: Mistakes = {
    "x0_hat goes on as if it were x_s: mix it with eps_hat again, as at s.": loop(
        lambda x, e, t, s, a: my_ddim_step(x, e, t, 0, a)
    ),
    **{
        sentence if sentence.startswith(("Look at", CLAMPED)) else f"Look at the step. {sentence}": loop(step)
        for sentence, step in [*WRONG_STEPS.items()][1:]
        if not sentence.startswith("s and t")
    },
}

SAMPLE = Exercise(
    lambda model, x_T, times, alpha_bar: sample(model, schedule_of(alpha_bar), x_T, times=times, eta=0.0, clip=False),
    lambda g: [
        (noise(s, g), times, random_alpha_bar(g))
        for s, times in zip(SHAPES, ([20, 9, 0], [20, 15, 4, 1, 0], [12, 7, 3, 0]), strict=True)
    ],
    {
        "The walk goes up: start at the first of the times, the largest, and fall to 0.": loop(
            times_of=lambda times: times[::-1]
        ),
        "The walk stops too early: the last step, to t = 0, is missing.": loop(times_of=lambda times: times[:-1]),
        "It visits every timestep: only those in `times` are wanted, however far apart.": loop(
            times_of=lambda times: list(range(times[0], -1, -1))
        ),
        "The network is asked about s; x is still at t: tell it t.": loop(
            asks=lambda m, x, t, s, i, left: ask(m, x, s)
        ),
        "The network is told t - 1. In this course t = 0 is the picture, and the network is told t itself.": loop(
            asks=lambda m, x, t, s, i, left: ask(m, x, t - 1)
        ),
        "The network is told i, the number of the step. Tell it t, the timestep that x is at.": loop(
            asks=lambda m, x, t, s, i, left: ask(m, x, i)
        ),
        "The network is told how many steps are left. Tell it t, the timestep that x is at.": loop(
            asks=lambda m, x, t, s, i, left: ask(m, x, left)
        ),
        NEVER_ASKED: lambda model, x_T, times, alpha_bar: x_T.clone(),
        "The network is asked once and never again: ask it at every step.": _always(
            lambda model, x_T, t, times: ask(model, x_T, times[0])
        ),
        "The network is shown x_T at every step: show it the x that the last step gave.": _always(
            lambda model, x_T, t, times: ask(model, x_T, t)
        ),
        "The network is in train mode while sampling: call model.eval() first, or BatchNorm mixes neighbors.": loop(
            train=True
        ),
        ASKED_AT_0: _one_more,
        ASKED_TOO_OFTEN: loop(asks=_asks_twice),
        ONE_TIME_EACH: loop(asks=lambda m, x, t, s, i, left: m(x, t)),
        FLOAT_TIMES: loop(asks=lambda m, x, t, s, i, left: m(x, torch.full((len(x),), float(t)))),
        GRADIENTS: loop(gradients=True),
        LIST_IN_PLACE: _popping,
        DRAWS: loop(_renoised),
        **_STEPS,
    },
    answer=my_sample,
    library=[sample, trajectory],
    equation=r"x_s = \sqrt{\bar\alpha_s}\,\hat x_0(x_t, t) + \sqrt{1 - \bar\alpha_s}\,\hat\varepsilon(x_t, t)"
    r"\qquad \text{for } (t, s) = (t_K, t_{K-1}), \dots, (t_2, t_1), (t_1, 0)",
    adapt=walk_of,
    praise="The same pictures as from sample(..., eta=0, clip=False), along several lists of times.",
)
