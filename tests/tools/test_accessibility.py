"""Pages for people who see no picture or use no mouse: alt text, headings, names of controls.

The rest of it is tested elsewhere: words and colors of figures in tests/viz/test_style.py; keyboard and the browser's
accessibility tree in tests/tools/test_browser.py.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import ipywidgets
import pytest
from IPython.core.formatters import DisplayFormatter

from course_lib.widgets.canvas import PictureCanvas
from helpers_site import Course, Elements, executed
from helpers_viz import EXPLORERS, FIGURES
from kernel_side import KINDS, walk

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
PAGES = [ROOT / f"{name}.md" for name in ("README", "TEACHING", "NOTATION", "CONTRIBUTING")]


def text_of(path: Path) -> str:
    """A page, or what a notebook's text cells say."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


# pictures


def pictures_of(text: str) -> list[tuple[str, str]]:
    """Alt text and address of every picture in a page's text."""
    found = re.findall(r"!\[([^\]]*)\]\(([^)\s]+)[^)]*\)", text)
    for tag in re.findall(r"<img\b[^>]*>", text):
        source, alt = re.search(r'src="([^"]*)"', tag), re.search(r'alt="([^"]*)"', tag)
        found.append((alt[1] if alt else "", source[1] if source else ""))
    return found


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
def test_pictures_on_pages_are_described_and_always_in_the_same_words(path: Path) -> None:
    found = pictures_of(text_of(path))
    for alt, address in found:
        assert len(alt) >= 30 and len(alt.split()) >= 5, f"{alt!r} is too short to say what is to be seen"
        assert Path(address).stem not in alt and not re.search(r"\.(png|gif|jpe?g|svg)\b", alt), (
            f"{alt!r} names the file"
        )
        # a screen reader has already said that it is a picture, and pauses at a full stop
        assert not re.match(r"(an? )?(image|picture|figure|graph|screenshot) (of|showing)\b", alt, re.IGNORECASE), alt
        assert alt[-1] in ".!?", f"{alt!r} is no sentence"
    assert len(set(found)) == len({address for _, address in found})


def test_the_pages_of_make_html_keep_the_words(tmp_path: Path) -> None:
    """JupyterLab's and nbconvert's lab templates drop them; the course's own does not."""
    course = Course(tmp_path)
    data, metadata = DisplayFormatter().format(FIGURES["plot_loss"]())
    picture = data["image/png"]
    notebook = executed("# First\n\n**You will do:** look.\n\n**You need:** nothing.", [{"image/png": picture}] * 2, {})
    words = metadata["image/png"]["alt"] = metadata["image/png"]["alt"] + ' "<b>'
    notebook.cells[1].outputs[0].metadata = metadata
    course.write("00_first", notebook)
    course.build()
    images = [attrs for tag, attrs in Elements(course.out / "00_first.html").tags if tag == "img"]
    assert [image["alt"] for image in images] == [words, "A picture that the code above made."]
    assert images[0]["width"] == "640"


# controls


def name_of(control: Any) -> str:
    """What a control says of itself; widgets/static/controls.js names the buttons of a player."""
    labels = getattr(control, "_options_labels", []) if isinstance(control, ipywidgets.ToggleButtons) else []
    return str(control.description).strip() or (" ".join(labels) if all(labels) else "")


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_control_and_every_drawing_has_a_name(name: str) -> None:
    explorer = EXPLORERS[name]()
    found = [widget for widget in walk(explorer) if getattr(widget, "_view_name", "") in {*KINDS, "ButtonView"}]
    assert set(explorer.controls.values()) <= set(found)
    assert all(name_of(control) for control in found if not isinstance(control, ipywidgets.Play))
    sliders = [control.description for control in found if hasattr(control, "readout")]
    assert len(sliders) == len(set(sliders))
    if isinstance(explorer.canvas, PictureCanvas):
        assert len(explorer.canvas.spec["name"].split()) >= 3
        panels = itertools.chain(*explorer.canvas.spec["panels"])
        assert all(len(panel["alt"].split()) >= 5 for panel in panels if panel["kind"] == "drawing")


# headings


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
def test_headings_never_skip_a_level(path: Path) -> None:
    text = re.sub(r"^(```|~~~).*?^\1", "", text_of(path), flags=re.MULTILINE | re.DOTALL)  # in code, # begins a comment
    levels = [len(marks) for marks in re.findall(r"^ {0,3}(#{1,6})[ \t]", text, re.MULTILINE)]
    assert levels[0] == 1 and levels.count(1) == 1, "one title, at the top"
    assert all(level <= before + 1 for before, level in itertools.pairwise(levels)), levels
    assert not re.search(r"<h[1-6]\b", text), "write headings with #"
