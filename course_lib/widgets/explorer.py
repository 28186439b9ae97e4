"""What all explorers have in common: controls above, and a canvas below that follows them."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch

from .. import viz
from ..validate import validate_choice
from ..viz.pictures import GROUND

#: What a view returns: for each panel by name, the pixels that it shows, uint8 (H, W) or (H, W, 3), or the words.
View = Mapping[str, "np.ndarray | str"]


class Explorer(ipywidgets.VBox):  # type: ignore[misc]
    """Controls, and a canvas that follows them in the browser.

    Args:
        view: a function that gets the value of every control by name, and returns what each panel shows. It always
            returns the same panels in the same sizes.
        controls: the ipywidgets controls by name; each has a `value`.
        canvas: the widget that shows the panels.
        joined: by the name of a control, which trait of the control drives which trait of the canvas in the browser.
        extra: more widgets to the right of the controls, such as a Play button.
    """

    def __init__(
        self,
        view: Callable[..., View],
        controls: Mapping[str, Any],
        canvas: Any,
        joined: Mapping[str, tuple[str, str]],
        *,
        extra: Sequence[Any] = (),
    ) -> None:
        super().__init__()
        self.view, self.canvas = view, canvas
        self.controls = dict(controls)
        self.links = [
            ipywidgets.jslink((self.controls[name], trait), (canvas, target))
            for name, (trait, target) in joined.items()
        ]
        self.errors = ipywidgets.Output()
        bar = ipywidgets.HBox([*self.controls.values(), *extra], layout={"flex_flow": "row wrap", "max_width": "760px"})
        self.children = (bar, canvas, self.errors)
        self.add_class("course-explorer")

    def __getattr__(self, name: str) -> Any:
        control = self.__dict__.get("controls", {}).get(name)
        if control is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return control.value

    def __setattr__(self, name: str, value: Any) -> None:
        control = self.__dict__.get("controls", {}).get(name)
        if control is None:
            super().__setattr__(name, value)
        else:
            control.value = value

    def values(self) -> dict[str, Any]:
        """The value of every control, by name."""
        return {name: control.value for name, control in self.controls.items()}

    def set(self, **values: Any) -> None:
        """Set several controls."""
        for name, value in values.items():
            validate_choice("control", name, self.controls)
            self.controls[name].value = value

    def positions(self, name: str, limit: int = 25) -> list[Any]:
        """The values that a control can take; at most `limit` of them, evenly spread, with both ends."""
        validate_choice("control", name, self.controls)
        control = self.controls[name]
        if hasattr(control, "options"):
            found = [option[1] if isinstance(option, tuple) else option for option in control.options]
        elif isinstance(control.value, bool):
            found = [False, True]
        else:
            count = round((control.max - control.min) / control.step) + 1
            found = [type(control.min)(control.min + i * control.step) for i in range(count)]
        if len(found) <= limit:
            return found
        return [found[round(i * (len(found) - 1) / (limit - 1))] for i in range(limit)]

    def follow(self, name: str, compute: Callable[[Any], None]) -> None:
        """Call `compute` with each new value of a control, and show an error until a later value works.

        The browser waits for Python's answer and then sends the newest value, so values do not queue up.
        """

        def changed(_: object = None) -> None:
            try:
                compute(self.controls[name].value)
            except Exception as error:
                trace = traceback.format_exception(error)
                self.errors.outputs = (
                    {"output_type": "error", "ename": type(error).__name__, "evalue": str(error), "traceback": trace},
                )
                raise
            if self.errors.outputs:
                self.errors.outputs = ()

        compute(self.controls[name].value)
        self.controls[name].observe(changed, "value")

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The live widget, and for pages that cannot run it, a still picture and how to get the live one."""
        bundle = dict(super()._repr_mimebundle_(**options) or {})
        bundle["text/plain"] = "A slider. To see it, run this cell again; in the JupyterLab of `make lab` it stays."
        pictures = [panel for panel in self.view(**self.values()).values() if not isinstance(panel, str)]
        if pictures:
            bundle["image/png"] = base64.b64encode(_stacked(pictures)).decode()
        return bundle


def _stacked(pictures: Sequence[np.ndarray]) -> viz.Png:
    """Pictures below each other, twice as large, as one PNG."""
    wide = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        row = np.full((picture.shape[0], wide, 3), GROUND, dtype=np.uint8)
        row[:, : picture.shape[1]] = picture if picture.ndim == 3 else picture[..., None]
        rows.append(row)
    return viz.encode(torch.from_numpy(np.concatenate(rows)), 2)
