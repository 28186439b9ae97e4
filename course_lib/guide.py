"""Guidance: change what the network answers, and leave the sampler alone."""

from __future__ import annotations

from torch import Tensor, nn

from .schedule import Schedule, start_time
from .validate import validate_number, validate_same


class AutoGuidance(nn.Module):
    """A network, guided by a worse version of itself: model + (strength − 1) (model − weak).

    Where the two differ, both err, as a rule, to the same side, and the weak one farther; so go on, away from it
    (Karras et al. 2024, arXiv:2406.02507, section 4; the formula is that of classifier-free guidance). Where noise
    prevails, it is the model alone: there it is decided what a picture will show, and guided there too, pictures
    become too bright or too alike (for limits of guidance, see Kynkäänniemi et al. 2024, arXiv:2404.07724). It stands
    wherever a network does in `sample`, and takes two evaluations for one.

    Args:
        model: the network, called as model(x_t, t, y).
        weak: one for the same schedule and target that was trained less: an eighth as long serves the course's UNet.
            Or one that was not told the classes (`num_classes=None`), which is then asked without y: what it lacks is
            the class, and so the pictures become clearer cases of it (classifier-free guidance with two networks, Ho
            and Salimans 2022, arXiv:2207.12598).
        schedule: the one that both were trained with.
        strength: where it guides, 1 for the model alone, 0 for the weak one; beyond about 2 pictures are overdrawn.
        largest: it guides where b/a is at most this, > 0.

    Attributes:
        start: the last timestep at which it guides.

    Raises:
        TypeError, ValueError: a strength below 0, or `largest` no positive number; when called, answers of different
            shapes.
    """

    def __init__(
        self, model: nn.Module, weak: nn.Module, schedule: Schedule, strength: float = 2.0, largest: float = 2.0
    ) -> None:
        super().__init__()
        validate_number("strength", strength, 0)
        self.model, self.weak, self.strength = model, weak, strength
        self.start = start_time(schedule, largest=largest)
        self._tell_weak = getattr(weak, "config", {}).get("num_classes", True) is not None

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The guided answer, shaped like x_t; t is int64 (B,), y int64 (B,) or None."""
        answer, less = self.model(x_t, t, y), self.weak(x_t, t, y if self._tell_weak else None)
        validate_same(answer, less, "answer of model", "answer of weak")
        extra = (self.strength - 1) * (t <= self.start)  # (B,)
        return answer + extra.to(answer.dtype).view(-1, 1, 1, 1) * (answer - less)
