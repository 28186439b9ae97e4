"""Pages for people who see no picture or use no mouse: alt text, headings, names of controls.

The rest of it is tested elsewhere: words and colors of figures in tests/viz/test_style.py; keyboard and the browser's
accessibility tree in tests/tools/test_browser.py.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ipywidgets
import pytest
from IPython.core.formatters import DisplayFormatter

from course_lib.widgets.canvas import PictureCanvas
from helpers_site import Course, Elements, executed
from helpers_viz import EXPLORERS, FIGURES

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


def alt_problem(alt: str, address: str = "") -> str:
    """Why an alt text is of no use, or nothing."""
    if len(alt) < 30 or len(alt.split()) < 5:
        return f"{alt!r} is too short to say what is to be seen"
    if (Path(address).stem and Path(address).stem in alt) or re.search(r"\.(png|gif|jpe?g|svg)\b", alt):
        return f"{alt!r} names the file"
    if re.match(r"(an? )?(image|picture|figure|graph|screenshot) (of|showing)\b", alt, re.IGNORECASE):
        return f"{alt!r} says that it is a picture, which a screen reader has already said"
    return "" if alt[-1] in ".!?" else f"{alt!r} is no sentence: a screen reader pauses at its full stop"


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
def test_pictures_on_pages_are_described_and_always_in_the_same_words(path: Path) -> None:
    found = pictures_of(text_of(path))
    assert [problem for alt, name in found if (problem := alt_problem(alt, name))] == []
    assert len(set(found)) == len({name for _, name in found})


@pytest.mark.parametrize(
    "text",
    [
        "![](a.png)",
        '<img src="a.png">',
        "![Here you can see the file hero.png of the course.](a/hero.png)",
        "![Image of ten pictures of clothes with more and more noise.](a.png)",
        "![Ten pictures of clothes with more and more noise](a.png)",
    ],
)
def test_a_useless_description_is_seen(text: str) -> None:
    ((alt, name),) = pictures_of(text)
    assert alt_problem(alt, name)


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


def control_problems(controls: Iterable[Any]) -> list[str]:
    """Controls that do not say what they do."""
    wrong = []
    for control in controls:
        words = str(getattr(control, "description", "") or "").strip()
        if isinstance(control, ipywidgets.Play):
            continue  # widgets/static/controls.js names its buttons
        if isinstance(control, ipywidgets.ToggleButtons) and not words:
            labels = [label.strip() for label in control._options_labels]
            words = " ".join(labels) if all(labels) else ""
        if not words:
            wrong.append(f"a {type(control).__name__} has neither a description nor names on its buttons")
    return wrong


def controls_of(widget: Any) -> list[Any]:
    """All controls in a widget, however deep: those whose value a person sets."""
    found = []
    for child in getattr(widget, "children", ()):
        kinds = (ipywidgets.widgets.widget_description.DescriptionWidget, ipywidgets.Button)
        passive = (ipywidgets.HTML, ipywidgets.HTMLMath, ipywidgets.Label, ipywidgets.FloatProgress)
        found += [child] if isinstance(child, kinds) and not isinstance(child, passive) else []
        found += controls_of(child)
    return found


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_control_and_every_drawing_has_a_name(name: str) -> None:
    explorer = EXPLORERS[name]()
    found = controls_of(explorer)
    assert set(explorer.controls.values()) <= set(found) and control_problems(found) == []
    sliders = [control.description for control in found if hasattr(control, "readout")]
    assert len(sliders) == len(set(sliders))
    if isinstance(explorer.canvas, PictureCanvas):
        assert len(explorer.canvas.spec["name"].split()) >= 3
        panels = itertools.chain(*explorer.canvas.spec["panels"])
        assert all(len(panel["alt"].split()) >= 5 for panel in panels if panel["kind"] == "drawing")


def test_a_control_without_a_name_is_seen() -> None:
    bad = [
        ipywidgets.IntSlider(),
        ipywidgets.FloatSlider(description="  "),
        ipywidgets.ToggleButtons(options=["on", ""]),
        ipywidgets.Dropdown(options=[1, 2]),
    ]
    assert len(control_problems(bad)) == len(bad)
    box = ipywidgets.VBox([ipywidgets.HBox([*bad, ipywidgets.HTML("words")]), ipywidgets.Output()])
    assert controls_of(box) == bad


# headings


def heading_problems(text: str) -> list[str]:
    """Headings out of order: not one first heading of level 1, or a level left out."""
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)  # in code, # begins a comment
    wrong, before = [], 0
    for marks, words in re.findall(r"^ {0,3}(#{1,6})[ \t]+(.*?)[ \t#]*$", text, re.MULTILINE):
        level = len(marks)
        if level > before + 1:
            wrong.append(f"{words!r} has level {level} and follows one of level {before}")
        if level == 1 and before:
            wrong.append(f"{words!r} is a second title")
        before = level
    if not before:
        wrong.append("there is no heading")
    return wrong + [f"{tag}: write headings with #" for tag in re.findall(r"<h[1-6]\b", text)]


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: path.name)
def test_headings_never_skip_a_level(path: Path) -> None:
    assert heading_problems(text_of(path)) == []


@pytest.mark.parametrize("text", ["", "## a", "# a\n\n### b", "# a\n## b\n#### c", "# a\n\n# b", "# a\n<h3>b</h3>"])
def test_a_skipped_level_is_seen(text: str) -> None:
    assert heading_problems(text)


def test_sound_headings_are_let_through() -> None:
    assert heading_problems("# a\n## b\n### c\n## d\n```\n#### a comment\n# another\n```\n### e\n#no heading\n") == []
