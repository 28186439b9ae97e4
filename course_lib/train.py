"""Training: one loop, written as a generator that yields after each update.

    ema = EMA(model)
    for update in train(model, schedule, pictures, TrainConfig(minutes=3), ema=ema):
        ...  # look at anything: the model, the loss, samples from ema.model

To stop, leave the loop. The random part of an update follows from the seed and the update's number alone, so a training
that goes on from a `TrainState` sees the batches that it would have seen, and so do many processes that share them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from .data import Pictures
from .forward import TARGETS
from .objective import denoising_loss, min_snr_weights
from .optim import make_optimizers
from .runtime import in_mode
from .schedule import Schedule, validate_schedule
from .training.batches import RandomBatches
from .training.clock import Clock
from .training.engine import Engine, pick_driver
from .training.state import TrainState, set_moments
from .training.watch import GradientWatch
from .training.workers import Workers
from .validate import validate_choice, validate_model, validate_number, validate_pictures

if TYPE_CHECKING:  # importing it takes a second, and most trainings do without
    from accelerate import Accelerator

__all__ = ["EMA", "RandomBatches", "TrainConfig", "TrainState", "Update", "train", "training_loop"]

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. Give steps, minutes or both; the training ends at the one that is reached first.

    Args:
        steps: number of updates, >= 1, or None.
        minutes: wall-clock time, > 0, or None. The learning rate falls so that it ends on time on any machine. A pause,
            such as that of a sleeping computer, does not count: an update of more than a minute that took 20 times
            longer than any before.
        batch_size: pictures per update, >= 1, over all processes and parts together.
        accumulate: parts in which a process works through its share of a batch, >= 1: more parts need less memory.
        lr: learning rate of Muon and AdamW, > 0; `learning_rate` derives that of each update from it.
        warmup: updates over which the learning rate rises from 0, >= 0.
        grad_clip: length to which longer gradients are cut (norm over all parameters), > 0.
        target: what the network predicts, one of `forward.TARGETS`.
        snr_gamma: gamma of the loss weights, `objective.min_snr_weights`, > 0; None weights all timesteps alike, as in
            DDPM.
        seed: of data order, timesteps and noise.
    """

    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 32
    accumulate: int = 1
    lr: float = 4e-3
    warmup: int = 50
    grad_clip: float = 1.0
    target: str = "eps"
    snr_gamma: float | None = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise ValueError("give steps, minutes or both: with neither, training would never end")
        if self.steps is not None:
            validate_number("steps", self.steps, 1, 10**12, integer=True)
        if self.minutes is not None:
            validate_number("minutes", self.minutes, 1e-6)
        validate_number("batch_size", self.batch_size, 1, 10**6, integer=True)
        validate_number("accumulate", self.accumulate, 1, integer=True)
        self.share(1)
        validate_number("lr", self.lr, 1e-12)
        validate_number("warmup", self.warmup, 0, 10**12, integer=True)
        validate_number("grad_clip", self.grad_clip, 1e-12)
        if self.snr_gamma is not None:
            validate_number("snr_gamma", self.snr_gamma, 1e-12, 1e12)
        validate_number("seed", self.seed, 0, 2**64 - 1, integer=True)
        validate_choice("target", self.target, TARGETS)

    def share(self, processes: int) -> int:
        """Pictures in each part of each process's share of a batch.

        Raises:
            ValueError: the batch cannot be shared out equally.
        """
        parts = processes * self.accumulate
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size must be a multiple of {parts} ({processes} process(es) × accumulate={self.accumulate}), "
                f"got {self.batch_size}"
            )
        return self.batch_size // parts

    def validate_schedule(self, schedule: Schedule) -> None:
        """Refuse a schedule at whose last timestep, where sampling begins, the loss would have no weight."""
        if self.snr_gamma is not None and self.target != "eps" and schedule.signal[-1] == 0:
            raise ValueError(
                "snr_gamma must be None (--snr-gamma none) with this schedule: no signal is left at t = T, so T would "
                "have no weight in the loss, and sampling would begin where nothing was learned"
            )

    def progress(self, step: int, seconds: float) -> float:
        """Share of the training that is over after so many updates and seconds, in [0, 1]."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = seconds / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def learning_rate(self, step: int, progress: float) -> float:
        """Learning rate of an update: a half cosine from lr down to 1 % of it, times a rise over `warmup` updates.

        Args:
            step: number of the update, from 1.
            progress: share of the training that is over, in [0, 1].
        """
        rise = min(1.0, step / max(self.warmup, 1))
        return self.lr * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


class EMA(Generic[Model]):
    """A running average of a model's weights, which samples better than the last weights do (DDPM, appendix B).

    average ← d · average + (1 − d) · weights, with d = min(decay, (1 + n)/(10 + n)) at the n-th update: until d
    reaches decay, this averages over about the last ninth of all updates, however long the training.

    Args:
        model: the model to follow; not changed.
        decay: d, in [0, 1).
    """

    def __init__(self, model: Model, decay: float = 0.9999) -> None:
        validate_model(model)
        validate_number("decay", decay, 0, 1 - 1e-12)
        self.decay = decay
        self.updates = 0
        #: The averaged model: a copy in eval mode whose weights need no gradient.
        self.model: Model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights; buffers (BatchNorm statistics) are copied."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)


@dataclass(frozen=True)
class Update:
    """What one update did. Tensors stay on the model's device: reading them makes the host wait.

    Args:
        step: number of the update, from 1.
        loss: mean loss of the batch before the update, shape (), without the weights of `snr_gamma`, so that trainings
            with different weights can be compared; with several processes, of this process's share.
        grad_norm: length of the gradient before clipping, shape ().
        lr: learning rate that was used.
        progress: share of the training that is over, in (0, 1].
        seconds: since the first update began, without pauses.
        state: gives the `TrainState` after this update. Call it, and store the result, before the next update: its
            tensors are the optimizers' own.
    """

    step: int
    loss: Tensor
    grad_norm: Tensor
    lr: float
    progress: float
    seconds: float
    state: Callable[[], TrainState] = field(repr=False)


def training_loop(
    model: nn.Module,
    schedule: Schedule,
    pictures: Pictures,
    config: TrainConfig,
    engine: Engine,
    ema: EMA | None,
    start: TrainState,
    stop: Callable[[], bool] | None,
) -> Iterator[Update]:
    """The loop of `train`, which has made the engine and moved the pictures to the model's device."""
    net, device = engine.prepare(), pictures.images.device
    batches = RandomBatches(pictures, schedule, config.batch_size, config.seed)
    labels = pictures.labels if _classes(model) is not None else None
    loss_weights = torch.ones(schedule.T + 1)
    if config.snr_gamma is not None:
        loss_weights = min_snr_weights(schedule, config.target, config.snr_gamma).float()
    loss_weights = loss_weights.to(device)
    watch, clock = GradientWatch(device), Clock(start.seconds, shared=engine.processes > 1)

    def loss_of(index: Tensor, t: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        y = None if labels is None else labels[index]
        with engine.autocast():
            losses = denoising_loss(net, schedule, pictures[index], t, eps, target=config.target, y=y)
        return losses, loss_weights[t]

    step, progress, stopping = start.step, config.progress(start.step, start.seconds), False
    while progress < 1 and not stopping:
        step += 1
        lr = config.learning_rate(step, progress)
        with engine, in_mode(model, training=True):
            parts = engine.share(batches(step))
            loss = torch.stack([engine.backward(loss_of, part) for part in parts]).mean()
            grad_norm = engine.clip_gradient(config.grad_clip)
            watch(step, grad_norm, loss)
            engine.step(lr)
            if ema is not None:
                ema.update(model)
        seconds, stopping = clock.read(stop is not None and stop())
        progress = config.progress(step, seconds)
        yield Update(step, loss, grad_norm, lr, progress, seconds, partial(engine.state, step, seconds))
    watch.close()


def train(
    model: nn.Module,
    schedule: Schedule,
    pictures: Pictures,
    config: TrainConfig,
    *,
    ema: EMA | None = None,
    autocast: torch.dtype | None = None,
    accelerator: Accelerator | None = None,
    start: TrainState | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Update]:
    """Train a network to undo the noise (DDPM, algorithm 1), on the device where the model is.

    Each update takes pictures x_0, timesteps t uniform on 1..T and noise eps, and makes a gradient step on the loss,
    weighted by t; then the average in `ema` moves. An `Update` follows each.

    Args:
        model: called as model(x_t, t, y); y is given if it was built with classes. It is in train mode during an
            update, see `runtime.in_mode`, and in its own mode at each yield.
        schedule: the tables a and b.
        pictures: what to learn from.
        config: how.
        ema: average to keep up to date, or None.
        autocast: dtype of the matrix products (torch.bfloat16), or None for full precision: `runtime.pick_autocast`.
        accelerator: of Hugging Face Accelerate, for several processes; it then also decides on autocast. Each process
            takes its share of every batch, so the loss does not depend on their number.
        start: go on from here; `model` and `ema` must hold the weights of that moment.
        stop: asked after each update; True ends the training, in all processes as soon as one says so.

    Raises:
        TypeError, ValueError: arguments that do not fit together, at the call. Sizes that the model refuses: at the
            first update.
        FloatingPointError: the gradient is no longer finite; raised at once on a CPU, within 100 updates on a GPU.
    """
    validate_model(model)
    validate_schedule(schedule)
    _validate_pictures(model, pictures)
    start = TrainState() if start is None else start
    for name, given, kind in (("config", config, TrainConfig), ("start", start, TrainState)):
        if not isinstance(given, kind):
            raise TypeError(f"{name} must be a {kind.__name__}, got {type(given).__name__}")
    config.validate_schedule(schedule)
    driver = pick_driver(model, autocast, accelerator, config.accumulate)
    config.share(driver.num_processes)
    workers = Workers(model) if driver.num_processes == 1 and Workers.suit(model) else None
    optimizers = make_optimizers(model, config.lr, parts=workers.count if workers else 1)
    if start.moments:
        set_moments(model, optimizers, start.moments)
    engine = Engine(model, optimizers, driver, workers, config.accumulate)
    pictures = pictures.to(next(model.parameters()).device)
    return training_loop(model, schedule, pictures, config, engine, ema, start, stop)


def _classes(model: nn.Module) -> int | None:
    config: dict[str, Any] = getattr(model, "config", {})
    return config.get("num_classes")


def _validate_pictures(model: nn.Module, pictures: Pictures) -> None:
    config: dict[str, Any] = getattr(model, "config", {})
    if not isinstance(pictures, Pictures):
        raise TypeError(f"pictures must be course_lib.data.Pictures, got {type(pictures).__name__}")
    validate_pictures(pictures[:1], "pictures", channels=config.get("in_channels", config.get("channels")))
    classes = _classes(model)
    if classes is None:
        return
    if pictures.labels is None:
        raise ValueError(f"the model was built with classes, but {pictures.unlabeled}")
    low, high = int(pictures.labels.min()), int(pictures.labels.max())
    if low < 0 or high >= classes:
        raise ValueError(f"the model was built with classes 0..{classes - 1}, these pictures have {low}..{high}")
