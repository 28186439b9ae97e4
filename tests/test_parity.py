"""Side by side with diffusers: tables, timesteps, noising, and whole trajectories of three of its schedulers.

diffusers counts timesteps from 0 to T − 1 where the course counts from 1 to T: its t plus 1 is our t.

Its schedulers keep ᾱ in float32. At its first timesteps 1 − ᾱ is about 1e-4, so that a rounding of 6e-8 there is an
error of 6e-4 of the noise's variance; and at the last ones x_0 is x_t divided by a signal of 0.006 (linear) or 0.00005
(cosine). Over a thousand steps, or without clipping, such roundings grow beyond 1e-5, and beyond 1 for the cosine, in
whichever library they occur. So whole trajectories are compared twice: with its tables made anew in float64 by its own
formulas, and, where float32 carries 1e-5 at all, with the scheduler as it comes.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from course_lib.forward import make_target, q_sample
from course_lib.sample import trajectory
from course_lib.schedule import (
    Schedule,
    cosine_betas,
    linear_betas,
    make_schedule,
    quadratic_betas,
    sampling_times,
    sigmoid_betas,
    zero_terminal_snr,
)

pytest.importorskip("diffusers", reason="diffusers is an extra of the tests")
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from diffusers.schedulers import scheduling_dpmsolver_multistep as their_solver
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

THEIR_NAMES = {"linear": "linear", "quadratic": "scaled_linear", "sigmoid": "sigmoid", "cosine": "squaredcos_cap_v2"}
T = 1000


class Network(nn.Module):
    """Small, smooth, and never the same answer at two timesteps."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        wave = torch.sin(t.to(x_t.dtype) / 50).view(-1, 1, 1, 1)
        return 1.5 * torch.tanh(self.second(torch.tanh(self.first(x_t) + wave)))


def their_scheduler(kind: str, name: str, *, exact: bool, **options: Any) -> Any:
    """A scheduler of diffusers; with exact, its tables are made again in float64 by the formulas of its own code."""
    make: Any = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}[kind]
    scheduler = make(num_train_timesteps=T, beta_schedule=THEIR_NAMES[name], **options)
    if exact:
        if name == "linear":
            betas = torch.linspace(1e-4, 0.02, T, dtype=torch.float64)
        else:
            bar = [math.cos((i / T + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(T + 1)]
            betas = torch.tensor([min(1 - bar[i + 1] / bar[i], 0.999) for i in range(T)], dtype=torch.float64)
        torch.testing.assert_close(betas.float(), scheduler.betas, rtol=1e-6, atol=1e-9)  # the same table, finer
        scheduler.betas, scheduler.alphas = betas, 1 - betas
        scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
    return scheduler


def largest_difference(
    kind: str, name: str, eta: float, steps: int, spacing: str, clip: bool, dtype: torch.dtype, exact: bool
) -> float:
    """Walk both from the same noise with the same seed; the largest |x_s − theirs| over all steps and pixels.

    Our eps_hat follows a clipped x0_hat, which in diffusers is use_clipped_model_output=True.
    """
    theirs = their_scheduler(kind, name, exact=exact, clip_sample=clip, timestep_spacing=spacing)
    theirs.set_timesteps(steps)
    times = sampling_times(T, steps, spacing)
    assert [t + 1 for t in theirs.timesteps.tolist()] == times[:-1]

    model = Network().to(dtype)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=dtype)
    ours_draw, theirs_draw = (torch.Generator().manual_seed(2) for _ in range(2))
    options = {} if kind == "ddpm" else dict(eta=eta, use_clipped_model_output=True)
    worst = 0.0
    for step in trajectory(model, make_schedule(name, T), x, times=times, eta=eta, clip=clip, generator=ours_draw):
        with torch.no_grad():
            predicted = model(x, torch.full((2,), step.t))
        x = theirs.step(predicted, step.t - 1, x, generator=theirs_draw, **options).prev_sample
        worst = max(worst, (step.x_s - x).abs().max().item())
    assert step.s == 0 and x.std() > 0.1
    return worst


SAMPLERS = [("ddpm", 1.0), ("ddim", 0.0), ("ddim", 0.5), ("ddim", 1.0)]


@pytest.mark.parametrize("clip", [True, False], ids=["clipped", "free"])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize(("kind", "eta"), SAMPLERS)
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_trajectories_of_50_steps(name: str, kind: str, eta: float, spacing: str, clip: bool) -> None:
    """1e-5 is the promise, for pictures in float32 where clipping bounds them; in float64 it is 1e-8, clipped or not.

    (diffusers' DDPM adds noise of variance 1e-20 where the course adds none, at the last step.)
    """
    assert largest_difference(kind, name, eta, 50, spacing, clip, torch.float64, exact=True) <= 1e-8
    if clip:
        assert largest_difference(kind, name, eta, 50, spacing, clip, torch.float32, exact=True) <= 1e-5


@pytest.mark.parametrize("clip", [True, False], ids=["clipped", "free"])
@pytest.mark.parametrize(("kind", "eta"), SAMPLERS[:2])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_trajectories_of_all_1000_steps(name: str, kind: str, eta: float, clip: bool) -> None:
    """Free cosine trajectories pass through values of 60,000: 1e-7 of difference is one part in 10¹¹."""
    allowed = 1e-8 if clip else 1e-7
    assert largest_difference(kind, name, eta, 1000, "trailing", clip, torch.float64, exact=True) <= allowed


@pytest.mark.parametrize(("kind", "steps"), [("ddim", 50), ("ddpm", 50)])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_trajectories_of_the_schedulers_as_they_come(name: str, kind: str, steps: int) -> None:
    eta = 1.0 if kind == "ddpm" else 0.0
    assert largest_difference(kind, name, eta, steps, "trailing", True, torch.float32, exact=False) <= 1e-5


@pytest.mark.parametrize("steps", [2, 5, 20, 50])
@pytest.mark.parametrize("clip", [True, False], ids=["clipped", "free"])
@pytest.mark.parametrize(("eta", "order"), [(0.0, 2), (1.0, 2), (0.0, 1), (1.0, 1)])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_trajectories_of_dpm_solver(
    name: str, eta: float, order: int, clip: bool, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own code with float64 wherever it says float32, so that nothing but the formulas is compared.

    Free trajectories that begin at the cosine's T pass through values of 10⁵, so 1e-8 there is one part in 10¹³.
    """
    monkeypatch.setattr(their_solver, "torch", SimpleNamespace(**{**vars(torch), "float32": torch.float64}))
    monkeypatch.setattr(their_solver, "np", SimpleNamespace(**{**vars(np), "float32": np.float64}))
    schedule = make_schedule(name, T)
    kind = "dpmsolver++" if eta == 0 else "sde-dpmsolver++"
    options = dict(solver_order=order, algorithm_type=kind, thresholding=clip, timestep_spacing="trailing")
    theirs: Any = DPMSolverMultistepScheduler(
        num_train_timesteps=T, trained_betas=schedule.beta[1:].tolist(), **options
    )
    theirs.set_timesteps(steps)
    assert theirs.sigmas.dtype == torch.float64

    model = Network().double()
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours_draw, theirs_draw = (torch.Generator().manual_seed(2) for _ in range(2))
    settings = dict(times=sampling_times(T, steps), eta=eta, order=order, clip=clip, generator=ours_draw)
    for step in trajectory(model, schedule, x, **settings):  # type: ignore[arg-type]
        with torch.no_grad():
            predicted = model(x, torch.full((2,), step.t))
        x = theirs.step(predicted, step.t - 1, x, generator=theirs_draw).prev_sample
        assert x.dtype == torch.float64
        torch.testing.assert_close(step.x_s, x, rtol=1e-12, atol=1e-8)
    assert step.s == 0


@pytest.mark.parametrize("name", THEIR_NAMES)
def test_tables(name: str) -> None:
    """Theirs are float32, so the betas agree to a float32's rounding, and ᾱ to what a thousand of those add up to."""
    betas = {"linear": linear_betas, "quadratic": quadratic_betas, "sigmoid": sigmoid_betas, "cosine": cosine_betas}[
        name
    ]
    theirs = their_scheduler("ddpm", name, exact=False)
    torch.testing.assert_close(betas(T).float(), theirs.betas, rtol=1e-5, atol=1e-8)
    ours = make_schedule(name, T).alpha_bar
    assert ours[0] == 1
    torch.testing.assert_close(ours[1:].float(), theirs.alphas_cumprod, rtol=1e-4, atol=1e-6)


def test_zero_terminal_snr() -> None:
    betas = linear_betas(T)
    theirs = (1 - rescale_zero_terminal_snr(betas)).cumprod(0)
    ours = zero_terminal_snr(make_schedule("linear", T)).alpha_bar[1:]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_noising_and_velocity() -> None:
    theirs = their_scheduler("ddpm", "linear", exact=True)
    schedule = make_schedule("linear", T)
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(6, 3, 4, 4, generator=generator, dtype=torch.float64) * 2 - 1
    eps = torch.randn(6, 3, 4, 4, generator=generator, dtype=torch.float64)
    t = torch.tensor([1, 2, 10, 500, 999, 1000])
    theirs.alphas_cumprod = theirs.alphas_cumprod.double()
    torch.testing.assert_close(q_sample(schedule, x0, t, eps)[0], theirs.add_noise(x0, eps, t - 1))
    torch.testing.assert_close(make_target("v", schedule, x0, eps, t), theirs.get_velocity(x0, eps, t - 1))


def test_posterior_variance() -> None:
    theirs = their_scheduler("ddpm", "cosine", exact=True)
    schedule: Schedule = make_schedule("cosine", T)
    for t in (2, 3, 500, 1000):
        variance = theirs._get_variance(t - 1)
        torch.testing.assert_close(schedule.posterior_variance(t - 1, t), variance, rtol=1e-9, atol=0)


def test_timesteps() -> None:
    """Trailing where T is a multiple of steps; elsewhere theirs counts in floats (61 steps become 62, ending at -1)."""
    divisors = [steps for steps in range(1, T + 1) if T % steps == 0]
    for spacing, counts in (("trailing", divisors), ("leading", [*range(1, 101), 333, 999, 1000])):
        for steps in counts:
            theirs = their_scheduler("ddim", "linear", exact=False, timestep_spacing=spacing)
            theirs.set_timesteps(steps)
            assert [t - 1 for t in sampling_times(T, steps, spacing)[:-1]] == theirs.timesteps.tolist(), steps
