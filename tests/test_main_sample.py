"""The command line's `sample`: what it writes, for grey and color, with and without classes, and what it refuses."""

from __future__ import annotations

import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from course_lib import __main__
from course_lib.__main__ import main
from course_lib.checkpoint import Checkpoint, load_shipped, save_checkpoint
from course_lib.guide import AutoGuidance
from course_lib.pipeline import Pipeline
from course_lib.sample import sample
from course_lib.schedule import Schedule, make_schedule, sampling_times, start_time
from course_lib.unet import UNet
from course_lib.viz import grid
from helpers import randomize

SCHEDULE = make_schedule("cosine", 50)


def small(seed: int = 0, **options: Any) -> UNet:
    return randomize(UNet(8, channels=(8,), attention=(), **options), seed).eval()


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "grey.safetensors", small(), SCHEDULE, target="v")


def call(checkpoint: Path | None, *options: object, out: Path, count: int = 2, steps: int = 4) -> int:
    """`sample` on the CPU, whose noise can be had again here."""
    given = [] if checkpoint is None else ["--checkpoint", checkpoint]
    given += ["--device", "cpu", "--count", count, "--steps", steps, "--out", out]
    return main(["sample", *map(str, [*given, *options])])


def expected(model: torch.nn.Module, count: int = 2, steps: int = 4, channels: int = 1, **options: Any) -> Tensor:
    """What the sampler makes of the same noise."""
    generator = torch.Generator().manual_seed(options.pop("seed", 0))
    x_T = torch.randn(count, channels, 8, 8, generator=generator)
    options = {"times": sampling_times(50, steps), "order": 2, "target": "v", "clip": False, **options}
    return sample(model, SCHEDULE, x_T, generator=generator, **options)


def pixels(path: Path) -> Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image))


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def test_it_writes_a_grid_single_pictures_and_the_way_there(grey: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "samples"
    assert call(grey, "--seed", 3, out=out, count=5, steps=6) == 0
    assert names(out) == ["grid.png", *(f"sample-000{i}.png" for i in range(5)), "trajectory.gif"]
    samples = expected(small(), 5, 6, seed=3)
    for i in range(5):
        assert torch.equal(pixels(out / f"sample-000{i}.png"), grid(samples[i : i + 1], pad=0))
    assert torch.equal(pixels(out / "grid.png")[::3, ::3], grid(samples))
    with Image.open(out / "trajectory.gif") as gif:
        assert gif.n_frames == 7 and gif.info["loop"] == 0  # type: ignore[attr-defined]
        times, first = [], np.array(gif.convert("L"))
        for i in range(7):
            gif.seek(i)
            times.append(gif.info["duration"])
        last = np.array(gif.convert("L"))
    assert times[-1] == 2000 and len(set(times[:-1])) == 1 and times[0] < 1000
    width = last.shape[1]
    left, right = last[:, : width // 2 - 9], last[:, width // 2 + 9 :]
    assert np.array_equal(left, right) and not np.array_equal(first[:, : width // 2 - 9], left)
    assert np.abs(left[::3, ::3].astype(int) - grid(samples, 4).numpy()).max() <= 8


@pytest.mark.parametrize("size", [2, 100])
def test_color_in_batches(size: int, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "color.safetensors", small(in_channels=3), SCHEDULE, target="x0")
    assert call(path, "--eta", 0, "--batch-size", size, out=tmp_path / "out", count=5) == 0
    samples = expected(small(in_channels=3), 5, channels=3, eta=0, target="x0")
    for i in range(5):
        got = pixels(tmp_path / "out" / f"sample-000{i}.png").int()
        assert got.shape == (8, 8, 3) and (got - grid(samples[i : i + 1], pad=0).int()).abs().max() <= 1
    with Image.open(tmp_path / "out" / "trajectory.gif") as gif:
        rows = 1 if size == 2 else 2  # a film shows the first batch
        assert gif.convert("RGB").size == (3 * (2 * (4 * 9 + 1) + 6), 3 * (rows * 9 + 1))


@pytest.mark.parametrize(
    ("only", "written"),
    [("grid", ["grid.png"]), ("gif", ["trajectory.gif"]), ("pictures", ["sample-0000.png", "sample-0001.png"])],
)
def test_only_some_pieces_and_long_walks_make_short_films(
    only: str, written: list[str], grey: Path, tmp_path: Path
) -> None:
    assert call(grey, "--only", only, out=tmp_path / "out", steps=50) == 0
    assert names(tmp_path / "out") == written
    if only == "gif":
        with Image.open(tmp_path / "out" / "trajectory.gif") as gif:
            assert gif.n_frames == 33  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("asked", "labels", "columns"),
    [([], [0, 0, 1, 1, 2, 2], 2), (["--label", "2"], [2] * 6, None), (["--label", "0", "2"], [0, 2] * 3, None)],
)
def test_classes(asked: list[str], labels: list[int], columns: int | None, tmp_path: Path) -> None:
    """A row of each class, or those that were asked for in turn."""
    model = small(num_classes=3)
    path = save_checkpoint(tmp_path / "classes.safetensors", model, SCHEDULE, target="v")
    assert call(path, "--eta", 0, "--only", "grid", *asked, out=tmp_path, count=6) == 0
    samples = expected(model, 6, eta=0, y=torch.tensor(labels))
    assert torch.equal(pixels(tmp_path / "grid.png")[::3, ::3], grid(samples, columns))


@pytest.mark.parametrize(("order", "clip"), [(1, True), (2, False)])
def test_each_order_begins_and_clips_as_is_best_for_it(order: int, clip: bool, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "eps.safetensors", small(), SCHEDULE, target="eps")
    first = start_time(SCHEDULE)
    assert first < 50
    assert call(path, "--eta", 0, "--only", "grid", "--order", order, out=tmp_path) == 0
    times = sampling_times(50, 4, start=50 if order == 1 else first)
    samples = expected(small(), times=times, eta=0, order=order, clip=clip, target="eps")
    assert torch.equal(pixels(tmp_path / "grid.png")[::3, ::3], grid(samples))


@pytest.mark.parametrize(("count", "classes"), [(64, 9), (12, 10), (19, 10), (3, 10), (30, 10)])
def test_every_class_is_sampled_as_often_as_the_others(count: int, classes: int) -> None:
    model = small(num_classes=classes)
    labels, columns = Pipeline(Checkpoint(model, SCHEDULE, "eps", {}), model, [50, 0]).labels(None, count)
    assert labels is not None and len(labels) == count and labels.diff().min() >= 0
    often = labels.bincount(minlength=classes)
    assert often.max() - often.min() <= 1
    assert columns == (count // classes if count % classes == 0 else None)  # a row of each, where that can be


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "stopped after 4 of 9 pictures"),
        (MemoryError("not enough memory for it"), 2, "not enough memory for it"),
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            2,
            "course_lib: not enough memory: do less at a time",
        ),
        (RuntimeError("can't allocate memory: 9 bytes"), 2, "not enough memory: do less at a time"),
    ],
)
def test_samples_are_written_at_once_and_replace_those_of_the_last_time(
    error: BaseException, status: int, said: str, grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Stopped in its third batch of two, or without memory then, four are there, and what others put there stays."""
    honest, asked, out = UNet.forward, 0, tmp_path / "out"

    def forward(*arguments: Any) -> Tensor:
        nonlocal asked
        asked += 1
        if asked > 5:
            raise error
        return honest(*arguments)

    monkeypatch.setattr(UNet, "forward", forward)
    out.mkdir()
    others = ["0007.png", "sample-1 of mine.png", "sample.png"]
    for name in ("sample-0003.png", "sample-0008.png", "grid.png", "trajectory.gif", *others):
        (out / name).write_bytes(b"of another network")
    assert call(grey, "--batch-size", 2, out=out, count=9, steps=2) == status
    assert capsys.readouterr().err.strip().endswith(said)
    assert names(out) == sorted([*others, *(f"sample-000{i}.png" for i in range(4))])


def test_a_grid_has_an_end(
    grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(__main__, "IN_GRID", 5)
    for count in (5, 8):
        assert call(grey, "--eta", 0, "--batch-size", 2, out=tmp_path / str(count), count=count) == 0
        assert ("the first 5 in the grid" in capsys.readouterr().out) == (count == 8)
        assert (tmp_path / str(count) / f"sample-{count - 1:04d}.png").exists()
    assert torch.equal(*(pixels(tmp_path / count / "grid.png") for count in ("5", "8")))


# What guides, and which weights


def test_the_folder_of_a_run_stands_for_its_newest_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert call(run, out=tmp_path / "none") == 2
    assert f"there is no model.safetensors in {run}" in capsys.readouterr().err
    for seed, name in enumerate(("step-00000900", "step-00001000", ".")):
        save_checkpoint(run / name / "model.safetensors", small(seed), SCHEDULE, target="v")
        assert call(run, "--only", "grid", out=tmp_path) == 0
        assert torch.equal(pixels(tmp_path / "grid.png")[::3, ::3], grid(expected(small(seed))))


def test_a_weak_version_guides_if_it_is_given_or_lies_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = tmp_path / "run", tmp_path / "other.safetensors"
    for seed, path in enumerate((run / "model.safetensors", run / "weak.safetensors", other)):
        save_checkpoint(path, small(seed), SCHEDULE, target="v")
    (run / "step-00000007").mkdir()
    shutil.copy(run / "model.safetensors", run / "step-00000007")
    for path, weak, strength, options in (
        (run, 1, 2.0, []),
        (run / "model.safetensors", 1, 2.0, []),  # however the run is named
        (run / "step-00000007", 1, 2.0, []),
        (run, 2, 1.5, ["--weak", other, "--strength", 1.5]),
        (run, 0, 1.0, ["--strength", 1]),
    ):
        assert call(path, "--only", "grid", *options, out=tmp_path) == 0
        assert (f"guided with strength {strength:g}" in capsys.readouterr().out) == (strength != 1)
        samples = expected(AutoGuidance(small(), small(weak), SCHEDULE, strength))
        assert torch.equal(pixels(tmp_path / "grid.png")[::3, ::3], grid(samples))


def test_a_weak_version_made_on_another_machine_guides(grey: Path, tmp_path: Path) -> None:
    """Its schedule differs in the last digit, since another processor computed the cosines."""
    signal = SCHEDULE.signal.clone()
    signal[1:] = signal[1:].nextafter(torch.zeros(50, dtype=torch.float64))
    other = Schedule(signal, SCHEDULE.noise, SCHEDULE.name)
    weak = save_checkpoint(tmp_path / "weak.safetensors", small(), other, target="v")
    assert call(grey, "--weak", weak, "--only", "grid", out=tmp_path / "out") == 0


@pytest.mark.parametrize(
    ("options", "schedule", "target", "word"),
    [
        ({"in_channels": 3}, SCHEDULE, "v", "in_channels"),
        ({"num_classes": 2}, SCHEDULE, "v", "num_classes"),
        ({}, SCHEDULE, "eps", "target"),
        ({}, make_schedule("linear", 50), "v", "schedule"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_weak_version_of_another_kind_is_refused(
    options: dict[str, int], schedule: Schedule, target: str, word: str, grey: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    weak = save_checkpoint(tmp_path / "weak.safetensors", small(**options), schedule, target=target)
    assert call(grey, "--weak", weak, out=tmp_path / "out") == 2
    assert f"weak must have the {word} of the checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Bad input


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--checkpoint", "none.safetensors"], "there is no none.safetensors"),
        (["--steps", "0"], "steps must lie in"),
        (["--steps", "51"], r"steps must lie in [1, 50], got 51"),
        (["--count", "0"], "count must lie in"),
        (["--count", "9" * 24], "count must lie in"),
        (["--batch-size", "0"], "batch-size must lie in"),
        (["--eta", "2"], "eta must lie in [0, 1]"),
        (["--seed", "-1"], "seed must lie in"),
        (["--strength", "-1"], "strength must lie in"),
        (["--strength", "inf"], "strength must be finite"),
        (["--strength", "1.5"], "the checkpoint has none: give them by --weak"),
        (["--label", "1"], "label needs a model that was trained with --classes"),
        (["--device", "tpu"], "'tpu' is unknown"),
        (["--out", "samples.png"], "out must be a folder, got samples.png; the grid will be samples/grid.png"),
    ],
)
def test_bad_input_is_one_sentence(
    options: list[str], sentence: str, grey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    before = names(tmp_path)
    assert call(grey, *options, out=tmp_path / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("python -m course_lib: ") and sentence in error
    assert names(tmp_path) == before


@pytest.mark.parametrize("option", ["--out", "--checkpoint", "--weak"])
def test_an_empty_name_does_not_stand_for_the_current_folder(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.png").write_bytes(b"mine")
    with pytest.raises(SystemExit, match="2"):
        main(["sample", option, ""])
    assert "the name is empty" in capsys.readouterr().err and (tmp_path / "grid.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("names", "asked", "label"),
    [
        (("cat", "Dog", "DOG"), "CAT", 0),
        (("cat", "Dog", "DOG"), "DOG", 2),
        (("cat", "Dog", "DOG"), "dog", 1),
        (("cat", "Dog", "DOG"), "2", 2),
        (("1", "2", "7"), "2", 1),  # a name comes first
        (("1", "2", "7"), "0", 0),
        ((), "2", 2),
        (("tea", unicodedata.normalize("NFD", "Café"), "x"), unicodedata.normalize("NFC", "café"), 1),  # a Mac's folder
        (("tea", unicodedata.normalize("NFC", "Café"), "x"), unicodedata.normalize("NFD", "CAFÉ"), 1),
        (("tea", "Straße", "Gr\udcfc\udcdfe"), "gr\udcfc\udcdfe", 2),  # bytes that are not UTF-8
    ],
)
def test_a_class_is_asked_for_by_name_or_number(names: tuple[str, ...], asked: str, label: int) -> None:
    details = {"classes": names} if names else {}
    model = small(num_classes=3)
    assert Pipeline(Checkpoint(model, SCHEDULE, "eps", details), model, [50, 0]).label(asked) == label


@pytest.mark.parametrize("asked", ["3", "-1", "dogs", "", "1.0", "²"])
def test_a_label_that_the_model_does_not_know(asked: str) -> None:
    model = small(num_classes=3)
    for known, details in (("one of cat, dog, emu, or ", {"classes": ["cat", "dog", "emu"]}), ("", {})):
        pipeline = Pipeline(Checkpoint(model, SCHEDULE, "eps", details), model, [50, 0])
        with pytest.raises(ValueError, match=f"label must be {known}a number from 0 to 2, got '{asked}'"):
            pipeline.label(asked)


def test_a_label_alone_is_sampled_by_the_shipped_network_that_knows_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(None, "--label", "trouser", 7, "--only", "grid", out=tmp_path, count=3) == 0
    assert "guided with strength 2" in capsys.readouterr().out
    made, generator = load_shipped(classes=True), torch.Generator().manual_seed(0)
    x_T, times = (
        torch.randn(3, 1, 28, 28, generator=generator),
        sampling_times(1000, 4, start=start_time(made.schedule)),
    )
    guided = AutoGuidance(made.model, load_shipped(weak=True).model, made.schedule)
    options: dict[str, Any] = dict(times=times, order=2, clip=False, y=torch.tensor([1, 7, 1]), generator=generator)
    assert torch.equal(pixels(tmp_path / "grid.png")[::3, ::3], grid(sample(guided, made.schedule, x_T, **options)))
