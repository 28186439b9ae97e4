"""The JavaScript and the style sheets of static/, as texts.

anywidget could read the files itself, but then it watches them for changes and never lets go of a widget.
"""

from __future__ import annotations

from pathlib import Path

STATIC = Path(__file__).parent / "static"


def script(*names: str) -> str:
    """One module for the browser out of several files, in this order; none of them imports anything."""
    return "\n".join((STATIC / f"{name}.js").read_text(encoding="utf-8") for name in names)


def style_sheet(name: str) -> str:
    """The style sheet of a widget."""
    return (STATIC / f"{name}.css").read_text(encoding="utf-8")
