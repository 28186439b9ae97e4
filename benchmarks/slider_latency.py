"""How long does a slider take to answer? The usual ways beside the course's.

    python benchmarks/slider_latency.py            five minutes; every way in turn, in JupyterLab and Chromium
    python benchmarks/slider_latency.py --report   the table of the last run, into benchmarks/README.md

Every way shows 64 pictures of 28×28, 8 in a row, whose noise follows a slider. Each way is a notebook in a real
JupyterLab, in headless Chromium, and gets real key presses and mouse moves.

**From key to pixels.** The page notes the time of the arrow key before anything else sees the key. From then on it
compares the picture at the beginning and end of every frame until the pixels change: these milliseconds are one answer.
The next key comes when the picture is at rest, at a random moment of a frame. Looking costs less than a millisecond,
since only 64×64 pixels are read.

**Painted in a drag.** The mouse moves the slider from end to end in 120 steps, at most one in a frame. For two seconds
we count the frames whose picture differs from the one before, and the frames that show no picture: these flicker.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from records import RESULTS, ROOT, Row, append_row, circumstances, publish, rows_like, table
from slider_ways import WAYS, Way, notebook_of

sys.path.append(str(ROOT / "tools"))
import browser as tools
import notebooks
from lab import Lab, Notebook, jupyterlab

NAME = "slider_latency"
ROWS = RESULTS / f"{NAME}.jsonl"
PRESSES, WARM_UP = 40, 4
SECONDS = 2.0  # of the drag
PACKAGES = ("jupyterlab", "ipywidgets", "anywidget", "ipykernel", "ipympl", "matplotlib")  # whose versions rows note


def summary(milliseconds: Sequence[float]) -> Row:
    """Median and 95th percentile of some answers."""
    p95 = statistics.quantiles(milliseconds, n=20, method="inclusive")[-1]
    return {"median_ms": round(statistics.median(milliseconds), 1), "p95_ms": round(p95, 1)}


def press_again_and_again(page: Any, selector: str) -> list[float]:
    """Milliseconds from key to pixels, of each press but those to warm up."""
    page.wait_for_selector(".noUi-handle").focus()
    took, chance = [], random.Random(0)
    for number in range(WARM_UP + PRESSES):
        warm = number >= WARM_UP  # clear_output shows an empty picture at first
        if not tools.at_rest(page, selector, 0.15) and warm:
            raise RuntimeError(f"{selector} does not come to rest")
        page.wait_for_timeout(chance.uniform(0, 34))
        answer = tools.time_to_pixels(page, selector, lambda: page.keyboard.press("ArrowRight"))
        if answer is None and warm:
            raise RuntimeError(f"{selector} does not answer to a key")
        if answer is not None and warm:
            took.append(answer)
    return took


def drag(page: Any, selector: str) -> Row:
    """What the page paints while the slider is dragged from its lowest to its highest value."""
    handle, base = page.query_selector(".noUi-handle"), page.query_selector(".noUi-base")
    handle.focus()
    page.keyboard.press("Home")
    tools.at_rest(page, selector)
    handle.scroll_into_view_if_needed()
    box, track = handle.bounding_box(), base.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.evaluate("([selector, limit]) => { probe.count(selector, limit); }", [selector, 1000 * SECONDS])
    page.mouse.move(track["x"] + track["width"], y, steps=round(60 * SECONDS))  # one in each frame of a quick page
    counted = page.evaluate("probe.counted()")
    page.mouse.up()
    return {"painted": counted["painted"], "empty_frames": counted["blank"], "frames": counted["frames"]}


def measure(way: Way, lab: Lab, chromium: Any) -> Row:
    """Open the notebook of a way, run it, and move its slider."""
    name = f"{time.monotonic_ns()}.ipynb"
    (lab.folder / name).write_text(notebooks.to_notebook(notebook_of(way)), encoding="utf-8")
    sheet = tools.new_sheet(chromium, tools.is_local)
    try:
        notebook = Notebook(lab, sheet, name)
        notebook.run(300)
        if problems := notebook.problems():
            raise RuntimeError("; ".join(problems))
        sheet.page.wait_for_selector(way.selector)
        sheet.page.locator(way.selector).first.scroll_into_view_if_needed()
        took = press_again_and_again(sheet.page, way.selector)
        found = {**summary(took), "presses": len(took), **drag(sheet.page, way.selector)}
        if way.network:
            (explorer,) = notebook.explorers()
            found["forward_ms"] = round(1000 * notebook.kernel.ask(f"seconds_of_view({explorer.id!r})"), 1)
        notebook.close()
        return found
    finally:
        sheet.close()


def run() -> None:
    """Measure the ways in turn; each row is on disk before the next one begins."""
    began = datetime.now(UTC).isoformat(timespec="seconds")
    with (
        TemporaryDirectory(prefix="course-latency-") as folder,
        tools.chromium() as chromium,
        jupyterlab(Path(folder)) as lab,
    ):
        versions = {name: metadata.version(name) for name in PACKAGES if find_spec(name)}
        versions["chromium"] = chromium.version
        for key, way in WAYS.items():
            lacking = way.needs and find_spec(way.needs) is None
            found = {"missing": way.needs} if lacking else measure(way, lab, chromium)
            about = {"run": began, "way": key, "label": way.label}
            row = {**about, **found, **circumstances(torch.device("cpu")), "versions": versions}
            append_row(ROWS, row)
            print(" | ".join(line_of(row)), flush=True)


def line_of(row: Row) -> list[str]:
    """A row of the table."""
    if "missing" in row:
        return [row["label"], f"{row['missing']} is not installed", "", ""]
    painted = str(row["painted"]) + (", and it flickers" if row["empty_frames"] else "")
    return [row["label"], f"{row['median_ms']:g}", f"{row['p95_ms']:g}", painted]


def newest(path: Path = ROWS) -> list[Row]:
    """The rows of the last run."""
    rows = rows_like(path)
    return [row for row in rows if row["run"] == rows[-1]["run"]]


def report(path: Path = ROWS) -> dict[str, str]:
    """The table of the last run, by the name of its block in benchmarks/README.md."""
    rows = newest(path)
    last, versions = rows[-1], rows[-1]["versions"]
    head = ["way", "median ms", "p95 ms", f"painted in {SECONDS:g} s"]
    words = (
        f"From key press to changed pixels, {max(row.get('presses', 0) for row in rows)} presses each, and pictures "
        f"painted in a drag of {SECONDS:g} seconds: {last['machine']}; headless Chromium {versions['chromium']}, "
        f"JupyterLab {versions['jupyterlab']}; {last['date'][:10]}."
    )
    for row in rows:
        if "forward_ms" in row:
            words += f" A forward pass takes {row['forward_ms']:g} ms of what the network's slider takes."
    return {NAME: f"{table(head, map(line_of, rows), words=1)}\n\n{words}"}


def main() -> int:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="measure nothing; write the table of the last run")
    options = parser.parse_args()
    if options.report:
        publish(report(), RESULTS)
    elif lack := tools.missing():
        print(f"This benchmark {lack}.", file=sys.stderr)
        return 1
    else:
        run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
