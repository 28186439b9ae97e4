"""The command line: train, sample and trace on a folder of pictures, and one sentence for bad input."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from course_lib.__main__ import main
from course_lib.checkpoint import load_checkpoint
from course_lib.shapes import count_parameters


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
    out = tmp_path / "mine" / "model.safetensors"
    command = ["train", "--data", str(folder), "--color", "--size", "8", "--channels", "8", "16", "--steps", "60"]
    assert main([*command, "--batch-size", "4", "--schedule", "linear", "--device", "cpu", "--out", str(out)]) == 0
    assert f"saved {out}" in capsys.readouterr().out
    checkpoint = load_checkpoint(out)
    assert checkpoint.model.config["in_channels"] == 3 and checkpoint.schedule.name == "linear"
    assert checkpoint.details["steps"] == 60 and "6 pictures of 8×8 pixels" in checkpoint.details["data"]["source"]
    assert 0 < checkpoint.details["loss"] < 1.5 and checkpoint.details["loss"] != 1

    picture = tmp_path / "samples.png"
    assert main(["sample", "--checkpoint", str(out), "--count", "3", "--steps", "4", "--out", str(picture)]) == 0
    first = picture.read_bytes()
    with Image.open(io.BytesIO(first)) as image:
        assert image.format == "PNG" and image.mode == "RGB"
    assert main(["sample", "--checkpoint", str(out), "--count", "3", "--steps", "4", "--out", str(picture)]) == 0
    assert picture.read_bytes() == first  # same seed, same pictures

    capsys.readouterr()
    assert main(["trace", "--checkpoint", str(out)]) == 0
    assert capsys.readouterr().out.strip().endswith(f"{count_parameters(checkpoint.model):,}")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["train", "--steps", "1", "--out", "x.pt"], "path must end in .safetensors"),
        (["train", "--out", "x.safetensors"], "give steps, minutes or both"),
        (["train", "--steps", "1", "--size", "30", "--out", "x.safetensors"], "the nearest good sizes are 28 and 32"),
        (["train", "--steps", "1", "--data", "nowhere", "--out", "x.safetensors"], "there is no folder nowhere"),
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
