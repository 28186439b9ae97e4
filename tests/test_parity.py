"""Side by side with diffusers: tables, noising, and whole trajectories of three of its schedulers.

diffusers counts timesteps from 0 to T − 1 where the course counts from 1 to T: its t plus 1 is our t.

Its schedulers keep ᾱ in float32. A rounding of 6e-8 there is 6e-4 of the noise's variance at its first timesteps, and
at the last ones x_0 is x_t divided by a signal of 0.006 (linear) or 0.00005 (cosine): over a thousand steps, or without
clipping, such roundings grow beyond 1e-5 in whichever library they occur. So whole trajectories are compared twice:
with its tables made anew in float64 by its own formulas, and, where float32 carries 1e-5, with the scheduler as it is.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from course_lib.forward import make_target, q_sample
from course_lib.interop import from_diffusers
from course_lib.sample import trajectory
from course_lib.schedule import linear_betas, make_schedule, sampling_times, zero_terminal_snr
from helpers import Tame
from helpers_models import gen

pytest.importorskip("diffusers", reason="diffusers is an extra of the tests")
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from diffusers.schedulers import scheduling_dpmsolver_multistep as their_solver
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

THEIR_NAMES = {"linear": "linear", "quadratic": "scaled_linear", "sigmoid": "sigmoid", "cosine": "squaredcos_cap_v2"}
T = 1000


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
    theirs: Any, name: str, times: list[int], dtype: torch.dtype, eta: float, **options: Any
) -> float:
    """Walk both from the same noise with the same seed; the largest |x_s − theirs| over all steps and pixels."""
    assert [t + 1 for t in theirs.timesteps.tolist()] == times[:-1]
    model, x = Tame(), torch.randn(2, 1, 8, 8, generator=gen(1), dtype=dtype)
    ours_draw, theirs_draw = gen(2), gen(2)
    # Our eps_hat follows a clipped x0_hat, as theirs does with use_clipped_model_output.
    extra = dict(eta=eta, use_clipped_model_output=True) if isinstance(theirs, DDIMScheduler) else {}
    worst = 0.0
    for step in trajectory(model, make_schedule(name, T), x, times=times, eta=eta, generator=ours_draw, **options):
        x = theirs.step(model(x, torch.full((2,), step.t)), step.t - 1, x, generator=theirs_draw, **extra).prev_sample
        assert x.dtype == dtype
        worst = max(worst, (step.x_s - x).abs().max().item())
    assert step.s == 0 and x.std() > 0.1
    return worst


@pytest.mark.parametrize("clip", [True, False], ids=["clipped", "free"])
@pytest.mark.parametrize(("kind", "eta"), [("ddpm", 1.0), ("ddim", 0.0), ("ddim", 0.5), ("ddim", 1.0)])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_trajectories(name: str, kind: str, eta: float, clip: bool) -> None:
    """1e-5 is the promise for pictures in float32, where clipping bounds them; in float64 it is 1e-8, clipped or not.

    Free cosine trajectories of all steps pass through values of 60,000, so 1e-7 there is one part in 10¹¹. (diffusers'
    DDPM adds noise of variance 1e-20 at the last step, where the course adds none.)
    """

    def differ(steps: int, spacing: str = "trailing", dtype: torch.dtype = torch.float64, exact: bool = True) -> float:
        theirs = their_scheduler(kind, name, exact=exact, clip_sample=clip, timestep_spacing=spacing)
        theirs.set_timesteps(steps)
        return largest_difference(theirs, name, sampling_times(T, steps, spacing), dtype, eta, clip=clip)

    for spacing in ("trailing", "leading"):
        assert differ(50, spacing) <= 1e-8
        assert not clip or differ(50, spacing, torch.float32) <= 1e-5
    if eta == float(kind == "ddpm"):
        assert differ(T) <= (1e-8 if clip else 1e-7)
        assert not clip or differ(50, dtype=torch.float32, exact=False) <= 1e-5


@pytest.mark.parametrize("clip", [True, False], ids=["clipped", "free"])
@pytest.mark.parametrize(("eta", "order"), [(0.0, 2), (1.0, 2), (0.0, 1), (1.0, 1)])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_trajectories_of_dpm_solver(
    name: str, eta: float, order: int, clip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own code with float64 wherever it says float32, so that nothing but the formulas is compared.

    Free trajectories that begin at the cosine's T pass through values of 10⁵, so 1e-7 there is one part in 10¹².
    """
    monkeypatch.setattr(their_solver, "torch", SimpleNamespace(**{**vars(torch), "float32": torch.float64}))
    monkeypatch.setattr(their_solver, "np", SimpleNamespace(**{**vars(np), "float32": np.float64}))
    betas = make_schedule(name, T).beta[1:].tolist()
    kind = "dpmsolver++" if eta == 0 else "sde-dpmsolver++"
    options = dict(solver_order=order, algorithm_type=kind, thresholding=clip, timestep_spacing="trailing")
    for steps in (2, 5, 20, 50):
        theirs: Any = DPMSolverMultistepScheduler(num_train_timesteps=T, trained_betas=betas, **options)
        theirs.set_timesteps(steps)
        assert theirs.sigmas.dtype == torch.float64
        times = sampling_times(T, steps)
        worst = largest_difference(theirs, name, times, torch.float64, eta, order=order, clip=clip)
        assert worst <= (1e-8 if clip or name == "linear" else 1e-7), steps


@pytest.mark.parametrize("name", THEIR_NAMES)
def test_tables(name: str) -> None:
    """Theirs are float32, so the betas agree to a float32's rounding, and ᾱ to what a thousand of those add up to."""
    theirs, ours = their_scheduler("ddpm", name, exact=False), make_schedule(name, T)
    torch.testing.assert_close(ours.beta[1:].float(), theirs.betas, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(ours.alpha_bar[1:].float(), theirs.alphas_cumprod, rtol=1e-4, atol=1e-6)
    back = from_diffusers(theirs)
    assert back.name == THEIR_NAMES[name]
    torch.testing.assert_close(back.alpha_bar, ours.alpha_bar, rtol=1e-4, atol=1e-6)
    betas = linear_betas(T)
    mended = zero_terminal_snr(make_schedule("linear", T)).alpha_bar[1:]
    back = from_diffusers(DDIMScheduler(rescale_betas_zero_snr=True))
    assert back.signal[-1] == 0
    torch.testing.assert_close(back.alpha_bar[1:], mended, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mended, (1 - rescale_zero_terminal_snr(betas)).cumprod(0), rtol=0, atol=1e-9)


def test_noising_velocity_and_posterior_variance() -> None:
    theirs, schedule = their_scheduler("ddpm", "cosine", exact=True), make_schedule("cosine", T)
    eps, x0 = torch.randn(2, 6, 3, 4, 4, generator=gen(0), dtype=torch.float64)
    x0 = x0.clamp(-1, 1)
    t = torch.tensor([1, 2, 10, 500, 999, 1000])
    torch.testing.assert_close(q_sample(schedule, x0, t, eps)[0], theirs.add_noise(x0, eps, t - 1))
    torch.testing.assert_close(make_target("v", schedule, x0, eps, t), theirs.get_velocity(x0, eps, t - 1))
    for one in (2, 3, 500, 1000):
        variance: Tensor = theirs._get_variance(one - 1)
        torch.testing.assert_close(schedule.posterior_variance(one - 1, one), variance, rtol=1e-9, atol=0)
