"""Each way is measured once, and the table says when compiling pays."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import speed
from helpers_benchmarks import PICTURES, TINY
from records import read_rows


def test_speed_is_measured_once_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(speed, "CONTESTANTS", TINY)
    monkeypatch.setattr(speed, "load_data", lambda source: (PICTURES, PICTURES))
    monkeypatch.setattr(speed, "can_compile", lambda device: True)
    monkeypatch.setattr(nn.Module, "compile", lambda model, **_: compiled.append(model))
    command = ["--models", "unet", "--batches", "4", "--seconds", "0.05", "--rounds", "3", "--device", "cpu"]
    command += ["--results", str(tmp_path)]
    assert speed.main(command) == 0
    rows = read_rows(tmp_path / "speed_cpu.jsonl")
    assert [row["way"] for row in rows] == ["float32", "channels-last", "compiled"] and len(compiled) == 1
    assert all(row["pictures_per_second"] > 0 for row in rows)
    assert speed.main(command) == 0 and read_rows(tmp_path / "speed_cpu.jsonl") == rows
    assert "| UNet of this course | + channels last | 4 | " in capsys.readouterr().out

    plain, slow = (
        {"pictures_per_second": 100.0, "first_seconds": 1.0},
        {"pictures_per_second": 90.0, "first_seconds": 61.0},
    )
    assert speed.pays_back({**slow, "pictures_per_second": 150.0}, plain) == "3.0 min"  # 60 s · 150/50
    assert speed.pays_back(slow, plain) == "never"
