"""Watching a training run: what is drawn, how often, and what is kept."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from course_lib import viz, widgets
from course_lib.train import TrainState, Update


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time that the widgets read, in seconds; it stands until a test moves it."""
    now = [1000.0]
    monkeypatch.setattr("course_lib.widgets.monitor.time.monotonic", lambda: now[0])
    yield now


def updates(n: int) -> Iterator[Update]:
    for i in range(1, n + 1):
        yield Update(i, torch.tensor(1.0 / i, requires_grad=True), torch.tensor(1.0), 1e-3, i / n, 0.1 * i, TrainState)


def test_loss_plot_draws_what_it_was_given() -> None:
    plot = widgets.LossPlot(smooth=0.5, reference={"zero": 1.0}, every=0.0)
    for loss in (1.0, torch.tensor(0.5), 0.25):
        plot.add(loss)
    assert plot.losses == [1.0, 0.5, 0.25]
    figure = viz.plot_loss([1.0, 0.5, 0.25], smooth=0.5, reference={"zero": 1.0}, size=(6.4, 2.6))
    plot.finish()
    assert plot.image.value == viz.figure_png(figure)


def test_drawing_waits_and_takes_a_thirtieth_of_the_time(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    plot, drawn = widgets.LossPlot(every=3.0), []

    def draw() -> viz.Png:
        drawn.append(round(clock[0], 1))
        clock[0] += 0.5
        return viz.encode(torch.zeros(2, 2, dtype=torch.uint8))

    monkeypatch.setattr(plot, "draw", draw)
    for _ in range(400):
        plot.add(1.0)
        clock[0] += 0.1
    assert len(drawn) == 3 and all(late - early >= 15 for early, late in pairwise(drawn))


def test_monitor_asks_for_pictures_in_a_thirtieth_of_the_time(clock: list[float]) -> None:
    asked = []

    def draw() -> torch.Tensor:
        asked.append(clock[0])
        clock[0] += 0.1
        return torch.zeros(1, 1, 8, 8)

    monitor = widgets.TrainingMonitor(draw, draw_every=0.0, every=1e9)
    for update in updates(5):
        clock[0] += 0.61  # two of them are still too early after a picture that took 0.1 s, five are not
        monitor.update(update)
    assert len(asked) == 1 + 1


def test_monitor_passes_updates_on_and_shows_them() -> None:
    asked: list[int] = []

    def draw() -> torch.Tensor:
        asked.append(len(asked))
        return torch.full((4, 1, 28, 28), min(1.0, 0.1 * len(asked)))

    monitor = widgets.TrainingMonitor(draw, draw_every=1e9, every=0.0, columns=4)
    assert [update.step for update in monitor.watch(updates(20))] == list(range(1, 21))
    assert monitor.losses == pytest.approx([1 / i for i in range(1, 21)])
    assert monitor.bar.value == 1.0 and "update 20" in monitor.text.value and "0:00 left" in monitor.text.value
    assert asked == [0, 1] and "after 20 updates" in monitor.caption.value
    assert monitor.image.tooltip == "4 pictures in a row." and monitor.plot.image.tooltip.startswith("A plot of loss")
    pixels = viz.Png(monitor.image.value).pixels()
    assert (pixels == round(1.2 * 127.5)).sum() > 0.9 * pixels.numel() * (28 / 29) ** 2


def test_monitor_draws_the_curve_where_the_loop_ends_early() -> None:
    monitor = widgets.TrainingMonitor(every=1e9)
    with pytest.raises(KeyboardInterrupt):
        for update in monitor.watch(updates(5)):
            if update.step == 3:
                raise KeyboardInterrupt
    gc.collect()
    assert len(monitor.losses) == 3 and monitor.plot.image.value == monitor.plot.draw()


def test_monitor_holds_no_network() -> None:
    """A widget lives as long as its kernel; the network that it saw should not."""
    network = nn.Linear(1, 1)
    gone = weakref.ref(network)
    monitor = widgets.TrainingMonitor()
    monitor.finish()
    assert monitor.image is None and monitor.losses == []
    for update in monitor.watch(updates(3)):
        monitor.update(replace(update, state=partial(lambda _: TrainState(), network)))
    del network, update
    gc.collect()
    assert gone() is None and len(monitor.losses) == 6
