"""The ways to follow a slider are notebooks, and their table says what was measured."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import slider_latency as bench
from records import append_row
from slider_ways import WAYS, notebook_of


def row(way: str = "corruption", **more: Any) -> dict[str, Any]:
    """A row as the benchmark writes it."""
    about = {"machine": "a machine, 2 cores", "date": "2026-11-21T10:00:00+00:00", "run": "second"}
    versions = {"chromium": "150.0", "jupyterlab": "4.6.6"}
    found = {"median_ms": 8.5, "p95_ms": 15.0, "presses": 40, "painted": 82, "empty_frames": 0}
    return {"way": way, "label": WAYS[way].label, **about, "versions": versions, **found, **more}


@pytest.mark.parametrize("key", WAYS)
def test_every_way_is_a_notebook_in_which_something_follows_the_slider(key: str) -> None:
    code = notebook_of(WAYS[key])
    ast.parse(code)
    assert WAYS[key].ours or "ipywidgets.interact(show, amount=slider)" in code or "slider.observe(show" in code


def test_summary_is_median_and_the_worst_but_one_in_twenty() -> None:
    assert bench.summary([float(n) for n in range(1, 102)]) == {"median_ms": 51.0, "p95_ms": 96.0}


def test_the_table_is_of_the_last_run_and_says_what_could_not_be_measured(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(ValueError, match="must hold rows"):
        bench.report(path)
    for each in (
        row(median_ms=99.0, run="first"),
        row("clear_output", median_ms=104.2, p95_ms=142.0, painted=14, empty_frames=9),
        row("ipympl", missing="ipympl"),
        row(),
        row("network", median_ms=60.0, p95_ms=80.0, painted=20, forward_ms=41.5),
    ):
        append_row(path, each)
    lines = bench.report(path)["slider_latency"].splitlines()
    assert lines[0] == "| way | median ms | p95 ms | painted in 2 s |"
    assert lines[2] == "| clear_output and redraw | 104.2 | 142 | 14, and it flickers |"
    assert lines[3] == "| ipympl, set_data | ipympl is not installed |  |  |"
    assert lines[4] == "| **`corruption_explorer`**, 64 pictures | 8.5 | 15 | 82 |"
    assert all(words in lines[-1] for words in ("40 presses each", "a machine, 2 cores", "JupyterLab 4.6.6", "41.5 ms"))
