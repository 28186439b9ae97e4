"""When a run fails: a clear message, the last good checkpoint, and a folder from which it can go on."""

from __future__ import annotations

import errno
import io
import math
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

import accelerate.tracking
import pytest
import torch
from torch import Tensor, nn

from course_lib import train as train_module
from course_lib.objective import denoising_loss
from course_lib.runs import RunConfig, checkpoints, load_state, loop, report, saves, start
from course_lib.runs.signals import Signals
from helpers_runs import BadLuck, files, go, same_weights


def disk_full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(out: Path) -> list[str]:
    return [path.name for path in checkpoints(out)]


def test_a_loss_that_is_no_number(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    luck, honest = BadLuck(6), denoising_loss

    def loss(*arguments: Any, **options: Any) -> Tensor:
        return honest(*arguments, **options) * (math.nan if luck.due() else 1)

    monkeypatch.setattr(train_module, "denoising_loss", loss)
    out = tmp_path / "a"
    kept = f"the last good checkpoint is {out}/step-00000004, which another run can begin with .--init"
    with pytest.raises(FloatingPointError, match=rf"the gradient is nan at update 6 .*lower lr.*; {kept}"):
        go(out, config)
    assert names(out) == ["step-00000004", "step-00000002"]
    for path in checkpoints(out):
        assert all(value.isfinite().all() for value in load_state(path).weights.values())


def test_weights_that_are_no_numbers_are_never_saved(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where the gradient is looked at less often than weights are saved."""

    class Blind:
        def __init__(self, _: object) -> None:
            pass

        def __call__(self, step: int, *_: object) -> None:
            pass

        def close(self) -> None:
            pass

    luck, honest = BadLuck(5), nn.utils.clip_grad_norm_

    def clip(_: object, parameters: Any, *arguments: Any) -> Tensor:
        parameters = list(parameters)
        length = honest(parameters, *arguments)
        if luck.due():
            parameters[0].grad.fill_(math.nan)
        return length

    monkeypatch.setattr(train_module, "GradientWatch", Blind)
    monkeypatch.setattr("accelerate.Accelerator.clip_grad_norm_", clip)
    monkeypatch.setattr(loop, "WEAK_AT", 1.0)
    out = tmp_path / "a"
    expected = r"no longer finite at update 6.*not saved; the last good checkpoint is .*step-00000004, which .*init"
    with pytest.raises(FloatingPointError, match=expected):
        go(out, config)
    assert names(out) == ["step-00000004", "step-00000002"] and not (out / "weak.safetensors").exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000000 bytes."),
    ],
)
def test_too_little_memory(
    error: RuntimeError, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    luck, honest, out = BadLuck(4), denoising_loss, tmp_path / "a"

    def loss(*arguments: Any, **options: Any) -> Tensor:
        if luck.due():
            raise error
        return honest(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "denoising_loss", loss)
        expected = (
            r"not enough memory for this network and batch beside 3.2e-07 GB of pictures: work through each batch in "
            rf"more parts \(--accumulate\); the last good checkpoint is {out}/step-00000002"
        )
        with pytest.raises(MemoryError, match=expected):
            go(out, config)
    assert go(out, None, resume=True)


def test_a_run_outlives_what_it_is_shown_on(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe(io.StringIO):
        """Whoever reads from it goes away when the run has a checkpoint."""

        broken = 0

        def write(self, text: str) -> int:
            if checkpoints(tmp_path / "a"):
                Pipe.broken += 1
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            return super().write(text)

    monkeypatch.setattr(sys, "stderr", Pipe())
    monkeypatch.setattr(report, "Bar", partial(report.Bar, mininterval=0, miniters=0))
    assert go(tmp_path / "a", config)
    assert Pipe.broken >= 1 and (tmp_path / "a" / "model.safetensors").exists()


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk(
    function: str, config: RunConfig, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the last save: the message says so, no half-written file stays, and the run goes on later."""
    out, honest, full = tmp_path / "a", getattr(os, function), [False]

    def write(*arguments: Any) -> Any:
        return disk_full() if full[0] else honest(*arguments)

    def save(folder: Path, *arguments: Any) -> Path:
        full[0] = len(checkpoints(folder)) == 2
        return saves.save_state(folder, *arguments)

    with monkeypatch.context() as broken:
        broken.setattr(os, function, write)
        broken.setattr(loop, "save_state", save)
        expected = rf"cannot write to {out}: No space left on device; the last good checkpoint is {out}/step-00000004"
        with pytest.raises(OSError, match=expected):
            go(out, config)
    assert names(out) == ["step-00000004", "step-00000002"] and not [*out.rglob("*.tmp")]
    assert go(out, None, resume=True) and same_weights(out / "model.safetensors", finished / "model.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of this kind are of Unix")
def test_a_file_of_which_the_system_takes_no_more(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is pretended here: the system refuses in the middle of a write."""
    import resource

    out, (soft, hard) = tmp_path / "a", resource.getrlimit(resource.RLIMIT_FSIZE)

    def save(folder: Path, *arguments: Any) -> Path:
        if len(checkpoints(folder)) == 2:
            size = (checkpoints(folder)[0] / "state.safetensors").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
        return saves.save_state(folder, *arguments)

    monkeypatch.setattr(loop, "save_state", save)
    try:
        with pytest.raises(OSError, match=rf"cannot write to {out}: .*the last good checkpoint is {out}/step-00000004"):
            go(out, config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(out) == ["step-00000004", "step-00000002"] and not [*out.rglob("*.tmp")]


def test_a_disk_that_is_full_from_the_start(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left on device"):
        go(tmp_path / "a", config)
    assert not files(tmp_path / "a")


@pytest.mark.parametrize("fails", ["before the first update", "at the first update", "at its second checkpoint"])
def test_a_run_that_fails_before_its_first_checkpoint_leaves_the_folder_free(
    fails: str, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, luck = tmp_path / "a", BadLuck(2)

    def once(*arguments: Any) -> Path:
        if luck.due():
            disk_full()
        return saves.save_state(*arguments)

    with monkeypatch.context() as patch:
        if fails == "before the first update":
            patch.setattr(start, "EMA", lambda *_: 1 / 0)
        elif fails == "at the first update":
            patch.setattr(train_module, "denoising_loss", lambda *_, **__: 1 / 0)
        else:
            patch.setattr(loop, "save_state", once)
        with pytest.raises((ZeroDivisionError, OSError)):
            go(out, config)
    saved = fails == "at its second checkpoint"
    assert (out / "config.json").exists() == saved
    if saved:
        assert go(out, None, resume=True)
    else:
        assert not files(out) and go(out, config)


def test_a_run_that_fails_does_not_wait_for_processes_that_still_train_nor_for_its_log(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    ended: list[str] = []
    monkeypatch.setattr(accelerate.Accelerator, "end_training", lambda self: ended.append("waited"))

    def finish(self: object) -> None:
        ended.append("closed")
        disk_full()

    monkeypatch.setattr(accelerate.tracking.TensorBoardTracker, "finish", finish)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", disk_full)
        with pytest.raises(OSError, match="No space left on device; there was no checkpoint yet"):
            go(tmp_path / "a", config, log=True)
    assert ended == ["closed"]
    go(tmp_path / "b", config)
    assert ended == ["closed", "waited"]


# Signals


@pytest.mark.parametrize("aloud", [True, False])
def test_a_second_sigterm_does_not_end_it_before_it_has_saved(aloud: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """Launchers pass on a signal that the processes got from the system already."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Signals(aloud) as signals:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert signals.came() and signals.name == "SIGTERM"
        assert signal.getsignal(signal.SIGINT) == before[0]  # and a second Ctrl-C does
    assert capfd.readouterr().err.count("stopping after this update, and saving") == aloud
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_closed_terminal_ends_a_run_unless_nohup_says_otherwise() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals(aloud=False) as signals:
            signal.raise_signal(signal.SIGHUP)
            assert not signals.came()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with Signals(aloud=False) as signals:
            signal.raise_signal(signal.SIGHUP)
            assert signals.came() and signals.name == "SIGHUP"
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
