"""NOTATION.md: every name exists, every shape is right, and every conversion holds in numbers."""

# mypy: allow-untyped-defs
from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import course_lib
from course_lib.blocks import sinusoidal_embedding
from course_lib.data import to_uint8
from course_lib.forward import TARGETS, make_target, q_sample
from course_lib.interop import to_diffusers
from course_lib.objective import min_snr_weights
from course_lib.sample import reverse_step, trajectory
from course_lib.schedule import Schedule, linear_amount, linear_betas, make_schedule, sampling_times
from course_lib.unet import UNet

diffusers = pytest.importorskip("diffusers", reason="diffusers is an extra of the tests")

ROOT = Path(course_lib.__file__).parent.parent
PAGE = (ROOT / "NOTATION.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line[1:-1].split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
HEAD, *ROWS = ROWS
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "course_lib").rglob("*.py")))
#: Where diffusers has the names of the table.
THEIRS = (
    *(f"schedulers.scheduling_{name}" for name in ("ddpm", "ddim", "dpmsolver_multistep", "euler_discrete")),
    *("schedulers.scheduling_flow_match_euler_discrete", "training_utils", "models.embeddings"),
    *("models.unets.unet_2d", "guiders.auto_guidance"),
)


def names_in(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def values() -> dict[str, Any]:
    """One of everything that the table names, as the library's own functions make it."""
    B, T, K = 4, 20, 5
    schedule, g = make_schedule("linear", T), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = UNet(channels=(8, 16), attention=(), num_classes=3).eval()
    x0 = torch.rand(B, 1, 8, 8, generator=g) * 2 - 1
    t, y = torch.tensor([1, 5, 10, 20]), torch.tensor([0, 1, 2, 0])
    x_t, eps = q_sample(schedule, x0, t, generator=g)
    times = sampling_times(T, K)
    step = next(iter(trajectory(model, schedule, eps, times=times, y=y, generator=g)))
    sizes = {"B": B, "C": 1, "H": 8, "W": 8, "T": T, "K": K, "dim": 12}
    made: dict[str, Any] = {name: getattr(step, name) for name in ("x0_hat", "eps_hat", "x_s")}
    functions: dict[str, Any] = {one.__name__: one for one in (make_target, min_snr_weights, sinusoidal_embedding)}
    made |= {"schedule": schedule, "model": model, "x0": x0, "eps": eps, "x_t": x_t, "t": t, "s": t - 1, "y": y}
    given = {"amount": t / T, "eta": 1.0, "times": times, "decay": 0.999, "target": "eps", "gamma": 5.0}
    return sizes | functions | made | given | {"strength": 2.0}


VALUES = values()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_name_in_code_exists_and_has_the_shape(row: list[str]) -> None:
    assert len(row) == len(HEAD) and all(row) and names_in(row[8])
    (code,) = names_in(row[1])
    for node in ast.walk(ast.parse(code, mode="eval")):
        if isinstance(node, ast.Name):  # a function, a parameter or a field of the library
            assert re.search(rf"(def |[\s(,*]){node.id}(\(|: )", SOURCES), f"course_lib knows no {node.id}"
    with torch.no_grad():
        shape = tuple(torch.as_tensor(eval(code, dict(VALUES))).shape)
    shapes = [words.strip("()").split(",") for words in row[2].split(" or ")]
    wanted = [tuple(eval(part, dict(VALUES)) for part in parts if part.strip()) for parts in shapes]
    assert shape in wanted, f"{code} has shape {shape}, and the table says {row[2]}"


def test_nothing_is_left_out_of_the_table() -> None:
    """Neither a target, nor a table of `Schedule`, nor a name of the short table in notebook 00."""
    codes = [names_in(row[1])[0] for row in ROWS]
    assert all(f'make_target("{kind}", schedule, x0, eps, t)' in codes for kind in TARGETS)
    properties = {name for name, thing in vars(Schedule).items() if isinstance(thing, property)}
    tables = {name for name in properties if isinstance(getattr(VALUES["schedule"], name), Tensor)}
    assert tables and all(f"schedule.{name}" in " ".join(codes) for name in tables | {"signal", "noise", "T"})
    source = (ROOT / "notebooks" / "py" / "00_start_here.py").read_text("utf-8")
    short = source[source.index("## Notation") :].split("# %%")[0]
    found = [name for line in short.splitlines() if line.startswith("# | $") for name in names_in(line)]
    assert len(found) >= 12 and {name.removesuffix("[t]") for name in found} <= {*codes, "T"}


def test_the_names_in_diffusers_exist() -> None:
    source = "\n".join(inspect.getsource(importlib.import_module(f"diffusers.{name}")) for name in THEIRS)
    for name in {name for row in ROWS for name in names_in(row[8])}:
        owner, _, attribute = name.rpartition(".")
        there = hasattr(getattr(diffusers, owner)(), attribute) if owner else re.search(rf"\b{name}\b", source)
        assert there, f"diffusers has no {name}"


# --- conversions

T = 1000
LINEAR = make_schedule("linear", T)
AT = torch.tensor([1, 2, 500, 999, 1000])  # our t


def batch() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x0 = torch.rand(len(AT), 1, 4, 4, generator=g, dtype=torch.float64) * 2 - 1
    return x0, torch.randn(x0.shape, generator=g, dtype=torch.float64)


def close(one: Any, other: Any, rtol: float = 1e-3) -> None:
    """Tables of diffusers are float32, in which 1 − ᾱ_1 is off by 6e-4 of itself."""
    torch.testing.assert_close(torch.as_tensor(one).double(), torch.as_tensor(other).double(), rtol=rtol, atol=1e-5)


def apart(one: Any, other: Any) -> None:
    """What is not the same must differ clearly, or a test could not tell."""
    assert (torch.as_tensor(one).double() - torch.as_tensor(other).double()).abs().max() > 1e-3


def counts_from_zero() -> None:
    theirs = diffusers.DDPMScheduler(num_train_timesteps=T)
    close(theirs.alphas_cumprod[AT - 1], LINEAR.alpha_bar[AT])
    apart(theirs.alphas_cumprod[AT[:-1]].log(), LINEAR.alpha_bar[AT[:-1]].log())
    assert sorted(theirs.timesteps.tolist()) == list(range(T))


def two_lengths_of_beta() -> None:
    betas, theirs = linear_betas(T), diffusers.DDPMScheduler(num_train_timesteps=T).betas
    assert len(betas) == len(theirs) == T and len(LINEAR.beta) == T + 1 and LINEAR.beta[0] == 0
    close(betas[AT - 1], LINEAR.beta[AT], 1e-9)
    close(theirs[AT - 1], LINEAR.beta[AT])


def alpha_of_ddim() -> None:  # equations 12 and 16 in the letters of DDIM
    alpha, (x0, eps) = LINEAR.alpha_bar, batch()
    t, s, eta = 500, 499, 0.7
    close(alpha[t] / alpha[s], 1 - LINEAR.beta[t], 1e-9)
    sigma = eta * ((1 - alpha[s]) / (1 - alpha[t])).sqrt() * (1 - alpha[t] / alpha[s]).sqrt()
    x_t, _ = q_sample(LINEAR, x0, t, eps)
    predicted = (x_t - (1 - alpha[t]).sqrt() * eps) / alpha[t].sqrt()
    z = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x_s = alpha[s].sqrt() * predicted + (1 - alpha[s] - sigma**2).sqrt() * eps + sigma * z
    ours = reverse_step(LINEAR, predicted, eps, t, s, eta, generator=torch.Generator().manual_seed(3))
    close(x_s, ours, 1e-9)
    close(sigma, eta * LINEAR.posterior_variance(s, t).sqrt(), 1e-9)


def sigma_of_edm() -> None:
    sigma, (x0, eps) = LINEAR.noise / LINEAR.signal, batch()
    a, b = LINEAR.at(AT, x0)
    close(q_sample(LINEAR, x0, AT, eps)[0] / a, x0 + b / a * eps, 1e-9)
    close(LINEAR.signal, 1 / (1 + sigma**2).sqrt(), 1e-9)
    close(LINEAR.alpha_bar, 1 / (1 + sigma**2), 1e-9)
    theirs = diffusers.EulerDiscreteScheduler(num_train_timesteps=T)
    theirs.set_timesteps(T)
    close(theirs.scale_model_input(x0 / LINEAR.signal[T], theirs.timesteps[0]), x0)  # what the network is asked about
    # the network of EDM, with its c_skip and c_out and σ_data = 1, answers −v
    for t in (2, 500, 999):
        s, x = sigma[t], x0 + sigma[t] * eps
        target = (x0 - x / (1 + s**2)) / (s / (1 + s**2).sqrt())
        close(target, -make_target("v", LINEAR, x0, eps, t), 1e-9)


def other_direction() -> None:
    schedule, (x0, eps) = linear_amount(T), batch()
    their_t = (1 - AT / T).view(-1, 1, 1, 1)
    close((1 - their_t) * eps + their_t * x0, q_sample(schedule, x0, AT, eps)[0], 1e-6)  # (1 − t) x_0 + t x_1
    close(x0 - eps, -make_target("velocity", schedule, x0, eps, AT), 1e-9)
    close(torch.stack(schedule.at(AT, x0)), torch.stack([their_t, 1 - their_t]), 1e-6)


def our_direction() -> None:
    schedule, (x0, eps) = linear_amount(T), batch()
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=T)
    close(theirs.scale_noise(x0, theirs.timesteps.flip(0)[AT - 1], eps), q_sample(schedule, x0, AT, eps)[0])
    velocity = make_target("velocity", schedule, x0, eps, T)
    theirs.set_timesteps(4)
    first, second = theirs.sigmas[:2].tolist()
    moved = theirs.step(velocity.float(), theirs.timesteps[0], eps.float()).prev_sample
    close(moved, eps + (second - first) * velocity)
    close(moved, (1 - second) * x0 + second * eps)  # back along the straight line


def four_sigmas() -> None:
    a, b = LINEAR.signal[AT], LINEAR.noise[AT]
    # their tables begin with the strongest noise
    euler = diffusers.EulerDiscreteScheduler(num_train_timesteps=T).sigmas[:-1].flip(0)[AT - 1]
    solver = diffusers.DPMSolverMultistepScheduler(num_train_timesteps=T).sigma_t[AT - 1]
    flow = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=T).sigmas.flip(0)[AT - 1]
    close(euler, b / a)
    close(solver, b)
    close(flow, AT / T)
    fresh = 0.5 * LINEAR.posterior_variance(AT - 1, AT).sqrt()  # η √β̃, which alpha_of_ddim compares
    for one, other in ((euler, solver), (solver, flow), (flow, fresh)):
        apart(one, other)


def v_or_velocity() -> None:
    (x0, eps), theirs = batch(), diffusers.DDPMScheduler(num_train_timesteps=T)
    a, b = LINEAR.at(AT, x0)
    close(theirs.get_velocity(x0, eps, AT - 1), a * eps - b * x0)
    close(make_target("v", LINEAR, x0, eps, AT), a * eps - b * x0, 1e-9)
    close(make_target("velocity", LINEAR, x0, eps, AT), eps - x0, 1e-9)


def half_of_the_log() -> None:
    theirs = diffusers.DPMSolverMultistepScheduler(num_train_timesteps=T)
    close(theirs.lambda_t[AT - 1], LINEAR.log_snr_half[AT])
    close(LINEAR.snr[AT].log(), 2 * LINEAR.log_snr_half[AT], 1e-9)
    snr = importlib.import_module("diffusers.training_utils").compute_snr(theirs, AT - 1)
    close(snr, LINEAR.snr[AT])


def two_variances() -> None:
    small, large = (diffusers.DDPMScheduler(variance_type=f"fixed_{kind}") for kind in ("small", "large"))
    for t in (2, 500, 1000):
        close(small._get_variance(t - 1), LINEAR.posterior_variance(t - 1, t))
        close(large._get_variance(t - 1), LINEAR.beta[t])
    assert LINEAR.posterior_variance(0, 1) == 0 and LINEAR.beta[1] > 0
    assert LINEAR.posterior_variance(999, 1000) == pytest.approx(float(LINEAR.beta[1000]), rel=1e-3)
    assert LINEAR.posterior_variance(1, 2) < 0.5 * LINEAR.beta[2]


def strength_of_guidance() -> None:
    good, weak = batch()
    ours = weak + 2.5 * (good - weak)  # which tests/test_guide.py proves of our AutoGuidance with strength 2.5
    close(good + 1.5 * (good - weak), ours, 1e-9)

    def theirs(**settings: Any) -> Any:
        guider = importlib.import_module("diffusers.guiders").AutoGuidance
        return guider(**settings, auto_guidance_layers=0, dropout=1.0).forward(good, weak).pred

    close(theirs(guidance_scale=2.5), ours, 1e-9)
    close(theirs(guidance_scale=1.5, use_original_formulation=True), ours, 1e-9)
    apart(theirs(guidance_scale=1.5), ours)


def ranges() -> None:
    x0, eps = batch()
    theirs = importlib.import_module("diffusers.image_processor").VaeImageProcessor.denormalize(x0)
    close(theirs, x0 / 2 + 1 / 2, 1e-9)
    assert torch.equal(to_uint8(x0.float()), (theirs.float() * 255).round().to(torch.uint8))
    close((eps / 2 + 1 / 2).var(), eps.var() / 4, 1e-9)


CONVERSIONS: dict[str, Callable[[], None]] = {
    "diffusers counts from 0.": counts_from_zero,
    "β has two lengths.": two_lengths_of_beta,
    "DDIM's α is DDPM's ᾱ.": alpha_of_ddim,
    "EDM's σ is b / a, and its x is x_t / a.": sigma_of_edm,
    "Flow matching runs the other way.": other_direction,
    "diffusers' flow matching runs our way.": our_direction,
    "Four things are called sigma.": four_sigmas,
    "v is not the velocity.": v_or_velocity,
    "λ is half of the log.": half_of_the_log,
    "A step back has two variances.": two_variances,
    "Guidance counts from 1, or from 0.": strength_of_guidance,
    "Pictures lie in [−1, 1].": ranges,
}


@pytest.mark.parametrize("title", CONVERSIONS)
def test_conversion(title: str) -> None:
    stated = re.findall(r"^- \*\*(.+?)\*\*", PAGE[PAGE.index("## Conversions") :], re.MULTILINE)
    assert stated == list(CONVERSIONS)
    CONVERSIONS[title]()


@pytest.mark.parametrize("target", ["eps", "x0", "v"])
def test_targets_have_the_names_of_the_table(target: str) -> None:
    (row,) = (row for row in ROWS if f'make_target("{target}"' in row[1])
    assert names_in(row[8]) == [to_diffusers(LINEAR, target=target).config.prediction_type]
