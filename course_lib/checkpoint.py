"""Checkpoints: weights as safetensors, with a card in the file's header that says what they are.

The header of a safetensors file has room for words: ours holds the card (JSON: the model's class and arguments, the
schedule, the target, free details) and a hash of the whole file. Nothing is ever unpickled, and since it is one file,
replaced in one move, no crash leaves weights with another model's card.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .forward import TARGETS
from .schedule import Schedule
from .unet import MODELS, AnyUNet
from .validate import validate_choice

FORMAT = 2
SHIPPED = Path(__file__).parent / "weights" / "unet28.safetensors"
#: A worse version of it, to guide it; see `course_lib.guide.AutoGuidance`.
SHIPPED_WEAK = SHIPPED.with_name("unet28_weak.safetensors")
#: A network that was told the class of each picture.
SHIPPED_CLASSES = SHIPPED.with_name("unet28_classes.safetensors")
#: Stands in the header where the hash will be, while the hash is taken.
NO_HASH = "0" * 64


@dataclass(frozen=True)
class Checkpoint:
    """A model with what is needed to use it.

    Args:
        model: the network, in eval mode.
        schedule: the schedule that it was trained with.
        target: what it predicts, one of `forward.TARGETS`.
        details: whatever was stored with it, such as steps, data and the command that made it.
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
    """Write a model and what is needed to use it into one file; a crash leaves the old file or the new one.

    Args:
        path: where to, ending in .safetensors. Folders are made.
        model: one of the rungs in `unet.MODELS`.
        schedule: the schedule that it was trained with.
        target: what it predicts, one of `forward.TARGETS`.
        details: anything that JSON can hold.

    Returns:
        The path.

    Raises:
        TypeError, ValueError: another ending, a model that is not a rung, an unknown target, details that JSON
            cannot hold.
        OSError: the disk is full, or the folder cannot be written.
    """
    path = weights_path(path)
    validate_choice("target", target, TARGETS)
    validate_choice("model", type(model).__name__, MODELS)
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {"schedule.signal": schedule.signal, "schedule.noise": schedule.noise}
    card = {
        "format": FORMAT,
        "model": type(model).__name__,
        "config": model.config,
        "schedule": schedule.name,
        "target": target,
        "details": dict(details or {}),
    }
    save_tensors(path, tensors, card)
    return path


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read what `save_checkpoint` wrote; the model gives the same output, bit for bit.

    Args:
        path: the .safetensors file.
        device: where to put the model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file was cut short or altered, or is not one of ours.
    """
    path = weights_path(path)
    tensors, card = load_tensors(path)
    not_ours = f"{path} does not hold a checkpoint of this course"
    try:
        form, name, config = card["format"], card["model"], card["config"]
        schedule_name, target, details = card["schedule"], card["target"], card["details"]
    except KeyError as error:
        raise ValueError(f"{not_ours}: its card has no {error}") from error
    if form != FORMAT:
        raise ValueError(f"{path} has format {form}, this version of the course reads {FORMAT}")
    validate_choice("model", name, MODELS)
    validate_choice("target", target, TARGETS)
    try:
        schedule = Schedule(tensors.pop("schedule.signal"), tensors.pop("schedule.noise"), schedule_name)
        with torch.random.fork_rng(devices=[]):  # what is drawn for new weights is missed by nobody
            model = MODELS[name](**config)
        state = {key.removeprefix("model."): tensor for key, tensor in tensors.items()}
        model.to(next(tensor.dtype for tensor in state.values() if tensor.is_floating_point()))
        model.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError, StopIteration) as error:
        raise ValueError(f"{not_ours}: {error}") from error
    return Checkpoint(model.eval().to(device), schedule, target, details)


def load_shipped(device: torch.device | str = "cpu", *, weak: bool = False, classes: bool = False) -> Checkpoint:
    """The weights that come with the course: a `UNet` for 28×28 Fashion-MNIST; `details` says how it was trained.

    Args:
        device: where to put the model.
        weak: those that were trained about an eighth as long, to guide the others; see `sample.AutoGuidance`.
        classes: those of a network that is told what to draw, y in 0..9 for `data.CLASS_NAMES`; the others know
            no classes.

    Raises:
        ValueError: weak and classes at once; the weak network guides both others.
    """
    if weak and classes:
        raise ValueError("there are no weak weights with classes: those without guide both networks")
    return load_checkpoint(SHIPPED_WEAK if weak else SHIPPED_CLASSES if classes else SHIPPED, device)


def weights_path(path: str | Path) -> Path:
    """The path of a checkpoint, so that a wrong name is refused before hours of training.

    Raises:
        ValueError: path does not end in .safetensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {path}")
    return path


def save_tensors(path: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write tensors and a card into one safetensors file that says when it was altered.

    Args:
        path: where to; folders are made.
        tensors: by name; they are brought to the CPU.
        card: anything that JSON can hold.

    Raises:
        TypeError, ValueError: JSON cannot hold the card.
        OSError: the disk is full, or the folder cannot be written; the old file is still there.
    """
    text = json.dumps(card, ensure_ascii=False, allow_nan=False)
    near = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    raw = safetensors.torch.save(near, {"card": text, "sha256": NO_HASH})
    before, after = _around_hash(raw, NO_HASH)
    write_atomically(path, before, _hash(before, after).encode(), after)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: tensors on the CPU, and the card.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the hash is not that of the file (cut short or altered), or the file is not one of ours.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    raw = path.read_bytes()
    if not raw:
        raise ValueError(f"{path} was cut short: it is empty")
    try:
        length = int.from_bytes(raw[:8], "little")
        words = json.loads(raw[8 : 8 + length])["__metadata__"]
        text, sha256 = words["card"], words["sha256"]
        before, after = _around_hash(raw, sha256)
    except (ValueError, KeyError, TypeError) as error:  # what json raises is a ValueError
        raise ValueError(f"{path} is not a checkpoint of this course, or it was cut short or altered") from error
    if _hash(before, after) != sha256:
        raise ValueError(f"{path} was cut short or altered: its hash is not the one in its header; copy it again")
    try:
        card = json.loads(text)
        return safetensors.torch.load(raw), dict(card)
    except (SafetensorError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a checkpoint of this course: {error}") from error


def write_atomically(path: Path, *content: bytes | memoryview) -> None:
    """Write beside the target and rename, so that readers and crashes find the old file or the new one.

    Args:
        path: where to; folders are made.
        content: pieces, written one after the other.

    Raises:
        OSError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        move(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def move(old: str | Path, new: str | Path) -> None:
    """`os.replace`, tried again for some seconds: on Windows a scanner may hold a fresh file open for a moment.

    Raises:
        OSError: it cannot be done.
    """
    for wait in (0.1, 0.3, 1.0, 3.0):
        try:
            return os.replace(old, new)
        except PermissionError:
            time.sleep(wait)
    os.replace(old, new)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, not only in memory, where the system can do that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # so some network drives say that they cannot
                raise
        finally:
            os.close(handle)


def _around_hash(raw: bytes, sha256: str) -> tuple[memoryview, memoryview]:
    """What stands before and after the hash in a safetensors file.

    In the card, which is a string inside JSON, quotes are escaped, so this key is found in the right place.

    Raises:
        ValueError: the header does not hold this hash.
    """
    length = int.from_bytes(raw[:8], "little")
    key = f'"sha256":"{sha256}"'.encode()
    begin = raw.index(key, 8, 8 + length) + len(b'"sha256":"')
    view = memoryview(raw)
    return view[:begin], view[begin + len(sha256.encode()) :]


def _hash(before: memoryview, after: memoryview) -> str:
    digest = hashlib.sha256(before)
    digest.update(NO_HASH.encode())
    digest.update(after)
    return digest.hexdigest()
