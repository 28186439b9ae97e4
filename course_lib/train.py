"""Training: one loop, a generator that yields after each update.

    ema = EMA(model)
    for update in train(model, schedule, pictures, TrainConfig(minutes=3), ema=ema):
        ...  # look at anything: the model, the loss, samples from ema.model

Stop by leaving the loop. What is random in an update follows from the seed and the number of the update alone, so a
training that goes on from a `TrainState` sees what it would have seen, and so do many processes that share its batches.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from .data import Pictures, validate_training_pictures
from .forward import TARGETS
from .objective import denoising_loss, min_snr_weights
from .optim import make_optimizers
from .runtime import in_mode
from .schedule import Schedule
from .validate import validate_choice, validate_number

if TYPE_CHECKING:  # imported where it is needed alone: it takes a second
    from accelerate import Accelerator

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. At least one of steps and minutes must be given; the first that is reached ends the training.

    Args:
        steps: number of updates, >= 1, or None.
        minutes: wall-clock time, > 0, or None. The learning rate falls so that it ends on time on any machine. A pause
            of more than a minute and of twenty of the longest updates, as of a sleeping computer, does not count.
        batch_size: pictures per update, >= 1, over all processes and parts together.
        accumulate: parts in which a process works through its share of a batch, >= 1: more take less memory.
        lr: learning rate of Muon and AdamW, > 0, from which `learning_rate` makes that of each update.
        warmup: updates over which the learning rate rises from 0, >= 0.
        grad_clip: longest gradient allowed (norm over all parameters), > 0.
        target: what the network predicts, one of `forward.TARGETS`.
        snr_gamma: gamma of the weights of the loss, `objective.min_snr_weights`, > 0; None: all timesteps alike, as in
            DDPM.
        seed: of data order, timesteps and noise.

    Raises:
        TypeError, ValueError: an argument out of range, an unknown target, neither steps nor minutes.
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
            raise ValueError("give steps, minutes or both, else training would never end")
        if self.steps is not None:
            validate_number("steps", self.steps, 1, integer=True)
        if self.minutes is not None:
            validate_number("minutes", self.minutes, 1e-6)
        validate_number("batch_size", self.batch_size, 1, integer=True)
        validate_number("accumulate", self.accumulate, 1, integer=True)
        self.share(1)
        validate_number("lr", self.lr, 1e-12)
        validate_number("warmup", self.warmup, 0, integer=True)
        validate_number("grad_clip", self.grad_clip, 1e-12)
        if self.snr_gamma is not None:
            validate_number("snr_gamma", self.snr_gamma, 1e-12, 1e12)
        validate_number("seed", self.seed, 0, integer=True)
        validate_choice("target", self.target, TARGETS)

    def share(self, processes: int) -> int:
        """Pictures in each part of each process's share of a batch.

        Raises:
            ValueError: batch_size cannot be shared out equally.
        """
        parts = processes * self.accumulate
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size must be a multiple of {parts} ({processes} process(es) × accumulate={self.accumulate}), "
                f"got {self.batch_size}"
            )
        return self.batch_size // parts

    def validate_schedule(self, schedule: Schedule) -> None:
        """Refuse a schedule that does not go with the weights of the loss.

        Raises:
            ValueError: snr_gamma where no signal is left at T and the target is not eps.
        """
        if self.snr_gamma is not None and self.target != "eps" and schedule.signal[-1] == 0:
            raise ValueError(
                "snr_gamma gives t = T no weight, since the schedule's signal is 0 there: sampling would begin where "
                "nothing was learned; take snr_gamma=None (--snr-gamma none)"
            )

    def learning_rate(self, step: int, progress: float) -> float:
        """Learning rate of an update: a half cosine from lr down to 1 % of it, times a rise over `warmup` updates.

        Args:
            step: number of the update, from 1.
            progress: share of the training that is over, in [0, 1].
        """
        rise = min(1.0, step / max(self.warmup, 1))
        return self.lr * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


class EMA(Generic[Model]):
    """A running average of a model's weights, which samples better than the last ones (DDPM, appendix B).

    average ← d · average + (1 − d) · weights, with d = min(decay, (1 + n)/(10 + n)) at the n-th update: until decay
    is reached, an average over about the last ninth of all updates, however long the training.

    Args:
        model: the model to follow; not changed.
        decay: d, in [0, 1).

    Raises:
        TypeError, ValueError: decay out of range.
    """

    def __init__(self, model: Model, decay: float = 0.9999) -> None:
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


class Draws:
    """What is random in a training: the pictures, timesteps and noise of an update, by its number alone.

    Each pass goes through all pictures in an order of its own; a batch that reaches the end of one pass goes on with
    the next. Nothing is carried from one update to another.

    Args:
        pictures: what to draw from; the draws are made on their device.
        schedule: timesteps are uniform on 1..T.
        config: batch_size and seed.
    """

    def __init__(self, pictures: Pictures, schedule: Schedule, config: TrainConfig) -> None:
        self.n, self.T, self.size, self.seed = len(pictures), schedule.T, config.batch_size, config.seed
        self.shape, self.device = (config.batch_size, *pictures.images.shape[1:]), pictures.images.device
        self._generator = torch.Generator(self.device)
        self._pass, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The draws of one update.

        Args:
            step: number of the update, from 1.

        Returns:
            Indices of the pictures, int64 (B,); timesteps, int64 (B,); noise, float32 (B, C, H, W).
        """
        first, end, parts = (step - 1) * self.size, step * self.size, []
        while first < end:
            number, at = divmod(first, self.n)
            parts.append(self._order_of(number)[at : at + end - first])
            first += len(parts[-1])
        generator = self._generator.manual_seed(_seed(self.seed, "noise", step))
        t = torch.randint(1, self.T + 1, (self.size,), device=self.device, generator=generator)
        eps = torch.randn(self.shape, device=self.device, generator=generator)
        return torch.cat(parts), t, eps

    def _order_of(self, number: int) -> Tensor:
        """The order of a pass, the same on every device; the last one is kept."""
        if number != self._pass:
            order = torch.randperm(self.n, generator=torch.Generator().manual_seed(_seed(self.seed, "order", number)))
            if self.device.type == "cuda":  # so that nobody waits for the copy
                order = order.pin_memory().to(self.device, non_blocking=True)
            self._pass, self._order = number, order.to(self.device)
        return self._order


def _seed(seed: int, what: str, number: int) -> int:
    """A seed of 64 bits for one purpose and number; neighbors have nothing in common."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {what} {number}".encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True)
class TrainState:
    """Where a training stands: what it needs to go on, besides the weights of the model and of the average.

    Args:
        step: updates made, >= 0.
        seconds: time they took, >= 0.
        moments: the optimizer's tensors, by parameter and kind, such as "stem.bias.exp_avg".

    Raises:
        TypeError, ValueError: a number out of range.
    """

    step: int = 0
    seconds: float = 0.0
    moments: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        validate_number("step", self.step, 0, integer=True)
        validate_number("seconds", self.seconds, 0)


@dataclass(frozen=True)
class Update:
    """What one update did. Tensors stay on the model's device: reading them makes the host wait.

    Args:
        step: number of the update, from 1.
        loss: mean loss of the batch before the update, shape (), without the weights of `snr_gamma`, so that it can be
            compared whatever they are; with several processes, of this one's share.
        grad_norm: length of the gradient before clipping, shape ().
        lr: learning rate that was used.
        progress: share of the training that is over, in (0, 1].
        seconds: since the first update began, without pauses.
        state: gives the `TrainState` after this update; call it before the next one, and store what it gives at once:
            the tensors are the optimizer's own.
    """

    step: int
    loss: Tensor
    grad_norm: Tensor
    lr: float
    progress: float
    seconds: float
    state: Callable[[], TrainState] = field(repr=False)


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

    For each update: pictures x_0, timesteps t uniform on 1..T, noise eps; a gradient step on the loss, weighted
    by t; then the average in `ema` moves, and the update is yielded.

    Args:
        model: called as model(x_t, t, y); y is given where it was built with classes. In train mode
            during an update, see `runtime.in_mode`, and as it was found at each yield.
        schedule: the tables a and b.
        pictures: what to learn from.
        config: how.
        ema: average to keep up to date, or None.
        autocast: dtype of the matrix products (torch.bfloat16), or None for full precision; see
            `runtime.pick_autocast`.
        accelerator: of Hugging Face Accelerate, for several processes; it then decides on autocast too. Each process
            takes its share of every batch, so the loss does not depend on their number.
        start: go on from here, with the weights of that moment in `model` and `ema`.
        stop: asked after each update; True ends the training. Where one process says so, all end together.

    Yields:
        An `Update` after each update.

    Raises:
        TypeError, ValueError: pictures that do not fit the model, labels missing or beyond the model's classes, a
            batch that cannot be shared out, a state of another model, snr_gamma where no signal is left at T and the
            target is not eps: raised here, before the first update, at which the model itself refuses sizes.
        FloatingPointError: the gradient is no longer finite; seen at once on a CPU, within 100 updates on a GPU.
    """
    built = getattr(model, "config", {})
    with_labels = built.get("num_classes") is not None
    validate_training_pictures(pictures, built.get("in_channels", built.get("channels")))
    if with_labels and pictures.labels is None:
        raise ValueError("the model was built with classes, but these pictures have no labels")
    if with_labels and pictures.labels is not None:
        low, high = int(pictures.labels.min()), int(pictures.labels.max())
        if low < 0 or high >= built["num_classes"]:
            raise ValueError(
                f"the model was built with classes 0..{built['num_classes'] - 1}, these pictures have {low}..{high}"
            )
    config.validate_schedule(schedule)
    device = next(model.parameters()).device
    if accelerator is not None:
        there = accelerator.device
        if there.type != device.type or (None not in (there.index, device.index) and there.index != device.index):
            raise ValueError(f"the model is on {device}: move it, and its average, to the accelerator's {there} first")
        if autocast is not None:
            raise ValueError("autocast must be None where an accelerator is given: pass it mixed_precision='bf16'")
        if accelerator.scaler is not None:
            raise ValueError("mixed_precision='fp16' of the accelerator needs a scaled loss; take 'bf16' or 'no'")
        if accelerator.gradient_accumulation_steps != config.accumulate:
            raise ValueError(
                f"config.accumulate={config.accumulate}, but the accelerator was made with "
                f"gradient_accumulation_steps={accelerator.gradient_accumulation_steps}; give both the same"
            )
    engine = accelerator or _Plain(device, autocast, config.accumulate)
    config.share(engine.num_processes)
    workers = _Workers(model) if _Workers.suit(model) and engine.num_processes == 1 else None
    optimizers = make_optimizers(model, config.lr, parts=workers.count if workers else 1)
    start = start or TrainState()
    if start.moments:
        _set_moments(model, optimizers, start.moments)
    return _updates(
        model, optimizers, schedule, pictures.to(device), config, with_labels, ema, engine, workers, start, stop
    )


class _Plain:
    """What the loop uses of an Accelerator, in plain PyTorch and one process."""

    num_processes, process_index = 1, 0

    def __init__(self, device: torch.device, autocast: torch.dtype | None, parts: int) -> None:
        self.device, self.dtype, self.parts = device, autocast, parts

    def prepare(self, *objects: Any) -> tuple[Any, ...]:
        return objects

    def accumulate(self, model: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, dtype=self.dtype)

    def backward(self, loss: Tensor) -> None:
        (loss / self.parts).backward()

    def clip_grad_norm_(self, parameters: Iterable[nn.Parameter], longest: float) -> Tensor:
        return nn.utils.clip_grad_norm_(parameters, longest)


def _updates(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    schedule: Schedule,
    pictures: Pictures,
    config: TrainConfig,
    with_labels: bool,
    ema: EMA | None,
    engine: Accelerator | _Plain,
    workers: _Workers | None,
    start: TrainState,
    stop: Callable[[], bool] | None,
) -> Iterator[Update]:
    net, *prepared = engine.prepare(model, *optimizers)
    draws, check = Draws(pictures, schedule, config), _FiniteCheck(pictures.images.device)
    share, clock = config.share(engine.num_processes), _Clock(start.seconds, engine.num_processes > 1)
    step, stopping, progress = start.step, False, _progress(config, start.step, start.seconds)
    weights = torch.ones(schedule.T + 1)
    if config.snr_gamma is not None:
        weights = min_snr_weights(schedule, config.target, config.snr_gamma).float()
    weights = weights.to(pictures.images.device)

    def each_loss(index: Tensor, t: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
        y = pictures.labels[index] if with_labels and pictures.labels is not None else None
        with engine.autocast():
            return denoising_loss(net, schedule, pictures[index], t, eps, target=config.target, y=y), weights[t]

    while progress < 1 and not stopping:
        step += 1
        drawn = draws(step)
        lr = config.learning_rate(step, progress)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr

        with workers or nullcontext(), in_mode(model, training=True):
            losses = []
            for part in range(config.accumulate):
                first = share * (engine.process_index * config.accumulate + part)
                mine = [values[first : first + share] for values in drawn]
                with engine.accumulate(net):
                    if workers is None:
                        each, weight = each_loss(*mine)
                        engine.backward((weight * each).mean())
                        losses.append(each.detach().mean())
                    else:
                        losses.append(workers.backward(each_loss, mine, 1 / config.accumulate))
            loss = torch.stack(losses).mean()
            grad_norm = engine.clip_grad_norm_(model.parameters(), config.grad_clip).detach()
            check(step, grad_norm, loss)
            if workers is None:
                for optimizer in prepared:
                    optimizer.step()
            else:
                workers.step(prepared)
            for optimizer in prepared:
                optimizer.zero_grad(set_to_none=True)
            if ema is not None:
                ema.update(model)

        seconds, stopping = clock.read(stop is not None and stop())
        progress = _progress(config, step, seconds)
        yield Update(step, loss, grad_norm, lr, progress, seconds, partial(_state, model, optimizers, step, seconds))
    check.close()


class _Workers:
    """Threads that share a batch on a CPU: each finds the gradient of its pictures alone, then they are added.

    The optimizers, which have weights of their own each, step in these threads too.

    PyTorch's own threads share every single operation, and wait for each other hundreds of times in an update. Where
    they wait without spinning, these were half as fast again on two cores (batch of 32); spinning threads keep up while
    the machine is theirs alone, and become ten times slower where another program wants a core, which these do not.
    """

    #: More of them would wait for Python, which runs in one thread at a time.
    MOST = 4

    def __init__(self, model: nn.Module) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.threads = torch.get_num_threads()
        self.count = min(self.MOST, self.threads)
        # the initializer is not a method of this object: a pool that knows it would never be collected, nor its threads
        self.pool = ThreadPoolExecutor(self.count, initializer=_begin_thread, initargs=(self.threads // self.count,))

    @staticmethod
    def suit(model: nn.Module) -> bool:
        """Whether they can share the work: on a CPU with cores to share, where no layer looks across the batch or
        draws random numbers, which would come in another order each time."""
        on_cpu = next(model.parameters()).device.type == "cpu"
        whole = any(isinstance(layer, _BatchNorm | _DropoutNd) for layer in model.modules())
        return on_cpu and torch.get_num_threads() > 1 and next(model.buffers(), None) is None and not whole

    def __enter__(self) -> None:
        torch.set_num_threads(self.threads // self.count)  # for small work, such as the optimizer's, fewer are faster

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self.threads)

    def backward(
        self, each_loss: Callable[..., tuple[Tensor, Tensor]], batch: Sequence[Tensor], factor: float
    ) -> Tensor:
        """Add the gradient of factor · mean weighted loss to the parameters; the mean loss, without weights."""
        size = len(batch[0])
        pieces = zip(*(values.tensor_split(min(self.count, size)) for values in batch), strict=True)

        def learn(piece: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor | None]]:
            each, weight = each_loss(*piece)
            weighted = factor / size * (weight * each).sum()
            return each.detach().sum() / size, torch.autograd.grad(weighted, self.parameters, allow_unused=True)

        losses, gradients = zip(*self.pool.map(learn, pieces), strict=True)
        used = [i for i, gradient in enumerate(gradients[0]) if gradient is not None]
        totals = [gradients[0][i] for i in used]
        for others in gradients[1:]:
            totals = [*torch._foreach_add(totals, [others[i] for i in used])]
        for i, total in zip(used, totals, strict=True):
            p = self.parameters[i]
            # laid out as the parameter, which fused optimizers rely on
            total = total if total.stride() == p.stride() else torch.empty_like(p).copy_(total)
            p.grad = total if p.grad is None else p.grad + total
        return torch.stack(losses).sum()

    def step(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Let all optimizers step."""
        for _ in self.pool.map(lambda optimizer: optimizer.step(), optimizers):
            pass  # reading the answers is what raises an error of a thread here


def _begin_thread(threads: int) -> None:
    torch.get_num_threads()  # which lets PyTorch set up this thread, so that what follows stays
    torch.set_num_threads(threads)


def _progress(config: TrainConfig, step: int, seconds: float) -> float:
    """Share of the training that is over, in [0, 1]."""
    by_steps = step / config.steps if config.steps else 0.0
    by_time = seconds / (60 * config.minutes) if config.minutes else 0.0
    return min(1.0, max(by_steps, by_time))


class _Clock:
    """Time used, and whether to stop; where there are several processes, all are told the same."""

    #: Seconds from which on an update held a pause, if none before it took a twentieth as long.
    PAUSE = 60.0

    def __init__(self, before: float, shared: bool) -> None:
        # CPUs talk to each other here, so that no GPU is waited for
        self.group: Any = torch.distributed.new_group(backend="gloo") if shared else None
        self.seconds, self.last, self.longest, self.paused = before, time.perf_counter(), math.inf, False

    def read(self, stopping: bool) -> tuple[float, bool]:
        """The longest time of all processes, and whether any of them wants to stop; asked after each update."""
        now = time.perf_counter()
        took, self.last = now - self.last, now
        self.paused = took > max(self.PAUSE, 20 * self.longest) and not self.paused  # a second one is how it goes
        took = self.longest if self.paused else took
        self.longest = max(self.longest, took) if math.isfinite(self.longest) else took
        self.seconds += took
        if self.group is None:
            return self.seconds, stopping
        both = torch.tensor([self.seconds, float(stopping)], dtype=torch.float64)
        torch.distributed.all_reduce(both, torch.distributed.ReduceOp.MAX, group=self.group)
        return both[0].item(), bool(both[1])


class Fetched:
    """Numbers on their way to the CPU: nobody waits for a GPU until they are read.

    Args:
        numbers: floats of no dimension, on one device.
    """

    def __init__(self, *numbers: Tensor) -> None:
        together = torch.stack([number.detach().float() for number in numbers])
        self._event = torch.cuda.Event() if together.is_cuda else None
        self._values = together.to("cpu", non_blocking=together.is_cuda)
        if self._event is not None:
            self._event.record(torch.cuda.current_stream(together.device))

    def read(self) -> list[float]:
        """The numbers."""
        if self._event is not None:
            self._event.synchronize()
        return self._values.tolist()


class _FiniteCheck:
    """Refuses a gradient that is no number: at once on a CPU; on others by what it was 50 updates ago.

    By then it is known, so that the host need not wait for the device; and all processes, whose gradients are the
    same, stop at the same update.
    """

    def __init__(self, device: torch.device) -> None:
        self.every = 1 if device.type == "cpu" else 50
        self.unseen: tuple[int, Fetched] | None = None

    def __call__(self, step: int, grad_norm: Tensor, loss: Tensor) -> None:
        if step % self.every == 0:
            self.close()
            self.unseen = step, Fetched(grad_norm, loss)
            if self.every == 1:
                self.close()

    def close(self) -> None:
        """Look at what is still unseen."""
        if self.unseen is not None:
            (step, fetched), self.unseen = self.unseen, None
            grad_norm, loss = fetched.read()
            if not math.isfinite(grad_norm):
                raise FloatingPointError(
                    f"the gradient is {grad_norm} at update {step} (loss {loss:.3g}): "
                    "lower lr, or train without autocast (--precision no)"
                )


#: Stands among the moments for a parameter that has had no gradient yet.
UNUSED = "unused"


def _state(model: nn.Module, optimizers: list[torch.optim.Optimizer], step: int, seconds: float) -> TrainState:
    states: dict[Tensor, Any] = {p: state for one in optimizers for p, state in one.state.items()}
    moments = {
        f"{name}.{kind}": value
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        for kind, value in (states.get(parameter) or {UNUSED: torch.zeros(())}).items()
    }
    return TrainState(step, seconds, moments)


def _set_moments(model: nn.Module, optimizers: list[torch.optim.Optimizer], moments: Mapping[str, Tensor]) -> None:
    """Give the optimizers the tensors of earlier ones, laid out in memory as the parameters are."""
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    owner = {p: optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    unused = {key.removesuffix(f".{UNUSED}") for key in moments if key.endswith(f".{UNUSED}")}
    for key, value in moments.items():
        name, _, kind = key.rpartition(".")
        if kind == UNUSED:
            continue
        parameter = parameters.get(name)
        if parameter is None or value.shape not in (parameter.shape, torch.Size()):
            raise ValueError(f"start.moments[{key!r}] {tuple(value.shape)} belongs to no parameter of this model")
        laid_out = value.clone() if value.shape != parameter.shape else torch.empty_like(parameter).copy_(value)
        owner[parameter].state[parameter][kind] = laid_out.detach()
    missing = [name for name, p in parameters.items() if not owner[p].state.get(p) and name not in unused]
    if missing:
        raise ValueError(f"start.moments has nothing for {len(missing)} parameters of this model, such as {missing[0]}")
    for optimizer in optimizers:
        optimizer.load_state_dict(optimizer.state_dict())  # moves counters to where a fused optimizer wants them
