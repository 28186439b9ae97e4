"""What a figure cannot be made of is refused in words that name it."""

# mypy: disable-error-code="arg-type,list-item"
from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from course_lib import viz
from course_lib.schedule import make_schedule
from helpers_viz import steps_of_a_run

X, TEN = torch.zeros(2, 1, 4, 4), make_schedule("linear", 10)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: viz.to_png(X.byte()), TypeError, "uint8"),
        (lambda: viz.to_png(torch.zeros(2, 2, 4, 4)), ValueError, "channels"),
        (lambda: viz.to_png(X, scale=1.5), TypeError, "scale"),
        (lambda: viz.to_png(X, span=0), ValueError, "span"),
        (lambda: viz.to_gif([]), ValueError, "at least one picture"),
        (lambda: viz.to_gif([torch.zeros(2, 2)]), TypeError, "frames must hold uint8 tensors, got torch.float32"),
        (lambda: viz.to_gif([torch.zeros(2, 2).byte(), torch.zeros(2, 3).byte()]), ValueError, "one shape"),
        (lambda: viz.encode(X), TypeError, "pixels must be a uint8 tensor, got torch.float32"),
        (lambda: viz.encode(X.byte()), ValueError, r"pixels must have shape .* got \(2, 1, 4, 4\)"),
        (lambda: viz.show_rows({}), ValueError, "at least one"),
        (lambda: viz.show_rows({"a": X[0]}), ValueError, r"rows\['a'\]"),
        (lambda: viz.show_rows({"a": X}, ["one"]), ValueError, "titles"),
        (lambda: viz.show_rows({"a": X}, span=-1), ValueError, "span"),
        (lambda: viz.show_grid(X, ["one"]), ValueError, "titles"),
        (lambda: viz.show_grid(torch.zeros(2, 2, 4, 4)), ValueError, "channels"),
        (lambda: viz.show_features(torch.zeros(2, 3, 4, 4)), ValueError, "one picture"),
        (lambda: viz.plot_trajectory([]), ValueError, "at least one step of a run, got none"),
        (lambda: viz.plot_trajectory("a.pt"), ValueError, r"got str; make them with course_lib.sample.trajectory"),
        (lambda: viz.plot_trajectory(steps_of_a_run(), index=3), ValueError, "index"),
        (lambda: viz.plot_schedules("linear"), TypeError, r"schedules must be .*make_schedule\('linear'\)"),
        (lambda: viz.plot_schedules([TEN, None]), TypeError, "schedules must be .*got NoneType"),
        (lambda: viz.plot_schedules([]), ValueError, "at least one schedule"),
        (lambda: viz.plot_schedules(TEN, t=11), ValueError, "t must lie"),
        (lambda: viz.plot_gauge("linear"), TypeError, r"schedule must be .*make_schedule\('linear'\)"),
        (lambda: viz.plot_loss_by_timestep(torch.tensor([1]), torch.zeros(2), 9), ValueError, "shape"),
        (lambda: viz.plot_loss_by_timestep(torch.tensor([10]), torch.zeros(1), 9), ValueError, "t must lie in 1..9"),
        (lambda: viz.plot_time_embedding(torch.zeros(3)), ValueError, "embedding"),
        (lambda: viz.plot_time_embedding(torch.zeros(3, 4), torch.arange(2)), ValueError, "one entry per row"),
        (lambda: viz.plot_histogram({"noise": torch.tensor([1, math.nan])}), ValueError, "noise holds 1 value"),
        (lambda: viz.plot_halvings(0), ValueError, "size"),
        (lambda: viz.plot_unet([]), ValueError, "trace"),
    ],
)
def test_what_makes_no_figure(call: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()
