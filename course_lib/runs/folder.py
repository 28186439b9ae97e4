"""The folder of a run: which checkpoints it holds, which weights stand for it, and who trains in it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..checkpoint import move

#: The file by which one process keeps others out of the folder.
LOCK = ".lock"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name)]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def newest_weights(path: Path) -> Path:
    """The weights that a path stands for: a file itself, or the newest weights in the folder of a run.

    Raises:
        FileNotFoundError: there is no such file or folder, or no weights in the folder.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    if not path.is_dir():
        return path
    found = [folder / "model.safetensors" for folder in (path, *checkpoints(path))]  # the first exists after the end
    found = [file for file in found if file.is_file()]
    if not found:
        raise FileNotFoundError(f"there is no model.safetensors in {path}, nor a checkpoint of a run")
    return found[0]


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make a folder, and keep other processes from training in it while the context lasts.

    Some network drives have no locks; there nobody is kept out.

    Raises:
        ValueError: another process trains there.
        OSError: the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, blocking=False, fallback_to_soft=False)
    with suppress(OSError):
        try:
            lock.acquire()
        except Timeout as error:
            raise ValueError(f"another process is training in {folder}") from error
    try:
        yield
    finally:
        lock.release()


def remove(path: Path) -> None:
    """Remove a folder. It is renamed first, so that a crash in between leaves nothing that looks whole."""
    rubbish = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    move(path, rubbish)
    shutil.rmtree(rubbish, ignore_errors=True)  # `clean` removes what is left


def clean(folder: Path) -> None:
    """Remove the unfinished files that a crash left in the folder of a run."""
    for left in folder.glob(".*.tmp"):
        if re.fullmatch(r"\.((damaged-)?step-\d+|config\.json|(model|weak)\.safetensors)\..+\.tmp", left.name):
            with suppress(OSError):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
