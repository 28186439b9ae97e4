"""Runs that are killed, cut off and damaged go on, and end as if nothing had happened, bit for bit."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from course_lib.__main__ import main
from course_lib.checkpoint import load_checkpoint, load_tensors, save_tensors
from course_lib.runs import RunConfig, SaveEvery, checkpoints, run
from helpers_runs import SETTINGS, averaged, same_weights, write_picture
from helpers_training import threads

STEPS = 40
KILLS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven pictures, a number that no batch divides."""
    pictures = tmp_path_factory.mktemp("pictures")
    for i in range(11):
        write_picture(pictures / f"{i}.png", seed=i)
    return pictures


def command(pictures: Path, out: Path, *more: str) -> list[str]:
    """A run that saves after each update, so that about half of its time goes into writing."""
    settings = f"--size 8 --channels 8 16 --steps {STEPS} --batch-size 4 --precision no --compile no --save-every 1"
    return ["train", "--data", str(pictures), *settings.split(), "--device", "cpu", "--out", str(out), *more]


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nobody disturbed, with two threads that share each batch."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with threads(2):
        assert main(command(folder, out)) == 0
    return out


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
    torch.set_num_threads(2)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may themselves run under nohup
    from course_lib.runs import loop
    from course_lib.train import train

    if number is not None:

        def signalled(*arguments: Any, **options: Any) -> Iterator[Any]:
            for update in train(*arguments, **options):
                if update.step == 20:
                    os.kill(os.getpid(), number)
                yield update

        setattr(loop, "train", signalled)  # noqa: B010
    os._exit(main(arguments))


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Starts processes quickly: they are forked from one that has imported PyTorch, and done nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["course_lib.__main__", "accelerate", "numpy", "PIL.Image", "torch._dynamo"])
    return context


def finish(process: BaseProcess, output: Path, code: int = 0) -> str:
    """Start a process, wait for its end, and give what it said."""
    process.start()
    process.join()
    said = output.read_text()
    assert process.exitcode == code, said
    return said


def assert_same(a: Path, b: Path) -> None:
    """Two runs ended with the same weights, averages, moments, counters and loss."""
    assert checkpoints(a)[0].name == checkpoints(b)[0].name == f"step-{STEPS:08d}"
    newest = f"step-{STEPS:08d}"
    for name in ("model", "weak", f"{newest}/model"):
        assert same_weights(a / f"{name}.safetensors", b / f"{name}.safetensors"), name
    (mine, my_card), (theirs, their_card) = (load_tensors(out / newest / "state.safetensors") for out in (a, b))
    assert mine.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in mine.items())
    assert my_card["ema_updates"] == their_card["ema_updates"] == STEPS
    first, second = (load_checkpoint(out / "model.safetensors").details["loss"] for out in (a, b))
    assert first == second


def wait(condition: Callable[[], object], process: BaseProcess, output: Path) -> None:
    """Until the condition holds; a process that has ended before is a failure, whose output is shown."""
    end = time.monotonic() + 120
    while not condition():
        assert process.is_alive() and time.monotonic() < end, output.read_text()
        time.sleep(0.0005)


@pytest.mark.slow
def test_killed_again_and_again_a_run_ends_as_one_that_was_not(
    folder: Path, whole: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    """SIGKILL at random moments: before the first checkpoint, between updates, and in the middle of writing.

    Each life is allowed some updates, then some milliseconds more; every second one is ended as soon as a
    half-written checkpoint is seen, so that what must never be read is there to be read.
    """
    out, output = tmp_path / "killed", tmp_path / "output"
    dice, half_written, at_kill = random.Random(0), 0, []

    def newest() -> int:
        found = checkpoints(out)
        return int(found[0].name[5:]) if found else 0

    for kill in range(KILLS):
        process = processes.Process(target=child, args=(command(folder, out, "--resume"), output))
        process.start()
        goal = STEPS * kill // (KILLS + 2)
        wait(lambda goal=goal: newest() >= goal, process, output)  # type: ignore[misc]
        if kill % 2 == 0:
            time.sleep(dice.uniform(0, 0.05 if kill else 0.5))
        else:
            wait(lambda: [*out.glob(".step-*.tmp")], process, output)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, output.read_text()
        half_written += len([*out.glob(".*.tmp")])
        at_kill.append(newest())
    assert half_written >= 2
    assert at_kill == sorted(at_kill) and at_kill[-1] < STEPS
    said = finish(processes.Process(target=child, args=(command(folder, out, "--resume"), output)), output)
    assert "set aside" not in said  # no crash ever left a checkpoint that was none
    assert_same(whole, out)
    assert not [*out.glob(".*.tmp")] and len(checkpoints(out)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stopped_run_saves_says_so_and_goes_on(
    number: signal.Signals, folder: Path, whole: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    out, output, seldom = tmp_path / "run", tmp_path / "output", ["--save-every", "1000000"]
    arguments = [*command(folder, out), *seldom, "--log"]
    said = finish(processes.Process(target=child, args=(arguments, output, number)), output, 130)
    (saved,) = checkpoints(out)
    step = int(saved.name[5:])
    assert f"stopped by {number.name} after {step} updates; saved {saved}, go on with --resume" in said
    assert step in (20, 21) and not (out / "model.safetensors").exists()
    with threads(2):
        assert main([*command(folder, out, "--resume"), *seldom]) == 0
    assert_same(whole, out)


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("model", "cut", "cut short or altered: its hash"),
        ("state", "bit", "cut short or altered: its hash"),
        ("state", "missing", "there is no"),
        ("model", "unreadable", "Input/output error"),
        ("state", "of another update", "holds weights of update"),
        ("model", "of another kind", "does not hold"),
        ("state", "of another kind", "does not hold"),
        ("state", "deep", "is not a checkpoint of this course"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_taken(
    file: str, damage: str, reason: str, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    newest, before = checkpoints(out)
    path = newest / f"{file}.safetensors"
    raw = path.read_bytes()
    deep = b'{"__metadata__":' + b"[" * 100_000
    written = {"cut": raw[:-7], "bit": raw[:-7] + bytes([raw[-7] ^ 1]) + raw[-6:]}
    written["deep"] = len(deep).to_bytes(8, "little") + deep
    path.write_bytes(written.get(damage, raw))
    if damage == "of another update":
        shutil.copy(before / path.name, path)
    if damage == "of another kind":
        save_tensors(path, {"x.y": torch.zeros(1)}, {})
    if damage == "missing":
        path.unlink()
    if damage == "unreadable":
        honest = Path.read_bytes

        def read_bytes(asked: Path) -> bytes:
            if asked == path:
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            return honest(asked)

        monkeypatch.setattr(Path, "read_bytes", read_bytes)
    (out / "model.safetensors").unlink()
    with threads(2):
        assert main(["train", "--resume", "--device", "cpu", "--save-every", "1", "--out", str(out)]) == 0
    monkeypatch.undo()
    said = capsys.readouterr().out
    assert f"going on from {before}" in said and reason in said
    assert f"set aside as {out}/damaged-{newest.name}, going back to the checkpoint before it" in said
    assert_same(whole, out)


def test_where_no_checkpoint_can_be_read(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "run"))
    for path in checkpoints(out):
        (path / "state.safetensors").write_bytes(b"")
    before = sorted(out.rglob("*"))
    for _ in range(2):  # it stays so: nothing begins anew unasked
        assert main(["train", "--resume", "--device", "cpu", "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert f"no checkpoint in {out} can be read (" in error and "begin again with another --out" in error
    assert sorted(out.rglob("*")) == before


def test_a_run_is_repeated_from_its_config(whole: Path, tmp_path: Path) -> None:
    """Without any of the options that began it."""
    out = tmp_path / "again"
    with threads(2):
        assert main(["train", "--config", str(whole / "config.json"), "--device", "cpu", "--out", str(out)]) == 0
    assert_same(whole, out)


@pytest.mark.cuda
def test_a_stopped_run_goes_on_on_the_gpu(folder: Path, tmp_path: Path) -> None:
    """Half a run, its checkpoint, the other half: as close to the whole as two runs of the whole are."""
    config = RunConfig.of({**SETTINGS, "data": str(folder), "steps": 60})
    AcceleratorState._reset_state(True)  # earlier tests ran on the CPU
    torch.use_deterministic_algorithms(True)
    try:
        run(tmp_path / "a", config, device="cuda", save_every=SaveEvery(None, 30))
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        shutil.rmtree(tmp_path / "b" / "step-00000060")
        run(tmp_path / "b", resume=True, device="cuda")
    finally:
        torch.use_deterministic_algorithms(False)
    first, second = (averaged(tmp_path / name / "model.safetensors") for name in "ab")
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
