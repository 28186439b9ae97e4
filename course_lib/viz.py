"""Pictures of tensors: pure functions that return a matplotlib figure or the bytes of a PNG.

Pictures are floats (B, C, H, W) with -1 for black and 1 for white; what lies outside is clipped, as a screen would.
No function here keeps a state, draws random numbers unasked, or touches pyplot, so nothing is ever shown twice.
Figures stand on a light card of their own and keep their contrast on light and dark pages and in gray.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from itertools import pairwise
from typing import Any, ParamSpec, TypeVar

import matplotlib
import matplotlib.figure
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle
from PIL import Image, ImageDraw
from torch import Tensor

from .data import to_uint8
from .forward import corrupt
from .sample import SampleStep
from .schedule import Schedule
from .shapes import LayerShape, conv_out, conv_transpose_out, nearest_sizes, pool_out
from .validate import check_choice, check_number, check_pictures

#: Colors that people with any kind of color vision can tell apart (Okabe & Ito 2008), darkened where text needs it.
COLORS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "purple": "#AA4A85",
    "sky": "#56B4E9",
    "yellow": "#E69F00",
    "black": "#222222",
    "gray": "#8A8A8A",
    "red": "#C81E1E",
}
CARD = "#FBFAF7"
#: Lines differ in dashes as well as in color, for print in gray.
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
_CYCLE = ("blue", "orange", "green", "purple", "yellow", "sky")
_STYLE = {
    "figure.facecolor": CARD,
    "savefig.facecolor": CARD,
    "axes.facecolor": CARD,
    "axes.edgecolor": "#777777",
    "axes.labelcolor": "#222222",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.prop_cycle": matplotlib.cycler(color=[COLORS[name] for name in _CYCLE]),
    "grid.color": "#DDDBD5",
    "grid.linewidth": 0.7,
    "text.color": "#222222",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 2,
    "hatch.linewidth": 0.6,
}
_DPI = 100
P = ParamSpec("P")
R = TypeVar("R")


class Png(bytes):
    """The bytes of a PNG; Jupyter shows them as a picture."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return struct.unpack(">II", self[16:24])

    def _repr_png_(self) -> bytes:
        return bytes(self)

    def __repr__(self) -> str:
        return f"Png({self.size[0]}×{self.size[1]} pixels, {len(self):,} bytes)"

    __str__ = __repr__

    def pixels(self) -> Tensor:
        """The decoded pixels, uint8, (H, W) or (H, W, 3)."""
        image = Image.open(io.BytesIO(self))
        bands = len(image.getbands())
        flat = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return (
            flat.view(image.height, image.width, bands).squeeze(2)
            if bands == 1
            else flat.view(image.height, image.width, bands)
        )


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure in the course's style that shows itself in Jupyter, sharp on any screen."""

    def draw(self, renderer: Any) -> None:
        with style():
            super().draw(renderer)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        width, height = (round(inches * _DPI) for inches in self.get_size_inches())
        return bytes(figure_png(self, 2)), {"width": width, "height": height}


def style() -> AbstractContextManager[None]:
    """The course's matplotlib style as a context: fonts, colors that survive color blindness, a light card."""
    return matplotlib.rc_context(_STYLE)


def _styled(function: Callable[P, R]) -> Callable[P, R]:
    @wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with style():
            return function(*args, **kwargs)

    return inner


@_styled
def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """An empty figure in the course's style.

    Args:
        width: in inches; a Jupyter page shows about 8 of them.
        height: in inches.
        rows: rows of axes.
        columns: columns of axes.
        options: passed on to `Figure.subplots`.

    Returns:
        The figure and its axes, row by row.
    """
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


def figure_png(figure: matplotlib.figure.Figure, scale: float = 1.0) -> Png:
    """A figure as PNG bytes.

    Args:
        figure: any matplotlib figure.
        scale: 1 for 100 pixels an inch.
    """
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=_DPI * scale, metadata={"Software": None})
    return Png(buffer.getvalue())


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
    check_pictures(x)
    B, C, H, W = x.shape
    check_choice("channels of x", C, (1, 3))
    columns = min(B, math.ceil(math.sqrt(B))) if columns is None else columns
    check_number("columns", columns, 1, integer=True)
    check_number("pad", pad, 0, integer=True)
    check_number("span", span, 1e-9)
    rows = math.ceil(B / columns)
    small = to_uint8(x.detach().cpu() / span)
    cells = torch.full((rows * columns, C, H + pad, W + pad), 205, dtype=torch.uint8)
    cells[:B, :, :H, :W] = small
    body = cells.view(rows, columns, C, H + pad, W + pad).permute(0, 3, 1, 4, 2)
    out = torch.full((rows * (H + pad) + pad, columns * (W + pad) + pad, C), 205, dtype=torch.uint8)
    out[pad:, pad:] = body.reshape(rows * (H + pad), columns * (W + pad), C)
    return out.squeeze(2) if C == 1 else out


def encode(pixels: Tensor, scale: int = 1) -> Png:
    """Bytes as a PNG, each pixel a square of scale × scale.

    Repeated lines are stored as "the same as above", which makes this about twice as fast as a general encoder.

    Args:
        pixels: uint8, (H, W) for gray or (H, W, 3) for color, on the CPU.
        scale: enlargement, nearest neighbor.

    Raises:
        TypeError, ValueError: not uint8, another shape, or a scale below 1.
    """
    check_number("scale", scale, 1, integer=True)
    if pixels.dtype != torch.uint8:
        raise TypeError(f"pixels must be uint8, got {pixels.dtype}; use course_lib.data.to_uint8")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(f"pixels must have shape (H, W) or (H, W, 3), got {tuple(pixels.shape)}")
    height, width = pixels.shape[:2]
    lines = pixels.repeat_interleave(scale, 1).reshape(height, -1)
    raw = torch.zeros(height, scale, lines.shape[1] + 1, dtype=torch.uint8)
    raw[:, 0, 1:] = lines
    raw[:, 1:, 0] = 2  # filter type "up": this line minus the one above, all zeros here
    header = struct.pack(">IIBBBBB", width * scale, height * scale, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw.numpy().tobytes(), 1)), (b"IEND", b""))
    parts = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return Png(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def blank_png(width: int, height: int) -> Png:
    """An empty card of so many pixels."""
    level = torch.tensor([int(CARD[i : i + 2], 16) for i in (1, 3, 5)], dtype=torch.uint8)
    return encode(level.expand(height, width, 3))


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
    return encode(grid(x, columns, pad, span), scale)


def _show(axes: Axes, picture: Tensor, span: float = 1.0) -> None:
    """One picture, (C, H, W), without ticks."""
    pixels = to_uint8(picture.detach().cpu().float() / span).permute(1, 2, 0)
    axes.imshow(pixels.expand(-1, -1, 3).numpy(), interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(False)


@_styled
def show_grid(
    x: Tensor, titles: Sequence[str] | None = None, columns: int = 8, title: str | None = None, span: float = 1.0
) -> Figure:
    """Pictures in a grid, each with its own title.

    Args:
        x: pictures, (B, C, H, W) with C = 1 or 3, floats.
        titles: one for each picture, or None.
        columns: pictures in a row.
        title: of the whole.
        span: -span is shown black and span white.

    Raises:
        TypeError, ValueError: not pictures, or titles of another number.
    """
    check_pictures(x)
    if titles is not None and len(titles) != len(x):
        raise ValueError(f"titles must have one entry per picture, {len(x)}, got {len(titles)}")
    columns = min(columns, len(x))
    rows = math.ceil(len(x) / columns)
    side = min(1.4, 8.4 / columns)
    height = rows * (side + (0.22 if titles is not None else 0)) + (0.35 if title else 0.1)
    figure, axes = new_figure(columns * side + 0.1, height, rows, columns)
    for i, ax in enumerate(axes):
        if i >= len(x):
            ax.set_axis_off()
            continue
        _show(ax, x[i], span)
        if titles is not None:
            ax.set_title(titles[i], fontsize=9, loc="center", pad=3)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


@_styled
def show_rows(
    rows: Mapping[str, Tensor], titles: Sequence[str] | None = None, title: str | None = None, span: float = 1.0
) -> Figure:
    """Rows of pictures with a label to the left of each row and a title above each column.

    Args:
        rows: label to pictures, (B, C, H, W); rows may differ in length.
        titles: one for each column, or None.
        title: of the whole.
        span: -span is shown black and span white.

    Raises:
        TypeError, ValueError: nothing to show, not pictures, or more titles than columns.
    """
    if not rows:
        raise ValueError("rows must hold at least one label with pictures, got none")
    for label, x in rows.items():
        check_pictures(x, f"rows[{label!r}]")
    columns = max(len(x) for x in rows.values())
    if titles is not None and len(titles) != columns:
        raise ValueError(f"titles must have one entry per column, {columns}, got {len(titles)}")
    margin = 0.25 + 0.082 * max(len(line) for label in rows for line in label.split("\n"))
    side = min(1.4, (8.6 - margin) / columns)
    shape = next(iter(rows.values())).shape
    high = side * shape[2] / shape[3]
    height = len(rows) * (high + 0.05) + (0.28 if titles is not None else 0.1) + (0.3 if title else 0)
    figure, axes = new_figure(margin + columns * side, height, len(rows), columns)
    for r, (label, x) in enumerate(rows.items()):
        for c in range(columns):
            ax = axes[r * columns + c]
            if c >= len(x):
                ax.set_axis_off()
                continue
            _show(ax, x[c], span)
            if r == 0 and titles is not None:
                ax.set_title(titles[c], fontsize=9, loc="center", pad=3)
            if c == 0:
                ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


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
    rows = {" " * (i + 1): torch.stack([column[i] for column in mixed]) for i in range(len(x))}
    return show_rows(rows, titles=[f"{amount:.2g}" for amount in amounts])


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
    return show_grid(stretched[:, None].float(), columns=columns, title=title)


# ----------------------------------------------------------------------------------------------- curves


def _list(values: Any) -> list[float]:
    return torch.as_tensor(values, dtype=torch.float64).detach().cpu().flatten().tolist()


@_styled
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


@_styled
def plot_histogram(
    values: Tensor | Mapping[str, Tensor], normal: bool = True, title: str | None = None, bins: int = 60
) -> Figure:
    """How often each pixel value occurs, against the normal curve N(0, 1).

    Args:
        values: a tensor of any shape, or label to tensor.
        normal: draw the normal curve.
        title: above.
        bins: number of bins.
    """
    named = {"": values} if isinstance(values, Tensor) else dict(values)
    flat = {label: tensor.detach().cpu().float().flatten() for label, tensor in named.items()}
    low, high = min(float(v.min()) for v in flat.values()), max(float(v.max()) for v in flat.values())
    if normal:
        low, high = min(low, -4.0), max(high, 4.0)
    figure, (ax,) = new_figure(6.4, 3.2)
    edges = torch.linspace(low, high, bins + 1)
    width = float(edges[1] - edges[0])
    for i, (label, v) in enumerate(flat.items()):
        density = torch.histc(v, bins, low, high) / (len(v) * width)
        color = COLORS[_CYCLE[i % len(_CYCLE)]]
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


@_styled
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
            color = COLORS[_CYCLE[i % len(_CYCLE)]]
            xs = range(first, schedule.T + 1)
            ax.plot(xs, y[first:].tolist(), label=schedule.name, color=color, linestyle=DASHES[i % len(DASHES)])
            if t is not None:
                schedule.check_t(t)
                ax.plot([t], [float(y[t])], "o", color=color, markersize=6, markeredgecolor=COLORS["black"])
        if t is not None:
            ax.axvline(t, color=COLORS["red"], linewidth=1.2)
        ax.set_title(title)
        ax.set_xlabel("timestep t")
    axes[2].set_ylim(-6, 4)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


class MarkedCurves:
    """The curves of `plot_schedules` drawn once, so that moving the marker costs a few milliseconds.

    Args:
        schedules: one or several.
        scale: 1 for 100 pixels an inch.
    """

    def __init__(self, schedules: Schedule | Sequence[Schedule], scale: float = 1.0) -> None:
        self.figure = plot_schedules(schedules)
        self.image = Image.open(io.BytesIO(figure_png(self.figure, scale))).convert("RGB")
        self.scale = scale

    def at(self, t: float) -> Png:
        """The curves with the marker at timestep t."""
        image = self.image.copy()
        pen = ImageDraw.Draw(image)
        for axes in self.figure.axes:
            (bottom, top), to_pixel = axes.get_ylim(), axes.transData.transform
            x = float(to_pixel((t, bottom))[0]) * self.scale
            ends = [image.height - float(to_pixel((t, y))[1]) * self.scale for y in (bottom, top)]
            pen.line([(x, ends[0]), (x, ends[1])], fill=COLORS["red"], width=max(1, round(1.5 * self.scale)))
            for line in axes.get_lines():
                xs, ys = line.get_xdata(), line.get_ydata()
                index = round(t) - int(xs[0])
                if 0 <= index < len(ys) and bottom <= ys[index] <= top:
                    y = image.height - float(to_pixel((t, ys[index]))[1]) * self.scale
                    r = 4 * self.scale
                    pen.ellipse((x - r, y - r, x + r, y + r), fill=str(line.get_color()), outline=COLORS["black"])
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", compress_level=1)
        return Png(buffer.getvalue())


#: Below the first number x_T is noise for all that a network can tell; above the second the picture can be seen in it.
GAUGE_LIMITS = (0.02, 0.1)


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
        return f"Careful: {a:.3f} of the picture is left in x_T. Bright and dark pictures can still be told apart."
    return (
        f"x_T still holds the picture: {a:.2f} of it is left. Sampling starts from pure noise, which the network "
        "then never saw at t = T. Use more steps or a steeper schedule."
    )


@_styled
def plot_gauge(schedule: Schedule) -> Figure:
    """A gauge of what is left of the picture in x_T, a_T = √ᾱ_T, with a verdict in words.

    Args:
        schedule: the tables a and b.
    """
    a = float(schedule.signal[-1])
    low, high = GAUGE_LIMITS
    figure = Figure(figsize=(6.4, 1.5), dpi=_DPI)
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0.04, 0.42, 0.92, 0.22))
    root = math.sqrt  # a square-root scale leaves room for the small numbers that matter
    for left, right, color, hatch in ((0, low, "green", ""), (low, high, "yellow", "//"), (high, 1, "red", "xx")):
        ax.add_patch(
            Rectangle((root(left), 0), root(right) - root(left), 1, facecolor=COLORS[color], alpha=0.45, hatch=hatch)
        )
    ax.plot([root(a)], [0.5], marker="v", markersize=13, color=COLORS["black"], clip_on=False)
    ax.set(xlim=(0, 1), ylim=(0, 1), yticks=[])
    ticks = (0, 0.02, 0.1, 0.25, 0.5, 0.75, 1)
    ax.set_xticks([root(v) for v in ticks], [f"{v:g}" for v in ticks])
    ax.set_xlabel("a_T: what is left of the picture in x_T")
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    figure.text(0.04, 0.82, f"{schedule.name}, T = {schedule.T}:  a_T = {a:.4f}", fontsize=11, weight="bold")
    word = "noise" if a < low else "careful" if a < high else "still holds the picture"
    color = COLORS["black"] if a < high else COLORS["red"]
    figure.text(0.96, 0.82, word, fontsize=11, ha="right", color=color, weight="bold")
    return figure


# --------------------------------------------------------------------------------------------- training


def smoothed(losses: Sequence[float], smooth: float = 0.98) -> list[float]:
    """Running mean m ← smooth·m + (1 − smooth)·loss, divided by 1 − smooth^n so that the start is not too low.

    Args:
        losses: one number per update.
        smooth: in [0, 1); 0.98 averages over about 50 updates.
    """
    check_number("smooth", smooth, 0, 1 - 1e-9)
    out, mean, weight = [], 0.0, 0.0
    for loss in losses:
        mean = smooth * mean + (1 - smooth) * float(loss)
        weight = smooth * weight + (1 - smooth)
        out.append(mean / weight)
    return out


@_styled
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
    figure, (ax,) = new_figure(*size)
    for i, (label, raw) in enumerate(named.items()):
        values, color = _list(raw), COLORS[_CYCLE[i % len(_CYCLE)]]
        steps = range(1, len(values) + 1)
        ax.plot(steps, values, color=color, alpha=0.3, linewidth=0.8)
        ax.plot(steps, smoothed(values, smooth), color=color, linestyle=DASHES[i % 4], label=label or "running mean")
    for label, height in (reference or {}).items():
        ax.axhline(height, color=COLORS["black"], linewidth=1.2, linestyle=":", label=label)
    ax.set(xlabel="update", ylabel="loss")
    if logy:
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    if title:
        ax.set_title(title)
    ax.legend(loc="upper right")
    return figure


@_styled
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


@_styled
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
    for i, entry in enumerate(sorted({dim // 16, dim // 8, dim // 4, dim // 2 - 1})):
        lines.plot(times, values[:, entry].tolist(), label=f"entry {entry}", linestyle=DASHES[i % 4])
    lines.set(xlabel="timestep t", title="some entries: fast and slow waves", ylim=(-1.15, 1.5))
    lines.legend(ncols=2, loc="upper right")
    return figure


# ------------------------------------------------------------------------------------------------ shapes

#: The layers that `layer_size` and `plot_kernel` know.
KINDS = ("conv", "pool", "transposed conv")


def layer_size(
    kind: str, size: int, kernel: int, stride: int = 1, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> tuple[int, str]:
    """Output size of a layer, and the formula with the numbers put in.

    Args:
        kind: one of `KINDS`.
        size, kernel, stride, padding, dilation: as `course_lib.shapes.conv_out`.
        output_padding: for the transposed convolution only; the others must leave it at 0.

    Returns:
        The size, and a line such as "⌊(28 + 2·1 − 1·(3 − 1) − 1) / 2⌋ + 1 = 14".

    Raises:
        TypeError, ValueError: an unknown kind, or what the functions of `course_lib.shapes` refuse.
    """
    check_choice("kind", kind, KINDS)
    if kind == "transposed conv":
        out = conv_transpose_out(size, kernel, stride, padding, output_padding, dilation)
        return out, (f"({size} − 1)·{stride} − 2·{padding} + {dilation}·({kernel} − 1) + {output_padding} + 1 = {out}")
    if output_padding:
        raise ValueError(
            f"output_padding belongs to transposed convolutions; a {kind} must leave it at 0, got {output_padding}"
        )
    out = (pool_out if kind == "pool" else conv_out)(size, kernel, stride, padding, dilation)
    return out, f"⌊({size} + 2·{padding} − {dilation}·({kernel} − 1) − 1) / {stride}⌋ + 1 = {out}"


def _cells(ax: Axes, size: int, title: str, frame: tuple[int, int] | None = None) -> None:
    """A square of size × size cells; those outside frame = (first, last + 1) are drawn as extra ones."""
    first, last = frame or (0, size)
    ax.add_patch(Rectangle((0, 0), size, size, facecolor="#E4E2DC", hatch="////", edgecolor="#B5B2AA", linewidth=0))
    ax.add_patch(Rectangle((first, first), last - first, last - first, facecolor="white", edgecolor="none"))
    for i in range(size + 1):
        ax.plot([i, i], [0, size], color="#BBBBBB", linewidth=0.6, zorder=2)
        ax.plot([0, size], [i, i], color="#BBBBBB", linewidth=0.6, zorder=2)
    box = Rectangle(
        (first, first), last - first, last - first, fill=False, edgecolor=COLORS["black"], linewidth=1.6, zorder=4
    )
    ax.add_patch(box)
    ax.set(xlim=(-0.3, size + 0.3), ylim=(size + 0.3, -0.3), aspect="equal")
    ax.set_axis_off()
    ax.set_title(title, loc="center", fontsize=10)


def _taps(ax: Axes, left: int, top: int, kernel: int, dilation: int, color: str, hatch: str) -> None:
    """The cells that one placement of a kernel touches, and the square that it spans."""
    for i in range(kernel):
        for j in range(kernel):
            corner = (left + j * dilation, top + i * dilation)
            ax.add_patch(Rectangle(corner, 1, 1, facecolor=COLORS[color], alpha=0.4, linewidth=0, zorder=3))
    reach = dilation * (kernel - 1) + 1
    square = Rectangle(
        (left, top), reach, reach, fill=False, edgecolor=COLORS[color], linewidth=2.4, zorder=5, linestyle=hatch
    )
    ax.add_patch(square)


@_styled
def plot_kernel(
    kind: str, size: int, kernel: int, stride: int = 1, padding: int = 0, output_padding: int = 0, dilation: int = 1
) -> Figure:
    """Where the kernel lands: its first two places, and what they make of the output.

    A convolution or pooling gathers the cells of a square into one cell; a transposed convolution spreads one
    cell over a square. Hatched cells are padding: added before a convolution, cut off after a transposed one.

    Args:
        kind: one of `KINDS`.
        size, kernel, stride, padding, output_padding, dilation: as `layer_size`.

    Raises:
        TypeError, ValueError: as `layer_size`.
    """
    out, _ = layer_size(kind, size, kernel, stride, padding, output_padding, dilation)
    reach = dilation * (kernel - 1) + 1
    figure = Figure(figsize=(6.4, 3.3), dpi=_DPI)
    FigureCanvasAgg(figure)
    left, right = figure.add_axes((0.02, 0.1, 0.46, 0.78)), figure.add_axes((0.52, 0.1, 0.46, 0.78))
    if kind == "transposed conv":
        full = max((size - 1) * stride + reach + output_padding, out + 2 * padding)
        _cells(left, size, f"input {size}×{size}")
        _cells(right, full, f"output {out}×{out}", (padding, padding + out))
        single, square, note = left, right, "hatched: cut off by padding" if padding else ""
    else:
        full = size + 2 * padding
        _cells(left, full, f"input {size}×{size}", (padding, padding + size))
        _cells(right, out, f"output {out}×{out}")
        single, square = right, left
        rest = full - ((out - 1) * stride + reach)
        note = "hatched: padding. " if padding else ""
        if rest:
            note += (
                f"The last {rest} row{'s' if rest > 1 else ''} and column{'s' if rest > 1 else ''} are never looked at."
            )
    count = min(2, size if kind == "transposed conv" else out)
    for i, (color, dash) in enumerate((("orange", "-"), ("blue", "--"))[:count]):
        _taps(single, i, 0, 1, 1, color, dash)
        _taps(square, i * stride, 0, kernel, dilation, color, dash)
    figure.text(0.5, 0.49, "→", fontsize=20, ha="center", va="center")
    figure.text(0.5, 0.035, note, fontsize=9, ha="center")
    return figure


def halve(size: int, halvings: int) -> tuple[list[int], list[tuple[int, int]], str]:
    """A size through 2×2 poolings and up again by doubling, and what is wrong with it, in words.

    Args:
        size: height and width of the input, >= 1.
        halvings: number of poolings, >= 1.

    Returns:
        The sizes on the way down; on the way up, deepest first, pairs of (doubled size, size of the skip), each
        starting from the skip below as if a map that does not fit had been resized; a sentence, empty where all fit.

    Raises:
        TypeError, ValueError: a number out of range.

    >>> halve(28, 4)[:2]
    ([28, 14, 7, 3, 1], [(2, 3), (6, 7), (14, 14), (28, 28)])
    """
    check_number("size", size, 1, integer=True)
    check_number("halvings", halvings, 1, integer=True)
    sizes = [size]
    while len(sizes) <= halvings and sizes[-1] >= 2:
        sizes.append(pool_out(sizes[-1], 2))
    good = nearest_sizes(size, 2**halvings)
    near = f"The nearest good size{'s are' if len(good) > 1 else ' is'} {' and '.join(map(str, good))}."
    if len(sizes) <= halvings:
        times = f"{len(sizes) - 1} pooling{'s' if len(sizes) != 2 else ''}"
        return sizes, [], f"Nothing is left to halve after {times}. {near}"
    up = [(conv_transpose_out(below, kernel=2, stride=2), skip) for skip, below in pairwise(sizes)][::-1]
    bad = [f"{skip} → {skip // 2} → {doubled} ≠ {skip}" for doubled, skip in reversed(up) if doubled != skip]
    return sizes, up, f"{',  '.join(bad)}. {near}" if bad else ""


@_styled
def plot_halvings(size: int, halvings: int = 4, levels: int | None = None) -> Figure:
    """A size on its way down through poolings and up again by doubling; where the two do not meet stands in red.

    Args:
        size: height and width of the input, >= 1.
        halvings: number of 2×2 poolings, >= 1.
        levels: leave room for so many poolings, so that a slider's picture keeps its size.

    Raises:
        TypeError, ValueError: a number out of range.
    """
    down, up, problem = halve(size, halvings)
    room = max(halvings, levels or 0)
    figure = Figure(figsize=(6.4, 0.56 * (room + 1) + 0.6), dpi=_DPI)
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.set(xlim=(0, 10), ylim=(-room - 1.35, 0.5))
    half, tall, lean = 0.62, 0.3, 2.7 / max(halvings, 1)

    def box(x: float, y: float, text: str, color: str, fill: str) -> None:
        corner = (x - half, y - tall)
        ax.add_patch(Rectangle(corner, 2 * half, 2 * tall, facecolor=fill, edgecolor=COLORS[color], linewidth=1.8))
        ink = COLORS["red" if color == "red" else "black"]
        ax.text(x, y, text, ha="center", va="center", fontsize=11, weight="bold", color=ink)

    def arrow(start: tuple[float, float], end: tuple[float, float], color: str, dash: str = "-") -> None:
        kind = {"arrowstyle": "-|>", "mutation_scale": 11, "linewidth": 1.4, "shrinkA": 1, "shrinkB": 1}
        ax.add_patch(FancyArrowPatch(start, end, color=COLORS[color], linestyle=dash, **kind))

    def left(level: int) -> float:
        return 1.0 + lean * level if level < halvings else 5.0

    for level, side in enumerate(down):
        box(left(level), -level, f"{side}×{side}", "blue", "#E2EEF6")
        if level + 1 < len(down):
            arrow((left(level), -level - tall), (left(level + 1) - half, -level - 1), "blue")
    for level, (doubled, skip) in zip(reversed(range(len(up))), up, strict=True):
        x, bad = 10 - left(level), doubled != skip
        below = 10 - left(level + 1) + (half if level + 1 == halvings else half)
        arrow((below, -level - 1), (x, -level - tall), "green")
        arrow((left(level) + half, -level), (x - half, -level), "red" if bad else "gray", "--")
        box(x, -level, f"{doubled}×{doubled}", "red" if bad else "green", "#F8D7D7" if bad else "#E0F2EA")
        words, ink = (f"{doubled} ≠ {skip}", COLORS["red"]) if bad else ("skip fits", "#555555")
        ax.text(5, -level + 0.08, words, ha="center", va="bottom", fontsize=11 if bad else 8.5, color=ink,
                weight="bold" if bad else "normal")  # fmt: skip
    times = "once" if halvings == 1 else f"{halvings} times"
    words = problem or f"{size} can be halved {times}: every skip fits."
    ax.text(5, -room - 0.9, words, ha="center", va="center", fontsize=10, color=COLORS["red" if problem else "black"])
    return figure


class _Box:
    """One bar of the U diagram: a map, or a vector, of the shape (C, side)."""

    def __init__(
        self, channels: int, side: int, level: int, kind: str, skip: int = 0, source: _Box | None = None
    ) -> None:
        self.channels, self.side, self.level, self.kind = channels, side, level, kind
        self.skip, self.source = skip, source
        self.x = 0.0


def _boxes(rows: Sequence[LayerShape]) -> list[_Box]:
    """The bars of the U diagram: one for each new shape along the trace, and one for each concatenation."""
    first = next((row.in_shape for row in rows if len(row.in_shape) == 4), None)
    if first is None:
        raise ValueError(
            "rows must hold at least one layer of pictures; make them with course_lib.shapes.trace(model, x)"
        )
    boxes = [_Box(first[1], first[2], 0, "picture")]
    for row in rows:
        here, numbers = boxes[-1], math.prod(row.in_shape[1:])
        if len(row.out_shape) not in (2, 4) or len(row.in_shape) not in (2, 4):
            continue
        if len(row.in_shape) == 2 and numbers != here.channels * max(here.side, 1) ** 2:
            continue  # beside the flow of the pictures: the embedding of the time
        added = row.in_shape[1] - here.channels
        if len(row.in_shape) == 4 and added > 0 and here.side:
            fits = [b for b in boxes[:-1] if b.channels == added and b.side >= row.in_shape[2] and b.kind != "concat"]
            same = [b for b in fits if b.level == here.level] or fits
            boxes.append(
                _Box(row.in_shape[1], row.in_shape[2], here.level, "concat", added, same[-1] if same else None)
            )
            here = boxes[-1]
        channels, side = row.out_shape[1], row.out_shape[2] if len(row.out_shape) == 4 else 0
        if (channels, side) == (here.channels, here.side):
            continue
        level, kind = here.level, "conv"
        if bool(side) != bool(here.side):
            level, kind = level + (1 if here.side else -1), "dense" if here.side else "up"
        elif not side:
            kind = "dense"
        elif 2 * side <= here.side + 1:
            level, kind = level + 1, "down"
        elif side >= 1.5 * here.side:
            level, kind = level - 1, "up"
        boxes.append(_Box(channels, side, level, kind))
    return boxes


@_styled
def plot_unet(rows: Sequence[LayerShape], title: str | None = None, width: float = 9.0) -> Figure:
    """A network as a U: one bar for each shape that the pictures take on, channels above it, height = width below.

    A bar is taller where the map is larger and wider where it has more channels; a concatenation is drawn in two
    parts, and a dashed arrow shows where its second part comes from.

    Args:
        rows: `trace(model, x)`; for `UNet` better `trace(model, x, t, depth=2)`.
        title: above.
        width: of the figure, in inches.

    Raises:
        ValueError: rows without a layer of pictures.
    """
    boxes = _boxes(rows)
    tallest = max(box.side for box in boxes)
    widest = max(box.channels for box in boxes)
    deepest = max(box.level for box in boxes)

    def bar_width(box: _Box) -> float:
        return 0.16 + 0.42 * math.log2(1 + box.channels) / math.log2(1 + widest)

    def bar_height(box: _Box) -> float:
        return 0.18 + 0.62 * math.log2(1 + box.side) / math.log2(1 + tallest)

    x = 0.0
    for box in boxes:
        box.x = x + bar_width(box) / 2
        x += max(bar_width(box), 0.62) + 0.13
    height = 1.05 * (deepest + 1) + 0.55 + (0.3 if title else 0)
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    ax = figure.add_axes((0.0, 0.0, 1, 1))
    ax.set_axis_off()
    ax.set(xlim=(-0.35, x + 0.2), ylim=(-1.05 * deepest - 1.15, 0.62 + (0.3 if title else 0)))
    colors = {
        "picture": "#444444",
        "conv": COLORS["blue"],
        "down": COLORS["sky"],
        "up": COLORS["green"],
        "dense": COLORS["purple"],
    }
    colors["concat"] = colors["up"]
    font = max(5.5, min(9.0, 9.0 * width / max(x, 1e-9) * 0.9))
    for before, box in zip([None, *boxes], boxes, strict=False):
        y, w, h = -1.05 * box.level, bar_width(box), bar_height(box)
        ax.add_patch(
            Rectangle((box.x - w / 2, y - h / 2), w, h, facecolor=colors[box.kind], edgecolor="#222222", linewidth=0.7)
        )
        if box.kind == "concat":
            part = w * box.skip / box.channels
            ax.add_patch(
                Rectangle(
                    (box.x - w / 2, y - h / 2),
                    part,
                    h,
                    facecolor=COLORS["yellow"],
                    hatch="///",
                    edgecolor="#222222",
                    linewidth=0.7,
                )
            )
            if box.source is not None:
                start = (box.source.x + bar_width(box.source) / 2, y)
                ax.add_patch(
                    FancyArrowPatch(
                        start,
                        (box.x - w / 2, y),
                        arrowstyle="-|>",
                        mutation_scale=9,
                        linestyle="--",
                        linewidth=1.1,
                        color=COLORS["orange"],
                        shrinkA=1,
                        shrinkB=0,
                        zorder=0,
                    )  # fmt: skip
                )
        channels = f"{box.skip}+{box.channels - box.skip}" if box.kind == "concat" else f"{box.channels}"
        ax.text(box.x, y + h / 2 + 0.03, channels, ha="center", va="bottom", fontsize=font, weight="bold")
        ax.text(box.x, y - h / 2 - 0.04, f"{box.side}" if box.side else "vector", ha="center", va="top", fontsize=font)
        if before is not None and before.level != box.level:
            sign = 1 if before.level > box.level else -1
            start = (before.x + bar_width(before) / 2 + 0.02, -1.05 * before.level)
            end = (box.x - w / 2 - 0.02, y)
            ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, color="#555555", linewidth=0.9,
                                         connectionstyle=f"arc3,rad={0.25 * sign}", zorder=1))  # fmt: skip
    names = {"conv": "convolution", "down": "halved", "up": "doubled", "dense": "dense", "concat": "skip, concatenated"}
    used = [kind for kind in names if any(box.kind == kind for box in boxes)]
    handles = [
        Patch(facecolor=COLORS["yellow"] if kind == "concat" else colors[kind], hatch="///" if kind == "concat" else None,
              edgecolor="#222222", linewidth=0.7, label=names[kind])
        for kind in used
    ]  # fmt: skip
    ax.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=8.5, handlelength=1.2)
    ax.text(
        -0.25,
        -1.05 * deepest - 0.45,
        "above: channels\nbelow: height = width",
        fontsize=8,
        va="center",
        color="#555555",
    )
    if title:
        ax.text(-0.25, 0.78, title, fontsize=11, va="center")
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
    check_number("columns", columns, 1, integer=True)
    check_number("index", index, 0, len(steps[0].x_t) - 1, integer=True)
    count = min(columns, len(steps))
    chosen = [steps[round(i * (len(steps) - 1) / max(count - 1, 1))] for i in range(count)]
    last = steps[-1]
    noisy = torch.stack([step.x_t[index] for step in chosen] + [last.x_s[index]])
    clean = torch.stack([step.x0_hat[index] for step in chosen])
    titles = [f"t = {step.t}" for step in chosen] + [f"t = {last.s}"]
    return show_rows({"x_t": noisy, "x0_hat": clean}, titles)


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
    check_pictures(samples, "samples")
    check_pictures(training, "training")
    if samples.shape[1:] != training.shape[1:]:
        raise ValueError(
            f"samples and training must have pictures of one shape, got {tuple(samples.shape[1:])} and {tuple(training.shape[1:])}"
        )
    check_number("k", k, 1, len(training), integer=True)
    flat = samples.flatten(1).float()
    parts = [torch.cdist(flat, part.flatten(1).to(flat)) for part in training.split(8192)]
    distances, index = torch.cat(parts, dim=1).topk(k, largest=False)
    return distances, index


@_styled
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
    rows = {"sample": samples}
    for j in range(k):
        rows["nearest" if j == 0 else f"{j + 1}. nearest"] = training[index[:, j].to(training.device)]
    figure = show_rows(rows)
    for j in range(k):
        for i in range(len(samples)):
            ax = figure.axes[(j + 1) * len(samples) + i]
            ax.set_xlabel(f"{float(distances[i, j]):.1f}", fontsize=8, labelpad=1)
    figure.set_figheight(figure.get_figheight() + 0.18 * k)
    return figure
