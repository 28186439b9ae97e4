"""Plots: curves, variances, histograms, schedules, losses, the time embedding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..objective import smoothed
from ..schedule import Schedule, validate_schedule
from ..validate import validate_finite, validate_number
from .style import COLORS, CYCLE, DASHES, Figure, new_figure, styled


def _floats(values: Any) -> list[float]:
    """Numbers from a tensor, an array or a list."""
    values = values.detach().cpu() if isinstance(values, Tensor) else values
    return torch.as_tensor(values, dtype=torch.float64).flatten().tolist()


@styled
def plot_curves(
    curves: Mapping[str, tuple[Any, Any]],
    dots: Mapping[str, Sequence[Any]] | None = None,
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str | None = None,
    logy: bool = False,
    mark: float | None = None,
    size: tuple[float, float] = (6.4, 3.6),
) -> Figure:
    """Curves, and measured dots with error bars.

    Args:
        curves: label to (x, y), tensors or lists.
        dots: label to (x, y) or (x, y, error).
        xlabel: words under the horizontal axis.
        ylabel: words beside the vertical axis.
        title: words above the plot.
        logy: show the vertical axis in powers of ten.
        mark: where to draw a vertical line, or None.
        size: width and height in inches.
    """
    figure, (ax,) = new_figure(*size)
    for i, (label, (xs, ys)) in enumerate(curves.items()):
        ax.plot(_floats(xs), _floats(ys), label=label, linestyle=DASHES[i % len(DASHES)])
    for i, (label, point) in enumerate((dots or {}).items()):
        error = _floats(point[2]) if len(point) > 2 else None
        ax.errorbar(
            _floats(point[0]),
            _floats(point[1]),
            error,
            label=label,
            fmt="osD^"[i % 4],
            color=COLORS[("black", "orange", "green", "purple")[i % 4]],
            markersize=4.5,
            capsize=2.5,
            elinewidth=1,
            zorder=5,
        )
    if mark is not None:
        ax.axvline(mark, color=COLORS["red"], linewidth=1.2)
    if logy:
        ax.set_yscale("log")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if title:
        ax.set_title(title)
    if len(curves) + len(dots or {}) > 1:
        ax.legend()
    return figure


def plot_variance(
    amounts: Any,
    measured: Any,
    errors: Any = None,
    *,
    picture_variance: float,
    noise_variance: float = 1.0,
) -> Figure:
    """Variance of the mixture of picture and noise against the amount of noise.

    Picture and noise are independent, so with linear weights Var = (1−u)²·Var(x) + u²·Var(noise), which sags in
    the middle; with the weights √(1−u) and √u it is (1−u)·Var(x) + u·Var(noise), a straight line.

    Args:
        amounts: u of each measurement, in [0, 1].
        measured: the variance found there.
        errors: their standard errors, or None.
        picture_variance: Var(x).
        noise_variance: Var(noise): 1 for Gaussian, 1/3 for uniform noise on [-1, 1].
    """
    u = torch.linspace(0, 1, 201, dtype=torch.float64)
    curves = {
        "weights 1−u and u: predicted": (u, (1 - u) ** 2 * picture_variance + u**2 * noise_variance),
        "weights √(1−u) and √u": (u, (1 - u) * picture_variance + u * noise_variance),
    }
    point = (amounts, measured) if errors is None else (amounts, measured, errors)
    figure = plot_curves(curves, {"measured": point}, xlabel="amount of noise u", ylabel="variance of the mixture")
    figure.axes[0].set_ylim(bottom=0)
    return figure


@styled
def plot_histogram(
    values: Tensor | Mapping[str, Tensor], normal: bool = True, title: str | None = None, bins: int = 60
) -> Figure:
    """How often each pixel value occurs, beside the normal curve N(0, 1).

    Args:
        values: a tensor of any shape, or label to tensor.
        normal: draw the normal curve.
        title: words above the plot.
        bins: roughly how many bins; their width is a power of two.
    """
    named = {"": values} if isinstance(values, Tensor) else dict(values)
    flat = {label: tensor.detach().cpu().float().flatten() for label, tensor in named.items()}
    validate_number("bins", bins, 1, integer=True)
    for label, tensor in flat.items():
        validate_finite(tensor, label or "values")
    low, high = min(float(v.min()) for v in flat.values()), max(float(v.max()) for v in flat.values())
    if normal:
        low, high = min(low, -4.0), max(high, 4.0)
    width = 2.0 ** round(math.log2(max(high - low, 1e-6) / bins))  # with a power of two, -1, 0 and 1 are edges of bins
    low, bins = math.floor(low / width) * width, math.floor(high / width) - math.floor(low / width) + 1
    high = low + bins * width
    edges = torch.linspace(low, high, bins + 1)
    figure, (ax,) = new_figure(6.4, 3.2)
    for i, (label, v) in enumerate(flat.items()):
        density = torch.histc(v, bins, low, high) / (len(v) * width)
        color = COLORS[CYCLE[i % len(CYCLE)]]
        ax.stairs(density.tolist(), edges.tolist(), fill=True, alpha=0.25, color=color)
        ax.stairs(
            density.tolist(), edges.tolist(), label=label or None, color=color, linewidth=1.5, linestyle=DASHES[i % 4]
        )
    if normal:
        z = torch.linspace(low, high, 300)
        curve = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
        ax.plot(z.tolist(), curve.tolist(), color=COLORS["black"], linestyle=":", label="N(0, 1)")
    ax.set(xlabel="pixel value", ylabel="density")
    if title:
        ax.set_title(title)
    if normal or any(flat):
        ax.legend()
    return figure


def as_schedules(schedules: Schedule | Sequence[Schedule]) -> list[Schedule]:
    """One schedule or several as a list."""
    found: list[Any] = list(schedules) if isinstance(schedules, list | tuple) else [schedules]
    if not found:
        raise ValueError("schedules must hold at least one schedule, got none")
    for schedule in found:
        validate_schedule(schedule, "schedules")
    return found


@styled
def plot_schedules(schedules: Schedule | Sequence[Schedule], t: int | None = None) -> Figure:
    """Signal, noise and signal-to-noise ratio against the timestep.

    Args:
        schedules: one or several.
        t: the timestep to mark, or None.
    """
    named = as_schedules(schedules)
    figure, axes = new_figure(8.4, 2.7, 1, 3)
    tables = [[(s.signal, s.noise, s.snr.log10())[i] for s in named] for i in range(3)]
    for ax, title, curves in zip(axes, ("signal a", "noise b", "log₁₀ of a²/b²"), tables, strict=True):
        for i, (schedule, y) in enumerate(zip(named, curves, strict=True)):
            first = int(torch.isinf(y[0]))
            y = y.masked_fill(torch.isinf(y), float("nan"))
            color = COLORS[CYCLE[i % len(CYCLE)]]
            xs = range(first, schedule.T + 1)
            ax.plot(xs, y[first:].tolist(), label=schedule.name, color=color, linestyle=DASHES[i % len(DASHES)])
            if t is not None:
                schedule.validate_t(t)
                ax.plot([t], [float(y[t])], "o", color=color, markersize=6, markeredgecolor=COLORS["black"])
        if t is not None:
            ax.axvline(t, color=COLORS["red"], linewidth=1.2)
        ax.set_title(title)
        ax.set_xlabel("timestep t")
    axes[2].set_ylim(-6, 4)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def plot_loss(
    losses: Sequence[float] | Mapping[str, Sequence[float]],
    *,
    smooth: float = 0.98,
    reference: Mapping[str, float] | None = None,
    logy: bool = False,
    title: str | None = None,
    size: tuple[float, float] = (6.4, 3.2),
) -> Figure:
    """Loss against the number of updates: every value faint, a running mean strong.

    Args:
        losses: one number per update, or label to such a list.
        smooth: strength of the running mean, as `course_lib.objective.smoothed`.
        reference: label to height of a horizontal line.
        logy: show the vertical axis in powers of ten.
        title: words above the plot.
        size: width and height in inches.
    """
    named = dict(losses) if isinstance(losses, Mapping) else {"": losses}
    figure = Figure(*size)
    ax = figure.subplots(
        gridspec_kw={"left": 0.14 if logy else 0.1, "right": 0.98, "bottom": 0.5 / size[1], "top": 1 - 0.3 / size[1]}
    )
    for i, (label, raw) in enumerate(named.items()):
        values, color = _floats(raw), COLORS[CYCLE[i % len(CYCLE)]]
        steps = range(1, len(values) + 1)
        ax.plot(steps, values, color=color, alpha=0.3, linewidth=0.8)
        ax.plot(steps, smoothed(values, smooth), color=color, linestyle=DASHES[i % 4], label=label or "running mean")
    for label, height in (reference or {}).items():
        ax.axhline(height, color=COLORS["black"], linewidth=1.2, linestyle=":", label=label)
    ax.set(xlabel="update", ylabel="loss")
    heights = [loss for raw in named.values() for loss in _floats(raw)] + list((reference or {}).values())
    top = max((h for h in heights if math.isfinite(h)), default=1.0)
    if logy:
        ax.set_yscale("log")
        ax.set_ylim(top=2 * top)
    else:
        ax.set_ylim(0, 1.5 * top)
    if title:
        ax.set_title(title)
    ax.legend(loc="lower left" if logy else "upper right")
    return figure


@styled
def plot_loss_by_timestep(t: Tensor, loss: Tensor, T: int, bins: int = 20) -> Figure:
    """Mean loss in each interval of timesteps, with its standard error.

    Args:
        t: timestep of each picture, (B,), in 1..T.
        loss: loss of each picture, (B,).
        T: number of noising steps.
        bins: number of intervals.
    """
    if t.shape != loss.shape or t.ndim != 1:
        raise ValueError(f"t and loss must both have shape (B,), got {tuple(t.shape)} and {tuple(loss.shape)}")
    validate_number("bins", bins, 1, integer=True)
    if not 1 <= int(t.min()) <= int(t.max()) <= T:
        raise ValueError(f"t must lie in 1..{T}, got {int(t.min())}..{int(t.max())}")
    where = (t.cpu() - 1) * bins // T
    loss = loss.detach().cpu().double()
    xs, ys, errors = [], [], []
    for i in range(bins):
        inside = loss[where == i]
        if len(inside):
            xs.append((i + 0.5) * T / bins)
            ys.append(float(inside.mean()))
            errors.append(float(inside.std() / math.sqrt(len(inside))) if len(inside) > 1 else 0.0)
    figure, (ax,) = new_figure(6.4, 3.2)
    ax.bar(xs, ys, width=0.9 * T / bins, color=COLORS["sky"], edgecolor=COLORS["blue"])
    ax.errorbar(xs, ys, errors, fmt="none", ecolor=COLORS["black"], capsize=2, elinewidth=1)
    ax.set(xlabel="timestep t", ylabel="mean loss", xlim=(0, T))
    return figure


@styled
def plot_time_embedding(embedding: Tensor, t: Tensor | None = None) -> Figure:
    """A time embedding as a heat map, and some of its entries as curves.

    Args:
        embedding: (number of timesteps, dim), such as `sinusoidal_embedding(t, dim)`.
        t: the timesteps of its rows; None for 0, 1, …
    """
    if embedding.ndim != 2:
        raise ValueError(f"embedding must have shape (number of timesteps, dim), got {tuple(embedding.shape)}")
    n, dim = embedding.shape
    times = list(range(n)) if t is None else _floats(t)
    if len(times) != n:
        raise ValueError(f"t must have one entry per row of embedding, {n}, got {len(times)}")
    figure, (heat, lines) = new_figure(8.4, 3.2, 1, 2)
    values = embedding.detach().cpu().float()
    extent = (-0.5, dim - 0.5, times[-1], times[0])
    image = heat.imshow(
        values.numpy(), aspect="auto", cmap="cividis", extent=extent, vmin=-1, vmax=1, interpolation="nearest"
    )
    heat.set(xlabel="entry of the embedding", ylabel="timestep t", title="one row for each timestep")
    heat.grid(False)
    figure.colorbar(image, ax=heat, shrink=0.9, pad=0.02)
    for i, entry in enumerate(sorted({round(share * dim / 2) for share in (0.35, 0.5, 0.65, 0.8)})):
        lines.plot(times, values[:, entry].tolist(), label=f"entry {entry}", linestyle=DASHES[i % 4], linewidth=1.5)
    lines.set(xlabel="timestep t", title="some entries: fast and slow waves", ylim=(-1.15, 1.75))
    lines.legend(ncols=2, loc="upper right")
    return figure
