"""The two forms of every notebook.

notebooks/py/NN_x.py (py:percent) is what an author edits and a reviewer reads; notebooks/NN_x.ipynb is made from it
and is what a learner opens. The second follows from the first alone, byte for byte.

    python tools/notebooks.py sync           write every .ipynb from its .py
    python tools/notebooks.py check          fail where the two forms differ
    python tools/notebooks.py adopt NAME     the other way: take over what was edited in the .ipynb
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
#: The name of the course.
COURSE = "Diffusion models, from noise to pictures"
LONGEST_CELL = 25
MEND = "make notebooks"
TAKE_OVER = ".venv/bin/python tools/notebooks.py adopt"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
HEADER = """# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

"""


def pairs(folder: Path = NOTEBOOKS) -> list[tuple[Path, Path]]:
    """Both forms of every notebook, as (text, notebook), whether or not each exists."""
    names = {path.stem for path in folder.glob("*.ipynb")} | {path.stem for path in (folder / "py").glob("*.py")}
    return [(folder / "py" / f"{name}.py", folder / f"{name}.ipynb") for name in sorted(names)]


def with_header(text: str) -> str:
    """The text of a .py form under the one header that every notebook has."""
    body = re.sub(r"\A# ---\n(?:#.*\n)*?# ---\n+", "", text)
    return HEADER + body.lstrip("\n")


def canonical(cells: list[tuple[str, str, dict[str, Any]]]) -> NotebookNode:
    """A notebook without outputs whose cell ids are derived from type and text of the cells."""
    seen: dict[str, int] = {}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for kind, source, metadata in cells:
        digest = hashlib.sha256(f"{kind}\n{source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell_id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}.get(kind)
        if make is None:
            raise ValueError(f"cell type: expected code or markdown, got {kind!r}; turn the raw cell into markdown.")
        notebook.cells.append(make(source, id=cell_id, metadata=metadata))
    return notebook


def cells_of(notebook: NotebookNode) -> list[tuple[str, str, dict[str, Any]]]:
    """Type, text and tags of every cell: all that an author writes."""
    found = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        found.append((cell.cell_type, cell.source.rstrip(), {"tags": list(tags)} if tags else {}))
    return found


def to_notebook(text: str) -> str:
    """The bytes of the .ipynb that belong to the text of a .py form."""
    notebook = canonical(cells_of(jupytext.reads(text, fmt="py:percent")))
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def to_text(notebook: NotebookNode) -> str:
    """The text of the .py form that belongs to a notebook."""
    return with_header(jupytext.writes(canonical(cells_of(notebook)), fmt="py:percent"))


def read(path: Path) -> NotebookNode:
    """A notebook file, in the current format."""
    return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)


def name_of(path: Path) -> str:
    """The path as it is typed in the repository's root."""
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def sync(folder: Path = NOTEBOOKS, *, force: bool = False) -> list[str]:
    """Write the .ipynb of every .py; a list of what stood in the way."""
    problems = []
    for text_path, path in pairs(folder):
        if not text_path.exists():
            problems.append(f"{name_of(path)} has no {name_of(text_path)}: run `{TAKE_OVER} {path.stem}`.")
            continue
        text = text_path.read_text(encoding="utf-8")
        wanted = to_notebook(text)
        if path.exists() and not force:
            differs = cells_of(read(path)) != cells_of(nbformat.reads(wanted, as_version=4))
            if differs and path.stat().st_mtime > text_path.stat().st_mtime:
                problems.append(
                    f"{name_of(path)} was edited after {name_of(text_path)}. To keep those edits run "
                    f"`{TAKE_OVER} {path.stem}`, to drop them `.venv/bin/python tools/notebooks.py sync --force`."
                )
                continue
        if with_header(text) != text:
            text_path.write_text(with_header(text), encoding="utf-8", newline="\n")
        if not path.exists() or path.read_bytes() != wanted.encode():
            path.write_text(wanted, encoding="utf-8", newline="\n")
            print(f"wrote {name_of(path)}")
    return problems


def adopt(name: str, folder: Path = NOTEBOOKS) -> list[str]:
    """Write the .py of one notebook from its .ipynb, then the .ipynb again without outputs."""
    text_path, path = folder / "py" / f"{Path(name).stem}.py", folder / f"{Path(name).stem}.ipynb"
    if not path.exists():
        return [f"{name_of(path)} does not exist: give the name of a notebook in {name_of(folder)}."]
    text_path.parent.mkdir(parents=True, exist_ok=True)
    text_path.write_text(to_text(read(path)), encoding="utf-8", newline="\n")
    print(f"wrote {name_of(text_path)}")
    return sync(folder, force=True)


def check(folder: Path = NOTEBOOKS) -> list[str]:
    """What is wrong with the committed forms, in sentences that name the file and the command that mends it."""
    problems = []
    for text_path, path in pairs(folder):
        if not text_path.exists():
            problems.append(f"{name_of(path)} has no {name_of(text_path)}: run `{TAKE_OVER} {path.stem}`.")
            continue
        if not path.exists():
            problems.append(f"{name_of(text_path)} has no {name_of(path)}: run `{MEND}`.")
            continue
        text = text_path.read_text(encoding="utf-8")
        wanted = to_notebook(text)
        problems += long_cells(nbformat.reads(wanted, as_version=4), text_path)
        if with_header(text) != text:
            problems.append(f"{name_of(text_path)} lacks the standard header: run `{MEND}`.")
        if path.read_bytes() == wanted.encode():
            continue
        here, there = cells_of(read(path)), cells_of(nbformat.reads(wanted, as_version=4))
        if here == there:
            problems.append(f"{name_of(path)} holds outputs or metadata that are not committed: run `{MEND}`.")
        else:
            same = [a == b for a, b in zip(here, there, strict=False)]
            first = same.index(False) if False in same else len(same)
            problems.append(f"{name_of(path)} and {name_of(text_path)} differ from cell {first + 1} on: run `{MEND}`.")
    return problems


def long_cells(notebook: NotebookNode, path: Path) -> Iterator[str]:
    """Code cells that nobody reads in one go."""
    for number, cell in enumerate(notebook.cells, start=1):
        lines = len(cell.source.splitlines())
        if cell.cell_type == "code" and lines > LONGEST_CELL:
            yield f"{name_of(path)}, cell {number}: {lines} lines, at most {LONGEST_CELL}: split it."


def main() -> int:
    """Read the command line, do it, and say what is wrong; 0 if nothing is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("sync").add_argument("--force", action="store_true", help="drop edits made in the .ipynb")
    commands.add_parser("check")
    commands.add_parser("adopt").add_argument("name")
    options = parser.parse_args()
    if options.command == "sync":
        problems = sync(force=options.force)
    elif options.command == "check":
        problems = check()
    else:
        problems = adopt(options.name)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
