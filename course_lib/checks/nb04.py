"""The exercises of notebook 04: training to predict noise."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks import sinusoidal_embedding
from ..forward import solve_x0_eps, to_x0_eps
from ..objective import denoising_loss
from ..schedule import make_schedule
from ..train import EMA, training_loop
from .effects import Wrong
from .inputs import SHAPES, at, noise, pictures, random_alpha_bar, schedule_of, times
from .judge import Choice, Exercise, Question


def _embedding_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(times(5, g, 9), 8), (times(3, g, 9), 4), (times(4, g, 9), 10)]


def my_embedding(t: Tensor, dim: int) -> Tensor:
    i = torch.arange(dim // 2, device=t.device)
    omega = 10000.0 ** (-2 * i / dim)
    angle = t[:, None] * omega
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def _omega(dim: int) -> Tensor:
    return 10000.0 ** (-2 * torch.arange(dim // 2) / dim)


def _waves(angle: Tensor) -> Tensor:
    return torch.cat([angle.cos(), angle.sin()], dim=1)


EMBEDDING = Exercise(
    sinusoidal_embedding,
    _embedding_cases,
    {
        "Sines and cosines are swapped: here the first half are the cosines.": (
            lambda t, d: torch.cat([(t[:, None] * _omega(d)).sin(), (t[:, None] * _omega(d)).cos()], dim=1)
        ),
        "Sines and cosines take turns, as in the paper on transformers; here all cosines come first, then all sines.": (
            lambda t, d: torch.stack([(t[:, None] * _omega(d)).sin(), (t[:, None] * _omega(d)).cos()], dim=2).flatten(1)
        ),
        "Cosines and sines take turns; here all the cosines come first, then all the sines.": (
            lambda t, d: torch.stack([(t[:, None] * _omega(d)).cos(), (t[:, None] * _omega(d)).sin()], dim=2).flatten(1)
        ),
        "The frequencies grow: the minus in the exponent is missing.": (
            lambda t, d: _waves(t[:, None] * 10000.0 ** (2 * torch.arange(d // 2) / d))
        ),
        "The frequencies come in the wrong order: i = 0 is the fastest, with ω = 1.": (
            lambda t, d: _waves(t[:, None] * _omega(d).flip(0))
        ),
        "The exponent is half of what it should be: i is divided by d/2, so that it is -2i/d.": (
            lambda t, d: _waves(t[:, None] * _omega(d).sqrt())
        ),
        "i is divided by d/2 - 1, as in some libraries: so that the last ω is 1/10000. Here i is divided by d/2.": (
            lambda t, d: _waves(t[:, None] * 10000.0 ** (-torch.arange(d // 2) / (d // 2 - 1)))
        ),
        "i starts at 1: it must start at 0, where ω = 1.": (
            lambda t, d: _waves(t[:, None] * 10000.0 ** (-2 * torch.arange(1, d // 2 + 1) / d))
        ),
        "t does not enter, so every timestep looks alike: multiply ω by t[:, None].": (
            lambda t, d: _waves(_omega(d).expand(len(t), -1))
        ),
        "t is off by one: in this course t = 0 is the picture, and t enters as it is.": (
            lambda t, d: _waves((t - 1)[:, None] * _omega(d))
        ),
        "There is a factor of 2π too many: the angle is ω · t.": (
            lambda t, d: _waves(2 * torch.pi * t[:, None] * _omega(d))
        ),
    },
    answer=my_embedding,
    library=[sinusoidal_embedding],
    equation=r"e_i(t) = \cos(\omega_i t), \qquad e_{\text{dim}/2+i}(t) = \sin(\omega_i t), \qquad "
    r"\omega_i = 10000^{-2i/\text{dim}}",
    praise="The same numbers as the library's function, for several lengths, and on the device of t.",
)


def _prediction_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(noise(s, g), noise(s, g), times(s[0], g), random_alpha_bar(g)) for s in SHAPES]


def my_x0_hat(x_t: Tensor, eps_hat: Tensor, t: Tensor, alpha_bar: Tensor) -> Tensor:
    ab = alpha_bar[t].view(-1, 1, 1, 1)
    return (x_t - (1 - ab).sqrt() * eps_hat) / ab.sqrt()


X0_HAT = Exercise(
    lambda x_t, eps_hat, t, alpha_bar: to_x0_eps("eps", schedule_of(alpha_bar), eps_hat, x_t, t)[0],
    _prediction_cases,
    {
        "Subtracting the noise is half of it: divide by √alpha_bar, since the picture was scaled down.": (
            lambda x, e, t, a: x - (1 - at(a, t)).sqrt() * e
        ),
        "Take the noise away: the sign before eps_hat is a minus.": (
            lambda x, e, t, a: (x + (1 - at(a, t)).sqrt() * e) / at(a, t).sqrt()
        ),
        "The root over 1 - alpha_bar is missing.": lambda x, e, t, a: (x - (1 - at(a, t)) * e) / at(a, t).sqrt(),
        "The root in the denominator is missing: divide by √alpha_bar.": (
            lambda x, e, t, a: (x - (1 - at(a, t)).sqrt() * e) / at(a, t)
        ),
        "Both square roots are missing.": lambda x, e, t, a: (x - (1 - at(a, t)) * e) / at(a, t),
        "The noise was scaled when it was mixed in: subtract √(1 - alpha_bar) · eps_hat, not eps_hat.": (
            lambda x, e, t, a: (x - e) / at(a, t).sqrt()
        ),
        "The noise is subtracted after the division: put both terms over √alpha_bar.": (
            lambda x, e, t, a: x / at(a, t).sqrt() - (1 - at(a, t)).sqrt() * e
        ),
        "The two weights are swapped.": lambda x, e, t, a: (x - at(a, t).sqrt() * e) / (1 - at(a, t)).sqrt(),
        "t is off by one: alpha_bar has T + 1 entries, so alpha_bar[t] is the right one.": (
            lambda x, e, t, a: (x - (1 - at(a, t - 1)).sqrt() * e) / at(a, t - 1).sqrt()
        ),
    },
    answer=my_x0_hat,
    library=[to_x0_eps, solve_x0_eps],
    equation=r"\hat x_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}}",
)


def _toy_model(x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
    """Stands in for a network: its answer depends on every pixel and on the time."""
    return 0.3 * x_t + 0.1 * x_t.roll(1, -1) + 0.05 * t.to(x_t.dtype).view(-1, 1, 1, 1).sin()


def _loss_cases(g: torch.Generator) -> list[tuple[Any, ...]]:
    return [(_toy_model, pictures(s, g), times(s[0], g), noise(s, g), random_alpha_bar(g)) for s in SHAPES]


def _mixed(x: Tensor, t: Tensor, e: Tensor, a: Tensor) -> Tensor:
    return at(a, t).sqrt() * x + (1 - at(a, t)).sqrt() * e


def my_loss(model: Callable[..., Tensor], x0: Tensor, t: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    ab = alpha_bar[t].view(-1, 1, 1, 1)
    x_t = ab.sqrt() * x0 + (1 - ab).sqrt() * eps
    return (model(x_t, t) - eps).square().mean()


LOSS = Exercise(
    lambda model, x0, t, eps, alpha_bar: denoising_loss(model, schedule_of(alpha_bar), x0, t, eps).mean(),
    _loss_cases,
    {
        "The network is asked to predict the noise: compare its answer with eps, not with x0.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - x).square().mean()
        ),
        "The answer is compared with x_t. The target is eps, the noise that was mixed in.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - _mixed(x, t, e, a)).square().mean()
        ),
        "The network sees the clean picture: give it x_t.": lambda m, x, t, e, a: (m(x, t) - e).square().mean(),
        "The network sees the noise itself: give it x_t.": lambda m, x, t, e, a: (m(e, t) - e).square().mean(),
        "That is the sum; take the mean, so that the loss does not grow with the size of the pictures.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).square().sum()
        ),
        "That is the absolute error; DDPM squares it.": lambda m, x, t, e, a: (
            (m(_mixed(x, t, e, a), t) - e).abs().mean()
        ),
        "That is the root of the mean square; leave out the root.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).square().mean().sqrt()
        ),
        "The square comes before the mean: errors of opposite sign must not cancel.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).mean().square()
        ),
        "The mean over the batch comes before the square: the errors of different pictures must not cancel.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).mean(0).square().mean()
        ),
        "That is a sum over the pixels and a mean over the batch alone: take the mean over both.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).square().flatten(1).sum(1).mean()
        ),
        "Noise is drawn twice: the target must be the same eps that was mixed in, not other noise.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - torch.randn_like(e)).square().mean()
        ),
        "Noise is drawn twice: mix in the eps that was handed over, the one that is compared with.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, torch.randn_like(e), a), t) - e).square().mean()
        ),
        "Both square roots are missing where x_t is mixed.": (
            lambda m, x, t, e, a: (m(at(a, t) * x + (1 - at(a, t)) * e, t) - e).square().mean()
        ),
        "The network is told t - 1. In this course t = 0 is the picture, and the network is told t itself.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t - 1) - e).square().mean()
        ),
        "The network is not told the time: pass t as the second argument.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), torch.zeros_like(t)) - e).square().mean()
        ),
        "The target is already multiplied by √(1 - alpha_bar); the network is to predict eps itself.": (
            lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - (1 - at(a, t)).sqrt() * e).square().mean()
        ),
    },
    answer=my_loss,
    library=[denoising_loss],
    equation=r"L = \operatorname{mean}\left(\hat\varepsilon(x_t, t) - \varepsilon\right)^2",
)


NO_ZERO = "The old gradients are still there, and backward adds to them: call optimizer.zero_grad() before it."
ZERO_LAST = "zero_grad comes last. The network may come with old gradients: forget them before backward."
ZERO_BETWEEN = "zero_grad stands between backward and step: it forgets the gradient before it is used."
STEP_FIRST = "The step is taken before backward, so without the new gradient: first backward, then step."
NO_STEP = "The gradient is worked out and never used: optimizer.step() is missing."
NO_BACKWARD = "No gradient is worked out: loss.backward() is missing, so the network learns nothing."
NO_GRAPH = "The loss does not lead back to the weights: no torch.no_grad(), detach() or item() before backward."
NO_MEAN = "backward wants one number: take the mean over the whole batch first, pictures and pixels."
DRAWS = "It draws random numbers of its own: noise drawn twice. The eps handed over is mixed in and is the target, too."
NO_LOSS = "The network is trained, but the loss is not handed back: end with `return loss`."
NETWORK = "It hands back the network, which has changed in place anyway: return the loss."
IN_PLACE = "It changes its input in place (+=, mul_ and the like); make a new tensor instead."


class _FourWeights(nn.Module):
    """A network of four weights, with an old gradient; it notes when its gradients are forgotten (z) or found (b)."""

    def __init__(self) -> None:
        super().__init__()
        self.log = ""
        self.weights = nn.Parameter(torch.tensor([0.5, -0.3, 0.2, 0.1], dtype=torch.float64))
        self.weights.grad = torch.tensor([1.0, -2.0, 3.0, -4.0], dtype=torch.float64)
        self.weights.register_hook(self._found)

    def _found(self, _: Tensor) -> None:
        self.log += "b"

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.log += "z"
        super().zero_grad(set_to_none)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        w = self.weights
        return w[0] * x_t + w[1] * x_t.roll(1, -1) + w[2] * t.to(x_t.dtype).view(-1, 1, 1, 1).sin() + w[3]


class _Momentum(torch.optim.SGD):
    """Steps with momentum, noted (s) in the log of the network."""

    def __init__(self, model: _FourWeights) -> None:
        super().__init__(model.parameters(), lr=0.1, momentum=0.9)
        self.model = model
        self.register_step_post_hook(self._stepped)  # after a closure, if there is one

    def _stepped(self, *_: Any) -> None:
        self.model.log += "s"

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.model.log += "z"
        super().zero_grad(set_to_none)


def _two_steps(answer: Callable[..., Any]) -> Callable[..., Any]:
    """Two steps of the learner's on a small network: both losses, and the weights afterwards."""

    def run(*case: Tensor) -> tuple[Any, Any, Tensor] | None:
        model = _FourWeights()
        optimizer, weights = _Momentum(model), model.weights.detach().clone()
        losses = []
        for _ in range(2):
            model.log, before, given = "", torch.get_rng_state(), [tensor.clone() for tensor in case]
            try:
                loss = answer(model, optimizer, *given)
            except RuntimeError as error:
                if "only for scalar outputs" in str(error):
                    raise Wrong(NO_MEAN) from error
                if "does not require grad" in str(error):
                    raise Wrong(NO_GRAPH) from error
                raise
            losses.append(loss.detach() if isinstance(loss, Tensor) else loss)
            if (loss is None or loss is ...) and not model.log:
                return None
            _look(model.log, loss, moved=not torch.equal(model.weights.detach(), weights))
            if not torch.equal(torch.get_rng_state(), before):
                raise Wrong(DRAWS)
            if any(not torch.equal(a, b) for a, b in zip(given, case, strict=True)):
                raise Wrong(IN_PLACE)
        return losses[0], losses[1], model.weights.detach()

    return run


def _look(log: str, loss: Any, *, moved: bool) -> None:
    """Name what the order of the calls in one step already shows."""
    if re.match("z*s.*b", log):
        raise Wrong(STEP_FIRST)
    if re.search("bz+s", log):
        raise Wrong(ZERO_BETWEEN)
    if "b" not in log and ("s" in log or not moved):
        raise Wrong(NO_BACKWARD)
    if "s" not in log and not moved:
        raise Wrong(NO_STEP)
    if loss is None or loss is ...:
        raise Wrong(NO_LOSS)
    if isinstance(loss, nn.Module):
        raise Wrong(NETWORK)


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


def _step_on(loss_of: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The right step on another loss."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, *case: Tensor) -> Tensor:
        loss = loss_of(model, *case)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def _in_order(*calls: str) -> Callable[..., Tensor]:
    """The right loss with the calls in another order."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, *case: Tensor) -> Tensor:
        loss = my_loss(model, *case)
        known: dict[str, Callable[..., Any]] = {
            "zero": optimizer.zero_grad,
            "backward": loss.backward,
            "step": optimizer.step,
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
    each = [
        my_training_step(model, optimizer, x0[i : i + 1], t[i : i + 1], eps[i : i + 1], alpha_bar)
        for i in range(len(x0))
    ]
    return torch.stack(each).mean()


TRAINING_STEP = Exercise(
    _library_step,
    lambda g: [(pictures(s, g), times(s[0], g), noise(s, g), random_alpha_bar(g)) for s in SHAPES],
    {
        NO_ZERO: _in_order("backward", "step"),
        ZERO_LAST: _in_order("backward", "step", "zero"),
        ZERO_BETWEEN: _in_order("backward", "zero", "step"),
        STEP_FIRST: _in_order("zero", "step", "backward"),
        NO_STEP: _in_order("zero", "backward"),
        NO_BACKWARD: _in_order("zero", "step"),
        NO_GRAPH: _step_on(torch.no_grad()(my_loss)),
        NO_MEAN: _step_on(lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).square().flatten(1).mean(1)),
        DRAWS: _step_on(lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - torch.randn_like(e)).square().mean()),
        NO_LOSS: lambda *case: (my_training_step(*case), None)[1],
        NETWORK: lambda *case: (my_training_step(*case), case[0])[1],
        "The loss is against the wrong target, the picture: the network is to predict eps.": (
            _step_on(lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - x).square().mean())
        ),
        "The loss is against the wrong target, x_t: the network is to predict eps, the noise in it.": (
            _step_on(lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - _mixed(x, t, e, a)).square().mean())
        ),
        "The network is told t - 1; tell it t itself.": (
            _step_on(lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t - 1) - e).square().mean())
        ),
        "The gradient is that of a sum: take the mean, so that a step does not grow with the size of the pictures.": (
            _step_on(lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).square().sum())
        ),
        "The mean over the batch comes before the square: the errors of different pictures must not cancel.": (
            _step_on(lambda m, x, t, e, a: (m(_mixed(x, t, e, a), t) - e).mean(0).square().mean())
        ),
        "There is a step for each picture: take the mean over the batch first, then one backward and one step.": (
            _one_by_one
        ),
        "That is the loss after the step; hand back the one that backward was called on.": _loss_afterwards,
    },
    answer=my_training_step,
    library=[denoising_loss, training_loop],
    equation=r"\theta \leftarrow \theta - \text{lr}\;\nabla_\theta \operatorname{mean}"
    r"\left(\hat\varepsilon_\theta(x_t, t) - \varepsilon\right)^2",
    adapt=_two_steps,
    praise="The same losses and the same weights after two steps as with the library's loss, old gradients forgotten.",
)


def _ema(average: Tensor, weights: Tensor, decay: float) -> Tensor:
    """One update of the library's EMA, far enough into a run that its decay is the one asked for."""
    ours, theirs = (torch.nn.ParameterList([torch.nn.Parameter(w.clone())]) for w in (average, weights))
    ema = EMA(ours, decay)
    ema.updates = 10**6
    ema.update(theirs)
    return next(iter(ema.model.parameters())).detach()


def my_ema(average: Tensor, weights: Tensor, decay: float) -> Tensor:
    return decay * average + (1 - decay) * weights


EMA_UPDATE = Exercise(
    _ema,
    lambda g: [(noise((3, 4), g), noise((3, 4), g), 0.9), (noise((5,), g), noise((5,), g), 0.995)],
    {
        "decay and 1 - decay are swapped: a decay near 1 keeps almost all of the average.": (
            lambda m, w, d: (1 - d) * m + d * w
        ),
        "The new weights enter whole: weigh them by 1 - decay, so that the two weights add up to 1.": (
            lambda m, w, d: d * m + w
        ),
        "The old average must shrink by decay, or it grows without end.": lambda m, w, d: m + (1 - d) * w,
        "That is the plain mean of the two; decay says how much of the average stays.": lambda m, w, d: (m + w) / 2,
        "The sign is wrong: the average moves towards the weights, not away from them.": (
            lambda m, w, d: m - (1 - d) * (w - m)
        ),
    },
    answer=my_ema,
    library=[EMA],
    equation=r"m \leftarrow d\,m + (1 - d)\,w",
)


def _loss_of_zero() -> float:
    """The loss of a network that answers 0, on noise of variance 1 to the last digit."""
    g = torch.Generator().manual_seed(0)
    x0, eps = pictures((8, 1, 8, 8), g), noise((8, 1, 8, 8), g)
    eps /= eps.square().mean().sqrt()
    model: Any = lambda x_t, t, y: torch.zeros_like(x_t)  # noqa: E731 - stands in for a network
    return round(denoising_loss(model, make_schedule("cosine"), x0, torch.arange(1, 9), eps).mean().item(), 6)


FIRST_LOSS = Question(
    _loss_of_zero,
    "The error is eps itself, and the mean of its square is the variance of N(0, 1).",
    {
        0: "The answer is 0, but the noise is not: the error is 0 - eps.",
        0.5: "Half of what? The error is 0 - eps; take the mean of its square.",
        2: "That would be an answer as large as the noise and unlike it. The answer is 0, so the error is eps alone.",
        784: "That is the sum over the 784 pixels; the loss is the mean.",
    },
    tolerance=1e-3,
)


def _hardest() -> str:
    """Where the best guess at the noise is worst, for pictures whose pixels are N(0, 1/4): a² v / (a² v + b²)."""
    schedule = make_schedule("cosine")
    at_t = {"a": 20, "b": 500, "c": 980}
    error = {letter: float(1 / (1 + 4 / schedule.snr[t])) for letter, t in at_t.items()}
    if max(error.values()) < 2 * min(error.values()):
        return "d"
    return max(error, key=lambda letter: error[letter])


HARD_TIMES = Choice(
    _hardest,
    "There the noise is a whisper: x_t is nearly all picture, and little of eps can be read off it.",
    {
        "b": "In the middle both halves are there to be read. Where is the noise hardest to see?",
        "c": "There the picture is hard to guess. But the network is asked for the noise, and x_t is nearly all noise.",
        "d": "The noise itself is the same at every t; how much of it the network can see in x_t is not.",
    },
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "embedding": EMBEDDING,
    "x0_hat": X0_HAT,
    "loss": LOSS,
    "first_loss": FIRST_LOSS,
    "training_step": TRAINING_STEP,
    "ema": EMA_UPDATE,
    "hard_times": HARD_TIMES,
}
