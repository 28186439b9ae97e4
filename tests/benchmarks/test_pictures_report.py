"""Which rows make the tables of pictures per minute, from rows that were made up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import records
from helpers_benchmarks import OWN, row
from pictures_report import report
from records import Row, append_row

NAME = "pictures_per_minute cpu"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pictures_per_minute_cpu.jsonl"


def tables(path: Path, *rows: Row) -> tuple[str, str]:
    """The main table and all others."""
    for each in rows:
        append_row(path, each)
    made = report(path)
    return made[NAME], made[f"{NAME} in full"]


def listed(text: str, title: str) -> str:
    """The table under a title."""
    found = re.search(rf"^{re.escape(title)}[^\n]*:\n\n(.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def test_tables_are_made_from_the_newest_rows(path: Path) -> None:
    main, full = tables(
        path,
        row("lucidrains", "own", 3, 77.0, machine="a slower one"),  # not to be compared
        row("unet", "ours", 0.25, 9.0, pictures=1000),  # nobody else trains as short
        row("unet", "ours", 3, 99.0),
        row("unet", "ours", 3, 4.0),  # the newer of two
        row("unet", "ours", 30, 2.0),
        row("diffusers", "own", 3, 60.0, details={**OWN, "lr": 4e-4}),  # a recipe from before a correction
        row("diffusers", "own", 3, 60.0, pictures=2999),
        row("diffusers", "own", 30, 44.0, 30.0),  # the better of two samplers counts
        row("diffusers", "ours", 30, 1.0, features="of another network"),
    )
    assert "| UNet of this course | this course's | 89 | **4.00 (3.60–4.40)** | **2.00 (1.80–2.20)** |" in main
    assert "| Adam 1e-3, batch 128, linear, no EMA | 89 | 60.00 (54.00–66.00) | 30.00 (27.00–33.00) |" in main
    assert "| *real pictures, held out* |  |  | *0.18* | *0.18* |" in main
    assert "| after 3 min | after 30 min |\n" in main
    assert "| 2,999 | 60.00 (54.00–66.00) | 1,000 | 9.00 (8.10–9.90) |" in listed(full, "By pictures in place of")
    assert "99.00" not in main and "77.00" not in main and "1.00 (" not in main and "4e-4" not in main
    assert "| 77.00 (" in listed(full, "On another machine, a slower one (2025-01-02)").replace("**", "")
    every = listed(full, "Every measure")
    assert "| 3 | 12,345 | 67 | 4.00 (3.60–4.40) | 4000.0 (3600.0–4400.0) | 50% | 50% | 50% |" in every
    for sampler, distance in ("SDE-DPM-Solver++(2M)", "44.00"), ("DDPM, clipped", "30.00"):
        assert f"no EMA | {sampler} | 30 | 12,345 | 67 | {distance} (" in every
    with pytest.raises(ValueError, match="must hold rows"):
        report(path.with_name("pictures_per_minute_cuda.jsonl"))


def test_guided_samples_count_where_all_have_them(path: Path) -> None:
    rows = row("unet", "ours", 3, 4.0, 5.0, 2.0), row("diffusers", "own", 3, 60.0, 50.0)
    otherwise = row("diffusers", "own", 3, 60.0, 50.0, 1.0, guidance={"strength": 9.0})
    for others in (rows[1], otherwise):
        main, full = tables(path, rows[0], others)
        assert "the best of 2 samplers;" in main and "**4.00 (" in main and "| 50.00 (" in main
        assert "2.00 (" not in main and "autoguided" not in full
    main, full = tables(path, row("diffusers", "own", 3, 60.0, 50.0, 55.0))
    assert "the best of 3 samplers, of which the guided one takes two evaluations" in main
    assert "**2.00 (" in main and "| SDE-DPM-Solver++(2M), autoguided |" in full


def test_what_was_trained_or_judged_again_is_listed_apart(path: Path) -> None:
    second = {"updates": 68, "pictures": 54321}
    main, full = tables(
        path,
        row("unet", "ours", 3, 1.0, samples=9000, machine="another"),
        *(row(model, "own", 3, 60.0) for model in ("diffusers", "double-conv")),
        row("unet", "ours", 3, 4.0),
        row("lucidrains", "own", 3, 77.0),
        row("lucidrains", "own", 3, 66.0, 55.0, 1.0, **second),
        row("lucidrains", "own", 3, 66.0, 56.0, 8.0, **second),  # judged again by as many
        row("unet", "ours", 3, 3.0, 9.0, 2.0, samples=9000),
        row("unet", "ours", 3, 5.0, samples=9000, **second),
    )
    assert "**4.00 (" in main and "| 56.00 (" in main and "3.00 (" not in main
    again = listed(full, "Trained more than once (the last one counts), or judged by more samples")
    assert [line.split("|")[3:-1] for line in again.replace(" ", "").splitlines()[2:]] == [
        ["3", "12,345", "1,000", "4.00(3.60–4.40)", "", "0.18"],
        ["3", "12,345", "9,000", "3.00(2.70–3.30)", "2.00(1.80–2.20)", "0.18"],
        ["3", "54,321", "9,000", "5.00(4.50–5.50)", "", "0.18"],
        ["3", "12,345", "1,000", "77.00(69.30–84.70)", "", "0.18"],
        ["3", "54,321", "1,000", "56.00(50.40–61.60)", "8.00(7.20–8.80)", "0.18"],
    ]


def test_a_block_is_filled_in_its_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x cpu: begin -->\nstale\n<!-- x cpu: end -->\nb\n", encoding="utf-8")
    records.fill_block(page, "x cpu", "new\n")
    assert page.read_text(encoding="utf-8") == "a\n<!-- x cpu: begin -->\nnew\n<!-- x cpu: end -->\nb\n"
    with pytest.raises(ValueError, match="must have the lines"):
        records.fill_block(page, "x cuda", "new")
