"""Every notebook in a real JupyterLab and a real browser, every slider by keyboard and mouse, held against Python.

What no other test sees: errors of JavaScript, errors inside widgets, what is really painted, and when. Each notebook
is opened once and run in full; the tests of one notebook share its page. Then the same for the site that
`make html` writes, where nothing but files may be opened and there is no kernel. At the end the tests are tested:
notebooks broken on purpose, which have to be caught.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from test_notebooks import BROKEN, HEALTHY, START

import browser as tools
import handouts
import notebooks
from browser import Explorer, Lab, Notebook, State
from course_lib.checks import BY_NOTEBOOK, CORRECT

ROOT = Path(__file__).resolve().parents[2]
NAMES = [path.stem for path, _ in notebooks.pairs()]
MAKERS = re.compile(r"(\w+_explorer|trajectory_player|noise_gauge)")


def calls(path: Path) -> list[tuple[str, str]]:
    """The explorers that a notebook shows, from top to bottom: the function's name, and the call in full."""
    found = []
    for cell in notebooks.read(path).cells:
        if cell.cell_type == "code" and "widgets." in cell.source:
            for line in ast.parse(cell.source).body:
                call = line.value if isinstance(line, ast.Expr) else None
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Attribute)
                    and MAKERS.fullmatch(call.func.attr)
                ):
                    found.append((call.func.attr, str(ast.get_source_segment(cell.source, call))))
    return found


def text_of(name: str) -> str:
    """All code of a notebook."""
    cells = notebooks.read(ROOT / "notebooks" / f"{name}.ipynb").cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


CALLS = {path.stem: calls(path) for _, path in notebooks.pairs()}
SHOWN = {name: [maker for maker, _ in found] for name, found in CALLS.items()}
#: Panels that show a forward pass, of a network that most notebooks train themselves, for as long as they have time.
NETWORK = {"x0_hat_explorer": ("x0_hat", "text")}
#: Seconds until a page shows what it should, on a busy machine: frames without a network, some passes with one.
SOON, PATIENT = 3.0, 30.0
SCREENSHOTS = os.environ.get("COURSE_SCREENSHOTS")


# ------------------------------------------------------------------------------------------------- browser and server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser. Where a machine has none the tests are skipped with what is missing; in CI they fail."""
    lack = tools.missing()
    if lack is not None and os.environ.get("CI") == "true":
        pytest.fail(lack)
    if lack is not None:
        pytest.skip(lack)
    with tools.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def lab(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab on copies with every exercise done; tools/notebooks.py runs them with nothing done."""
    folder = tmp_path_factory.mktemp("course")
    handouts.write(folder, solved=True)
    shutil.copytree(ROOT / "figures", folder / "figures", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    with tools.jupyterlab(folder) as server:
        yield server


@dataclass
class Opened:
    """A notebook that was run, and what went wrong until then."""

    name: str
    notebook: Notebook
    problems: list[str]

    @property
    def page(self) -> Any:
        return self.notebook.page

    def explorers(self) -> list[tuple[str, Explorer]]:
        """Name of the function that made it, and explorer."""
        found, makers = self.notebook.explorers(), SHOWN[self.name]
        assert len(found) == len(makers), f"the page shows {len(found)} explorers, the notebook makes {len(makers)}"
        return list(zip(makers, found, strict=True))


@pytest.fixture(scope="module", params=NAMES)
def opened(request: pytest.FixtureRequest, chromium: Any, lab: Lab) -> Iterator[Opened]:
    """Each notebook in turn, run once for all tests."""
    sheet = tools.new_sheet(chromium, tools.is_local)
    notebook = Notebook(lab, sheet, f"notebooks/{request.param}.ipynb")
    try:
        notebook.run()
        yield Opened(request.param, notebook, notebook.problems())
    finally:
        notebook.close()
        sheet.close()


# -------------------------------------------------------------------------------------------------- what Python says


def key_of(values: Mapping[str, Any]) -> str:
    """The same for 0.3 and 0.30000000000000004, for 1 and 1.0."""
    plain = {name: round(float(value), 6) if type(value) in (int, float) else value for name, value in values.items()}
    return json.dumps(plain, sort_keys=True)


class Oracle:
    """What an explorer must show by Python, asked once for each position and remembered."""

    def __init__(self, notebook: Notebook, explorer: Explorer, maker: str) -> None:
        self.maker, self.about = maker, explorer.about
        self.known: dict[str, dict[str, Any]] = {}
        self._ask = partial(notebook.views, explorer)

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        if key_of(values) not in self.known:
            self.known[key_of(values)] = self._ask([values])[0]
        return self.known[key_of(values)]


#: What Python said while JupyterLab was open, for the site: name of the notebook to its explorers.
RECORDED: dict[str, list[Oracle]] = {}

#: Tells what is wrong with what an explorer shows.
Judge = Callable[[State], list[str]]


def judge_by(oracle: Oracle) -> Judge:
    """A judge who wants the pixels and words of Python, to one grey level."""
    return lambda state: tools.differences(state, oracle(state.values))


def settled(explorer: Explorer, judge: Judge, limit: float, what: str) -> State:
    """Wait until an explorer shows what it should, and fail with the difference where it never does."""
    deadline = time.monotonic() + limit
    while True:
        state = explorer.state()
        wrong = judge(state) + ["it says that it is at work"] * state.busy
        if not wrong:
            return state
        if time.monotonic() > deadline:
            pytest.fail(f"{what}, at {state.values}: {'; '.join(wrong)}")
        explorer.page.wait_for_timeout(15)


# ------------------------------------------------------------------------------------------------------ hands and keys

Look = Callable[[str], State]


def stops(control: Mapping[str, Any]) -> dict[str, float]:
    """Where each of these keys, pressed in this order, must take a slider."""
    low, high, step = control["low"], control["high"], control["step"]
    return {
        "Home": low,
        "ArrowRight": min(high, low + step),
        "PageUp": min(high, low + 6 * step),
        "ArrowUp": min(high, low + 7 * step),
        "End": high,
        "ArrowLeft": max(low, high - step),
        "PageDown": max(low, high - 6 * step),
        "ArrowDown": max(low, high - 7 * step),
    }


def press_through(explorer: Explorer, number: int, look: Look) -> tuple[list[str], bool]:
    """Press every key on a slider. What is wrong, and whether anything but the slider changed from end to end."""
    control, page, wrong, seen = explorer.about[number], explorer.page, [], {}
    explorer.handle(number).focus()
    selection = page.evaluate("probe.selection")
    for key, wanted in stops(control).items():
        page.keyboard.press(key)
        seen[key] = look(f"{control['name']} after {key}")
        if abs(seen[key].raw[number] - wanted) > 1e-6 * control["step"]:
            wrong.append(f"{key} took {control['name']} to {seen[key].raw[number]} in place of {wanted}")
    if page.evaluate("probe.selection") != selection:
        wrong.append(
            f"keys on {control['name']} moved the notebook from {selection} to {page.evaluate('probe.selection')}"
        )
    return wrong, shown_by(seen["Home"]) != shown_by(seen["End"])


def drag_through(explorer: Explorer, number: int, look: Look) -> list[str]:
    """Drag a slider here and there. What is wrong."""
    control, wrong = explorer.about[number], []
    reach = control["high"] - control["low"]
    for to in (0.35, 0.8):
        before = explorer.state(False).raw[number]
        explorer.drag(number, to)
        after = look(f"{control['name']} dragged to {to:.0%}").raw[number]
        slack = 1.5 * control["step"] + 4 * reach / explorer.track(number)[3]
        if after == before or abs(after - control["low"] - to * reach) > slack:
            wrong.append(f"{control['name']} dragged to {to:.0%} went from {before} to {after}")
    return wrong


def shown_by(state: State) -> tuple[Any, ...]:
    """All that an explorer shows, without the controls."""
    return {name: each.tobytes() for name, each in state.pictures.items()}, state.texts, state.drawings


def choose(explorer: Explorer, number: int, option: int) -> None:
    """Press the button, or take the line of a menu; every second one by keyboard."""
    element, by_key = explorer.controls()[number], option % 2
    if explorer.about[number]["kind"] == "menu":
        menu = element.query_selector("select")  # its arrow keys are JupyterLab's, too
        assert menu is not None
        if by_key and sys.platform != "darwin":  # where keys open the menu
            menu.focus()
            menu.press("Home")
            for _ in range(option):
                menu.press("ArrowDown")
        else:
            menu.select_option(index=option)
        return
    button = element.query_selector_all("button")[option]
    press_button(button, by_key=bool(by_key))


def press_button(button: Any, *, by_key: bool) -> None:
    """With the mouse, or with the space bar."""
    if by_key:
        button.focus()
        button.press("Space")
    else:
        button.click()


def taken(explorer: Explorer, number: int, option: int, state: State) -> list[str]:
    """What is wrong after a button was pressed, or a line of a menu taken."""
    control = explorer.about[number]
    wrong = [] if state.raw[number] == option else [f"option {option} of {control['name']} was not taken"]
    if control["kind"] == "choice":
        buttons = explorer.controls()[number].query_selector_all("button")
        told = [each.get_attribute("aria-pressed") for each in buttons]
        if told != [str(i == option).lower() for i in range(len(buttons))]:
            wrong.append(f"buttons of {control['name']} are told as {told}, and option {option} is pressed")
    return wrong


def use_everything(explorer: Explorer, look: Look) -> list[str]:
    """Move, press and play all that an explorer has, and look after each move. What is wrong.

    Every slider is moved for every choice that its first buttons or menu offer, as far as it is then shown.
    """
    wrong, moved, about = [], set(), explorer.about
    look("at first")
    choices = [number for number, control in enumerate(about) if control["kind"] in ("choice", "menu")]
    for option in range(about[choices[0]]["high"] + 1) if choices else [-1]:
        if choices:
            choose(explorer, choices[0], option)
            wrong += taken(explorer, choices[0], option, look(f"option {option}"))
        visible = explorer.state(False).visible
        for number, control in enumerate(about):
            if control["kind"] == "slider" and visible[number]:
                more, changed = press_through(explorer, number, look)
                wrong += more + drag_through(explorer, number, look)
                if changed or control["name"] is None:  # without a name: such as the speed of a player
                    moved.add(number)
    still = [control["name"] for n, control in enumerate(about) if control["kind"] == "slider" and n not in moved]
    wrong += [f"slider {name} changes nothing, or is never shown" for name in still]
    for number, control in enumerate(about):
        if control["kind"] in ("choice", "menu") and number != choices[0]:
            for option in range(control["high"] + 1):
                choose(explorer, number, option)
                wrong += taken(explorer, number, option, look(f"option {option} of {control['name']}"))
        elif control["kind"] == "tick":
            wrong += tick_through(explorer, number, look)
        elif control["kind"] == "player":
            wrong += play_through(explorer, number, look)
    return wrong + step_through(explorer, look) + point_through(explorer)


def point_through(explorer: Explorer) -> list[str]:
    """Drawings that take keys of their own. What is wrong."""
    page, wrong = explorer.page, []
    for drawing in explorer.element.query_selector_all("svg[tabindex='0']"):
        drawing.focus()
        selection = page.evaluate("probe.selection")
        for key in ("ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft"):
            page.keyboard.press(key)
        if page.evaluate("probe.selection") != selection:
            wrong.append(f"keys on a drawing moved the notebook from {selection}")
    return wrong


def tick_through(explorer: Explorer, number: int, look: Look) -> list[str]:
    """A box by keyboard and by mouse. What is wrong."""
    box = explorer.controls()[number].query_selector("input")
    assert box is not None
    name, seen = explorer.about[number]["name"], [look("before the box")]
    for by_key in (True, False):
        press_button(box, by_key=by_key)
        seen.append(look(f"{name} pressed"))
    wrong = [f"{name} was not taken"] * (seen[1].raw[number] == seen[0].raw[number])
    wrong += [f"{name} was not taken back"] * (seen[2].raw[number] != seen[0].raw[number])
    return wrong + [f"{name} changes nothing"] * (shown_by(seen[1]) == shown_by(seen[0]))


def play_through(explorer: Explorer, number: int, look: Look, limit: float = 10.0) -> list[str]:
    """Play, pause, and stop. What is wrong."""
    buttons = explorer.controls()[number].query_selector_all("button")
    slider = next(n for n, control in enumerate(explorer.about) if control["kind"] == "slider" and control["name"])
    buttons[1].click()
    first = look("stopped")
    buttons[0].click()
    deadline = time.monotonic() + limit
    while explorer.state(False).raw[slider] < first.raw[slider] + 2 * explorer.about[slider]["step"]:
        if time.monotonic() > deadline:
            return [f"play took {explorer.about[slider]['name']} from {first.raw[slider]} nowhere in {limit:.0f} s"]
        explorer.page.wait_for_timeout(20)
    press_button(buttons[0], by_key=True)
    paused = look("paused")
    explorer.page.wait_for_timeout(500)
    still = look("paused for a while")
    buttons[1].click()
    back = look("stopped again")
    wrong = ["what is paused plays on"] * (still.raw[slider] != paused.raw[slider])
    wrong += ["nothing changed while it played"] * (shown_by(paused) == shown_by(first))
    return wrong + ["stop does not go back to the start"] * (back.raw[slider] != first.raw[slider])


def step_through(explorer: Explorer, look: Look) -> list[str]:
    """The buttons inside a canvas: one position back, one on. What is wrong."""
    buttons, wrong = explorer.element.query_selector_all(".course-canvas button"), []
    if buttons:
        slider = next(n for n, control in enumerate(explorer.about) if control["kind"] == "slider")
        explorer.press(slider, "Home", "ArrowRight", "ArrowRight")
        look("third position")
        taken = []
        for button in buttons:
            for by_key in (False, True):
                before = explorer.state(False).raw[slider]
                press_button(button, by_key=by_key)
                taken.append(look("a button of the canvas").raw[slider] - before)
        step = explorer.about[slider]["step"]
        if taken != [-step, -step, step, step]:
            wrong.append(f"the buttons back and on went by {taken}")
    return wrong


# -------------------------------------------------------------------------------------------- what must not be wrong


def name_problems(explorer: Explorer) -> list[str]:
    """What a screen reader could not tell apart, or not tell at all."""
    explorer.show()  # what is out of sight is not told
    told = explorer.names()
    wrong = [f"a {role} has no name" for role, name in told if not name]
    sliders = [name for role, name in told if role == "slider" and name]
    wrong += [f"{len(sliders)} sliders share the names {sorted(set(sliders))}"] * (len(set(sliders)) < len(sliders))
    number = sum(control["kind"] == "slider" for control in explorer.about)
    visible = explorer.state(False).visible
    hidden = sum(
        control["kind"] == "slider" and not seen for control, seen in zip(explorer.about, visible, strict=True)
    )
    if sum(role == "slider" for role, _ in told) < number - hidden:
        wrong.append(f"a screen reader finds {told}, and {number - hidden} sliders are shown")
    for number, (control, seen) in enumerate(zip(explorer.about, visible, strict=True)):
        if control["kind"] == "slider" and seen:
            explorer.press(number, "End")
            slider = explorer.controls()[number]
            explorer.page.wait_for_timeout(100)
            said, shown = slider.evaluate(
                "slider => [slider.querySelector('.noUi-handle').getAttribute('aria-valuetext'),"
                " slider.querySelector('.widget-readout').textContent]"
            )
            wrong += [f"{control['name']} says {said!r}, and {shown!r} stands beside it"] * (said != shown)
    return wrong


def flicker_problems(explorer: Explorer) -> list[str]:
    """What a reader would see flicker or jump while the first slider is dragged from end to end."""
    number = next(n for n, control in enumerate(explorer.about) if control["kind"] == "slider")
    explorer.press(number, "Home")
    explorer.page.wait_for_timeout(100)
    explorer.element.evaluate("element => probe.watch(element)")
    explorer.drag(number, 1.0, moves=60)
    explorer.page.wait_for_timeout(200)
    notes = explorer.page.evaluate("probe.unwatch()")
    assert notes["frames"] >= 20, f"only {notes['frames']} frames were drawn while a slider was dragged"
    wrong = [f"{notes['blank']} of {notes['frames']} frames show an empty canvas"] * (notes["blank"] > 0)
    canvases = len(explorer.state(False).names)
    wrong += [f"sizes change: {notes['sizes']}"] * (len(notes["sizes"]) != 1 + canvases)
    return wrong + ["no canvas was painted"] * (canvases > 0 and notes["paints"] < 2)


def memory_problems(explorers: list[Explorer], moves: int = 1000) -> list[str]:
    """What a page keeps of so many moves of each slider.

    The keyboard stays in one cell meanwhile: JupyterLab itself keeps some hundred nodes whenever another cell gets it.
    """
    page, wrong = explorers[0].page, []
    for explorer in explorers:
        number = next(n for n, control in enumerate(explorer.about) if control["kind"] == "slider")
        explorer.press(number, "Home")

        def move(times: int, explorer: Explorer = explorer, number: int = number) -> dict[str, float]:
            explorer.handle(number).evaluate("(handle, times) => probe.shake(handle, times)", times)
            page.wait_for_timeout(500)
            return tools.memory(page)

        before = move(200)
        after = move(moves)
        grown = {name: after[name] - before[name] for name in before}
        wrong += [f"{moves} moves took {grown['bytes']:,} bytes that are not given back"] * (grown["bytes"] > 2e6)
        wrong += [
            f"{moves} moves left {grown[name]} {name}" for name in ("nodes", "listeners") if grown[name] > moves / 10
        ]
    return wrong


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """While this lasts, a process does not run."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def problems_without_kernel(opened: Notebook, explorer: Explorer, oracle: Oracle) -> list[str]:
    """What fails while the kernel cannot answer: first busy with a cell, then as good as dead."""
    number = next(n for n, control in enumerate(explorer.about) if control["kind"] == "slider")
    control, judge = explorer.about[number], judge_by(oracle)
    explorer.press(number, "Home")
    values = settled(explorer, lambda state: [], SOON, "at rest").values
    for end in ("low", "high"):
        oracle(
            {
                **values,
                control["name"]: control[end] if control["options"] is None else control["options"][control[end]],
            }
        )
    wrong = []
    running = opened.kernel.start("import time; time.sleep(2)")
    for key in ("End", "Home"):
        explorer.press(number, key)
        wrong += late_problems(explorer, judge, f"{key} while a cell runs")
    wrong += ["the cell did not run long enough for this test"] * opened.kernel.done(running)
    opened.kernel.wait(running)
    pid = opened.kernel.ask("pid()")
    with frozen(pid):
        for key in ("End", "Home"):
            explorer.press(number, key)
            wrong += late_problems(explorer, judge, f"{key} without a kernel")
    opened.kernel.ask("pid()")
    return wrong


def late_problems(explorer: Explorer, judge: Judge, what: str, limit: float = 0.5) -> list[str]:
    """What is wrong half a second after a move."""
    deadline = time.monotonic() + limit
    while True:
        wrong = judge(explorer.state())
        if not wrong or time.monotonic() > deadline:
            return [f"{what}: {each}" for each in wrong]
        explorer.page.wait_for_timeout(15)


# ---------------------------------------------------------------------------------------------- notebooks in JupyterLab


@pytest.mark.browser
@pytest.mark.slow
class TestNotebook:
    """All tests of one open notebook."""

    def test_runs_without_an_error_anywhere(self, opened: Opened) -> None:
        assert opened.problems == []
        assert opened.notebook.kernel.ask("waits_passively()"), "OpenMP's threads spin, which can stall a slider"

    def test_every_exercise_is_done(self, opened: Opened) -> None:
        wanted = {name: CORRECT for name in BY_NOTEBOOK[opened.name[:2]]}
        assert wanted and opened.notebook.kernel.ask("results()") == wanted

    def test_first_picture_comes_at_once(self, opened: Opened) -> None:
        for maker, call in CALLS[opened.name]:
            took: list[float] = []
            while not took or (min(took) >= 300 and len(took) < 3):  # other programs only ever add to it
                milliseconds = opened.page.evaluate("code => probe.lab.firstPicture(code)", call)
                assert milliseconds is not None, f"{maker} shows nothing"
                took.append(milliseconds)
            assert min(took) < 300, f"{maker} shows its first picture after {took} ms"
        assert opened.notebook.problems() == []

    def test_everything_moves_and_shows_what_python_computes(self, opened: Opened) -> None:
        RECORDED[opened.name], wrong = [], []
        for maker, explorer in opened.explorers():
            oracle = Oracle(opened.notebook, explorer, maker)
            explorer.show()
            look = partial(settled, explorer, judge_by(oracle), PATIENT if maker in NETWORK else SOON)
            wrong += [f"{maker}: {each}" for each in use_everything(explorer, look)]
            shown = look("at last").values
            wrong += [
                f"{maker}: Python has {told} in place of {shown}" for told in python_differs(opened, explorer, shown)
            ]
            for control in explorer.about if maker in NETWORK else ():  # the site keeps every so many timesteps
                every = max(1, control["high"] // 25)
                for value in stops({**control, "low": every, "step": every}).values():
                    oracle({control["name"]: value})
            RECORDED[opened.name].append(oracle)
        assert wrong == []
        assert opened.notebook.problems() == []

    def test_a_screen_reader_can_tell_all_controls(self, opened: Opened) -> None:
        for maker, explorer in opened.explorers():
            assert name_problems(explorer) == [], maker
        live = opened.page.evaluate("[...document.querySelectorAll('img.widget-image')].map((each) => each.title)")
        assert all(live) and len(live) >= (2 if "TrainingMonitor" in text_of(opened.name) else 0), live

    def test_nothing_flickers_or_jumps(self, opened: Opened) -> None:
        for maker, explorer in opened.explorers():
            explorer.show()
            assert flicker_problems(explorer) == [], maker

    def test_sliders_need_no_kernel(self, opened: Opened) -> None:
        assert opened.notebook.kernel.ask("joined_in_python()") == []
        for maker, explorer in opened.explorers():
            if maker not in NETWORK:
                oracle = Oracle(opened.notebook, explorer, maker)
                assert problems_without_kernel(opened.notebook, explorer, oracle) == [], maker

    def test_a_slider_with_a_network_never_queues(self, opened: Opened) -> None:
        for maker, explorer in opened.explorers():
            if maker in NETWORK:
                newest_wins(opened.notebook, explorer, Oracle(opened.notebook, explorer, maker))

    def test_a_slider_with_a_network_answers_soon(self, opened: Opened) -> None:
        for maker, explorer in opened.explorers():
            if maker in NETWORK:
                answers_soon(opened.notebook, explorer, NETWORK[maker][0])

    def test_saved_state_is_small(self, opened: Opened) -> None:
        for maker, explorer in opened.explorers():
            size = opened.notebook.kernel.ask(f"saved_bytes({explorer.id!r})")
            assert 1_000 < size <= 400_000, f"{maker} takes {size:,} bytes in a saved notebook"

    def test_memory_is_flat(self, opened: Opened) -> None:
        """Each kind of explorer in the notebook that shows it first."""
        before = [maker for name in NAMES[: NAMES.index(opened.name)] for maker in SHOWN[name]]
        explorers = list({maker: explorer for maker, explorer in opened.explorers() if maker not in before}.values())
        if explorers:
            explorers[0].show()
            assert memory_problems(explorers) == []

    def test_reads_in_dark_and_in_light(self, opened: Opened) -> None:
        for theme in (tools.DARK, tools.LIGHT):
            opened.page.evaluate("name => probe.lab.theme(name)", theme)
            opened.page.wait_for_timeout(500)
            for number, (maker, explorer) in enumerate(opened.explorers()):
                save_screenshot(explorer, f"{opened.name}_{number}_{maker}_{theme.split()[1].lower()}")
                assert faint(explorer) == [], f"{maker}, {theme}"

    def test_ends_without_an_error(self, opened: Opened) -> None:
        assert opened.notebook.problems() == []


def python_differs(opened: Opened, explorer: Explorer, shown: Mapping[str, Any], limit: float = 5.0) -> list[Any]:
    """What Python believes the controls to be, where it is not what the page shows after a while."""
    deadline = time.monotonic() + limit
    while True:
        told = opened.notebook.kernel.ask(f"values({explorer.id!r})")
        if key_of(told) == key_of(shown):
            return []
        if time.monotonic() > deadline:
            return [told]
        opened.page.wait_for_timeout(50)


def newest_wins(notebook: Notebook, explorer: Explorer, oracle: Oracle, seconds: float = 0.2) -> None:
    """Drag over 50 positions while a forward pass takes longer: few passes, one at a time, the last position shown."""
    (number,) = [n for n, control in enumerate(explorer.about) if control["kind"] == "slider"]
    explorer.show()
    explorer.press(number, "Home")
    settled(explorer, judge_by(oracle), PATIENT, "before the drag")
    usual = notebook.kernel.ask(f"seconds_of_view({explorer.id!r})")
    notebook.kernel.ask(f"slow({seconds})")
    explorer.element.evaluate("element => probe.watch(element)")
    begin = time.monotonic()
    explorer.drag(number, 0.62, moves=50)
    dragged = time.monotonic() - begin
    while True:
        explorer.page.wait_for_timeout(50)
        waited = time.monotonic() - begin - dragged
        if not explorer.state(False).busy or waited > PATIENT:
            break
    explorer.page.wait_for_timeout(int(3000 * (seconds + usual)))  # what waits in a queue would now be worked off
    notes, told = explorer.page.evaluate("probe.unwatch()"), notebook.kernel.ask("counts()")
    notebook.kernel.ask("fast()")
    allowed = dragged / seconds + 3
    assert 1 <= told["passes"] <= allowed, f"{told['passes']} passes in a drag of {dragged:.2f} s and what followed"
    assert told["most"] == 1, f"{told['most']} passes at one time"
    assert waited <= 2 * (seconds + usual) + 1, f"the last position was shown {waited:.2f} s after the drag"
    assert True in notes["busy"] and notes["busy"][-1] is False, f"busy was {notes['busy']}"
    assert notes["blank"] == 0
    settled(explorer, judge_by(oracle), PATIENT, "after the drag")


def answers_soon(notebook: Notebook, explorer: Explorer, panel: str, presses: int = 9) -> None:
    """From key to pixels: no more than one forward pass and 60 ms, in the median; the best of three rounds counts."""
    (number,) = [n for n, control in enumerate(explorer.about) if control["kind"] == "slider"]
    explorer.show()
    explorer.element.evaluate("element => element.setAttribute('data-measured', '')")
    selector = f'[data-measured] canvas[data-panel="{panel}"]'
    explorer.press(number, "End", *["PageDown"] * 5)
    rounds = []
    for _ in range(3):
        usual = 1000 * notebook.kernel.ask(f"seconds_of_view({explorer.id!r})")
        took = []
        for _ in range(presses):
            assert tools.at_rest(explorer.page, selector)
            answer = tools.time_to_pixels(explorer.page, selector, lambda: explorer.press(number, "ArrowLeft"))
            assert answer is not None, "no pixel changed in ten seconds"
            took.append(answer)
        rounds.append(statistics.median(took) - usual)
        if rounds[-1] <= 60:
            break
    explorer.element.evaluate("element => element.removeAttribute('data-measured')")
    assert min(rounds) <= 60, f"{[round(each) for each in rounds]} ms beyond a forward pass of {usual:.0f} ms"


def faint(explorer: Explorer) -> list[str]:
    """Texts that stand out too little from what they stand on (4.5 to 1, as WCAG asks)."""
    told = explorer.element.evaluate("element => probe.contrasts(element)")
    assert told, "an explorer without a word"
    return [f"{text!r} has a contrast of {ratio:.1f}" for ratio, text in told if ratio < 4.5]


def save_screenshot(explorer: Explorer, name: str) -> None:
    """At 40 % of its first slider, into the folder of COURSE_SCREENSHOTS, for people to look at."""
    explorer.show()
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        explorer.drag(next(n for n, control in enumerate(explorer.about) if control["kind"] == "slider"), 0.4)
        explorer.page.wait_for_timeout(1000)
        explorer.element.screenshot(path=Path(SCREENSHOTS) / f"{name}.png")


# ------------------------------------------------------------------------------------------------------------ the site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The course as web pages: the folder COURSE_SITE, or made of executed notebooks, which are run if need be."""
    if os.environ.get("COURSE_SITE"):
        return Path(os.environ["COURSE_SITE"]).resolve()
    import html_site

    if not html_site.is_fresh():
        assert notebooks.run([]) == []
    out = tmp_path_factory.mktemp("site") / "html"
    html_site.build(html_site.EXECUTED, out)
    return out


@dataclass
class SitePage:
    """A page of the site, open, and how long that took."""

    name: str
    sheet: tools.Sheet
    seconds: float
    oracles: list[Oracle]
    explorers: list[Explorer] = field(default_factory=list)


@pytest.fixture(scope="module", params=NAMES)
def site_page(request: pytest.FixtureRequest, chromium: Any, site: Path) -> Iterator[SitePage]:
    """Each page in turn, in a browser that opens nothing but files."""
    name = request.param
    if name not in RECORDED:
        pytest.skip("needs what Python said in JupyterLab: run the whole file")
    sheet = tools.new_sheet(chromium, tools.is_file)
    number = len(SHOWN[name])
    begin = time.monotonic()
    sheet.page.goto((site / f"{name}.html").as_uri(), wait_until="commit")
    sheet.page.wait_for_function(
        "number => { const all = [...document.querySelectorAll('.course-explorer')];"
        " return document.readyState === 'complete' && all.length === number && all.every(probe.painted); }",
        arg=number,
        polling="raf",
    )
    found = SitePage(name, sheet, time.monotonic() - begin, RECORDED[name])
    models = json.loads(
        sheet.page.evaluate(
            f"document.querySelector('script[type=\"{notebooks.WIDGET_STATE}\"]')?.textContent ?? '{{}}'"
        )
    )
    for element, oracle in zip(sheet.page.query_selector_all(".course-explorer"), found.oracles, strict=True):
        about = [dict(control) for control in oracle.about]
        for control in about if oracle.maker in NETWORK else ():  # fewer timesteps than with a kernel
            state = stored_slider(models.get("state", {}), oracle)
            control |= {"low": state["min"], "high": state["max"], "step": state["step"]}
        found.explorers.append(Explorer(sheet.page, element, about))
    try:
        yield found
    finally:
        sheet.close()


def stored_slider(models: Mapping[str, Any], oracle: Oracle) -> Mapping[str, Any]:
    """The one slider of a page with the largest value of an explorer's slider."""
    sliders = [model["state"] for model in models.values() if model["model_name"] == "IntSliderModel"]
    (found,) = [state for state in sliders if state["max"] == oracle.about[0]["high"]]
    return found


def judge_on_site(oracle: Oracle, compared: list[str]) -> Judge:
    """A judge who wants what Python said in JupyterLab, where it was asked; notes each position that was compared.

    What a network says is another matter: the one in JupyterLab had a training of its own.
    """
    apart = NETWORK.get(oracle.maker, ())

    def judge(state: State) -> list[str]:
        wanted = oracle.known.get(key_of(state.values))
        if wanted is None:
            return []
        compared.append(key_of(state.values))
        known = {name: content for name, content in wanted.items() if name not in apart}
        for name in apart:
            state.pictures.pop(name, None)
            state.texts.pop(name, None)
        return tools.differences(state, known)

    return judge


@pytest.mark.browser
@pytest.mark.slow
class TestSite:
    """The pages, opened from the disk."""

    def test_opens_in_three_seconds_with_nothing_from_elsewhere(self, site_page: SitePage) -> None:
        assert site_page.sheet.errors == [] and site_page.sheet.refused == []
        assert site_page.seconds < 3, f"{site_page.name} took {site_page.seconds:.1f} s"

    def test_everything_moves_and_shows_what_python_computed(self, site_page: SitePage) -> None:
        for explorer, oracle in zip(site_page.explorers, site_page.oracles, strict=True):
            compared: list[str] = []
            explorer.show()
            look = partial(settled, explorer, judge_on_site(oracle, compared), SOON)
            assert use_everything(explorer, look) == [], oracle.maker
            assert len(set(compared)) >= 4, f"{oracle.maker}: only {set(compared)} were asked of Python"
        assert site_page.sheet.errors == [] and site_page.sheet.refused == []

    def test_a_screen_reader_can_tell_all_controls(self, site_page: SitePage) -> None:
        for explorer, oracle in zip(site_page.explorers, site_page.oracles, strict=True):
            assert name_problems(explorer) == [], oracle.maker

    def test_nothing_flickers_or_jumps(self, site_page: SitePage) -> None:
        for explorer, oracle in zip(site_page.explorers, site_page.oracles, strict=True):
            explorer.show()
            assert flicker_problems(explorer) == [], oracle.maker

    def test_stored_guesses_are_good_where_little_noise_is(self, site_page: SitePage) -> None:
        for explorer, oracle in zip(site_page.explorers, site_page.oracles, strict=True):
            if oracle.maker in NETWORK:
                off = []
                for key in ("Home", "End"):
                    explorer.press(0, key)
                    explorer.page.wait_for_timeout(200)
                    pictures = explorer.state().pictures
                    levels = [pictures[name][:, :, 0].astype(float) for name in ("x0_hat", "x_0")]
                    off.append(abs(levels[0] - levels[1]).mean())
                assert off[0] < 25 and off[0] < off[1] / 2, f"{oracle.maker}: off by {off} levels, first and last"

    def test_reads_in_dark_and_in_light(self, site_page: SitePage) -> None:
        for theme in ("dark", "light"):
            site_page.sheet.page.emulate_media(color_scheme=theme)
            site_page.sheet.page.wait_for_timeout(300)
            for number, (explorer, oracle) in enumerate(zip(site_page.explorers, site_page.oracles, strict=True)):
                save_screenshot(explorer, f"site_{site_page.name}_{number}_{oracle.maker}_{theme}")
                assert faint(explorer) == [], f"{oracle.maker}, {theme}"


@pytest.mark.browser
@pytest.mark.slow
def test_first_page_of_the_site_leads_to_all_others(chromium: Any, site: Path) -> None:
    sheet = tools.new_sheet(chromium, tools.is_file)
    try:
        sheet.page.goto((site / "index.html").as_uri())
        links = sheet.page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.href.split('#')[0])")
        assert {(site / f"{name}.html").as_uri() for name in NAMES} <= set(links)
        assert sheet.errors == [] and sheet.refused == []
    finally:
        sheet.close()
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 60e6


# ------------------------------------------------------------------------------------- traps that are read in the code


def sources() -> list[Path]:
    """All code of the course, tests aside."""
    return [
        path for folder in ("course_lib", "notebooks/py", "figures", "tools") for path in (ROOT / folder).glob("*.py")
    ]


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
    assert len(sources()) > 30
    assert {str(path): traps(path.read_text(encoding="utf-8")) for path in sources()} == {
        str(path): [] for path in sources()
    }


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
from IPython.display import display


class Broken(anywidget.AnyWidget):
    _esm = '''{esm}'''
    value = traitlets.Int(0).tag(sync=True)


widget = Broken()
widget

# %%
time.sleep(1.5)
widget.value = 1
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
SOUND = 'export default { render({ model, el }) { model.on("change:value", () => { el.textContent = "changed"; }); } };'


@pytest.fixture(scope="module")
def bench(lab: Lab, chromium: Any) -> Iterator[Callable[[str], Notebook]]:
    """Opens a notebook from its text, one after the other in one page, and runs it."""
    sheets: list[tools.Sheet] = []
    notebook: Notebook | None = None

    def put(text: str) -> Notebook:
        nonlocal notebook
        name = f"broken_{time.monotonic_ns()}.ipynb"
        (lab.folder / name).write_text(notebooks.to_notebook(text), encoding="utf-8")
        if notebook is None:
            sheets.append(tools.new_sheet(chromium, tools.is_local))
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
@pytest.mark.parametrize("name", BROKEN)
def test_broken_python_is_caught(bench: Callable[[str], Notebook], name: str) -> None:
    problems = bench(f"{START}{BROKEN[name]}\n").problems()
    assert any("ZeroDivisionError" in problem for problem in problems), problems


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_broken_javascript_is_caught(bench: Callable[[str], Notebook], name: str) -> None:
    problems = bench(WIDGET.format(esm=SCRIPTS[name])).problems()
    assert any(f"broken {name}" in problem or "broken%20from" in problem for problem in problems), problems


@pytest.mark.browser
@pytest.mark.slow
def test_callback_that_fails_when_a_slider_is_moved_is_caught(bench: Callable[[str], Notebook]) -> None:
    code = "s = w.IntSlider(1)\ns.observe(lambda change: fail(change['new']), 'value')\ns"
    notebook = bench(f"{START}{code}\n")
    assert notebook.problems() == []
    handle = notebook.page.wait_for_selector(".noUi-handle")
    assert handle is not None
    handle.focus()
    notebook.page.keyboard.press("Home")
    notebook.page.wait_for_timeout(1000)
    assert any("ZeroDivisionError" in problem for problem in notebook.problems())


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("text", [f"{START}{HEALTHY}\n", WIDGET.format(esm=SOUND)], ids=["python", "javascript"])
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
    sheet = tools.new_sheet(chromium, tools.is_local)
    try:
        page = sheet.page
        page.goto("data:text/html,<p>meter")
        page.set_content(METER)
        assert tools.at_rest(page, "#target")

        def took(key: str) -> list[float]:
            answers = [tools.time_to_pixels(page, "#target", lambda: page.keyboard.press(key)) for _ in range(7)]
            return sorted(answer for answer in answers if answer is not None)

        at_once, later, in_a_frame = took("a"), took("b"), took("c")
        assert len(at_once) == len(later) == len(in_a_frame) == 7
        assert at_once[0] < 17 and at_once[3] < 35
        assert in_a_frame[0] < 34 and in_a_frame[3] < 50
        assert later[0] >= 60 and later[3] < 110
        assert tools.time_to_pixels(page, "#target", lambda: page.keyboard.press("x"), limit=0.3) is None

        page.evaluate("probe.count('#target', 1000); setTimeout(paint, 100); setTimeout(paint, 500); null")
        assert page.evaluate("probe.counted()")["painted"] == 2
        page.evaluate("probe.count('#target', 1000); setTimeout(empty, 100); setTimeout(paint, 400); null")
        counted = page.evaluate("probe.counted()")
        assert counted["painted"] == 1 and 3 <= counted["blank"] < counted["frames"]
        assert sheet.errors == []
    finally:
        sheet.close()
