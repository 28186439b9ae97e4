"""What tools/browser.py asks inside a notebook's kernel: which sliders there are, and what they must show.

It is imported there beside the notebook's own code, and changes nothing of it but for `slow` and `fast`.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import traitlets
from ipywidgets.embed import dependency_state, embed_data
from ipywidgets.widgets import widget as registry

KINDS = {
    "FloatSliderView": "slider",
    "IntSliderView": "slider",
    "SelectionSliderView": "slider",
    "ToggleButtonsView": "choice",
    "CheckboxView": "tick",
    "DropdownView": "menu",
    "PlayView": "player",
}


def walk(widget: Any) -> Iterator[Any]:
    """A widget and all that stands in it, in the order of the page."""
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def alive() -> dict[str, Any]:
    """All widgets of this kernel, by id."""
    return {widget.model_id: widget for widget in list(registry._instances.values())}


def shown(views: Sequence[str]) -> list[dict[str, Any]]:
    """The explorers among what some cells display, in the order of the page.

    Args:
        views: ids of displayed widgets.

    Returns:
        For each explorer its id, and its controls: name (None where it has none), kind, and the options, or the least
        and largest value and the step.
    """
    known = alive()
    return [
        {"id": widget.model_id, "controls": _controls(widget)}
        for displayed in views
        for widget in walk(known.get(displayed))
        if "course-explorer" in getattr(widget, "_dom_classes", ())
    ]


def _controls(explorer: Any) -> list[dict[str, Any]]:
    names = {control.model_id: name for name, control in explorer.controls.items()}
    found = []
    for widget in walk(explorer):
        kind = KINDS.get(getattr(widget, "_view_name", ""))
        if kind is None:
            continue
        about: dict[str, Any] = {"name": names.get(widget.model_id), "kind": kind, "options": None}
        if hasattr(widget, "options"):
            about["options"] = [option[1] if isinstance(option, tuple) else option for option in widget.options]
            about |= {"low": 0, "high": len(about["options"]) - 1, "step": 1}
        elif hasattr(widget, "min"):
            about |= {"low": widget.min, "high": widget.max, "step": widget.step}
        found.append(about)
    return found


def results() -> dict[str, str]:
    """What the last run of each check in this kernel found, of all exercises of the notebook."""
    from course_lib.checks import progress

    return {result.exercise: result.status for result in progress().results}


def values(explorer: str) -> dict[str, Any]:
    """What Python believes the controls of an explorer to be."""
    return dict(alive()[explorer].values())


def view(explorer: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What an explorer must show at these values of all controls.

    Returns:
        By panel its text, or its picture, uint8 (H, W) or (H, W, 3), as base64 and shape.
    """
    found: dict[str, Any] = {}
    for name, content in alive()[explorer].view(**values).items():
        if not isinstance(content, str):
            array = np.asarray(content)
            assert array.dtype == np.uint8, f"panel {name!r} must be text or uint8, got {array.dtype}"
            content = as_text(array), array.shape
        found[name] = content
    return found


def seconds_of_view(explorer: str, repeats: int = 7) -> float:
    """How long the view of an explorer with a network takes, in the median of some timesteps."""
    widget, took = alive()[explorer], []
    values = widget.values()
    for number in range(repeats):
        start = time.perf_counter()
        widget.view(**{**values, "t": max(1, values["t"] - number)})
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def saved_bytes(explorer: str) -> int:
    """The bytes that an explorer, with all that it needs, takes in a saved notebook."""
    widget = alive()[explorer]
    state = dependency_state([widget], drop_defaults=True)
    return len(json.dumps(embed_data(views=[widget], drop_defaults=True, state=state), default=as_text))


def as_text(data: Any) -> str:
    """Bytes, in base64."""
    return base64.b64encode(bytes(data)).decode()


def errors_in_widgets() -> list[dict[str, Any]]:
    """All that the Output widgets hold."""
    shown = [widget for widget in alive().values() if isinstance(widget, ipywidgets.Output)]
    return [dict(output) for widget in shown for output in widget.outputs]


def joined_in_python() -> list[str]:
    """Pairs of traits that `link` or `dlink` join through the kernel, as the types of their widgets."""
    joints = [each for each in gc.get_objects() if type(each) in (traitlets.link, traitlets.directional_link)]
    return [f"{type(joint.source[0]).__name__} to {type(joint.target[0]).__name__}" for joint in joints]


def pid() -> int:
    """This process."""
    return os.getpid()


def waits_passively() -> bool:
    """Whether OpenMP's threads sleep while they wait, so that they cannot stall a slider's callback."""
    return os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"


#: Forward passes since `slow`, those in flight now, and the most at one time.
_passes = {"all": 0, "now": 0, "most": 0}


def slow(seconds: float) -> None:
    """From now on every forward pass of a whole network takes so many seconds longer, and is counted."""
    from torch.nn import Module

    lock, inside = threading.Lock(), threading.local()
    _passes.update(all=0, now=0, most=0)

    def call(module: Module, *inputs: Any, **options: Any) -> Any:
        if getattr(inside, "a_network", False):
            return module._wrapped_call_impl(*inputs, **options)
        inside.a_network = True
        with lock:
            _passes["all"] += 1
            _passes["now"] += 1
            _passes["most"] = max(_passes["most"], _passes["now"])
        try:
            time.sleep(seconds)
            return module._wrapped_call_impl(*inputs, **options)
        finally:
            inside.a_network = False
            with lock:
                _passes["now"] -= 1

    Module.__call__ = call  # type: ignore[method-assign]


def fast() -> dict[str, int]:
    """The end of `slow`; what was counted."""
    from torch.nn import Module

    Module.__call__ = Module._wrapped_call_impl  # type: ignore[method-assign]
    return _passes
