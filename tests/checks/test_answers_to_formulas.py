"""Answers to the formulas of notebooks 03 to 06 as people write them: right in any style, wrong with a true sentence.

The mistakes that an exercise holds are tested in test_checks.py. Here are those that are found in another way.
"""

# mypy: allow-untyped-defs
from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from course_lib.checks import CORRECT, REMARK, WRONG, check, effects
from course_lib.checks.judge import ON_THE_CPU


def c(v):
    return v[:, None, None, None]


def betas(kind, T, low=None, cap=0.999):
    """All four kinds in float32."""
    if kind == "cosine":
        f = torch.cos((torch.linspace(0, T, T + 1) / T + 0.008) / 1.008 * math.pi / 2) ** 2
        return torch.clip(1 - f[1:] / f[:-1], low, cap)
    if kind == "quadratic":
        return torch.linspace(0.01, 0.02**0.5, T) ** 2
    return torch.linspace(0.0001, 0.02, T) if kind == "linear" else torch.linspace(-6, 6, T).sigmoid() * 0.0199 + 0.0001


def betas_in_plain_python(kind, T):
    f = [math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(T + 1)]
    cosine = [min(1 - after / before, 0.999) for before, after in pairwise(f)]
    return torch.tensor(cosine, dtype=torch.float64) if kind == "cosine" else betas(kind, T).double()


def rescaled_in_place(alpha_bar):
    a = alpha_bar.sqrt()
    a = (a - a[-1]) * a[1] / (a[1] - a[-1])
    a[0] = 1
    return a**2


def mean(x_t, x0, t, a):
    now, before = a[t], a[t - 1]
    return (c((now / before).sqrt() * (1 - before)) * x_t + c(before.sqrt() * (1 - now / before)) * x0) / c(1 - now)


def angle(t, dim):
    return t[:, None] * 10000.0 ** (-torch.arange(0, dim, 2, device=t.device) / dim)


def mixed(x0, t, eps, a):
    return c(a[t]) ** 0.5 * x0 + c(1 - a[t]) ** 0.5 * eps


def guess(x, eps_hat, t, a):
    return (x - (1 - a[t]).sqrt() * eps_hat) / a[t].sqrt()


def ddim(x, eps_hat, t, s, a):
    return a[s].sqrt() * guess(x, eps_hat, t, a) + (1 - a[s]).sqrt() * eps_hat


def var(s, t, a):
    return (1 - a[s]) / (1 - a[t]) * (1 - a[t] / a[s])


def mu(x, eps_hat, t, a):
    """The mean of DDPM's step in the papers' form."""
    alpha = a[t] / a[t - 1]
    return (x - (1 - alpha) / (1 - a[t]).sqrt() * eps_hat) / alpha.sqrt()


RIGHT: dict[str, list[Any]] = {
    "q_step": [
        lambda x, t, betas, z: z * betas[t - 1] ** 0.5 + x * (1 - betas)[t - 1] ** 0.5,
        lambda x, t, betas, z: math.sqrt(1 - betas[t - 1]) * x + math.sqrt(betas[t - 1]) * z,
    ],
    "alpha_bar": [
        lambda b: torch.exp(torch.cat([torch.zeros_like(b[:1]), torch.log(1 - b)]).cumsum(0)),
        lambda b: F.pad((1 - b).cumprod(0), (1, 0), value=1),
        lambda b: torch.cumprod(torch.cat([b.new_ones(1), 1 - b]), 0),
        lambda b: torch.stack([(1 - b[:t]).prod() for t in range(len(b) + 1)]),
    ],
    "q_sample": [
        mixed,
        lambda x0, t, eps, a: torch.einsum("b,bchw->bchw", a[t].sqrt(), x0) + c((1 - a[t]).sqrt()) * eps,
        lambda x0, t, eps, a: torch.stack(
            [a[i].sqrt() * x + (1 - a[i]).sqrt() * e for x, e, i in zip(x0, eps, t, strict=True)]
        ),
    ],
    "betas": [betas, betas_in_plain_python, lambda kind, T: betas(kind, T).double()],
    "posterior_variance": [
        lambda t, a: (1 - a[t - 1]) * (a[t - 1] - a[t]) / (a[t - 1] * (1 - a[t])),
        lambda t, a: var(t - 1, t, a).clamp(min=1e-20),
        lambda t, a: 1 / (a[t] / (a[t - 1] - a[t]) + 1 / (1 - a[t - 1])),
    ],
    "posterior_mean": [
        mean,
        lambda x_t, x0, t, a: torch.stack([mean(x_t[[i]], x0[[i]], t[[i]], a)[0] for i in range(len(t))]),
    ],
    "embedding": [
        lambda t, dim: torch.hstack([angle(t, dim).cos(), angle(t, dim).sin()]),
        lambda t, dim: torch.view_as_real(torch.exp(1j * angle(t, dim))).movedim(-1, 1).flatten(1),
    ],
    "x0_hat": [
        lambda x, e, t, a: c(a[t] ** -0.5) * x - c((1 / a[t] - 1) ** 0.5) * e,
        lambda x, e, t, a: (x - c((1 - a)[t].sqrt()) * e) * c(a[t].rsqrt()),
    ],
    "ema": [
        lambda average, weights, decay: torch.lerp(weights, average, decay),
        lambda average, weights, decay: average.clone().mul_(decay).add_(weights, alpha=1 - decay),
    ],
    "ddim_step": [
        lambda x, e, t, s, a: (
            (a[s] / a[t]).sqrt() * x + ((1 - a[s]).sqrt() - (a[s] * (1 - a[t]) / a[t]).sqrt()) * e
        ),
        lambda x, e, t, s, a: ddim(x, e, t, s, a) if s else guess(x, e, t, a),
    ],
    "ddpm_step": [
        lambda x, e, z, t, a: mu(x, e, t, a) + (var(t - 1, t, a).sqrt() * z if t > 1 else 0),
        lambda x, e, z, t, a: mu(x, e, t, a) + (0.5 * var(t - 1, t, a).clamp(min=1e-20).log()).exp() * z,
        lambda x, e, z, t, a: mean(x, guess(x, e, t, a), torch.tensor([t]), a) + var(t - 1, t, a).sqrt() * z,
    ],
    "mend_3": [rescaled_in_place, lambda ab: torch.where(ab < 1, rescaled_in_place(ab), 1.0)],
    "mend_6": [
        lambda x, t, T: torch.cat([x, torch.ones_like(x[:, :1]) * c(t / T)], dim=1),
        lambda x, t, T: torch.stack(
            [torch.cat([one, torch.full_like(one[:1], k / T)]) for one, k in zip(x, t.tolist(), strict=True)]
        ),
    ],
    "mend_11": [
        lambda s, t, a: math.sqrt(var(s, t, a)),
        lambda s, t, a: var(s, t, a).sqrt() if s else torch.zeros(()),
    ],
}  # fmt: skip

#: Right on this machine.
ON_ONE_DEVICE = {
    "alpha_bar": lambda b: torch.cat([torch.ones(1), (1 - b).cumprod(0)]),
    "mend_1": lambda b: torch.cat([torch.ones(1), (1 - b).cumprod(0)]),  # as notebook 06 itself writes in case 3
    "embedding": lambda t, dim: torch.cat([angle(t.cpu(), dim).cos(), angle(t.cpu(), dim).sin()], dim=1),
}

WRONG_ANSWERS = [
    ("q_step", lambda x, t, b, z: (1 - b[t - 1]).sqrt() * x + b[t - 1].sqrt() * torch.randn_like(x), "use z instead"),
    ("q_step", lambda x, t, b, z: (1 - b[t - 1]).sqrt() * x, "never uses z"),
    ("q_sample", lambda x0, t, eps, a: mixed(x0, t, torch.randn(x0.shape), a), "use eps instead"),
    ("betas", lambda kind, T: betas(kind, T, 0.0001, 0.9999), "clip to 0.0001..0.9999, as a well-known blog"),
    ("betas", lambda kind, T: betas("linear", T), "quadratic: the numbers differ by up to"),
    ("betas", lambda kind, T: None if kind == "sigmoid" else betas(kind, T), "sigmoid: nothing is returned yet"),
    ("posterior_mean", lambda x_t, x0, t, a: mean(x_t, x0, t, a).clamp(-1, 1), "cut off at -1 and 1"),
    ("x0_hat", lambda x, e, t, a: x / c(a[t]).sqrt(), "never uses eps_hat"),
    ("ema", lambda average, weights, decay: average.lerp_(weights, 1 - decay), effects.IN_PLACE),
    ("ddim_step", lambda x, e, t, s, a: ddim(x, e, t, s, a).clamp(-1, 1), "cut off at -1 and 1"),
    ("ddim_step", lambda x, e, t, s, a: ddim(x, torch.randn_like(e), t, s, a), "use eps_hat instead"),
    (
        "ddpm_step",
        lambda x, e, z, t, a: mu(x, e, t, a) + var(t - 1, t, a).sqrt() * torch.randn_like(x),
        "use z instead",
    ),
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


@pytest.mark.parametrize("value", [0.9987, 1.0003, "1.0", [1], 0.98])
def test_a_measured_first_loss_is_right(value):
    assert check("first_loss", value).status == CORRECT
