"""What a teacher hands out: the notebooks in a clean folder, and the same with every exercise done.

    python tools/handouts.py student      build/student: the notebooks as they came, their pictures, the licenses
    python tools/handouts.py solutions    build/solutions: the same, with the solution in every exercise

Both follow from notebooks/py/*.py and course_lib.checks alone: nothing is handed out that somebody did in
notebooks/*.ipynb. An exercise is a cell `check("name", my_x)`; its stub is the last `def my_x`, `class my_x` or
`my_x = ...` above. What fills a stub is the body of the answer that course_lib.checks shows as the solution, or the
number or letter that it works out. Where the two do not fit, a sentence says why.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import copy
import inspect
import math
import re
import shutil
import symtable
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

import notebooks
from course_lib.checks import BY_NOTEBOOK, EXERCISES, Choice, Exercise, Question

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
KINDS = ("student", "solutions")
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")
#: Pages beside the notebooks that may be linked, and then go along.
PAGES = ("NOTATION.md",)
#: Name in the folder → file: notebooks and text, the figures' photos.
LICENSES = {
    "LICENSE": "LICENSE",
    "LICENSE-text": "LICENSE-text",
    "LICENSE-fashion-mnist": "course_lib/fashion_mnist/LICENSE",
}
TITLE = "Diffusion models, from noise to pictures: the notebooks"
README = """{title}

notebooks/   open them in their order, 00_start_here.ipynb first{kind}
figures/     the pictures that they show

There is no program in this folder. The notebooks use the course's library, course_lib, which brings its pictures of
clothes and its trained weights along. Below, COURSE stands for the folder of the course; its README.md says how to
install it.


Where the course is installed
-----------------------------

1. Open a terminal in this folder.
2. Type   COURSE/.venv/bin/jupyter lab .          (Linux, macOS)
   or     COURSE\\.venv\\Scripts\\jupyter lab .       (Windows)
   or     conda activate course, then  jupyter lab .
3. In the browser open notebooks, then 00_start_here.ipynb, and press Shift + Enter from cell to cell.

VS Code: open this folder, open a notebook, and choose COURSE/.venv as its kernel.
JupyterHub and other servers that have the course: upload this folder whole, so that figures/ stays beside notebooks/.

If the first cell says that the kernel has no course_lib, choose another kernel (Kernel, Change Kernel), or move this
folder into COURSE: the notebooks find the library in every folder above them.


Without a network
-----------------

An installed course needs no network: nothing is downloaded while the notebooks run, and all of the above works offline.
To install the course offline you need COURSE and a folder of packages for your system, both from your teacher;
TEACHING.md in COURSE says how to make the one and how to install from it.


Licenses
--------

Code: LICENSE (MIT). Text and figures: LICENSE-text (CC BY 4.0). The pictures of clothes in the figures are from
Fashion-MNIST: LICENSE-fashion-mnist (MIT).
"""


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
ANNOTATED = (ast.FunctionDef, ast.AsyncFunctionDef)


def _offsets(text: bytes) -> list[int]:
    """Where each line begins."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def without_annotations(text: bytes, nodes: list[ast.stmt], begin: int, end: int) -> bytes:
    """Part of a source without the annotations in it, all else as it was.

    Args:
        text: the source, UTF-8.
        nodes: the statements of the part, from the parse of the whole.
        begin: the first byte of the part.
        end: the byte after its last.
    """
    starts = _offsets(text)
    cuts: list[tuple[int, int]] = []

    def after(node: ast.expr) -> int:
        return starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)

    def before(node: ast.expr | ast.arg) -> int:
        return starts[node.lineno - 1] + node.col_offset

    for node in (inner for statement in nodes for inner in ast.walk(statement)):
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            cuts.append((after(node.target), after(node.annotation)))
        if not isinstance(node, ANNOTATED):
            continue
        arguments = node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = [*[None] * (len(positional) - len(arguments.defaults)), *arguments.defaults]
        pairs = [*zip(positional, defaults, strict=True)]
        pairs += zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        pairs += [(one, None) for one in (arguments.vararg, arguments.kwarg) if one is not None]
        for argument, default in pairs:
            if argument.annotation is None:
                continue
            cuts.append((before(argument) + len(argument.arg.encode()), after(argument.annotation)))
            if default is not None:  # x: int = 3 becomes x=3
                sign = text.index(b"=", after(argument.annotation), before(default))
                cuts.append((after(argument.annotation), sign))
                blank = len(text[sign + 1 :]) - len(text[sign + 1 :].lstrip())
                cuts.append((sign + 1, sign + 1 + blank))
        if node.returns is not None:
            arrow = text.rindex(b"->", 0, before(node.returns))
            cuts.append((len(text[:arrow].rstrip()), after(node.returns)))
    kept, at = [], begin
    for cut_begin, cut_end in sorted(cuts):
        kept.append(text[at:cut_begin])
        at = cut_end
    return b"".join([*kept, text[at:end]])


def _docstring(node: Definition) -> ast.Expr | None:
    """The statement that is the docstring."""
    first = node.body[0]
    return first if isinstance(first, ast.Expr) and ast.get_docstring(node, clean=False) is not None else None


def answer_of(name: str, exercise: Exercise) -> tuple[Definition, str]:
    """The answer of an exercise, and the text of its body without docstring and annotations.

    Raises:
        HandoutError: it is no def and no class, or has nothing but a docstring.
    """
    try:
        source = textwrap.dedent(inspect.getsource(exercise.answer))
        (node,) = ast.parse(source).body
    except (OSError, TypeError, SyntaxError, ValueError):
        node = ast.Pass()
    if not isinstance(node, Definition):
        raise HandoutError(f'the answer of "{name}" in course_lib.checks is written with neither def nor class.')
    doc = _docstring(node)
    body = node.body[1:] if doc else node.body
    if not body:
        raise HandoutError(f'the answer of "{name}" in course_lib.checks has an empty body.')
    lines = source.splitlines()
    decorators = getattr(body[0], "decorator_list", [])
    first = min(part.lineno for part in (body[0], *decorators))
    top = (doc.end_lineno or 0) if doc else node.lineno
    if first <= top:
        raise HandoutError(f'the answer of "{name}" in course_lib.checks has its body on the line of its def.')
    while first - 1 > top and lines[first - 2].strip()[:1] in ("", "#"):  # comments above belong to the body
        first -= 1
    text, last = source.encode(), body[-1]
    starts = _offsets(text)
    end = starts[last.end_lineno or 0]  # with a comment that ends its line
    return node, without_annotations(text, body, starts[first - 1], end).decode().strip("\n")


def _names(arguments: ast.arguments) -> list[str]:
    """The parameters as a signature names them."""
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [f"{argument.arg}=" for argument in arguments.kwonlyargs]
    return names + ([f"**{arguments.kwarg.arg}"] if arguments.kwarg else [])


def signature_problems(name: str, stub: Definition, answer: Definition) -> Iterator[str]:
    """Where the signature of a stub is not that of the answer that fills it."""
    if type(stub) is not type(answer):
        kinds = {ast.FunctionDef: "a function", ast.ClassDef: "a class"}
        yield f'{stub.name} is {kinds[type(stub)]}, the answer of "{name}" is {kinds[type(answer)]}.'
        return
    here, there = ([ast.unparse(mark) for mark in node.decorator_list] for node in (stub, answer))
    if here != there:
        yield f'{stub.name} has the decorators {here}, the answer of "{name}" has {there}.'
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
        here, there = _names(one.args), _names(other.args)
        if here != there:
            where = one.name if one is stub else f"{stub.name}.{one.name}"
            yield f'{where} takes ({", ".join(here)}), the answer of "{name}" takes ({", ".join(there)}).'


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


# --- the folders ------------------------------------------------------------------------------------------------------


def originals() -> list[Path]:
    """The notebooks of the course; copies that somebody made beside them have no text form."""
    return [path for text_path, path in notebooks.pairs() if text_path.exists()]


def notebook_bytes(path: Path, *, solved: bool) -> bytes:
    """A notebook as it is handed out: as it follows from its text form, or with solutions."""
    text = notebooks.to_notebook((path.parent / "py" / f"{path.stem}.py").read_text(encoding="utf-8"))
    if solved:
        text = nbformat.writes(fill(nbformat.reads(text, as_version=4), path.stem[:2])) + "\n"
    return text.encode()


def contents_of(paths: list[Path], *, solved: bool) -> dict[str, bytes]:
    """File name → what is handed out, for notebooks.

    Raises:
        HandoutError: what is wrong with any of them.
    """
    found, problems = {}, []
    for path in paths:
        try:
            found[path.name] = notebook_bytes(path, solved=solved)
        except FileNotFoundError:
            problems.append(f"{notebooks.name_of(path)} has no text form in {notebooks.name_of(path.parent / 'py')}.")
        except HandoutError as error:
            problems.append(str(error))
    if problems:
        raise HandoutError("\n".join(problems))
    return found


def save(found: dict[str, bytes], folder: Path) -> list[Path]:
    """Write files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in found]


def write(folder: Path, *, solved: bool) -> list[Path]:
    """Write the notebooks alone, into `folder`/notebooks.

    Raises:
        HandoutError: what is wrong with any of them; then nothing is written.
    """
    return save(contents_of(originals(), solved=solved), folder / "notebooks")


def links(text: str) -> set[str]:
    """The files beside it that a text names in links and pictures, without places in them."""
    found = re.findall(r"\]\(\s*<?([^)\s>]+)", text) + re.findall(r"""\b(?:src|href)=["']([^"']+)["']""", text)
    parts = [urlsplit(link) for link in found]
    return {unquote(part.path) for part in parts if part.path and not part.scheme and not part.netloc}


def text_of(path: Path) -> str:
    """What a page says, or what the text cells of a notebook say."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in notebooks.read(path).cells if cell.cell_type == "markdown")


def companions(names: list[str]) -> list[Path]:
    """What notebooks link to, the pictures in front, and goes with them.

    Args:
        names: of the notebooks' files.

    Returns:
        Paths relative to the repository.

    Raises:
        HandoutError: a link leads to what is not handed out.
    """
    found: set[Path] = set()
    problems = []
    waiting = [Path("notebooks", name) for name in names]
    while waiting:
        page = waiting.pop()
        for link in sorted(links(text_of(ROOT / page))):
            target = (ROOT / page.parent / link).resolve()
            if target.parent == notebooks.NOTEBOOKS and target.name in names:
                continue
            relative = target.relative_to(ROOT) if target.is_relative_to(ROOT) else target
            if not target.is_file():
                problems.append(f"{page.as_posix()} links to {link}, which does not exist.")
            elif target.suffix not in PICTURES and relative.as_posix() not in PAGES:
                problems.append(f"{page.as_posix()} links to {link}, which is not handed out: name it without a link.")
            elif relative not in found:
                found.add(relative)
                waiting += [relative] if target.suffix == ".md" else []
    if problems:
        raise HandoutError("\n".join(problems))
    return sorted(found, key=lambda path: (path.suffix == ".md", path))


def work_in(out: Path) -> str:
    """What of a folder a new handout would destroy, as a sentence; empty if nothing."""
    if not out.exists() or not any(out.iterdir()):
        return ""
    readme = out / "README.txt"
    if not readme.is_file() or not readme.read_text(encoding="utf-8").startswith(TITLE):
        return f"{out} holds something else than an older handout: give another folder."
    written = readme.stat().st_mtime
    inside = (path for path in sorted(out.rglob("*")) if path.is_file())
    mine = (path for path in inside if not any(part.startswith(".") for part in path.relative_to(out).parts))
    newer = [path for path in mine if path.stat().st_mtime > written]  # hidden files are of programs, not of people
    if newer:
        name = newer[0].relative_to(out).as_posix()
        return f"somebody worked in {out} ({name} is newer than its README.txt): move it away, or delete it."
    return ""


def build(out: Path, *, solved: bool) -> list[Path]:
    """Write a folder to hand out; an older one is replaced.

    Args:
        out: the folder.
        solved: whether with solutions.

    Returns:
        The files in it.

    Raises:
        HandoutError: a notebook that cannot be filled, a link that would lead nowhere, or a folder in which somebody
            worked; then nothing is written.
    """
    problem = work_in(out)
    if problem:
        raise HandoutError(problem)
    found = contents_of(originals(), solved=solved)
    beside = companions(list(found))
    if out.exists():
        shutil.rmtree(out)
    files = save(found, out / "notebooks")
    for relative in beside:
        (out / relative).parent.mkdir(parents=True, exist_ok=True)
        files.append(Path(shutil.copyfile(ROOT / relative, out / relative)))
    for name, source in LICENSES.items():
        files.append(Path(shutil.copyfile(ROOT / source, out / name)))
    readme = README.format(title=TITLE, kind="; the exercises are done" if solved else "")
    (out / "README.txt").write_text(readme, encoding="utf-8", newline="\n")  # last: see work_in
    return [*files, out / "README.txt"]


# --- the command ------------------------------------------------------------------------------------------------------


def main() -> int:
    """Read the command line, write the folder, and say what came of it; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--out", type=Path, help="the folder (default: build/student or build/solutions)")
    options = parser.parse_args()
    out = options.out or BUILD / options.kind
    try:
        files = build(out, solved=options.kind == "solutions")
    except HandoutError as error:
        print(error, file=sys.stderr)
        return 1
    books = sum(path.suffix == ".ipynb" for path in files)
    size = sum(path.stat().st_size for path in files)
    print(
        f"{notebooks.name_of(out)}: {books} notebooks and {len(files) - books} files beside them, {size / 1e6:.1f} MB."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
