"""How an answer is judged: against the library's own function, then against the mistakes that people make.

Each exercise holds the wrong functions themselves. The learner's function is called with random inputs of several
shapes, in float64; where it differs from the library's, the mistake that gives the same numbers is named.
"""

from __future__ import annotations

import html
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .devices import Mixed, on_a_gpu
from .differences import Outcome, agree, describe, difference, form, name_of, numbers_of, parts_of
from .effects import (
    COPIED,
    FLOAT64,
    GRADIENT_CUT,
    NO_GRADIENT,
    RESEEDED,
    UNTOUCHED,
    Case,
    Wrong,
    call,
    changed,
    copied,
    gradient_lost,
    in_float32,
    other_dtype,
    reseeded,
    untouched,
)
from .witness import overlooked

NOT_DONE, CORRECT, WRONG = "not done yet", "correct", "wrong"
REMARK = "correct, with a remark"
#: Mark and color of each status; the colors can be told from a white ground and from a dark one.
MARK = {NOT_DONE: ("○", "#767676"), CORRECT: ("✓", "#1b8a50"), REMARK: ("✓", "#9a7000"), WRONG: ("✗", "#d0481a")}
ON_THE_CPU = (
    "On a GPU it would fail, because it makes a tensor on the CPU: pass device=, the input's own, as in "
    "torch.ones(3, device=x.device)."
)
FLOAT_FOR_INT = "The number is right, but it is a float where an int is wanted: use //, and ints alone."
#: What becomes of the sentences that call the numbers right, where they are not.
WITH_WRONG_NUMBERS = {COPIED: UNTOUCHED, NO_GRADIENT: None, GRADIENT_CUT: None, FLOAT_FOR_INT: None}
TODO = (NOT_DONE, "Write the code above, then run this cell again.")


@dataclass(frozen=True)
class Result:
    """What a check found; Jupyter shows it with a colored bar, other places as text.

    Args:
        exercise: name of the exercise.
        status: NOT_DONE, CORRECT, REMARK or WRONG, which are words.
        message: one or two sentences.
    """

    exercise: str
    status: str
    message: str

    @property
    def is_correct(self) -> bool:
        """Whether the answer is right, with or without a remark."""
        return self.status in (CORRECT, REMARK)

    def __str__(self) -> str:
        return f"{MARK[self.status][0]} {self.exercise}: {self.status}. {self.message}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        mark, color = MARK[self.status]
        return (
            f'<div style="border-left: 4px solid {color}; padding: 0.4em 0.8em; margin: 0.2em 0">'
            f'<b><span style="color: {color}">{mark}</span> {self.status}</b> '
            f"&nbsp;{html.escape(self.message)}</div>"
        )


#: One wrong function, or several ways to write the same mistake.
Mistake = Callable[..., Any] | Sequence[Callable[..., Any]]


def as_it_is(answer: Any) -> Callable[..., Any]:
    """The answer is a function and takes the case itself."""
    return answer


@dataclass(frozen=True)
class Exercise:
    """One exercise whose answer is a function, or a class.

    Args:
        solution: the library's function (or class) under the signature that the learner is asked for.
        cases: makes the inputs from a generator: a list of argument tuples.
        mistakes: sentence → the wrong function that it describes, or several of them, same signature.
        answer: the solution as a learner would write it; its body is what fills the stub.
        library: the functions or classes of the library that `solution(name)` shows.
        equation: what is computed, in LaTeX.
        adapt: makes of an answer the function that takes a case, where it is not that function already.
        explain: what can be said of a wrong answer that is none of the mistakes; None where that is nothing.
        gradient: a gradient must lead from the result back to the weights of the networks in a case.
        praise: what to say when it is right.
    """

    solution: Callable[..., Any]
    cases: Callable[[torch.Generator], list[Case]]
    mistakes: Mapping[str, Mistake]
    answer: Callable[..., Any]
    library: Sequence[Callable[..., Any]]
    equation: str
    adapt: Callable[[Any], Callable[..., Any]] = as_it_is
    explain: Callable[[Any], str | None] = lambda answer: None
    gradient: bool = False
    praise: str = "The same numbers as the library's own, on random inputs."


@dataclass(frozen=True)
class Question:
    """One exercise whose answer is a number.

    Args:
        solution: works the answer out with the library.
        why: said when the answer is right.
        mistakes: wrong number → sentence.
        tolerance: how far from the solution an answer may lie, relative to it; 1e-6 for what is exact.
    """

    solution: Callable[[], float]
    why: str
    mistakes: dict[float, str] = field(default_factory=dict)
    tolerance: float = 1e-6


@dataclass(frozen=True)
class Choice:
    """One exercise whose answer is a letter.

    Args:
        solution: finds the letter out, with the library where that can be done.
        why: said when the answer is right.
        mistakes: every other letter → why not.
    """

    solution: Callable[[], str]
    why: str
    mistakes: dict[str, str]


def judge(exercise: Exercise | Question | Choice, answer: Any) -> tuple[str, str]:
    """Status and message for an answer. Never raises, whatever the answer does, but for KeyboardInterrupt."""
    try:
        if isinstance(exercise, Question):
            return _judge_number(exercise, answer)
        if isinstance(exercise, Choice):
            return _judge_letter(exercise, answer)
        return _judge_function(exercise, answer)
    except (Exception, SystemExit) as error:  # an answer that no rule above foresaw
        return WRONG, f"This cannot be judged: looking at it raises {type(error).__name__}: {error}."


def _judge_number(question: Question, answer: Any) -> tuple[str, str]:
    if answer is None or answer is ...:
        return NOT_DONE, "Replace the three dots by a number."
    value = _one_number(answer)
    if value is None:
        return WRONG, f"The answer is a number, but this is {name_of(answer)}."
    number = float(value)
    if math.isclose(number, question.solution(), rel_tol=question.tolerance):
        return CORRECT, question.why
    for wrong, sentence in question.mistakes.items():
        if math.isclose(number, wrong, rel_tol=question.tolerance):
            return WRONG, sentence
    return WRONG, f"It is not {number:g}. The hints below take it in steps."


def _one_number(answer: Any) -> Any:
    """The number in an answer, also where it is written as text or is the only entry of a list or an array."""
    if isinstance(answer, list | tuple) and len(answer) == 1:
        return _one_number(answer[0])
    if isinstance(answer, Tensor | np.ndarray) and math.prod(answer.shape) == 1:
        answer = answer.item()
    if isinstance(answer, str):
        try:
            return float(answer)
        except ValueError:
            return None
    return answer if isinstance(answer, Real) and not isinstance(answer, bool | np.bool_) else None


def _judge_letter(choice: Choice, answer: Any) -> tuple[str, str]:
    if answer is None or answer is ...:
        return NOT_DONE, "Replace the three dots by a letter in quotation marks."
    right = choice.solution()
    letters = sorted({right, *choice.mistakes})
    letter = answer.strip().strip("().").lower() if isinstance(answer, str) else ""
    if letter not in letters:
        return WRONG, f"The answer is one of {', '.join(map(repr, letters))}."
    return (CORRECT, choice.why) if letter == right else (WRONG, choice.mistakes[letter])


@dataclass
class _Trial:
    """What an answer gave for the cases of an exercise, up to the first that shows it to be wrong."""

    cases: list[Case]
    answers: list[Outcome] = field(default_factory=list)
    truths: list[Any] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # besides the numbers
    misshapen: str | None = None


def _judge_function(exercise: Exercise, answer: Any) -> tuple[str, str]:
    if answer is None or answer is ...:
        return TODO
    if not callable(answer):
        return WRONG, f"Hand over the function itself, without calling it; this is {name_of(answer)}."
    names = _names(exercise)
    trial = _Trial(exercise.cases(torch.Generator().manual_seed(0)))
    verdict = _try(exercise, answer, names, trial)
    if verdict:
        return verdict
    cases, answers = trial.cases[: len(trial.answers)], trial.answers
    right = [numbers_of(truth) for truth in trial.truths]
    if len(answers) == len(trial.cases) and agree(answers, right):
        if trial.problems:
            return WRONG, trial.problems[0]
        remarks = _remarks(exercise, answer, cases[0])
        return (REMARK, " ".join(remarks)) if remarks else (CORRECT, exercise.praise)
    for sentence, mistake in exercise.mistakes.items():
        if any(_agrees(answers, exercise.adapt(wrong), cases) for wrong in variants(mistake)):
            return WRONG, sentence
    known = trial.misshapen or next(filter(None, (WITH_WRONG_NUMBERS.get(one, one) for one in trial.problems)), None)
    if not known and not isinstance(answers[-1], Exception):
        known = call(exercise.explain, (answer,))
        known = known or overlooked(answer, (exercise.solution, exercise.answer), cases, names)
    return WRONG, known or difference(answer, answers, right, lambda i: describe(cases[i], names))


def _try(exercise: Exercise, answer: Callable[..., Any], names: Sequence[str], trial: _Trial) -> tuple[str, str] | None:
    """Fill in a trial, case by case; a verdict where one is certain before any number is compared."""
    function, solution = exercise.adapt(answer), exercise.adapt(exercise.solution)
    for case in trial.cases:
        given, solved = copied(case), copied(case)
        truth = call(solution, solved)
        trial.truths.append(truth)
        try:
            got = call(function, given)
        except NotImplementedError:
            return TODO
        except Wrong as verdict:
            return WRONG, str(verdict)
        except (Exception, SystemExit) as error:  # whatever a learner's code may raise
            trial.answers.append(error if isinstance(error, Exception) else RuntimeError(f"exit({error})"))
            return None
        if got is None or got is ...:
            return NOT_DONE, "Nothing is returned yet: write the code above, then run this cell again."
        if isinstance(truth, Real) and isinstance(got, Tensor | np.ndarray) and math.prod(got.shape) == 1:
            got = got.reshape(())
        if reseeded(given, case):
            return WRONG, RESEEDED
        trial.misshapen = form(got, truth, describe(case, names))
        if trial.misshapen and not (isinstance(got, Tensor) and isinstance(truth, Tensor)):
            return WRONG, trial.misshapen
        trial.answers.append(numbers_of(got))
        if trial.misshapen:
            return None
        trial.problems += _besides(exercise, got, truth, case, given, solved)
    return None


def variants(mistake: Mistake) -> Sequence[Callable[..., Any]]:
    """The wrong functions of one mistake."""
    return mistake if isinstance(mistake, Sequence) else [mistake]


def _besides(exercise: Exercise, got: Any, truth: Any, case: Case, given: Case, solved: Case) -> list[str]:
    """What is wrong with an answer for one case even where its numbers are right."""
    problems = [changed(given, solved)]
    if untouched(given, case, solved):
        problems.append(COPIED)
    if exercise.gradient and not problems[0]:  # what was changed in place has no gradient any more
        problems.append(gradient_lost(got, given, truth, solved))
    if any(isinstance(a, float) and isinstance(b, int) for a, b in zip(parts_of(got), parts_of(truth), strict=True)):
        problems.append(FLOAT_FOR_INT)
    return [problem for problem in problems if problem]


def _remarks(exercise: Exercise, answer: Callable[..., Any], case: Case) -> list[str]:
    """What would go wrong elsewhere with an answer that is right here: on a GPU, or in float32."""

    def run(function: Callable[..., Any], given: Case) -> Any:
        return call(exercise.adapt(function), copied(given))

    def needs_the_cpu(function: Callable[..., Any]) -> bool:
        try:
            run(on_a_gpu(function), case)
        except Mixed:
            return True
        return False

    remarks = [ON_THE_CPU] if needs_the_cpu(answer) and not needs_the_cpu(exercise.solution) else []
    if exercise.adapt is not as_it_is:  # its networks have float64 weights
        return remarks
    for given in (case, tuple(map(in_float32, case))):
        try:
            remark = other_dtype(run(answer, given), run(exercise.solution, given))
        except (Exception, SystemExit):  # an answer need not take float32
            break
        if remark and (given is case or FLOAT64 in remark):  # the library may return more digits than it is given
            return [*remarks, remark]
    return remarks


def _names(exercise: Exercise) -> list[str]:
    """What the stub of an exercise calls its arguments, where these are the case itself."""
    return list(inspect.signature(exercise.answer).parameters) if exercise.adapt is as_it_is else []


def _agrees(answers: list[Outcome], wrong: Callable[..., Any], cases: list[Case]) -> bool:
    """Whether a wrong function gives what the answer gave, up to the first case that it cannot take."""
    outcomes: list[Outcome] = []
    for i, case in enumerate(cases):
        try:
            outcomes.append(numbers_of(call(wrong, copied(case))))
        except Exception as error:
            return agree(answers, [*outcomes, error])
        if not agree(answers[: i + 1], outcomes):
            return False
    return True
