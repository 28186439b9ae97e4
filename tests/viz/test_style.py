"""What all figures share: they show themselves, say what they show, and have colors that all people tell apart."""

# mypy: allow-untyped-defs
from __future__ import annotations

import base64
import datetime
import inspect
import io
import itertools
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from IPython.core.formatters import DisplayFormatter
from IPython.core.pylabtools import select_figure_formats
from PIL import Image

from course_lib import viz
from course_lib.viz import COLORS, CYCLE, Sheet
from course_lib.viz.words import describe
from course_lib.widgets.assets import STATIC
from helpers_viz import FIGURES, pictures

ROOT = Path(__file__).resolve().parents[2]
#: What the words of each figure must say.
SAID: dict[str, Sequence[str]] = {
    "show_grid": ("all", "3 pictures", "a, b, c"),
    "show_rows": ("2 rows", "one, 2 pictures", "two, 3 pictures", "columns: a, b, c"),
    "filmstrip": ("2 pictures drowning in noise", "11 columns", "0.5"),
    "show_features": ("5 feature maps of 7×7",),
    "plot_curves": ("y, from 1 at 0 to 2 at 1", "1 dot of d, 1 at 0", "a line from top to bottom at 0.5"),
    "plot_variance": ("predicted, from 0.5 at 0 to 1 at 1, lowest 0.333 at 0.335", "2 dots of measured"),
    "plot_histogram": ("density against pixel value", "histogram of a", "histogram of b", "N(0, 1)", "highest 0.399"),
    "plot_schedules": ("signal a against timestep t", "log₁₀ of a²/b²", "cosine, from 1 at 0 to ", "bottom at 20"),
    "plot_gauge": ("gauge of a_T", "linear, T = 50", "0.7765", "still holds the picture"),
    "plot_loss": ("loss against update", "running mean, from 1 at 1", "zero, a line across at 1"),
    "plot_loss of nothing": ("loss against update",),
    "plot_loss_by_timestep": ("mean loss against timestep t", "2 bars, from 1 at 0.25 to 2 at 8.25"),
    "plot_time_embedding": ("heat map of 8 rows (timestep t) and 6 columns", "from -1 to 1", "entry 1"),
    "plot_kernel": ("3×3 kernel, transposed conv, stride 2, padding 1, output padding 1: input 4×4", "adds 1 at"),
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


def test_every_public_figure_is_drawn_here() -> None:
    public = {name: getattr(viz, name) for name in viz.__all__ if inspect.isfunction(getattr(viz, name))}
    made = {name for name, f in public.items() if inspect.signature(f).return_annotation in ("Figure", viz.Figure)}
    assert made == {name.split()[0] for name in FIGURES} and set(SAID) == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_shows_itself_says_what_it_shows_and_leaves_nothing_behind(name: str) -> None:
    before = dict(matplotlib.rcParams)
    figure: Any = FIGURES[name]()
    data, metadata = figure._repr_mimebundle_()
    about = metadata["image/png"]
    assert viz.Png(base64.b64decode(data["image/png"])).size == (2 * about["width"], 2 * about["height"])
    with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as image:
        assert np.asarray(image.convert("RGBA"))[..., 3].min() == 255  # opaque: the page behind does not matter
    png = viz.figure_png(FIGURES[name]())
    assert abs(png.size[0] - about["width"]) <= 1 and len(png.pixels().flatten().unique()) > 20
    assert viz.figure_png(FIGURES[name]()) == png  # the same every time
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()

    alt = about["alt"]
    assert [words for words in SAID[name] if words not in alt] == [], alt
    assert 30 <= len(alt) <= 1500 and alt[-1] == "." and "\n" not in alt
    assert not re.search(r"\bnan\b|_child|<|object at", alt), alt


def test_words_and_drawings_survive_pyplot() -> None:
    """Pyplot registers a printer for figures that shows none without axes, such as the course's drawings."""
    formatter: Any = DisplayFormatter()
    select_figure_formats(SimpleNamespace(display_formatter=formatter), {"png"})
    for name in ("plot_loss", "plot_unet"):
        data, metadata = formatter.format(FIGURES[name]())
        assert data["image/png"] and metadata["image/png"]["alt"] == FIGURES[name]().alt


def test_svg_follows_the_theme_and_is_the_same_each_time() -> None:
    svg = viz.figure_svg(viz.plot_gauge())
    assert svg.startswith("<svg") and svg == viz.figure_svg(viz.plot_gauge())
    assert "currentColor" in svg and viz.CARD not in svg.upper()
    assert 'width="' not in svg.split(">")[0] and "viewBox" in svg.split(">")[0]
    assert not re.findall(r"#([0-9a-f]{2})\1\1\b", svg, re.IGNORECASE)  # no gray of its own


# words


def test_pngs_say_what_they_show() -> None:
    assert shown(viz.to_png(pictures(6), columns=3))["alt"] == "6 pictures, 3 in a row."
    assert shown(viz.to_png(pictures(6), columns=6))["alt"] == "6 pictures in a row."
    assert shown(viz.to_png(pictures(1)))["alt"] == "1 picture."
    assert shown(viz.encode(torch.zeros(4, 6, dtype=torch.uint8), 2))["alt"] == "A picture of 12×8 pixels."
    assert shown(viz.figure_png(FIGURES["plot_loss"]()))["alt"] == FIGURES["plot_loss"]().alt


def test_words_follow_the_drawing() -> None:
    x = [0.0, 1.0, 2.0, 3.0]
    falling, valley = ({"y": (x, y)} for y in ([4, 3, 2, 1], [4, 1, 2, 3]))
    assert viz.plot_curves(falling).alt == "A plot: y, from 4 at 0 to 1 at 3."
    assert viz.plot_curves(valley).alt == "A plot: y, from 4 at 0 to 3 at 3, lowest 1 at 1."
    titled = viz.plot_curves(falling, xlabel="time", ylabel="height", title="a fall", logy=True)
    assert titled.alt.startswith("A plot of height, in powers of ten against time, titled a fall: ")
    titled.alt = "A fall."
    assert shown(titled)["alt"] == "A fall."


def test_names_and_dates_can_stand_on_an_axis() -> None:
    figure, (axes,) = viz.new_figure(4, 3)
    axes.plot(["linear", "cosine"], [1.0, 2.0], label="schedule")
    assert "schedule, from 1 at 0 to 2 at 1" in figure.alt
    figure, (axes,) = viz.new_figure(4, 3)
    axes.errorbar([datetime.date(1970, 1, day) for day in (2, 3)], [3.0, 4.0], yerr=1.0, label="day")
    assert "2 dots of day, from 3 at 1 to 4 at 2" in figure.alt  # matplotlib counts days from 1970 on


def test_drawings_without_axes_say_their_words() -> None:
    sheet = Sheet(2, 1)
    assert describe(sheet.figure) == "A drawing without words."
    for words in ("in\nput", "output", "output"):
        sheet.text(1, 0.5, words)
    assert describe(sheet.figure) == "A drawing with the words: in put; output."


# colors

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


def linear(color: str) -> np.ndarray:
    """Linear RGB of #RRGGBB."""
    srgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(color: str, vision: str) -> np.ndarray:
    """L*, a*, b* of a color as such a person sees it."""
    share = TO_XYZ @ np.clip(np.asarray(VISIONS[vision]) @ linear(color), 0, 1) / TO_XYZ.sum(1)
    f = np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def too_close(colors: Iterable[str], least: float = 12) -> list[str]:
    """Pairs that some people could not tell apart: nearer than this in CIELAB (ΔE*ab 1976; 2.3 is just noticeable)."""
    wrong = []
    for one, other in itertools.combinations(sorted(set(colors)), 2):
        for vision in VISIONS:
            distance = float(np.linalg.norm(lab(one, vision) - lab(other, vision)))
            if distance < least:
                wrong.append(f"{one} and {other}, {vision}: {distance:.1f}")
    return wrong


def contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it."""
    dark, light = sorted(float(TO_XYZ[1] @ linear(color)) for color in (one, other))
    return (light + 0.05) / (dark + 0.05)


def test_colors_can_be_told_apart_by_everyone() -> None:
    """Every pair of the palette, and in each file those colors that only its drawings have, beside black words."""
    assert too_close(["#2ca02c", "#d62728"]) and too_close(COLORS.values()) == []  # not so matplotlib's green and red
    own = dict[str, list[str]]()
    for path in Path(viz.__file__).parent.glob("*.py"):
        found = re.findall(r'"(#[0-9A-Fa-f]{6})"', path.read_text(encoding="utf-8"))
        colorful = {color for color in found if np.hypot(*lab(color, "usual")[1:]) >= 20} - {*COLORS.values()}
        own |= {path.name: too_close([*colorful, COLORS["black"]])} if colorful else {}
    assert own == {"gauge.py": []}


def test_curves_differ_in_color_and_in_dashes() -> None:
    figure: Any = viz.plot_curves({str(i): ([0, 1], [i, i + 1]) for i in range(6)})
    lines = figure.axes[0].get_lines()
    assert [line.get_color() for line in lines] == [COLORS[name] for name in CYCLE]
    assert len({str(line._unscaled_dash_pattern) for line in lines}) == 6


def test_words_and_curves_are_seen_on_the_card_and_drawings_on_every_page() -> None:
    assert min(contrast(viz.CARD, COLORS[name]) for name in ("black", "red")) >= 4.5  # WCAG 2.2, 1.4.3
    assert [name for name in CYCLE if too_close([COLORS[name], viz.CARD], 20)] == []
    colors = re.findall(r'"(#[0-9A-Fa-f]{6})"', (STATIC / "drawings.js").read_text(encoding="utf-8"))
    assert colors and min(contrast(each, page) for each in colors for page in ("#FFFFFF", viz.CARD, "#111111")) >= 3
