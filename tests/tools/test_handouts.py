"""The exercises in the notebooks fit the checks; handouts with and without solutions follow from both."""

from __future__ import annotations

import ast
import functools
import json
import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from nbformat import NotebookNode
from torch import Tensor, nn

import executed
import handouts
import notebooks
import solutions
from course_lib.checks import BY_NOTEBOOK, CORRECT, EXERCISES, NOT_DONE, Choice, Exercise, Question, check
from solutions import HandoutError, Task

PATHS = {path.stem[:2]: path for _, path in notebooks.pairs()}
ASKED = [(number, name) for number, book in BY_NOTEBOOK.items() for name in book]
LESSONS = ("01", "02", "03", "04", "05")
HEADING = re.compile(r"^### Exercise (\d+) — \S.*?\s+\(difficulty [123] of 3, \d+ minutes?\)$", re.MULTILINE)
DETAILS = re.compile(r"<details><summary>(.*?)</summary>(.*?)</details>", re.DOTALL)


@functools.cache
def original(number: str) -> NotebookNode:
    assert number in PATHS and PATHS[number].exists(), f"there is no notebook {number}: run `make notebooks`"
    return notebooks.read(PATHS[number])


@functools.cache
def filled(number: str) -> NotebookNode:
    return solutions.fill(original(number), number)


def tasks_of(number: str) -> list[Task]:
    tasks, problems = solutions.find_tasks(original(number))
    assert problems == []
    return tasks


def task_of(number: str, name: str) -> Task:
    found = [task for task in tasks_of(number) if task.exercise == name]
    assert found, f'notebook {number} never checks "{name}"'
    return found[0]


# --- the exercises in the notebooks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", LESSONS)
def test_a_lesson_has_four_to_seven_exercises_in_several_sections(number: str) -> None:
    tasks = tasks_of(number)
    assert 4 <= len(tasks) <= 7
    cells = original(number).cells
    titles = [
        place
        for place, cell in enumerate(cells)
        if cell.cell_type == "markdown" and re.search(r"^## ", cell.source, re.MULTILINE)
    ]
    assert len({max(place for place in titles if place < task.stub) for task in tasks}) >= 3


@pytest.mark.parametrize("number", PATHS)
def test_a_notebook_says_how_far_one_is(number: str) -> None:
    cells = original(number).cells
    (place,) = [place for place, cell in enumerate(cells) if cell.source.strip() == "progress()"]
    assert place > max(task.check for task in tasks_of(number))


@pytest.mark.parametrize("number", PATHS)
def test_headings_of_exercises_count_them_and_say_how_hard_and_long_they_are(number: str) -> None:
    cells, last, found = original(number).cells, 0, []
    for task in tasks_of(number):
        between = [cell.source for cell in cells[last : task.stub] if cell.cell_type == "markdown"]
        text = "\n\n".join(between)
        assert len(re.findall(r"^#+ Exercise\b", text, re.MULTILINE)) == 1, f"above the stub of {task.exercise}"
        heading = HEADING.search(text)
        assert heading is not None, f"the heading of {task.exercise} lacks difficulty or minutes"
        found.append(int(heading[1]))
        last = task.check
    assert found == list(range(1, len(found) + 1))
    rest = "\n\n".join(cell.source for cell in cells[last:] if cell.cell_type == "markdown")
    assert not re.search(r"^#+ Exercise\b", rest, re.MULTILINE), "an exercise without a check"


@pytest.mark.parametrize(("number", "name"), ASKED)
def test_an_exercise_is_a_stub_then_its_check_then_hints_then_the_solution(number: str, name: str) -> None:
    task, cells = task_of(number, name), original(number).cells
    assert task.check == task.stub + 1
    assert len(ast.parse(cells[task.stub].source).body) == 1, "a stub stands alone in its cell"
    after = cells[task.check + 1]
    assert after.cell_type == "markdown"
    text = re.split(r"^#{1,6} ", after.source, maxsplit=1, flags=re.MULTILINE)[0]
    assert text.startswith("<details>") and text.count("<details>") == text.count("</details>")
    folded = DETAILS.findall(text)
    summaries = [summary for summary, _ in folded]
    assert "Solution" in summaries
    hints = summaries[: summaries.index("Solution")]
    assert hints in (["Hint"], [f"Hint {i + 1}" for i in range(len(hints))]) and hints
    exercise = EXERCISES[name]
    words = folded[len(hints)][1]
    ways = [f'solution("{name}")', *(f.__name__ for f in getattr(exercise, "library", ()))]
    assert words.strip() and (not isinstance(exercise, Exercise) or any(way in words for way in ways))


# --- undone and done --------------------------------------------------------------------------------------------------


def answer_in(notebook: NotebookNode, task: Task) -> Any:
    """What a notebook hands to a check: its cell is run, after the imports and definitions of the cells above it."""
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in notebook.cells[: task.stub]:
        if cell.cell_type != "code":
            continue
        for statement in ast.parse(solutions.plain(cell.source)).body:
            if isinstance(statement, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
                code = compile(ast.Module([statement], []), "<cell>", "exec")
                try:
                    exec(code, names)
                except NameError:  # a default value or decorator that only a whole run could tell
                    continue
    exec(compile(notebook.cells[task.stub].source, "<cell>", "exec"), names)
    return names[task.variable]


@pytest.mark.parametrize(("number", "name"), ASKED)
def test_an_undone_exercise_is_not_done_yet(number: str, name: str) -> None:
    result = check(name, answer_in(original(number), task_of(number, name)))
    assert result.status == NOT_DONE, result


@pytest.mark.parametrize(("number", "name"), ASKED)
def test_a_filled_exercise_is_correct(number: str, name: str) -> None:
    result = check(name, answer_in(filled(number), task_of(number, name)))
    assert result.status == CORRECT, result


@pytest.mark.parametrize("number", PATHS)
def test_only_stubs_are_filled(number: str) -> None:
    before, after = original(number), filled(number)
    stubs = {task.stub for task in tasks_of(number)}
    for place, (one, other) in enumerate(zip(before.cells, after.cells, strict=True)):
        assert one.id == other.id
        assert (one == other) is (place not in stubs)
        if place in stubs:  # signature and docstring stay, or all before the dots
            head = '"""'.join(one.source.split('"""')[:2]) if '"""' in one.source else one.source.split("...")[0]
            assert other.source.startswith(head)
            assert not solutions.is_unwritten(ast.parse(other.source))
            assert len(other.source.splitlines()) <= notebooks.LONGEST_CELL
            assert all(words not in other.source for words in ("# your code", ": Tensor", "-> Tensor"))
    assert before.metadata == after.metadata
    nbformat.validate(after)


# --- filling ----------------------------------------------------------------------------------------------------------


def double(x: float, times: int = 2) -> float:
    """A docstring that does not move."""

    # ε is kept, and so is this comment
    def inner(
        value: Tensor, /, sign: int = -1, *rest: float, flag: bool = True, **more: dict[str, int]
    ) -> tuple[Tensor, int]:
        total = sign * 2  # as is this
        return value * total, -total

    y = inner(torch.tensor(x))[0].item() / -2  # ε: float

    # above the last
    return times * y


class Twice(nn.Module):
    """Another docstring."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x  # no comment


def annotated(x: float, times: int = 2) -> float:
    y: float = times * x
    return y


def private(x: float) -> float:
    return 2 * math.sqrt(x) * len(ASKED)


def exercise_for(answer: Callable[..., Any]) -> Exercise:
    return Exercise(double, lambda _: [(1.0,)], {}, answer=answer, library=[], equation="2x")


MADE_UP: dict[str, Exercise | Question | Choice] = {
    "double": exercise_for(double),
    "twice": exercise_for(Twice),
    "third": Question(lambda: 1 / 3, "why"),
    "letter": Choice(lambda: "b", "why", {"a": "no"}),
    "annotated": exercise_for(annotated),
    "private": exercise_for(private),
    "lambda": exercise_for(lambda x: 2 * x),
}
IMPORTS = "import math\n\nimport torch\nfrom torch import nn"
DOUBLE = '''# a comment above
def my_double(x, times=2):  # and one beside
    """Number in, number out."""
    # here
    return ...  # your code


seven = 7'''
TWICE = '''class MyTwice(nn.Module):
    """A layer that doubles."""

    def __init__(self, factor=2.0):
        super().__init__()
        ...  # your code

    def forward(self, x):
        return ...  # your code'''


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Exercise | Question | Choice]]:
    """Gives notebook 77 some of the exercises above."""

    def give(*names: str) -> dict[str, Exercise | Question | Choice]:
        for name in names:
            monkeypatch.setitem(EXERCISES, name, MADE_UP[name])
        monkeypatch.setitem(BY_NOTEBOOK, "77", {name: MADE_UP[name] for name in names})
        return BY_NOTEBOOK["77"]

    return give


def notebook_of(*cells: str) -> NotebookNode:
    return notebooks.canonical([("code", cell, {}) for cell in (IMPORTS, *cells)])


def sources(*cells: str) -> list[str]:
    """The cells after the imports of a notebook with solutions."""
    return [cell.source for cell in solutions.fill(notebook_of(*cells), "77").cells[1:]]


def test_the_body_of_a_function_goes_into_its_stub(book: Callable[..., Any]) -> None:
    book("double")
    text, _ = sources(DOUBLE, 'check("double", my_double)')
    assert (
        text
        == '''# a comment above
def my_double(x, times=2):  # and one beside
    """Number in, number out."""
    # ε is kept, and so is this comment
    def inner(value, /, sign=-1, *rest, flag=True, **more):
        total = sign * 2  # as is this
        return value * total, -total

    y = inner(torch.tensor(x))[0].item() / -2  # ε: float

    # above the last
    return times * y


seven = 7'''
    )
    names: dict[str, Any] = {"torch": torch}
    exec(text, names)
    assert names["my_double"](3.0) == 6


def test_the_body_of_a_class_goes_into_its_stub(book: Callable[..., Any]) -> None:
    book("twice")
    text, _ = sources(TWICE, 'check("twice", MyTwice)')
    assert (
        text
        == '''class MyTwice(nn.Module):
    """A layer that doubles."""

    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor

    @torch.no_grad()
    def forward(self, x):
        return self.factor * x  # no comment'''
    )


def test_numbers_and_letters_go_into_their_stubs(book: Callable[..., Any]) -> None:
    book("third", "letter")
    cells = sources("my_third = ...  # a number", 'check("third", my_third)', "π = 3; x = ...", 'check("letter", x)')
    assert cells[0] == "my_third = 0.3333333  # a number"
    assert cells[2] == 'π = 3; x = "b"'


@pytest.mark.parametrize(
    ("value", "tolerance", "text"),
    [
        (999.0, 0.1, "999"),
        (31_037_633.0, 1e-6, "31_037_633"),
        (0.1 + 0.2, 1e-6, "0.3"),
        (2 / 3, 0.01, "0.67"),
        (-0.0, 1e-6, "0"),
        (4e-5, 1e-6, "4e-5"),
        (25_437.3, 0.05, "25_000"),
    ],
)
def test_numbers_are_written_as_people_write_them(value: float, tolerance: float, text: str) -> None:
    assert solutions.number_text(value, tolerance) == text
    assert math.isclose(ast.literal_eval(text), value, rel_tol=tolerance)


TWO = ("my_third = ...", 'check("third", my_third)', "my_letter = ...", 'check("letter", my_letter)')
#: What is wrong → exercises of the notebook, its cells, words of the sentence.
WRONG: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "unknown": (
        ("third",),
        (*TWO[:2], "a = ...", 'check("nothing", a)'),
        '"nothing", which course_lib.checks does not',
    ),
    "never": (("third", "letter"), TWO[:2], 'never checks "letter"'),
    "order": (("letter", "third"), TWO, "it checks third, letter; course_lib/checks/nb77.py has the order letter, th"),
    "undefined": (("third",), ('check("third", my_third)',), "no cell above defines my_third"),
    "done": (
        ("third",),
        ("my_third = 0.3", TWO[1]),
        "my_third is no stub: expected `my_third = ...`, found `my_third =",
    ),
    "overwritten": (("third",), (*TWO[:2], "for my_third in range(3):\n    pass"), "cell 4 overwrites my_third"),
    "value for a function": (("double",), ("f = ...", 'check("double", f)'), '"double" asks for a function or class'),
    "function for a class": (
        ("twice",),
        (DOUBLE.replace("my_double", "f"), 'check("twice", f)'),
        'f is a function, the answer of "twice" is a class',
    ),
    "no docstring": (
        ("double",),
        (DOUBLE.replace('    """Number in, number out."""\n', ""), 'check("double", my_double)'),
        "my_double has no docstring",
    ),
    "parameters": (
        ("double",),
        (DOUBLE.replace("x, times=2", "x, *, times=2"), 'check("double", my_double)'),
        'my_double takes (x, *, times=2), the answer of "double" takes (x, times=2)',
    ),
    "another method": (
        ("twice",),
        (TWICE.replace("forward", "backward"), 'check("twice", MyTwice)'),
        'MyTwice has a method backward, which the answer of "twice" lacks',
    ),
    "names of its own": (
        ("private",),
        (DOUBLE.replace("x, times=2", "x"), 'check("private", my_double)'),
        'the answer of "private" uses ASKED, which no cell above defines',
    ),
    "annotation": (
        ("annotated",),
        (DOUBLE, 'check("annotated", my_double)'),
        'the answer of "annotated" in course_lib.checks annotates a variable',
    ),
    "lambda": (
        ("lambda",),
        (DOUBLE.replace("x, times=2", "x"), 'check("lambda", my_double)'),
        'the answer of "lambda" in course_lib.checks is written with neither def nor class',
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_said_in_one_sentence(book: Callable[..., Any], case: str) -> None:
    names, cells, words = WRONG[case]
    book(*names)
    notebook = notebook_of(*cells)
    before = json.dumps(notebook)
    with pytest.raises(HandoutError) as caught:
        solutions.fill(notebook, "77")
    assert json.dumps(notebook) == before
    assert str(caught.value).startswith("notebook 77: ") and words in str(caught.value)
    assert len(str(caught.value).splitlines()) == (2 if case == "undefined" else 1), caught.value


def test_a_demonstration_is_no_exercise_and_magic_is_no_obstacle(book: Callable[..., Any]) -> None:
    book("third")
    demonstration = 'display(check("third", ...))\ndisplay(check("third", 1 / 4))'
    cells = ("%matplotlib inline\nx = 1", demonstration, *TWO[:2], "%%time\nmy_third\n", "!ls")
    assert sources(*cells)[2] == "my_third = 0.3333333"


# --- the folders ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("course") / "build" / "student"
    handouts.build(out, solved=False)
    return out


def test_students_get_the_committed_bytes(student: Path) -> None:
    copies = sorted((student / "notebooks").iterdir())
    assert [path.name for path in copies] == [path.name for path in PATHS.values()]
    for path in copies:
        assert path.read_bytes() == (notebooks.NOTEBOOKS / path.name).read_bytes()
        assert all(cell.get("outputs", []) == [] for cell in notebooks.read(path).cells)


def test_what_somebody_did_in_a_notebook_is_not_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "py").mkdir()
    text = (notebooks.NOTEBOOKS / "py" / f"{PATHS['01'].stem}.py").read_text(encoding="utf-8")
    (tmp_path / "py" / "01_a.py").write_text(text, encoding="utf-8")
    worked, wanted = filled("01").copy(), notebooks.to_notebook(text).encode()
    worked.cells = [*worked.cells, nbformat.v4.new_code_cell("my_notes = 1")]
    for name in ("01_a.ipynb", "01_a-Copy1.ipynb"):
        nbformat.write(worked, tmp_path / name)
    honest = notebooks.pairs
    monkeypatch.setattr(notebooks, "pairs", lambda: honest(tmp_path))
    assert handouts.originals() == [tmp_path / "01_a.ipynb"]
    assert handouts.contents_of(handouts.originals(), solved=False) == {"01_a.ipynb": wanted}
    solved = handouts.contents_of(handouts.originals(), solved=True)["01_a.ipynb"]
    assert b"my_notes" not in solved and solved != wanted


def broken_links(folder: Path) -> list[str]:
    """Links of the pages in a folder that lead to no file in it."""
    broken = []
    for page in (*folder.rglob("*.ipynb"), *folder.rglob("*.md")):
        for link in handouts.links(handouts.text_of(page)):
            target = (page.parent / link).resolve()
            if not target.is_file() or not target.is_relative_to(folder.resolve()):
                broken.append(f"{page.name}: {link}")
    return broken


def test_links_work_inside_of_the_folder(student: Path, tmp_path: Path) -> None:
    assert broken_links(student) == []
    shown = [link for path in PATHS.values() for link in handouts.links(handouts.text_of(path))]
    assert len(shown) > 30 and any(link.endswith(".ipynb") for link in shown)
    name = next(Path(link).name for link in shown if link.endswith(".png"))
    (student / "figures" / name).rename(tmp_path / name)
    assert any(name in link for link in broken_links(student))
    (tmp_path / name).rename(student / "figures" / name)


def test_nothing_else_is_in_the_folder(student: Path) -> None:
    assert {path.suffix for path in (student / "figures").iterdir()} == {".png"}
    files = {path.name for path in student.iterdir() if path.is_file()}
    assert files - set(handouts.PAGES) == {*handouts.LICENSES, "README.txt"}
    assert {path.name for path in student.iterdir() if path.is_dir()} == {"notebooks", "figures"}
    shown = {Path(link).name for path in PATHS.values() for link in handouts.links(handouts.text_of(path))}
    assert {path.name for path in (student / "figures").iterdir()} <= shown


def test_solutions_are_the_same_folder_with_stubs_filled(student: Path, tmp_path: Path) -> None:
    out = tmp_path / "solutions"
    files = handouts.build(out, solved=True)
    assert sorted(files) == sorted(path for path in out.rglob("*") if path.is_file())
    for path in files:
        name = path.relative_to(out)
        same = path.read_bytes() == (student / name).read_bytes()
        assert same is (path.suffix != ".ipynb" and path.name != "README.txt"), name
    assert "the exercises are done" in (out / "README.txt").read_text(encoding="ascii")
    assert notebooks.read(out / "notebooks" / PATHS["01"].name) == filled("01")


def test_work_is_never_overwritten(student: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    handouts.build(out, solved=False)
    (out / "figures" / "old.png").touch()
    os.utime(out / "figures" / "old.png", (0, 0))
    handouts.build(out, solved=False)
    assert not (out / "figures" / "old.png").exists()
    (out / ".DS_Store").touch()  # by the Finder, which looked into it
    os.utime(out / ".DS_Store", (time.time() + 10, time.time() + 10))
    handouts.build(out, solved=False)
    path = out / "notebooks" / PATHS["01"].name
    os.utime(path, (time.time() + 10, time.time() + 10))
    with pytest.raises(HandoutError, match=r"somebody worked in .*01_corrupt"):
        handouts.build(out, solved=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(HandoutError, match="holds something else"):
        handouts.build(tmp_path / "other", solved=False)
    assert (tmp_path / "other" / "thesis.txt").exists()


def test_a_link_to_what_is_not_handed_out_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handouts, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    for folder in ("notebooks", "figures"):
        (tmp_path / folder).mkdir()
    for name in ("README.md", "figures/a.png", "figures/make.py"):
        (tmp_path / name).touch()
    (tmp_path / "NOTATION.md").write_text("![a](figures/a.png)", encoding="utf-8")

    def write(text: str) -> None:
        cells: list[tuple[str, str, dict[str, Any]]] = [("markdown", text, {})]
        nbformat.write(notebooks.canonical(cells), tmp_path / "notebooks" / "01_a.ipynb")

    write('[self](01_a.ipynb#place) <img src="../figures/a.png"> [n](../NOTATION.md) [web](https://a.example) [p](#p)')
    assert handouts.companions(["01_a.ipynb"]) == [Path("figures/a.png"), Path("NOTATION.md")]
    for link in ("../README.md", "../figures/make.py", "../figures/b.png", "02_b.ipynb", "../../out.png"):
        write(f"[a]({link})")
        with pytest.raises(HandoutError, match=re.escape(f"01_a.ipynb links to {link}, which ")):
            handouts.companions(["01_a.ipynb"])


# --- what checks say in executed notebooks ----------------------------------------------------------------------------


def test_the_printed_results_are_compared(tmp_path: Path) -> None:
    notebook = notebook_of(*TWO, 'display(check("corrupt", ...))')
    for place, text in {
        2: "✓ third: correct. Why.",
        4: "✗ letter: wrong. Not correct.",
        5: "○ corrupt: not done yet. Write it.",
    }.items():
        output = nbformat.v4.new_output("execute_result", {"text/plain": text}, execution_count=place)
        notebook.cells[place].outputs, notebook.cells[place].execution_count = [output], place
    path = tmp_path / "77_x.ipynb"
    nbformat.write(notebook, path)
    (problem,) = executed.verdicts([path], CORRECT)
    assert "cell 5: the check of letter says '✗ letter: wrong. Not correct.', where it should say 'correct'" in problem
    assert len(executed.verdicts([path], NOT_DONE)) == 2
    notebook.cells[2].outputs = []
    nbformat.write(notebook, path)
    assert "the check of third says 'nothing'" in executed.verdicts([path], CORRECT)[0]
