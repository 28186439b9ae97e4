"""What a run shows while it trains: a progress bar, the loss, and curves for TensorBoard."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..train import TrainConfig, TrainState, Update
from ..training.watch import Fetched

if TYPE_CHECKING:  # importing it takes a second
    from accelerate import Accelerator

#: Updates between two looks at the loss, at each of which processes wait for each other.
LOOK_EVERY = 50
#: The loss that is shown is the mean over this many updates.
WINDOW = 500


class Bar(tqdm):  # type: ignore[misc]
    """A progress bar that falls silent when its terminal is gone."""

    def display(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().display(*arguments, **options)
        except OSError:
            self.disable = True

    def close(self) -> None:
        with suppress(OSError):
            super().close()


class Report:
    """Shows the progress of a run. Its numbers are means over all processes, so all of them must call it.

    Args:
        accelerator: of the run.
        config: of the training.
        start: where the training begins.
        losses: of the updates before that, on any device, so that an interruption does not change the mean.
    """

    def __init__(self, accelerator: Accelerator, config: TrainConfig, start: TrainState, losses: Tensor) -> None:
        self.accelerator, self.config = accelerator, config
        # the losses stay on the device: reading a number makes a GPU wait
        self.recent: deque[Tensor] = deque(losses.to(accelerator.device).unbind(), maxlen=WINDOW)
        self.looked = start.step, start.seconds
        self._unread: tuple[int, float, float, Fetched] | None = None

    def __enter__(self) -> Report:
        shown = self.accelerator.is_main_process
        form = "{l_bar}{bar}| {elapsed}<{remaining} {postfix}"
        self.bar = Bar(total=100, bar_format=form, mininterval=1, disable=not shown)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def note(self, update: Update) -> None:
        """Take in what an update did, and show it from time to time."""
        self.recent.append(update.loss)
        if update.step % LOOK_EVERY == 0 or update.progress == 1:
            self.look(update)
        if update.progress == 1:
            self.show()
        self.bar.update(100 * update.progress - self.bar.n)

    def losses(self) -> Tensor:
        """The losses of the last updates, the newest last, (n,)."""
        return self.accelerator.reduce(torch.stack([*self.recent]), "mean")

    def look(self, update: Update) -> None:
        """Fetch the loss. On a GPU it is shown at the next look, when it has arrived."""
        self.show()
        steps, seconds = update.step - self.looked[0], update.seconds - self.looked[1]
        speed = self.config.batch_size * steps / max(seconds, 1e-9)
        self.looked = update.step, update.seconds
        self._unread = update.step, update.lr, speed, Fetched(self.losses().mean(), update.grad_norm)
        if not is_far(self.accelerator.device):
            self.show()

    def show(self) -> None:
        """Show what was fetched last."""
        if self._unread is None:
            return
        (step, lr, speed, fetched), self._unread = self._unread, None
        loss, grad_norm = fetched.read()
        curves = {"loss": loss, "grad_norm": grad_norm, "lr": lr, "pictures_per_second": speed}
        self.accelerator.log(curves, step=step)
        self.bar.set_postfix_str(
            f"update {step:,}, loss {loss:.4f}, lr {lr:.1e}, {speed:,.0f} pictures/s", refresh=False
        )


def is_far(device: torch.device) -> bool:
    """Whether reading a number from the device makes the host wait."""
    return device.type != "cpu"
