"""Sliders and pictures: ipywidgets' own controls, joined in the browser to a canvas that holds all that they show.

Each function returns an `Explorer`: controls above, panels of fixed size below. Every value can be read and set from
Python (`explorer.amount = 0.5`), and `explorer.view(amount=0.5)` computes with the library's own functions what the
page must show for it: that is what the browser tests compare the page with.
"""

from __future__ import annotations

import base64
import os
import time
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import ipywidgets
import numpy as np
import torch
import traitlets
from torch import Tensor, nn

from .. import viz
from ..forward import LEFT_LIMITS, NOISES, corrupt, left_in_words, q_sample
from ..objective import smoothed
from ..sample import SampleStep, predict
from ..schedule import SCHEDULES, Schedule, make_schedule, zero_terminal_snr
from ..shapes import LAYER_KINDS
from ..train import Update
from ..validate import validate_choice, validate_number, validate_pictures
from ..viz.gauge import GAUGE_TIP, gauge_place
from .canvas import DrawingPanel, Marker, Panel, PictureCanvas, PicturePanel, Stack, StepPanel, TextPanel
from .diagrams import LAYER_LIMITS, UNET_LIMITS, LayerDiagram, UnetDiagram, layer_view, unet_view

#: What a view returns: a panel's name to the pixels, uint8 (H, W) or (H, W, 3), or the words that it shows.
View = Mapping[str, "np.ndarray | str"]
_PIXELS = "<style>.course-pixels{image-rendering:pixelated}</style>"
_WIDE = 640
_SPAN = 3.0  # without clipping, the gray scale reaches from -3 to 3
#: Where this is set, sliders that need a network store some frames instead, so that a saved page needs no kernel.
STORE_FRAMES = "COURSE_STORE_FRAMES"


class Explorer(ipywidgets.VBox):  # type: ignore[misc]
    """Controls, and a canvas that follows them in the browser.

    Args:
        view: called with the value of every control by name; returns what each panel shows, always the same panels
            in the same sizes.
        controls: name to an ipywidgets control with a `value`.
        canvas: what shows it.
        joined: name of a control to its trait and the canvas's trait that follow each other.
        extra: widgets without a value of their own, such as a Play button, shown after the controls.
    """

    #: All explorers that are in use, for tests of a running notebook.
    alive: ClassVar[weakref.WeakSet[Explorer]] = weakref.WeakSet()

    def __init__(
        self,
        view: Callable[..., View],
        controls: Mapping[str, Any],
        canvas: Any,
        joined: Mapping[str, tuple[str, str]],
        *,
        extra: Sequence[Any] = (),
    ) -> None:
        super().__init__()
        self.view, self.canvas = view, canvas
        self.controls = dict(controls)
        self.links = [
            ipywidgets.jslink((self.controls[name], trait), (canvas, target))
            for name, (trait, target) in joined.items()
        ]
        self.errors = ipywidgets.Output()
        bar = ipywidgets.HBox([*self.controls.values(), *extra], layout={"flex_flow": "row wrap", "max_width": "760px"})
        self.children = (bar, canvas, self.errors)
        self.add_class("course-explorer")
        self.alive.add(self)

    def __getattr__(self, name: str) -> Any:
        control = self.__dict__.get("controls", {}).get(name)
        if control is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return control.value

    def __setattr__(self, name: str, value: Any) -> None:
        control = self.__dict__.get("controls", {}).get(name)
        if control is None:
            super().__setattr__(name, value)
        else:
            control.value = value

    def values(self) -> dict[str, Any]:
        """The value of every control, by name."""
        return {name: control.value for name, control in self.controls.items()}

    def set(self, **values: Any) -> None:
        """Set several controls.

        Raises:
            ValueError: a name that is no control; the known ones are listed.
        """
        for name, value in values.items():
            validate_choice("control", name, self.controls)
            self.controls[name].value = value

    def positions(self, name: str, limit: int = 25) -> list[Any]:
        """The values that a control can take, both ends among them; at most `limit`, evenly spread."""
        validate_choice("control", name, self.controls)
        control = self.controls[name]
        if hasattr(control, "options"):
            found = [option[1] if isinstance(option, tuple) else option for option in control.options]
        elif isinstance(control.value, bool):
            found = [False, True]
        else:
            count = round((control.max - control.min) / control.step) + 1
            found = [type(control.min)(control.min + i * control.step) for i in range(count)]
        if len(found) <= limit:
            return found
        return [found[round(i * (len(found) - 1) / (limit - 1))] for i in range(limit)]

    def check(self, limit: int = 25) -> int:
        """Compute the view at every position of every control in turn, the others as they are.

        Args:
            limit: at most so many positions of each control.

        Returns:
            How many views were computed.

        Raises:
            Whatever a view raises; ValueError where a panel is missing or a picture changes its size.
        """
        first = self.view(**self.values())
        count = 0
        for name in self.controls:
            for value in self.positions(name, limit):
                content = self.view(**{**self.values(), name: value})
                if {panel: np.shape(new) for panel, new in content.items()} != {
                    panel: np.shape(old) for panel, old in first.items()
                }:
                    raise ValueError(f"view must return the same panels in the same sizes, but not at {name} = {value}")
                count += 1
        return count

    def follow(self, name: str, compute: Callable[[Any], None]) -> None:
        """Call `compute` with each new value of a control; what it raises is shown until it works again.

        The browser sends a new value when Python has answered the one before, and then the newest: nothing queues.
        """

        def changed(_: object = None) -> None:
            try:
                compute(self.controls[name].value)
            except Exception as error:
                trace = traceback.format_exception(error)
                self.errors.outputs = (
                    {"output_type": "error", "ename": type(error).__name__, "evalue": str(error), "traceback": trace},
                )
                raise
            if self.errors.outputs:
                self.errors.outputs = ()

        compute(self.controls[name].value)
        self.controls[name].observe(changed, "value")

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The live widget; for pages that cannot run it a still picture and how to get the live one."""
        bundle = dict(super()._repr_mimebundle_(**options) or {})
        bundle["text/plain"] = "A slider. To see it, run this cell again; in the JupyterLab of `make lab` it stays."
        pictures = [panel for panel in self.view(**self.values()).values() if not isinstance(panel, str)]
        if pictures:
            bundle["image/png"] = base64.b64encode(_stacked(pictures)).decode()
        return bundle


def _stacked(pictures: Sequence[np.ndarray]) -> viz.Png:
    """Pictures below each other, twice as large, as one PNG."""
    wide = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        row = np.full((picture.shape[0], wide, 3), 205, dtype=np.uint8)
        row[:, : picture.shape[1]] = picture if picture.ndim == 3 else picture[..., None]
        rows.append(row)
    return viz.encode(torch.from_numpy(np.concatenate(rows)), 2)


class LivePicture(ipywidgets.Image):  # type: ignore[misc]
    """A picture of its own size that may be replaced, with its words as its name for a screen reader.

    Args:
        png: the first one.
        smooth: whether it may be smoothed where the screen has more pixels.
    """

    #: ipywidgets 8.1.9 reads it where there is a tooltip, and an Image has none; None is what it must differ from.
    description = traitlets.Unicode(None, allow_none=True).tag(sync=True)

    def __init__(self, png: viz.Png, smooth: bool = False) -> None:
        width, tall = png.size
        size = {"width": f"{width}px", "height": f"{tall}px", "min_width": f"{width}px", "margin": "2px"}
        if smooth or width > _WIDE:  # beside an open file browser the page may be narrower than this
            size |= {"min_width": "0", "max_width": "100%", "object_fit": "contain"}
        super().__init__(format="png", layout=size, description="")
        if not smooth:
            self.add_class("course-pixels")
        self.show(png)

    def show(self, png: viz.Png) -> None:
        """Put another picture in its place."""
        self.value, self.tooltip = bytes(png), png.alt


def _decimal(label: str, value: float, low: float, high: float, step: float) -> Any:
    return ipywidgets.FloatSlider(
        value, min=low, max=high, step=step, description=label, continuous_update=True, readout_format=".2f",
        style={"description_width": "initial"}, layout={"width": "360px"},
    )  # fmt: skip


def _integer(label: str, value: int, low: int, high: int, step: int = 1, width: str = "420px") -> Any:
    return ipywidgets.IntSlider(
        value, min=low, max=high, step=step, description=label, continuous_update=True,
        style={"description_width": "initial"}, layout={"width": width},
    )  # fmt: skip


def _choice(label: str, options: Iterable[Any], value: Any, width: str = "auto") -> Any:
    return ipywidgets.ToggleButtons(
        options=list(options), value=value, description=label,
        style={"description_width": "initial", "button_width": "auto"}, layout={"width": width},
    )  # fmt: skip


def _scale(x: Tensor, columns: int, wide: int = _WIDE) -> int:
    """The largest enlargement, up to 4, with which a grid of so many columns stays within `wide` pixels."""
    return max(1, min(4, wide // (columns * (x.shape[3] + 1) + 1)))


def _columns(x: Tensor, columns: int | None) -> int:
    if columns is None:
        return min(len(x), 8)
    validate_number("columns", columns, 1, integer=True)
    return columns


def _noise_like(x: Tensor, seed: int) -> Tensor:
    """Gaussian noise that depends on the seed alone, whatever the device."""
    validate_number("seed", seed, 0, integer=True)
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)


def _pixels(x: Tensor, columns: int, span: float = 1.0) -> np.ndarray:
    return viz.grid(x, columns, span=span).numpy()


def corruption_explorer(
    x: Tensor,
    noise: str = "gaussian",
    *,
    amount: float = 0.3,
    clip: bool = True,
    seed: int = 0,
    columns: int | None = None,
) -> Explorer:
    """Drag pictures into noise: (1 − amount) · x + amount · noise, the noise staying the same.

    Args:
        x: pictures, (B, C, H, W), floats in [-1, 1].
        noise: "gaussian" or "uniform" to begin with.
        amount: where the slider begins, in [0, 1].
        clip: cut what leaves [-1, 1], as a picture file would; else the gray scale reaches from -3 to 3.
        seed: of the noise.
        columns: pictures in a row; up to 8 where None.

    Returns:
        Explorer with the values `amount`, `noise` and `clip`.

    Raises:
        TypeError, ValueError: as `course_lib.forward.corrupt`; more pictures than a slider can hold.
    """
    validate_pictures(x, "x", in_range=True)
    validate_number("amount", amount, 0, 1)
    validate_choice("noise", noise, NOISES)
    columns = _columns(x, columns)
    x = x.detach().cpu()
    drawn = {kind: corrupt(x, 1.0, kind, generator=torch.Generator().manual_seed(seed))[1] for kind in NOISES}
    amounts = [i / 100 for i in range(101)]

    def words(amount: float, variance: float) -> str:
        return f"{1 - amount:.2f} · picture + {amount:.2f} · noise\u2003\u2003variance of the mixture {variance:.3f}"

    def view(amount: float, noise: str, clip: bool) -> View:
        mixed, _ = corrupt(x, amount, drawn[noise])
        pixels = _pixels(mixed, columns, 1.0 if clip else _SPAN)
        return {"text": words(amount, float(mixed.var())), "pictures": pixels}

    texts = []
    for kind in NOISES:
        ((own, both), (_, other)) = torch.cov(torch.stack([x.flatten(), drawn[kind].flatten()]).double()).tolist()
        mixed = [(1 - u) ** 2 * own + 2 * u * (1 - u) * both + u**2 * other for u in amounts]
        texts.append([words(u, variance) for u, variance in zip(amounts, mixed, strict=True)])
    terms = [[(0, 0), (1 + i, 1)] for i in range(len(NOISES))]
    canvas = PictureCanvas(
        x.shape,
        [[TextPanel("text", texts)], [PicturePanel("pictures", terms, columns, _scale(x, columns))]],
        stacks=[Stack(x), *(Stack(drawn[kind], 16) for kind in NOISES)],
        table=torch.tensor([[1 - u, u] for u in amounts]),
        step=0.01,
        value=amount,
        layer=NOISES.index(noise),
        clip=clip,
        span=_SPAN,
        name=f"{len(x)} pictures mixed with noise",
    )
    controls = {
        "amount": _decimal("amount of noise", amount, 0, 1, 0.01),
        "noise": _choice("", NOISES, noise),
        "clip": ipywidgets.Checkbox(clip, description="clip to [−1, 1]", indent=False, layout={"width": "140px"}),
    }
    joined = {"amount": ("value", "value"), "noise": ("index", "layer"), "clip": ("value", "clip")}
    return Explorer(view, controls, canvas, joined)


def timestep_explorer(
    x0: Tensor, schedules: Schedule | Sequence[Schedule], *, t: int | None = None, seed: int = 0
) -> Explorer:
    """Drag the timestep: x_t = a_t x_0 + b_t eps, the noise staying the same, for one schedule or several.

    Args:
        x0: up to 8 pictures, (B, C, H, W), floats in [-1, 1].
        schedules: one, or several with the same T.
        t: where the slider begins; a quarter of T where None.
        seed: of the noise.

    Returns:
        Explorer with the value `t`.

    Raises:
        TypeError, ValueError: bad pictures, more than 8 of them, no schedule, schedules of different length, t out
            of range.
    """
    named = [schedules] if isinstance(schedules, Schedule) else list(schedules)
    if not named or not all(isinstance(schedule, Schedule) for schedule in named):
        raise TypeError("schedules must be a Schedule or a list of them")
    if len({schedule.T for schedule in named}) > 1:
        raise ValueError(f"schedules must have the same T to share a slider, got {[s.T for s in named]}")
    validate_pictures(x0, "x0", in_range=True)
    if len(x0) > 8:
        raise ValueError(f"x0 must hold at most 8 pictures, to fit beside the numbers, got {len(x0)}; use x0[:8]")
    T = named[0].T
    t = T // 4 if t is None else t
    named[0].validate_t(t)
    x0 = x0.detach().cpu()
    eps = _noise_like(x0, seed)

    def words(schedule: Schedule, t: int) -> str:
        a, b, snr = (float(table[t]) for table in (schedule.signal, schedule.noise, schedule.snr))
        return f"a = {a:.4f}, b = {b:.4f}\nSNR = {_number(snr)}"

    def view(t: int) -> View:
        panels: dict[str, np.ndarray | str] = {}
        for i, schedule in enumerate(named):
            panels[f"numbers{i}"] = words(schedule, t)
            panels[f"pictures{i}"] = _pixels(q_sample(schedule, x0, t, eps)[0], len(x0))
        return panels

    weights = [column for schedule in named for column in (schedule.signal, schedule.noise)]
    curves, places = _curves(named, len(weights))
    table = torch.cat([torch.stack(weights, 1), places], 1)
    scale = _scale(x0, len(x0), 480)
    rows: list[list[Panel]] = [
        [
            TextPanel(f"numbers{i}", [[words(schedule, t) for t in range(T + 1)]], 2, 170, schedule.name),
            PicturePanel(f"pictures{i}", [[(0, 2 * i), (1, 2 * i + 1)]], len(x0), scale),
        ]
        for i, schedule in enumerate(named)
    ]
    rows.append([curves])
    canvas = PictureCanvas(
        x0.shape, rows, stacks=[Stack(x0), Stack(eps, 16)], table=table, value=t, name="noisy pictures x_t"
    )
    return Explorer(view, {"t": _integer("timestep t", t, 0, T, width="600px")}, canvas, {"t": ("value", "value")})


def _curves(named: Sequence[Schedule], first: int) -> tuple[DrawingPanel, Tensor]:
    """The curves of `viz.plot_schedules` with markers, and the columns of the table that move them.

    Args:
        named: schedules of the same T.
        first: number of the first of these columns.

    Returns:
        The panel, and floats (T+1, K), not a number where a curve leaves its axes.
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


def _number(value: float) -> str:
    """A ratio between 0 and infinity in a few characters."""
    if value == float("inf"):
        return "∞"
    return f"{value:.3g}" if 1e-3 <= value < 1e4 or value == 0 else f"{value:.1e}"


_ZERO = "linear, zero terminal SNR"


def noise_gauge(x0: Tensor | None = None, *, schedule: str = "linear", T: int = 1000, seed: int = 0) -> Explorer:
    """What is left of the picture in x_T: a gauge of a_T = √ᾱ_T and a verdict in words.

    Linear betas with T = 150 leave 0.47: x_T still holds the picture.

    Args:
        x0: up to 8 pictures whose x_T is shown, or None.
        schedule: name to begin with, one of `course_lib.schedule.SCHEDULES` or "linear, zero terminal SNR".
        T: number of steps to begin with, a multiple of 10 in 10..2000.
        seed: of the noise.

    Returns:
        Explorer with the values `schedule` and `T`.

    Raises:
        TypeError, ValueError: an unknown name, T out of range, bad pictures.
    """
    names = (*SCHEDULES, _ZERO)
    validate_choice("schedule", schedule, names)
    validate_number("T", T, 10, 2000, integer=True)
    lengths = range(10, 2001, 10)
    if T not in lengths:
        raise ValueError(f"T must be a multiple of 10, got {T}")
    if x0 is not None:
        validate_pictures(x0, "x0", in_range=True)
        x0 = x0[:8].detach().cpu()
        eps = _noise_like(x0, seed)

    def chosen(schedule: str, T: int) -> Schedule:
        return zero_terminal_snr(make_schedule("linear", T)) if schedule == _ZERO else make_schedule(schedule, T)

    def words(made: Schedule) -> str:
        mark = "⚠ " if made.signal[-1] >= LEFT_LIMITS[0] else ""
        return f"a_T = {float(made.signal[-1]):.4f}\n{mark}{left_in_words(made)}"

    def view(schedule: str, T: int) -> View:
        made = chosen(schedule, T)
        panels: dict[str, np.ndarray | str] = {"verdict": words(made)}
        if x0 is not None:
            panels["x_T"] = _pixels(q_sample(made, x0, T, eps)[0], len(x0))
        return panels

    texts, columns = [], []
    for name in names:
        made = [chosen(name, length) for length in lengths]
        left = torch.stack([each.signal[-1] for each in made])
        columns += [left, torch.stack([each.noise[-1] for each in made]), gauge_place(left)]
        texts.append([words(each) for each in made])
    places = [3 * i + 2 for i in range(len(names))]
    needle = Marker("arrow", places, GAUGE_TIP, "currentColor")
    alt = "a scale of a_T from 0 to 1 with three zones: noise, careful, still holds the picture"
    rows: list[list[Panel]] = [
        [DrawingPanel("gauge", viz.figure_svg(viz.plot_gauge(None)), [needle], alt, _WIDE)],
        [TextPanel("verdict", texts, 3, _WIDE)],
    ]
    stacks: list[Stack] = []
    shape: tuple[int, ...] = (1, 1, 1, 1)
    if x0 is not None:
        terms = [[(0, 3 * i), (1, 3 * i + 1)] for i in range(len(names))]
        rows.append([PicturePanel("x_T", terms, len(x0), _scale(x0, len(x0)), "x_T")])
        stacks, shape = [Stack(x0), Stack(eps, 16)], tuple(x0.shape)
    canvas = PictureCanvas(
        shape, rows, stacks=stacks, table=torch.stack(columns, 1), low=10, step=10, value=T,
        layer=names.index(schedule), name="what is left of the picture in x_T",
    )  # fmt: skip
    choose = ipywidgets.Dropdown(options=names, value=schedule, description="schedule")
    joined = {"schedule": ("index", "layer"), "T": ("value", "value")}
    return Explorer(view, {"schedule": choose, "T": _integer("steps T", T, 10, 2000, 10)}, canvas, joined)


def shape_explorer(
    kind: str = "conv",
    *,
    size: int = 7,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
) -> Explorer:
    """What size comes out of a layer: the formula with your numbers, and where the kernel lands.

    Point at a pixel of the drawing, or go there with the arrow keys, to see what it looks at.

    Args:
        kind: "conv", "pool" or "transposed conv".
        size: input height and width, 1..32.
        kernel: 1..7.
        stride: 1..4.
        padding: 0..4.
        output_padding: 0..3, for transposed convolutions.
        dilation: 1..3.

    Returns:
        Explorer with these values. A combination that a layer refuses shows the reason instead of a picture.

    Raises:
        TypeError, ValueError: an unknown kind, or a number out of range.
    """
    numbers = dict(zip(LAYER_LIMITS, (size, kernel, stride, padding, output_padding, dilation), strict=True))
    diagram = LayerDiagram(kind, **numbers)
    controls = {"kind": _choice("layer", LAYER_KINDS, kind, width="640px")}
    for name, (low, high) in LAYER_LIMITS.items():
        controls[name] = _integer(name.replace("_", " "), numbers[name], low, high, width="300px")
    joined = {"kind": ("index", "kind_index"), **{name: ("value", name) for name in LAYER_LIMITS}}
    return Explorer(layer_view, controls, diagram, joined)


def unet_explorer(size: int = 28, halvings: int = 4) -> Explorer:
    """A size on its way through a U-Net: halved, doubled, and the places where a skip does not fit.

    Args:
        size: height and width of the input, 1..128.
        halvings: number of poolings, 1..5.

    Returns:
        Explorer with the values `size` and `halvings`.

    Raises:
        TypeError, ValueError: a number out of range.
    """
    diagram = UnetDiagram(size, halvings)
    numbers = {"size": size, "halvings": halvings}
    controls = {name: _integer(name, numbers[name], *limits) for name, limits in UNET_LIMITS.items()}
    return Explorer(unet_view, controls, diagram, {name: ("value", name) for name in UNET_LIMITS})


def trajectory_player(steps: Iterable[SampleStep], *, columns: int | None = None) -> Explorer:
    """Scrub and play through a sampling run: x_t on the left, the network's guess x0_hat on the right.

    Args:
        steps: of a whole run, in order; they are kept in memory, so take a few pictures and up to some hundred steps.
        columns: pictures in a row on each side; about as many as rows where None.

    Returns:
        Explorer with the value `step`, 0..len(steps); the last one shows the samples.

    Raises:
        ValueError: no steps, or more than a slider can hold.
    """
    kept = list(steps)
    if not kept:
        raise ValueError("steps must hold at least one step; make them with course_lib.sample.trajectory(...)")
    first, last = kept[0].x_t, kept[-1]
    columns = max(1, round(len(first) ** 0.5)) if columns is None else _columns(first, columns)
    scale = _scale(first, columns, 340)
    noisy = torch.stack([step.x_t for step in kept] + [last.x_s]).cpu()
    guesses = torch.stack([step.x0_hat for step in kept] + [last.x0_hat]).cpu()
    seen, end = [step.t for step in kept] + [last.s], len(kept)

    def words(step: int) -> str:
        guess = "the network last saw" if step == end else "the network sees in it"
        return f"left: x_t at t = {seen[step]}\u2003\u2003right: x0_hat, what {guess}"

    def view(step: int) -> View:
        return {
            "text": words(step),
            "x_t": _pixels(noisy[step], columns),
            "x0_hat": _pixels(guesses[step], columns),
        }

    rows: list[list[Panel]] = [
        [StepPanel(), TextPanel("text", [[words(step) for step in range(len(seen))]])],
        [
            PicturePanel("x_t", [[(0, None)]], columns, scale, "x_t"),
            PicturePanel("x0_hat", [[(1, None)]], columns, scale, "x0_hat"),
        ],
    ]
    canvas = PictureCanvas(
        first.shape, rows, stacks=[Stack(noisy, 7), Stack(guesses, 7)], table=torch.zeros(len(seen), 0),
        name="a sampling run",
    )  # fmt: skip
    slider = _integer("step", 0, 0, len(kept))
    pace = max(40, min(400, 4000 // len(seen)))
    play = ipywidgets.Play(value=0, min=0, max=len(kept), interval=pace, show_repeat=True)
    speed = _integer("milliseconds a step", pace, 20, 1000, 20, "300px")
    explorer = Explorer(view, {"step": slider}, canvas, {"step": ("value", "value")}, extra=[play, speed])
    explorer.play, explorer.speed = play, speed
    explorer.links += [
        ipywidgets.jslink((play, "value"), (slider, "value")),
        ipywidgets.jslink((speed, "value"), (play, "interval")),
    ]
    return explorer


def eta_explorer(samples_by_eta: Mapping[float, Tensor], *, columns: int | None = None) -> Explorer:
    """Samples for each η from 0 (DDIM, nothing drawn) to 1 (DDPM), from the same start.

    Args:
        samples_by_eta: η to pictures, (B, C, H, W), all of one shape.
        columns: pictures in a row; up to 8 where None.

    Returns:
        Explorer with the value `eta`.

    Raises:
        TypeError, ValueError: nothing given, bad pictures, or shapes that differ.
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
    columns = _columns(film[0], columns)

    def words(eta: float) -> str:
        name = {0.0: "DDIM: no noise is added on the way", 1.0: "DDPM: the noise of the posterior is added"}.get(eta)
        return f"η = {eta:g}\u2003\u2003{name or 'between DDIM and DDPM'}"

    def view(eta: float) -> View:
        return {"text": words(eta), "pictures": _pixels(stored[eta], columns)}

    canvas = PictureCanvas(
        film.shape[1:],
        [
            [TextPanel("text", [[words(eta) for eta in stored]])],
            [PicturePanel("pictures", [[(0, None)]], columns, _scale(film[0], columns))],
        ],
        stacks=[Stack(film)],
        table=torch.zeros(len(film), 0),
        name="samples from the same noise",
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

    x_t follows the hand at once; the guess follows as fast as the network answers, always for the newest timestep.
    Where the environment variable `COURSE_STORE_FRAMES` is set, about 25 timesteps are computed beforehand, and no
    network is asked later.

    Args:
        model: a trained network, on the device of x0.
        schedule: what it was trained with.
        x0: up to 8 clean pictures, (B, C, H, W), floats in [-1, 1].
        target: what the model predicts, one of `course_lib.forward.TARGETS`.
        t: where the slider begins, in 1..T; half of T where None.
        seed: of the noise.
        y: class labels, int64 (B,), or None.

    Returns:
        Explorer with the value `t`.

    Raises:
        TypeError, ValueError: bad pictures, more than 8 of them, t out of range, or what the model refuses.
    """
    validate_pictures(x0, "x0", in_range=True)
    if len(x0) > 8:
        raise ValueError(f"x0 must hold at most 8 pictures, to fit in a row, got {len(x0)}; use x0[:8]")
    T = schedule.T
    start = max(1, T // 2) if t is None else t
    schedule.validate_t(start, low=1)
    eps = _noise_like(x0, seed)
    scale, side = _scale(x0, len(x0), 540), len(x0)
    storing = bool(os.environ.get(STORE_FRAMES))
    every = max(1, T // 25) if storing else 1
    times = list(range(every, T + 1, every))
    begin = min(times, key=lambda time: abs(time - start))

    def guess(t: int) -> tuple[Tensor, str]:
        x_t, _ = q_sample(schedule, x0, t, eps)
        x0_hat, eps_hat = predict(model, schedule, x_t, t, target=target, y=y)
        off, noise_off = (float((one - other).square().mean()) for one, other in ((x0_hat, x0), (eps_hat, eps)))
        return x0_hat, f"mean squared error of x0_hat {off:.4f}\u2003\u2003of eps_hat {noise_off:.4f}"

    def view(t: int) -> View:
        x0_hat, words = guess(t)
        return {
            "text": words,
            "x_0": _pixels(x0, side),
            "x_t": _pixels(q_sample(schedule, x0, t, eps)[0], side),
            "x0_hat": _pixels(x0_hat, side),
        }

    stored = [guess(time) for time in times] if storing else []
    stacks = [Stack(x0), Stack(eps, 16)]
    if stored:
        stacks.append(Stack(torch.stack([x0_hat for x0_hat, _ in stored])))
    rows: list[list[Panel]] = [
        [TextPanel("text", [[words for _, words in stored]] if stored else [])],
        [PicturePanel("x_0", [[(0, None)]], side, scale, "x_0", 76)],
        [PicturePanel("x_t", [[(0, 0), (1, 1)]], side, scale, "x_t", 76)],
        [PicturePanel("x0_hat", [[(2, None)]] if stored else [], side, scale, "x0_hat", 76)],
    ]
    canvas = PictureCanvas(
        x0.shape, rows, stacks=stacks, table=torch.stack([schedule.signal[times], schedule.noise[times]], 1),
        low=times[0], step=every, value=begin, name="pictures, what is left of them, and the network's guess",
    )  # fmt: skip
    slider = _integer("timestep t", begin, times[0], times[-1], every, "600px")
    explorer = Explorer(view, {"t": slider}, canvas, {"t": ("value", "value")})
    if not stored:

        def answer(t: int) -> None:
            x0_hat, words = guess(t)
            canvas.show_live(t, [x0_hat], [words])

        explorer.follow("t", answer)
    return explorer


class LossPlot(ipywidgets.VBox):  # type: ignore[misc]
    """A loss curve that grows while training runs.

    It is drawn at most once in `every` seconds, and less often where drawing would take more than a thirtieth of
    the time.

    Args:
        smooth: strength of the running mean, as `course_lib.objective.smoothed`.
        reference: label to height of a horizontal line.
        every: seconds between two drawings.
        logy: vertical axis in powers of ten.
    """

    def __init__(
        self, smooth: float = 0.98, reference: Mapping[str, float] | None = None, every: float = 3.0, logy: bool = False
    ) -> None:
        self._losses: list[float | Tensor] = []
        self._options: dict[str, Any] = {"smooth": smooth, "reference": reference, "logy": logy, "size": (6.4, 2.6)}
        self._every, self._next = every, float("-inf")
        self.image = LivePicture(self.draw(), smooth=True)
        super().__init__([self.image])

    @property
    def losses(self) -> list[float]:
        """The loss of every update so far."""
        read = [float(loss) for loss in self._losses]
        self._losses[:] = read
        return read

    def draw(self) -> viz.Png:
        """The curve so far."""
        return viz.figure_png(viz.plot_loss(self.losses, **self._options))

    def add(self, loss: float | Tensor) -> None:
        """Take in the loss of one update, and draw if it is time; a GPU is waited for only then."""
        self._losses.append(loss.detach() if isinstance(loss, Tensor) else loss)
        if time.monotonic() >= self._next:
            self.finish()

    def finish(self) -> None:
        """Draw now."""
        began = time.monotonic()
        self.image.show(self.draw())
        done = time.monotonic()
        self._next = _next_time(began, done, self._every)


class TrainingMonitor(ipywidgets.VBox):  # type: ignore[misc]
    """Progress bar, loss curve and samples while training runs.

    The curve and the samples each wait longer where they would take more than a thirtieth of the time.

    Args:
        draw: returns pictures, (B, C, H, W), to be shown below the curve; None for no pictures.
        draw_every: seconds between two calls of `draw`, at least; it is also called at the end.
        smooth: strength of the running mean, as `course_lib.objective.smoothed`.
        reference: label to height of a horizontal line in the loss curve.
        every: seconds between two drawings of the curve, at least.
        columns: pictures in a row.
    """

    def __init__(
        self,
        draw: Callable[[], Tensor] | None = None,
        draw_every: float = 30.0,
        smooth: float = 0.98,
        reference: Mapping[str, float] | None = None,
        every: float = 3.0,
        columns: int = 8,
    ) -> None:
        self.plot = LossPlot(smooth, reference, every)
        self.bar = ipywidgets.FloatProgress(0.0, min=0.0, max=1.0, layout={"width": "300px"})
        self.text = ipywidgets.HTML("not started", layout={"min_height": "1.6em"})
        self.caption = ipywidgets.HTML(_PIXELS, layout={"min_height": "1.6em"})
        self.image: Any = None
        self._draw, self._draw_every, self._columns = draw, draw_every, columns
        self._last: tuple[int, float, float] | None = None  # not the update, which holds network and optimizers
        self._told_at = self._next = float("-inf")
        parts = [ipywidgets.HBox([self.bar, self.text]), self.plot]
        if draw is not None:
            began = time.monotonic()
            self.image = LivePicture(self._pictures())
            self.caption.value = f"{_PIXELS}samples before training"
            self._next = _next_time(began, time.monotonic(), draw_every)
            parts += [self.caption, self.image]
        super().__init__(parts)

    @property
    def losses(self) -> list[float]:
        """The loss of every update so far."""
        return self.plot.losses

    def _pictures(self) -> viz.Png:
        if self._draw is None:
            raise TypeError("this monitor was made without draw, so it has no pictures to show")
        x = self._draw()
        validate_pictures(x, "what draw returned")
        columns = min(self._columns, len(x))
        return viz.to_png(x, columns, _scale(x, columns))

    def watch(self, updates: Iterable[Update]) -> Iterator[Update]:
        """Pass on the updates of `course_lib.train.train`, and show them on the way and at the end."""
        try:
            for update in updates:
                self.update(update)
                yield update
            self.finish()
        finally:  # also where the loop was left or interrupted
            self.plot.finish()

    def update(self, update: Update) -> None:
        """Take in one update, and draw what it is time for."""
        self.plot.add(update.loss)
        self._last = update.step, update.seconds, update.progress
        now = time.monotonic()
        if now - self._told_at >= 0.5:
            self._tell(*self._last)
            self._told_at = now
        if self._draw is not None and now >= self._next:
            self._show(f"samples after {update.step:,} updates")

    def finish(self) -> None:
        """Draw everything as it is now."""
        if self._last is None:
            return
        self.plot.finish()
        self._tell(*self._last)
        if self._draw is not None:
            self._show(f"samples after {self._last[0]:,} updates")

    def _show(self, caption: str) -> None:
        began = time.monotonic()
        self.image.show(self._pictures())
        self.caption.value = _PIXELS + caption
        self._next = _next_time(began, time.monotonic(), self._draw_every)

    def _tell(self, step: int, seconds: float, progress: float) -> None:
        left = seconds * (1 - progress) / max(progress, 1e-9)
        mean = smoothed(self.losses[-300:])[-1]
        self.bar.value = float(progress)
        self.text.value = f"update {step:,} &ensp; loss {mean:.4f} &ensp; {_clock(seconds)} gone, {_clock(left)} left"


def _next_time(began: float, done: float, every: float) -> float:
    """When to draw again: after `every` seconds, but so that drawing takes no more than a thirtieth of the time."""
    return done + max(every, 29 * (done - began))


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
