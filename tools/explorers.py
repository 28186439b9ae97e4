"""The explorers on a page: moving their controls, reading what they show, and comparing it with Python."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from playwright.sync_api import ElementHandle, Page

#: What a screen reader stops at inside an explorer.
ROLES = {"slider", "button", "checkbox", "switch", "combobox", "radio", "spinbutton", "image", "img", "canvas"}


@dataclass(frozen=True)
class Explorer:
    """An explorer on a page, with or without a kernel.

    Args:
        page: of playwright.
        element: its outermost element.
        about: its controls in the order of the page, as `kernel_side.shown` tells.
        id: in the kernel.
    """

    page: Page
    element: ElementHandle
    about: list[dict[str, Any]]
    id: str = ""

    def state(self, pixels: bool = True) -> State:
        """What it shows now."""
        return State(self.element.evaluate("(element, pixels) => probe.state(element, pixels)", pixels), self.about)

    def controls(self) -> list[ElementHandle]:
        """Elements of its controls, in the order of `about`."""
        return self.element.query_selector_all(self.page.evaluate("probe.CONTROLS"))

    def handle(self, number: int) -> ElementHandle:
        """What a hand takes hold of in a slider."""
        found = self.controls()[number].query_selector(".noUi-handle")
        assert found is not None
        return found

    def show(self) -> None:
        """Scroll to it."""
        self.element.evaluate("element => element.scrollIntoView({ block: 'center' })")

    def press(self, number: int, *keys: str) -> None:
        """Press keys on a slider."""
        self.handle(number).focus()
        for key in keys:
            self.page.keyboard.press(key)

    def drag(self, number: int, to: float, moves: int = 12) -> None:
        """Drag a slider with the mouse.

        Args:
            number: of the control.
            to: where to, as a fraction of its range.
            moves: on the way.
        """
        x, y, left, width = self.track(number)
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(left + to * width, y, steps=moves)
        self.page.mouse.up()

    def track(self, number: int) -> tuple[float, float, float, float]:
        """Of a slider: x and y of its handle's centre, left end and width of its track, in pixels of the page."""
        handle, base = self.handle(number), self.controls()[number].query_selector(".noUi-base")
        handle.scroll_into_view_if_needed()
        assert base is not None
        box, track = handle.bounding_box(), base.bounding_box()
        assert box is not None and track is not None, "the slider is hidden"
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, track["x"], track["width"]

    def names(self) -> list[tuple[str, str]]:
        """Role and name of all that a screen reader finds in it and that can be used or looked at."""
        self.element.evaluate("element => { probe.asked = element; }")
        line = self.page.context.new_cdp_session(self.page)
        found = line.send("Runtime.evaluate", {"expression": "probe.asked"})
        tree = line.send("Accessibility.queryAXTree", {"objectId": found["result"]["objectId"]})
        line.detach()
        told = [
            tuple(str(node.get(part, {}).get("value", "")).strip() for part in ("role", "name"))
            for node in tree["nodes"]
            if not node.get("ignored")
        ]
        return [(role.lower(), name) for role, name in told if role.lower() in ROLES]


class State:
    """What an explorer shows at one moment.

    Args:
        raw: as `probe.state` tells.
        about: its controls.
    """

    def __init__(self, raw: Mapping[str, Any], about: Sequence[Mapping[str, Any]]) -> None:
        self.raw: list[Any] = list(raw["values"])
        self.visible: list[bool] = list(raw["visible"])
        self.busy = bool(raw["busy"])
        self.texts: dict[str, str] = dict(raw["texts"])
        self.drawings: list[str] = list(raw["drawings"])
        self.names = [picture["name"] for picture in raw["pictures"]]
        self.pictures = {
            picture["name"]: from_base64(picture["data"], (picture["height"], picture["width"], 4))
            for picture in raw["pictures"]
            if picture["data"]
        }
        if len(self.raw) != len(about):
            raise RuntimeError(f"the page shows {len(self.raw)} controls of an explorer that has {len(about)}")
        #: The controls that have a name, as Python knows their values.
        self.values = {
            control["name"]: value if control["options"] is None else control["options"][int(value)]
            for control, value in zip(about, self.raw, strict=True)
            if control["name"] is not None
        }


def from_base64(data: str, shape: Sequence[int]) -> np.ndarray:
    """An array of uint8, from text and its shape."""
    return np.frombuffer(base64.b64decode(data), dtype=np.uint8).reshape(shape)


def differences(state: State, wanted: Mapping[str, Any]) -> list[str]:
    """In what an explorer differs from what Python says; nothing where all is right.

    Args:
        state: what it shows.
        wanted: panel to array, uint8 (H, W) or (H, W, 3), or text; pixels may be off by one level.
    """
    shown: dict[str, Any] = {**state.texts, **state.pictures}
    found = []
    if shown.keys() != wanted.keys() or len(set(state.names)) < len(state.names):
        found.append(f"there are panels {[*state.texts, *state.names]} in place of {[*wanted]}")
    for name in shown.keys() & wanted.keys():
        if not isinstance(wanted[name], str):
            found += _pixel_differences(name, shown[name], wanted[name])
        elif "".join(shown[name].split()) != "".join(wanted[name].split()):  # a page may change white space
            found.append(f"{name} reads {shown[name]!r} in place of {wanted[name]!r}")
    return found


def _pixel_differences(name: str, shown: np.ndarray, wanted: np.ndarray) -> Iterator[str]:
    if wanted.ndim == 2:
        wanted = np.repeat(wanted[:, :, None], 3, axis=2)
    if shown.shape[:2] != wanted.shape[:2]:
        yield f"{name} has {shown.shape[:2]} pixels in place of {wanted.shape[:2]}"
        return
    if shown[:, :, 3].min() < 255:
        yield f"{name} has transparent pixels"
    off = np.abs(shown[:, :, :3].astype(int) - wanted.astype(int)).max(axis=2)
    if off.max() > 1:
        yield f"{name} is off by up to {off.max()} levels, in {(off > 1).mean():.1%} of its pixels"
