"""The exercises of a notebook, and what fills their stubs.

An exercise is a cell `check("name", my_x)`; its stub is the last `def my_x`, `class my_x` or `my_x = ...` above. The
body of the answer that course_lib.checks shows as the solution fills it, or the number or letter that it works out.
Where the two do not fit, a sentence says why.
"""

from __future__ import annotations

import ast
import builtins
import copy
import inspect
import math
import re
import symtable
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from course_lib.checks import BY_NOTEBOOK, EXERCISES, Choice, Exercise, Question


class HandoutError(ValueError):
    """What stands in the way of a handout, one sentence a line."""


# --- exercises in a notebook ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """One exercise of a notebook.

    Args:
        exercise: its name in course_lib.checks.
        variable: what the learner defines and hands to the check.
        stub: place of the cell that defines it, counted from 0.
        check: place of the cell that checks it.
    """

    exercise: str
    variable: str
    stub: int
    check: int


def plain(source: str) -> str:
    """The code of a cell as Python, also where it has lines that only IPython understands."""
    try:
        ast.parse(source)
    except SyntaxError:
        return TransformerManager().transform_cell(source)
    return source


def bound_names(source: str) -> set[str]:
    """The names that a cell's code gives a value: by =, def, class, import, for, with. Empty if it cannot be read."""
    try:
        symbols = symtable.symtable(plain(source), "cell", "exec").get_symbols()
    except SyntaxError:
        return set()
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}


def used_names(source: str) -> set[str]:
    """The names that a cell's code takes from outside of its functions and classes."""

    def inside(table: symtable.SymbolTable) -> Iterator[str]:
        yield from (s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced())
        for child in table.get_children():
            yield from inside(child)

    return set(inside(symtable.symtable(plain(source), "cell", "exec")))


def _is_check(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check"


def find_tasks(notebook: NotebookNode) -> tuple[list[Task], list[str]]:
    """The exercises of a notebook from top to bottom, and what is wrong with them.

    A check of a variable stands alone in its cell. Calls of `check` with anything but a variable are no exercises: they
    show what a check does.
    """
    tasks: list[Task] = []
    problems: list[str] = []
    home: dict[str, int] = {}  # name → the last cell so far that gives it a value
    for place, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        try:
            body = ast.parse(plain(cell.source)).body
        except SyntaxError as error:
            problems.append(f"cell {place + 1} cannot be read: {error.msg}.")
            continue
        alone = len(body) == 1 and isinstance(body[0], ast.Expr) and _is_check(body[0].value)
        for call in (node for statement in body for node in ast.walk(statement)):
            if not isinstance(call, ast.Call) or not _is_check(call):
                continue
            match call.args:
                case [ast.Constant(value=str(name)), ast.Name(id=variable)] if alone:
                    if variable in {task.variable for task in tasks}:
                        problems.append(f"cell {place + 1} checks {variable}, which an earlier cell checks already.")
                    elif name in {task.exercise for task in tasks}:
                        problems.append(f'cell {place + 1} checks "{name}" a second time.')
                    elif variable not in home:
                        problems.append(f'check("{name}", {variable}): no cell above defines {variable}.')
                    else:
                        tasks.append(Task(name, variable, home[variable], place))
                case [_, ast.Name(id=variable)]:
                    problems.append(f"cell {place + 1} checks {variable} and does more: a check stands alone.")
                case _ if alone:
                    problems.append(f"cell {place + 1} checks no variable: write check(name, variable).")
        names = bound_names(cell.source)
        for task in tasks:
            if task.variable in names:
                problems.append(f"cell {place + 1} overwrites {task.variable}, the learner's answer.")
        home |= dict.fromkeys(names, place)
    return tasks, problems


def order_problems(names: list[str], number: str) -> Iterator[str]:
    """Where the exercises that a notebook checks differ from those that course_lib.checks has for it.

    Args:
        names: what the notebook checks, from top to bottom.
        number: of the notebook, two digits.
    """
    book = list(BY_NOTEBOOK.get(number, {}))
    for name in names:
        if name not in EXERCISES:
            yield f'it checks "{name}", which course_lib.checks does not know.'
        elif name not in book:
            owner = next(other for other, exercises in BY_NOTEBOOK.items() if name in exercises)
            yield f'it checks "{name}", which belongs to notebook {owner}.'
    for name in book:
        if name not in names:
            yield f'it never checks "{name}", which course_lib/checks/nb{number}.py has.'
    here, there = [name for name in names if name in book], [name for name in book if name in names]
    if here != there:
        yield f"it checks {', '.join(here)}; course_lib/checks/nb{number}.py has the order {', '.join(there)}."


# --- what fills a stub ------------------------------------------------------------------------------------------------


def number_text(value: float, tolerance: float) -> str:
    """A number as people write it: whole where it is whole, else the shortest within half of the tolerance.

    >>> number_text(31036481.0, 0.1), number_text(1 / 3, 1e-3), number_text(0.1 + 0.2, 1e-6)
    ('31_036_481', '0.3333', '0.3')
    """
    short = value
    if not value.is_integer():
        for digits in range(1, 18):
            short = float(f"{value:.{digits}g}")
            if math.isclose(short, value, rel_tol=tolerance / 2):
                break
    if short.is_integer():
        return f"{int(short):_}" if abs(short) >= 10_000 else str(int(short))
    return re.sub(r"e([+-])0*", r"e\1", repr(short))


def literal(exercise: Question | Choice) -> str:
    """The answer to a question, as code."""
    if isinstance(exercise, Question):
        return number_text(float(exercise.solution()), exercise.tolerance)
    return f'"{exercise.solution()}"'


Definition = ast.FunctionDef | ast.ClassDef


def _docstring(node: Definition) -> ast.Expr | None:
    """The statement that is the docstring."""
    first = node.body[0]
    return first if isinstance(first, ast.Expr) and ast.get_docstring(node, clean=False) is not None else None


def _parameters(arguments: ast.arguments) -> str:
    """What stands between the brackets of a def, without annotations, as learners write it."""
    arguments = copy.deepcopy(arguments)
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return ast.unparse(arguments)


def answer_of(name: str, exercise: Exercise) -> tuple[Definition, str]:
    """The answer of an exercise, and the text of its body without docstring; methods lose their annotations.

    Raises:
        HandoutError: it is no def and no class, has no body, or annotates a variable.
    """
    here = f'the answer of "{name}" in course_lib.checks'
    try:
        source = textwrap.dedent(inspect.getsource(exercise.answer))
        (node,) = ast.parse(source).body
    except (OSError, TypeError, SyntaxError, ValueError):
        node = ast.Pass()
    if not isinstance(node, Definition):
        raise HandoutError(f"{here} is written with neither def nor class.")
    doc = _docstring(node)
    body = node.body[1:] if doc else node.body
    begin = min(part.lineno for part in (body[0], *getattr(body[0], "decorator_list", []))) if body else 0
    if begin <= node.lineno:
        raise HandoutError(f"{here} has an empty body, or one on the line of its def.")
    if any(isinstance(inner, ast.AnnAssign) for inner in ast.walk(node)):
        raise HandoutError(f"{here} annotates a variable: leave the annotation out.")
    lines = source.splitlines()[: node.end_lineno]
    for inner in reversed(body):
        if isinstance(inner, ast.FunctionDef):
            head = f"{' ' * inner.col_offset}def {inner.name}({_parameters(inner.args)}):"
            lines[inner.lineno - 1 : inner.body[0].lineno - 1] = [head]
    while lines[begin - 2].strip()[:1] in ("", "#"):  # comments above the first statement belong to the body
        begin -= 1
    return node, "\n".join(lines[begin - 1 :]).strip("\n")


def signature_problems(name: str, stub: Definition, answer: Definition) -> Iterator[str]:
    """Where the signature of a stub is not that of the answer that fills it."""
    if type(stub) is not type(answer):
        kinds = {ast.FunctionDef: "a function", ast.ClassDef: "a class"}
        yield f'{stub.name} is {kinds[type(stub)]}, the answer of "{name}" is {kinds[type(answer)]}.'
        return
    if isinstance(stub, ast.FunctionDef) and isinstance(answer, ast.FunctionDef):
        pairs = [(stub, answer)]
    else:
        methods = {part.name: part for part in answer.body if isinstance(part, ast.FunctionDef)}
        stubs = [part for part in stub.body if isinstance(part, ast.FunctionDef)]
        pairs = [(part, methods[part.name]) for part in stubs if part.name in methods]
        for part in stubs:
            if part.name not in methods:
                yield f'{stub.name} has a method {part.name}, which the answer of "{name}" lacks.'
    for one, other in pairs:
        mine, theirs = _parameters(one.args), _parameters(other.args)
        if mine != theirs:
            where = one.name if one is stub else f"{stub.name}.{one.name}"
            yield f'{where} takes ({mine}), the answer of "{name}" takes ({theirs}).'


def is_unwritten(node: ast.AST) -> bool:
    """Whether code has three dots where something is to be written, or raises NotImplementedError."""
    if isinstance(node, ast.Constant) and node.value is ...:
        return True
    if isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" in ast.unparse(node.exc):
        return True
    inner = ast.iter_child_nodes(node.value if isinstance(node, ast.Subscript) else node)  # x[..., 0] is no stub
    return any(map(is_unwritten, inner))


def with_solution(source: str, variable: str, name: str) -> str:
    """The code of a stub's cell with the solution in it.

    Args:
        source: the cell.
        variable: what the cell defines.
        name: of the exercise.

    Raises:
        HandoutError: there is no stub, or the answer does not fit it.
    """
    exercise = EXERCISES[name]
    found = [
        node
        for node in ast.parse(source).body
        if (isinstance(node, Definition) and node.name == variable)
        or (isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [variable])
    ]
    if not found:
        raise HandoutError(f"the last cell above that defines {variable} has no def, no class and no `{variable} = `.")
    node = found[-1]
    lines = source.splitlines()
    if isinstance(node, ast.Assign):
        if isinstance(exercise, Exercise):
            raise HandoutError(f'"{name}" asks for a function or class, but its stub is `{ast.unparse(node)}`.')
        if not (isinstance(node.value, ast.Constant) and node.value.value is ...):
            raise HandoutError(f"{variable} is no stub: expected `{variable} = ...`, found `{ast.unparse(node)}`.")
        line = lines[node.value.lineno - 1].encode()
        begin, end = node.value.col_offset, node.value.end_col_offset
        lines[node.value.lineno - 1] = (line[:begin] + literal(exercise).encode() + line[end:]).decode()
        return "\n".join(lines)
    if not isinstance(exercise, Exercise):
        raise HandoutError(f'"{name}" asks for a number or letter, but its stub is the definition of {variable}.')
    doc = _docstring(node)
    if doc is None:
        raise HandoutError(f"{variable} has no docstring: say in one line what goes in and what comes out.")
    if not any(map(is_unwritten, node.body)):
        raise HandoutError(f"{variable} is no stub: there are no three dots in it.")
    answer, body = answer_of(name, exercise)
    problems = list(signature_problems(name, node, answer))
    if problems:
        raise HandoutError("\n".join(problems))
    gap = [""] if re.match(r"\s*(def|class|@)\b", body) else []  # as ruff format has it
    return "\n".join([*lines[: doc.end_lineno], *gap, body, *lines[node.end_lineno :]])


def fill(notebook: NotebookNode, number: str) -> NotebookNode:
    """A copy of a notebook with the solution in every exercise; all else, ids of cells included, as it was.

    Args:
        notebook: as committed.
        number: of the notebook, two digits.

    Raises:
        HandoutError: a sentence for each exercise that does not fit course_lib.checks, or has no stub.
    """
    filled = copy.deepcopy(notebook)
    tasks, problems = find_tasks(filled)
    problems += order_problems([task.exercise for task in tasks], number)
    for task in tasks:
        if task.exercise not in BY_NOTEBOOK.get(number, {}):
            continue
        cell = filled.cells[task.stub]
        try:
            cell.source = with_solution(cell.source, task.variable, task.exercise)
        except HandoutError as error:
            problems += str(error).splitlines()
            continue
        except SyntaxError as error:
            problems.append(f"cell {task.stub + 1} is a stub and cannot be read: {error.msg}.")
            continue
        above = [each.source for each in filled.cells[: task.stub + 1] if each.cell_type == "code"]
        known = set().union(*map(bound_names, above), dir(builtins), ("display", "get_ipython"))
        for name in sorted(used_names(cell.source) - known):
            problems.append(f'the answer of "{task.exercise}" uses {name}, which no cell above defines.')
    if problems:
        raise HandoutError("\n".join(f"notebook {number}: {problem}" for problem in problems))
    return filled
