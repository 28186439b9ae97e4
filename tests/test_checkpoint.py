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

import pytest
import safetensors.torch
import torch
from torch import nn

from course_lib import metrics, runs
from course_lib.checkpoint import (
    SHIPPED,
    load_checkpoint,
    load_shipped,
    load_tensors,
    move,
    save_checkpoint,
    save_tensors,
)
from course_lib.data import load_fashion_mnist
from course_lib.objective import denoising_loss
from course_lib.runs import RunConfig
from course_lib.sample import sample
from course_lib.schedule import Schedule, linear_amount, make_schedule, sampling_times, start_time, zero_terminal_snr
from course_lib.train import EMA, TrainConfig, TrainState
from course_lib.unet import BottleneckUNet, ClassicUNet, DoubleConvUNet, UNet
from helpers import randomize

SCHEDULE = make_schedule("cosine", 20)


def small() -> UNet:
    model = UNet(8, channels=(8, 16), num_classes=3)
    randomize(model)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model.safetensors", small(), SCHEDULE, target="v", details={"steps": 7})


def rewrite(path: Path, **changes: Any) -> None:
    """Change entries of the card, with a hash that fits; None takes an entry out."""
    tensors, card = load_tensors(path)
    save_tensors(path, tensors, {key: value for key, value in (card | changes).items() if value is not None})


def header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file, read by hand: 8 bytes of length, then JSON."""
    raw = path.read_bytes()
    found: dict[str, Any] = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return found


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (
            UNet(8, 3, channels=(8, 16), num_classes=3),
            (torch.randn(2, 3, 8, 8), torch.tensor([1, 9]), torch.tensor([0, 2])),
        ),
        (ClassicUNet(1, 2, (4, 8), 16), (torch.randn(1, 1, 44, 44),)),
        (DoubleConvUNet(1, 1, (4, 8), 16, time_plane=20), (torch.randn(2, 1, 8, 8), torch.tensor([1, 9]))),
        (BottleneckUNet(1, (4, 8), 8, 16), (torch.randn(2, 1, 8, 8),)),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("schedule", [SCHEDULE, linear_amount(7), zero_terminal_snr(SCHEDULE)], ids=lambda s: s.name)
def test_saved_and_loaded_the_same_output_bit_for_bit(
    model: Any, inputs: tuple[Any, ...], schedule: Schedule, tmp_path: Path
) -> None:
    randomize(model.train())
    model(*inputs)  # BatchNorm has statistics to keep
    before = {name: value.clone() for name, value in model.state_dict().items()}
    details = {"command": "a line", "list": [1, 2.5, None], "größe": "28×28"}
    path = save_checkpoint(tmp_path / "new" / "folder" / "a.safetensors", model, schedule, target="x0", details=details)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())

    loaded = load_checkpoint(str(path))
    assert type(loaded.model) is type(model) and loaded.model.config == model.config and not loaded.model.training
    assert torch.equal(loaded.model(*inputs), model.eval()(*inputs))
    assert torch.equal(loaded.schedule.signal, schedule.signal) and torch.equal(loaded.schedule.noise, schedule.noise)
    assert loaded.schedule.name == schedule.name
    assert loaded.target == "x0" and loaded.details == details
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_weights_keep_their_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    model = randomize(UNet(8, channels=(8,), attention=()).to(dtype)).eval()
    loaded = load_checkpoint(save_checkpoint(tmp_path / "a.safetensors", model, linear_amount(10)))  # type: ignore[arg-type]
    assert {value.dtype for value in loaded.model.state_dict().values()} == {dtype}
    x, t = torch.ones(2, 1, 8, 8, dtype=dtype), torch.tensor([1, 2])
    assert torch.equal(loaded.model(x, t), model(x, t))


def test_loading_draws_no_random_numbers(saved: Path) -> None:
    before = torch.get_rng_state()
    load_checkpoint(saved)
    metrics.load_feature_net()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sample_from_a_loaded_checkpoint_is_the_same_picture(tmp_path: Path) -> None:
    model = small()
    path = save_checkpoint(tmp_path / "a.safetensors", model, SCHEDULE)
    x_T, y = torch.randn(2, 1, 8, 8), torch.tensor([1, 2])
    loaded = load_checkpoint(path)
    pictures = [
        sample(m, s, x_T, y=y, generator=torch.Generator().manual_seed(3))
        for m, s in ((model, SCHEDULE), (loaded.model, loaded.schedule))
    ]
    assert torch.equal(*pictures)


def test_a_model_laid_out_for_gpus_keeps_its_weights(tmp_path: Path) -> None:
    model = small().to(memory_format=torch.channels_last)
    loaded = load_checkpoint(save_checkpoint(tmp_path / "a.safetensors", model, SCHEDULE)).model
    for mine, theirs in zip(model.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_card_says_what_the_weights_are(saved: Path) -> None:
    words = header(saved)["__metadata__"]
    card = json.loads(words["card"])
    assert card["model"] == "UNet" and card["config"]["num_classes"] == 3 and card["target"] == "v"
    assert card["schedule"] == "cosine" and card["details"] == {"steps": 7}
    blank = saved.read_bytes().replace(words["sha256"].encode(), b"0" * 64)
    assert words["sha256"] == hashlib.sha256(blank).hexdigest()
    with safetensors.safe_open(saved, "pt") as weights:  # anyone's safetensors reads the file
        assert weights.metadata() == words
        assert "model.stem.weight" in weights.keys() and weights.get_tensor("schedule.signal").dtype == torch.float64  # noqa: SIM118


def test_a_checkpoint_is_one_file(saved: Path) -> None:
    assert [file.name for file in saved.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("text", ['"sha256":"' + "0" * 64 + '"', 'sha256\\":"', "", "größe \\ \n"])
def test_words_that_look_like_the_hash_do_not_disturb_it(text: str, tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "a.safetensors", small(), SCHEDULE, details={text: text, "sha256": "0" * 64})
    assert load_checkpoint(path).details == {text: text, "sha256": "0" * 64}


# Files that are not what they were


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1],
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:100],
        lambda raw: raw[:4],
        lambda raw: b"",
        lambda raw: raw + b"\0",
        lambda raw: raw[:-100] + bytes([raw[-100] ^ 1]) + raw[-99:],
        lambda raw: raw[:40] + bytes([raw[40] ^ 1]) + raw[41:],
        lambda raw: raw.replace(b'\\"steps\\": 7', b'\\"steps\\": 8'),
        lambda raw: raw.replace(b"model.stem.weight", b"model.stem.height"),
    ],
    ids=["byte short", "half", "header", "4 bytes", "empty", "byte long", "bit", "bit of header", "card", "name"],
)
def test_altered_files_are_refused(damage: Callable[[bytes], bytes], saved: Path) -> None:
    """Wherever a file was changed: tensors, their names, the card."""
    raw = saved.read_bytes()
    saved.write_bytes(damage(raw))
    assert saved.read_bytes() != raw
    with pytest.raises(ValueError, match=r"model.safetensors .*was cut short"):
        load_checkpoint(saved)


def test_the_message_names_the_hash_and_the_remedy(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"cut short or altered: its hash is not the one in its header; copy it again"):
        load_checkpoint(saved)


def test_every_byte_counts(tmp_path: Path) -> None:
    """A small file, each of its bytes changed in turn."""
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"x": torch.arange(3)}, {"step": 1})
    raw = path.read_bytes()
    for i in range(len(raw)):
        path.write_bytes(raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1 :])
        with pytest.raises(ValueError, match="cut short or altered"):
            load_tensors(path)
    path.write_bytes(raw)
    assert torch.equal(load_tensors(path)[0]["x"], torch.arange(3)) and load_tensors(path)[1] == {"step": 1}


def test_nothing_is_unpickled(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was unpickled")

    state = runs.save_state(saved.parent, small(), EMA(small()), SCHEDULE, "v", TrainState(7, 1.0), {"steps": 7})
    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, refuse)
    assert load_checkpoint(saved).target == "v"
    last = runs.last_good(state.parent)
    assert last is not None and last.state.step == 7
    metrics.load_feature_net.cache_clear()
    metrics.load_feature_net()
    assert len(load_fashion_mnist("train", source="packaged")) == 10_000


def test_a_pickle_under_our_name_is_refused_and_not_run(saved: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"model.stem.weight": Trap()}, saved)
    with pytest.raises(ValueError, match="is not a checkpoint of this course"):
        load_checkpoint(saved)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(format=99), "has format 99, this version of the course reads 2"),
        (dict(model="ResNet"), "model='ResNet' is unknown; choose one of 'ClassicUNet', 'DoubleConvUNet'"),
        (dict(target="noise"), "target='noise' is unknown; choose one of 'eps'"),
        (dict(model="ClassicUNet"), "does not hold a checkpoint of this course: .*unexpected keyword"),
        (dict(config={"size": 8, "channels": [8, 24]}), "does not hold a checkpoint.*size mismatch"),
        (
            dict(config={"size": 9, "channels": [8, 16]}),
            "does not hold a checkpoint.*nearest good sizes are 8 and 12",
        ),
        (dict(config=[8]), "does not hold a checkpoint"),
        *((dict([(key, None)]), "does not hold a checkpoint") for key in ("format", "model", "config", "schedule")),
        *((dict([(key, None)]), "does not hold a checkpoint") for key in ("target", "details")),
    ],
)
def test_cards_that_say_something_else(changes: dict[str, Any], message: str, saved: Path) -> None:
    rewrite(saved, **changes)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        load_checkpoint(saved)


@pytest.mark.parametrize("words", [None, {}, {"card": "{}"}, {"card": "{}", "sha256": "0" * 64}])
def test_a_safetensors_file_of_somebody_else(words: dict[str, str] | None, saved: Path) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(1)}, saved, words)
    with pytest.raises(ValueError, match=r"model.safetensors (is not a checkpoint of this course|was cut short)"):
        load_checkpoint(saved)


@pytest.mark.parametrize("card", [[], 3, "word", None])
def test_cards_that_say_nothing(card: Any, saved: Path) -> None:
    save_tensors(saved, {"x": torch.zeros(1)}, card)
    with pytest.raises(ValueError, match=r"model.safetensors (is not|does not hold) a checkpoint of this course"):
        load_checkpoint(saved)


def test_weights_without_a_schedule(saved: Path) -> None:
    tensors, card = load_tensors(saved)
    del tensors["schedule.signal"]
    save_tensors(saved, tensors, card)
    with pytest.raises(ValueError, match=r"does not hold a checkpoint of this course.*schedule.signal"):
        load_checkpoint(saved)


def test_missing_files_and_other_endings(saved: Path) -> None:
    for other in (saved.with_suffix(".pt"), saved.with_suffix("")):
        with pytest.raises(ValueError, match=r"path must end in .safetensors, got "):
            load_checkpoint(other)
        with pytest.raises(ValueError, match=r"path must end in .safetensors, got "):
            save_checkpoint(other, small(), SCHEDULE)
    with pytest.raises(FileNotFoundError, match=r"there is no .*nothing.safetensors"):
        load_checkpoint(saved.with_name("nothing.safetensors"))


def test_what_cannot_be_saved_leaves_no_file(tmp_path: Path) -> None:
    good: dict[str, Any] = dict(path=tmp_path / "a.safetensors", model=small(), schedule=SCHEDULE)
    bad: list[tuple[dict[str, Any], type[Exception], str]] = [
        (dict(model=nn.Linear(1, 1)), ValueError, "model='Linear' is unknown; choose one of 'ClassicUNet'"),
        (dict(target="noise"), ValueError, "target='noise' is unknown"),
        (dict(details={"model": small()}), TypeError, "not JSON serializable"),
        (dict(details={"loss": float("nan")}), ValueError, "not JSON compliant"),
    ]
    for changes, error, message in bad:
        with pytest.raises(error, match=message):
            save_checkpoint(**(good | changes))
    assert list(tmp_path.iterdir()) == []


def test_a_crash_while_writing_leaves_the_old_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in saved.parent.iterdir()}

    def crash(*_: object) -> None:
        raise OSError("no space left on device")

    for function in ("replace", "fsync"):
        with monkeypatch.context() as broken:
            broken.setattr(os, function, crash)
            with pytest.raises(OSError, match="no space left"):
                save_checkpoint(saved, small(), linear_amount(5))
        assert {file.name: file.read_bytes() for file in saved.parent.iterdir()} == before
    assert load_checkpoint(saved).schedule.name == "cosine"


def test_a_checkpoint_can_be_written_over(saved: Path) -> None:
    model = UNet(8, channels=(8,), attention=())
    save_checkpoint(saved, model, linear_amount(5))
    assert load_checkpoint(saved).schedule.T == 5
    assert sorted(file.name for file in saved.parent.iterdir()) == ["model.safetensors"]


@pytest.mark.cuda
def test_from_the_gpu_to_the_cpu_and_back(tmp_path: Path) -> None:
    model = small().cuda()
    path = save_checkpoint(tmp_path / "a.safetensors", model, SCHEDULE)
    assert next(model.parameters()).is_cuda
    near, there = load_checkpoint(path), load_checkpoint(path, "cuda")
    for mine, other in zip(near.model.state_dict().values(), model.state_dict().values(), strict=True):
        assert torch.equal(mine, other.cpu())
    assert next(there.model.parameters()).is_cuda


# The weights that come with the course


def test_the_shipped_weights_are_small_and_say_how_they_were_made() -> None:
    shipped = load_shipped()
    parts = [*SHIPPED.parent.glob("*.safetensors")]
    assert SHIPPED in parts and sum(path.stat().st_size for path in parts) <= 12e6
    settings = shipped.details["settings"]
    made = RunConfig(**{**settings, "train": TrainConfig(**settings["train"])})
    default = RunConfig(TrainConfig(minutes=25.0, batch_size=64), full=True)  # as in the Makefile
    chosen = {"precision", "compile", "data_sha256", "unet"}  # by the machine, the data and the model
    assert {k: v for k, v in asdict(made).items() if k not in chosen} == {
        k: v for k, v in asdict(default).items() if k not in chosen
    }
    assert shipped.model.config == UNet().config
    assert type(shipped.model) is UNet and shipped.model.config["size"] == 28
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    arguments = shipped.details["command"].removeprefix("python -m course_lib train ")
    assert f"\nTRAIN = {arguments}\n" in makefile  # make train is what made them
    weak = load_shipped(weak=True)
    assert weak.model.config == shipped.model.config and weak.target == shipped.target
    assert torch.equal(weak.schedule.signal, shipped.schedule.signal)
    assert f"TRAIN='{weak.details['command'].removeprefix('python -m course_lib train ')}'" in makefile
    assert 8 < shipped.details["minutes"] / weak.details["minutes"] < 9
    told = load_shipped(classes=True)
    assert told.model.config == {**shipped.model.config, "num_classes": 10} and told.target == shipped.target
    torch.testing.assert_close(told.schedule.signal, shipped.schedule.signal)  # made on another machine
    assert told.details["minutes"] == shipped.details["minutes"]
    assert {**told.details["settings"], "classes": False, "data_sha256": None} == {**settings, "data_sha256": None}
    assert f"TRAIN='{told.details['command'].removeprefix('python -m course_lib train ')}'" in makefile
    with pytest.raises(ValueError, match="guide both"):
        load_shipped(weak=True, classes=True)
    assert "Fashion-MNIST" in shipped.details["data"]["source"] and len(shipped.details["data"]["sha256"]) == 64
    assert shipped.details["data"]["source"].startswith("60,000 pictures of 28×28")
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    millions = sum(parameter.numel() for parameter in shipped.model.parameters()) / 1e6
    assert f"{millions:.1f} million parameters, {shipped.details['minutes']:.0f} minutes of training" in readme


def test_the_shipped_weights_learned_from_all_of_fashion_mnist() -> None:
    try:
        full = load_fashion_mnist("train", source="full")
    except FileNotFoundError:
        pytest.skip("the full Fashion-MNIST is not on this machine")
    made = [load_shipped(), load_shipped(weak=True), load_shipped(classes=True)]
    assert all(each.details["data"]["sha256"] == full.sha256 for each in made)
    assert made[2].details["settings"]["data_sha256"] == RunConfig(TrainConfig(steps=1), classes=True).hash_of(full)


def test_the_shipped_weights_find_the_noise_in_pictures_that_they_have_not_seen() -> None:
    shipped = load_shipped()
    pictures = load_fashion_mnist("test", source="packaged")
    x0 = pictures[torch.arange(0, 2000, 8)]
    generator = torch.Generator().manual_seed(0)
    t = torch.randint(1, shipped.schedule.T + 1, (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    with torch.no_grad():
        loss = denoising_loss(shipped.model, shipped.schedule, x0, t, eps, target=shipped.target).mean()
    assert loss < 0.1


def test_samples_from_the_shipped_weights_have_the_statistics_of_clothes() -> None:
    """Not a judgment of their beauty: brightness, contrast, black corners, and no two alike."""
    shipped = load_shipped()
    x_T = torch.randn(32, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    times = sampling_times(shipped.schedule.T, 25)
    x_0 = sample(shipped.model, shipped.schedule, x_T, times=times, eta=0, target=shipped.target)
    real = load_fashion_mnist("test", source="packaged")[:]
    assert abs(x_0.mean() - real.mean()) < 0.1 and abs(x_0.std() - real.std()) < 0.1
    assert x_0[:, :, :2, :2].mean() < -0.9
    black = [(pictures < -0.9).float().mean() for pictures in (x_0, real)]
    assert abs(black[0] - black[1]) < 0.12  # as much clean background
    distances = torch.cdist(x_0.flatten(1), x_0.flatten(1)) + 100 * torch.eye(32)
    assert distances.min() > 3


def test_the_shipped_network_draws_the_class_that_it_is_told() -> None:
    told, y = load_shipped(classes=True), torch.arange(60) % 10
    x_T = torch.randn(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    times = sampling_times(told.schedule.T, 12, start=start_time(told.schedule))
    drawn = sample(told.model, told.schedule, x_T, times=times, eta=0, order=2, y=y, target=told.target)
    named = metrics.embed(drawn).probabilities.argmax(1)
    assert (named == y).double().mean() > 0.8  # of real pictures, the classifier names 94 %


def test_a_file_that_a_scanner_holds_for_a_moment_is_moved_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = os.replace, list[Path]()
    slept: list[float] = []

    def held(old: Path, new: Path) -> None:
        calls.append(old)
        if len(calls) < 3:
            raise PermissionError(13, "the process cannot access the file")
        honest(old, new)

    monkeypatch.setattr(os, "replace", held)
    monkeypatch.setattr(time, "sleep", slept.append)
    (tmp_path / "a").write_text("a")
    move(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "a" and len(slept) == 2

    def never(old: Path, new: Path) -> None:
        raise PermissionError(13, "the process cannot access the file")

    monkeypatch.setattr(os, "replace", never)
    with pytest.raises(PermissionError):
        move(tmp_path / "b", tmp_path / "c")
    assert 1 < sum(slept[2:]) < 10
