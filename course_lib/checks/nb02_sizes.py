"""Notebook 02, the exercises on sizes, channels and parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..blocks import DoubleConv
from ..shapes import conv_out, conv_transpose_out, count_parameters
from ..unet import DoubleConvUNet
from .effects import Wrong
from .judge import Exercise


def my_conv_out(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1


CONV_OUT = Exercise(
    lambda size, kernel, stride, padding: conv_out(size, kernel, stride, padding),
    lambda _: [(28, 3, 1, 1), (28, 3, 2, 1), (29, 5, 2, 0), (572, 3, 1, 0), (10, 4, 3, 2), (7, 2, 2, 0), (9, 3, 4, 0)],
    {
        "Padding is added on both sides: 2 · padding.": lambda n, k, s, p: (n + p - k) // s + 1,
        "The + 1 at the end is missing. The first placement counts, too.": lambda n, k, s, p: (n + 2 * p - k) // s,
        "Round down, not up. A placement that does not fit whole is left out.": (
            lambda n, k, s, p: math.ceil((n + 2 * p - k) / s) + 1
        ),
        "Round down with //. round() goes to the nearest number, and so it sometimes goes up.": (
            lambda n, k, s, p: round((n + 2 * p - k) / s) + 1
        ),
        "Nothing is rounded down. Use //, because sizes are whole numbers.": lambda n, k, s, p: (n + 2 * p - k) / s + 1,
        "Stride and kernel are swapped.": lambda n, k, s, p: (n + 2 * p - s) // k + 1,
        "The padding is forgotten.": lambda n, k, s, p: (n - k) // s + 1,
        "The padding is subtracted. It makes the input larger: + 2 · padding.": lambda n, k, s, p: (
            (n - 2 * p - k) // s + 1
        ),
        "The kernel is forgotten. The first placement takes kernel pixels of the side.": lambda n, k, s, p: (
            (n + 2 * p) // s + 1
        ),
        "The stride is forgotten. Only every stride-th placement is kept.": lambda n, k, s, p: n + 2 * p - k + 1,
        "Add the 1 after you divide by the stride, not before.": lambda n, k, s, p: (n + 2 * p - k + 1) // s,
        "Only kernel is divided by the stride: set brackets around the sum.": lambda n, k, s, p: n + 2 * p - k // s + 1,
        "That is size / stride, rounded up. It holds only where the padding is made to fit, which it is not here.": (
            lambda n, k, s, p: math.ceil(n / s)
        ),
    },
    answer=my_conv_out,
    library=[conv_out],
    equation=r"\left\lfloor \frac{\text{size} + 2\,\text{padding} - \text{kernel}}{\text{stride}} \right\rfloor + 1",
    praise="The same sizes as the library's function, for seven layers.",
)


def my_conv_transpose_out(size: int, kernel: int, stride: int, padding: int, output_padding: int) -> int:
    return (size - 1) * stride - 2 * padding + kernel + output_padding


CONV_TRANSPOSE_OUT = Exercise(
    lambda size, kernel, stride, padding, output_padding: conv_transpose_out(
        size, kernel, stride, padding, output_padding
    ),
    lambda _: [(14, 2, 2, 0, 0), (4, 3, 2, 1, 1), (7, 3, 2, 1, 0), (5, 5, 3, 2, 2), (9, 3, 1, 1, 0), (6, 4, 3, 0, 1)],
    {
        "output_padding is forgotten.": lambda n, k, s, p, o: (n - 1) * s - 2 * p + k,
        "output_padding is subtracted; it adds rows back.": lambda n, k, s, p, o: (n - 1) * s - 2 * p + k - o,
        "output_padding is added on one side only, so count it once.": (
            lambda n, k, s, p, o: (n - 1) * s - 2 * p + k + 2 * o
        ),
        "The padding is forgotten: take 2 · padding away.": lambda n, k, s, p, o: (n - 1) * s + k + o,
        "Padding takes away here, because this layer undoes a padded convolution: - 2 · padding.": (
            lambda n, k, s, p, o: (n - 1) * s + 2 * p + k + o
        ),
        "Padding is cut off both sides: 2 · padding.": lambda n, k, s, p, o: (n - 1) * s - p + k + o,
        "There are size - 1 strides between size placements, not size.": [
            lambda n, k, s, p, o: n * s - 2 * p + k + o,
            lambda n, k, s, p, o: n * s + k + o - 2 * p - 1,
        ],
        "size · stride is right only where kernel + output_padding = stride + 2 · padding. Follow the patches: how far "
        "does the last one reach?": [lambda n, k, s, p, o: n * s, lambda n, k, s, p, o: n * s + o],
        "Stride and kernel are swapped.": lambda n, k, s, p, o: (n - 1) * k - 2 * p + s + o,
        "The kernel is forgotten. The last patch still covers kernel pixels.": lambda n, k, s, p, o: (
            (n - 1) * s - 2 * p + o
        ),
        "One pixel too many: with dilation 1, dilation · (kernel - 1) + 1 is just kernel.": (
            lambda n, k, s, p, o: (n - 1) * s - 2 * p + k + o + 1
        ),
        "One pixel short: the first placement covers kernel pixels, which is (kernel - 1) + 1.": (
            lambda n, k, s, p, o: (n - 1) * s - 2 * p + (k - 1) + o
        ),
        "That is the formula of the ordinary convolution, which shrinks.": lambda n, k, s, p, o: (
            (n + 2 * p - k) // s + 1
        ),
    },
    answer=my_conv_transpose_out,
    library=[conv_transpose_out],
    equation=r"(\text{size} - 1)\,\text{stride} - 2\,\text{padding} + \text{kernel} + \text{output padding}",
    praise="The same sizes as the library's function, for six layers.",
)


def _merge_channels(features: Sequence[int]) -> list[int]:
    """Read off a network whose weights take no memory."""
    with torch.device("meta"):
        network = DoubleConvUNet(features=tuple(features), bottleneck=2 * features[-1])
    first = [next(layer for layer in merge.modules() if isinstance(layer, nn.Conv2d)) for merge in network.merge]
    return [layer.in_channels for layer in first]


def _below(features: Sequence[int]) -> list[int]:
    """Channels of what comes up, before its transposed convolution; deepest first."""
    return [2 * features[-1], *features[:0:-1]]


SAME_LIST = "This list is right for one U-Net alone. Work it out from features, whose length and numbers vary."
ONE_TOO_MANY = "That is one number too many. The bottleneck merges nothing, so there is one merge for each level."
ONE_TOO_FEW = "That is one number too few. Every level has a skip, the top one too, so there is one merge for each."
FOUR_LEVELS = [1024, 512, 256, 128]  # of the example in the notebook
NO_LIST = "Return a list with one number for each level, the deepest first."


def _as_list(answer: Any) -> Callable[..., Any]:
    def function(features: Sequence[int]) -> Any:
        channels = answer(features)
        if channels is None or channels is ...:
            return channels
        if isinstance(channels, Tensor | np.ndarray) and channels.ndim == 1:
            channels = channels.tolist()
        if not isinstance(channels, list | tuple):
            raise Wrong(NO_LIST)
        if [*channels] == FOUR_LEVELS and len(features) != len(FOUR_LEVELS):
            raise Wrong(SAME_LIST)
        if abs(len(channels) - len(features)) == 1:
            raise Wrong(ONE_TOO_MANY if len(channels) > len(features) else ONE_TOO_FEW)
        return channels

    return function


def my_merge_channels(features: tuple[int, ...]) -> list[int]:
    return [2 * channels for channels in reversed(features)]


MERGE_CHANNELS = Exercise(
    _merge_channels,
    lambda _: [([64, 128, 256, 512],), ((16, 32, 64),), ([8, 24],), ((48, 16, 32),), ((32, 32, 8, 64, 16),)],
    {
        "That would be right if skip and upsampled map were added; they are concatenated.": lambda f: [*reversed(f)],
        "The numbers are right, but not their order: the first merge on the way up is the deepest.": (
            lambda f: [2 * c for c in f]
        ),
        "The numbers are sorted by size. What counts is the order of the levels, and a deeper level may be thinner.": [
            lambda f: sorted((2 * c for c in f), reverse=True),
            lambda f: sorted(2 * c for c in f),
        ],
        "The first level is doubled again and again. Take the numbers from features, which need not double.": [
            lambda f: [2 * f[0] * 2**i for i in reversed(range(len(f)))],
            lambda f: [2 * f[-1] // 2**i for i in range(len(f))],
        ],
        "The map from below still has all of its channels here; its transposed convolution brings them down to "
        "those of the skip.": lambda f: [c + b for c, b in zip(reversed(f), _below(f), strict=True)],
        "This is one level too deep. Where they meet, skip and upsampled map have the channels of that level.": (
            lambda f: [2 * b for b in _below(f)]
        ),
        "The map from below is halved once too often. Its transposed convolution ends at the channels of the skip.": (
            lambda f: [c + c // 2 for c in reversed(f)]
        ),
        "Concatenation lays channels side by side, so their numbers add up; they do not multiply.": (
            lambda f: [c * c for c in reversed(f)]
        ),
        SAME_LIST: lambda f: FOUR_LEVELS,
        ONE_TOO_MANY: lambda f: [2 * c for c in (2 * f[-1], *reversed(f))],
        ONE_TOO_FEW: [lambda f: [2 * c for c in reversed(f[:-1])], lambda f: [2 * c for c in reversed(f[1:])]],
        NO_LIST: [lambda f: 2 * f[0], lambda f: (2 * c for c in reversed(f))],
    },
    adapt=_as_list,
    answer=my_merge_channels,
    library=[DoubleConvUNet],
    equation=r"C_\text{merge} = C_\text{skip} + C_\text{up} = 2\,C_\text{skip}, \qquad \text{deepest level first}",
    praise="The channels of the library's DoubleConvUNet, for five of them.",
)


def my_parameters(in_channels: int, out_channels: int) -> int:
    return (9 * in_channels + 1) * out_channels + (9 * out_channels + 1) * out_channels


DOUBLE_CONV_PARAMETERS = Exercise(
    lambda in_channels, out_channels: count_parameters(DoubleConv(in_channels, out_channels)),
    lambda _: [(1, 8), (3, 16), (16, 4), (8, 8)],
    {
        "The biases are forgotten: one for each output channel of each convolution.": lambda i, o: (
            9 * i * o + 9 * o * o
        ),
        "The second convolution takes what the first one gives: out_channels in, not in_channels.": (
            lambda i, o: 2 * (9 * i * o + o)
        ),
        "That is the first convolution alone; there are two.": lambda i, o: 9 * i * o + o,
        "A 3×3 kernel has nine weights, not three.": lambda i, o: 3 * i * o + 3 * o * o + 2 * o,
        "Each output channel has one bias, whatever goes in: out_channels biases, not in_channels.": (
            lambda i, o: 9 * i * o + 9 * o * o + i + o
        ),
        "Each output channel has one kernel for every input channel: multiply in by out.": (
            lambda i, o: 9 * (i + o) + 9 * (o + o) + 2 * o
        ),
        "Both convolutions have biases, but these are counted once.": lambda i, o: 9 * i * o + 9 * o * o + o,
        "A bias belongs to an output channel, not to every kernel: out_channels of them for each convolution.": (
            lambda i, o: 10 * i * o + 10 * o * o
        ),
        "BatchNorm's weights are counted, too. This double convolution has none: two convolutions and their ReLUs.": (
            lambda i, o: 9 * i * o + 9 * o * o + 6 * o
        ),
    },
    answer=my_parameters,
    library=[DoubleConv, count_parameters],
    equation=r"(9\,C_\text{in} + 1)\,C_\text{out} + (9\,C_\text{out} + 1)\,C_\text{out}",
    praise="The same count as PyTorch's, for four blocks.",
)
