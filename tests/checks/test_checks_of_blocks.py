"""The exercises whose answer is a class: any right block is accepted, whatever its layers are called and kept in."""

# mypy: allow-untyped-defs
from __future__ import annotations

import time
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib.blocks import DownBlock
from course_lib.checks import CORRECT, NOT_DONE, WRONG, check, nb02_down, nb02_forms, nb02_modules, nb02_sizes, nb02_up
from course_lib.unet import BottleneckUNet, ClassicUNet, DoubleConvUNet

BLOCKS = {"down_block": nb02_down.MyDownBlock, "up_block": nb02_up.MyUpBlock}


# --- the same block in other words ------------------------------------------------------------------------------------


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

    def __init__(self, in_channels, out_channels):
        c = in_channels, out_channels, out_channels
        halves = [[nn.Conv2d(i, o, 3, 1, 1), nn.BatchNorm2d(o)] for i, o in ((c[0], c[1]), (c[1], c[2]))]
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
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.norm1 = nn.BatchNorm2d(out_channels)
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
        self.rest = nn.Sequential(
            nn.BatchNorm2d(out_channels), nn.ReLU(), *nb02_forms.conv_norm_relu_with(*[out_channels] * 2)
        )

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


@pytest.mark.parametrize("name", BLOCKS)
def test_the_stub_is_not_done_yet(name):
    class Stub(nn.Module):
        def __init__(self, in_channels, out_channels):
            super().__init__()
            ...

        def forward(self, *maps):
            return ...

    for block in (Stub, broken(name, lambda *_: ...)):
        assert check(name, block).status == NOT_DONE


# --- mistakes besides those that the exercises hold -------------------------------------------------------------------


class CatOnAnotherAxis(nn.Module):
    def __init__(self, channels, out_channels, axis):
        super().__init__()
        self.axis = axis
        self.layers = nn.Sequential(*nb02_up._up_layers(channels, out_channels))

    def forward(self, x, skip):
        return self.layers(torch.cat([x, skip], dim=self.axis))


@pytest.mark.parametrize("axis", [0, 2, 3])
@pytest.mark.parametrize("times", [1, 2])
def test_every_wrong_axis_is_named(axis, times):
    """Whether the layers then take what comes or not."""
    result = check("up_block", lambda i, o: CatOnAnotherAxis(times * i, o, axis))
    assert (result.status, result.message) == (WRONG, nb02_up.WRONG_AXIS)


def join(*layers):
    return nb02_up._Join(nb02_up._cat, *layers)


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        (lambda i, o: join(*nb02_up._up_layers(2 * i, o, padding=0, output_padding=0)), nb02_up.RIM_LEFT),
        (
            lambda i, o: join(*nb02_up._up_layers(2 * i, o, stride=1, padding=2, output_padding=0)),
            nb02_up.STRIDE_AND_PADDING,
        ),
        (
            lambda i, o: join(*nb02_up._up_layers(2 * i, o, kernel_size=2, stride=3, output_padding=0)),
            nb02_up.KERNEL_AND_STRIDE,
        ),
        (lambda i, o: join(*nb02_up._up_layers(2 * i, o, stride=1, output_padding=0)), nb02_up.NOT_DOUBLED),
        (
            lambda i, o: join(*nb02_forms.conv_norm_relu_with(i, o), *nb02_forms.conv_norm_relu_with(o, o)),
            nb02_up.HALF_THE_CHANNELS,
        ),
    ],
)
def test_numbers_of_the_transposed_convolution(block, sentence):
    result = check("up_block", block)
    assert (result.status, result.message) == (WRONG, sentence)


def a_class(init, forward):
    return type("MyBlock", (nn.Module,), {"__init__": init, "forward": forward})


def forward_of_two(self, x, skip=None):
    return self.inside(x) if skip is None else self.inside(x, skip)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize(
    ("init", "sentence"),
    [
        (lambda self: nn.Module.__init__(self), nb02_modules.ARGUMENTS),
        (lambda self, i, o, depth: nn.Module.__init__(self), nb02_modules.ARGUMENTS),
        (nn.Module.__init__, nb02_modules.ARGUMENTS),
        (lambda self, i, o: None, nb02_modules.NO_SUPER),
    ],
)
def test_wrong_constructors(name, init, sentence):
    result = check(name, a_class(init, forward_of_two))
    assert (result.status, result.message) == (WRONG, sentence)


@pytest.mark.parametrize("name", BLOCKS)
def test_layers_that_nothing_would_train(name):
    right = BLOCKS[name]

    def in_a_dict(self, i, o):
        nn.Module.__init__(self)
        self.parts = {"a": right(i, o)}
        self.inside = lambda *maps: self.parts["a"](*maps)

    def in_a_function(self, i, o):
        nn.Module.__init__(self)
        block = right(i, o)
        self.inside = lambda *maps: block(*maps)

    assert check(name, a_class(in_a_dict, forward_of_two)).message == nb02_modules.IN_A_LIST
    assert check(name, a_class(in_a_function, forward_of_two)).message == nb02_modules.OUTSIDE


# --- whatever else may be handed over ---------------------------------------------------------------------------------


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
        (writes, "in place"),
    ],
)
def test_survives(name, change, words):
    result = check(name, broken(name, change))
    assert result.status == WRONG and words in result.message, result


@pytest.mark.parametrize("name", BLOCKS)
def test_returns_nothing_yet(name):
    assert check(name, broken(name, lambda *_: None)).status == NOT_DONE


@pytest.mark.parametrize("name", BLOCKS)
def test_survives_a_constructor_that_raises(name):
    result = check(name, a_class(lambda self, i, o: 1 / 0, forward_of_two))
    assert result.status == WRONG and "raises ZeroDivisionError" in result.message


@pytest.mark.parametrize("name", BLOCKS)
def test_leaves_no_hook_and_no_random_numbers_behind(name):
    before, hooks = torch.get_rng_state(), dict(nn.modules.module._global_forward_pre_hooks)
    for block in (BLOCKS[name], broken(name, boom), nb02_forms.forms(BLOCKS[name])[nb02_modules.OUTSIDE]):
        check(name, block)
    assert torch.equal(torch.get_rng_state(), before)
    assert nn.modules.module._global_forward_pre_hooks == hooks


@pytest.mark.parametrize("name", BLOCKS)
def test_an_unknown_mistake_takes_less_than_a_second(name):
    answer = broken(name, lambda y, *_: y + 1)
    check(name, answer)
    start = time.perf_counter()
    check(name, answer)
    assert time.perf_counter() - start < 1


# --- what the notebook says of channels, sizes and parameters ---------------------------------------------------------


@pytest.mark.parametrize("network", [ClassicUNet, DoubleConvUNet])
def test_merges_have_the_same_channels_in_both_networks(network):
    with torch.device("meta"):
        merges = [next(iter(merge)).in_channels for merge in network().merge]
    assert merges == nb02_sizes.my_merge_channels((64, 128, 256, 512)) == [1024, 512, 256, 128]
    assert check("merge_channels", lambda f: torch.tensor([2 * c for c in f[::-1]])).status == CORRECT
    assert check("merge_channels", lambda f: tuple(map((2).__mul__, reversed(f)))).status == CORRECT
    assert "must return 4 values, but returns 3" in check("merge_channels", lambda f: f[1:]).message
    assert check("merge_channels", lambda f: [...] * len(f)).status == WRONG


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
