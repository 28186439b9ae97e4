"""The exercises of notebook 02: building a U-Net."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks import DoubleConv, DownBlock, UpBlock, conv_norm_relu
from ..shapes import conv_out, conv_transpose_out, count_parameters, pool_out
from ..unet import DoubleConvUNet
from .effects import Case, Wrong
from .inputs import noise
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


def _merge_cases(_: torch.Generator) -> list[Case]:
    return [((64, 128, 256, 512),), ((16, 32, 64),), ((8, 24),)]


def _merge_channels(features: tuple[int, ...]) -> list[int]:
    """Read off a network whose weights take no memory."""
    with torch.device("meta"):
        network = DoubleConvUNet(features=features, bottleneck=2 * features[-1])
    first = [next(layer for layer in merge.modules() if isinstance(layer, nn.Conv2d)) for merge in network.merge]
    return [layer.in_channels for layer in first]


def _below(features: tuple[int, ...]) -> list[int]:
    """Channels of what comes up, before its transposed convolution; deepest first."""
    return [2 * features[-1], *features[:0:-1]]


SAME_LIST = "This list is right for one U-Net alone: work it out from features, whose length and numbers vary."
ONE_TOO_MANY = "One number too many: the bottleneck merges nothing, so there is one merge for each level."
FOUR_LEVELS = [1024, 512, 256, 128]  # of the example in the notebook
NO_LIST = "Return a list with one number for each level, the deepest first."


def _as_list(answer: Any) -> Callable[..., Any]:
    def function(features: tuple[int, ...]) -> Any:
        channels = answer(features)
        if channels is None or channels is ...:
            return channels
        if isinstance(channels, Tensor) and channels.ndim == 1:
            channels = channels.tolist()
        if not isinstance(channels, list | tuple):
            raise Wrong(NO_LIST)
        if [*channels] == FOUR_LEVELS and len(features) != len(FOUR_LEVELS):
            raise Wrong(SAME_LIST)
        if len(channels) == len(features) + 1:
            raise Wrong(ONE_TOO_MANY)
        return channels

    return function


def my_merge_channels(features: tuple[int, ...]) -> list[int]:
    return [2 * channels for channels in reversed(features)]


MERGE_CHANNELS = Exercise(
    _merge_channels,
    _merge_cases,
    {
        "That would be right if skip and upsampled map were added; they are concatenated.": lambda f: [*reversed(f)],
        "The numbers are right, but their order is not: the first merge on the way up is the deepest.": (
            lambda f: [2 * c for c in f]
        ),
        "The map from below still has all of its channels here; its transposed convolution brings them down to "
        "those of the skip.": lambda f: [c + b for c, b in zip(reversed(f), _below(f), strict=True)],
        "This is one level too deep: where they meet, skip and upsampled map have the channels of that level.": (
            lambda f: [2 * b for b in _below(f)]
        ),
        "The map from below is halved once too often: its transposed convolution ends at the channels of the skip.": (
            lambda f: [c + c // 2 for c in reversed(f)]
        ),
        "Concatenation puts channels side by side, so that their numbers add up; they do not multiply.": (
            lambda f: [c * c for c in reversed(f)]
        ),
        SAME_LIST: lambda f: FOUR_LEVELS,
        ONE_TOO_MANY: lambda f: [2 * c for c in (2 * f[-1], *reversed(f))],
        NO_LIST: lambda f: 2 * f[0],
    },
    adapt=_as_list,
    answer=my_merge_channels,
    library=[DoubleConvUNet],
    equation=r"C_\text{merge} = C_\text{skip} + C_\text{up} = 2\,C_\text{skip}, \qquad \text{deepest level first}",
    praise="The channels of the library's DoubleConvUNet, for three of them.",
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


# --- blocks: any module is run with the weights that the library's is run with ---------------------------------------

#: Layers that are filled with known numbers: the k-th of a kind that is called gets the same in every block.
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.Linear)
NUMBERS = ("weight", "bias", "running_mean", "running_var")

BUILT = "This is a block that is built already: hand over the class itself, without brackets after its name."
NO_MODULE = "A block must be a class that inherits from nn.Module: without that, PyTorch does not find its weights."
ARGUMENTS = "A block is built from two numbers of channels: def __init__(self, in_channels, out_channels)."
NO_SUPER = "__init__ must begin with super().__init__(), which makes the module ready to hold layers."
NO_FORWARD = "There is no method forward: this one, under this name, runs when a block is called."
NAME_TAKEN = "A layer's name is one that nn.Module uses itself, such as double, half or train: choose another."
IN_A_LIST = (
    "Layers in a plain list are invisible to parameters(), so nothing trains them: use nn.Sequential or ModuleList."
)
OUTSIDE = (
    "A layer that works here is no part of the block (is it made in forward?): make it in __init__, keep it in self."
)
UNUSED = "A layer is built in __init__ and never called in forward."
NORM_CHANNELS = (
    "BatchNorm2d takes the channels of the map that it is handed: out_channels, since a convolution came before."
)
SECOND_CHANNELS = "The second convolution takes out_channels, not in_channels: it is handed what the first one made."

#: A layer that was called, and the shape of what it was handed.
Call = tuple[nn.Module, tuple[int, ...]]


def _fill(layer: nn.Module, kind: int, count: int) -> None:
    """Known numbers for one layer, of about the size that training would find."""
    for place, name in enumerate(NUMBERS):
        value = getattr(layer, name, None)
        if not isinstance(value, Tensor):
            continue
        g = torch.Generator().manual_seed(1000 * kind + 10 * count + place)
        if value.ndim > 1:
            fresh = torch.randn(value.shape, dtype=torch.float64, generator=g) / math.sqrt(value[0].numel())
        elif name == "running_var" or (name == "weight" and kind == LAYERS.index(nn.BatchNorm2d)):
            fresh = 0.5 + torch.rand(value.shape, dtype=torch.float64, generator=g)
        else:
            fresh = 0.5 * torch.randn(value.shape, dtype=torch.float64, generator=g)
        value.data.copy_(fresh)


@contextmanager
def _filling(block: nn.Module, calls: list[Call]) -> Iterator[None]:
    """Fill each layer at its first call, and write all of these calls down."""
    own = {id(module) for module in block.modules()}

    def before(layer: nn.Module, inputs: Any) -> None:
        kind = next((k for k, known in enumerate(LAYERS) if isinstance(layer, known)), None)
        if layer is block or (kind is None and not _weights(layer)):
            return
        if id(layer) not in own:
            raise Wrong(OUTSIDE)
        if kind is not None and all(layer is not one for one, _ in calls):
            seen = {id(one) for one, _ in calls if isinstance(one, LAYERS[kind])}
            _fill(layer, kind, len(seen))
        calls.append((layer, tuple(inputs[0].shape) if inputs and isinstance(inputs[0], Tensor) else ()))

    handle = nn.modules.module.register_module_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()


def _weights(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a module itself, not of those inside of it."""
    return [*module.parameters(recurse=False)]


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a call with so many arguments fits the signature."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # no signature to be had
        return True
    return True


def _built(answer: Any, in_channels: int, out_channels: int, maps: int, forward: str) -> Any:
    """The block that an answer makes, once its form has been looked at; None or dots where nothing is written."""
    if isinstance(answer, nn.Module):
        raise Wrong(BUILT)
    if isinstance(answer, type) and not issubclass(answer, nn.Module):
        raise Wrong(NO_MODULE)
    if getattr(answer, "__init__", None) is nn.Module.__init__ or not _takes(answer, 2):
        raise Wrong(ARGUMENTS)
    try:
        block = answer(in_channels, out_channels)
    except AttributeError as error:
        if "Module.__init__()" in str(error):  # PyTorch: cannot assign module before Module.__init__() call
            raise Wrong(NO_SUPER) from error
        raise
    if block is None or block is ...:
        return block
    if not isinstance(block, nn.Module):
        raise Wrong(NO_MODULE)
    if "_modules" not in vars(block):
        raise Wrong(NO_SUPER)
    if getattr(block.forward, "__func__", None) is nn.Module.forward:
        raise Wrong(NO_FORWARD)
    if not _takes(block.forward, maps):
        raise Wrong(forward)
    if any(hasattr(nn.Module, name) for module in block.modules() for name in module._modules):
        raise Wrong(NAME_TAKEN)
    own = {id(module) for module in block.modules()}
    for kept in [kept for module in block.modules() for kept in vars(module).values()]:
        inside = kept.values() if isinstance(kept, dict) else kept if isinstance(kept, list | tuple) else ()
        if any(isinstance(one, nn.Module) and id(one) not in own and [*one.parameters()] for one in inside):
            raise Wrong(IN_A_LIST)
    return block


#: Names the mistake behind a failure or a shape: channels in, shape in, calls, shape out or error.
Look = Callable[[int, tuple[int, ...], list[Call], tuple[int, ...] | Exception], str | None]


def _as_block(maps: int, forward: str, look: Look) -> Callable[[Any], Callable[..., Any]]:
    """What makes of a class the function (in_channels, out_channels, maps ..., training) → map.

    Args:
        maps: how many maps go in.
        forward: said where forward does not take so many.
        look: names a mistake that shows in a shape or in an error.
    """

    def adapt(answer: Any) -> Callable[..., Any]:
        def run(in_channels: int, out_channels: int, *given: Any) -> Any:
            *inputs, training = given
            block = _built(answer, in_channels, out_channels, maps, forward)
            if not isinstance(block, nn.Module):
                return block
            calls: list[Call] = []
            shape = tuple(inputs[0].shape)
            block.double().train(training)
            try:
                with torch.no_grad(), _filling(block, calls):
                    out = block(*inputs)
            except RuntimeError as error:
                sentence = look(in_channels, shape, calls, error)
                if sentence:
                    raise Wrong(sentence) from error
                raise
            if out is None or out is ...:
                return out
            called = {id(layer) for layer, _ in calls}
            if any(_weights(module) and id(module) not in called for module in [*block.modules()][1:]):
                raise Wrong(UNUSED)
            sentence = look(in_channels, shape, calls, tuple(out.shape)) if isinstance(out, Tensor) else None
            if sentence:
                raise Wrong(sentence)
            return out

        return run

    return adapt


def _misfit(in_channels: int, calls: list[Call]) -> str | None:
    """What the channels of the layer that failed say, where it is not the first."""
    layer, handed = calls[-1]
    if len(handed) != 4 or len(calls) < 2:
        return None
    if isinstance(layer, nn.BatchNorm2d) and layer.num_features == in_channels != handed[1]:
        return NORM_CHANNELS
    if isinstance(layer, nn.Conv2d) and layer.in_channels == in_channels != handed[1]:
        return SECOND_CHANNELS
    return None


def _forms(block: type[nn.Module]) -> dict[str, Callable[..., Any]]:
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
    }


def _conv(in_channels: int, out_channels: int, **changes: Any) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, **({"kernel_size": 3, "padding": 1} | changes))


def _conv_norm_relu(in_channels: int, out_channels: int, **changes: Any) -> list[nn.Module]:
    return [_conv(in_channels, out_channels, **changes), nn.BatchNorm2d(out_channels), nn.ReLU()]


# --- a down block -----------------------------------------------------------------------------------------------------

DOWN_FORWARD = "forward takes one map: def forward(self, x)."
NO_POOL = "The size is not halved: a 2×2 max-pool is missing at the end."
TWO_POOLS = "The size is halved twice: one 2×2 max-pool, at the end, is all."
UNPADDED = "Four pixels are lost on the way to the pool: each 3×3 convolution needs padding=1 to keep the size."


def _down_cases(g: torch.Generator) -> list[Case]:
    shapes = ((5, (2, 3, 8, 12), True), (5, (2, 3, 8, 12), False), (2, (3, 4, 10, 8), False))
    return [(shape[1], out, noise(shape, g), training) for out, shape, training in shapes]


def _look_down(
    in_channels: int, given: tuple[int, ...], calls: list[Call], got: tuple[int, ...] | Exception
) -> str | None:
    if isinstance(got, Exception):
        return _misfit(in_channels, calls) if calls else None
    height, width = given[2:]
    sentences: dict[tuple[int, ...], str] = {
        (height, width): NO_POOL,
        (height // 4, width // 4): TWO_POOLS,
        ((height - 4) // 2, (width - 4) // 2): UNPADDED,
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
    return nn.Sequential(_conv(i, o), norm, nn.ReLU(), _conv(o, o), norm, nn.ReLU(), nn.MaxPool2d(2))


DOWN_BLOCK = Exercise(
    DownBlock,
    _down_cases,
    {
        **_forms(DownBlock),
        DOWN_FORWARD: _DownOfTwoMaps,
        NO_POOL: lambda i, o: nn.Sequential(*conv_norm_relu(i, o), *conv_norm_relu(o, o)),
        TWO_POOLS: lambda i, o: nn.Sequential(
            *conv_norm_relu(i, o), nn.MaxPool2d(2), *conv_norm_relu(o, o), nn.MaxPool2d(2)
        ),
        UNPADDED: lambda i, o: nn.Sequential(
            *_conv_norm_relu(i, o, padding=0), *_conv_norm_relu(o, o, padding=0), nn.MaxPool2d(2)
        ),
        NORM_CHANNELS: lambda i, o: nn.Sequential(
            _conv(i, o), nn.BatchNorm2d(i), nn.ReLU(), *conv_norm_relu(o, o), nn.MaxPool2d(2)
        ),
        SECOND_CHANNELS: lambda i, o: nn.Sequential(*conv_norm_relu(i, o), *conv_norm_relu(i, o), nn.MaxPool2d(2)),
        "The pooling comes before the convolutions; it belongs after them, so that they see every pixel.": (
            lambda i, o: nn.Sequential(nn.MaxPool2d(2), *conv_norm_relu(i, o), *conv_norm_relu(o, o))
        ),
        "The pooling stands between the two convolutions; it belongs after both.": lambda i, o: nn.Sequential(
            *conv_norm_relu(i, o), nn.MaxPool2d(2), *conv_norm_relu(o, o)
        ),
        "The second convolution is missing, with its BatchNorm and its ReLU.": lambda i, o: nn.Sequential(
            *conv_norm_relu(i, o), nn.MaxPool2d(2)
        ),
        "BatchNorm is missing after both convolutions.": lambda i, o: nn.Sequential(
            _conv(i, o), nn.ReLU(), _conv(o, o), nn.ReLU(), nn.MaxPool2d(2)
        ),
        "Both convolutions share one BatchNorm: each needs its own, since their maps have different statistics.": (
            _shared_norm
        ),
        "ReLU comes before BatchNorm; here it comes after, on the normalized map.": lambda i, o: nn.Sequential(
            _conv(i, o), nn.ReLU(), nn.BatchNorm2d(o), _conv(o, o), nn.ReLU(), nn.BatchNorm2d(o), nn.MaxPool2d(2)
        ),
        "There is no ReLU, so that the two convolutions are little more than one: it comes after each BatchNorm.": (
            lambda i, o: nn.Sequential(_conv(i, o), nn.BatchNorm2d(o), _conv(o, o), nn.BatchNorm2d(o), nn.MaxPool2d(2))
        ),
        "The ReLU after the first BatchNorm is missing.": lambda i, o: nn.Sequential(
            _conv(i, o), nn.BatchNorm2d(o), *conv_norm_relu(o, o), nn.MaxPool2d(2)
        ),
        "The ReLU after the second BatchNorm is missing.": lambda i, o: nn.Sequential(
            *conv_norm_relu(i, o), _conv(o, o), nn.BatchNorm2d(o), nn.MaxPool2d(2)
        ),
        "The second convolution halves the size by its stride; here a max-pool does it, which has no weights.": (
            lambda i, o: nn.Sequential(*conv_norm_relu(i, o), *_conv_norm_relu(o, o, stride=2))
        ),
        "This takes the mean of each four pixels; a max-pool keeps the largest.": lambda i, o: nn.Sequential(
            *conv_norm_relu(i, o), *conv_norm_relu(o, o), nn.AvgPool2d(2)
        ),
        "The convolutions have no bias. BatchNorm could stand in for it, but here both are asked for.": (
            lambda i, o: nn.Sequential(
                *_conv_norm_relu(i, o, bias=False), *_conv_norm_relu(o, o, bias=False), nn.MaxPool2d(2)
            )
        ),
    },
    adapt=_as_block(1, DOWN_FORWARD, _look_down),
    answer=MyDownBlock,
    library=[DownBlock, conv_norm_relu],
    equation=r"h = \operatorname{ReLU}(\operatorname{BN}_1(w_1 * x + b_1)), \qquad "
    r"y = \operatorname{maxpool}(\operatorname{ReLU}(\operatorname{BN}_2(w_2 * h + b_2)))",
    praise="With the same weights it gives the same map as the library's block, in training and in evaluation.",
)

# --- an up block ------------------------------------------------------------------------------------------------------

UP_FORWARD = "forward takes the map from below and the skip, in this order: def forward(self, x, skip)."
WRONG_AXIS = "The two maps are joined along the wrong axis: channels are dim=1 of (B, C, H, W)."
HALF_THE_CHANNELS = (
    "After the concatenation there are 2 * in_channels channels, and the first layer must take them all."
)
TOO_LATE = "x is doubled before it meets the skip. Here the two have the same size and are concatenated first."
ONE_SHORT = "The size is one pixel short of double: that pixel is output_padding=1."
NOT_DOUBLED = "The size is not doubled: that is the transposed convolution's task, with stride=2."
SHRUNK = "The size is halved instead of doubled: use nn.ConvTranspose2d, which goes the other way."
KERNEL_AND_STRIDE = "Kernel and stride are swapped: the kernel is 3×3, the patches lie 2 pixels apart."
STRIDE_AND_PADDING = "Stride and padding are swapped: a stride of 2 doubles the size, a padding of 1 cuts the rim off."
RIM_LEFT = "A rim is left on: the transposed convolution needs padding=1 to cut it off."
LAST_UNPADDED = "The last convolution loses two pixels: it needs padding=1 to keep the size."


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
        if handed == given and "Sizes of tensors must match" in str(got):
            return TOO_LATE
    up = next((layer for layer, _ in calls if isinstance(layer, nn.ConvTranspose2d)), None)
    hyper = up and (up.kernel_size[0], up.stride[0], up.padding[0])
    if hyper == (2, 3, 1):
        return KERNEL_AND_STRIDE
    if hyper == (3, 1, 2):
        return STRIDE_AND_PADDING
    if size is None:
        return _misfit(in_channels, calls)
    if hyper == (3, 2, 0):
        return RIM_LEFT
    if hyper == (3, 2, 1) and any(isinstance(layer, nn.Conv2d) and layer.padding == (0, 0) for layer, _ in calls):
        return LAST_UNPADDED
    sentences: dict[tuple[int, ...], str] = {
        (height, width): NOT_DOUBLED,
        (2 * height - 1, 2 * width - 1): ONE_SHORT,
        (conv_out(height, 3, 2, 1), conv_out(width, 3, 2, 1)): SHRUNK,
    }
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
        self.layers[0] = _conv(2 * in_channels, out_channels)

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
        **_forms(UpBlock),
        UP_FORWARD: _UpOfOneMap,
        WRONG_AXIS: lambda i, o: _Join(lambda x, s: torch.cat([x, s], dim=2), *_up_layers(i, o)),
        HALF_THE_CHANNELS: lambda i, o: _Join(_cat, *_up_layers(i, o)),
        TOO_LATE: _UpTooLate,
        ONE_SHORT: lambda i, o: _Join(_cat, *_up_layers(2 * i, o, output_padding=0)),
        NOT_DOUBLED: lambda i, o: _Join(_cat, *conv_norm_relu(2 * i, o), *conv_norm_relu(o, o)),
        SHRUNK: lambda i, o: _Join(_cat, *_conv_norm_relu(2 * i, o, stride=2), *conv_norm_relu(o, o)),
        KERNEL_AND_STRIDE: lambda i, o: _Join(_cat, *_up_layers(2 * i, o, kernel_size=2, stride=3)),
        STRIDE_AND_PADDING: lambda i, o: _Join(_cat, *_up_layers(2 * i, o, stride=1, padding=2)),
        RIM_LEFT: lambda i, o: _Join(_cat, *_up_layers(2 * i, o, padding=0)),
        LAST_UNPADDED: lambda i, o: _Join(
            _cat, _up(2 * i, o), nn.BatchNorm2d(o), nn.ReLU(), *_conv_norm_relu(o, o, padding=0)
        ),
        NORM_CHANNELS: lambda i, o: _Join(_cat, _up(2 * i, o), nn.BatchNorm2d(i), nn.ReLU(), *conv_norm_relu(o, o)),
        SECOND_CHANNELS: lambda i, o: _Join(_cat, _up(2 * i, o), nn.BatchNorm2d(o), nn.ReLU(), *conv_norm_relu(i, o)),
        "The order is reversed: x comes first, then the skip. Weights trained in one order fail in the other.": (
            lambda i, o: _Join(lambda x, s: torch.cat([s, x], dim=1), *_up_layers(2 * i, o))
        ),
        "The skip is added to x; it must be laid beside x, with torch.cat.": (
            lambda i, o: _Join(lambda x, s: x + s, *_up_layers(i, o))
        ),
        "The skip is not used: only x goes into the layers.": lambda i, o: _Join(lambda x, s: x, *_up_layers(i, o)),
        "x is concatenated with itself; the skip is not used.": lambda i, o: _Join(
            lambda x, s: torch.cat([x, x], dim=1), *_up_layers(2 * i, o)
        ),
        "The transposed convolution has a 2×2 kernel. It is 3×3 here, so that neighboring patches overlap.": (
            lambda i, o: _Join(_cat, *_up_layers(2 * i, o, kernel_size=2, padding=0, output_padding=0))
        ),
        "The size is doubled by repeating pixels, then convolved; here a transposed convolution does both.": (
            lambda i, o: _Join(_cat, nn.Upsample(scale_factor=2), *conv_norm_relu(2 * i, o), *conv_norm_relu(o, o))
        ),
        "The last convolution is missing, with its BatchNorm and its ReLU.": lambda i, o: _Join(
            _cat, _up(2 * i, o), nn.BatchNorm2d(o), nn.ReLU()
        ),
        "BatchNorm is missing after both convolutions.": lambda i, o: _Join(
            _cat, _up(2 * i, o), nn.ReLU(), _conv(o, o), nn.ReLU()
        ),
        "ReLU comes before BatchNorm; here it comes after, on the normalized map.": lambda i, o: _Join(
            _cat, _up(2 * i, o), nn.ReLU(), nn.BatchNorm2d(o), _conv(o, o), nn.ReLU(), nn.BatchNorm2d(o)
        ),
        "There is no ReLU, so that the two convolutions are little more than one: it comes after each BatchNorm.": (
            lambda i, o: _Join(_cat, _up(2 * i, o), nn.BatchNorm2d(o), _conv(o, o), nn.BatchNorm2d(o))
        ),
        "The ReLU after the first BatchNorm is missing.": lambda i, o: _Join(
            _cat, _up(2 * i, o), nn.BatchNorm2d(o), *conv_norm_relu(o, o)
        ),
        "The ReLU after the second BatchNorm is missing.": lambda i, o: _Join(
            _cat, _up(2 * i, o), nn.BatchNorm2d(o), nn.ReLU(), _conv(o, o), nn.BatchNorm2d(o)
        ),
        "The convolutions have no bias. BatchNorm could stand in for it, but here both are asked for.": (
            lambda i, o: _Join(
                _cat, _up(2 * i, o, bias=False), nn.BatchNorm2d(o), nn.ReLU(), *_conv_norm_relu(o, o, bias=False)
            )
        ),
    },
    adapt=_as_block(2, UP_FORWARD, _look_up),
    answer=MyUpBlock,
    library=[UpBlock, conv_norm_relu],
    equation=r"h = \operatorname{ReLU}(\operatorname{BN}_1(w_1 *^{\mathsf T} [x, \text{skip}] + b_1)), \qquad "
    r"y = \operatorname{ReLU}(\operatorname{BN}_2(w_2 * h + b_2))",
    praise="With the same weights it gives the same map as the library's block, in training and in evaluation.",
)

# --- 28 through four poolings -----------------------------------------------------------------------------------------


def _what_28_does() -> str:
    """Whether what comes up from the deepest map fits the first skip that it meets."""
    sizes = [28]
    for _ in range(4):
        sizes.append(pool_out(sizes[-1], 2))
    skip, below = sizes[-2:]
    return "a" if conv_transpose_out(below, 2, 2) == skip else "c"


FOUR_POOLINGS = Choice(
    _what_28_does,
    "28 → 14 → 7 → 3 → 1: the pools round down, and 1 doubles to 2, which cannot lie beside a skip of 3.",
    {
        "a": "28 = 4 · 7 can be halved only twice without a loss; what the pools drop, doubling does not bring back.",
        "b": "16×16 would come out if nothing were concatenated. But every map on the way up meets a skip.",
        "d": "A pool takes odd sizes: it leaves the last row and column out, 7 becomes 3 and no error is raised.",
    },
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "conv_out": CONV_OUT,
    "conv_transpose_out": CONV_TRANSPOSE_OUT,
    "merge_channels": MERGE_CHANNELS,
    "double_conv_parameters": DOUBLE_CONV_PARAMETERS,
    "down_block": DOWN_BLOCK,
    "up_block": UP_BLOCK,
    "four_poolings": FOUR_POOLINGS,
}
