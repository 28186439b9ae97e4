"""The exercises of notebook 02: building a U-Net."""

from __future__ import annotations

import math
from typing import Any

import torch

from ..blocks import DoubleConv
from ..shapes import conv_out, conv_transpose_out, count_parameters
from .judge import Choice, Exercise, Question


def _conv_cases(_: torch.Generator) -> list[tuple[Any, ...]]:
    return [(28, 3, 1, 1), (28, 3, 2, 1), (29, 5, 2, 0), (572, 3, 1, 0), (10, 4, 3, 2), (7, 2, 2, 0)]


def my_conv_out(size: int, kernel: int, stride: int, padding: int) -> int:
    return (size + 2 * padding - kernel) // stride + 1


CONV_OUT = Exercise(
    lambda size, kernel, stride, padding: conv_out(size, kernel, stride, padding),
    _conv_cases,
    {
        "Padding is added on both sides: 2 · padding.": lambda n, k, s, p: (n + p - k) // s + 1,
        "The + 1 at the end is missing: the first placement counts, too.": lambda n, k, s, p: (n + 2 * p - k) // s,
        "Round down, not up: a placement that does not fit whole is left out.": (
            lambda n, k, s, p: math.ceil((n + 2 * p - k) / s) + 1
        ),
        "Nothing is rounded down: use //, since sizes are whole numbers.": lambda n, k, s, p: (n + 2 * p - k) / s + 1,
        "Stride and kernel are swapped.": lambda n, k, s, p: (n + 2 * p - s) // k + 1,
        "The padding is forgotten.": lambda n, k, s, p: (n - k) // s + 1,
        "The stride is forgotten: only every stride-th placement is kept.": lambda n, k, s, p: n + 2 * p - k + 1,
        "Add the 1 after dividing by the stride, not before.": lambda n, k, s, p: (n + 2 * p - k + 1) // s,
    },
    answer=my_conv_out,
    library=[conv_out],
    equation=r"\left\lfloor \frac{\text{size} + 2\,\text{padding} - \text{kernel}}{\text{stride}} \right\rfloor + 1",
    praise="The same sizes as the library's function, for six layers.",
)


def _conv_transpose_cases(_: torch.Generator) -> list[tuple[Any, ...]]:
    return [(14, 2, 2, 0, 0), (4, 3, 2, 1, 1), (7, 4, 2, 1, 0), (5, 5, 3, 2, 2), (9, 3, 1, 1, 0)]


def my_conv_transpose_out(size: int, kernel: int, stride: int, padding: int, output_padding: int) -> int:
    return (size - 1) * stride - 2 * padding + kernel + output_padding


CONV_TRANSPOSE_OUT = Exercise(
    lambda size, kernel, stride, padding, output_padding: conv_transpose_out(
        size, kernel, stride, padding, output_padding
    ),
    _conv_transpose_cases,
    {
        "output_padding is forgotten.": lambda n, k, s, p, o: (n - 1) * s - 2 * p + k,
        "Padding takes away here: - 2 · padding, since this layer undoes a padded convolution.": (
            lambda n, k, s, p, o: (n - 1) * s + 2 * p + k + o
        ),
        "There are size - 1 strides between size placements, not size.": lambda n, k, s, p, o: n * s - 2 * p + k + o,
        "Padding is taken off both sides: 2 · padding.": lambda n, k, s, p, o: (n - 1) * s - p + k + o,
        "One pixel too many: dilation · (kernel - 1) + 1 is just kernel.": (
            lambda n, k, s, p, o: (n - 1) * s - 2 * p + k + o + 1
        ),
        "One pixel short: the first placement covers kernel pixels, (kernel - 1) + 1.": (
            lambda n, k, s, p, o: (n - 1) * s - 2 * p + (k - 1) + o
        ),
        "output_padding is added on one side only, so count it once.": (
            lambda n, k, s, p, o: (n - 1) * s - 2 * p + k + 2 * o
        ),
        "That is the formula of the ordinary convolution, which shrinks.": lambda n, k, s, p, o: (
            (n + 2 * p - k) // s + 1
        ),
    },
    answer=my_conv_transpose_out,
    library=[conv_transpose_out],
    equation=r"(\text{size} - 1)\,\text{stride} - 2\,\text{padding} + \text{kernel} + \text{output padding}",
    praise="The same sizes as the library's function, for five layers.",
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
        "The second convolution takes what the first gives: out_channels in, not in_channels.": (
            lambda i, o: 2 * (9 * i * o + o)
        ),
        "That is the first convolution alone; there are two.": lambda i, o: 9 * i * o + o,
        "A 3×3 kernel has nine weights, not three.": lambda i, o: 3 * i * o + 3 * o * o + 2 * o,
        "Each output channel has one bias, whatever the input: out_channels biases, not in_channels.": (
            lambda i, o: 9 * i * o + 9 * o * o + i + o
        ),
        "Each output channel has one kernel for every input channel: multiply in by out.": (
            lambda i, o: 9 * (i + o) + 9 * (o + o) + 2 * o
        ),
        "Both convolutions have biases, but these are counted once.": lambda i, o: 9 * i * o + 9 * o * o + o,
    },
    answer=my_parameters,
    library=[DoubleConv, count_parameters],
    equation=r"(9\,C_\text{in} + 1)\,C_\text{out} + (9\,C_\text{out} + 1)\,C_\text{out}",
    praise="The same count as PyTorch's, for four blocks.",
)

MERGE_CHANNELS = Question(
    lambda: 2 * 64,
    "64 from the skip and 64 from below, side by side: concatenation adds the channels up.",
    {
        64: "64 would be right if skip and upsampled map were added; they are concatenated.",
        256: "256 is one level deeper: at the top, skip and upsampled map have 64 channels each.",
        192: "The up-convolution has already halved 128 to 64 when the two meet.",
        1024: "1024 enters the deepest merge, 512 + 512. The question is about the top one.",
    },
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "conv_out": CONV_OUT,
    "conv_transpose_out": CONV_TRANSPOSE_OUT,
    "double_conv_parameters": DOUBLE_CONV_PARAMETERS,
    "merge_channels": MERGE_CHANNELS,
}
