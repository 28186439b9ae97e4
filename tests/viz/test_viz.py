"""Figures show what they were given: pixels, curves and marks are read back and compared with the tensors."""

from __future__ import annotations

import base64
import math
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from course_lib import viz
from course_lib.blocks import sinusoidal_embedding
from course_lib.data import to_uint8
from course_lib.forward import corrupt, left_in_words
from course_lib.sample import SampleStep
from course_lib.schedule import Schedule, make_schedule
from course_lib.shapes import halve, layer_size, trace
from course_lib.unet import BottleneckUNet, ClassicUNet, DoubleConvUNet, UNet
from course_lib.viz.gauge import gauge_place
from course_lib.viz.networks import stages_of


def pictures(n: int = 4, channels: int = 1, height: int = 6, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def curve(axes: Any, label: str) -> tuple[list[float], list[float]]:
    """The data of the line with this label."""
    (line,) = (line for line in axes.get_lines() if line.get_label() == label)
    return list(line.get_xdata()), list(line.get_ydata())


# pictures and PNG


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_places_every_picture(channels: int) -> None:
    x = pictures(5, channels)
    pixels = viz.grid(x, columns=3, pad=2)
    assert pixels.shape[:2] == (2 * 8 + 2, 3 * 7 + 2)
    for i, picture in enumerate(to_uint8(x)):
        top, left = 2 + i // 3 * 8, 2 + i % 3 * 7
        cut = pixels[top : top + 6, left : left + 5].view(6, 5, channels)
        assert torch.equal(cut, picture.permute(1, 2, 0))
    assert (pixels[:2] == 205).all() and (pixels[10:, 16:] == 205).all()  # the border and the place left over


def test_grid_without_border_of_one_picture_is_the_picture() -> None:
    x = pictures(1)
    assert torch.equal(viz.grid(x, pad=0), to_uint8(x[0, 0]))


def test_span_sets_black_and_white() -> None:
    x = torch.tensor([-3.0, -2.0, 0.0, 2.0, 3.0]).view(1, 1, 1, 5)
    assert viz.grid(x, pad=0, span=2).tolist() == [[0, 0, 128, 255, 255]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 3])
def test_png_decodes_to_the_grid(channels: int, scale: int) -> None:
    x = pictures(4, channels)
    png = viz.to_png(x, columns=2, scale=scale)
    wanted = viz.grid(x, columns=2).repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    assert torch.equal(png.pixels(), wanted)
    assert png.size == (wanted.shape[1], wanted.shape[0])


def test_png_is_read_by_other_decoders(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(viz.to_png(pictures(), columns=2))
    with Image.open(path) as image:
        image.verify()
        assert (image.format, image.mode) == ("PNG", "L")


def test_png_shows_itself() -> None:
    png = viz.to_png(pictures())
    assert png._repr_png_() == bytes(png)
    assert "pixels" in f"{png}" and "x89" not in f"{png}"


@pytest.mark.parametrize("amount", [0.0, 0.37, 1.0])
def test_gray_levels_are_those_of_corrupt(amount: float) -> None:
    x = pictures(9)
    mixed, _ = corrupt(x, amount, generator=torch.Generator().manual_seed(1))
    shown = viz.to_png(mixed, columns=9, scale=1, pad=0).pixels().float() / 127.5 - 1
    exact = mixed.clamp(-1, 1).squeeze(1).permute(1, 0, 2).reshape(6, 45)
    assert (shown - exact).abs().max() <= 1 / 127.5


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"x": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)}, TypeError, "uint8"),
        ({"x": torch.zeros(4, 4)}, ValueError, "4 dimensions"),
        ({"x": torch.zeros(2, 2, 4, 4)}, ValueError, "channels"),
        ({"x": torch.full((1, 1, 2, 2), math.nan)}, ValueError, "NaN"),
        ({"x": torch.zeros(2, 1, 4, 4), "columns": 0}, ValueError, "columns"),
        ({"x": torch.zeros(2, 1, 4, 4), "scale": 0}, ValueError, "scale"),
        ({"x": torch.zeros(2, 1, 4, 4), "scale": 1.5}, TypeError, "scale"),
        ({"x": torch.zeros(2, 1, 4, 4), "pad": -1}, ValueError, "pad"),
        ({"x": torch.zeros(2, 1, 4, 4), "span": 0}, ValueError, "span"),
    ],
)
def test_to_png_refuses(arguments: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        viz.to_png(**arguments)


@pytest.mark.parametrize("pixels", [torch.zeros(4, 4), torch.zeros(4, dtype=torch.uint8), [[0]]])
def test_encode_refuses(pixels: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="pixels"):
        viz.encode(pixels)


# figures as such


def steps_of_a_run(n: int = 5) -> list[SampleStep]:
    return [SampleStep(n - i, n - i - 1, *(pictures(3, seed=10 * i + j) for j in range(4))) for i in range(n)]


FIGURES: dict[str, Any] = {
    "show_grid": lambda: viz.show_grid(pictures(3), ["a", "b", "c"], title="all"),
    "show_rows": lambda: viz.show_rows({"one": pictures(2), "two": pictures(3, 3)}, ["a", "b", "c"]),
    "filmstrip": lambda: viz.filmstrip(pictures(2), generator=torch.Generator().manual_seed(0)),
    "show_features": lambda: viz.show_features(torch.randn(5, 7, 7)),
    "plot_curves": lambda: viz.plot_curves({"y": ([0, 1], [1, 2])}, {"d": ([0], [1], [0.1])}, mark=0.5),
    "plot_variance": lambda: viz.plot_variance([0, 1], [1, 1], [0.1, 0.1], picture_variance=0.5),
    "plot_histogram": lambda: viz.plot_histogram({"a": torch.randn(100), "b": torch.rand(3, 4)}),
    "plot_schedules": lambda: viz.plot_schedules([make_schedule("linear", 50), make_schedule("cosine", 50)], 20),
    "plot_gauge": lambda: viz.plot_gauge(make_schedule("linear", 50)),
    "plot_loss": lambda: viz.plot_loss([1.0, 0.5], reference={"zero": 1.0}),
    "plot_loss of nothing": lambda: viz.plot_loss([]),
    "plot_loss_by_timestep": lambda: viz.plot_loss_by_timestep(torch.tensor([1, 9]), torch.tensor([1.0, 2.0]), 10),
    "plot_time_embedding": lambda: viz.plot_time_embedding(torch.rand(8, 6)),
    "plot_kernel": lambda: viz.plot_kernel("conv", 7, 3, 2, 1),
    "plot_halvings": lambda: viz.plot_halvings(28, 4),
    "plot_unet": lambda: viz.plot_unet(trace(BottleneckUNet(), torch.zeros(1, 1, 16, 16)), "title"),
    "plot_trajectory": lambda: viz.plot_trajectory(steps_of_a_run()),
    "nearest_table": lambda: viz.nearest_table(pictures(2), pictures(6, seed=1)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_figures_that_show_themselves_and_leave_nothing_behind(name: str) -> None:
    before = dict(matplotlib.rcParams)
    figure: Any = FIGURES[name]()
    assert isinstance(figure, viz.Figure) and isinstance(figure, matplotlib.figure.Figure)
    data, about = figure._repr_mimebundle_()
    size = about["image/png"]
    assert viz.Png(base64.b64decode(data["image/png"])).size == (2 * size["width"], 2 * size["height"])
    shown = viz.figure_png(figure).pixels()
    assert abs(shown.shape[1] - size["width"]) <= 1 and len(shown.flatten().unique()) > 20
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_the_same_every_time(name: str) -> None:
    if name in ("show_features", "plot_histogram", "plot_time_embedding"):
        torch.manual_seed(0)
        first = viz.figure_png(FIGURES[name]())
        torch.manual_seed(0)
        assert viz.figure_png(FIGURES[name]()) == first
    else:
        assert viz.figure_png(FIGURES[name]()) == viz.figure_png(FIGURES[name]())


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * p for weight, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("name", ["black", "red"])
def test_text_has_contrast_on_the_card(name: str) -> None:
    ratio = (luminance(viz.CARD) + 0.05) / (luminance(viz.COLORS[name]) + 0.05)
    assert ratio >= 4.5


def test_the_card_is_opaque_so_that_the_page_behind_does_not_matter() -> None:
    figure: Any = FIGURES["plot_curves"]()
    figure.canvas.draw()
    alpha = torch.frombuffer(bytearray(figure.canvas.buffer_rgba()), dtype=torch.uint8)[3::4]
    assert (alpha == 255).all()


# rows of pictures


def shown_pictures(figure: Any) -> list[torch.Tensor]:
    return [torch.as_tensor(image.get_array().copy()) for image in figure.axes[0].get_images()]


def texts(figure: Any) -> list[str]:
    found = [*figure.texts, *(a for a in figure.artists if isinstance(a, matplotlib.text.Text))]
    return [t.get_text() for t in found]


def test_show_rows_shows_the_pictures_in_order_with_labels_and_titles() -> None:
    rows = {"first": pictures(2), "second": pictures(3, seed=1)}
    figure: Any = viz.show_rows(rows, ["A", "B", "C"], title="T")
    wanted = [p for x in rows.values() for p in to_uint8(x)]
    for image, picture in zip(shown_pictures(figure), wanted, strict=True):
        assert torch.equal(image, picture.expand(3, -1, -1).permute(1, 2, 0))
    assert set(texts(figure)) == {"first", "second", "A", "B", "C", "T"}


def test_a_picture_covers_whole_pixels_of_the_figure() -> None:
    x = pictures(2)
    figure: Any = viz.show_rows({"x": x})
    image = figure.axes[0].get_images()[1]
    left, right, bottom, top = image.get_extent()
    scale = int(right - left) // 5
    assert (right - left, bottom - top) == (5 * scale, 6 * scale)
    pixels = viz.figure_png(figure).pixels()[int(top) : int(bottom), int(left) : int(right)]
    wanted = to_uint8(x[1, 0]).repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    assert (pixels[..., 0].int() - wanted.int()).abs().max() <= 1


def test_smaller_pictures_are_enlarged_beside_larger_ones() -> None:
    figure: Any = viz.show_rows({"small": torch.ones(1, 1, 2, 2), "large": torch.zeros(1, 1, 4, 4)})
    assert [tuple(p.shape) for p in shown_pictures(figure)] == [(4, 4, 3), (4, 4, 3)]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: viz.show_rows({}), "at least one"),
        (lambda: viz.show_rows({"a": torch.zeros(3, 3)}), "rows\\['a'\\]"),
        (lambda: viz.show_rows({"a": torch.zeros(2, 1, 3, 3)}, ["one"]), "titles"),
        (lambda: viz.show_grid(torch.zeros(2, 1, 3, 3), ["one"]), "titles"),
        (lambda: viz.show_features(torch.zeros(2, 3, 4, 4)), "one picture"),
        (lambda: viz.plot_trajectory([]), "at least one step"),
        (lambda: viz.plot_trajectory(steps_of_a_run(), index=3), "index"),
        (lambda: viz.nearest(pictures(2), pictures(2, height=4)), "one shape"),
        (lambda: viz.nearest(pictures(2), pictures(2), k=3), "k must"),
        (lambda: viz.plot_loss_by_timestep(torch.tensor([1]), torch.zeros(2), 9), "shape"),
        (lambda: viz.plot_time_embedding(torch.zeros(3)), "embedding"),
        (lambda: viz.plot_time_embedding(torch.zeros(3, 4), torch.arange(2)), "one entry per row"),
        (lambda: viz.plot_schedules([make_schedule("linear", 10)], t=11), "t must lie"),
        (lambda: viz.plot_halvings(0), "size"),
        (lambda: viz.plot_unet([]), "trace"),
        (lambda: viz.smoothed([1.0], 1.0), "smooth"),
    ],
)
def test_refusals(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_schedules_must_be_schedules() -> None:
    with pytest.raises(TypeError, match="make_schedule"):
        viz.plot_schedules(["linear"])  # type: ignore[list-item]


def test_filmstrip_mixes_with_one_noise_along_a_row() -> None:
    x, amounts = pictures(2), [0.0, 0.5, 1.0]
    shown = shown_pictures(viz.filmstrip(x, amounts, generator=torch.Generator().manual_seed(3)))
    _, noise = corrupt(x, 1.0, generator=torch.Generator().manual_seed(3))
    for r in range(2):
        for c, amount in enumerate(amounts):
            wanted = to_uint8((1 - amount) * x[r] + amount * noise[r])
            assert torch.equal(shown[3 * r + c][..., 0], wanted[0])


def test_features_fill_the_range_from_black_to_white() -> None:
    shown = shown_pictures(viz.show_features(torch.randn(4, 5, 5) * torch.tensor([1, 10, 100, 1e-3]).view(4, 1, 1)))
    assert all(p.min() == 0 and p.max() == 255 for p in shown)


def test_plot_trajectory_shows_first_last_and_sample() -> None:
    steps = steps_of_a_run(7)
    figure: Any = viz.plot_trajectory(steps, columns=3, index=1)
    shown = shown_pictures(figure)
    wanted = [steps[i].x_t[1] for i in (0, 3, 6)] + [steps[6].x_s[1]] + [steps[i].x0_hat[1] for i in (0, 3, 6)]
    for image, picture in zip(shown, wanted, strict=True):
        assert torch.equal(image[..., 0], to_uint8(picture)[0])
    assert [t for t in texts(figure) if t.startswith("t =")] == ["t = 7", "t = 4", "t = 1", "t = 0"]


def test_nearest_agrees_with_all_distances() -> None:
    samples, training = pictures(3), pictures(40, seed=5)
    distances, index = viz.nearest(samples, training, k=4)
    every = (samples[:, None] - training[None]).flatten(2).square().sum(2).sqrt()
    wanted, places = every.sort(1)
    torch.testing.assert_close(distances.float(), wanted[:, :4], rtol=1e-6, atol=1e-6)
    assert torch.equal(index, places[:, :4])


def test_nearest_table_shows_a_picture_beside_itself() -> None:
    training = pictures(20)
    figure: Any = viz.nearest_table(training[4:6], training, k=2)
    shown = shown_pictures(figure)
    assert torch.equal(shown[0], shown[2]) and torch.equal(shown[1], shown[3])
    assert texts(figure).count("0.0") == 2


# curves


def test_plot_curves_draws_the_data() -> None:
    x, y = torch.linspace(0, 1, 7), torch.rand(7)
    axes: Any = viz.plot_curves({"c": (x, y)}, {"d": ([0.2], [0.4], [0.1])}, logy=True, mark=0.3).axes[0]
    xs, ys = curve(axes, "c")
    assert xs == pytest.approx(x.tolist()) and ys == pytest.approx(y.tolist())
    (bars,) = axes.containers
    assert bars[0].get_xdata() == [0.2] and bars[0].get_ydata() == [0.4]
    assert axes.get_yscale() == "log"
    assert any(set(line.get_xdata()) == {0.3} for line in axes.get_lines())


def test_plot_variance_agrees_with_a_simulation() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(200_000, generator=generator, dtype=torch.float64) for _ in range(2))
    x = 0.6 * x
    axes: Any = viz.plot_variance([0.5], [0.34], picture_variance=float(x.var())).axes[0]
    for label, a, b in (("weights 1−u and u: predicted", 0.7, 0.3), ("weights √(1−u) and √u", 0.7**0.5, 0.3**0.5)):
        xs, ys = curve(axes, label)
        at = min(range(len(xs)), key=lambda i: abs(xs[i] - 0.3))
        assert ys[at] == pytest.approx(float((a * x + b * noise).var()), rel=0.01)


def test_schedules_and_marker_sit_at_the_tables() -> None:
    schedules = [make_schedule("linear", 40), make_schedule("cosine", 40)]
    figure: Any = viz.plot_schedules(schedules, t=15)
    for schedule in schedules:
        for axes, table in zip(figure.axes, (schedule.signal, schedule.noise, schedule.snr.log10()), strict=True):
            xs, ys = curve(axes, schedule.name)
            assert ys == pytest.approx(table[int(xs[0]) :].tolist())
            marks = [line for line in axes.get_lines() if line.get_marker() == "o"]
            assert (15, pytest.approx(float(table[15]))) in [(m.get_xdata()[0], m.get_ydata()[0]) for m in marks]


def test_svg_follows_the_theme_and_is_the_same_each_time() -> None:
    svg = viz.figure_svg(viz.plot_gauge())
    assert svg.startswith("<svg") and svg == viz.figure_svg(viz.plot_gauge())
    assert "currentColor" in svg and viz.CARD not in svg.upper()
    assert 'width="' not in svg.split(">")[0] and "viewBox" in svg.split(">")[0]
    grays = set(re.findall(r"#([0-9a-f]{2})\1\1\b", svg, re.IGNORECASE))
    assert not grays, grays


@pytest.mark.parametrize("a", [0.0, 0.02, 0.5, 1.0])
def test_the_gauge_has_one_scale(a: float) -> None:
    place = float(gauge_place(torch.tensor(a)))
    assert place == pytest.approx(72 * (0.3 + 5.8 * a**0.5))


@pytest.mark.parametrize("smooth", [0.0, 0.5, 0.98])
def test_smoothed_keeps_a_constant_and_averages(smooth: float) -> None:
    assert viz.smoothed([2.0] * 9, smooth) == pytest.approx([2.0] * 9)
    losses = torch.rand(50, dtype=torch.float64).tolist()
    weights = [smooth ** (49 - i) for i in range(50)]
    wanted = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
    assert viz.smoothed(losses, smooth)[-1] == pytest.approx(wanted)


def test_plot_loss_draws_raw_smoothed_and_reference() -> None:
    losses = [1.0, 0.5, 0.7, 0.2]
    axes: Any = viz.plot_loss(losses, smooth=0.9, reference={"zero": 1.0}).axes[0]
    assert list(axes.get_lines()[0].get_ydata()) == losses
    assert curve(axes, "running mean")[1] == pytest.approx(viz.smoothed(losses, 0.9))
    assert set(curve(axes, "zero")[1]) == {1.0}


def test_loss_by_timestep_averages_within_stretches() -> None:
    t = torch.tensor([1, 10, 11, 20, 100])
    loss = torch.tensor([1.0, 3.0, 5.0, 5.0, 7.0])
    axes: Any = viz.plot_loss_by_timestep(t, loss, T=100, bins=10).axes[0]
    assert {p.get_x() + p.get_width() / 2: p.get_height() for p in axes.patches} == {5.0: 2.0, 15.0: 5.0, 95.0: 7.0}


def test_histogram_is_a_density() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    axes: Any = viz.plot_histogram(values).axes[0]
    heights, edges, _ = axes.patches[0].get_data()
    assert (heights * (edges[1:] - edges[:-1])).sum() == pytest.approx(1, abs=1e-5)


def test_time_embedding_map_holds_the_embedding() -> None:
    embedding = sinusoidal_embedding(torch.arange(20), 16)
    figure: Any = viz.plot_time_embedding(embedding)
    assert torch.equal(torch.as_tensor(figure.axes[0].get_images()[0].get_array().copy()), embedding)


@pytest.mark.parametrize(
    ("T", "word"), [(150, "still holds the picture"), (500, "Careful"), (1000, "every practical purpose")]
)
def test_gauge_verdict(T: int, word: str) -> None:
    assert word in left_in_words(make_schedule("linear", T))


def test_gauge_names_the_number() -> None:
    assert "0.47" in left_in_words(make_schedule("linear", 150))
    assert any("a_T = 0.4682" in words for words in texts(viz.plot_gauge(make_schedule("linear", 150))))
    nothing = Schedule(torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double())
    assert "nothing of the picture" in left_in_words(nothing)


# shapes


@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
def test_layer_size_agrees_with_the_layers(kernel: int, stride: int, dilation: int) -> None:
    x = torch.zeros(1, 1, 9, 9)
    options: dict[str, Any] = {"stride": stride, "dilation": dilation}
    layers = {
        "conv": torch.nn.Conv2d(1, 1, kernel, padding=1, **options),
        "pool": torch.nn.MaxPool2d(kernel, padding=0, **options),
        "transposed conv": torch.nn.ConvTranspose2d(1, 1, kernel, padding=1, output_padding=stride - 1, **options),
    }
    for kind, layer in layers.items():
        padding, extra = int(kind != "pool"), (stride - 1) * (kind == "transposed conv")
        out, formula = layer_size(kind, 9, kernel, stride, padding, extra, dilation)
        assert out == layer(x).shape[2]
        left = formula.split("=")[0].replace("⌊", "math.floor(").replace("⌋", ")").replace("·", "*").replace("−", "-")
        assert eval(left) == out == int(formula.split("=")[1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("dense", 7, 3), "kind"),
        (("conv", 3, 7), "smaller kernel"),
        (("conv", 7, 3, 1, 0, 1), "transposed"),
        (("pool", 7, 2, 2, 2), "padding"),
        (("transposed conv", 4, 3, 2, 1, 2), "output_padding"),
        (("transposed conv", 1, 1, 1, 3), "nothing is left"),
    ],
)
def test_layer_size_passes_on_refusals(arguments: Any, words: str) -> None:
    for function in (layer_size, viz.plot_kernel):
        with pytest.raises(ValueError, match=words):
            function(*arguments)


@pytest.mark.parametrize(("size", "padding", "unseen"), [(7, 0, 0), (8, 0, 1), (8, 1, 0), (7, 1, 0)])
def test_what_a_kernel_never_looks_at_is_said(size: int, padding: int, unseen: int) -> None:
    """A row of padding that is left over is none of the input's."""
    x = torch.zeros(1, 1, size, size, requires_grad=True)
    F.conv2d(x, torch.ones(1, 1, 3, 3), stride=2, padding=padding).sum().backward()
    assert x.grad is not None and int((x.grad[0, 0].sum(1) == 0).sum()) == unseen
    shown = " ".join(texts(viz.plot_kernel("conv", size, 3, 2, padding)))
    assert ("never looked at" in shown) == bool(unseen)


@pytest.mark.parametrize("size", [28, 31, 63])
def test_what_does_not_fit_is_said_in_lines_that_do(size: int) -> None:
    (sentence,) = (each for each in texts(viz.plot_halvings(size, 4)) if "nearest good sizes" in each)
    assert max(map(len, sentence.splitlines())) <= 72 and len(sentence.splitlines()) <= 3


def test_histograms_of_what_is_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="noise holds 1 value"):
        viz.plot_histogram({"noise": torch.tensor([1.0, float("nan")])})


def test_halving_28_four_times_breaks_where_the_sizes_are_odd() -> None:
    down, up, words = halve(28, 4)
    assert down == [28, 14, 7, 3, 1]
    assert (6, 7) in up and "7 → 3 → 6 ≠ 7" in words and "16 and 32" in words
    shown = texts(viz.plot_halvings(28, 4))
    assert "6 ≠ 7" in shown and words in shown


@pytest.mark.parametrize("size", [16, 28, 30, 32, 48])
def test_halve_agrees_with_the_network(size: int) -> None:
    model = DoubleConvUNet(1, 1, features=(8, 8, 8, 8), bottleneck=8).eval()
    x = torch.zeros(1, 1, size, size)
    if halve(size, 4)[2]:
        with pytest.raises(ValueError, match="nearest good sizes"):
            model(x)
    else:
        assert model(x).shape == x.shape


def test_halve_runs_out() -> None:
    assert halve(3, 4) == ([3, 1], [], "Nothing is left to halve after 1 pooling. The nearest good size is 16.")


def bars(model: Any, *inputs: Any, depth: Any = None) -> Any:
    return stages_of(trace(model.eval(), *inputs, depth=depth))


def test_the_2015_network_as_a_u() -> None:
    with torch.device("meta"):  # shapes alone
        found = bars(ClassicUNet(), torch.zeros(1, 1, 572, 572))
    sizes = [bar.side for bar in found]
    assert sizes[0] == 572 and sizes[-1] == 388 and min(sizes) == 28
    assert [bar.channels for bar in found if bar.kind == "concat"] == [1024, 512, 256, 128]
    for bar in found:
        if bar.kind == "concat":
            assert bar.source is not None
            source = found[bar.source]
            assert (source.channels, source.level) == (bar.skip, bar.level) and source.side > bar.side
    assert max(bar.level for bar in found) == 4


def test_concatenation_doubles_the_channels_of_the_padded_network() -> None:
    for bar in bars(DoubleConvUNet(1, 1), torch.zeros(1, 1, 32, 32)):
        if bar.kind == "concat":
            assert bar.channels == 2 * bar.skip


def test_the_small_network_passes_through_vectors() -> None:
    found = bars(BottleneckUNet(), torch.zeros(1, 1, 16, 16))
    assert [bar.channels for bar in found if bar.side == 0] == [1024, 32, 1024]
    assert [(bar.channels, bar.side) for bar in found if bar.kind == "concat"] == [(128, 4), (64, 8)]
    assert (found[-1].channels, found[-1].side, found[-1].level) == (1, 16, 0)


def test_the_time_is_beside_the_u() -> None:
    model = UNet()
    found = bars(model, torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64), depth=2)
    assert all(bar.side for bar in found) and (found[-1].channels, found[-1].side) == (1, 28)
    assert sum(bar.kind == "concat" for bar in found) == len(model.down) + 1
