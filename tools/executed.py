"""What an executed notebook may not hold: errors, also inside widgets, and checks with another result than expected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import notebooks

CHECK = re.compile(r'^check\("(\w+)", \w+\)', re.MULTILINE)
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"


def errors_in(outputs: list[Any]) -> Iterator[str]:
    """The errors among a cell's or an Output widget's outputs."""
    for output in outputs:
        kind = output.get("output_type")
        if kind == "error":
            yield f"{output.get('ename')}: {output.get('evalue')}"
        elif kind == "stream":
            text = "".join(output.get("text", ""))
            if "Traceback (most recent call last)" in text:
                yield f"traceback on {output.get('name')}: {text.strip().splitlines()[-1]}"


def scan(paths: list[Path]) -> list[str]:
    """The errors that executed notebooks hold, also those inside widgets, which no test runner sees."""
    problems: list[str] = []
    for path in paths:
        notebook = notebooks.read(path)
        problems += notebooks.long_cells(notebook, path)
        for number, cell in enumerate(notebook.cells, start=1):
            if cell.cell_type != "code":
                continue
            if cell.source.strip() and cell.execution_count is None:
                problems.append(f"{notebooks.name_of(path)}, cell {number}: was not executed.")
            problems += [f"{notebooks.name_of(path)}, cell {number}: {error}" for error in errors_in(cell.outputs)]
        models = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
        for model in models.values():
            outputs = model.get("state", {}).get("outputs") or []
            name = model.get("model_name", "widget")
            where = f"{notebooks.name_of(path)}, inside a widget ({name})"
            problems += [f"{where}: {error}" for error in errors_in(outputs)]
    return problems


def verdicts(paths: list[Path], wanted: str) -> list[str]:
    """The checks of executed notebooks whose printed result is another than it should be.

    Args:
        paths: of the executed notebooks.
        wanted: "correct" or "not done yet".
    """
    problems = []
    for path in paths:
        for number, cell in enumerate(notebooks.read(path).cells, start=1):
            if cell.cell_type != "code" or cell.execution_count is None:  # what was not executed, scan tells
                continue
            said = " ".join(str(output.get("data", {}).get("text/plain", "")) for output in cell.outputs)
            for name in CHECK.findall(cell.source):
                if f" {name}: {wanted}." not in said:
                    problems.append(
                        f"{notebooks.name_of(path)}, cell {number}: the check of {name} says {said or 'nothing'!r}, "
                        f"where it should say {wanted!r}."
                    )
    return problems
