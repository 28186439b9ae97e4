"""Pictures of the README and of notebooks 00 to 02."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

from course_lib import viz
from course_lib.checkpoint import load_shipped
from course_lib.data import CLASS_NAMES, batches
from course_lib.forward import corrupt
from course_lib.runtime import make_generator
from course_lib.sample import sample
from course_lib.schedule import sampling_times, start_time
from course_lib.shapes import trace
from course_lib.unet import BottleneckUNet, ClassicUNet
from course_lib.viz import COLORS, Sheet
from ingredients import FIGURES, Picture, figure, noise, one_of_each, pictures, samples, slider, stack


@figure("00_slider")
def start_slider() -> Picture:
    mixed, _ = corrupt(one_of_each()[:8], 0.3, generator=make_generator(0))
    return stack(slider("amount of noise", 0.3, ("gaussian", "uniform")), viz.to_png(mixed, 8, 3))


@figure("samples_64")
def samples_64() -> Picture:
    """64 samples in the order in which they were made: 25 steps, seed 0, none picked out."""
    return viz.to_png(samples(noise(64, 0), steps=25, order=2, guided=True), columns=8, scale=3)


@figure("samples_by_class")
def samples_by_class() -> Picture:
    made, rows = load_shipped(classes=True), {}
    times = sampling_times(made.schedule.T, 25, start=start_time(made.schedule, made.target))
    for seed in range(21, 25):  # as in notebook 05, so that a learner finds it again
        x_T = noise(1, seed).expand(10, -1, -1, -1)
        options = dict(times=times, eta=0.0, order=2, clip=False, target=made.target, y=torch.arange(10))
        rows[f"noise {seed - 20}"] = sample(made.model, made.schedule, x_T, **options)  # type: ignore[arg-type]
    return viz.show_rows(rows, titles=CLASS_NAMES)


@figure("01_noise_kinds")
def noise_kinds() -> Picture:
    x = one_of_each()[3:4]
    amounts = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    strips, drawn = {}, {}
    for kind in ("gaussian", "uniform"):
        _, used = corrupt(x, 1.0, kind, generator=make_generator(3))
        strips[kind] = torch.cat([corrupt(x, amount, used)[0] for amount in amounts])
        drawn[f"{kind} noise"] = corrupt(x.expand(64, -1, -1, -1), 1.0, kind, generator=make_generator(4))[1]
    return stack(
        viz.show_rows(strips, titles=[f"amount {amount:g}" for amount in amounts]),
        viz.plot_histogram(drawn, normal=False),
    )


@figure("01_slider")
def corruption_slider() -> Picture:
    mixed, _ = corrupt(pictures()[:24], 0.45, generator=make_generator(0))
    return stack(slider("amount of noise", 0.45, ("gaussian", "uniform")), viz.to_png(mixed, 8, 3))


@figure("01_variance")
def variance() -> Picture:
    """Variance of the mixture of normalized pictures, in 20 batches of 500 pictures for each amount."""
    x = pictures()[:]
    generator = make_generator(0)
    amounts = [i / 20 for i in range(21)]
    measured, errors = [], []
    for amount in amounts:
        mixed, _ = corrupt(x, amount, generator=generator)
        parts = torch.stack([part.double().var() for part in mixed.split(500)])
        measured.append(parts.mean())
        errors.append(2 * parts.std() / len(parts) ** 0.5)
    return viz.plot_variance(amounts, measured, errors, picture_variance=float(x.double().var()))


@figure("02_concatenate")
def concatenate() -> Picture:
    """Skip and upsampled map, C channels each, stacked into 2C, and convolved back to C."""
    sheet = Sheet(8.4, 2.9)
    yellow, green, blue = (COLORS["yellow"], "////"), (COLORS["green"], None), (COLORS["blue"], None)

    def maps(x: float, y: float, looks: list[tuple[str, str | None]]) -> None:
        for i, (color, hatch) in enumerate(looks):
            at = x + 0.13 * i, y - 0.09 * i
            sheet.box(*at, 0.8, 0.8, color, "#222222", hatch=hatch, linewidth=0.9, zorder=10 - 0.1 * i)

    maps(0.9, 0.55, [yellow] * 3)
    sheet.text(1.5, 0.16, "skip: C × H × W", 10, weight="bold")
    maps(0.9, 1.75, [green] * 3)
    sheet.text(1.5, 2.72, "from below, doubled: C × H × W", 10, weight="bold")
    sheet.arrow((2.1, 0.85), (2.95, 1.25), COLORS["black"])
    sheet.arrow((2.1, 2.05), (2.95, 1.65), COLORS["black"])
    maps(3.1, 1.25, [yellow] * 3 + [green] * 3)
    sheet.text(3.75, 2.3, "concatenated: 2C × H × W", 10, weight="bold")
    sheet.text(3.75, 2.52, "torch.cat([skip, up], dim=1)", 9, family="monospace")
    sheet.arrow((4.75, 1.45), (6.05, 1.45), COLORS["black"])
    sheet.text(5.4, 1.27, "two 3×3", 9)
    sheet.text(5.4, 1.62, "convolutions", 9)
    maps(6.2, 1.15, [blue] * 3)
    sheet.text(6.75, 2.3, "C × H × W", 10, weight="bold")
    return sheet.figure


@figure("02_unet_2015")
def unet_2015() -> Picture:
    with torch.device("meta"):
        rows = trace(ClassicUNet(), torch.zeros(1, 1, 572, 572))
    return viz.plot_unet(rows, width=10)


@cache
def one_step_network() -> nn.Module:
    """The training of notebook 02, with a fixed number of updates: from any mixture to the picture."""
    torch.manual_seed(0)
    x0, generator, model, updates = pictures(size=16)[:], make_generator(0), BottleneckUNet(), 2000
    optimizer = torch.optim.Adam(model.parameters())
    for update, index in zip(range(updates), batches(len(x0), 64, generator), strict=False):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - update / updates)
        x = x0[index]
        mixed, _ = corrupt(x, torch.rand(len(x), generator=generator), generator=generator)
        loss = (model(mixed) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@figure("02_one_step")
def one_step() -> Picture:
    model, x = one_step_network().requires_grad_(False), pictures("test", 16)[::4][:10]
    half, _ = corrupt(x, 0.5, generator=make_generator(1))
    only_noise = torch.randn(10, 1, 16, 16, generator=make_generator(2))
    mean = pictures(size=16)[:].mean(0, keepdim=True).expand(10, -1, -1, -1)
    return viz.show_rows(
        {
            "half noise": half,
            "one step": model(half),
            "pure noise": only_noise,
            "one step ": model(only_noise),
            "mean of all\npictures": mean,
        }
    )


FIGURES.update(
    {
        "01_pictures": lambda: viz.show_grid(one_of_each(), titles=CLASS_NAMES, columns=5),
        "01_rows": lambda: viz.filmstrip(one_of_each()[[9, 2, 7, 1, 8]], generator=make_generator(2)),
        "02_kernel": lambda: viz.plot_kernel("conv", 7, 3, stride=2, padding=1),
        "02_transposed": lambda: viz.plot_kernel("transposed conv", 4, 3, stride=2, padding=1, output_padding=1),
        "02_unet_16": lambda: viz.plot_unet(trace(BottleneckUNet(), torch.zeros(1, 1, 16, 16)), width=8.6),
        "02_halvings": lambda: viz.plot_halvings(28, 4),
    }
)
