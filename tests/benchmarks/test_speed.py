"""Operations are counted as by hand, and rates are of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import speed
from course_lib.schedule import make_schedule
from course_lib.unet import UNet
from helpers_benchmarks import CPU, PICTURES, TINY, Clock, without_trials
from records import read_rows

COSINE, X0 = make_schedule("cosine"), torch.zeros(1, 1, 28, 28)


def test_operations_are_counted_as_by_hand() -> None:
    """Two convolutions on 28×28: forward, weights' gradient twice, and input's gradient of the second."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

        def forward(self, x_t: Tensor, t: Tensor, y: None = None) -> Tensor:
            return self.second(self.first(x_t))

    model = Two()
    assert speed.flops_per_picture(model, COSINE, X0) == 5 * 2 * 28 * 28 * 9 * 4
    assert all(p.grad is None for p in model.parameters()) and model.training


def test_attention_is_counted_however_it_is_computed() -> None:
    """The deepest point: 49 positions, 64 channels, two products forward and four backward."""
    with_it, without = UNet(), UNet()
    without.middle[0].attention = nn.Identity()
    here = [speed.flops_per_picture(model, COSINE, X0) for model in (with_it, without)]
    projections = 3 * 2 * 49 * 64 * (192 + 64)
    assert here[0] - here[1] == projections + 6 * 2 * 49 * 49 * 64


def test_speed_is_measured_once_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_trials(monkeypatch)
    compiled: list[nn.Module] = []
    monkeypatch.setattr(speed, "CONTESTANTS", TINY)
    monkeypatch.setattr(speed, "load_data", lambda source: (PICTURES, PICTURES))
    monkeypatch.setattr(speed, "product_rate", lambda device, dtype: 1e11)
    monkeypatch.setattr(speed, "can_compile", lambda device: True)
    monkeypatch.setattr(nn.Module, "compile", lambda model, **_: compiled.append(model))
    command = ["--models", "unet", "--batches", "4", "--seconds", "0.05", "--rounds", "3", "--device", "cpu"]
    command += ["--ways", "float32", "channels-last", "compiled", "--results", str(tmp_path)]
    assert speed.main(command) == 0
    rows = read_rows(tmp_path / "speed_cpu.jsonl")
    assert [row["way"] for row in rows] == ["float32", "channels-last", "compiled"] and len(compiled) == 1
    for row in rows:
        slowest, fastest = row["slowest_and_fastest_turn"]
        assert 0 < slowest <= row["pictures_per_second"] <= fastest
        assert row["utilization"] == pytest.approx(
            row["flops_per_picture"] * row["pictures_per_second"] / 1e11, abs=1e-3
        )
    assert speed.main(command) == 0 and read_rows(tmp_path / "speed_cpu.jsonl") == rows
    assert "| UNet of this course | + channels last | 4 | " in capsys.readouterr().out


def test_the_rate_of_a_turn_is_of_pictures_not_of_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "CONTESTANTS", TINY)
    timed = speed.Timed("unet", "float32", 3, PICTURES, None)
    clock = Clock()
    monkeypatch.setattr(speed, "time", clock)

    def updates() -> Iterator[Any]:
        while True:
            clock.now += 0.5
            yield

    timed.updates = updates()
    for seconds in (2, 0.1, 2):
        timed.turn(seconds)
    assert timed.rates == [6, 6, 6]  # two updates of three pictures in each second
    row = timed.row(reference=1e9)
    assert row["pictures_per_second"] == 6 and row["utilization"] == pytest.approx(6 * timed.flops / 1e9, abs=1e-4)


def test_ways_that_do_not_suit_a_device_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def names(autocast: torch.dtype | None, compiler: bool) -> list[str]:
        monkeypatch.setattr(speed, "can_compile", lambda device: compiler)
        return speed.ways_of(CPU, [*speed.WAYS], autocast)

    assert names(torch.bfloat16, True) == ["float32", "channels-last", "bfloat16", "compiled"]
    assert names(None, True) == ["float32", "channels-last", "compiled"]
    assert names(torch.bfloat16, False) == ["float32", "channels-last", "bfloat16"]


def test_when_compiling_pays() -> None:
    plain = {"pictures_per_second": 100.0, "first_seconds": 1.0}
    assert speed.pays_back({"pictures_per_second": 150.0, "first_seconds": 61.0}, plain) == "3.0 min"  # 60 s · 150/50
    assert speed.pays_back({"pictures_per_second": 90.0, "first_seconds": 61.0}, plain) == "never"
