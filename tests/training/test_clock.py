"""When a training by the clock ends, and what does not count."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from course_lib.train import TrainConfig, train
from course_lib.training import clock
from helpers_training import SCHEDULE, Clock, Tiny, some_pictures, updates_of


@pytest.mark.parametrize(
    ("options", "expected"), [(dict(minutes=0.1), 6), (dict(minutes=0.1, steps=4), 4), (dict(minutes=0.1, steps=9), 6)]
)
def test_it_ends_after_the_minutes(options: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "time", Clock())
    config = TrainConfig(warmup=0, lr=1.0, **options)
    updates = updates_of(Tiny(), config)
    assert len(updates) == expected and updates[-1].progress == 1
    assert [update.seconds for update in updates] == list(range(1, expected + 1))
    assert updates[0].lr == 1 and updates[-1].lr == pytest.approx(config.learning_rate(9, 1 - 1 / expected))


def test_a_training_goes_on_from_the_seconds_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "time", Clock())
    model, config = Tiny(), TrainConfig(minutes=0.1, warmup=0, lr=1.0)
    *_, third = updates_of(model, replace(config, steps=3))
    monkeypatch.setattr(clock, "time", Clock())
    rest = updates_of(model, config, start=third.state())
    assert [update.seconds for update in rest] == [4, 5, 6] and rest[-1].progress == 1
    assert [update.lr for update in rest] == pytest.approx([config.learning_rate(9, s / 6) for s in (3, 4, 5)])


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        ((1000, 0, 30, 10_000, 500, 0), (1, 1, 1, 31, 31, 501, 1)),
        ((100, 100, 100, 100, 100, 100), (1, 1, 101, 101, 101, 101, 101)),  # each time, so it is no pause
    ],
)
def test_a_pause_does_not_count(
    waits: tuple[int, ...], expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a computer that slept, or a reader of a notebook: the update after it took as long as the longest one."""
    watch, seconds = Clock(), [0.0]
    monkeypatch.setattr(clock, "time", watch)
    updates = train(Tiny(), SCHEDULE, some_pictures(), TrainConfig(steps=7, minutes=600))
    for update, wait in zip(updates, (*waits, 0), strict=True):
        seconds.append(update.seconds)
        watch.now += wait
    assert [b - a for a, b in pairwise(seconds)] == [*expected]
