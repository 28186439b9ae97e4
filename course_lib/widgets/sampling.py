"""Explorers of what a network answers: a sampling run, samples for each η, the guess at every timestep."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import ipywidgets
import torch
from torch import Tensor, nn

from ..forward import q_sample
from ..sample import SampleStep, predict
from ..schedule import Schedule, validate_schedule
from ..validate import validate_pictures
from ..viz.rows import as_steps
from .canvas import Panel, PictureCanvas, PicturePanel, Stack, StepPanel, TextPanel
from .controls import columns_for, integer, noise_for, pixels, scale_for, validate_row
from .explorer import Explorer, View

#: If this environment variable is set, a slider that needs a network stores some frames in advance, so that a saved
#: page works without a kernel.
STORE_FRAMES = "COURSE_STORE_FRAMES"


def trajectory_player(steps: Iterable[SampleStep], *, columns: int | None = None) -> Explorer:
    """Scrub and play through a sampling run: x_t on the left, the network's guess x0_hat on the right.

    Args:
        steps: the steps of a whole run, in order. They stay in memory, so use few pictures and at most some hundred
            steps.
        columns: pictures in a row on each side; None for about as many as rows.

    Returns:
        Explorer with the value `step`, 0..len(steps); at the last one you see the samples.
    """
    kept = as_steps(steps)
    first, last, end = kept[0].x_t, kept[-1], len(kept)
    columns = max(1, round(len(first) ** 0.5)) if columns is None else columns_for(first, columns)
    films = {
        "x_t": torch.stack([step.x_t for step in kept] + [last.x_s]).cpu(),
        "x0_hat": torch.stack([step.x0_hat for step in kept] + [last.x0_hat]).cpu(),
    }
    seen = [step.t for step in kept] + [last.s]

    def words(step: int) -> str:
        guess = "the network last saw" if step == end else "the network sees in it"
        return f"left: x_t at t = {seen[step]}\u2003\u2003right: x0_hat, what {guess}"

    def view(step: int) -> View:
        return {"text": words(step), **{name: pixels(film[step], columns) for name, film in films.items()}}

    scale = scale_for(first, columns, 340)
    rows: list[list[Panel]] = [
        [StepPanel(), TextPanel("text", [[words(step) for step in range(end + 1)]])],
        [PicturePanel(name, [[(i, None)]], columns, scale, name) for i, name in enumerate(films)],
    ]
    stacks = [Stack(film, 7) for film in films.values()]
    canvas = PictureCanvas(first.shape, rows, stacks=stacks, table=torch.zeros(end + 1, 0), name="a sampling run")
    slider = integer("step", 0, 0, end)
    pace = max(40, min(400, 4000 // (end + 1)))
    play = ipywidgets.Play(value=0, min=0, max=end, interval=pace, show_repeat=True)
    speed = integer("milliseconds a step", pace, 20, 1000, 20, "300px")
    explorer = Explorer(view, {"step": slider}, canvas, {"step": ("value", "value")}, extra=[play, speed])
    explorer.play, explorer.speed = play, speed
    explorer.links += [
        ipywidgets.jslink((play, "value"), (slider, "value")),
        ipywidgets.jslink((speed, "value"), (play, "interval")),
    ]
    return explorer


def eta_explorer(samples_by_eta: Mapping[float, Tensor], *, columns: int | None = None) -> Explorer:
    """Samples for each η from 0 (DDIM, which adds no noise) to 1 (DDPM), all from the same start.

    Args:
        samples_by_eta: η to pictures, (B, C, H, W), all of one shape.
        columns: pictures in a row; None for up to 8.

    Returns:
        Explorer with the value `eta`.
    """
    if not samples_by_eta:
        raise ValueError("samples_by_eta must hold at least one eta with its samples, got none")
    stored = {float(eta): samples_by_eta[eta] for eta in sorted(samples_by_eta)}
    for eta, x in stored.items():
        validate_pictures(x, f"samples_by_eta[{eta:g}]")
    shapes = {tuple(x.shape) for x in stored.values()}
    if len(shapes) > 1:
        raise ValueError(f"samples_by_eta must hold pictures of one shape, got {sorted(shapes)}")
    film = torch.stack(list(stored.values())).cpu()
    columns = columns_for(film[0], columns)

    def words(eta: float) -> str:
        name = {0.0: "DDIM: no noise is added on the way", 1.0: "DDPM: the noise of the posterior is added"}.get(eta)
        return f"η = {eta:g}\u2003\u2003{name or 'between DDIM and DDPM'}"

    def view(eta: float) -> View:
        return {"text": words(eta), "pictures": pixels(stored[eta], columns)}

    rows: list[list[Panel]] = [
        [TextPanel("text", [[words(eta) for eta in stored]])],
        [PicturePanel("pictures", [[(0, None)]], columns, scale_for(film[0], columns))],
    ]
    canvas = PictureCanvas(
        film.shape[1:], rows, stacks=[Stack(film)], table=torch.zeros(len(film), 0), name="samples from the same noise"
    )
    slider = ipywidgets.SelectionSlider(
        options=[(f"{eta:g}", eta) for eta in stored], value=next(iter(stored)), description="η",
        continuous_update=True, layout={"width": "360px"},
    )  # fmt: skip
    return Explorer(view, {"eta": slider}, canvas, {"eta": ("index", "value")})


def x0_hat_explorer(
    model: nn.Module,
    schedule: Schedule,
    x0: Tensor,
    target: str = "eps",
    *,
    t: int | None = None,
    seed: int = 0,
    y: Tensor | None = None,
) -> Explorer:
    """What the network sees at each timestep: the picture, what is left of it, and the network's guess.

    x_t follows your hand at once. The guess comes as fast as the network answers, always for the newest timestep. If
    the environment variable `COURSE_STORE_FRAMES` is set, about 25 timesteps are computed in advance, and the slider
    needs no network later.

    Args:
        model: a trained network, on the device of x0.
        schedule: what it was trained with.
        x0: up to 8 clean pictures, (B, C, H, W), floats in [-1, 1].
        target: what the model predicts, one of `course_lib.forward.TARGETS`.
        t: where the slider begins, in 1..T; None for half of T.
        seed: the seed of the noise.
        y: class labels, int64 (B,), or None.

    Returns:
        Explorer with the value `t`.
    """
    validate_row(x0)
    validate_schedule(schedule)
    start = max(1, schedule.T // 2) if t is None else t
    schedule.validate_t(start, low=1)
    asked = _Question(model, schedule, x0, noise_for(x0, seed), target, y)
    stored = bool(os.environ.get(STORE_FRAMES))
    every = max(1, schedule.T // 25) if stored else 1
    times = range(every, schedule.T + 1, every)
    begin = min(times, key=lambda time: abs(time - start))
    frames = [asked.guess(time) for time in times] if stored else []
    canvas = _guess_canvas(asked, times, begin, frames)
    slider = integer("timestep t", begin, times[0], times[-1], every, "600px")
    explorer = Explorer(asked.view, {"t": slider}, canvas, {"t": ("value", "value")})
    if not stored:

        def answer(t: int) -> None:
            x0_hat, words = asked.guess(t)
            canvas.show_live(t, [x0_hat], [words])

        explorer.follow("t", answer)
    return explorer


@dataclass(frozen=True, eq=False)
class _Question:
    """What `x0_hat_explorer` asks the network at each timestep, about the same pictures with the same noise."""

    model: nn.Module
    schedule: Schedule
    x0: Tensor
    eps: Tensor
    target: str
    y: Tensor | None

    def x_t(self, t: int) -> Tensor:
        """The pictures mixed with noise."""
        return q_sample(self.schedule, self.x0, t, self.eps)[0]

    def guess(self, t: int) -> tuple[Tensor, str]:
        """The network's guess at the pictures, and how far off it is."""
        x0_hat, eps_hat = predict(self.model, self.schedule, self.x_t(t), t, target=self.target, y=self.y)
        off, noise_off = (float((a - b).square().mean()) for a, b in ((x0_hat, self.x0), (eps_hat, self.eps)))
        return x0_hat, f"mean squared error of x0_hat {off:.4f}\u2003\u2003of eps_hat {noise_off:.4f}"

    def view(self, t: int) -> View:
        """What the explorer shows."""
        x0_hat, words = self.guess(t)
        shown = {"x_0": self.x0, "x_t": self.x_t(t), "x0_hat": x0_hat}
        return {"text": words, **{name: pixels(x, len(x)) for name, x in shown.items()}}


def _guess_canvas(asked: _Question, times: range, begin: int, frames: Sequence[tuple[Tensor, str]]) -> PictureCanvas:
    """Picture, mixture and guess, one below the other.

    Args:
        asked: what the network is asked.
        times: the positions of the slider.
        begin: the position at the beginning.
        frames: guess and words for each position; none if Python sends them later.
    """
    x0, signal, noise = asked.x0, asked.schedule.signal, asked.schedule.noise
    texts = [[words for _, words in frames]] if frames else []
    terms: dict[str, list[list[tuple[int, int | None]]]] = {
        "x_0": [[(0, None)]],
        "x_t": [[(0, 0), (1, 1)]],
        "x0_hat": [[(2, None)]] if frames else [],
    }
    columns, scale = len(x0), scale_for(x0, len(x0), 540)
    rows: list[list[Panel]] = [[TextPanel("text", texts)]]
    rows += [[PicturePanel(name, each, columns, scale, name, 76)] for name, each in terms.items()]
    stacks = [Stack(x0), Stack(asked.eps, 16)]
    if frames:
        stacks.append(Stack(torch.stack([x0_hat for x0_hat, _ in frames])))
    table = torch.stack([signal[list(times)], noise[list(times)]], 1)
    return PictureCanvas(
        x0.shape, rows, stacks=stacks, table=table, low=times[0], step=times.step, value=begin,
        name="pictures, what is left of them, and the network's guess",
    )  # fmt: skip
