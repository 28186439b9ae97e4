"""What a run writes: checkpoints, weak weights, config.json, curves."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from course_lib import train as train_module
from course_lib.checkpoint import load_checkpoint
from course_lib.runs import RunConfig, SaveEvery, checkpoints, load_state, read_config, report, run, saves
from course_lib.schedule import make_schedule
from course_lib.train import EMA
from course_lib.training import clock
from course_lib.unet import UNet
from helpers_runs import SETTINGS, averaged, files, go, same_weights, write_picture


def test_the_files_of_a_run(finished: Path, config: RunConfig) -> None:
    assert sorted(files(finished)) == [
        "config.json",
        "model.safetensors",
        *(f"step-0000000{step}/{name}.safetensors" for step in (4, 6) for name in ("model", "state")),
        "weak.safetensors",
    ]
    weak, final = (load_checkpoint(finished / f"{name}.safetensors") for name in ("weak", "model"))
    assert weak.details["steps"] == 1 and weak.target == config.train.target  # a sixth is more than an eighth
    assert same_weights(finished / "model.safetensors", finished / "step-00000006/model.safetensors")
    details = final.details
    assert details["command"] == "the line" and details["steps"] == 6 and details["device"] == "cpu"
    assert details["data"]["sha256"] == config.pictures().sha256 and "5 pictures of 8×8" in details["data"]["source"]
    assert final.schedule.name == "cosine" and final.schedule.T == 1000 and final.target == config.train.target
    assert 0 < details["loss"] < 2 and details["settings"]["train"]["steps"] == 6
    card = json.loads((finished / "config.json").read_text())
    assert card["command"] == "the line" and card["processes"] == 1 and card["versions"]["torch"] == torch.__version__
    assert card["threads"] == torch.get_num_threads()


def test_the_files_of_a_run_are_those_of_the_loop(config: RunConfig, tmp_path: Path) -> None:
    """The average at the end and after an eighth, the weights beside it, the loss, the schedule and the settings."""
    config = RunConfig.of({"steps": 16, "warmup": 0, "ema": 0.3, "timesteps": 50}, config)
    go(tmp_path / "a", config, updates=16)
    pictures = config.pictures()
    model = config.model(pictures).to(memory_format=torch.channels_last)
    ema, weak, losses = EMA(model, 0.3), dict[str, Tensor](), list[Tensor]()
    for update in train_module.train(model, make_schedule("cosine", 50), pictures, config.train, ema=ema):
        losses.append(update.loss)
        if update.step == 2:
            weak = {name: value.clone() for name, value in ema.model.state_dict().items()}
    for name, expected in (("weak", weak), ("model", ema.model.state_dict())):
        found = load_checkpoint(tmp_path / "a" / f"{name}.safetensors")
        assert found.schedule.T == 50 and found.details["steps"] == (2 if name == "weak" else 16)
        torch.testing.assert_close(dict(found.model.state_dict()), dict(expected), rtol=0, atol=0)
    assert found.details["loss"] == round(torch.stack(losses).mean().item(), 4)
    saved = load_state(tmp_path / "a" / "step-00000016")
    torch.testing.assert_close(saved.weights, dict(model.state_dict()), rtol=0, atol=0)
    torch.testing.assert_close(saved.losses, torch.stack(losses), rtol=0, atol=0)
    assert any(not torch.equal(saved.weights[name], value) for name, value in saved.averaged.items())


def test_the_config_says_everything_that_was_decided(config: RunConfig, tmp_path: Path) -> None:
    """Also what the options left to the defaults and to the machine."""
    out = tmp_path / "a"
    go(out, replace(config, precision="auto", compile="auto"))
    stored, command = read_config(out / "config.json")
    assert command == "" and stored.train == config.train
    assert stored.precision in ("no", "bf16") and stored.compile == "no"
    assert stored.data_sha256 == config.pictures().sha256
    full = config.model(config.pictures()).config
    assert stored.unet == {key: full[key] for key in ("channels", "blocks", "patch", "attention")}
    assert asdict(RunConfig.of({}, stored)) == asdict(stored)
    card = json.loads((out / "config.json").read_text())
    del card["settings"]["train"]["snr_gamma"]  # as in runs from before there were weights
    (out / "config.json").write_text(json.dumps(card))
    assert read_config(out / "config.json")[0].train == replace(config.train, snr_gamma=None)


def test_color_and_classes_whose_names_are_not_unicode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign = os.fsdecode(b"Gr\xfc\xdfe")
    for kind in ("cats", "dogs", foreign):
        for i in range(2):
            write_picture(tmp_path / "zoo" / kind / f"{i}.png", 30, 26, seed=i)
    settings = dict(data=str(tmp_path / "zoo"), size=16, color=True, classes=True, channels=[8, 16], steps=2)
    assert go(tmp_path / "a", RunConfig.of({**SETTINGS, **settings}))
    assert r"3 classes of 2 each (Gr\xfc\xdfe, cats and dogs)" in capsys.readouterr().out
    made = load_checkpoint(tmp_path / "a" / "model.safetensors")
    model = made.model
    assert isinstance(model, UNet) and model.config["num_classes"] == 3 and model.config["in_channels"] == 3
    assert sorted(made.details["classes"]) == sorted(["cats", "dogs", foreign])  # what `sample --label` takes
    assert model(torch.zeros(1, 3, 16, 16), torch.tensor([5]), torch.tensor([2])).shape == (1, 3, 16, 16)
    assert go(tmp_path / "a", None, resume=True)
    (tmp_path / "zoo" / "dogs" / "0.png").rename(tmp_path / "zoo" / "cats" / "9.png")
    with pytest.raises(ValueError, match="data has changed since the run was begun"):  # the labels count
        go(tmp_path / "a", None, resume=True)


def test_a_single_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(tmp_path / "one" / "a.png")
    assert go(tmp_path / "a", RunConfig.of({**SETTINGS, "data": str(tmp_path / "one"), "steps": 1}))
    assert "only one picture: the network will learn it by heart" in capsys.readouterr().out


@pytest.mark.parametrize("far", [False, True])
def test_the_log(far: bool, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's numbers are shown one look later, none is lost, and a run that went back shows no update twice."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setattr(report, "LOOK_EVERY", 2)
    monkeypatch.setattr(report, "is_far", lambda device: far)
    out = tmp_path / "a"
    for resume in (False, True):
        go(out, None if resume else config, updates=4, log=True, resume=resume)
        curves = accumulator.EventAccumulator(str(out / "log"))
        curves.Reload()
        assert sorted(curves.Tags()["scalars"]) == ["grad_norm", "loss", "lr", "pictures_per_second"]
        assert [point.step for point in curves.Scalars("loss")] == [2, 4, 6]
        details = load_checkpoint(out / "model.safetensors").details
        assert details["loss"] == pytest.approx(curves.Scalars("loss")[-1].value, abs=1e-4)
        assert all(point.value > 0 for name in curves.Tags()["scalars"] for point in curves.Scalars(name))
        shutil.rmtree(out / "step-00000006")


def test_saves_by_the_clock(config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that goes on by 20 seconds each time the training reads it."""

    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            self.now += 20
            return self.now

    monkeypatch.setattr(clock, "time", Clock())
    monkeypatch.setattr(saves, "KEPT", 99)
    run(tmp_path / "a", replace(config, train=replace(config.train, steps=9)), device="cpu", save_every=SaveEvery(1.0))
    assert [path.name[-1] for path in checkpoints(tmp_path / "a")][::-1] == ["3", "6", "9"]


def test_weights_from_late_in_a_run_do_not_pass_for_weak_ones(done: Path) -> None:
    before = averaged(done / "weak.safetensors")
    for gone, there in (("step-00000006", False), ("step-0*", True)):  # goes on after four of six updates; begins anew
        for path in done.glob(gone):
            shutil.rmtree(path)
        for name in ("weak", "model"):
            (done / f"{name}.safetensors").unlink(missing_ok=True)
        assert go(done, None, resume=True) and (done / "model.safetensors").exists()
        assert (done / "weak.safetensors").exists() == there
    torch.testing.assert_close(averaged(done / "weak.safetensors"), before, rtol=0, atol=0)


def test_an_old_checkpoint_that_cannot_be_removed_does_not_end_the_training(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(path: Path) -> None:
        raise PermissionError(13, "somebody has it open", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(saves, "remove", held)
        assert go(tmp_path / "a", config, updates=1)
    assert len(checkpoints(tmp_path / "a")) == 6
    shutil.rmtree(tmp_path / "a" / "step-00000006")
    assert go(tmp_path / "a", None, updates=1, resume=True) and len(checkpoints(tmp_path / "a")) == 2


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
