"""Output-size arithmetic against the real layers, and the tracer against models counted by hand."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from course_lib.shapes import (
    LayerShape,
    conv_out,
    conv_transpose_out,
    count_parameters,
    format_trace,
    halve,
    layer_size,
    nearest_sizes,
    pool_out,
    trace,
)
from course_lib.unet import BottleneckUNet, DoubleConvUNet, UNet

LAYERS = {"conv": nn.Conv2d, "pool": nn.MaxPool2d, "transposed conv": nn.ConvTranspose2d}


@pytest.mark.parametrize("kind", LAYERS)
def test_sizes_and_formulas_are_those_of_the_layers(kind: str) -> None:
    """In 400 cases, of which many give a size; the rest is refused as PyTorch does."""
    random_ints, sizes = random.Random(0), 0
    for _ in range(400):
        size, kernel = random_ints.randint(1, 20), random_ints.randint(1, 7)
        options = {name: random_ints.randint(1, most) for name, most in (("stride", 4), ("dilation", 3))}
        options["padding"] = random_ints.randint(0, 3)
        if kind == "transposed conv":
            options["output_padding"] = random_ints.randint(0, 3)
        try:
            layer = LAYERS[kind](*[1, 1] * (kind != "pool"), kernel, **options)
            expected = layer(torch.zeros(1, 1, size, size)).shape[-1]
        except (RuntimeError, ValueError):
            with pytest.raises(ValueError, match=r"kernel reaches over|nothing is left|padding must lie in"):
                layer_size(kind, size, kernel, **options)
            continue
        out, formula = layer_size(kind, size, kernel, **options)
        left = formula.split("=")[0].replace("⌊", "int(").replace("⌋", ")").replace("·", "*").replace("−", "-")
        assert out == expected == eval(left) == int(formula.split("=")[1]), (size, kernel, options)
        sizes += 1
    assert 100 < sizes < 400


def test_some_output_padding_brings_every_size_back() -> None:
    for size in range(5, 40):
        for kernel, stride, padding in ((3, 2, 1), (2, 2, 0), (4, 3, 1)):
            small = conv_out(size, kernel, stride, padding)
            back = [conv_transpose_out(small, kernel, stride, padding, extra) for extra in range(stride)]
            assert size in back


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: conv_out(0, 3), ValueError, "size must lie in"),
        (lambda: conv_out(28.0, 3), TypeError, "size must be an int, got float"),  # type: ignore[arg-type]
        (lambda: conv_out(4, 3, dilation=2), ValueError, "reaches over 5 pixels but the padded input has 4; use a sm"),
        (lambda: pool_out(28, 2, padding=2), ValueError, r"padding must lie in \[0, 1\], got 2"),
        (lambda: conv_transpose_out(1, 2, padding=1), ValueError, "nothing is left: the output would have size 0"),
        (lambda: layer_size("dense", 7, 3), ValueError, "kind='dense' is unknown; choose one of 'conv'"),
        (lambda: layer_size("conv", 7, 3, output_padding=1), ValueError, "with a conv it must be 0, got 1"),
        (lambda: nearest_sizes(0, 16), ValueError, "size must lie in"),
        (lambda: trace(nn.ReLU(), torch.zeros(1), depth=0), ValueError, "depth must lie in"),
        (lambda: trace("unet", torch.zeros(1)), TypeError, "model must be a torch.nn.Module, got str"),  # type: ignore
        (lambda: count_parameters(None), TypeError, "model must be a torch.nn.Module"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_halving_breaks_where_a_size_is_odd_and_ends_at_one_as_the_network_does() -> None:
    down, up, words = halve(28, 4)
    assert down == [28, 14, 7, 3, 1] and (6, 7) in up and "7 → 3 → 6 ≠ 7" in words and "16 and 32" in words
    assert halve(3, 4) == ([3, 1], [], "Nothing is left to halve after 1 pooling. The nearest good size is 16.")
    model = DoubleConvUNet(1, 1, features=(8, 8, 8, 8), bottleneck=8).eval()
    for size in (16, 28, 30, 32, 48):
        x = torch.zeros(1, 1, size, size)
        if halve(size, 4)[2]:
            with pytest.raises(ValueError, match="nearest good sizes"):
                model(x)
        else:
            assert model(x).shape == x.shape


# The tracer


def test_count_parameters_by_hand() -> None:
    conv = nn.Conv2d(3, 8, 5)
    assert count_parameters(conv) == count_parameters(nn.Sequential(conv, conv)) == 8 * (3 * 5 * 5 + 1)
    conv.bias.requires_grad_(False)  # type: ignore[union-attr]
    assert count_parameters(conv) == 8 * 3 * 5 * 5


def test_trace_lists_layers_in_the_order_in_which_they_ran() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Flatten(), nn.Conv2d(1, 2, 3)  # named in another order than run
            self.again = nn.Conv2d(2, 2, 3, padding=1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.again(self.again(self.first(x))))

    assert trace(Twice(), torch.zeros(5, 1, 6, 6)) == [
        LayerShape("first", "Conv2d", (5, 1, 6, 6), (5, 2, 4, 4), 20),
        LayerShape("again", "Conv2d", (5, 2, 4, 4), (5, 2, 4, 4), 36),
        LayerShape("again", "Conv2d", (5, 2, 4, 4), (5, 2, 4, 4), 0),
        LayerShape("last", "Flatten", (5, 2, 4, 4), (5, 32), 0),
    ]


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (BottleneckUNet(), (torch.zeros(1, 1, 16, 16),)),
        (UNet(channels=(8, 16), num_classes=3), (torch.zeros(1, 1, 28, 28), torch.tensor([1]), torch.tensor([2]))),
    ],
)
def test_the_parameters_of_a_trace_add_up_at_every_depth(model: nn.Module, inputs: Any) -> None:
    for depth in (1, 2, 3, 4, None):
        rows = trace(model, *inputs, depth=depth)
        assert sum(row.parameters for row in rows) == count_parameters(model)
        assert len({row.name for row in rows}) == len(rows)


def test_trace_leaves_the_model_as_it_was_also_where_it_fails_halfway() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.Dropout(0.5)).train()
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, torch.randn(2, 1, 5, 5, requires_grad=True))
    with pytest.raises(RuntimeError):
        trace(model, torch.zeros(2, 1, 1, 1))
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_trace_as_text() -> None:
    rows = trace(nn.Sequential(nn.Conv2d(1, 100, 3), nn.ReLU()), torch.zeros(2, 1, 8, 8))
    lines = format_trace(rows).splitlines()
    assert len({len(line) for line in lines}) == 1  # a table: all lines are equally long
    assert lines[0].split() == ["layer", "kind", "in", "out", "parameters"]
    assert lines[2].split() == ["0", "Conv2d", "2×1×8×8", "2×100×6×6", "1,000"]
    assert lines[-1].split() == ["total", "1,000"]
