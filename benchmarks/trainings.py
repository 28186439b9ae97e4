"""Trainings that run for some seconds, wait for their next turn, and can be saved in between."""

from __future__ import annotations

import dataclasses
import inspect
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

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

    It counts its updates and the seconds in which it ran. The model is on its device and called as model(x_t, t, y);
    `details` are the numbers of the recipe that have no argument here.
    """

    def __init__(
        self, model: nn.Module, pictures: Pictures, schedule: Schedule, target: str, batch_size: int, details: Any
    ) -> None:
        self.model, self.schedule, self.target, self.batch_size = model, schedule, target, batch_size
        details = {"batch size": batch_size, **details, "target": target, "schedule": schedule.name}
        self.details = json.loads(json.dumps(details))  # as a row has them
        self.device = next(model.parameters()).device
        self.pictures = pictures.to(self.device)
        self.seconds, self.step = 0.0, 0
        self.autocast: torch.dtype | None = None
        self.judged = model  # or its average, if there is one
        self.parts: dict[str, Any] = {"model": model}  # what is saved by its `state_dict`
        self.moments: Mapping[str, Tensor] = {}

    def run(self, seconds: float) -> None:
        """Train for about so long, at least for one update, and count the time."""
        self.get_ready()
        began = time.perf_counter()
        self.update_until(began + seconds)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += time.perf_counter() - began

    def get_ready(self) -> None:
        """Do what only a pause makes necessary, so that its time does not count."""

    def update_until(self, end: float) -> None:
        """Make updates until the clock is past `end`."""
        raise NotImplementedError

    def to_sample_from(self) -> nn.Module:
        """The network whose pictures are judged, in eval mode."""
        return self.judged.eval()

    def state(self) -> dict[str, Any]:
        """What is needed to go on, besides the counters."""
        return {name: part.state_dict() for name, part in self.parts.items()} | {"moments": dict(self.moments)}

    def progress(self) -> dict[str, Any]:
        """How far it is, for a row."""
        pictures = self.step * self.batch_size
        made = {"updates": self.step, "pictures": pictures, "seconds": round(self.seconds, 2)}
        return {**made, "pictures_per_second": round(pictures / self.seconds, 1), "autocast": str(self.autocast)}

    def save(self, path: Path) -> None:
        """Write what `load` needs."""
        counters = {"details": self.details, "seconds": self.seconds, "step": self.step}
        save_whole(path, {**counters, "autocast": str(self.autocast), "state": self.state()})

    def load(self, path: Path) -> bool:
        """Go on from what `save` wrote; False if there is no such file, or it is of another recipe."""
        saved = torch.load(path, self.device, weights_only=True) if path.is_file() else {}
        if saved.get("details") != self.details:
            return False
        self.seconds, self.step = saved["seconds"], saved["step"]
        self.autocast = {"None": None, "torch.bfloat16": torch.bfloat16}[saved["autocast"]]
        self.moments = saved["state"].pop("moments")
        for name, state in saved["state"].items():
            self.parts[name].load_state_dict(state)
        return True


def save_whole(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file for `torch.load` that nobody ever sees half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    torch.save(dict(content), beside)
    beside.replace(path)


def compile_alone(model: nn.Module) -> None:
    """Compile a network in place for one batch size, without reusing what was compiled for another network."""
    known = inspect.signature(torch.compile).parameters  # older versions of PyTorch have no such option
    model.compile(dynamic=False, **({"isolate_recompiles": True} if "isolate_recompiles" in known else {}))


class OurTraining(Training):
    """`course_lib.train.train` with its defaults, its learning rate fitted to a budget of minutes.

    It compiles the model where `python -m course_lib train` would, and that time counts. A short trial decides whether
    to use bfloat16. The next trial may end the other way, so a saved training keeps what it began with. `changes` are
    settings other than the defaults, as in `RunConfig.of`.
    """

    def __init__(self, model: nn.Module, pictures: Pictures, seed: int, minutes: float, **changes: Any) -> None:
        settings = RunConfig.of({"minutes": minutes, "seed": seed, **changes})
        config, model = settings.train, model.to(memory_format=torch.channels_last)
        device = next(model.parameters()).device
        details = {
            **dataclasses.asdict(config),
            "optimizers": [type(one).__name__ for one in make_optimizers(model, config.lr)],
            "ema": settings.ema,
            "network": getattr(model, "config", None),
            **({"compiled": True} if compiling_pays(config, device) else {}),
        }
        schedule = make_schedule(settings.schedule, settings.timesteps)
        super().__init__(model, pictures, schedule, config.target, config.batch_size, details)
        batch = torch.arange(config.batch_size) % len(pictures)
        self.autocast = pick_autocast(model, self.pictures[batch], torch.ones_like(batch, device=device))
        self.config, self.ema = config, EMA(model, settings.ema)
        self.judged = self.parts["average"] = self.ema.model
        if "compiled" in details:
            compile_alone(model)  # after the average has copied it
        self.updates: Iterator[Update] = iter(())

    def get_ready(self) -> None:
        self.ema.updates = self.step
        start = TrainState(self.step, self.seconds, self.moments)
        self.updates = train(
            self.model, self.schedule, self.pictures, self.config, ema=self.ema, autocast=self.autocast, start=start
        )

    def update_until(self, end: float) -> None:
        for update in self.updates:
            if time.perf_counter() >= end or update.progress >= 1:
                state = update.state()
                self.step, self.moments = state.step, state.moments
                break


class OwnTraining(Training):
    """A plain loop at one learning rate in float32, as in the published recipes of the others.

    It sees the same batches as the course's loop, and nothing but the updates takes time: no worker processes, no
    logging. `loss` takes pictures x0, timesteps t in 1..T and noise eps; `average` is an ema_pytorch.EMA of the model.
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
    ) -> None:
        (group,) = optimizer.param_groups
        numbers = {name: group[name] for name in ("lr", "betas", "weight_decay")}
        details = {"seed": seed, "optimizer": type(optimizer).__name__, **numbers, "grad clip": grad_clip}
        details["ema"] = average.beta if average else None
        super().__init__(model, pictures, schedule, target, batch_size, details)
        self.loss, self.optimizer, self.grad_clip, self.average = loss, optimizer, grad_clip, average
        self.parts["optimizer"] = optimizer
        if average is not None:
            self.parts["average"], self.judged = average, average.ema_model
        self.batches = RandomBatches(self.pictures, schedule, batch_size, seed)

    def update_until(self, end: float) -> None:
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
