"""The training of a run: the course's loop, with checkpoints, a report, and an end that a signal may bring."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..checkpoint import save_checkpoint
from ..data import Pictures
from ..schedule import Schedule, make_schedule
from ..train import EMA, TrainState, Update, train
from ..unet import UNet
from .card import SaveEvery
from .config import RunConfig
from .report import Report
from .saves import Saved, save_state, validate_weights
from .signals import Signals

if TYPE_CHECKING:  # importing it takes a second
    from accelerate import Accelerator

#: Progress at which weights are kept to guide the final ones.
WEAK_AT = 1 / 8


@dataclass(frozen=True)
class Session:
    """A run that is ready to train.

    Args:
        folder: of the run.
        config: with every choice made.
        accelerator: made for these settings.
        model, ema: the network and its average, on the accelerator's device, with the weights to go on from.
        pictures: what to learn from.
        saved: the checkpoint to go on from, or None.
        save_every: how often to save.
        command: the line that began the run.
    """

    folder: Path
    config: RunConfig
    accelerator: Accelerator
    model: UNet
    ema: EMA[UNet]
    pictures: Pictures
    saved: Saved | None
    save_every: SaveEvery
    command: str

    @property
    def start(self) -> TrainState:
        """Where the training begins."""
        return self.saved.state if self.saved else TrainState()

    def details(self) -> dict[str, Any]:
        """What the cards of all weights of this run say."""
        return {
            "command": self.command,
            "device": self.accelerator.device.type,
            "data": {"source": str(self.pictures), "sha256": self.pictures.sha256},
            "torch": torch.__version__,
            "settings": asdict(self.config),
            **({"classes": self.pictures.class_names} if self.config.classes else {}),
        }


class Writer:
    """Writes the weights of a run; every process must call it, and the first one writes.

    Args:
        session: what trains.
        schedule: of the run.
        report: knows the losses.
    """

    def __init__(self, session: Session, schedule: Schedule, report: Report) -> None:
        self.session, self.schedule, self.report = session, schedule, report
        self.target, self.details = session.config.train.target, session.details()
        if session.saved is not None:
            self.details |= {key: session.saved.details.get(key) for key in ("steps", "minutes", "loss")}
        self.step, self.seconds = session.start.step, session.start.seconds  # of the last save
        self.weak = session.folder / "weak.safetensors"
        early = session.config.train.progress(self.step, self.seconds) < WEAK_AT  # later weights would be no worse
        fresh = early and session.config.init is None and not self.weak.exists()
        self.weak_due = session.accelerator.is_main_process and fresh

    def note(self, update: Update) -> None:
        """Write what is due after an update."""
        if self.weak_due and update.progress >= WEAK_AT:
            self.weak_due = False
            validate_weights(self.session.ema.model, update.step)  # on a GPU `train` notices only some updates later
            self.save_average(self.weak, {**self.details, **_moment(update)})
        every = self.session.save_every
        # the clock of the training, which all processes share
        by_time = every.minutes and update.seconds - self.seconds >= 60 * every.minutes
        if by_time or (every.updates and update.step % every.updates == 0):
            self.save(update)

    def save(self, update: Update) -> None:
        """Write a checkpoint."""
        self.report.show()
        losses = self.report.losses()
        self.details |= {**_moment(update), "loss": round(losses.mean().item(), 4)}
        if self.session.accelerator.is_main_process:
            folder, model, ema = self.session.folder, self.session.model, self.session.ema
            save_state(folder, model, ema, self.schedule, self.target, update.state(), self.details, losses)
        self.step, self.seconds = update.step, update.seconds

    def save_average(self, path: Path, details: dict[str, Any]) -> None:
        """Write the averaged weights alone."""
        save_checkpoint(path, self.session.ema.model, self.schedule, target=self.target, details=details)


def _moment(update: Update) -> dict[str, Any]:
    return {"steps": update.step, "minutes": round(update.seconds / 60, 1)}


def loop(session: Session) -> bool:
    """Train until the run is over, or until a signal comes; then save.

    Returns:
        Whether the run is over.
    """
    config, accelerator, start = session.config, session.accelerator, session.start
    schedule = make_schedule(config.schedule, config.timesteps)
    losses = torch.empty(0) if session.saved is None else session.saved.losses
    update: Update | None = None
    with (
        Signals(aloud=accelerator.is_main_process) as signals,
        Report(accelerator, config.train, start, losses) as report,
    ):
        writer = Writer(session, schedule, report)
        for update in train(
            session.model,
            schedule,
            session.pictures,
            config.train,
            ema=session.ema,
            accelerator=accelerator,
            start=start,
            stop=signals.came,
        ):
            report.note(update)
            writer.note(update)
        if update is not None and writer.step != update.step:
            writer.save(update)
        accelerator.wait_for_everyone()  # a process that ends early would make its launcher end the others

    if update is not None and update.progress < 1:
        accelerator.print(
            f"stopped by {signals.name or 'another process'} after {update.step:,} updates; saved "
            f"{session.folder}/step-{update.step:08d}, go on with --resume"
        )
        return False
    path = session.folder / "model.safetensors"
    if accelerator.is_main_process:
        writer.save_average(path, writer.details)
    seconds = update.seconds if update else start.seconds
    accelerator.print(
        f"{writer.step:,} updates in {seconds / 60:.1f} minutes, loss {writer.details['loss']}; saved {path}"
    )
    return True
