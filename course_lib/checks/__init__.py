"""The check of every exercise: right, not done yet, or wrong with the mistake named.

    check("corrupt", my_corrupt)    compares with the library's own function
    solution("corrupt")             shows that function and its equation
    progress()                      what is done in this notebook; kept in the kernel and nowhere else

A check reports and never raises. The exercises of notebook NN are in `nbNN`, the judge is in `judge`.
"""

from __future__ import annotations

import html
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..validate import validate_choice
from . import nb00, nb01, nb02, nb03, nb04, nb05, nb06
from .effects import Wrong
from .judge import CORRECT, MARK, NOT_DONE, REMARK, WRONG, Choice, Exercise, Question, Result, judge

__all__ = [
    "BY_NOTEBOOK",
    "CORRECT",
    "EXERCISES",
    "NOT_DONE",
    "REMARK",
    "WRONG",
    "Choice",
    "Exercise",
    "Progress",
    "Question",
    "Result",
    "Solution",
    "Wrong",
    "check",
    "progress",
    "solution",
]

#: Number of the notebook → its exercises by name, in the notebook's order.
BY_NOTEBOOK: dict[str, dict[str, Exercise | Question | Choice]] = {
    book.__name__[-2:]: book.EXERCISES for book in (nb00, nb01, nb02, nb03, nb04, nb05, nb06)
}
#: Every exercise by its name, in the order of the notebooks.
EXERCISES = {name: exercise for book in BY_NOTEBOOK.values() for name, exercise in book.items()}

_found: dict[str, Result] = {}


def check(name: str, answer: Any) -> Result:
    """Check the answer to an exercise.

    Args:
        name: name of the exercise, one of `EXERCISES`.
        answer: the learner's function, or number or letter for a question.

    Returns:
        A `Result`, which displays itself.

    Raises:
        ValueError: an unknown name; the message lists the known ones. Whatever the answer does is reported.
    """
    validate_choice("name", name, EXERCISES)
    _found[name] = Result(name, *judge(EXERCISES[name], answer))
    return _found[name]


@dataclass(frozen=True)
class Progress:
    """The last result of each exercise of the notebooks whose checks have run; Jupyter shows a table.

    Args:
        results: one for each exercise, in the notebook's order.
    """

    results: tuple[Result, ...]

    def __str__(self) -> str:
        if not self.results:
            return "No check has run in this kernel yet."
        rows = [f"{MARK[r.status][0]} {r.exercise:28} {r.status}" for r in self.results]
        return "\n".join([*rows, self.summary])

    __repr__ = __str__

    @property
    def summary(self) -> str:
        """How many are correct, with or without a remark, as a sentence."""
        done = sum(r.is_correct for r in self.results)
        return f"{done} of {len(self.results)} correct."

    def _repr_html_(self) -> str:
        if not self.results:
            return html.escape(str(self))
        rows = "".join(
            f'<tr><td style="color: {MARK[r.status][1]}; font-weight: bold">{MARK[r.status][0]}</td>'
            f'<td style="text-align: left">{html.escape(r.exercise)}</td>'
            f'<td style="text-align: left">{r.status}</td></tr>'
            for r in self.results
        )
        head = '<tr><th></th><th style="text-align: left">exercise</th><th style="text-align: left">result</th></tr>'
        return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table><p>{self.summary}</p>"


def progress() -> Progress:
    """What is done in this notebook, by the last run of each check in this kernel."""
    books = [book for book in BY_NOTEBOOK.values() if any(name in _found for name in book)]
    results = [_found.get(name, Result(name, NOT_DONE, "")) for book in books for name in book]
    return Progress(tuple(results))


@dataclass(frozen=True)
class Solution:
    """The answer to an exercise; Jupyter sets the equation, other places show its LaTeX.

    Args:
        name: name of the exercise.
    """

    name: str

    def __str__(self) -> str:
        return self._repr_markdown_()

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        exercise = EXERCISES[self.name]
        if not isinstance(exercise, Exercise):
            return f"**{exercise.solution()}** — {exercise.why}"
        library = [f"In the library, with its checks:\n\n{_code(function)}" for function in exercise.library]
        return "\n\n".join(
            [f"$$\n{exercise.equation}\n$$", f"As you could write it:\n\n{_code(exercise.answer)}", *library]
        )


def _code(function: Callable[..., Any]) -> str:
    """Where a function is, and its source."""
    source = textwrap.dedent(inspect.getsource(function)).rstrip()
    return f"```python\n# {function.__module__}\n{source}\n```"


def solution(name: str) -> Solution:
    """Show the solution of an exercise: its equation, a short form, and the library's own function.

    Args:
        name: name of the exercise, one of `EXERCISES`.

    Returns:
        A `Solution`, which displays itself.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    validate_choice("name", name, EXERCISES)
    return Solution(name)
