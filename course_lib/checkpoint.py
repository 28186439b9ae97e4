"""Checkpoints: a network's weights and what you need to use them, in one safetensors file.

The header of a safetensors file can hold text. Ours holds a card (JSON: the class and arguments of the network, the
schedule, the target, free details) and a hash of the whole file. Loading never unpickles anything. Because it is one
file, replaced in one move, a crash cannot leave weights beside the card of another network.
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
from .schedule import Schedule, validate_schedule
from .unet import MODELS, AnyUNet
from .validate import validate_choice

FORMAT = 2
SHIPPED = Path(__file__).parent / "weights" / "unet28.safetensors"
#: A worse version of it, to guide it; see `course_lib.guide.AutoGuidance`.
SHIPPED_WEAK = SHIPPED.with_name("unet28_weak.safetensors")
#: A network that was trained with the class of each picture.
SHIPPED_CLASSES = SHIPPED.with_name("unet28_classes.safetensors")
#: Fills the place of the hash in the header while the hash is computed.
NO_HASH = "0" * 64
LFS_POINTER = b"version https://git-lfs.github.com/"


@dataclass(frozen=True)
class Checkpoint:
    """A network and what you need to use it.

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
    """Write a network and what you need to use it into one file; a crash leaves the old file or the new one.

    Args:
        path: the file, ending in .safetensors; missing folders are made.
        model: one of the rungs in `unet.MODELS`.
        schedule: the schedule that it was trained with.
        target: what it predicts, one of `forward.TARGETS`.
        details: anything that JSON can hold.

    Returns:
        The path.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    path = weights_path(path)
    validate_schedule(schedule)
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
    """Read what `save_checkpoint` wrote; the network gives the same output, bit for bit.

    Weights in half precision (bfloat16, float16) come back as float32, because samplers compute in float32.

    Args:
        path: the .safetensors file.
        device: where to put the network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file was cut short or altered, or was not written by `save_checkpoint`.
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
        raise ValueError(f"{path} has format {form!r}, this version of the course reads {FORMAT}")
    validate_choice("model", name, MODELS)
    validate_choice("target", target, TARGETS)
    try:
        schedule = Schedule(tensors.pop("schedule.signal"), tensors.pop("schedule.noise"), schedule_name)
        model = _build(name, dict(config), {key.removeprefix("model."): tensor for key, tensor in tensors.items()})
        details = dict(details)
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{not_ours}: {error}") from error
    return Checkpoint(model.eval().to(device), schedule, target, details)


def _build(name: str, config: dict[str, Any], state: dict[str, Tensor]) -> AnyUNet:
    """The network that a card describes, with these weights.

    Raises:
        ValueError: they are the weights of another network.
    """
    counts = {key: len(value) if isinstance(value, list) else value for key, value in config.items()}
    if max(counts.get(key, 0) for key in ("blocks", "channels", "features")) > len(state):
        raise ValueError(f"its card describes more layers than the file has weights ({len(state)})")
    with torch.random.fork_rng(
        devices=[]
    ):  # loaded weights replace the random ones; leave the caller's generator alone
        with torch.device("meta"):  # no memory yet: the card may describe a network of any size
            described = {key: tensor.shape for key, tensor in MODELS[name](**config).state_dict().items()}
        shapes = {key: tensor.shape for key, tensor in state.items()}
        for key in {**described, **shapes}:
            if described.get(key) != shapes.get(key):
                said, there = (tuple(each[key]) if key in each else "missing" for each in (described, shapes))
                raise ValueError(f"its weights do not fit its card: {key} is {there}, and {said} by the card")
        model = MODELS[name](**config)
    state = {key: _full_precision(tensor) for key, tensor in state.items()}
    model.to(next(tensor.dtype for tensor in state.values() if tensor.is_floating_point()))
    model.load_state_dict(state)
    return model


def _full_precision(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor


def load_shipped(device: torch.device | str = "cpu", *, weak: bool = False, classes: bool = False) -> Checkpoint:
    """The weights that come with the course: a `UNet` for 28×28 Fashion-MNIST; `details` says how it was trained.

    Args:
        device: where to put the network.
        weak: the network that was trained an eighth as long and guides the others; see `guide.AutoGuidance`.
        classes: the network that takes a class, y in 0..9 for `data.CLASS_NAMES`; the others take none.

    Raises:
        ValueError: weak and classes at once; the weak network guides both others.
    """
    if weak and classes:
        raise ValueError("there are no weak weights with classes: those without guide both networks")
    return load_checkpoint(SHIPPED_WEAK if weak else SHIPPED_CLASSES if classes else SHIPPED, device)


def weights_path(path: str | Path) -> Path:
    """The path of a checkpoint; refuses a wrong ending, which is better heard before hours of training than after."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {path}")
    return path


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> None:
    """Write tensors and a card into one safetensors file, with a hash that shows later changes.

    Args:
        path: the file; missing folders are made.
        tensors: by name; they are brought to the CPU.
        card: anything that JSON can hold. Names that are not UTF-8 survive, because JSON in ASCII escapes them.

    Raises:
        TypeError, ValueError: JSON cannot hold the card.
        OSError: the disk is full, or the folder cannot be written; the old file is still there.
    """
    try:
        text = json.dumps(card, allow_nan=False)
    except RecursionError as error:
        raise ValueError("the card (details, config) is nested too deeply for JSON") from error
    near = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    raw = safetensors.torch.save(near, {"card": text, "sha256": NO_HASH})
    before, after = _around_hash(raw, NO_HASH)
    write_atomically(path, before, _hash(before, after).encode(), after)


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote: tensors on the CPU, and the card.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file was cut short or altered (its hash differs), or was not written by `save_tensors`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    raw = path.read_bytes()
    if not raw:
        raise ValueError(f"{path} was cut short: it is empty")
    if raw.startswith(LFS_POINTER):
        raise ValueError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` in its repository")
    try:
        length = int.from_bytes(raw[:8], "little")
        words = json.loads(raw[8 : 8 + length])["__metadata__"]
        text, sha256 = words["card"], words["sha256"]
        before, after = _around_hash(raw, sha256)
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # JSON's own error is a ValueError
        raise ValueError(f"{path} is not a checkpoint of this course, or it was cut short or altered") from error
    if _hash(before, after) != sha256:
        raise ValueError(f"{path} was cut short or altered: its hash is not the one in its header; copy it again")
    try:
        return safetensors.torch.load(raw), dict(json.loads(text))
    except (SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a checkpoint of this course: {error}") from error


def write_atomically(path: str | Path, *content: bytes | memoryview) -> None:
    """Write beside the file and rename, so that readers and crashes find the old file or the new one.

    Args:
        path: the file; missing folders are made.
        content: pieces, written one after the other.

    Raises:
        OSError: the disk is full, or the folder cannot be written; nothing is left behind.
    """
    path = Path(path)
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
    """`os.replace`, tried again for some seconds: on Windows a virus scanner may hold a new file for a moment."""
    for wait in (0.1, 0.3, 1.0, 3.0):
        try:
            return os.replace(old, new)
        except PermissionError:
            time.sleep(wait)
    os.replace(old, new)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, if the system can: a file's own fsync does not cover its name."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network drives cannot sync a folder
                raise
        finally:
            os.close(handle)


def _around_hash(raw: bytes, sha256: str) -> tuple[memoryview, memoryview]:
    """The parts of a safetensors file before and after the hash.

    The search cannot find a copy inside the card: there, in a string inside JSON, quotes are escaped.

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
