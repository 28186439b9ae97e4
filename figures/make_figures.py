"""Draw the pictures of the README and of the notebooks: one function for each file.

    python figures/make_figures.py                  all of them
    python figures/make_figures.py 01_rows 02_kernel    some of them
    python figures/make_figures.py --list           their names

Same seeds, same pictures, on one kind of machine. Those of samples use the shipped weights; `02_one_step`,
`04_loss` and `04_ema` train a network first, which takes minutes; `06_symptoms` runs notebook 06. Only the pictures
that come with the package are used, so that nothing depends on what else is on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import runpy
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Normal

from course_lib import viz
from course_lib.blocks import sinusoidal_embedding
from course_lib.checkpoint import Checkpoint, load_shipped
from course_lib.data import CLASS_NAMES, Pictures, batches, load_fashion_mnist
from course_lib.forward import corrupt, q_posterior, q_sample, q_step
from course_lib.guide import AutoGuidance
from course_lib.objective import denoising_loss
from course_lib.optim import make_optimizers
from course_lib.runtime import make_generator
from course_lib.sample import predict, reverse_step, sample, trajectory
from course_lib.schedule import from_betas, linear_betas, make_schedule, sampling_times, start_time
from course_lib.shapes import trace
from course_lib.train import EMA, TrainConfig, train
from course_lib.unet import BottleneckUNet, ClassicUNet, UNet
from course_lib.viz import COLORS, Sheet, styled

HERE = Path(__file__).resolve().parent
#: No file may be larger, and all together not ten times as large.
LIMIT = 150_000
Picture = viz.Figure | viz.Png
FIGURES: dict[str, Callable[[], Picture]] = {}


def figure(name: str) -> Callable[[Callable[[], Picture]], Callable[[], Picture]]:
    """Give a function the name of the file that it draws."""

    def register(draw: Callable[[], Picture]) -> Callable[[], Picture]:
        FIGURES[name] = draw
        return draw

    return register


# ------------------------------------------------------------------------------------------ ingredients


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
    """Samples of the shipped network; those of second order and those guided as in benchmarks/sampling.py."""
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


# ------------------------------------------------------------------------------------- README, notebook 00


@figure("00_slider")
def start_slider() -> Picture:
    mixed, _ = corrupt(one_of_each()[:8], 0.3, generator=make_generator(0))
    return stack(slider("amount of noise", 0.3, ("gaussian", "uniform")), viz.to_png(mixed, 8, 3))


@figure("samples_64")
def samples_64() -> Picture:
    """64 samples in the order in which they were made: 25 steps, seed 0, none picked out."""
    return viz.to_png(samples(noise(64, 0), steps=25, order=2, guided=True), columns=8, scale=3)


# -------------------------------------------------------------------------------------------- notebook 01


@figure("samples_by_class")
def samples_by_class() -> Picture:
    made, rows = load_shipped(classes=True), {}
    times = sampling_times(made.schedule.T, 25, start=start_time(made.schedule, made.target))
    for seed in range(21, 25):  # as in notebook 05, so that a learner finds it again
        x_T = noise(1, seed).expand(10, -1, -1, -1)
        options = dict(times=times, eta=0.0, order=2, clip=False, target=made.target, y=torch.arange(10))
        rows[f"noise {seed - 20}"] = sample(made.model, made.schedule, x_T, **options)  # type: ignore[arg-type]
    return viz.show_rows(rows, titles=CLASS_NAMES)


@figure("01_pictures")
def ten_pictures() -> Picture:
    return viz.show_grid(one_of_each(), titles=CLASS_NAMES, columns=5)


@figure("01_rows")
def rows() -> Picture:
    return viz.filmstrip(one_of_each()[[9, 2, 7, 1, 8]], generator=make_generator(2))


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


# -------------------------------------------------------------------------------------------- notebook 02


@figure("02_kernel")
def kernel() -> Picture:
    return viz.plot_kernel("conv", 7, 3, stride=2, padding=1)


@figure("02_transposed")
def transposed() -> Picture:
    return viz.plot_kernel("transposed conv", 4, 3, stride=2, padding=1, output_padding=1)


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


@figure("02_unet_16")
def unet_16() -> Picture:
    return viz.plot_unet(trace(BottleneckUNet(), torch.zeros(1, 1, 16, 16)), width=8.6)


@figure("02_halvings")
def halvings() -> Picture:
    return viz.plot_halvings(28, 4)


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


# -------------------------------------------------------------------------------------------- notebook 03


@figure("03_one_step")
def steps_of_q() -> Picture:
    """Three copies of one picture on their way through a thousand steps of q."""
    schedule, x = make_schedule("linear"), pictures()[5:6].expand(3, -1, -1, -1)
    stops, generator, walks = [0, 1, 50, 100, 200, 300, 400, 500, 700, 1000], make_generator(0), [x]
    for t in range(1, 1001):
        x, _ = q_step(schedule, x, t - 1, t, generator=generator)
        if t in stops:
            walks.append(x)
    rows = {f"copy {i + 1}": torch.stack([walk[i] for walk in walks]) for i in range(3)}
    return viz.show_rows(rows, titles=[f"t = {t}" for t in stops])


@figure("03_chain_vs_closed_form")
@styled
def chain_vs_closed_form() -> Picture:
    """Mean and variance of two pixels over 256 walks of a thousand steps, against the tables."""
    schedule, copies, generator = make_schedule("linear"), 256, make_generator(0)
    picture = pictures()[5:6]
    flat = picture.flatten()
    chosen = {"bright pixel": int(flat.argmax()), "black pixel": int(flat.argmin())}
    x, stops = picture.expand(copies, -1, -1, -1), list(range(0, 1001, 50))
    means: dict[str, list[float]] = {name: [] for name in chosen}
    variances = []
    for t in range(1001):
        if t:
            x, _ = q_step(schedule, x, t - 1, t, generator=generator)
        if t in stops:
            variances.append(float(x.var(0).mean()))
            for name, i in chosen.items():
                means[name].append(float(x.flatten(1)[:, i].mean()))
    every = range(1001)
    figure, (left, right) = viz.new_figure(8.4, 3.4, 1, 2)
    bars = 2 * schedule.noise[stops] / copies**0.5
    for (name, i), color, mark in zip(chosen.items(), ("blue", "orange"), "os", strict=True):
        left.plot(every, (schedule.signal * flat[i]).tolist(), color=COLORS[color], label=f"√ᾱ_t · x_0, {name}")
        left.errorbar(stops, means[name], bars.tolist(), fmt=mark, color=COLORS["black"], markersize=4, elinewidth=1,
                      capsize=2, label=f"chain, {name}")  # fmt: skip
    left.set(xlabel="timestep t", ylabel="mean over 256 walks", title="Mean", ylim=(-1.25, 2.4))
    left.legend(ncols=1, loc="upper right")
    right.plot(every, (schedule.noise**2).tolist(), color=COLORS["blue"], label="1 − ᾱ_t")
    right.plot(stops, variances, "o", color=COLORS["black"], markersize=4, label="chain, mean of all pixels")
    right.set(xlabel="timestep t", ylabel="variance over 256 walks", title="Variance")
    right.legend(loc="lower right")
    return figure


@figure("03_schedules")
def schedules() -> Picture:
    return viz.plot_schedules([make_schedule(name) for name in ("linear", "quadratic", "sigmoid", "cosine")], t=500)


@figure("03_schedule_rows")
def schedule_rows() -> Picture:
    x0, times = one_of_each()[9:10], list(range(0, 1001, 100))
    eps = noise(1, 1)
    rows = {}
    for name in ("linear", "quadratic", "sigmoid", "cosine"):
        rows[name] = torch.cat([q_sample(make_schedule(name), x0, t, eps)[0] for t in times])
    return viz.show_rows(rows, titles=[f"t = {t}" for t in times])


@figure("03_gauge")
def gauge() -> Picture:
    """The gauge for linear betas with T = 150, and what x_T looks like there and with T = 1000."""
    x0, eps, short, long = one_of_each()[:8], noise(8, 2), make_schedule("linear", 150), make_schedule("linear")
    rows = {
        "x_0": x0,
        "x_T, T = 150": q_sample(short, x0, 150, eps)[0],
        "x_T, T = 1000": q_sample(long, x0, 1000, eps)[0],
    }
    return stack(viz.plot_gauge(short), viz.show_rows(rows))


@figure("03_posterior")
@styled
def posterior() -> Picture:
    """One pixel and a large step: q(x_s | x_t, x_0) by its formula and by Bayes' rule on a grid."""
    schedule, t, x_t, x0 = from_betas(linear_betas(10, 0.05, 0.4), "ten large steps"), 5, -0.9, 0.8
    grid = torch.linspace(-3, 2.5, 551, dtype=torch.float64)
    scale, std = schedule.step_kernel(t - 1, t)
    says_picture = Normal(schedule.signal[t - 1] * x0, schedule.noise[t - 1]).log_prob(grid)
    says_step = Normal(scale * grid, std).log_prob(torch.tensor(x_t, dtype=torch.float64))
    by_bayes = (says_picture + says_step).softmax(0) / (grid[1] - grid[0])
    value = torch.tensor(1.0, dtype=torch.float64).view(1, 1, 1, 1)
    mean, var = (number.item() for number in q_posterior(schedule, x_t * value, x0 * value, t - 1, t))
    curves = {
        "the picture says: q(x₄ | x₀ = 0.8)": (grid, says_picture.exp()),
        "the step says: q(x₅ = −0.9 | x₄)": (grid, says_step.exp()),
        "both, by the formula: q(x₄ | x₅, x₀)": (grid, Normal(mean, var**0.5).log_prob(grid).exp()),
    }
    dots = {"both, by Bayes on a grid": (grid[::15], by_bayes[::15])}
    drawn = viz.plot_curves(curves, dots, xlabel="x₄", ylabel="density", size=(7.2, 3.6))
    drawn.axes[0].set_ylim(0, 1.45 * float(by_bayes.max()))
    drawn.axes[0].legend(loc="upper right")
    return drawn


# -------------------------------------------------------------------------------------------- notebook 04


@figure("04_unet")
def unet() -> Picture:
    return viz.plot_unet(trace(UNet(), torch.zeros(1, 1, 28, 28), torch.tensor([1]), depth=2))


@figure("04_time_embedding")
def time_embedding() -> Picture:
    t = torch.arange(1, 1001)
    return viz.plot_time_embedding(sinusoidal_embedding(t, 32), t)


@figure("04_overfit")
def overfit() -> Picture:
    """The same 16 pictures, timesteps and noise, 120 times."""
    schedule, generator = make_schedule("cosine"), make_generator(0)
    x0 = pictures("test")[:16]
    t = torch.randint(1, schedule.T + 1, (16,), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    torch.manual_seed(0)
    model, losses = UNet(), []
    optimizers = make_optimizers(model, lr=2e-3)
    for _ in range(120):
        loss = denoising_loss(model, schedule, x0, t, eps).mean()
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    return viz.plot_loss(losses, smooth=0.5, reference={"predicting 0": 1.0}, logy=True)


@cache
def short_run() -> tuple[list[float], dict[str, Tensor]]:
    """The training of notebook 04, 900 updates: losses, and samples of weights and average, half-way and at the end."""
    torch.manual_seed(0)
    schedule, model = make_schedule("cosine"), UNet().to(memory_format=torch.channels_last)
    ema, losses, nets = EMA(model), [], {}
    for update in train(model, schedule, pictures(), TrainConfig(steps=900), ema=ema):
        losses.append(float(update.loss))
        if update.step in (450, 900):
            when = "half-way" if update.step == 450 else "end"
            nets[f"weights, {when}"] = copy.deepcopy(model)
            nets[f"average, {when}"] = copy.deepcopy(ema.model)
    times = sampling_times(schedule.T, 25)
    drawn = {
        name: sample(net, schedule, noise(8, 1), times=times, order=2, generator=make_generator(2))
        for name, net in nets.items()
    }
    return losses, drawn


@figure("04_loss")
def loss() -> Picture:
    return viz.plot_loss(short_run()[0], smooth=0.9, reference={"predicting 0": 1.0})


@figure("04_ema")
def ema() -> Picture:
    drawn = short_run()[1]
    return viz.show_rows({name: drawn[name] for name in ("weights, half-way", "average, half-way")})


@figure("04_loss_by_timestep")
@torch.no_grad()
def loss_by_timestep() -> Picture:
    """A thousand test pictures, one at each timestep."""
    made = shipped()
    T = made.schedule.T
    x0, t = pictures("test")[:T], torch.arange(1, T + 1)
    eps = torch.randn(x0.shape, generator=make_generator(4))
    parts = [
        denoising_loss(made.model, made.schedule, x0[part], t[part], eps[part], target=made.target)
        for part in torch.arange(T).split(250)
    ]
    return viz.plot_loss_by_timestep(t, torch.cat(parts), T)


@figure("04_x0_hat")
def x0_hat() -> Picture:
    made, x0 = shipped(), one_of_each()[[9, 2, 7, 1, 8, 3, 5, 0]]
    times = [20, 100, 250, 400, 550, 700, 850, 980]
    x_t, _ = q_sample(made.schedule, x0, torch.tensor(times), generator=make_generator(5))
    seen = [
        predict(made.model, made.schedule, one[None], t, target=made.target)[0]
        for one, t in zip(x_t, times, strict=True)
    ]
    return viz.show_rows({"x_0": x0, "x_t": x_t, "x0_hat": torch.cat(seen)}, titles=[f"t = {t}" for t in times])


# -------------------------------------------------------------------------------------------- notebook 05


@figure("05_reverse_step")
def one_reverse_step() -> Picture:
    made, t, s = shipped(), 600, 500
    x_t, _ = q_sample(made.schedule, one_of_each()[[1, 9]], t, generator=make_generator(0))
    x0_hat, eps_hat = predict(made.model, made.schedule, x_t, t, target=made.target)
    x_s = reverse_step(made.schedule, x0_hat, eps_hat, t, s, eta=0.0)
    columns = torch.stack([x_t, eps_hat, x0_hat, x_s], 1)
    titles = [f"x_t, t = {t}", "eps_hat", "x0_hat", f"x_s, s = {s}"]
    return viz.show_rows({" ": columns[0], "  ": columns[1]}, titles=titles)


@figure("05_trajectory")
def whole_trajectory() -> Picture:
    made = shipped()
    run = trajectory(made.model, made.schedule, noise(1, 0), target=made.target, generator=make_generator(1))
    return viz.plot_trajectory(list(run), columns=9)


@figure("05_last_step")
def last_step() -> Picture:
    """What noise at the last step would do: the grain grows with the length of that step."""
    schedule, x = shipped().schedule, samples(noise(1, 21))
    columns, titles = [x], ["right: none"]
    for count in (1000, 50, 10):
        _, std = schedule.step_kernel(0, sampling_times(schedule.T, count)[-2])
        columns.append(x + std.item() * noise(1, 4))
        titles.append(f"wrong, {count} steps")
    return viz.show_grid(torch.cat(columns), titles=titles, columns=4)


@figure("05_eta")
def eta() -> Picture:
    return viz.show_rows({f"η = {eta:g}": samples(noise(8, 5), eta=eta, seed=6) for eta in (0.0, 0.5, 1.0)})


@figure("05_interpolation")
def interpolation() -> Picture:
    z1, z2 = noise(2, 10)
    angle = torch.acos((z1 * z2).sum() / (z1.norm() * z2.norm()))
    shares = torch.linspace(0, 1, 9)
    arc = torch.stack(
        [(torch.sin((1 - c) * angle) * z1 + torch.sin(c * angle) * z2) / torch.sin(angle) for c in shares]
    )
    return viz.show_rows({"": samples(arc, eta=0.0)}, titles=[f"c = {c:.2f}" for c in shares])


@figure("05_nearest")
def nearest() -> Picture:
    return viz.nearest_table(samples(noise(64, 12), seed=13)[:8], pictures()[:])


# -------------------------------------------------------------------------------------------- notebook 06


@cache
def clinic() -> dict[str, Any]:
    """What notebook 06 leaves behind after all its cells have run: its symptoms are named seen_1, seen_2 and so on."""
    threads = torch.get_num_threads()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return runpy.run_path(str(HERE.parent / "notebooks" / "py" / "06_find_the_bug.py"))
    finally:
        torch.set_num_threads(threads)


@figure("06_symptoms")
@styled
def symptoms() -> Picture:
    """Every symptom of the bug clinic, and healthy samples."""
    titles = {
        1: "The film runs backwards",
        2: "White shapes on gray",
        3: "The last picture is no noise",
        4: "Everything turns to flat gray",
        5: "The loss is low from the start",
        6: "The loss begins far above 1",
        7: "More parameters, same curve",
        8: "One boot, five answers",
        9: "Fine loss, samples are noise",
        10: "The pictures fade to black",
        11: "Grain on finished pictures",
    }
    seen: dict[str, Any] = {f"{number}  {title}": clinic()[f"seen_{number}"] for number, title in titles.items()}
    seen["For comparison: healthy"] = samples(noise(8, 3), steps=25, order=2)
    drawn, axes = viz.new_figure(8.8, 7.0, 4, 3)
    for ax, (title, what) in zip(axes, seen.items(), strict=True):
        ax.set_title(title, fontsize=10)
        if isinstance(what, Tensor):
            ax.imshow(viz.grid(what, columns=(len(what) + 1) // 2).numpy(), cmap="gray", vmin=0, vmax=255)
            ax.set_axis_off()
            continue
        curves = what if isinstance(what, dict) else {"loss": what}
        for i, losses in enumerate(curves.values()):
            ax.plot(range(1, len(losses) + 1), losses, linestyle=("-", "--")[i])
        if not isinstance(what, dict):
            ax.axhline(1, color=COLORS["black"], linestyle=":", linewidth=1.2)
        if max(max(losses) for losses in curves.values()) > 5:
            ax.set_yscale("log")
        else:
            ax.set_ylim(bottom=0)
    return drawn


@figure("06_fade")
def fade() -> Picture:
    """The slider of case 10 at some of its steps."""
    at = {step.t: step.x_t for step in clinic()["steps_10"]}
    times = (1000, 975, 950, 925, 900, 800, 500, 25)
    seen = torch.stack([at[t] for t in times], 1)
    return viz.show_rows({f"picture {i + 1}": seen[i] for i in range(len(seen))}, titles=[f"t = {t}" for t in times])


@figure("06_pipeline")
def pipeline() -> Picture:
    """Where in a program the cases of the bug clinic were, and what to ask there."""
    sheet = Sheet(9.2, 3.5)
    boxes = {
        "pictures": (0.15, 0.2, "-1 to 1?", "case 2"),
        "tables": (2.0, 0.2, "1 first, 0 last?", "cases 1, 3"),
        "mixture": (3.85, 0.2, "a² + b² = 1?", "case 4"),
        "network": (5.7, 0.2, "inputs? layers?", "cases 6, 7"),
        "loss": (7.55, 0.2, "1 at first?", "case 5"),
        "x_T": (0.15, 2.15, "spread 1?", ""),
        "network ": (2.0, 2.15, "which t? which mode?", "cases 8, 9"),
        "step": (3.85, 2.15, "lands on x_s?", "cases 4, 10"),
        "last step": (5.7, 2.15, "adds nothing?", "case 11"),
        "samples": (7.55, 2.15, "-1 to 1?", ""),
    }
    for name, (x, y, question, cases) in boxes.items():
        sheet.box(x, y, 1.5, 1.05, "#D8E6F0" if y < 1 else "#EFEDE7", COLORS["black"], linewidth=1)
        sheet.text(x + 0.75, y + 0.22, name.strip(), 11, weight="bold")
        sheet.text(x + 0.75, y + 0.54, question, 9)
        sheet.text(x + 0.75, y + 0.83, cases, 9, color=COLORS["red"])
        if x < 7:
            sheet.arrow((x + 1.53, y + 0.52), (x + 1.82, y + 0.52), COLORS["black"])
    sheet.text(0.15, 1.48, "training, from left to right", 9, ha="left")
    sheet.text(0.15, 1.98, "sampling; network and step take turns", 9, ha="left")
    return sheet.figure


# ---------------------------------------------------------------------------------------------- the files


def to_bytes(picture: Picture) -> bytes:
    """PNG as small as it gets: curves sharp for dense screens, 256 colors, at most `LIMIT`."""
    png = picture if isinstance(picture, viz.Png) else viz.figure_png(picture, 1 if _holds_pictures(picture) else 1.5)
    with Image.open(io.BytesIO(png)) as opened:
        image = opened.convert("L" if opened.mode == "L" else "RGB")
    if image.mode == "RGB":
        image = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    if buffer.tell() > LIMIT:
        raise ValueError(f"the picture has {buffer.tell():,} bytes, more than {LIMIT:,}: draw it smaller")
    return buffer.getvalue()


def _holds_pictures(drawn: viz.Figure) -> bool:
    """Rows of pictures, whose pixels must stay whole."""
    return any(axes.get_images() and not axes.axison for axes in drawn.axes)


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="files to draw, without .png; all where none is given")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to")
    parser.add_argument("--list", action="store_true", help="only list the names")
    options = parser.parse_args()
    names = [name.removesuffix(".png") for name in options.names] or list(FIGURES)
    unknown = [name for name in names if name not in FIGURES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(FIGURES)}")
    if options.list:
        print("\n".join(names))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        start = time.perf_counter()
        content = to_bytes(FIGURES[name]())
        (options.out / f"{name}.png").write_bytes(content)
        print(f"{name}.png: {len(content):,} bytes, {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
