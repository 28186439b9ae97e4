"""Runs: a training as a folder from which it can be repeated, and in which it goes on where it was stopped or killed.

    runs/a/config.json          what to do, decided in full, and what it was done with
    runs/a/step-00001000/       a checkpoint; the last two are kept
        model.safetensors       averaged weights, for `load_checkpoint`
        state.safetensors       weights, the optimizer's moments and the counters, to go on from
    runs/a/model.safetensors    averaged weights, once the run is over
    runs/a/weak.safetensors     those of an eighth of the way, to guide them: see `course_lib.guide.AutoGuidance`
    runs/a/log/                 curves for TensorBoard, where asked for

Hugging Face Accelerate is the engine: precision, parts of batches, processes and machines.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from .. import __version__
from ..checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_tensors,
    move,
    save_checkpoint,
    save_tensors,
    sync_folder,
    write_atomically,
)
from ..data import Pictures, load_fashion_mnist, load_folder
from ..runtime import can_compile, describe_machine, is_out_of_memory, pick_autocast, pick_device
from ..schedule import SCHEDULES, Schedule, make_schedule
from ..shapes import count_parameters
from ..train import EMA, TrainConfig, TrainState, Update, train
from ..training.watch import Fetched
from ..unet import UNet
from ..validate import validate_choice, validate_number

if TYPE_CHECKING:  # imported where it is needed alone: it takes a second
    from accelerate import Accelerator

FORMAT = 1
KEPT = 2
#: Progress at which weights are kept to guide those of the end.
WEAK_AT = 1 / 8
#: Updates between two looks at the loss: each makes processes wait for each other.
LOOK_EVERY = 50
#: Settings that decide which pictures there are.
OF_THE_DATA = ("data", "size", "color", "full", "classes")


@dataclass(frozen=True)
class RunConfig:
    """All that decides what a run does.

    Args:
        train: how to train.
        data: "fashion-mnist", or a folder of pictures.
        size: height and width of the pictures, >= 1.
        color: RGB instead of grey, for a folder.
        full: insist on all 60,000 pictures of Fashion-MNIST.
        classes: tell the network the label of each picture.
        unet: arguments of `UNet`, besides those that follow from the data.
        schedule: one of `schedule.SCHEDULES`.
        timesteps: T of the schedule, >= 1.
        ema: decay of the averaged weights.
        precision: "no", "bf16", or "auto" to try what is faster here.
        compile: "yes", "no", or "auto": on an NVIDIA GPU, where there is a compiler and `compiling_pays`.
        data_sha256: hash that the pictures must have, or None.
        init: a checkpoint, or the folder of a run, with whose averaged weights to begin; None for random ones. Such a
            run keeps no weak weights: those of an eighth of it would be no worse.
        init_sha256: hash that the file of these weights must have, or None.

    Raises:
        TypeError, ValueError: an argument out of range, a network that cannot be built, weights of the loss that do not
            go with the schedule.
    """

    train: TrainConfig
    data: str = "fashion-mnist"
    size: int = 28
    color: bool = False
    full: bool = False
    classes: bool = False
    unet: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = "cosine"
    timesteps: int = 1000
    ema: float = 0.9999
    precision: str = "auto"
    compile: str = "auto"
    data_sha256: str | None = None
    init: str | None = None
    init_sha256: str | None = None

    def __post_init__(self) -> None:
        validate_number("size", self.size, 1, integer=True)
        validate_number("timesteps", self.timesteps, 1, integer=True)
        validate_number("ema", self.ema, 0, 1 - 1e-12)
        validate_choice("schedule", self.schedule, SCHEDULES)
        validate_choice("precision", self.precision, ("auto", "no", "bf16"))
        validate_choice("compile", self.compile, ("auto", "no", "yes"))
        if self.color and self.data == "fashion-mnist":
            raise ValueError("color is for a folder of pictures: those of fashion-mnist are grey")
        if self.full and self.data != "fashion-mnist":
            raise ValueError("full is for fashion-mnist: of a folder all pictures are taken")
        self.train.validate_schedule(make_schedule(self.schedule, self.timesteps))
        with torch.device("meta"):  # what cannot be built is refused before hours of loading
            UNet(self.size, 3 if self.color else 1, **self.unet)

    @classmethod
    def of(cls, settings: Mapping[str, Any], base: RunConfig | None = None) -> RunConfig:
        """The settings of `base`, or the defaults, with some of them changed.

        Args:
            settings: new values by name, those of `TrainConfig` among them; what is no name of a setting is an
                argument of `UNet`.
            base: what they change.
        """
        own = {f.name for f in fields(cls)} - {"train", "unet"}
        of_train = {f.name for f in fields(TrainConfig)}
        training = {key: value for key, value in settings.items() if key in of_train}
        unet = {key: value for key, value in settings.items() if key not in own | of_train}
        changes = {key: value for key, value in settings.items() if key in own}
        if base is None:
            return cls(train=TrainConfig(**training), unet=unet, **changes)
        if (changes.get("data", base.data) == "fashion-mnist") != (base.data == "fashion-mnist"):
            changes = {"color": False, "full": False, **changes}  # which are for the one or the other alone
        if any(changes.get(key, getattr(base, key)) != getattr(base, key) for key in OF_THE_DATA):
            changes["data_sha256"] = None
        if changes.get("init", base.init) != base.init:
            changes["init_sha256"] = None
        return replace(base, train=replace(base.train, **training), unet={**base.unet, **unet}, **changes)

    def pictures(self) -> Pictures:
        """The pictures to learn from.

        Raises:
            TypeError, ValueError, FileNotFoundError: they are not there, cannot be read, or are others than those
                with which a run was begun.
        """
        if self.data == "fashion-mnist":
            pictures = load_fashion_mnist("train", self.size, "full" if self.full else None)
        else:
            pictures = load_folder(self.data, self.size, 3 if self.color else 1)
        if self.data_sha256 is not None and self.hash_of(pictures) != self.data_sha256:
            raise ValueError(
                f"data has changed since the run was begun: found {pictures}, with another hash; or another version of "
                "the course read it then"
            )
        return pictures

    def hash_of(self, pictures: Pictures) -> str:
        """Hash of the pictures, and of their labels where the network is told them."""
        if not self.classes or pictures.labels is None:
            return pictures.sha256
        return sha256(pictures.sha256.encode() + pictures.labels.cpu().numpy().tobytes()).hexdigest()

    def model(self, pictures: Pictures) -> UNet:
        """The network as it is before the first update: same seed, same weights, or those of `init`.

        Raises:
            TypeError, ValueError: a network that cannot be built; classes without labels.
            FileNotFoundError, ValueError: as `initial`.
        """
        classes = None
        if self.classes:
            if pictures.labels is None:
                raise ValueError("classes need labels: put every picture into a subfolder for its class, at least two")
            classes = int(pictures.labels.max()) + 1
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.train.seed)  # of the CPU; torch.manual_seed would set GPUs too
            model = UNet(self.size, pictures.images.shape[1], num_classes=classes, **self.unet)
        if self.init is not None:
            made = self.initial(self.init)
            _validate_fit("num_classes", made.model.config.get("num_classes"), classes)
            model.load_state_dict(made.model.state_dict())
        return model

    def initial(self, init: str) -> Checkpoint:
        """The weights to begin with, which fit as far as that can be said without the pictures.

        Args:
            init: where they are.

        Raises:
            FileNotFoundError: they are not there.
            ValueError: they have changed since the run was begun, or are of another network, schedule or target.
        """
        file = newest_weights(Path(init))
        if self.init_sha256 not in (None, _hash_of_file(file)):
            raise ValueError(f"init has changed since the run was begun: {file} has another hash")
        made = load_checkpoint(file)
        theirs = {**made.model.config, "schedule": (made.schedule.name, made.schedule.T), "target": made.target}
        with torch.device("meta"):
            built = UNet(self.size, 3 if self.color else 1, **self.unet).config
        mine = {**built, "schedule": (self.schedule, self.timesteps), "target": self.train.target}
        for name, value in mine.items():
            if name != "num_classes":
                _validate_fit(name, theirs.get(name), value)
        return made


def _validate_fit(name: str, theirs: Any, mine: Any) -> None:
    if theirs != mine:
        raise ValueError(f"init has weights for {name}={theirs}, this run has {name}={mine}")


def _hash_of_file(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def compiling_pays(config: TrainConfig, device: torch.device) -> bool:
    """Whether to compile a network before this training, whose time it takes: on NVIDIA GPUs, unless it is short.

    Args:
        config: of the training; below 10 minutes or 10,000 updates it is short.
        device: where it will run.
    """
    long = (config.minutes is None or config.minutes >= 10) and (config.steps is None or config.steps >= 10_000)
    return long and device.type == "cuda" and can_compile(device)


def write_config(
    folder: Path, config: RunConfig, how: How, pictures: Pictures, command: str, machine: str, processes: int
) -> None:
    """Write config.json: the settings, and what they met.

    Args:
        folder: of the run.
        config: with nothing left to be decided.
        how: where it runs, and what it writes.
        pictures: what there is to learn from.
        command: the line that began the run.
        machine, processes: where it runs, and in how many processes.
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
    _write_card(folder, card)


def _keep_changes(folder: Path, config: RunConfig, how: How) -> None:
    """Write into config.json what may change when a run goes on, so that the next time it does so again."""
    stored, _ = read_config(folder / "config.json")
    train = replace(stored.train, accumulate=config.train.accumulate)
    changed = replace(stored, data=config.data, precision=config.precision, train=train)
    if changed != stored or how != read_how(folder / "config.json"):
        card = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        _write_card(folder, {**card, "settings": asdict(changed), "how": asdict(how)})


def read_how(path: Path) -> How:
    """Where the run of a config.json runs and what it writes; what the file does not say, as it is by default.

    Raises:
        ValueError: what it says cannot be.
    """
    how = json.loads(path.read_text(encoding="utf-8")).get("how", {})
    try:
        return How(**{**how, "save_every": SaveEvery(**how.get("save_every", {}))})
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _write_card(folder: Path, card: Mapping[str, Any]) -> None:
    text = json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(folder / "config.json", text.encode())


def read_config(path: Path) -> tuple[RunConfig, str]:
    """The settings in a config.json, and the command that began the run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not a config of ours, or asks for what is not possible.
    """
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if card["format"] != FORMAT:
            raise ValueError(f"it has format {card['format']}, this version of the course reads {FORMAT}")
        settings = dict(card["settings"])
        training = {"snr_gamma": None, **settings.pop("train")}  # None: runs begun before there was such a setting
        return RunConfig(train=TrainConfig(**training), **settings), str(card["command"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not describe a run of this course: {error}") from error


# Checkpoints of a run


@dataclass(frozen=True)
class Saved:
    """A checkpoint of a run, as read back.

    Args:
        path: its folder.
        weights, averaged: what `load_state_dict` takes.
        ema_updates: how often the average has moved.
        state: where the training stood.
        details: what its model.safetensors says of itself.
    """

    path: Path
    weights: dict[str, Tensor]
    averaged: dict[str, Tensor]
    ema_updates: int
    state: TrainState
    details: dict[str, Any]


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first."""
    found = [path for path in folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name)]
    return sorted(found, key=lambda path: int(path.name[5:]), reverse=True)


def newest_weights(path: Path) -> Path:
    """A checkpoint's file as it is; of the folder of a run its last weights, or those of its newest checkpoint.

    Raises:
        FileNotFoundError: no such file or folder, a folder without either.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    if not path.is_dir():
        return path
    found = [folder / "model.safetensors" for folder in (path, *checkpoints(path))]  # the first is there at the end
    found = [file for file in found if file.is_file()]
    if not found:
        raise FileNotFoundError(f"there is no model.safetensors in {path}, nor a checkpoint of a run")
    return found[0]


def save_state(
    folder: Path,
    model: UNet,
    ema: EMA[UNet],
    schedule: Schedule,
    target: str,
    state: TrainState,
    details: dict[str, Any],
) -> Path:
    """Write a checkpoint of a run, then remove all but the last two.

    It is written under another name and renamed when all of it is on the disk: a crash leaves nothing that looks
    like a checkpoint and is none.

    Args:
        folder: of the run.
        model, ema, schedule, target, state: what there is to keep.
        details: for the card of the averaged weights.

    Returns:
        The folder of the checkpoint.

    Raises:
        FloatingPointError: some weight is not finite, so nothing is written.
        OSError: the disk is full, or the folder cannot be written; what was there is still there.
    """
    _check_finite(model, state.step)
    path = folder / f"step-{state.step:08d}"
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=folder))
    try:
        save_checkpoint(temporary / "model.safetensors", ema.model, schedule, target=target, details=details)
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        tensors |= {f"moments.{name}": value for name, value in state.moments.items()}
        card = {"format": FORMAT, "step": state.step, "seconds": state.seconds, "ema_updates": ema.updates}
        save_tensors(temporary / "state.safetensors", tensors, card)
        os.chmod(temporary, 0o755)
        sync_folder(temporary)
        if path.exists():
            _remove(path)
        move(temporary, path)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for old in checkpoints(folder)[KEPT:]:
        with suppress(OSError):  # somebody has it open: the next time
            _remove(old)
    return path


def _check_finite(model: UNet, step: int) -> None:
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
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "moments": {}}
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
    return Saved(path, parts["model"], averaged.model.state_dict(), updates, state, averaged.details)


def last_good(folder: Path, say: Callable[[str], object] = print, mend: bool = True) -> Saved | None:
    """The newest checkpoint of a run that can be read; None where nothing was saved yet.

    What a crash left half-written is removed. A checkpoint that was cut short or altered is set aside under another
    name, and the one before it is taken; so is one that the disk does not give. Where there is none before it, all
    stay where they are.

    Args:
        folder: of the run.
        say: where to report.
        mend: False changes nothing, and takes the newest one alone: for processes that come after one that mended.

    Raises:
        ValueError: there are checkpoints, and none can be read.
    """
    if not mend:
        newest = checkpoints(folder)[:1]
        return load_state(newest[0]) if newest else None
    for left in folder.glob(".*.tmp"):
        if re.fullmatch(r"\.((damaged-)?step-\d+|config\.json|(model|weak)\.safetensors)\..+\.tmp", left.name):
            with suppress(OSError):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
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
                _remove(aside)
            move(bad, aside)
            say(f"{why}; set aside as {aside}, going back to the checkpoint before it")
        return saved
    if damaged:
        raise ValueError(f"no checkpoint in {folder} can be read ({damaged[0][1]}); begin again with another --out")
    return None


def _remove(path: Path) -> None:
    """Remove a folder, under a name by which it is known for rubbish if a crash comes between."""
    rubbish = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    move(path, rubbish)
    shutil.rmtree(rubbish, ignore_errors=True)  # what is left, `last_good` finds


# The run


@dataclass(frozen=True)
class SaveEvery:
    """How often to save: after so many minutes, or updates.

    Args:
        minutes: > 0, or None.
        updates: >= 1, or None.

    Raises:
        TypeError, ValueError: out of range.
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
    """What does not belong to the settings of a run, and is kept beside them for the next time it goes on.

    Args:
        device: "cuda", "mps" or "cpu"; None takes the best there is.
        save_every: how often to save.
        log: write curves for TensorBoard.
    """

    device: str | None = None
    save_every: SaveEvery = SaveEvery()
    log: bool = False


def run(
    folder: str | Path,
    config: RunConfig | None = None,
    *,
    resume: bool = False,
    device: str | None = None,
    save_every: SaveEvery | None = None,
    log: bool | None = None,
    command: str = "",
) -> bool:
    """Train as a run in a folder; call it in one process, or in many under `accelerate launch`.

    Ctrl-C, SIGTERM or a closed terminal saves a checkpoint and ends the run; a second Ctrl-C ends it at once. A run
    that fails before its first checkpoint leaves its folder free for another try. Under a launcher, call it once in a
    process. Several machines share the folder, and agree on the time by way of gloo: where the name of a machine leads
    to 127.0.1.1, the variable GLOO_SOCKET_IFNAME must name its network interface.

    Args:
        folder: of the run; made where it is not there.
        config: what to do; None where the folder says it.
        resume: go on in a folder that holds a run.
        device, save_every, log: see `How`; None: as the run did before, or as they are by default.
        command: the line that began the run, for its files.

    Returns:
        Whether the run is over; False where it was stopped.

    Raises:
        TypeError, ValueError: bad settings, a run that is there already, other settings or data than it began with,
            checkpoints that cannot be read.
        FloatingPointError: the training ran into numbers that are none; the last good checkpoint is kept.
        OSError: the disk is full, or the folder cannot be written; the last good checkpoint is kept.
        MemoryError: the device has not enough memory; the last good checkpoint is kept.
    """
    from accelerate import PartialState
    from accelerate.state import AcceleratorState, is_initialized

    folder, how = Path(folder), How()
    if folder.suffix == ".safetensors":
        raise ValueError(
            f"out must be a folder, got {folder}: the weights will be {folder.with_suffix('')}/model.safetensors"
        )
    begun = (folder / "config.json").exists()
    if begun and not resume:
        raise ValueError(f"{folder} holds a run already: go on with --resume, or choose another --out")
    if not begun and checkpoints(folder):
        raise ValueError(f"{folder} holds checkpoints of a run without its config.json: choose another --out")
    precision_before: str | None = None
    if begun:
        stored, command = read_config(folder / "config.json")
        how = read_how(folder / "config.json")
        precision_before = stored.precision
        if config is not None:
            if "fashion-mnist" not in (config.data, stored.data):
                stored = replace(stored, data=config.data)  # it may have moved; the hash says whether it is the same
            if config.compile != "auto":
                stored = replace(stored, compile=config.compile)
            if config.precision != "auto":  # weights are float32 either way
                stored = replace(stored, precision=config.precision)
            parts = config.train.accumulate  # where there is less memory now, a batch is worked through in more parts
            stored = replace(stored, train=replace(stored.train, accumulate=parts))
            _validate_same(config, stored, folder)
        config = stored
    if config is None:
        raise ValueError(f"{folder} holds no run to go on with: say what to train")
    how = How(device or how.device, save_every or how.save_every, how.log if log is None else log)
    if how.log and importlib.util.find_spec("tensorboard") is None:
        raise ValueError("log needs the package tensorboard: pip install tensorboard")

    chosen = pick_device(how.device)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)
    # processes may be done with loading, or compiling, at very different times
    processes = PartialState(cpu=chosen.type == "cpu", timeout=timedelta(hours=2))
    if processes.device.type != chosen.type:
        raise ValueError(
            f"device must be {processes.device.type!r}, where Accelerate was first used in this process, got {chosen}"
        )
    config.train.share(processes.num_processes)
    if config.precision == "bf16" and not _has_bf16(processes.device):
        if precision_before != "bf16":
            raise ValueError("precision='bf16' needs a GPU that has it, Ampere or newer; take precision='no'")
        processes.print("this GPU has no bfloat16 of its own: it goes on slowly; --precision no is quicker")
    begins_with = None if checkpoints(folder) else config.init  # weights of its own come first
    if begins_with is not None:
        begins_with = str(newest_weights(Path(begins_with)))  # once: a run that still trains saves others meanwhile
        config.initial(begins_with)  # refused before hours of loading
        config = replace(config, init_sha256=_hash_of_file(Path(begins_with)))
    pictures = config.pictures()
    model = replace(config, init=begins_with).model(pictures)
    config = _decided(config, pictures, model, processes, begun)
    if is_initialized() and AcceleratorState().mixed_precision != config.precision:
        raise ValueError(
            f"precision must be {AcceleratorState().mixed_precision!r}, with which Accelerate was first used in this "
            f"process, got {config.precision!r}"
        )
    processes.wait_for_everyone()  # all have looked whether there is a run before one is begun
    with _alone_in(folder) if processes.is_main_process else nullcontext():
        if not begun and processes.is_main_process:
            if (folder / "config.json").exists():
                raise ValueError(f"another process has just begun a run in {folder}; choose another --out")
            write_config(folder, config, how, pictures, command, describe_machine(chosen), processes.num_processes)
        elif processes.is_main_process:
            _keep_changes(folder, config, how)
        accelerator: Accelerator | None = None
        try:
            with processes.main_process_first():  # the first one cleans up
                saved = last_good(folder, processes.print, mend=processes.is_main_process)
            _validate_shared(folder, saved.state.step if saved else 0)

            accelerator = _engine(config, folder, chosen, how.log, saved.state.step if saved else 0)
            model = model.to(accelerator.device).to(memory_format=torch.channels_last)
            ema = EMA(model, config.ema)
            if saved is not None:
                _restore(saved, model, ema, folder)
            accelerator.print(
                f"{describe_machine(chosen)}, {accelerator.num_processes} process(es), precision: {config.precision}, "
                f"compiled: {config.compile}\n{pictures}\n{count_parameters(model):,} parameters"
            )
            if len(pictures) == 1:
                accelerator.print("only one picture: the network will learn it by heart")
            if saved is not None:
                accelerator.print(f"going on from {saved.path}" + _moved(folder, chosen))
            if config.compile == "yes":
                model.compile(dynamic=False)  # in place: names of the weights stay as they are
            over = _loop(folder, config, accelerator, model, ema, pictures, saved, how.save_every, command)
            accelerator.end_training()
        except BaseException as error:
            for tracker in accelerator.trackers if accelerator else ():
                with suppress(Exception):  # of the same full disk; end_training() would wait for those that still train
                    tracker.finish()
            kept = checkpoints(folder)
            last = f"the last good checkpoint is {kept[0]}" if kept else "there was no checkpoint yet"
            if not (begun or kept) and isinstance(error, Exception) and processes.is_main_process:
                for name in ("config.json", "weak.safetensors"):  # so that the folder is free for other settings
                    with suppress(OSError):
                        (folder / name).unlink()
            if is_out_of_memory(error):
                less = "work through each batch in more parts, accumulate"
                less = less if kept else f"take a smaller batch_size, or {less}"
                what = f"this network and batch beside {pictures.images.nbytes / 1e9:.2g} GB of pictures"
                raise MemoryError(f"not enough memory for {what}: {less}; {last}") from error
            if not isinstance(error, (FloatingPointError, OSError)):
                raise
            what = f"cannot write to {folder}: {error.strerror or error}" if isinstance(error, OSError) else str(error)
            last += ", with which another run can begin (--init)" * (kept != [] and not isinstance(error, OSError))
            raise type(error)(f"{what}; {last}") from error
        return over


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Make a folder, and keep other processes from training in it meanwhile, where the system has locks.

    Raises:
        ValueError: another process does.
        OSError: the folder cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("fcntl") is None:
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise ValueError(f"another process is training in {folder}") from error
    except OSError:  # of a network drive without locks
        pass
    try:
        yield
    finally:
        os.close(handle)


def _loop(
    folder: Path,
    config: RunConfig,
    accelerator: Accelerator,
    model: UNet,
    ema: EMA[UNet],
    pictures: Pictures,
    saved: Saved | None,
    save_every: SaveEvery,
    command: str,
) -> bool:
    schedule = make_schedule(config.schedule, config.timesteps)
    details = {
        "command": command,
        "device": accelerator.device.type,
        "data": {"source": str(pictures), "sha256": pictures.sha256},
        "torch": torch.__version__,
        "settings": asdict(config),
        **({"classes": pictures.class_names} if config.classes else {}),
    }
    if saved is not None:
        details |= {key: saved.details.get(key) for key in ("steps", "minutes", "loss")}
    recent: deque[Tensor] = deque(maxlen=500)  # left on the device: reading a number makes a GPU wait
    start = saved.state if saved else TrainState()
    update, written, looked, last_save = None, start.step, (start.step, start.seconds), time.perf_counter()
    unseen: tuple[int, float, float, Fetched] | None = None
    weak = folder / "weak.safetensors"
    begins_before = config.train.progress(start.step, start.seconds) < WEAK_AT  # later ones are no worse version
    weak_waits = accelerator.is_main_process and begins_before and not weak.exists() and config.init is None

    def look(update: Update) -> None:
        """Fetch the loss, the mean over all processes, all of which must come here; what a GPU has is shown later."""
        nonlocal looked, unseen
        show()
        loss = accelerator.reduce(torch.stack([*recent]).mean(), "mean")
        speed = config.train.batch_size * (update.step - looked[0]) / max(update.seconds - looked[1], 1e-9)
        looked = update.step, update.seconds
        unseen = update.step, update.lr, speed, Fetched(loss, update.grad_norm)
        if not _is_far(accelerator.device):
            show()

    def show() -> None:
        """Say what was fetched last."""
        nonlocal unseen
        if unseen is None:
            return
        (step, lr, speed, fetched), unseen = unseen, None
        loss, grad_norm = fetched.read()
        details["loss"] = round(loss, 4)
        accelerator.log({"loss": loss, "grad_norm": grad_norm, "lr": lr, "pictures_per_second": speed}, step=step)
        bar.set_postfix_str(f"update {step:,}, loss {loss:.4f}, lr {lr:.1e}, {speed:,.0f} pictures/s", refresh=False)

    def save(update: Update) -> None:
        nonlocal written, last_save
        show()
        details.update(steps=update.step, minutes=round(update.seconds / 60, 1))
        if accelerator.is_main_process:
            save_state(folder, model, ema, schedule, config.train.target, update.state(), details)
        written, last_save = update.step, time.perf_counter()

    with (
        _Signals(aloud=accelerator.is_main_process) as signals,
        _Bar(
            total=100,
            bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}",
            mininterval=1,
            disable=not accelerator.is_main_process,
        ) as bar,
    ):
        for update in train(
            model, schedule, pictures, config.train, ema=ema, accelerator=accelerator, start=start, stop=signals.came
        ):
            recent.append(update.loss)
            if update.step % LOOK_EVERY == 0 or update.progress == 1:
                look(update)
            if update.progress == 1:
                show()
            bar.update(100 * update.progress - bar.n)
            if weak_waits and update.progress >= WEAK_AT:
                weak_waits, then = False, {"steps": update.step, "minutes": round(update.seconds / 60, 1)}
                _check_finite(ema.model, update.step)  # of a GPU, `train` hears some updates later
                save_checkpoint(weak, ema.model, schedule, target=config.train.target, details={**details, **then})
            by_time = save_every.minutes and time.perf_counter() - last_save >= 60 * save_every.minutes
            if by_time or (save_every.updates and update.step % save_every.updates == 0):
                save(update)
        if update is not None and written != update.step:
            save(update)
        accelerator.wait_for_everyone()  # where one process ends, its launcher ends the others

    step, seconds = (update.step, update.seconds) if update else (start.step, start.seconds)
    if update is not None and update.progress < 1:
        accelerator.print(
            f"stopped by {signals.name or 'another process'} after {step:,} updates; saved {folder}/step-{step:08d}, "
            "go on with --resume"
        )
        return False
    if accelerator.is_main_process:
        save_checkpoint(folder / "model.safetensors", ema.model, schedule, target=config.train.target, details=details)
    accelerator.print(
        f"{step:,} updates in {seconds / 60:.1f} minutes, loss {details['loss']}; saved {folder / 'model.safetensors'}"
    )
    return True


class _Bar(tqdm):  # type: ignore[misc]
    """A progress bar that falls silent where what it is shown on has been closed."""

    def display(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().display(*arguments, **options)
        except OSError:
            self.disable = True

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def _is_far(device: torch.device) -> bool:
    """Whether the host must wait for the device to read a number from it."""
    return device.type != "cpu"


def _restore(saved: Saved, model: UNet, ema: EMA[UNet], folder: Path) -> None:
    """Put what was saved into a network and its average; a ValueError where it is of another network."""
    try:
        model.load_state_dict(saved.weights)
        ema.model.load_state_dict(saved.averaged)
    except RuntimeError as error:
        raise ValueError(f"{saved.path} is not of the network of {folder / 'config.json'}: {error}") from error
    ema.updates = saved.ema_updates


def _moved(folder: Path, device: torch.device) -> str:
    """Says, where a run goes on, that it was begun on another machine, or with other threads: its sums will differ."""
    card = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    before = f"{card.get('machine')}, {card.get('threads')} threads"
    now = f"{describe_machine(device)}, {torch.get_num_threads()} threads"
    return (
        "" if before == now else f"\nit was begun with {before}: what follows is not to the bit what it had been there"
    )


def _validate_shared(folder: Path, step: int) -> None:
    """Refuse processes that found another checkpoint than the first one, as machines without a common disk do."""
    from accelerate.utils import broadcast_object_list

    first = broadcast_object_list([step])[0]
    if step != first:
        raise ValueError(
            f"out must be a folder that all machines share: in {folder} the first process found the checkpoint of "
            f"update {first}, and this one that of update {step}"
        )


def _validate_same(config: RunConfig, stored: RunConfig, folder: Path) -> None:
    """Refuse settings that are not those with which a run was begun."""
    new, old = json.loads(json.dumps(asdict(config))), asdict(stored)  # both as JSON has it: no tuples
    for name in ("data_sha256", "init_sha256"):
        new[name] = old[name] if new[name] is None else new[name]
    pairs = {f"train.{key}": (new["train"][key], value) for key, value in old.pop("train").items()}
    pairs |= {f"unet.{key}": (value, old["unet"][key]) for key, value in new.pop("unet").items() if key in old["unet"]}
    pairs |= {key: (new[key], value) for key, value in old.items() if key != "unet"}
    for name, (now, before) in pairs.items():
        if now != before and not (name in ("precision", "compile") and now == "auto"):
            raise ValueError(
                f"{folder} was begun with {name.split('.')[-1]}={before!r}, got {now!r}: a run goes on as it was "
                "begun; leave the option out, or choose another --out"
            )


def _decided(config: RunConfig, pictures: Pictures, model: UNet, processes: Any, begun: bool) -> RunConfig:
    """The settings with every default written out and everything decided, the same in all processes.

    A run that was begun with a compiler goes on without one, slower, where there is none.
    """
    from accelerate.utils import broadcast_object_list

    sha = config.hash_of(pictures)
    choice: list[Any] = [config.precision, config.compile, sha, config.init_sha256]
    if processes.is_main_process:
        if config.precision == "auto":
            some = torch.arange(config.train.batch_size) % len(pictures)
            told = [] if pictures.labels is None or not config.classes else [pictures.labels[some]]
            batch = [pictures[some], torch.ones(len(some), dtype=torch.int64), *told]
            choice[0] = "no" if pick_autocast(model, *(each.to(processes.device) for each in batch)) is None else "bf16"
        if config.compile == "auto":
            choice[1] = "yes" if compiling_pays(config.train, processes.device) else "no"
        elif config.compile == "yes" and not can_compile(processes.device):
            if not begun:
                raise ValueError("compile='yes' needs a compiler that PyTorch can use here; take compile='no'")
            choice[1] = "no"
    precision, compile, first, init = broadcast_object_list(choice)
    if sha != first:
        raise ValueError(f"data must be the same on all machines: the first one has others than {pictures}")
    if config.init_sha256 != init:
        raise ValueError(f"init must be the same in all processes: {config.init} had other weights for the first one")
    follows = ("size", "in_channels", "out_channels", "num_classes")
    unet = {key: value for key, value in model.config.items() if key not in follows}
    return replace(config, unet=unet, precision=precision, compile=compile, data_sha256=sha)


def _has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is more than an emulation."""
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def _engine(config: RunConfig, folder: Path, device: torch.device, log: bool, step: int) -> Accelerator:
    from accelerate import Accelerator

    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=config.precision,
        gradient_accumulation_steps=config.train.accumulate,
        log_with="tensorboard" if log else None,
        project_dir=folder if log else None,
    )
    if log:
        accelerator.init_trackers("log", init_kwargs={"tensorboard": {"purge_step": step + 1}})
    return accelerator


class _Signals:
    """Notes SIGINT, SIGTERM and SIGHUP (a closed terminal), so that a run can save before it ends.

    A second SIGINT has its usual effect; a second SIGTERM has not: launchers pass on what the processes got from the
    system already. What is ignored, as SIGHUP is under nohup, stays so (`accelerate launch` with several processes does
    not heed that: it ends them at SIGHUP itself).

    Args:
        aloud: say that it was noted.
    """

    def __init__(self, aloud: bool) -> None:
        self.aloud = aloud
        self.name: str | None = None
        self._before: dict[int, Any] = {}

    def came(self) -> bool:
        """Whether to stop."""
        return self.name is not None

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
            known = (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP"))  # Windows has two
            noted = [number for number in known if number and signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in noted}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        if self.aloud and self.name is None:
            with suppress(OSError):  # a closed terminal; print() may be at work already
                os.write(2, b"\nstopping after this update, and saving; one more Ctrl-C ends at once\n")
        self.name = signal.Signals(number).name
        if signal.SIGINT in self._before:
            signal.signal(signal.SIGINT, self._before[signal.SIGINT])
