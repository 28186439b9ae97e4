"""The parts of U-Nets: what each computes, written out with plain operations, and what it asks of its arguments."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from course_lib.blocks import (
    DoubleConv,
    DownBlock,
    Pointwise,
    ResBlock,
    SelfAttention,
    TimeEmbedding,
    UpBlock,
    Upsample,
    conv_norm_relu,
    group_norm,
    sinusoidal_embedding,
)
from helpers import randomize


def test_double_conv_keeps_the_size_or_loses_four_pixels() -> None:
    x = torch.randn(2, 3, 10, 14)
    assert DoubleConv(3, 8)(x).shape == (2, 8, 10, 14) and DoubleConv(3, 8, padding=0)(x).shape == (2, 8, 6, 10)
    kinds = [type(layer).__name__ for layer in DoubleConv(3, 8, batch_norm=True)]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * 2


def test_upsample_repeats_pixels_before_it_convolves() -> None:
    layer = Upsample(2, 5)
    x = torch.randn(1, 2, 3, 4)
    repeated = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert layer(x).shape == (1, 5, 6, 8)
    torch.testing.assert_close(layer(x), layer[1](repeated))


# Time


def test_sinusoidal_embedding_by_hand() -> None:
    t = torch.tensor([0, 1, 7, 1000])
    got = sinusoidal_embedding(t, 8, max_period=100.0)
    assert got.shape == (4, 8) and got.dtype == torch.float32
    for row, time in zip(got.tolist(), t.tolist(), strict=True):
        for i in range(4):
            omega = 100.0 ** (-i / 4)
            assert row[i] == pytest.approx(math.cos(time * omega), abs=1e-4)
            assert row[4 + i] == pytest.approx(math.sin(time * omega), abs=1e-4)


def test_sinusoidal_embedding_tells_every_timestep_from_every_other() -> None:
    embedded = sinusoidal_embedding(torch.arange(1001), 32)
    assert (torch.cdist(embedded, embedded) + 10 * torch.eye(1001)).min() > 0.5
    assert torch.equal(sinusoidal_embedding(torch.arange(5).float(), 32), embedded[:5])


def test_time_embedding_is_one_vector_per_timestep() -> None:
    layer, t = TimeEmbedding(16, 24), torch.tensor([3, 900, 3])
    out = layer(t)
    assert out.shape == (3, 24) and torch.allclose(out[0], out[2]) and not torch.allclose(out[0], out[1])
    assert layer.double()(t).dtype == torch.float64


# Residual block, attention


def test_a_residual_block_and_attention_start_as_the_shortcut() -> None:
    x, emb = torch.randn(2, 16, 6, 6), torch.randn(2, 32)
    wider = ResBlock(16, 24, emb=32)
    assert torch.equal(ResBlock(16, 16, emb=32)(x, emb), x) and torch.equal(SelfAttention(16)(x), x)
    assert torch.equal(wider(x, emb), wider.shortcut(x)) and wider(x, emb).shape == (2, 24, 6, 6)


def test_a_residual_block_scales_and_shifts_by_the_embedding() -> None:
    """Norm-SiLU-conv, norm, (1 + scale) · h + shift, SiLU-conv, plus the input; written out with plain operations."""
    block = randomize(ResBlock(16, 24, emb=32)).double()
    x, emb = torch.randn(2, 16, 6, 6, dtype=torch.float64), torch.randn(2, 32, dtype=torch.float64)

    def silu(h: torch.Tensor) -> torch.Tensor:
        return h * h.sigmoid()

    def norm(h: torch.Tensor, layer: nn.GroupNorm) -> torch.Tensor:
        groups = h.view(len(h), 8, -1)
        mean, var = groups.mean(2, keepdim=True), groups.var(2, keepdim=True, unbiased=False)
        flat = ((groups - mean) / (var + 1e-5).sqrt()).view_as(h)
        return flat * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)

    h = block.conv1(silu(norm(x, block.norm1)))
    numbers = block.scale_shift(silu(emb))
    scale, shift = numbers[:, :24, None, None], numbers[:, 24:, None, None]
    h = block.conv2(silu(norm(h, block.norm2) * (1 + scale) + shift))
    torch.testing.assert_close(block(x, emb), block.shortcut(x) + h)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_pointwise_is_a_convolution_of_one_pixel(memory_format: torch.memory_format) -> None:
    layer, conv = Pointwise(5, 7).double(), nn.Conv2d(5, 7, 1).double()
    conv.load_state_dict({"weight": layer.weight.detach()[:, :, None, None], "bias": layer.bias.detach()})
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64).to(memory_format=memory_format)
    torch.testing.assert_close(layer(x), conv(x))


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_is_softmax_of_q_k_times_v(heads: int) -> None:
    layer = randomize(SelfAttention(16, heads)).double()
    x = torch.randn(2, 16, 3, 5, dtype=torch.float64)
    flat = layer.norm(x).flatten(2).transpose(1, 2)  # (B, 15, 16)
    rows = flat @ layer.qkv.weight.T + layer.qkv.bias
    q, k, v = rows.split(16, dim=2)
    each, parts = 16 // heads, []
    for head in range(heads):
        mine = slice(head * each, (head + 1) * each)
        scores = q[..., mine] @ k[..., mine].transpose(1, 2) / math.sqrt(each)
        parts.append(scores.softmax(dim=2) @ v[..., mine])
    looked = torch.cat(parts, dim=2) @ layer.out.weight.T + layer.out.bias
    torch.testing.assert_close(layer(x), x + looked.transpose(1, 2).reshape(x.shape))


@pytest.mark.parametrize(
    "part",
    [DoubleConv, DownBlock, UpBlock, Upsample, conv_norm_relu, group_norm, ResBlock, SelfAttention, TimeEmbedding],
)
def test_every_count_of_a_part_is_validated(part: Callable[..., object]) -> None:
    counts = [name for name, each in inspect.signature(part).parameters.items() if each.default is each.empty]
    for name in counts:
        with pytest.raises(ValueError, match=rf"^{name} must lie in"):
            part(**dict.fromkeys(counts, 8) | {name: 0})


ONE = torch.tensor([1])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DoubleConv(3, 8, padding=2), ValueError, "padding=2 is unknown; choose one of 0, 1"),
        (lambda: DoubleConv(3, 8, batch_norm="no"), TypeError, "batch_norm must be True or False"),  # type: ignore
        (lambda: group_norm(12), ValueError, r"channels must be a multiple of 8.*got 12"),
        (lambda: SelfAttention(16, heads=3), ValueError, "channels must be a multiple of heads, 3, got 16"),
        (lambda: TimeEmbedding(7, 8), ValueError, "dim must be even, half cosines and half sines, got 7"),
        (lambda: sinusoidal_embedding(ONE, 7), ValueError, "dim must be even, half cosines and half sines, got 7"),
        (lambda: sinusoidal_embedding(ONE, 8, 0.5), ValueError, "max_period must lie in"),
        (lambda: sinusoidal_embedding(ONE[0], 8), ValueError, r"t must have shape \(B,\) with B >= 1, got \(\)"),
        (lambda: sinusoidal_embedding(ONE[:0], 8), ValueError, r"t must have shape \(B,\) with B >= 1, got \(0,\)"),
        (lambda: sinusoidal_embedding(1, 8), TypeError, r"t must be a tensor .*use torch.tensor\(\[t\]\)"),  # type: ignore
    ],
)
def test_parts_that_cannot_work_are_not_built(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
