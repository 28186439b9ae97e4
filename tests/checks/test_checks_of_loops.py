"""The checks of the training step and of the sampling loop, which hand the learner's function a network."""

# mypy: allow-untyped-defs
from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from course_lib.checkpoint import load_shipped
from course_lib.checks import (
    CORRECT,
    EXERCISES,
    NOT_DONE,
    REMARK,
    WRONG,
    check,
    effects,
    nb04_loss,
    nb04_step,
    nb05_loop,
    nb05_step,
)
from course_lib.checks.inputs import FLOAT_TIMES, ONE_TIME_EACH
from course_lib.checks.judge import ON_THE_CPU
from course_lib.data import load_fashion_mnist
from course_lib.objective import denoising_loss


def told(name, answer):
    """Status and message, in one word where it is correct."""
    result = check(name, answer)
    return CORRECT if result.status == CORRECT else (result.status, result.message)


def mixed(x0, t, eps, alpha_bar):
    ab = alpha_bar[t][:, None, None, None]
    return ab**0.5 * x0 + (1 - ab) ** 0.5 * eps


# ------------------------------------------------------------------------------------------------- the training step


def zero_first(model, optimizer, x0, t, eps, alpha_bar):
    model.train()
    model.zero_grad()
    loss = F.mse_loss(model(mixed(x0, t, eps, alpha_bar), t), eps)
    loss.backward()
    optimizer.step()
    return loss.item()


def gradient_by_hand(model, optimizer, x0, t, eps, alpha_bar):
    loss = F.mse_loss(model(mixed(x0, t, eps, alpha_bar), t), eps)
    parameters = [*model.parameters()]
    for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        p.grad = gradient
    optimizer.step()
    return loss


def in_parts(model, optimizer, x0, t, eps, alpha_bar):
    optimizer.zero_grad(set_to_none=False)
    losses = []
    for i in range(len(x0)):
        one = slice(i, i + 1)
        loss = F.mse_loss(model(mixed(x0[one], t[one], eps[one], alpha_bar), t[one]), eps[one]) / len(x0)
        loss.backward()
        losses.append(loss.detach())
    optimizer.step()
    return sum(losses)


def with_a_closure(model, optimizer, x0, t, eps, alpha_bar):
    def closure():
        optimizer.zero_grad()
        loss = nb04_loss.my_loss(model, x0, t, eps, alpha_bar)
        loss.backward()
        return loss

    return optimizer.step(closure)


@pytest.mark.parametrize("answer", [zero_first, gradient_by_hand, in_parts, with_a_closure])
def test_training_step_organized_in_another_way(answer):
    assert told("training_step", answer) == CORRECT


def orders(*calls):
    def step(model, optimizer, *case):
        loss = nb04_loss.my_loss(model, *case)
        for call in calls:
            {"z": model.zero_grad, "b": loss.backward, "s": optimizer.step}[call]()
        return loss

    return step


@pytest.mark.parametrize(
    ("calls", "sentence"),
    [
        ("", nb04_step.NO_BACKWARD),
        ("s", nb04_step.NO_BACKWARD),
        ("b", nb04_step.NO_STEP),
        ("bz", nb04_step.NO_STEP),
        ("sb", nb04_step.STEP_FIRST),
        ("szb", nb04_step.STEP_FIRST),
        ("sbz", nb04_step.STEP_FIRST),
        ("zbzs", nb04_step.ZERO_BETWEEN),
        ("bzs", nb04_step.ZERO_BETWEEN),
        ("bs", nb04_step.NO_ZERO),
        ("bsz", nb04_step.ZERO_LAST),
    ],
)
def test_training_step_in_every_wrong_order(calls, sentence):
    assert told("training_step", orders(*calls)) == (WRONG, sentence)


def other_noise(model, optimizer, x0, t, eps, alpha_bar):
    eps = torch.randn(x0.shape)
    return zero_first(model, optimizer, x0, t, eps.double(), alpha_bar)


def other_times(model, optimizer, x0, t, eps, alpha_bar):
    return zero_first(model, optimizer, x0, torch.randint_like(t, 1, 20), eps, alpha_bar)


def in_place(model, optimizer, x0, t, eps, alpha_bar):
    ab = alpha_bar[t][:, None, None, None]
    x0 *= ab.sqrt()
    x0 += (1 - ab).sqrt() * eps
    optimizer.zero_grad()
    loss = F.mse_loss(model(x0, t), eps)
    loss.backward()
    optimizer.step()
    return loss


def one_loss_each(model, optimizer, x0, t, eps, alpha_bar):
    loss = (model(mixed(x0, t, eps, alpha_bar), t) - eps).square().mean(dim=(1, 2, 3))
    optimizer.zero_grad()
    loss.mean().backward()
    optimizer.step()
    return loss


def no_loss(*case):
    zero_first(*case)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (other_noise, "use eps instead"),
        (other_times, "use t instead"),
        (in_place, effects.IN_PLACE),
        (no_loss, nb04_step.NO_LOSS),
        (lambda *case: (zero_first(*case), case[0])[1], nb04_step.NETWORK),
        (lambda *case: (zero_first(*case), case[0]), "must return a number, but returns a tuple"),
        (lambda *case: str(zero_first(*case)), "must return a number, but returns a str"),
        (one_loss_each, "take the mean over everything"),
        (lambda *case: zero_first(*case) * float("nan"), "NaN"),
        (lambda *case: zero_first(*case) + 0.1, "differ by up to"),
        (lambda *case: nb04_loss.my_loss(case[0], *case[2:]).item().backward(), "raises AttributeError"),  # type: ignore[union-attr]
        (lambda *case: zero_first(*case[:2], *(x.float() for x in case[2:])), "raises IndexError"),
    ],
)
def test_training_step_survives_and_says_what_is_wrong(answer, words):
    result = check("training_step", answer)
    assert result.status == WRONG and words in result.message


# ------------------------------------------------------------------------------------------------- the sampling loop


@torch.no_grad()
def under_a_decorator(model, x_T, times, alpha_bar):
    model.train(False)
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    times = list(times)
    x, t = x_T, times.pop(0)
    while times:
        s = times.pop(0)
        eps_hat = model(x, torch.tensor([t] * len(x), device=x.device))
        x = signal[s] / signal[t] * (x - noise[t] * eps_hat) + noise[s] * eps_hat
        t = s
    return x


def detached_each_time(model, x_T, times, alpha_bar):
    was, x = model.training, x_T.clone()
    model.eval()
    for i in range(len(times) - 1):
        t = torch.ones(len(x), dtype=torch.int64, device=x.device) * times[i]
        x = nb05_step.my_ddim_step(x, model(x, t), times[i], times[i + 1], alpha_bar).detach()
    model.train(was)
    return x


@torch.inference_mode()
def with_a_recursion(model, x, times, alpha_bar):
    if len(times) == 1:
        return x
    t, s, *_ = times
    eps_hat = model.eval()(x, x.new_full((len(x),), t, dtype=torch.int32))
    return with_a_recursion(model, nb05_step.my_ddim_step(x, eps_hat, t, s, alpha_bar), times[1:], alpha_bar)


@pytest.mark.parametrize("answer", [under_a_decorator, detached_each_time, with_a_recursion])
def test_sampling_loop_organized_in_another_way(answer):
    assert told("sample", answer) == CORRECT


def loop(ask, step=nb05_step.my_ddim_step):
    """A right loop, but for what it asks or how it steps."""

    @torch.no_grad()
    def answer(model, x_T, times, alpha_bar):
        model.eval()
        x = x_T
        for t, s in pairwise(times):
            x = step(x, ask(model, x, t), t, s, alpha_bar)
        return x

    return answer


def full(model, x, t):
    return model(x, torch.full((len(x),), t, device=x.device))


def ddpm_like(x, eps_hat, t, s, alpha_bar):
    return nb05_step.my_ddim_step(x, eps_hat, t, s, alpha_bar) + (s > 0) * torch.normal(0.0, 1.0, x.shape)


def changes_its_input(x, eps_hat, t, s, alpha_bar):
    x -= (1 - alpha_bar[t]).sqrt() * eps_hat
    return x / alpha_bar[t].sqrt() * alpha_bar[s].sqrt() + (1 - alpha_bar[s]).sqrt() * eps_hat


def every_picture(model, x_T, times, alpha_bar):
    return [nb05_loop.my_sample(model, x_T, [*times[:i], 0], alpha_bar) for i in range(1, len(times))]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (loop(lambda m, x, t: m(x, t)), ONE_TIME_EACH),
        (loop(lambda m, x, t: m(x, torch.tensor(t))), ONE_TIME_EACH),
        (loop(lambda m, x, t: m(x, torch.tensor([t]))), ONE_TIME_EACH),
        (loop(lambda m, x, t: m(x, torch.ones(len(x)) * t)), FLOAT_TIMES),
        (loop(full, ddpm_like), nb05_loop.DRAWS),
        (loop(lambda m, x, t: full(m, torch.randn_like(x), t)), nb05_loop.DRAWS),
        (loop(full, changes_its_input), "in place"),
        (torch.enable_grad()(loop(full).__wrapped__), nb05_loop.GRADIENTS),
        (every_picture, "must return a tensor"),
        (loop(lambda m, x, t: full(m, x, t).sum()), "differ by up to"),
        (loop(lambda m, x, t: full(m, x, t) / 0), "NaN or infinity"),
        (loop(lambda m, x, t: full(m, x, t).no_such_thing), "raises AttributeError"),
        (
            lambda m, x, times, a: nb05_loop.my_sample(m, x, times, a)[:1],
            "returns shape (1, 1, 4, 4) where (4, 1, 4, 4)",
        ),
        (lambda m, x, times, a: nb05_loop.my_sample(m, x, [*times, 0], a), nb05_loop.ASKED_AT_0),
        (lambda m, x, times, a: nb05_loop.my_sample(m, x, times, a) * 2, "2 times what it should be"),
    ],
)
def test_sampling_loop_survives_and_says_what_is_wrong(answer, words):
    result = check("sample", answer)
    assert result.status == WRONG and words in result.message


@pytest.mark.parametrize("t", [lambda x, t: torch.tensor([t] * len(x)), lambda x, t: torch.full((len(x),), t)])
def test_sampling_loop_with_times_on_the_cpu_is_right_with_a_remark(t):
    assert told("sample", loop(lambda m, x, now: m(x, t(x, now)))) == (REMARK, ON_THE_CPU)


@pytest.mark.parametrize("name", ["training_step", "sample"])
def test_loops_not_done_yet(name):
    assert check(name, lambda *_: None).status == check(name, ...).status == NOT_DONE


# -------------------------------------------------------------------------------------------- what else has a device


def embedding_on_the_cpu(t, dim):
    angle = t[:, None] * 10000.0 ** (-2 * torch.arange(dim // 2) / dim)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def test_embedding_on_the_cpu_is_named():
    assert told("embedding", embedding_on_the_cpu) == (REMARK, ON_THE_CPU)


# ------------------------------------------------------------------------- what a network says to the predictions


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
