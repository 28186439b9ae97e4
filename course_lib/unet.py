"""The ladder of U-Nets: each rung a published design, and a reason to climb to the next.

1. `ClassicUNet`      Ronneberger et al. 2015 (arXiv:1505.04597): unpadded, so the output is smaller than the input.
2. `DoubleConvUNet`   padded, so that sizes match, but only multiples of 16 come back as they went in.
3. `BottleneckUNet`   16×16 pictures through a dense bottleneck: small enough to count by hand.
4. `UNet`             what diffusion models use: it knows the time. The course trains this one.

Every model is called as `model(x_t, t, y)` with pictures (B, C, H, W), timesteps (B,) and class labels (B,),
and returns a tensor like x_t. The rungs that cannot use t or y take None. `model.config` holds the arguments
from which an equal model can be built.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import (
    DoubleConv,
    DownBlock,
    ResBlock,
    SelfAttention,
    TimeEmbedding,
    UpBlock,
    Upsample,
    conv_norm_relu,
    group_norm,
    zeroed,
)
from .shapes import nearest_sizes
from .validate import validate_index, validate_labels, validate_number


def _validate_input(x: Tensor, channels: int, multiple: int) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x_t must be a floating-point tensor, got {got}; scale bytes with course_lib.data.to_float")
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"x_t must have shape (B, {channels}, H, W), got {tuple(x.shape)}")
    for axis, size in (("height", x.shape[2]), ("width", x.shape[3])):
        _validate_size(axis, size, multiple)


def _validate_size(name: str, size: int, multiple: int) -> None:
    good = nearest_sizes(size, multiple)
    if size not in good:
        raise ValueError(
            f"{name} {size} cannot be halved all the way down: it must be a multiple of {multiple}; "
            f"the nearest good sizes are {' and '.join(map(str, good))}"
        )


def _validate_unused(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(f"this model was built without {name}, so {name} must be None, got {type(value).__name__}")


class ClassicUNet(nn.Module):
    """The U-Net of 2015: unpadded convolutions, crop and concatenate (Ronneberger et al. 2015, figure 1).

    Args:
        in_channels: channels in.
        out_channels: channels out, one per class of pixel.
        features: channels of the levels above the deepest, top first.
        bottleneck: channels of the deepest level.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        features: Sequence[int] = (64, 128, 256, 512),
        bottleneck: int = 1024,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            in_channels=in_channels, out_channels=out_channels, features=list(features), bottleneck=bottleneck
        )
        widths = [in_channels, *features]
        self.down = nn.ModuleList(DoubleConv(i, o, padding=0) for i, o in zip(widths, features, strict=False))
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = DoubleConv(features[-1], bottleneck, padding=0)
        deep_first = [bottleneck, *reversed(features)]
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in pairwise(deep_first))
        self.merge = nn.ModuleList(DoubleConv(2 * o, o, padding=0) for o in deep_first[1:])
        self.out = nn.Conv2d(features[0], out_channels, 1)

    def output_size(self, size: int) -> int:
        """Height or width that comes out for the one that goes in.

        Raises:
            ValueError: some pooling would meet an odd size, or nothing would be left; the nearest good sizes
                are named.

        >>> ClassicUNet(features=(8, 16, 32, 64), bottleneck=128).output_size(572)
        388
        """
        levels = len(self.down)
        deepest = self._deepest(size)
        if deepest is None:
            # The smallest good size is 12 · 2**levels − 4; from there on they come every 2**levels pixels.
            good = [
                g for g in range(max(1, size - 2**levels), size + 2 ** (levels + 4)) if self._deepest(g) is not None
            ]
            near = sorted(sorted(good, key=lambda g: abs(g - size))[:2])
            raise ValueError(
                f"size {size} does not fit: each of the {levels} poolings needs an even size, and something must be "
                f"left at the end; the nearest good sizes are {' and '.join(map(str, near))}"
            )
        for _ in range(levels):
            deepest = 2 * deepest - 4
        return deepest

    def _deepest(self, size: int) -> int | None:
        """Size of the deepest map, or None where the input does not fit."""
        for _ in self.down:
            size -= 4
            if size <= 0 or size % 2:
                return None
            size //= 2
        size -= 4
        left = size
        for _ in self.down:
            left = 2 * left - 4
        return size if left > 0 else None

    def forward(self, x_t: Tensor, t: None = None, y: None = None) -> Tensor:
        """Label each pixel: (B, in, H, W) to (B, out, H', W'), with H' = output_size(H).

        Raises:
            TypeError, ValueError: wrong dtype, channels or size; t or y given.
        """
        _validate_input(x_t, self.config["in_channels"], 1)
        _validate_unused(t=t, y=y)
        for size in x_t.shape[2:]:
            self.output_size(size)
        x, skips = x_t, []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x = up(x)
            x = merge(torch.cat([center_crop(skips.pop(), x), x], dim=1))
        return self.out(x)


def center_crop(x: Tensor, like: Tensor) -> Tensor:
    """Cut the middle of x, (B, C, H, W), to the height and width of like."""
    top, left = ((x.shape[axis] - like.shape[axis]) // 2 for axis in (2, 3))
    return x[:, :, top : top + like.shape[2], left : left + like.shape[3]]


class DoubleConvUNet(nn.Module):
    """The padded U-Net of most tutorials: the output is as large as the input.

    Args:
        in_channels: channels of the pictures.
        out_channels: channels out.
        features: channels of the levels above the deepest, top first.
        bottleneck: channels of the deepest level.
        batch_norm: BatchNorm in the double convolutions, which then have no bias.
        time_plane: None for a model without time; else T, and the timestep enters as one more input channel
            filled with t/T.
        resize_to_skip: where a size cannot be halved (7 to 3 to 6), resize the map from below to its skip
            instead of refusing the picture.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        features: Sequence[int] = (64, 128, 256, 512),
        bottleneck: int = 1024,
        batch_norm: bool = True,
        time_plane: int | None = None,
        resize_to_skip: bool = False,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(
            in_channels=in_channels,
            out_channels=out_channels,
            features=list(features),
            bottleneck=bottleneck,
            batch_norm=batch_norm,
            time_plane=time_plane,
            resize_to_skip=resize_to_skip,
        )
        if time_plane is not None:
            validate_number("time_plane", time_plane, 1, integer=True)
        widths = [in_channels + (time_plane is not None), *features]
        self.down = nn.ModuleList(
            DoubleConv(i, o, batch_norm=batch_norm) for i, o in zip(widths, features, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = DoubleConv(features[-1], bottleneck, batch_norm=batch_norm)
        deep_first = [bottleneck, *reversed(features)]
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in pairwise(deep_first))
        self.merge = nn.ModuleList(DoubleConv(2 * o, o, batch_norm=batch_norm) for o in deep_first[1:])
        self.out = nn.Conv2d(features[0], out_channels, 1)

    def forward(self, x_t: Tensor, t: Tensor | None = None, y: None = None) -> Tensor:
        """(B, in, H, W), and t (B,) where there is a time plane, to (B, out, H, W).

        Raises:
            TypeError, ValueError: wrong dtype, channels or size; t missing, of the wrong length, or not wanted.
        """
        halvings = len(self.down)
        _validate_input(x_t, self.config["in_channels"], 1 if self.config["resize_to_skip"] else 2**halvings)
        if min(x_t.shape[2:]) < 2**halvings:
            raise ValueError(
                f"pictures must be at least {2**halvings} pixels high and wide, got {tuple(x_t.shape[2:])}"
            )
        _validate_unused(y=y)
        T = self.config["time_plane"]
        if T is None:
            _validate_unused(t=t)
            x = x_t
        else:
            t = validate_time(t, x_t)
            plane = (t / T).to(x_t.dtype).view(-1, 1, 1, 1).expand(-1, 1, *x_t.shape[2:])
            x = torch.cat([x_t, plane], dim=1)
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)
        for up, merge in zip(self.up, self.merge, strict=True):
            x, skip = up(x), skips.pop()
            if x.shape[2:] != skip.shape[2:]:
                x = F.interpolate(x, size=skip.shape[2:])
            x = merge(torch.cat([skip, x], dim=1))
        return self.out(x)


class BottleneckUNet(nn.Module):
    """A U-Net for tiny pictures whose deepest map becomes one vector: small enough to count by hand.

    It knows nothing of time: it is asked to take all the noise away at once.

    Args:
        channels: channels of the pictures, in and out.
        features: channels of the levels, top first; all but the first are halved in size.
        size: height and width of the pictures, fixed by the dense layers.
        dense: length of the vector between the dense layers.

    Raises:
        ValueError: a size that cannot be halved often enough; the nearest good sizes are named.
    """

    def __init__(
        self, channels: int = 1, features: Sequence[int] = (16, 32, 64), size: int = 16, dense: int = 32
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(channels=channels, features=list(features), size=size, dense=dense)
        halvings = len(features) - 1
        _validate_size("size", size, 2**halvings)
        deep, side = features[-1], size // 2**halvings
        self.stem = nn.Sequential(*conv_norm_relu(channels, features[0]))
        pairs = list(pairwise(features))
        self.down = nn.ModuleList(DownBlock(i, o) for i, o in pairs)
        self.flatten = nn.Sequential(nn.Flatten(), nn.ReLU())
        self.dense = nn.Sequential(
            nn.Linear(deep * side**2, dense),
            nn.ReLU(),
            nn.Linear(dense, dense),
            nn.ReLU(),
            nn.Linear(dense, deep * side**2),
            nn.ReLU(),
        )
        self.unflatten = nn.Sequential(nn.Unflatten(1, (deep, side, side)), *conv_norm_relu(deep, deep))
        self.up = nn.ModuleList(UpBlock(o, i) for i, o in reversed(pairs))
        self.out = nn.Sequential(
            *conv_norm_relu(features[0], features[0]), nn.Conv2d(features[0], channels, 3, padding=1)
        )

    def forward(self, x_t: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """(B, channels, size, size) to the same shape; t and y are accepted and not looked at.

        Raises:
            TypeError, ValueError: wrong dtype, channels or size.
        """
        size = self.config["size"]
        _validate_input(x_t, self.config["channels"], 1)
        if tuple(x_t.shape[2:]) != (size, size):
            raise ValueError(f"the dense layers were built for {size}×{size} pictures, got {tuple(x_t.shape[2:])}")
        x, skips = self.stem(x_t), []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = self.unflatten(self.dense(self.flatten(x)))
        for block in self.up:
            x = block(x, skips.pop())
        return self.out(x)


def validate_time(t: Tensor | None, x_t: Tensor) -> Tensor:
    """Give t back, or refuse timesteps that are not integers of shape (B,) on the device of the pictures.

    Raises:
        TypeError, ValueError: t is missing, an int, of another type, length or device.
    """
    if not isinstance(t, Tensor):
        raise TypeError(f"t must be a tensor of shape (B,), ({len(x_t)},) here, got {type(t).__name__}")
    validate_index(t, "t", batch=len(x_t), device=x_t.device)
    return t


class Stage(nn.Module):
    """A residual block and, where asked for, attention: (B, in, H, W) and (B, emb) to (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, emb: int, attention: bool) -> None:
        super().__init__()
        self.res = ResBlock(in_channels, out_channels, emb)
        self.attention = SelfAttention(out_channels) if attention else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.res(x, emb))


class UNet(nn.Module):
    """The U-Net that the course trains: residual blocks that know the time, and attention at the deepest point.

    A picture is cut into blocks of patch × patch pixels that become channels, so that the widest maps are not the
    most expensive; at the end the blocks are put together again. Design after DDPM and Dhariwal & Nichol 2021
    (arXiv:2105.05233). The last convolution starts at zero: a new network answers 0 everywhere.

    Args:
        size: height and width that the model is meant for; others that can be halved as often work too.
        in_channels: channels of the pictures.
        out_channels: channels of the answer; in_channels where None.
        channels: channels of the levels, the full-size one first; multiples of 8.
        blocks: residual blocks of each level on the way down (one more on the way up).
        patch: side of the pixel blocks; 1 works on single pixels.
        attention: levels, counted from 0, with attention after each residual block too; the deepest point between
            the ways down and up always has it.
        num_classes: None, or the number of class labels that y can name.

    Raises:
        TypeError, ValueError: a size that cannot be halved often enough (the nearest good ones are named), a
            level that does not exist, channels that are no multiple of 8.
    """

    def __init__(
        self,
        size: int = 28,
        in_channels: int = 1,
        out_channels: int | None = None,
        channels: Sequence[int] = (32, 64),
        blocks: int = 1,
        patch: int = 2,
        attention: Sequence[int] = (),
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        self.config: dict[str, Any] = dict(
            size=size,
            in_channels=in_channels,
            out_channels=out_channels,
            channels=list(channels),
            blocks=blocks,
            patch=patch,
            attention=list(attention),
            num_classes=num_classes,
        )
        for name, value in (
            ("in_channels", in_channels),
            ("out_channels", out_channels),
            ("blocks", blocks),
            ("patch", patch),
            ("num_classes", 1 if num_classes is None else num_classes),
        ):
            validate_number(name, value, 1, integer=True)
        if not channels:
            raise ValueError("channels must name at least one level, got none")
        for wide in channels:
            validate_number("channels", wide, 1, integer=True)
        levels = len(channels)
        for level in attention:
            validate_number("attention", level, 0, levels - 1, integer=True)
        self.multiple = patch * 2 ** (levels - 1)
        _validate_size("size", size, self.multiple)

        emb = 4 * channels[0]
        self.time = TimeEmbedding(channels[0], emb)
        self.label = None if num_classes is None else nn.Embedding(num_classes, emb)

        self.patchify = nn.PixelUnshuffle(patch)
        self.stem = nn.Conv2d(in_channels * patch**2, channels[0], 3, padding=1)
        self.down, skips, width = nn.ModuleList(), [channels[0]], channels[0]
        for level, wide in enumerate(channels):
            if level:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
            for _ in range(blocks):
                self.down.append(Stage(width, wide, emb, level in attention))
                skips.append(wide)
                width = wide
        self.middle = nn.ModuleList(
            [Stage(width, width, emb, attention=True), Stage(width, width, emb, attention=False)]
        )
        self.up = nn.ModuleList()
        for level, wide in reversed(list(enumerate(channels))):
            for _ in range(blocks + 1):
                self.up.append(Stage(width + skips.pop(), wide, emb, level in attention))
                width = wide
            if level:
                width = channels[level - 1]
                self.up.append(Upsample(wide, width))
        self.out = nn.Sequential(
            group_norm(width), nn.SiLU(), zeroed(nn.Conv2d(width, out_channels * patch**2, 3, padding=1))
        )
        self.unpatchify = nn.PixelShuffle(patch)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Answer for noisy pictures: (B, in, H, W), t (B,) and y (B,) to (B, out, H, W).

        Raises:
            TypeError, ValueError: wrong dtype, channels or size; t or y missing, of the wrong length or device;
                a class that does not exist; y given to a model without classes.
        """
        _validate_input(x_t, self.config["in_channels"], self.multiple)
        validate_time(t, x_t)
        emb = self.time(t)
        if self.label is not None:
            if y is None:
                raise TypeError(f"this model was built with {self.label.num_embeddings} classes: y must be given, (B,)")
            validate_labels(y, "y", batch=len(x_t), device=x_t.device)
            if y.device.type == "cpu":  # on a GPU looking at values would make the host wait
                low, high, classes = int(y.min()), int(y.max()), self.label.num_embeddings
                if low < 0 or high >= classes:
                    raise ValueError(f"y must hold classes in 0..{classes - 1}, got {low}..{high}")
            emb = emb + self.label(y)
        elif y is not None:
            raise ValueError("this model was built without class labels (num_classes=None), so y must be None")

        x = self.stem(self.patchify(x_t))
        skips = [x]
        for part in self.down:
            x = part(x, emb) if isinstance(part, Stage) else part(x)
            skips.append(x)
        for part in self.middle:
            x = part(x, emb)
        for part in self.up:
            x = part(torch.cat([x, skips.pop()], dim=1), emb) if isinstance(part, Stage) else part(x)
        return self.unpatchify(self.out(x))


#: Every rung by its name, for checkpoints and the command line.
AnyUNet = ClassicUNet | DoubleConvUNet | BottleneckUNet | UNet
MODELS: dict[str, type[AnyUNet]] = {m.__name__: m for m in (ClassicUNet, DoubleConvUNet, BottleneckUNet, UNet)}
