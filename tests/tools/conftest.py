"""What the tests in a browser share: one Chromium, one JupyterLab, one site."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import browser
import handouts
import html_site
import lab as jupyter
import run_notebooks

ROOT = Path(__file__).resolve().parents[2]
#: What is shortened where every exercise is done: number of the notebook → its lines, and what stands there instead.
#: `make run-notebooks` runs them as they are.
SHORTER = {
    "02": {"SECONDS = 60": "SECONDS = 5"},
    "04": {"TrainConfig(minutes=3)": "TrainConfig(minutes=0.3)"},
}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser. Without one the tests are skipped and say what is missing; in CI they fail."""
    lack = browser.missing()
    if lack is not None and os.environ.get("CI") == "true":
        pytest.fail(lack)
    if lack is not None:
        pytest.skip(lack)
    with browser.chromium() as found:
        yield found


@pytest.fixture(scope="session")
def lab(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[jupyter.Lab]:
    """JupyterLab on copies in which every exercise is done and trainings are short."""
    folder = tmp_path_factory.mktemp("course")
    for path in handouts.write(folder, solved=True):
        text = path.read_text(encoding="utf-8")
        for line, shorter in SHORTER.get(path.stem[:2], {}).items():
            assert text.count(line) == 1, f"{path.name} has no line {line!r} any more: mend SHORTER"
            text = text.replace(line, shorter)
        path.write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "figures", folder / "figures", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    with jupyter.jupyterlab(folder) as server:
        yield server


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The course as web pages, made of the copies that `make run-notebooks` has executed; else they are run now."""
    if not html_site.is_fresh():
        assert run_notebooks.run([]) == []
    out = tmp_path_factory.mktemp("site") / "html"
    html_site.build(run_notebooks.EXECUTED, out)
    return out
