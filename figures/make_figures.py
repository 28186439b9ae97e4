"""Draw the pictures of the README and of the notebooks: one function for each file.

    python figures/make_figures.py                  all of them
    python figures/make_figures.py 01_rows 02_kernel
                                                    some of them
    python figures/make_figures.py --list           their names

On one kind of machine the same seeds give the same pictures. Samples come from the shipped weights. `02_one_step`,
`04_loss` and `04_ema` train a network first, which takes minutes; `06_symptoms` runs notebook 06. All of them use only
the pictures that come with the package, so nothing depends on other data on the machine.
"""

from __future__ import annotations

import argparse
import importlib
import io
import time
from pathlib import Path

from PIL import Image

from course_lib import viz
from ingredients import FIGURES, LIMIT, Picture

HERE = Path(__file__).resolve().parent
for part in ("notebooks_00_to_02", "notebooks_03_to_04", "notebooks_05_to_06"):
    importlib.import_module(part)  # fills FIGURES


def to_bytes(picture: Picture) -> bytes:
    """A small PNG: curves sharp enough for dense screens, 256 colors, at most `LIMIT` bytes."""
    png = picture if isinstance(picture, viz.Png) else viz.figure_png(picture, 1 if _holds_pictures(picture) else 1.5)
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.convert("L" if opened.mode == "L" else "RGB")
    if image.mode == "RGB":
        image = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    if buffer.tell() > LIMIT:
        raise ValueError(f"the picture has {buffer.tell():,} bytes, more than {LIMIT:,}: draw it smaller")
    return buffer.getvalue()


def _holds_pictures(drawn: viz.Figure) -> bool:
    """Whether a figure shows pictures, whose pixels must stay whole."""
    return any(axes.get_images() and not axes.axison for axes in drawn.axes)


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="files to draw, without .png; all where none is given")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--list", action="store_true", help="only list the names")
    options = parser.parse_args()
    names = [name.removesuffix(".png") for name in options.names] or list(FIGURES)
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(FIGURES)}")
    if options.list:
        print("\n".join(names))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        start = time.perf_counter()
        content = to_bytes(FIGURES[name]())
        (options.out / f"{name}.png").write_bytes(content)
        print(f"{name}.png: {len(content):,} bytes, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
