"""Pictures side by side: as pixels, as a PNG, as a GIF.

Pictures are floats (B, C, H, W) with -1 for black and 1 for white; values outside are clipped, as a screen would.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from ..data import to_uint8
from ..validate import validate_choice, validate_number, validate_pictures
from .png import Png, encode
from .words import counted

#: The gray between pictures; widgets/static/canvas.js paints the same.
GROUND = 205


def grid(x: Tensor, columns: int | None = None, pad: int = 1, span: float = 1.0) -> Tensor:
    """Pictures side by side on a light gray ground.

    Args:
        x: pictures, (B, C, H, W) with C = 1 or 3, floats.
        columns: pictures in a row; None makes about as many columns as rows.
        pad: pixels between and around the pictures.
        span: -span becomes black and span white.

    Returns:
        uint8 on the CPU, (rows·(H+pad)+pad, columns·(W+pad)+pad), with a last axis of 3 for color.
    """
    validate_pictures(x)
    B, C, H, W = x.shape
    validate_choice("channels of x", C, (1, 3))
    columns = min(B, math.ceil(math.sqrt(B))) if columns is None else columns
    validate_number("columns", columns, 1, integer=True)
    validate_number("pad", pad, 0, integer=True)
    validate_number("span", span, 1e-9)
    rows = math.ceil(B / columns)
    cells = torch.full((rows * columns, C, H + pad, W + pad), GROUND, dtype=torch.uint8)
    cells[:B, :, :H, :W] = to_uint8(x.detach().cpu() / span)
    body = cells.view(rows, columns, C, H + pad, W + pad).permute(0, 3, 1, 4, 2)
    out = torch.full((rows * (H + pad) + pad, columns * (W + pad) + pad, C), GROUND, dtype=torch.uint8)
    out[pad:, pad:] = body.reshape(rows * (H + pad), columns * (W + pad), C)
    return out.squeeze(2) if C == 1 else out


def to_png(x: Tensor, columns: int | None = None, scale: int = 3, pad: int = 1, span: float = 1.0) -> Png:
    """Many pictures as one PNG: the fastest way to show them.

    Args:
        x, columns, pad, span: as `grid`.
        scale: each pixel becomes a square of this side.
    """
    png = encode(grid(x, columns, pad, span), scale)
    across = min(len(x), math.ceil(math.sqrt(len(x))) if columns is None else columns)
    rows = math.ceil(len(x) / across)
    png.alt = f"{counted(len(x))}{f', {across} in a row' if rows > 1 else ' in a row' if across > 1 else ''}."
    return png


def to_gif(frames: Sequence[Tensor], scale: int = 3, seconds: float = 4, hold: float = 2) -> bytes:
    """Frames one after the other as a GIF that loops.

    32 levels of gray, or 64 colors fitted to the last frame, keep it small.

    Args:
        frames: at least one, each uint8 (H, W) or (H, W, 3) on the CPU, such as `grid` makes; all of one shape.
        scale: each pixel becomes a square of this side.
        seconds: for all frames but the last.
        hold: seconds for the last.
    """
    _validate_frames(frames)
    validate_number("scale", scale, 1, integer=True)
    images = [Image.fromarray(pixels.numpy()) for pixels in frames]
    palette = images[-1].quantize(64, method=Image.Quantize.FASTOCTREE) if images[-1].mode == "RGB" else None
    small = [
        image.quantize(palette=palette, dither=Image.Dither.NONE)
        if palette
        else image.point([g // 8 * 255 // 31 for g in range(256)])
        for image in images
    ]
    large = [image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST) for image in small]
    each = max(20, round(1000 * seconds / max(len(large) - 1, 1)))  # browsers show nothing faster than 20 ms
    durations = [each] * (len(large) - 1) + [round(1000 * hold)]
    buffer = io.BytesIO()
    large[0].save(buffer, "GIF", save_all=True, append_images=large[1:], duration=durations, loop=0)
    return buffer.getvalue()


def _validate_frames(frames: Sequence[Tensor]) -> None:
    if not frames:
        raise ValueError("frames must hold at least one picture, got none")
    for pixels in frames:
        if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8:
            got = pixels.dtype if isinstance(pixels, Tensor) else type(pixels).__name__
            raise TypeError(f"frames must hold uint8 tensors, got {got}; make them with course_lib.viz.grid")
        if pixels.shape != frames[0].shape or pixels.ndim not in (2, 3):
            raise ValueError(
                f"frames must all have one shape, (H, W) or (H, W, 3), got {tuple(frames[0].shape)} and "
                f"{tuple(pixels.shape)}"
            )
