"""The ladder of U-Nets: the shapes and parameters that its papers give, and what a diffusion model needs of a network.

Models whose shapes alone matter run on the meta device: all shapes, no arithmetic.
"""

from __future__ import annotations

import inspect
import json
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from course_lib.blocks import Stage, center_crop
from course_lib.shapes import count_parameters, trace
from course_lib.unet import MODELS, BottleneckUNet, ClassicUNet, DoubleConvUNet, UNet
from helpers import randomize

SMALL = dict(features=(8, 16), bottleneck=32)


def on_meta(make: type[nn.Module], *arguments: Any, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return make(*arguments, **options)


def inputs_of(module: nn.Module) -> list[torch.Tensor]:
    """A list that will hold the first input of each coming call."""
    seen: list[torch.Tensor] = []
    module.register_forward_hook(lambda _, args, output: seen.append(args[0].detach()))
    return seen


def outputs_of(module: nn.Module) -> list[torch.Tensor]:
    """A list that will hold the output of each coming call."""
    seen: list[torch.Tensor] = []
    module.register_forward_hook(lambda _, args, output: seen.append(output.detach()))
    return seen


# 1. The U-Net of 2015


def test_the_classic_takes_572_to_388_and_is_28_wide_at_its_deepest() -> None:
    model = on_meta(ClassicUNet)
    rows = trace(model, torch.zeros(1, 1, 572, 572, device="meta"))
    assert rows[-1].out_shape == (1, 2, 388, 388)
    deepest = [row for row in rows if row.name.startswith("bottleneck")][-1]
    assert deepest.out_shape == (1, 1024, 28, 28)
    assert min(row.out_shape[2] for row in rows) == 28
    ends = [row.out_shape[1:] for row in rows if row.name in {f"down.{i}.3" for i in range(4)}]
    assert ends == [(64, 568, 568), (128, 280, 280), (256, 136, 136), (512, 64, 64)]  # figure 1 of the paper
    assert count_parameters(model) == sum(row.parameters for row in rows)


def test_parameters_of_the_classic_by_hand() -> None:
    def conv(i: int, o: int, k: int) -> int:
        return i * o * k * k + o

    widths = [1, 64, 128, 256, 512, 1024]
    down = sum(conv(i, o, 3) + conv(o, o, 3) for i, o in pairwise(widths))
    up = sum(conv(2 * o, o, 2) + conv(2 * o, o, 3) + conv(o, o, 3) for o in widths[1:-1])
    assert count_parameters(on_meta(ClassicUNet)) == down + up + conv(64, 2, 1)


def test_output_size_is_what_comes_out_and_refused_sizes_get_the_nearest_good_ones() -> None:
    model = on_meta(ClassicUNet, features=(2, 3), bottleneck=4)
    assert isinstance(model, ClassicUNet)
    good = []
    for size in range(1, 120):
        try:
            expected = model.output_size(size)
        except ValueError:
            continue
        good.append(size)
        assert model(torch.zeros(1, 1, size, size, device="meta")).shape == (1, 2, expected, expected)
    assert good[:3] == [44, 48, 52]
    for size in set(range(1, 110)) - set(good):
        near = sorted(sorted(good, key=lambda g: abs(g - size))[:2])
        with pytest.raises(ValueError, match=f"size {size} does not fit") as refusal:
            model(torch.zeros(1, 1, size, size, device="meta"))
        named = str(refusal.value).rpartition("sizes are ")[2]
        offered = [int(n) for n in named.split(" and ")]
        assert sorted(abs(n - size) for n in offered) == sorted(abs(n - size) for n in near), (size, offered)
        assert set(offered) <= set(good)


def test_the_classic_refuses_256_and_names_its_neighbors() -> None:
    with pytest.raises(ValueError, match=r"size 256 does not fit.*nearest good sizes are 252 and 268"):
        on_meta(ClassicUNet)(torch.zeros(1, 1, 256, 256, device="meta"))


def test_the_classic_crops_the_middle_of_the_skip_and_puts_it_first() -> None:
    x = torch.arange(36.0).view(1, 1, 6, 6)
    assert torch.equal(center_crop(x, torch.zeros(1, 1, 2, 4)), x[:, :, 2:4, 1:5])
    model = ClassicUNet(**SMALL)  # type: ignore[arg-type]
    skips = [outputs_of(block) for block in model.down]
    merged = [inputs_of(block) for block in model.merge]
    model(torch.randn(1, 1, 60, 44))
    for skip, into in zip(skips, reversed(merged), strict=True):
        half = into[0].shape[1] // 2
        assert torch.equal(into[0][:, :half], center_crop(skip[0], into[0]))


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
def test_parameters_of_the_padded_one(options: dict[str, Any], parameters: int) -> None:
    assert count_parameters(on_meta(DoubleConvUNet, **options)) == parameters


def test_the_padded_one_gives_back_the_size() -> None:
    model = on_meta(DoubleConvUNet).eval()
    for height, width in ((16, 16), (32, 48), (160, 240)):
        assert model(torch.zeros(1, 3, height, width, device="meta")).shape == (1, 1, height, width)


@pytest.mark.parametrize(("shape", "axis"), [((28, 32), "height 28"), ((32, 28), "width 28")])
def test_the_padded_one_refuses_28_or_resizes_to_the_skip(shape: tuple[int, int], axis: str) -> None:
    with pytest.raises(ValueError, match=rf"{axis} cannot be halved.*multiple of 16.*sizes are 16 and 32"):
        on_meta(DoubleConvUNet)(torch.zeros(1, 3, *shape, device="meta"))
    with pytest.raises(ValueError, match=r"nearest good sizes are 16$"):
        on_meta(DoubleConvUNet)(torch.zeros(1, 3, 3, 16, device="meta"))
    forgiving = on_meta(DoubleConvUNet, 1, 1, resize_to_skip=True)
    assert forgiving(torch.zeros(1, 1, *shape, device="meta")).shape == (1, 1, *shape)
    with pytest.raises(ValueError, match=r"at least 16 pixels high and wide, got \(15, 28\)"):
        forgiving(torch.zeros(1, 1, 15, 28, device="meta"))
    strict, same = DoubleConvUNet(1, 1, **SMALL), DoubleConvUNet(1, 1, **SMALL, resize_to_skip=True)  # type: ignore[arg-type]
    same.load_state_dict(strict.state_dict())
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(strict.eval()(x), same.eval()(x))  # no difference where sizes fit


def test_the_padded_one_puts_the_skip_first() -> None:
    model = DoubleConvUNet(1, 1, **SMALL)  # type: ignore[arg-type]
    skips = [outputs_of(block) for block in model.down]
    merged = [inputs_of(block) for block in model.merge]
    model(torch.randn(2, 1, 8, 12))
    for skip, into in zip(skips, reversed(merged), strict=True):
        assert torch.equal(into[0][:, : skip[0].shape[1]], skip[0])


def test_the_time_plane_is_one_more_channel_filled_with_t_over_T() -> None:
    model = DoubleConvUNet(1, 1, **SMALL, time_plane=10, batch_norm=False)  # type: ignore[arg-type]
    seen = inputs_of(model.down[0])
    x = torch.randn(2, 1, 8, 8)
    model(x, torch.tensor([1, 10]))
    assert torch.equal(seen[0][:, :1], x)
    assert torch.equal(seen[0][0, 1], torch.full((8, 8), 0.1)) and torch.equal(seen[0][1, 1], torch.ones(8, 8))


# 3. The one with a dense bottleneck


def test_shapes_and_parameters_of_the_bottleneck() -> None:
    model = BottleneckUNet()
    assert count_parameters(model) == 234_977
    rows = trace(model, torch.zeros(2, 1, 16, 16), depth=1)
    assert [row.name for row in rows] == [
        *("stem", "down.0", "down.1", "flatten", "dense", "unflatten", "up.0", "up.1", "out")
    ]
    assert [row.out_shape[1:] for row in rows] == [
        (16, 16, 16),
        (32, 8, 8),
        (64, 4, 4),
        (1024,),
        (1024,),
        (64, 4, 4),
        (32, 8, 8),
        (16, 16, 16),
        (1, 16, 16),
    ]
    dense = [row.out_shape[1] for row in trace(model, torch.zeros(2, 1, 16, 16)) if row.kind == "Linear"]
    assert dense == [32, 32, 1024]


def test_the_bottleneck_joins_each_skip_to_the_map_of_its_own_size() -> None:
    model = BottleneckUNet()
    skips = [outputs_of(block) for block in model.down]
    joined = [inputs_of(block.body) for block in model.up]  # type: ignore[arg-type]
    model(torch.randn(2, 1, 16, 16))
    for skip, into in zip(reversed(skips), joined, strict=True):
        assert torch.equal(into[0][:, skip[0].shape[1] :], skip[0])


def test_the_bottleneck_is_built_for_one_size_and_does_not_look_at_time() -> None:
    model = BottleneckUNet().eval()
    x = torch.randn(2, 1, 16, 16)
    assert torch.equal(model(x), model(x, torch.tensor([1, 2]), torch.tensor([3, 4])))
    with pytest.raises(ValueError, match=r"built for 16×16 pictures, got \(32, 16\)"):
        model(torch.randn(2, 1, 32, 16))
    with pytest.raises(ValueError, match=r"size 18 cannot be halved.*multiple of 4.*16 and 20"):
        BottleneckUNet(size=18)
    assert BottleneckUNet(3, (8, 16), size=10)(torch.randn(2, 3, 10, 10)).shape == (2, 3, 10, 10)


# 4. The one that the course trains

VARIANTS: dict[str, dict[str, Any]] = {
    "default": dict(),
    "pixels": dict(size=16, patch=1, channels=(16, 16), attention=()),
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


def arguments(model: UNet, batch: int = 3, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)
    size, classes = model.config["size"], model.config["num_classes"]
    x = torch.randn(batch, model.config["in_channels"], size, size, generator=generator, dtype=dtype)
    t = torch.randint(1, 1001, (batch,), generator=generator)
    y = None if classes is None else torch.randint(0, classes, (batch,), generator=generator)
    return x, t, y


def test_the_answer_has_the_size_of_the_picture(variant: UNet) -> None:
    x, t, y = arguments(variant)
    out = variant.config["out_channels"]
    assert variant(x, t, y).shape == (3, out, *x.shape[2:])
    twice = torch.cat([x, x], dim=2)  # not square, another size than the one it was built for
    assert variant(twice, t, y).shape == (3, out, *twice.shape[2:])


def test_a_new_network_answers_zero(variant: UNet) -> None:
    assert not variant(*arguments(variant)).any()


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
        named = list(variant.named_parameters())
        assert all(p.grad is not None for _, p in named)
        reached.append({name for name, p in named if p.grad is not None and p.grad.abs().max() > 0})
        optimizer.step()
    everything = {name for name, _ in variant.named_parameters()}
    assert reached[0] == {"out.2.weight", "out.2.bias"}
    gates = {name for name in everything if name.endswith(("res.conv2.weight", "attention.out.weight"))}
    assert gates and gates <= reached[1]
    assert not any("conv1" in name or "qkv" in name for name in reached[1])
    assert reached[2] == everything


def test_a_picture_does_not_depend_on_its_neighbors(variant: UNet) -> None:
    model = randomize(variant).double()
    x, t, y = arguments(variant, batch=4, dtype=torch.float64)
    together = model(x, t, y)
    assert together.abs().max() > 0.1
    for i in range(4):
        one = slice(i, i + 1)
        alone = model(x[one], t[one], None if y is None else y[one])
        torch.testing.assert_close(alone, together[one], rtol=1e-9, atol=1e-9)


def test_train_mode_and_eval_mode_are_the_same(variant: UNet) -> None:
    model = randomize(variant)
    given = arguments(variant)
    assert torch.equal(model.train()(*given), model.eval()(*given))


def test_the_answer_depends_on_the_time_the_class_and_every_pixel(variant: UNet) -> None:
    model = randomize(variant).double()
    x, t, y = arguments(variant, dtype=torch.float64)
    before = model(x, t, y)
    for row in (model(x, t + 1, y) - before).flatten(1):
        assert row.abs().max() > 1e-4
    if y is not None:
        for row in (model(x, t, (y + 1) % 5) - before).flatten(1):
            assert row.abs().max() > 1e-4
    shaken = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(shaken, t, y).square().sum(), shaken)
    assert (gradient != 0).all()


def test_each_skip_meets_the_way_up_in_reverse_order() -> None:
    model = randomize(UNet(size=16, channels=(16, 16), blocks=2, attention=(1,)))
    assert isinstance(model, UNet)
    sent = [outputs_of(model.stem), *(outputs_of(part) for part in model.down)]
    received = [inputs_of(part) for part in model.up if isinstance(part, Stage)]
    model(torch.randn(2, 1, 16, 16), torch.tensor([1, 2]))
    assert len(sent) == len(received) == 6
    for skip, into in zip(reversed(sent), received, strict=True):
        assert torch.equal(into[0][:, -skip[0].shape[1] :], skip[0])


@pytest.mark.parametrize("levels", [(), (0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_attention_sits_at_the_deepest_point_and_where_named(levels: tuple[int, ...]) -> None:
    model = UNet(size=32, channels=(8, 16, 24), patch=1, attention=levels)
    rows = trace(model, torch.zeros(1, 1, 32, 32), torch.tensor([1]), depth=3)
    sizes = {row.out_shape[2] for row in rows if row.kind == "SelfAttention"}
    assert sizes == {8, *((32, 16, 8)[level] for level in levels)}
    assert sum(row.kind == "SelfAttention" for row in rows) == 1 + 3 * len(levels)


def test_patches_become_channels_and_pixels_again() -> None:
    model = UNet(size=8, patch=4, channels=(8,), attention=())
    seen = inputs_of(model.stem)
    x = torch.randn(1, 1, 8, 8)
    model(x, torch.tensor([1]))
    assert torch.equal(seen[0][0, :, 1, 0], x[0, 0, 4:, :4].flatten())
    assert torch.equal(model.unpatchify(model.patchify(x)), x)


def test_double_precision_all_the_way() -> None:
    model = randomize(UNet(channels=(16, 32))).double()
    assert model(*arguments(model, dtype=torch.float64)).dtype == torch.float64  # type: ignore[arg-type]


# All of them

LADDER = {
    "ClassicUNet": (ClassicUNet(2, 3, **SMALL), torch.randn(2, 2, 44, 48)),  # type: ignore[arg-type]
    "DoubleConvUNet": (DoubleConvUNet(2, 3, **SMALL), torch.randn(2, 2, 8, 12)),  # type: ignore[arg-type]
    "BottleneckUNet": (BottleneckUNet(2, (8, 16), 8, 16), torch.randn(2, 2, 8, 8)),
    "UNet": (UNet(8, 2, channels=(16, 16)), torch.randn(2, 2, 8, 8)),
}


def time_of(name: str) -> torch.Tensor | None:
    return torch.tensor([1, 2]) if name == "UNet" else None


def test_the_ladder_is_complete() -> None:
    assert set(MODELS) == set(LADDER)


@pytest.mark.parametrize("name", LADDER)
def test_config_is_the_whole_model(name: str) -> None:
    model, x = LADDER[name]
    config = json.loads(json.dumps(model.config))
    assert set(config) == set(inspect.signature(type(model)).parameters)
    again = MODELS[name](**config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(x, time_of(name)), again.eval()(x, time_of(name)))


@pytest.mark.parametrize("name", [name for name in LADDER if name != "UNet"])
def test_gradients_reach_every_parameter_of_the_lower_rungs(name: str) -> None:
    """All but the biases that BatchNorm cancels, which the 16×16 one keeps: their gradient is rounding."""
    model, x = LADDER[name]
    torch.manual_seed(0)
    model = MODELS[name](**model.config).train()  # type: ignore[arg-type]
    model(x).square().mean().backward()
    layers = list(model.modules())
    cancelled = {id(conv.bias) for conv, following in pairwise(layers) if isinstance(following, nn.BatchNorm2d)}
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        if id(parameter) not in cancelled:
            assert parameter.grad.abs().max() > 0, label


@pytest.mark.parametrize("name", LADDER)
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([0.0], TypeError, "x_t must be a torch.Tensor, got list"),
        (torch.zeros(2, 2, 8, 8, dtype=torch.uint8), TypeError, "got torch.uint8; .*course_lib.data.to_float"),
        (torch.zeros(2, 8, 8), ValueError, r"x_t must have 4 dimensions \(B, C, H, W\), got 3"),
        (torch.zeros(2, 3, 8, 8), ValueError, r"x_t must have 2 channel\(s\), got 3"),
    ],
)
def test_bad_pictures(name: str, bad: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LADDER[name][0](bad, time_of(name))


@pytest.mark.parametrize("name", ["ClassicUNet", "DoubleConvUNet"])
def test_models_without_time_or_classes_say_so(name: str) -> None:
    model, x = LADDER[name]
    with pytest.raises(ValueError, match="built without t, so t must be None, got Tensor"):
        model(x, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="built without y, so y must be None, got Tensor"):
        model(x, None, torch.tensor([1, 2]))


BAD_TIMES = [
    (None, TypeError, r"t must be a tensor of shape \(B,\), \(2,\) here, got NoneType"),
    (3, TypeError, r"t must be a tensor of shape \(B,\), \(2,\) here, got int"),
    (torch.tensor([1.0, 2.0]), TypeError, r"t must hold int64 or int32 timesteps, got torch.float32; use t.long\(\)"),
    (torch.tensor(1), ValueError, "t must be an int or have shape"),
    (torch.tensor([1]), ValueError, "t must have one entry per picture, 2, got 1"),
    (torch.tensor([1, 2, 3]), ValueError, "t must have one entry per picture, 2, got 3"),
    (
        torch.tensor([1, 2], device="meta"),
        ValueError,
        r"t must be on the device of the pictures, cpu, got meta; use t.to",
    ),
]


@pytest.mark.parametrize(("t", "error", "message"), BAD_TIMES)
def test_bad_timesteps(t: Any, error: type[Exception], message: str) -> None:
    plane = DoubleConvUNet(2, 3, **SMALL, time_plane=10)  # type: ignore[arg-type]
    for model in (LADDER["UNet"][0], plane):
        with pytest.raises(error, match=message):
            model(torch.zeros(2, 2, 8, 8), t)


def test_bad_classes() -> None:
    model, x, t = UNet(8, channels=(16,), attention=(), num_classes=3), torch.zeros(2, 1, 8, 8), torch.tensor([1, 2])
    for y, error, message in (
        (None, TypeError, r"built with 3 classes: y must be given, \(B,\)"),
        (1, TypeError, "y must be a tensor of integers, one per picture, got int"),
        (torch.tensor([1]), ValueError, "y must have one entry per picture, 2, got 1"),
        (torch.tensor([1.0, 2.0]), TypeError, "y must hold int64 or int32"),
        (torch.tensor([1, 2], device="meta"), ValueError, "y must be on the device of the pictures, cpu, got meta"),
        (torch.tensor([0, 3]), ValueError, r"y must hold classes in 0..2, got 0..3"),
        (torch.tensor([-1, 2]), ValueError, r"y must hold classes in 0..2, got -1..2"),
    ):
        with pytest.raises(error, match=message):
            model(x, t, y)
    with pytest.raises(ValueError, match="built without class labels"):
        UNet(8, channels=(16,), attention=())(x, t, torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(size=30), ValueError, "size 30 cannot be halved.*multiple of 4.*nearest good sizes are 28 and 32"),
        (dict(size=28, channels=(16, 16, 16)), ValueError, "multiple of 8; the nearest good sizes are 24 and 32"),
        (dict(size=30, patch=4), ValueError, "multiple of 8; the nearest good sizes are 24 and 32"),
        (dict(size=2, patch=4), ValueError, "the nearest good sizes are 8$"),
        (dict(size=0), ValueError, "size must lie in"),
        (dict(size=28.0), TypeError, "size must be an int"),
        (dict(channels=(12, 24)), ValueError, "channels must be a multiple of 8.*got 12"),
        (dict(channels=(16, -8)), ValueError, "channels must lie in"),
        (dict(channels=()), ValueError, "channels must name at least one level"),
        (dict(attention=(2,)), ValueError, r"attention must lie in \[0, 1\], got 2"),
        (dict(attention=(-1,)), ValueError, r"attention must lie in \[0, 1\], got -1"),
        (dict(in_channels=0), ValueError, "in_channels must lie in"),
        (dict(out_channels=0), ValueError, "out_channels must lie in"),
        (dict(blocks=0), ValueError, "blocks must lie in"),
        (dict(patch=0), ValueError, "patch must lie in"),
        (dict(num_classes=0), ValueError, "num_classes must lie in"),
        (dict(num_classes=True), TypeError, "num_classes must be an int, got bool"),
    ],
)
def test_a_unet_that_cannot_work_is_not_built(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        UNet(**options)


def test_a_size_that_cannot_be_halved_is_refused_at_the_call_too() -> None:
    model = UNet(28, channels=(16, 16))
    for shape, axis in (((28, 30), "width 30"), ((30, 28), "height 30")):
        with pytest.raises(ValueError, match=f"{axis} cannot be halved.*nearest good sizes are 28 and 32"):
            model(torch.zeros(1, 1, *shape), torch.tensor([1]))


def test_the_padded_one_refuses_a_bad_time_plane() -> None:
    with pytest.raises(ValueError, match="time_plane must lie in"):
        DoubleConvUNet(time_plane=0)


@pytest.mark.cuda
def test_on_the_gpu_as_on_the_cpu() -> None:
    model = randomize(UNet(channels=(16, 32), num_classes=5))
    given = arguments(model)  # type: ignore[arg-type]
    near = model(*given)
    there = model.cuda()(*(tensor.cuda() for tensor in given))
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), near, rtol=1e-2, atol=1e-2)  # TF32
    with pytest.raises(
        ValueError, match=r"t must be on the device of the pictures, cuda:0, got cpu; use t.to\(x.device\)"
    ):
        model(given[0].cuda(), given[1], given[2].cuda())
