"""What may be wrong with an explorer beyond its pictures: names, flicker, memory, queues, contrast, a busy kernel."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import browser
from explorers import Explorer
from helpers_hands import PATIENT, SOON, Judge, Oracle, judge_by, key_of, settled
from lab import Notebook


def name_problems(explorer: Explorer) -> list[str]:
    """What a screen reader could not tell apart, or not tell at all."""
    explorer.show()  # what is out of sight is not told
    told = explorer.names()
    wrong = [f"a {role} has no name" for role, name in told if not name]
    sliders = [name for role, name in told if role == "slider" and name]
    wrong += [f"{len(sliders)} sliders share the names {sorted(set(sliders))}"] * (len(set(sliders)) < len(sliders))
    visible = explorer.state(False).visible
    shown = [n for n, control in enumerate(explorer.about) if control["kind"] == "slider" and visible[n]]
    if sum(role == "slider" for role, _ in told) < len(shown):
        wrong.append(f"a screen reader finds {told}, and {len(shown)} sliders are shown")
    for number in shown:
        explorer.press(number, "End")
        explorer.page.wait_for_timeout(100)
        said, beside = explorer.controls()[number].evaluate(
            "slider => [slider.querySelector('.noUi-handle').getAttribute('aria-valuetext'),"
            " slider.querySelector('.widget-readout').textContent]"
        )
        name = explorer.about[number]["name"]
        wrong += [f"{name} says {said!r}, and {beside!r} stands beside it"] * (said != beside)
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


def memory_problems(explorer: Explorer, moves: int = 1000) -> list[str]:
    """What a page keeps of so many moves of the first slider.

    The keyboard stays in one cell meanwhile: JupyterLab itself keeps some hundred nodes whenever another cell gets it.
    """
    number = next(n for n, control in enumerate(explorer.about) if control["kind"] == "slider")
    explorer.show()
    explorer.press(number, "Home")
    held = []
    for times in (200, moves):
        explorer.handle(number).evaluate("(handle, times) => probe.shake(handle, times)", times)
        explorer.page.wait_for_timeout(200)
        held.append(browser.memory(explorer.page))
    allowed = {"bytes": 2e6, "nodes": moves / 10, "listeners": moves / 10}
    grown = {name: held[1][name] - held[0][name] for name in allowed}
    return [f"{moves} moves took {grown[name]:,} {name}" for name in allowed if grown[name] > allowed[name]]


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """While this lasts, a process does not run."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def problems_without_kernel(opened: Notebook, explorer: Explorer, oracle: Oracle) -> list[str]:
    """What fails while the kernel cannot answer."""
    number = next(n for n, control in enumerate(explorer.about) if control["kind"] == "slider")
    control, judge = explorer.about[number], judge_by(oracle)
    explorer.press(number, "Home")
    values = settled(explorer, lambda state: [], SOON, "at rest").values
    for end in ("low", "high"):
        value = control[end] if control["options"] is None else control["options"][control[end]]
        oracle({**values, control["name"]: value})
    wrong = []
    with frozen(opened.kernel.ask("pid()")):
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


def python_differs(notebook: Notebook, explorer: Explorer, shown: Mapping[str, Any], limit: float = 5.0) -> list[Any]:
    """What Python believes the controls to be, where it is not what the page shows after a while."""
    deadline = time.monotonic() + limit
    while True:
        told = notebook.kernel.ask(f"values({explorer.id!r})")
        if key_of(told) == key_of(shown):
            return []
        if time.monotonic() > deadline:
            return [told]
        notebook.page.wait_for_timeout(50)


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
    notes, told = explorer.page.evaluate("probe.unwatch()"), notebook.kernel.ask("fast()")
    allowed = dragged / seconds + 3
    assert 1 <= told["all"] <= allowed, f"{told['all']} passes in a drag of {dragged:.2f} s and what followed"
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
            assert browser.at_rest(explorer.page, selector)
            answer = browser.time_to_pixels(explorer.page, selector, lambda: explorer.press(number, "ArrowLeft"))
            assert answer is not None, "no pixel changed in ten seconds"
            took.append(answer)
        rounds.append(statistics.median(took) - usual)
        if rounds[-1] <= 60:
            break
    explorer.element.evaluate("element => element.removeAttribute('data-measured')")
    assert min(rounds) <= 60, f"{[round(each) for each in rounds]} ms beyond a forward pass of {usual:.0f} ms"


def faint(explorer: Explorer) -> list[str]:
    """Texts that stand out too little from what they stand on (4.5 to 1, as WCAG asks)."""
    explorer.show()
    told = explorer.element.evaluate("element => probe.contrasts(element)")
    assert told, "an explorer without a word"
    return [f"{text!r} has a contrast of {ratio:.1f}" for ratio, text in told if ratio < 4.5]
