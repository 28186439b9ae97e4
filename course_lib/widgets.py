"""Sliders and pictures: thin shells around `viz`, made of ipywidgets alone.

Each function returns an `Explorer`: controls above, panels of fixed size below. Every value can be read and set from
Python (`explorer.amount = 0.5`), and `explorer.view(amount=0.5)` computes what would be shown without touching
anything. The first view is computed at once, so that a mistake in it fails the cell; a mistake in a later one is
shown in red inside the widget and kept in its state, where a test that reads the executed notebook finds it.
"""

from __future__ import annotations

import html
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import ipywidgets
import torch
from torch import Tensor, nn

from . import viz
from .drawing import Sheet
from .forward import NOISES, corrupt, q_sample
from .sample import SampleStep, predict
from .schedule import SCHEDULES, Schedule, make_schedule, zero_terminal_snr
from .train import Update
from .validate import check_choice, check_number, check_pictures

#: What a view returns: a panel's name to the PNG or the HTML that it shows.
View = Mapping[str, bytes | str]
_PIXELS = "<style>.course-pixels{image-rendering:pixelated}</style>"
_WIDE = 640


class Explorer(ipywidgets.VBox):  # type: ignore[misc]
    """Controls, and panels that follow them.

    Args:
        view: called with the value of every control by name; returns what each panel shows. It must always return
            the same names, and pictures of the same size.
        controls: name to an ipywidgets control with a `value`.
        rows: names of the panels in rows; one below the other where None.
        heights: name of an HTML panel to its height, such as "3em", so that the page never jumps.
        extra: widgets without a value of their own, such as a Play button, shown after the controls.
    """

    def __init__(
        self,
        view: Callable[..., View],
        controls: Mapping[str, Any],
        *,
        rows: Sequence[Sequence[str]] | None = None,
        heights: Mapping[str, str] | None = None,
        extra: Sequence[Any] = (),
    ) -> None:
        super().__init__()
        self.view = view
        self.controls = dict(controls)
        first = view(**self.values())
        self.panels = {name: _panel(content, (heights or {}).get(name)) for name, content in first.items()}
        self.errors = ipywidgets.Output()
        bar = ipywidgets.HBox([*self.controls.values(), *extra], layout={"flex_flow": "row wrap", "max_width": "720px"})
        body = [ipywidgets.HBox([self.panels[name] for name in row]) for row in rows or [[name] for name in first]]
        self.children = (bar, *body, self.errors)
        self._held = False
        for control in self.controls.values():
            control.observe(self._refresh, "value")

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
        """Set several controls and draw once.

        Raises:
            ValueError: a name that is no control; the known ones are listed.
        """
        self._held = True
        try:
            for name, value in values.items():
                check_choice("control", name, self.controls)
                self.controls[name].value = value
        finally:
            self._held = False
        self._refresh()

    def positions(self, name: str, limit: int = 25) -> list[Any]:
        """The values that a control can take, both ends among them; at most `limit`, evenly spread."""
        check_choice("control", name, self.controls)
        control = self.controls[name]
        if hasattr(control, "options"):
            found = [option[1] if isinstance(option, tuple) else option for option in control.options]
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
        count = 0
        for name in self.controls:
            for value in self.positions(name, limit):
                self._accept(self.view(**{**self.values(), name: value}))
                count += 1
        return count

    def _accept(self, content: View) -> None:
        """Refuse a view whose panels differ from the first one's in name, kind or size."""
        if set(content) != set(self.panels):
            raise ValueError(f"view must return the panels {sorted(self.panels)}, got {sorted(content)}")
        for name, new in content.items():
            old = self.panels[name].value
            if isinstance(new, str) != isinstance(old, str):
                raise ValueError(f"panel {name!r} must stay a picture or stay text, got {type(new).__name__}")
            if isinstance(new, bytes) and viz.Png(new).size != viz.Png(old).size:
                raise ValueError(f"panel {name!r} must keep its size {viz.Png(old).size}, got {viz.Png(new).size}")

    def _refresh(self, _: object = None) -> None:
        if self._held:
            return
        try:
            content = self.view(**self.values())
            self._accept(content)
        except Exception as error:
            trace = traceback.format_exception(error)
            self.errors.outputs = (
                {"output_type": "error", "ename": type(error).__name__, "evalue": str(error), "traceback": trace},
            )
            raise
        if self.errors.outputs:
            self.errors.outputs = ()
        for name, new in content.items():
            panel = self.panels[name]
            panel.value = bytes(new) if isinstance(new, bytes) else new


def _panel(content: bytes | str, height: str | None) -> Any:
    """An Image of the PNG's own size, or HTML of a fixed height."""
    if isinstance(content, bytes):
        width, tall = viz.Png(content).size
        size = {"width": f"{width}px", "height": f"{tall}px", "min_width": f"{width}px", "margin": "2px"}
        if width > _WIDE:  # beside an open file browser the page may be narrower than this
            size |= {"min_width": "0", "max_width": "100%", "object_fit": "contain"}
        image = ipywidgets.Image(value=bytes(content), format="png", layout=size)
        image.add_class("course-pixels")
        return image
    return ipywidgets.HTML(content, layout={"min_height": height or "1.6em", "margin": "0 4px"})


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
    check_number("columns", columns, 1, integer=True)
    return columns


def _noise_like(x: Tensor, seed: int) -> Tensor:
    """Gaussian noise that depends on the seed alone, whatever the device."""
    check_number("seed", seed, 0, integer=True)
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)


def corruption_explorer(
    x: Tensor, noise: str = "gaussian", *, amount: float = 0.3, seed: int = 0, columns: int | None = None
) -> Explorer:
    """Drag pictures into noise: (1 − amount) · x + amount · noise, the noise staying the same.

    Args:
        x: pictures, (B, C, H, W), floats in [-1, 1].
        noise: "gaussian" or "uniform" to begin with.
        amount: where the slider begins, in [0, 1].
        seed: of the noise.
        columns: pictures in a row; up to 8 where None.

    Returns:
        Explorer with the values `amount` and `noise`.

    Raises:
        TypeError, ValueError: as `course_lib.forward.corrupt`.
    """
    check_pictures(x, "x", in_range=True)
    check_number("amount", amount, 0, 1)
    check_choice("noise", noise, NOISES)
    columns = _columns(x, columns)
    x = x.detach().cpu()
    drawn = {kind: corrupt(x, 1.0, kind, generator=torch.Generator().manual_seed(seed))[1] for kind in NOISES}
    scale = _scale(x, columns)

    def view(amount: float, noise: str) -> View:
        mixed, _ = corrupt(x, amount, drawn[noise])
        words = f"{1 - amount:.2f} · picture + {amount:.2f} · noise &emsp; variance of the mixture {mixed.var():.3f}"
        return {"text": _PIXELS + words, "pictures": viz.to_png(mixed, columns, scale)}

    controls = {"amount": _decimal("amount of noise", amount, 0, 1, 0.01), "noise": _choice("", NOISES, noise)}
    return Explorer(view, controls)


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
    check_pictures(x0, "x0", in_range=True)
    if len(x0) > 8:
        raise ValueError(f"x0 must hold at most 8 pictures, to fit beside the numbers, got {len(x0)}; use x0[:8]")
    T = named[0].T
    t = T // 4 if t is None else t
    named[0].check_t(t)
    x0 = x0.detach().cpu()
    eps = _noise_like(x0, seed)
    scale = _scale(x0, len(x0), 480)
    curves = viz.MarkedCurves(named)

    def view(t: int) -> View:
        panels: dict[str, bytes | str] = {}
        for i, schedule in enumerate(named):
            a, b, snr = (float(table[t]) for table in (schedule.signal, schedule.noise, schedule.snr))
            panels[f"numbers{i}"] = (
                f"{_PIXELS}<div style='width:170px;line-height:1.35'><b>{html.escape(schedule.name)}</b><br>"
                f"a = {a:.4f}, b = {b:.4f}<br>SNR = {_number(snr)}</div>"
            )
            panels[f"pictures{i}"] = viz.to_png(q_sample(schedule, x0, t, eps)[0], len(x0), scale)
        return {**panels, "curves": curves.at(t)}

    rows = [*([f"numbers{i}", f"pictures{i}"] for i in range(len(named))), ["curves"]]
    return Explorer(view, {"t": _integer("timestep t", t, 0, T, width="600px")}, rows=rows)


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
        T: number of steps to begin with, 10..2000.
        seed: of the noise.

    Returns:
        Explorer with the values `schedule` and `T`.

    Raises:
        TypeError, ValueError: an unknown name, T out of range, bad pictures.
    """
    names = (*SCHEDULES, _ZERO)
    check_choice("schedule", schedule, names)
    check_number("T", T, 10, 2000, integer=True)
    if x0 is not None:
        check_pictures(x0, "x0", in_range=True)
        x0 = x0[:8].detach().cpu()
        eps = _noise_like(x0, seed)

    def view(schedule: str, T: int) -> View:
        chosen = zero_terminal_snr(make_schedule("linear", T)) if schedule == _ZERO else make_schedule(schedule, T)
        verdict = viz.gauge_verdict(chosen)
        mark = "⚠ " if chosen.signal[-1] >= viz.GAUGE_LIMITS[0] else ""
        panels: dict[str, bytes | str] = {
            "gauge": viz.figure_png(viz.plot_gauge(chosen)),
            "verdict": f"{_PIXELS}<div style='max-width:{_WIDE}px;line-height:1.4'>{mark}{verdict}</div>",
        }
        if x0 is not None:
            panels["x_T"] = viz.to_png(q_sample(chosen, x0, T, eps)[0], len(x0), _scale(x0, len(x0)))
        return panels

    choose = ipywidgets.Dropdown(options=names, value=schedule, description="schedule")
    return Explorer(view, {"schedule": choose, "T": _integer("steps T", T, 10, 2000, 10)}, heights={"verdict": "3.2em"})


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
        ValueError: an unknown kind.
    """
    check_choice("kind", kind, viz.KINDS)
    sheet = Sheet(6.4, 3.3)
    sheet.text(3.2, 1.65, "there is no such layer", 12, "#666666")
    nothing = viz.figure_png(sheet.figure)

    def view(**values: Any) -> View:
        try:
            out, formula = viz.layer_size(**values)
            picture = viz.figure_png(viz.plot_kernel(**values))
        except ValueError as refusal:
            return {"result": _red(str(refusal)), "picture": nothing}
        size = values["size"]
        result = f"<span style='font-size:115%'>{formula}</span><br><b>{size} × {size} → {out} × {out}</b>"
        return {"result": f"<div style='line-height:1.6'>{result}</div>", "picture": picture}

    numbers = {
        "size": (size, 1, 32),
        "kernel": (kernel, 1, 7),
        "stride": (stride, 1, 4),
        "padding": (padding, 0, 4),
        "output_padding": (output_padding, 0, 3),
        "dilation": (dilation, 1, 3),
    }
    sliders = {
        name: _integer(name.replace("_", " "), value, low, high, width="300px")
        for name, (value, low, high) in numbers.items()
    }
    kinds = _choice("layer", viz.KINDS, kind, width="640px")
    return Explorer(view, {"kind": kinds, **sliders}, heights={"result": "4em"})


def _red(sentence: str) -> str:
    """A refusal that is part of the lesson, on a card of its own so that it reads in any theme."""
    return (
        "<div style='line-height:1.4;background:#FBE3E3;color:#7A1010;border-left:4px solid #C81E1E;padding:4px 10px;"
        f"max-width:{_WIDE}px'>{html.escape(sentence)}</div>"
    )


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
    check_number("size", size, 1, 128, integer=True)
    check_number("halvings", halvings, 1, 5, integer=True)

    def view(size: int, halvings: int) -> View:
        return {"picture": viz.figure_png(viz.plot_halvings(size, halvings, levels=5))}

    return Explorer(view, {"size": _integer("size", size, 1, 128), "halvings": _integer("halvings", halvings, 1, 5)})


def trajectory_player(steps: Iterable[SampleStep], *, columns: int | None = None) -> Explorer:
    """Scrub and play through a sampling run: x_t on the left, the network's guess x0_hat on the right.

    Args:
        steps: of a whole run, in order; they are kept in memory, so take a few pictures and up to some hundred steps.
        columns: pictures in a row on each side; about as many as rows where None.

    Returns:
        Explorer with the value `step`, 0..len(steps); the last one shows the samples.

    Raises:
        ValueError: no steps.
    """
    kept = list(steps)
    if not kept:
        raise ValueError("steps must hold at least one step; make them with course_lib.sample.trajectory(...)")
    x = kept[0].x_t
    columns = max(1, round(len(x) ** 0.5)) if columns is None else _columns(x, columns)
    scale = _scale(x, columns, 340)

    def view(step: int) -> View:
        last = step == len(kept)
        here = kept[min(step, len(kept) - 1)]
        t, noisy = (here.s, here.x_s) if last else (here.t, here.x_t)
        guess = "x0_hat: what the network last saw" if last else "x0_hat: what the network sees in it"
        left, right = viz.to_png(noisy, columns, scale), viz.to_png(here.x0_hat, columns, scale)
        wide = max(viz.Png(left).size[0], 220)
        return {
            "left": f"{_PIXELS}<div style='width:{wide}px'><b>x_t</b> at t = {t}</div>",
            "right": f"<div>{guess}</div>",
            "x_t": left,
            "x0_hat": right,
        }

    slider = _integer("step", 0, 0, len(kept))
    play = ipywidgets.Play(value=0, min=0, max=len(kept), interval=max(40, 4000 // (len(kept) + 1)))
    joint = ipywidgets.jslink((play, "value"), (slider, "value"))
    explorer = Explorer(view, {"step": slider}, rows=[["left", "right"], ["x_t", "x0_hat"]], extra=[play])
    explorer.play, explorer.joint = play, joint
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
    shapes = {tuple(x.shape) for x in stored.values()}
    if len(shapes) > 1:
        raise ValueError(f"samples_by_eta must hold pictures of one shape, got {sorted(shapes)}")
    for eta, x in stored.items():
        check_pictures(x, f"samples_by_eta[{eta:g}]")
    first = next(iter(stored.values()))
    columns = _columns(first, columns)
    frames = {eta: viz.to_png(x, columns, _scale(x, columns)) for eta, x in stored.items()}

    def view(eta: float) -> View:
        name = {0.0: "DDIM: no noise is added on the way", 1.0: "DDPM: the noise of the posterior is added"}.get(eta)
        return {"text": f"{_PIXELS}η = {eta:g} &emsp; {name or 'between DDIM and DDPM'}", "pictures": frames[eta]}

    slider = ipywidgets.SelectionSlider(
        options=[(f"{eta:g}", eta) for eta in stored], value=next(iter(stored)), description="η",
        continuous_update=True, layout={"width": "360px"},
    )  # fmt: skip
    return Explorer(view, {"eta": slider})


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
    check_pictures(x0, "x0", in_range=True)
    if len(x0) > 8:
        raise ValueError(f"x0 must hold at most 8 pictures, to fit in a row, got {len(x0)}; use x0[:8]")
    t = max(1, schedule.T // 2) if t is None else t
    schedule.check_t(t, low=1)
    eps = _noise_like(x0, seed)
    scale, side = _scale(x0, len(x0), 540), len(x0)
    above = viz.to_png(x0, side, scale)

    def view(t: int) -> View:
        x_t, _ = q_sample(schedule, x0, t, eps)
        x0_hat, eps_hat = predict(model, schedule, x_t, t, target=target, y=y)
        off, noise_off = (float((one - other).square().mean()) for one, other in ((x0_hat, x0), (eps_hat, eps)))
        label = "<div style='width:70px'><b>{}</b></div>"
        return {
            "text": f"{_PIXELS}mean squared error of x0_hat {off:.4f} &emsp; of eps_hat {noise_off:.4f}",
            "label0": label.format("x_0"),
            "x_0": above,
            "label1": label.format("x_t"),
            "x_t": viz.to_png(x_t, side, scale),
            "label2": label.format("x0_hat"),
            "x0_hat": viz.to_png(x0_hat, side, scale),
        }

    rows = [["text"], ["label0", "x_0"], ["label1", "x_t"], ["label2", "x0_hat"]]
    return Explorer(view, {"t": _integer("timestep t", t, 1, schedule.T, width="600px")}, rows=rows)


class LossPlot(ipywidgets.VBox):  # type: ignore[misc]
    """A loss curve that grows while training runs.

    It is drawn at most once in `every` seconds, and less often where drawing would take more than a thirtieth of
    the time.

    Args:
        smooth: strength of the running mean, as `viz.smoothed`.
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
        self.image = _panel(self.draw(), None)
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
        self.image.value = bytes(self.draw())
        done = time.monotonic()
        self._next = _next_time(began, done, self._every)


class TrainingMonitor(ipywidgets.VBox):  # type: ignore[misc]
    """Progress bar, loss curve and samples while training runs.

    The curve and the samples each wait longer where they would take more than a thirtieth of the time.

    Args:
        draw: returns pictures, (B, C, H, W), to be shown below the curve; None for no pictures.
        draw_every: seconds between two calls of `draw`, at least; it is also called at the end.
        smooth: strength of the running mean, as `viz.smoothed`.
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
        self._last: Update | None = None
        self._told_at = self._next = float("-inf")
        parts = [ipywidgets.HBox([self.bar, self.text]), self.plot]
        if draw is not None:
            began = time.monotonic()
            self.image = _panel(self._pictures(), None)
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
        check_pictures(x, "what draw returned")
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
        self._last = update
        now = time.monotonic()
        if now - self._told_at >= 0.5:
            self._tell(update)
            self._told_at = now
        if self._draw is not None and now >= self._next:
            self._show(f"samples after {update.step:,} updates")

    def finish(self) -> None:
        """Draw everything as it is now."""
        if self._last is None:
            return
        self.plot.finish()
        self._tell(self._last)
        if self._draw is not None:
            self._show(f"samples after {self._last.step:,} updates")

    def _show(self, caption: str) -> None:
        began = time.monotonic()
        self.image.value = bytes(self._pictures())
        self.caption.value = _PIXELS + caption
        self._next = _next_time(began, time.monotonic(), self._draw_every)

    def _tell(self, update: Update) -> None:
        left = update.seconds * (1 - update.progress) / max(update.progress, 1e-9)
        mean = viz.smoothed(self.losses[-300:])[-1]
        self.bar.value = float(update.progress)
        self.text.value = (
            f"update {update.step:,} &ensp; loss {mean:.4f} &ensp; {_clock(update.seconds)} gone, {_clock(left)} left"
        )


def _next_time(began: float, done: float, every: float) -> float:
    """When to draw again: after `every` seconds, but so that drawing takes no more than a thirtieth of the time."""
    return done + max(every, 29 * (done - began))


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
