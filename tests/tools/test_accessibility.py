"""For those who see no picture, or other colors, or use no mouse: alt text, colors, controls, headings.

Four promises, of which each has a test that shows what a breach of it looks like:

- every picture has a text: those embedded in pages, those that `viz` draws live (as the metadata "alt" of image/png,
  the key that nbconvert's classic template reads), and the canvases and drawings of sliders;
- colors that one drawing uses together stay apart for protanopes, deuteranopes and tritanopes, and color maps only
  rise;
- every control has a description or a name. That each works from the keyboard, and has that name for a screen reader,
  is shown in a real browser: test_browser.py moves every slider of every notebook with the arrow keys and reads the
  browser's accessibility tree;
- headings never skip a level.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import datetime
import inspect
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ipywidgets
import matplotlib
import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from IPython.core.pylabtools import select_figure_formats
from matplotlib.collections import Collection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from test_viz import FIGURES, pictures
from test_widgets import DIAGRAMS, EXPLORERS

from course_lib import viz
from course_lib.schedule import make_schedule
from course_lib.shapes import trace
from course_lib.unet import BottleneckUNet
from course_lib.viz import COLORS, CYCLE, Sheet
from course_lib.viz.words import describe
from helpers_site import Course, Elements, executed

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
PAGES = [ROOT / f"{name}.md" for name in ("README", "TEACHING", "NOTATION", "CONTRIBUTING")]
STATIC = ROOT / "course_lib" / "widgets" / "static"


def text_of(path: Path) -> str:
    """A page, or what a notebook's text cells say, one after the other."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def without_code(text: str) -> str:
    """A page without its blocks of code, in which # begins a comment."""
    return re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)


# ------------------------------------------------------------------------------------------- pictures on pages


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
def test_pictures_on_pages_are_described(path: Path) -> None:
    assert [problem for alt, name in pictures_of(text_of(path)) if (problem := alt_problem(alt, name))] == []


def test_one_picture_has_one_description() -> None:
    texts: dict[str, set[str]] = {}
    for path in [*PAGES, *NOTEBOOKS]:
        for alt, name in pictures_of(text_of(path)):
            texts.setdefault(f"{path.name}: {name}", set()).add(alt)
    assert texts and {name: alts for name, alts in texts.items() if len(alts) > 1} == {}


@pytest.mark.parametrize(
    "text",
    [
        "![](a.png)",
        "![A plot.](a.png)",
        '<img src="a.png">',
        "![Here you can see the file hero.png of the course.](a/hero.png)",
        "![Image of ten pictures of clothes with more and more noise.](a.png)",
        "![Ten pictures of clothes with more and more noise](a.png)",
    ],
)
def test_a_useless_description_is_seen(text: str) -> None:
    ((alt, name),) = pictures_of(text)
    assert alt_problem(alt, name)


# ------------------------------------------------------------------------------------------ pictures drawn live

#: What the text of each figure must say, drawn as in test_viz.
SAID: dict[str, Sequence[str]] = {
    "show_grid": ("all", "3 pictures", "a, b, c"),
    "show_rows": ("2 rows", "one, 2 pictures", "two, 3 pictures", "columns: a, b, c"),
    "filmstrip": ("2 pictures drowning in noise", "11 columns", "0.5"),
    "show_features": ("5 feature maps of 7×7",),
    "plot_curves": ("y, from 1 at 0 to 2 at 1", "1 dot of d, 1 at 0", "a line from top to bottom at 0.5"),
    "plot_variance": (
        "variance of the mixture against amount of noise u",
        "predicted, from 0.5 at 0 to 1 at 1, lowest 0.333 at 0.335",
        "2 dots of measured",
    ),
    "plot_histogram": ("density against pixel value", "histogram of a", "histogram of b", "N(0, 1)", "highest 0.399"),
    "plot_schedules": ("signal a against timestep t", "log₁₀ of a²/b²", "cosine, from 1 at 0 to ", "bottom at 20"),
    "plot_gauge": ("gauge of a_T", "linear, T = 50", "0.7", "still holds the picture"),
    "plot_loss": ("loss against update", "running mean, from 1 at 1", "zero, a line across at 1"),
    "plot_loss of nothing": ("loss against update",),
    "plot_loss_by_timestep": ("mean loss against timestep t", "2 bars, from 1 at 0.25 to 2 at 8.25"),
    "plot_time_embedding": ("heat map of 8 rows (timestep t) and 6 columns", "from -1 to 1", "entry 1"),
    "plot_kernel": ("3×3 kernel, conv, stride 2, padding 1: input 7×7, output 4×4", "Hatched: padding"),
    "plot_halvings": ("28×28 → 14×14", "6×6 does not fit the skip of 7×7", "The nearest good sizes are 16 and 32"),
    "plot_unet": ("title: a network as a U", "1×16×16 → 16×16×16", "a vector of 1024", "64+64×4×4"),
    "plot_trajectory": ("6 columns", "t = 5", "t = 0", "x0_hat"),
    "nearest_table": ("2 samples", "3 training pictures"),
}


def shown(thing: Any) -> dict[str, Any]:
    """The metadata that Jupyter keeps beside the PNG of what a cell returns."""
    data, metadata = DisplayFormatter().format(thing)
    assert data["image/png"]
    found: dict[str, Any] = metadata["image/png"]
    return found


def test_the_list_of_figures_is_whole() -> None:
    """Every public function of viz that returns a figure is drawn here."""
    public = {name: getattr(viz, name) for name in viz.__all__ if inspect.isfunction(getattr(viz, name))}
    made = {name for name, f in public.items() if inspect.signature(f).return_annotation in ("Figure", viz.Figure)}
    assert made == {name.split()[0] for name in FIGURES} and set(SAID) == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_says_what_it_shows(name: str) -> None:
    alt = shown(FIGURES[name]())["alt"]
    assert [words for words in SAID[name] if words not in alt] == [], alt
    assert not alt_problem(alt) and len(alt) <= 1500 and "\n" not in alt
    assert not re.search(r"\bnan\b|_child|<|object at", alt), alt


def test_words_and_drawings_stay_where_pyplot_has_been_used() -> None:
    """It registers a printer for figures, which shows none without axes, such as the course's drawings."""
    formatter: Any = DisplayFormatter()
    select_figure_formats(SimpleNamespace(display_formatter=formatter), {"png"})
    for name in ("plot_loss", "plot_unet"):
        data, metadata = formatter.format(FIGURES[name]())
        assert data["image/png"] and metadata["image/png"]["alt"] == FIGURES[name]().alt


def test_names_and_dates_on_an_axis_are_no_hindrance() -> None:
    figure, (axes,) = viz.new_figure(4, 3)
    axes.plot(["linear", "cosine"], [1.0, 2.0], label="schedule")
    assert "schedule, from 1 at 0 to 2 at 1" in figure.alt
    figure, (axes,) = viz.new_figure(4, 3)
    axes.errorbar([datetime.date(1970, 1, day) for day in (2, 3)], [3.0, 4.0], yerr=1.0, label="day")
    assert "2 dots of day, from 3 at 1 to 4 at 2" in figure.alt  # matplotlib counts days from 1970 on


def test_metadata_keep_the_size() -> None:
    found = shown(FIGURES["plot_loss"]())
    assert (found["width"], found["height"]) == (640, 320)


def test_pngs_say_what_they_show() -> None:
    assert shown(viz.to_png(pictures(6), columns=3))["alt"] == "6 pictures, 3 in a row."
    assert shown(viz.to_png(pictures(6), columns=6))["alt"] == "6 pictures in a row."
    assert shown(viz.to_png(pictures(1)))["alt"] == "1 picture."
    assert shown(viz.encode(torch.zeros(4, 6, dtype=torch.uint8), 2))["alt"] == "A picture of 12×8 pixels."
    assert shown(viz.figure_png(FIGURES["plot_loss"]()))["alt"] == FIGURES["plot_loss"]().alt


def test_words_follow_the_drawing() -> None:
    x = [0.0, 1.0, 2.0, 3.0]
    falling, valley = ({"y": (x, y)} for y in ([4, 3, 2, 1], [4, 1, 2, 3]))
    assert "y, from 4 at 0 to 1 at 3:" not in viz.plot_curves(falling).alt
    assert viz.plot_curves(falling).alt == "A plot: y, from 4 at 0 to 1 at 3."
    assert viz.plot_curves(valley).alt == "A plot: y, from 4 at 0 to 3 at 3, lowest 1 at 1."
    titled = viz.plot_curves(falling, xlabel="time", ylabel="height", title="a fall", logy=True)
    assert titled.alt.startswith("A plot of height, in powers of ten against time, titled a fall: ")
    titled.alt = "A fall."
    assert shown(titled)["alt"] == "A fall."


def test_drawings_without_axes_say_their_words() -> None:
    sheet = Sheet(2, 1)
    assert describe(sheet.figure) == "A drawing without words."
    for words in ("in\nput", "output", "output"):
        sheet.text(1, 0.5, words)
    assert describe(sheet.figure) == "A drawing with the words: in put; output."


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


def test_sliders_name_what_they_show() -> None:
    for make in EXPLORERS.values():
        explorer = make()
        assert len(explorer.canvas.spec["name"].split()) >= 3
        for panel in itertools.chain(*explorer.canvas.spec["panels"]):
            if panel["kind"] == "drawing":
                assert len(panel["alt"].split()) >= 5
    for script in ("canvas.js", "diagram.js"):
        source = (STATIC / script).read_text(encoding="utf-8")
        assert 'role", "img"' in source or 'role="img"' in source
        assert 'setAttribute("aria-label"' in source


# ------------------------------------------------------------------------------------------------------ colors

#: Linear RGB as people see it who lack one kind of cone: Machado, Oliveira & Fernandes 2009, "A physiologically-based
#: model for simulation of color vision deficiency", doi:10.1109/TVCG.2009.113, severity 1.0.
VISIONS = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
#: Of sRGB (IEC 61966-2-1), D65.
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
#: Least distance in CIELAB (ΔE*ab 1976); 2.3 is just noticeable. Red and green of matplotlib's own cycle reach 7.
LEAST = 12.0


def lab(color: str, vision: str) -> np.ndarray:
    """L*, a*, b* of a color as #RRGGBB in the eyes of such a person."""
    srgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(VISIONS[vision]) @ linear, 0, 1)
    share = TO_XYZ @ seen / TO_XYZ.sum(1)
    f = np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def too_close(colors: Iterable[str], least: float = LEAST) -> list[str]:
    """Pairs of colors that some people could not tell apart."""
    wrong = []
    for one, other in itertools.combinations(sorted(set(colors)), 2):
        for vision in VISIONS:
            distance = float(np.linalg.norm(lab(one, vision) - lab(other, vision)))
            if distance < least:
                wrong.append(f"{one} and {other}, {vision}: {distance:.1f}")
    return wrong


def test_the_simulation_is_right() -> None:
    """Known values of CIELAB; grays stay gray; red and green fall together for the red-green blind alone."""
    np.testing.assert_allclose(lab("#FFFFFF", "usual"), [100, 0, 0], atol=0.01)
    np.testing.assert_allclose(lab("#FF0000", "usual"), [53.24, 80.09, 67.20], atol=0.02)
    np.testing.assert_allclose(lab("#0000FF", "usual"), [32.30, 79.19, -107.86], atol=0.02)
    for vision, matrix in VISIONS.items():
        np.testing.assert_allclose(np.asarray(matrix).sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(lab("#808080", vision), lab("#808080", "usual"), atol=0.01)


def in_words(wrong: Sequence[str]) -> set[str]:
    return {line.split(", ")[1].split(":")[0] for line in wrong}


def test_colors_that_are_too_close_are_seen() -> None:
    assert in_words(too_close(["#2ca02c", "#d62728"])) == {"deuteranopia"}
    assert in_words(too_close(["#2ca02c", "#ff7f0e"])) == {"protanopia"}
    assert "tritanopia" in in_words(too_close(["#4444FF", "#00797A"], 40))
    assert in_words(too_close([COLORS["blue"], "#0072B8"])) == set(VISIONS)


def meaningful(figure: Any) -> set[str]:
    """The colors of a drawing that tell things apart: those of the palette, and whatever else is colorful.

    Grounds, grids, ticks and the pale fills inside of strongly colored edges are left out: they tell nothing.
    """
    found: list[Any] = []
    for artist in figure.findobj(lambda a: isinstance(a, Line2D | Patch | Collection)):
        if not artist.get_visible() or isinstance(artist, QuadMesh):  # a color bar: color maps have their own test
            continue
        if isinstance(artist, Line2D):
            found += [artist.get_color()] if artist.get_linestyle() != "None" else []
            found += [artist.get_markeredgecolor()] if artist.get_marker() != "None" else []
            found += [artist.get_markerfacecolor()] if artist.get_marker() in Line2D.filled_markers else []
        elif isinstance(artist, Patch):
            found += [artist.get_facecolor()] if artist.get_fill() else []
            found += [artist.get_edgecolor()] if artist.get_linewidth() else []
        else:
            found += [*np.atleast_2d(artist.get_facecolor()), *np.atleast_2d(artist.get_edgecolor())]
    named = {color.upper() for color in COLORS.values()}
    colors = {to_hex(color).upper() for color in found if not isinstance(color, tuple) or color[3] > 0.5}
    return {color for color in colors if color in named or np.hypot(*lab(color, "usual")[1:]) >= 20}


def many(n: int, *last: list[float]) -> dict[str, Any]:
    return {str(i): ([0, 1], [i, i + 1], *last) for i in range(n)}


#: Every kind of plot with as many colors as it can have.
FULL: dict[str, Any] = {
    "curves": lambda: viz.plot_curves(many(6), mark=0.5),
    "curves and dots": lambda: viz.plot_curves(many(2), many(4, [0.1, 0.1]), mark=0.5),
    "schedules": lambda: viz.plot_schedules(
        [make_schedule(name, 20) for name in ("linear", "quadratic", "sigmoid", "cosine", "linear amount")], 9
    ),
    "histograms": lambda: viz.plot_histogram({str(i): torch.arange(9) * (i + 1) / 9 for i in range(4)}),
    "losses": lambda: viz.plot_loss({str(i): [1.0, 0.5] for i in range(6)}, reference={"one": 1.0}),
    "network": lambda: viz.plot_unet(trace(BottleneckUNet(), torch.zeros(1, 1, 16, 16))),
    "halvings": lambda: viz.plot_halvings(28, 4),
    "kernel": lambda: viz.plot_kernel("transposed conv", 4, 3, 2, 1, 1),
    "gauge": lambda: viz.plot_gauge(make_schedule("linear", 150)),
    "bars": FIGURES["plot_loss_by_timestep"],
    "embedding": FIGURES["plot_time_embedding"],
}


@pytest.mark.parametrize("name", FULL)
def test_colors_of_one_drawing_can_be_told_apart(name: str) -> None:
    figure = FULL[name]()
    figure.canvas.draw()
    colors = meaningful(figure)
    assert len(colors) >= 2 and too_close(colors) == []


def test_the_colors_of_a_drawing_are_found() -> None:
    assert meaningful(FULL["curves"]()) >= {COLORS[name] for name in (*CYCLE, "red")}
    assert {COLORS["green"], COLORS["gray"], COLORS["red"]} <= meaningful(FULL["halvings"]())


def test_colors_of_the_browsers_drawings_can_be_told_apart() -> None:
    colors = re.findall(r'"(#[0-9A-Fa-f]{6})"', (STATIC / "drawings.js").read_text(encoding="utf-8"))
    assert len(colors) >= 4 and too_close(colors) == []


@pytest.mark.parametrize("name", CYCLE)
def test_curves_are_seen_on_the_card(name: str) -> None:
    assert too_close([COLORS[name], viz.CARD], 20) == []


def test_curves_differ_in_more_than_color() -> None:
    dashes = [str(line.get_linestyle()) for line in FULL["curves"]().axes[0].get_lines()[:6]]
    patterns = [str(line._unscaled_dash_pattern) for line in FULL["curves"]().axes[0].get_lines()[:6]]
    assert len(dashes) == len(set(patterns)) == 6


def rises(name: str) -> bool:
    """Whether a color map only gets lighter, in nearly even steps, in everyone's eyes."""
    colors = [to_hex(color) for color in matplotlib.colormaps[name](np.linspace(0, 1, 33))]
    for vision in VISIONS:
        steps = np.diff([lab(color, vision)[0] for color in colors])
        if steps.min() < 0.5 or steps.max() > 5 * steps.min():
            return False
    return True


def test_color_maps_rise_for_everyone() -> None:
    used = set()
    for make in FIGURES.values():
        for image in make().findobj(AxesImage):
            used |= {image.get_cmap().name} if image.get_array().ndim == 2 else set()
    assert used  # there is at least the heat map of the time embedding
    for folder, kind in (("course_lib", "*.py"), ("figures", "*.py"), ("benchmarks", "*.py"), ("notebooks/py", "*.py")):
        for path in (ROOT / folder).rglob(kind):
            used |= set(re.findall(r"cmap\s*=\s*[\"'](\w+)[\"']", path.read_text(encoding="utf-8")))
    assert [name for name in sorted(used) if not rises(name)] == []


@pytest.mark.parametrize("name", ["jet", "hsv", "coolwarm", "RdYlGn", "tab10"])
def test_a_color_map_that_misleads_is_seen(name: str) -> None:
    assert not rises(name)


# ---------------------------------------------------------------------------------------------------- controls


def control_problems(controls: Iterable[Any]) -> list[str]:
    """Controls that say nothing of what they do."""
    wrong = []
    for control in controls:
        words = str(getattr(control, "description", "") or "").strip()
        if isinstance(control, ipywidgets.Play):
            continue  # three buttons with signs on them: controls.js names them, see below
        if isinstance(control, ipywidgets.ToggleButtons) and not words:
            words = " ".join(label.strip() for label in control._options_labels if label.strip())
            words = words if all(label.strip() for label in control._options_labels) else ""
        if not words:
            wrong.append(f"a {type(control).__name__} has neither a description nor names on its buttons")
    return wrong


def controls_of(widget: Any) -> list[Any]:
    """All controls in a widget, however deep: what has a value that a person sets."""
    found = []
    for child in getattr(widget, "children", ()):
        kinds = (ipywidgets.widgets.widget_description.DescriptionWidget, ipywidgets.Button)
        passive = (ipywidgets.HTML, ipywidgets.HTMLMath, ipywidgets.Label, ipywidgets.FloatProgress)
        found += [child] if isinstance(child, kinds) and not isinstance(child, passive) else []
        found += controls_of(child)
    return found


@pytest.mark.parametrize("name", [*EXPLORERS, *DIAGRAMS])
def test_every_control_says_what_it_does(name: str) -> None:
    """For the keyboard and the screen reader see the first lines of this file."""
    explorer = {**EXPLORERS, **DIAGRAMS}[name]()
    found = controls_of(explorer)
    assert set(explorer.controls.values()) <= set(found)
    assert control_problems(found) == []
    sliders = [control.description for control in found if hasattr(control, "readout")]
    assert len(sliders) == len(set(sliders))


def test_play_buttons_are_named_in_the_browser() -> None:
    source = (STATIC / "controls.js").read_text(encoding="utf-8")
    assert '"play or pause"' in source and ".widget-play" in source


def test_a_control_without_a_name_is_seen() -> None:
    bad = [
        ipywidgets.IntSlider(),
        ipywidgets.FloatSlider(description="  "),
        ipywidgets.Checkbox(description=""),
        ipywidgets.ToggleButtons(options=["on", ""]),
        ipywidgets.Dropdown(options=[1, 2]),
    ]
    assert len(control_problems(bad)) == len(bad)
    box = ipywidgets.VBox([ipywidgets.HBox([*bad, ipywidgets.HTML("words")]), ipywidgets.Output()])
    assert controls_of(box) == bad


# ---------------------------------------------------------------------------------------------------- headings


def heading_problems(text: str) -> list[str]:
    """Headings that come out of order: not one first heading of level 1, or a level left out."""
    text = without_code(text)
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
