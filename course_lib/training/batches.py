"""The random part of a training: which pictures, timesteps and noise each update sees."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from ..data import Pictures
from ..schedule import Schedule, validate_schedule


class RandomBatches:
    """The pictures, timesteps and noise of each update, which follow from the seed and the update's number alone.

    Every pass visits all pictures in a new order, and a batch that reaches the end of one pass continues with the
    next. No state is carried from one update to another, so a resumed training sees the same batches.

    Args:
        pictures: what to learn from; batches are made on their device.
        schedule: timesteps are uniform on 1..T.
        batch_size: pictures per update, >= 1.
        seed: of order, timesteps and noise.
    """

    def __init__(self, pictures: Pictures, schedule: Schedule, batch_size: int, seed: int = 0) -> None:
        validate_schedule(schedule)
        self.n, self.T, self.size, self.seed = len(pictures), schedule.T, batch_size, seed
        self.shape, self.device = (batch_size, *pictures.images.shape[1:]), pictures.images.device
        self.generator = torch.Generator(self.device)
        self._pass, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The batch of one update.

        Args:
            step: number of the update, from 1.

        Returns:
            Indices of the pictures, int64 (B,); timesteps, int64 (B,); noise, float32 (B, C, H, W).
        """
        first, end, parts = (step - 1) * self.size, step * self.size, []
        while first < end:
            number, at = divmod(first, self.n)
            parts.append(self._order_of(number)[at : at + end - first])
            first += len(parts[-1])
        generator = self.generator.manual_seed(_seed(self.seed, "noise", step))
        t = torch.randint(1, self.T + 1, (self.size,), device=self.device, generator=generator)
        eps = torch.randn(self.shape, device=self.device, generator=generator)
        return torch.cat(parts), t, eps

    def _order_of(self, number: int) -> Tensor:
        """The order of a pass, the same on every device."""
        if number != self._pass:
            order = torch.randperm(self.n, generator=torch.Generator().manual_seed(_seed(self.seed, "order", number)))
            if self.device.type == "cuda":  # pinned memory lets the copy run in the background
                order = order.pin_memory().to(self.device, non_blocking=True)
            self._pass, self._order = number, order.to(self.device)
        return self._order


def _seed(seed: int, what: str, number: int) -> int:
    """A 64-bit seed for one purpose and number; hashing makes neighbors unrelated."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {what} {number}".encode(), digest_size=8).digest(), "big")
