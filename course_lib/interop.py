"""To diffusers (huggingface.co/docs/diffusers) and back: schedules become its schedulers, and networks swap places.

diffusers counts timesteps from 0 to T − 1 where the course counts from 1 to T, and keeps ᾱ alone where the course
keeps a and b, so that only variance-preserving schedules pass. It is imported when it is needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from .schedule import Schedule, from_betas, zero_terminal_snr
from .validate import validate_choice, validate_number

#: Our targets and diffusers' prediction_type.
PREDICTION_TYPES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def to_diffusers(
    schedule: Schedule, *, target: str = "eps", eta: float = 1.0, order: int = 1, clip: bool = True
) -> Any:
    """A scheduler of diffusers that walks as `sample.sample` does with the same target, eta, order and clip.

    eta = 1 is its DDPMScheduler, with order 2 its DPMSolverMultistepScheduler of the kind sde-dpmsolver++; eta = 0 is
    DPMSolverMultistepScheduler, which of first order is DDIM (DDIMScheduler itself clips x0_hat but not, unasked,
    eps_hat). Between 0 and 1 it is DDIMScheduler, and eta must be given at each step:
    step(..., eta=eta, use_clipped_model_output=True).

    After set_timesteps(steps) it visits sampling_times(T, steps), where T is a multiple of steps; diffusers' t plus 1
    is our t. It keeps its tables in float32 and cannot quite reach a_T = 0 (its DPM-Solver takes 2⁻¹² instead).

    Args:
        schedule: a variance-preserving schedule.
        target: what the network predicts: "eps", "x0" or "v".
        eta: 1 for DDPM, 0 for DDIM; between, only with order 1.
        order: 1 or 2.
        clip: keep x0_hat in [-1, 1].

    Raises:
        ImportError: diffusers is not installed.
        TypeError, ValueError: a schedule or a target that diffusers cannot express, eta or order out of range.

    >>> from course_lib.schedule import make_schedule
    >>> scheduler = to_diffusers(make_schedule("cosine"), eta=0, order=2)
    >>> scheduler.set_timesteps(4)
    >>> scheduler.timesteps.tolist()
    [999, 749, 499, 249]
    """
    if not schedule.is_variance_preserving:
        raise ValueError(
            f"diffusers' schedulers keep ᾱ alone and take signal² + noise² = 1 for granted, which does not hold for "
            f"{schedule.name!r}; use a schedule made from betas, such as 'cosine'"
        )
    validate_choice("target", target, PREDICTION_TYPES)
    validate_number("eta", eta, 0, 1)
    validate_choice("order", order, (1, 2))
    if order == 2 and eta not in (0, 1):
        raise ValueError(f"diffusers has a second-order sampler for eta = 0 and eta = 1 alone, got eta={eta!r}")
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
        # Its clipping is the thresholding of Imagen with a threshold that may not leave 1.
        options |= dict(solver_order=order, algorithm_type=kind, thresholding=clip, sample_max_value=1.0)
        return diffusers.DPMSolverMultistepScheduler(**options)
    make = diffusers.DDPMScheduler if eta == 1 else diffusers.DDIMScheduler
    return make(**options, clip_sample=clip)


def from_diffusers(scheduler: Any) -> Schedule:
    """The tables a and b of a scheduler of diffusers: a_t = √ᾱ, b_t = √(1 − ᾱ), with t = 0 put before its first.

    What `to_diffusers` made comes back as it was, to the rounding of float64; what was made from a name holds betas
    in float32, and is as good as those.

    Args:
        scheduler: any scheduler with betas: DDPM, DDIM, DPM-Solver, PNDM, ...

    Raises:
        ValueError: a scheduler without betas, such as those of flow matching.
    """
    betas = getattr(scheduler, "betas", None)
    if not isinstance(betas, Tensor):
        raise ValueError(
            f"scheduler must have betas, as diffusers' DDPMScheduler has; {type(scheduler).__name__} has none"
        )
    config = getattr(scheduler, "config", {})
    given = config.get("trained_betas")
    if given is None:
        return from_betas(betas, str(config.get("beta_schedule", "custom")))
    schedule = from_betas(torch.tensor(given, dtype=torch.float64))
    return zero_terminal_snr(schedule) if config.get("rescale_betas_zero_snr") else schedule


@dataclass(frozen=True)
class Answer:
    """What a network of diffusers returns."""

    sample: Tensor


class ModelToDiffusers(nn.Module):
    """One of our networks in a loop or a pipeline of diffusers: unet(x, timestep).sample.

    Args:
        model: called as model(x_t, t, y), such as `unet.UNet`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        built = getattr(model, "config", {})
        self.config = SimpleNamespace(sample_size=built.get("size"), in_channels=built.get("in_channels"))

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        return next(self.model.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """That of the weights."""
        return next(self.model.parameters()).device

    def forward(
        self, sample: Tensor, timestep: int | Tensor, class_labels: Tensor | None = None, return_dict: bool = True
    ) -> Answer | tuple[Tensor]:
        """The network's answer at diffusers' timestep, our t − 1.

        Args:
            sample: noisy pictures, (B, C, H, W).
            timestep: 0..T−1, one for all or one per picture.
            class_labels: int64 (B,), or None.
            return_dict: False for a tuple of one.
        """
        t = torch.as_tensor(timestep, device=sample.device).long().reshape(-1).expand(len(sample)) + 1
        answer = self.model(sample, t, class_labels)
        return Answer(answer) if return_dict else (answer,)


class ModelFromDiffusers(nn.Module):
    """A network of diffusers, such as UNet2DModel, in our sampler and our training: model(x_t, t, y).

    Args:
        unet: called as unet(x, timestep, class_labels=...).sample.
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
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


def _diffusers() -> Any:
    try:
        return importlib.import_module("diffusers")
    except ImportError as error:
        raise ImportError("this needs the package diffusers: pip install diffusers") from error
