"""Guidance: change what the network predicts, and leave the sampler as it is."""

from __future__ import annotations

from torch import Tensor, nn

from .schedule import Schedule, start_time
from .validate import validate_model, validate_number, validate_same


class AutoGuidance(nn.Module):
    """A network, guided by a worse version of itself: model + (strength − 1) (model − weak).

    Both networks tend to err in the same direction, the weak one further. So where they differ, go on from the weak
    answer past the better one (Karras et al. 2024, arXiv:2406.02507, section 4; the formula is that of classifier-free
    guidance). Where noise prevails the model answers alone: the sample's subject is decided there, and guidance would
    make pictures too bright or too alike (Kynkäänniemi et al. 2024, arXiv:2404.07724, limit guidance too). `sample`
    takes it like any network; each step costs two evaluations.

    Args:
        model: the network, called as model(x_t, t, y).
        weak: a network for the same schedule and target that learned less: for the course's UNet, an eighth of the
            training works well. Or one without classes (`num_classes=None`), which is then asked without y. It lacks
            only the class, so the pictures show their class more clearly (classifier-free guidance with two networks,
            Ho and Salimans 2022, arXiv:2207.12598).
        schedule: the schedule that both were trained with.
        strength: 1 is the model alone, 0 the weak one; beyond about 2 pictures are exaggerated.
        largest: guide where b/a is at most this, > 0.

    Attributes:
        start: the last timestep that is guided.
    """

    def __init__(
        self, model: nn.Module, weak: nn.Module, schedule: Schedule, strength: float = 2.0, largest: float = 2.0
    ) -> None:
        super().__init__()
        validate_model(model)
        validate_model(weak, "weak")
        validate_number("strength", strength, 0)
        self.model, self.weak, self.strength = model, weak, strength
        self.start = start_time(schedule, largest=largest)
        self._tell_weak = getattr(weak, "config", {}).get("num_classes", True) is not None

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The guided prediction, shaped like x_t; t is int64 (B,), y int64 (B,) or None."""
        answer, less = self.model(x_t, t, y), self.weak(x_t, t, y if self._tell_weak else None)
        validate_same(answer, less, "answer of model", "answer of weak")
        extra = (self.strength - 1) * (t <= self.start)  # (B,)
        return answer + extra.to(answer.dtype).view(-1, 1, 1, 1) * (answer - less)
