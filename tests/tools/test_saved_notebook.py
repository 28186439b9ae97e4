"""A notebook that was run and saved yesterday: its slider moves today, before anything is run again."""

from __future__ import annotations

from typing import Any

import pytest

import browser
import notebooks
from lab import Lab, Notebook

TEXT = """# %%
import torch

from course_lib import widgets

widgets.corruption_explorer(torch.linspace(-1, 1, 784).view(1, 1, 28, 28))
"""

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def shown(page: Any) -> tuple[str, list[int]]:
    """The words and the pixels of the slider, as soon as it has painted them."""
    page.wait_for_selector('canvas[data-panel="pictures"]')
    page.wait_for_timeout(500)
    read = """() => { const canvas = document.querySelector('canvas[data-panel="pictures"]');
        return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]; }"""
    return page.inner_text('[data-panel="text"]'), page.evaluate(read)


def test_a_saved_slider_moves_on_the_next_day_without_a_kernel(lab: Lab, sheet: browser.Sheet, chromium: Any) -> None:
    path = lab.folder / "saved.ipynb"
    path.write_text(notebooks.to_notebook(TEXT), encoding="utf-8")
    notebook = Notebook(lab, sheet, path.name)
    notebook.run()
    words, pixels = shown(sheet.page)
    sheet.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    notebook.close()

    tomorrow = browser.new_sheet(chromium, browser.is_local)
    page = tomorrow.page
    page.goto(lab.page_address(path.name), wait_until="domcontentloaded")
    assert shown(page) == (words, pixels)
    page.evaluate("jupyterapp.serviceManager.sessions.shutdownAll()")
    page.focus(".noUi-handle")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    words, moved = shown(page)
    assert words.startswith("0.65 · picture + 0.35 · noise") and moved != pixels
    assert tomorrow.errors == [] == tomorrow.refused
    tomorrow.close()
    assert 10_000 < path.stat().st_size < 100_000
