"""Figures of pictures: grids, labelled rows, filmstrips, sampling runs, nearest neighbors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data import to_uint8
from ..forward import corrupt
from ..metrics import nearest
from ..sample import SampleStep
from ..validate import validate_choice, validate_number, validate_pictures
from .sheet import Sheet
from .style import DPI, Figure, styled
from .words import counted

_GAP = 4  # pixels of the figure between pictures


@dataclass(frozen=True)
class _Mosaic:
    """Rows of pictures on a card, with the words around them.

    Args:
        rows: pictures, (B, C, H, W); smaller ones are enlarged to the size of the largest.
        labels: at the left of each row.
        titles: above each column.
        captions: below each picture.
        title: above all rows.
        span: -span becomes black and span white.
    """

    rows: Sequence[Tensor]
    labels: Sequence[str] = ()
    titles: Sequence[str] = ()
    captions: Sequence[Sequence[str]] = ()
    title: str | None = None
    span: float = 1.0

    def draw(self) -> Figure:
        """The figure. Each pixel of a picture covers whole pixels of it, so that all look equally wide."""
        validate_number("span", self.span, 1e-9)
        C, H, W = (max(x.shape[i] for x in self.rows) for i in (1, 2, 3))
        columns = max(len(x) for x in self.rows)
        margin = max((14 + round(7.4 * max(map(len, label.split("\n")))) for label in self.labels), default=0)
        scale = max(1, min(140, (980 - margin) // columns - _GAP) // W)
        wide, high = W * scale, H * scale
        pitch = high + (17 if self.captions else 0) + _GAP
        top = 6 + (24 if self.title else 0) + (22 if self.titles else 0)
        left = [margin + _GAP + c * (wide + _GAP) for c in range(columns)]
        width, height = left[-1] + wide + _GAP, top + len(self.rows) * pitch + 4
        sheet = Sheet(width / DPI, height / DPI)
        axes = sheet.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        axes.set_axis_off()
        for r, x in enumerate(self.rows):
            y = top + r * pitch
            sized = x if x.shape[2:] == (H, W) else F.interpolate(x.float(), (H, W), mode="nearest-exact")
            pixels = to_uint8(sized.detach().cpu().float() / self.span).expand(-1, max(C, 3), -1, -1)
            for c, picture in enumerate(pixels):
                extent = (left[c], left[c] + wide, y + high, y)
                axes.imshow(picture.permute(1, 2, 0).numpy(), extent=extent, interpolation="nearest", aspect="auto")
                if self.captions:
                    sheet.text((left[c] + wide / 2) / DPI, (y + high + 9) / DPI, self.captions[r][c], 8.5)
            if self.labels:
                sheet.text((margin - 4) / DPI, (y + high / 2) / DPI, self.labels[r], 10, ha="right")
        axes.set(xlim=(0, width), ylim=(height, 0))  # imshow has changed them
        for c, words in enumerate(self.titles):
            sheet.text((left[c] + wide / 2) / DPI, (top - 10) / DPI, words, 9)
        if self.title:
            sheet.text(left[0] / DPI, 15 / DPI, self.title, 11, ha="left")
        sheet.figure.alt = self.in_words()
        return sheet.figure

    def in_words(self) -> str:
        """How many pictures there are, and everything that is written beside them."""
        start = f"{self.title}: " if self.title else ""
        if self.labels:
            pairs = zip(self.labels, self.rows, strict=True)
            named = "; ".join(f"{' '.join(label.split())}, {counted(len(x))}" for label, x in pairs)
            parts = [f"{start}{counted(len(self.rows), 'row')} of pictures, from top to bottom: {named}."]
        else:
            parts = [f"{start}{counted(sum(map(len, self.rows)))} in {counted(len(self.rows), 'row')}."]
        if self.titles:
            parts.append(f"The columns: {', '.join(self.titles)}.")
        below = [words for row in self.captions for words in row if words]
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
        span: -span becomes black and span white.
    """
    validate_pictures(x)
    validate_choice("channels of x", x.shape[1], (1, 3))
    validate_number("columns", columns, 1, integer=True)
    if titles is not None and len(titles) != len(x):
        raise ValueError(f"titles must have one entry per picture, {len(x)}, got {len(titles)}")
    captions = [titles[i : i + columns] for i in range(0, len(x), columns)] if titles is not None else ()
    return _Mosaic(x.split(columns), captions=captions, title=title, span=span).draw()


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
        span: -span becomes black and span white.
    """
    if not rows:
        raise ValueError("rows must hold at least one label with pictures, got none")
    for label, x in rows.items():
        validate_pictures(x, f"rows[{label!r}]")
        validate_choice(f"channels of rows[{label!r}]", x.shape[1], (1, 3))
    columns = max(len(x) for x in rows.values())
    if titles is not None and len(titles) != columns:
        raise ValueError(f"titles must have one entry per column, {columns}, got {len(titles)}")
    return _Mosaic(list(rows.values()), list(rows), titles or (), title=title, span=span).draw()


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
        amounts: from 0 to 1; None takes 0, 0.1, … 1.
        noise: "gaussian", "uniform", or the noise itself, shaped like x.
        generator: source of the noise.
    """
    amounts = [i / 10 for i in range(11)] if amounts is None else list(amounts)
    _, used = corrupt(x, 1.0, noise, generator=generator)
    mixed = [corrupt(x, float(amount), used)[0] for amount in amounts]
    rows = [torch.stack([column[i] for column in mixed]) for i in range(len(x))]
    titles = [f"{amount:.2g}" for amount in amounts]
    figure = _Mosaic(rows, titles=titles).draw()
    figure.alt = (
        f"{counted(len(x))} drowning in noise, each in a row of its own; the amount of noise in the "
        f"{counted(len(amounts), 'column')}: {', '.join(titles)}."
    )
    return figure


def show_features(h: Tensor, columns: int = 8, title: str | None = None) -> Figure:
    """Feature maps, each stretched to its own range from black to white.

    Args:
        h: maps, (C, H, W) or (1, C, H, W), floats.
        columns: maps in a row.
        title: of the whole.
    """
    if h.ndim == 4 and len(h) == 1:
        h = h[0]
    if h.ndim != 3:
        raise ValueError(f"h must hold the maps of one picture, (C, H, W) or (1, C, H, W), got {tuple(h.shape)}")
    low, high = h.amin((1, 2), keepdim=True), h.amax((1, 2), keepdim=True)
    stretched = 2 * (h - low) / (high - low).clamp(min=1e-12) - 1
    figure = show_grid(stretched[:, None].float(), columns=columns, title=title)
    start = f"{title}: " if title else ""
    maps = counted(len(h), "feature map")
    figure.alt = f"{start}{maps} of {h.shape[1]}×{h.shape[2]}, each stretched to its own range from black to white."
    return figure


def as_steps(steps: Iterable[SampleStep]) -> list[SampleStep]:
    """The steps of a sampling run as a list."""
    found = list(steps)
    if not found or not isinstance(found[0], SampleStep):
        got = type(found[0]).__name__ if found else "none"
        raise ValueError(
            f"steps must hold at least one step of a run, got {got}; make them with course_lib.sample.trajectory(...)"
        )
    return found


def plot_trajectory(steps: Sequence[SampleStep], columns: int = 9, index: int = 0) -> Figure:
    """How one sample came about: x_t above, the network's guess at the picture below.

    Args:
        steps: of a whole run, in order.
        columns: how many of them to show, evenly spaced, with the first and the last.
        index: which picture of the batch.
    """
    steps = as_steps(steps)
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
        f"How one sample came about, in {counted(len(titles), 'column')}: {', '.join(titles)}. Above x_t, noise that "
        "turns into a picture; below x0_hat, the network's guess at the picture from x_t."
    )
    return figure


@styled
def nearest_table(samples: Tensor, training: Tensor, k: int = 3) -> Figure:
    """Each sample above the training pictures nearest to it, with their distances.

    Args:
        samples: (B, C, H, W), floats; up to about 10.
        training: (N, C, H, W), floats in [-1, 1].
        k: neighbors of each sample.
    """
    distances, index = nearest(samples, training, k)
    rows, labels, captions = [samples], ["sample"], [[""] * len(samples)]
    for j in range(k):
        rows.append(training[index[:, j].to(training.device)])
        labels.append(["nearest", "2nd nearest", "3rd nearest"][j] if j < 3 else f"{j + 1}th nearest")
        captions.append([f"{distance:.1f}" for distance in distances[:, j].tolist()])
    figure = _Mosaic(rows, labels, captions=captions).draw()
    found = "; ".join(", ".join(f"{d:.1f}" for d in each) for each in distances.tolist())
    figure.alt = (
        f"{counted(len(samples), 'sample')} in the first row; below each the {counted(k, 'training picture')} nearest "
        f"to it, at the distances {found}."
    )
    return figure
