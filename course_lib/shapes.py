"""Shape arithmetic: what size comes out of a layer, and a tracer that lists every layer of a model.

The three formulas come from PyTorch's documentation of Conv2d, MaxPool2d and ConvTranspose2d; they hold for the height
and for the width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .runtime import in_mode
from .validate import validate_choice, validate_counts, validate_model, validate_number

#: The layers that `layer_size` knows.
LAYER_KINDS = ("conv", "pool", "transposed conv")


def conv_out(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Output size of a convolution, ⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1.

    Args:
        size: input height or width in pixels, >= 1.
        kernel: kernel size, >= 1.
        stride: step between two placements, >= 1.
        padding: pixels added on each side, >= 0.
        dilation: distance between two taps of the kernel, >= 1.

    >>> conv_out(28, kernel=3, padding=1), conv_out(572, kernel=3), conv_out(28, kernel=3, stride=2, padding=1)
    (28, 570, 14)
    """
    validate_counts(size=size, kernel=kernel, stride=stride, dilation=dilation)
    validate_number("padding", padding, 0, integer=True)
    reach = dilation * (kernel - 1) + 1
    if size + 2 * padding < reach:
        raise ValueError(
            f"the kernel reaches over {reach} pixels but the padded input has {size + 2 * padding}; "
            "use a smaller kernel or dilation, or more padding"
        )
    return (size + 2 * padding - reach) // stride + 1


def pool_out(size: int, kernel: int, stride: int | None = None, padding: int = 0, dilation: int = 1) -> int:
    """Output size of a pooling layer, that of a convolution.

    Args:
        size, kernel, dilation: as `conv_out`.
        stride: None for the size of the kernel.
        padding: pixels added on each side, at most half the kernel.

    >>> [pool_out(size, 2) for size in (28, 14, 7, 3)]
    [14, 7, 3, 1]
    """
    validate_counts(kernel=kernel)
    validate_number("padding", padding, 0, kernel // 2, integer=True)
    return conv_out(size, kernel, kernel if stride is None else stride, padding, dilation)


def conv_transpose_out(
    size: int, kernel: int, stride: int = 1, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> int:
    """Output size of a transposed convolution.

    (size − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1.

    Args:
        size, kernel, stride, padding, dilation: as `conv_out`, of the convolution that this one undoes.
        output_padding: extra pixels on one side, fewer than stride or dilation. A strided convolution maps several
            sizes to one; this chooses the one to come back to.

    >>> conv_transpose_out(14, kernel=2, stride=2)
    28
    >>> conv_transpose_out(4, kernel=3, stride=2, padding=1, output_padding=1)
    8
    """
    validate_counts(size=size, kernel=kernel, stride=stride, dilation=dilation)
    validate_number("padding", padding, 0, integer=True)
    validate_number("output_padding", output_padding, 0, max(stride, dilation) - 1, integer=True)
    out = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1
    if out < 1:
        raise ValueError(f"nothing is left: the output would have size {out}; use less padding or a larger input")
    return out


def classic_unet_out(size: int, levels: int = 4) -> int:
    """Output size of the U-Net of 2015: two unpadded 3×3 convolutions at each level, 2×2 poolings and up-convolutions.

    Args:
        size: input height or width. If a pooling meets an odd size, or nothing is left at the end, it is refused with
            the nearest good sizes.
        levels: number of poolings.

    >>> classic_unet_out(572)
    388
    """
    validate_counts(size=size, levels=levels)
    out = _through_classic_unet(size, levels)
    if out is None:
        # The smallest good size is 12 · 2**levels − 4; after it comes one every 2**levels pixels.
        around = range(max(1, size - 2**levels), size + 2 ** (levels + 4))
        good = [each for each in around if _through_classic_unet(each, levels) is not None]
        near = sorted(sorted(good, key=lambda each: abs(each - size))[:2])
        raise ValueError(
            f"size {size} does not fit: each of the {levels} poolings needs an even size, and something must be "
            f"left at the end; the nearest good sizes are {' and '.join(map(str, near))}"
        )
    return out


def _through_classic_unet(size: int, levels: int) -> int | None:
    for _ in range(levels):
        size -= 4
        if size <= 0 or size % 2:
            return None
        size //= 2
    size -= 4
    for _ in range(levels):
        size = 2 * size - 4
    return size if size > 0 else None


def nearest_sizes(size: int, multiple: int) -> tuple[int, ...]:
    """The next multiples of `multiple` below and above size; size alone if it is a multiple itself.

    >>> nearest_sizes(28, 16), nearest_sizes(32, 16), nearest_sizes(3, 4)
    ((16, 32), (32,), (4,))
    """
    validate_counts(size=size, multiple=multiple)
    below = size // multiple * multiple
    if below == size:
        return (size,)
    return (below, below + multiple) if below else (below + multiple,)


def layer_size(
    kind: str, size: int, kernel: int, stride: int = 1, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> tuple[int, str]:
    """Output size of a layer, and the formula with the numbers put in.

    Args:
        kind: one of `LAYER_KINDS`.
        size, kernel, stride, padding, dilation: as `conv_out`.
        output_padding: as `conv_transpose_out`; the other kinds have none, so there it must be 0.

    Returns:
        The size, and a line such as "⌊(28 + 2·1 − 1·(3 − 1) − 1) / 2⌋ + 1 = 14".
    """
    validate_choice("kind", kind, LAYER_KINDS)
    if kind == "transposed conv":
        out = conv_transpose_out(size, kernel, stride, padding, output_padding, dilation)
        return out, f"({size} − 1)·{stride} − 2·{padding} + {dilation}·({kernel} − 1) + {output_padding} + 1 = {out}"
    if output_padding:
        raise ValueError(
            f"output_padding is for transposed convolutions; with a {kind} it must be 0, got {output_padding}"
        )
    out = (pool_out if kind == "pool" else conv_out)(size, kernel, stride, padding, dilation)
    return out, f"⌊({size} + 2·{padding} − {dilation}·({kernel} − 1) − 1) / {stride}⌋ + 1 = {out}"


def halve(size: int, halvings: int) -> tuple[list[int], list[tuple[int, int]], str]:
    """A size on its way down a U-Net and up again, and a sentence about what does not fit.

    Args:
        size: height and width of the input, >= 1.
        halvings: number of 2×2 poolings, >= 1.

    Returns:
        The sizes on the way down. On the way up, deepest first, pairs of (doubled size, size of the skip); where the
        two differ, the next doubling starts from the skip's size, as if the map had been resized. The sentence is
        empty if everything fits.

    >>> halve(28, 4)[:2]
    ([28, 14, 7, 3, 1], [(2, 3), (6, 7), (14, 14), (28, 28)])
    """
    validate_counts(size=size, halvings=halvings)
    sizes = [size]
    while len(sizes) <= halvings and sizes[-1] >= 2:
        sizes.append(pool_out(sizes[-1], 2))
    good = nearest_sizes(size, 2**halvings)
    near = f"The nearest good size{'s are' if len(good) > 1 else ' is'} {' and '.join(map(str, good))}."
    if len(sizes) <= halvings:
        return sizes, [], f"Nothing is left to halve after {len(sizes) - 1} pooling{'s' * (len(sizes) != 2)}. {near}"
    up = [(conv_transpose_out(below, kernel=2, stride=2), skip) for skip, below in pairwise(sizes)][::-1]
    bad = [f"{skip} → {skip // 2} → {doubled} ≠ {skip}" for doubled, skip in reversed(up) if doubled != skip]
    return sizes, up, f"{',  '.join(bad)}. {near}" if bad else ""


def validate_multiple(name: str, size: int, multiple: int) -> None:
    """Refuse a size that a network cannot halve all the way down, and name the nearest good ones."""
    if size % multiple:
        raise ValueError(
            f"{name} {size} cannot be halved all the way down: it must be a multiple of {multiple}; "
            f"the nearest good sizes are {' and '.join(map(str, nearest_sizes(size, multiple)))}"
        )


def count_parameters(model: nn.Module) -> int:
    """How many numbers a model can train; a parameter used twice counts once."""
    validate_model(model)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@dataclass(frozen=True)
class LayerShape:
    """One layer as `trace` saw it run.

    Args:
        name: dotted path inside the model.
        kind: class name of the layer.
        in_shape: shape of its first tensor argument, batch included.
        out_shape: shape of what it returned, batch included.
        parameters: how many numbers it can train itself.
    """

    name: str
    kind: str
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    parameters: int


@torch.no_grad()
def trace(model: nn.Module, *inputs: Any, depth: int | None = None) -> list[LayerShape]:
    """Run a model once and list its layers in the order in which they ran.

    The model runs in eval mode and without gradients; afterwards it is as before.

    Args:
        model: any module.
        inputs: what to call it with, such as x_t (B, C, H, W) and t (B,).
        depth: None lists the layers that have no layer inside; 1 lists the model's own parts, 2 the parts of these,
            and so on.

    Returns:
        One row per call; a layer that runs twice has two rows, and its parameters count in the first.
    """
    validate_model(model)
    if depth is not None:
        validate_counts(depth=depth)
    rows: list[LayerShape] = []
    seen: set[nn.Module] = set()
    hooks = []

    def record(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, args: Sequence[Any], output: Any) -> None:
            tensor = next((a for a in args if isinstance(a, Tensor)), None)
            own = 0 if module in seen else count_parameters(module)
            seen.add(module)
            in_shape = () if tensor is None else tuple(tensor.shape)
            rows.append(LayerShape(name, type(module).__name__, in_shape, tuple(output.shape), own))

        return hook

    parts = dict(model.named_modules())
    for name, module in parts.items():
        if not name:
            continue
        level = name.count(".") + 1
        is_leaf = not any(module.children())
        # A ModuleList never runs itself: at the depth where the list ends, show its members.
        in_list = level - 1 == depth and isinstance(parts[name.rpartition(".")[0]], nn.ModuleList)
        if (is_leaf and (depth is None or level <= depth)) or level == depth or in_list:
            hooks.append(module.register_forward_hook(record(name, module)))
    try:
        with in_mode(model, training=False):
            model(*inputs)
    finally:
        for handle in hooks:
            handle.remove()
    return rows


def format_trace(rows: Sequence[LayerShape]) -> str:
    """A trace as a table in plain text, with the total of the parameters at the end."""
    head = ("layer", "kind", "in", "out", "parameters")
    cells = [
        (r.name, r.kind, "×".join(map(str, r.in_shape)), "×".join(map(str, r.out_shape)), f"{r.parameters:,}")
        for r in rows
    ]
    total = ("total", "", "", "", f"{sum(r.parameters for r in rows):,}")
    widths = [max(len(row[i]) for row in (head, *cells, total)) for i in range(len(head))]
    lines = [
        "  ".join(
            c.rjust(w) if i == len(head) - 1 else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *cells, total)
    ]
    rule = "─" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])
