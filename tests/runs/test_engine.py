"""What a run decides about its machine: device, precision, compiler, processes, and what Accelerate must not decide."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import accelerate.utils
import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

import course_lib
from course_lib.checkpoint import load_tensors
from course_lib.runs import RunConfig, compiling_pays, engine, read_config, run, start
from course_lib.train import TrainConfig
from course_lib.unet import UNet
from helpers_runs import apart, go


@pytest.fixture
def restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
def test_bf16_and_a_compiled_network_leave_ordinary_weights(
    threads: int, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restore_threads: None
) -> None:
    """Names and dtypes of the weights are those of the plain network, and they are near its weights.

    The compiler here traces the network and makes no machine code, for which a CPU would take minutes.
    """
    compiled: list[nn.Module] = []

    def trace(model: nn.Module, **options: Any) -> None:
        compiled.append(model)
        nn.Module.compile(model, backend="eager", **options)

    config = RunConfig.of({"warmup": 0, "steps": 6, "channels": [8], "attention": []}, config)
    torch.set_num_threads(threads)
    monkeypatch.setattr(UNet, "compile", trace)
    monkeypatch.setattr(engine, "can_compile", lambda device: True)
    go(tmp_path / "plain", config, updates=6)
    for name, changes in (("bf16", dict(precision="bf16")), ("compiled", dict(compile="yes"))):
        AcceleratorState._reset_state(True)
        go(tmp_path / name, RunConfig.of(changes, config), updates=6)
        plain, other = (load_tensors(tmp_path / n / "step-00000006/state.safetensors")[0] for n in ("plain", name))
        assert plain.keys() == other.keys()
        assert all(value.dtype == plain[key].dtype for key, value in other.items())
        assert any(not torch.equal(value, plain[key]) for key, value in other.items()) == (name == "bf16")
        begin = config.model(config.pictures()).state_dict(prefix="model.")
        assert apart(begin, plain, other) < 0.2
    assert len(compiled) == 1


def test_without_a_compiler_a_run_does_not_begin_but_goes_on(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = RunConfig.of({"compile": "yes"}, config)
    monkeypatch.setattr(UNet, "compile", lambda model, **_: None)
    monkeypatch.setattr(engine, "can_compile", lambda device: False)
    with pytest.raises(ValueError, match="compile='yes' needs a compiler that PyTorch can use here; take compile='no'"):
        go(tmp_path / "a", wanted)
    assert not (tmp_path / "a").exists()
    for compiler, resume in ((True, False), (False, True)):
        monkeypatch.setattr(engine, "can_compile", lambda device, answer=compiler: answer)
        assert go(tmp_path / "a", wanted, resume=resume)
        assert f"compiled: {'yes' if compiler else 'no'}" in capsys.readouterr().out


def test_an_emulated_bfloat16_is_refused_and_told_of_where_a_run_has_begun_with_it(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = RunConfig.of({"precision": "bf16"}, config)
    assert engine.has_bf16(torch.device("cpu"))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "has_bf16", lambda device: False)
        with pytest.raises(ValueError, match="precision='bf16' needs a GPU that has it"):
            go(tmp_path / "a", changed)
        assert not (tmp_path / "a").exists()
    assert go(tmp_path / "a", changed) and "slowly" not in capsys.readouterr().out
    monkeypatch.setattr(engine, "has_bf16", lambda device: False)
    assert go(tmp_path / "a", None, resume=True)
    assert "emulates bfloat16: the run goes on slowly; --precision no is faster" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "pays"),
    [
        (dict(minutes=10), True),
        (dict(minutes=3), False),
        (dict(steps=10_000), True),
        (dict(steps=9_999), False),
        (dict(minutes=60, steps=100), False),
    ],
)
def test_short_trainings_are_not_compiled(
    settings: dict[str, Any], pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "can_compile", lambda device: True)
    assert compiling_pays(TrainConfig(**settings), torch.device("cuda")) == pays
    assert not compiling_pays(TrainConfig(**settings), torch.device("cpu"))
    monkeypatch.setattr(engine, "can_compile", lambda device: False)
    assert not compiling_pays(TrainConfig(**settings), torch.device("cuda"))


def test_nothing_is_written_for_a_run_that_cannot_begin(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accelerate keeps precision and device of its first use, and would go on with them without a word."""
    run(tmp_path / "a", replace(config, train=replace(config.train, steps=1)), device="cpu")
    with pytest.raises(ValueError, match="precision must be 'no', which Accelerate was first used with"):
        go(tmp_path / "b", replace(config, precision="bf16"))
    with monkeypatch.context() as patch:
        patch.setattr(start, "pick_device", lambda name: torch.device("cuda"))
        with pytest.raises(ValueError, match="device must be 'cpu', which Accelerate was first used with"):
            run(tmp_path / "b", config)
    with monkeypatch.context() as patch:
        patch.setitem(accelerate.PartialState._shared_state, "num_processes", 3)
        with pytest.raises(ValueError, match="batch_size must be a multiple of 3"):
            go(tmp_path / "b", config)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="log needs the package tensorboard"):
        go(tmp_path / "b", config, log=True)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (2, "data must be the same on all machines: the first process has others than 5 pict"),
        (3, "init must be the same in all processes: the first has other weights than .*run"),
    ],
)
def test_machines_with_other_pictures_or_weights_are_told_so(
    place: int, message: str, config: RunConfig, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_the_first(mine: list[Any]) -> list[Any]:
        return [*mine[:place], "another hash", *mine[place + 1 :]]

    monkeypatch.setattr(accelerate.utils, "broadcast_object_list", of_the_first)
    with pytest.raises(ValueError, match=message):
        go(tmp_path / "b", RunConfig.of({"init": str(finished)}, config))
    assert not (tmp_path / "b").exists()


def test_machines_that_share_no_disk_are_told_so(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = accelerate.utils.broadcast_object_list
    answers = iter([None, [0]])  # what is decided once, and the update at which the first process stands
    monkeypatch.setattr(accelerate.utils, "broadcast_object_list", lambda mine: next(answers) or honest(mine))
    with pytest.raises(ValueError, match="found the checkpoint of update 0, and this one that of update 6"):
        run(done, resume=True, device="cpu")


def test_the_environment_does_not_change_what_the_run_decided(pictures: Path, tmp_path: Path) -> None:
    """In a process of its own: other gradients in parts, a compiler and a precision are asked for, and ignored."""
    options = "--size 8 --channels 8 --steps 2 --batch-size 4 --accumulate 2 --precision no --compile no --device cpu"
    asked = dict(GRADIENT_ACCUMULATION_STEPS="4", DYNAMO_BACKEND="inductor", MIXED_PRECISION="fp16")
    environment = {**os.environ, "PYTHONPATH": str(Path(course_lib.__file__).parents[1])}
    environment |= {f"ACCELERATE_{name}": value for name, value in asked.items()}
    command = [sys.executable, "-m", "course_lib", "train", "--data", str(pictures), *options.split(), "--out", "a"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "compiled: no" in done.stdout, done.stderr
    assert read_config(tmp_path / "a" / "config.json")[0].train.accumulate == 2


@pytest.mark.parametrize("name", ["DEEPSPEED", "FSDP", "MEGATRON_LM"])
def test_ways_to_train_that_the_course_does_without_are_refused(
    name: str, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ValueError, match=f"ACCELERATE_USE_{name} is set, but this course trains with whole copies"):
        go(tmp_path / "a", config)
    assert not (tmp_path / "a").exists()
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "false")
    assert go(tmp_path / "a", RunConfig.of({"steps": 1}, config))
