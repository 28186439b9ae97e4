"""To diffusers and back: whole trajectories, tables and networks."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from course_lib import interop
from course_lib.data import Pictures
from course_lib.interop import ModelFromDiffusers, ModelToDiffusers, from_diffusers, to_diffusers
from course_lib.sample import sample
from course_lib.schedule import Schedule, linear_amount, make_schedule, sampling_times, zero_terminal_snr
from course_lib.train import TrainConfig, train
from course_lib.unet import UNet
from helpers import Tame, every_schedule, randomize
from helpers_models import gen, randn

diffusers = pytest.importorskip("diffusers", reason="diffusers is an extra of the tests")

SAMPLERS = [(1.0, 1), (0.5, 1), (0.0, 1), (0.0, 2), (1.0, 2)]


@torch.no_grad()
def their_sample(scheduler: Any, unet: Any, x: Tensor, eta: float, steps: int) -> Tensor:
    """A loop as in diffusers' own guides; only DDIMScheduler asks for more."""
    scheduler.set_timesteps(steps)
    generator = gen(1)
    extra = dict(eta=eta, use_clipped_model_output=True) if isinstance(scheduler, diffusers.DDIMScheduler) else {}
    for timestep in scheduler.timesteps:
        x = scheduler.step(unet(x, timestep).sample, timestep, x, generator=generator, **extra).prev_sample
    return x


@pytest.mark.parametrize(("eta", "order"), SAMPLERS)
@pytest.mark.parametrize(
    ("schedule", "target", "clip"),
    [
        *((make_schedule(name, 1000), target, True) for name in ("linear", "cosine") for target in ("eps", "x0", "v")),
        (make_schedule("linear", 1000), "v", False),
        *((zero_terminal_snr(make_schedule("linear", 1000)), target, True) for target in ("x0", "v")),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_scheduler_walks_as_we_do(schedule: Schedule, target: str, clip: bool, eta: float, order: int) -> None:
    """Its tables are float32, so that the last digits differ; 1e-5 is the promise, and the other order differs by more.

    (1 − ᾱ_1 is off by 6e-4 of itself there, but weighs little: the last step of 50 begins at t = 20.) At zero terminal
    SNR its DPM-Solver begins at a = 2⁻¹² instead of 0: with v, that is as much of x_T in the first x0_hat.
    """
    x_T, times = randn(2, 1, 8, 8), sampling_times(1000, 50)
    theirs = to_diffusers(schedule, target=target, eta=eta, order=order, clip=clip)
    x = their_sample(theirs, ModelToDiffusers(Tame()), x_T, eta, 50)
    assert [int(t) + 1 for t in theirs.timesteps] == times[:-1]
    options: dict[str, Any] = dict(times=times, eta=eta, target=target, clip=clip)
    ours, other = (sample(Tame(), schedule, x_T, order=o, generator=gen(1), **options) for o in (order, 3 - order))
    late = schedule.signal[-1] == 0 and isinstance(theirs, diffusers.DPMSolverMultistepScheduler)
    torch.testing.assert_close(x, ours, rtol=0, atol=2e-3 if late else 1e-5)
    assert late or (x - other).abs().max() > 1e-4
    assert clip or ours.abs().max() > 1


@pytest.mark.parametrize(("eta", "order"), SAMPLERS)
def test_a_schedule_comes_back_even_from_a_file(eta: float, order: int, tmp_path: Any) -> None:
    for name, schedule in every_schedule(100).items():
        if name == "linear amount":
            continue
        scheduler = to_diffusers(schedule, target="v", eta=eta, order=order)
        scheduler.save_pretrained(tmp_path / name)
        for one in (scheduler, type(scheduler).from_pretrained(tmp_path / name)):
            back = from_diffusers(one)
            torch.testing.assert_close(back.signal, schedule.signal, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(back.noise, schedule.noise, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("option", ["karras_sigmas", "exponential_sigmas", "beta_sigmas", "lu_lambdas"])
def test_options_that_only_choose_the_timesteps_leave_the_tables(option: str) -> None:
    """Its σ is our b/a at its timestep, which it rounds: near t = 0 that is a tenth of σ. (A flow's σ is off by e⁵.)"""
    scheduler = diffusers.DPMSolverMultistepScheduler(**{f"use_{option}": True})
    scheduler.set_timesteps(20)
    back = from_diffusers(scheduler)
    ours = np.interp(scheduler.timesteps, np.arange(1000), (back.noise[1:] / back.signal[1:]).log())
    assert np.abs(scheduler.sigmas[:20].log().numpy() - ours).max() < 0.12


def test_a_table_that_was_shifted_after_its_betas_comes_over() -> None:
    for zero in (False, True):
        scheduler = diffusers.CogVideoXDDIMScheduler(rescale_betas_zero_snr=zero)
        ours = from_diffusers(scheduler).alpha_bar[1:]
        torch.testing.assert_close(ours, scheduler.alphas_cumprod.double(), rtol=0, atol=1e-9)


# Networks


def test_our_network_in_their_loop_is_asked_at_our_timestep_and_with_labels() -> None:
    model = randomize(UNet(8, channels=(8,), attention=(), num_classes=3)).eval()
    make: Any
    for make in (ModelToDiffusers, ModelFromDiffusers):
        with pytest.raises(TypeError, match=r"must be a torch.nn.Module, got str"):
            make("cosine")
    theirs, x, y = ModelToDiffusers(model), randn(2, 1, 8, 8), torch.tensor([2, 0])
    with torch.no_grad():
        expected = model(x, torch.tensor([7, 7]), y)
        for timestep in (6, torch.tensor(6), torch.tensor([6]), torch.tensor([6, 6])):
            assert torch.equal(theirs(x, timestep, y).sample, expected)
        assert torch.equal(theirs(x, 6, class_labels=y, return_dict=False)[0], expected)
        mixed = theirs(x, torch.tensor([6, 0]), y).sample
        torch.testing.assert_close(mixed, model(x, torch.tensor([7, 1]), y))
    assert theirs.dtype == torch.float32 and theirs.device == torch.device("cpu")


def test_our_network_in_their_pipeline_saved_and_loaded(tmp_path: Path) -> None:
    """DDPMPipeline takes x_T from the generator, so the same generator gives the same pictures in our sampler."""
    model = randomize(UNet(8, channels=(8,), attention=())).eval()
    schedule, generator = make_schedule("cosine", 100), gen(5)
    x_T = torch.randn(2, 1, 8, 8, generator=generator)
    ours = sample(model, schedule, x_T, times=sampling_times(100, 10), generator=generator)
    pipeline = diffusers.DDPMPipeline(ModelToDiffusers(model), to_diffusers(schedule))
    pipeline.save_pretrained(tmp_path)
    for each in (pipeline, diffusers.DDPMPipeline.from_pretrained(tmp_path)):
        each.set_progress_bar_config(disable=True)
        theirs = each(batch_size=2, num_inference_steps=10, generator=gen(5), output_type="np").images
        near = torch.from_numpy(theirs).permute(0, 3, 1, 2)
        torch.testing.assert_close(near, (ours / 2 + 0.5).clamp(0, 1), rtol=0, atol=1e-5)
    alone = ModelToDiffusers.from_pretrained(tmp_path / "unet")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in alone.model.state_dict().items())
    with pytest.raises(ValueError, match=r"can write the networks of course_lib.unet, .*; save this Tame yourself"):
        diffusers.DDPMPipeline(ModelToDiffusers(Tame()), to_diffusers(schedule)).save_pretrained(tmp_path)


def their_unet(classes: int | None) -> Any:
    torch.manual_seed(0)
    blocks = dict(down_block_types=["DownBlock2D"] * 2, up_block_types=["UpBlock2D"] * 2, block_out_channels=(8, 8))
    return diffusers.UNet2DModel(8, 1, 1, norm_num_groups=4, num_class_embeds=classes, **blocks)


def test_their_network_in_our_sampler() -> None:
    unet = their_unet(3).eval()
    schedule, x_T, y = make_schedule("linear", 1000), randn(2, 1, 8, 8), torch.tensor([1, 2])
    ours = sample(ModelFromDiffusers(unet), schedule, x_T, times=sampling_times(1000, 10), y=y, generator=gen(1))
    theirs = their_sample(to_diffusers(schedule), partial(unet, class_labels=y), x_T, 1.0, 10)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    there_and_back = ModelFromDiffusers(ModelToDiffusers(Tame()))
    assert torch.equal(there_and_back(x_T, torch.tensor([3, 9])), Tame()(x_T, torch.tensor([3, 9])))


@pytest.mark.parametrize("classes", [3, None])
def test_their_network_in_our_training(classes: int | None) -> None:
    """With the classes that it was built for, or without any."""
    pictures = Pictures(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2, 2]))
    unet = their_unet(classes)
    before = unet.conv_out.weight.detach().clone()
    list(train(ModelFromDiffusers(unet), make_schedule("linear"), pictures, TrainConfig(1, batch_size=4, warmup=0)))
    assert not torch.equal(unet.conv_out.weight, before)


# What cannot pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(schedule=linear_amount(10)), r"signal² \+ noise² = 1, which does not hold for 'linear amount'; use a"),
        (dict(schedule="cosine"), "schedule must be a course_lib.schedule.Schedule, got str; use make_schedule"),
        (dict(target="velocity"), "target='velocity' is unknown; choose one of 'eps'"),
        (dict(eta=1.5), "eta must lie in"),
        (dict(order=3), "order=3 is unknown; choose one of 1, 2"),
        (dict(clip=None), "clip must be True or False, got None"),
        (dict(order=2, eta=0.5), "second-order samplers only for eta = 0 and eta = 1, got eta=0.5"),
    ],
)
def test_what_diffusers_cannot_express_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        to_diffusers(**(dict(schedule=make_schedule("cosine", 10)) | options))


FLOW = dict(prediction_type="flow_prediction")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        *((kind, {}, "has none") for kind in ("FlowMatchEulerDiscrete", "EDMEuler", "IPNDM")),
        *((f"{kind}Multistep", options, "has betas but walks the straight path .* use schedule.linear_amount")
          for kind in ("UniPC", "DPMSolver")
          for options in (dict(use_flow_sigmas=True, **FLOW), dict(use_flow_sigmas=True), FLOW)),
        ("EulerDiscrete", dict(timestep_type="continuous"), "gives the network log σ / 4"),
    ],
)  # fmt: skip
def test_schedulers_that_walk_with_something_else_are_refused(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^scheduler must walk with the ᾱ of its betas.*{kind}Scheduler {message}"):
        from_diffusers(getattr(diffusers, f"{kind}Scheduler")(**options))


def test_without_diffusers_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    for use in (lambda: to_diffusers(make_schedule("cosine", 10)), lambda: interop.ModelToDiffusers):
        with pytest.raises(ImportError, match="pip install diffusers"):
            use()
