"""What the tests of runs share: pictures, a short run, and how to compare two of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from course_lib.checkpoint import load_checkpoint
from course_lib.runs import RunConfig, SaveEvery, run

SETTINGS: dict[str, Any] = dict(size=8, channels=[8, 16], steps=6, batch_size=4, precision="no", compile="no")


def write_picture(path: Path, width: int = 8, height: int = 8, seed: int = 0) -> None:
    """Noise in color."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with path.open("wb") as file:  # Pillow takes no names that are not UTF-8
        Image.fromarray(pixels).save(file, "PNG")


def go(out: Path, config: RunConfig | None, updates: int = 2, **options: Any) -> bool:
    """A run on the CPU that saves every few updates."""
    return run(out, config, device="cpu", save_every=SaveEvery(None, updates), **options)


def files(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, besides hidden files such as the lock."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}


def averaged(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint."""
    return dict(load_checkpoint(path).model.state_dict())


def same_weights(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same weights, bit for bit."""
    mine, theirs = averaged(a), averaged(b)
    return mine.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in mine.items())


def edit_card(out: Path, **changes: Any) -> None:
    """Change a config.json by hand; a setting that is named is changed wherever it stands."""
    card = json.loads((out / "config.json").read_text())
    for part in (card, card["settings"], card["settings"]["train"], card["settings"]["unet"]):
        part.update({key: value for key, value in changes.items() if key in part})
    (out / "config.json").write_text(json.dumps(card))


def apart(start: Mapping[str, Tensor], end: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """How far another training ended from where this one did, as a share of the way that this one went.

    It compares all weights together: a bias before a GroupNorm has a gradient of rounding errors, and goes anywhere.
    """
    a, b, c = (torch.cat([state[name].flatten() for name in start]) for state in (start, end, other))
    return float((c - b).norm() / (b - a).norm())


class BadLuck:
    """From its call `number` on, something goes wrong."""

    def __init__(self, number: int) -> None:
        self.number, self.calls = number, 0

    def due(self) -> bool:
        """Count a call."""
        self.calls += 1
        return self.calls >= self.number
