"""Checkpoints: weights as safetensors, and beside them a JSON file that says what they are.

`name.safetensors` holds the model's tensors and the schedule's two tables; `name.json` holds the model's class
and arguments, the target, free details, and the hash of the other file. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from .forward import TARGETS
from .schedule import Schedule
from .unet import MODELS, AnyUNet
from .validate import check_choice

FORMAT = 1
SHIPPED = Path(__file__).parent / "weights" / "unet28.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A model with what is needed to use it.

    Args:
        model: the network, in eval mode.
        schedule: the schedule that it was trained with.
        target: what it predicts, one of `forward.TARGETS`.
        details: whatever was stored beside it, such as steps, data and the command that made it.
    """

    model: AnyUNet
    schedule: Schedule
    target: str
    details: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    path: str | Path,
    model: AnyUNet,
    schedule: Schedule,
    *,
    target: str = "eps",
    details: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model and what is needed to use it; a crash leaves no half-written file.

    Where it falls between the two files they do not belong together, and `load_checkpoint` says so.

    Args:
        path: where to, ending in .safetensors; the JSON file goes beside it. Folders are made.
        model: one of the rungs in `unet.MODELS`.
        schedule: the schedule that it was trained with.
        target: what it predicts, one of `forward.TARGETS`.
        details: anything that JSON can hold.

    Returns:
        The path of the weights.

    Raises:
        TypeError, ValueError: another ending, a model that is not a rung, an unknown target, details that JSON
            cannot hold.
    """
    path = weights_path(path)
    check_choice("target", target, TARGETS)
    check_choice("model", type(model).__name__, MODELS)
    tensors = {f"model.{name}": tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    tensors |= {"schedule.signal": schedule.signal, "schedule.noise": schedule.noise}
    weights = safetensors.torch.save(tensors)
    card = {
        "format": FORMAT,
        "model": type(model).__name__,
        "config": model.config,
        "schedule": schedule.name,
        "target": target,
        "details": dict(details or {}),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    text = json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, weights)
    _write(path.with_suffix(".json"), text.encode())
    return path


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read what `save_checkpoint` wrote; the model gives the same output, bit for bit.

    Args:
        path: the .safetensors file; its .json must lie beside it.
        device: where to put the model.

    Raises:
        FileNotFoundError: one of the two files is missing.
        ValueError: the hash of the weights is not the one in the JSON file (cut short or altered), or the JSON
            file is not one of ours.
    """
    path = weights_path(path)
    for file in (path, path.with_suffix(".json")):
        if not file.is_file():
            raise FileNotFoundError(f"there is no {file}; a checkpoint is two files, .safetensors and .json")
    not_ours = f"{path.with_suffix('.json')} does not describe a checkpoint of this course"
    try:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        form, name, config, sha256 = card["format"], card["model"], card["config"], card["sha256"]
        schedule_name, target, details = card["schedule"], card["target"], card["details"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(not_ours) from error
    if form != FORMAT:
        raise ValueError(f"{path} has format {form}, this version of the course reads {FORMAT}")
    check_choice("model", name, MODELS)
    check_choice("target", target, TARGETS)
    weights = path.read_bytes()
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise ValueError(
            f"{path} was cut short or altered: its hash is not the one in the .json; copy both files again"
        )
    try:
        tensors = safetensors.torch.load(weights)
        schedule = Schedule(tensors.pop("schedule.signal"), tensors.pop("schedule.noise"), schedule_name)
        model = MODELS[name](**config)
        model.load_state_dict({key.removeprefix("model."): tensor for key, tensor in tensors.items()})
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{not_ours}: {error}") from error
    return Checkpoint(model.eval().to(device), schedule, target, details)


def load_shipped(device: torch.device | str = "cpu") -> Checkpoint:
    """The weights that come with the course: a `UNet` for 28×28 Fashion-MNIST; `details` says how it was trained.

    Args:
        device: where to put the model.
    """
    return load_checkpoint(SHIPPED, device)


def weights_path(path: str | Path) -> Path:
    """The path of a checkpoint's weights, so that a wrong name is refused before hours of training.

    Raises:
        ValueError: path does not end in .safetensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {path}")
    return path


def _write(path: Path, content: bytes) -> None:
    """Write beside the target, then rename: readers see the old file or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
