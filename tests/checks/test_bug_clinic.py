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
def test_the_smallest_test_is_red_on_the_broken_program_and_green_on_the_right_ones(notebook, case):
    smallest, mend = notebook[f"test_{case}"], EXERCISES[f"mend_{case}"]
    with pytest.raises(AssertionError, match=r"\w{3,}"):
        smallest(program(notebook, case, "broken"))
    smallest(program(notebook, case, "library"))
    assert isinstance(mend, Exercise)
    from_table = {3: lambda T: mend.answer(make_schedule("linear", T).alpha_bar)}  # case 3 is mended from a table
    smallest(from_table.get(case, mend.answer))


@pytest.mark.parametrize("case", [case for case in CASES if case != 3])
def test_the_check_names_what_is_wrong_with_the_broken_program(notebook, case):
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


def test_the_debugging_guide_names_every_case():
    text = SOURCE[SOURCE.index("# ## Debugging guide\n") :]
    found = re.findall(r"^# \| (.*) \|$", text[: text.index("# %%")], re.MULTILINE)
    head, *rows = [row.split(" | ") for row in found]
    assert head == ["what you see", "likely causes", "smallest test", "case"]
    assert {len(row) for row in rows} == {4} and len(rows) >= len(CASES)
    assert {int(number) for row in rows for number in re.findall(r"\d+", row[3])} == {*CASES}


def test_nothing_is_given_away_before_the_diagnosis():
    """From the heading of a case to its question, no comment or sentence says what is wrong."""
    for case in CASES:
        start = SOURCE.index(f"# ## Case {case}: ")
        before = SOURCE[start : SOURCE.index(f"Diagnose case {case} ")]
        assert not re.search(r"wrong|mistake|broken|should|missing|forg[eo]t|instead|# bug", before), case


def test_letters_of_the_right_answers_vary():
    letters = [EXERCISES[f"diagnosis_{case}"].solution() for case in CASES]
    assert set(letters) == set("abcd") and max(map(letters.count, letters)) <= 4
