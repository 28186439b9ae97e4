"""Answers that ask or train a network, as people write them: right in any style, wrong with a true sentence."""

# mypy: allow-untyped-defs
from __future__ import annotations

import copy
import re
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from course_lib.checkpoint import load_shipped
from course_lib.checks import CORRECT, EXERCISES, REMARK, WRONG, check, effects, nb04_step, nb05_loop, nb06_networks
from course_lib.checks.inputs import FLOAT_TIMES, ONE_TIME_EACH, SHARE_OF_T
from course_lib.checks.judge import ON_THE_CPU
from course_lib.data import load_fashion_mnist
from course_lib.objective import denoising_loss


def c(v):
    return v[:, None, None, None]


def mixed(x0, t, eps, a):
    return c(a[t]) ** 0.5 * x0 + c(1 - a[t]) ** 0.5 * eps


def loss(model, x0, t, eps, a):
    return F.mse_loss(model(mixed(x0, t, eps, a), t), eps)


def guess(x, eps_hat, t, a):
    return (x - (1 - a[t]).sqrt() * eps_hat) / a[t].sqrt()


def ddim(x, eps_hat, t, s, a):
    return a[s].sqrt() * guess(x, eps_hat, t, a) + (1 - a[s]).sqrt() * eps_hat


# ---------------------------------------------------------------------------------------------- one training step


def update(loss_of=loss, calls="zbs"):
    def step(model, optimizer, *case):
        value = loss_of(model, *case)
        for call in calls:
            {"z": model.zero_grad, "b": value.backward, "s": optimizer.step, "e": model.eval}[call]()
        return value

    return step


def gradient_by_hand(model, optimizer, *case):
    value = loss(model.train(), *case)
    for p, gradient in zip(model.parameters(), torch.autograd.grad(value, [*model.parameters()]), strict=True):
        p.grad = gradient
    optimizer.step()
    return value.item()


def in_parts(model, optimizer, x0, t, eps, a):
    optimizer.zero_grad(set_to_none=False)
    losses = [loss(model, x0[[i]], t[[i]], eps[[i]], a) / len(t) for i in range(len(t))]
    for one in losses:
        torch.autograd.backward(one)
    optimizer.step()
    return sum(one.detach() for one in losses)


def with_a_closure(model, optimizer, *case):
    def closure():
        optimizer.zero_grad()
        value = loss(model, *case)
        value.backward()
        return value

    return optimizer.step(closure)


def by_hand(model, optimizer, *case):
    value = update(calls="zb")(model, optimizer, *case)
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.1 * p.grad
    return value


def halved(model, optimizer, *case):
    value = loss(model, *case)
    optimizer.zero_grad()
    (value / 2).backward()
    optimizer.step()
    return value


def in_place(model, optimizer, x0, t, eps, a):
    x0 *= c(a[t].sqrt())
    x0 += c((1 - a[t]).sqrt()) * eps
    return update(lambda model, *_: F.mse_loss(model(x0, t), eps))(model, optimizer, x0, t, eps, a)


# ---------------------------------------------------------------------------------------------- the sampling loop


def times_of(x, t):
    return torch.full((len(x),), t, device=x.device)


def walk(ask=lambda m, x, t, s: m(x, times_of(x, t)), step=ddim, gradients=False, end=lambda x: x):
    def answer(model, x, times, a):
        model.eval()
        with torch.set_grad_enabled(gradients):
            for t, s in pairwise(times):
                x = step(x, ask(model, x, t, s), t, s, a)
        return end(x)

    return answer


@torch.no_grad()
def popping(model, x, times, a):
    model.train(False)
    t = times.pop(0)
    while times:
        s = times.pop(0)
        x, t = ddim(x, model(x, torch.tensor([t] * len(x), device=x.device)), t, s, a), s
    return x


@torch.inference_mode()
def recursive(model, x, times, a):
    if len(times) == 1:
        return x
    t, s, *_ = times
    eps_hat = model.eval()(x, x.new_full((len(x),), t, dtype=torch.int32))
    return recursive(model, ddim(x, eps_hat, t, s, a), times[1:], a)


def restoring(model, x, times, a):
    was, answer = model.training, walk()(model, x.clone(), times, a)
    model.train(was)
    return answer


def changing(x, eps_hat, t, s, a):
    x -= (1 - a[t]).sqrt() * eps_hat
    return x / a[t].sqrt() * a[s].sqrt() + (1 - a[s]).sqrt() * eps_hat


def stirred(x, eps_hat, t, s, a):
    return ddim(x, eps_hat, t, s, a) + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


# ---------------------------------------------------------------------------------------------- networks, drawing


def through(deep=lambda net, x: net.dense(x), skips=lambda skips: skips[::-1], end=lambda x: x):
    def forward(net, x):
        x, kept = net.stem(x), []
        for block in net.down:
            x = block(x)
            kept.append(x)
        x = net.unflatten(deep(net, net.flatten(x)))
        for block, skip in zip(net.up, skips(kept), strict=True):
            x = block(x, skip)
        return end(net.out(x))

    return forward


def clean(net, x, end=lambda x: x):
    was = net.training
    answer = end(net.eval()(x))
    net.train(was)
    return answer


def draw(told=lambda times, i: times[i], full=times_of, afterwards=lambda model, times: None):
    def answer(model, x, times, a):
        for i, (t, s) in enumerate(pairwise(times)):
            x0_hat = guess(x, model(x, full(x, told(times, i))), t, a).clamp(-1, 1)
            x = a[s].sqrt() * x0_hat + (1 - a[s]).sqrt() * (x - a[t].sqrt() * x0_hat) / (1 - a[t]).sqrt()
        afterwards(model, times)
        return x

    return answer


RIGHT: dict[str, list[Any]] = {
    "loss": [
        loss,
        lambda m, x0, t, eps, a: (eps - m(mixed(x0, t, eps, a), t)).pow(2).sum() / eps.numel(),
        lambda m, x0, t, eps, a: (m(mixed(x0, t, eps, a), t) - eps).square().flatten(1).mean(1).mean(),
    ],
    "training_step": [
        gradient_by_hand, in_parts, with_a_closure, update(), lambda model, *case: update()(model.train(), *case).cpu(),
    ],
    "sample": [
        walk(), recursive, restoring, lambda m, x, times, a: popping(m, x, [*times], a),
        walk(gradients=True, step=lambda *case: ddim(*case).detach()),
    ],
    "mend_7": [through(), lambda net, x: net(x)],
    "mend_8": [clean, lambda net, x: copy.deepcopy(net).eval()(x)],
    "mend_9": [draw(), torch.no_grad()(draw()), draw(afterwards=lambda model, times: model.eval())],
}  # fmt: skip

#: Right on this machine.
ON_ONE_DEVICE = {
    "sample": walk(lambda m, x, t, s: m(x, torch.tensor([t] * len(x)))),
    "mend_9": draw(full=lambda x, t: torch.full((len(x),), t)),
}

WRONG_ANSWERS = [
    ("loss", torch.no_grad()(loss), effects.NO_GRADIENT),
    ("loss", lambda *case: loss(*case).item(), effects.NO_GRADIENT),
    ("loss", lambda model, *case: loss(model.eval(), *case), effects.MODE),
    ("loss", lambda m, x0, t, eps, a: loss(m, x0, t, torch.randn_like(eps), a), "use eps instead"),
    ("loss", lambda m, x0, t, eps, a: loss(m, x0, torch.randint(1, 21, t.shape), eps, a), "use t instead"),
    (
        "loss",
        lambda m, x0, t, eps, a: F.mse_loss(m(mixed(x0, t, eps, a), t), torch.randn_like(eps)),
        "Nothing is to be drawn",
    ),
    ("loss", lambda m, x0, t, eps, a: (mixed(x0, t, eps, a) - eps).square().mean(), "The network is never asked"),
    ("loss", lambda m, x0, t, eps, a: F.mse_loss(m(mixed(x0, t, eps, a), t / 20), eps), SHARE_OF_T),
    ("loss", lambda m, x0, t, eps, a: F.mse_loss(m(mixed(x0, t, eps, a), t.float()), eps), FLOAT_TIMES),
    ("loss", lambda m, x0, t, eps, a: F.mse_loss(m(mixed(x0, t, eps, a), t[:1]), eps), ONE_TIME_EACH),
    ("loss", lambda m, x0, t, eps, a: F.mse_loss(m(mixed(x0, t, eps, a)), eps), "missing 1 required positional"),
    ("training_step", lambda m, o, x0, t, e, a: update()(m, o, x0, t, torch.randn_like(e), a), "use eps instead"),
    (
        "training_step",
        lambda m, o, x0, t, e, a: update()(m, o, x0, torch.randint_like(t, 1, 20), e, a),
        "use t instead",
    ),
    ("training_step", update(lambda m, *case: loss(copy.deepcopy(m), *case)), nb04_step.CUT_OFF),
    ("training_step", update(lambda *case: torch.tensor(loss(*case).item(), requires_grad=True)), nb04_step.CUT_OFF),
    ("training_step", update(lambda *case: loss(*case).detach()), nb04_step.NO_GRAPH),
    ("training_step", by_hand, nb04_step.OWN_STEP),
    ("training_step", update(calls="zbbs"), "raises RuntimeError"),
    ("training_step", halved, nb04_step.OTHER_MOVE),
    ("training_step", update(calls="zebs"), nb04_step.EVAL_MODE),
    ("training_step", in_place, effects.IN_PLACE),
    ("training_step", lambda *case: (update()(*case), case[0]), "must return a number, but returns a tuple"),
    ("training_step", lambda *case: update()(*case) * float("nan"), "NaN"),
    ("sample", popping, effects.LIST_IN_PLACE),
    ("sample", lambda m, x, times, a: (times.append(0), walk()(m, x, times[:-1], a))[1], effects.LIST_IN_PLACE),
    ("sample", lambda m, x, times, a: walk()(m, x, [*times, 0], a), nb05_loop.ASKED_AT_0),
    ("sample", walk(gradients=True), nb05_loop.GRADIENTS),
    ("sample", walk(gradients=True, end=lambda x: x.detach()), nb05_loop.GRADIENTS),
    ("sample", walk(step=stirred), nb05_loop.DRAWS),
    ("sample", walk(step=changing), effects.IN_PLACE),
    ("sample", walk(lambda m, x, t, s: m(x, torch.tensor([t]))), ONE_TIME_EACH),
    ("sample", walk(lambda m, x, t, s: m(x, torch.ones(len(x)) * t)), FLOAT_TIMES),
    ("sample", walk(lambda m, x, t, s: m(x, torch.ones(len(x)) * t / 20)), SHARE_OF_T),
    ("sample", walk(end=lambda x: x[:1]), "returns shape (1, 1, 4, 4) where"),
    ("sample", walk(end=lambda x: [x]), "must return a tensor"),
    ("sample", walk(lambda m, x, t, s: m(x, times_of(x, t)) / 0), "NaN or infinity"),
    ("mend_7", through(skips=lambda skips: skips), "from the wrong end"),
    ("mend_7", through(end=lambda x: x.clamp(-1, 1)), nb06_networks.CLAMPED),
    ("mend_7", through(deep=lambda net, x: net.dense(x).detach()), effects.GRADIENT_CUT),
    ("mend_7", through(deep=lambda net, x: net.dense(x.detach())), effects.GRADIENT_CUT),
    ("mend_7", torch.no_grad()(through()), effects.NO_GRADIENT),
    ("mend_8", lambda net, x: clean(net, x, end=lambda y: y.clamp(-1, 1)), nb06_networks.CLAMPED),
    ("mend_9", draw(afterwards=lambda model, times: times.pop()), effects.LIST_IN_PLACE),
    ("mend_9", draw(told=lambda times, i: times[i] / 20), SHARE_OF_T),
    ("mend_9", draw(full=lambda x, t: torch.tensor([t])), ONE_TIME_EACH),
]


@pytest.mark.parametrize(("name", "i"), [(name, i) for name, answers in RIGHT.items() for i in range(len(answers))])
def test_right_in_another_style(name, i):
    result = check(name, RIGHT[name][i])
    assert result.status == CORRECT, result


@pytest.mark.parametrize("name", ON_ONE_DEVICE)
def test_right_here_with_a_remark_on_gpus(name):
    result = check(name, ON_ONE_DEVICE[name])
    assert (result.status, result.message) == (REMARK, ON_THE_CPU)


@pytest.mark.parametrize("i", range(len(WRONG_ANSWERS)))
def test_wrong_with_a_sentence_that_is_true(i):
    name, answer, words = WRONG_ANSWERS[i]
    result = check(name, answer)
    assert result.status == WRONG and words in result.message, result
    assert not re.search(r"\b_[A-Za-z]", result.message), result  # no name from inside


@pytest.mark.parametrize(
    ("calls", "sentence"),
    [("", "NO_BACKWARD"), ("s", "NO_BACKWARD"), ("b", "NO_STEP"), ("bz", "NO_STEP"), ("sb", "STEP_FIRST"),
     ("szb", "STEP_FIRST"), ("sbz", "STEP_FIRST"), ("zbzs", "ZERO_BETWEEN"), ("bs", "NO_ZERO"), ("bsz", "ZERO_LAST"),
     ("zbss", "STEP_TWICE")],
)  # fmt: skip
def test_the_calls_of_a_training_step_in_every_wrong_order(calls, sentence):
    assert check("training_step", update(calls=calls)).message == getattr(nb04_step, sentence)


@torch.no_grad()
def test_the_network_of_the_course_agrees_on_which_timesteps_are_hard():
    made = load_shipped()
    x0 = load_fashion_mnist("test", source="packaged")[:16]
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    losses = {
        letter: denoising_loss(made.model, made.schedule, x0, torch.full((16,), t), eps).mean().item()
        for letter, t in {"a": 20, "b": 500, "c": 980}.items()
    }
    assert max(losses, key=losses.__getitem__) == EXERCISES["hard_times"].solution()
    assert losses["a"] > 2 * losses["c"]
