"""Notebook 02, blocks: layers to build wrong blocks from, and the mistakes that any class can have."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .judge import Mistake
from .nb02_modules import (
    ARGUMENTS,
    BUILT,
    DROPPED,
    IN_A_LIST,
    NAME_TAKEN,
    NO_FORWARD,
    NO_MODULE,
    NO_SUPER,
    OUTSIDE,
    UNUSED,
)


def forms(block: type[nn.Module]) -> dict[str, Mistake]:
    """The mistakes of form, made with a block that is right otherwise."""

    class NoModule:
        def __init__(self, in_channels: int, out_channels: int) -> None:
            self.inside = block(in_channels, out_channels)

    class OneNumber(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.inside = block(channels, channels)

    class NoSuper(nn.Module):
        def __init__(self, in_channels: int, out_channels: int) -> None:
            self.inside = block(in_channels, out_channels)

    class NoForward(nn.Module):
        def __init__(self, in_channels: int, out_channels: int) -> None:
            super().__init__()
            self.inside = block(in_channels, out_channels)

    class NameTaken(nn.Module):
        def __init__(self, in_channels: int, out_channels: int) -> None:
            super().__init__()
            setattr(self, "double", block(in_channels, out_channels))  # noqa: B010 - mypy knows that it is a method

        def forward(self, *maps: Tensor) -> Any:
            return self.double(*maps)

    class InAList(nn.Module):
        def __init__(self, in_channels: int, out_channels: int) -> None:
            super().__init__()
            self.inside = [block(in_channels, out_channels)]

        def forward(self, *maps: Tensor) -> Any:
            return self.inside[0](*maps)

    class Outside(nn.Module):
        def __init__(self, in_channels: int, out_channels: int) -> None:
            super().__init__()
            self.channels = in_channels, out_channels

        def forward(self, *maps: Tensor) -> Any:
            return block(*self.channels)(*maps)

    class Unused(NoForward):
        def __init__(self, in_channels: int, out_channels: int) -> None:
            super().__init__(in_channels, out_channels)
            self.another = nn.Conv2d(out_channels, out_channels, 3, padding=1)

        def forward(self, *maps: Tensor) -> Any:
            return self.inside(*maps)

    class Detached(NoForward):
        def forward(self, *maps: Tensor) -> Any:
            return self.inside(*maps).detach()

    class Dropped(Unused):
        def forward(self, *maps: Tensor) -> Any:
            out = self.inside(*maps)
            self.another(out)
            return out

    return {
        BUILT: nn.Identity(),
        NO_MODULE: NoModule,
        ARGUMENTS: OneNumber,
        NO_SUPER: NoSuper,
        NO_FORWARD: NoForward,
        NAME_TAKEN: NameTaken,
        IN_A_LIST: InAList,
        OUTSIDE: Outside,
        UNUSED: Unused,
        DROPPED: [Dropped, Detached],
    }


def conv(in_channels: int, out_channels: int, **changes: Any) -> nn.Conv2d:
    """A 3×3 convolution that keeps the size, but for the changes."""
    return nn.Conv2d(in_channels, out_channels, **({"kernel_size": 3, "padding": 1} | changes))


def conv_norm_relu_with(in_channels: int, out_channels: int, **changes: Any) -> list[nn.Module]:
    """Convolution, BatchNorm and ReLU, with changes to the convolution."""
    return [conv(in_channels, out_channels, **changes), nn.BatchNorm2d(out_channels), nn.ReLU()]
