"""Notebook 06, cases 7 and 8: a layer that is never called, and the mode of BatchNorm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..sample import predict
from ..schedule import make_schedule
from ..unet import BottleneckUNet
from .effects import Case
from .inputs import noise
from .judge import Exercise

CLAMPED = "The answer is cut off at -1 and 1 (clamp, tanh). Hand it on as the network gives it."


def _nets(g: torch.Generator, mode: bool) -> list[Case]:
    """Small networks in float64, each with pictures: one with a single skip, one with two.

    They have seen a batch, and they answer well beyond [-1, 1], so that a clamp shows.
    """
    cases: list[Case] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for batch, channels, features in ((3, 1, (4, 8)), (1, 2, (4, 8, 16))):
            net = BottleneckUNet(channels, features=features, size=8, dense=6).double().train()
            for norm in net.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.momentum = 1.0  # what it remembers is this one batch
            with torch.no_grad():
                net(noise((16, channels, 8, 8), g) * 2 + 0.5)
                for weights in net.out[-1].parameters():
                    weights.mul_(8)
            cases.append((net.train(mode), noise((batch, channels, 8, 8), g)))
    return cases


# ---------------------------------------------------------------------------------------------- 7: every layer called


def my_forward(net: BottleneckUNet, x: Tensor) -> Tensor:
    x, skips = net.stem(x), []
    for block in net.down:
        x = block(x)
        skips.append(x)
    x = net.unflatten(net.dense(net.flatten(x)))
    for block in net.up:
        x = block(x, skips.pop())
    return net.out(x)


def _path(
    deepest: Callable[[BottleneckUNet, Tensor], Tensor] = lambda net, x: net.dense(x),
    skip: Callable[[Tensor, list[Tensor]], Tensor] = lambda x, skips: skips.pop(),
) -> Callable[[BottleneckUNet, Tensor], Tensor]:
    """The network with something else at its deepest point, or in place of the skips."""

    def forward(net: BottleneckUNet, x: Tensor) -> Tensor:
        x, skips = net.stem(x), []
        for block in net.down:
            x = block(x)
            skips.append(x)
        x = net.unflatten(deepest(net, net.flatten(x)))
        for block in net.up:
            x = block(x, skip(x, skips))
        answer: Tensor = net.out(x)
        return answer

    return forward


MEND_7 = Exercise(
    lambda net, x: net(x),
    lambda g: _nets(g, mode=False),
    {
        "The dense layers are built and still not called: flatten, dense, unflatten.": _path(lambda net, x: x),
        "The answer of the dense layers is added to what went in; it should take its place.": _path(
            lambda net, x: x + net.dense(x)
        ),
        "The dense layers are called, but the map from below stands in for the skip: block(x, skips.pop()).": _path(
            skip=lambda x, skips: x
        ),
        "The skips are taken from the wrong end. The way up begins with the deepest, the last: skips.pop().": _path(
            skip=lambda x, skips: skips.pop(0)
        ),
        CLAMPED: lambda net, x: my_forward(net, x).clamp(-1, 1),
        "The answer goes through tanh. Hand it on as net.out gives it.": lambda net, x: my_forward(net, x).tanh(),
    },
    answer=my_forward,
    library=[BottleneckUNet.forward],
    equation=r"\text{out} \circ \text{up} \circ \text{unflatten} \circ \text{dense} \circ \text{flatten} "
    r"\circ \text{down} \circ \text{stem}",
    gradient=True,
    praise="The same numbers as the library's network, and a gradient reaches every layer.",
)

# ---------------------------------------------------------------------------------------------- 8: eval mode


def my_clean(net: nn.Module, noisy: Tensor) -> Tensor:
    was_training = net.training
    net.eval()
    with torch.no_grad():
        answer = net(noisy)
    net.train(was_training)
    return answer


def _library_clean(net: nn.Module, noisy: Tensor) -> Tensor:
    return predict(net, make_schedule("linear", 10), noisy, 1, target="x0", clip=False)[0]


def with_mode(answer: Callable[..., Any]) -> Callable[..., Any]:
    """The answer, and the mode in which it leaves the network."""

    def function(net: nn.Module, noisy: Tensor) -> Any:
        result = answer(net, noisy)
        return result if result is None or result is ... else (result, float(net.training))

    return function


def _in_mode(net: nn.Module, x: Tensor, mode: bool, after: bool | None = None) -> Tensor:
    before = net.training
    with torch.no_grad():
        answer: Tensor = net.train(mode)(x)
    net.train(before if after is None else after)
    return answer


MEND_8 = Exercise(
    _library_clean,
    # one network in train mode with three pictures, one in eval mode with one
    lambda g: [_nets(g, mode=True)[0], _nets(g, mode=False)[1]],
    {
        "The network still works in the mode in which it came: call net.eval() first.": (
            lambda net, x: _in_mode(net, x, net.training)
        ),
        "train() stands where eval() belongs.": lambda net, x: _in_mode(net, x, True),
        "The answer is right, but the network is left in eval mode: put back the mode in which it came.": (
            lambda net, x: _in_mode(net, x, False, after=False)
        ),
        "The answer is right, but the network is always left in train mode: put back the mode in which it came.": (
            lambda net, x: _in_mode(net, x, False, after=True)
        ),
        "One picture at a time is no way out: in train mode each is normalized by its own statistics. Use eval().": (
            lambda net, x: torch.cat([_in_mode(net, one, net.training) for one in x.split(1)])
        ),
        CLAMPED: lambda net, x: my_clean(net, x).clamp(-1, 1),
    },
    answer=my_clean,
    library=[predict],
    equation=r"\text{BatchNorm, eval mode:}\quad h \leftarrow \gamma\,\frac{h - \mu_\text{running}}"
    r"{\sqrt{\sigma^2_\text{running} + 10^{-5}}} + \beta",
    adapt=with_mode,
    praise="The same numbers as the library's function, whatever the neighbors, and the mode is as it was.",
)
