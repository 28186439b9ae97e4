"""Pictures of tensors: pure functions that return a matplotlib figure or the bytes of a PNG.

Pictures are floats (B, C, H, W) with -1 for black and 1 for white; what lies outside is clipped, as a screen would.
No function keeps a state, draws random numbers unasked, or touches pyplot. What figures stand on is in `drawing`,
drawings of networks and kernels in `diagrams`; their functions are reached from here as well.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..data import to_uint8
from ..forward import corrupt
from ..sample import SampleStep
from ..schedule import Schedule
from ..validate import validate_choice, validate_finite, validate_number, validate_pictures
from .diagrams import KINDS, halve, layer_size, plot_halvings, plot_kernel, plot_unet
from .style import (
    CARD,
    COLORS,
    CYCLE,
    DASHES,
    DPI,
    Figure,
    Png,
    Sheet,
    encode,
    figure_png,
    figure_svg,
    new_figure,
    style,
    styled,
)

__all__ = [
    "CARD",
    "COLORS",
    "GAUGE_LIMITS",
    "GAUGE_TIP",
    "KINDS",
    "Figure",
    "Png",
    "encode",
    "figure_png",
    "figure_svg",
    "filmstrip",
    "gauge_place",
    "gauge_verdict",
    "grid",
    "halve",
    "layer_size",
    "nearest",
    "nearest_table",
    "new_figure",
    "plot_curves",
    "plot_gauge",
    "plot_halvings",
    "plot_histogram",
    "plot_kernel",
    "plot_loss",
    "plot_loss_by_timestep",
    "plot_schedules",
    "plot_time_embedding",
    "plot_trajectory",
    "plot_unet",
    "plot_variance",
    "show_features",
    "show_grid",
    "show_rows",
    "smoothed",
    "style",
    "to_gif",
    "to_png",
]


# --------------------------------------------------------------------------------------------- pictures


def grid(x: Tensor, columns: int | None = None, pad: int = 1, span: float = 1.0) -> Tensor:
    """Pictures side by side on a light gray ground.

    Args:
        x: pictures, (B, C, H, W) with C = 1 or 3, floats.
        columns: pictures in a row; about as many as there are rows where None.
        pad: pixels between and around the pictures.
        span: -span is shown black and span white.

    Returns:
        uint8 on the CPU, (rows·(H+pad)+pad, columns·(W+pad)+pad), with a last axis of 3 for color.

    Raises:
        TypeError, ValueError: not pictures, neither 1 nor 3 channels, or a number out of range.
    """
    validate_pictures(x)
    B, C, H, W = x.shape
    validate_choice("channels of x", C, (1, 3))
    columns = min(B, math.ceil(math.sqrt(B))) if columns is None else columns
    validate_number("columns", columns, 1, integer=True)
    validate_number("pad", pad, 0, integer=True)
    validate_number("span", span, 1e-9)
    rows = math.ceil(B / columns)
    small = to_uint8(x.detach().cpu() / span)
    cells = torch.full((rows * columns, C, H + pad, W + pad), 205, dtype=torch.uint8)
    cells[:B, :, :H, :W] = small
    body = cells.view(rows, columns, C, H + pad, W + pad).permute(0, 3, 1, 4, 2)
    out = torch.full((rows * (H + pad) + pad, columns * (W + pad) + pad, C), 205, dtype=torch.uint8)
    out[pad:, pad:] = body.reshape(rows * (H + pad), columns * (W + pad), C)
    return out.squeeze(2) if C == 1 else out


def to_png(x: Tensor, columns: int | None = None, scale: int = 3, pad: int = 1, span: float = 1.0) -> Png:
    """Many pictures as one PNG: the quickest way to show them.

    Args:
        x: pictures, (B, C, H, W) with C = 1 or 3, floats.
        columns: pictures in a row; about as many as there are rows where None.
        scale: each pixel becomes a square of this side.
        pad: pixels, before scaling, between and around the pictures.
        span: -span is shown black and span white.

    Raises:
        TypeError, ValueError: as `grid`.
    """
    png = encode(grid(x, columns, pad, span), scale)
    across = min(len(x), math.ceil(math.sqrt(len(x))) if columns is None else columns)
    rows = math.ceil(len(x) / across)
    png.alt = f"{_count(len(x))}{f', {across} in a row' if rows > 1 else ' in a row' if across > 1 else ''}."
    return png


def to_gif(frames: Sequence[Tensor], scale: int = 3, seconds: float = 4, hold: float = 2) -> bytes:
    """Frames one after the other as a GIF that loops: a trajectory dissolving into its samples.

    32 levels of gray, or 64 colors fitted to the last frame, keep it small.

    Args:
        frames: at least one, each uint8 (H, W) or (H, W, 3) on the CPU, such as `grid` makes; all of one shape.
        scale: each pixel becomes a square of this side.
        seconds: for all frames but the last.
        hold: seconds for the last.

    Raises:
        TypeError, ValueError: no frames, frames that are not uint8 or differ in shape, or a scale below 1.
    """
    if not frames:
        raise ValueError("frames must hold at least one picture, got none")
    for pixels in frames:
        if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8:
            got = pixels.dtype if isinstance(pixels, Tensor) else type(pixels).__name__
            raise TypeError(f"frames must hold uint8 tensors, got {got}; make them with course_lib.viz.grid")
        if pixels.shape != frames[0].shape or pixels.ndim not in (2, 3):
            raise ValueError(
                f"frames must all have one shape, (H, W) or (H, W, 3), got {tuple(frames[0].shape)} and "
                f"{tuple(pixels.shape)}"
            )
    validate_number("scale", scale, 1, integer=True)
    images = [Image.fromarray(pixels.numpy()) for pixels in frames]
    palette = images[-1].quantize(64, method=Image.Quantize.FASTOCTREE) if images[-1].mode == "RGB" else None
    small = [
        image.quantize(palette=palette, dither=Image.Dither.NONE)
        if palette
        else image.point([g // 8 * 255 // 31 for g in range(256)])
        for image in images
    ]
    large = [image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST) for image in small]
    each = max(20, round(1000 * seconds / max(len(large) - 1, 1)))  # browsers slow down what is faster than 20 ms
    durations = [each] * (len(large) - 1) + [round(1000 * hold)]
    buffer = io.BytesIO()
    large[0].save(buffer, "GIF", save_all=True, append_images=large[1:], duration=durations, loop=0)
    return buffer.getvalue()


def _mosaic(
    rows: Sequence[Tensor],
    labels: Sequence[str] | None = None,
    titles: Sequence[str] | None = None,
    captions: Sequence[Sequence[str]] | None = None,
    title: str | None = None,
    span: float = 1.0,
) -> Figure:
    """Rows of pictures on a card: labels at the left, titles over the columns, captions under (or over) each picture.

    A picture's pixels become whole pixels of the figure, so that none is wider than its neighbor.
    """
    C, H, W = (max(x.shape[i] for x in rows) for i in (1, 2, 3))
    columns = max(len(x) for x in rows)
    margin = 0 if labels is None else 14 + max(round(7.4 * max(map(len, label.split("\n")))) for label in labels)
    scale = max(1, min(140, (980 - margin) // columns - 4) // W)
    wide, high, gap = W * scale, H * scale, 4
    above, below = (22 if titles else 0), (17 if captions else 0)
    top = 6 + (24 if title else 0) + above
    width = margin + columns * (wide + gap) + gap
    height = top + len(rows) * (high + below + gap) + 4
    sheet = Sheet(width / DPI, height / DPI)
    axes = sheet.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for r, x in enumerate(rows):
        y = top + r * (high + below + gap)
        if x.shape[2:] != (H, W):
            x = F.interpolate(x.float(), (H, W), mode="nearest-exact")
        for c, picture in enumerate(to_uint8(x.detach().cpu().float() / span).expand(-1, max(C, 3), -1, -1)):
            left = margin + gap + c * (wide + gap)
            extent = (left, left + wide, y + high, y)
            axes.imshow(picture.permute(1, 2, 0).numpy(), extent=extent, interpolation="nearest", aspect="auto")
            if captions:
                sheet.text((left + wide / 2) / DPI, (y + high + 9) / DPI, captions[r][c], 8.5)
        if labels is not None:
            sheet.text((margin - 4) / DPI, (y + high / 2) / DPI, labels[r], 10, ha="right")
    axes.set(xlim=(0, width), ylim=(height, 0))
    for c, words in enumerate(titles or ()):
        sheet.text((margin + gap + c * (wide + gap) + wide / 2) / DPI, (top - 10) / DPI, words, 9)
    if title:
        sheet.text((margin + gap) / DPI, 15 / DPI, title, 11, ha="left")
    sheet.figure.alt = _mosaic_words(rows, labels, titles, captions, title)
    return sheet.figure


def _count(number: int, what: str = "picture") -> str:
    """A number with its noun."""
    return f"{number} {what}{'s' * (number != 1)}"


def _mosaic_words(
    rows: Sequence[Tensor],
    labels: Sequence[str] | None,
    titles: Sequence[str] | None,
    captions: Sequence[Sequence[str]] | None,
    title: str | None,
) -> str:
    """Rows of pictures in words: how many, and everything that is written beside them."""
    start = f"{title}: " if title else ""
    if labels:
        named = "; ".join(f"{' '.join(label.split())}, {_count(len(x))}" for label, x in zip(labels, rows, strict=True))
        parts = [f"{start}{_count(len(rows), 'row')} of pictures, from top to bottom: {named}."]
    else:
        parts = [f"{start}{_count(sum(map(len, rows)))} in {_count(len(rows), 'row')}."]
    if titles:
        parts.append(f"The columns: {', '.join(titles)}.")
    below = [words for row in captions or () for words in row if words]
    if below:
        parts.append(f"Below the pictures: {', '.join(below)}.")
    return " ".join(parts)


@styled
def show_grid(
    x: Tensor, titles: Sequence[str] | None = None, columns: int = 8, title: str | None = None, span: float = 1.0
) -> Figure:
    """Pictures in a grid, each with its own title below it.

    Args:
        x: pictures, (B, C, H, W) with C = 1 or 3, floats.
        titles: one for each picture, or None.
        columns: pictures in a row.
        title: of the whole.
        span: -span is shown black and span white.

    Raises:
        TypeError, ValueError: not pictures, or titles of another number.
    """
    validate_pictures(x)
    validate_number("columns", columns, 1, integer=True)
    if titles is not None and len(titles) != len(x):
        raise ValueError(f"titles must have one entry per picture, {len(x)}, got {len(titles)}")
    captions = None if titles is None else [titles[i : i + columns] for i in range(0, len(x), columns)]
    return _mosaic(x.split(columns), captions=captions, title=title, span=span)


@styled
def show_rows(
    rows: Mapping[str, Tensor], titles: Sequence[str] | None = None, title: str | None = None, span: float = 1.0
) -> Figure:
    """Rows of pictures with a label to the left of each row and a title above each column.

    Args:
        rows: label to pictures, (B, C, H, W) with C = 1 or 3; rows may differ in length, and smaller pictures are
            enlarged to the size of the largest.
        titles: one for each column, or None.
        title: of the whole.
        span: -span is shown black and span white.

    Raises:
        TypeError, ValueError: nothing to show, not pictures, or titles of another number.
    """
    _validate_rows(rows)
    columns = max(len(x) for x in rows.values())
    if titles is not None and len(titles) != columns:
        raise ValueError(f"titles must have one entry per column, {columns}, got {len(titles)}")
    return _mosaic(list(rows.values()), list(rows), titles, title=title, span=span)


def _validate_rows(rows: Mapping[str, Tensor]) -> None:
    if not rows:
        raise ValueError("rows must hold at least one label with pictures, got none")
    for label, x in rows.items():
        validate_pictures(x, f"rows[{label!r}]")
        validate_choice(f"channels of rows[{label!r}]", x.shape[1], (1, 3))


@styled
def filmstrip(
    x: Tensor,
    amounts: Sequence[float] | None = None,
    noise: str | Tensor = "gaussian",
    generator: torch.Generator | None = None,
) -> Figure:
    """Pictures drowning in noise: a row for each picture, a column for each amount, the same noise along a row.

    Args:
        x: pictures, (B, C, H, W), floats in [-1, 1].
        amounts: from 0 to 1; eleven evenly spaced ones where None.
        noise: "gaussian", "uniform", or the noise itself, shaped like x.
        generator: source of the noise.

    Raises:
        TypeError, ValueError: as `corrupt`.
    """
    amounts = [i / 10 for i in range(11)] if amounts is None else list(amounts)
    _, used = corrupt(x, 1.0, noise, generator=generator)
    mixed = [corrupt(x, float(amount), used)[0] for amount in amounts]
    rows = [torch.stack([column[i] for column in mixed]) for i in range(len(x))]
    figure = _mosaic(rows, titles=[f"{amount:.2g}" for amount in amounts])
    figure.alt = (
        f"{_count(len(x))} drowning in noise, each in a row of its own; the amount of noise in the "
        f"{_count(len(amounts), 'column')}: {', '.join(f'{amount:.2g}' for amount in amounts)}."
    )
    return figure


def show_features(h: Tensor, columns: int = 8, title: str | None = None) -> Figure:
    """Feature maps, each stretched to its own range from black to white.

    Args:
        h: maps, (C, H, W) or (1, C, H, W), floats.
        columns: maps in a row.
        title: of the whole.

    Raises:
        ValueError: more than one picture's maps, or another number of dimensions.
    """
    if h.ndim == 4 and len(h) == 1:
        h = h[0]
    if h.ndim != 3:
        raise ValueError(f"h must hold the maps of one picture, (C, H, W) or (1, C, H, W), got {tuple(h.shape)}")
    low, high = h.amin((1, 2), keepdim=True), h.amax((1, 2), keepdim=True)
    stretched = 2 * (h - low) / (high - low).clamp(min=1e-12) - 1
    figure = show_grid(stretched[:, None].float(), columns=columns, title=title)
    start = f"{title}: " if title else ""
    maps = _count(len(h), "feature map")
    figure.alt = f"{start}{maps} of {h.shape[1]}×{h.shape[2]}, each stretched to its own range from black to white."
    return figure


# ----------------------------------------------------------------------------------------------- curves


def _list(values: Any) -> list[float]:
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
        xlabel: under the horizontal axis.
        ylabel: beside the vertical axis.
        title: above.
        logy: vertical axis in powers of ten.
        mark: where to draw a vertical line.
        size: width and height in inches.
    """
    figure, (ax,) = new_figure(*size)
    for i, (label, (xs, ys)) in enumerate(curves.items()):
        ax.plot(_list(xs), _list(ys), label=label, linestyle=DASHES[i % len(DASHES)])
    for i, (label, point) in enumerate((dots or {}).items()):
        error = _list(point[2]) if len(point) > 2 else None
        ax.errorbar(
            _list(point[0]),
            _list(point[1]),
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
        errors: its standard errors, or None.
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
    """How often each pixel value occurs, against the normal curve N(0, 1).

    Args:
        values: a tensor of any shape, or label to tensor.
        normal: draw the normal curve.
        title: above.
        bins: about how many bins.

    Raises:
        ValueError: values that are NaN or infinite.
    """
    named = {"": values} if isinstance(values, Tensor) else dict(values)
    flat = {label: tensor.detach().cpu().float().flatten() for label, tensor in named.items()}
    for label, tensor in flat.items():
        validate_finite(tensor, label or "values")
    low, high = min(float(v.min()) for v in flat.values()), max(float(v.max()) for v in flat.values())
    if normal:
        low, high = min(low, -4.0), max(high, 4.0)
    width = 2.0 ** round(math.log2(max(high - low, 1e-6) / bins))  # so that -1, 0 and 1 are edges
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


# -------------------------------------------------------------------------------------------- schedules


def _schedules(schedules: Schedule | Sequence[Schedule]) -> list[Schedule]:
    found = [schedules] if isinstance(schedules, Schedule) else list(schedules)
    if not found or not all(isinstance(s, Schedule) for s in found):
        raise TypeError(
            "schedules must be a Schedule or a list of them; make one with course_lib.schedule.make_schedule"
        )
    return found


@styled
def plot_schedules(schedules: Schedule | Sequence[Schedule], t: int | None = None) -> Figure:
    """Signal, noise and signal-to-noise ratio against the timestep.

    Args:
        schedules: one or several.
        t: where to put a marker, or None.

    Raises:
        TypeError, ValueError: not schedules, or t out of range.
    """
    named = _schedules(schedules)
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


#: Below the first number x_T is noise for all that a network can tell; above the second the picture can be seen in it.
GAUGE_LIMITS = (0.02, 0.1)
_GAUGE_WORDS = 0.32  # inches for the words above the scale


def gauge_verdict(schedule: Schedule) -> str:
    """Whether x_T is noise alone, in words.

    Args:
        schedule: the tables a and b; what counts is a_T, which is √ᾱ_T on a DDPM schedule.
    """
    a = float(schedule.signal[-1])
    low, high = GAUGE_LIMITS
    if a == 0:
        return "x_T is noise alone: nothing of the picture is left."
    if a < low:
        return f"x_T is noise for every practical purpose: {a:.4f} of the picture is left."
    if a < high:
        hidden = "Nobody sees it, but a network can tell bright pictures from dark ones."
        return f"Careful: {a:.3f} of the picture is left in x_T. {hidden}"
    return (
        f"x_T still holds the picture: {a:.2f} of it is left. Sampling starts from pure noise, which the network "
        "then never saw at t = T. Use more steps or a steeper schedule."
    )


#: Where a needle on the bare scale points, in points from its top.
GAUGE_TIP = 72 * (0.62 - _GAUGE_WORDS)


def gauge_place(a: Tensor) -> Tensor:
    """Where a_T stands on the gauge, in points from its left edge.

    Args:
        a: any shape, in [0, 1].
    """
    return 72 * (0.3 + 5.8 * a.sqrt())  # a square root leaves room for the small numbers, which matter


@styled
def plot_gauge(schedule: Schedule | None = None) -> Figure:
    """A gauge of what is left of the picture in x_T, a_T = √ᾱ_T, with a verdict in a word.

    Args:
        schedule: the tables a and b; None for the scale alone, on which a needle can be put.
    """
    low, high = GAUGE_LIMITS
    up = 0 if schedule else _GAUGE_WORDS
    sheet = Sheet(6.4, 1.35 - up)

    def at(value: float) -> float:
        return float(gauge_place(torch.tensor(value, dtype=torch.float64))) / 72

    for left, right, fill, hatch in ((0, low, "#8FD3BF", ""), (low, high, "#F2CF86", "//"), (high, 1, "#E39A9A", "xx")):
        sheet.box(at(left), 0.58 - up, at(right) - at(left), 0.28, fill, "#555555", hatch=hatch, linewidth=0.8)
    for value in (0, 0.02, 0.1, 0.25, 0.5, 0.75, 1):
        sheet.text(at(value), 0.97 - up, f"{value:g}", 9)
    sheet.text(3.2, 1.2 - up, "a_T: what is left of the picture in x_T", 9)
    if schedule is None:
        return sheet.figure
    a = float(schedule.signal[-1])
    sheet.arrow((at(a), 0.42), (at(a), 0.72), COLORS["black"], width=3)
    sheet.text(0.3, 0.2, f"{schedule.name}, T = {schedule.T}:  a_T = {a:.4f}", 11, ha="left", weight="bold")
    word = "noise" if a < low else "careful" if a < high else "still holds the picture"
    sheet.figure.alt = (
        f"A gauge of a_T, what is left of the picture in x_T, from 0 to 1: noise up to {low:g}, careful up to "
        f"{high:g}, above that it still holds the picture. For {schedule.name}, T = {schedule.T}, the needle stands "
        f"at {a:.4f}: {word}."
    )
    sheet.text(6.1, 0.2, word, 11, COLORS["black" if a < high else "red"], ha="right", weight="bold")
    return sheet.figure


# --------------------------------------------------------------------------------------------- training


def smoothed(losses: Sequence[float], smooth: float = 0.98) -> list[float]:
    """Running mean m ← smooth·m + (1 − smooth)·loss, divided by 1 − smooth^n so that the start is not too low.

    Args:
        losses: one number per update.
        smooth: in [0, 1); 0.98 averages over about 50 updates.
    """
    validate_number("smooth", smooth, 0, 1 - 1e-9)
    out, mean, weight = [], 0.0, 0.0
    for loss in losses:
        mean = smooth * mean + (1 - smooth) * float(loss)
        weight = smooth * weight + (1 - smooth)
        out.append(mean / weight)
    return out


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
        smooth: strength of the running mean, as `smoothed`.
        reference: label to height of a horizontal line.
        logy: vertical axis in powers of ten.
        title: above.
        size: width and height in inches.
    """
    named = dict(losses) if isinstance(losses, Mapping) else {"": losses}
    figure = Figure(*size)
    ax = figure.subplots(
        gridspec_kw={"left": 0.14 if logy else 0.1, "right": 0.98, "bottom": 0.5 / size[1], "top": 1 - 0.3 / size[1]}
    )
    for i, (label, raw) in enumerate(named.items()):
        values, color = _list(raw), COLORS[CYCLE[i % len(CYCLE)]]
        steps = range(1, len(values) + 1)
        ax.plot(steps, values, color=color, alpha=0.3, linewidth=0.8)
        ax.plot(steps, smoothed(values, smooth), color=color, linestyle=DASHES[i % 4], label=label or "running mean")
    for label, height in (reference or {}).items():
        ax.axhline(height, color=COLORS["black"], linewidth=1.2, linestyle=":", label=label)
    ax.set(xlabel="update", ylabel="loss")
    heights = [loss for raw in named.values() for loss in _list(raw)] + list((reference or {}).values())
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
    """Mean loss of each stretch of timesteps, with its standard error.

    Args:
        t: timestep of each picture, (B,), in 1..T.
        loss: loss of each picture, (B,).
        T: number of noising steps.
        bins: number of stretches.

    Raises:
        ValueError: t and loss of different length.
    """
    if t.shape != loss.shape or t.ndim != 1:
        raise ValueError(f"t and loss must both have shape (B,), got {tuple(t.shape)} and {tuple(loss.shape)}")
    where = ((t.cpu() - 1) * bins // T).clamp(0, bins - 1)
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
        t: the timesteps of its rows; 0, 1, .. where None.

    Raises:
        ValueError: not two dimensions, or t of another length.
    """
    if embedding.ndim != 2:
        raise ValueError(f"embedding must have shape (number of timesteps, dim), got {tuple(embedding.shape)}")
    n, dim = embedding.shape
    times = list(range(n)) if t is None else _list(t)
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
    lines.set(xlabel="timestep t", title="some entries: quick and slow waves", ylim=(-1.15, 1.75))
    lines.legend(ncols=2, loc="upper right")
    return figure


# ---------------------------------------------------------------------------------------------- samples


def plot_trajectory(steps: Sequence[SampleStep], columns: int = 9, index: int = 0) -> Figure:
    """How one sample came about: x_t above, the network's guess at the picture below.

    Args:
        steps: of a whole run, in order.
        columns: how many of them to show, evenly spaced, with the first and the last.
        index: which picture of the batch.

    Raises:
        ValueError: no steps, or a number out of range.
    """
    steps = list(steps)
    if not steps:
        raise ValueError("steps must hold at least one step; make them with list(course_lib.sample.trajectory(...))")
    validate_number("columns", columns, 1, integer=True)
    validate_number("index", index, 0, len(steps[0].x_t) - 1, integer=True)
    count = min(columns, len(steps))
    chosen = [steps[round(i * (len(steps) - 1) / max(count - 1, 1))] for i in range(count)]
    last = steps[-1]
    noisy = torch.stack([step.x_t[index] for step in chosen] + [last.x_s[index]])
    clean = torch.stack([step.x0_hat[index] for step in chosen])
    titles = [f"t = {step.t}" for step in chosen] + [f"t = {last.s}"]
    figure = show_rows({"x_t": noisy, "x0_hat": clean}, titles)
    figure.alt = (
        f"How one sample came about, in {_count(len(titles), 'column')}: {', '.join(titles)}. Above x_t, noise that "
        "turns into a picture; below x0_hat, what the network takes the picture for at that timestep."
    )
    return figure


def nearest(samples: Tensor, training: Tensor, k: int = 3) -> tuple[Tensor, Tensor]:
    """The training pictures nearest to each sample, by the Euclidean distance of their pixels.

    Args:
        samples: (B, C, H, W), floats.
        training: (N, C, H, W), floats in [-1, 1].
        k: how many for each sample, 1..N.

    Returns:
        Distances (B, k), rising, and indices into training (B, k), int64.

    Raises:
        TypeError, ValueError: not pictures, shapes that differ, k out of range.
    """
    validate_pictures(samples, "samples")
    validate_pictures(training, "training")
    if samples.shape[1:] != training.shape[1:]:
        raise ValueError(
            "samples and training must have pictures of one shape, "
            f"got {tuple(samples.shape[1:])} and {tuple(training.shape[1:])}"
        )
    validate_number("k", k, 1, len(training), integer=True)
    flat = samples.flatten(1).float()
    parts = [torch.cdist(flat, part.flatten(1).to(flat)) for part in training.split(8192)]
    distances, index = torch.cat(parts, dim=1).topk(k, largest=False)
    return distances, index


@styled
def nearest_table(samples: Tensor, training: Tensor, k: int = 3) -> Figure:
    """Each sample beside the training pictures nearest to it, with their distances.

    Args:
        samples: (B, C, H, W), floats; up to about 10.
        training: (N, C, H, W), floats in [-1, 1].
        k: neighbors of each sample.

    Raises:
        TypeError, ValueError: as `nearest`.
    """
    distances, index = nearest(samples, training, k)
    rows, labels, captions = [samples], ["sample"], [[""] * len(samples)]
    for j in range(k):
        rows.append(training[index[:, j].to(training.device)])
        labels.append(["nearest", "2nd nearest", "3rd nearest"][j] if j < 3 else f"{j + 1}th nearest")
        captions.append([f"{distance:.1f}" for distance in distances[:, j].tolist()])
    figure = _mosaic(rows, labels, captions=captions)
    found = "; ".join(", ".join(f"{d:.1f}" for d in each) for each in distances.tolist())
    figure.alt = (
        f"{_count(len(samples), 'sample')} in the first row; below each the {_count(k, 'training picture')} nearest to "
        f"it, at the distances {found}."
    )
    return figure
