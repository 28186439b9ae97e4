"""One of our networks as a model of diffusers, for its loops and pipelines.

Import it from `interop`, which loads this file only when it is used: diffusers takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin
from torch import Tensor

from .unet import MODELS
from .validate import validate_model


@dataclass(frozen=True)
class Answer:
    """What a network of diffusers returns."""

    sample: Tensor


class ModelToDiffusers(ModelMixin, ConfigMixin):
    """One of our networks in a loop or a pipeline of diffusers: unet(x, timestep).sample.

    A pipeline with it can be saved with save_pretrained, and from_pretrained brings it back where course_lib is
    installed.

    Args:
        model: called as model(x_t, t, y), such as `unet.UNet`.
        rung, arguments, sample_size, in_channels: given by from_pretrained, from which it builds the network again.
    """

    config_name: Any = "config.json"

    def __init__(
        self,
        model: Any = None,
        rung: str = "",
        arguments: Mapping[str, Any] | None = None,
        sample_size: int | None = None,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        if not rung:
            validate_model(model)
        self.model = MODELS[rung](**(arguments or {})) if model is None else model
        built = getattr(self.model, "config", {})
        self.register_to_config(
            rung=type(self.model).__name__,
            arguments=dict(built),
            sample_size=built.get("size"),
            in_channels=built.get("in_channels"),
        )

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

    @wraps(ModelMixin.save_pretrained)  # pipelines look at the signature
    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        if MODELS.get(type(self.model).__name__) is not type(self.model):
            raise ValueError(
                f"save_pretrained can write the networks of course_lib.unet, whose arguments rebuild them; save this "
                f"{type(self.model).__name__} yourself, with its state_dict()"
            )
        ModelMixin.save_pretrained(self, *args, **kwargs)
