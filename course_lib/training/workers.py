"""Threads that share a batch on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

#: The most threads; more would wait for Python, which runs in one thread at a time.
MOST = 4

#: What computes the losses of some pictures and their weights, both (B,), from tensors that begin with a batch.
LossOf = Callable[..., tuple[Tensor, Tensor]]


class Workers:
    """Threads that each compute the gradient of some pictures of the batch; the gradients are then added.

    PyTorch's own threads split every single operation instead, and wait for each other hundreds of times in an update.
    If they sleep while they wait, these threads are half as fast again (two cores, batches of 32). If they spin, they
    keep up as long as no other program wants a core; then they become ten times slower.

    Args:
        model: what they train; see `suit`.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.threads = torch.get_num_threads()
        self.count = min(MOST, self.threads)
        # a bound method as the initializer would keep this object, and so its threads, alive forever
        self.pool = ThreadPoolExecutor(self.count, initializer=_begin_thread, initargs=(self.threads // self.count,))

    @staticmethod
    def suit(model: nn.Module) -> bool:
        """Whether threads can share this model's batches.

        They need a CPU with several cores, and a model in which no layer looks across the batch or uses random
        numbers, which would come in another order each time.
        """
        on_cpu = next(model.parameters()).device.type == "cpu"
        whole = any(isinstance(layer, _BatchNorm | _DropoutNd) for layer in model.modules())
        return on_cpu and torch.get_num_threads() > 1 and next(model.buffers(), None) is None and not whole

    def __enter__(self) -> None:
        torch.set_num_threads(self.threads // self.count)  # small work, such as the optimizers', is faster in few

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self.threads)

    def backward(self, loss_of: LossOf, batch: Sequence[Tensor], factor: float) -> Tensor:
        """Add the gradient of factor · mean weighted loss to the parameters.

        Returns:
            The mean loss, without weights.
        """
        size = len(batch[0])
        pieces = zip(*(values.tensor_split(min(self.count, size)) for values in batch), strict=True)

        def learn(piece: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor | None]]:
            losses, weights = loss_of(*piece)
            weighted = factor / size * (weights * losses).sum()
            return losses.detach().sum() / size, torch.autograd.grad(weighted, self.parameters, allow_unused=True)

        losses, gradients = zip(*self.pool.map(learn, pieces), strict=True)
        used = [i for i, gradient in enumerate(gradients[0]) if gradient is not None]
        totals = [gradients[0][i] for i in used]
        for others in gradients[1:]:
            totals = [*torch._foreach_add(totals, [others[i] for i in used])]
        for i, total in zip(used, totals, strict=True):
            p = self.parameters[i]
            # fused optimizers rely on gradients that are laid out as their parameters
            total = total if total.stride() == p.stride() else torch.empty_like(p).copy_(total)
            p.grad = total if p.grad is None else p.grad + total
        return torch.stack(losses).sum()

    def step(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Let all optimizers step, each in a thread."""
        for _ in self.pool.map(lambda optimizer: optimizer.step(), optimizers):
            pass  # asking for each result raises here what went wrong in its thread


def _begin_thread(threads: int) -> None:
    torch.get_num_threads()  # makes PyTorch set up this thread; otherwise it would undo the next line later
    torch.set_num_threads(threads)
