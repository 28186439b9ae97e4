"""Notebook 02, the exercise on a down block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..blocks import DownBlock, conv_norm_relu
from .effects import Case
from .inputs import noise
from .judge import Exercise
from .nb02_forms import conv, conv_norm_relu_with, forms
from .nb02_modules import NORM_CHANNELS, SECOND_CHANNELS, Call, as_block, explained, misfit

DOWN_FORWARD = "forward takes one map: def forward(self, x)."
NO_POOL = "The size is not halved: a 2×2 max-pool is missing at the end."
TWO_POOLS = "The size is halved twice. One 2×2 max-pool, at the end, is enough."
POOL_STRIDE = "The map loses one pixel instead of half its size. nn.MaxPool2d(2) has stride 2, which halves it."
UNPADDED = "Pixels are lost on the way to the pool. Each 3×3 convolution needs padding=1 to keep the size."
PADDED_TWICE = "The map grows on the way to the pool. With a 3×3 kernel, padding=1 is enough to keep the size."


def _down_cases(g: torch.Generator) -> list[Case]:
    shapes = ((5, (2, 3, 8, 12), True), (5, (2, 3, 8, 12), False), (2, (3, 4, 10, 8), False))
    return [(shape[1], out, noise(shape, g), training) for out, shape, training in shapes]


def _look_down(
    in_channels: int, given: tuple[int, ...], calls: list[Call], got: tuple[int, ...] | Exception
) -> str | None:
    if isinstance(got, Exception):
        return misfit(in_channels, calls) if calls else None
    height, width = given[2:]
    sentences: dict[tuple[int, ...], str] = {
        (height, width): NO_POOL,
        (height // 4, width // 4): TWO_POOLS,
        (height - 1, width - 1): POOL_STRIDE,
        ((height - 2) // 2, (width - 2) // 2): UNPADDED,
        ((height - 4) // 2, (width - 4) // 2): UNPADDED,
        ((height + 2) // 2, (width + 2) // 2): PADDED_TWICE,
        ((height + 4) // 2, (width + 4) // 2): PADDED_TWICE,
    }
    return sentences.get(got[2:])


class MyDownBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class _DownOfTwoMaps(MyDownBlock):
    def forward(self, x: Tensor, skip: Tensor) -> Tensor:  # type: ignore[override]
        return self.layers(x + skip)


def _shared_norm(i: int, o: int) -> nn.Module:
    norm = nn.BatchNorm2d(o)
    return nn.Sequential(conv(i, o), norm, nn.ReLU(), conv(o, o), norm, nn.ReLU(), nn.MaxPool2d(2))


DOWN_BLOCK = Exercise(
    DownBlock,
    _down_cases,
    {
        **forms(DownBlock),
        DOWN_FORWARD: _DownOfTwoMaps,
        NO_POOL: lambda i, o: nn.Sequential(*conv_norm_relu(i, o), *conv_norm_relu(o, o)),
        TWO_POOLS: lambda i, o: nn.Sequential(
            *conv_norm_relu(i, o), nn.MaxPool2d(2), *conv_norm_relu(o, o), nn.MaxPool2d(2)
        ),
        UNPADDED: [
            lambda i, o: nn.Sequential(
                *conv_norm_relu_with(i, o, padding=0), *conv_norm_relu_with(o, o, padding=0), nn.MaxPool2d(2)
            ),
            lambda i, o: nn.Sequential(*conv_norm_relu(i, o), *conv_norm_relu_with(o, o, padding=0), nn.MaxPool2d(2)),
        ],
        POOL_STRIDE: lambda i, o: nn.Sequential(
            *conv_norm_relu(i, o), *conv_norm_relu(o, o), nn.MaxPool2d(2, stride=1)
        ),
        PADDED_TWICE: lambda i, o: nn.Sequential(
            *conv_norm_relu(i, o), *conv_norm_relu_with(o, o, padding=2), nn.MaxPool2d(2)
        ),
        NORM_CHANNELS: lambda i, o: nn.Sequential(
            conv(i, o), nn.BatchNorm2d(i), nn.ReLU(), *conv_norm_relu(o, o), nn.MaxPool2d(2)
        ),
        SECOND_CHANNELS: lambda i, o: nn.Sequential(*conv_norm_relu(i, o), *conv_norm_relu(i, o), nn.MaxPool2d(2)),
        "The pooling comes before the convolutions. It belongs after them, so that they see every pixel.": (
            lambda i, o: nn.Sequential(nn.MaxPool2d(2), *conv_norm_relu(i, o), *conv_norm_relu(o, o))
        ),
        "The pooling stands between the two convolutions. It belongs after both.": lambda i, o: nn.Sequential(
            *conv_norm_relu(i, o), nn.MaxPool2d(2), *conv_norm_relu(o, o)
        ),
        "The second convolution is missing, with its BatchNorm and its ReLU.": lambda i, o: nn.Sequential(
            *conv_norm_relu(i, o), nn.MaxPool2d(2)
        ),
        "BatchNorm is missing after both convolutions.": lambda i, o: nn.Sequential(
            conv(i, o), nn.ReLU(), conv(o, o), nn.ReLU(), nn.MaxPool2d(2)
        ),
        "Both convolutions share one BatchNorm. Each needs its own, because their maps have different statistics.": (
            _shared_norm
        ),
        "ReLU comes before BatchNorm. Here it comes after, on the normalized map.": lambda i, o: nn.Sequential(
            conv(i, o), nn.ReLU(), nn.BatchNorm2d(o), conv(o, o), nn.ReLU(), nn.BatchNorm2d(o), nn.MaxPool2d(2)
        ),
        "There is no ReLU, and without one two convolutions are little more than one. It comes after each BatchNorm.": (
            lambda i, o: nn.Sequential(conv(i, o), nn.BatchNorm2d(o), conv(o, o), nn.BatchNorm2d(o), nn.MaxPool2d(2))
        ),
        "The ReLU after the first BatchNorm is missing.": lambda i, o: nn.Sequential(
            conv(i, o), nn.BatchNorm2d(o), *conv_norm_relu(o, o), nn.MaxPool2d(2)
        ),
        "The ReLU after the second BatchNorm is missing.": lambda i, o: nn.Sequential(
            *conv_norm_relu(i, o), conv(o, o), nn.BatchNorm2d(o), nn.MaxPool2d(2)
        ),
        "The second convolution halves the size with its stride. Here a max-pool does that, which has no weights.": (
            lambda i, o: nn.Sequential(*conv_norm_relu(i, o), *conv_norm_relu_with(o, o, stride=2))
        ),
        "The max-pool looks at 3×3 pixels, so that its places overlap. Here it is 2×2.": lambda i, o: nn.Sequential(
            *conv_norm_relu(i, o), *conv_norm_relu(o, o), nn.MaxPool2d(3, stride=2, padding=1)
        ),
        "This takes the mean of every four pixels; a max-pool keeps the largest.": lambda i, o: nn.Sequential(
            *conv_norm_relu(i, o), *conv_norm_relu(o, o), nn.AvgPool2d(2)
        ),
        "The convolutions have no bias. BatchNorm could do its work, but this exercise asks for both.": (
            lambda i, o: nn.Sequential(
                *conv_norm_relu_with(i, o, bias=False), *conv_norm_relu_with(o, o, bias=False), nn.MaxPool2d(2)
            )
        ),
    },
    adapt=as_block(1, DOWN_FORWARD, _look_down),
    explain=explained(maps=1, layers=2),
    answer=MyDownBlock,
    library=[DownBlock, conv_norm_relu],
    equation=r"h = \operatorname{ReLU}(\operatorname{BN}_1(w_1 * x + b_1)), \qquad "
    r"y = \operatorname{maxpool}(\operatorname{ReLU}(\operatorname{BN}_2(w_2 * h + b_2)))",
    praise="With the same weights it gives the same map as the library's block, in training and in evaluation.",
)
