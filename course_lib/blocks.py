"""The parts of U-Nets, each with the shapes that go in and come out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .validate import validate_choice, validate_counts, validate_flag, validate_number

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class DoubleConv(nn.Sequential):
    """Two 3×3 convolutions, each followed by ReLU: (B, in, H, W) to (B, out, H, W), or to (B, out, H−4, W−4) unpadded.

    Args:
        in_channels: channels in.
        out_channels: channels out of both convolutions.
        padding: 1 keeps the size; with 0 each convolution loses two pixels, as in the U-Net of 2015.
        batch_norm: put BatchNorm before each ReLU. It would cancel a bias, so the convolutions then have none.
    """

    def __init__(self, in_channels: int, out_channels: int, *, padding: int = 1, batch_norm: bool = False) -> None:
        validate_counts(in_channels=in_channels, out_channels=out_channels)
        validate_choice("padding", padding, (0, 1))
        validate_flag("batch_norm", batch_norm)
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers.append(nn.Conv2d(channels, out_channels, 3, padding=padding, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(out_channels))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


def conv_norm_relu(in_channels: int, out_channels: int) -> list[nn.Module]:
    """A padded 3×3 convolution with bias, BatchNorm and ReLU: (B, in, H, W) to (B, out, H, W)."""
    validate_counts(in_channels=in_channels, out_channels=out_channels)
    return [nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU()]


class DownBlock(nn.Sequential):
    """Conv-BN-ReLU twice, then a 2×2 max-pool: (B, in, H, W) to (B, out, H/2, W/2).

    Args:
        in_channels: channels in.
        out_channels: channels out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            *conv_norm_relu(in_channels, out_channels),
            *conv_norm_relu(out_channels, out_channels),
            nn.MaxPool2d(2),
        )


class UpBlock(nn.Module):
    """Concatenate the skip, double the size, convolve: twice (B, in, H, W) to (B, out, 2H, 2W).

    Args:
        in_channels: channels of the map from below, and as many of the skip; the concatenation has twice as many.
        out_channels: channels out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        validate_counts(in_channels=in_channels, out_channels=out_channels)
        self.body = nn.Sequential(
            nn.ConvTranspose2d(2 * in_channels, out_channels, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            *conv_norm_relu(out_channels, out_channels),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.body(torch.cat([x, skip], dim=1))


def sinusoidal_embedding(t: Tensor, dim: int, max_period: float = 10_000.0) -> Tensor:
    """Timesteps as cosines and sines of falling frequency (Vaswani et al. 2017, section 3.5; DDPM, appendix B).

    ω_i = max_period^(−i / (dim/2)), i = 0..dim/2 − 1; the embedding is [cos(t ω), sin(t ω)].

    Args:
        t: timesteps, (B,), any real number type.
        dim: length of the embedding, even, >= 2.
        max_period: the waves are between 2π and 2π · max_period^(1 − 2/dim) timesteps long; >= 1.

    Returns:
        (B, dim), float32, values in [-1, 1].
    """
    _validate_dim(dim)
    validate_number("max_period", max_period, 1)
    if not isinstance(t, Tensor):
        raise TypeError(f"t must be a tensor of shape (B,), got {type(t).__name__}; use torch.tensor([t])")
    if t.ndim != 1 or t.shape[0] == 0:
        raise ValueError(f"t must have shape (B,) with B >= 1, got {tuple(t.shape)}")
    steps = torch.arange(dim // 2, dtype=torch.float32, device=t.device)
    angle = t.float()[:, None] * torch.exp(-math.log(max_period) * steps / (dim // 2))
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def _validate_dim(dim: int) -> None:
    validate_number("dim", dim, 2, integer=True)
    if dim % 2:
        raise ValueError(f"dim must be even, half cosines and half sines, got {dim}")


class TimeEmbedding(nn.Module):
    """A timestep as a vector that every residual block reads: (B,) to (B, out).

    It is the sinusoidal embedding, followed by Linear-SiLU-Linear.

    Args:
        dim: length of the sinusoidal embedding, even.
        out: length of the vector.
    """

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        _validate_dim(dim)
        validate_counts(out=out)
        self.dim = dim
        self.mlp = nn.Sequential(nn.Linear(dim, out), nn.SiLU(), nn.Linear(out, out))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(sinusoidal_embedding(t, self.dim).to(next(self.mlp.parameters()).dtype))


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with 8 groups: it looks at one picture at a time, so the neighbors in the batch do not matter."""
    validate_counts(channels=channels)
    if channels % 8:
        raise ValueError(f"channels must be a multiple of 8, the number of groups of GroupNorm, got {channels}")
    return nn.GroupNorm(8, channels)


class Pointwise(nn.Linear):
    """A 1×1 convolution, (B, in, H, W) to (B, out, H, W), computed as the matrix product that it is.

    On a CPU this computes the gradient of the weights several times faster than `nn.Conv2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """A residual block that knows the time: (B, in, H, W) and (B, emb) to (B, out, H, W).

    Norm-SiLU-conv, then norm, scale and shift by the embedding ("adaptive group norm", Dhariwal & Nichol 2021,
    eq. 2), SiLU-conv, and the input added. The second convolution starts at zero, so a new block does nothing but
    pass its input on (by the shortcut, if the channels change).

    Args:
        in_channels: channels in, a multiple of 8.
        out_channels: channels out, a multiple of 8.
        emb: length of the time embedding.
    """

    def __init__(self, in_channels: int, out_channels: int, emb: int) -> None:
        super().__init__()
        validate_counts(in_channels=in_channels, out_channels=out_channels, emb=emb)
        self.norm1 = group_norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.scale_shift = nn.Linear(emb, 2 * out_channels)
        self.norm2 = group_norm(out_channels)
        self.conv2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Identity() if in_channels == out_channels else Pointwise(in_channels, out_channels)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.scale_shift(F.silu(emb))[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(torch.addcmul(shift, self.norm2(h), 1 + scale)))
        return self.shortcut(x) + h


class SelfAttention(nn.Module):
    """Every position looks at every other: (B, C, H, W) to the same shape.

    softmax(Q Kᵀ / √d) V over the H·W positions (Vaswani et al. 2017, eq. 1), and the input added. The output
    projection starts at zero, so a new layer passes its input on.

    Args:
        channels: channels, a multiple of 8 and of heads.
        heads: number of heads.
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        validate_counts(channels=channels, heads=heads)
        if channels % heads:
            raise ValueError(f"channels must be a multiple of heads, {heads}, got {channels}")
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        rows = self.norm(x).permute(0, 2, 3, 1).reshape(B, H * W, C)  # a row for each position
        qkv = self.qkv(rows).view(B, H * W, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, H·W, C/heads)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(1, 2).reshape(B, H, W, C)).permute(0, 3, 1, 2)


class Stage(nn.Module):
    """A residual block, then attention if asked for: (B, in, H, W) and (B, emb) to (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, emb: int, attention: bool) -> None:
        super().__init__()
        self.res = ResBlock(in_channels, out_channels, emb)
        self.attention = SelfAttention(out_channels) if attention else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.res(x, emb))


class Upsample(nn.Sequential):
    """Repeat each pixel, then convolve: (B, in, H, W) to (B, out, 2H, 2W), without checkerboard artifacts.

    Args:
        in_channels: channels in.
        out_channels: channels out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        validate_counts(in_channels=in_channels, out_channels=out_channels)
        super().__init__(nn.Upsample(scale_factor=2), nn.Conv2d(in_channels, out_channels, 3, padding=1))


def zeroed(module: Layer) -> Layer:
    """The same layer with weight and bias set to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def way_down(
    channels: Sequence[int], blocks: int, attention: Sequence[int], emb: int
) -> tuple[nn.ModuleList, list[int]]:
    """The parts from the full size to the deepest level, and the channels of the skip that each of them leaves."""
    parts, skips, width = nn.ModuleList(), [channels[0]], channels[0]
    for level, wide in enumerate(channels):
        if level:
            parts.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
            skips.append(width)
        for _ in range(blocks):
            parts.append(Stage(width, wide, emb, level in attention))
            skips.append(wide)
            width = wide
    return parts, skips


def way_up(channels: Sequence[int], blocks: int, attention: Sequence[int], emb: int, skips: list[int]) -> nn.ModuleList:
    """The parts from the deepest level back to the full size; each stage takes the last skip that is left."""
    parts, width = nn.ModuleList(), channels[-1]
    for level, wide in reversed([*enumerate(channels)]):
        for _ in range(blocks + 1):
            parts.append(Stage(width + skips.pop(), wide, emb, level in attention))
            width = wide
        if level:
            width = channels[level - 1]
            parts.append(Upsample(wide, width))
    return parts


def center_crop(x: Tensor, like: Tensor) -> Tensor:
    """The middle of x, (B, C, H, W), with the height and width of like."""
    top, left = ((x.shape[axis] - like.shape[axis]) // 2 for axis in (2, 3))
    return x[:, :, top : top + like.shape[2], left : left + like.shape[3]]


def time_plane(t: Tensor, T: int, like: Tensor) -> Tensor:
    """One more channel, (B, 1, H, W), filled with t/T in the dtype of like, (B, C, H, W)."""
    precise = torch.promote_types(like.dtype, torch.float32)  # bfloat16 would round t itself
    return (t.to(precise) / T).to(like.dtype).view(-1, 1, 1, 1).expand(-1, 1, *like.shape[2:])
