"""Every notebook in a real JupyterLab, every page of the site, and every slider by keyboard and mouse.

No other test sees errors of JavaScript, errors inside widgets, what is really painted, and when. Each notebook is
opened and run once, and its tests share the page. The pages of `make html` follow, where there is no kernel and
nothing but files may be opened.
"""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import browser
import notebooks
from course_lib.checks import BY_NOTEBOOK, CORRECT
from executed import WIDGET_STATE
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
    save_screenshot,
)
from helpers_hands import PATIENT, SOON, Judge, Oracle, judge_by, key_of, settled, stops, use_everything
from lab import DARK, LIGHT, Lab, Notebook

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
def opened(request: pytest.FixtureRequest, lab: Lab, sheet: browser.Sheet) -> Iterator[Opened]:
    """Each notebook in turn, run once for all tests."""
    notebook = Notebook(lab, sheet, f"notebooks/{request.param}.ipynb")
    try:
        notebook.run()
        yield Opened(request.param, notebook, notebook.problems())
    finally:
        notebook.close()


#: What Python said while JupyterLab was open, for the site: name of the notebook to its explorers.
RECORDED: dict[str, list[Oracle]] = {}


# ---------------------------------------------------------------------------------------------- notebooks in JupyterLab


class TestNotebook:
    """All tests of one open notebook."""

    def test_runs_without_an_error_anywhere(self, opened: Opened) -> None:
        assert opened.problems == []
        assert opened.notebook.kernel.ask("waits_passively()"), "OpenMP's threads spin, which can stall a slider"

    def test_every_exercise_is_done_and_trainings_are_short(self, opened: Opened) -> None:
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
                f"{maker}: Python has {told} in place of {shown}"
                for told in python_differs(opened.notebook, explorer, shown)
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
        assert all(live) and len(live) >= (2 if opened.name in MONITORED else 0), live

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
        for theme in (DARK, LIGHT):
            opened.page.evaluate("name => probe.lab.theme(name)", theme)
            opened.page.wait_for_timeout(500)
            for number, (maker, explorer) in enumerate(opened.explorers()):
                save_screenshot(explorer, f"{opened.name}_{number}_{maker}_{theme.split()[1].lower()}")
                assert faint(explorer) == [], f"{maker}, {theme}"

    def test_ends_without_an_error(self, opened: Opened) -> None:
        assert opened.notebook.problems() == []


@dataclass
class SitePage:
    """A page of the site, open, and how long that took."""

    name: str
    sheet: browser.Sheet
    seconds: float
    oracles: list[Oracle]
    explorers: list[Explorer] = field(default_factory=list)


@pytest.fixture(scope="module", params=NAMES)
def site_page(request: pytest.FixtureRequest, chromium: Any, site: Path) -> Iterator[SitePage]:
    """Each page in turn, in a browser that opens nothing but files."""
    name = request.param
    if name not in RECORDED:
        pytest.skip("needs what Python said in JupyterLab: run the whole file")
    sheet = browser.new_sheet(chromium, browser.is_file)
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
        sheet.page.evaluate(f"document.querySelector('script[type=\"{WIDGET_STATE}\"]')?.textContent ?? '{{}}'")
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
        return differences(state, known)

    return judge


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


def test_first_page_of_the_site_leads_to_all_others(chromium: Any, site: Path) -> None:
    sheet = browser.new_sheet(chromium, browser.is_file)
    try:
        sheet.page.goto((site / "index.html").as_uri())
        links = sheet.page.evaluate("[...document.querySelectorAll('a[href]')].map(a => a.href.split('#')[0])")
        assert {(site / f"{name}.html").as_uri() for name in NAMES} <= set(links)
        assert sheet.errors == [] and sheet.refused == []
    finally:
        sheet.close()
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 60e6
