"""Training: one loop, a generator that yields after each update.

    ema = EMA(model)
    for update in train(model, schedule, pictures, TrainConfig(minutes=3), ema=ema):
        ...  # look at anything: the model, the loss, samples from ema.model

Stop by leaving the loop.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from .data import Pictures, batches, check_training_pictures
from .forward import TARGETS
from .objective import denoising_loss
from .schedule import Schedule
from .validate import check_choice, check_number

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. At least one of steps and minutes must be given; the first that is reached ends the training.

    Args:
        steps: number of updates, >= 1, or None.
        minutes: wall-clock time, > 0, or None. The learning rate falls so that it ends on time on any machine.
        batch_size: pictures per update, >= 1.
        lr: highest learning rate of AdamW, > 0.
        warmup: updates over which the learning rate rises from 0, >= 0.
        grad_clip: longest gradient allowed (norm over all parameters), > 0.
        target: what the network predicts, one of `forward.TARGETS`.
        seed: of data order, timesteps and noise.

    Raises:
        TypeError, ValueError: an argument out of range, an unknown target, neither steps nor minutes.
    """

    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 32
    lr: float = 1e-3
    warmup: int = 100
    grad_clip: float = 1.0
    target: str = "eps"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise ValueError("give steps, minutes or both, else training would never end")
        if self.steps is not None:
            check_number("steps", self.steps, 1, integer=True)
        if self.minutes is not None:
            check_number("minutes", self.minutes, 1e-6)
        check_number("batch_size", self.batch_size, 1, integer=True)
        check_number("lr", self.lr, 1e-12)
        check_number("warmup", self.warmup, 0, integer=True)
        check_number("grad_clip", self.grad_clip, 1e-12)
        check_number("seed", self.seed, 0, integer=True)
        check_choice("target", self.target, TARGETS)

    def learning_rate(self, step: int, progress: float) -> float:
        """Learning rate of an update: a straight rise over `warmup` updates, then a half cosine down to 1 % of lr.

        Args:
            step: number of the update, from 1.
            progress: share of the training that is over, in [0, 1].
        """
        rise = min(1.0, step / max(self.warmup, 1))
        return self.lr * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


class EMA(Generic[Model]):
    """A running average of a model's weights, which samples better than the last ones (DDPM, appendix B).

    average ← d · average + (1 − d) · weights, with d = min(decay, (1 + n)/(10 + n)) at the n-th update, so that
    the random start is soon forgotten.

    Args:
        model: the model to follow; not changed.
        decay: d, in [0, 1).

    Raises:
        TypeError, ValueError: decay out of range.
    """

    def __init__(self, model: Model, decay: float = 0.999) -> None:
        check_number("decay", decay, 0, 1 - 1e-12)
        self.decay = decay
        self.updates = 0
        #: The averaged model, in eval mode; same head as the original.
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
        loss: mean loss of the batch before the update, shape ().
        grad_norm: length of the gradient before clipping, shape ().
        lr: learning rate that was used.
        progress: share of the training that is over, in (0, 1].
        seconds: since the first update began.
    """

    step: int
    loss: Tensor
    grad_norm: Tensor
    lr: float
    progress: float
    seconds: float


def train(
    model: nn.Module,
    schedule: Schedule,
    pictures: Pictures,
    config: TrainConfig,
    *,
    ema: EMA | None = None,
    autocast: torch.dtype | None = None,
) -> Iterator[Update]:
    """Train a network to undo the noise (DDPM, algorithm 1), on the device where the model is.

    For each update: pictures x_0, timesteps t uniform on 1..T, noise eps; a gradient step on the loss; then the
    average in `ema` moves, and the update is yielded.

    Args:
        model: called as model(x_t, t, y); y is given where it was built with classes. Left in train mode
            during an update and as it was found at each yield.
        schedule: the tables a and b.
        pictures: what to learn from.
        config: how.
        ema: average to keep up to date, or None.
        autocast: dtype of the matrix products (torch.bfloat16), or None for full precision; see
            `runtime.pick_autocast`.

    Yields:
        An `Update` after each update.

    Raises:
        TypeError, ValueError: pictures that do not fit the model, labels missing or beyond the model's classes:
            raised here, before the first update.
        FloatingPointError: the gradient is no longer finite; seen at once on a CPU, within 100 updates on a GPU.
    """
    built = getattr(model, "config", {})
    with_labels = built.get("num_classes") is not None
    check_training_pictures(pictures, built.get("in_channels", built.get("channels")))
    if with_labels and pictures.labels is None:
        raise ValueError("the model was built with classes, but these pictures have no labels")
    if with_labels and pictures.labels is not None:
        low, high = int(pictures.labels.min()), int(pictures.labels.max())
        if low < 0 or high >= built["num_classes"]:
            raise ValueError(
                f"the model was built with classes 0..{built['num_classes'] - 1}, these pictures have {low}..{high}"
            )
    return _updates(model, schedule, pictures, config, with_labels, ema, autocast)


def _updates(
    model: nn.Module,
    schedule: Schedule,
    pictures: Pictures,
    config: TrainConfig,
    with_labels: bool,
    ema: EMA | None,
    autocast: torch.dtype | None,
) -> Iterator[Update]:
    device = next(model.parameters()).device
    pictures = pictures.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.0, fused=device.type != "mps")
    order = batches(len(pictures), config.batch_size, torch.Generator().manual_seed(config.seed))
    random = torch.Generator(device).manual_seed(config.seed)

    start, step, progress = time.perf_counter(), 0, 0.0
    while progress < 1:
        step += 1
        index = next(order).to(device)
        x0 = pictures[index]
        t = torch.randint(1, schedule.T + 1, (len(x0),), device=device, generator=random)
        eps = torch.randn(x0.shape, device=device, generator=random)
        y = pictures.labels[index] if with_labels and pictures.labels is not None else None
        lr = config.learning_rate(step, progress)
        for group in optimizer.param_groups:
            group["lr"] = lr

        was_training = model.training
        model.train()
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            loss = denoising_loss(model, schedule, x0, t, eps, target=config.target, y=y).mean()
        loss.backward()
        grad_norm = nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        look = device.type == "cpu" or step % 100 == 0  # reading a number makes a GPU wait
        if look and not math.isfinite(grad_norm):
            raise FloatingPointError(
                f"the gradient is {grad_norm.item()} at update {step} (loss {loss.item():.3g}): "
                "lower lr, or train without autocast"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if ema is not None:
            ema.update(model)
        model.train(was_training)

        seconds = time.perf_counter() - start
        progress = max(
            step / config.steps if config.steps else 0.0,
            seconds / (60 * config.minutes) if config.minutes else 0.0,
        )
        progress = min(progress, 1.0)
        yield Update(step, loss.detach(), grad_norm.detach(), lr, progress, seconds)
