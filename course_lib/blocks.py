"""The parts that U-Nets are built from, each with the shapes that go in and come out."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .validate import validate_choice, validate_number

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


class DoubleConv(nn.Sequential):
    """Two 3×3 convolutions, each with ReLU: (B, in, H, W) to (B, out, H, W), or (B, out, H−4, W−4) unpadded.

    Args:
        in_channels: channels in.
        out_channels: channels out of both convolutions.
        padding: 1 keeps the size; 0 loses two pixels at each convolution, as in the 2015 U-Net.
        batch_norm: put BatchNorm before each ReLU; the convolutions then have no bias, which it would cancel.

    Raises:
        ValueError: padding is neither 0 nor 1.
    """

    def __init__(self, in_channels: int, out_channels: int, *, padding: int = 1, batch_norm: bool = False) -> None:
        validate_choice("padding", padding, (0, 1))
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers.append(nn.Conv2d(channels, out_channels, 3, padding=padding, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(out_channels))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


def conv_norm_relu(in_channels: int, out_channels: int) -> list[nn.Module]:
    """A padded 3×3 convolution with bias, BatchNorm and ReLU: (B, in, H, W) to (B, out, H, W)."""
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
    """Concatenate the skip, double the size, convolve: two (B, in, H, W) to (B, out, 2H, 2W).

    Args:
        in_channels: channels of the map from below and of the skip, each; the concatenation has twice as many.
        out_channels: channels out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
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
        max_period: the waves take from 2π to 2π · max_period^(1 − 2/dim) timesteps.

    Returns:
        (B, dim), float32, values in [-1, 1].

    Raises:
        TypeError, ValueError: t is not a one-dimensional tensor, or dim is odd or below 2.
    """
    validate_number("dim", dim, 2, integer=True)
    if dim % 2:
        raise ValueError(f"dim must be even, half cosines and half sines, got {dim}")
    if not isinstance(t, Tensor):
        raise TypeError(f"t must be a tensor of shape (B,), got {type(t).__name__}; use torch.tensor([t])")
    if t.ndim != 1:
        raise ValueError(f"t must have shape (B,), got {tuple(t.shape)}")
    steps = torch.arange(dim // 2, dtype=torch.float32, device=t.device)
    angle = t.float()[:, None] * torch.exp(-math.log(max_period) * steps / (dim // 2))
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class TimeEmbedding(nn.Module):
    """A timestep as a vector that every residual block reads: (B,) to (B, out).

    The sinusoidal embedding, then Linear-SiLU-Linear.

    Args:
        dim: length of the sinusoidal embedding, even.
        out: length of the vector.
    """

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.dim = dim
        self.mlp = nn.Sequential(nn.Linear(dim, out), nn.SiLU(), nn.Linear(out, out))

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(sinusoidal_embedding(t, self.dim).to(next(self.mlp.parameters()).dtype))


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with 8 groups: statistics of one picture at a time, so that its neighbors do not matter.

    Raises:
        ValueError: the channels do not divide by 8.
    """
    if channels % 8:
        raise ValueError(f"channels must be a multiple of 8, the number of groups of GroupNorm, got {channels}")
    return nn.GroupNorm(8, channels)


class Pointwise(nn.Linear):
    """A 1×1 convolution, (B, in, H, W) to (B, out, H, W), computed as the matrix product that it is.

    On a CPU the gradient of its weights is found several times faster than by `nn.Conv2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """A residual block that knows the time: (B, in, H, W) and (B, emb) to (B, out, H, W).

    Norm-SiLU-conv, then norm, scale and shift by the embedding ("adaptive group norm", Dhariwal & Nichol 2021,
    eq. 2), SiLU-conv, plus the input. The second convolution starts at zero, so that the block starts as its
    shortcut.

    Args:
        in_channels: channels in, a multiple of 8.
        out_channels: channels out, a multiple of 8.
        emb: length of the time embedding.
    """

    def __init__(self, in_channels: int, out_channels: int, emb: int) -> None:
        super().__init__()
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

    softmax(Q Kᵀ / √d) V over the H·W positions (Vaswani et al. 2017, eq. 1), plus the input; the output
    projection starts at zero.

    Args:
        channels: channels, a multiple of 8 and of heads.
        heads: number of heads.

    Raises:
        ValueError: channels do not divide by heads.
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
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


class Upsample(nn.Sequential):
    """Repeat each pixel, then convolve: (B, C, H, W) to (B, out, 2H, 2W), without a checkerboard.

    Args:
        in_channels: channels in.
        out_channels: channels out.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.Upsample(scale_factor=2), nn.Conv2d(in_channels, out_channels, 3, padding=1))


def zeroed(module: Layer) -> Layer:
    """The same layer with weight and bias set to zero."""
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module
