"""Side by side with diffusers: tables, noising, and whole trajectories of three of its schedulers.

diffusers counts timesteps from 0 to T − 1 where the course counts from 1 to T: its t plus 1 is our t.

Its schedulers keep ᾱ in float32. A rounding of 6e-8 there is 6e-4 of the noise's variance at its first timesteps, and
at the last ones x_0 is x_t divided by a signal of 0.006 (linear) or 0.00005 (cosine): over a thousand steps, or without
clipping, such roundings grow beyond 1e-5 in whichever library they occur. So here its own code runs in float64; how
near the schedulers come as they are is tested in test_interop.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from course_lib.forward import make_target, q_sample
from course_lib.interop import from_diffusers
from course_lib.sample import trajectory
from course_lib.schedule import make_schedule, sampling_times, zero_terminal_snr
from helpers import Tame
from helpers_models import DOUBLE, gen, randn

pytest.importorskip("diffusers", reason="diffusers is an extra of the tests")
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from diffusers.schedulers import scheduling_ddim, scheduling_ddpm, scheduling_dpmsolver_multistep

THEIR_NAMES = {"linear": "linear", "quadratic": "scaled_linear", "sigmoid": "sigmoid", "cosine": "squaredcos_cap_v2"}
T = 1000


@pytest.fixture(autouse=True)
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their code with float64 wherever it says float32, so that nothing but the formulas is compared."""
    doubled = {"float32": DOUBLE, "linspace": partial(torch.linspace, dtype=DOUBLE)}
    for module in (scheduling_ddim, scheduling_ddpm, scheduling_dpmsolver_multistep):
        monkeypatch.setattr(module, "torch", SimpleNamespace(**(vars(torch) | doubled)))
        monkeypatch.setattr(module, "np", SimpleNamespace(**(vars(np) | {"float32": np.float64})))


def largest_difference(theirs: Any, name: str, times: list[int], eta: float, **options: Any) -> float:
    """Walk both from the same noise with the same seed; the largest |x_s − theirs| over all steps and pixels."""
    theirs.set_timesteps(len(times) - 1)
    assert [t + 1 for t in theirs.timesteps.tolist()] == times[:-1]
    model, x, generator, worst = Tame(), randn(2, 1, 8, 8, dtype=DOUBLE), gen(2), 0.0
    # Our eps_hat follows a clipped x0_hat, as theirs does with use_clipped_model_output.
    extra = dict(eta=eta, use_clipped_model_output=True) if isinstance(theirs, DDIMScheduler) else {}
    for step in trajectory(model, make_schedule(name, T), x, times=times, eta=eta, generator=gen(2), **options):
        x = theirs.step(model(x, torch.full((2,), step.t)), step.t - 1, x, generator=generator, **extra).prev_sample
        worst = max(worst, (step.x_s - x).abs().max().item())
    assert step.s == 0 and x.std() > 0.1 and x.dtype == DOUBLE
    return worst


@pytest.mark.parametrize("clip", [True, False], ids=["clipped", "free"])
@pytest.mark.parametrize(("kind", "eta"), [(DDPMScheduler, 1.0), *((DDIMScheduler, eta) for eta in (0.0, 0.5, 1.0))])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_trajectories(name: str, kind: Any, eta: float, clip: bool) -> None:
    """Free cosine trajectories of all steps pass through values of 60,000, so 1e-7 there is one part in 10¹¹.

    (diffusers' DDPM adds noise of variance 1e-20 at the last step, where the course adds none.)
    """
    for steps, spacing in ((50, "trailing"), (50, "leading"), (T, "trailing")):
        theirs = kind(T, beta_schedule=THEIR_NAMES[name], clip_sample=clip, timestep_spacing=spacing)
        worst = largest_difference(theirs, name, sampling_times(T, steps, spacing), eta, clip=clip)
        assert worst <= (1e-8 if clip or steps < T else 1e-7), (steps, spacing)


@pytest.mark.parametrize("clip", [True, False], ids=["clipped", "free"])
@pytest.mark.parametrize(("eta", "order"), [(0.0, 2), (1.0, 2), (0.0, 1), (1.0, 1)])
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_trajectories_of_dpm_solver(name: str, eta: float, order: int, clip: bool) -> None:
    """Free trajectories that begin at the cosine's T pass through values of 10⁵, so 1e-7 there is one part in 10¹²."""
    options: Any = dict(algorithm_type="dpmsolver++" if eta == 0 else "sde-dpmsolver++", solver_order=order)
    options |= dict(beta_schedule=THEIR_NAMES[name], thresholding=clip, timestep_spacing="trailing")
    for steps in (2, 5, 20, 50):
        theirs = DPMSolverMultistepScheduler(T, **options)
        worst = largest_difference(theirs, name, sampling_times(T, steps), eta, order=order, clip=clip)
        assert worst <= (1e-8 if clip or name == "linear" else 1e-7), steps


@pytest.mark.parametrize("name", THEIR_NAMES)
def test_tables(name: str) -> None:
    for zero in (False, True):
        ours = make_schedule(name, T)
        ours = zero_terminal_snr(ours) if zero else ours
        theirs: Any = DDPMScheduler(T, beta_schedule=THEIR_NAMES[name], rescale_betas_zero_snr=zero)
        torch.testing.assert_close(ours.beta[1:], theirs.betas, rtol=1e-9, atol=1e-12)
        back = from_diffusers(theirs)
        assert back.name == THEIR_NAMES[name] and (back.signal[-1] == 0) == zero
        for alpha_bar in (theirs.alphas_cumprod, back.alpha_bar[1:]):
            torch.testing.assert_close(ours.alpha_bar[1:], alpha_bar, rtol=1e-9, atol=1e-12)


def test_noising_velocity_and_posterior_variance() -> None:
    schedule = make_schedule("cosine", T)
    theirs: Any = DDPMScheduler(T, beta_schedule=THEIR_NAMES["cosine"])
    eps, x0 = randn(2, 6, 3, 4, 4, dtype=DOUBLE)
    x0, t = x0.clamp(-1, 1), torch.tensor([1, 2, 10, 500, 999, 1000])
    torch.testing.assert_close(q_sample(schedule, x0, t, eps)[0], theirs.add_noise(x0, eps, t - 1))
    torch.testing.assert_close(make_target("v", schedule, x0, eps, t), theirs.get_velocity(x0, eps, t - 1))
    for one in (2, 3, 500, 1000):
        variance = theirs._get_variance(one - 1)
        torch.testing.assert_close(schedule.posterior_variance(one - 1, one), variance, rtol=1e-9, atol=0)
