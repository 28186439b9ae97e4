"""The table of the sliders' latency: what it is made of, what it says, and that the pages say the same."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import browser
import slider_latency as bench
from records import append_row, read_rows

ROOT = Path(__file__).resolve().parents[2]


def row(way: str = "corruption", **more: Any) -> dict[str, Any]:
    """A row as the benchmark writes it."""
    about = {"machine": "a machine, 2 cores", "date": "2026-11-21T10:00:00+00:00", "run": "first"}
    versions = {"chromium": "150.0", "jupyterlab": "4.6.6"}
    found = {"median_ms": 8.5, "p95_ms": 15.0, "presses": 40, "painted": 82, "empty_frames": 0}
    return {"way": way, "label": bench.WAYS[way].label, **about, "versions": versions, **found, **more}


@pytest.mark.parametrize("key", bench.WAYS)
def test_every_way_is_a_notebook_that_can_be_read(key: str) -> None:
    way = bench.WAYS[key]
    code = bench.notebook_of(way)
    names = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    assert "slider" in names
    if not way.ours:
        assert ("mix" in names and "interact" in code) or ".observe(" in code, "nothing follows the slider"
    assert len(way.selector) > 5 and bool(way.needs) <= (key == "ipympl")


def test_usual_ways_stand_before_ours() -> None:
    ours = [way.ours for way in bench.WAYS.values()]
    assert ours == sorted(ours) and ours.count(True) == 3 and ours.count(False) == 6
    assert len({way.label for way in bench.WAYS.values()}) == len(ours)


def test_summary_is_median_and_the_worst_but_one_in_twenty() -> None:
    assert bench.summary([float(n) for n in range(1, 102)]) == {"median_ms": 51.0, "p95_ms": 96.0}
    assert bench.summary([5.0, 7.0]) == {"median_ms": 6.0, "p95_ms": 6.9}
    assert bench.summary([*[10.0] * 39, 500.0])["p95_ms"] == 10.0
    assert bench.summary([*[10.0] * 36, *[500.0] * 4])["p95_ms"] == 500.0


def test_table_says_what_was_measured_and_what_could_not_be() -> None:
    rows = [
        row("clear_output", median_ms=104.2, p95_ms=142.0, painted=14, empty_frames=9),
        {key: value for key, value in row("ipympl", missing="ipympl").items() if key not in ("median_ms", "presses")},
        row("corruption"),
        row("network", median_ms=60.0, p95_ms=80.0, painted=20, forward_ms=41.5),
    ]
    lines = bench.text_of(rows).splitlines()
    assert lines[:2] == ["| way | median ms | p95 ms | painted in 2 s |", "| --- | ---: | ---: | ---: |"]
    assert lines[2] == "| clear_output and redraw | 104.2 | 142 | 14, and it flickers |"
    assert lines[3] == "| ipympl, set_data | ipympl is not installed |  |  |"
    assert lines[4] == "| **`corruption_explorer`**, 64 pictures | 8.5 | 15 | 82 |"
    assert "40 presses each" in lines[-1] and "a machine, 2 cores" in lines[-1] and "JupyterLab 4.6.6" in lines[-1]
    assert "41.5 ms" in lines[-1]


def test_report_fills_the_pages_with_the_last_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, pages = tmp_path / "rows.jsonl", [tmp_path / "a.md", tmp_path / "b.md"]
    assert bench.report(path, pages) == 1 and "holds no rows" in capsys.readouterr().err
    for page in pages:
        page.write_text("before\n<!-- slider_latency: begin -->\nold\n<!-- slider_latency: end -->\nafter\n")
    append_row(path, row(run="first", median_ms=99.0))
    append_row(path, row(run="second", median_ms=8.0))
    append_row(path, row("timestep", run="second", median_ms=9.0))
    assert bench.report(path, pages) == 0
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
        assert "| 8 | 15 | 82 |" in text and "| 9 | 15 | 82 |" in text and "99" not in text
    pages[0].write_text("no block\n")
    assert bench.report(path, pages) == 1 and "begin -->" in capsys.readouterr().err


def test_without_a_browser_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(browser.VARIABLE, "/no/such/program")
    monkeypatch.setattr("sys.argv", ["slider_latency.py"])
    assert bench.main() == 1
    said = capsys.readouterr().err
    assert "This benchmark COURSE_CHROMIUM is '/no/such/program'" in said or "needs the package playwright" in said


# what is kept in the repository


def kept() -> list[dict[str, Any]]:
    rows = read_rows(bench.ROWS)
    assert rows, f"{bench.ROWS} is empty: run benchmarks/slider_latency.py"
    return bench.newest(rows)


def test_pages_hold_the_table_of_the_last_run() -> None:
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert bench.text_of(kept()) in page, "run benchmarks/slider_latency.py --report"


def test_sliders_keep_what_the_course_promises() -> None:
    rows = {each["way"]: each for each in kept()}
    assert list(rows) == list(bench.WAYS), "the last run did not measure every way"
    for way in ("corruption", "timestep"):
        assert rows[way]["p95_ms"] <= bench.P95
        assert rows[way]["painted"] >= bench.PAINTED * rows["imshow"]["painted"]
        assert rows[way]["median_ms"] < rows["imshow"]["median_ms"] / 4
    assert rows["network"]["median_ms"] <= rows["network"]["forward_ms"] + bench.BEYOND
    assert all(rows[way]["empty_frames"] == 0 for way in bench.WAYS if bench.WAYS[way].ours)
