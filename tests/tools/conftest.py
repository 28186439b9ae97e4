"""What the tests in a browser share: one Chromium, one JupyterLab, one site."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

import browser
import handouts
import html_site
import lab as jupyter
import notebooks
import run_notebooks

ROOT = Path(__file__).resolve().parents[2]
#: What is shortened where every exercise is done: number of the notebook → a piece of its code, and what stands there
#: instead. `make run-notebooks` runs every notebook as it is.
SHORTER = {
    "02": {"SECONDS = 60": "SECONDS = 3", "len(plot.losses) / 150": "len(plot.losses) / 30"},
    "04": {"for _ in range(120)": "for _ in range(12)", "TrainConfig(minutes=3)": "TrainConfig(minutes=0.1)"},
    "05": {
        "{}, noise(16, seed=9)": "{}, noise(4, seed=9)",
        "noise(64, seed=12)": "noise(16, seed=12)",
        "made.schedule.T, 25": "made.schedule.T, 5",
        "noise(500, 15), eta=eta": "noise(100, 15), eta=eta",
        "count = 300": "count = 20",
    },
}


def shorten(notebook: NotebookNode, pieces: dict[str, str]) -> None:
    """Replace pieces of a notebook's code; from the first on, nothing is asserted: that holds for the full run."""
    waiting = dict(pieces)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for piece in [piece for piece in waiting if piece in cell.source]:
                cell.source = cell.source.replace(piece, waiting.pop(piece))
            if len(waiting) < len(pieces):
                cell.source = re.sub(r"^( *)assert .*$", r"\1pass", cell.source, flags=re.MULTILINE)
    assert not waiting, f"nothing to shorten: {waiting}"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser. Without one the tests are skipped and say what is missing; in CI they fail."""
    if lack := browser.missing():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lack)
    with browser.chromium() as found:
        yield found


@pytest.fixture(scope="session")
def lab(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[jupyter.Lab]:
    """JupyterLab on copies in which every exercise is done and trainings are short."""
    folder = tmp_path_factory.mktemp("course")
    for path in handouts.write(folder, solved=True):
        notebook = notebooks.read(path)
        shorten(notebook, SHORTER.get(path.stem[:2], {}))
        nbformat.write(notebook, path)
    shutil.copytree(ROOT / "figures", folder / "figures", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    with jupyter.jupyterlab(folder) as server:
        yield server


@pytest.fixture(scope="session")
def sheet(lab: jupyter.Lab, chromium: Any) -> Iterator[browser.Sheet]:
    """The page of JupyterLab, in which one notebook after the other is opened and closed."""
    found = browser.new_sheet(chromium, browser.is_local)
    yield found
    found.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The course as web pages, made of the copies that `make run-notebooks` has executed; else they are run now."""
    if not html_site.is_fresh():
        assert run_notebooks.run([]) == []
    out = tmp_path_factory.mktemp("site") / "html"
    html_site.build(run_notebooks.EXECUTED, out)
    return out
