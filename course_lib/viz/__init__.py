"""From tensors to figures: pure functions that return a matplotlib figure or the bytes of a PNG.

    png, pictures    pixels: a PNG, a grid, a GIF
    style            colors, fonts, a figure that shows itself
    words            figures in words
    sheet            boxes, words and arrows, without axes
    rows             figures of pictures
    curves           plots
    gauge            how much of the picture is left at the last timestep
    layers           which pixels a kernel covers, how sizes shrink and grow
    networks         a network as a U

Pictures are floats (B, C, H, W) with -1 for black and 1 for white. No function keeps state or touches pyplot. Only
`filmstrip` needs random numbers, and it takes a generator for them.
"""

from ..metrics import nearest
from ..objective import smoothed
from .curves import (
    plot_curves,
    plot_histogram,
    plot_loss,
    plot_loss_by_timestep,
    plot_schedules,
    plot_time_embedding,
    plot_variance,
)
from .gauge import plot_gauge
from .layers import plot_halvings, plot_kernel
from .networks import plot_unet
from .pictures import grid, to_gif, to_png
from .png import Png, encode
from .rows import filmstrip, nearest_table, plot_trajectory, show_features, show_grid, show_rows
from .sheet import Sheet
from .style import CARD, COLORS, CYCLE, DPI, Figure, figure_png, figure_svg, new_figure, style, styled

__all__ = [
    "CARD",
    "COLORS",
    "CYCLE",
    "DPI",
    "Figure",
    "Png",
    "Sheet",
    "encode",
    "figure_png",
    "figure_svg",
    "filmstrip",
    "grid",
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
    "styled",
    "to_gif",
    "to_png",
]
