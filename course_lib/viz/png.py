"""PNG bytes that know their size, their pixels and what they show."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..validate import validate_number


class Png(bytes):
    """The bytes of a PNG; Jupyter shows them as a picture.

    `alt` describes the picture to people who cannot see it; Jupyter gets it as the metadata "alt" of image/png.
    """

    alt: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width, height = struct.unpack(">II", self[16:24])
        return width, height

    def pixels(self) -> Tensor:
        """The decoded pixels, uint8, (H, W) for gray and (H, W, 3) for color."""
        with Image.open(io.BytesIO(self)) as opened:
            image = opened.convert("L" if opened.mode == "L" else "RGB")
        flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return flat.view(image.height, image.width, *((3,) if image.mode == "RGB" else ()))

    def _repr_png_(self) -> bytes:
        return bytes(self)

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        words = self.alt or f"A picture of {self.size[0]}×{self.size[1]} pixels."
        return {"image/png": base64.b64encode(self).decode()}, {"image/png": {"alt": words}}

    def __repr__(self) -> str:
        return f"Png({self.size[0]}×{self.size[1]} pixels, {len(self):,} bytes)"

    __str__ = __repr__


def encode(pixels: Tensor, scale: int = 1) -> Png:
    """Pixels as a PNG, each of them a square of scale × scale.

    Repeated lines are stored as "the same as above", which makes this faster than a general encoder.

    Args:
        pixels: uint8, (H, W) for gray or (H, W, 3) for color, on the CPU.
        scale: enlargement, nearest neighbor.
    """
    validate_number("scale", scale, 1, integer=True)
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8:
        got = pixels.dtype if isinstance(pixels, Tensor) else type(pixels).__name__
        raise TypeError(f"pixels must be a uint8 tensor, got {got}; use course_lib.data.to_uint8")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(f"pixels must have shape (H, W) or (H, W, 3), got {tuple(pixels.shape)}")
    height, width = pixels.shape[:2]
    lines = pixels.repeat_interleave(scale, 1).reshape(height, -1)
    raw = torch.zeros(height, scale, lines.shape[1] + 1, dtype=torch.uint8)
    raw[:, 0, 1:] = lines
    raw[:, 1:, 0] = 2  # filter type "up": this line minus the one above, all zeros here
    header = struct.pack(">IIBBBBB", width * scale, height * scale, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw.numpy().tobytes(), 1)), (b"IEND", b""))
    parts = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in chunks)
    return Png(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
