"""Watch a training run: a loss curve, a progress bar, samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import ipywidgets
import traitlets
from torch import Tensor

from .. import viz
from ..objective import smoothed
from ..train import Update
from ..validate import validate_pictures
from .controls import WIDE, scale_for

_PIXELS = "<style>.course-pixels{image-rendering:pixelated}</style>"


class LivePicture(ipywidgets.Image):  # type: ignore[misc]
    """A picture that you can replace; a screen reader reads its words.

    Args:
        png: the first picture. It sets the size.
        smooth: whether the browser may smooth it on a screen with more pixels.
    """

    #: Where a widget has a tooltip, ipywidgets 8.1.9 reads its description, which an Image does not have by itself.
    description = traitlets.Unicode(None, allow_none=True).tag(sync=True)

    def __init__(self, png: viz.Png, smooth: bool = False) -> None:
        width, tall = png.size
        size = {"width": f"{width}px", "height": f"{tall}px", "min_width": f"{width}px", "margin": "2px"}
        if smooth or width > WIDE:  # beside an open file browser the page may be narrower
            size |= {"min_width": "0", "max_width": "100%", "object_fit": "contain"}
        super().__init__(format="png", layout=size, description="")
        if not smooth:
            self.add_class("course-pixels")
        self.show(png)

    def show(self, png: viz.Png) -> None:
        """Put another picture in its place."""
        self.value, self.tooltip = bytes(png), png.alt


class LossPlot(ipywidgets.VBox):  # type: ignore[misc]
    """A loss curve that grows while training runs.

    It is drawn at most once in `every` seconds, and drawing takes at most a thirtieth of the time.

    Args:
        smooth: strength of the running mean, as `course_lib.objective.smoothed`.
        reference: label to height of a horizontal line.
        every: the least number of seconds from one drawing to the next.
        logy: show the vertical axis in powers of ten.
    """

    def __init__(
        self, smooth: float = 0.98, reference: Mapping[str, float] | None = None, every: float = 3.0, logy: bool = False
    ) -> None:
        self._losses: list[float | Tensor] = []
        self._options: dict[str, Any] = {"smooth": smooth, "reference": reference, "logy": logy, "size": (6.4, 2.6)}
        self._every, self._next = every, float("-inf")
        self.image = LivePicture(self.draw(), smooth=True)
        super().__init__([self.image])

    @property
    def losses(self) -> list[float]:
        """The loss of every update so far."""
        read = [float(loss) for loss in self._losses]
        self._losses[:] = read
        return read

    def draw(self) -> viz.Png:
        """The curve so far."""
        return viz.figure_png(viz.plot_loss(self.losses, **self._options))

    def add(self, loss: float | Tensor) -> None:
        """Keep the loss of one update, and draw if it is time. A GPU is only waited for when we draw."""
        self._losses.append(loss.detach() if isinstance(loss, Tensor) else loss)
        if time.monotonic() >= self._next:
            self.finish()

    def finish(self) -> None:
        """Draw now."""
        began = time.monotonic()
        self.image.show(self.draw())
        done = time.monotonic()
        self._next = _next_time(began, done, self._every)


class TrainingMonitor(ipywidgets.VBox):  # type: ignore[misc]
    """Progress bar, loss curve and samples while training runs.

    The curve and the samples each take at most a thirtieth of the time.

    Args:
        draw: a function that returns samples, (B, C, H, W), to show below the curve; None for no pictures.
        draw_every: the least number of seconds from one call of `draw` to the next; the last call comes at the end.
        smooth: strength of the running mean, as `course_lib.objective.smoothed`.
        reference: label to height of a horizontal line in the loss curve.
        every: the least number of seconds from one drawing of the curve to the next.
        columns: pictures in a row.
    """

    def __init__(
        self,
        draw: Callable[[], Tensor] | None = None,
        draw_every: float = 30.0,
        smooth: float = 0.98,
        reference: Mapping[str, float] | None = None,
        every: float = 3.0,
        columns: int = 8,
    ) -> None:
        self.plot = LossPlot(smooth, reference, every)
        self.bar = ipywidgets.FloatProgress(0.0, min=0.0, max=1.0, layout={"width": "300px"})
        self.text = ipywidgets.HTML("not started", layout={"min_height": "1.6em"})
        self.caption = ipywidgets.HTML(_PIXELS, layout={"min_height": "1.6em"})
        self.image: Any = None
        self._draw, self._draw_every, self._columns = draw, draw_every, columns
        self._last: tuple[int, float, float] | None = (
            None  # the update itself would keep the network and its optimizers in memory
        )
        self._told_at = self._next = float("-inf")
        parts = [ipywidgets.HBox([self.bar, self.text]), self.plot]
        if draw is not None:
            began = time.monotonic()
            self.image = LivePicture(self._pictures())
            self.caption.value = f"{_PIXELS}samples before training"
            self._next = _next_time(began, time.monotonic(), draw_every)
            parts += [self.caption, self.image]
        super().__init__(parts)

    @property
    def losses(self) -> list[float]:
        """The loss of every update so far."""
        return self.plot.losses

    def _pictures(self) -> viz.Png:
        if self._draw is None:
            raise TypeError("this monitor has no pictures to show; give it draw, a function that returns some")
        x = self._draw()
        validate_pictures(x, "what draw returned")
        columns = min(self._columns, len(x))
        return viz.to_png(x, columns, scale_for(x, columns))

    def watch(self, updates: Iterable[Update]) -> Iterator[Update]:
        """Show how the training goes, and pass on the updates of `course_lib.train.train`."""
        try:
            for update in updates:
                self.update(update)
                yield update
            self.finish()
        finally:  # so that the curve is whole after a break or an interrupt, too
            self.plot.finish()

    def update(self, update: Update) -> None:
        """Note one update, and draw whatever it is time for."""
        self.plot.add(update.loss)
        self._last = update.step, update.seconds, update.progress
        now = time.monotonic()
        if now - self._told_at >= 0.5:
            self._tell(*self._last)
            self._told_at = now
        if self._draw is not None and now >= self._next:
            self._show(f"samples after {update.step:,} updates")

    def finish(self) -> None:
        """Draw everything now."""
        if self._last is None:
            return
        self.plot.finish()
        self._tell(*self._last)
        if self._draw is not None:
            self._show(f"samples after {self._last[0]:,} updates")

    def _show(self, caption: str) -> None:
        began = time.monotonic()
        self.image.show(self._pictures())
        self.caption.value = _PIXELS + caption
        self._next = _next_time(began, time.monotonic(), self._draw_every)

    def _tell(self, step: int, seconds: float, progress: float) -> None:
        left = seconds * (1 - progress) / max(progress, 1e-9)
        mean = smoothed(self.losses[-300:])[-1]
        self.bar.value = float(progress)
        self.text.value = f"update {step:,} &ensp; loss {mean:.4f} &ensp; {_clock(seconds)} gone, {_clock(left)} left"


def _next_time(began: float, done: float, every: float) -> float:
    """When to draw again: after `every` seconds, or later if drawing would take over a thirtieth of the time."""
    return done + max(every, 29 * (done - began))


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
