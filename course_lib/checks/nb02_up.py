"""Notebook 02, the exercise on an up block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks import UpBlock, conv_norm_relu
from ..shapes import conv_out
from .effects import Case
from .inputs import noise
from .judge import Exercise
from .nb02_forms import conv, conv_norm_relu_with, forms
from .nb02_modules import NORM_CHANNELS, SECOND_CHANNELS, Call, as_block, explained, misfit

UP_FORWARD = "forward takes the map from below and the skip, in this order: def forward(self, x, skip)."
WRONG_AXIS = "The two maps are joined along the wrong axis. Channels are dim=1 of (B, C, H, W)."
HALF_THE_CHANNELS = "After the concatenation there are 2 * in_channels channels. The first layer must take them all."
TOO_LATE = "x is doubled before it meets the skip. Here the two have the same size and are concatenated first."
ONE_SHORT = "The size is one pixel short of double. That pixel is output_padding=1."
NOT_DOUBLED = "The size is not doubled. That is the task of the transposed convolution, with stride=2."
POOLED = "The transposed convolution doubles the size, but something halves it again. An up block has no pool."
POOLED_FIRST = "Something changes the size before the transposed convolution, which wants the joined maps as they are."
SHRUNK = "The size is halved instead of doubled. Use nn.ConvTranspose2d, which goes the other way."
KERNEL_AND_STRIDE = "Kernel and stride are swapped. The kernel is 3×3, and the patches lie 2 pixels apart."
STRIDE_AND_PADDING = "Stride and padding are swapped. A stride of 2 doubles the size, a padding of 1 cuts the rim off."
RIM_LEFT = "A rim is left on. The transposed convolution needs padding=1 to cut it off."
LAST_UNPADDED = "The last convolution loses two pixels. It needs padding=1 to keep the size."


def _up_cases(g: torch.Generator) -> list[Case]:
    shapes = ((5, (2, 3, 4, 7), True), (5, (2, 3, 4, 7), False), (2, (3, 4, 6, 5), False))
    return [(shape[1], out, noise(shape, g), noise(shape, g), training) for out, shape, training in shapes]


def _look_up(
    in_channels: int, given: tuple[int, ...], calls: list[Call], got: tuple[int, ...] | Exception
) -> str | None:
    batch, channels, height, width = given
    size = None if isinstance(got, Exception) else got[2:]
    if not calls or (size == (2 * height, 2 * width) and not isinstance(got, Exception) and got[0] == batch):
        return None
    first, handed = calls[0]
    if handed in {(2 * batch, *given[1:]), (batch, channels, 2 * height, width), (batch, channels, height, 2 * width)}:
        return WRONG_AXIS
    if isinstance(got, Exception):
        if handed[1:2] == (2 * channels,) and getattr(first, "in_channels", None) == channels and len(calls) == 1:
            return HALF_THE_CHANNELS
        if handed == given and isinstance(first, nn.ConvTranspose2d) and "Sizes of tensors must match" in str(got):
            return TOO_LATE
    up = next((layer for layer, _ in calls if isinstance(layer, nn.ConvTranspose2d)), None)
    entered = next((shape[2:] for layer, shape in calls if layer is up), None)
    hyper = up and (up.kernel_size[0], up.stride[0], up.padding[0])
    if hyper == (2, 3, 1):
        return KERNEL_AND_STRIDE
    if hyper == (3, 1, 2):
        return STRIDE_AND_PADDING
    if size is None:
        return misfit(in_channels, calls)
    if entered not in (None, (height, width)):
        return POOLED_FIRST
    if up and up.stride[0] == 2 and size == (height, width):
        return POOLED
    if hyper == (3, 2, 0):
        return RIM_LEFT
    if hyper == (3, 2, 1) and any(isinstance(layer, nn.Conv2d) and layer.padding == (0, 0) for layer, _ in calls):
        return LAST_UNPADDED
    sentences: dict[tuple[int, ...], str] = {
        (height, width): NOT_DOUBLED,
        (2 * height - 1, 2 * width - 1): ONE_SHORT,
    }
    if up is None:
        sentences[conv_out(height, 3, 2, 1), conv_out(width, 3, 2, 1)] = SHRUNK
    return sentences.get(size)


class MyUpBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(2 * in_channels, out_channels, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([x, skip], dim=1))


class _Join(nn.Module):
    """An up block that joins its two maps in some way, then runs its layers."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.join = join
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.layers(self.join(x, skip))


class _UpOfOneMap(MyUpBlock):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.layers(torch.cat([x, x], dim=1))


class _UpTooLate(MyUpBlock):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.enlarge = _up(in_channels, in_channels)
        self.layers[0] = conv(2 * in_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.layers(torch.cat([self.enlarge(x), skip], dim=1))


def _cat(x: Tensor, skip: Tensor) -> Tensor:
    return torch.cat([x, skip], dim=1)


def _up(in_channels: int, out_channels: int, **changes: Any) -> nn.ConvTranspose2d:
    usual = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1}
    return nn.ConvTranspose2d(in_channels, out_channels, **(usual | changes))


def _up_layers(in_channels: int, out_channels: int, **changes: Any) -> list[nn.Module]:
    """The layers after the join, with another transposed convolution where there are changes."""
    norm_relu = [nn.BatchNorm2d(out_channels), nn.ReLU()]
    return [_up(in_channels, out_channels, **changes), *norm_relu, *conv_norm_relu(out_channels, out_channels)]


UP_BLOCK = Exercise(
    UpBlock,
    _up_cases,
    {
        **forms(UpBlock),
        UP_FORWARD: _UpOfOneMap,
        WRONG_AXIS: lambda i, o: _Join(lambda x, s: torch.cat([x, s], dim=2), *_up_layers(i, o)),
        HALF_THE_CHANNELS: lambda i, o: _Join(_cat, *_up_layers(i, o)),
        TOO_LATE: _UpTooLate,
        ONE_SHORT: lambda i, o: _Join(_cat, *_up_layers(2 * i, o, output_padding=0)),
        NOT_DOUBLED: lambda i, o: _Join(_cat, *conv_norm_relu(2 * i, o), *conv_norm_relu(o, o)),
        POOLED: [
            lambda i, o: _Join(_cat, *_up_layers(2 * i, o), nn.MaxPool2d(2)),
            lambda i, o: _Join(_cat, _up(2 * i, o), nn.BatchNorm2d(o), nn.ReLU(), *conv_norm_relu_with(o, o, stride=2)),
        ],
        POOLED_FIRST: [
            lambda i, o: _Join(_cat, nn.MaxPool2d(2), *_up_layers(2 * i, o)),
            lambda i, o: _Join(_cat, nn.Upsample(scale_factor=2), *_up_layers(2 * i, o)),
        ],
        SHRUNK: lambda i, o: _Join(_cat, *conv_norm_relu_with(2 * i, o, stride=2), *conv_norm_relu(o, o)),
        KERNEL_AND_STRIDE: lambda i, o: _Join(_cat, *_up_layers(2 * i, o, kernel_size=2, stride=3)),
        STRIDE_AND_PADDING: lambda i, o: _Join(_cat, *_up_layers(2 * i, o, stride=1, padding=2)),
        RIM_LEFT: lambda i, o: _Join(_cat, *_up_layers(2 * i, o, padding=0)),
        LAST_UNPADDED: lambda i, o: _Join(
            _cat, _up(2 * i, o), nn.BatchNorm2d(o), nn.ReLU(), *conv_norm_relu_with(o, o, padding=0)
        ),
        NORM_CHANNELS: lambda i, o: _Join(_cat, _up(2 * i, o), nn.BatchNorm2d(i), nn.ReLU(), *conv_norm_relu(o, o)),
        SECOND_CHANNELS: lambda i, o: _Join(_cat, _up(2 * i, o), nn.BatchNorm2d(o), nn.ReLU(), *conv_norm_relu(i, o)),
        "The order is reversed. x comes first, then the skip: weights trained in one order fail in the other.": (
            lambda i, o: _Join(lambda x, s: torch.cat([s, x], dim=1), *_up_layers(2 * i, o))
        ),
        "The skip is added to x. Lay it beside x instead, with torch.cat.": (
            lambda i, o: _Join(lambda x, s: x + s, *_up_layers(i, o))
        ),
        "The skip is not used: only x goes into the layers.": lambda i, o: _Join(lambda x, s: x, *_up_layers(i, o)),
        "x is concatenated with itself; the skip is not used.": lambda i, o: _Join(
            lambda x, s: torch.cat([x, x], dim=1), *_up_layers(2 * i, o)
        ),
        "The transposed convolution has a 2×2 kernel. It is 3×3 here, so that neighboring patches overlap.": (
            lambda i, o: _Join(_cat, *_up_layers(2 * i, o, kernel_size=2, padding=0, output_padding=0))
        ),
        "The size is doubled by repeating pixels, then convolved. Here a transposed convolution does both.": (
            lambda i, o: _Join(_cat, nn.Upsample(scale_factor=2), *conv_norm_relu(2 * i, o), *conv_norm_relu(o, o))
        ),
        "The last convolution is missing, with its BatchNorm and its ReLU.": lambda i, o: _Join(
            _cat, _up(2 * i, o), nn.BatchNorm2d(o), nn.ReLU()
        ),
        "BatchNorm is missing after both convolutions.": lambda i, o: _Join(
            _cat, _up(2 * i, o), nn.ReLU(), conv(o, o), nn.ReLU()
        ),
        "ReLU comes before BatchNorm. Here it comes after, on the normalized map.": lambda i, o: _Join(
            _cat, _up(2 * i, o), nn.ReLU(), nn.BatchNorm2d(o), conv(o, o), nn.ReLU(), nn.BatchNorm2d(o)
        ),
        "There is no ReLU, and without one two convolutions are little more than one. It comes after each BatchNorm.": (
            lambda i, o: _Join(_cat, _up(2 * i, o), nn.BatchNorm2d(o), conv(o, o), nn.BatchNorm2d(o))
        ),
        "The ReLU after the first BatchNorm is missing.": lambda i, o: _Join(
            _cat, _up(2 * i, o), nn.BatchNorm2d(o), *conv_norm_relu(o, o)
        ),
        "The ReLU after the second BatchNorm is missing.": lambda i, o: _Join(
            _cat, _up(2 * i, o), nn.BatchNorm2d(o), nn.ReLU(), conv(o, o), nn.BatchNorm2d(o)
        ),
        "The convolutions have no bias. BatchNorm could do its work, but this exercise asks for both.": (
            lambda i, o: _Join(
                _cat, _up(2 * i, o, bias=False), nn.BatchNorm2d(o), nn.ReLU(), *conv_norm_relu_with(o, o, bias=False)
            )
        ),
    },
    adapt=as_block(2, UP_FORWARD, _look_up),
    explain=explained(maps=2, layers=2),
    answer=MyUpBlock,
    library=[UpBlock, conv_norm_relu],
    equation=r"h = \operatorname{ReLU}(\operatorname{BN}_1(w_1 *^{\mathsf T} [x, \text{skip}] + b_1)), \qquad "
    r"y = \operatorname{ReLU}(\operatorname{BN}_2(w_2 * h + b_2))",
    praise="With the same weights it gives the same map as the library's block, in training and in evaluation.",
)
