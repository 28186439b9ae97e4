"""How gradients are computed and optimizers step: in one process, in its threads, or in many processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .state import TrainState, get_moments
from .workers import LossOf, Workers

if TYPE_CHECKING:  # importing it takes a second, and most trainings do without
    from accelerate import Accelerator


class PlainDriver:
    """The part of an `Accelerator` that the loop uses, in plain PyTorch and one process.

    Args:
        device: where the model is.
        autocast: dtype of the matrix products, or None for full precision.
        parts: into how many parts a batch is split.
    """

    num_processes, process_index = 1, 0

    def __init__(self, device: torch.device, autocast: torch.dtype | None, parts: int) -> None:
        self.device, self.dtype, self.parts = device, autocast, parts

    def prepare(self, *objects: Any) -> tuple[Any, ...]:
        return objects

    def accumulate(self, model: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, dtype=self.dtype)

    def backward(self, loss: Tensor) -> None:
        (loss / self.parts).backward()

    def clip_grad_norm_(self, parameters: Iterable[nn.Parameter], longest: float) -> Tensor:
        return nn.utils.clip_grad_norm_(parameters, longest)


class Engine:
    """Does the work of an update. Inside its `with` block the worker threads, if there are any, have the cores.

    Args:
        model: what is trained.
        optimizers: of the model's parameters.
        driver: an `Accelerator`, or plain PyTorch.
        workers: threads that share each batch, or None.
        parts: into how many parts each process splits its share of a batch, >= 1.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        driver: Accelerator | PlainDriver,
        workers: Workers | None,
        parts: int,
    ) -> None:
        self.model, self.optimizers, self.driver, self.workers, self.parts = model, optimizers, driver, workers, parts
        self.net, self.prepared = model, optimizers
        self.processes: int = driver.num_processes

    def prepare(self) -> nn.Module:
        """Connect the processes; call it once, before the first update.

        Returns:
            The network to ask: the model, or what Accelerate wraps around it.
        """
        self.net, *self.prepared = self.driver.prepare(self.model, *self.optimizers)
        return self.net

    def __enter__(self) -> None:
        if self.workers is not None:
            self.workers.__enter__()

    def __exit__(self, *error: object) -> None:
        if self.workers is not None:
            self.workers.__exit__(*error)

    def autocast(self) -> AbstractContextManager[Any]:
        """Run the matrix products inside it in the lower precision, if there is one."""
        return self.driver.autocast()

    def share(self, batch: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """The parts of a batch that this process computes."""
        size = len(batch[0]) // (self.processes * self.parts)
        for part in range(self.parts):
            first = size * (self.driver.process_index * self.parts + part)
            yield [values[first : first + size] for values in batch]

    def backward(self, loss_of: LossOf, part: Sequence[Tensor]) -> Tensor:
        """Add the gradient of a part's mean weighted loss to the parameters.

        Args:
            loss_of: gives the losses of the part's pictures and their weights.
            part: of a batch.

        Returns:
            The part's mean loss, without weights.
        """
        with self.driver.accumulate(self.net):
            if self.workers is not None:
                return self.workers.backward(loss_of, part, 1 / self.parts)
            losses, weights = loss_of(*part)
            self.driver.backward((weights * losses).mean())
            return losses.detach().mean()

    def clip_gradient(self, longest: float) -> Tensor:
        """Shorten the gradient to this length where it is longer; gives its length before."""
        return self.driver.clip_grad_norm_(self.model.parameters(), longest).detach()

    def step(self, lr: float) -> None:
        """Move the weights by one step of this learning rate, and forget the gradient."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        if self.workers is not None:
            self.workers.step(self.prepared)
        else:
            for optimizer in self.prepared:
                optimizer.step()
        for optimizer in self.prepared:
            optimizer.zero_grad(set_to_none=True)

    def state(self, step: int, seconds: float) -> TrainState:
        """What the training needs to go on; its tensors are the optimizers' own, so store them before the next step."""
        return TrainState(step, seconds, get_moments(self.model, self.optimizers))


def pick_driver(
    model: nn.Module, autocast: torch.dtype | None, accelerator: Accelerator | None, parts: int
) -> Accelerator | PlainDriver:
    """The accelerator if there is one, else plain PyTorch.

    Raises:
        ValueError: the accelerator was made for something else than the training asks for.
    """
    device = next(model.parameters()).device
    if accelerator is None:
        return PlainDriver(device, autocast, parts)
    there = accelerator.device
    if there.type != device.type or (None not in (there.index, device.index) and there.index != device.index):
        raise ValueError(f"the model is on {device}: move it, and its average, to the accelerator's {there} first")
    if autocast is not None:
        raise ValueError("autocast must be None with an accelerator: give mixed_precision='bf16' to the accelerator")
    if accelerator.scaler is not None:
        raise ValueError("the accelerator has mixed_precision='fp16', which needs a scaled loss; take 'bf16' or 'no'")
    if accelerator.gradient_accumulation_steps != parts:
        raise ValueError(
            f"config.accumulate={parts}, but the accelerator was made with "
            f"gradient_accumulation_steps={accelerator.gradient_accumulation_steps}; give both the same"
        )
    return accelerator
