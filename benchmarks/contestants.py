"""Who takes part, and how each is trained: the models, the recipes, and a training that can be paused and saved.

A training is told to run for so many seconds and then waits. Only the seconds in which it ran are counted, so several
can take turns on one machine. Every model is called as model(x_t, t, y) with the course's t = 1..T; the other
libraries count from 0, and `Shifted` is the one place where that is put right.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.data import Pictures
from course_lib.optim import make_optimizers
from course_lib.runs import RunConfig, compiling_pays
from course_lib.runtime import pick_autocast
from course_lib.schedule import Schedule, from_betas, make_schedule
from course_lib.train import EMA, RandomBatches, TrainState, Update, train
from course_lib.unet import DoubleConvUNet, UNet


class Shifted(nn.Module):
    """A network of another library, called the course's way: its timesteps 0..T−1 are our t − 1.

    Args:
        net: called as net(x_t, t − 1); may answer with a tensor, or with an object that holds it as `sample`.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x_t: Tensor, t: Tensor, y: None = None) -> Tensor:
        """(B, C, H, W) and t (B,) in 1..T to (B, C, H, W)."""
        if y is not None:
            raise ValueError("these networks know no classes, so y must be None")
        answer = self.net(x_t, t - 1)
        return answer if isinstance(answer, Tensor) else answer.sample


def build_unet() -> nn.Module:
    """The course's `UNet` as it is by default."""
    return UNet()


def build_diffusers() -> nn.Module:
    """`UNet2DModel` as in unit 1 of Hugging Face's diffusion class ("from scratch" notebook), for 28×28 pictures."""
    from diffusers import UNet2DModel

    net: Any = UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    return Shifted(net)


def build_lucidrains() -> nn.Module:
    """`Unet` of denoising-diffusion-pytorch with dim 32; three levels, since 28 cannot be halved three times."""
    from denoising_diffusion_pytorch import Unet

    return Shifted(Unet(dim=32, dim_mults=(1, 2, 4), channels=1))


def build_double_conv() -> nn.Module:
    """The U-Net of most tutorials, with the timestep as one more input plane."""
    return DoubleConvUNet(1, 1, time_plane=1000, resize_to_skip=True)


@dataclass(frozen=True)
class Contestant:
    """A model and what its makers do with it.

    Args:
        name: for the command line and file names.
        label: for tables.
        build: makes the untrained network.
        own: makes its training as published, of a built network; None where the course's recipe is its own.
        source: where it was published.
    """

    name: str
    label: str
    build: Callable[[], nn.Module]
    own: Callable[[nn.Module, Pictures, int], Training] | None = None
    source: str = ""


class Training:
    """A training that runs when it is told to; `OurTraining` and `OwnTraining` say how.

    Args:
        model: the network that is trained, on its device.
        schedule: the tables that it is trained with.
        target: what it predicts.
        details: the numbers of the recipe.

    Attributes:
        id: of this training and no other; one that goes on from a file has that of the one that wrote it.
        found: what the machine made of the recipe, such as a type of number that a trial found faster. It may find
            another one the next time, so two trainings may differ in it; a training goes on with what it began with.
        seconds: time in which it ran.
        step: updates made.
        batch_size: pictures of one update.
    """

    def __init__(
        self, model: nn.Module, schedule: Schedule, target: str, batch_size: int, details: Mapping[str, Any]
    ) -> None:
        self.model, self.schedule, self.target, self.batch_size = model, schedule, target, batch_size
        self.details = {"batch size": batch_size, **details, "target": target, "schedule": schedule.name}
        self.device = next(model.parameters()).device
        self.id = uuid.uuid4().hex
        self.found: dict[str, str] = {}
        self.seconds, self.step = 0.0, 0

    def run(self, seconds: float) -> None:
        """Train for about so long, at least for one update, and count the time.

        Args:
            seconds: > 0.
        """
        self._get_ready()
        began = time.perf_counter()
        self._run(began + seconds)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += time.perf_counter() - began

    def _get_ready(self) -> None:
        """What a pause makes necessary, and would not be without turns; its time is not counted."""

    def _run(self, until: float) -> None:
        raise NotImplementedError

    def to_sample_from(self) -> nn.Module:
        """The network whose pictures are judged, in eval mode: the average where there is one."""
        raise NotImplementedError

    def _tensors(self) -> dict[str, Tensor]:
        raise NotImplementedError

    def _set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        raise NotImplementedError

    def save(self, path: Path) -> None:
        """Write everything that `load` needs into one safetensors file, which is there whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().contiguous() for name, tensor in self._tensors().items()}
        about = {"id": self.id, "seconds": repr(self.seconds), "step": str(self.step)}
        about |= {"details": json.dumps(self.details), "found": json.dumps(self.found)}
        beside = path.with_suffix(".part")
        safetensors.torch.save_file(tensors, beside, metadata=about)
        beside.replace(path)

    def load(self, path: Path) -> bool:
        """Go on from what `save` wrote; False where there is no such file, or it is of another recipe."""
        if not path.is_file():
            return False
        with safetensors.safe_open(path, "pt", device=str(self.device)) as file:
            about = file.metadata()
            if json.loads(about["details"]) != json.loads(json.dumps(self.details)):
                return False
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self._set_tensors(tensors)
        self.id, self.found = about["id"], json.loads(about["found"])
        self.seconds, self.step = float(about["seconds"]), int(about["step"])
        return True


def compile_alone(model: nn.Module) -> None:
    """Compile a network in place, for its batch size, and let it take over nothing that another one compiled."""
    known = inspect.signature(torch.compile).parameters  # older versions of PyTorch have no such option
    model.compile(dynamic=False, **({"isolate_recompiles": True} if "isolate_recompiles" in known else {}))


class OurTraining(Training):
    """`course_lib.train.train` with its defaults, its learning rate fitted to a time budget.

    It compiles the model where `python -m course_lib train` does; the time for that counts.

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
        if settings.unet:
            raise TypeError(f"no settings of a training: {', '.join(settings.unet)}")
        self.config = settings.train
        batch = torch.arange(self.config.batch_size) % len(pictures)
        autocast = pick_autocast(model, pictures[batch].to(device), torch.ones_like(batch, device=device))
        compiled = compiling_pays(self.config, device)
        schedule = make_schedule(settings.schedule, settings.timesteps)
        details = {
            **dataclasses.asdict(self.config),
            "optimizers": [type(one).__name__ for one in make_optimizers(model, self.config.lr)],
            "ema": settings.ema,
            "network": getattr(model, "config", None),
            **({"compiled": True} if compiled else {}),
        }
        super().__init__(
            model.to(memory_format=torch.channels_last), schedule, self.config.target, self.config.batch_size, details
        )
        self.found = {"autocast": str(autocast)}
        self.pictures, self.ema = pictures.to(device), EMA(model, settings.ema)
        if compiled:
            # in place, after the average has copied it; no training takes over what another compiled
            compile_alone(model)
        self.moments: Mapping[str, Tensor] = {}
        self.updates: Iterator[Update] = iter(())

    def _get_ready(self) -> None:
        start = TrainState(self.step, self.seconds, self.moments)
        autocast = {"None": None, "torch.bfloat16": torch.bfloat16}[self.found["autocast"]]
        self.updates = train(
            self.model, self.schedule, self.pictures, self.config, ema=self.ema, autocast=autocast, start=start
        )

    def _run(self, until: float) -> None:
        for update in self.updates:
            if time.perf_counter() >= until or update.progress >= 1:
                state = update.state()
                self.step, self.moments = state.step, state.moments
                break

    def to_sample_from(self) -> nn.Module:
        return self.ema.model

    def _tensors(self) -> dict[str, Tensor]:
        return {
            **{f"model.{name}": tensor for name, tensor in self.model.state_dict().items()},
            **{f"average.{name}": tensor for name, tensor in self.ema.model.state_dict().items()},
            **{f"moments.{name}": tensor for name, tensor in self.moments.items()},
        }

    def _set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        self.model.load_state_dict(_part(tensors, "model."))
        self.ema.model.load_state_dict(_part(tensors, "average."))
        self.moments = _part(tensors, "moments.")

    def load(self, path: Path) -> bool:
        found = super().load(path)
        self.ema.updates = self.step
        return found


class OwnTraining(Training):
    """A plain loop at one learning rate, as in the published recipes of the others.

    Pictures, timesteps and noise are the draws of the course's loop; weights are kept in float32
    and nothing but the updates takes time: no worker processes, no logging.

    Args:
        model: the network, called the course's way.
        pictures: what to learn from.
        seed: of the draws.
        schedule, target, batch_size: see `Training`.
        loss: of pictures x0, timesteps t in 1..T and noise eps.
        optimizer: of the model's parameters.
        grad_clip: longest gradient, or None.
        average: an ema_pytorch.EMA of the model, or None.
        details: the rest of the recipe.
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

    def _get_ready(self) -> None:
        self.model.train()

    def _run(self, until: float) -> None:
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
            if time.perf_counter() >= until:
                break

    def to_sample_from(self) -> nn.Module:
        if self.average is None:
            return self.model.eval()
        return self.average.ema_model.eval()

    def _tensors(self) -> dict[str, Tensor]:
        kept = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        if self.average is not None:
            kept |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            kept |= {f"moments.{number}.{kind}": tensor for kind, tensor in state.items()}
        return kept

    def _set_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        self.model.load_state_dict(_part(tensors, "model."))
        if self.average is not None:
            self.average.load_state_dict(_part(tensors, "average."))
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _part(tensors, "moments.").items():
            number, kind = key.split(".")
            # counters were on the CPU, and reading one from a GPU in each update would make it wait
            state.setdefault(int(number), {})[kind] = tensor.cpu() if kind == "step" else tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def own_diffusers(model: nn.Module, pictures: Pictures, seed: int) -> OwnTraining:
    """Unit 2 of the class, where it draws digits: Adam at 1e-3, batches of 128, cosine schedule, no average."""
    from diffusers import DDPMScheduler

    scheduler: Any = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")

    def loss(x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return F.mse_loss(model(scheduler.add_noise(x0, eps, t - 1), t), eps)

    return OwnTraining(
        model,
        pictures,
        seed,
        schedule=from_betas(scheduler.betas, "squaredcos_cap_v2"),
        target="eps",
        batch_size=128,
        loss=loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        details={"optimizer": "Adam", "lr": 1e-3, "ema": None},
    )


def own_lucidrains(model: nn.Module, pictures: Pictures, seed: int) -> OwnTraining:
    """The defaults of its GaussianDiffusion and Trainer, whose loss and average are used as they are."""
    from denoising_diffusion_pytorch import GaussianDiffusion
    from ema_pytorch import EMA as ItsEMA

    assert isinstance(model, Shifted)
    diffusion = GaussianDiffusion(model.net, image_size=28).to(next(model.parameters()).device)

    def loss(x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return diffusion.p_losses(x0, t - 1, noise=eps)

    return OwnTraining(
        model,
        pictures,
        seed,
        schedule=from_betas(diffusion.betas.double(), "sigmoid"),
        target="v",
        batch_size=16,
        loss=loss,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.99)),
        grad_clip=1.0,
        average=ItsEMA(model, beta=0.995, update_every=10, include_online_model=False),
        details={"optimizer": "Adam", "lr": 1e-4, "betas": [0.9, 0.99], "grad clip": 1.0, "ema": 0.995},
    )


def own_double_conv(model: nn.Module, pictures: Pictures, seed: int) -> OwnTraining:
    """As ddpm.py of dome272/Diffusion-Models-pytorch: AdamW at 3e-4, batches of 16, linear schedule, no average."""
    schedule = make_schedule("linear")

    def loss(x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        a, b = schedule.at(t, x0)
        return F.mse_loss(model(a * x0 + b * eps, t), eps)

    return OwnTraining(
        model,
        pictures,
        seed,
        schedule=schedule,
        target="eps",
        batch_size=16,
        loss=loss,
        optimizer=torch.optim.AdamW(model.parameters(), lr=3e-4),
        details={"optimizer": "AdamW", "lr": 3e-4, "weight decay": 0.01, "ema": None},
    )


CONTESTANTS = {
    one.name: one
    for one in (
        Contestant("unet", "UNet of this course", build_unet),
        Contestant(
            "diffusers",
            "diffusers UNet2DModel",
            build_diffusers,
            own_diffusers,
            "Hugging Face diffusion class, unit 2",
        ),
        Contestant(
            "lucidrains",
            "denoising-diffusion-pytorch",
            build_lucidrains,
            own_lucidrains,
            "defaults of its GaussianDiffusion and Trainer",
        ),
        Contestant(
            "double-conv",
            "DoubleConvUNet, time plane",
            build_double_conv,
            own_double_conv,
            "dome272/Diffusion-Models-pytorch, ddpm.py",
        ),
    )
}


def start_training(
    contestant: Contestant, recipe: str, minutes: float, pictures: Pictures, seed: int, device: torch.device
) -> Training:
    """A training that has not begun.

    Args:
        contestant: who.
        recipe: "own", as published, or "ours", the course's.
        minutes: the budget, which the course's recipe fits its learning rate to.
        pictures: what to learn from.
        seed: of the weights and the draws.
        device: where.

    Raises:
        ValueError: an own recipe where there is none.
    """
    torch.manual_seed(seed)
    model = contestant.build().to(device)
    if recipe == "ours":
        return OurTraining(model, pictures, seed, minutes)
    if contestant.own is None:
        raise ValueError(f"the recipe of {contestant.label} is 'ours'")
    return contestant.own(model, pictures, seed)
