"""Explorers of sizes: which pixels a layer's kernel covers, and how a size changes on its way through a U-Net.

The arithmetic is small enough for the page itself, so the drawings follow a slider within a frame, even while a cell
runs or in a saved page without a kernel. `layer_view` and `unet_view` compute the same with the library, and tests
compare the two for every value of every slider.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import anywidget
import torch
import torch.nn.functional as F
import traitlets

from ..shapes import LAYER_KINDS, halve, layer_size
from ..validate import validate_choice, validate_number
from .assets import script, style_sheet
from .controls import choice, integer
from .explorer import Explorer

#: The smallest and the largest value of each number of a layer.
LAYER_LIMITS = {
    "size": (1, 32),
    "kernel": (1, 7),
    "stride": (1, 4),
    "padding": (0, 4),
    "output_padding": (0, 3),
    "dilation": (1, 3),
}
#: The same for a U-Net.
UNET_LIMITS = {"size": (1, 128), "halvings": (1, 5)}
_SCRIPT = script("controls", "sizes", "drawings", "diagram")


def _whole(value: int, limits: tuple[int, int]) -> Any:
    """A trait that Python and the browser share: a whole number within limits."""
    return traitlets.Int(value, min=limits[0], max=limits[1]).tag(sync=True)


class LayerDiagram(anywidget.AnyWidget):
    """A layer's arithmetic with your numbers, and which pixels its kernel covers; see `shape_explorer`.

    Args:
        kind: "conv", "pool" or "transposed conv"; the browser knows it by its place in `LAYER_KINDS`, `kind_index`.
        size: input height and width, 1..32.
        kernel: 1..7.
        stride: 1..4.
        padding: 0..4.
        output_padding: 0..3, for transposed convolutions.
        dilation: 1..3.
    """

    _esm = _SCRIPT
    _css = style_sheet("diagram")
    scene = traitlets.Unicode("layer", read_only=True).tag(sync=True)
    kind_index = _whole(0, (0, len(LAYER_KINDS) - 1))
    size = _whole(7, LAYER_LIMITS["size"])
    kernel = _whole(3, LAYER_LIMITS["kernel"])
    stride = _whole(1, LAYER_LIMITS["stride"])
    padding = _whole(0, LAYER_LIMITS["padding"])
    output_padding = _whole(0, LAYER_LIMITS["output_padding"])
    dilation = _whole(1, LAYER_LIMITS["dilation"])

    def __init__(
        self,
        kind: str = "conv",
        *,
        size: int = 7,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
        dilation: int = 1,
    ) -> None:
        validate_choice("kind", kind, LAYER_KINDS)
        numbers = dict(zip(LAYER_LIMITS, (size, kernel, stride, padding, output_padding, dilation), strict=True))
        for name, value in numbers.items():
            validate_number(name, value, *LAYER_LIMITS[name], integer=True)
        super().__init__(kind_index=LAYER_KINDS.index(kind), **numbers)

    @property
    def kind(self) -> str:
        """The layer, one of `LAYER_KINDS`."""
        return LAYER_KINDS[self.kind_index]


class UnetDiagram(anywidget.AnyWidget):
    """A size that is halved on its way down a U-Net and doubled on its way up; skips that do not fit are red.

    Args:
        size: height and width of the input, 1..128.
        halvings: number of poolings, 1..5.
    """

    _esm = _SCRIPT
    _css = style_sheet("diagram")
    scene = traitlets.Unicode("unet", read_only=True).tag(sync=True)
    size = _whole(28, UNET_LIMITS["size"])
    halvings = _whole(4, UNET_LIMITS["halvings"])

    def __init__(self, size: int = 28, halvings: int = 4) -> None:
        for name, value in (("size", size), ("halvings", halvings)):
            validate_number(name, value, *UNET_LIMITS[name], integer=True)
        super().__init__(size=size, halvings=halvings)


def shape_explorer(
    kind: str = "conv",
    *,
    size: int = 7,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
) -> Explorer:
    """What size comes out of a layer: the formula with your numbers, and which pixels the kernel covers.

    Point at a pixel of the drawing, or go to it with the arrow keys, to see which pixels it looks at.

    Args:
        kind: "conv", "pool" or "transposed conv".
        size: input height and width, 1..32.
        kernel: 1..7.
        stride: 1..4.
        padding: 0..4.
        output_padding: 0..3, for transposed convolutions.
        dilation: 1..3.

    Returns:
        Explorer with these values. A combination that a layer refuses shows the reason instead of a picture.
    """
    numbers = dict(zip(LAYER_LIMITS, (size, kernel, stride, padding, output_padding, dilation), strict=True))
    diagram = LayerDiagram(kind, **numbers)
    controls = {"kind": choice("layer", LAYER_KINDS, kind, width="640px")}
    for name, (low, high) in LAYER_LIMITS.items():
        controls[name] = integer(name.replace("_", " "), numbers[name], low, high, width="300px")
    joined = {"kind": ("index", "kind_index"), **{name: ("value", name) for name in LAYER_LIMITS}}
    return Explorer(layer_view, controls, diagram, joined)


def unet_explorer(size: int = 28, halvings: int = 4) -> Explorer:
    """How a size is halved and doubled on its way through a U-Net, and where a skip does not fit.

    Args:
        size: height and width of the input, 1..128.
        halvings: number of poolings, 1..5.

    Returns:
        Explorer with the values `size` and `halvings`.
    """
    diagram = UnetDiagram(size, halvings)
    numbers = {"size": size, "halvings": halvings}
    controls = {name: integer(name, numbers[name], *limits) for name, limits in UNET_LIMITS.items()}
    return Explorer(unet_view, controls, diagram, {name: ("value", name) for name in UNET_LIMITS})


@cache
def _spread(places: int, kernel: int, stride: int, dilation: int) -> tuple[int, ...]:
    """How often a kernel with this many positions touches each row: a transposed convolution of ones with ones."""
    ones = torch.ones(1, 1, places), torch.ones(1, 1, kernel)
    return tuple(int(count) for count in F.conv_transpose1d(*ones, stride=stride, dilation=dilation).flatten())


def layer_view(
    kind: str, size: int, kernel: int, stride: int = 1, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> dict[str, str]:
    """What the text panels of a `LayerDiagram` say, computed by the library and by PyTorch.

    Args:
        kind, size, kernel, stride, padding, output_padding, dilation: as `course_lib.shapes.layer_size`.

    Returns:
        "result": the formula with the numbers put in and the sizes, in two lines, or why there is no such layer;
        "note": what the hatching means, and which rows and columns the kernel never touches.

    >>> layer_view("conv", 7, 3, stride=2, padding=1)["result"].split("\\n")
    ['⌊(7 + 2·1 − 1·(3 − 1) − 1) / 2⌋ + 1 = 4', '7 × 7 → 4 × 4']
    >>> layer_view("pool", 7, 2, stride=2)["note"]
    'Red: the last row and column are never looked at.'
    """
    validate_choice("kind", kind, LAYER_KINDS)
    try:
        out, formula = layer_size(kind, size, kernel, stride, padding, output_padding, dilation)
    except ValueError as refusal:
        return {"result": str(refusal), "note": ""}
    if kind == "transposed conv":
        counts = *_spread(size, kernel, stride, dilation), *[0] * output_padding
        notes = _transposed_notes(counts[padding : padding + out], padding, output_padding)
    else:
        counts = *_spread(out, kernel, stride, dilation), *[0] * (size + 2 * padding)
        notes = _conv_notes(counts[padding : padding + size], padding)
    return {"result": f"{formula}\n{size} × {size} → {out} × {out}", "note": " ".join(notes)}


def _conv_notes(touched: Sequence[int], padding: int) -> Iterator[str]:
    """Sentences about the hatching and about missed rows; touched says how often the kernel visits each input row."""
    size, missed = len(touched), touched.count(0)
    if padding:
        yield "Hatched: padding."
    if missed == size:
        yield "Red: no pixel of the input is ever looked at."
    elif missed and not any(touched[-missed:]):
        which = "row and column are" if missed == 1 else f"{missed} rows and columns are"
        yield f"Red: the last {which} never looked at."
    elif missed:
        are = "is" if missed == 1 else "are"
        yield f"Red: {missed} of {size} rows and columns of the input {are} never looked at."


def _transposed_notes(touched: Sequence[int], padding: int, output_padding: int) -> Iterator[str]:
    """The same for a transposed convolution; touched says how often the kernel visits each row of the output."""
    out, missed = len(touched), touched.count(0)
    if padding:
        yield "Hatched: cut off by the padding."
    if output_padding:
        yield f"The output padding adds {output_padding} at the right and at the bottom."
    if max(touched) > 1:
        yield "Where squares overlap, they add up."
    if missed == out:
        yield "Red: no pixel of the output receives anything but the bias."
    elif missed:
        receive = "receives" if missed == 1 else "receive"
        yield f"Red: {missed} of {out} rows and columns of the output {receive} nothing but the bias."


def unet_view(size: int, halvings: int) -> dict[str, str]:
    """What the text panel of a `UnetDiagram` says, computed by `course_lib.shapes.halve`.

    Args:
        size: height and width of the input, >= 1.
        halvings: number of poolings, >= 1.

    Returns:
        "result": which skips fit, and why the others do not, in two lines.

    >>> print(unet_view(28, 3)["result"])
    7 → 3 → 6 ≠ 7. The nearest good sizes are 24 and 32.
    7 is odd: its pool drops a row and a column, which doubling does not bring back. Only multiples of 8 can be \
halved 3 times.
    """
    _, up, problem = halve(size, halvings)
    multiple, times = 2**halvings, "once" if halvings == 1 else f"{halvings} times"
    if not problem:
        why = f"{size} is a multiple of {multiple}, so no pool meets an odd size."
        return {"result": f"{size} can be halved {times}: every skip fits.\n{why}"}
    odd = [str(skip) for doubled, skip in reversed(up) if doubled != skip]
    if not odd:
        why = "A map of one pixel cannot be halved."
    elif len(odd) == 1:
        why = f"{odd[0]} is odd: its pool drops a row and a column, which doubling does not bring back."
    else:
        several = f"{', '.join(odd[:-1])} and {odd[-1]}"
        why = f"{several} are odd: their pools drop a row and a column, which doubling does not bring back."
    return {"result": f"{problem}\n{why} Only multiples of {multiple} can be halved {times}."}
