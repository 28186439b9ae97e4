"""The order of the package: each file imports only from those above it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import course_lib

ROOT = Path(course_lib.__file__).parent.parent
ORDER = [*re.findall(r"^    (\w+)  ", course_lib.__doc__ or "", re.MULTILINE), "__main__"]
FILES = {path.stem: [path] for path in (ROOT / "course_lib").glob("*.py") if path.stem != "__init__"}
FILES |= {path.parent.name: [*path.parent.glob("*.py")] for path in (ROOT / "course_lib").glob("*/__init__.py")}


def imported(source: str, inside: bool = False) -> set[str]:
    """The course's own modules that a file imports, wherever in the file; a package counts as one.

    Args:
        source: of the file.
        inside: it lies in a package, whose own files it names with one dot.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and inside and node.level == 1:
            continue
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "course_lib"):
            module = (node.module or "").removeprefix("course_lib").strip(".")
            found |= {module} if module else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {name.split(".")[1] for name in names if name.startswith("course_lib.")}
    return found & FILES.keys()


def test_the_order_names_every_file() -> None:
    assert sorted(ORDER) == sorted(FILES)


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_up(name: str) -> None:
    below = ORDER[ORDER.index(name) :] if len(FILES[name]) == 1 else ORDER[ORDER.index(name) + 1 :]
    for path in FILES[name]:
        inside = path.parent.name != "course_lib"
        assert not imported(path.read_text(encoding="utf-8"), inside) & {*below}, path


def test_an_import_that_points_down_is_seen() -> None:
    assert imported("from . import train\nfrom .sample import sample\nimport course_lib.viz\n") == {
        "train",
        "sample",
        "viz",
    }
