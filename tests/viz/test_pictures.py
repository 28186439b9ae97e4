"""Pictures come out as they went in: pixels are read back and compared with the tensors."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib import viz
from course_lib.data import to_uint8
from course_lib.forward import corrupt
from helpers_viz import pictures, steps_of_a_run, texts


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_places_every_picture(channels: int) -> None:
    x = pictures(5, channels)
    pixels = viz.grid(x, columns=3, pad=2)
    assert pixels.shape[:2] == (2 * 8 + 2, 3 * 7 + 2)
    for i, picture in enumerate(to_uint8(x)):
        top, left = 2 + i // 3 * 8, 2 + i % 3 * 7
        cut = pixels[top : top + 6, left : left + 5].view(6, 5, channels)
        assert torch.equal(cut, picture.permute(1, 2, 0))
    assert (pixels[:2] == 205).all() and (pixels[10:, 16:] == 205).all()  # the border and the empty place
    row = torch.tensor([-3.0, -2.0, 0.0, 2.0, 3.0]).view(1, 1, 1, 5)
    assert viz.grid(row, pad=0, span=2).tolist() == [[0, 0, 128, 255, 255]]


@pytest.mark.parametrize(("channels", "scale", "mode"), [(1, 1, "L"), (1, 3, "L"), (3, 3, "RGB")])
def test_a_png_decodes_to_the_grid(channels: int, scale: int, mode: str) -> None:
    x = pictures(4, channels)
    png = viz.to_png(x, columns=2, scale=scale)
    wanted = viz.grid(x, columns=2).repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    assert torch.equal(png.pixels(), wanted) and png.size == (wanted.shape[1], wanted.shape[0])
    assert png._repr_png_() == bytes(png) and "x89" not in f"{png}"
    with Image.open(io.BytesIO(png)) as image:
        image.verify()
        assert (image.format, image.mode) == ("PNG", mode)


def shown_pictures(figure: Any) -> list[torch.Tensor]:
    """The pixels of every picture on a figure, (H, W, 3)."""
    return [torch.as_tensor(image.get_array().copy()) for image in figure.axes[0].get_images()]


def test_rows_hold_exactly_the_pictures_with_their_words() -> None:
    rows = {"first": pictures(2, 3), "second": pictures(3, seed=1)}
    figure: Any = viz.show_rows(rows, ["A", "B", "C"], title="T")
    wanted = [p for x in rows.values() for p in to_uint8(x)]
    for image, picture in zip(shown_pictures(figure), wanted, strict=True):
        assert torch.equal(image, picture.expand(3, -1, -1).permute(1, 2, 0))
    assert set(texts(figure)) == {"first", "second", "A", "B", "C", "T"}
    uneven: Any = viz.show_rows({"small": torch.ones(1, 1, 2, 2), "large": torch.zeros(1, 1, 4, 4)})
    assert [tuple(p.shape) for p in shown_pictures(uneven)] == [(4, 4, 3), (4, 4, 3)]


def test_a_picture_covers_whole_pixels_of_the_figure() -> None:
    x = pictures(2)
    figure: Any = viz.show_rows({"x": x})
    left, right, bottom, top = figure.axes[0].get_images()[1].get_extent()
    scale = int(right - left) // 5
    assert (right - left, bottom - top) == (5 * scale, 6 * scale)
    pixels = viz.figure_png(figure).pixels()[int(top) : int(bottom), int(left) : int(right)]
    wanted = to_uint8(x[1, 0]).repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    assert (pixels[..., 0].int() - wanted.int()).abs().max() <= 1


def test_filmstrip_mixes_with_one_noise_along_a_row() -> None:
    x, amounts = pictures(2), [0.0, 0.5, 1.0]
    shown = shown_pictures(viz.filmstrip(x, amounts, generator=torch.Generator().manual_seed(3)))
    _, noise = corrupt(x, 1.0, generator=torch.Generator().manual_seed(3))
    for i, image in enumerate(shown):
        row, amount = i // 3, amounts[i % 3]
        assert torch.equal(image[..., 0], to_uint8((1 - amount) * x[row] + amount * noise[row])[0])


def test_features_fill_the_range_from_black_to_white() -> None:
    spread = torch.tensor([1, 10, 100, 1e-3]).view(4, 1, 1)
    shown = shown_pictures(viz.show_features(pictures(4)[:, 0] * spread))
    assert all(p.min() == 0 and p.max() == 255 for p in shown)


def test_plot_trajectory_shows_first_last_and_sample() -> None:
    steps = steps_of_a_run(7)
    figure: Any = viz.plot_trajectory(steps, columns=3, index=1)
    wanted = [steps[i].x_t[1] for i in (0, 3, 6)] + [steps[6].x_s[1]] + [steps[i].x0_hat[1] for i in (0, 3, 6)]
    for image, picture in zip(shown_pictures(figure), wanted, strict=True):
        assert torch.equal(image[..., 0], to_uint8(picture)[0])
    assert [t for t in texts(figure) if t.startswith("t =")] == ["t = 7", "t = 4", "t = 1", "t = 0"]


def test_nearest_table_shows_a_picture_above_itself() -> None:
    training = pictures(20)
    figure: Any = viz.nearest_table(training[4:6], training, k=2)
    shown = shown_pictures(figure)
    assert torch.equal(shown[0], shown[2]) and torch.equal(shown[1], shown[3])
    assert texts(figure).count("0.0") == 2


def test_a_gif_in_color_keeps_its_colors() -> None:
    ramp = torch.linspace(0, 255, 16).to(torch.uint8)
    last = torch.stack([ramp.expand(16, 16), ramp.expand(16, 16).T, torch.full((16, 16), 128, dtype=torch.uint8)], 2)
    with Image.open(io.BytesIO(viz.to_gif([torch.zeros_like(last), last], scale=2))) as gif:
        gif.seek(1)
        got = torch.from_numpy(np.array(gif.convert("RGB")))
    assert got.shape == (32, 32, 3) and (got[::2, ::2].float() - last).abs().mean() < 16
