"""The canvas of every picture slider: the browser holds stacks of pictures and mixes them with weights from a table.

When you move a slider, one number changes, and the browser paints the picture for it. It does not wait for Python, so
it answers within a frame, even while a cell runs or in a saved page without a kernel. It gets everything once, at the
start: pictures with 8 bits, noise with 16, the weights for every position, and the words beside them. The course's own
functions compute all of this; the browser only multiplies and adds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import anywidget
import numpy as np
import torch
import traitlets
from torch import Tensor

from ..data import to_uint8
from ..validate import validate_choice, validate_number, validate_pictures
from .assets import script, style_sheet

#: How many bytes one widget may send to the browser; in a saved notebook they become a third more.
MOST_BYTES = 280_000
#: Stands between the texts of two positions.
_RECORD = "\x1e"
#: Stores bytes as one more buffer of the widget, and returns the number of that buffer.
Add = Callable[[bytes], int]


@dataclass(frozen=True, eq=False)
class Stack:
    """Pictures as the browser keeps them.

    Args:
        x: floats, (B, C, H, W); or (F, B, C, H, W), one frame for each position of the slider.
        bits: 8 for pictures, which are clipped to [-1, 1]; 7 for long films of pictures, which are then off by at most
            one gray level but take less room; 16 for noise, in steps of 1/32767 of the largest value.
    """

    x: Tensor
    bits: int = 8

    def __post_init__(self) -> None:
        if self.bits not in (7, 8, 16):
            raise ValueError(f"bits must be 7, 8 or 16, got {self.bits}")

    def pack(self, add: Add) -> dict[str, Any]:
        """Store the values as whole numbers; the browser computes value = scale · stored + offset."""
        x = self.x.detach().cpu()
        frames = len(x) if x.dim() == 5 else 1
        if self.bits < 16:
            most = 2**self.bits - 1
            whole = ((x.clamp(-1, 1) + 1) * (most / 2)).round().to(torch.uint8)
            return {
                "bits": 8,
                "scale": 2 / most,
                "offset": -1.0,
                "frames": frames,
                "data": add(whole.numpy().tobytes()),
            }
        largest = max(float(x.abs().max()), 1e-12)
        stored = (x.double() / largest * 32767).round().numpy().astype("<i2")
        return {"bits": 16, "scale": largest / 32767, "offset": 0.0, "frames": frames, "data": add(stored.tobytes())}


@dataclass(frozen=True)
class PicturePanel:
    """A grid of pictures: a weighted sum of stacks.

    Args:
        name: the name of the panel.
        terms: for each layer, pairs of a stack and the column of the table that holds its weights, or None for the
            weight 1. Empty if Python sends the pictures, see `PictureCanvas.show_live`.
        columns: pictures in a row.
        scale: how many pixels of the screen a pixel is wide.
        label: words above the pictures.
        beside: the width in pixels of a label to the left of the pictures; 0 puts the label above.
    """

    name: str
    terms: Sequence[Sequence[tuple[int, int | None]]]
    columns: int
    scale: int
    label: str = ""
    beside: int = 0

    def pack(self, add: Add) -> dict[str, Any]:
        del add
        terms = [[[stack, -1 if column is None else column] for stack, column in layer] for layer in self.terms]
        kept = {"name": self.name, "columns": self.columns, "scale": self.scale, "label": self.label}
        return {"kind": "pictures", "terms": terms, "beside": self.beside, **kept}


@dataclass(frozen=True)
class TextPanel:
    """Words that follow the slider.

    Args:
        name: the name of the panel.
        texts: for each layer, the text of each position, with "\\n" between lines. Empty if Python sends the text.
        lines: the height of the panel in lines. It never changes, so that the page does not jump.
        width: in pixels, or None for the rest of the row.
        title: words in bold above the text.
    """

    name: str
    texts: Sequence[Sequence[str]]
    lines: int = 1
    width: int | None = None
    title: str = ""

    def pack(self, add: Add) -> dict[str, Any]:
        texts = [add(_RECORD.join(layer).encode()) for layer in self.texts]
        kept = {"name": self.name, "lines": self.lines, "width": self.width, "title": self.title}
        return {"kind": "text", "texts": texts, **kept}


@dataclass(frozen=True)
class Marker:
    """Something that moves on a drawing.

    Args:
        shape: "line" from top to bottom, "dot", or "arrow" that points down.
        x: for each layer, the column of the table that says how far to the right it stands, in units of the drawing.
        y: for a dot, the columns that say how far down; for a line, two numbers (top, bottom); for an arrow, the number
            where its tip is.
        color: in CSS.
    """

    shape: str
    x: Sequence[int]
    y: Sequence[int] | tuple[float, float] | float
    color: str

    def pack(self) -> dict[str, Any]:
        y = list(self.y) if isinstance(self.y, Sequence) else self.y
        return {"shape": self.shape, "x": list(self.x), "y": y, "color": self.color}


@dataclass(frozen=True)
class DrawingPanel:
    """A drawing with markers that follow the slider.

    Args:
        name: the name of the panel.
        svg: the drawing; the color `currentColor` follows the theme of the page.
        markers: what moves on the drawing.
        alt: the drawing in words.
        width: its width on the screen, in pixels.
    """

    name: str
    svg: str
    markers: Sequence[Marker]
    alt: str
    width: int

    def pack(self, add: Add) -> dict[str, Any]:
        kept = {"name": self.name, "alt": self.alt, "width": self.width}
        markers = [marker.pack() for marker in self.markers]
        return {"kind": "drawing", "svg": add(self.svg.encode()), "markers": markers, **kept}


@dataclass(frozen=True)
class StepPanel:
    """Two buttons: one goes a position back, the other a position on.

    Args:
        name: the name of the panel.
    """

    name: str = "steps"

    def pack(self, add: Add) -> dict[str, Any]:
        del add
        return {"kind": "steps", "name": self.name}


Panel = PicturePanel | TextPanel | DrawingPanel | StepPanel


class PictureCanvas(anywidget.AnyWidget):
    """Panels that the browser paints, and that follow three numbers: `value`, `layer` and `clip`.

    Use `ipywidgets.jslink`, which works in the browser, to join these numbers to sliders and buttons. With
    `ipywidgets.link` every move would travel through the kernel.

    Args:
        shape: (B, C, H, W) of every frame of every stack; C is 1 or 3.
        panels: rows of panels from top to bottom.
        stacks: what the picture panels mix.
        table: floats, (positions, K): weights, and where markers stand. Row i belongs to the value low + i · step.
        low, step: see table.
        value, layer, clip: the three numbers at the beginning. A layer is a way to read the table, such as one kind of
            noise. Without clip, the gray scale reaches from -span to span instead of from -1 to 1.
        span: see clip.
        name: what it shows, for people who cannot see it.

    Raises:
        ValueError: the canvas would hold more than `MOST_BYTES`. The message says how to make it smaller.
    """

    _esm = script("controls", "canvas")
    _css = style_sheet("canvas")
    spec = traitlets.Dict().tag(sync=True)
    buffers = traitlets.List(traitlets.Bytes()).tag(sync=True)
    value = traitlets.Float().tag(sync=True)
    layer = traitlets.Int().tag(sync=True)
    clip = traitlets.Bool(True).tag(sync=True)
    #: The pictures and texts that Python computed last, and the value for which it did.
    live = traitlets.Bytes().tag(sync=True)
    live_texts = traitlets.List(traitlets.Unicode()).tag(sync=True)
    shown = traitlets.Float(-1.0).tag(sync=True)

    def __init__(
        self,
        shape: Sequence[int],
        panels: Sequence[Sequence[Panel]],
        *,
        stacks: Sequence[Stack] = (),
        table: Tensor | None = None,
        low: float = 0.0,
        step: float = 1.0,
        value: float = 0.0,
        layer: int = 0,
        clip: bool = True,
        span: float = 3.0,
        name: str = "pictures",
    ) -> None:
        validate_number("step", step, 1e-9)
        validate_choice("channels", shape[1], (1, 3))
        identity = uuid4().hex
        packed: list[bytes] = []

        def add(data: bytes) -> int:
            packed.append(zlib.compress(data))
            return len(packed) - 1

        table = torch.zeros(1, 0) if table is None else table.detach().cpu()
        spec = {
            "shape": [int(size) for size in shape],
            "stacks": [stack.pack(add) for stack in stacks],
            "panels": [[panel.pack(add) for panel in row] for row in panels],
            "table": add(table.double().numpy().astype("<f4").tobytes()),
            "positions": len(table),
            "low": low,
            "step": step,
            "span": span,
            "name": name,
            "id": identity,
        }
        size = sum(map(len, packed))
        if size > MOST_BYTES:
            raise ValueError(
                f"the pictures take {size:,} bytes, and a slider holds at most {MOST_BYTES:,}, so that saved notebooks "
                "stay small and pages quick; give it fewer pictures, such as x[:16], or fewer steps, such as steps[::5]"
            )
        super().__init__(model_id=identity, spec=spec, buffers=packed, value=value, layer=layer, clip=clip)

    def show_live(self, value: float, x: Sequence[Tensor], texts: Sequence[str] = ()) -> None:
        """Send what the live panels show, in one message.

        Args:
            value: the value for which it was computed.
            x: the pictures of each live panel, (B, C, H, W), floats, which are clipped to [-1, 1].
            texts: the text of each live text panel.
        """
        for pictures in x:
            validate_pictures(pictures, "x")
            if list(pictures.shape) != self.spec["shape"]:
                raise ValueError(f"x must have the shape {self.spec['shape']}, got {list(pictures.shape)}")
        data = b"".join(to_uint8(pictures.detach().cpu()).numpy().tobytes() for pictures in x)
        with self.hold_sync():
            self.live, self.live_texts, self.shown = data, list(texts), value


def unpack(canvas: PictureCanvas, index: int, dtype: Any) -> np.ndarray:
    """One of the canvas's buffers as a flat array, as the browser reads it."""
    return np.frombuffer(zlib.decompress(canvas.buffers[index]), dtype=dtype)
