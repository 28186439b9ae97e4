"""Notebook 02, blocks: any module is run with the weights that the library's is run with.

The k-th layer of a kind that is called gets the same numbers in every block, so that blocks which do the same give the
same map, whatever their layers are called and however they are grouped.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .effects import Wrong
from .inputs import noise

#: The layers that get known weights.
LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.Linear)
NUMBERS = ("weight", "bias", "running_mean", "running_var")

BUILT = "This block is built already. Hand over the class itself, without brackets after its name."
NO_MODULE = "A block must be a class that inherits from nn.Module. Without that, PyTorch does not find its weights."
ARGUMENTS = "A block is built from two numbers of channels: def __init__(self, in_channels, out_channels)."
NO_SUPER = "__init__ must begin with super().__init__(), which makes the module ready to hold layers."
NO_FORWARD = "There is no method called forward, which is what runs when a block is called."
NAME_TAKEN = "A layer has a name that nn.Module uses itself, such as double, half or train: choose another one."
IN_A_LIST = (
    "Layers in a plain list or dict are invisible to parameters(), so nothing trains them: use nn.Sequential, "
    "nn.ModuleList or nn.ModuleDict."
)
OUTSIDE = (
    "A layer that works here is no part of the block. Was it made in forward? Make it in __init__ and keep it in self."
)
UNUSED = "A layer is built in __init__, but forward never calls it."
DROPPED = (
    "A layer is called, but no gradient comes back to it, so training would not change it. Either its output is not "
    "used, or detach() or torch.no_grad() cuts it off."
)
NEEDED = (
    "It changes a map in place that the gradient still needs (+= and the like), so training would stop with an error: "
    "make a new map instead."
)
NORM_CHANNELS = (
    "BatchNorm2d takes the number of channels of the map that it is given. After the convolution, that is out_channels."
)
SECOND_CHANNELS = "The second convolution takes out_channels, not in_channels: it is given what the first one made."
ADDED = "Maps are added to one another, as in a residual block. Here each layer only hands its map on to the next."

#: Function that a block calls → what to say where its numbers are wrong. None of them belongs into these blocks.
FOREIGN = {
    **{
        name: f"The activation is {told}. In this block it is ReLU."
        for name, told in {
            "leaky_relu": "LeakyReLU",
            "silu": "SiLU",
            "gelu": "GELU",
            "elu": "ELU",
            "selu": "SELU",
            "prelu": "PReLU",
            "mish": "Mish",
            "softplus": "Softplus",
            "hardswish": "Hardswish",
            "hardtanh": "ReLU6 or Hardtanh, which has an upper bound",
            "sigmoid": "a sigmoid",
            "tanh": "tanh",
        }.items()
    },
    **{
        name: f"The normalization is {told}. In this block it is BatchNorm."
        for name, told in {
            "group_norm": "GroupNorm",
            "instance_norm": "InstanceNorm",
            "layer_norm": "LayerNorm",
        }.items()
    },
    **dict.fromkeys(("dropout", "dropout2d"), "There is dropout in it. This block has none."),
    **dict.fromkeys(("add", "add_"), ADDED),
}

#: A layer that was called, and the shape of what it was given.
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


def as_block(maps: int, forward: str, look: Look) -> Callable[[Any], Callable[..., Any]]:
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
            if any(map(nn.parameter.is_lazy, block.parameters())):
                block(*inputs)  # lazy layers learn their shapes from a first map
            try:
                with torch.enable_grad(), _filling(block, calls):
                    out = block(*inputs)
            except RuntimeError as error:
                sentence = look(in_channels, shape, calls, error)
                if sentence:
                    raise Wrong(sentence) from error
                raise
            if out is None or out is ...:
                return out
            _look_at_layers(block, calls, out)
            sentence = look(in_channels, shape, calls, tuple(out.shape)) if isinstance(out, Tensor) else None
            if sentence:
                raise Wrong(sentence)
            return out

        return run

    return adapt


def _look_at_layers(block: nn.Module, calls: list[Call], out: Any) -> None:
    """Refuse layers that are not called, or called in vain."""
    called = {id(layer) for layer, _ in calls}
    if any(_weights(module) and id(module) not in called for module in [*block.modules()][1:]):
        raise Wrong(UNUSED)
    weights = [*block.parameters()]
    if not isinstance(out, Tensor) or not weights:
        return
    try:
        found = torch.autograd.grad(out.sum(), weights, allow_unused=True) if out.requires_grad else [None]
    except RuntimeError as error:
        raise Wrong(NEEDED) from error
    if any(gradient is None for gradient in found):
        raise Wrong(DROPPED)


def misfit(in_channels: int, calls: list[Call]) -> str | None:
    """What the channels of the layer that failed say, where it is not the first."""
    layer, given = calls[-1]
    if len(given) != 4 or len(calls) < 2:
        return None
    if isinstance(layer, nn.BatchNorm2d) and layer.num_features == in_channels != given[1]:
        return NORM_CHANNELS
    if isinstance(layer, nn.Conv2d) and layer.in_channels == in_channels != given[1]:
        return SECOND_CHANNELS
    return None


class _Names(TorchFunctionMode):
    """Writes down the functions that are called, sums only where they are of maps."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if not name.startswith("add") or all(isinstance(a, Tensor) and a.ndim == 4 for a in args[:2]):
            self.called.append(name)
        return func(*args, **(kwargs or {}))


def explained(maps: int, layers: int) -> Callable[[Any], str | None]:
    """What makes of a block with wrong numbers a sentence on the parts that do not belong into it.

    Args:
        maps: how many maps go in.
        layers: how many convolutions the right block has, and as many BatchNorms.
    """

    def explain(answer: Any) -> str | None:
        block, names, calls = answer(3, 5).double(), _Names(), []  # type: ignore[var-annotated]
        with torch.no_grad(), _filling(block, calls), names:
            block(*(noise((2, 3, 4, 6), torch.Generator().manual_seed(k)) for k in range(maps)))
        convolutions = [layer for layer, _ in calls if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
        norms = [layer for layer, _ in calls if isinstance(layer, nn.BatchNorm2d)]
        for layer in convolutions:
            if layer.padding_mode != "zeros":
                return f"A convolution pads with padding_mode={layer.padding_mode!r}. Leave it out: zeros are wanted."
            if layer.kernel_size != (3, 3):
                return f"A convolution has a kernel of {'×'.join(map(str, layer.kernel_size))}. Here they are all 3×3."
            if layer.groups != 1:
                return "A convolution has groups, so that its channels do not all meet: leave groups out."
        foreign = [FOREIGN[name] for name in names.called if name in FOREIGN]
        if foreign:
            return foreign[0]
        for kind, called in (("convolutions", convolutions), ("BatchNorms", norms)):
            if len(called) != layers:
                return f"The number of {kind} that forward calls is {len(called)}; {layers} are wanted."
        return None

    return explain
