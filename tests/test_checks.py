"""Every check accepts the solution, names each mistake with its own sentence, and survives whatever it is handed."""

# mypy: allow-untyped-defs
from __future__ import annotations

import time

import pytest
import torch

from course_lib.checks import CORRECT, EXERCISES, NOT_DONE, WRONG, Exercise, Question, check

FUNCTIONS = {name: e for name, e in EXERCISES.items() if isinstance(e, Exercise)}
QUESTIONS = {name: e for name, e in EXERCISES.items() if isinstance(e, Question)}
MISTAKES = [(name, key) for name, e in EXERCISES.items() for key in e.mistakes]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accepts_the_solution(name):
    result = check(name, FUNCTIONS[name].solution)
    assert result.status == CORRECT, result


@pytest.mark.parametrize("name", QUESTIONS)
def test_accepts_the_number(name):
    result = check(name, QUESTIONS[name].solution())
    assert result.status == CORRECT and result.message == QUESTIONS[name].why


@pytest.mark.parametrize(("name", "key"), MISTAKES, ids=str)
def test_names_each_mistake(name, key):
    exercise = EXERCISES[name]
    wrong, sentence = (exercise.mistakes[key], key) if isinstance(exercise, Exercise) else (key, exercise.mistakes[key])
    result = check(name, wrong)
    assert (result.status, result.message) == (WRONG, sentence)


def column(v):
    return v[:, None, None, None]


#: The solutions again, as a learner would write them.
IN_OTHER_WORDS = {
    "to_float": lambda images: (images.float() - 127.5) / 127.5,
    "corrupt": lambda x, amount, noise: x + amount[:, None, None, None] * (noise - x),
    "mixture_variance": lambda u, p, n: (1 - u) * (1 - u) * p + u * u * n,
    "conv_out": lambda size, kernel, stride, padding: (size - kernel + 2 * padding + stride) // stride,
    "conv_transpose_out": lambda n, k, s, p, o: n * s - s - p - p + k + o,
    "double_conv_parameters": lambda i, o: o * (i * 9 + 1) + o * (o * 9 + 1),
    "alpha_bar": lambda betas: torch.exp(torch.cat([torch.zeros(1), torch.log(1 - betas)]).cumsum(0)),
    "q_sample": lambda x0, t, eps, ab: column(ab[t] ** 0.5) * x0 + column((1 - ab[t]) ** 0.5) * eps,
    "posterior_variance": lambda t, ab: (1 - ab[t - 1]) * (ab[t - 1] - ab[t]) / (ab[t - 1] * (1 - ab[t])),
    "x0_hat": lambda x, e, t, ab: column(ab[t] ** -0.5) * x - column((1 / ab[t] - 1) ** 0.5) * e,
    "loss": lambda m, x0, t, eps, ab: torch.nn.functional.mse_loss(
        m(column(ab[t].sqrt()) * x0 + column((1 - ab[t]).sqrt()) * eps, t), eps
    ),
    "ema": lambda average, weights, decay: torch.lerp(weights, average, decay),
    "ddim_step": lambda x, e, t, s, ab: (
        (ab[s] / ab[t]).sqrt() * x + ((1 - ab[s]).sqrt() - (ab[s] * (1 - ab[t]) / ab[t]).sqrt()) * e
    ),
    "ddpm_step": lambda x, e, z, t, ab: (
        (x - (1 - ab[t] / ab[t - 1]) * (1 - ab[t]) ** -0.5 * e) * (ab[t - 1] / ab[t]).sqrt()
        + (((1 - ab[t - 1]) / (1 - ab[t]) * (1 - ab[t] / ab[t - 1])).sqrt() * z if t > 1 else 0)
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accepts_the_solution_in_other_words(name):
    result = check(name, IN_OTHER_WORDS[name])
    assert result.status == CORRECT, result


@pytest.mark.parametrize("name", EXERCISES)
def test_not_done_yet(name):
    assert check(name, ...).status == NOT_DONE
    assert check(name, None).status == NOT_DONE
    if name in FUNCTIONS:
        assert check(name, lambda *_: None).status == NOT_DONE
        assert check(name, lambda *_: ...).status == NOT_DONE

        def unwritten(*_):
            raise NotImplementedError

        assert check(name, unwritten).status == NOT_DONE


def raises(*_):
    raise KeyError("no such thing")


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (raises, "raises KeyError"),
        (lambda: 1, "raises TypeError"),
        (lambda *_: "text", "but returns a str"),
        (lambda *_: torch.zeros(7, 7, 7), "returns shape"),
        (3, "Hand over the function itself"),
    ],
    ids=["raises", "arguments", "type", "shape", "called"],
)
def test_survives(name, answer, words):
    result = check(name, answer)
    assert result.status == WRONG
    assert words in result.message


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_is_named(name):
    solution = FUNCTIONS[name].solution
    result = check(name, lambda *a: solution(*a) * float("nan"))
    assert result.status == WRONG and "NaN" in result.message


@pytest.mark.parametrize("name", ["corrupt", "q_sample", "x0_hat", "ddim_step", "ddpm_step", "ema", "alpha_bar"])
def test_in_place_is_named(name):
    def in_place(first, *rest):
        answer = FUNCTIONS[name].solution(first, *rest)
        first += 1
        return answer

    result = check(name, in_place)
    assert result.status == WRONG and "in place" in result.message


@pytest.mark.parametrize("name", FUNCTIONS)
def test_unknown_mistake_gives_a_difference(name):
    solution = FUNCTIONS[name].solution
    result = check(name, lambda *a: solution(*a) * 1.25 + 0.125)
    assert result.status == WRONG and "differ by up to" in result.message


@pytest.mark.parametrize("answer", ["12", True, [1, 2], torch.zeros(3)], ids=str)
def test_question_wants_a_number(answer):
    result = check("values_in_batch", answer)
    assert result.status == WRONG and "is a number" in result.message


def test_question_takes_a_tensor_with_one_number():
    assert check("values_in_batch", torch.tensor(12544)).status == CORRECT


def test_every_check_is_quick():
    check("conv_out", ...)
    for name, exercise in FUNCTIONS.items():
        wrong = exercise.solution
        start = time.perf_counter()
        check(name, lambda *a, f=wrong: f(*a) + 1)
        assert time.perf_counter() - start < 1, name


def test_unknown_exercise_lists_the_known():
    with pytest.raises(ValueError, match="'corrupt', 'mixture_variance'"):
        check("corrput", None)


def test_result_reads_well_as_text_and_html():
    result = check("corrupt", lambda x, amount, noise: x + column(amount) * noise)
    assert str(result) == (
        "✗ corrupt: wrong. The noise is added, but the picture does not fade: weigh it by 1 - amount."
    )
    assert "does not fade" in result._repr_html_()
    assert "&lt;" in check("corrupt", lambda *_: exec("raise ValueError('<b>')"))._repr_html_()
