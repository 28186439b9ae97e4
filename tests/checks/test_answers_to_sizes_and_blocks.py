"""Notebooks 00 to 02: what people really write, besides the mistakes that the exercises know by heart."""

# mypy: allow-untyped-defs
from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.blocks import DownBlock, conv_norm_relu
from course_lib.checks import CORRECT, NOT_DONE, REMARK, WRONG, check, effects
from course_lib.checks.nb00 import BATCH_STATISTICS
from course_lib.checks.nb02_down import MyDownBlock
from course_lib.checks.nb02_forms import conv, conv_norm_relu_with, forms
from course_lib.checks.nb02_modules import ADDED, ARGUMENTS, DROPPED, IN_A_LIST, NO_SUPER, OUTSIDE
from course_lib.checks.nb02_sizes import ONE_TOO_FEW, my_merge_channels
from course_lib.checks.nb02_up import (
    HALF_THE_CHANNELS,
    KERNEL_AND_STRIDE,
    NOT_DOUBLED,
    POOLED,
    RIM_LEFT,
    STRIDE_AND_PADDING,
    WRONG_AXIS,
    MyUpBlock,
)
from course_lib.unet import BottleneckUNet, ClassicUNet, DoubleConvUNet

BLOCKS = {"down_block": MyDownBlock, "up_block": MyUpBlock}


def first(files):
    return files.permute(0, 3, 1, 2)


def square(batch):
    return batch.reshape(*batch.shape[:3], batch.shape[2])


def draw(x, generator):
    return torch.randn(x.shape, dtype=x.dtype, generator=generator)


def own_generator(x, generator):
    return draw(x, torch.Generator().manual_seed(0))


def reverses_it(features):
    features.reverse()
    return [2 * channels for channels in features]


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("to_float", lambda b: b / 128, "Every number is 0.9961 times what it should be, plus 0.9961."),
        ("to_float", lambda b: 2 * (b.float() / 255) ** 2.2 - 1, "The numbers differ by up to"),
        ("to_float", lambda b: b.float() / 127.5 - 1.1, "Every number is too small by 0.1."),
        ("to_float", lambda b: (b.half() / 127.5 - 1).clamp(-0.9, 0.9), "it gives"),
        ("to_float", lambda b: (b.float() / 127.5 - 1).clamp(min=0), "cut off at 0: nothing is clamped here"),
        ("to_float", lambda b: b.float() / 127.5 - 1 if b.sum() > 900 else b.float() / 60, "is a minimum, maximum"),
        ("to_float", lambda b: b.sub_(1).float(), effects.IN_PLACE),
        ("files_to_batch", lambda f: first(f).flip(2).float() / 127.5 - 1, "The rows come in reverse order."),
        ("files_to_batch", lambda f: first(f).flip(3).float() / 127.5 - 1, "The columns come in reverse order."),
        ("files_to_batch", lambda f: square(first(f).float() / 127.5 - 1), "raises RuntimeError"),
        ("files_to_batch", lambda f: torch.stack([f[..., c] for c in range(3)], 1) / 127.5 - 1, "raises IndexError"),
        ("files_to_batch", lambda f: f.permute(0, 2, 3, 1).float(), "the axes stand in another order"),
        ("files_to_batch", lambda f: f.transpose(1, 2).float() / 127.5 - 1, "returns shape (5, 6, 6, 3)"),
        ("corrupt", lambda x, u, n: x, "never uses"),
        ("corrupt", lambda x, u, n: 0.5 * x + 0.5 * n, "never uses amount"),
        ("corrupt", lambda x, u, n: x.mul_(0) + n, effects.IN_PLACE),
        ("corrupt", lambda x, u, n: torch.lerp(x, n, u[:, None, None]), "amount met the channels"),
        ("corrupt", lambda x, u, n: 2 * torch.lerp(x, n, u[:, None, None, None]), "Every number is 2 times"),
        ("draw_noise", lambda x, g: (draw(x, g), draw(x, g))[1], "The numbers differ by up to"),
        ("draw_noise", lambda x, g: draw(x, g.manual_seed(g.initial_seed())), "The numbers differ by up to"),
        ("draw_noise", own_generator, effects.UNTOUCHED),
        ("draw_noise", lambda x, g: draw(x, g) * 0.5, "0.5 times"),
        ("draw_noise", lambda x, g: draw(x, g).abs(), "lost its sign"),
        ("draw_noise", lambda x, g: draw(x, g.manual_seed(1)), effects.RESEEDED),
        ("mixture_variance", lambda u, p, n: p + n, "never uses amount"),
        ("mixture_variance", lambda u, p, n: 0.5 * ((1 - u) ** 2 * p + u * u * n), "Every number is 0.5 times"),
        ("mixture_variance", lambda u, p, n: round((1 - u) ** 2 * p + u**2 * n, 2), "to within 5 %"),
        ("conv_out", lambda n, k, s, p: n, "never uses kernel"),
        ("conv_out", lambda n, k, s, p: (n + 2 * p - k) // min(s, 3) + 1, "not for size = 9, kernel = 3, stride = 4"),
        ("conv_out", lambda n, k, s, p: (n + 2 * p - k) // s + 2, "Every number is too large by 1."),
        ("conv_transpose_out", lambda n, k, s, p, o: 2 * n, "never uses kernel"),
        ("merge_channels", reverses_it, effects.LIST_IN_PLACE),
        ("merge_channels", lambda f: f[1:], ONE_TOO_FEW),
        ("merge_channels", lambda f: [float("nan")] * len(f), "NaN"),
        ("merge_channels", lambda f: [...] * len(f), "must return a number"),
        ("double_conv_parameters", lambda i, o: 9 * i * o * o * o + 2 * o, "It gives"),
        ("double_conv_parameters", lambda i, o: (9 * i * o + o) * (9 * o * o + o), "It gives"),
    ],
)  # fmt: skip
def test_wrong_answers_hear_what_is_true_of_them(name, answer, words):
    result = check(name, answer)
    assert result.status == WRONG and words in result.message, result


@pytest.mark.parametrize(
    "rule",
    [
        lambda b: b.float() / 127.5 - 1 if b.max() > 200 else b.float() / b.max() * 2 - 1,
        lambda b: b.float() / 127.5 - 1 if b.max() > 1 else b.float(),
    ],
)
def test_a_dark_batch_shows_what_depends_on_the_batch(rule):
    assert check("to_float", rule).status == check("files_to_batch", lambda f: rule(first(f))).status == WRONG
    assert check("to_float", lambda b: b.float() / b.max() * 2 - 1).message == BATCH_STATISTICS


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("to_float", lambda b: b.double() / 127.5 - 1),
        ("files_to_batch", lambda f: first(f).double() / 127.5 - 1),
        ("corrupt", lambda x, u, n: torch.lerp(x.double(), n.double(), column_of(u).double())),
        ("draw_noise", draw),
    ],
)
def test_right_here_but_not_everywhere(name, answer):
    assert check(name, answer).status == REMARK


def column_of(u):
    return u[:, None, None, None]


def test_values_in_other_wrappings_are_right_too():
    assert check("values_in_batch", "12544").status == check("values_in_batch", [12544]).status == CORRECT
    assert check("equal_shares", "0.41").status == check("equal_shares", math.sqrt(2) - 1).status == CORRECT
    assert check("conv_out", lambda n, k, s, p: torch.tensor((n + 2 * p - k) // s + 1)).status == CORRECT
    assert check("merge_channels", lambda f: tuple(map((2).__mul__, reversed(f)))).status == CORRECT


# --- blocks: any right one is accepted, whatever its layers are called and kept in ------------------------------------


class DownOfNamedLayers(nn.Module):
    """Layers one by one, the second convolution registered first, functions in place of layers without weights."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.second = nn.Conv2d(out_channels, out_channels, kernel_size=(3, 3), padding="same")
        self.first = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.norms = nn.ModuleDict({"b": nn.BatchNorm2d(out_channels), "a": nn.BatchNorm2d(out_channels)})

    def forward(self, x):
        x = torch.relu_(self.norms["a"](self.first(x)))
        x = F.relu(self.norms["b"](self.second(x)))
        return F.max_pool2d(x, 2)


class DownOfSequential(nn.Sequential):
    """ReLU and max-pool may change places: the largest of four is positive, or none is."""

    def __init__(self, i, o):
        halves = [[nn.Conv2d(a, b, 3, 1, 1), nn.BatchNorm2d(b)] for a, b in ((i, o), (o, o))]
        super().__init__(*halves[0], nn.ReLU(inplace=True), *halves[1], nn.MaxPool2d(2, stride=2), nn.ReLU())


class DownOfParts(nn.Module):
    """Blocks in a block, in a ModuleList; a list of layers without weights does no harm."""

    def __init__(self, in_channels, out_channels, norm=nn.BatchNorm2d):
        super().__init__()

        def part(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), norm(o), nn.ReLU())

        self.parts = nn.ModuleList([part(in_channels, out_channels), part(out_channels, out_channels)])
        self.others = [nn.MaxPool2d(2)]
        self.all_again = [*self.parts]

    def forward(self, picture):
        for step in (*self.parts, *self.others):
            picture = step(picture)
        return picture


class UpOfNamedLayers(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.norm2, self.norm1 = nn.BatchNorm2d(out_channels), nn.BatchNorm2d(out_channels)
        self.conv = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.enlarge = nn.ConvTranspose2d(in_channels + in_channels, out_channels, 3, 2, 1, 1)

    def forward(self, below, across):
        h = self.norm1(self.enlarge(torch.concat((below, across), -3)))
        return self.norm2(self.conv(h.clamp(min=0))).relu()


class UpWithSizeAsked(nn.Module):
    """The size handed to the transposed convolution, which works the output padding out."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(2 * in_channels, out_channels, 3, stride=2, padding=1)
        self.rest = nn.Sequential(nn.BatchNorm2d(out_channels), nn.ReLU(), *conv_norm_relu(out_channels, out_channels))

    def forward(self, x, skip):
        both = torch.hstack([x, skip])
        return self.rest(self.enlarge(both, output_size=[2 * n for n in both.shape[2:]]))


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("down_block", DownOfNamedLayers),
        ("down_block", DownOfSequential),
        ("down_block", DownOfParts),
        ("down_block", lambda i, o: nn.Sequential(DownBlock(i, o))),
        ("up_block", UpOfNamedLayers),
        ("up_block", UpWithSizeAsked),
    ],
)
def test_accepts_other_organizations(name, block):
    result = check(name, block)
    assert result.status == CORRECT, result


def down(act=nn.ReLU, norm=nn.BatchNorm2d, **changes):
    """A down block with other parts."""

    def block(i, o):
        halves = [[conv(a, b, **changes), norm(b), act()] for a, b in ((i, o), (o, o))]
        return nn.Sequential(*halves[0], *halves[1], nn.MaxPool2d(2))

    return block


class Residual(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.one, self.two = (nn.Sequential(*conv_norm_relu(a, o)) for a in (i, o))

    def forward(self, x):
        h = self.one(x)
        return F.max_pool2d(h + self.two(h), 2)


class UpWith(nn.Module):
    """An up block of any layers behind the concatenation."""

    def __init__(self, *layers, axis=1):
        super().__init__()
        self.layers, self.axis = nn.Sequential(*layers), axis

    def forward(self, x, skip):
        return self.layers(torch.cat([x, skip], dim=self.axis))


def up(i, o, *after, **changes):
    usual = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}
    enlarge = nn.ConvTranspose2d(i, o, **(usual | changes))
    return [enlarge, nn.BatchNorm2d(o), nn.ReLU(), *conv_norm_relu(o, o), *after]


@pytest.mark.parametrize(
    ("name", "block", "words"),
    [
        ("down_block", down(nn.SiLU), "The activation is SiLU."),
        ("down_block", down(lambda: nn.LeakyReLU(0.07)), "The activation is LeakyReLU."),
        ("down_block", down(norm=lambda c: nn.GroupNorm(1, c)), "The normalization is GroupNorm."),
        ("down_block", down(norm=lambda c: nn.Sequential(nn.BatchNorm2d(c), nn.Dropout(0.1))), "dropout"),
        ("down_block", down(padding_mode="reflect"), "padding_mode='reflect'"),
        ("down_block", down(kernel_size=5, padding=2), "A convolution has a kernel of 5×5."),
        ("down_block", down(kernel_size=1, padding=0), "A convolution has a kernel of 1×1."),
        ("down_block", lambda i, o: nn.Sequential(*conv_norm_relu(i, o), down()(o, o)), "forward calls is 3"),
        ("down_block", Residual, ADDED),
        ("up_block", lambda i, o: UpWith(*up(2 * i, o, nn.Tanh())), "The activation is tanh."),
        ("up_block", lambda i, o: UpWith(*up(2 * i, o, nn.MaxPool2d(2))), POOLED),
        ("up_block", lambda i, o: UpWith(*up(2 * i, o, nn.AvgPool2d(2))), POOLED),
        ("up_block", lambda i, o: UpWith(*up(2 * i, o, padding=0, output_padding=0)), RIM_LEFT),
        ("up_block", lambda i, o: UpWith(*up(2 * i, o, stride=1, padding=2, output_padding=0)), STRIDE_AND_PADDING),
        ("up_block", lambda i, o: UpWith(*up(2 * i, o, kernel_size=2, stride=3, output_padding=0)), KERNEL_AND_STRIDE),
        ("up_block", lambda i, o: UpWith(*up(2 * i, o, stride=1, output_padding=0)), NOT_DOUBLED),
        ("up_block", lambda i, o: UpWith(*conv_norm_relu_with(i, o), *conv_norm_relu_with(o, o)), HALF_THE_CHANNELS),
        *[  # whether the layers then take what comes or not
            ("up_block", lambda i, o, axis=axis, times=times: UpWith(*up(times * i, o), axis=axis), WRONG_AXIS)
            for axis in (0, 2, 3) for times in (1, 2)
        ],
    ],
)  # fmt: skip
def test_wrong_blocks_hear_what_is_true_of_them(name, block, words):
    result = check(name, lambda i, o: block(i, o))
    assert result.status == WRONG and words in result.message, result


def a_class(init, forward):
    return type("MyBlock", (nn.Module,), {"__init__": init, "forward": forward})


def forward_of_two(self, x, skip=None):
    return self.inside(x) if skip is None else self.inside(x, skip)


def in_a_dict(self, i, o):
    nn.Module.__init__(self)
    self.parts = {"a": (MyUpBlock if self.up else MyDownBlock)(i, o)}
    self.inside = lambda *maps: self.parts["a"](*maps)


def in_a_function(self, i, o):
    nn.Module.__init__(self)
    block = (MyUpBlock if self.up else MyDownBlock)(i, o)
    self.inside = lambda *maps: block(*maps)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(
    ("init", "words"),
    [
        (lambda self: nn.Module.__init__(self), ARGUMENTS),
        (lambda self, i, o, depth: nn.Module.__init__(self), ARGUMENTS),
        (nn.Module.__init__, ARGUMENTS),
        (lambda self, i, o: None, NO_SUPER),
        (lambda self, i, o: 1 / 0, "raises ZeroDivisionError"),
        (in_a_dict, IN_A_LIST),
        (in_a_function, OUTSIDE),
    ],
)
def test_wrong_constructors(name, init, words):
    block = a_class(init, forward_of_two)
    block.up = name == "up_block"
    result = check(name, block)
    assert result.status == WRONG and words in result.message


def broken(name, change):
    """A right block whose forward does something else with what it made."""
    right = BLOCKS[name]
    return type("Broken", (right,), {"forward": lambda self, *maps: change(right.forward(self, *maps), *maps)})


def boom(*_):
    raise ZeroDivisionError("boom")


def writes(y, x, *_):
    x += 1
    return y


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (boom, "raises ZeroDivisionError: boom"),
        (lambda *_: exec("raise SystemExit(3)"), "exit(3)"),
        (lambda *_: "text", "must return a tensor of shape"),
        (lambda y, *_: [y], "must return a tensor of shape"),
        (lambda y, *_: y.sum(), "returns shape () where"),
        (lambda y, *_: y[:, :, 1:], "returns shape"),
        (lambda y, *_: y[:, :1], "returns shape"),
        (lambda y, *_: y * float("nan"), "NaN"),
        (lambda y, *_: y + 1, "Every number is too large by 1."),
        (lambda y, *_: y.detach(), DROPPED),
        (writes, "in place"),
    ],
)
def test_survives(name, change, words):
    before, hooks = torch.get_rng_state(), dict(nn.modules.module._global_forward_pre_hooks)
    result = check(name, broken(name, change))
    assert result.status == WRONG and words in result.message, result
    assert torch.equal(torch.get_rng_state(), before) and nn.modules.module._global_forward_pre_hooks == hooks


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_that_returns_nothing_is_not_done_yet(name):
    class Stub(nn.Module):
        def __init__(self, in_channels, out_channels):
            super().__init__()
            ...

        def forward(self, *maps):
            return ...

    for block in (Stub, broken(name, lambda *_: ...), broken(name, lambda *_: None)):
        assert check(name, block).status == NOT_DONE
    assert check(name, forms(BLOCKS[name])[OUTSIDE]).message == OUTSIDE


# --- what the notebook says of channels and parameters ----------------------------------------------------------------


@pytest.mark.parametrize("network", [ClassicUNet, DoubleConvUNet])
def test_merges_have_the_same_channels_in_both_networks(network):
    with torch.device("meta"):
        merges = [next(iter(merge)).in_channels for merge in network().merge]
    assert merges == my_merge_channels((64, 128, 256, 512)) == [1024, 512, 256, 128]


def test_biases_that_batch_norm_makes_useless():
    network = BottleneckUNet()
    layers = [
        layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d)
    ]
    after = [(a, b) for a, b in pairwise(layers) if isinstance(b, nn.BatchNorm2d)]
    biases = [conv.bias for conv, _ in after if conv.bias is not None]
    assert sum(bias.numel() for bias in biases) == 384 and len(biases) == len(after)
    x = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = network.train()(x)
        for bias in biases:
            bias.zero_()
        torch.testing.assert_close(network(x), before, atol=1e-5, rtol=1e-4)
