"""Resuming: what a run goes on with, what it refuses, and what it leaves as it was."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from filelock import FileLock
from torch import Tensor

from course_lib.checkpoint import load_checkpoint, load_tensors
from course_lib.runs import (
    How,
    RunConfig,
    SaveEvery,
    checkpoints,
    engine,
    last_good,
    read_config,
    read_how,
    run,
    save_state,
    start,
)
from course_lib.runs.folder import LOCK
from course_lib.schedule import make_schedule
from course_lib.train import EMA, TrainState
from course_lib.unet import UNet
from helpers_runs import SETTINGS, apart, averaged, edit_card, files, go, same_weights, write_picture


def test_a_run_that_is_there_is_not_overwritten(done: Path, config: RunConfig) -> None:
    before = files(done)
    with pytest.raises(ValueError, match=r"a holds a run already: go on with --resume, or choose another --out"):
        go(done, config)
    assert files(done) == before


def test_a_run_that_is_over_only_says_so(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = load_tensors(done / "model.safetensors")
    (done / "model.safetensors").unlink()
    assert go(done, None, resume=True)
    assert re.search(r"6 updates in \d+\.\d minutes, loss", capsys.readouterr().out)
    after = load_tensors(done / "model.safetensors")
    assert after[1] == before[1] and all(torch.equal(value, after[0][key]) for key, value in before[0].items())


@pytest.mark.parametrize("updates", [1, 4])
def test_an_interruption_changes_nothing_not_even_the_loss_on_the_card(
    updates: int, done: Path, finished: Path
) -> None:
    shutil.rmtree(done / "step-00000006")
    assert go(done, None, updates, resume=True) and same_weights(
        done / "model.safetensors", finished / "model.safetensors"
    )
    mine, theirs = (load_checkpoint(out / "model.safetensors").details["loss"] for out in (done, finished))
    assert mine == theirs


@pytest.mark.parametrize(
    ("name", "value", "before"),
    [
        ("schedule", "linear", "'cosine'"),
        ("target", "v", "'eps'"),
        ("seed", 5, "0"),
        ("lr", 0.5, "0.004"),
        ("steps", 60, "6"),
        ("size", 16, "8"),
        ("channels", [8, 24], r"\[8, 16\]"),
        ("ema", 0.5, "0.9999"),
    ],
)
def test_a_config_that_was_edited_by_hand_is_refused(name: str, value: Any, before: str, done: Path) -> None:
    """Also where the newest checkpoint is damaged; before the first one there is nothing to contradict."""
    edit_card(done, **{name: value})
    (done / "step-00000006" / "model.safetensors").write_bytes(b"half")
    kept = files(done)
    said = rf"config.json says {name}={re.escape(repr(value))}, but step-00000004 was trained with {before}: write that"
    with pytest.raises(ValueError, match=said):
        go(done, None, resume=True)
    assert files(done) == kept
    for path in checkpoints(done):
        shutil.rmtree(path)
    if name == "seed":
        assert go(done, None, resume=True)


def test_settings_are_those_with_which_the_run_was_begun(done: Path, config: RunConfig, tmp_path: Path) -> None:
    stored, _ = read_config(done / "config.json")
    assert go(done, RunConfig.of({"lr": config.train.lr, "size": 8}, stored), resume=True)
    tuples = replace(config, unet={"channels": (8, 16)})  # for JSON's lists
    assert go(done, tuples, resume=True)
    for changes, message in (
        (dict(steps=9), "begun with steps=6, got 9: a run goes on as it was begun; leave the option out"),
        (dict(channels=[8, 8]), r"begun with channels=\[8, 16\], got \[8, 8\]"),
        (dict(schedule="linear"), "begun with schedule='cosine', got 'linear'"),
    ):
        with pytest.raises(ValueError, match=message):
            go(done, RunConfig.of(changes, stored), resume=True)
    with pytest.raises(ValueError, match="b holds no run to go on with: say what to train"):
        go(tmp_path / "b", None, resume=True)
    for out, message in (("", "out is empty"), ("a.safetensors", "out must be a folder, got a.safetensors")):
        with pytest.raises(ValueError, match=message):
            run(out, config)


def test_a_run_goes_on_with_other_numbers_in_more_parts_and_without_a_compiler(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it must where there is no bfloat16, or less memory; the training stays nearly the same."""
    out, changed = tmp_path / "a", RunConfig.of({"precision": "bf16", "warmup": 0, "ema": 0.0}, config)
    go(out, changed)
    ended, started = (averaged(path / "model.safetensors") for path in checkpoints(out))
    shutil.rmtree(out / "step-00000006")
    AcceleratorState._reset_state(True)
    stored, _ = read_config(out / "config.json")
    seen, honest = set[tuple[torch.dtype, int]](), UNet.forward

    def watched(model: UNet, x: Tensor, *arguments: Any) -> Tensor:
        answer = honest(model, x, *arguments)
        seen.add((answer.dtype, len(x)))
        return answer

    monkeypatch.setattr(UNet, "forward", watched)
    assert go(out, RunConfig.of({"precision": "no", "accumulate": 2, "compile": "no"}, stored), resume=True)
    assert seen == {(torch.float32, 2)}
    assert 0 < apart(started, ended, averaged(out / "model.safetensors")) < 0.2
    kept = read_config(out / "config.json")[0]  # the next time it does so again
    assert kept == replace(stored, precision="no", train=replace(stored.train, accumulate=2))


def test_a_run_goes_on_as_it_ran(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On its device and saving as often, unless other things are asked for; and says where the machine differs."""
    assert run(done, None, resume=True) and "it was begun with" not in capsys.readouterr().out
    assert read_how(done / "config.json") == How("cpu", SaveEvery(None, 2))
    edit_card(done, threads=4096)
    assert run(done, None, resume=True, save_every=SaveEvery(7.0))
    assert read_how(done / "config.json") == How("cpu", SaveEvery(7.0))
    moved = r"it was begun with .* CPU .*, 4096 threads: from here on the last digits may differ"
    assert re.search(moved, capsys.readouterr().out)


def test_a_run_goes_on_with_pictures_that_were_moved_but_not_with_others(
    done: Path, pictures: Path, tmp_path: Path
) -> None:
    stored, _ = read_config(done / "config.json")
    moved = shutil.copytree(pictures, tmp_path / "moved")
    edit_card(done, data=str(tmp_path / "where they were"))
    with pytest.raises(FileNotFoundError):
        go(done, None, resume=True)
    assert go(done, RunConfig.of({"data": str(moved)}, stored), resume=True)
    assert go(done, None, resume=True)  # the next time it finds them itself
    write_picture(moved / "0.png", seed=99)
    for out, resume in ((done, True), (tmp_path / "b", False)):
        stored, _ = read_config(done / "config.json")
        with pytest.raises(ValueError, match="data has changed since the run was begun: 5 pictures"):
            go(out, stored, resume=resume)
    assert go(tmp_path / "b", RunConfig.of({"size": 12, "steps": 1}, stored))  # other settings of the data: another run


def test_a_run_that_cannot_go_on_keeps_its_settings(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was killed before its first checkpoint, and the next try fails as well."""
    for path in checkpoints(done):
        shutil.rmtree(path)
    with monkeypatch.context() as patch:
        patch.setattr(start, "EMA", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            go(done, None, resume=True)
    assert go(done, None, resume=True)


def test_checkpoints_without_their_config_are_not_gone_on_with(done: Path, config: RunConfig) -> None:
    (done / "config.json").unlink()
    for resume in (False, True):
        with pytest.raises(ValueError, match="holds checkpoints of a run without its config"):
            go(done, config, resume=resume)


def test_what_a_crash_left_is_cleaned_away_and_the_rest_is_not(done: Path) -> None:
    (done / ".step-00000009.x.tmp").mkdir()
    (done / ".step-00000009.x.tmp" / "model.safetensors").write_bytes(b"half")
    for name in ("config.json", "model.safetensors", "weak.safetensors"):
        (done / f".{name}.y.tmp").write_bytes(b"half")
    (done / ".mine.tmp").write_text("of another program")
    (done / "notes.txt").write_text("mine")
    (done / "step-by-step").mkdir()
    saved = last_good(done)
    assert saved is not None and saved.state.step == 6
    assert sorted(path.name for path in done.glob(".*")) == [LOCK, ".mine.tmp"]
    assert (done / "notes.txt").exists() and (done / "step-by-step").exists()


def test_one_process_alone_sets_damaged_checkpoints_aside(done: Path, tmp_path: Path) -> None:
    assert last_good(tmp_path, mend=False) is None
    saved = last_good(done, mend=False)
    assert saved is not None and saved.state.step == 6
    (done / ".step-00000009.x.tmp").mkdir()
    (done / "step-00000006" / "state.safetensors").write_bytes(b"half")
    before = files(done)
    with pytest.raises(ValueError, match="step-00000006"):
        last_good(done, mend=False)
    assert files(done) == before and (done / ".step-00000009.x.tmp").exists()
    said = list[str]()
    for mend in (True, False):
        saved = last_good(done, said.append, mend)
        assert saved is not None and saved.state.step == 4
    assert len(said) == 1 and "set aside" in said[0]


def test_two_processes_do_not_train_in_one_folder(done: Path) -> None:
    with FileLock(done / LOCK), pytest.raises(ValueError, match="another process is training in"):
        go(done, None, resume=True)
    assert go(done, None, resume=True)


def test_a_drive_without_locks_keeps_nobody_out(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", missing)
    assert go(done, None, resume=True)


def test_of_two_runs_that_begin_in_one_folder_the_second_is_refused(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*arguments: Any) -> RunConfig:
        monkeypatch.setattr(start, "decide", engine.decide)
        go(tmp_path / "a", config)  # another one, which is faster
        return engine.decide(*arguments)

    monkeypatch.setattr(start, "decide", slowly)
    with pytest.raises(ValueError, match="another process has just begun a run in"):
        go(tmp_path / "a", config)
    assert go(tmp_path / "a", None, resume=True)


@pytest.mark.parametrize("argument", ["model", "schedule"])
def test_a_state_is_saved_of_networks_and_schedules_alone(argument: str, tmp_path: Path) -> None:
    model = UNet(8, channels=(8,))
    given: dict[str, Any] = {"model": model, "schedule": make_schedule("cosine"), argument: "cosine"}
    with pytest.raises(TypeError, match=f"{argument} must be"):
        save_state(tmp_path, **given, ema=EMA(model), target="eps", state=TrainState(), details=SETTINGS)
    assert not list(tmp_path.iterdir())
