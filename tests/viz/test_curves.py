"""Plots show the numbers that they were given: curves, bars and marks are read back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from course_lib import viz
from course_lib.blocks import sinusoidal_embedding
from helpers_viz import two_schedules


def curve(axes: Any, label: str) -> tuple[list[float], list[float]]:
    """The data of the line with this label."""
    (line,) = (line for line in axes.get_lines() if line.get_label() == label)
    return list(line.get_xdata()), list(line.get_ydata())


def test_plot_variance_agrees_with_a_simulation() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(200_000, generator=generator, dtype=torch.float64) for _ in range(2))
    x = 0.6 * x
    axes: Any = viz.plot_variance([0.5], [0.34], picture_variance=float(x.var())).axes[0]
    for label, a, b in (("weights 1−u and u: predicted", 0.7, 0.3), ("weights √(1−u) and √u", 0.7**0.5, 0.3**0.5)):
        xs, ys = curve(axes, label)
        at = min(range(len(xs)), key=lambda i: abs(xs[i] - 0.3))
        assert ys[at] == pytest.approx(float((a * x + b * noise).var()), rel=0.01)


def test_schedules_and_marker_sit_at_the_tables() -> None:
    schedules = two_schedules(40)
    figure: Any = viz.plot_schedules(schedules, t=15)
    for schedule in schedules:
        for axes, table in zip(figure.axes, (schedule.signal, schedule.noise, schedule.snr.log10()), strict=True):
            xs, ys = curve(axes, schedule.name)
            assert ys == pytest.approx(table[int(xs[0]) :].tolist())
            marks = [line for line in axes.get_lines() if line.get_marker() == "o"]
            assert (15, pytest.approx(float(table[15]))) in [(m.get_xdata()[0], m.get_ydata()[0]) for m in marks]


def test_plot_loss_draws_raw_smoothed_and_reference() -> None:
    losses = [1.0, 0.5, 0.7, 0.2]
    axes: Any = viz.plot_loss(losses, smooth=0.9, reference={"zero": 1.0}).axes[0]
    assert list(axes.get_lines()[0].get_ydata()) == losses
    assert curve(axes, "running mean")[1] == pytest.approx(viz.smoothed(losses, 0.9))
    assert set(curve(axes, "zero")[1]) == {1.0}


def test_loss_by_timestep_averages_within_intervals() -> None:
    t, loss = torch.tensor([1, 10, 11, 20, 100]), torch.tensor([1.0, 3.0, 5.0, 5.0, 7.0])
    axes: Any = viz.plot_loss_by_timestep(t, loss, T=100, bins=10).axes[0]
    assert {p.get_x() + p.get_width() / 2: p.get_height() for p in axes.patches} == {5.0: 2.0, 15.0: 5.0, 95.0: 7.0}


def test_histogram_is_a_density() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    axes: Any = viz.plot_histogram(values).axes[0]
    heights, edges, _ = axes.patches[0].get_data()
    assert (heights * (edges[1:] - edges[:-1])).sum() == pytest.approx(1, abs=1e-5)


def test_time_embedding_map_holds_the_embedding() -> None:
    embedding = sinusoidal_embedding(torch.arange(20), 16)
    figure: Any = viz.plot_time_embedding(embedding)
    assert torch.equal(torch.as_tensor(figure.axes[0].get_images()[0].get_array().copy()), embedding)
