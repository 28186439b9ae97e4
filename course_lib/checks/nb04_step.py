"""Notebook 04, exercise 5: the training step, taken twice on a small network whose calls are noted."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..objective import denoising_loss
from ..train import training_loop
from .effects import IN_PLACE, Case, Wrong
from .inputs import SHAPES, Network, noise, pictures, random_alpha_bar, schedule_of, times
from .judge import Exercise
from .nb04_loss import WRONG_LOSSES, my_loss
from .witness import NOISE, TIMES, Witness, drawn

NO_ZERO = "The old gradients are still there, and backward adds to them: call optimizer.zero_grad() before it."
ZERO_LAST = "zero_grad comes last. The network may come with old gradients: forget them before backward."
ZERO_BETWEEN = "zero_grad stands between backward and step: it forgets the gradient before it is used."
STEP_FIRST = "The step is taken before backward, so without the new gradient: first backward, then step."
STEP_TWICE = "optimizer.step() is called twice for one gradient: once is enough."
NO_STEP = "The gradient is worked out and never used: optimizer.step() is missing."
OWN_STEP = "The weights move, but not by optimizer.step(): use the optimizer that is handed over."
NO_BACKWARD = "No gradient is worked out: loss.backward() is missing, so the network learns nothing."
CUT_OFF = (
    "backward is called, but no gradient arrives at the weights: the loss was cut off from them (by detach or .data), "
    "or worked out on a copy of the network."
)
NO_GRAPH = "The loss does not lead back to the weights: no torch.no_grad(), detach() or item() before backward."
NO_MEAN = "backward wants one number: take the mean over the whole batch first, pictures and pixels."
EVAL_MODE = (
    "The network is put into eval mode. While it learns it belongs in train mode, where BatchNorm and dropout do their "
    "work: leave eval() out."
)
NO_LOSS = "The network is trained, but the loss is not handed back: end with `return loss`."
OTHER_MOVE = (
    "The loss of the first step is right, but the weights then move in another way than optimizer.step() moves them by "
    "its gradient: is the loss changed before backward, or the gradient after it?"
)
NETWORK = "It hands back the network, which has changed in place anyway: return the loss."


def _cases(g: torch.Generator) -> list[Case]:
    """The noise is strong, which makes a gradient longer than 1, so that clipping it shows."""
    return [(pictures(s, g), times(s[0], g), 3 * noise(s, g), random_alpha_bar(g)) for s in SHAPES[:2]]


def _noting(model: Network) -> tuple[torch.optim.Optimizer, list[str]]:
    """An optimizer with momentum for the network, which comes with an old gradient; and what happens to both.

    The log says, in order: z where gradients are forgotten, b where one arrives, s where a step has been taken, and
    e where the network is asked in eval mode.
    """
    log: list[str] = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.weights.grad = torch.tensor([1.0, -2.0, 3.0, -4.0], dtype=torch.float64)
    model.weights.register_hook(lambda _: log.append("b"))
    model.register_forward_pre_hook(lambda *_: None if model.training else log.append("e"))
    optimizer.register_step_post_hook(lambda *_: log.append("s"))  # after a closure, if there is one
    for one in (model, optimizer):
        one.zero_grad = _noted(one.zero_grad, log)  # type: ignore[method-assign]
    return optimizer, log


def _noted(zero_grad: Callable[..., None], log: list[str]) -> Callable[..., None]:
    def function(set_to_none: bool = True) -> None:
        log.append("z")
        zero_grad(set_to_none)

    return function


def two_steps(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Two steps of the learner's: both losses, and the weights afterwards."""

    def run(*case: Tensor) -> tuple[Any, Any, Tensor] | None:
        model = Network()
        optimizer, log = _noting(model)
        weights = model.weights.detach().clone()
        losses = []
        for _ in range(2):
            log.clear()
            given = [tensor.clone() for tensor in case]
            with Witness() as seen:
                loss = _step(answer, model, optimizer, *given)
            losses.append(loss.detach() if isinstance(loss, Tensor) else loss)
            if (loss is None or loss is ...) and not log:
                return None
            _look("".join(log), loss, moved=not torch.equal(model.weights.detach(), weights), backward=seen.backward)
            if seen.random:
                kinds = (("t", TIMES), ("eps", NOISE))
                raise Wrong(drawn(seen.random, [name for name, kind in kinds if kind & {*seen.random}]))
            if any(not torch.equal(a, b) for a, b in zip(given, case, strict=True)):
                raise Wrong(IN_PLACE)
        return losses[0], losses[1], model.weights.detach()

    return run


def _step(answer: Callable[..., Any], model: Network, optimizer: torch.optim.Optimizer, *case: Tensor) -> Any:
    try:
        return answer(model, optimizer, *case)
    except RuntimeError as error:
        if "only for scalar outputs" in str(error):
            raise Wrong(NO_MEAN) from error
        if "does not require grad" in str(error):
            raise Wrong(NO_GRAPH) from error
        raise


def _look(log: str, loss: Any, *, moved: bool, backward: bool) -> None:
    """Name what the order of the calls in one step already shows."""
    if "e" in log:
        raise Wrong(EVAL_MODE)
    if re.match("z*s.*b", log):
        raise Wrong(STEP_FIRST)
    if re.search("bz+s", log):
        raise Wrong(ZERO_BETWEEN)
    if re.search("bs+z*s", log):
        raise Wrong(STEP_TWICE)
    if "b" not in log and ("s" in log or not moved):
        raise Wrong(CUT_OFF if backward else NO_BACKWARD)
    if "s" not in log:
        raise Wrong(OWN_STEP if moved else NO_STEP)
    if loss is None or loss is ...:
        raise Wrong(NO_LOSS)
    if isinstance(loss, nn.Module):
        raise Wrong(NETWORK)


def other_move(answer: Callable[..., Any]) -> str | None:
    """The sentence for a first loss that is right, where what follows is not."""
    case = _cases(torch.Generator().manual_seed(0))[0]
    (mine, *_), (right, *_) = (two_steps(one)(*case) for one in (answer, my_training_step))
    return OTHER_MOVE if abs(float(mine) - float(right)) < 1e-4 else None


def my_training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor
) -> Tensor:
    ab = alpha_bar[t].view(-1, 1, 1, 1)
    x_t = ab.sqrt() * x0 + (1 - ab).sqrt() * eps
    loss = (model(x_t, t) - eps).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def _library_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor
) -> Tensor:
    loss = denoising_loss(model, schedule_of(alpha_bar), x0, t, eps).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def in_order(calls: str, loss_of: Callable[..., Tensor] = my_loss) -> Callable[..., Tensor]:
    """A step that makes its calls in this order: z for zero_grad, b for backward, c for clipping, s for step."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, *case: Tensor) -> Tensor:
        loss = loss_of(model, *case)
        known: dict[str, Callable[[], Any]] = {
            "z": optimizer.zero_grad,
            "b": loss.backward,
            "c": lambda: nn.utils.clip_grad_norm_(model.parameters(), 1.0),
            "s": optimizer.step,
        }
        for call in calls:
            known[call]()
        return loss

    return step


def _loss_afterwards(model: nn.Module, optimizer: torch.optim.Optimizer, *case: Tensor) -> Tensor:
    my_training_step(model, optimizer, *case)
    return my_loss(model, *case)


def _one_by_one(
    model: nn.Module, optimizer: torch.optim.Optimizer, x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor
) -> Tensor:
    each = [my_training_step(model, optimizer, x0[[i]], t[[i]], eps[[i]], alpha_bar) for i in range(len(x0))]
    return torch.stack(each).mean()


def _each_picture(model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """One loss for each picture, of which backward cannot be called."""
    return torch.stack([my_loss(model, x0[[i]], t[[i]], eps[[i]], alpha_bar) for i in range(len(x0))])


TRAINING_STEP = Exercise(
    _library_step,
    _cases,
    {
        NO_ZERO: in_order("bs"),
        ZERO_LAST: in_order("bsz"),
        ZERO_BETWEEN: in_order("bzs"),
        STEP_FIRST: in_order("zsb"),
        STEP_TWICE: in_order("zbss"),
        NO_STEP: in_order("zb"),
        NO_BACKWARD: in_order("zs"),
        NO_GRAPH: in_order("zbs", torch.no_grad()(my_loss)),
        CUT_OFF: in_order("zbs", lambda *case: my_loss(*case).detach().requires_grad_()),
        NO_MEAN: in_order("zbs", _each_picture),
        EVAL_MODE: lambda model, *case: my_training_step(model.eval(), *case),
        NO_LOSS: lambda *case: (my_training_step(*case), None)[1],
        NETWORK: lambda *case: (my_training_step(*case), case[0])[1],
        "The gradient is cut to length 1. The notebook adds that below; here the step takes it as it is.": (
            in_order("zbcs")
        ),
        "There is a step for each picture: take the mean over the batch first, then one backward and one step.": (
            _one_by_one
        ),
        "That is the loss after the step; hand back the one that backward was called on.": _loss_afterwards,
        **{sentence: in_order("zbs", loss) for sentence, loss in WRONG_LOSSES.items()},
    },
    answer=my_training_step,
    library=[denoising_loss, training_loop],
    equation=r"\theta \leftarrow \theta - \text{lr}\;\nabla_\theta \operatorname{mean}"
    r"\left(\hat\varepsilon_\theta(x_t, t) - \varepsilon\right)^2",
    adapt=two_steps,
    explain=other_move,
    praise="The same losses and the same weights after two steps as with the library's loss, old gradients forgotten.",
)
