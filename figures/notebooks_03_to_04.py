"""Pictures of notebooks 03 and 04."""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor
from torch.distributions import Normal

from course_lib import viz
from course_lib.blocks import sinusoidal_embedding
from course_lib.forward import q_posterior, q_sample, q_step
from course_lib.objective import denoising_loss
from course_lib.optim import make_optimizers
from course_lib.runtime import make_generator
from course_lib.sample import predict, sample
from course_lib.schedule import SCHEDULES, from_betas, linear_betas, make_schedule, sampling_times
from course_lib.shapes import trace
from course_lib.train import EMA, TrainConfig, train
from course_lib.unet import UNet
from course_lib.viz import COLORS, styled
from ingredients import FIGURES, Picture, figure, noise, one_of_each, pictures, shipped, stack


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


@figure("03_schedule_rows")
def schedule_rows() -> Picture:
    x0, times = one_of_each()[9:10], list(range(0, 1001, 100))
    eps = noise(1, 1)
    rows = {}
    for name in SCHEDULES[:4]:
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


FIGURES.update(
    {
        "03_schedules": lambda: viz.plot_schedules(
            [make_schedule(name) for name in ("linear", "quadratic", "sigmoid", "cosine")], t=500
        ),
        "04_unet": lambda: viz.plot_unet(trace(UNet(), torch.zeros(1, 1, 28, 28), torch.tensor([1]), depth=2)),
        "04_loss": lambda: viz.plot_loss(short_run()[0], smooth=0.9, reference={"predicting 0": 1.0}),
    }
)
