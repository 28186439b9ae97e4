"""What tools/browser.py asks inside a notebook's kernel: which sliders there are, and what they must show.

It is imported there beside the notebook's own code, and changes nothing of it but for `slow` and `fast`.
"""

from __future__ import annotations

import base64
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
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
        For each explorer its id, the id of the displayed widget that holds it, its values, and its controls: name
        (None where it has none), kind, and the options, or the least and largest value and the step.
    """
    known, found = alive(), []
    for view in views:
        for widget in walk(known[view]) if view in known else ():
            if "course-explorer" in getattr(widget, "_dom_classes", ()):
                found.append({"id": widget.model_id, "view": view, "controls": _controls(widget)})
    return found


def _controls(explorer: Any) -> list[dict[str, Any]]:
    names = {control.model_id: name for name, control in explorer.controls.items()}
    found = []
    for widget in walk(explorer):
        kind = KINDS.get(str(getattr(widget, "_view_name", "")))
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


def views(explorer: str, asked: Sequence[Mapping[str, Any]], path: str) -> list[dict[str, str]]:
    """What an explorer must show at some values.

    Args:
        explorer: its id.
        asked: the values of all controls, any number of times.
        path: where the pictures go: an .npz with "NUMBER/PANEL", uint8, (H, W) or (H, W, 3).

    Returns:
        The texts of each, by panel.
    """
    pictures, texts = {}, []
    for number, each in enumerate(asked):
        content = alive()[explorer].view(**each)
        texts.append({name: str(value) for name, value in content.items() if isinstance(value, str)})
        for name, value in content.items():
            if not isinstance(value, str):
                array = np.asarray(value)
                if array.dtype != np.uint8:
                    raise TypeError(f"panel {name!r} must be text or uint8, got {type(value).__name__} {array.dtype}")
                pictures[f"{number}/{name}"] = array
    np.savez(Path(path), **pictures)  # type: ignore[arg-type]
    return texts


def seconds_of_view(explorer: str, repeats: int = 7) -> float:
    """How long an explorer's view takes, in the median of some values apart."""
    widget, took = alive()[explorer], []
    current = widget.values()
    for number in range(repeats):
        start = time.perf_counter()
        widget.view(**{**current, **({"t": current["t"] - number} if current.get("t", 0) > repeats else {})})
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def saved_bytes(explorer: str) -> int:
    """The bytes that an explorer, with all that it needs, takes in a saved notebook."""
    widget = alive()[explorer]
    state = dependency_state([widget], drop_defaults=True)
    return len(json.dumps(embed_data(views=[widget], drop_defaults=True, state=state), default=_as_text).encode())


def _as_text(value: Any) -> str:
    return base64.b64encode(bytes(value)).decode()


def errors_in_widgets() -> list[dict[str, Any]]:
    """All that the Output widgets hold."""
    outputs: list[dict[str, Any]] = []
    for widget in alive().values():
        if isinstance(widget, ipywidgets.Output):
            outputs += [dict(output) for output in widget.outputs]
    return outputs


def joined_in_python() -> list[str]:
    """Pairs of traits that `link` or `dlink` join through the kernel, as the types of their widgets."""
    import gc

    found = []
    for joint in gc.get_objects():
        if type(joint) in (traitlets.link, traitlets.directional_link):
            found.append(f"{type(joint.source[0]).__name__} to {type(joint.target[0]).__name__}")
    return found


def pid() -> int:
    """This process."""
    return os.getpid()


def waits_passively() -> bool:
    """Whether OpenMP's threads sleep while they wait, so that they cannot stall a slider's callback."""
    return os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE"


class _Passes:
    """Counts the calls of whole networks, in all threads, and makes each take longer."""

    def __init__(self, seconds: float) -> None:
        from torch.nn.modules import module

        self.seconds, self.lock, self.inside = seconds, threading.Lock(), threading.local()
        self.passes = self.now = self.most = 0
        self.hooks = [
            module.register_module_forward_pre_hook(self.enter),
            module.register_module_forward_hook(self.leave, always_call=True),
        ]

    def enter(self, *_: Any) -> None:
        self.inside.depth = getattr(self.inside, "depth", 0) + 1
        if self.inside.depth > 1:
            return
        with self.lock:
            self.passes += 1
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)

    def leave(self, *_: Any) -> None:
        depth = getattr(self.inside, "depth", 0)
        self.inside.depth = max(0, depth - 1)
        if depth == 1:  # 0 where a pass had begun before the hooks were there
            with self.lock:
                self.now -= 1


_passes: _Passes | None = None


def slow(seconds: float) -> bool:
    """From now on every forward pass takes so many seconds longer, and is counted."""
    global _passes
    fast()
    _passes = _Passes(seconds)
    return True


def counts() -> dict[str, int]:
    """Forward passes since `slow`, those in flight now, and the most at one time."""
    assert _passes is not None, "slow() comes first"
    return {"passes": _passes.passes, "now": _passes.now, "most": _passes.most}


def fast() -> bool:
    """The end of `slow`."""
    global _passes
    for hook in _passes.hooks if _passes else ():
        hook.remove()
    _passes = None
    return True
