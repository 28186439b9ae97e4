"""What each explorer shows, held against the library."""

# mypy: allow-untyped-defs, disable-error-code="arg-type"
from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from course_lib import viz, widgets
from course_lib.forward import corrupt, q_sample
from course_lib.sample import predict
from course_lib.schedule import make_schedule
from course_lib.unet import BottleneckUNet
from course_lib.viz.gauge import gauge_place
from course_lib.widgets.canvas import PictureCanvas, unpack
from helpers import Tame
from helpers_viz import assert_same, clothes, painted, state_of, steps_of_a_run, table_of, two_schedules


def assert_shows(explorer: Any, **pictures: Any) -> dict[str, Any]:
    """Compare panels with pictures in rows of three; what all panels show."""
    found = painted(explorer)
    assert_same(
        {name: found[name] for name in pictures}, {name: viz.grid(x, 3).numpy() for name, x in pictures.items()}
    )
    return found


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("noise", ["gaussian", "uniform"])
def test_corruption_explorer_shows_corrupt(noise: str, clip: bool) -> None:
    x = clothes(4)
    explorer = widgets.corruption_explorer(x, seed=7, columns=3)
    for amount in (0.0, 0.25, 1.0):
        explorer.set(amount=amount, noise=noise, clip=clip)
        mixed, _ = corrupt(x, amount, noise, generator=torch.Generator().manual_seed(7))
        found = assert_shows(explorer, pictures=mixed if clip else mixed / 3)
        assert f"variance of the mixture {mixed.double().var():.3f}" in found["text"]
    explorer.amount = 3
    assert explorer.amount == 1.0  # a slider clamps


def test_timestep_explorer_shows_q_sample_and_the_tables() -> None:
    x0, named = clothes(3), two_schedules(60)
    explorer = widgets.timestep_explorer(x0, named, t=30, seed=5)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(5))
    for t in (0, 17, 60):
        explorer.t = t
        for i, schedule in enumerate(named):
            found = assert_shows(explorer, **{f"pictures{i}": q_sample(schedule, x0, t, eps)[0]})
            assert f"a = {schedule.signal[t]:.4f}, b = {schedule.noise[t]:.4f}" in found[f"numbers{i}"]
            assert ("∞" in found[f"numbers{i}"]) == (t == 0)


def test_markers_lie_on_the_curves() -> None:
    canvas = widgets.timestep_explorer(clothes(1), two_schedules(60)).canvas
    table = table_of(canvas)
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


def test_noise_gauge_warns_about_150_linear_steps_and_points_at_a_T() -> None:
    explorer = widgets.noise_gauge(clothes(2))
    assert "practical purpose" in painted(explorer)["verdict"] and "⚠" not in painted(explorer)["verdict"]
    explorer.T = 150
    assert "still holds the picture: 0.47" in painted(explorer)["verdict"]
    assert "⚠" in painted(explorer)["verdict"]
    (needle,) = explorer.canvas.spec["panels"][0][0]["markers"]
    row, layer, _ = state_of(explorer)
    a = make_schedule("linear", 150).signal[-1]
    assert table_of(explorer.canvas)[row, needle["x"][layer]] == pytest.approx(float(gauge_place(a)), rel=1e-6)
    explorer.schedule = "linear, zero terminal SNR"
    assert "nothing of the picture" in painted(explorer)["verdict"]


def test_trajectory_player_scrubs_from_noise_to_the_samples() -> None:
    steps = steps_of_a_run(4)
    explorer = widgets.trajectory_player(steps, columns=3)
    for step, wanted in ((0, steps[0].x_t), (2, steps[2].x_t), (4, steps[3].x_s)):
        explorer.step = step
        found = assert_shows(explorer, x_t=wanted, x0_hat=steps[min(step, 3)].x0_hat)
    assert "t = 0" in found["text"]
    joined = {(link.source, link.target) for link in explorer.links}
    assert ((explorer.play, "value"), (explorer.controls["step"], "value")) in joined
    assert ((explorer.speed, "value"), (explorer.play, "interval")) in joined
    assert explorer.play.max == len(steps) and explorer.play.show_repeat


def test_eta_explorer_shows_the_stored_samples() -> None:
    stored = {1.0: clothes(seed=1), 0.0: clothes(seed=2)}
    explorer = widgets.eta_explorer(stored, columns=3)
    assert explorer.positions("eta") == [0.0, 1.0]
    for eta, word in ((1.0, "DDPM"), (0.0, "DDIM")):
        explorer.eta = eta
        assert word in assert_shows(explorer, pictures=stored[eta])["text"]


def test_x0_hat_explorer_asks_the_Tame() -> None:
    model, schedule, x0 = Tame(), make_schedule("linear", 40), clothes(3)
    explorer = widgets.x0_hat_explorer(model, schedule, x0, seed=3)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
    for t in (1, 20, 40):
        explorer.t = t
        x_t, _ = q_sample(schedule, x0, t, eps)
        x0_hat, eps_hat = predict(model, schedule, x_t, t)
        found = assert_shows(explorer, x_0=x0, x_t=x_t, x0_hat=x0_hat)
        assert explorer.canvas.shown == t
        assert f"{(x0_hat - x0).square().mean():.4f}" in found["text"]
        assert f"{(eps_hat - eps).square().mean():.4f}" in found["text"]
    assert model.training


def test_x0_hat_explorer_asks_once_for_each_move_and_never_where_frames_are_stored(monkeypatch: Any) -> None:
    model, passes = Tame(), []
    model.register_forward_hook(lambda *_: passes.append(1))
    explorer = widgets.x0_hat_explorer(model, make_schedule("linear", 100), clothes(2))
    for t in (3, 4, 4, 90):
        explorer.t = t
    assert len(passes) == 1 + 3
    monkeypatch.setenv(widgets.STORE_FRAMES, "1")
    for T, start, found in ((100, 50, range(4, 101, 4)), (30, 15, range(1, 31))):
        del passes[:]
        stored = widgets.x0_hat_explorer(model, make_schedule("linear", T), clothes(2), t=start)
        slider = stored.controls["t"]
        assert (slider.min, slider.max, slider.step) == (found[0], found[-1], found.step)
        assert abs(stored.t - start) <= 2 and len(passes) == len(found)
        stored.t = found[-1]
        frames = painted(stored)
        assert len(passes) == len(found)
        assert_same(frames, stored.view(t=found[-1]))


def test_explorers_of_sizes_begin_where_they_were_told_and_join_their_sliders() -> None:
    layer = dict(kind="pool", size=9, kernel=2, stride=2, padding=1, output_padding=0, dilation=1)
    for explorer, values, result in (
        (widgets.shape_explorer(**layer), layer, "9 × 9 → 5 × 5"),
        (widgets.unet_explorer(12, 2), {"size": 12, "halvings": 2}, "odd size."),
    ):
        assert explorer.values() == values == {name: getattr(explorer.canvas, name) for name in values}
        traits = {name: ("index", "kind_index") if name == "kind" else ("value", name) for name in values}
        joined = {(link.source, link.target[1]) for link in explorer.links}
        assert joined == {((explorer.controls[name], trait), target) for name, (trait, target) in traits.items()}
        assert str(explorer.view(**values)["result"]).endswith(result)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda x, _: widgets.corruption_explorer(x.byte()), TypeError, "uint8"),
        (lambda x, _: widgets.corruption_explorer(x.expand(-1, 2, -1, -1)), ValueError, "channels=2"),
        (lambda x, _: widgets.corruption_explorer(x, seed=-1), ValueError, "seed"),
        (lambda x, _: widgets.corruption_explorer(x, clip="no"), TypeError, "clip must be True or False"),
        (lambda x, _: widgets.corruption_explorer(5 * x), ValueError, "\\[-1, 1\\]"),
        (lambda x, _: widgets.corruption_explorer(x, "salt"), ValueError, "gaussian"),
        (lambda x, _: widgets.corruption_explorer(clothes(200)), ValueError, "x\\[:16\\]"),
        (lambda x, nine: widgets.timestep_explorer(clothes(9), nine), ValueError, "at most 8"),
        (lambda x, _: widgets.timestep_explorer(x, "linear"), TypeError, "schedules must be .*make_schedule"),
        (lambda x, nine: widgets.timestep_explorer(x, [nine, make_schedule("linear", 5)]), ValueError, "same T"),
        (lambda x, nine: widgets.timestep_explorer(x, nine, t=10), ValueError, "0..9"),
        (lambda x, _: widgets.noise_gauge(schedule="none"), ValueError, "linear"),
        (lambda x, _: widgets.noise_gauge(T=155), ValueError, "multiple of 10"),
        (lambda x, _: widgets.shape_explorer("dense"), ValueError, "transposed conv"),
        (lambda x, _: widgets.trajectory_player([]), ValueError, "trajectory"),
        (lambda x, _: widgets.eta_explorer({}), ValueError, "at least one"),
        (lambda x, _: widgets.eta_explorer({0: x, 1: clothes(3)}), ValueError, "one shape"),
        (lambda x, nine: widgets.x0_hat_explorer(Tame(), nine, x, t=0), ValueError, "noise begins"),
        (lambda x, _: widgets.x0_hat_explorer(Tame(), "linear", x), TypeError, "schedule must be .*make_schedule"),
        (lambda x, nine: widgets.x0_hat_explorer("a.safetensors", nine, x), TypeError, "model must be .*checkpoint"),
        (lambda x, nine: widgets.x0_hat_explorer(Tame(), nine, x, "epsilon"), ValueError, "target='epsilon'"),
        (lambda x, nine: widgets.x0_hat_explorer(BottleneckUNet(), nine, x), ValueError, "16"),
        (lambda x, _: PictureCanvas((2, 1, 4, 4), []).show_live(1, [torch.zeros(1, 1, 4, 4)]), ValueError, "shape"),
    ],
)
def test_refusals(call: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        call(clothes(2), make_schedule("linear", 9))
