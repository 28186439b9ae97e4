"""Explorers of noise: mix it in, drag the timestep, see how much of the picture is left in x_T."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
from torch import Tensor

from .. import viz
from ..forward import LEFT_LIMITS, NOISES, corrupt, left_in_words, q_sample
from ..schedule import SCHEDULES, Schedule, make_schedule, zero_terminal_snr
from ..validate import validate_choice, validate_flag, validate_number, validate_pictures
from ..viz.curves import as_schedules
from ..viz.gauge import GAUGE_TIP, gauge_place
from .canvas import DrawingPanel, Marker, Panel, PictureCanvas, PicturePanel, Stack, TextPanel
from .controls import WIDE, choice, columns_for, decimal, integer, noise_for, pixels, scale_for, validate_row
from .explorer import Explorer, View

_SPAN = 3.0  # without clipping, the gray scale reaches from -3 to 3
_AMOUNTS = [i / 100 for i in range(101)]
_ZERO = "linear, zero terminal SNR"
_NAMES = (*SCHEDULES, _ZERO)
_LENGTHS = range(10, 2001, 10)


def corruption_explorer(
    x: Tensor,
    noise: str = "gaussian",
    *,
    amount: float = 0.3,
    clip: bool = True,
    seed: int = 0,
    columns: int | None = None,
) -> Explorer:
    """Drag pictures into noise: (1 − amount) · x + amount · noise, where the noise stays the same.

    Args:
        x: pictures, (B, C, H, W), floats in [-1, 1].
        noise: "gaussian" or "uniform" to begin with.
        amount: where the slider begins, in [0, 1].
        clip: clip values to [-1, 1], as a picture file would; otherwise the gray scale reaches from -3 to 3.
        seed: the seed of the noise.
        columns: pictures in a row; None for up to 8.

    Returns:
        Explorer with the values `amount`, `noise` and `clip`.
    """
    validate_pictures(x, "x", in_range=True)
    validate_number("amount", amount, 0, 1)
    validate_choice("noise", noise, NOISES)
    validate_flag("clip", clip)
    validate_number("seed", seed, 0, integer=True)
    columns = columns_for(x, columns)
    x = x.detach().cpu()
    noises = {kind: corrupt(x, 1.0, kind, generator=torch.Generator().manual_seed(seed))[1] for kind in NOISES}

    def view(amount: float, noise: str, clip: bool) -> View:
        mixed, _ = corrupt(x, amount, noises[noise])
        shown = pixels(mixed, columns, 1.0 if clip else _SPAN)
        return {"text": _mixture_words(amount, float(mixed.var())), "pictures": shown}

    canvas = _mixture_canvas(x, noises, columns)
    canvas.value, canvas.layer, canvas.clip = amount, NOISES.index(noise), clip
    controls = {
        "amount": decimal("amount of noise", amount, 0, 1, 0.01),
        "noise": choice("", NOISES, noise),
        "clip": ipywidgets.Checkbox(clip, description="clip to [−1, 1]", indent=False, layout={"width": "140px"}),
    }
    joined = {"amount": ("value", "value"), "noise": ("index", "layer"), "clip": ("value", "clip")}
    return Explorer(view, controls, canvas, joined)


def _mixture_canvas(x: Tensor, noises: Mapping[str, Tensor], columns: int) -> PictureCanvas:
    """The pictures mixed with noise, with words above them; each layer has another kind of noise."""
    terms = [[(0, 0), (1 + i, 1)] for i in range(len(noises))]
    texts = [_mixture_texts(x, noise) for noise in noises.values()]
    return PictureCanvas(
        x.shape,
        [[TextPanel("text", texts)], [PicturePanel("pictures", terms, columns, scale_for(x, columns))]],
        stacks=[Stack(x), *(Stack(noise, 16) for noise in noises.values())],
        table=torch.tensor([[1 - u, u] for u in _AMOUNTS]),
        step=0.01,
        span=_SPAN,
        name=f"{len(x)} pictures mixed with noise",
    )


def _mixture_words(amount: float, variance: float) -> str:
    return f"{1 - amount:.2f} · picture + {amount:.2f} · noise\u2003\u2003variance of the mixture {variance:.3f}"


def _mixture_texts(x: Tensor, noise: Tensor) -> list[str]:
    """The words for every amount; the variance of a mixture follows from the covariance of its two parts."""
    ((own, both), (_, other)) = torch.cov(torch.stack([x.flatten(), noise.flatten()]).double()).tolist()
    return [_mixture_words(u, (1 - u) ** 2 * own + 2 * u * (1 - u) * both + u**2 * other) for u in _AMOUNTS]


def timestep_explorer(
    x0: Tensor, schedules: Schedule | Sequence[Schedule], *, t: int | None = None, seed: int = 0
) -> Explorer:
    """Drag the timestep: x_t = a_t x_0 + b_t eps for one schedule or several, where the noise stays the same.

    Args:
        x0: up to 8 pictures, (B, C, H, W), floats in [-1, 1].
        schedules: one, or several with the same T.
        t: where the slider begins; None for a quarter of T.
        seed: the seed of the noise.

    Returns:
        Explorer with the value `t`.
    """
    named = as_schedules(schedules)
    if len({schedule.T for schedule in named}) > 1:
        raise ValueError(f"schedules must have the same T to share a slider, got {[s.T for s in named]}")
    validate_row(x0)
    T = named[0].T
    t = T // 4 if t is None else t
    named[0].validate_t(t)
    x0 = x0.detach().cpu()
    eps = noise_for(x0, seed)

    def view(t: int) -> View:
        panels: dict[str, np.ndarray | str] = {}
        for i, schedule in enumerate(named):
            panels[f"numbers{i}"] = _schedule_words(schedule, t)
            panels[f"pictures{i}"] = pixels(q_sample(schedule, x0, t, eps)[0], len(x0))
        return panels

    weights = [column for schedule in named for column in (schedule.signal, schedule.noise)]
    curves, places = _curves(named, len(weights))
    scale = scale_for(x0, len(x0), 480)
    rows: list[list[Panel]] = []
    for i, schedule in enumerate(named):
        texts = [_schedule_words(schedule, t) for t in range(T + 1)]
        numbers = TextPanel(f"numbers{i}", [texts], 2, 170, schedule.name)
        rows.append([numbers, PicturePanel(f"pictures{i}", [[(0, 2 * i), (1, 2 * i + 1)]], len(x0), scale)])
    table = torch.cat([torch.stack(weights, 1), places], 1)
    stacks = [Stack(x0), Stack(eps, 16)]
    canvas = PictureCanvas(x0.shape, [*rows, [curves]], stacks=stacks, table=table, value=t, name="noisy pictures x_t")
    return Explorer(view, {"t": integer("timestep t", t, 0, T, width="600px")}, canvas, {"t": ("value", "value")})


def _schedule_words(schedule: Schedule, t: int) -> str:
    a, b, snr = (float(table[t]) for table in (schedule.signal, schedule.noise, schedule.snr))
    ratio = "∞" if snr == float("inf") else f"{snr:.3g}" if 1e-3 <= snr < 1e4 or snr == 0 else f"{snr:.1e}"
    return f"a = {a:.4f}, b = {b:.4f}\nSNR = {ratio}"


def _curves(named: Sequence[Schedule], first: int) -> tuple[DrawingPanel, Tensor]:
    """The curves of `viz.plot_schedules` with markers, and the columns of the table that move the markers.

    Args:
        named: schedules of the same T.
        first: the number that the first of these columns has in the table.

    Returns:
        The panel, and floats (T+1, K), NaN where a curve leaves its axes.
    """
    figure = viz.plot_schedules(named)
    svg = viz.figure_svg(figure)
    t = np.arange(named[0].T + 1)
    height, to_points = figure.get_size_inches()[1] * 72, 72 / figure.get_dpi()
    markers, columns = [], []

    def add(values: Any) -> int:
        columns.append(torch.as_tensor(values, dtype=torch.float64))
        return first + len(columns) - 1

    for axes in figure.axes:
        (bottom, top), to_pixels = axes.get_ylim(), axes.transData.transform
        place = to_pixels(np.stack([t, np.full(len(t), bottom)], 1)) * to_points
        ceiling = to_pixels((0, top))[1] * to_points
        x = add(place[:, 0])
        markers.append(Marker("line", [x], (height - ceiling, height - place[0, 1]), viz.COLORS["red"]))
        for line in axes.get_lines():
            y = np.full(len(t), np.nan)
            y[np.asarray(line.get_xdata(), dtype=int)] = np.asarray(line.get_ydata(), dtype=float)
            y[(y < bottom) | (y > top)] = np.nan
            level = height - to_pixels(np.stack([t, y], 1))[:, 1] * to_points
            markers.append(Marker("dot", [x], [add(level)], str(line.get_color())))
    alt = "curves of a, b and the signal-to-noise ratio over the timestep, with a marker at t"
    return DrawingPanel("curves", svg, markers, alt, 840), torch.stack(columns, 1)


def noise_gauge(x0: Tensor | None = None, *, schedule: str = "linear", T: int = 1000, seed: int = 0) -> Explorer:
    """How much of the picture is left in x_T: a gauge of a_T = √ᾱ_T, and a verdict in words.

    Try linear betas with T = 150: a_T is 0.47, so x_T still holds the picture.

    Args:
        x0: pictures whose x_T is shown, the first 8 of them, or None.
        schedule: name to begin with, one of `course_lib.schedule.SCHEDULES` or "linear, zero terminal SNR".
        T: number of steps to begin with, a multiple of 10 in 10..2000.
        seed: the seed of the noise.

    Returns:
        Explorer with the values `schedule` and `T`.
    """
    validate_choice("schedule", schedule, _NAMES)
    validate_number("T", T, _LENGTHS[0], _LENGTHS[-1], integer=True)
    if T not in _LENGTHS:
        raise ValueError(f"T must be a multiple of 10, got {T}")
    alt = "a scale of a_T from 0 to 1 with three zones: noise, careful, still holds the picture"
    table, needle, texts = _gauge_tables()
    rows: list[list[Panel]] = [
        [DrawingPanel("gauge", viz.figure_svg(viz.plot_gauge(None)), [needle], alt, WIDE)],
        [TextPanel("verdict", texts, 3, WIDE)],
    ]
    stacks: list[Stack] = []
    shape: Sequence[int] = (1, 1, 1, 1)
    if x0 is not None:
        validate_pictures(x0, "x0", in_range=True)
        x0 = x0[:8].detach().cpu()
        eps = noise_for(x0, seed)
        terms = [[(0, 3 * i), (1, 3 * i + 1)] for i in range(len(_NAMES))]
        rows.append([PicturePanel("x_T", terms, len(x0), scale_for(x0, len(x0)), "x_T")])
        stacks, shape = [Stack(x0), Stack(eps, 16)], x0.shape

    def view(schedule: str, T: int) -> View:
        made = _gauge_schedule(schedule, T)
        panels: dict[str, np.ndarray | str] = {"verdict": _gauge_words(made)}
        if x0 is not None:
            panels["x_T"] = pixels(q_sample(made, x0, T, eps)[0], len(x0))
        return panels

    canvas = PictureCanvas(
        shape, rows, stacks=stacks, table=table, low=_LENGTHS[0], step=_LENGTHS.step, value=T,
        layer=_NAMES.index(schedule), name="what is left of the picture in x_T",
    )  # fmt: skip
    controls = {
        "schedule": ipywidgets.Dropdown(options=_NAMES, value=schedule, description="schedule"),
        "T": integer("steps T", T, _LENGTHS[0], _LENGTHS[-1], _LENGTHS.step),
    }
    return Explorer(view, controls, canvas, {"schedule": ("index", "layer"), "T": ("value", "value")})


def _gauge_schedule(name: str, T: int) -> Schedule:
    return zero_terminal_snr(make_schedule("linear", T)) if name == _ZERO else make_schedule(name, T)


def _gauge_words(schedule: Schedule) -> str:
    mark = "⚠ " if schedule.signal[-1] >= LEFT_LIMITS[0] else ""
    return f"a_T = {float(schedule.signal[-1]):.4f}\n{mark}{left_in_words(schedule)}"


def _gauge_tables() -> tuple[Tensor, Marker, list[list[str]]]:
    """A table with a_T, b_T and where the needle stands, for each schedule; the needle itself; and the verdicts."""
    columns, texts = [], []
    for name in _NAMES:
        made = [_gauge_schedule(name, length) for length in _LENGTHS]
        left = torch.stack([each.signal[-1] for each in made])
        columns += [left, torch.stack([each.noise[-1] for each in made]), gauge_place(left)]
        texts.append([_gauge_words(each) for each in made])
    places = [3 * i + 2 for i in range(len(_NAMES))]
    return torch.stack(columns, 1), Marker("arrow", places, GAUGE_TIP, "currentColor"), texts
