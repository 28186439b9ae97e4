"""How long a slider takes to answer: the usual ways, and the course's.

    python benchmarks/slider_latency.py            five minutes; every way in turn, in JupyterLab and Chromium
    python benchmarks/slider_latency.py --report   the table of the last run, into benchmarks/README.md

Every way shows 64 pictures of 28×28, 8 in a row, whose noise follows a slider. Each is a notebook of its own, opened
in a real JupyterLab on this machine in headless Chromium, and handled by real key presses and mouse moves.

**From key to pixels.** The arrow key's event is caught as it enters the page, before any other program sees it. From
then on the picture is looked at in every frame, at its beginning and when it is done, until its pixels are other ones:
the milliseconds between are one answer. The next key is pressed when the picture has been at rest, and at a random
moment of a frame. A picture is looked at through 64×64 of its pixels, which takes less than a millisecond.

**Painted in a drag.** The mouse takes the slider from end to end in 120 moves, each as soon as the page has taken in
the one before and at most one in a frame. During two seconds every frame whose picture differs from that of the frame
before is counted. Frames without a picture are counted, too: those flicker.

Other programs slow all ways down. The rows say what the machine's load was.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from records import HERE, RESULTS, ROOT, Row, append_row, circumstances, fill_block, read_rows, table

sys.path.append(str(ROOT / "tools"))
import browser as tools
import notebooks
from lab import Lab, Notebook, jupyterlab

NAME = "slider_latency"
ROWS = RESULTS / f"{NAME}.jsonl"
PRESSES, WARM_UP = 40, 4
SECONDS = 2.0  # of the drag
#: Whose versions a row tells.
PACKAGES = ("jupyterlab", "ipywidgets", "anywidget", "ipykernel", "ipympl", "matplotlib")
#: What the course promises of its own sliders: milliseconds of the slowest answer but one in twenty, and how many
#: pictures they paint where interact paints one with imshow: 60 for its 13.
P95, PAINTED = 25.0, 60 / 13
#: Milliseconds that a slider with a network may take beyond its forward pass.
BEYOND = 60.0

#: 64 pictures and noise for all ways, and a slider like those of the course.
START = """
from io import BytesIO

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from PIL import Image

from course_lib.data import load_fashion_mnist

x = load_fashion_mnist("test", source="packaged")[:64, 0].numpy()
eps = np.random.default_rng(0).standard_normal(x.shape).astype("float32")
slider = ipywidgets.FloatSlider(0.3, min=0, max=1, step=0.01, description="amount", layout={"width": "360px"})


def mix(amount):
    return (1 - amount) * x + amount * eps


def grid(amount):
    pixels = np.full((8, 29, 8, 29), 205, dtype=np.uint8)
    levels = (mix(amount).clip(-1, 1) * 127.5 + 127.5).round()
    pixels[:, :28, :, :28] = levels.reshape(8, 8, 28, 28).transpose(0, 2, 1, 3)
    return pixels.reshape(232, 232)
"""

SUBPLOTS = """
def show(amount):
    figure, axes = plt.subplots(8, 8, figsize=(6, 6))
    for ax, picture in zip(axes.flat, mix(amount)):
        ax.imshow(picture, cmap="gray", vmin=-1, vmax=1)
        ax.axis("off")
    plt.show()


ipywidgets.interact(show, amount=slider);
"""

IMSHOW = """
def show(amount):
    plt.figure(figsize=(6, 6))
    plt.imshow(grid(amount), cmap="gray", vmin=0, vmax=255)
    plt.axis("off")
    plt.show()


ipywidgets.interact(show, amount=slider);
"""

CLEAR = """
output = ipywidgets.Output()


def show(change):
    with output:
        output.clear_output()
        figure, ax = plt.subplots(figsize=(6, 6))
        ax.imshow(grid(slider.value), cmap="gray", vmin=0, vmax=255)
        ax.axis("off")
        display(figure)
        plt.close(figure)


show(None)
slider.observe(show, "value")
ipywidgets.VBox([slider, output])
"""

IPYMPL = """
# %matplotlib widget
with plt.ioff():
    figure, ax = plt.subplots(figsize=(6, 6))
ax.axis("off")
picture = ax.imshow(grid(slider.value), cmap="gray", vmin=0, vmax=255)


def show(change):
    picture.set_data(grid(slider.value))
    figure.canvas.draw_idle()


slider.observe(show, "value")
ipywidgets.VBox([slider, figure.canvas])
"""

PNG = """
def png(amount):
    buffer = BytesIO()
    Image.fromarray(grid(amount)).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


image = ipywidgets.Image(value=png(slider.value), format="png", width=464, height=464)


def show(change):
    image.value = png(slider.value)


slider.observe(show, "value")
ipywidgets.VBox([slider, image])
"""

BYTES = '''
import anywidget
import traitlets


class Canvas(anywidget.AnyWidget):
    _esm = """
    export default { render({ model, el }) {
      const canvas = document.createElement("canvas");
      canvas.className = "raw";
      canvas.width = canvas.height = 232;
      canvas.style.cssText = "width: 464px; height: 464px; image-rendering: pixelated";
      const context = canvas.getContext("2d", { alpha: false });
      const image = context.createImageData(232, 232);
      const pixels = new Uint32Array(image.data.buffer);
      function paint() {
        const view = model.get("pixels");
        const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
        for (let i = 0; i < pixels.length; i++) pixels[i] = 0xff000000 | (bytes[i] * 0x010101);
        context.putImageData(image, 0, 0);
      }
      paint();
      model.on("change:pixels", paint);
      el.append(canvas);
    } };"""
    pixels = traitlets.Bytes().tag(sync=True)


canvas = Canvas(pixels=grid(slider.value).tobytes())


def show(change):
    canvas.pixels = grid(slider.value).tobytes()


slider.observe(show, "value")
ipywidgets.VBox([slider, canvas])
'''

CORRUPTION = """
import torch

from course_lib import widgets

widgets.corruption_explorer(torch.from_numpy(x)[:, None], columns=8)
"""

TIMESTEP = """
import torch

from course_lib import widgets
from course_lib.schedule import SCHEDULES, make_schedule, zero_terminal_snr

kinds = [make_schedule(name) for name in SCHEDULES]
kinds += [zero_terminal_snr(schedule) for schedule in kinds[:3]]
widgets.timestep_explorer(torch.from_numpy(x)[:8, None], kinds)
"""

NETWORK = """
import torch

from course_lib import widgets
from course_lib.checkpoint import load_shipped

shipped = load_shipped("cpu")
widgets.x0_hat_explorer(shipped.model, shipped.schedule, torch.from_numpy(x)[:8, None], shipped.target)
"""


@dataclass(frozen=True)
class Way:
    """One way to make a picture follow a slider.

    Args:
        label: for the table.
        code: of the notebook, after `START`.
        selector: finds its canvas or image in the page.
        needs: a package beyond the course's own, or "".
        ours: whether it is the course's.
        network: whether each picture is a forward pass.
    """

    label: str
    code: str
    selector: str
    needs: str = ""
    ours: bool = False
    network: bool = False


CANVAS = ".course-explorer canvas[data-panel]"
WAYS = {
    "subplots": Way("interact + 64 subplots", SUBPLOTS, ".jp-RenderedImage img"),
    "imshow": Way("interact + one imshow", IMSHOW, ".jp-RenderedImage img"),
    "clear_output": Way("clear_output and redraw", CLEAR, ".jp-RenderedImage img"),
    "ipympl": Way("ipympl, set_data", IPYMPL, ".jupyter-matplotlib-canvas-div canvas:first-of-type", needs="ipympl"),
    "png": Way("ipywidgets.Image fed PNG bytes", PNG, "img.widget-image"),
    "bytes": Way("a canvas (anywidget) fed raw bytes by the kernel", BYTES, "canvas.raw"),
    "corruption": Way("**`corruption_explorer`**, 64 pictures", CORRUPTION, CANVAS, ours=True),
    "timestep": Way("**`timestep_explorer`**, 8 pictures in 8 schedules", TIMESTEP, CANVAS, ours=True),
    "network": Way(
        "**`x0_hat_explorer`**, 8 pictures through the network",
        NETWORK,
        '.course-explorer canvas[data-panel="x0_hat"]',
        ours=True,
        network=True,
    ),
}


def notebook_of(way: Way) -> str:
    """The text of its notebook."""
    return f"# %%\n{START.strip()}\n\n# %%\n{way.code.strip()}\n"


def summary(milliseconds: Sequence[float]) -> Row:
    """Median and 95th percentile of some answers, at least two.

    >>> summary([1.0, 2.0, 3.0])
    {'median_ms': 2.0, 'p95_ms': 2.9}
    """
    p95 = statistics.quantiles(milliseconds, n=20, method="inclusive")[-1]
    return {"median_ms": round(statistics.median(milliseconds), 1), "p95_ms": round(p95, 1)}


def press_again_and_again(page: Any, selector: str, presses: int, chance: random.Random) -> list[float]:
    """Milliseconds from key to pixels, of each press but those to warm up.

    Raises:
        RuntimeError: a picture that never comes to rest, or does not answer.
    """
    handle = page.wait_for_selector(".noUi-handle")
    handle.focus()
    took = []
    for number in range(WARM_UP + presses):
        warm = number >= WARM_UP  # redrawing after clear_output shows an empty picture at first
        if not tools.at_rest(page, selector, 0.15) and warm:
            raise RuntimeError(f"{selector} does not come to rest")
        page.wait_for_timeout(chance.uniform(0, 34))
        answer = tools.time_to_pixels(page, selector, lambda: page.keyboard.press("ArrowRight"))
        if answer is None and warm:
            raise RuntimeError(f"{selector} does not answer to a key")
        if answer is not None and warm:
            took.append(answer)
    return took


def drag(page: Any, selector: str, seconds: float = SECONDS) -> Row:
    """Take the slider from its lowest to its highest value in so many seconds; what was painted meanwhile."""
    handle, base = page.query_selector(".noUi-handle"), page.query_selector(".noUi-base")
    handle.focus()
    page.keyboard.press("Home")
    tools.at_rest(page, selector)
    handle.scroll_into_view_if_needed()
    box, track = handle.bounding_box(), base.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.evaluate("([selector, limit]) => { probe.count(selector, limit); }", [selector, 1000 * seconds])
    page.mouse.move(track["x"] + track["width"], y, steps=round(60 * seconds))  # one in each frame of a quick page
    counted = page.evaluate("probe.counted()")
    page.mouse.up()
    return {
        "painted": counted["painted"],
        "empty_frames": counted["blank"],
        "frames": counted["frames"],
    }


def measure(way: Way, lab: Lab, chromium: Any, presses: int) -> Row:
    """Open the notebook of a way, run it, and handle its slider.

    Raises:
        RuntimeError: the notebook or its slider does not work.
    """
    name = f"{time.monotonic_ns()}.ipynb"
    (lab.folder / name).write_text(notebooks.to_notebook(notebook_of(way)), encoding="utf-8")
    sheet = tools.new_sheet(chromium, tools.is_local)
    try:
        notebook = Notebook(lab, sheet, name)
        notebook.run(300)
        problems = notebook.problems()
        if problems:
            raise RuntimeError("; ".join(problems))
        sheet.page.wait_for_selector(way.selector)
        sheet.page.locator(way.selector).first.scroll_into_view_if_needed()
        took = press_again_and_again(sheet.page, way.selector, presses, random.Random(0))
        found = {**summary(took), "presses": len(took), **drag(sheet.page, way.selector)}
        if way.network:
            (explorer,) = notebook.explorers()
            found["forward_ms"] = round(1000 * notebook.kernel.ask(f"seconds_of_view({explorer.id!r})"), 1)
        notebook.close()
        return found
    finally:
        sheet.close()


def run(chosen: Sequence[str], presses: int, path: Path = ROWS) -> None:
    """Measure every way in turn; each row is on disk before the next begins."""
    began = datetime.now(UTC).isoformat(timespec="seconds")
    with (
        TemporaryDirectory(prefix="course-latency-") as folder,
        tools.chromium() as chromium,
        jupyterlab(Path(folder)) as lab,
    ):
        about = circumstances(torch.device("cpu"))
        about["versions"] = {name: metadata.version(name) for name in PACKAGES if find_spec(name)}
        about["versions"]["chromium"] = chromium.version
        for key in chosen:
            way = WAYS[key]
            row: Row = {"run": began, "way": key, "label": way.label}
            if way.needs and find_spec(way.needs) is None:
                row["missing"] = way.needs
            else:
                row |= measure(way, lab, chromium, presses)
            row |= {"load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None, **about}
            append_row(path, row)
            print(" | ".join(line_of(row)), flush=True)


def line_of(row: Row) -> list[str]:
    """A row of the table."""
    if "missing" in row:
        return [row["label"], f"{row['missing']} is not installed", "", ""]
    painted = str(row["painted"]) + (", and it flickers" if row["empty_frames"] else "")
    return [row["label"], f"{row['median_ms']:g}", f"{row['p95_ms']:g}", painted]


def newest(rows: Sequence[Row]) -> list[Row]:
    """The rows of the last run."""
    return [row for row in rows if row["run"] == rows[-1]["run"]]


def text_of(rows: Sequence[Row]) -> str:
    """The table of some rows, and what they were made on."""
    head = ["way", "median ms", "p95 ms", f"painted in {SECONDS:g} s"]
    last = rows[-1]
    versions = last["versions"]
    words = (
        f"From key press to changed pixels, {max(row.get('presses', 0) for row in rows)} presses each, and pictures "
        f"painted in a drag of {SECONDS:g} seconds: {last['machine']}; headless Chromium {versions['chromium']}, "
        f"JupyterLab {versions['jupyterlab']}; {last['date'][:10]}."
    )
    forward = [row["forward_ms"] for row in rows if "forward_ms" in row]
    if forward:
        words += f" A forward pass takes {forward[0]:g} ms of what the network's slider takes."
    return f"{table(head, map(line_of, rows), words=1)}\n\n{words}"


def report(path: Path = ROWS, pages: Sequence[Path] = (HERE / "README.md",)) -> int:
    """Write the table where its block stands; 0 if there is a table, and a block for it in every page."""
    rows = read_rows(path)
    if not rows:
        print(f"{path} holds no rows: run benchmarks/{NAME}.py first.", file=sys.stderr)
        return 1
    text = text_of(newest(rows))
    print(text)
    without = [page for page in pages if not fill_block(page, NAME, text)]
    for page in without:
        print(f"{page} has no lines <!-- {NAME}: begin --> and <!-- {NAME}: end -->.", file=sys.stderr)
    return 1 if without else 0


def main() -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="write the table of the last run")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="which to measure (default: all)")
    parser.add_argument("--presses", type=int, default=PRESSES, help=f"of the arrow key (default: {PRESSES})")
    parser.add_argument("--rows", type=Path, default=ROWS, help="where the rows go")
    options = parser.parse_args()
    if options.presses < 2:
        parser.error(f"--presses must be at least 2, got {options.presses}")
    if options.report:
        return report(options.rows)
    lack = tools.missing()
    if lack:
        print(f"This benchmark {lack}.", file=sys.stderr)
        return 1
    run(options.ways, options.presses, options.rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
