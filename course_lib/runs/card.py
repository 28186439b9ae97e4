"""config.json: the settings of a run, and what they met."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..checkpoint import load_tensors, write_atomically
from ..data import Pictures
from ..runtime import describe_machine
from ..train import TrainConfig
from ..validate import validate_number
from .config import RunConfig
from .folder import checkpoints

FORMAT = 1
NAME = "config.json"
#: Settings that may change when a run goes on; the hash tells whether moved data are the same.
MAY_CHANGE = ("data", "precision", "compile", "train.accumulate")


@dataclass(frozen=True)
class SaveEvery:
    """How often to save: after so many minutes of training, or updates.

    Args:
        minutes: > 0, or None.
        updates: >= 1, or None.
    """

    minutes: float | None = 5.0
    updates: int | None = None

    def __post_init__(self) -> None:
        if self.minutes is not None:
            validate_number("minutes", self.minutes, 1e-6)
        if self.updates is not None:
            validate_number("updates", self.updates, 1, integer=True)

    @classmethod
    def parse(cls, text: str) -> SaveEvery:
        """ "5m" for minutes, "1000" for updates.

        Raises:
            ValueError: neither.
        """
        try:
            return cls(minutes=float(text[:-1])) if text.endswith("m") else cls(minutes=None, updates=int(text))
        except ValueError as error:
            raise ValueError(f"save-every must be minutes such as 5m, or updates such as 1000, got {text!r}") from error


@dataclass(frozen=True)
class How:
    """Where a run trains and what it writes. None of it changes what is learned; a resumed run does as before.

    Args:
        device: "cuda", "mps" or "cpu"; None takes the best there is.
        save_every: how often to save.
        log: write curves for TensorBoard.
    """

    device: str | None = None
    save_every: SaveEvery = SaveEvery()
    log: bool = False


def write_config(
    folder: Path, config: RunConfig, how: How, pictures: Pictures, command: str, machine: str, processes: int
) -> None:
    """Write config.json.

    Args:
        folder: of the run.
        config: with every choice made.
        how: where it trains, and what it writes.
        pictures: what there is to learn from.
        command: the line that began the run.
        machine, processes: where it trains, and in how many processes.
    """
    import accelerate

    card = {
        "format": FORMAT,
        "command": command,
        "settings": asdict(config),
        "how": asdict(how),
        "pictures": str(pictures),
        "machine": machine,
        "processes": processes,
        "threads": torch.get_num_threads(),
        "versions": {
            "course_lib": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "accelerate": accelerate.__version__,
        },
    }
    _write(folder, card)


def keep_changes(folder: Path, config: RunConfig, how: How) -> None:
    """Note in config.json what changed when the run went on, so that it does the same the next time."""
    stored, _ = read_config(folder / NAME)
    train = replace(stored.train, accumulate=config.train.accumulate)
    changed = replace(stored, data=config.data, precision=config.precision, train=train)
    if changed != stored or how != read_how(folder / NAME):
        _write(folder, {**_read(folder / NAME), "settings": asdict(changed), "how": asdict(how)})


def read_config(path: Path) -> tuple[RunConfig, str]:
    """The settings in a config.json, and the command that began the run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a config of ours, or asks for something impossible.
    """
    try:
        card = _read(path)
        if card["format"] != FORMAT:
            raise ValueError(f"it has format {card['format']}, this version of the course reads {FORMAT}")
        settings = dict(card["settings"])
        training = {"snr_gamma": None, **settings.pop("train")}  # runs from before there was this setting have none
        return RunConfig(train=TrainConfig(**training), **settings), str(card["command"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not describe a run of this course: {error}") from error


def read_how(path: Path) -> How:
    """Where the run of a config.json trains and what it writes; defaults stand for what the file does not say.

    Raises:
        ValueError: it says something impossible.
    """
    how = _read(path).get("how", {})
    try:
        return How(**{**how, "save_every": SaveEvery(**how.get("save_every", {}))})
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def describe_move(folder: Path, device: torch.device) -> str:
    """A sentence where a run goes on on another machine than it began on, or with other threads; else nothing."""
    card = _read(folder / NAME)
    before = f"{card.get('machine')}, {card.get('threads')} threads"
    now = f"{describe_machine(device)}, {torch.get_num_threads()} threads"
    if before == now:
        return ""
    return f"\nit was begun with {before}: from here on the last digits may differ from what they would be there"


def validate_same(config: RunConfig, stored: RunConfig, folder: Path) -> None:
    """Refuse settings that differ from those that a run was begun with."""
    new = config.as_json()
    for name in ("data_sha256", "init_sha256"):
        new[name] = new[name] or getattr(stored, name)
    for name, now, before in _differences(new, stored.as_json()):
        if not (name in ("precision", "compile") and now == "auto"):
            raise ValueError(
                f"{folder} was begun with {name.split('.')[-1]}={before!r}, got {now!r}: a run goes on as it was "
                "begun; leave the option out, or choose another --out"
            )


def validate_untouched(folder: Path, stored: RunConfig) -> None:
    """Refuse a config.json that was edited after the training began: the newest checkpoint knows the settings too."""
    for path in checkpoints(folder):
        try:
            trained = load_tensors(path / "model.safetensors")[1]["details"]["settings"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a damaged checkpoint; the run will go back to the one before it
        for name, now, before in _differences(stored.as_json(), trained):
            if name not in MAY_CHANGE:
                raise ValueError(
                    f"{folder / NAME} says {name.split('.')[-1]}={now!r}, but {path.name} was trained with {before!r}: "
                    "write that back, or begin another run with --config and another --out"
                )
        return


def _differences(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Name, new and old value of each setting that differs, of those that both have."""
    for name, before in old.items():
        now = new.get(name, before)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from ((f"{name}.{key}", *values) for key, *values in _differences(now, before))
        elif now != before:
            yield name, now, before


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _write(folder: Path, card: Mapping[str, Any]) -> None:
    # ASCII, since names of folders need not be Unicode, and escapes carry them
    write_atomically(folder / NAME, (json.dumps(card, indent=2, allow_nan=False) + "\n").encode())
