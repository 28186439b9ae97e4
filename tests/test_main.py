"""The command line: train, sample and trace on a folder of pictures, and one sentence for bad input."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from PIL import Image

import course_lib
from course_lib.__main__ import main
from course_lib.checkpoint import load_checkpoint, save_checkpoint
from course_lib.runs import RunConfig, SaveEvery
from course_lib.schedule import make_schedule
from course_lib.shapes import count_parameters
from course_lib.train import TrainConfig
from course_lib.unet import AnyUNet, BottleneckUNet, ClassicUNet, DoubleConvUNet, UNet


@pytest.fixture(autouse=True)
def fresh_engine() -> Iterator[None]:
    """Accelerate keeps what its first user in a process asked for."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures in color, of two sizes."""
    random = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(6):
        pixels = random.integers(0, 256, (20 + i, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    return tmp_path / "pictures"


def test_train_then_sample_then_trace(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = tmp_path / "mine", tmp_path / "mine" / "model.safetensors"
    command = ["train", "--data", str(folder), "--color", "--size", "8", "--channels", "8", "16", "--steps", "60"]
    assert main([*command, "--batch-size", "4", "--schedule", "linear", "--device", "cpu", "--out", str(run)]) == 0
    assert f"saved {out}" in capsys.readouterr().out
    checkpoint = load_checkpoint(out)
    assert checkpoint.model.config["in_channels"] == 3 and checkpoint.schedule.name == "linear"
    assert checkpoint.details["steps"] == 60 and "6 pictures of 8×8 pixels" in checkpoint.details["data"]["source"]
    assert 0 < checkpoint.details["loss"] < 1.5

    pictures = tmp_path / "samples"
    command = ["sample", "--checkpoint", str(out), "--count", "3", "--steps", "4", "--out", str(pictures)]
    assert main(command) == 0
    first = (pictures / "grid.png").read_bytes()
    with Image.open(io.BytesIO(first)) as image:
        assert image.format == "PNG" and image.mode == "RGB"
    assert main(command) == 0
    assert (pictures / "grid.png").read_bytes() == first  # same seed, same pictures

    capsys.readouterr()
    assert main(["trace", "--checkpoint", str(out)]) == 0
    assert capsys.readouterr().out.strip().endswith(f"{count_parameters(checkpoint.model):,}")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["train", "--steps", "1", "--out", "x.safetensors"], "out must be a folder, got x.safetensors"),
        (["train", "--out", "x"], "give steps, minutes or both"),
        (["train", "--out", "x", "--resume"], "x holds no run to go on with: say what to train"),
        (["train", "--steps", "1", "--color", "--out", "x"], "color is for a folder of pictures"),
        (["train", "--steps", "1", "--data", ".", "--full", "--out", "x"], "full is for fashion-mnist"),
        (["train", "--steps", "1", "--size", "30", "--out", "x"], "the nearest good sizes are 28 and 32"),
        (["train", "--steps", "1", "--data", "nowhere", "--out", "x"], "nowhere"),
        (["train", "--config", "nowhere.json", "--out", "x"], "No such file or directory: 'nowhere.json'"),
        (["sample", "--checkpoint", "none.safetensors"], "there is no none.safetensors"),
        (["sample", "--steps", "0"], "steps must lie in"),
    ],
)
def test_bad_input_is_one_sentence(
    command: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_options_of_train_reach_the_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every option by its name, none by default: a resumed run must know what was given."""
    calls: list[tuple[Any, ...]] = []

    def run(folder: Path, config: RunConfig, **how: Any) -> bool:
        calls.append((folder, config, how))
        return False

    monkeypatch.setattr("course_lib.__main__.run", run)
    monkeypatch.setattr("sys.argv", ["-m", "train", "--some", "long line"])
    monkeypatch.chdir(folder.parent)
    line = (
        "train --data pictures --size 16 --color --classes --minutes 2 --steps 9 --schedule linear --target v "
        "--channels 16 32 --blocks 2 --patch 1 --attention 0 1 --batch-size 12 --accumulate 3 --lr 0.5 --warmup 7 "
        "--snr-gamma 2.5 --ema 0.5 --seed 4 --init old --precision bf16 --compile no --resume "
        "--device cpu --save-every 3m --log --out there"
    )
    assert main(line.split()) == 130  # stopped, as by Ctrl-C
    train = TrainConfig(9, 2.0, batch_size=12, accumulate=3, lr=0.5, warmup=7, snr_gamma=2.5, target="v", seed=4)
    config = RunConfig(train, str(folder), 16, True, False, True, {}, "linear", ema=0.5, precision="bf16", compile="no")
    unet = dict(channels=[16, 32], blocks=2, patch=1, attention=[0, 1])
    config = replace(config, init=str(Path("old").resolve()))
    how = dict(resume=True, device="cpu", save_every=SaveEvery(3.0), log=True)
    command = "python -m course_lib train --some 'long line'"
    assert calls.pop() == (Path("there"), replace(config, unet=unet), {**how, "command": command})
    main(["train", "--steps", "1", "--full", "--out", "there"])
    assert calls.pop() == (Path("there"), RunConfig(TrainConfig(steps=1), full=True), {"command": command})
    other = RunConfig.of({"steps": 6, "minutes": 2.0})
    monkeypatch.setattr("course_lib.__main__.read_config", lambda path: (other, ""))
    for more, limits in ((["--steps", "9"], (9, None)), (["--minutes", "4"], (None, 4.0)), ([], (6, 2.0))):
        main(["train", "--config", "config.json", *more, "--out", "there"])
        train = calls.pop()[1].train
        assert (train.steps, train.minutes) == limits
    main(["train", "--config", "config.json", "--resume", "--steps", "9", "--out", "there"])
    assert calls.pop()[1].train == replace(other.train, steps=9, minutes=None)  # whether there is a run yet or not
    for name in ("color", "classes", "full"):
        main(["train", "--steps", "1", f"--no-{name}", "--out", "there"])
        assert getattr(calls.pop()[1], name) is False
    main(["train", "--steps", "1", "--snr-gamma", "none", "--out", "there"])
    assert calls.pop()[1] == RunConfig(TrainConfig(steps=1, snr_gamma=None))
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--steps", "1", "--snr-gamma", "all", "--out", "there"])
    assert "snr-gamma must be a number or none, got 'all'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--steps", "1", "--save-every", "often", "--out", "there"])
    assert "save-every must be minutes such as 5m, or updates such as 1000, got 'often'" in capsys.readouterr().err


def test_resume_needs_no_settings_and_checks_those_that_are_given(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "a")
    command = (
        f"train --data {folder} --size 8 --channels 8 16 --steps 3 --batch-size 4 --device cpu --out {out}".split()
    )
    assert main(command) == 0
    assert main(command) == 2 and "go on with --resume" in capsys.readouterr().err
    for more in ([*command, "--resume"], ["train", "--resume", "--device", "cpu", "--out", out]):
        assert main(more) == 0
    monkeypatch.chdir(folder.parent)
    assert main(["train", "--data", "pictures", "--resume", "--device", "cpu", "--out", out]) == 0  # the same folder
    folder.rename(folder.with_name("moved"))
    assert main(["train", "--data", "moved", "--resume", "--device", "cpu", "--out", out]) == 0  # the same pictures
    (folder.with_name("moved") / "more.png").write_bytes(next(folder.with_name("moved").iterdir()).read_bytes())
    assert main(["train", "--data", "moved", "--resume", "--device", "cpu", "--out", out]) == 2
    assert "data has changed since the run was begun" in capsys.readouterr().err
    folder.with_name("moved").rename(folder)
    assert main(["train", "--resume", "--lr", "0.5", "--out", out]) == 2
    assert "was begun with lr=" in capsys.readouterr().err
    other = folder.with_name("other.json")
    other.write_text(Path(out, "config.json").read_text().replace('"batch_size": 4', '"batch_size": 2'))
    assert main(["train", "--config", str(other), "--resume", "--device", "cpu", "--out", out]) == 2
    assert "was begun with batch_size=4, got 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    "model",
    [
        UNet(8, 3, channels=(8, 16), num_classes=4),
        ClassicUNet(1, 2, (4, 8), 16),
        DoubleConvUNet(1, 1, (4, 8), 16, time_plane=20),
        BottleneckUNet(1, (4, 8), 8, 16),
    ],
    ids=lambda model: type(model).__name__,
)
def test_trace_takes_every_kind_of_checkpoint(
    model: AnyUNet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_checkpoint(tmp_path / "a.safetensors", model, make_schedule("cosine", 20))
    size = ["--size", "44"] if isinstance(model, ClassicUNet) else []
    assert main(["trace", "--checkpoint", str(path), *size]) == 0
    assert capsys.readouterr().out.strip().endswith(f"{count_parameters(model):,}")


def test_a_terminal_that_lacks_letters_gets_the_rest() -> None:
    """As Windows' redirected output does."""
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(Path(course_lib.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-m", "course_lib", "trace"], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"time.mlp.0" in done.stdout and b"?" in done.stdout


def test_the_command_of_the_readme_with_fashion_mnist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"train --data fashion-mnist --size 28 --minutes 0.02 --device cpu --out {tmp_path / 'a'}"
    assert main(command.split()) == 0
    said = capsys.readouterr()
    assert "28×28 pixels" in said.out and "100%" in said.err and "update" in said.err
    made = load_checkpoint(tmp_path / "a" / "model.safetensors")
    assert made.model.config["size"] == 28 and made.details["settings"]["train"]["minutes"] == 0.02
    assert main(["sample", "--checkpoint", str(tmp_path / "a"), "--count", "1", "--out", str(tmp_path / "b")]) == 0
