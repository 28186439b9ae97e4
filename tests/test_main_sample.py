"""The command line's `sample`: what it writes, for gray and color, with and without classes, and what it refuses."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib import __main__
from course_lib.__main__ import main
from course_lib.checkpoint import Checkpoint, load_shipped, save_checkpoint
from course_lib.guide import AutoGuidance
from course_lib.pipeline import Pipeline
from course_lib.sample import sample
from course_lib.schedule import Schedule, make_schedule, sampling_times, start_time
from course_lib.unet import BottleneckUNet, UNet
from course_lib.viz import grid, to_gif
from helpers import randomize

SCHEDULE = make_schedule("cosine", 50)


#: Its noise is drawn on the device, and is compared here with what a CPU draws.
SAMPLE = ["sample", "--device", "cpu"]


def small(**options: Any) -> UNet:
    return randomize(UNet(8, channels=(8,), attention=(), **options)).eval()  # type: ignore[return-value]


@pytest.fixture
def gray(tmp_path: Path) -> str:
    return str(save_checkpoint(tmp_path / "gray.safetensors", small(), SCHEDULE, target="v"))


def pixels(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image))


def test_it_writes_a_grid_single_pictures_and_the_way_there(gray: str, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "samples"
    assert main([*SAMPLE, "--checkpoint", gray, "--count", "5", "--steps", "6", "--seed", "3", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "grid.png",
        *(f"sample-000{i}.png" for i in range(5)),
        "trajectory.gif",
    ]

    draw = torch.Generator().manual_seed(3)
    x_T = torch.randn(5, 1, 8, 8, generator=draw)
    expected = sample(
        small(), SCHEDULE, x_T, times=sampling_times(50, 6), order=2, target="v", clip=False, generator=draw
    )
    for i in range(5):
        assert torch.equal(pixels(out / f"sample-000{i}.png"), grid(expected[i : i + 1], pad=0))
    together = grid(expected).repeat_interleave(3, 0).repeat_interleave(3, 1)
    assert torch.equal(pixels(out / "grid.png"), together)

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
    samples = grid(expected, 4).repeat_interleave(3, 0).repeat_interleave(3, 1).numpy()
    assert left.shape == samples.shape and np.abs(left.astype(int) - samples).max() <= 8


def test_color_other_samplers_and_batches(tmp_path: Path) -> None:
    model = small(in_channels=3)
    path = save_checkpoint(tmp_path / "color.safetensors", model, SCHEDULE, target="x0")
    command = [*SAMPLE, "--checkpoint", str(path), "--count", "5", "--steps", "6", "--eta", "0", "--order", "2"]
    x_T = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = sample(model, SCHEDULE, x_T, times=sampling_times(50, 6), eta=0, order=2, target="x0", clip=False)
    for size in ("2", "100"):
        out = tmp_path / size
        assert main([*command, "--batch-size", size, "--out", str(out)]) == 0
        for i in range(5):
            got = pixels(out / f"sample-000{i}.png").int()
            assert got.shape == (8, 8, 3) and (got - grid(expected[i : i + 1], pad=0).int()).abs().max() <= 1
        with Image.open(out / "trajectory.gif") as gif:
            rows = 1 if size == "2" else 2  # a film shows the first batch
            assert gif.convert("RGB").size == (3 * (2 * (4 * 9 + 1) + 6), 3 * (rows * 9 + 1))


def test_only_some_pieces_and_long_walks_make_short_films(gray: str, tmp_path: Path) -> None:
    for only in ("grid", "pictures", "gif"):
        out = tmp_path / only
        command = [*SAMPLE, "--checkpoint", gray, "--count", "2", "--steps", "50", "--only", only, "--out", str(out)]
        assert main(command) == 0
        names = {"grid": ["grid.png"], "gif": ["trajectory.gif"], "pictures": ["sample-0000.png", "sample-0001.png"]}
        assert sorted(path.name for path in out.iterdir()) == names[only]
    with Image.open(tmp_path / "gif" / "trajectory.gif") as gif:
        assert gif.n_frames == 33  # type: ignore[attr-defined]


def test_classes(tmp_path: Path) -> None:
    """A row of each class, or those that were asked for in turn."""
    model = small(num_classes=3)
    path = save_checkpoint(tmp_path / "classes.safetensors", model, SCHEDULE, target="v")
    x_T = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    cases: list[tuple[list[str], list[int], int | None]] = [
        ([], [0, 0, 1, 1, 2, 2], 2),
        (["--label", "2"], [2] * 6, None),
        (["--label", "0", "2"], [0, 2] * 3, None),
    ]
    for asked, labels, columns in cases:
        out = tmp_path / "-".join([*asked, "out"])
        command = [*SAMPLE, "--checkpoint", str(path), "--count", "6", "--steps", "5", "--eta", "0", *asked]
        assert main([*command, "--only", "grid", "--out", str(out)]) == 0
        y, times = torch.tensor(labels), sampling_times(50, 5)
        expected = sample(model, SCHEDULE, x_T, times=times, eta=0, order=2, target="v", clip=False, y=y)
        together = grid(expected, columns).repeat_interleave(3, 0).repeat_interleave(3, 1)
        assert torch.equal(pixels(out / "grid.png"), together)


def test_each_order_begins_and_clips_as_is_best_for_it(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "eps.safetensors", small(), SCHEDULE, target="eps")
    x_T = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    first = start_time(SCHEDULE)
    assert first < 50
    for order, clip, start in ((1, True, 50), (2, False, first)):
        out = tmp_path / str(order)
        command = [
            *SAMPLE,
            "--checkpoint",
            str(path),
            "--count",
            "2",
            "--steps",
            "6",
            "--eta",
            "0",
            "--only",
            "pictures",
        ]
        assert main([*command, "--order", str(order), "--out", str(out)]) == 0
        times = sampling_times(50, 6, start=start)
        expected = sample(small(), SCHEDULE, x_T, times=times, eta=0, order=order, clip=clip)
        for i in range(2):
            assert torch.equal(pixels(out / f"sample-000{i}.png"), grid(expected[i : i + 1], pad=0))


@pytest.mark.parametrize(("count", "classes"), [(64, 9), (64, 10), (12, 10), (19, 10), (3, 10), (10, 10), (30, 10)])
def test_every_class_is_drawn_as_often_as_the_others(count: int, classes: int) -> None:
    model = small(num_classes=classes)
    labels, columns = Pipeline(Checkpoint(model, SCHEDULE, "eps", {}), model, [50, 0]).labels(None, count)
    assert labels is not None and len(labels) == count and labels.diff().min() >= 0
    often = labels.bincount(minlength=classes)
    assert often.max() - often.min() <= 1
    assert columns == (count // classes if count % classes == 0 else None)  # a row of each, where that can be


def test_a_smaller_number_leaves_no_pictures_of_the_last_time_and_all_others(gray: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("0000.png", "0007.png", "sample.png", "sample-1 of mine.png"):
        (tmp_path / "out" / name).write_bytes(b"a picture of hers")
    for count in ("3", "2"):
        out = ["--only", "pictures", "--out", str(tmp_path / "out")]
        assert main([*SAMPLE, "--checkpoint", gray, "--steps", "2", "--count", count, *out]) == 0
    names = ["0000.png", "0007.png", "sample-0000.png", "sample-0001.png", "sample-1 of mine.png", "sample.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_what_is_drawn_is_written_at_once(
    gray: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in its third batch, or without memory then, two are there."""
    honest, asked = UNet.forward, 0
    command = [*SAMPLE, "--checkpoint", gray, "--steps", "2", "--count", "9", "--batch-size", "2"]
    for error, status, said in (
        (KeyboardInterrupt(), 130, "stopped after 4 of 9 pictures"),
        (MemoryError("not enough memory for it"), 2, "not enough memory for it"),
    ):

        def forward(*arguments: Any, error: BaseException = error) -> torch.Tensor:
            nonlocal asked
            asked += 1
            if asked > 5:
                raise error
            return honest(*arguments)

        monkeypatch.setattr(UNet, "forward", forward)
        asked, out = 0, tmp_path / str(status)
        out.mkdir()
        for name in ("sample-0003.png", "sample-0008.png", "grid.png", "trajectory.gif"):
            (out / name).write_bytes(b"of another network")
        assert main([*command, "--out", str(out)]) == status and said in capsys.readouterr().err
        assert sorted(path.name for path in out.iterdir()) == [f"sample-000{i}.png" for i in range(4)]


def test_a_grid_has_an_end(
    gray: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(__main__, "IN_GRID", 5)
    command = [*SAMPLE, "--checkpoint", gray, "--steps", "2", "--batch-size", "2", "--eta", "0"]
    for count in ("5", "8"):
        assert main([*command, "--count", count, "--out", str(tmp_path / count)]) == 0
        assert ("the first 5 in the grid" in capsys.readouterr().out) == (count == "8")
        for i in range(int(count)):
            assert (tmp_path / count / f"sample-{i:04d}.png").exists()
    few, many = (pixels(tmp_path / count / "grid.png") for count in ("5", "8"))
    assert torch.equal(few, many)


def test_networks_that_know_no_time_draw_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_checkpoint(tmp_path / "a.safetensors", BottleneckUNet(1, (4, 8), 8, 16), SCHEDULE)
    assert main([*SAMPLE, "--checkpoint", str(path), "--out", str(tmp_path / "out")]) == 2
    assert "checkpoint must be of a UNet, which knows the time, got a BottleneckUNet" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_where_no_picture_is_left_at_the_end_one_step_less_is_walked(tmp_path: Path) -> None:
    """On the linear amount x_T is noise alone, in which a network that predicts the noise can see nothing."""
    schedule = make_schedule("linear amount", 50)
    path = save_checkpoint(tmp_path / "a.safetensors", small(), schedule, target="eps")
    command = [*SAMPLE, "--checkpoint", str(path), "--count", "1", "--steps", "5", "--order", "1", "--only", "grid"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "grid.png").exists()


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory: 9 bytes")]
)
def test_too_little_memory_is_one_sentence(
    error: Exception, gray: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(UNet, "forward", none)
    assert main([*SAMPLE, "--checkpoint", gray, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip().endswith("python -m course_lib: not enough memory: do less at a time")
    monkeypatch.setattr(UNet, "forward", lambda *_: torch.zeros(2)[9])
    with pytest.raises(IndexError):
        main([*SAMPLE, "--checkpoint", gray, "--out", str(tmp_path / "out")])


def test_the_folder_of_a_run_stands_for_its_newest_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    command = [*SAMPLE, "--checkpoint", str(folder), "--count", "1", "--steps", "2", "--only", "grid"]
    folder.mkdir()
    assert main([*command, "--out", str(tmp_path / "none")]) == 2
    assert f"there is no model.safetensors in {folder}" in capsys.readouterr().err
    seen = []
    for name, seed in (("step-00000900", 1), ("step-00001000", 2), (".", 3)):
        torch.manual_seed(seed)
        model = UNet(8, channels=(8,), attention=())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) / 10)
        save_checkpoint(folder / name / "model.safetensors", model, SCHEDULE, target="v")
        assert main([*command, "--out", str(tmp_path / str(seed))]) == 0
        draw = torch.Generator().manual_seed(0)
        x_T = torch.randn(1, 1, 8, 8, generator=draw)
        expected = grid(sample(model.eval(), SCHEDULE, x_T, times=[50, 25, 0], target="v", clip=False, generator=draw))
        seen.append(pixels(tmp_path / str(seed) / "grid.png"))
        assert torch.equal(seen[-1][::3, ::3], expected)
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])


def test_a_weak_version_guides_where_it_is_given_or_lies_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other = tmp_path / "run", tmp_path / "other.safetensors"
    networks = []
    for path, seed in ((folder / "model.safetensors", 1), (folder / "weak.safetensors", 2), (other, 3)):
        torch.manual_seed(seed)
        networks.append(small())
        with torch.no_grad():
            for parameter in networks[-1].parameters():
                parameter.add_(torch.randn_like(parameter) / 10)
        save_checkpoint(path, networks[-1], SCHEDULE, target="v")
    drawn = {}
    for name, weak, strength, options in (
        ("its own", networks[1], 2.0, []),
        ("another", networks[2], 1.5, ["--weak", str(other), "--strength", "1.5"]),
        ("none", networks[0], 1.0, ["--strength", "1"]),
    ):
        out = tmp_path / name
        command = [*SAMPLE, "--checkpoint", str(folder), "--count", "2", "--steps", "3", "--only", "grid", *options]
        assert main([*command, "--out", str(out)]) == 0
        assert (f"guided with strength {strength:g}" in capsys.readouterr().out) == (strength != 1)
        draw = torch.Generator().manual_seed(0)
        x_T, times = torch.randn(2, 1, 8, 8, generator=draw), sampling_times(50, 3)
        guided = AutoGuidance(networks[0], weak, SCHEDULE, strength)
        expected = sample(guided, SCHEDULE, x_T, times=times, order=2, target="v", clip=False, generator=draw)
        drawn[name] = pixels(out / "grid.png")
        assert torch.equal(drawn[name][::3, ::3], grid(expected))
    assert len({tuple(each.flatten().tolist()) for each in drawn.values()}) == 3
    (folder / "step-00000007").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "step-00000007")
    for path in (folder / "model.safetensors", folder / "step-00000007"):  # however the run is named
        command = [*SAMPLE, "--checkpoint", str(path), "--count", "2", "--steps", "3", "--only", "grid"]
        assert main([*command, "--out", str(tmp_path / "again")]) == 0
        assert torch.equal(pixels(tmp_path / "again" / "grid.png"), drawn["its own"])


def test_a_weak_version_made_on_another_machine_guides(gray: str, tmp_path: Path) -> None:
    """Its schedule differs in the last digit, since another processor computed the cosines."""
    signal = SCHEDULE.signal.clone()
    signal[1:] = signal[1:].nextafter(torch.zeros(50, dtype=torch.float64))
    other = Schedule(signal, SCHEDULE.noise, SCHEDULE.name)
    weak = save_checkpoint(tmp_path / "weak.safetensors", small(), other, target="v")
    command = [*SAMPLE, "--checkpoint", gray, "--weak", str(weak), "--count", "1", "--steps", "2", "--only", "grid"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0


def test_a_weak_version_of_another_kind_is_refused(
    gray: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SAMPLE, "--checkpoint", gray, "--strength", "-1"]) == 2
    assert "strength must lie in" in capsys.readouterr().err
    assert main([*SAMPLE, "--checkpoint", gray, "--strength", "1.5"]) == 2
    assert "the checkpoint has none: give them by --weak" in capsys.readouterr().err
    for options, schedule, target, word in (
        ({"in_channels": 3}, SCHEDULE, "v", "in_channels"),
        ({"num_classes": 2}, SCHEDULE, "v", "num_classes"),
        ({}, SCHEDULE, "eps", "target"),
        ({}, make_schedule("linear", 50), "v", "schedule"),
    ):
        weak = save_checkpoint(tmp_path / "weak.safetensors", small(**options), schedule, target=target)
        assert main([*SAMPLE, "--checkpoint", gray, "--weak", str(weak), "--out", str(tmp_path / "out")]) == 2
        assert f"weak must have the {word} of the checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--checkpoint", "none.safetensors"], "there is no none.safetensors"),
        (["--steps", "0"], "steps must lie in"),
        (["--steps", "51"], r"steps must lie in [1, 50], got 51"),
        (["--count", "0"], "count must lie in"),
        (["--batch-size", "0"], "batch-size must lie in"),
        (["--eta", "2"], "eta must lie in [0, 1]"),
        (["--seed", "-1"], "seed must lie in"),
        (["--label", "1"], "label needs a model that was trained with --classes"),
        (["--device", "tpu"], "'tpu' is unknown"),
        (["--out", "samples.png"], "out must be a folder, got samples.png; the grid will be samples/grid.png"),
    ],
)
def test_bad_input_is_one_sentence(
    options: list[str],
    sentence: str,
    gray: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    assert main([*SAMPLE, "--checkpoint", gray, "--steps", "5", *options]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("python -m course_lib: ") and sentence in error
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("names", "asked", "label"),
    [
        (("cat", "Dog", "DOG"), "cat", 0),
        (("cat", "Dog", "DOG"), "CAT", 0),
        (("cat", "Dog", "DOG"), "DOG", 2),
        (("cat", "Dog", "DOG"), "dog", 1),
        (("cat", "Dog", "DOG"), "2", 2),
        (("1", "2", "7"), "2", 1),  # a name comes first
        (("1", "2", "7"), "0", 0),
        ((), "2", 2),
    ],
)
def test_a_class_is_asked_for_by_name_or_number(names: tuple[str, ...], asked: str, label: int) -> None:
    details = {"classes": names} if names else {}
    model = small(num_classes=3)
    assert Pipeline(Checkpoint(model, SCHEDULE, "eps", details), model, [50, 0]).label(asked) == label


@pytest.mark.parametrize("asked", ["3", "-1", "dogs", "", "1.0", "²"])
def test_a_label_that_the_model_does_not_know(asked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "classes.safetensors"
    for known, details in (("one of cat, dog, emu, or ", {"classes": ["cat", "dog", "emu"]}), ("", {})):
        save_checkpoint(path, small(num_classes=3), SCHEDULE, details=details)
        assert main([*SAMPLE, "--checkpoint", str(path), f"--label={asked}", "--out", str(tmp_path / "out")]) == 2
        assert f"label must be {known}a number from 0 to 2, got {asked!r}" in capsys.readouterr().err


def test_a_label_alone_is_drawn_by_the_shipped_network_that_knows_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        *SAMPLE,
        "--label",
        "trouser",
        "7",
        "--count",
        "3",
        "--steps",
        "4",
        "--only",
        "grid",
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 0
    assert "guided with strength 2" in capsys.readouterr().out
    made, draw = load_shipped(classes=True), torch.Generator().manual_seed(0)
    x_T, first = torch.randn(3, 1, 28, 28, generator=draw), start_time(made.schedule)
    guided = AutoGuidance(made.model, load_shipped(weak=True).model, made.schedule)
    options = dict(times=sampling_times(1000, 4, start=first), order=2, clip=False, y=torch.tensor([1, 7, 1]))
    expected = sample(guided, made.schedule, x_T, generator=draw, **options)  # type: ignore[arg-type]
    assert torch.equal(pixels(tmp_path / "grid.png")[::3, ::3], grid(expected))


# The GIF itself


def test_a_gif_in_color_keeps_its_colors() -> None:
    ramp = torch.linspace(0, 255, 16).to(torch.uint8)
    last = torch.stack([ramp.expand(16, 16), ramp.expand(16, 16).T, torch.full((16, 16), 128, dtype=torch.uint8)], 2)
    with Image.open(io.BytesIO(to_gif([torch.zeros_like(last), last], scale=2))) as gif:
        gif.seek(1)
        got = np.array(gif.convert("RGB"))
    assert got.shape == (32, 32, 3)
    assert np.abs(got[::2, ::2].astype(int) - last.numpy()).mean() < 16


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: to_gif([]), ValueError, "at least one picture"),
        (lambda: to_gif([torch.zeros(2, 2)]), TypeError, "frames must hold uint8 tensors, got torch.float32"),
        (lambda: to_gif([torch.zeros(2, 2).byte(), torch.zeros(2, 3).byte()]), ValueError, "one shape"),
        (lambda: to_gif([torch.zeros(2, 2).byte()], scale=0), ValueError, "scale must lie in"),
    ],
)
def test_bad_frames(call: Callable[[], bytes], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
