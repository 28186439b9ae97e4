"""Runs in a folder: what lies in it, what is refused, and what every failure leaves behind."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import accelerate.tracking
import accelerate.utils
import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from filelock import FileLock
from PIL import Image
from torch import Tensor, nn

from course_lib import train as train_module
from course_lib.checkpoint import load_checkpoint, load_tensors
from course_lib.data import Pictures
from course_lib.objective import denoising_loss
from course_lib.runs import (
    How,
    RunConfig,
    SaveEvery,
    checkpoints,
    compiling_pays,
    engine,
    last_good,
    load_state,
    loop,
    read_config,
    read_how,
    report,
    run,
    saves,
    start,
)
from course_lib.runs.folder import LOCK
from course_lib.runs.signals import Signals
from course_lib.schedule import make_schedule
from course_lib.train import EMA, TrainConfig
from course_lib.training import clock
from course_lib.unet import UNet

Weights = Mapping[str, Tensor]
SETTINGS: dict[str, Any] = dict(size=8, channels=[8, 16], steps=6, batch_size=4, precision="no", compile="no")


@pytest.fixture(autouse=True)
def fresh_engine() -> Iterator[None]:
    """Accelerate keeps what its first user in a process asked for."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture
def restore_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def draw(path: Path, width: int = 8, height: int = 8, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(5):
        draw(tmp_path / "pictures" / f"{i}.png", seed=i)
    return tmp_path / "pictures"


@pytest.fixture
def config(folder: Path) -> RunConfig:
    return RunConfig.of({"data": str(folder), **SETTINGS})


def go(out: Path, config: RunConfig | None, updates: int = 2, **options: Any) -> bool:
    return run(out, config, device="cpu", save_every=SaveEvery(None, updates), **options)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK
    }


def apart(start: Weights, end: Weights, other: Weights) -> float:
    """How far another training ended from where this one did, as a share of the way that this one went.

    Of all weights together: a bias before a GroupNorm has no gradient but rounding, and goes anywhere.
    """
    a, b, c = (torch.cat([state[name].flatten() for name in start]) for state in (start, end, other))
    return float((c - b).norm() / (b - a).norm())


# What lies in the folder


def test_the_files_of_a_run(config: RunConfig, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    assert go(out, config, command="the line")
    assert sorted(files(out)) == [
        "config.json",
        "model.safetensors",
        *(f"step-0000000{step}/{name}.safetensors" for step in (4, 6) for name in ("model", "state")),
        "weak.safetensors",
    ]
    weak = load_checkpoint(out / "weak.safetensors")
    assert weak.details["steps"] == 1 and weak.target == config.train.target  # a sixth is more than an eighth
    final, newest = load_checkpoint(out / "model.safetensors"), load_checkpoint(out / "step-00000006/model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(final.model.parameters(), newest.model.parameters(), strict=True))
    details = final.details
    assert details["command"] == "the line" and details["steps"] == 6 and details["device"] == "cpu"
    assert details["data"]["sha256"] == config.pictures().sha256 and "5 pictures of 8×8" in details["data"]["source"]
    assert final.schedule.name == "cosine" and final.schedule.T == 1000 and final.target == config.train.target
    assert 0 < details["loss"] < 2 and details["settings"]["train"]["steps"] == 6
    card = json.loads((out / "config.json").read_text())
    assert card["command"] == "the line" and card["processes"] == 1 and card["versions"]["torch"] == torch.__version__
    assert card["threads"] == torch.get_num_threads()


def test_the_files_of_a_run_are_those_of_the_loop(config: RunConfig, tmp_path: Path) -> None:
    """The average as it is sampled from and as it was after an eighth, weights beside it; schedule and settings."""
    config = RunConfig.of({"steps": 16, "warmup": 0, "ema": 0.3, "timesteps": 50}, config)
    go(tmp_path / "a", config, updates=16)
    pictures = config.pictures()
    model = config.model(pictures).to(memory_format=torch.channels_last)
    ema, weak = EMA(model, 0.3), dict[str, Tensor]()
    for update in train_module.train(model, make_schedule("cosine", 50), pictures, config.train, ema=ema):
        if update.step == 2:
            weak = {name: value.clone() for name, value in ema.model.state_dict().items()}
    for name, expected in (("weak", weak), ("model", ema.model.state_dict())):
        found = load_checkpoint(tmp_path / "a" / f"{name}.safetensors")
        assert found.schedule.T == 50 and found.details["steps"] == (2 if name == "weak" else 16)
        torch.testing.assert_close(dict(found.model.state_dict()), dict(expected), rtol=0, atol=0)
    state = load_tensors(tmp_path / "a" / "step-00000016" / "state.safetensors")[0]
    last = {f"model.{name}": value for name, value in model.state_dict().items()}
    assert all(torch.equal(state[name], value) for name, value in last.items())
    assert any(not torch.equal(last[f"model.{name}"], value) for name, value in ema.model.state_dict().items())


def test_the_config_says_everything_that_was_decided(config: RunConfig, tmp_path: Path) -> None:
    """Also what the options left to the defaults and to the machine."""
    go(tmp_path / "a", replace(config, precision="auto", compile="auto"))
    stored, command = read_config(tmp_path / "a" / "config.json")
    assert command == "" and stored.train == config.train
    assert stored.precision in ("no", "bf16") and stored.compile == "no"
    assert stored.data_sha256 == config.pictures().sha256
    full = config.model(config.pictures()).config
    assert stored.unet == {key: full[key] for key in ("channels", "blocks", "patch", "attention")}
    assert asdict(RunConfig.of({}, stored)) == asdict(stored)
    card = json.loads((tmp_path / "a" / "config.json").read_text())
    del card["settings"]["train"]["snr_gamma"]  # as in runs from before there were weights
    (tmp_path / "old.json").write_text(json.dumps(card))
    assert read_config(tmp_path / "old.json")[0].train == replace(config.train, snr_gamma=None)


def test_the_weights_before_the_first_update_follow_from_the_seed(config: RunConfig) -> None:
    def start(seed: int) -> Tensor:
        torch.randn(3)
        return config.of({"seed": seed}, config).model(config.pictures()).stem.weight

    state = torch.get_rng_state()
    assert torch.equal(start(1), start(1)) and not torch.equal(start(1), start(2))
    torch.set_rng_state(state)
    config.model(config.pictures())
    assert torch.equal(torch.get_rng_state(), state)


def test_color_of_64_pixels_with_classes(tmp_path: Path) -> None:
    for kind in ("cats", "dogs", "emus"):
        for i in range(2):
            draw(tmp_path / "zoo" / kind / f"{i}.png", 70, 66, seed=i)
    settings = dict(data=str(tmp_path / "zoo"), size=64, color=True, classes=True, channels=[8, 16, 16], steps=2)
    assert go(tmp_path / "a", RunConfig.of({**SETTINGS, **settings}))
    made = load_checkpoint(tmp_path / "a" / "model.safetensors")
    model = made.model
    assert isinstance(model, UNet) and model.config["num_classes"] == 3 and model.config["in_channels"] == 3
    assert made.details["classes"] == ["cats", "dogs", "emus"]  # what `sample --label` takes
    y = torch.tensor([2])
    assert model(torch.zeros(1, 3, 64, 64), torch.tensor([5]), y).shape == (1, 3, 64, 64)
    with pytest.raises(ValueError, match="data has changed since the run was begun"):  # the labels count
        (tmp_path / "zoo" / "dogs" / "0.png").rename(tmp_path / "zoo" / "cats" / "9.png")
        go(tmp_path / "a", None, resume=True)


def test_pictures_of_mixed_sizes_and_a_single_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "mixed" / "a.png", 30, 9)
    draw(tmp_path / "mixed" / "b.png", 5, 44)
    draw(tmp_path / "one" / "a.png")
    for name, count in (("mixed", 2), ("one", 1)):
        assert go(tmp_path / f"run-{name}", RunConfig.of({**SETTINGS, "data": str(tmp_path / name)}))
        details = load_checkpoint(tmp_path / f"run-{name}" / "model.safetensors").details
        said = capsys.readouterr().out
        assert details["data"]["source"].startswith(f"{count} picture{'s' if count > 1 else ''} of 8×8")
        assert ("cut to squares from 2 sizes" in said) is (name == "mixed")
        assert ("only one picture: the network will learn it by heart" in said) is (name == "one")


@pytest.mark.parametrize("far", [False, True])
def test_the_log(far: bool, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's numbers are shown one look later, and none is lost."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(report, "LOOK_EVERY", 2)
    monkeypatch.setattr(report, "is_far", lambda device: far)
    go(tmp_path / "a", config, updates=100, log=True)
    curves = EventAccumulator(str(tmp_path / "a" / "log"))
    curves.Reload()
    assert sorted(curves.Tags()["scalars"]) == ["grad_norm", "loss", "lr", "pictures_per_second"]
    assert [point.step for point in curves.Scalars("loss")] == [2, 4, 6]
    details = load_checkpoint(tmp_path / "a" / "model.safetensors").details
    assert details["loss"] == pytest.approx(curves.Scalars("loss")[-1].value, abs=1e-4)
    assert all(point.value > 0 for name in curves.Tags()["scalars"] for point in curves.Scalars(name))


def test_the_log_of_a_run_that_went_back_holds_no_update_twice(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr(report, "LOOK_EVERY", 1)
    go(tmp_path / "a", config, log=True)
    shutil.rmtree(tmp_path / "a" / "step-00000006")
    AcceleratorState._reset_state(True)
    go(tmp_path / "a", None, resume=True, log=True)
    curves = EventAccumulator(str(tmp_path / "a" / "log"))
    curves.Reload()
    assert [point.step for point in curves.Scalars("loss")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("threads", [1, 2])
def test_bf16_and_a_compiled_network_leave_ordinary_weights(
    threads: int, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restore_threads: None
) -> None:
    """Names and dtypes of the weights are those of the plain network, and they are near its weights.

    The compiler here traces the network and makes no machine code, for which a CPU would take minutes.
    """
    compiled: list[nn.Module] = []

    def trace(model: nn.Module, **options: Any) -> None:
        compiled.append(model)
        nn.Module.compile(model, backend="eager", **options)

    config = RunConfig.of({"warmup": 0, "steps": 20}, config)
    torch.set_num_threads(threads)
    monkeypatch.setattr(UNet, "compile", trace)
    monkeypatch.setattr(engine, "can_compile", lambda device: True)
    go(tmp_path / "plain", config)
    for name, changes in (("bf16", dict(precision="bf16")), ("compiled", dict(compile="yes"))):
        AcceleratorState._reset_state(True)
        go(tmp_path / name, RunConfig.of(changes, config))
        plain, other = (load_tensors(tmp_path / n / "step-00000020/state.safetensors")[0] for n in ("plain", name))
        assert plain.keys() == other.keys()
        assert all(value.dtype == plain[key].dtype for key, value in other.items())
        assert any(not torch.equal(value, plain[key]) for key, value in other.items()) == (name == "bf16")
        start = config.model(config.pictures()).state_dict(prefix="model.")
    assert apart(start, plain, other) < 0.2
    assert len(compiled) == 1


def test_without_a_compiler_the_question_is_answered_before_the_run_begins(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "can_compile", lambda device: False)
    with pytest.raises(ValueError, match="compile='yes' needs a compiler that PyTorch can use here; take compile='no'"):
        go(tmp_path / "a", RunConfig.of({"compile": "yes"}, config))
    assert not (tmp_path / "a").exists()


# Going on


def test_a_run_that_is_there_is_not_overwritten(config: RunConfig, tmp_path: Path) -> None:
    go(tmp_path / "a", config)
    before = files(tmp_path / "a")
    with pytest.raises(ValueError, match=r"a holds a run already: go on with --resume, or choose another --out"):
        go(tmp_path / "a", config)
    assert files(tmp_path / "a") == before


def test_weights_from_late_in_a_run_do_not_pass_for_weak_ones(config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "a"
    go(out, config)
    before = load_tensors(out / "weak.safetensors")[0]
    for gone, there in (("step-00000006", False), ("step-0*", True)):  # goes on after four of six updates; begins anew
        for path in out.glob(gone):
            shutil.rmtree(path)
        for name in ("weak", "model"):
            (out / f"{name}.safetensors").unlink(missing_ok=True)
        assert go(out, None, resume=True) and (out / "model.safetensors").exists()
        assert (out / "weak.safetensors").exists() == there
    after = load_tensors(out / "weak.safetensors")[0]
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_run_that_is_over_only_says_so(config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go(tmp_path / "a", config)
    before = load_tensors(tmp_path / "a" / "model.safetensors")
    (tmp_path / "a" / "model.safetensors").unlink()
    capsys.readouterr()
    assert go(tmp_path / "a", None, resume=True)
    assert re.search(r"6 updates in \d+\.\d minutes, loss", capsys.readouterr().out)
    after = load_tensors(tmp_path / "a" / "model.safetensors")
    assert after[1] == before[1] and all(torch.equal(value, after[0][key]) for key, value in before[0].items())


def test_settings_are_those_with_which_the_run_was_begun(config: RunConfig, tmp_path: Path) -> None:
    go(tmp_path / "a", config)
    stored, _ = read_config(tmp_path / "a" / "config.json")
    assert go(tmp_path / "a", RunConfig.of({"lr": config.train.lr, "size": 8}, stored), resume=True)
    for changes, message in (
        (dict(steps=9), "begun with steps=6, got 9: a run goes on as it was begun; leave the option out"),
        (dict(channels=[8, 8]), r"begun with channels=\[8, 16\], got \[8, 8\]"),
        (dict(schedule="linear"), "begun with schedule='cosine', got 'linear'"),
    ):
        with pytest.raises(ValueError, match=message):
            go(tmp_path / "a", RunConfig.of(changes, stored), resume=True)
    with pytest.raises(ValueError, match="b holds no run to go on with: say what to train"):
        go(tmp_path / "b", None, resume=True)


def test_a_run_begins_with_the_weights_of_another(config: RunConfig, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    go(a, config)
    averaged = load_checkpoint(a / "model.safetensors").model.state_dict()
    longer = RunConfig.of({"init": str(a), "lr": 1e-12, "steps": 4}, config)
    go(b, longer)
    made = load_checkpoint(b / "model.safetensors")
    torch.testing.assert_close(dict(made.model.state_dict()), dict(averaged), rtol=0, atol=1e-6)
    assert made.details["steps"] == 4 and made.details["settings"]["init"] == str(a)
    assert not (b / "weak.safetensors").exists()  # those of an eighth would be no worse
    again, _ = read_config(b / "config.json")
    shutil.copytree(a, tmp_path / "copy")
    go(a / "more", RunConfig.of({"seed": 5}, config))
    shutil.copy(a / "more" / "model.safetensors", a / "model.safetensors")
    shutil.rmtree(b / "step-00000004")
    assert go(b, None, resume=True)  # it has weights of its own by now
    with pytest.raises(ValueError, match=r"init has changed since the run was begun: .*model.safetensors has another"):
        go(tmp_path / "c", again)
    shutil.copy(tmp_path / "copy" / "model.safetensors", a / "model.safetensors")
    assert go(tmp_path / "c", again)
    first, second = (load_checkpoint(out / "model.safetensors").model.state_dict() for out in (b, tmp_path / "c"))
    assert all(torch.equal(first[name], value) for name, value in second.items())
    shutil.rmtree(a)
    with pytest.raises(FileNotFoundError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunConfig, "pictures", lambda self: pytest.fail("they were loaded first"))
        go(tmp_path / "d", longer)
    assert not (tmp_path / "d").exists()


def test_a_run_begins_with_what_was_newest_before_the_pictures_were_loaded(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run may still train, and save, meanwhile."""
    a, b, newer = tmp_path / "a", tmp_path / "b", tmp_path / "a" / "step-00000006"
    go(a, config)
    (a / "model.safetensors").unlink()
    newer.rename(tmp_path / "newer")
    older = a / "step-00000004" / "model.safetensors"
    pictures = RunConfig.pictures

    def load(config: RunConfig) -> Pictures:
        (tmp_path / "newer").rename(newer)
        return pictures(config)

    with monkeypatch.context() as patch:
        patch.setattr(RunConfig, "pictures", load)
        go(b, RunConfig.of({"init": str(a), "lr": 1e-12}, config))
    assert read_config(b / "config.json")[0].init_sha256 == sha256(older.read_bytes()).hexdigest()
    found, expected = (load_checkpoint(path).model.state_dict() for path in (b / "model.safetensors", older))
    torch.testing.assert_close(dict(found), dict(expected), rtol=0, atol=1e-6)


def test_weights_that_do_not_fit_are_no_beginning(config: RunConfig, tmp_path: Path) -> None:
    go(tmp_path / "a", config)
    for changes, message in (
        (dict(channels=[8, 8]), r"init has weights for channels=\[8, 16\], this run has channels=\[8, 8\]"),
        (dict(color=True), "for in_channels=1, this run has in_channels=3"),
        (dict(target="v"), "for target=eps, this run has target=v"),
        (dict(schedule="linear"), r"for schedule=\('cosine', 1000\), this run has schedule=\('linear', 1000\)"),
    ):
        with pytest.raises(ValueError, match=message):
            go(tmp_path / "b", RunConfig.of({"init": str(tmp_path / "a"), **changes}, config))
        assert not (tmp_path / "b").exists()


def test_what_cannot_be_is_refused_before_pictures_are_loaded(config: RunConfig) -> None:
    state = torch.get_rng_state()
    for changes, message in (
        (dict(schedule="linear amount", target="velocity"), r"snr_gamma must be None \(--snr-gamma none\)"),
        (dict(channels=[8, 9]), "multiple of 8"),
        (dict(size=9), "nearest good sizes are"),
    ):
        with pytest.raises(ValueError, match=message):
            RunConfig.of(changes, config)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_goes_on_with_other_numbers(config: RunConfig, tmp_path: Path) -> None:
    """As it must on a machine that has no bfloat16, and may after a loss that is no number."""
    go(tmp_path / "a", RunConfig.of({"precision": "bf16"}, config))
    shutil.rmtree(tmp_path / "a" / "step-00000006")
    AcceleratorState._reset_state(True)
    stored, _ = read_config(tmp_path / "a" / "config.json")
    seen, honest = set[torch.dtype](), UNet.forward

    def watched(model: UNet, *arguments: Any) -> Tensor:
        answer = honest(model, *arguments)
        seen.add(answer.dtype)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UNet, "forward", watched)
        assert go(tmp_path / "a", RunConfig.of({"precision": "no"}, stored), resume=True)
    assert seen == {torch.float32}
    kept = read_config(tmp_path / "a" / "config.json")[0]  # the next time it does so again
    assert kept == replace(stored, precision="no") and read_config(tmp_path / "a" / "config.json")[1] == ""


def test_a_run_goes_on_where_it_ran_and_writes_what_it_wrote(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    out, asked = tmp_path / "a", list[Any]()

    def watch(name: str, noted: Any) -> None:
        """Note something of what a function is asked."""
        honest = getattr(start, name)

        def watched(*arguments: Any) -> Any:
            asked.append(noted(*arguments))
            return honest(*arguments)

        monkeypatch.setattr(start, name, watched)

    watch("pick_device", lambda name: name)
    watch("make_accelerator", lambda *given: given[3])
    watch("loop", lambda session: session.save_every)

    def goes_on(**how: Any) -> list[Any]:
        asked.clear()
        AcceleratorState._reset_state(True)
        assert run(out, None, resume=True, **how)
        return asked

    assert go(out, config, log=True)
    assert goes_on() == ["cpu", True, SaveEvery(None, 2)]
    assert "it was begun with" not in capsys.readouterr().out
    assert goes_on(save_every=SaveEvery(7.0), log=False) == ["cpu", False, SaveEvery(7.0)]
    assert goes_on() == ["cpu", False, SaveEvery(7.0)] and read_how(out / "config.json") == How("cpu", SaveEvery(7.0))

    card = json.loads((out / "config.json").read_text())
    del card["how"]  # as before there was any
    (out / "config.json").write_text(json.dumps({**card, "threads": 4096}))
    assert goes_on() == [None, False, SaveEvery()]
    assert re.search(
        r"it was begun with .* CPU .*, 4096 threads: from here on the last digits may differ", capsys.readouterr().out
    )
    (out / "config.json").write_text(json.dumps({**card, "how": {"color": 1}}))
    with pytest.raises(ValueError, match=r"config\.json is damaged: .*color"):
        goes_on()


def test_a_run_goes_on_with_pictures_that_were_moved(config: RunConfig, folder: Path, tmp_path: Path) -> None:
    go(tmp_path / "a", config)
    stored, _ = read_config(tmp_path / "a" / "config.json")
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        go(tmp_path / "a", None, resume=True)
    assert go(tmp_path / "a", RunConfig.of({"data": str(tmp_path / "moved")}, stored), resume=True)
    assert go(tmp_path / "a", None, resume=True)  # the next time it finds them itself


def test_a_run_goes_on_in_more_parts_and_without_a_compiler(config: RunConfig, tmp_path: Path) -> None:
    """As it must where there is less memory than there was at its beginning; the training is the same."""
    config = RunConfig.of({"warmup": 0, "ema": 0.0}, config)
    go(tmp_path / "a", config)
    before = load_checkpoint(tmp_path / "a" / "step-00000004" / "model.safetensors").model.state_dict()
    shutil.rmtree(tmp_path / "a" / "step-00000006")
    stored, _ = read_config(tmp_path / "a" / "config.json")
    assert config.train.accumulate == 1
    assert go(tmp_path / "a", RunConfig.of({"accumulate": 2, "compile": "no"}, stored), resume=True)
    assert read_config(tmp_path / "a" / "config.json")[0].train == replace(stored.train, accumulate=2)
    go(tmp_path / "b", config)
    one, other = (load_checkpoint(tmp_path / name / "model.safetensors").model.state_dict() for name in "ab")
    assert any(not torch.equal(one[name], other[name]) for name in one)  # it was in more parts
    assert apart(before, other, one) < 0.01


def test_a_run_that_cannot_go_on_keeps_its_settings(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed before its first checkpoint, and the next try fails as well."""
    out = tmp_path / "a"
    go(out, config)
    for path in checkpoints(out):
        shutil.rmtree(path)
    with monkeypatch.context() as patch:
        patch.setattr(start, "EMA", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            go(out, None, resume=True)
    assert go(out, None, resume=True)


@pytest.mark.parametrize("log_is_full", [False, True])
def test_a_log_that_cannot_be_ended_hides_nothing(
    log_is_full: bool, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(accelerate.tracking.TensorBoardTracker, "finish", full)
    kept = "the last good checkpoint is .*step-00000006"
    if log_is_full:
        monkeypatch.setattr(accelerate.tracking.TensorBoardTracker, "log", full)
        kept = "the last good checkpoint is .*step-00000004"  # the log is written when the training is over
    with pytest.raises(OSError, match=f"cannot write to {tmp_path / 'a'}: No space left on device; {kept}"):
        go(tmp_path / "a", config, log=True)


@pytest.mark.parametrize("fails", ["before the first update", "at the first update", "at its second checkpoint"])
def test_a_run_that_fails_before_its_first_checkpoint_leaves_the_folder_free(
    fails: str, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a"
    saved: list[Path] = []
    with monkeypatch.context() as patch:
        if fails == "before the first update":
            patch.setattr(start, "EMA", lambda *_: 1 / 0)
        elif fails == "at the first update":
            patch.setattr(train_module, "denoising_loss", lambda *_, **__: 1 / 0)
        else:
            honest = saves.save_state

            def once(*arguments: Any) -> Path:
                if saved:
                    raise OSError(28, "No space left on device")
                saved.append(honest(*arguments))
                return saved[0]

            patch.setattr(loop, "save_state", once)
        with pytest.raises((ZeroDivisionError, OSError)):
            go(out, config)
    assert (out / "config.json").exists() == bool(saved)
    if saved:
        assert go(out, None, resume=True)
    else:
        assert not files(out) and go(out, config)


def test_an_old_checkpoint_that_cannot_be_removed_does_not_end_the_training(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(path: Path) -> None:
        raise PermissionError(13, "somebody has it open", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(saves, "remove", held)
        assert go(tmp_path / "a", config, updates=1)
    assert len(checkpoints(tmp_path / "a")) == 6
    config = RunConfig.of({"steps": 8}, config)
    assert go(tmp_path / "b", config, updates=1) and len(checkpoints(tmp_path / "b")) == 2


def test_a_checkpoint_of_another_network_is_refused(config: RunConfig, tmp_path: Path) -> None:
    go(tmp_path / "a", config)
    go(tmp_path / "b", replace(config, unet={**config.unet, "channels": [8, 24]}))
    shutil.rmtree(tmp_path / "a" / "step-00000006")
    shutil.copytree(tmp_path / "b" / "step-00000006", tmp_path / "a" / "step-00000006")
    with pytest.raises(
        ValueError, match=r"config.json says channels=\[8, 16\], but step-00000006 was trained with \[8, 24\]"
    ):
        go(tmp_path / "a", None, resume=True)


def test_other_pictures_are_refused(config: RunConfig, folder: Path, tmp_path: Path) -> None:
    go(tmp_path / "a", config)
    draw(folder / "0.png", seed=99)
    for out, resume in (("a", True), ("b", False)):
        stored, _ = read_config(tmp_path / "a" / "config.json")
        with pytest.raises(ValueError, match="data has changed since the run was begun: 5 pictures"):
            go(tmp_path / out, stored, resume=resume)
    stored, _ = read_config(tmp_path / "a" / "config.json")
    assert go(tmp_path / "b", RunConfig.of({"size": 12}, stored))  # other settings of the data: another run


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card | {"format": 9},
        lambda card: {key: value for key, value in card.items() if key != "settings"},
        lambda card: card | {"settings": {}},
        lambda card: card | {"settings": card["settings"] | {"size": -1}},
        lambda card: card | {"settings": card["settings"] | {"fantasy": 1}},
        lambda card: [],
        lambda card: None,
    ],
)
def test_configs_that_are_none(change: Any, config: RunConfig, tmp_path: Path) -> None:
    go(tmp_path / "a", config)
    path = tmp_path / "a" / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=r"config.json does not describe a run of this course"):
        go(tmp_path / "a", None, resume=True)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"config.json does not describe a run of this course"):
        read_config(path)


def test_what_a_crash_left_is_cleaned_away_and_the_rest_is_not(config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "a"
    go(out, config)
    (out / ".step-00000009.x.tmp").mkdir()
    (out / ".step-00000009.x.tmp" / "model.safetensors").write_bytes(b"half")
    for name in ("config.json", "model.safetensors", "weak.safetensors"):
        (out / f".{name}.y.tmp").write_bytes(b"half")
    (out / ".mine.tmp").write_text("of another program")
    (out / "notes.txt").write_text("mine")
    (out / "step-by-step").mkdir()
    saved = last_good(out)
    assert saved is not None and saved.state.step == 6
    assert (
        sorted(path.name for path in out.glob(".*")) == [LOCK, ".mine.tmp"]
        and (out / "notes.txt").exists()
        and (out / "step-by-step").exists()
    )


def test_one_process_alone_sets_damaged_checkpoints_aside(config: RunConfig, tmp_path: Path) -> None:
    out = tmp_path / "a"
    assert last_good(out, mend=False) is None
    go(out, config)
    saved = last_good(out, mend=False)
    assert saved is not None and saved.state.step == 6
    (out / ".step-00000009.x.tmp").mkdir()
    (out / "step-00000006" / "state.safetensors").write_bytes(b"half")
    before = files(out)
    with pytest.raises(ValueError, match="step-00000006"):
        last_good(out, mend=False)
    assert files(out) == before and (out / ".step-00000009.x.tmp").exists()
    said = list[str]()
    saved = last_good(out, said.append)
    assert saved is not None and saved.state.step == 4 and "set aside" in said[0]
    saved = last_good(out, mend=False)
    assert saved is not None and saved.state.step == 4


# Failures: a clear message, and the last good checkpoint is kept


class BadLuck:
    """From update `number` on, something goes wrong."""

    def __init__(self, number: int) -> None:
        self.number, self.calls = number, 0

    def due(self) -> bool:
        self.calls += 1
        return self.calls >= self.number


def test_a_loss_that_is_no_number(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    luck, honest = BadLuck(6), denoising_loss

    def loss(*arguments: Any, **options: Any) -> Tensor:
        return honest(*arguments, **options) * (math.nan if luck.due() else 1)

    monkeypatch.setattr(train_module, "denoising_loss", loss)
    out = tmp_path / "a"
    expected = (
        rf"the gradient is nan at update 6 .*lower lr.*; the last good checkpoint is {out}/step-00000004, which .*init"
    )
    with pytest.raises(FloatingPointError, match=expected):
        go(out, config)
    assert [path.name for path in checkpoints(out)] == ["step-00000004", "step-00000002"]
    for path in checkpoints(out):
        assert all(value.isfinite().all() for value in load_state(path).weights.values())


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000000 bytes."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB, max allowed: 9.07 GB)."),
    ],
)
def test_too_little_memory(
    error: RuntimeError, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    luck, honest = BadLuck(6), denoising_loss

    def loss(*arguments: Any, **options: Any) -> Tensor:
        if luck.due():
            raise error
        return honest(*arguments, **options)

    out = tmp_path / "a"
    with monkeypatch.context() as patch:
        patch.setattr(train_module, "denoising_loss", loss)
        expected = (
            r"not enough memory for this network and batch beside 3.2e-07 GB of pictures: work through each batch in "
            rf"more parts \(--accumulate\); the last good checkpoint is {out}/step-00000004"
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

    def clip(parameters: Any, *arguments: Any, **options: Any) -> Tensor:
        parameters = list(parameters)
        length = honest(parameters, *arguments, **options)
        if luck.due():
            parameters[0].grad.fill_(math.nan)
        return length

    monkeypatch.setattr(train_module, "GradientWatch", Blind)
    monkeypatch.setattr("accelerate.Accelerator.clip_grad_norm_", lambda self, *arguments: clip(*arguments))
    monkeypatch.setattr(loop, "WEAK_AT", 1.0)
    out = tmp_path / "a"
    expected = (
        rf"no longer finite at update 6.*not saved; the last good checkpoint is {out}/step-00000004, which .*init"
    )
    with pytest.raises(FloatingPointError, match=expected):
        go(out, config)
    assert [path.name for path in checkpoints(out)] == ["step-00000004", "step-00000002"]
    assert not (out / "weak.safetensors").exists()


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk(function: str, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full at the last save: the message says so, no half-written file stays, and the run goes on later."""
    out, whole = tmp_path / "a", tmp_path / "whole"
    go(whole, config)
    honest, full = getattr(os, function), [False]

    def write(*arguments: Any) -> Any:
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return honest(*arguments)

    def save(folder: Path, *arguments: Any) -> Path:
        full[0] = len(checkpoints(folder)) == 2
        return save_state(folder, *arguments)

    save_state = saves.save_state
    with monkeypatch.context() as broken:
        broken.setattr(os, function, write)
        broken.setattr(loop, "save_state", save)
        expected = rf"cannot write to {out}: No space left on device; the last good checkpoint is {out}/step-00000004"
        with pytest.raises(OSError, match=expected):
            go(out, config)
    assert [path.name for path in checkpoints(out)] == ["step-00000004", "step-00000002"]
    assert not [*out.rglob("*.tmp")]
    assert go(out, None, resume=True)
    mine, theirs = (load_tensors(path / "model.safetensors")[0] for path in (out, whole))
    assert all(torch.equal(value, theirs[key]) for key, value in mine.items())


@pytest.mark.skipif(sys.platform == "win32", reason="limits of this kind are of Unix")
def test_a_file_of_which_the_system_takes_no_more(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is pretended here: the system refuses in the middle of a write."""
    import resource

    out, save_state, (soft, hard) = tmp_path / "a", saves.save_state, resource.getrlimit(resource.RLIMIT_FSIZE)

    def save(folder: Path, *arguments: Any) -> Path:
        if len(checkpoints(folder)) == 2:
            size = (checkpoints(folder)[0] / "state.safetensors").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
        return save_state(folder, *arguments)

    monkeypatch.setattr(loop, "save_state", save)
    try:
        with pytest.raises(OSError, match=rf"cannot write to {out}: .*the last good checkpoint is {out}/step-00000004"):
            go(out, config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in checkpoints(out)] == ["step-00000004", "step-00000002"]
    assert not [*out.rglob("*.tmp")]
    monkeypatch.setattr(loop, "save_state", save_state)
    assert go(out, None, resume=True)


def test_a_disk_that_is_full_from_the_start(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        go(tmp_path / "a", config)
    assert not files(tmp_path / "a")


def test_bad_data_leaves_no_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken" / "b.png"
    draw(broken)
    broken.write_bytes(broken.read_bytes()[:60])
    for changes, error, message in (
        (dict(data=str(tmp_path / "empty")), ValueError, "empty holds no PNG, JPEG, WebP, BMP or GIF pictures"),
        (dict(data=str(tmp_path / "broken")), ValueError, r"cannot be read; mend or remove them: .*b.png \("),
        (dict(data=str(tmp_path / "none")), FileNotFoundError, "there is no folder .*none"),
        (dict(classes=True), ValueError, "classes need labels: each class needs its own folder .*; it has no folders"),
        (dict(size=9), ValueError, "nearest good sizes are"),
        (dict(channels=[8, 9]), ValueError, "multiple of 8"),
    ):
        with pytest.raises(error, match=message):
            go(tmp_path / "a", RunConfig.of({"data": str(folder), **SETTINGS, **changes}))
        assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(size=0), "size must lie in"),
        (dict(timesteps=0), "timesteps must lie in"),
        (dict(ema=1), "ema must lie in"),
        (dict(schedule="curly"), "schedule='curly' is unknown"),
        (dict(precision="fp8"), "precision='fp8' is unknown; choose one of 'auto', 'no', 'bf16'"),
        (dict(compile=True), "compile=True is unknown"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunConfig(TrainConfig(steps=1), **changes)


def test_how_often_to_save() -> None:
    assert SaveEvery.parse("5m") == SaveEvery(5.0, None) == SaveEvery()
    assert SaveEvery.parse("0.5m") == SaveEvery(0.5) and SaveEvery.parse("1000") == SaveEvery(None, 1000)
    for text in ("", "m", "often", "0", "-3", "0m", "-1m", "1.5", "nanm"):
        with pytest.raises(ValueError, match="save-every must be minutes such as 5m, or updates such as 1000, got"):
            SaveEvery.parse(text)


def test_saves_by_the_clock(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that goes on by 20 seconds each time it is read by the run."""

    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            self.now += 20
            return self.now

    monkeypatch.setattr(clock, "time", Clock())
    monkeypatch.setattr(saves, "KEPT", 99)
    run(tmp_path / "a", replace(config, train=replace(config.train, steps=9)), device="cpu", save_every=SaveEvery(1.0))
    assert [path.name[-1] for path in checkpoints(tmp_path / "a")][::-1] == ["3", "6", "9"]


def test_another_device_than_that_of_an_earlier_run_is_refused(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accelerate would stay where it is, without a word."""
    run(tmp_path / "a", config, device="cpu")
    monkeypatch.setattr(start, "pick_device", lambda name: torch.device("cuda"))
    with pytest.raises(
        ValueError, match="device must be 'cpu', which Accelerate was first used with in this process, got cu"
    ):
        run(tmp_path / "b", config)
    assert not (tmp_path / "b").exists()


def test_checkpoints_without_their_config_are_not_gone_on_with(config: RunConfig, tmp_path: Path) -> None:
    go(tmp_path / "a", config)
    (tmp_path / "a" / "config.json").unlink()
    for resume in (False, True):
        with pytest.raises(ValueError, match="holds checkpoints of a run without its config"):
            go(tmp_path / "a", config, resume=resume)


def test_a_run_goes_on_with_the_settings_that_began_it(config: RunConfig, tmp_path: Path) -> None:
    """Also where they are handed in again, with tuples for JSON's lists."""
    config = replace(config, unet={"channels": (8, 16)})
    assert go(tmp_path / "a", config) and go(tmp_path / "a", config, resume=True)


def test_a_compiled_run_goes_on_where_there_is_no_compiler(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(UNet, "compile", lambda model, **_: None)
    for compiler, resume in ((True, False), (False, True)):
        monkeypatch.setattr(engine, "can_compile", lambda device, answer=compiler: answer)
        assert go(tmp_path / "a", RunConfig.of({"compile": "yes"}, config), resume=resume)
        assert f"compiled: {'yes' if compiler else 'no'}" in capsys.readouterr().out


def test_an_emulated_bfloat16_is_refused_and_told_of_where_a_run_has_begun_with_it(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = RunConfig.of({"precision": "bf16"}, config)
    assert engine.has_bf16(torch.device("cpu"))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "has_bf16", lambda device: False)
        with pytest.raises(ValueError, match="precision='bf16' needs a GPU that has it"):
            go(tmp_path / "a", changed)
        assert not (tmp_path / "a").exists()
    assert go(tmp_path / "a", changed) and "slowly" not in capsys.readouterr().out
    monkeypatch.setattr(engine, "has_bf16", lambda device: False)
    assert go(tmp_path / "a", None, resume=True)
    assert "emulates bfloat16: the run goes on slowly; --precision no is faster" in capsys.readouterr().out


def test_a_log_that_cannot_be_written_is_refused(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="log needs the package tensorboard"):
        go(tmp_path / "a", config, log=True)
    assert not (tmp_path / "a").exists()


def test_other_data_leave_behind_what_was_for_the_first(folder: Path) -> None:
    fashion = RunConfig(TrainConfig(steps=1), full=True)
    own = RunConfig.of({"data": str(folder), "color": True}, fashion)
    assert own.color and not own.full
    assert RunConfig.of({"data": str(folder.parent)}, own).color  # from a folder to another
    assert not RunConfig.of({"data": "fashion-mnist"}, own).color


def test_two_processes_do_not_train_in_one_folder(config: RunConfig, tmp_path: Path) -> None:
    go(tmp_path / "a", config)
    with FileLock(tmp_path / "a" / LOCK), pytest.raises(ValueError, match="another process is training in"):
        go(tmp_path / "a", None, resume=True)
    assert go(tmp_path / "a", None, resume=True)


def test_of_two_runs_that_begin_in_one_folder_the_second_is_refused(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = engine.decide

    def slowly(*arguments: Any) -> RunConfig:
        monkeypatch.setattr(start, "decide", decided)
        go(tmp_path / "a", config)  # another one, which is faster
        return decided(*arguments)

    monkeypatch.setattr(start, "decide", slowly)
    with pytest.raises(ValueError, match="another process has just begun a run in"):
        go(tmp_path / "a", config)
    assert go(tmp_path / "a", None, resume=True)


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


def test_nothing_is_written_for_a_run_that_cannot_begin(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path / "a", config)
    with pytest.raises(ValueError, match="precision must be 'no', which Accelerate was first used with"):
        go(tmp_path / "b", replace(config, precision="bf16"))
    monkeypatch.setitem(accelerate.PartialState._shared_state, "num_processes", 3)
    with pytest.raises(ValueError, match="batch_size must be a multiple of 3"):
        go(tmp_path / "b", config)
    assert not (tmp_path / "b").exists()


def test_a_run_that_fails_does_not_wait_for_processes_that_still_train(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(accelerate.Accelerator, "end_training", lambda self: ended.append("waited"))
    monkeypatch.setattr(accelerate.tracking.TensorBoardTracker, "finish", lambda self: ended.append("closed"))

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", broken)
        with pytest.raises(OSError, match="No space left on device; there was no checkpoint yet"):
            go(tmp_path / "a", config, log=True)
    assert ended == ["closed"]
    go(tmp_path / "b", config)
    assert ended == ["closed", "waited"]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (2, "data must be the same on all machines: the first process has others than 5 pict"),
        (3, "init must be the same in all processes: the first has other weights than .*a"),
    ],
)
def test_machines_with_other_pictures_or_weights_are_told_so(
    place: int, message: str, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_the_first(mine: list[Any]) -> list[Any]:
        return [*mine[:place], "another hash", *mine[place + 1 :]]

    go(tmp_path / "a", config)
    monkeypatch.setattr(accelerate.utils, "broadcast_object_list", of_the_first)
    with pytest.raises(ValueError, match=message):
        go(tmp_path / "b", RunConfig.of({"init": str(tmp_path / "a")}, config))
    assert not (tmp_path / "b").exists()


def test_machines_that_share_no_disk_are_told_so(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path / "a", config)
    honest = accelerate.utils.broadcast_object_list
    answers = iter([None, [0]])  # what is decided once, and the update at which the first process stands
    monkeypatch.setattr(accelerate.utils, "broadcast_object_list", lambda mine: next(answers) or honest(mine))
    with pytest.raises(ValueError, match="found the checkpoint of update 0, and this one that of update 6"):
        run(tmp_path / "a", resume=True, device="cpu")


@pytest.mark.parametrize(
    ("settings", "pays"),
    [
        (dict(minutes=10), True),
        (dict(minutes=3), False),
        (dict(steps=10_000), True),
        (dict(steps=9_999), False),
        (dict(minutes=60, steps=100), False),
    ],
)
def test_short_trainings_are_not_compiled(
    settings: dict[str, Any], pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "can_compile", lambda device: True)
    assert compiling_pays(TrainConfig(**settings), torch.device("cuda")) == pays
    assert not compiling_pays(TrainConfig(**settings), torch.device("cpu"))
    monkeypatch.setattr(engine, "can_compile", lambda device: False)
    assert not compiling_pays(TrainConfig(**settings), torch.device("cuda"))


@pytest.mark.cuda
@pytest.mark.slow
def test_a_run_on_the_gpu(config: RunConfig, tmp_path: Path) -> None:
    """bf16 where the machine has it, compiled, and the weights can be used on the CPU."""
    changed = RunConfig.of(dict(precision="auto", compile="yes", steps=200, size=28), config)
    assert run(tmp_path / "a", changed, device="cuda")
    stored, _ = read_config(tmp_path / "a" / "config.json")
    assert stored.precision in ("no", "bf16") and stored.compile == "yes"
    checkpoint = load_checkpoint(tmp_path / "a" / "model.safetensors")
    assert checkpoint.details["device"] == "cuda" and checkpoint.details["loss"] < 1.2
    with torch.no_grad():
        assert checkpoint.model(torch.randn(1, 1, 28, 28), torch.tensor([9])).isfinite().all()


@pytest.mark.cuda
@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["no", "yes"])
def test_nobody_waits_for_the_gpu_in_a_run(
    compiled: str, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first updates and the last save, two looks included: PyTorch would raise. A save has to wait."""
    train = train_module.train

    def watched(*arguments: Any, **options: Any) -> Iterator[Any]:
        for update in train(*arguments, **options):
            if update.step in (3, 119):
                torch.cuda.set_sync_debug_mode("error" if update.step == 3 else "default")
            yield update

    monkeypatch.setattr(loop, "train", watched)
    monkeypatch.setattr(loop, "WEAK_AT", 1.0)
    try:
        changed = RunConfig.of(dict(compile=compiled, steps=120), config)
        assert run(tmp_path / "a", changed, device="cuda", save_every=SaveEvery(None, 1000))
    finally:
        torch.cuda.set_sync_debug_mode("default")
