"""One of every figure and of every explorer, and what an explorer shows, read from its bytes as the browser does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from course_lib import viz, widgets
from course_lib.sample import SampleStep
from course_lib.schedule import make_schedule
from course_lib.shapes import trace
from course_lib.unet import BottleneckUNet
from course_lib.widgets.canvas import PictureCanvas, unpack
from helpers import Tame


def pictures(n: int = 4, channels: int = 1, height: int = 6, width: int = 5, seed: int = 0) -> Tensor:
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def clothes(n: int = 6, seed: int = 0) -> Tensor:
    """Pictures of the size of Fashion-MNIST."""
    return pictures(n, 1, 28, 28, seed)


def steps_of_a_run(n: int = 5) -> list[SampleStep]:
    return [SampleStep(n - i, n - i - 1, *(pictures(3, seed=10 * i + j) for j in range(4))) for i in range(n)]


def texts(figure: viz.Figure) -> list[str]:
    """Everything that is written on a figure."""
    found: list[Any] = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return [text.get_text() for text in found if text.get_text()]


def two_schedules(T: int) -> list[Any]:
    return [make_schedule("linear", T), make_schedule("cosine", T)]


FIGURES: dict[str, Callable[[], viz.Figure]] = {
    "show_grid": lambda: viz.show_grid(pictures(3), ["a", "b", "c"], title="all"),
    "show_rows": lambda: viz.show_rows({"one": pictures(2), "two": pictures(3, 3)}, ["a", "b", "c"]),
    "filmstrip": lambda: viz.filmstrip(pictures(2), generator=torch.Generator().manual_seed(0)),
    "show_features": lambda: viz.show_features(pictures(5, height=7, width=7)[:, 0]),
    "plot_curves": lambda: viz.plot_curves({"y": ([0, 1], [1, 2])}, {"d": ([0], [1], [0.1])}, mark=0.5),
    "plot_variance": lambda: viz.plot_variance([0, 1], [1, 1], [0.1, 0.1], picture_variance=0.5),
    "plot_histogram": lambda: viz.plot_histogram({"a": pictures(9), "b": pictures(1, seed=1)}),
    "plot_schedules": lambda: viz.plot_schedules(two_schedules(50), 20),
    "plot_gauge": lambda: viz.plot_gauge(make_schedule("linear", 50)),
    "plot_loss": lambda: viz.plot_loss([1.0, 0.5], reference={"zero": 1.0}),
    "plot_loss of nothing": lambda: viz.plot_loss([]),
    "plot_loss_by_timestep": lambda: viz.plot_loss_by_timestep(torch.tensor([1, 9]), torch.tensor([1.0, 2.0]), 10),
    "plot_time_embedding": lambda: viz.plot_time_embedding(pictures(1, height=8, width=6)[0, 0].abs()),
    "plot_kernel": lambda: viz.plot_kernel("transposed conv", 4, 3, 2, 1, 1),
    "plot_halvings": lambda: viz.plot_halvings(28, 4),
    "plot_unet": lambda: viz.plot_unet(trace(BottleneckUNet(), torch.zeros(1, 1, 16, 16)), "title"),
    "plot_trajectory": lambda: viz.plot_trajectory(steps_of_a_run()),
    "nearest_table": lambda: viz.nearest_table(pictures(2), pictures(6, seed=1)),
}


EXPLORERS: dict[str, Callable[[], widgets.Explorer]] = {
    "corruption": lambda: widgets.corruption_explorer(clothes()),
    "timestep": lambda: widgets.timestep_explorer(clothes(3), two_schedules(60)),
    "gauge": lambda: widgets.noise_gauge(clothes(4)),
    "gauge alone": lambda: widgets.noise_gauge(),
    "trajectory": lambda: widgets.trajectory_player(steps_of_a_run()),
    "eta": lambda: widgets.eta_explorer({0: clothes(), 0.5: clothes(seed=1), 1: clothes(seed=2)}),
    "x0_hat": lambda: widgets.x0_hat_explorer(Tame(), make_schedule("linear", 40), clothes(3)),
    "shape": lambda: widgets.shape_explorer(),
    "unet": lambda: widgets.unet_explorer(),
}


def state_of(explorer: widgets.Explorer) -> tuple[int, int, bool]:
    """Position, layer and clipping in the browser, after the links have carried the controls' values over."""
    canvas = explorer.canvas
    state = {"value": canvas.value, "layer": canvas.layer, "clip": canvas.clip}
    for link in explorer.links:
        (source, trait), (target, name) = link.source, link.target
        if target is canvas:
            state[name] = getattr(source, trait)
    row = round((state["value"] - canvas.spec["low"]) / canvas.spec["step"])
    return min(max(row, 0), canvas.spec["positions"] - 1), state["layer"], state["clip"]


def table_of(canvas: PictureCanvas) -> np.ndarray:
    return unpack(canvas, canvas.spec["table"], "<f4").reshape(canvas.spec["positions"], -1)


def painted(explorer: widgets.Explorer) -> dict[str, Any]:
    """What every panel shows, found from the packed bytes alone, as the browser finds it."""
    canvas, spec = explorer.canvas, explorer.canvas.spec
    row, layer, clip = state_of(explorer)
    table, found = table_of(canvas), dict[str, Any]()
    live = iter(np.frombuffer(canvas.live, np.uint8).reshape(-1, *spec["shape"]))
    texts = iter(canvas.live_texts)
    for panel in (panel for line in spec["panels"] for panel in line):
        name = panel["name"]
        if panel["kind"] == "text" and panel["texts"]:
            found[name] = unpack(canvas, panel["texts"][layer], np.uint8).tobytes().decode().split("\x1e")[row]
        elif panel["kind"] == "text":
            found[name] = next(texts)
        elif panel["kind"] == "pictures" and not panel["terms"]:
            x = torch.from_numpy(next(live).copy()).double() / 127.5 - 1
            found[name] = viz.grid(x, panel["columns"]).numpy()
        elif panel["kind"] == "pictures":
            mixed = np.zeros(spec["shape"])
            for index, column in panel["terms"][layer]:
                stack = spec["stacks"][index]
                stored = unpack(canvas, stack["data"], {8: "u1", 16: "<i2"}[stack["bits"]])
                frame = stored.reshape(stack["frames"], *spec["shape"])[min(row, stack["frames"] - 1)]
                mixed += (1.0 if column < 0 else table[row, column]) * (frame * stack["scale"] + stack["offset"])
            span = 1.0 if clip else spec["span"]
            found[name] = viz.grid(torch.from_numpy(mixed), panel["columns"], span=span).numpy()
    return found


def assert_same(found: dict[str, Any], wanted: Any) -> None:
    assert found.keys() == wanted.keys()
    for name, content in wanted.items():
        if isinstance(content, str):
            assert found[name] == content
        else:
            assert found[name].shape == content.shape
            assert np.abs(found[name].astype(int) - content).max() <= 1, name
