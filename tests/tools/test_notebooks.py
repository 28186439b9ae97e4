"""The notebooks' two forms, their rules, and a scan that sees what a test runner does not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import nbstripout
import pytest

import notebooks
import run_notebooks
from helpers_broken import BROKEN, HEALTHY, notebook_of

ROOT = Path(__file__).resolve().parents[2]
NAMES = [path.stem for path, _ in notebooks.pairs()]
CELLS = """# %% [markdown]
# # Draw a line
# with x² = 4

# %%
# %matplotlib inline
x = 2

# %%
print(x)

# %%
print(x)

# %% tags=["keep"]
x**2
"""


# --- the committed notebooks ------------------------------------------------------------------------------------------


def test_both_forms_agree() -> None:
    assert NAMES
    assert notebooks.check() == []


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_stripped(name: str) -> None:
    path = notebooks.NOTEBOOKS / f"{name}.ipynb"
    before = notebooks.read(path)
    stripped = nbstripout.strip_output(notebooks.read(path), keep_output=False, keep_count=False, keep_id=True)
    assert stripped == before
    assert before.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("name", NAMES)
def test_first_code_cell_finds_the_library(name: str) -> None:
    blocks = re.findall(r"```python\n(.*?)\n```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1 and len(blocks[0].splitlines()) <= 14
    cells = notebooks.read(notebooks.NOTEBOOKS / f"{name}.ipynb").cells
    assert next(cell.source for cell in cells if cell.cell_type == "code") == blocks[0]


@pytest.mark.parametrize("name", NAMES)
def test_notebook_says_what_it_asks_and_gives(name: str) -> None:
    cells = notebooks.read(notebooks.NOTEBOOKS / f"{name}.ipynb").cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert cells[0].source.startswith("# ")
    for words in ("You will do", "You will learn", "You need"):
        assert f"**{words}" in text
    links = re.findall(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)#]+)[^)]*\)", text)
    images = re.findall(r"<img\b[^>]*>", text)
    for bang, alt, link in links:
        assert (notebooks.NOTEBOOKS / link).exists(), f"{link} is not there"
        assert alt or not bang, f"{link} has no alt text"
    for image in images:
        source = re.search(r'src="([^"]+)"', image)
        assert re.search(r'alt="[^"]+"', image) and source is not None
        assert source[1].startswith("https:") or (notebooks.NOTEBOOKS / source[1]).exists()


@pytest.mark.parametrize("place", ["course/notebooks", "course", "beside"])
def test_first_cell_works_without_an_installed_library(tmp_path: Path, place: str) -> None:
    source = re.findall(r"```python\n(.*?)\n```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    (tmp_path / "course" / "notebooks").mkdir(parents=True)
    (tmp_path / "course" / "course_lib").mkdir()
    (tmp_path / "course" / "course_lib" / "__init__.py").write_text("here = True\n")
    (tmp_path / "others").mkdir()
    for name in ("torch", "matplotlib", "anywidget"):
        (tmp_path / "others" / f"{name}.py").touch()
    folder = tmp_path if place == "beside" else tmp_path / place
    script = source + "\nimport course_lib\nassert course_lib.here\n"

    def start(folder: Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "others")}
        command = [sys.executable, "-S", "-c", script]  # -S: nothing that is installed can be found
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    assert start(folder).returncode == 0
    (tmp_path / "others" / "torch.py").unlink()
    assert "This kernel has no torch. Choose the course's .venv" in start(folder).stderr
    (tmp_path / "empty").mkdir()
    assert "This kernel has no course_lib or torch." in start(tmp_path / "empty").stderr


# --- from text to notebook and back -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one notebook in both forms."""
    (tmp_path / "py").mkdir()
    (tmp_path / "py" / "01_draw.py").write_text(CELLS, encoding="utf-8")
    assert notebooks.sync(tmp_path) == []
    return tmp_path


def test_sync_is_deterministic_and_leaves_no_outputs(folder: Path) -> None:
    first = (folder / "01_draw.ipynb").read_bytes()
    assert notebooks.check(folder) == []
    assert notebooks.sync(folder) == [] and (folder / "01_draw.ipynb").read_bytes() == first
    (folder / "01_draw.ipynb").unlink()
    assert notebooks.sync(folder) == [] and (folder / "01_draw.ipynb").read_bytes() == first
    cells = json.loads(first)["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code", "code", "code", "code"]
    assert "".join(cells[1]["source"]) == "%matplotlib inline\nx = 2"
    assert cells[4]["metadata"] == {"tags": ["keep"]}
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells[1:])


def test_ids_of_other_cells_survive_an_edit() -> None:
    before = [cell["id"] for cell in json.loads(notebooks.to_notebook(CELLS))["cells"]]
    assert len(set(before)) == 5
    more = CELLS.replace("# %%\nprint(x)", "# %%\ny = 1\n\n# %%\nprint(x)", 1)
    after = [cell["id"] for cell in json.loads(notebooks.to_notebook(more))["cells"]]
    assert after[:2] + after[3:] == before


def edit(path: Path, change: tuple[str, str], *, later: float) -> None:
    """Replace a text in a file, and set its time relative to that of the other form."""
    text = path.read_text(encoding="utf-8")
    assert change[0] in text
    path.write_text(text.replace(*change), encoding="utf-8")
    other = path.parent.parent / "01_draw.ipynb" if path.suffix == ".py" else path.parent / "py" / "01_draw.py"
    os.utime(path, (other.stat().st_atime, other.stat().st_mtime + later))


def test_edit_of_the_text_is_seen_and_synced(folder: Path) -> None:
    edit(folder / "py" / "01_draw.py", ("x = 2", "x = 3"), later=10)
    (problem,) = notebooks.check(folder)
    assert "01_draw.ipynb and" in problem and "differ from cell 2 on: run `make notebooks`" in problem
    assert notebooks.sync(folder) == [] and notebooks.check(folder) == []


def test_edit_of_the_notebook_is_never_lost_silently(folder: Path) -> None:
    edit(folder / "01_draw.ipynb", ("x = 2", "x = 3"), later=10)
    edited = (folder / "01_draw.ipynb").read_bytes()
    (problem,) = notebooks.sync(folder)
    assert "adopt 01_draw" in problem and (folder / "01_draw.ipynb").read_bytes() == edited
    assert notebooks.adopt("01_draw", folder) == [] and notebooks.check(folder) == []
    assert "x = 3" in (folder / "py" / "01_draw.py").read_text(encoding="utf-8")
    assert "does not exist" in notebooks.adopt("02_other", folder)[0]


def test_outputs_and_missing_forms_are_refused(folder: Path) -> None:
    path, text_path = folder / "01_draw.ipynb", folder / "py" / "01_draw.py"
    executed = notebooks.read(path)
    executed.cells[2].outputs = [nbformat.v4.new_output("stream", name="stdout", text="2\n")]
    nbformat.write(executed, path)
    assert "holds outputs or metadata" in notebooks.check(folder)[0]
    path.unlink()
    assert "has no" in notebooks.check(folder)[0] and "make notebooks" in notebooks.check(folder)[0]
    assert notebooks.sync(folder) == []
    text_path.unlink()
    assert "adopt 01_draw" in notebooks.check(folder)[0] and "adopt 01_draw" in notebooks.sync(folder)[0]


def test_long_cells_and_lost_headers_are_refused(folder: Path) -> None:
    text_path = folder / "py" / "01_draw.py"
    edit(text_path, ("x = 2", "\n".join(["x = 2"] * 24)), later=10)
    assert notebooks.sync(folder) == [] and notebooks.check(folder) == []  # with %matplotlib these are 25
    edit(text_path, ("x = 2\n", "x = 2\nx = 2\n"), later=20)
    notebooks.sync(folder)
    assert any("cell 2" in problem and "at most 25" in problem for problem in notebooks.check(folder))
    text_path.write_text(CELLS, encoding="utf-8")
    assert any("standard header" in problem for problem in notebooks.check(folder))


# --- the scan of executed notebooks -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_scan_sees_what_the_test_runner_does_not(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "py").mkdir()
    cells = {"broken": BROKEN.values(), "raises": ("fail(0)", "fail(1)"), "sound": (HEALTHY,)}
    for name, each in cells.items():
        (tmp_path / "py" / f"{name}.py").write_text(notebook_of(*each), encoding="utf-8")
    assert notebooks.sync(tmp_path) == []
    problems = run_notebooks.run([], tmp_path, tmp_path / "executed")
    said = capfd.readouterr().out
    assert "broken.ipynb PASSED" in said and "sound.ipynb PASSED" in said, "else the runner does see them"
    for name in BROKEN:
        assert any("broken.ipynb" in problem and f"ZeroDivisionError: {name}" in problem for problem in problems), name
    assert not any("sound.ipynb" in problem for problem in problems)
    assert "pytest ended with status 1: see its report above." in problems
    assert any("raises.ipynb, cell 2: ZeroDivisionError" in problem for problem in problems)
    assert any("raises.ipynb, cell 3: was not executed" in problem for problem in problems)
    assert "no notebook to run" in run_notebooks.run(["02"], tmp_path, tmp_path / "executed")[0]


# --- sliders ----------------------------------------------------------------------------------------------------------

STILL = (
    "*Below is a slider. Where it does not run (on GitHub, in print), the picture above shows what it is about; "
    "`make lab` opens the live one.*"
)


@pytest.mark.parametrize("name", NAMES)
def test_every_slider_has_a_still_above_it_and_a_line_that_leads_to_the_live_one(name: str) -> None:
    section: list[str] = []
    found = 0
    for kind, source, _ in notebooks.cells_of(notebooks.read(notebooks.NOTEBOOKS / f"{name}.ipynb")):
        if kind == "markdown":
            section = [*([] if "\n## " in f"\n{source}" else section), source]
        elif re.search(r"widgets\.\w+_(explorer|player|gauge)\(", source) or "trajectory_player(" in source:
            found += 1
            assert STILL in section[-1], source
            assert "](../figures/" in "".join(section), source
    assert found >= 1
