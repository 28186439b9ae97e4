"""How a run begins, or goes on, and what it says when it fails."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..data import Pictures
from ..runtime import describe_machine, is_out_of_memory, pick_device
from ..shapes import count_parameters
from ..train import EMA
from ..unet import UNet
from .card import (
    NAME,
    How,
    SaveEvery,
    describe_move,
    keep_changes,
    read_config,
    read_how,
    validate_same,
    validate_untouched,
    write_config,
)
from .config import RunConfig, hash_of_file
from .engine import connect, decide, make_accelerator, validate_shared
from .folder import alone_in, checkpoints, newest_weights
from .loop import Session, loop
from .saves import last_good

if TYPE_CHECKING:  # importing it takes a second
    from accelerate import Accelerator, PartialState


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
    process. Several machines share the folder, and agree on the time through gloo: where the name of a machine leads
    to 127.0.1.1, the variable GLOO_SOCKET_IFNAME must name its network interface.

    Args:
        folder: of the run; made if it is not there.
        config: what to do; None if the folder says it.
        resume: go on in a folder that holds a run.
        device, save_every, log: see `How`; None does as the run did before, or takes the default.
        command: the line that began the run, for its files.

    Returns:
        Whether the run is over; False if it was stopped.

    Raises:
        TypeError, ValueError: bad settings, a run that is there already, other settings or data than it began with,
            checkpoints that cannot be read.
        FloatingPointError: the training met NaN or infinity; the last good checkpoint is kept.
        OSError: the disk is full, or the folder cannot be written; the last good checkpoint is kept.
        MemoryError: the device has not enough memory; the last good checkpoint is kept.
    """
    plan = _find(folder, resume)
    if plan is not None:
        plan = replace(plan, config=_go_on(plan, config))
    elif config is None:
        raise ValueError(f"{folder} holds no run to go on with: say what to train")
    else:
        plan = Plan(Path(folder), config, How(), command)
    how = plan.how
    how = How(device or how.device, save_every or how.save_every, how.log if log is None else log)
    if how.log and importlib.util.find_spec("tensorboard") is None:
        raise ValueError("log needs the package tensorboard: pip install tensorboard")
    plan = replace(plan, how=how, device=pick_device(how.device))
    processes = connect(plan.device, plan.config, plan.precision_before)
    plan, pictures, model = _load(plan, processes)
    processes.wait_for_everyone()  # every process looks whether there is a run before one is begun
    with alone_in(plan.folder) if processes.is_main_process else nullcontext():
        if processes.is_main_process:
            _write_card(plan, pictures, processes.num_processes)
        with _explained(plan, pictures, processes):
            return _train(plan, pictures, model, processes)


@dataclass(frozen=True)
class Plan:
    """What is known about a run before it trains.

    Args:
        folder: of the run.
        config: what to do.
        how: where it trains, and what it writes.
        command: the line that began the run.
        begun: whether the folder holds the run already.
        precision_before: with which an earlier session trained, or None.
        device: of this process.
    """

    folder: Path
    config: RunConfig
    how: How
    command: str
    begun: bool = False
    precision_before: str | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def _find(folder: str | Path, resume: bool) -> Plan | None:
    """The run that a folder holds, or None."""
    if str(folder) == "":
        raise ValueError("out is empty: name a folder for the run")
    folder = Path(folder)
    if folder.suffix == ".safetensors":
        raise ValueError(
            f"out must be a folder, got {folder}: the weights will be {folder.with_suffix('')}/model.safetensors"
        )
    if not (folder / NAME).exists():
        if checkpoints(folder):
            raise ValueError(f"{folder} holds checkpoints of a run without its {NAME}: choose another --out")
        return None
    if not resume:
        raise ValueError(f"{folder} holds a run already: go on with --resume, or choose another --out")
    config, command = read_config(folder / NAME)
    validate_untouched(folder, config)
    return Plan(folder, config, read_how(folder / NAME), command, begun=True, precision_before=config.precision)


def _go_on(plan: Plan, asked: RunConfig | None) -> RunConfig:
    """The stored settings, with the changes that a run may go on with."""
    stored = plan.config
    if asked is None:
        return stored
    if "fashion-mnist" not in (asked.data, stored.data):
        stored = replace(stored, data=asked.data)  # the folder may have moved; the hash tells whether it is the same
    if asked.compile != "auto":
        stored = replace(stored, compile=asked.compile)
    if asked.precision != "auto":  # the weights are float32 either way
        stored = replace(stored, precision=asked.precision)
    # with less memory than before, a batch can be worked through in more parts
    stored = replace(stored, train=replace(stored.train, accumulate=asked.train.accumulate))
    validate_same(asked, stored, plan.folder)
    return stored


def _load(plan: Plan, processes: PartialState) -> tuple[Plan, Pictures, UNet]:
    """The pictures and the network, and the plan with every choice made."""
    config, init = plan.config, None
    if config.init is not None and not checkpoints(plan.folder):  # its own weights come first
        # found once and before the pictures: a run that still trains saves others meanwhile
        init = str(newest_weights(Path(config.init)))
        config.initial(init)  # refused before hours of loading
        config = replace(config, init_sha256=hash_of_file(Path(init)))
    pictures = config.pictures()
    model = replace(config, init=init).model(pictures)
    return replace(plan, config=decide(config, pictures, model, processes, plan.begun)), pictures, model


def _write_card(plan: Plan, pictures: Pictures, processes: int) -> None:
    if plan.begun:
        keep_changes(plan.folder, plan.config, plan.how)
        return
    if (plan.folder / NAME).exists():
        raise ValueError(f"another process has just begun a run in {plan.folder}; choose another --out")
    machine = describe_machine(plan.device)
    write_config(plan.folder, plan.config, plan.how, pictures, plan.command, machine, processes)


def _train(plan: Plan, pictures: Pictures, model: UNet, processes: PartialState) -> bool:
    """Restore the last checkpoint, if any, and train; gives whether the run is over."""
    folder, config = plan.folder, plan.config
    with processes.main_process_first():  # the first one cleans up
        saved = last_good(folder, processes.print, mend=processes.is_main_process)
    step = saved.state.step if saved else 0
    validate_shared(folder, step)
    accelerator = make_accelerator(config, folder, plan.device, plan.how.log, step)
    with _trackers_finished(accelerator):
        model = model.to(accelerator.device).to(memory_format=torch.channels_last)
        ema = EMA(model, config.ema)
        if saved is not None:
            saved.restore(model, ema)
        _introduce(plan, accelerator, pictures, model)
        if saved is not None:
            accelerator.print(f"going on from {saved.path}" + describe_move(folder, plan.device))
        if config.compile == "yes":
            model.compile(dynamic=False)  # in place, so that the weights keep their names
        over = loop(
            Session(folder, config, accelerator, model, ema, pictures, saved, plan.how.save_every, plan.command)
        )
        accelerator.end_training()
    return over


def _introduce(plan: Plan, accelerator: Accelerator, pictures: Pictures, model: UNet) -> None:
    """Say what will be trained, on what, and where."""
    accelerator.print(
        f"{describe_machine(plan.device)}, {accelerator.num_processes} process(es), precision: "
        f"{plan.config.precision}, compiled: {plan.config.compile}\n{pictures}\n{count_parameters(model):,} parameters"
    )
    if len(pictures) == 1:
        accelerator.print("only one picture: the network will learn it by heart")


@contextmanager
def _trackers_finished(accelerator: Accelerator) -> Iterator[None]:
    """Close the logs of a run that fails, without waiting for processes that still train, as end_training() would."""
    try:
        yield
    except BaseException:
        for tracker in accelerator.trackers:
            with suppress(Exception):  # the disk may be full for the log as well
                tracker.finish()
        raise


@contextmanager
def _explained(plan: Plan, pictures: Pictures, processes: PartialState) -> Iterator[None]:
    """Say, when a run fails, what was kept and what to do; and free a folder in which nothing was."""
    try:
        yield
    except BaseException as error:
        folder, kept = plan.folder, checkpoints(plan.folder)
        if not (plan.begun or kept) and isinstance(error, Exception) and processes.is_main_process:
            for name in (NAME, "weak.safetensors"):
                with suppress(OSError):
                    (folder / name).unlink()
        last = f"the last good checkpoint is {kept[0]}" if kept else "there was no checkpoint yet"
        if is_out_of_memory(error):
            less = "work through each batch in more parts (--accumulate)"
            less = less if kept else f"take a smaller --batch-size, or {less}"
            what = f"this network and batch beside {pictures.images.nbytes / 1e9:.2g} GB of pictures"
            raise MemoryError(f"not enough memory for {what}: {less}; {last}") from error
        if isinstance(error, OSError):
            raise type(error)(f"cannot write to {folder}: {error.strerror or error}; {last}") from error
        if isinstance(error, FloatingPointError):
            again = ", which another run can begin with (--init)" if kept else ""
            raise FloatingPointError(f"{error}; {last}{again}") from error
        raise
