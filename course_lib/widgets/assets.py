"""The JavaScript and the style sheets of static/, as texts.

anywidget could read the files itself, but then it would watch them for changes and keep every widget in memory.
"""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"


def script(*names: str) -> str:
    """Several files joined, in this order, into one module for the browser; none of them imports anything."""
    return "\n".join((STATIC / f"{name}.js").read_text(encoding="utf-8") for name in names)


def style_sheet(name: str) -> str:
    """The style sheet of a widget."""
    return (STATIC / f"{name}.css").read_text(encoding="utf-8")
