"""Runs that are killed, cut off and damaged go on, and end as if nothing had happened, bit for bit."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from course_lib.checkpoint import load_tensors, save_tensors
from course_lib.runs import checkpoints

STEPS = 66
KILLS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven grey pictures, a number that no batch divides."""
    pictures = tmp_path_factory.mktemp("pictures")
    numbers = np.random.default_rng(0)
    for i in range(11):
        Image.fromarray(numbers.integers(0, 256, (8, 8), dtype=np.uint8)).save(pictures / f"{i}.png")
    return pictures


def command(pictures: Path, out: Path, *more: str) -> list[str]:
    """A run that saves after each update, so that about half of its time goes into writing."""
    settings = f"--size 8 --channels 8 16 --steps {STEPS} --batch-size 4 --precision no --compile no --save-every 1"
    return ["train", "--data", str(pictures), *settings.split(), "--device", "cpu", "--out", str(out), *more]


def child(arguments: list[str], output: Path, number: int | None = None) -> None:
    """What a process of its own does: the command line, its output in a file.

    Args:
        arguments: of the command line.
        output: where its output goes.
        number: of a signal that it sends itself after 20 updates.
    """
    with output.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(2)  # which share each batch
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may themselves run under nohup
    from course_lib.__main__ import main
    from course_lib.runs import loop as run_loop
    from course_lib.train import train

    if number is not None:

        def signalled(*arguments: Any, **options: Any) -> Iterator[Any]:
            for update in train(*arguments, **options):
                if update.step == 20:
                    os.kill(os.getpid(), number)
                yield update

        setattr(run_loop, "train", signalled)  # noqa: B010
    os._exit(main(arguments))


@pytest.fixture(scope="module")
def processes() -> Iterator[multiprocessing.context.ForkServerContext]:
    """Starts processes quickly: they are forked from one that has imported PyTorch, and done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["course_lib.__main__", "accelerate", "numpy", "PIL.Image", "torch._dynamo"])
    yield context


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return load_tensors(path)[0]


def assert_same(a: Path, b: Path) -> None:
    """Two runs ended with the same weights, averages, moments and counters."""
    names = ["model.safetensors", "weak.safetensors"]
    assert checkpoints(a)[0].name == checkpoints(b)[0].name == f"step-{STEPS:08d}"
    names += [f"step-{STEPS:08d}/{name}.safetensors" for name in ("model", "state")]
    for name in names:
        mine, theirs = tensors(a / name), tensors(b / name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in mine.items()), name
    mine, theirs = (load_tensors(run / names[-1])[1] for run in (a, b))
    assert mine["ema_updates"] == theirs["ema_updates"] == STEPS


def wait(condition: object, process: multiprocessing.process.BaseProcess, output: Path) -> None:
    """Until the condition holds; a process that has ended before is a failure, whose output is shown."""
    assert callable(condition)
    end = time.monotonic() + 120
    while not condition():
        assert process.is_alive() and time.monotonic() < end, output.read_text()
        time.sleep(0.0005)


@pytest.mark.slow
def test_killed_twenty_times_a_run_ends_as_one_that_was_not(
    folder: Path, tmp_path: Path, processes: multiprocessing.context.ForkServerContext
) -> None:
    """SIGKILL at 20 random moments: before the first checkpoint, between updates, and in the middle of writing.

    Each life is allowed some updates, then some milliseconds more; every second one is ended as soon as a
    half-written checkpoint is seen, so that what must never be read is there to be read.
    """
    whole, out, output = tmp_path / "whole", tmp_path / "killed", tmp_path / "output"
    reference = processes.Process(target=child, args=(command(folder, whole), output))
    reference.start()
    reference.join()
    assert reference.exitcode == 0, output.read_text()

    dice, half_written, at_kill = random.Random(0), 0, []
    for kill in range(KILLS):
        process = processes.Process(target=child, args=(command(folder, out, "--resume"), output))
        process.start()
        goal = STEPS * kill // (KILLS + 2)

        def reached(goal: int = goal) -> bool:
            found = checkpoints(out)
            return goal == 0 or bool(found and int(found[0].name[5:]) >= goal)

        wait(reached, process, output)
        if kill % 2 == 0:
            time.sleep(dice.uniform(0, 0.05 if kill else 0.5))
        else:
            wait(lambda: [*out.glob(".step-*.tmp")], process, output)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, output.read_text()
        half_written += len([*out.glob(".*.tmp")])
        at_kill.append(int(found[0].name[5:]) if (found := checkpoints(out)) else 0)
    assert half_written >= 5
    assert at_kill == sorted(at_kill) and at_kill[-1] < STEPS

    process = processes.Process(target=child, args=(command(folder, out, "--resume"), output))
    process.start()
    process.join()
    assert process.exitcode == 0, output.read_text()
    assert "set aside" not in output.read_text()  # no crash ever left a checkpoint that was none
    assert_same(whole, out)
    assert not [*out.glob(".*.tmp")] and len(checkpoints(out)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stopped_run_saves_says_so_and_goes_on(
    number: signal.Signals, folder: Path, tmp_path: Path, processes: multiprocessing.context.ForkServerContext
) -> None:
    out, output, whole = tmp_path / "run", tmp_path / "output", tmp_path / "whole"
    seldom = ["--save-every", "1000000"]
    process = processes.Process(target=child, args=([*command(folder, out), *seldom, "--log"], output, number))
    process.start()
    process.join()
    assert process.exitcode == 130, output.read_text()
    (saved,) = checkpoints(out)
    step = int(saved.name[5:])
    assert f"stopped by {number.name} after {step} updates; saved {saved}, go on with --resume" in output.read_text()
    assert step in (20, 21) and not (out / "model.safetensors").exists()

    for arguments in ([*command(folder, out, "--resume"), *seldom], [*command(folder, whole), *seldom]):
        process = processes.Process(target=child, args=(arguments, output))
        process.start()
        process.join()
        assert process.exitcode == 0, output.read_text()
    assert f"going on from {saved}" in output.read_text()
    assert_same(whole, out)


@pytest.mark.parametrize("file", ["model.safetensors", "state.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "bit", "missing", "unreadable", "of another update", "of another kind"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_taken(
    file: str,
    damage: str,
    tmp_path: Path,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from course_lib.__main__ import main

    out = tmp_path / "run"
    shutil.copytree(finished, out)
    newest, before = checkpoints(out)
    raw = (newest / file).read_bytes()
    (newest / file).write_bytes(raw[:-7] if damage == "cut" else raw[:-7] + bytes([raw[-7] ^ 1]) + raw[-6:])
    if damage == "of another update":
        shutil.copy(before / file, newest / file)
    if damage == "of another kind":
        save_tensors(newest / file, {"x.y": torch.zeros(1)}, {})
    if damage == "missing":
        (newest / file).unlink()
    if damage == "unreadable":
        honest = Path.read_bytes

        def read_bytes(path: Path) -> bytes:
            if path == newest / file:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            return honest(path)

        monkeypatch.setattr(Path, "read_bytes", read_bytes)
    (out / "model.safetensors").unlink()
    assert main(["train", "--resume", "--device", "cpu", "--save-every", "1", "--out", str(out)]) == 0
    monkeypatch.undo()
    said = capsys.readouterr().out
    assert f"going on from {before}" in said
    assert f"set aside as {out}/damaged-{newest.name}, going back to the checkpoint before it" in said
    reasons = {
        "cut": "cut short or altered: its hash",
        "bit": "cut short or altered: its hash",
        "missing": "there is no",
        "unreadable": "Input/output error",
        "of another update": "holds weights of update",
        "of another kind": "does not hold",
    }
    assert reasons[damage] in said
    assert_same(finished, out)


def test_where_no_checkpoint_can_be_read(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from course_lib.__main__ import main

    out = tmp_path / "run"
    shutil.copytree(finished, out)
    for path in checkpoints(out):
        (path / "state.safetensors").write_bytes(b"")
    before = sorted(out.rglob("*"))
    for _ in range(2):  # it stays so: nothing begins anew unasked
        assert main(["train", "--resume", "--device", "cpu", "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert f"no checkpoint in {out} can be read (" in error and "begin again with another --out" in error
    assert sorted(out.rglob("*")) == before


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from course_lib.__main__ import main

    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(command(folder, out)) == 0
    return out


def test_a_run_is_repeated_from_its_config(finished: Path, tmp_path: Path) -> None:
    """Without any of the options that began it."""
    from course_lib.__main__ import main

    out = tmp_path / "again"
    assert main(["train", "--config", str(finished / "config.json"), "--device", "cpu", "--out", str(out)]) == 0
    assert tensors(out / "model.safetensors").keys() == tensors(finished / "model.safetensors").keys()
    for name in ("model.safetensors", f"step-{STEPS:08d}/state.safetensors"):
        mine, theirs = tensors(out / name), tensors(finished / name)
        assert all(torch.equal(value, theirs[key]) for key, value in mine.items())


@pytest.mark.cuda
def test_a_stopped_run_goes_on_on_the_gpu(folder: Path, tmp_path: Path) -> None:
    """Half a run, its checkpoint, the other half: as close to the whole as two runs of the whole are."""
    from course_lib.runs import RunConfig, SaveEvery, run

    def ended(out: Path) -> dict[str, torch.Tensor]:
        return tensors(out / "model.safetensors")

    config = RunConfig.of(
        dict(data=str(folder), size=8, channels=[8, 16], steps=60, batch_size=4, precision="no", compile="no")
    )
    AcceleratorState._reset_state(True)  # earlier tests ran on the CPU
    torch.use_deterministic_algorithms(True)
    try:
        run(tmp_path / "a", config, device="cuda", save_every=SaveEvery(None, 30))
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        shutil.rmtree(tmp_path / "b" / "step-00000060")
        run(tmp_path / "b", resume=True, device="cuda")
    finally:
        torch.use_deterministic_algorithms(False)
        AcceleratorState._reset_state(True)
    for key, value in ended(tmp_path / "a").items():
        torch.testing.assert_close(ended(tmp_path / "b")[key], value, rtol=1e-4, atol=1e-5)
