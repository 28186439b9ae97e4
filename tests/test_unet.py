"""The ladder of U-Nets: the shapes and parameters that its papers give, and what a diffusion model needs of a network.

Models whose shapes alone matter run on the meta device: all shapes, no arithmetic.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from course_lib.blocks import Stage, center_crop
from course_lib.shapes import count_parameters, trace
from course_lib.unet import MODELS, BottleneckUNet, ClassicUNet, DoubleConvUNet, UNet
from helpers import randomize

SMALL: dict[str, Any] = dict(features=(8, 16), bottleneck=32)


def on_meta(make: Callable[..., nn.Module], *arguments: Any, **options: Any) -> Any:
    with torch.device("meta"):
        return make(*arguments, **options)


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, device="meta")


def seen(module: nn.Module, *, output: bool) -> list[torch.Tensor]:
    """A list that will hold the first input, or the output, of each coming call."""
    kept: list[torch.Tensor] = []
    module.register_forward_hook(lambda _, args, out: kept.append((out if output else args[0]).detach()))
    return kept


# 1. The U-Net of 2015


def test_the_classic_has_the_sizes_of_the_papers_first_figure() -> None:
    rows = trace(on_meta(ClassicUNet), zeros(1, 1, 572, 572))
    ends = [row.out_shape[1:] for row in rows if row.name in {f"down.{i}.3" for i in range(4)}]
    assert ends == [(64, 568, 568), (128, 280, 280), (256, 136, 136), (512, 64, 64)]
    deepest = [row for row in rows if row.name.startswith("bottleneck")][-1]
    assert deepest.out_shape == (1, 1024, 28, 28) and rows[-1].out_shape == (1, 2, 388, 388)


def test_output_size_is_what_comes_out_and_refused_sizes_get_the_nearest_good_ones() -> None:
    model, good = on_meta(ClassicUNet, features=(2, 3), bottleneck=4), list(range(44, 130, 4))
    for size in good:
        assert model(zeros(1, 1, size, size)).shape[2:] == (model.output_size(size),) * 2
    for size in set(range(1, 110)) - set(good):
        with pytest.raises(ValueError, match=f"size {size} does not fit") as refusal:
            model(zeros(1, 1, size, size))
        offered = [int(n) for n in str(refusal.value).rpartition("sizes are ")[2].split(" and ")]
        assert set(offered) <= set(good)
        assert sorted(abs(n - size) for n in offered) == sorted(abs(n - size) for n in good)[:2]


def test_the_middle_is_cropped() -> None:
    x = torch.arange(36.0).view(1, 1, 6, 6)
    assert torch.equal(center_crop(x, torch.zeros(1, 1, 2, 4)), x[:, :, 2:4, 1:5])


# 2. The padded one


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        (dict(in_channels=3, out_channels=1), 31_037_633),
        (dict(in_channels=1, out_channels=1), 31_036_481),
        (dict(in_channels=3, out_channels=3, batch_norm=False, time_plane=1000), 31_032_451),
        (dict(in_channels=4, out_channels=3, batch_norm=False), 31_032_451),
    ],
)
def test_the_padded_one_gives_back_the_size(options: dict[str, Any], parameters: int) -> None:
    model = on_meta(DoubleConvUNet, **options).eval()
    assert count_parameters(model) == parameters
    t = zeros(1).long() if "time_plane" in options else None
    for size in ((16, 16), (32, 48)):
        assert model(zeros(1, options["in_channels"], *size), t).shape == (1, options["out_channels"], *size)


@pytest.mark.parametrize(("shape", "axis"), [((28, 32), "height 28"), ((32, 28), "width 28")])
def test_the_padded_one_refuses_28_or_resizes_to_the_skip(shape: tuple[int, int], axis: str) -> None:
    with pytest.raises(ValueError, match=rf"{axis} cannot be halved.*multiple of 16.*sizes are 16 and 32"):
        on_meta(DoubleConvUNet)(zeros(1, 3, *shape))
    forgiving = on_meta(DoubleConvUNet, 1, 1, resize_to_skip=True)
    assert forgiving(zeros(1, 1, *shape)).shape == (1, 1, *shape)
    with pytest.raises(ValueError, match=r"at least 16 pixels high and wide, got \(15, 28\)"):
        forgiving(zeros(1, 1, 15, 28))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_time_plane_is_t_over_T_to_the_last_digit_of_the_pictures(dtype: torch.dtype) -> None:
    model = DoubleConvUNet(1, 1, **SMALL, time_plane=1000, batch_norm=False).to(dtype)
    first = seen(model.down[0], output=False)
    x, t = torch.randn(4, 1, 8, 8, dtype=dtype), torch.tensor([1, 257, 999, 1000])
    model(x, t)
    expected = torch.tensor([0.001, 0.257, 0.999, 1.0], dtype=torch.float64).to(dtype).view(4, 1, 1, 1)
    assert torch.equal(first[0][:, :1], x) and torch.equal(first[0][:, 1:], expected.expand(4, 1, 8, 8))


# 3. The one with a dense bottleneck


def test_shapes_and_parameters_of_the_bottleneck() -> None:
    rows = trace(BottleneckUNet(), torch.zeros(2, 1, 16, 16), depth=1)
    assert sum(row.parameters for row in rows) == 234_977
    top = {"stem": (16, 16, 16), "down.0": (32, 8, 8), "down.1": (64, 4, 4), "flatten": (1024,), "dense": (1024,)}
    up = {"unflatten": (64, 4, 4), "up.0": (32, 8, 8), "up.1": (16, 16, 16), "out": (1, 16, 16)}
    assert {row.name: row.out_shape[1:] for row in rows} == top | up


def test_the_bottleneck_fits_one_size_and_does_not_look_at_time() -> None:
    model, x = BottleneckUNet(3, (8, 16, 16), size=12).eval(), torch.randn(2, 3, 12, 12)
    assert torch.equal(model(x), model(x, torch.tensor([1, 2]), torch.tensor([3, 4])))
    with pytest.raises(ValueError, match=r"built for 12×12 pictures, got \(24, 12\)"):
        model(torch.randn(2, 3, 24, 12))


# 4. The one that the course trains

VARIANTS: dict[str, dict[str, Any]] = {
    "default": dict(),
    "pixels": dict(size=16, patch=1, channels=(16, 16)),
    "patch 4": dict(size=32, patch=4, channels=(16, 32), attention=(0,)),
    "three levels": dict(size=32, channels=(16, 16, 32), blocks=2, attention=(0, 1, 2)),
    "one level": dict(size=14, channels=(16,), attention=(0,)),
    "color and classes": dict(size=16, in_channels=3, channels=(16, 32), num_classes=5),
    "more channels out": dict(size=28, channels=(16, 32), in_channels=2, out_channels=5),
}


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> UNet:
    torch.manual_seed(0)
    return UNet(**VARIANTS[request.param])


def arguments(model: UNet, batch: int = 3, dtype: torch.dtype = torch.float32) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(0)
    size, classes = model.config["size"], model.config["num_classes"]
    x = torch.randn(batch, model.config["in_channels"], size, size, generator=generator, dtype=dtype)
    t = torch.randint(1, 1001, (batch,), generator=generator)
    return x, t, None if classes is None else torch.randint(0, classes, (batch,), generator=generator)


def test_a_new_network_answers_zero_in_the_size_of_the_picture(variant: UNet) -> None:
    x, t, y = arguments(variant)
    for picture in (x, torch.cat([x, x], dim=2)):  # the second is not square, and not of the size it was built for
        answer = variant(picture, t, y)
        assert answer.shape == (3, variant.config["out_channels"], *picture.shape[2:]) and not answer.any()
    with pytest.raises(ValueError, match=f"width {x.shape[3] - 1} cannot be halved.*nearest good sizes are"):
        variant(x[..., 1:], t, y)


def test_gradients_reach_every_parameter(variant: UNet) -> None:
    """Three updates, because what starts at zero lets nothing through at first.

    Update 1 moves the last convolution alone: it is zero, so no gradient passes it. At update 2 the gradient comes as
    far as the other zeros, the last convolution of each block and of each attention, and moves those. At update 3 it
    reaches every parameter.
    """
    x, t, y = arguments(variant, batch=4)
    wanted = torch.randn(variant(x, t, y).shape, generator=torch.Generator().manual_seed(9))
    optimizer = torch.optim.SGD(variant.parameters(), lr=0.1)
    reached: list[set[str]] = []
    for _ in range(3):
        optimizer.zero_grad()
        (variant(x, t, y) - wanted).square().mean().backward()
        gradients = {name: p.grad for name, p in variant.named_parameters()}
        reached.append({name for name, grad in gradients.items() if grad is not None and grad.any()})
        optimizer.step()
    assert reached[0] == {"out.2.weight", "out.2.bias"} and reached[2] == gradients.keys()
    gates = {name for name in gradients if name.endswith(("res.conv2.weight", "attention.out.weight"))}
    assert gates and gates <= reached[1] and not any("conv1" in name or "qkv" in name for name in reached[1])


def test_a_picture_depends_on_all_that_is_its_own_and_on_no_neighbor(variant: UNet) -> None:
    """On the time, the class and every pixel; in train mode as in eval mode, and in double precision all the way."""
    model = randomize(variant).double().eval()
    x, t, y = arguments(variant, batch=4, dtype=torch.float64)
    together = model(x, t, y)
    assert together.dtype == torch.float64 and together.abs().max() > 0.1
    assert torch.equal(model.train()(x, t, y), together)
    for i in range(4):
        one = slice(i, i + 1)
        alone = model(x[one], t[one], None if y is None else y[one])
        torch.testing.assert_close(alone, together[one], rtol=1e-9, atol=1e-9)
    for other in (model(x, t + 1, y), together + 1 if y is None else model(x, t, (y + 1) % 5)):
        assert ((other - together).flatten(1).abs().amax(1) > 1e-4).all()
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x, t, y).square().sum(), x)
    assert (gradient != 0).all()


@pytest.mark.parametrize("levels", [(), (0,), (1,), (0, 1, 2)])
def test_attention_sits_at_the_deepest_point_and_where_named(levels: tuple[int, ...]) -> None:
    model = on_meta(UNet, size=32, channels=(8, 16, 24), patch=1, attention=levels)
    rows = trace(model, zeros(1, 1, 32, 32), torch.ones(1, dtype=torch.int64, device="meta"), depth=3)
    sizes = [row.out_shape[2] for row in rows if row.kind == "SelfAttention"]
    assert {*sizes} == {8, *((32, 16, 8)[level] for level in levels)} and len(sizes) == 1 + 3 * len(levels)


@pytest.mark.parametrize("classes", [None, 5])
def test_it_can_be_exported_for_batches_of_any_size(classes: int | None) -> None:
    model = randomize(UNet(16, channels=(16, 32), attention=(1,), num_classes=classes)).eval()
    x, t, y = arguments(model, batch=5)
    batch = {0: torch.export.Dim("batch", max=4096)}
    shapes = (batch, batch, None if y is None else batch)
    exported = torch.export.export(model, (x, t, y), dynamic_shapes=shapes).module()
    for size in (5, 2, 1):
        given = (x[:size], t[:size], None if y is None else y[:size])
        torch.testing.assert_close(exported(*given), model(*given))


# All of them

LADDER: dict[str, tuple[Any, torch.Tensor]] = {
    "ClassicUNet": (ClassicUNet(2, 3, **SMALL), torch.randn(2, 2, 44, 48)),
    "DoubleConvUNet": (DoubleConvUNet(2, 3, **SMALL), torch.randn(2, 2, 8, 12)),
    "BottleneckUNet": (BottleneckUNet(2, (8, 16), 8, 16), torch.randn(2, 2, 8, 8)),
    "UNet": (UNet(8, 2, channels=(16, 16)), torch.randn(2, 2, 8, 8)),
}
LOWER = ("ClassicUNet", "DoubleConvUNet", "BottleneckUNet")
NAMES = pytest.mark.parametrize("name", LADDER)


def time_of(name: str) -> torch.Tensor | None:
    return torch.tensor([1, 2]) if name == "UNet" else None


def test_config_holds_every_argument() -> None:
    assert set(MODELS) == set(LADDER)
    for name, (model, _) in LADDER.items():
        assert set(model.config) == set(inspect.signature(MODELS[name]).parameters)


def test_each_skip_meets_the_map_of_its_own_size_and_is_cropped_where_it_is_larger() -> None:
    classic, padded = ClassicUNet(**SMALL), DoubleConvUNet(1, 1, **SMALL)
    bottleneck, unet = BottleneckUNet(1, (8, 16, 16), 12), randomize(UNet(16, channels=(16, 16), blocks=2))
    stages = [part for part in unet.up if isinstance(part, Stage)]
    for model, size, senders, receivers, skip_first in (
        (classic, (60, 44), classic.down, classic.merge, True),
        (padded, (8, 12), padded.down, padded.merge, True),
        (bottleneck, (12, 12), bottleneck.down, [block.get_submodule("body") for block in bottleneck.up], False),
        (unet, (16, 16), [unet.stem, *unet.down], stages, False),
    ):
        sent = [seen(part, output=True) for part in senders]
        received = [seen(part, output=False) for part in receivers]
        model(torch.randn(2, 1, *size), *[torch.tensor([1, 2])] * (model is unet))
        for (skip,), (into,) in zip(reversed(sent), received, strict=True):
            channels = slice(skip.shape[1]) if skip_first else slice(-skip.shape[1], None)
            assert torch.equal(into[:, channels], center_crop(skip, into))


@pytest.mark.parametrize("name", LOWER)
def test_gradients_reach_every_parameter_of_the_lower_rungs(name: str) -> None:
    """All but the biases that BatchNorm cancels, which the 16×16 one keeps: their gradient is rounding."""
    model, x = LADDER[name]
    torch.manual_seed(0)
    model = MODELS[name](**model.config).train()
    model(x).square().mean().backward()
    layers = list(model.modules())
    cancelled = {id(conv.bias) for conv, following in pairwise(layers) if isinstance(following, nn.BatchNorm2d)}
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert id(parameter) in cancelled or parameter.grad.abs().max() > 0, label


@NAMES
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (torch.zeros(2, 2, 8, 8, dtype=torch.uint8), TypeError, "got torch.uint8; .*course_lib.data.to_float"),
        (torch.zeros(2, 3, 8, 8), ValueError, r"x_t must have 2 channel\(s\), got 3"),
        (torch.zeros(0, 2, 8, 8), ValueError, r"x_t is empty, shape \(0, 2, 8, 8\)"),
    ],
)
def test_bad_pictures(name: str, bad: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LADDER[name][0](bad, time_of(name))


PLAIN, TIMED = DoubleConvUNet(2, 3, **SMALL), DoubleConvUNet(2, 3, **SMALL, time_plane=10)
WITHOUT, WITH = UNet(8, 2, channels=(16,)), UNet(8, 2, channels=(16,), num_classes=3)
TWO = torch.tensor([1, 2])


@pytest.mark.parametrize(
    ("models", "given", "error", "message"),
    [
        ([PLAIN, ClassicUNet(2, **SMALL)], (TWO,), ValueError, "built without t, so t must be None, got Tensor"),
        ([PLAIN, ClassicUNet(2, **SMALL)], (None, TWO), ValueError, "built without y, so y must be None, got Tensor"),
        ([TIMED, WITHOUT], (None,), TypeError, r"t must be a tensor of shape \(B,\), \(2,\) here, got NoneType"),
        ([TIMED, WITHOUT], (TWO / 1,), TypeError, "t must hold int64 .*, got torch.float32; use t.long"),
        ([TIMED, WITHOUT], (TWO[:1],), ValueError, "t must have one entry per picture, 2, got 1"),
        ([WITHOUT], (TWO, TWO), ValueError, "built without class labels"),
        ([WITH], (TWO, None), TypeError, r"built with 3 classes: y must be given, \(B,\)"),
        ([WITH], (TWO, TWO[:1]), ValueError, "y must have one entry per picture, 2, got 1"),
        ([WITH], (TWO, TWO + 1), ValueError, r"y must hold classes in 0..2, got 2..3"),
        ([WITH], (TWO, TWO - 2), ValueError, r"y must hold classes in 0..2, got -1..0"),
    ],
)
def test_bad_timesteps_and_classes(models: list[Any], given: Any, error: type[Exception], message: str) -> None:
    for model in models:
        with pytest.raises(error, match=message):
            model(torch.zeros(2, 2, 44, 44), *given)


@NAMES
def test_every_argument_of_a_network_is_validated(name: str) -> None:
    bad: dict[type, list[Any]] = {
        int: [0, 1.5, True],
        bool: ["no", 1],
        list: [64, "64", (8, -8), (8, 1.5)],
        type(None): [0, 1.5, True],
    }
    for argument, value in LADDER[name][0].config.items():
        for each in bad[type(value)]:
            with pytest.raises((TypeError, ValueError), match=f"^{argument} must"):
                MODELS[name](**{argument: each})


HALVED = "cannot be halved.*multiple of {}.*nearest good sizes are {}$"


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("UNet", dict(size=30), ValueError, "size 30 " + HALVED.format(4, "28 and 32")),
        ("UNet", dict(size=2, patch=4, channels=(8,)), ValueError, HALVED.format(4, "4")),
        ("UNet", dict(channels=(12, 24)), ValueError, "channels must be a multiple of 8.*got 12"),
        ("UNet", dict(channels=()), ValueError, "channels must name at least one level"),
        ("UNet", dict(attention=(2,)), ValueError, r"attention must lie in \[0, 1\], got 2"),
        ("BottleneckUNet", dict(size=18), ValueError, "size 18 " + HALVED.format(4, "16 and 20")),
        *((name, dict(features=[]), ValueError, "features must name at least one level, got none") for name in LOWER),
    ],
)
def test_a_network_that_cannot_work_is_not_built(
    name: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        MODELS[name](**options)


@pytest.mark.cuda
def test_on_the_gpu_as_on_the_cpu() -> None:
    model = randomize(UNet(channels=(16, 32), num_classes=5))
    given = arguments(model)
    near = model(*given)
    there = model.cuda()(*(tensor.cuda() for tensor in given))
    torch.testing.assert_close(there.cpu(), near, rtol=1e-2, atol=1e-2)  # TF32
    with pytest.raises(ValueError, match=r"device of the pictures, cuda:0, got cpu; use t.to\(x.device\)"):
        model(given[0].cuda(), given[1], given[2].cuda())
