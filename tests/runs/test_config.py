"""The settings of a run: what is refused before pictures are loaded, and which weights it begins with."""

from __future__ import annotations

import math
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from course_lib.checkpoint import load_checkpoint
from course_lib.data import Pictures
from course_lib.runs import How, RunConfig, SaveEvery, read_config, read_how
from course_lib.train import TrainConfig
from helpers_runs import SETTINGS, averaged, edit_card, go, same_weights, write_picture


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(size=0), "size must lie in"),
        (dict(size=10**9), r"size must lie in \[1, 4096\]"),
        (dict(size=9), "nearest good sizes are"),
        (dict(timesteps=0), "timesteps must lie in"),
        (dict(timesteps=10**24), "timesteps must lie in"),
        (dict(ema=1), "ema must lie in"),
        (dict(schedule="curly"), "schedule='curly' is unknown"),
        (dict(schedule="linear amount", target="velocity"), r"snr_gamma must be None \(--snr-gamma none\)"),
        (dict(precision="fp8"), "precision='fp8' is unknown; choose one of 'auto', 'no', 'bf16'"),
        (dict(compile=True), "compile=True is unknown"),
        (dict(data=""), "data is empty: name a folder"),
        (dict(init=""), "init is empty: name a folder"),
        (dict(channels=[8, 9]), "multiple of 8"),
        (dict(channels=[10**24]), "channels must be at most 10,000, got 10{24}"),
        (dict(channels=[8, 9992, 9992, 9992, 9992], blocks=9, size=16, patch=1), "at most 10,000,000,000 parameters"),
        (dict(lr=math.inf), "lr must be finite"),
        (dict(seed=10**24), "seed must lie in"),
        (dict(batch_size=10**24), "batch_size must lie in"),
        (dict(warmup=10**400), "warmup must lie in"),
    ],
)
def test_bad_settings(changes: dict[str, Any], message: str) -> None:
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=message):
        RunConfig.of({**SETTINGS, **changes})
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_data_leaves_no_folder(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken" / "b.png"
    write_picture(broken)
    broken.write_bytes(broken.read_bytes()[:60])
    for changes, error, message in (
        (dict(data=str(tmp_path / "empty")), ValueError, "empty holds no PNG, JPEG, WebP, BMP or GIF pictures"),
        (dict(data=str(tmp_path / "broken")), ValueError, r"cannot be read; mend or remove them: .*b.png \("),
        (dict(data=str(tmp_path / "none")), FileNotFoundError, "there is no folder .*none"),
        (dict(classes=True), ValueError, "each class needs its own folder .*; it has no folders"),
    ):
        with pytest.raises(error, match=message):
            go(tmp_path / "a", RunConfig.of({"data": str(pictures), **SETTINGS, **changes}))
        assert not (tmp_path / "a").exists()


def test_how_often_to_save() -> None:
    assert SaveEvery.parse("5m") == SaveEvery(5.0, None) == SaveEvery()
    assert SaveEvery.parse("0.5m") == SaveEvery(0.5) and SaveEvery.parse("1000") == SaveEvery(None, 1000)
    for text in ("", "m", "often", "0", "-3", "0m", "-1m", "1.5", "nanm", "infm"):
        with pytest.raises(ValueError, match="save-every must be minutes such as 5m, or updates such as 1000, got"):
            SaveEvery.parse(text)


def test_other_data_leave_behind_what_was_for_the_first(tmp_path: Path) -> None:
    fashion = RunConfig(TrainConfig(steps=1), full=True)
    own = RunConfig.of({"data": str(tmp_path / "b"), "color": True}, fashion)
    assert own.color and not own.full
    assert RunConfig.of({"data": str(tmp_path)}, own).color  # from a folder to another
    assert not RunConfig.of({"data": "fashion-mnist"}, own).color


def test_the_weights_before_the_first_update_follow_from_the_seed(config: RunConfig) -> None:
    pictures = config.pictures()

    def start(seed: int) -> Tensor:
        torch.randn(3)
        state = torch.get_rng_state()
        weight = config.of({"seed": seed}, config).model(pictures).stem.weight
        assert torch.equal(torch.get_rng_state(), state)
        return weight

    assert torch.equal(start(1), start(1)) and not torch.equal(start(1), start(2))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"format": 1', '"format": 9'),
        lambda text: text.replace('"settings"', '"sittings"'),
        lambda text: text.replace('"size": 8', '"size": -1'),
        lambda text: text.replace('"size": 8', '"fantasy": 8'),
        lambda text: "[]",
        lambda text: "null",
        lambda text: "{",
        lambda text: "[" * 100_000,
    ],
    ids=["format", "no settings", "size", "fantasy", "list", "null", "cut", "deep"],
)
def test_configs_that_are_none(change: Any, finished: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(change((finished / "config.json").read_text()))
    with pytest.raises(ValueError, match=r"config.json does not describe a run of this course"):
        read_config(path)


def test_how_the_run_of_a_config_trains(done: Path) -> None:
    assert read_how(done / "config.json") == How("cpu", SaveEvery(None, 2))
    for how, read in (({}, How()), ({"log": True}, How(log=True))):
        edit_card(done, how=how)
        assert read_how(done / "config.json") == read
    edit_card(done, how={"color": 1})
    with pytest.raises(ValueError, match=r"config\.json is damaged: .*color"):
        read_how(done / "config.json")


# Beginning with the weights of another run


def test_a_run_begins_with_the_weights_of_another(done: Path, config: RunConfig, tmp_path: Path) -> None:
    a, b, c = done, tmp_path / "b", tmp_path / "c"
    kept = (a / "model.safetensors").read_bytes()
    longer = RunConfig.of({"init": str(a), "lr": 1e-12, "steps": 4}, config)
    go(b, longer)
    torch.testing.assert_close(averaged(b / "model.safetensors"), averaged(a / "model.safetensors"), rtol=0, atol=1e-6)
    details = load_checkpoint(b / "model.safetensors").details
    assert details["steps"] == 4 and details["settings"]["init"] == str(a)
    assert not (b / "weak.safetensors").exists()  # those of an eighth would be no worse
    again, _ = read_config(b / "config.json")
    shutil.copy(a / "weak.safetensors", a / "model.safetensors")
    shutil.rmtree(b / "step-00000004")
    assert go(b, None, resume=True)  # it has weights of its own by now
    with pytest.raises(ValueError, match=r"init has changed since the run was begun: .*model.safetensors has another"):
        go(c, again)
    (a / "model.safetensors").write_bytes(kept)
    assert go(c, again) and same_weights(b / "model.safetensors", c / "model.safetensors")
    shutil.rmtree(a)
    with pytest.raises(FileNotFoundError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunConfig, "pictures", lambda self: pytest.fail("they were loaded first"))
        go(tmp_path / "d", longer)
    assert not (tmp_path / "d").exists()


def test_a_run_begins_with_what_was_newest_before_the_pictures_were_loaded(
    done: Path, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run may still train, and save, meanwhile."""
    b, newer, older = tmp_path / "b", done / "step-00000006", done / "step-00000004" / "model.safetensors"
    (done / "model.safetensors").unlink()
    newer.rename(tmp_path / "newer")
    pictures = RunConfig.pictures

    def load(config: RunConfig) -> Pictures:
        (tmp_path / "newer").rename(newer)
        return pictures(config)

    monkeypatch.setattr(RunConfig, "pictures", load)
    go(b, RunConfig.of({"init": str(done), "lr": 1e-12}, config))
    assert read_config(b / "config.json")[0].init_sha256 == sha256(older.read_bytes()).hexdigest()
    torch.testing.assert_close(averaged(b / "model.safetensors"), averaged(older), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(channels=[8, 8]), r"init has weights for channels=\[8, 16\], this run has channels=\[8, 8\]"),
        (dict(color=True), "for in_channels=1, this run has in_channels=3"),
        (dict(target="v"), "for target=eps, this run has target=v"),
        (dict(schedule="linear"), r"for schedule=\('cosine', 1000\), this run has schedule=\('linear', 1000\)"),
    ],
)
def test_weights_that_do_not_fit_are_no_beginning(
    changes: dict[str, Any], message: str, finished: Path, config: RunConfig
) -> None:
    with pytest.raises(ValueError, match=message):
        RunConfig.of({"init": str(finished), **changes}, config).initial(str(finished))
