"""To diffusers (huggingface.co/docs/diffusers) and back: schedules become its schedulers, and networks swap places.

diffusers counts timesteps from 0 to T − 1; the course counts from 1 to T. diffusers keeps only ᾱ where the course keeps
a and b, so only variance-preserving schedules can be converted. diffusers is imported on first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .schedule import Schedule, from_betas, validate_schedule, zero_terminal_snr
from .validate import validate_choice, validate_flag, validate_model, validate_number

#: Our targets and diffusers' prediction_type.
PREDICTION_TYPES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def to_diffusers(
    schedule: Schedule, *, target: str = "eps", eta: float = 1.0, order: int = 1, clip: bool = True
) -> Any:
    """A scheduler of diffusers that takes the same steps as `sample.sample` with this target, eta, order and clip.

    | eta     | order | scheduler                                                             |
    |---------|-------|-----------------------------------------------------------------------|
    | 1       | 1     | DDPMScheduler                                                         |
    | 0       | 1, 2  | DPMSolverMultistepScheduler (of first order, this is DDIM)            |
    | 1       | 2     | DPMSolverMultistepScheduler, algorithm_type "sde-dpmsolver++"         |
    | between | 1     | DDIMScheduler; give step(..., eta=eta, use_clipped_model_output=True) |

    For eta = 0 it is not DDIMScheduler, because that clips x0_hat without correcting eps_hat unless it is told to.
    After set_timesteps(steps) it visits sampling_times(T, steps) if T is a multiple of steps. It keeps its tables in
    float32 and cannot quite reach a_T = 0 (its DPM-Solver takes 2⁻¹² instead).

    Args:
        schedule: a variance-preserving schedule.
        target: what the network predicts: "eps", "x0" or "v".
        eta: 1 for DDPM, 0 for DDIM; between, only with order 1.
        order: 1 or 2.
        clip: keep x0_hat in [-1, 1].

    Raises:
        ImportError: diffusers is not installed.
        ValueError: diffusers cannot express the schedule, the target, or eta with this order.

    >>> from course_lib.schedule import make_schedule
    >>> scheduler = to_diffusers(make_schedule("cosine"), eta=0, order=2)
    >>> scheduler.set_timesteps(4)
    >>> scheduler.timesteps.tolist()
    [999, 749, 499, 249]
    """
    validate_schedule(schedule)
    if not schedule.is_variance_preserving:
        raise ValueError(
            f"diffusers' schedulers keep only ᾱ and rely on signal² + noise² = 1, which does not hold for "
            f"{schedule.name!r}; use a schedule made from betas, such as 'cosine'"
        )
    validate_choice("target", target, PREDICTION_TYPES)
    validate_number("eta", eta, 0, 1)
    validate_choice("order", order, (1, 2))
    validate_flag("clip", clip)
    if order == 2 and eta not in (0, 1):
        raise ValueError(f"diffusers has second-order samplers only for eta = 0 and eta = 1, got eta={eta!r}")
    return _make_scheduler(schedule, target, eta, order, clip)


def _make_scheduler(schedule: Schedule, target: str, eta: float, order: int, clip: bool) -> Any:
    options: dict[str, Any] = dict(
        num_train_timesteps=schedule.T,
        trained_betas=schedule.beta[1:].tolist(),
        prediction_type=PREDICTION_TYPES[target],
        timestep_spacing="trailing",
        rescale_betas_zero_snr=bool(schedule.signal[-1] == 0),
    )
    diffusers = _diffusers()
    if eta == 0 or order == 2:
        kind = "dpmsolver++" if eta == 0 else "sde-dpmsolver++"
        # It clips by the thresholding of Imagen; a largest threshold of 1 makes that plain clipping.
        options |= dict(solver_order=order, algorithm_type=kind, thresholding=clip, sample_max_value=1.0)
        return diffusers.DPMSolverMultistepScheduler(**options)
    make = diffusers.DDPMScheduler if eta == 1 else diffusers.DDIMScheduler
    return make(**options, clip_sample=clip)


def from_diffusers(scheduler: Any) -> Schedule:
    """The tables a and b of a scheduler of diffusers: a_t = √ᾱ, b_t = √(1 − ᾱ), with t = 0 put before its first.

    A scheduler from `to_diffusers` gives its schedule back to the rounding of float64; one that was made from a name
    holds its tables in float32. Options that choose where a sampler stops (use_karras_sigmas, steps_offset,
    timestep_spacing) do not change the tables.

    Args:
        scheduler: one that walks with ᾱ: DDPM, DDIM, DPM-Solver, PNDM, Euler, ...

    Raises:
        ValueError: it walks with something else, as those of flow matching and of EDM do.
    """
    config, kind = getattr(scheduler, "config", {}), type(scheduler).__name__
    betas, alpha_bar = (getattr(scheduler, name, None) for name in ("betas", "alphas_cumprod"))
    if not isinstance(betas, Tensor) or not isinstance(alpha_bar, Tensor):
        raise ValueError(f"scheduler must walk with the ᾱ of its betas, as DDPMScheduler does; {kind} has none")
    if config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        raise ValueError(
            f"scheduler must walk with the ᾱ of its betas; this {kind} has betas but walks the straight path of flow "
            "matching, x_t = (1 − u) x_0 + u eps: use schedule.linear_amount"
        )
    if config.get("timestep_type") == "continuous":
        raise ValueError(
            f"scheduler must walk with the ᾱ of its betas at timesteps 0..T−1; this {kind} gives the network log σ / 4"
        )
    given = config.get("trained_betas")
    if given is None:
        schedule = from_betas(betas, str(config.get("beta_schedule", "custom")))
    else:
        schedule = from_betas(torch.tensor(given, dtype=torch.float64))
        schedule = zero_terminal_snr(schedule) if config.get("rescale_betas_zero_snr") else schedule
    alpha_bar = alpha_bar.detach().cpu().double()
    if torch.allclose(schedule.alpha_bar[1:], alpha_bar, rtol=0, atol=1e-5):
        return schedule
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    return from_betas(1 - alpha_bar / before, schedule.name)  # CogVideoX shifts ᾱ after it is made from betas


class ModelFromDiffusers(nn.Module):
    """A network of diffusers, such as UNet2DModel, in our sampler and our training: model(x_t, t, y).

    Args:
        unet: called as unet(x, timestep, class_labels=...).sample.
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        validate_model(unet, "unet")
        self.unet = unet
        its = getattr(unet, "config", {})
        its = its if isinstance(its, Mapping) else vars(its)
        self.config: dict[str, Any] = dict(
            in_channels=its.get("in_channels"), size=its.get("sample_size"), num_classes=its.get("num_class_embeds")
        )

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The network's answer, shaped like x_t.

        Args:
            x_t: noisy pictures, (B, C, H, W).
            t: timesteps in 1..T, int64 (B,).
            y: class labels, int64 (B,), or None.
        """
        labels = {} if y is None else {"class_labels": y}
        answer: Tensor = self.unet(x_t, t - 1, **labels).sample
        return answer


def __getattr__(name: str) -> Any:
    """`ModelToDiffusers`, from a file that is loaded on first use because it imports diffusers."""
    if name != "ModelToDiffusers":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _diffusers()
    return importlib.import_module(".diffusers_model", __package__).ModelToDiffusers


def _diffusers() -> Any:
    try:
        return importlib.import_module("diffusers")
    except ImportError as error:
        raise ImportError("this needs the package diffusers: pip install diffusers") from error
