"""Every view of every explorer, what it shows, and what happens where one fails."""

# mypy: allow-untyped-defs
from __future__ import annotations

import base64
import gc
import json
import re
import sys
import time
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ipywidgets
import ipywidgets.embed
import nbformat
import numpy as np
import pytest
import torch

import executed
from course_lib import viz, widgets
from course_lib.forward import corrupt, q_sample
from course_lib.sample import predict, trajectory
from course_lib.schedule import make_schedule, sampling_times
from course_lib.train import TrainState, Update
from course_lib.unet import BottleneckUNet, UNet
from course_lib.viz.gauge import gauge_place
from course_lib.widgets.canvas import PictureCanvas, unpack
from course_lib.widgets.sizes import LAYER_LIMITS, UNET_LIMITS


def pictures(n: int = 6, size: int = 28, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def network() -> torch.nn.Module:
    """A network that answers something: a new one answers zero."""
    torch.manual_seed(0)
    model = UNet(channels=(8, 16), attention=())
    last = model.out[-1]
    assert isinstance(last, torch.nn.Conv2d)
    torch.nn.init.normal_(last.weight, std=0.1)
    return model


def run_of(n: int = 4, pictures_in_batch: int = 4) -> Any:
    start = torch.randn(pictures_in_batch, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    schedule = make_schedule("linear", 20)
    return list(trajectory(network(), schedule, start, times=sampling_times(20, n), eta=0.0))


EXPLORERS = {
    "corruption": lambda: widgets.corruption_explorer(pictures()),
    "timestep": lambda: widgets.timestep_explorer(pictures(3), [make_schedule(n, 60) for n in ("linear", "cosine")]),
    "gauge": lambda: widgets.noise_gauge(pictures(4)),
    "gauge alone": lambda: widgets.noise_gauge(),
    "trajectory": lambda: widgets.trajectory_player(run_of()),
    "eta": lambda: widgets.eta_explorer({0: pictures(), 0.5: pictures(seed=1), 1: pictures(seed=2)}),
    "x0_hat": lambda: widgets.x0_hat_explorer(network(), make_schedule("linear", 40), pictures(3)),
}


DIAGRAMS = {"shape": lambda: widgets.shape_explorer(), "unet": lambda: widgets.unet_explorer()}


@pytest.fixture(params=[*EXPLORERS, *DIAGRAMS])
def explorer(request: pytest.FixtureRequest) -> widgets.Explorer:
    return {**EXPLORERS, **DIAGRAMS}[request.param]()


@pytest.fixture(params=EXPLORERS)
def pictorial(request: pytest.FixtureRequest) -> widgets.Explorer:
    return EXPLORERS[request.param]()


def state_of(explorer: widgets.Explorer) -> tuple[int, int, bool]:
    """Position, layer and clipping as the browser has them after the links have carried the controls' values over."""
    canvas = explorer.canvas
    state = {"value": canvas.value, "layer": canvas.layer, "clip": canvas.clip}
    for link in explorer.links:
        (source, trait), (target, name) = link.source, link.target
        if target is canvas:
            state[name] = getattr(source, trait)
    row = round((state["value"] - canvas.spec["low"]) / canvas.spec["step"])
    return min(max(row, 0), canvas.spec["positions"] - 1), state["layer"], state["clip"]


def painted(explorer: widgets.Explorer) -> dict[str, Any]:
    """What every panel shows, found from the packed bytes alone, as the browser finds it."""
    canvas, spec = explorer.canvas, explorer.canvas.spec
    row, layer, clip = state_of(explorer)
    table = unpack(canvas, spec["table"], "<f4").reshape(spec["positions"], -1)
    live = np.frombuffer(canvas.live, np.uint8).reshape(-1, *spec["shape"])
    found: dict[str, Any] = {}
    pictures, texts = iter(live), iter(canvas.live_texts)
    for panel in (panel for line in spec["panels"] for panel in line):
        if panel["kind"] == "text":
            one = (
                panel["texts"] and unpack(canvas, panel["texts"][layer], np.uint8).tobytes().decode().split("\x1e")[row]
            )
            found[panel["name"]] = one or next(texts)
        if panel["kind"] == "pictures" and not panel["terms"]:
            x = torch.from_numpy(next(pictures).copy()).double() / 127.5 - 1
            found[panel["name"]] = viz.grid(x, panel["columns"]).numpy()
        elif panel["kind"] == "pictures":
            mixed = np.zeros(spec["shape"])
            for index, column in panel["terms"][layer]:
                stack = spec["stacks"][index]
                stored = unpack(canvas, stack["data"], {8: "u1", 16: "<i2"}[stack["bits"]])
                frame = stored.reshape(stack["frames"], *spec["shape"])[min(row, stack["frames"] - 1)]
                weight = 1.0 if column < 0 else table[row, column]
                mixed += weight * (frame * stack["scale"] + stack["offset"])
            found[panel["name"]] = viz.grid(
                torch.from_numpy(mixed), panel["columns"], span=1.0 if clip else spec["span"]
            ).numpy()
    return found


def assert_same(found: dict[str, Any], wanted: Any) -> None:
    assert found.keys() == wanted.keys()
    for name, content in wanted.items():
        if isinstance(content, str):
            assert found[name] == content
        else:
            assert found[name].shape == content.shape
            assert np.abs(found[name].astype(int) - content).max() <= 1, name


# what all explorers have in common


def test_every_position_of_every_control_can_be_computed(explorer: widgets.Explorer) -> None:
    assert explorer.compute_all(limit=7) >= 3


def test_the_bytes_sent_show_what_the_library_computes(pictorial: widgets.Explorer) -> None:
    seen = []
    for name in pictorial.controls:
        for value in pictorial.positions(name, 5):
            setattr(pictorial, name, value)
            assert getattr(pictorial, name) == pictorial.controls[name].value == pictorial.values()[name] == value
            found = painted(pictorial)
            assert_same(found, pictorial.view(**pictorial.values()))
            seen.append(str(found))
    assert len(set(seen)) > len(pictorial.controls)
    assert not pictorial.errors.outputs


def test_every_control_is_joined_to_the_canvas_in_the_browser(explorer: widgets.Explorer) -> None:
    sources = {link.source[0] for link in explorer.links if link.target[0] is explorer.canvas}
    assert sources == set(explorer.controls.values())
    assert all(link._model_name == "LinkModel" for link in explorer.links)


def test_sliders_have_a_description_and_follow_the_hand(explorer: widgets.Explorer) -> None:
    for name, control in explorer.controls.items():
        assert control.description or isinstance(control, ipywidgets.ToggleButtons), name
        if hasattr(control, "continuous_update"):
            assert control.continuous_update, name


def test_panels_fit_the_page_and_have_a_fixed_size(pictorial: widgets.Explorer) -> None:
    B, _, H, W = pictorial.canvas.spec["shape"]
    for panel in (panel for line in pictorial.canvas.spec["panels"] for panel in line):
        if panel["kind"] == "pictures":
            columns = panel["columns"]
            high, wide = -(-B // columns) * (H + 1) + 1, columns * (W + 1) + 1
            assert np.shape(pictorial.view(**pictorial.values())[panel["name"]])[:2] == (high, wide)
            assert wide * panel["scale"] <= 720
        elif panel["kind"] == "text":
            assert panel["lines"] >= 1


def test_everything_is_displayed(explorer: widgets.Explorer) -> None:
    found, todo = set(), [explorer]
    while todo:
        widget = todo.pop()
        found.add(widget)
        todo += getattr(widget, "children", ())
    assert found >= {*explorer.controls.values(), explorer.canvas, explorer.errors}
    assert explorer in widgets.Explorer.alive and "course-explorer" in explorer._dom_classes


def test_saved_state_is_small(explorer: widgets.Explorer) -> None:
    state = ipywidgets.embed.dependency_state([explorer])
    assert explorer.canvas.model_id in state
    assert len(json.dumps(state)) < 400_000


def test_unknown_names_are_refused(explorer: widgets.Explorer) -> None:
    with pytest.raises(AttributeError, match="no attribute"):
        _ = explorer.nonsense
    with pytest.raises(ValueError, match="unknown; choose one of"):
        explorer.set(nonsense=1)
    with pytest.raises(ValueError, match="unknown; choose one of"):
        explorer.positions("nonsense")


def test_no_figure_is_left_open(explorer: widgets.Explorer) -> None:
    explorer.compute_all(limit=3)
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_pages_that_cannot_run_it_get_a_still_picture_and_one_line(explorer: widgets.Explorer) -> None:
    bundle = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "make lab" in bundle["text/plain"]
    pictures = [panel for panel in explorer.view(**explorer.values()).values() if not isinstance(panel, str)]
    assert bool(pictures) == ("image/png" in bundle)
    if pictures:
        pixels = viz.Png(base64.b64decode(bundle["image/png"])).pixels()[::2, ::2]
        high, wide = pictures[0].shape[:2]
        assert np.array_equal(
            pixels[:high, :wide].numpy().reshape(high, wide, -1)[..., 0], pictures[0].reshape(high, wide, -1)[..., 0]
        )


def test_a_slider_clamps_and_the_value_says_so() -> None:
    explorer = EXPLORERS["corruption"]()
    explorer.amount = 3
    assert explorer.amount == 1.0


def test_a_view_that_would_make_the_page_jump_is_an_error() -> None:
    explorer = EXPLORERS["corruption"]()
    view = explorer.view
    explorer.view = lambda **values: {"text": "", **(view(**values) if values["amount"] < 0.5 else {})}
    with pytest.raises(ValueError, match="same panels"):
        explorer.compute_all()


def test_what_is_too_large_is_refused_with_advice() -> None:
    with pytest.raises(ValueError, match="x\\[:16\\]"):
        widgets.corruption_explorer(pictures(200))


# errors


def broken_at_three(value: int) -> None:
    if value == 3:
        raise RuntimeError("three is broken")


def following() -> widgets.Explorer:
    """An explorer whose slider Python follows, with a mistake at 3."""
    slider, canvas = ipywidgets.IntSlider(0), PictureCanvas((1, 1, 1, 1), [])
    explorer = widgets.Explorer(lambda value: {}, {"value": slider}, canvas, {"value": ("value", "value")})
    explorer.follow("value", broken_at_three)
    return explorer


def test_an_error_in_a_callback_is_raised_and_shown_until_it_is_gone() -> None:
    explorer = following()
    with pytest.raises(RuntimeError, match="three is broken"):
        explorer.value = 3
    (output,) = explorer.errors.outputs
    assert (output["output_type"], output["ename"]) == ("error", "RuntimeError")
    assert "three is broken" in output["evalue"] and "broken_at_three" in "".join(output["traceback"])
    explorer.value = 4
    assert not explorer.errors.outputs


def test_an_error_in_the_first_answer_fails_at_once() -> None:
    explorer = following()
    explorer.controls["value"].unobserve_all()
    explorer.controls["value"].value = 3
    with pytest.raises(RuntimeError, match="three is broken"):
        explorer.follow("value", broken_at_three)


def test_the_scan_of_executed_notebooks_finds_an_error_inside_an_explorer(tmp_path: Path) -> None:
    explorer = following()
    path = tmp_path / "executed.ipynb"
    for value, found in ((4, 0), (3, 1)):
        try:
            explorer.value = value
        except RuntimeError:
            assert value == 3
        state = explorer.errors.get_state()
        model = {"model_name": "OutputModel", "state": {"outputs": list(state["outputs"])}}
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["widgets"] = {executed.WIDGET_STATE: {"state": {"id": model}}}
        nbformat.write(notebook, path)
        problems = executed.scan([path])
        assert len(problems) == found
        assert all("three is broken" in problem for problem in problems)


# what each of them shows


def cells(pixels: Any, count: int, columns: int) -> Any:
    """The pictures of a grid, (count, 28, 28)."""
    corners = [(1 + 29 * (i // columns), 1 + 29 * (i % columns)) for i in range(count)]
    return torch.stack([torch.from_numpy(pixels[y : y + 28, x : x + 28].copy()) for y, x in corners])


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
@pytest.mark.parametrize("amount", [0.0, 0.25, 1.0])
def test_corruption_explorer_shows_corrupt(noise: str, amount: float, clip: bool) -> None:
    x = pictures(4)
    explorer = widgets.corruption_explorer(x, seed=7, columns=2)
    explorer.set(amount=amount, noise=noise, clip=clip)
    mixed, _ = corrupt(x, amount, noise, generator=torch.Generator().manual_seed(7))
    found = painted(explorer)
    levels = (mixed[:, 0] / (1 if clip else 3)).clamp(-1, 1) * 127.5 + 127.5
    assert (cells(found["pictures"], 4, 2) - levels).abs().max() <= 1
    assert f"variance of the mixture {mixed.double().var():.3f}" in found["text"]


def test_the_noise_stays_while_dragging() -> None:
    explorer = EXPLORERS["corruption"]()
    before = painted(explorer)["pictures"]
    explorer.amount = 0.9
    assert not np.array_equal(painted(explorer)["pictures"], before)
    explorer.amount = 0.3
    assert np.array_equal(painted(explorer)["pictures"], before)


@pytest.mark.parametrize("t", [0, 17, 60])
def test_timestep_explorer_shows_q_sample_and_the_tables(t: int) -> None:
    x0, named = pictures(3), [make_schedule(n, 60) for n in ("linear", "cosine")]
    explorer = widgets.timestep_explorer(x0, named, t=30, seed=5)
    explorer.t = t
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(5))
    found = painted(explorer)
    for i, schedule in enumerate(named):
        levels = (q_sample(schedule, x0, t, eps)[0].clamp(-1, 1) + 1) * 127.5
        assert (cells(found[f"pictures{i}"], 3, 3) - levels[:, 0]).abs().max() <= 1
        assert f"a = {schedule.signal[t]:.4f}, b = {schedule.noise[t]:.4f}" in found[f"numbers{i}"]
        assert ("∞" in found[f"numbers{i}"]) == (t == 0)


def test_markers_lie_on_the_curves() -> None:
    named = [make_schedule(n, 60) for n in ("linear", "cosine")]
    canvas = widgets.timestep_explorer(pictures(1), named).canvas
    table = unpack(canvas, canvas.spec["table"], "<f4").reshape(61, -1)
    (drawing,) = (panel for line in canvas.spec["panels"] for panel in line if panel["kind"] == "drawing")
    svg = unpack(canvas, drawing["svg"], np.uint8).tobytes().decode()
    paths = [
        np.array(re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", d), dtype=float) for d in re.findall(r'd="(M [^"]+)"', svg)
    ]
    curves = [path for path in paths if len(path) > 10]
    lines = [marker for marker in drawing["markers"] if marker["shape"] == "line"]
    dots = [marker for marker in drawing["markers"] if marker["shape"] == "dot"]
    assert (len(lines), len(dots)) == (3, 6)
    for t in (1, 20, 45):
        for marker in dots:
            place = table[t, marker["x"][0]], table[t, marker["y"][0]]
            near = [np.abs(np.interp(place[0], path[:, 0], path[:, 1]) - place[1]) for path in curves]
            assert min(near) < 0.3, (t, marker)
    assert np.isnan(table[0, dots[-1]["y"][0]])  # log of infinity stands nowhere


def test_noise_gauge_warns_about_150_linear_steps() -> None:
    explorer = widgets.noise_gauge(pictures(2))
    assert "practical purpose" in painted(explorer)["verdict"] and "⚠" not in painted(explorer)["verdict"]
    explorer.T = 150
    assert "still holds the picture: 0.47" in painted(explorer)["verdict"]
    assert "⚠" in painted(explorer)["verdict"]
    explorer.schedule = "linear, zero terminal SNR"
    assert "nothing of the picture" in painted(explorer)["verdict"]


def test_the_needle_points_at_a_T() -> None:
    explorer = widgets.noise_gauge(T=150)
    spec = explorer.canvas.spec
    table = unpack(explorer.canvas, spec["table"], "<f4").reshape(spec["positions"], -1)
    (needle,) = spec["panels"][0][0]["markers"]
    row, layer, _ = state_of(explorer)
    a = make_schedule("linear", 150).signal[-1]
    assert table[row, needle["x"][layer]] == pytest.approx(float(gauge_place(a)), rel=1e-6)
    assert (
        float(gauge_place(torch.tensor(0.1))) < table[row, needle["x"][layer]] < float(gauge_place(torch.tensor(0.5)))
    )


def test_trajectory_player_scrubs_from_noise_to_the_samples() -> None:
    steps = run_of(4)
    explorer = widgets.trajectory_player(steps, columns=2)
    for step, wanted in ((0, steps[0].x_t), (2, steps[2].x_t), (4, steps[3].x_s)):
        explorer.step = step
        found = painted(explorer)
        assert_same(
            {name: found[name] for name in ("x_t", "x0_hat")},
            {"x_t": viz.grid(wanted, 2).numpy(), "x0_hat": viz.grid(steps[min(step, 3)].x0_hat, 2).numpy()},
        )
    assert "t = 0" in found["text"]
    joined = {(link.source, link.target) for link in explorer.links}
    assert ((explorer.play, "value"), (explorer.controls["step"], "value")) in joined
    assert ((explorer.speed, "value"), (explorer.play, "interval")) in joined
    assert explorer.play.max == len(steps) and explorer.play.show_repeat


def test_eta_explorer_shows_the_stored_samples() -> None:
    stored = {1.0: pictures(seed=1), 0.0: pictures(seed=2)}
    explorer = widgets.eta_explorer(stored, columns=3)
    assert explorer.positions("eta") == [0.0, 1.0]
    for eta, word in ((1.0, "DDPM"), (0.0, "DDIM")):
        explorer.eta = eta
        assert np.array_equal(painted(explorer)["pictures"], viz.grid(stored[eta], 3))
        assert word in painted(explorer)["text"]


@pytest.mark.parametrize("t", [1, 20, 40])
def test_x0_hat_explorer_asks_the_network(t: int) -> None:
    model, schedule, x0 = network(), make_schedule("linear", 40), pictures(3)
    explorer = widgets.x0_hat_explorer(model, schedule, x0, seed=3)
    explorer.t = t
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
    x_t, _ = q_sample(schedule, x0, t, eps)
    x0_hat, eps_hat = predict(model, schedule, x_t, t)
    found = painted(explorer)
    assert_same(
        {name: found[name] for name in ("x_0", "x_t", "x0_hat")},
        {name: viz.grid(x, 3).numpy() for name, x in (("x_0", x0), ("x_t", x_t), ("x0_hat", x0_hat))},
    )
    assert explorer.canvas.shown == t
    assert f"{(x0_hat - x0).square().mean():.4f}" in found["text"]
    assert f"{(eps_hat - eps).square().mean():.4f}" in found["text"]
    assert model.training


def test_x0_hat_explorer_asks_once_for_each_move_and_never_where_frames_are_stored(monkeypatch: Any) -> None:
    model, passes = network(), []
    model.register_forward_hook(lambda *_: passes.append(1))
    explorer = widgets.x0_hat_explorer(model, make_schedule("linear", 100), pictures(2))
    for t in (3, 4, 4, 90):
        explorer.t = t
    assert len(passes) == 1 + 3
    monkeypatch.setenv(widgets.STORE_FRAMES, "1")
    stored = widgets.x0_hat_explorer(model, make_schedule("linear", 100), pictures(2), t=50)
    assert (stored.controls["t"].min, stored.controls["t"].max, stored.controls["t"].step) == (4, 100, 4)
    assert stored.t in (48, 52) and len(passes) == 4 + 25
    stored.t = 100
    frames = painted(stored)
    assert len(passes) == 4 + 25
    assert_same(frames, stored.view(t=100))
    short = widgets.x0_hat_explorer(model, make_schedule("linear", 30), pictures(2))
    passed = len(passes)
    short.t = 7
    assert len(passes) == passed
    assert_same(painted(short), short.view(t=7))


def test_live_pictures_of_another_shape_are_refused() -> None:
    canvas = PictureCanvas((2, 1, 4, 4), [])
    with pytest.raises(ValueError, match="shape"):
        canvas.show_live(1, [torch.zeros(1, 1, 4, 4)])


def test_shape_explorer_begins_where_it_was_told_and_is_joined_in_the_browser() -> None:
    explorer = widgets.shape_explorer("pool", size=9, kernel=2, stride=2)
    values = dict(kind="pool", size=9, kernel=2, stride=2, padding=0, output_padding=0, dilation=1)
    assert explorer.values() == values
    assert {name: getattr(explorer.canvas, name) for name in values} == values
    joined = {link.target[1]: link.source for link in explorer.links}
    assert joined.pop("kind_index") == (explorer.controls["kind"], "index")
    assert joined == {name: (explorer.controls[name], "value") for name in LAYER_LIMITS}
    for name, limits in LAYER_LIMITS.items():
        assert (explorer.controls[name].min, explorer.controls[name].max) == limits
    assert str(explorer.view(**values)["result"]).endswith("9 × 9 → 4 × 4")


def test_unet_explorer_begins_where_it_was_told_and_is_joined_in_the_browser() -> None:
    explorer = widgets.unet_explorer(12, 2)
    assert explorer.values() == {"size": 12, "halvings": 2}
    assert (explorer.canvas.size, explorer.canvas.halvings) == (12, 2)
    assert {link.target[1]: link.source for link in explorer.links} == {
        name: (explorer.controls[name], "value") for name in UNET_LIMITS
    }
    for name, limits in UNET_LIMITS.items():
        assert (explorer.controls[name].min, explorer.controls[name].max) == limits


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: widgets.corruption_explorer(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)), TypeError, "uint8"),
        (lambda: widgets.corruption_explorer(5 * pictures(2)), ValueError, "\\[-1, 1\\]"),
        (lambda: widgets.corruption_explorer(pictures(2), "salt"), ValueError, "gaussian"),
        (lambda: widgets.corruption_explorer(pictures(2), amount=2), ValueError, "amount"),
        (lambda: widgets.timestep_explorer(pictures(9), make_schedule("linear", 9)), ValueError, "at most 8"),
        (lambda: widgets.timestep_explorer(pictures(2), []), TypeError, "Schedule"),
        (
            lambda: widgets.timestep_explorer(pictures(2), [make_schedule("linear", n) for n in (5, 6)]),
            ValueError,
            "same T",
        ),
        (lambda: widgets.timestep_explorer(pictures(2), make_schedule("linear", 9), t=10), ValueError, "0..9"),
        (lambda: widgets.noise_gauge(schedule="none"), ValueError, "linear"),
        (lambda: widgets.noise_gauge(T=3), ValueError, "T must"),
        (lambda: widgets.shape_explorer("dense"), ValueError, "transposed conv"),
        (lambda: widgets.unet_explorer(0), ValueError, "size"),
        (lambda: widgets.noise_gauge(T=155), ValueError, "multiple of 10"),
        (lambda: widgets.trajectory_player([]), ValueError, "trajectory"),
        (lambda: widgets.eta_explorer({}), ValueError, "at least one"),
        (lambda: widgets.eta_explorer({0: pictures(2), 1: pictures(3)}), ValueError, "one shape"),
        (
            lambda: widgets.x0_hat_explorer(network(), make_schedule("linear", 9), pictures(2), t=0),
            ValueError,
            "noise begins",
        ),
        (lambda: widgets.x0_hat_explorer(BottleneckUNet(), make_schedule("linear", 9), pictures(2)), ValueError, "16"),
    ],
)
def test_refusals(call: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        call()


# training


def updates(n: int) -> Any:
    for i in range(1, n + 1):
        yield Update(i, torch.tensor(1.0 / i, requires_grad=True), torch.tensor(1.0), 1e-3, i / n, 0.1 * i, TrainState)


def test_loss_plot_draws_what_it_was_given() -> None:
    plot = widgets.LossPlot(smooth=0.5, reference={"zero": 1.0}, every=0.0)
    empty = bytes(plot.image.value)
    for loss in (1.0, torch.tensor(0.5), 0.25):
        plot.add(loss)
    plot.finish()
    assert plot.losses == [1.0, 0.5, 0.25]
    assert plot.image.value == viz.figure_png(
        viz.plot_loss([1.0, 0.5, 0.25], smooth=0.5, reference={"zero": 1.0}, size=(6.4, 2.6))
    )
    assert plot.image.value != empty


def test_loss_plot_takes_little_of_the_time() -> None:
    plot = widgets.LossPlot(every=0.0)
    began = time.monotonic()
    spent = 0.0
    finish = plot.finish

    def timed() -> None:
        nonlocal spent
        start = time.monotonic()
        finish()
        spent += time.monotonic() - start

    plot.finish = timed  # type: ignore[method-assign]
    while time.monotonic() - began < 3:
        plot.add(1.0)
        time.sleep(0.001)
    assert 0 < spent < 0.1 * (time.monotonic() - began)


def test_monitor_passes_updates_on_and_shows_them() -> None:
    drawn: list[int] = []

    def draw() -> torch.Tensor:
        drawn.append(len(drawn))
        return torch.full((4, 1, 28, 28), min(1.0, 0.1 * len(drawn)))

    monitor = widgets.TrainingMonitor(draw, draw_every=1e9, every=0.0, columns=4)
    assert drawn == [0]
    seen = list(monitor.watch(updates(20)))
    assert [update.step for update in seen] == list(range(1, 21))
    assert monitor.losses == pytest.approx([1 / i for i in range(1, 21)])
    assert monitor.bar.value == 1.0 and "update 20" in monitor.text.value and "0:00 left" in monitor.text.value
    assert drawn == [0, 1] and "after 20 updates" in monitor.caption.value
    assert monitor.image.tooltip == "4 pictures in a row." and monitor.plot.image.tooltip.startswith("A plot of loss")
    pixels = viz.Png(monitor.image.value).pixels()
    assert (pixels == round(1.2 * 127.5)).sum() > 0.9 * pixels.numel() * (28 / 29) ** 2


def test_monitor_draws_as_often_as_asked() -> None:
    count = 0

    def draw() -> torch.Tensor:
        nonlocal count
        count += 1
        return torch.zeros(1, 1, 8, 8)

    monitor = widgets.TrainingMonitor(draw, draw_every=0.2)
    for update in updates(5):
        time.sleep(0.3)
        monitor.update(update)
        monitor.update(update)
    assert count == 1 + 5


def test_monitor_draws_less_often_where_drawing_is_slow() -> None:
    count = 0

    def draw() -> torch.Tensor:
        nonlocal count
        count += 1
        time.sleep(0.1)
        return torch.zeros(1, 1, 8, 8)

    monitor = widgets.TrainingMonitor(draw, draw_every=0.0, every=1e9)
    began = time.monotonic()
    while time.monotonic() - began < 7:
        for update in updates(1):
            monitor.update(update)
        time.sleep(0.01)
    assert 1 + 1 <= count <= 1 + 2  # a thirtieth of the time is 3 seconds for each


def test_monitor_without_pictures_and_without_updates() -> None:
    monitor = widgets.TrainingMonitor()
    monitor.finish()
    assert monitor.image is None and monitor.losses == []
    for update in monitor.watch(updates(8)):
        if update.step == 3:
            break
    assert len(monitor.losses) == 3


def test_monitor_draws_the_curve_where_the_loop_is_interrupted() -> None:
    monitor = widgets.TrainingMonitor(every=1e9)
    before = bytes(monitor.plot.image.value)

    def interrupted() -> Any:
        yield from updates(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        for _ in monitor.watch(interrupted()):
            pass
    assert monitor.plot.image.value != before and len(monitor.losses) == 3


def test_monitor_holds_no_network() -> None:
    """A widget lives as long as its kernel, what it was shown should not."""

    class Network:
        pass

    network = Network()
    gone = weakref.ref(network)
    monitor = widgets.TrainingMonitor()
    for update in monitor.watch(updates(3)):
        monitor.update(replace(update, state=partial(lambda _: TrainState(), network)))
    del network, update
    gc.collect()
    assert gone() is None and len(monitor.losses) == 6


@pytest.mark.parametrize("name", [*EXPLORERS, *DIAGRAMS])
def test_what_was_closed_is_let_go(name: str) -> None:
    explorer = {**EXPLORERS, **DIAGRAMS}[name]()
    canvas = explorer.canvas if name in EXPLORERS else explorer.children[-1]
    held = [weakref.ref(each) for each in (explorer, canvas)]
    close(explorer)
    del explorer, canvas
    gc.collect()
    assert [ref() for ref in held] == [None, None]


def close(widget: ipywidgets.Widget) -> None:
    """Close a widget with all in it and all that joins them."""
    for each in (*getattr(widget, "links", ()), *getattr(widget, "children", ())):
        close(each)
    widget.close()
