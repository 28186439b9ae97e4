"""The command line: train, sample and trace on a folder of pictures, and one sentence for bad input."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState
from PIL import Image

from course_lib.__main__ import main
from course_lib.checkpoint import load_checkpoint, save_checkpoint
from course_lib.runs import RunConfig, SaveEvery
from course_lib.schedule import make_schedule
from course_lib.shapes import count_parameters
from course_lib.train import TrainConfig
from course_lib.unet import AnyUNet, BottleneckUNet, ClassicUNet, DoubleConvUNet, UNet
from helpers_runs import write_picture


@pytest.fixture(autouse=True)
def fresh_engine() -> Iterator[None]:
    """Accelerate keeps what its first user in a process asked for."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures in color, of several sizes."""
    for i in range(6):
        write_picture(tmp_path / "pictures" / f"{i}.png", 24, 20 + i, seed=i)
    return tmp_path / "pictures"


def test_train_then_sample_then_trace(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = tmp_path / "mine", tmp_path / "mine" / "model.safetensors"
    command = ["train", "--data", str(folder), "--color", "--size", "8", "--channels", "8", "16", "--steps", "20"]
    assert main([*command, "--batch-size", "4", "--schedule", "linear", "--device", "cpu", "--out", str(run)]) == 0
    assert f"saved {out}" in capsys.readouterr().out
    checkpoint = load_checkpoint(out)
    assert checkpoint.model.config["in_channels"] == 3 and checkpoint.schedule.name == "linear"
    assert checkpoint.details["steps"] == 20 and "6 pictures of 8×8 pixels" in checkpoint.details["data"]["source"]
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


def test_the_command_of_the_readme_with_fashion_mnist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a"
    assert main(f"train --data fashion-mnist --size 28 --minutes 0.01 --device cpu --out {out}".split()) == 0
    said = capsys.readouterr()
    assert "28×28 pixels" in said.out and "100%" in said.err and "update" in said.err
    made = load_checkpoint(out / "model.safetensors")
    assert made.model.config["size"] == 28 and made.details["settings"]["train"]["minutes"] == 0.01
    assert main(f"sample --checkpoint {out} --count 1 --steps 3 --device cpu --out {tmp_path / 'b'}".split()) == 0


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("train --steps 1 --out x.safetensors", "out must be a folder, got x.safetensors"),
        ("train --out x", "give steps, minutes or both"),
        ("train --out x --resume", "x holds no run to go on with: say what to train"),
        ("train --steps 1 --color --out x", "color is for a folder of pictures"),
        ("train --steps 1 --data . --full --out x", "full is for fashion-mnist"),
        ("train --steps 1 --size 30 --out x", "the nearest good sizes are 28 and 32"),
        ("train --steps 1 --size 1000000000 --out x", "size must lie in [1, 4096]"),
        ("train --steps 1 --lr inf --out x", "lr must be finite"),
        ("train --steps 1 --data nowhere --out x", "nowhere"),
        ("train --steps 1 --data= --out x", "data is empty: name a folder, or leave the option out"),
        ("train --steps 1 --init= --out x", "init is empty"),
        ("train --config nowhere.json --out x", "No such file or directory: 'nowhere.json'"),
        ("trace --size 999999999999999999999999", "size must lie in"),
    ],
)
def test_bad_input_is_one_sentence(
    command: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["--snr-gamma", "all"], "snr-gamma must be a number or none, got 'all'"),
        (["--save-every", "often"], "save-every must be minutes such as 5m, or updates such as 1000, got 'often'"),
        (["--out", ""], "the name is empty, which would stand for the current folder"),
    ],
)
def test_options_that_cannot_be_read(option: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train", "--steps", "1", "--out", "there", *option])
    assert sentence in capsys.readouterr().err


def test_options_of_train_reach_the_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option by its name, none by default: a resumed run must know what was given."""
    calls: list[tuple[Any, ...]] = []

    def run(folder: Path, config: RunConfig, **how: Any) -> bool:
        calls.append((folder, config, how))
        return False

    def called(line: str) -> RunConfig:
        assert main([*line.split(), "--out", "there"]) == 130  # stopped, as by Ctrl-C
        return calls[-1][1]

    monkeypatch.setattr("course_lib.__main__.run", run)
    monkeypatch.setattr("sys.argv", ["-m", "train", "--some", "long line"])
    monkeypatch.chdir(folder.parent)
    called(
        "train --data pictures --size 16 --color --classes --minutes 2 --steps 9 --schedule linear --target v "
        "--channels 16 32 --blocks 2 --patch 1 --attention 0 1 --batch-size 12 --accumulate 3 --lr 0.5 --warmup 7 "
        "--snr-gamma 2.5 --ema 0.5 --seed 4 --init old --precision bf16 --compile no --resume "
        "--device cpu --save-every 3m --log"
    )
    train = TrainConfig(9, 2.0, batch_size=12, accumulate=3, lr=0.5, warmup=7, snr_gamma=2.5, target="v", seed=4)
    unet = dict(channels=[16, 32], blocks=2, patch=1, attention=[0, 1])
    config = RunConfig(train, str(folder), 16, True, False, True, unet, "linear", ema=0.5, precision="bf16")
    config = replace(config, compile="no", init=str(Path("old").resolve()))
    how = dict(resume=True, device="cpu", save_every=SaveEvery(3.0), log=True)
    command = "python -m course_lib train --some 'long line'"
    assert calls.pop() == (Path("there"), config, {**how, "command": command})
    called("train --steps 1 --full")
    assert calls.pop() == (Path("there"), RunConfig(TrainConfig(steps=1), full=True), {"command": command})
    other = RunConfig.of({"steps": 6, "minutes": 2.0})
    monkeypatch.setattr("course_lib.__main__.read_config", lambda path: (other, ""))
    for more, limits in ((" --steps 9", (9, None)), (" --minutes 4", (None, 4.0)), ("", (6, 2.0))):
        train = called("train --config config.json" + more).train
        assert (train.steps, train.minutes) == limits
    again = called("train --config config.json --resume --steps 9").train
    assert again == replace(other.train, steps=9, minutes=None)  # whether there is a run yet or not
    for name in ("color", "classes", "full"):
        assert getattr(called(f"train --steps 1 --no-{name}"), name) is False
    assert called("train --steps 1 --snr-gamma none") == RunConfig(TrainConfig(steps=1, snr_gamma=None))


def test_resume_needs_no_settings_and_validates_those_that_are_given(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a"
    begin = f"train --data {folder} --size 8 --channels 8 16 --steps 3 --batch-size 4 --device cpu --out {out}"
    assert main(begin.split()) == 0
    assert main(begin.split()) == 2 and "go on with --resume" in capsys.readouterr().err
    monkeypatch.chdir(folder.parent)
    resume = f"train --resume --device cpu --out {out}"
    assert main([*begin.split(), "--resume"]) == main(resume.split()) == 0
    assert main(f"{resume} --data pictures".split()) == 0  # the same folder
    assert main(f"{resume} --lr 0.5".split()) == 2
    assert "was begun with lr=" in capsys.readouterr().err
    other = tmp_path / "other.json"
    other.write_text((out / "config.json").read_text().replace('"batch_size": 4', '"batch_size": 2'))
    assert main(f"{resume} --config {other}".split()) == 2
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


def test_a_terminal_that_lacks_letters_gets_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows' redirected output does, and every output those of names that are not UTF-8."""
    for encoding, text in (("cp1252", "1→2"), ("utf-8", os.fsdecode(b"Gr\xfc\xdfe"))):
        stream = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr("sys.stdout", stream)
        monkeypatch.setattr("course_lib.__main__.format_trace", lambda _, text=text: f"the rest {text}")
        assert main(["trace"]) == 0
        stream.flush()
        assert b"the rest" in stream.buffer.getvalue() and b"?" in stream.buffer.getvalue()
