"""The bug clinic: each smallest test is red on the broken program and green on the mended one."""

# mypy: allow-untyped-defs
from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from course_lib.checks import EXERCISES, WRONG, Choice, Exercise, check
from course_lib.schedule import make_schedule

SOURCE = (Path(__file__).parents[2] / "notebooks" / "py" / "06_find_the_bug.py").read_text(encoding="utf-8")
TREE = ast.parse(SOURCE)
#: Test of a case → the programs that the notebook runs it on, as written there: "broken" and "library".
VERDICTS = {
    ast.unparse(call.args[0]): {keyword.arg: keyword.value for keyword in call.keywords}
    for call in ast.walk(TREE)
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "verdict"
}
CASES = [int(name.removeprefix("test_")) for name in VERDICTS]


@pytest.fixture(scope="module")
def notebook():
    """The notebook's imports, ingredients and functions, without what it runs."""
    wanted = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    ingredients = [node.lineno for node in TREE.body if isinstance(node, ast.Assign) and "alpha_bar" in ast.dump(node)]
    body: list[ast.stmt] = [
        node
        for node in TREE.body
        if isinstance(node, wanted) or (isinstance(node, ast.Assign) and node.lineno <= ingredients[0])
    ]
    space: dict[str, Any] = {}
    exec(compile(ast.Module(body, []), "06_find_the_bug", "exec"), space)
    return space


def program(notebook, case, which):
    return eval(compile(ast.Expression(VERDICTS[f"test_{case}"][which]), "06_find_the_bug", "eval"), notebook)


def test_there_are_eight_to_twelve_cases_each_with_its_parts():
    assert 8 <= len(CASES) <= 12 and list(range(1, len(CASES) + 1)) == CASES
    assert [int(n) for n in re.findall(r"^# ## Case (\d+): ", SOURCE, re.MULTILINE)] == CASES
    names = [name for case in CASES for name in (f"diagnosis_{case}", f"mend_{case}")]
    assert re.findall(r'^check\("(\w+)", ', SOURCE, re.MULTILINE) == names
    for case in CASES:
        assert isinstance(EXERCISES[f"diagnosis_{case}"], Choice) and isinstance(EXERCISES[f"mend_{case}"], Exercise)
        assert re.search(rf"^seen_{case} = |, seen_{case} = |= seen_{case} = |^seen_{case}, ", SOURCE, re.MULTILINE)


@pytest.mark.parametrize("case", CASES)
def test_the_smallest_test_is_red_on_the_broken_program(notebook, case):
    with pytest.raises(AssertionError, match=r"\w{3,}"):
        notebook[f"test_{case}"](program(notebook, case, "broken"))


@pytest.mark.parametrize("case", CASES)
def test_the_smallest_test_is_green_on_the_librarys(notebook, case):
    notebook[f"test_{case}"](program(notebook, case, "library"))


@pytest.mark.parametrize("case", CASES)
def test_the_smallest_test_is_green_on_the_mended_program(notebook, case):
    mend = EXERCISES[f"mend_{case}"]
    assert isinstance(mend, Exercise)
    answer = mend.answer
    from_table = {3: lambda T: answer(make_schedule("linear", T).alpha_bar)}  # its mend takes a table, whatever made it
    notebook[f"test_{case}"](from_table.get(case, answer))


@pytest.mark.parametrize("case", [case for case in CASES if case != 3])
def test_the_check_names_what_is_wrong_with_the_broken_program(notebook, case):
    """Who hands in the broken program is told its mistake, not a difference of numbers."""
    broken = check(f"mend_{case}", program(notebook, case, "broken"))
    assert broken.status == WRONG and broken.message in EXERCISES[f"mend_{case}"].mistakes


def test_verdict_reports_and_never_raises(notebook, capsys):
    def test(program):
        if program() != 1:
            raise AssertionError("it is not one")  # pytest would add to the message of an assert

    notebook["verdict"](test, good=lambda: 1, bad=lambda: 2, ugly=lambda: 1 / 0)
    assert capsys.readouterr().out.splitlines() == [
        "✓ green  good",
        "✗ red    bad: it is not one",
        "✗ red    ugly: division by zero",
    ]


def guide():
    """The rows of the debugging guide, as lists of cells."""
    text = SOURCE[SOURCE.index("# ## Debugging guide\n") :]
    rows = re.findall(r"^# \| (.*) \|$", text[: text.index("# %%")], re.MULTILINE)
    assert rows[0].split(" | ") == ["what you see", "likely causes", "smallest test", "case"]
    return [row.split(" | ") for row in rows[1:]]


def test_the_debugging_guide_names_every_case():
    rows = guide()
    assert {len(row) for row in rows} == {4} and len(rows) >= len(CASES)
    named = [int(number) for row in rows for number in re.findall(r"\d+", row[3])]
    assert set(named) == set(CASES)


def test_nothing_is_given_away_before_the_diagnosis():
    """From the heading of a case to its question, no comment or sentence says what is wrong."""
    for case in CASES:
        start = SOURCE.index(f"# ## Case {case}: ")
        before = SOURCE[start : SOURCE.index(f"Diagnose case {case} ")]
        assert not re.search(r"wrong|mistake|broken|should|missing|forg[eo]t|instead|# bug", before), case


def test_letters_of_the_right_answers_vary():
    letters = [EXERCISES[f"diagnosis_{case}"].solution() for case in CASES]
    assert set(letters) == set("abcd") and max(map(letters.count, letters)) <= 4
