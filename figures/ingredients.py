"""What the pictures are made of, and the list of all pictures."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import torch
from PIL import Image
from torch import Tensor

from course_lib import viz
from course_lib.checkpoint import Checkpoint, load_shipped
from course_lib.data import Pictures, load_fashion_mnist
from course_lib.guide import AutoGuidance
from course_lib.runtime import make_generator
from course_lib.sample import sample
from course_lib.schedule import sampling_times, start_time
from course_lib.viz import COLORS, Sheet

#: Bytes that a file may have; all files together may have ten times as many.
LIMIT = 150_000
Picture = viz.Figure | viz.Png
FIGURES: dict[str, Callable[[], Picture]] = {}


def figure(name: str) -> Callable[[Callable[[], Picture]], Callable[[], Picture]]:
    """Give a function the name of the file that it draws."""

    def register(draw: Callable[[], Picture]) -> Callable[[], Picture]:
        FIGURES[name] = draw
        return draw

    return register


@cache
def pictures(split: str = "train", size: int = 28) -> Pictures:
    return load_fashion_mnist(split, size, source="packaged")


@cache
def shipped() -> Checkpoint:
    return load_shipped()


def one_of_each() -> Tensor:
    """The first test picture of each class, (10, 1, 28, 28)."""
    return torch.cat([pictures("test").of_class(label)[:1] for label in range(10)])


def noise(count: int, seed: int) -> Tensor:
    return torch.randn(count, 1, 28, 28, generator=make_generator(seed))


def samples(
    x_T: Tensor, steps: int = 50, eta: float = 1.0, order: int = 1, seed: int = 1, guided: bool = False
) -> Tensor:
    """Samples of the shipped network; second order and guidance are set up as in benchmarks/sampling.py."""
    made = shipped()
    start = made.schedule.T if order == 1 else start_time(made.schedule, made.target)
    times, generator = sampling_times(made.schedule.T, steps, start=start), make_generator(seed)
    options = dict(times=times, eta=eta, order=order, clip=order == 1, target=made.target, generator=generator)
    model = AutoGuidance(made.model, load_shipped(weak=True).model, made.schedule) if guided else made.model
    return sample(model, made.schedule, x_T, **options)  # type: ignore[arg-type]


def stack(*parts: Picture, gap: int = 6) -> viz.Png:
    """Pictures one below the other on one card."""
    images = []
    for part in parts:
        png = part if isinstance(part, viz.Png) else viz.figure_png(part)
        images.append(Image.open(io.BytesIO(png)).convert("RGB"))
    size = max(image.width for image in images), sum(image.height + gap for image in images)
    whole, top = Image.new("RGB", size, viz.CARD), 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height + gap
    buffer = io.BytesIO()
    whole.save(buffer, format="PNG")
    return viz.Png(buffer.getvalue())


def slider(label: str, value: float, choices: tuple[str, ...] = (), chosen: int = 0) -> viz.Figure:
    """What a slider of the course looks like, for pages where nothing moves."""
    sheet = Sheet(6.6, 0.45)
    sheet.text(0.1, 0.22, label, 10, ha="left")
    left, right = 0.2 + 0.085 * len(label), 3.9
    knob = left + value * (right - left)
    sheet.box(left, 0.2, right - left, 0.05, "#C9C6BE")
    sheet.box(left, 0.2, knob - left, 0.05, COLORS["blue"])
    sheet.box(knob - 0.08, 0.12, 0.16, 0.21, "white", COLORS["blue"], linewidth=1.5)
    sheet.text(4.15, 0.22, f"{value:.2f}", 10)
    x = 4.6
    for i, choice in enumerate(choices):
        wide = 0.16 + 0.088 * len(choice)
        sheet.box(x, 0.06, wide, 0.32, "#D8E6F0" if i == chosen else "#EFEDE7", "#AAA79F", linewidth=0.8)
        sheet.text(x + wide / 2, 0.22, choice, 9.5)
        x += wide + 0.06
    return sheet.figure
