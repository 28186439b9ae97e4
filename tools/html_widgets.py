"""The widgets of an executed notebook, as a page without a kernel needs them."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from nbformat import NotebookNode

from executed import WIDGET_STATE

VIEW = "application/vnd.jupyter.widget-view+json"
LINKS = ("LinkModel", "DirectionalLinkModel")


def strings(value: Any) -> Iterator[str]:
    """Every string in nested lists and dicts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def shown_widgets(notebook: NotebookNode) -> list[str]:
    """The ids of the widgets that the cells of a notebook show."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data[VIEW]["model_id"] for output in outputs if VIEW in output.get("data", {})]


def needed_widgets(models: dict[str, Any], shown: Iterable[str]) -> dict[str, Any]:
    """The part of a notebook's widget state that a page needs.

    A widget is needed if a cell shows it, if a needed widget names it, or if a link joins it to a needed one. Links
    name what they join and nothing names them, so they are followed in both directions.

    Args:
        models: widget id to model, as in a notebook's metadata.
        shown: ids of widgets that cells show.

    Returns:
        The needed ones, in the old order.
    """
    names: dict[str, set[str]] = {}
    for name, model in models.items():
        said = {text.removeprefix("IPY_MODEL_").removeprefix("anywidget:") for text in strings(model.get("state"))}
        names[name] = said & models.keys()
    links = [name for name, model in models.items() if model.get("model_name") in LINKS]
    kept: set[str] = set()
    waiting = [name for name in shown if name in models]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept.add(name)
            waiting += names[name]
            waiting += [link for link in links if name in names[link]]
    return {name: model for name, model in models.items() if name in kept}


def share_modules(models: dict[str, Any]) -> dict[str, str]:
    """Take out of widgets what several hold alike: the text of their module and of its style sheet.

    Args:
        models: widget id to model; changed in place, so that the name of a text stands where the text was.

    Returns:
        Name to text.
    """
    places: dict[str, list[tuple[dict[str, Any], str]]] = {}
    for model in models.values():
        state = model.get("state", {})
        for key in ("_esm", "_css"):
            if isinstance(state.get(key), str):
                places.setdefault(state[key], []).append((state, key))
    shared = {}
    for text, found in places.items():
        if len(found) > 1 and len(text) > 1000:
            name = f"shared:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
            shared[name] = text
            for state, key in found:
                state[key] = name
    return shared


def _in_script(value: Any) -> str:
    """JSON that may stand in a script element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def widget_scripts(state: dict[str, Any], loader: str) -> str:
    """The end of a page with widgets: their state, what they share, and the programs that bring them to life."""
    state = copy.deepcopy(state)
    shared = share_modules(state["state"])
    texts = [
        f'<script type="application/json" data-shared="{name}">{_in_script(text)}</script>'
        for name, text in shared.items()
    ]
    return "\n".join([*texts, f'<script type="{WIDGET_STATE}">{_in_script(state)}</script>', loader])
