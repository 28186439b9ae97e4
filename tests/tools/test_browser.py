"""Every notebook in a real JupyterLab, every page of the site, and every slider by keyboard and mouse.

No other test sees errors of JavaScript, errors inside widgets, what is really painted, and when. Each notebook is
opened and run once, and its tests share the page. The pages of `make html` follow, where there is no kernel and
nothing but files may be opened.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import browser
import notebooks
from course_lib.checks import BY_NOTEBOOK, CORRECT
from explorers import Explorer, State, differences
from helpers_faults import (
    answers_soon,
    faint,
    flicker_problems,
    memory_problems,
    name_problems,
    newest_wins,
    problems_without_kernel,
    python_differs,
)
from helpers_hands import PATIENT, SOON, Judge, Oracle, judge_by, key_of, settled, stops, use_everything
from lab import Lab, Notebook

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
NAMES = [path.stem for path, _ in notebooks.pairs()]
MAKERS = re.compile(r"(\w+_explorer|trajectory_player|noise_gauge)")


def code_of(path: Path) -> list[str]:
    """The code cells of a notebook."""
    return [cell.source for cell in notebooks.read(path).cells if cell.cell_type == "code"]


def calls(path: Path) -> list[tuple[str, str]]:
    """The explorers that a notebook shows, from top to bottom: the function's name, and the call in full."""
    found = []
    for source in code_of(path):
        for line in ast.parse(source).body if "widgets." in source else ():
            match line:
                case ast.Expr(ast.Call(ast.Attribute(attr=name)) as call) if MAKERS.fullmatch(name):
                    found.append((name, str(ast.get_source_segment(source, call))))
    return found


CALLS = {path.stem: calls(path) for _, path in notebooks.pairs()}
MONITORED = {path.stem for _, path in notebooks.pairs() if "TrainingMonitor" in "\n".join(code_of(path))}
SHOWN = {name: [maker for maker, _ in found] for name, found in CALLS.items()}
#: Panels that show a forward pass, of a network that most notebooks train themselves, for as long as they have time.
NETWORK = {"x0_hat_explorer": ("x0_hat", "text")}
#: Which numbers a slider offers.
RANGE = "({ noUiSlider: { options } }) => ({ low: options.range.min, high: options.range.max, step: options.step })"


@dataclass
class Opened:
    """A notebook that was run, what went wrong until then, and its explorers, each with what Python says of it."""

    name: str
    notebook: Notebook
    problems: list[str]
    explorers: list[tuple[Explorer, Oracle]]

    def with_network(self) -> list[tuple[Explorer, Oracle]]:
        return [(explorer, oracle) for explorer, oracle in self.explorers if oracle.maker in NETWORK]


#: What Python said while JupyterLab was open, for the site: name of the notebook to its explorers.
RECORDED: dict[str, list[Oracle]] = {}


@pytest.fixture(scope="module", params=NAMES)
def opened(request: pytest.FixtureRequest, lab: Lab, sheet: browser.Sheet) -> Iterator[Opened]:
    """Each notebook in turn, run once for all tests."""
    name = request.param
    notebook = Notebook(lab, sheet, f"notebooks/{name}.ipynb")
    try:
        notebook.run()
        found = zip(SHOWN[name], notebook.explorers(), strict=True)
        explorers = [(explorer, Oracle(notebook, explorer, maker)) for maker, explorer in found]
        yield Opened(name, notebook, notebook.problems(), explorers)
    finally:
        notebook.close()


# ---------------------------------------------------------------------------------------------- notebooks in JupyterLab


class TestNotebook:
    """All tests of one open notebook."""

    def test_runs_without_an_error_and_every_exercise_is_done(self, opened: Opened) -> None:
        assert opened.problems == []
        assert opened.notebook.kernel.ask("waits_passively()"), "OpenMP's threads spin, which can stall a slider"
        wanted = {name: CORRECT for name in BY_NOTEBOOK[opened.name[:2]]}
        assert wanted and opened.notebook.kernel.ask("results()") == wanted

    def test_first_picture_comes_at_once(self, opened: Opened) -> None:
        for maker, call in CALLS[opened.name]:
            took: list[float] = []
            while not took or (min(took) >= 300 and len(took) < 3):  # other programs only ever add to it
                milliseconds = opened.notebook.page.evaluate("code => probe.lab.firstPicture(code)", call)
                assert milliseconds is not None, f"{maker} shows nothing"
                took.append(milliseconds)
            assert min(took) < 300, f"{maker} shows its first picture after {took} ms"
        assert opened.notebook.problems() == []

    def test_everything_moves_and_shows_what_python_computes(self, opened: Opened) -> None:
        RECORDED[opened.name], wrong = [oracle for _, oracle in opened.explorers], []
        for explorer, oracle in opened.explorers:
            explorer.show()
            look = partial(settled, explorer, judge_by(oracle), PATIENT if oracle.maker in NETWORK else SOON)
            wrong += [f"{oracle.maker}: {each}" for each in use_everything(explorer, look)]
            shown = look("at last").values
            told = python_differs(opened.notebook, explorer, shown)
            wrong += [f"{oracle.maker}: Python has {values} in place of {shown}" for values in told]
        for explorer, oracle in opened.with_network():  # the site keeps every so many timesteps
            (control,) = explorer.about
            every = max(1, control["high"] // 25)
            for value in stops({**control, "low": every, "step": every}).values():
                oracle({control["name"]: value})
        assert wrong == []
        assert opened.notebook.problems() == []

    def test_a_screen_reader_can_tell_all_controls(self, opened: Opened) -> None:
        for explorer, oracle in opened.explorers:
            assert name_problems(explorer) == [], oracle.maker
        pictures = "[...document.querySelectorAll('img.widget-image')].map((each) => each.title)"
        live = opened.notebook.page.evaluate(pictures)
        assert all(live) and len(live) >= (2 if opened.name in MONITORED else 0), live

    def test_nothing_flickers_or_jumps(self, opened: Opened) -> None:
        for explorer, oracle in opened.explorers:
            explorer.show()
            assert flicker_problems(explorer) == [], oracle.maker

    def test_sliders_need_no_kernel(self, opened: Opened) -> None:
        assert opened.notebook.kernel.ask("joined_in_python()") == []
        for explorer, oracle in opened.explorers:
            if oracle.maker not in NETWORK:
                assert problems_without_kernel(opened.notebook, explorer, oracle) == [], oracle.maker

    def test_a_slider_with_a_network_answers_soon_and_never_queues(self, opened: Opened) -> None:
        for explorer, oracle in opened.with_network():
            newest_wins(opened.notebook, explorer, oracle)
            answers_soon(opened.notebook, explorer, NETWORK[oracle.maker][0])

    def test_saved_state_is_small(self, opened: Opened) -> None:
        for explorer, oracle in opened.explorers:
            size = opened.notebook.kernel.ask(f"saved_bytes({explorer.id!r})")
            assert 1_000 < size <= 400_000, f"{oracle.maker} takes {size:,} bytes in a saved notebook"

    def test_memory_is_flat(self, opened: Opened) -> None:
        """Each kind of explorer in the notebook that shows it first."""
        seen = {maker for name in NAMES[: NAMES.index(opened.name)] for maker in SHOWN[name]}
        for explorer, oracle in opened.explorers:
            if oracle.maker not in seen:
                seen.add(oracle.maker)
                assert memory_problems(explorer) == [], oracle.maker

    def test_reads_in_dark_and_in_light(self, opened: Opened) -> None:
        for theme in ("JupyterLab Dark", "JupyterLab Light"):
            opened.notebook.page.evaluate("name => probe.lab.theme(name)", theme)
            for explorer, oracle in opened.explorers:
                assert faint(explorer) == [], f"{oracle.maker}, {theme}"
        assert opened.notebook.problems() == [], "to the end"


@dataclass
class SitePage:
    """A page of the site, open, how long that took, and its explorers, each with what Python said in JupyterLab."""

    name: str
    sheet: browser.Sheet
    seconds: float
    explorers: list[tuple[Explorer, Oracle]]


@pytest.fixture(scope="module", params=NAMES)
def site_page(request: pytest.FixtureRequest, chromium: Any, site: Path) -> Iterator[SitePage]:
    """Each page in turn, in a browser that opens nothing but files."""
    name = request.param
    if name not in RECORDED:
        pytest.skip("needs what Python said in JupyterLab: run the whole file")
    sheet = browser.new_sheet(chromium, browser.is_file)
    begin = time.monotonic()
    sheet.page.goto((site / f"{name}.html").as_uri(), wait_until="commit")
    sheet.page.wait_for_function(
        "number => { const all = [...document.querySelectorAll('.course-explorer')];"
        " return document.readyState === 'complete' && all.length === number && all.every(probe.painted); }",
        arg=len(SHOWN[name]),
        polling="raf",
    )
    seconds, explorers = time.monotonic() - begin, []
    elements = sheet.page.query_selector_all(".course-explorer")
    for element, oracle in zip(elements, RECORDED[name], strict=True):
        about = [dict(control) for control in oracle.about]
        if oracle.maker in NETWORK:  # fewer timesteps than with a kernel
            about[0] |= element.eval_on_selector(".noUi-target", RANGE)
        explorers.append((Explorer(sheet.page, element, about), oracle))
    yield SitePage(name, sheet, seconds, explorers)
    sheet.close()


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
        return differences(state, known)

    return judge


class TestSite:
    """The pages, opened from the disk."""

    def test_opens_in_three_seconds_with_nothing_from_elsewhere(self, site_page: SitePage) -> None:
        assert site_page.sheet.errors == [] and site_page.sheet.refused == []
        assert site_page.seconds < 3, f"{site_page.name} took {site_page.seconds:.1f} s"

    def test_everything_moves_and_shows_what_python_computed(self, site_page: SitePage) -> None:
        for explorer, oracle in site_page.explorers:
            compared: list[str] = []
            explorer.show()
            look = partial(settled, explorer, judge_on_site(oracle, compared), SOON)
            assert use_everything(explorer, look, again=False) == [], oracle.maker
            assert len(set(compared)) >= 4, f"{oracle.maker}: only {set(compared)} were asked of Python"
        assert site_page.sheet.errors == [] and site_page.sheet.refused == []

    def test_stored_guesses_are_good_where_little_noise_is(self, site_page: SitePage) -> None:
        for explorer, oracle in site_page.explorers:
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
            site_page.sheet.page.wait_for_timeout(50)
            for explorer, oracle in site_page.explorers:
                assert faint(explorer) == [], f"{oracle.maker}, {theme}"
