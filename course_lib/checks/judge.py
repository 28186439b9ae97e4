"""How an answer is judged: against the library's own function, then against the mistakes that people make.

Each exercise holds the wrong functions themselves. The learner's function is called with random inputs of several
shapes, in float64; where it differs from the library's, the mistake that gives the same numbers is named.
"""

from __future__ import annotations

import html
import inspect
import math
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

NOT_DONE, CORRECT, WRONG = "not done yet", "correct", "wrong"
MARK = {NOT_DONE: ("○", "#6b6b6b"), CORRECT: ("✓", "#1b7f4b"), WRONG: ("✗", "#b83a09")}
ON_THE_CPU = "It makes a tensor on the CPU, which fails where the input is on a GPU: pass device=, the input's own."

Case = tuple[Any, ...]


@dataclass(frozen=True)
class Result:
    """What a check found; Jupyter shows it with a colored bar, other places as text.

    Args:
        exercise: name of the exercise.
        status: "not done yet", "correct" or "wrong".
        message: one or two sentences.
    """

    exercise: str
    status: str
    message: str

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


class Wrong(Exception):
    """Raised by an exercise's `adapt` where the answer's form already shows the mistake; carries its sentence."""


def as_it_is(answer: Any) -> Callable[..., Any]:
    """The answer is a function and takes the case itself."""
    return answer


@dataclass(frozen=True)
class Exercise:
    """One exercise whose answer is a function, or a class.

    Args:
        solution: the library's function (or class) under the signature that the learner is asked for.
        cases: makes the inputs from a generator: a list of argument tuples.
        mistakes: sentence → the wrong function that it describes, same signature.
        answer: the solution as a learner would write it; its body is what fills the stub.
        library: the functions or classes of the library that `solution(name)` shows.
        equation: what is computed, in LaTeX.
        adapt: makes of an answer the function that takes a case, where it is not that function already.
        praise: what to say when it is right.
    """

    solution: Callable[..., Any]
    cases: Callable[[torch.Generator], list[Case]]
    mistakes: dict[str, Callable[..., Any]]
    answer: Callable[..., Any]
    library: Sequence[Callable[..., Any]]
    equation: str
    adapt: Callable[[Any], Callable[..., Any]] = as_it_is
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
    if isinstance(answer, Tensor) and answer.numel() == 1:
        answer = answer.item()
    if isinstance(answer, bool) or not isinstance(answer, Real):
        return WRONG, f"The answer is a number, but this is {_name(answer)}."
    number = float(answer)
    if math.isclose(number, question.solution(), rel_tol=question.tolerance):
        return CORRECT, question.why
    for wrong, sentence in question.mistakes.items():
        if math.isclose(number, wrong, rel_tol=question.tolerance):
            return WRONG, sentence
    return WRONG, f"It is not {number:g}. The hints below take it in steps."


def _judge_letter(choice: Choice, answer: Any) -> tuple[str, str]:
    if answer is None or answer is ...:
        return NOT_DONE, "Replace the three dots by a letter in quotation marks."
    right = choice.solution()
    letters = sorted({right, *choice.mistakes})
    letter = answer.strip().strip("().").lower() if isinstance(answer, str) else ""
    if letter not in letters:
        return WRONG, f"The answer is one of {', '.join(map(repr, letters))}."
    return (CORRECT, choice.why) if letter == right else (WRONG, choice.mistakes[letter])


def _judge_function(exercise: Exercise, answer: Any) -> tuple[str, str]:
    todo = (NOT_DONE, "Write the code above, then run this cell again.")
    if answer is None or answer is ...:
        return todo
    if not callable(answer):
        return WRONG, f"Hand over the function itself, without calling it; this is {_name(answer)}."
    cases = exercise.cases(torch.Generator().manual_seed(0))
    truths = [_call(exercise.adapt(exercise.solution), _copy(case)) for case in cases]
    answers: list[list[Tensor] | Exception] = []
    in_place = floats = False
    for case, truth in zip(cases, truths, strict=True):
        given = _copy(case)
        try:
            got = _call(exercise.adapt(answer), given)
        except NotImplementedError:
            return todo
        except Wrong as verdict:
            return WRONG, str(verdict)
        except (Exception, SystemExit) as error:  # whatever a learner's code may raise
            answers.append(error if isinstance(error, Exception) else RuntimeError(f"exit({error})"))
            break
        if got is None or got is ...:
            return NOT_DONE, "Nothing is returned yet: write the code above, then run this cell again."
        problem = _form(got, truth, case)
        if problem:
            return WRONG, problem
        in_place |= any(isinstance(a, Tensor) and not torch.equal(a, b) for a, b in zip(given, case, strict=True))
        floats |= isinstance(truth, int) and isinstance(got, float)
        answers.append(_numbers(got))
    if _agree(answers, [_numbers(truth) for truth in truths]):
        if in_place:
            return WRONG, "It changes its input in place (+=, mul_ and the like); make a new tensor instead."
        if exercise.adapt is as_it_is and stays_on_the_cpu(answer, cases[0], exercise.solution):
            return WRONG, ON_THE_CPU
        if floats:
            return WRONG, "The number is right, but it is a float where an int is wanted: use //, and ints alone."
        return CORRECT, exercise.praise
    for sentence, wrong in exercise.mistakes.items():
        if _agree(answers, _outcomes(exercise.adapt(wrong), cases)):
            return WRONG, sentence
    return WRONG, _difference(answer, answers, truths, cases)


def _call(function: Callable[..., Any], case: Case) -> Any:
    """The answer for one case; torch's global random numbers are the same each time, and as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return function(*case)


def _outcomes(function: Callable[..., Any], cases: list[Case]) -> list[list[Tensor] | Exception]:
    """What a wrong function gives for each case, up to the first that it cannot take."""
    outcomes: list[list[Tensor] | Exception] = []
    for case in cases:
        try:
            outcomes.append(_numbers(_call(function, _copy(case))))
        except Exception as error:
            return [*outcomes, error]
    return outcomes


def _agree(left: Sequence[list[Tensor] | Exception], right: Sequence[list[Tensor] | Exception]) -> bool:
    """Same numbers and failures in the same places, up to what float32 rounding inside a function may cost.

    A failure at the very first case says nothing: two functions that both fail there need have nothing in common.
    """

    def same(a: list[Tensor] | Exception, b: list[Tensor] | Exception) -> bool:
        if isinstance(a, Exception) or isinstance(b, Exception):
            return type(a) is type(b)
        return len(a) == len(b) and all(
            v.shape == w.shape and torch.allclose(v, w, rtol=1e-5, atol=1e-6, equal_nan=True)
            for v, w in zip(a, b, strict=True)
        )

    if len(left) != len(right) or isinstance(left[0], Exception):
        return False
    return all(same(a, b) for a, b in zip(left, right, strict=True))


class _Mixed(Exception):
    """Raised where a tensor of the input meets one that was made without naming a device."""


class _TwoDevices(TorchFunctionMode):
    """Follows tensors as if the input were on a GPU, and what is made without naming a device on the CPU.

    As on a GPU, single numbers may come from anywhere, and the GPU's tensors take indices from the CPU.
    """

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.away = {id(tensor): True for tensor in _leaves(case)}
        self.kept: list[Tensor] = []  # a tensor that lives keeps its id

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        given = [tensor for tensor in _leaves([args, kwargs]) if id(tensor) in self.away]
        meet = {self.away[id(tensor)] for tensor in given if tensor.ndim}
        indexed = name in ("__getitem__", "__setitem__") and self.away.get(id(args[0]), False)
        if len(meet) == 2 and not indexed and name not in ("to", "type_as", "copy_"):
            raise _Mixed
        result = func(*args, **kwargs)
        named = [a for a in (*args[1:], *kwargs.values()) if isinstance(a, Tensor | torch.device | str)]
        away = any(self.away[id(tensor)] for tensor in given)
        if name == "cpu" or (name == "to" and named):
            away = name == "to" and named[0] != "cpu"
        elif not away:
            away = kwargs.get("device") not in (None, "cpu")
        if given or not _leaves([args, kwargs]):  # of what comes from elsewhere, such as weights, nothing is known
            fresh = _leaves(result)
            self.kept += fresh
            self.away |= {id(tensor): away for tensor in fresh}
        return result


def _leaves(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [leaf for part in parts for leaf in _leaves(part)]


def stays_on_the_cpu(answer: Callable[..., Any], case: Case, solution: Callable[..., Any] | None = None) -> bool:
    """Whether a right answer makes tensors on the CPU whatever its input's device; needs no GPU to find out.

    Args:
        answer: the function.
        case: its input.
        solution: where this, too, returns tensors on the CPU, the answer may.
    """
    case = _copy(case)
    devices = _TwoDevices(case)
    try:
        with devices:
            result = _call(answer, case)
    except _Mixed:
        return True
    stays = bool(_leaves(case)) and any(one.ndim and not devices.away.get(id(one), True) for one in _leaves(result))
    return stays and (solution is None or not stays_on_the_cpu(solution, case))


def _difference(
    answer: Callable[..., Any], answers: list[list[Tensor] | Exception], truths: list[Any], cases: list[Case]
) -> str:
    """What to say of a mistake that nobody has written down yet."""
    worst, where = 0.0, 0
    for i, got in enumerate(answers):
        if isinstance(got, Exception):
            return f"It raises {type(got).__name__}: {got}{_line(answer, got)} (for {_describe(cases[i])})."
        for value, truth in zip(got, _numbers(truths[i]), strict=True):
            if not torch.isfinite(value).all() and torch.isfinite(truth).all():
                return (
                    f"It gives NaN or infinity (for {_describe(cases[i])}): "
                    "is there a division by 0, or the root of a negative number?"
                )
            difference = (value - truth).abs().max().item() if value.numel() else 0.0
            if difference > worst:
                worst, where = difference, i
    return f"The numbers differ by up to {worst:.3g} (for {_describe(cases[where])}). The hints below may help."


def _line(answer: Callable[..., Any], error: Exception) -> str:
    """The learner's line in which an error arose, if its text is at hand."""
    functions = vars(answer).values() if isinstance(answer, type) else [inspect.unwrap(answer)]
    files = {f.__code__.co_filename for f in functions if hasattr(f, "__code__")}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    return f', in "{frames[-1].line}"' if frames and frames[-1].line else ""


def _parts(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _numbers(value: Any) -> list[Tensor]:
    return [torch.as_tensor(part, dtype=torch.float64).detach().cpu() for part in _parts(value)]


def _form(got: Any, truth: Any, case: Case) -> str | None:
    """What is wrong with the type or shape of an answer, before its numbers are looked at."""
    if not isinstance(truth, tuple | list):
        return _form_of_one(got, truth, case)
    if not isinstance(got, tuple | list):
        return f"It must return {len(truth)} values, but returns {_name(got)}."
    if len(got) != len(truth):
        return f"It must return {len(truth)} values, but returns {len(got)} (for {_describe(case)})."
    problems = [_form_of_one(one, wanted, case) for one, wanted in zip(got, truth, strict=True)]
    return next((problem for problem in problems if problem), None)


def _form_of_one(got: Any, truth: Any, case: Case) -> str | None:
    if isinstance(truth, Tensor) and truth.ndim and not isinstance(got, Tensor):
        return f"It must return a tensor of shape {tuple(truth.shape)}, but returns {_name(got)}."
    if not isinstance(got, Tensor | Real) or isinstance(got, bool):
        return f"It must return a number, but returns {_name(got)}."
    shape, wanted = (tuple(v.shape) if isinstance(v, Tensor) else () for v in (got, truth))
    if shape == wanted:
        return None
    hint = ""
    if len(shape) == len(wanted) == 1 and shape[0] == wanted[0] - 1:
        hint = " One entry is missing: t = 0, the picture itself, comes first."
    elif not wanted:
        hint = " One number is wanted: take the mean over everything."
    return f"It returns shape {shape} where {wanted} is wanted (for {_describe(case)}).{hint}"


def _copy(case: Case) -> Case:
    return tuple(_copy_of(a) for a in case)


def _copy_of(value: Any) -> Any:
    if isinstance(value, torch.Generator):
        return torch.Generator().set_state(value.get_state())
    return value.clone() if isinstance(value, Tensor) else value


def _describe(case: Case) -> str:
    def one(a: Any) -> str:
        if isinstance(a, Tensor):
            return f"{a.item():.4g}" if a.ndim == 0 else f"a tensor of shape {tuple(a.shape)}"
        if isinstance(a, torch.Generator):
            return "a generator"
        if isinstance(a, float):
            return f"{a:.4g}"
        if isinstance(a, int | tuple | list):
            return str(a)
        return repr(a) if isinstance(a, str) else "a model"

    told = [one(a) for a in case if not isinstance(a, bool)]  # such as whether a module is in train mode
    return ", ".join(told) if told else "no input"


def _name(answer: Any) -> str:
    name = type(answer).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
