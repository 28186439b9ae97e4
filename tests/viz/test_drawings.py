"""Drawings of layers, of sizes and of whole networks say what PyTorch does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from course_lib import viz
from course_lib.shapes import halve, trace
from course_lib.unet import BottleneckUNet, ClassicUNet, DoubleConvUNet, UNet
from course_lib.viz.networks import Stage, stages_of
from helpers_viz import texts


@pytest.mark.parametrize(("size", "padding", "unseen"), [(7, 0, 0), (8, 0, 1), (8, 1, 0), (7, 1, 0)])
def test_what_a_kernel_never_looks_at_is_said(size: int, padding: int, unseen: int) -> None:
    """Rows of the input count, left-over rows of the padding do not."""
    x = torch.zeros(1, 1, size, size, requires_grad=True)
    F.conv2d(x, torch.ones(1, 1, 3, 3), stride=2, padding=padding).sum().backward()
    assert x.grad is not None and int((x.grad[0, 0].sum(1) == 0).sum()) == unseen
    assert ("never looked at" in " ".join(texts(viz.plot_kernel("conv", size, 3, 2, padding)))) == bool(unseen)


@pytest.mark.parametrize("size", [28, 31, 63])
def test_halvings_say_in_short_lines_which_sizes_do_not_meet(size: int) -> None:
    shown = texts(viz.plot_halvings(size, 4))
    assert f"{2 * (size // 4 // 2)} ≠ {size // 4}" in shown
    (sentence,) = (each for each in shown if " ".join(each.split()) == " ".join(halve(size, 4)[2].split()))
    assert max(map(len, sentence.splitlines())) <= 72 and len(sentence.splitlines()) <= 3


def stages(model: Any, *inputs: Any, depth: Any = None) -> list[Stage]:
    return stages_of(trace(model.eval(), *inputs, depth=depth))


def test_the_2015_network_as_a_u() -> None:
    with torch.device("meta"):  # shapes alone
        found = stages(ClassicUNet(), torch.zeros(1, 1, 572, 572))
    sizes = [stage.side for stage in found]
    assert sizes[0] == 572 and sizes[-1] == 388 and min(sizes) == 28 and max(stage.level for stage in found) == 4
    joined = [stage for stage in found if stage.kind == "concat"]
    assert [stage.channels for stage in joined] == [1024, 512, 256, 128]
    for stage in joined:
        assert stage.source is not None
        source = found[stage.source]
        assert (source.channels, source.level) == (stage.skip, stage.level) and source.side > stage.side


def test_the_other_networks_as_a_u() -> None:
    padded = stages(DoubleConvUNet(1, 1, features=(8, 16), bottleneck=32), torch.zeros(1, 1, 32, 32))
    assert [(stage.channels, stage.skip) for stage in padded if stage.kind == "concat"] == [(32, 16), (16, 8)]
    small = stages(BottleneckUNet(), torch.zeros(1, 1, 16, 16))
    assert [stage.channels for stage in small if stage.side == 0] == [1024, 32, 1024]
    assert [(stage.channels, stage.side) for stage in small if stage.kind == "concat"] == [(128, 4), (64, 8)]
    assert (small[-1].channels, small[-1].side, small[-1].level) == (1, 16, 0)
    model = UNet()
    full = stages(model, torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64), depth=2)
    assert all(stage.side for stage in full) and (full[-1].channels, full[-1].side) == (1, 28)  # the time is no part
    assert sum(stage.kind == "concat" for stage in full) == len(model.down) + 1
