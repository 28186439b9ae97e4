"""A hand on an explorer: every control moved by keyboard and mouse, and each picture held against Python."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest

from explorers import Explorer, State, differences
from lab import Notebook

#: Seconds until a page shows what it should, on a busy machine: frames without a network, some passes with one.
SOON, PATIENT = 3.0, 30.0


def key_of(values: Mapping[str, Any]) -> str:
    """The same for 0.3 and 0.30000000000000004, for 1 and 1.0."""
    plain = {name: round(float(value), 6) if type(value) in (int, float) else value for name, value in values.items()}
    return json.dumps(plain, sort_keys=True)


class Oracle:
    """What an explorer must show by Python, asked once for each position and remembered."""

    def __init__(self, notebook: Notebook, explorer: Explorer, maker: str) -> None:
        self.maker, self.about = maker, explorer.about
        self.known: dict[str, dict[str, Any]] = {}
        self._ask = partial(notebook.view, explorer)

    def __call__(self, values: Mapping[str, Any]) -> dict[str, Any]:
        if key_of(values) not in self.known:
            self.known[key_of(values)] = self._ask(values)
        return self.known[key_of(values)]


#: Tells what is wrong with what an explorer shows.
Judge = Callable[[State], list[str]]


def judge_by(oracle: Oracle) -> Judge:
    """A judge who wants the pixels and words of Python, to one grey level."""
    return lambda state: differences(state, oracle(state.values))


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


def use_everything(explorer: Explorer, look: Look, again: bool = True) -> list[str]:
    """Move, press and play all that an explorer has, and look after each move. What is wrong.

    Args:
        explorer: which one.
        look: waits until it shows what it should.
        again: move every slider for each choice of the first buttons or menu that shows it; else for one.
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
            if control["kind"] == "slider" and visible[number] and (again or number not in moved):
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
