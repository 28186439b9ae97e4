"""Muon: an optimizer for convolutions and dense layers that learns as much in fewer updates.

PyTorch has one too (`torch.optim.Muon`). It takes only matrices, so no convolutions, and works in bfloat16, which is
more than ten times slower on a CPU without instructions for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .validate import validate_counts, validate_model, validate_number

#: a, b, c of the polynomial a x + b x³ + c x⁵, applied five times (Jordan et al. 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring all singular values of each matrix near 1 and keep its directions: U S Vᵀ becomes about U Vᵀ.

    This is Newton-Schulz: five times X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X, which maps each singular value x to
    a x + b x³ + c x⁵ (Jordan et al. 2024, "Muon: an optimizer for hidden layers"). Afterwards they lie between about
    0.7 and 1.2, which is close enough; five rounds do not lift those below about 0.0015 of the matrix's norm that far.

    Args:
        matrices: floats, (N, rows, columns).

    Returns:
        The same shape and dtype.
    """
    if not isinstance(matrices, Tensor) or not matrices.is_floating_point():
        raise TypeError(f"matrices must be a floating-point tensor, got {getattr(matrices, 'dtype', matrices)}")
    if matrices.ndim != 3:
        raise ValueError(f"matrices must have shape (N, rows, columns), got {tuple(matrices.shape)}")
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(5):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalized updates, so that no direction of a weight matrix is left behind.

    M ← β M + (1 − β) G; W ← W − lr · 0.2 √max(rows, columns) · orthogonalize((1 − β) G + β M). The factor makes an
    update about as large as AdamW's, so both can share a learning rate (Liu et al. 2025, arXiv:2502.16982). The weight
    of a convolution, (out, in, k, k), counts as a matrix (out, in·k·k).

    Args:
        params: weights with two dimensions or more; see `is_matrix`.
        lr: learning rate, > 0.
        momentum: β, in [0, 1).
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 1e-3, momentum: float = 0.95) -> None:
        validate_number("lr", lr, 1e-12)
        validate_number("momentum", momentum, 0, 1 - 1e-12)
        super().__init__(params, {"lr": lr, "momentum": momentum})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim < 2:
                    raise ValueError(f"params must have two dimensions or more, got {tuple(p.shape)}; see is_matrix")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all weights that have a gradient; returns what the closure returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for p in weights:
                if not self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            gradients = [p.grad for p in weights]
            buffers = [self.state[p]["momentum_buffer"] for p in weights]
            torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
            directions = torch._foreach_lerp(gradients, buffers, group["momentum"])
            same_shape = defaultdict(list)  # all weights of one shape go into one batched product
            for p, direction in zip(weights, directions, strict=True):
                same_shape[p.flatten(1).shape].append((p, direction))
            for shape, pairs in same_shape.items():
                updates = orthogonalize(torch.stack([direction.flatten(1) for _, direction in pairs]))
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.add_(update.view(p.shape), alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)
        return loss


def make_optimizers(model: nn.Module, lr: float, parts: int = 1) -> list[torch.optim.Optimizer]:
    """The optimizers that train a network here: Muon for its matrices, AdamW without weight decay for the rest.

    A table of embeddings, such as that of the classes, goes to AdamW: a row has a gradient only when it is looked up,
    and Muon would blow up the fading momentum of a rare one long afterwards.

    Args:
        model: the network, on the device where you train it.
        lr: learning rate of both, > 0.
        parts: how many Muons share the matrices, with about equal work, so that as many threads can step at once; the
            updates stay the same.

    Returns:
        The optimizers, Muon first, without those that would have nothing to do.
    """
    validate_model(model)
    validate_number("lr", lr, 1e-12)
    validate_counts(parts=parts)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("model must have parameters that require a gradient, got none")
    tables = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding)}
    matrices = [p for p in parameters if is_matrix(p) and id(p) not in tables]
    chosen = {id(p) for p in matrices}
    others = [p for p in parameters if id(p) not in chosen]
    fused = parameters[0].device.type != "mps"
    made: list[torch.optim.Optimizer] = [Muon(pile, lr) for pile in _deal(matrices, parts) if pile]
    if others:
        made.append(torch.optim.AdamW(others, lr, betas=(0.9, 0.99), weight_decay=0.0, fused=fused))
    return made


def _deal(matrices: Sequence[nn.Parameter], parts: int) -> list[list[nn.Parameter]]:
    """Give each part about equal work: the largest matrix first, always to the part with the least to do."""
    piles: list[list[nn.Parameter]] = [[] for _ in range(parts)]
    busy = [0] * parts
    for work, p in sorted(((_work(p), p) for p in matrices), key=lambda pair: -pair[0]):
        least = busy.index(min(busy))
        piles[least].append(p)
        busy[least] += work
    return piles


def _work(parameter: nn.Parameter) -> int:
    """How many multiplications X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X takes."""
    small, large = sorted(parameter.flatten(1).shape)
    return small * small * (2 * large + small)


def is_matrix(parameter: nn.Parameter) -> bool:
    """Whether Muon suits a weight: a matrix or a convolution with at least 16 rows and columns."""
    return parameter.ndim >= 2 and min(parameter.flatten(1).shape) >= 16
