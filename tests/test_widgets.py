"""Every view of every explorer, what it shows, and what happens where one fails."""

# mypy: allow-untyped-defs
from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import ipywidgets
import nbformat
import pytest
import torch

import notebooks
from course_lib import viz, widgets
from course_lib.forward import corrupt, q_sample
from course_lib.sample import predict, trajectory
from course_lib.schedule import make_schedule, sampling_times
from course_lib.train import TrainState, Update
from course_lib.unet import BottleneckUNet, UNet


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
    "shape": lambda: widgets.shape_explorer(),
    "unet": lambda: widgets.unet_explorer(),
    "trajectory": lambda: widgets.trajectory_player(run_of()),
    "eta": lambda: widgets.eta_explorer({0: pictures(), 0.5: pictures(seed=1), 1: pictures(seed=2)}),
    "x0_hat": lambda: widgets.x0_hat_explorer(network(), make_schedule("linear", 40), pictures(3)),
}


@pytest.fixture(params=EXPLORERS)
def explorer(request: pytest.FixtureRequest) -> widgets.Explorer:
    return EXPLORERS[request.param]()


def shown(explorer: widgets.Explorer, name: str) -> torch.Tensor:
    return viz.Png(explorer.panels[name].value).pixels()


# what all explorers have in common


def test_every_position_of_every_control_can_be_computed(explorer: widgets.Explorer) -> None:
    assert explorer.check(limit=7) >= 3


def test_setting_a_value_shows_its_view(explorer: widgets.Explorer) -> None:
    for name in explorer.controls:
        for value in explorer.positions(name, 3):
            setattr(explorer, name, value)
            assert getattr(explorer, name) == explorer.controls[name].value == explorer.values()[name] == value
            for panel, content in explorer.view(**explorer.values()).items():
                assert explorer.panels[panel].value == content
    assert not explorer.errors.outputs


def test_sliders_have_a_description_and_follow_the_hand(explorer: widgets.Explorer) -> None:
    for name, control in explorer.controls.items():
        assert control.description or isinstance(control, ipywidgets.ToggleButtons), name
        if hasattr(control, "continuous_update"):
            assert control.continuous_update, name


def test_panels_have_a_fixed_size(explorer: widgets.Explorer) -> None:
    for panel in explorer.panels.values():
        if isinstance(panel, ipywidgets.Image):
            width, height = viz.Png(panel.value).size
            assert (panel.layout.width, panel.layout.height) == (f"{width}px", f"{height}px")
            assert width <= 900
        else:
            assert panel.layout.min_height


def test_everything_is_displayed(explorer: widgets.Explorer) -> None:
    found, todo = set(), [explorer]
    while todo:
        widget = todo.pop()
        found.add(widget)
        todo += getattr(widget, "children", ())
    assert found >= {*explorer.controls.values(), *explorer.panels.values(), explorer.errors}


def test_pixels_are_kept_square_by_the_page(explorer: widgets.Explorer) -> None:
    if any(isinstance(panel, ipywidgets.Image) for panel in explorer.panels.values()):
        images = [panel for panel in explorer.panels.values() if isinstance(panel, ipywidgets.Image)]
        assert all("course-pixels" in image._dom_classes for image in images)


def test_state_is_small_and_holds_no_tensor(explorer: widgets.Explorer) -> None:
    size = 0
    for panel in explorer.panels.values():
        assert isinstance(panel.value, str | bytes | memoryview)
        size += len(panel.value)
    assert size < 400_000


def test_unknown_names_are_refused(explorer: widgets.Explorer) -> None:
    with pytest.raises(AttributeError, match="no attribute"):
        _ = explorer.nonsense
    with pytest.raises(ValueError, match="unknown; choose one of"):
        explorer.set(nonsense=1)
    with pytest.raises(ValueError, match="unknown; choose one of"):
        explorer.positions("nonsense")


def test_no_figure_is_left_open(explorer: widgets.Explorer) -> None:
    explorer.check(limit=3)
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_set_draws_once() -> None:
    calls = []

    def view(size: int, kernel: int) -> dict[str, str]:
        calls.append((size, kernel))
        return {"text": f"{size} {kernel}"}

    explorer = widgets.Explorer(view, {"size": ipywidgets.IntSlider(5), "kernel": ipywidgets.IntSlider(3)})
    explorer.set(size=9, kernel=7)
    assert calls == [(5, 3), (9, 7)]
    assert explorer.panels["text"].value == "9 7"


def test_a_slider_clamps_and_the_value_says_so() -> None:
    explorer = EXPLORERS["corruption"]()
    explorer.amount = 3
    assert explorer.amount == 1.0


# errors


def broken_at_three(value: int) -> dict[str, str]:
    if value == 3:
        raise RuntimeError("three is broken")
    return {"text": str(value)}


def test_an_error_in_a_callback_is_raised_and_shown_until_it_is_gone() -> None:
    explorer = widgets.Explorer(broken_at_three, {"value": ipywidgets.IntSlider(0)})
    with pytest.raises(RuntimeError, match="three is broken"):
        explorer.value = 3
    (output,) = explorer.errors.outputs
    assert (output["output_type"], output["ename"]) == ("error", "RuntimeError")
    assert "three is broken" in output["evalue"] and "broken_at_three" in "".join(output["traceback"])
    explorer.value = 4
    assert not explorer.errors.outputs and explorer.panels["text"].value == "4"


def test_an_error_in_the_first_view_fails_at_once() -> None:
    with pytest.raises(RuntimeError, match="three is broken"):
        widgets.Explorer(broken_at_three, {"value": ipywidgets.IntSlider(3)})


def test_check_finds_the_broken_position() -> None:
    explorer = widgets.Explorer(broken_at_three, {"value": ipywidgets.IntSlider(0, max=5)})
    with pytest.raises(RuntimeError, match="three is broken"):
        explorer.check()


@pytest.mark.parametrize("second", [{"other": "text"}, {"panel": "text"}, {"panel": viz.blank_png(4, 5)}])
def test_a_view_that_would_make_the_page_jump_is_an_error(second: Any) -> None:
    explorer = widgets.Explorer(
        lambda value: {"panel": viz.blank_png(4, 4)} if value == 0 else second, {"value": ipywidgets.IntSlider(0)}
    )
    with pytest.raises(ValueError, match="panel"):
        explorer.value = 1
    assert explorer.errors.outputs


def test_the_scan_of_executed_notebooks_finds_an_error_inside_an_explorer(tmp_path: Path) -> None:
    explorer = widgets.Explorer(broken_at_three, {"value": ipywidgets.IntSlider(0)})
    path = tmp_path / "executed.ipynb"
    for value, found in ((4, 0), (3, 1)):
        try:
            explorer.value = value
        except RuntimeError:
            assert value == 3
        state = explorer.errors.get_state()
        model = {"model_name": "OutputModel", "state": {"outputs": list(state["outputs"])}}
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["widgets"] = {notebooks.WIDGET_STATE: {"state": {"id": model}}}
        nbformat.write(notebook, path)
        problems = notebooks.scan([path])
        assert len(problems) == found
        assert all("three is broken" in problem for problem in problems)


# what each of them shows


@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
@pytest.mark.parametrize("amount", [0.0, 0.25, 1.0])
def test_corruption_explorer_shows_corrupt(noise: str, amount: float) -> None:
    x = pictures(4)
    explorer = widgets.corruption_explorer(x, seed=7, columns=2)
    explorer.set(amount=amount, noise=noise)
    mixed, _ = corrupt(x, amount, noise, generator=torch.Generator().manual_seed(7))
    scale = shown(explorer, "pictures").shape[0] // (2 * 29 + 1)
    pixels = shown(explorer, "pictures")[::scale, ::scale]
    for i, picture in enumerate(mixed):
        top, left = 1 + 29 * (i // 2), 1 + 29 * (i % 2)
        levels = (picture[0].clamp(-1, 1) + 1) * 127.5
        assert (pixels[top : top + 28, left : left + 28] - levels).abs().max() <= 1
    assert f"{mixed.var():.3f}" in explorer.panels["text"].value


def test_the_noise_stays_while_dragging() -> None:
    explorer = EXPLORERS["corruption"]()
    before = bytes(explorer.panels["pictures"].value)
    explorer.amount = 0.9
    assert bytes(explorer.panels["pictures"].value) != before
    explorer.amount = 0.3
    assert bytes(explorer.panels["pictures"].value) == before


@pytest.mark.parametrize("t", [0, 17, 60])
def test_timestep_explorer_shows_q_sample_and_the_tables(t: int) -> None:
    x0, named = pictures(3), [make_schedule(n, 60) for n in ("linear", "cosine")]
    explorer = widgets.timestep_explorer(x0, named, t=30, seed=5)
    explorer.t = t
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(5))
    for i, schedule in enumerate(named):
        pixels = shown(explorer, f"pictures{i}")
        scale = pixels.shape[0] // 30
        levels = (q_sample(schedule, x0, t, eps)[0].clamp(-1, 1) + 1) * 127.5
        for c in range(3):
            left = 1 + 29 * c
            assert (pixels[::scale, ::scale][1:29, left : left + 28] - levels[c, 0]).abs().max() <= 1
        text = explorer.panels[f"numbers{i}"].value
        assert f"a = {schedule.signal[t]:.4f}, b = {schedule.noise[t]:.4f}" in text
        assert ("∞" in text) == (t == 0)
    assert explorer.panels["curves"].value == viz.MarkedCurves(named).at(t)


def test_noise_gauge_warns_about_150_linear_steps() -> None:
    explorer = widgets.noise_gauge(pictures(2))
    assert "practical purpose" in explorer.panels["verdict"].value and "⚠" not in explorer.panels["verdict"].value
    explorer.T = 150
    assert "still holds the picture: 0.47" in explorer.panels["verdict"].value
    assert "⚠" in explorer.panels["verdict"].value
    explorer.schedule = "linear, zero terminal SNR"
    assert "nothing of the picture" in explorer.panels["verdict"].value


def test_shape_explorer_shows_formula_result_and_refusals() -> None:
    explorer = widgets.shape_explorer("transposed conv", size=4, kernel=3, stride=2, padding=1, output_padding=1)
    assert "(4 − 1)·2 − 2·1 + 1·(3 − 1) + 1 + 1 = 8" in explorer.panels["result"].value
    assert "4 × 4 → 8 × 8" in explorer.panels["result"].value
    picture = bytes(explorer.panels["picture"].value)
    assert picture == viz.figure_png(viz.plot_kernel("transposed conv", 4, 3, 2, 1, 1))
    explorer.output_padding = 3
    with pytest.raises(ValueError) as refusal:
        viz.layer_size("transposed conv", 4, 3, 2, 1, 3)
    assert str(refusal.value).split(",")[0] in explorer.panels["result"].value
    assert explorer.panels["picture"].value != picture and not explorer.errors.outputs


def test_shape_explorer_survives_every_combination_of_extremes() -> None:
    explorer = widgets.shape_explorer()
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        values = {}
        for name in explorer.controls:
            options = explorer.positions(name, 99)
            values[name] = options[int(torch.randint(len(options), (), generator=generator))]
        explorer._accept(explorer.view(**values))


def test_unet_explorer_shows_where_it_breaks() -> None:
    explorer = widgets.unet_explorer(28, 3)
    assert explorer.panels["picture"].value == viz.figure_png(viz.plot_halvings(28, 3, levels=5))
    explorer.size = 32
    assert explorer.panels["picture"].value == viz.figure_png(viz.plot_halvings(32, 3, levels=5))


def test_trajectory_player_scrubs_from_noise_to_the_samples() -> None:
    steps = run_of(4)
    explorer = widgets.trajectory_player(steps, columns=2)
    for step, wanted in ((0, steps[0].x_t), (2, steps[2].x_t), (4, steps[3].x_s)):
        explorer.step = step
        scale = shown(explorer, "x_t").shape[0] // 59
        assert torch.equal(shown(explorer, "x_t"), viz.to_png(wanted, 2, scale).pixels())
        assert torch.equal(shown(explorer, "x0_hat"), viz.to_png(steps[min(step, 3)].x0_hat, 2, scale).pixels())
    assert "t = 0" in explorer.panels["left"].value
    assert explorer.play.max == len(steps) and explorer.joint.target == (explorer.controls["step"], "value")


def test_eta_explorer_shows_the_stored_samples() -> None:
    stored = {1.0: pictures(seed=1), 0.0: pictures(seed=2)}
    explorer = widgets.eta_explorer(stored, columns=3)
    assert explorer.positions("eta") == [0.0, 1.0]
    for eta, word in ((1.0, "DDPM"), (0.0, "DDIM")):
        explorer.eta = eta
        scale = shown(explorer, "pictures").shape[0] // 59
        assert torch.equal(shown(explorer, "pictures"), viz.to_png(stored[eta], 3, scale).pixels())
        assert word in explorer.panels["text"].value


@pytest.mark.parametrize("t", [1, 20, 40])
def test_x0_hat_explorer_asks_the_network(t: int) -> None:
    model, schedule, x0 = network(), make_schedule("linear", 40), pictures(3)
    explorer = widgets.x0_hat_explorer(model, schedule, x0, seed=3)
    explorer.t = t
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
    x_t, _ = q_sample(schedule, x0, t, eps)
    x0_hat, eps_hat = predict(model, schedule, x_t, t)
    scale = shown(explorer, "x_t").shape[0] // 30
    for name, wanted in (("x_0", x0), ("x_t", x_t), ("x0_hat", x0_hat)):
        assert torch.equal(shown(explorer, name), viz.to_png(wanted, 3, scale).pixels())
    assert f"{(x0_hat - x0).square().mean():.4f}" in explorer.panels["text"].value
    assert f"{(eps_hat - eps).square().mean():.4f}" in explorer.panels["text"].value
    assert model.training


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
