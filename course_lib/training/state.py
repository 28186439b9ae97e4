"""What a training needs, besides the weights, to go on later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..validate import validate_number

#: Marks a parameter, among the moments, that has had no gradient yet.
UNUSED = "unused"


@dataclass(frozen=True)
class TrainState:
    """Where a training stands. To go on, it also needs the weights of the model and of their average.

    Args:
        step: updates made, >= 0.
        seconds: time they took, >= 0.
        moments: the optimizers' tensors by parameter and kind, such as "stem.bias.exp_avg".
    """

    step: int = 0
    seconds: float = 0.0
    moments: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        validate_number("step", self.step, 0, integer=True)
        validate_number("seconds", self.seconds, 0)


def get_moments(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The optimizers' own tensors, under the names of the parameters that they belong to."""
    states: dict[Tensor, Any] = {p: state for one in optimizers for p, state in one.state.items()}
    return {
        f"{name}.{kind}": value
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
        for kind, value in (states.get(parameter) or {UNUSED: torch.zeros(())}).items()
    }


def set_moments(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], moments: Mapping[str, Tensor]) -> None:
    """Give new optimizers the tensors of earlier ones, laid out in memory as the parameters are.

    Raises:
        ValueError: the moments belong to another model.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    owner = {p: optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    unused = {key.removesuffix(f".{UNUSED}") for key in moments if key.endswith(f".{UNUSED}")}
    for key, value in moments.items():
        name, _, kind = key.rpartition(".")
        if kind == UNUSED:
            continue
        parameter = parameters.get(name)
        if parameter is None or value.shape not in (parameter.shape, torch.Size()):
            raise ValueError(f"start.moments[{key!r}] {tuple(value.shape)} belongs to no parameter of this model")
        laid_out = value.clone() if value.shape != parameter.shape else torch.empty_like(parameter).copy_(value)
        owner[parameter].state[parameter][kind] = laid_out.detach()
    missing = [name for name, p in parameters.items() if not owner[p].state.get(p) and name not in unused]
    if missing:
        raise ValueError(f"start.moments has nothing for {len(missing)} parameters of this model, such as {missing[0]}")
    for optimizer in optimizers:
        optimizer.load_state_dict(optimizer.state_dict())  # moves step counters to where a fused optimizer wants them
