"""The tests in a browser can fail: notebooks broken on purpose are caught, and the meter measures what it should."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import browser
import notebooks
from helpers_broken import BROKEN, notebook_of
from helpers_faults import faint, flicker_problems, memory_problems, name_problems, problems_without_kernel
from helpers_hands import Oracle, judge_by
from lab import Lab, Notebook

ROOT = Path(__file__).resolve().parents[2]
#: What is known to crash or to flicker.
TRAPS = {
    r"\bImage\([^()]*tooltip=": "crashes ipywidgets 8.1.9",
    r"\bclear_output\((?!wait=True)": "flickers without wait=True",
    r"(?<!js)link\(\(": "sends every move through the kernel; jslink does not",
}


def test_known_traps_are_not_in_the_code() -> None:
    folders = ("course_lib", "notebooks/py", "figures", "tools")
    texts = {path: path.read_text(encoding="utf-8") for folder in folders for path in (ROOT / folder).rglob("*.py")}
    assert len(texts) > 30
    assert [(path, why) for path, text in texts.items() for trap, why in TRAPS.items() if re.search(trap, text)] == []


WIDGETS = """
# %%
import time

import anywidget
import traitlets


class Broken(anywidget.AnyWidget):
    value = traitlets.Int(0).tag(sync=True)


shown = [type("Broken", (Broken,), {{"_esm": code}})() for code in {codes!r}]
display(*shown)

# %%
time.sleep(1.5)
for each in shown:
    each.value = 1
"""
SHOWN = "export default {{ render({{ model, el }}) {{ el.textContent = 'here'; {code} }} }};"
SCRIPTS = {
    "on import": 'throw new Error("broken on import");',
    "in render": SHOWN.format(code='throw new Error("broken in render");'),
    "on change": SHOWN.format(code='model.on("change:value", () => { throw new Error("broken on change"); });'),
    "from elsewhere": SHOWN.format(code='fetch("https://example.org/broken from elsewhere").catch(() => {});'),
}
MOVED = "s = w.IntSlider(1)\ns.observe(lambda change: fail(change['new'], 'moved'), 'value')\ns.add_class('moved')\ns"


def run(lab: Lab, sheet: browser.Sheet, name: str, text: str) -> Notebook:
    """A notebook, from its text, open and executed."""
    (lab.folder / name).write_text(notebooks.to_notebook(text), encoding="utf-8")
    notebook = Notebook(lab, sheet, name)
    notebook.run(60)
    notebook.page.wait_for_timeout(500)
    return notebook


@pytest.mark.browser
@pytest.mark.slow
def test_broken_python_and_javascript_are_caught(lab: Lab, sheet: browser.Sheet) -> None:
    code = notebook_of(*BROKEN.values(), MOVED) + WIDGETS.format(codes=list(SCRIPTS.values()))
    notebook = run(lab, sheet, "broken.ipynb", code)
    told = [each.replace("%20", " ") for each in notebook.problems()]
    assert [name for name in BROKEN if not any(f"ZeroDivisionError: {name}" in each for each in told)] == []
    assert [name for name in SCRIPTS if not any(f"broken {name}" in each for each in told)] == []
    assert not any("moved" in each for each in told)
    notebook.page.focus(".moved .noUi-handle")
    notebook.page.keyboard.press("Home")
    notebook.page.wait_for_timeout(1000)
    assert any("ZeroDivisionError: moved" in each for each in notebook.problems())
    notebook.close()


#: An explorer with all that can be wrong with one.
CARELESS = """# %%
import anywidget
import ipywidgets
import numpy as np
import traitlets


class Careless(anywidget.AnyWidget):
    _esm = '''
    export default { render({ model, el }) {
      const canvas = document.createElement("canvas");
      Object.assign(canvas, { width: 8, height: 8 });
      Object.assign(canvas.dataset, { panel: "pictures", paints: 0 });
      canvas.style.cssText = "display: block; width: 80px; height: 80px";
      const context = canvas.getContext("2d");
      function paint() {
        for (let x = 0; x < 8; x++) for (let y = 0; y < 8; y++) {
          const level = Math.round(model.get("value")) + 8 * x + y + 2;
          context.fillStyle = `rgb(${level}, ${level}, ${level})`;
          context.fillRect(x, y, 1, 1);
        }
        canvas.dataset.paints++;
      }
      paint();
      const words = document.createElement("div");
      words.textContent = "faint";
      words.style.color = "color-mix(in srgb, white 50%, silver)";
      el.append(canvas, words);
      window.hoard = [];
      model.on("change:value", () => {
        context.clearRect(0, 0, 8, 8);
        canvas.style.height = `${80 + Math.round(model.get("value")) % 5}px`;
        window.hoard.push(Array.from({ length: 200000 }, (_, i) => i + 0.5));
        setTimeout(paint, 50);
      });
    } };'''
    value = traitlets.Float(0).tag(sync=True)


class Box(ipywidgets.VBox):
    def values(self):
        return {"level": self.slider.value}

    def view(self, level):
        return {"pictures": np.uint8(level + 8 * np.arange(8)[None, :] + np.arange(8)[:, None])}


slider, careless = ipywidgets.IntSlider(0, min=0, max=100, description="level"), Careless()
joint = ipywidgets.link((slider, "value"), (careless, "value"))
box = Box([slider, careless])
box.slider, box.controls = slider, {"level": slider}
box.add_class("course-explorer")
box
"""


@pytest.mark.browser
@pytest.mark.slow
def test_what_is_wrong_with_an_explorer_is_found(lab: Lab, sheet: browser.Sheet) -> None:
    notebook = run(lab, sheet, "careless.ipynb", CARELESS)
    (explorer,) = notebook.explorers()
    oracle = Oracle(notebook, explorer, "careless")
    explorer.show()
    explorer.press(0, "Home", "ArrowRight")
    explorer.page.wait_for_timeout(500)
    found = {
        "off by up to 2 levels": judge_by(oracle)(explorer.state()),
        "has no name": name_problems(explorer),
        "empty canvas": (flickering := flicker_problems(explorer)),
        "sizes change": flickering,
        "End without a kernel: pictures is off by up to 98": problems_without_kernel(notebook, explorer, oracle),
        "IntSlider to Careless": notebook.kernel.ask("joined_in_python()"),
        "1000 moves took": memory_problems(explorer),
        "'faint' has a contrast of": faint(explorer),
    }
    assert {words: told for words, told in found.items() if words not in " ".join(told)} == {}
    assert notebook.problems() == [], "nothing of this is an error that a console would show"
    notebook.close()


METER = """
<canvas id="target" width="16" height="16"></canvas>
<script>
  const context = document.getElementById("target").getContext("2d");
  let number = 0;
  window.paint = () => {
    number++;
    for (let x = 0; x < 16; x++) {
      context.fillStyle = `rgb(${9 * x}, ${(40 * number) % 256}, 0)`;
      context.fillRect(x, 0, 1, 16);
    }
  };
  window.empty = () => context.clearRect(0, 0, 16, 16);
  paint();
  window.addEventListener("keydown", (event) => {
    if (event.key === "a") paint();
    if (event.key === "b") setTimeout(paint, 60);
    if (event.key === "c") requestAnimationFrame(paint);
  });
</script>
"""


@pytest.mark.browser
@pytest.mark.slow
def test_meter_measures_what_it_should(chromium: Any) -> None:
    sheet = browser.new_sheet(chromium, browser.is_local)
    page = sheet.page
    page.goto("data:text/html,<p>meter")
    page.set_content(METER)
    assert browser.at_rest(page, "#target")

    def took(key: str, limit: float = 10.0) -> float | None:
        return browser.time_to_pixels(page, "#target", lambda: page.keyboard.press(key), limit)

    for key, shortest, longest in (("a", 0, 35), ("c", 0, 50), ("b", 60, 110)):
        answers = [each for _ in range(7) if (each := took(key)) is not None]
        assert len(answers) == 7 and shortest <= min(answers) and sorted(answers)[3] < longest, f"{key}: {answers}"
    assert took("x", 0.3) is None

    page.evaluate("probe.count('#target', 500); [paint, empty, paint].map((act, i) => setTimeout(act, 100 + 100 * i))")
    counted = page.evaluate("probe.counted()")
    assert counted["painted"] == 2 and 3 <= counted["blank"] < counted["frames"]
    assert sheet.errors == []
    sheet.close()
