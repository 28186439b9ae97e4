"""NOTATION.md: every name exists, every shape is right, and every conversion holds in numbers."""

# mypy: allow-untyped-defs
from __future__ import annotations

import ast
import importlib
import inspect
import math
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import course_lib
from course_lib.blocks import sinusoidal_embedding
from course_lib.data import to_uint8
from course_lib.forward import TARGETS, make_target, q_sample
from course_lib.guide import AutoGuidance
from course_lib.interop import to_diffusers
from course_lib.objective import min_snr_weights
from course_lib.sample import reverse_step, trajectory
from course_lib.schedule import Schedule, linear_amount, linear_betas, make_schedule, sampling_times
from course_lib.unet import UNet

diffusers = pytest.importorskip("diffusers", reason="diffusers is an extra of the tests")

PAGE = (Path(course_lib.__file__).parent.parent / "NOTATION.md").read_text(encoding="utf-8")
HEAD = ["symbol", "in code", "shape", "what it is", "DDPM", "DDIM", "EDM", "flow matching", "diffusers"]
ROWS = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in PAGE.splitlines() if line[:1] == "|"]
ROWS = ROWS[:1] + ROWS[2:]  # without the line of dashes
SCHEDULERS = (
    diffusers.DDPMScheduler,
    diffusers.DDIMScheduler,
    diffusers.DPMSolverMultistepScheduler,
    diffusers.EulerDiscreteScheduler,
    diffusers.FlowMatchEulerDiscreteScheduler,
)


def names_in(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_the_table_has_its_columns() -> None:
    assert ROWS[0] == HEAD and len(ROWS) > 25
    for row in ROWS[1:]:
        assert len(row) == len(HEAD) and all(row), row
        assert len(names_in(row[1])) == 1 and names_in(row[8]), row


# --- names of this course


def public_names() -> set[str]:
    """Parameters of the public functions and classes of course_lib; those of a dataclass are its fields."""
    found: set[str] = set()
    for name in (module.name for module in pkgutil.iter_modules(course_lib.__path__) if module.name != "__main__"):
        for thing in vars(importlib.import_module(f"course_lib.{name}")).values():
            if str(getattr(thing, "__module__", "")).startswith("course_lib"):
                calls = [*vars(thing).values()] if inspect.isclass(thing) else [thing]
                found |= {p for call in calls if inspect.isfunction(call) for p in inspect.signature(call).parameters}
    return found


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
    given["strength"] = 2.0
    return sizes | functions | made | given


VALUES = values()
PUBLIC = public_names()


def check_names(code: str) -> None:
    """Every name in a piece of code of the table is an attribute of `Schedule`, or a parameter somewhere."""
    tree = ast.parse(code, mode="eval")
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            assert hasattr(VALUES["schedule"], node.attr), f"Schedule has no {node.attr}"
        if isinstance(node, ast.Name):
            assert node.id in PUBLIC | called, f"no public function of course_lib has a parameter {node.id}"


@pytest.mark.parametrize("row", ROWS[1:], ids=lambda row: row[0])
def test_the_name_in_code_exists_and_has_the_shape(row: list[str]) -> None:
    (code,) = names_in(row[1])
    check_names(code)
    with torch.no_grad():
        value = eval(code, dict(VALUES))
    shape = tuple(torch.as_tensor(value).shape)
    wanted = []
    for words in row[2].split(" or "):
        assert re.fullmatch(r"\(([\w+, ]*)\)", words), f"{words} is no shape"
        wanted.append(tuple(eval(part, dict(VALUES)) for part in words.strip("()").split(",") if part.strip()))
    assert shape in wanted, f"{code} has shape {shape}, and the table says {row[2]}"


def test_every_target_and_every_table_is_named() -> None:
    codes = " ".join(row[1] for row in ROWS[1:])
    assert all(f'make_target("{kind}"' in codes for kind in TARGETS)
    properties = {name for name, thing in vars(Schedule).items() if isinstance(thing, property)}
    tables = {name for name in properties if isinstance(getattr(VALUES["schedule"], name), Tensor)}
    assert tables and all(f"schedule.{name}" in codes for name in tables | {"signal", "noise", "T"})


def test_the_first_notebook_uses_the_same_names() -> None:
    """Its table is the short one: every name in code there stands here too."""
    source = (Path(course_lib.__file__).parent.parent / "notebooks" / "py" / "00_start_here.py").read_text("utf-8")
    table = source[source.index("## Notation") :].split("# %%")[0]
    found = [name for line in table.splitlines() if line.startswith("# | $") for name in names_in(line)]
    here = {name for row in ROWS[1:] for name in names_in(row[1])} | {"T"}
    assert len(found) >= 12 and {name.removesuffix("[t]") for name in found} <= here


# --- names of diffusers


#: Where diffusers knows a name that its schedulers do not.
ELSEWHERE = {
    "compute_snr": "diffusers.training_utils",
    "compute_loss_weighting_for_sd3": "diffusers.training_utils",
    "get_timestep_embedding": "diffusers.models.embeddings",
    "decay": "diffusers.training_utils",
    "class_labels": "diffusers.models.unets.unet_2d",
    "guidance_scale": "diffusers.guiders.auto_guidance",
    "use_original_formulation": "diffusers.guiders.auto_guidance",
}


def is_known(name: str) -> bool:
    """Whether diffusers has such an attribute of a class, or such a name in one of its schedulers."""
    if "." in name:
        owner, attribute = name.split(".")
        return hasattr(getattr(diffusers, owner)(), attribute)
    if name in ELSEWHERE:
        return name in inspect.getsource(importlib.import_module(ELSEWHERE[name]))
    sources = [inspect.getsource(inspect.getmodule(kind)) for kind in SCHEDULERS]  # type: ignore[arg-type]
    word = re.compile(rf"\b{name}\b")
    return any(hasattr(kind(), name) for kind in SCHEDULERS) or any(word.search(source) for source in sources)


@pytest.mark.parametrize("name", sorted({name for row in ROWS[1:] for name in names_in(row[8])}))
def test_the_name_in_diffusers_exists(name: str) -> None:
    assert is_known(name)


# --- conversions

T = 1000
LINEAR = make_schedule("linear", T)
AT = torch.tensor([1, 2, 500, 999, 1000])  # our t


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
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
    x0, eps = batch()
    close(theirs.add_noise(x0, eps, AT - 1), q_sample(LINEAR, x0, AT, eps)[0])
    assert sorted(theirs.timesteps.tolist()) == list(range(T))


def two_lengths_of_beta() -> None:
    betas, theirs = linear_betas(T), diffusers.DDPMScheduler(num_train_timesteps=T).betas
    assert len(betas) == len(theirs) == T and len(LINEAR.beta) == T + 1 and LINEAR.beta[0] == 0
    close(betas[AT - 1], LINEAR.beta[AT], 1e-9)
    close(theirs[AT - 1], LINEAR.beta[AT])


def alpha_of_ddim() -> None:
    """Equations 12 and 16 of DDIM in its own letters."""
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
    x_t, _ = q_sample(LINEAR, x0, AT, eps)
    wide = (-1, 1, 1, 1)
    close(x_t / LINEAR.signal[AT].view(wide), x0 + sigma[AT].view(wide) * eps, 1e-9)
    close(LINEAR.signal, 1 / (1 + sigma**2).sqrt(), 1e-9)
    close(LINEAR.alpha_bar, 1 / (1 + sigma**2), 1e-9)
    theirs = diffusers.EulerDiscreteScheduler(num_train_timesteps=T)
    close(theirs.sigmas[:-1].flip(0)[AT - 1], sigma[AT])  # its table begins with the strongest noise
    theirs.set_timesteps(T)
    at_once = theirs.scale_model_input(x0 / LINEAR.signal[T], theirs.timesteps[0])
    close(at_once, x0)  # what the network is asked about


def other_direction() -> None:
    schedule, (x0, eps) = linear_amount(T), batch()
    their_t = 1 - AT / T
    theirs = (1 - their_t).view(-1, 1, 1, 1) * eps + their_t.view(-1, 1, 1, 1) * x0  # (1 − t) x_0 + t x_1
    close(theirs, q_sample(schedule, x0, AT, eps)[0], 1e-6)
    close(x0 - eps, -make_target("velocity", schedule, x0, eps, AT), 1e-9)
    close(schedule.signal[AT], their_t, 1e-6)
    close(schedule.noise[AT], 1 - their_t, 1e-6)


def our_direction() -> None:
    schedule, (x0, eps) = linear_amount(T), batch()
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=T)
    close(theirs.sigmas.flip(0)[AT - 1], AT / T)
    close(theirs.scale_noise(x0, theirs.timesteps.flip(0)[AT - 1], eps), q_sample(schedule, x0, AT, eps)[0])
    velocity = make_target("velocity", schedule, x0, eps, T)
    theirs.set_timesteps(4)
    first, second = theirs.sigmas[:2].tolist()
    moved = theirs.step(velocity.float(), theirs.timesteps[0], eps.float()).prev_sample
    close(moved, eps + (second - first) * velocity)
    close(moved, (1 - second) * x0 + second * eps)  # back along the straight line


def four_sigmas() -> None:
    a, b = LINEAR.signal[AT], LINEAR.noise[AT]
    euler = diffusers.EulerDiscreteScheduler(num_train_timesteps=T).sigmas[:-1].flip(0)[AT - 1]
    solver = diffusers.DPMSolverMultistepScheduler(num_train_timesteps=T).sigma_t[AT - 1]
    flow = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=T).sigmas.flip(0)[AT - 1]
    close(euler, b / a)
    close(solver, b)
    close(flow, AT / T)
    eta = 0.5
    fresh = eta * LINEAR.posterior_variance(AT - 1, AT).sqrt()
    zero = torch.zeros(20_000, 1, 1, 1, dtype=torch.float64)
    drawn = reverse_step(LINEAR, zero, zero, 500, 499, eta, generator=torch.Generator().manual_seed(0))
    assert drawn.std() == pytest.approx(float(fresh[2]), rel=0.03)
    for one, other in ((euler, solver), (solver, flow), (flow, fresh)):
        apart(one, other)


def v_or_velocity() -> None:
    x0, eps = batch()
    v = make_target("v", LINEAR, x0, eps, AT)
    close(diffusers.DDPMScheduler(num_train_timesteps=T).get_velocity(x0, eps, AT - 1), v)
    wide = (-1, 1, 1, 1)
    close(v, LINEAR.signal[AT].view(wide) * eps - LINEAR.noise[AT].view(wide) * x0, 1e-9)
    apart(v, make_target("velocity", LINEAR, x0, eps, AT))


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


class Constant(nn.Module):
    """A network that always gives the same answer."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.answer


def strength_of_guidance() -> None:
    (good, weak), t = batch(), torch.ones(len(AT), dtype=torch.int64)
    ours = AutoGuidance(Constant(good), Constant(weak), LINEAR, strength=2.5)(good, t)

    def theirs(**settings: Any) -> Tensor:
        guider = importlib.import_module("diffusers.guiders").AutoGuidance
        guided: Tensor = guider(**settings, auto_guidance_layers=0, dropout=1.0).forward(good, weak).pred
        return guided

    close(theirs(guidance_scale=2.5), ours, 1e-9)
    close(theirs(guidance_scale=1.5, use_original_formulation=True), ours, 1e-9)
    apart(theirs(guidance_scale=1.5), ours)
    close(weak + 2.5 * (good - weak), ours, 1e-9)
    close(good + 1.5 * (good - weak), ours, 1e-9)


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


def test_every_conversion_is_held() -> None:
    stated = re.findall(r"^- \*\*(.+?)\*\*", PAGE[PAGE.index("## Conversions") :], re.MULTILINE)
    assert stated == list(CONVERSIONS)


@pytest.mark.parametrize("title", CONVERSIONS)
def test_conversion(title: str) -> None:
    CONVERSIONS[title]()


@pytest.mark.parametrize(("target", "theirs"), [("eps", "epsilon"), ("x0", "sample"), ("v", "v_prediction")])
def test_targets_have_the_names_of_the_table(target: str, theirs: str) -> None:
    assert to_diffusers(LINEAR, target=target).config.prediction_type == theirs
    (row,) = (row for row in ROWS[1:] if f'make_target("{target}"' in row[1])
    assert names_in(row[8]) == [theirs]


def test_edm_network_is_about_v() -> None:
    """F_θ of EDM, with its c_skip, c_out and σ_data = 1, is −v, where the schedule is variance preserving."""
    x0, eps = batch()
    for t in (2, 500, 999):
        a, b = float(LINEAR.signal[t]), float(LINEAR.noise[t])
        sigma = b / a
        skip, out = 1 / (1 + sigma**2), sigma / math.sqrt(1 + sigma**2)
        x = x0 + sigma * eps
        target = (x0 - skip * x) / out
        close(target, -make_target("v", LINEAR, x0, eps, t), 1e-9)
