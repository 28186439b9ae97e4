"""The committed pictures: all there, small, opaque, embedded with words for those who do not see them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image, ImageSequence
from torchvision.transforms.functional import pil_to_tensor

import hero
from course_lib import viz
from ingredients import FIGURES, LIMIT
from make_figures import to_bytes

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "figures"
FILES = sorted(FOLDER.glob("*.png"))
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "notebooks" / "py").glob("*.py"))]
EMBEDDED = re.compile(r"!\[([^\]]*)\]\((?:\.\./)?figures/([^)]+)\)")


def test_every_picture_has_a_function_and_a_place_with_a_description() -> None:
    assert {path.stem for path in FILES} == set(FIGURES)
    found = [(page, *each) for page in PAGES for each in EMBEDDED.findall(page.read_text(encoding="utf-8"))]
    assert {path.name for path in (*FILES, hero.FILE)} == {name for *_, name in found}
    for page, words, name in found:
        assert len(words) >= 30, f"{page.name}: {name} needs a description of what is to be seen"


def test_files_are_small_and_opaque() -> None:
    for path in FILES:
        assert path.stat().st_size <= LIMIT, path.name
        with Image.open(path) as image:
            assert image.mode in ("L", "P") and "transparency" not in image.info, path.name
            assert 300 <= image.width <= 1600, path.name
    assert sum(path.stat().st_size for path in FILES) <= 10 * LIMIT


def test_the_moving_picture_is_small_moves_and_begins_with_real_pictures() -> None:
    assert hero.FILE.stat().st_size <= hero.LIMIT
    with Image.open(hero.FILE) as gif:
        assert len([*ImageSequence.Iterator(gif)]) == 2 * hero.STEPS + 1 and gif.info["loop"] == 0
        gif.seek(0)
        first = gif.convert("RGB")
    x0, eps = hero.ingredients()
    drawn = hero.picture(next(hero.dissolve(x0, eps)), 1000)
    assert (pil_to_tensor(first).int() - pil_to_tensor(drawn).int()).abs().float().mean() < 8  # few colors


@pytest.mark.parametrize("name", ["02_kernel", "samples_64"])
def test_drawn_anew_a_picture_is_the_one_that_is_kept(name: str) -> None:
    """The samples are of the weights that are shipped, and none was picked out; processors differ in rounding."""
    drawn = viz.Png(to_bytes(FIGURES[name]())).pixels().int()
    kept = viz.Png((FOLDER / f"{name}.png").read_bytes()).pixels().int()
    assert kept.shape == drawn.shape
    assert (kept - drawn).abs().float().mean() <= 1
