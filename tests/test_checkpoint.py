"""Checkpoints: the same output bit for bit, nothing unpickled, and a sentence for every way in which files go wrong."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import safetensors.torch
import torch
from torch import nn

from course_lib import metrics, runs
from course_lib.checkpoint import (
    SHIPPED,
    Checkpoint,
    load_checkpoint,
    load_shipped,
    load_tensors,
    move,
    save_checkpoint,
    save_tensors,
)
from course_lib.data import load_fashion_mnist
from course_lib.runs import RunConfig
from course_lib.sample import sample
from course_lib.schedule import Schedule, linear_amount, make_schedule, sampling_times, start_time, zero_terminal_snr
from course_lib.shapes import count_parameters
from course_lib.train import EMA, TrainConfig, TrainState
from course_lib.unet import BottleneckUNet, ClassicUNet, DoubleConvUNet, UNet
from helpers import randomize

SCHEDULE = make_schedule("cosine", 20)


def small() -> UNet:
    return randomize(UNet(8, channels=(8, 16), num_classes=3))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model.safetensors", small(), SCHEDULE, target="v", details={"steps": 7})


def rewrite(path: Path, **changes: Any) -> None:
    """Change entries of the card, with a hash that fits; None takes an entry out."""
    tensors, card = load_tensors(path)
    save_tensors(path, tensors, {key: value for key, value in (card | changes).items() if value is not None})


DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]  # a list in a list in a list ...


X, TIMES, LABELS = torch.randn(2, 1, 8, 8), torch.tensor([1, 9]), torch.tensor([0, 2])


@pytest.mark.parametrize(
    ("model", "inputs", "schedule"),
    [
        (UNet(8, channels=(8, 16), num_classes=3), (X, TIMES, LABELS), SCHEDULE),
        (ClassicUNet(1, 2, (4, 8), 16), (torch.randn(1, 1, 44, 44),), linear_amount(7)),
        (DoubleConvUNet(1, 1, (4, 8), 16, time_plane=20), (X, TIMES), zero_terminal_snr(SCHEDULE)),
        (BottleneckUNet(1, (4, 8), 8, 16), (X,), SCHEDULE),
    ],
    ids=["UNet", "ClassicUNet", "DoubleConvUNet", "BottleneckUNet"],
)
def test_saved_and_loaded_the_same_output_bit_for_bit(
    model: Any, inputs: tuple[Any, ...], schedule: Schedule, tmp_path: Path
) -> None:
    randomize(model.train())
    model(*inputs)  # BatchNorm has statistics to keep
    before = {name: value.clone() for name, value in model.state_dict().items()}
    details: dict[str, Any] = {
        "list": [1, 2.5, None],
        "größe \n": "28×28 \\",
        "not UTF-8": "Gr\udcfc\udcdfe",
        "sha256": "0" * 64,
    }
    details |= {'"sha256":"' + "0" * 64 + '"': 'sha256\\":"'}  # words like those around the hash
    path = save_checkpoint(tmp_path / "new" / "folder" / "a.safetensors", model, schedule, target="x0", details=details)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())

    loaded = load_checkpoint(str(path))
    assert type(loaded.model) is type(model) and loaded.model.config == model.config and not loaded.model.training
    assert torch.equal(loaded.model(*inputs), model.eval()(*inputs))
    assert torch.equal(loaded.schedule.signal, schedule.signal) and torch.equal(loaded.schedule.noise, schedule.noise)
    assert loaded.schedule.name == schedule.name
    assert loaded.target == "x0" and loaded.details == details
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_weights_keep_their_values_and_are_ready_to_sample(dtype: torch.dtype, tmp_path: Path) -> None:
    model: Any = randomize(UNet(8, channels=(8,), attention=()).to(dtype)).to(memory_format=torch.channels_last)
    loaded = load_checkpoint(save_checkpoint(tmp_path / "a.safetensors", model, SCHEDULE))
    least = torch.promote_types(dtype, torch.float32)
    for mine, theirs in zip(model.state_dict().values(), loaded.model.state_dict().values(), strict=True):
        assert theirs.dtype == least and torch.equal(mine.to(least), theirs)
    assert sample(loaded.model, loaded.schedule, torch.ones(2, 1, 8, 8, dtype=least), times=[20, 0]).isfinite().all()


def test_anybodys_safetensors_reads_the_file(saved: Path) -> None:
    with safetensors.safe_open(saved, "pt") as weights:
        words = weights.metadata()
        assert "model.stem.weight" in weights.keys() and weights.get_tensor("schedule.signal").dtype == torch.float64  # noqa: SIM118
    card = json.loads(words["card"])
    assert card["model"] == "UNet" and card["config"]["num_classes"] == 3 and card["target"] == "v"
    assert card["schedule"] == "cosine" and card["details"] == {"steps": 7}
    blank = saved.read_bytes().replace(words["sha256"].encode(), b"0" * 64)
    assert words["sha256"] == hashlib.sha256(blank).hexdigest()


# Files that are not what they were


def test_every_byte_counts(tmp_path: Path) -> None:
    """A small file, each of its bytes changed in turn, and cut off at each."""
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"x": torch.arange(3)}, {"step": 1})
    raw = path.read_bytes()
    for i in range(len(raw)):
        for changed in (raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :], raw[:i]):
            path.write_bytes(changed)
            with pytest.raises(ValueError, match=r"a.safetensors .*was cut short"):
                load_tensors(path)
    path.write_bytes(raw + b"\0")
    with pytest.raises(ValueError, match=r"cut short or altered: its hash is not the one in its header; copy it again"):
        load_tensors(path)
    path.write_bytes(raw)
    assert torch.equal(load_tensors(path)[0]["x"], torch.arange(3)) and load_tensors(path)[1] == {"step": 1}


def test_nothing_is_unpickled_and_no_random_number_is_used(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was unpickled")

    state = runs.save_state(saved.parent, small(), EMA(small()), SCHEDULE, "v", TrainState(7, 1.0), {"steps": 7})
    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, refuse)
    random_state = torch.get_rng_state()
    assert load_checkpoint(saved).target == "v"
    last = runs.last_good(state.parent)
    assert last is not None and last.state.step == 7
    metrics.load_feature_net.cache_clear()
    metrics.load_feature_net()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert len(load_fashion_mnist("train", source="packaged")) == 10_000


NOT_OURS = "does not hold a checkpoint of this course"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(format=99), "has format 99, this version of the course reads 2"),
        (dict(model="ResNet"), "model='ResNet' is unknown; choose one of 'ClassicUNet', 'DoubleConvUNet'"),
        (dict(target="noise"), "target='noise' is unknown; choose one of 'eps'"),
        (dict(model="ClassicUNet"), f"{NOT_OURS}: .*unexpected keyword"),
        (dict(config={"size": 8, "channels": [8, 16]}), r"do not fit its card: label.weight is \(3, 32\), and missing"),
        (dict(config={"size": 8, "channels": [16, 16]}), r"time.mlp.0.weight is \(32, 8\), and \(64, 16\) by"),
        (dict(config={"size": 8, "channels": [8_000_000, 16_000_000]}), r"and \(32000000, 8000000\) by the card"),
        (dict(config={"size": 8, "channels": [8 * 10**30]}), NOT_OURS),
        (dict(config={"size": 8, "channels": [8], "blocks": 10**9}), "describes more layers than the file has weights"),
        (dict(config={"size": 9, "channels": [8, 16]}), f"{NOT_OURS}: .*nearest good sizes are 8 and 12"),
        (dict(config=[8]), NOT_OURS),
        (dict(details=[8]), NOT_OURS),
        *((dict([(key, None)]), NOT_OURS) for key in ("format", "model", "config", "schedule", "target", "details")),
    ],
)
def test_cards_that_say_something_else(changes: dict[str, Any], message: str, saved: Path) -> None:
    rewrite(saved, **changes)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load_checkpoint(saved)


def lighten(path: Path) -> None:
    tensors, card = load_tensors(path)
    del tensors["schedule.signal"]
    save_tensors(path, tensors, card)


def save_deep_card(path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json, "dumps", lambda *_, **__: "[" * 100_000)
        save_tensors(path, {}, {})


WORDS, LFS = {"card": "{}", "sha256": "0" * 64}, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
THEIRS = "is not a checkpoint of this course"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: safetensors.torch.save_file({"x": X}, path), THEIRS),
        (lambda path: safetensors.torch.save_file({"x": X}, path, WORDS), "was cut short or altered"),
        (lambda path: torch.save({"model.stem.weight": X}, path), THEIRS),
        (lambda path: path.write_bytes(b"@\0\1" + bytes(5) + b"[" * 65_600), THEIRS),  # a deep header
        (lambda path: path.write_bytes(LFS), "is a Git LFS pointer, not the weights: run `git lfs pull`"),
        (lambda path: save_tensors(path, {}, [3]), THEIRS),  # type: ignore[arg-type]
        (save_deep_card, THEIRS),
        (lighten, f"{NOT_OURS}: 'schedule.signal'"),
    ],
)
def test_files_that_somebody_else_wrote(write: Callable[[Path], Any], message: str, saved: Path) -> None:
    write(saved)
    with pytest.raises(ValueError, match=f"model.safetensors {message}"):
        load_checkpoint(saved)


def test_missing_files_and_other_endings(saved: Path) -> None:
    with pytest.raises(ValueError, match=r"path must end in .safetensors, got .*model.pt"):
        load_checkpoint(saved.with_suffix(".pt"))
    with pytest.raises(FileNotFoundError, match=r"there is no .*nothing.safetensors"):
        load_checkpoint(saved.with_name("nothing.safetensors"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(model=nn.Linear(1, 1)), ValueError, "model='Linear' is unknown; choose one of 'ClassicUNet'"),
        (dict(path="model"), ValueError, "path must end in .safetensors, got model"),
        (dict(target="noise"), ValueError, "target='noise' is unknown"),
        (dict(schedule="cosine"), TypeError, "schedule must be a course_lib.schedule.Schedule, got str; use make_s"),
        (dict(details={"model": nn.Linear(1, 1)}), TypeError, "not JSON serializable"),
        (dict(details={"loss": float("nan")}), ValueError, "not JSON compliant"),
        (dict(details={"deep": DEEP}), ValueError, "nested too deeply for JSON"),
    ],
)
def test_what_cannot_be_saved_leaves_no_file(
    changes: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    good: dict[str, Any] = dict(path=tmp_path / "a.safetensors", model=small(), schedule=SCHEDULE)
    with pytest.raises(error, match=message):
        save_checkpoint(**(good | changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_checkpoint_is_replaced_whole_or_not_at_all(
    function: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file.name: file.read_bytes() for file in saved.parent.iterdir()}
    with monkeypatch.context() as broken:
        broken.setattr(os, function, Mock(side_effect=OSError("no space left on device")))
        with pytest.raises(OSError, match="no space left"):
            save_checkpoint(saved, small(), linear_amount(5))
    assert {file.name: file.read_bytes() for file in saved.parent.iterdir()} == before
    save_checkpoint(saved, UNet(8, channels=(8,), attention=()), linear_amount(5))
    assert load_checkpoint(saved).schedule.T == 5 and [*saved.parent.iterdir()] == [saved]


def test_a_file_that_a_scanner_holds_for_a_moment_is_moved_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    held, slept = PermissionError(13, "the process cannot access the file"), Mock()
    monkeypatch.setattr(time, "sleep", slept)
    monkeypatch.setattr(os, "replace", Mock(side_effect=[held, held, None]))
    move("a", "b")
    assert slept.call_count == 2
    slept.reset_mock()
    monkeypatch.setattr(os, "replace", Mock(side_effect=held))
    with pytest.raises(PermissionError):
        move("a", "b")
    assert 1 < sum(call.args[0] for call in slept.call_args_list) < 10


# The weights that come with the course


@pytest.fixture(scope="module")
def shipped() -> dict[str, Checkpoint]:
    return {"good": load_shipped(), "weak": load_shipped(weak=True), "classes": load_shipped(classes=True)}


def test_the_shipped_weights_are_small_and_fit_together(shipped: dict[str, Checkpoint]) -> None:
    assert sum(path.stat().st_size for path in SHIPPED.parent.glob("*.safetensors")) <= 12e6
    for name, each in shipped.items():
        assert each.model.config == UNet(num_classes=10 if name == "classes" else None).config
        assert each.target == shipped["good"].target
        torch.testing.assert_close(each.schedule.signal, shipped["good"].schedule.signal)  # made on another machine
    with pytest.raises(ValueError, match="guide both"):
        load_shipped(weak=True, classes=True)


def test_the_shipped_weights_say_how_they_were_made_as_do_makefile_and_readme(shipped: dict[str, Checkpoint]) -> None:
    details = {name: each.details for name, each in shipped.items()}
    settings = details["good"]["settings"]
    made = asdict(RunConfig(**{**settings, "train": TrainConfig(**settings["train"])}))
    default = asdict(RunConfig(TrainConfig(minutes=25.0, batch_size=64), full=True))  # as in the Makefile
    chosen = {"precision", "compile", "data_sha256", "unet"}  # by the machine, the data and the model
    assert {k: v for k, v in made.items() if k not in chosen} == {k: v for k, v in default.items() if k not in chosen}
    told = details["classes"]["settings"] | {"classes": False, "data_sha256": None}
    assert told == settings | {"data_sha256": None}
    assert 8 < details["good"]["minutes"] / details["weak"]["minutes"] < 9
    assert details["classes"]["minutes"] == details["good"]["minutes"]
    assert details["good"]["data"]["source"].startswith("60,000 pictures of 28×28")

    root = Path(__file__).parent.parent
    makefile, readme = ((root / name).read_text(encoding="utf-8") for name in ("Makefile", "README.md"))
    for name, form in (("good", "\nTRAIN = {}\n"), ("weak", "TRAIN='{}'"), ("classes", "TRAIN='{}'")):
        assert form.format(details[name]["command"].removeprefix("python -m course_lib train ")) in makefile
    millions = count_parameters(shipped["good"].model) / 1e6
    assert f"{millions:.1f} million parameters, {details['good']['minutes']:.0f} minutes of training" in readme


def test_samples_from_the_shipped_weights_have_the_statistics_of_clothes(shipped: dict[str, Checkpoint]) -> None:
    """Not a judgment of their beauty: brightness, contrast, black corners, a clean background, and no two alike."""
    good, x_T = shipped["good"], torch.randn(32, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    x_0 = sample(good.model, good.schedule, x_T, times=sampling_times(1000, 25), eta=0, target=good.target)
    real = load_fashion_mnist("test", source="packaged")[:]
    assert abs(x_0.mean() - real.mean()) < 0.1 and abs(x_0.std() - real.std()) < 0.1
    assert x_0[:, :, :2, :2].mean() < -0.9
    assert abs((x_0 < -0.9).float().mean() - (real < -0.9).float().mean()) < 0.12
    assert (torch.cdist(x_0.flatten(1), x_0.flatten(1)) + 100 * torch.eye(32)).min() > 3


def test_the_shipped_network_samples_the_class_that_it_is_told(shipped: dict[str, Checkpoint]) -> None:
    told, y = shipped["classes"], torch.arange(60) % 10
    x_T = torch.randn(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    times = sampling_times(told.schedule.T, 12, start=start_time(told.schedule))
    samples = sample(told.model, told.schedule, x_T, times=times, eta=0, order=2, y=y, target=told.target)
    named = metrics.embed(samples).probabilities.argmax(1)
    assert (named == y).double().mean() > 0.8  # of real pictures, the classifier names 94 %
