"""Trainings that run for some seconds, wait for their next turn, and can be saved in between."""

from __future__ import annotations

import dataclasses
import inspect
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from course_lib.data import Pictures
from course_lib.optim import make_optimizers
from course_lib.runs import RunConfig, compiling_pays
from course_lib.runtime import pick_autocast
from course_lib.schedule import Schedule, make_schedule
from course_lib.train import EMA, Update, train
from course_lib.training.batches import RandomBatches
from course_lib.training.state import TrainState


class Training:
    """A training that runs when it is told to; `OurTraining` and `OwnTraining` say how.

    Args:
        model: the network, on its device, called as model(x_t, t, y).
        schedule, target: what it is trained with, and what it predicts.
        batch_size: pictures of an update.
        details: the other numbers of the recipe.

    Attributes:
        found: what a trial on this machine decided, such as bfloat16. The next trial may decide otherwise, so a saved
            training keeps what it began with.
        seconds: time in which it ran.
        step: updates so far.
    """

    def __init__(
        self, model: nn.Module, schedule: Schedule, target: str, batch_size: int, details: Mapping[str, Any]
    ) -> None:
        self.model, self.schedule, self.target, self.batch_size = model, schedule, target, batch_size
        self.details = {"batch size": batch_size, **details, "target": target, "schedule": schedule.name}
        self.device = next(model.parameters()).device
        self.found: dict[str, str] = {}
        self.seconds, self.step = 0.0, 0

    @property
    def pictures_seen(self) -> int:
        """Pictures of all updates so far."""
        return self.step * self.batch_size

    def run(self, seconds: float) -> None:
        """Train for about so long, at least for one update, and count the time."""
        self.get_ready()
        began = time.perf_counter()
        self.update_until(began + seconds)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += time.perf_counter() - began

    def get_ready(self) -> None:
        """Do what only a pause makes necessary; its time does not count."""

    def update_until(self, end: float) -> None:
        """Make updates until the clock is past `end`."""
        raise NotImplementedError

    def to_sample_from(self) -> nn.Module:
        """The network whose pictures are judged, in eval mode: the average if there is one."""
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """All tensors that are needed to go on."""
        raise NotImplementedError

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
        raise NotImplementedError

    def save(self, path: Path) -> None:
        """Write what `load` needs into one file, which appears whole or not at all."""
        about = {"seconds": repr(self.seconds), "step": str(self.step)}
        about |= {"details": json.dumps(self.details), "found": json.dumps(self.found)}
        save_whole(path, self.tensors(), about)

    def load(self, path: Path) -> bool:
        """Go on from what `save` wrote; False if there is no such file, or it is of another recipe."""
        if not path.is_file():
            return False
        with safetensors.safe_open(path, "pt", device=str(self.device)) as file:
            about = file.metadata()
            if json.loads(about["details"]) != json.loads(json.dumps(self.details)):
                return False
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.set_tensors(tensors)
        self.found = json.loads(about["found"])
        self.seconds, self.step = float(about["seconds"]), int(about["step"])
        return True


def save_whole(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors and metadata into a safetensors file that is never seen half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(contiguous, beside, metadata=dict(about))
    beside.replace(path)


def compile_alone(model: nn.Module) -> None:
    """Compile a network in place, for one batch size, without reusing what another network compiled."""
    known = inspect.signature(torch.compile).parameters  # older versions of PyTorch have no such option
    model.compile(dynamic=False, **({"isolate_recompiles": True} if "isolate_recompiles" in known else {}))


class OurTraining(Training):
    """`course_lib.train.train` with its defaults, its learning rate fitted to a time budget.

    It compiles the model where `python -m course_lib train` would; the time for that counts.

    Args:
        model: the network.
        pictures: what to learn from.
        seed: of data order, timesteps and noise.
        minutes: the budget.
        changes: other settings than the defaults, as in `RunConfig.of`.
    """

    def __init__(self, model: nn.Module, pictures: Pictures, seed: int, minutes: float, **changes: Any) -> None:
        device = next(model.parameters()).device
        settings = RunConfig.of({"minutes": minutes, "seed": seed, **changes})
        self.config = settings.train
        batch = torch.arange(self.config.batch_size) % len(pictures)
        autocast = pick_autocast(model, pictures[batch].to(device), torch.ones_like(batch, device=device))
        compiled = compiling_pays(self.config, device)
        details = {
            **dataclasses.asdict(self.config),
            "optimizers": [type(one).__name__ for one in make_optimizers(model, self.config.lr)],
            "ema": settings.ema,
            "network": getattr(model, "config", None),
            **({"compiled": True} if compiled else {}),
        }
        model = model.to(memory_format=torch.channels_last)
        schedule = make_schedule(settings.schedule, settings.timesteps)
        super().__init__(model, schedule, self.config.target, self.config.batch_size, details)
        self.found = {"autocast": str(autocast)}
        self.pictures, self.ema = pictures.to(device), EMA(model, settings.ema)
        if compiled:
            compile_alone(model)  # after the average has copied it
        self.moments: Mapping[str, Tensor] = {}
        self.updates: Iterator[Update] = iter(())

    def get_ready(self) -> None:
        """Start the course's loop again, from where it paused."""
        start = TrainState(self.step, self.seconds, self.moments)
        autocast = {"None": None, "torch.bfloat16": torch.bfloat16}[self.found["autocast"]]
        self.updates = train(
            self.model, self.schedule, self.pictures, self.config, ema=self.ema, autocast=autocast, start=start
        )

    def update_until(self, end: float) -> None:
        """Make updates until the clock is past `end`, or the budget is over."""
        for update in self.updates:
            if time.perf_counter() >= end or update.progress >= 1:
                state = update.state()
                self.step, self.moments = state.step, state.moments
                break

    def to_sample_from(self) -> nn.Module:
        """The average."""
        return self.ema.model

    def tensors(self) -> dict[str, Tensor]:
        """Weights, average and moments."""
        return {
            **_prefixed("model.", self.model.state_dict()),
            **_prefixed("average.", self.ema.model.state_dict()),
            **_prefixed("moments.", self.moments),
        }

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
        self.model.load_state_dict(_part(tensors, "model."))
        self.ema.model.load_state_dict(_part(tensors, "average."))
        self.moments = _part(tensors, "moments.")

    def load(self, path: Path) -> bool:
        """As `Training.load`."""
        found = super().load(path)
        self.ema.updates = self.step
        return found


class OwnTraining(Training):
    """A plain loop at one learning rate in float32, as in the published recipes of the others.

    It sees the same batches as the course's loop. Nothing but the updates takes time: no worker processes, no logging.

    Args:
        model: the network.
        pictures: what to learn from.
        seed: of the batches.
        schedule, target, batch_size, details: see `Training`.
        loss: of pictures x0, timesteps t in 1..T and noise eps.
        optimizer: of the model's parameters.
        grad_clip: longest gradient, or None.
        average: an ema_pytorch.EMA of the model, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        pictures: Pictures,
        seed: int,
        *,
        schedule: Schedule,
        target: str,
        batch_size: int,
        loss: Callable[[Tensor, Tensor, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        grad_clip: float | None = None,
        average: Any = None,
        details: Mapping[str, Any],
    ) -> None:
        super().__init__(model, schedule, target, batch_size, {"seed": seed, **details})
        self.pictures, self.loss, self.optimizer = pictures.to(self.device), loss, optimizer
        self.grad_clip, self.average = grad_clip, average
        self.batches = RandomBatches(self.pictures, schedule, batch_size, seed)

    def update_until(self, end: float) -> None:
        """Make updates until the clock is past `end`."""
        self.model.train()
        while True:
            self.step += 1
            index, t, eps = self.batches(self.step)
            self.loss(self.pictures[index], t, eps).backward()
            if self.grad_clip is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.grad_clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
            if self.average is not None:
                self.average.update()
            if time.perf_counter() >= end:
                break

    def to_sample_from(self) -> nn.Module:
        """The average, or the network itself."""
        return self.model.eval() if self.average is None else self.average.ema_model.eval()

    def tensors(self) -> dict[str, Tensor]:
        """Weights, average and moments."""
        kept = _prefixed("model.", self.model.state_dict())
        if self.average is not None:
            kept |= _prefixed("average.", self.average.state_dict())
        for number, state in self.optimizer.state_dict()["state"].items():
            kept |= _prefixed(f"moments.{number}.", state)
        return kept

    def set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
        self.model.load_state_dict(_part(tensors, "model."))
        if self.average is not None:
            self.average.load_state_dict(_part(tensors, "average."))
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _part(tensors, "moments.").items():
            number, kind = key.split(".")
            # counters belong on the CPU: reading one from a GPU in each update would make it wait
            state.setdefault(int(number), {})[kind] = tensor.cpu() if kind == "step" else tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
