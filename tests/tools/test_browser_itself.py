"""Are the tests in a browser any good? Notebooks broken on purpose have to be caught, and traps found in the code."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import browser
import notebooks
from explorers import Explorer
from helpers_broken import BROKEN, HEALTHY, notebook_of
from helpers_faults import faint, flicker_problems, memory_problems, name_problems, problems_without_kernel
from helpers_hands import SOON, Oracle, judge_by, press_through, settled
from lab import Lab, Notebook

ROOT = Path(__file__).resolve().parents[2]


# ------------------------------------------------------------------------------------- traps that are read in the code


def traps(code: str) -> list[str]:
    """Calls that are known to crash or to flicker."""
    found = []
    for call in [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        given = {keyword.arg for keyword in call.keywords}
        if name == "Image" and "tooltip" in given:
            found.append(f"line {call.lineno}: Image(tooltip=...) crashes ipywidgets 8.1.9")
        if name == "clear_output" and "wait" not in given and not call.args:
            found.append(f"line {call.lineno}: clear_output without wait flickers")
        if name == "link" and len(call.args) == 2 and isinstance(call.args[0], ast.Tuple):
            found.append(f"line {call.lineno}: link sends every move through the kernel, jslink does not")
    return found


def test_known_traps_are_not_in_the_code() -> None:
    folders = ("course_lib", "notebooks/py", "figures", "tools")
    found = {
        path: traps(path.read_text(encoding="utf-8")) for folder in folders for path in (ROOT / folder).rglob("*.py")
    }
    assert len(found) > 30 and {path: wrong for path, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    "code",
    ["w.Image(value=b'',\n tooltip='x')", "out.clear_output()", "clear_output()", "w.link((a, 'value'), (b, 'value'))"],
)
def test_known_traps_would_be_found(code: str) -> None:
    assert len(traps(code)) == 1


# --------------------------------------------------------------------------------- are the tests themselves any good?

WIDGET = """# %%
import time

import anywidget
import traitlets

CODE = {codes!r}


class Broken(anywidget.AnyWidget):
    value = traitlets.Int(0).tag(sync=True)


shown = [type("Broken", (Broken,), {{"_esm": code}})() for code in CODE]
display(*shown)

# %%
time.sleep(1.5)
for each in shown:
    each.value = 1
"""
SCRIPTS = {
    "on import": 'throw new Error("broken on import");',
    "in render": 'export default { render() { throw new Error("broken in render"); } };',
    "on change": """
export default { render({ model, el }) {
  el.textContent = "here";
  model.on("change:value", () => { throw new Error("broken on change"); });
} };""",
    "later": """
export default { render({ el }) {
  el.textContent = "here";
  setTimeout(() => { throw new Error("broken later"); }, 50);
} };""",
    "from elsewhere": """
export default { render({ el }) {
  el.textContent = "here";
  fetch("https://example.org/broken from elsewhere").catch(() => {});
} };""",
}
GOOD = 'export default { render({ model, el }) { model.on("change:value", () => { el.textContent = "changed"; }); } };'


@pytest.fixture(scope="module")
def bench(lab: Lab, chromium: Any) -> Iterator[Callable[[str], Notebook]]:
    """Opens a notebook from its text, one after the other in one page, and runs it."""
    sheets: list[browser.Sheet] = []
    notebook: Notebook | None = None

    def put(text: str) -> Notebook:
        nonlocal notebook
        name = f"broken_{time.monotonic_ns()}.ipynb"
        (lab.folder / name).write_text(notebooks.to_notebook(text), encoding="utf-8")
        if notebook is None:
            sheets.append(browser.new_sheet(chromium, browser.is_local))
            notebook = Notebook(lab, sheets[0], name)
        else:
            notebook.close()
            sheets[0].errors.clear()
            sheets[0].refused.clear()
            notebook = Notebook(lab, sheets[0], name, fresh=False)
        notebook.run(60)
        notebook.page.wait_for_timeout(500)
        return notebook

    yield put
    if notebook is not None:
        notebook.close()
    for sheet in sheets:
        sheet.close()


@pytest.mark.browser
@pytest.mark.slow
def test_broken_python_is_caught(bench: Callable[[str], Notebook]) -> None:
    problems = bench(notebook_of(*BROKEN.values())).problems()
    assert [name for name in BROKEN if not any(f"ZeroDivisionError: {name}" in each for each in problems)] == []


@pytest.mark.browser
@pytest.mark.slow
def test_broken_javascript_is_caught(bench: Callable[[str], Notebook]) -> None:
    problems = bench(WIDGET.format(codes=list(SCRIPTS.values()))).problems()
    told = [each.replace("%20", " ") for each in problems]
    assert [name for name in SCRIPTS if not any(f"broken {name}" in each for each in told)] == []


@pytest.mark.browser
@pytest.mark.slow
def test_callback_that_fails_when_a_slider_is_moved_is_caught(bench: Callable[[str], Notebook]) -> None:
    code = "s = w.IntSlider(1)\ns.observe(lambda change: fail(change['new']), 'value')\ns"
    notebook = bench(notebook_of(code))
    assert notebook.problems() == []
    handle = notebook.page.wait_for_selector(".noUi-handle")
    assert handle is not None
    handle.focus()
    notebook.page.keyboard.press("Home")
    notebook.page.wait_for_timeout(1000)
    assert any("ZeroDivisionError" in problem for problem in notebook.problems())


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("text", [notebook_of(HEALTHY), WIDGET.format(codes=[GOOD])], ids=["python", "javascript"])
def test_sound_notebooks_are_let_through(bench: Callable[[str], Notebook], text: str) -> None:
    assert bench(text).problems() == []


#: An explorer with all that can be wrong with one, and, with `good`, the same without.
CARELESS = """# %%
import anywidget
import ipywidgets
import numpy as np
import traitlets


class Careless(anywidget.AnyWidget):
    _esm = '''
    export default {{ render({{ model, el }}) {{
      const good = model.get("good");
      const canvas = document.createElement("canvas");
      Object.assign(canvas, {{ width: 8, height: 8 }});
      Object.assign(canvas.dataset, {{ panel: "pictures", paints: 0 }});
      if (good) {{ canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", "squares"); }}
      canvas.style.cssText = "display: block; width: 80px; height: 80px";
      const context = canvas.getContext("2d");
      function paint() {{
        for (let x = 0; x < 8; x++) for (let y = 0; y < 8; y++) {{
          const level = Math.round(model.get("value")) + 8 * x + y + (good ? 0 : 2);
          context.fillStyle = `rgb(${{level}}, ${{level}}, ${{level}})`;
          context.fillRect(x, y, 1, 1);
        }}
        canvas.dataset.paints++;
      }}
      paint();
      const words = document.createElement("div");
      words.textContent = "faint or not";
      words.style.color = good ? "inherit" : "color-mix(in srgb, white 50%, silver)";
      el.append(canvas, words);
      window.hoard = [];
      model.on("change:value", () => {{
        if (good) return paint();
        context.clearRect(0, 0, 8, 8);
        canvas.style.height = `${{80 + Math.round(model.get("value")) % 5}}px`;
        window.hoard.push(Array.from({{ length: 200000 }}, (_, i) => i + 0.5));
        setTimeout(paint, 50);
      }});
      const range = document.createElement("input");
      range.type = "range";
      range.className = "native";
      if (good) range.dataset.lmSuppressShortcuts = "true";
      el.append(range);
      const handle = () => el.closest(".course-explorer")?.querySelector(".noUi-handle");
      const name = () => handle()?.setAttribute("aria-label", "level");
      if (good) {{ range.setAttribute("aria-label", "another"); setTimeout(name, 200); }}
    }} }};'''
    value = traitlets.Float(0).tag(sync=True)
    good = traitlets.Bool(False).tag(sync=True)


class Box(ipywidgets.VBox):
    def values(self):
        return {{"level": self.slider.value}}

    def view(self, level):
        return {{"pictures": np.uint8(level + 8 * np.arange(8)[None, :] + np.arange(8)[:, None])}}


slider = ipywidgets.IntSlider(0, min=0, max=100, description="level")
careless = Careless(good={good})
{join}((slider, "value"), (careless, "value"))
box = Box([slider, careless])
box.slider, box.controls = slider, {{"level": slider}}
box.add_class("course-explorer")
box
"""


def keys_stolen(explorer: Explorer) -> bool:
    """Whether arrow keys on the browser's own slider inside an output move the notebook's selection instead."""
    page = explorer.page
    page.focus("input.native")
    before = page.evaluate("probe.selection"), page.input_value("input.native")
    page.keyboard.press("ArrowUp")
    page.wait_for_timeout(200)
    after = page.evaluate("probe.selection"), page.input_value("input.native")
    return bool(after[0] != before[0] or after[1] == before[1])


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["good", "linked in Python", "careless"])
def test_what_is_wrong_with_an_explorer_is_found(bench: Callable[[str], Notebook], kind: str) -> None:
    join = "ipywidgets.jslink" if kind == "good" else "ipywidgets.link"
    above = "# %% [markdown]\n# # Above\n\n# %% [markdown]\n# Above, too\n\n"  # for stolen keys to go to
    notebook = bench(above + CARELESS.format(good=kind != "careless", join=join))
    (explorer,) = notebook.explorers()
    oracle = Oracle(notebook, explorer, kind)
    explorer.show()
    explorer.press(0, "Home", "ArrowRight")
    explorer.page.wait_for_timeout(500)
    found = {
        "pixels": judge_by(oracle)(explorer.state()),
        "names": name_problems(explorer),
        "flicker": flicker_problems(explorer),
        "kernel": problems_without_kernel(notebook, explorer, oracle),
        "joined": notebook.kernel.ask("joined_in_python()"),
        "keys": ["stolen"] * keys_stolen(explorer),
        "memory": memory_problems([explorer]),
        "contrast": faint(explorer),
    }
    caught = {name for name, problems in found.items() if problems}
    if kind == "good":
        assert found == {name: [] for name in found}
        assert press_through(explorer, 0, partial(settled, explorer, judge_by(oracle), SOON)) == ([], True)
    elif kind == "linked in Python":
        assert caught == {"kernel", "joined"}, found
        assert any("without a kernel" in problem for problem in found["kernel"])
    else:
        assert caught == set(found), found
        assert any("off by up to 2 levels" in problem for problem in found["pixels"])
        assert any("empty canvas" in problem for problem in found["flicker"])
        assert any("sizes change" in problem for problem in found["flicker"])
    assert notebook.problems() == [], "nothing of this is an error that a console would show"


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
    try:
        page = sheet.page
        page.goto("data:text/html,<p>meter")
        page.set_content(METER)
        assert browser.at_rest(page, "#target")

        def took(key: str) -> list[float]:
            answers = [browser.time_to_pixels(page, "#target", lambda: page.keyboard.press(key)) for _ in range(7)]
            return sorted(answer for answer in answers if answer is not None)

        at_once, later, in_a_frame = took("a"), took("b"), took("c")
        assert len(at_once) == len(later) == len(in_a_frame) == 7
        assert at_once[0] < 17 and at_once[3] < 35
        assert in_a_frame[0] < 34 and in_a_frame[3] < 50
        assert later[0] >= 60 and later[3] < 110
        assert browser.time_to_pixels(page, "#target", lambda: page.keyboard.press("x"), limit=0.3) is None

        page.evaluate("probe.count('#target', 1000); setTimeout(paint, 100); setTimeout(paint, 500); null")
        assert page.evaluate("probe.counted()")["painted"] == 2
        page.evaluate("probe.count('#target', 1000); setTimeout(empty, 100); setTimeout(paint, 400); null")
        counted = page.evaluate("probe.counted()")
        assert counted["painted"] == 1 and 3 <= counted["blank"] < counted["frames"]
        assert sheet.errors == []
    finally:
        sheet.close()
