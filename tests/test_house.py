"""The order of the package: each file imports only from those above it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import course_lib

PACKAGE = Path(course_lib.__file__).parent
ORDER = [*re.findall(r"^    (\w+)  ", course_lib.__doc__ or "", re.MULTILINE), "__main__"]
FILES = {path.stem: [path] for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
FILES |= {path.parent.name: [*path.parent.glob("*.py")] for path in PACKAGE.glob("*/__init__.py")}


def imported(path: Path) -> set[str]:
    """The course's own modules that a file imports, wherever in the file; a package counts as one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("course_lib.") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not (node.level == 1 and path.parent != PACKAGE):
            module = (node.module or "").removeprefix("course_lib").strip(".")
            found |= {module} if module else {alias.name for alias in node.names}
    return {name.split(".")[0] for name in found} & FILES.keys()


def test_the_order_names_every_file() -> None:
    assert sorted(ORDER) == sorted(FILES)


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_up(name: str) -> None:
    for path in FILES[name]:
        itself = {name} if path.parent != PACKAGE else set()
        assert imported(path) <= {*ORDER[: ORDER.index(name)]} | itself, path
