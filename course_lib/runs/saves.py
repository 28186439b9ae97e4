"""Checkpoints of a run: written so that no crash leaves a wrong one, and read with an eye for damage."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import load_checkpoint, load_tensors, move, save_checkpoint, save_tensors, sync_folder
from ..schedule import Schedule, validate_schedule
from ..train import EMA, TrainState
from ..unet import UNet
from ..validate import validate_model
from .folder import checkpoints, clean, remove

FORMAT = 1
#: How many checkpoints of a run stay.
KEPT = 2


@dataclass(frozen=True)
class Saved:
    """A checkpoint of a run, as read back.

    Args:
        path: its folder.
        weights, averaged: for `load_state_dict`.
        ema_updates: how often the average has moved.
        state: where the training stood.
        losses: of the last updates, the newest last.
        details: from the card of its model.safetensors.
    """

    path: Path
    weights: dict[str, Tensor]
    averaged: dict[str, Tensor]
    ema_updates: int
    state: TrainState
    losses: Tensor
    details: dict[str, Any]

    def restore(self, model: UNet, ema: EMA[UNet]) -> None:
        """Put the weights into a network and its average.

        Raises:
            ValueError: they are of another network.
        """
        try:
            model.load_state_dict(self.weights)
            ema.model.load_state_dict(self.averaged)
        except RuntimeError as error:
            config = self.path.parent / "config.json"
            raise ValueError(f"{self.path} is not of the network of {config}: {error}") from error
        ema.updates = self.ema_updates


def save_state(
    folder: Path,
    model: UNet,
    ema: EMA[UNet],
    schedule: Schedule,
    target: str,
    state: TrainState,
    details: dict[str, Any],
    losses: Tensor | None = None,
) -> Path:
    """Write a checkpoint of a run, then remove all but the last two.

    It is written under another name, and renamed when all of it is on the disk.

    Args:
        folder: of the run.
        model, ema, schedule, target, state: what there is to keep.
        details: for the card of the averaged weights.
        losses: of the last updates, (n,), or None.

    Returns:
        The folder of the checkpoint.

    Raises:
        FloatingPointError: some weight is not finite, so nothing is written.
        OSError: the disk is full, or the folder cannot be written; earlier checkpoints are still there.
    """
    validate_model(model)
    validate_schedule(schedule)
    validate_weights(model, state.step)
    path = folder / f"step-{state.step:08d}"
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=folder))
    try:
        save_checkpoint(temporary / "model.safetensors", ema.model, schedule, target=target, details=details)
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"moments.{name}": value for name, value in state.moments.items()}
        tensors["losses.recent"] = torch.empty(0) if losses is None else losses
        card = {"format": FORMAT, "step": state.step, "seconds": state.seconds, "ema_updates": ema.updates}
        save_tensors(temporary / "state.safetensors", tensors, card)
        os.chmod(temporary, 0o755)
        sync_folder(temporary)
        if path.exists():
            remove(path)
        move(temporary, path)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for old in checkpoints(folder)[KEPT:]:
        with suppress(OSError):  # another program has it open; the next save tries again
            remove(old)
    return path


def validate_weights(model: UNet, step: int) -> None:
    """Refuse to save weights that are NaN or infinite.

    Raises:
        FloatingPointError: some are.
    """
    if not torch.stack([p.isfinite().all() for p in model.parameters()]).all():
        raise FloatingPointError(f"some weights are no longer finite at update {step}, so they were not saved")


def load_state(path: Path) -> Saved:
    """Read a checkpoint of a run.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file was cut short or altered, or is not one of ours.
    """
    averaged = load_checkpoint(path / "model.safetensors")
    tensors, card = load_tensors(path / "state.safetensors")
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "moments": {}, "losses": {}}
    try:
        if card["format"] != FORMAT:
            raise ValueError(f"format {card['format']}, this version of the course reads {FORMAT}")
        for key, value in tensors.items():
            part, _, name = key.partition(".")
            parts[part][name] = value
        state, updates = TrainState(card["step"], card["seconds"], parts["moments"]), int(card["ema_updates"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path / 'state.safetensors'} does not hold the state of a run: {error}") from error
    if averaged.details.get("steps") != state.step:
        raise ValueError(f"{path} holds weights of update {averaged.details.get('steps')} and a state of {state.step}")
    losses = parts["losses"].get("recent", torch.empty(0))
    return Saved(path, parts["model"], averaged.model.state_dict(), updates, state, losses, averaged.details)


def last_good(folder: Path, say: Callable[[str], object] = print, mend: bool = True) -> Saved | None:
    """The newest checkpoint of a run that can be read; None if nothing was saved yet.

    It removes what a crash left half-written. A checkpoint that cannot be read is set aside under another name, and
    the one before it is taken; if there is none before it, all stay where they are.

    Args:
        folder: of the run.
        say: where to report.
        mend: False changes nothing and reads the newest checkpoint alone; for the processes after the first.

    Raises:
        ValueError: there are checkpoints, and none can be read.
    """
    if not mend:
        newest = checkpoints(folder)[:1]
        return load_state(newest[0]) if newest else None
    clean(folder)
    damaged: list[tuple[Path, Exception]] = []
    for path in checkpoints(folder):
        try:
            saved = load_state(path)
        except (OSError, ValueError) as error:
            damaged.append((path, error))
            continue
        for bad, why in damaged:
            aside = bad.with_name(f"damaged-{bad.name}")
            if aside.exists():
                remove(aside)
            move(bad, aside)
            say(f"{why}; set aside as {aside}, going back to the checkpoint before it")
        return saved
    if damaged:
        raise ValueError(f"no checkpoint in {folder} can be read ({damaged[0][1]}); begin again with another --out")
    return None
