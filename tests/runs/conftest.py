"""A finished run, which most tests take a copy of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from course_lib.runs import RunConfig
from helpers_runs import SETTINGS, go, write_picture


@pytest.fixture(autouse=True)
def fresh_engine() -> Iterator[None]:
    """Accelerate keeps what its first user in a process asked for."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five pictures."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    for i in range(5):
        write_picture(folder / f"{i}.png", seed=i)
    return folder


@pytest.fixture(scope="session")
def config(pictures: Path) -> RunConfig:
    return RunConfig.of({"data": str(pictures), **SETTINGS})


@pytest.fixture(scope="session")
def finished(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six updates that saved after each second one; not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    go(out, config, command="the line")
    return out


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "a"))
