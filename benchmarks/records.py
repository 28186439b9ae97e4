"""What the benchmarks share: rows in JSON-lines files, where they were made, and tables in benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
ROOT, PAGE = HERE.parent, HERE / "README.md"
RESULTS, BUILD = HERE / "results", ROOT / "build" / "bench"  # the second is not part of the repository
PACKAGES = ("torch", "diffusers", "denoising-diffusion-pytorch")

Row = dict[str, Any]


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line to a file of results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, none if it does not exist."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def has(row: Row, facts: Row) -> bool:
    """Whether a row has all these facts."""
    return all(row.get(key) == value for key, value in facts.items())


def lacks(path: Path, facts: Row) -> bool:
    """Whether no row of a file has all these facts."""
    return not any(has(row, facts) for row in read_rows(path))


def rows_like(path: Path, **facts: Any) -> list[Row]:
    """The rows of a file that have these facts, for a report.

    Raises:
        ValueError: there are none yet.
    """
    rows = [row for row in read_rows(path) if has(row, facts)]
    if not rows:
        raise ValueError(f"{path} must hold rows that were made as they are today; run the benchmark first")
    return rows


def circumstances(device: torch.device) -> Row:
    """Machine, load, versions and date, for a row."""
    return {
        "machine": describe(device),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,  # not on Windows
        "versions": {name: metadata.version(name) for name in PACKAGES if find_spec(name.replace("-", "_"))},
        "commit": COMMIT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def describe(device: torch.device) -> str:
    """The GPU; or the processor, its cores and its widest instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.*)$", info.read_text(encoding="utf-8") if info.exists() else "", re.MULTILINE)
    name = named[1].strip() if named else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


GIT = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
COMMIT = GIT.stdout.strip() or None  # at the start: somebody may commit while a benchmark runs


def made_on(rows: Iterable[Row], names: Sequence[str]) -> str:
    """Machine, threads, versions and dates of rows in one line; `names` are the packages to mention."""
    rows = list(rows)
    last, dates = rows[-1], sorted({row["date"][:10] for row in rows})
    versions = ", ".join(f"{name} {last['versions'][name]}" for name in names if last["versions"].get(name))
    when = f"{dates[0]} to {dates[-1]}" if len(dates) > 1 else dates[0]
    return f"{last['machine']}, {last['threads']} threads; {versions}; {when}."


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 2) -> str:
    """A table in Markdown; the first columns hold words and are set to the left, the others to the right."""
    lines = [head, ["---"] * words + ["---:"] * (len(head) - words), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def interval(distance: Row, scale: int = 1, digits: int = 2) -> str:
    """A distance with its interval, for a table."""
    value, low, high = (f"{scale * distance[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low}–{high})"


def intervals(columns: Sequence[Sequence[Row | None]]) -> list[list[str]]:
    """Distances with their intervals, the smallest of each column in bold; "" for a missing one."""
    least = [min((one["value"] for one in column if one), default=None) for column in columns]
    return [
        ["" if one is None else f"**{interval(one)}**" if one["value"] == best else interval(one) for one in column]
        for column, best in zip(columns, least, strict=True)
    ]


def fill_block(path: Path, name: str, text: str) -> None:
    """Put text between the lines `<!-- name: begin -->` and `<!-- name: end -->` of a file.

    Raises:
        ValueError: the file has no such lines.
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    if not found or end not in rest:
        raise ValueError(f"{path} must have the lines {begin}{end}add them where the table belongs")
    path.write_text(f"{before}{begin}{text.strip()}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def publish(blocks: Mapping[str, str], results: Path) -> None:
    """Print the blocks of a report and, if the rows are the repository's own, put them into benchmarks/README.md."""
    for name, text in blocks.items():
        print(text, end="\n\n")
        if results == RESULTS:
            fill_block(PAGE, name, text)


def command_line(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that most benchmarks share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="full", choices=("full", "packaged"))
    parser.add_argument("--device", help="cuda, mps or cpu; the best there is by default")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of rows and pictures")
    parser.add_argument("--report", action="store_true", help="measure nothing; write tables from the rows so far")
    return parser
