"""How long a training has taken, and whether to stop."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

#: An update that took longer than this many seconds, and 20 times longer than any before it, held a pause.
PAUSE = 60.0


class Clock:
    """Measures the time that updates take; several processes agree on it.

    Args:
        before: seconds that earlier sessions of this training took.
        shared: whether there are several processes.
    """

    def __init__(self, before: float, shared: bool) -> None:
        # gloo connects the CPUs, so that agreeing on the time does not wait for a GPU
        self.group: Any = torch.distributed.new_group(backend="gloo") if shared else None
        self.seconds, self.last, self.longest, self.paused = before, time.perf_counter(), math.inf, False

    def read(self, stopping: bool) -> tuple[float, bool]:
        """Call it after each update.

        Args:
            stopping: whether this process wants to stop.

        Returns:
            The training's seconds so far, of the slowest process, and whether any process wants to stop.
        """
        now = time.perf_counter()
        took, self.last = now - self.last, now
        # two long updates in a row are no pause: the training has become slow
        self.paused = took > max(PAUSE, 20 * self.longest) and not self.paused
        took = self.longest if self.paused else took
        self.longest = max(self.longest, took) if math.isfinite(self.longest) else took
        self.seconds += took
        if self.group is None:
            return self.seconds, stopping
        both = torch.tensor([self.seconds, float(stopping)], dtype=torch.float64)
        torch.distributed.all_reduce(both, torch.distributed.ReduceOp.MAX, group=self.group)
        return both[0].item(), bool(both[1])
