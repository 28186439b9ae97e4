"""The course's samplers and diffusers' schedulers, all called the same way."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.guide import AutoGuidance
from course_lib.interop import PREDICTION_TYPES
from course_lib.runtime import make_generator
from course_lib.sample import sample
from course_lib.schedule import Schedule, sampling_times, start_time


@dataclass(frozen=True, eq=False)
class Network:
    """What a sampler needs of a network, in eval mode; `weak` was trained less and guides the other."""

    model: nn.Module
    schedule: Schedule
    target: str
    weak: nn.Module


class InTurn(nn.Module):
    """A network that knows classes, called like one that does not; the pictures of a batch get the classes in turn."""

    def __init__(self, model: nn.Module, classes: int) -> None:
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, x_t: Tensor, t: Tensor, y: None = None) -> Tensor:
        return self.model(x_t, t, torch.arange(len(x_t), device=x_t.device) % self.classes)


#: From a network, noise, a number of evaluations and a seed to samples.
Run = Callable[[Network, Tensor, int, int], Tensor]


@dataclass(frozen=True)
class Sampler:
    """One way from noise to pictures; if guided, it evaluates the weak network too, and these evaluations count."""

    method: str  # for tables, the same for the same mathematics
    library: str
    run: Run
    evaluations: tuple[int, ...]  # by default
    guided: bool = False


def ours(eta: float, order: int, guided: bool = False) -> Run:
    """The course's loop; `judging.make_samples` says where it begins and whether it clips.

    Guided, each step evaluates both networks, so there are half as many steps.
    """

    def run(network: Network, x_T: Tensor, evaluations: int, seed: int) -> Tensor:
        schedule, target = network.schedule, network.target
        start = schedule.T if order == 1 else start_time(schedule, target)
        steps = evaluations // 2 if guided else evaluations
        return sample(
            AutoGuidance(network.model, network.weak, schedule).eval() if guided else network.model,
            schedule,
            x_T,
            times=sampling_times(schedule.T, steps, start=start),
            eta=eta,
            order=order,
            target=target,
            clip=order == 1,
            generator=make_generator(seed, x_T.device),
        )

    return run


def theirs(scheduler: str, order: int, **settings: Any) -> Run:
    """A scheduler of diffusers, whose timestep t is our t + 1; it begins where ours of this order begins."""

    def run(network: Network, x_T: Tensor, evaluations: int, seed: int) -> Tensor:
        driver = build_scheduler(scheduler, network, order, **settings)
        driver.set_timesteps(evaluations, device=x_T.device)
        options: dict[str, Any] = {}
        if "generator" in inspect.signature(driver.step).parameters:
            options["generator"] = make_generator(seed, x_T.device)
        x = x_T * driver.init_noise_sigma
        with torch.inference_mode():  # as ours does: a little faster than no_grad
            for t in driver.timesteps:
                seen = driver.scale_model_input(x, t)
                ours_t = (t + 1).to(x.device, torch.int64).expand(len(x))
                x = driver.step(network.model(seen, ours_t, None), t, x, **options).prev_sample
        return x

    return run


@cache
def build_scheduler(name: str, network: Network, order: int, **settings: Any) -> Any:
    """A scheduler of diffusers with our schedule, cut off where sampling begins; built once, as in its pipelines."""
    import diffusers

    schedule, target = network.schedule, network.target
    T = schedule.T if order == 1 else start_time(schedule, target)
    return getattr(diffusers, name)(
        num_train_timesteps=T,
        trained_betas=schedule.beta[1 : T + 1].tolist(),
        prediction_type=PREDICTION_TYPES[target],
        timestep_spacing="trailing",
        **settings,
    )


MANY, FEW = (10, 25, 50, 100), (5, 10, 25, 50)
SDE, GUIDED = "DPM-Solver++(2M), stochastic", "DPM-Solver++(2M), stochastic, autoguided"
THEIR_SDE = theirs("DPMSolverMultistepScheduler", 2, algorithm_type="sde-dpmsolver++")
SAMPLERS = {
    "ddpm": Sampler("DDPM", "course_lib", ours(1.0, 1), MANY),
    "ddim": Sampler("DDIM", "course_lib", ours(0.0, 1), FEW),
    "2m": Sampler("DPM-Solver++(2M)", "course_lib", ours(0.0, 2), FEW),
    "2m-sde": Sampler(SDE, "course_lib", ours(1.0, 2), FEW),
    "2m-sde-guided": Sampler(GUIDED, "course_lib", ours(1.0, 2, guided=True), MANY, guided=True),
    "diffusers-ddpm": Sampler("DDPM", "diffusers", theirs("DDPMScheduler", 1), MANY),
    "diffusers-ddim": Sampler("DDIM", "diffusers", theirs("DDIMScheduler", 1), FEW),
    "diffusers-2m": Sampler("DPM-Solver++(2M)", "diffusers", theirs("DPMSolverMultistepScheduler", 2), FEW),
    "diffusers-2m-sde": Sampler(SDE, "diffusers", THEIR_SDE, FEW),
    "diffusers-unipc": Sampler("UniPC", "diffusers", theirs("UniPCMultistepScheduler", 2), FEW),
}
