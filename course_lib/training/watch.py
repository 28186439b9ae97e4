"""Ends a training whose gradient is NaN or infinite, without making a GPU wait."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Fetched:
    """Numbers on their way to the CPU; only `read` waits for a GPU.

    Args:
        numbers: scalar tensors on one device.
    """

    def __init__(self, *numbers: Tensor) -> None:
        together = torch.stack([number.detach().float() for number in numbers])
        self._event = torch.cuda.Event() if together.is_cuda else None
        self._values = together.to("cpu", non_blocking=together.is_cuda)
        if self._event is not None:
            self._event.record(torch.cuda.current_stream(together.device))

    def read(self) -> list[float]:
        """The numbers."""
        if self._event is not None:
            self._event.synchronize()
        return self._values.tolist()


class GradientWatch:
    """Raises `FloatingPointError` when a gradient is not finite: at once on a CPU, up to 100 updates later elsewhere.

    Elsewhere it fetches every 50th gradient and reads it 50 updates later, when it has long arrived. All processes see
    the same gradients, so they stop at the same update.

    Args:
        device: where the training runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.every = 1 if device.type == "cpu" else 50
        self.unread: tuple[int, Fetched] | None = None

    def __call__(self, step: int, grad_norm: Tensor, loss: Tensor) -> None:
        """Call it in each update.

        Raises:
            FloatingPointError: a gradient was NaN or infinite.
        """
        if step % self.every == 0:
            self.close()
            self.unread = step, Fetched(grad_norm, loss)
            if self.every == 1:
                self.close()

    def close(self) -> None:
        """Read what was fetched last.

        Raises:
            FloatingPointError: a gradient was NaN or infinite.
        """
        if self.unread is None:
            return
        (step, fetched), self.unread = self.unread, None
        grad_norm, loss = fetched.read()
        if not math.isfinite(grad_norm):
            raise FloatingPointError(
                f"the gradient is {grad_norm} at update {step} (loss {loss:.3g}): "
                "lower lr, or train without autocast (--precision no)"
            )
