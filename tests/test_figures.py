"""The committed pictures: all there, small, opaque, embedded with words for those who do not see them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageSequence
from torchvision.transforms.functional import pil_to_tensor

import hero
from course_lib import viz
from ingredients import FIGURES, LIMIT
from make_figures import to_bytes

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "figures"
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "notebooks" / "py").glob("*.py"))]
EMBEDDED = re.compile(r"!\[([^\]]*)\]\((?:\.\./)?figures/([^)]+)\)")


def embedded() -> list[tuple[str, str, str]]:
    """Every picture on every page, as (page, words, file)."""
    return [(page.name, *found) for page in PAGES for found in EMBEDDED.findall(page.read_text(encoding="utf-8"))]


def test_every_file_is_drawn_by_a_function_and_every_function_has_its_file() -> None:
    assert {path.stem for path in FOLDER.glob("*.png")} == set(FIGURES)


def test_files_are_small_and_opaque() -> None:
    files = sorted(FOLDER.glob("*.png"))
    for path in files:
        assert path.stat().st_size <= LIMIT, path.name
        with Image.open(path) as image:
            assert image.mode in ("L", "P") and "transparency" not in image.info, path.name
            assert 300 <= image.width <= 1600, path.name
    assert sum(path.stat().st_size for path in files) <= 10 * LIMIT


def test_the_moving_picture_is_small_moves_and_begins_with_real_pictures() -> None:
    assert hero.FILE.stat().st_size <= hero.LIMIT
    with Image.open(hero.FILE) as gif:
        assert len([*ImageSequence.Iterator(gif)]) == 2 * hero.STEPS + 1 and gif.info["loop"] == 0
        gif.seek(0)
        first = gif.convert("RGB")
    x0, eps = hero.ingredients()
    drawn = hero.picture(next(hero.dissolve(x0, eps)), 1000)
    assert (pil_to_tensor(first).int() - pil_to_tensor(drawn).int()).abs().float().mean() < 8  # few colors


def test_embedded_pictures_exist_and_are_described() -> None:
    found = embedded()
    assert len(found) >= 20
    for page, words, name in found:
        assert (FOLDER / name).is_file(), f"{page} shows figures/{name}, which does not exist"
        assert len(words) >= 30, f"{page}: {name} needs a description of what is to be seen"


def test_every_picture_is_shown_somewhere() -> None:
    assert {path.name for path in FOLDER.glob("*.[pg][ni][gf]")} == {name for _, _, name in embedded()}


def test_what_is_drawn_is_written_as_drawn() -> None:
    drawn = viz.Png(to_bytes(FIGURES["02_kernel"]())).pixels()
    exact = viz.figure_png(viz.plot_kernel("conv", 7, 3, stride=2, padding=1), 1.5).pixels()
    assert drawn.shape == exact.shape
    assert (drawn.int() - exact.int()).abs().max() <= 16  # 256 colors have to do


def test_the_samples_are_those_of_the_weights_that_are_shipped() -> None:
    """None of them was picked out, and none is of earlier weights; processors round differently, which shows little."""
    drawn = viz.Png(to_bytes(FIGURES["samples_64"]())).pixels().int()
    kept = viz.Png((FOLDER / "samples_64.png").read_bytes()).pixels().int()
    assert kept.shape == drawn.shape
    assert (kept - drawn).abs().float().mean() <= 1


def test_a_picture_that_is_too_large_is_refused() -> None:
    noise = torch.randint(0, 256, (500, 500), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="draw it smaller"):
        to_bytes(viz.encode(noise))
