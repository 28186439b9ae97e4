"""The ladder of U-Nets: each rung is a published design, and gives a reason to climb to the next.

1. `ClassicUNet`      Ronneberger et al. 2015 (arXiv:1505.04597): unpadded, so the output is smaller than the input.
2. `DoubleConvUNet`   padded, so the sizes match, but only multiples of 16 come back as they went in.
3. `BottleneckUNet`   16×16 pictures through a dense bottleneck: small enough to count by hand.
4. `UNet`             what diffusion models use: it knows the time. The course trains this one.

You call every model as `model(x_t, t, y)` with pictures (B, C, H, W), timesteps (B,) and class labels (B,); it
returns a tensor like x_t. Where a rung cannot use t or y, pass None. `model.config` holds the arguments that build an
equal model.
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
    Stage,
    TimeEmbedding,
    UpBlock,
    center_crop,
    conv_norm_relu,
    group_norm,
    time_plane,
    way_down,
    way_up,
    zeroed,
)
from .shapes import classic_unet_out, validate_multiple
from .validate import validate_counts, validate_flag, validate_labels, validate_levels, validate_pictures


def _validate_input(x_t: Tensor, channels: int, multiple: int) -> None:
    validate_pictures(x_t, "x_t", channels=channels, values=False)
    for axis, size in (("height", x_t.shape[2]), ("width", x_t.shape[3])):
        validate_multiple(axis, size, multiple)


def _validate_unused(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(f"this model was built without {name}, so {name} must be None, got {type(value).__name__}")


def _validate_time(t: Tensor | None, x_t: Tensor) -> Tensor:
    if not isinstance(t, Tensor):
        raise TypeError(f"t must be a tensor of shape (B,), ({x_t.shape[0]},) here, got {type(t).__name__}")
    validate_labels(t, "t", batch=x_t.shape[0], device=x_t.device)
    return t


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
        validate_counts(in_channels=in_channels, out_channels=out_channels, bottleneck=bottleneck)
        validate_levels("features", features)
        self.config: dict[str, Any] = dict(
            in_channels=in_channels, out_channels=out_channels, features=list(features), bottleneck=bottleneck
        )
        widths = [in_channels, *features]
        self.down = nn.ModuleList(DoubleConv(i, o, padding=0) for i, o in pairwise(widths))
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = DoubleConv(features[-1], bottleneck, padding=0)
        deep_first = [bottleneck, *reversed(features)]
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in pairwise(deep_first))
        self.merge = nn.ModuleList(DoubleConv(2 * o, o, padding=0) for o in deep_first[1:])
        self.out = nn.Conv2d(features[0], out_channels, 1)

    def output_size(self, size: int) -> int:
        """The height or width that comes out for the one that goes in; see `shapes.classic_unet_out`."""
        return classic_unet_out(size, len(self.down))

    def forward(self, x_t: Tensor, t: None = None, y: None = None) -> Tensor:
        """Label each pixel: (B, in, H, W) to (B, out, H', W'), with H' = output_size(H); t and y must be None."""
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


class DoubleConvUNet(nn.Module):
    """The padded U-Net of most tutorials: the output is as large as the input.

    Args:
        in_channels: channels of the pictures.
        out_channels: channels out.
        features: channels of the levels above the deepest, top first.
        bottleneck: channels of the deepest level.
        batch_norm: put BatchNorm into the double convolutions, which then have no bias.
        time_plane: None for a model without time; or T, and the timestep enters as one more input channel that is
            filled with t/T.
        resize_to_skip: if a size cannot be halved (7 becomes 3 becomes 6), resize the map from below to its skip
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
        validate_counts(in_channels=in_channels, out_channels=out_channels, bottleneck=bottleneck)
        validate_levels("features", features)
        validate_flag("batch_norm", batch_norm)
        validate_flag("resize_to_skip", resize_to_skip)
        if time_plane is not None:
            validate_counts(time_plane=time_plane)
        self.config: dict[str, Any] = dict(
            in_channels=in_channels,
            out_channels=out_channels,
            features=list(features),
            bottleneck=bottleneck,
            batch_norm=batch_norm,
            time_plane=time_plane,
            resize_to_skip=resize_to_skip,
        )
        widths = [in_channels + (time_plane is not None), *features]
        self.down = nn.ModuleList(DoubleConv(i, o, batch_norm=batch_norm) for i, o in pairwise(widths))
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = DoubleConv(features[-1], bottleneck, batch_norm=batch_norm)
        deep_first = [bottleneck, *reversed(features)]
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in pairwise(deep_first))
        self.merge = nn.ModuleList(DoubleConv(2 * o, o, batch_norm=batch_norm) for o in deep_first[1:])
        self.out = nn.Conv2d(features[0], out_channels, 1)

    def forward(self, x_t: Tensor, t: Tensor | None = None, y: None = None) -> Tensor:
        """(B, in, H, W), and t (B,) for a model with a time plane, to (B, out, H, W)."""
        multiple = 2 ** len(self.down)
        _validate_input(x_t, self.config["in_channels"], 1 if self.config["resize_to_skip"] else multiple)
        if min(x_t.shape[2:]) < multiple:
            raise ValueError(f"pictures must be at least {multiple} pixels high and wide, got {tuple(x_t.shape[2:])}")
        _validate_unused(y=y)
        x, skips = x_t, []
        if self.config["time_plane"] is None:
            _validate_unused(t=t)
        else:
            plane = time_plane(_validate_time(t, x_t), self.config["time_plane"], x_t)
            x = torch.cat([x_t, plane], dim=1)
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

    It does not know the time: its task is to remove all the noise at once.

    Args:
        channels: channels of the pictures, in and out.
        features: channels of the levels, top first; each has half the size of the one before.
        size: height and width of the pictures; the dense layers fit no other.
        dense: length of the vector between the dense layers.
    """

    def __init__(
        self, channels: int = 1, features: Sequence[int] = (16, 32, 64), size: int = 16, dense: int = 32
    ) -> None:
        super().__init__()
        validate_counts(channels=channels, size=size, dense=dense)
        validate_levels("features", features)
        self.config: dict[str, Any] = dict(channels=channels, features=list(features), size=size, dense=dense)
        halvings = len(features) - 1
        validate_multiple("size", size, 2**halvings)
        top, deep, side = features[0], features[-1], size // 2**halvings
        self.stem = nn.Sequential(*conv_norm_relu(channels, top))
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
        self.out = nn.Sequential(*conv_norm_relu(top, top), nn.Conv2d(top, channels, 3, padding=1))

    def forward(self, x_t: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """(B, channels, size, size) to the same shape; t and y are ignored."""
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


class UNet(nn.Module):
    """The U-Net that the course trains: residual blocks that know the time, and attention at the deepest level.

    Blocks of patch × patch pixels become channels on the way in and pixels again on the way out, so that the widest
    maps do not cost the most. The design follows DDPM and Dhariwal & Nichol 2021 (arXiv:2105.05233). The last
    convolution starts at zero: a new network predicts 0 everywhere.

    Args:
        size: height and width that the model is meant for; others that can be halved as often work too.
        in_channels: channels of the pictures.
        out_channels: channels of the prediction; None for in_channels.
        channels: channels of the levels, the full size first; multiples of 8.
        blocks: residual blocks of each level on the way down (one more on the way up).
        patch: side of the pixel blocks; 1 works on single pixels.
        attention: levels, counted from 0, with attention after each residual block. The deepest point, between the
            way down and the way up, always has it.
        num_classes: None, or the number of class labels that y can name.
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
        validate_counts(size=size, in_channels=in_channels, out_channels=out_channels, blocks=blocks, patch=patch)
        validate_levels("channels", channels)
        validate_levels("attention", attention, 0, len(channels) - 1, empty=True)
        if num_classes is not None:
            validate_counts(num_classes=num_classes)
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
        self.multiple = patch * 2 ** (len(channels) - 1)
        validate_multiple("size", size, self.multiple)

        top, deepest, emb = channels[0], channels[-1], 4 * channels[0]
        self.time = TimeEmbedding(top, emb)
        self.label = None if num_classes is None else nn.Embedding(num_classes, emb)
        self.patchify = nn.PixelUnshuffle(patch)
        self.stem = nn.Conv2d(in_channels * patch**2, top, 3, padding=1)
        self.down, skips = way_down(channels, blocks, attention, emb)
        self.middle = nn.ModuleList(Stage(deepest, deepest, emb, attention=first) for first in (True, False))
        self.up = way_up(channels, blocks, attention, emb, skips)
        last = nn.Conv2d(top, out_channels * patch**2, 3, padding=1)
        self.out = nn.Sequential(group_norm(top), nn.SiLU(), zeroed(last))
        self.unpatchify = nn.PixelShuffle(patch)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict from noisy pictures: (B, in, H, W), t (B,) and y (B,) to (B, out, H, W).

        y must be given to a model that was built with classes, and only to such a one.
        """
        _validate_input(x_t, self.config["in_channels"], self.multiple)
        _validate_time(t, x_t)
        self._validate_classes(y, x_t)
        emb = self.time(t)
        if self.label is not None:
            emb = emb + self.label(y)
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

    def _validate_classes(self, y: Tensor | None, x_t: Tensor) -> None:
        classes = self.config["num_classes"]
        if classes is None:
            if y is not None:
                raise ValueError("this model was built without class labels (num_classes=None), so y must be None")
            return
        if y is None:
            raise TypeError(f"this model was built with {classes} classes: y must be given, (B,)")
        validate_labels(y, "y", batch=x_t.shape[0], device=x_t.device)
        # On a GPU, looking at values would make the program wait; an exported or compiled graph has none to look at.
        if y.device.type == "cpu" and not torch.compiler.is_compiling():
            low, high = int(y.min()), int(y.max())
            if low < 0 or high >= classes:
                raise ValueError(f"y must hold classes in 0..{classes - 1}, got {low}..{high}")


#: Every rung by its name, for checkpoints and the command line.
AnyUNet = ClassicUNet | DoubleConvUNet | BottleneckUNet | UNet
MODELS: dict[str, type[AnyUNet]] = {m.__name__: m for m in (ClassicUNet, DoubleConvUNet, BottleneckUNet, UNet)}
