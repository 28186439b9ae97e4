"""Every check accepts the solution, names each mistake with its own sentence, and survives whatever it is handed."""

# mypy: allow-untyped-defs
from __future__ import annotations

import inspect
import re
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from course_lib import checks
from course_lib.checks import BY_NOTEBOOK, CORRECT, EXERCISES, NOT_DONE, REMARK, WRONG, Choice, Exercise, check
from course_lib.checks.effects import IN_PLACE
from course_lib.checks.judge import as_it_is, variants

FUNCTIONS = {name: e for name, e in EXERCISES.items() if isinstance(e, Exercise)}
PLAIN = {name: e for name, e in FUNCTIONS.items() if e.adapt is as_it_is}
QUESTIONS = {name: e for name, e in EXERCISES.items() if not isinstance(e, Exercise)}
README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
#: Exercise, sentence, wrong answer: each mistake in every way in which it is written down.
MISTAKES: list[tuple[str, str, Any]] = [
    (name, sentence, wrong)
    for name, exercise in FUNCTIONS.items()
    for sentence, mistake in exercise.mistakes.items()
    for wrong in variants(mistake)
]
MISTAKES += [(name, sentence, wrong) for name, e in QUESTIONS.items() for wrong, sentence in e.mistakes.items()]


@pytest.mark.parametrize("name", EXERCISES)
def test_accepts_the_solution_and_the_answer_that_it_shows(name):
    exercise: Any = EXERCISES[name]
    rights = [exercise.solution, exercise.answer] if name in FUNCTIONS else [exercise.solution()]
    for right in rights:
        result = check(name, right)
        assert (result.status, result.message) == (CORRECT, getattr(exercise, "praise" if callable(right) else "why"))


@pytest.mark.parametrize(("name", "sentence", "wrong"), MISTAKES, ids=[str(n) for n in range(len(MISTAKES))])
def test_names_each_mistake(name, sentence, wrong):
    result = check(name, wrong)
    assert (result.status, result.message) == (WRONG, sentence)


def column(v):
    return v[:, None, None, None]


#: Solutions of notebooks 00 to 02 again, as a learner would write them.
IN_OTHER_WORDS = {
    "to_float": lambda images: (images.float() - 127.5) / 127.5,
    "files_to_batch": lambda files: (files.movedim(-1, 1).float() - 127.5) / 127.5,
    "draw_noise": lambda x, generator: torch.empty_like(x).normal_(generator=generator),
    "corrupt": lambda x, amount, noise: x + amount[:, None, None, None] * (noise - x),
    "mixture_variance": lambda u, p, n: (1 - u) * (1 - u) * p + u * u * n,
    "conv_out": lambda size, kernel, stride, padding: (size - kernel + 2 * padding + stride) // stride,
    "conv_transpose_out": lambda n, k, s, p, o: n * s - s - p - p + k + o,
    "merge_channels": lambda f: torch.tensor([2 * c for c in f[::-1]]),
    "double_conv_parameters": lambda i, o: o * (i * 9 + 1) + o * (o * 9 + 1),
}


@pytest.mark.parametrize("name", IN_OTHER_WORDS)
def test_accepts_the_solution_in_other_words(name):
    result = check(name, IN_OTHER_WORDS[name])
    assert result.status == CORRECT, result


@pytest.mark.parametrize("name", EXERCISES)
def test_not_done_yet(name):
    def unwritten(*_):
        raise NotImplementedError

    empty = [..., None, *([lambda *_: None, lambda *_: ..., unwritten] if name in FUNCTIONS else [])]
    assert {check(name, answer).status for answer in empty} == {NOT_DONE}


def raises(*_):
    raise KeyError("no such thing")


BAD = [raises, lambda: 1, lambda *_: "text", lambda *_: torch.zeros(7, 7, 7), 3]
WORDS = ["raises KeyError", "raises TypeError", "but returns ", "returns shape", "Hand over the function itself"]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("answer", "words"), [*zip(BAD, WORDS, strict=True)], ids=WORDS)
def test_survives(name, answer, words):
    result = check(name, answer)
    assert result.status == WRONG and "cannot be judged" not in result.message
    assert name not in PLAIN or words in result.message


class Awkward:
    def __eq__(self, other):
        raise RuntimeError("do not compare me")

    def __bool__(self):
        raise RuntimeError("do not ask me")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("answer", [Awkward(), Fraction(1, 3), float("inf"), 10**400, float, exit], ids=range(6))
def test_never_raises(name, answer):
    assert check(name, answer).status == WRONG


def changed(solution, change):
    """The solution with a change to every number that it returns."""

    def function(*case):
        answer = solution(*case)
        return type(answer)(map(change, answer)) if isinstance(answer, tuple | list) else change(answer)

    return function


@pytest.mark.parametrize("name", PLAIN)
def test_numbers_that_nobody_foresaw_are_described(name):
    def told(change):
        result = check(name, changed(FUNCTIONS[name].solution, change))
        assert result.status == WRONG
        return result.message

    assert "NaN" in told(lambda value: value * float("nan"))
    assert re.search(r" is right \(|is right for |within 5 %", told(lambda value: value + abs(value) ** 0.5))


def tensors_of(exercise):
    return [n for n, a in enumerate(exercise.cases(torch.Generator())[0]) if isinstance(a, torch.Tensor)]


@pytest.mark.parametrize("name", [name for name, exercise in PLAIN.items() if tensors_of(exercise)])
def test_in_place_is_named(name):
    def in_place(*case):
        answer = FUNCTIONS[name].solution(*case)
        for n in tensors_of(FUNCTIONS[name]):
            case[n].add_(1)
        return answer

    assert check(name, in_place).message == IN_PLACE


def test_every_check_is_quick():
    """An answer that is compared with every mistake in vain takes longest; the first check of all pays for imports."""
    script = "import time; from course_lib.checks import EXERCISES, check; start = time.process_time(); " + (
        "check('alpha_bar', EXERCISES['alpha_bar'].answer); print(time.process_time() - start)"
    )
    first = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert float(first) < 1
    for name, exercise in FUNCTIONS.items():
        plain = changed(exercise.solution, lambda value: value + abs(value) ** 0.5)
        answer = plain if name in PLAIN else variants([*exercise.mistakes.values()][-1])[-1]
        start = time.process_time()
        check(name, answer)
        assert time.process_time() - start < 1, name


def test_the_readme_counts_exercises_and_mistakes_and_shows_a_real_diagnosis():
    """A sentence counts once, also where several exercises say it."""
    names = [name for book in BY_NOTEBOOK.values() for name in book]
    assert len(names) == len(set(names)) == len(EXERCISES)
    assert f"{len(FUNCTIONS)} functions to write and {len(QUESTIONS)} questions to answer" in README
    known = re.search(r"knows more than (\d+) mistakes", README)
    assert known and 400 <= int(known[1]) <= len({sentence for name, sentence, _ in MISTAKES if name in FUNCTIONS})
    wrong = check("q_sample", lambda x0, t, eps, ab: column(ab[t]) * x0 + column(1 - ab[t]) * eps)
    assert str(wrong) in README


def test_choices_offer_every_letter():
    for name, choice in QUESTIONS.items():
        if isinstance(choice, Choice):
            letters = sorted({choice.solution(), *choice.mistakes})
            assert len(letters) == len(choice.mistakes) + 1 >= 3, name
            assert letters == list("abcdef"[: len(letters)]), name


def test_progress_shows_the_notebooks_whose_checks_ran(monkeypatch):
    monkeypatch.setattr(checks, "_found", {})
    assert str(checks.progress()) == "No check has run in this kernel yet."
    check("corrupt", ...)
    check("corrupt", FUNCTIONS["corrupt"].answer)
    check("draw_noise", lambda x, generator: torch.randn(x.shape, dtype=x.dtype, generator=generator))
    check("mixture_variance", lambda amount, p, n: 0.0)
    found = checks.progress()
    assert [r.exercise for r in found.results] == list(BY_NOTEBOOK["01"])
    known = {r.exercise: r.status for r in found.results if r.status != NOT_DONE}
    assert known == {"corrupt": CORRECT, "draw_noise": REMARK, "mixture_variance": WRONG}
    assert str(found).endswith(f"2 of {len(BY_NOTEBOOK['01'])} correct.")
    assert found._repr_html_().count("<tr>") == len(BY_NOTEBOOK["01"]) + 1


@pytest.mark.parametrize("name", EXERCISES)
def test_solution_shows_equation_and_source(name):
    exercise, text = EXERCISES[name], checks.solution(name)._repr_markdown_()
    if isinstance(exercise, Exercise):
        assert exercise.equation and exercise.equation in text and exercise.library
        for function in (exercise.answer, *exercise.library):
            assert inspect.getsource(function).strip().splitlines()[-1].strip() in text
            assert function.__module__.startswith("course_lib.")
    else:
        assert exercise.why in text and str(exercise.solution()) in text


@pytest.mark.parametrize("asked", [checks.solution, lambda name: check(name, None)])
def test_unknown_exercise_lists_the_known(asked):
    with pytest.raises(ValueError, match="'corrupt', 'draw_noise'"):
        asked("corrput")


def test_no_message_shows_a_name_from_inside():
    """A message may show private names only of what the learner wrote."""
    for name, exercise in FUNCTIONS.items():
        for answer in (lambda *case: case[0].no_such_thing, lambda *case: case[0], lambda *case: str(case[0])):
            assert not re.search(r"\b_[A-Za-z]\w+|0x[0-9a-f]{6}", check(name, answer).message), (name, exercise)


def test_result_reads_well_as_text_and_html():
    result = check("corrupt", lambda x, amount, noise: x + column(amount) * noise)
    assert str(result) == (
        "✗ corrupt: wrong. The noise is added, but the picture does not fade: weigh it by 1 - amount."
    )
    assert "does not fade" in result._repr_html_()
    assert "&lt;" in check("corrupt", lambda *_: exec("raise ValueError('<b>')"))._repr_html_()
