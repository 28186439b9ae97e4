"""Devices, precision, seeds."""

from __future__ import annotations

import copy
import itertools
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from course_lib.runtime import can_compile, describe_machine, make_generator, pick_autocast, pick_device
from helpers_training import threads


def test_the_best_device_is_picked_and_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device() == torch.device("cpu") == pick_device("cpu")
    for name, message in {
        "gpu": "name='gpu' is unknown; choose one of 'cuda', 'mps', 'cpu'",
        "cuda": "this machine has no cuda; it has cpu",
        "cuda:x": "name must be a device such as 'cpu' or 'cuda:1', got 'cuda:x'",
    }.items():
        with pytest.raises(ValueError, match=message):
            pick_device(name)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device().type == "mps" and pick_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device().type == "cuda" and pick_device("mps").type == "mps"
    assert pick_device("cuda:1").index == 1
    with pytest.raises(ValueError, match=r"has 2 CUDA device\(s\), so there is no cuda:2"):
        pick_device("cuda:2")


class Dropping(nn.Module):
    """Draws random numbers, counts its pictures and has statistics that every training pass moves."""

    seen: ClassVar[list[tuple[int, int, bool]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.seen.append((len(x_t), torch.get_num_threads(), torch.is_autocast_enabled("cpu")))
        return self.layers(x_t) * t.view(-1, 1, 1, 1)


def test_autocast_is_bfloat16_or_nothing_and_leaves_all_as_it_was() -> None:
    model, batch = Dropping(), (torch.rand(8, 1, 6, 6), torch.ones(8))
    weights, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    with threads(2):
        assert pick_autocast(model, *batch) in (None, torch.bfloat16)
        assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state) and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert Dropping.seen == [(4, 1, False), (4, 1, True)] * 5  # in turns, each thread's share of the batch
    assert pick_autocast(model, batch[0].to("meta"), batch[1]) is None  # another device than a CPU or a GPU of NVIDIA's


@pytest.mark.parametrize(("faster", "expected"), [(0.8, torch.bfloat16), (0.9, None), (2.0, None)])
def test_autocast_goes_by_the_clock(
    monkeypatch: pytest.MonkeyPatch, faster: float, expected: torch.dtype | None
) -> None:
    """bfloat16 if it takes less than 0.85 of the time, by the best of five tries in turns."""
    spans = [0.0, 9.0, 0.0, 9.0, *[0.0, 1.0, 0.0, faster] * 4]  # from start to end, and no time to the next start
    clock = itertools.accumulate(spans)
    monkeypatch.setattr("course_lib.runtime.time.perf_counter", lambda: next(clock))
    assert pick_autocast(nn.Conv2d(1, 1, 3), torch.rand(2, 1, 6, 6)) is expected
    assert not [*clock]


def test_compiling_is_found_out_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no compiler")

    for compiled, expected in ((lambda x: x.sum(), True), (broken, False), (lambda x: x.sum() / 0, False)):
        monkeypatch.setattr(torch, "compile", lambda _, compiled=compiled: compiled)
        assert can_compile(torch.device("cpu")) is expected
    monkeypatch.setattr(torch, "compile", broken)
    assert not can_compile(torch.device("cpu"))


def test_generators_are_seeded() -> None:
    state = torch.get_rng_state()
    first, second, other = (torch.randn(5, generator=make_generator(seed)) for seed in (3, 3, 2**64 - 1))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    for seed in (-1, 2**64, 1.0, None, True):
        with pytest.raises((TypeError, ValueError), match="seed must"):
            make_generator(seed)  # type: ignore[arg-type]


def test_the_machine_in_one_line() -> None:
    line = describe_machine()
    assert platform.python_version() in line and torch.__version__ in line and "\n" not in line
    assert f"training on: {pick_device().type}" in line
    assert describe_machine("cpu") == describe_machine(torch.device("cpu")) and "(CPU)" in describe_machine("cpu")


@pytest.mark.cuda
def test_on_a_gpu() -> None:
    assert pick_device().type == "cuda" and torch.cuda.get_device_name() in describe_machine()
    assert pick_autocast(nn.Linear(2, 2), torch.ones(1, 2, device="cuda")) in (None, torch.bfloat16)


def test_what_was_compiled_is_kept_at_home(tmp_path: Path) -> None:
    """PyTorch unpickles it, and its own place is in /tmp, where anybody may have put it."""

    def kept(**more: str) -> str:
        without = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
        asked = "import course_lib, os; print(os.environ.get('TORCHINDUCTOR_CACHE_DIR'))"
        environment = {**without, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path), **more}
        return subprocess.check_output([sys.executable, "-c", asked], env=environment, text=True).strip()

    assert Path(kept()) == tmp_path / ".cache" / "course_lib" / "torchinductor"
    assert kept(TORCHINDUCTOR_CACHE_DIR="elsewhere") == "elsewhere"
