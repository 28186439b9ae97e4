"""TEACHING.md: its minutes are those of the notebooks, its plans add up, its links and numbers are right."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import torch

import course_lib
from course_lib.forward import corrupt, q_sample, to_x0_eps
from course_lib.sample import reverse_step
from course_lib.schedule import from_betas, make_schedule
from course_lib.shapes import conv_out, conv_transpose_out, count_parameters

ROOT = Path(course_lib.__file__).parent.parent
PAGE = (ROOT / "TEACHING.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
#: Sections that take no time of their own in the plan.
CLOSING = {"In three lines", "Honest limits", "On your own", "References"}
EXERCISE = re.compile(r"^### Exercise .*\(difficulty [123] of 3, (\d+) minutes?\)$", re.MULTILINE)


def text_of(path: Path) -> str:
    """The text cells of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def headings(path: Path) -> list[str]:
    """The headings of a notebook; the first is its title."""
    return [words.strip() for words in re.findall(r"^#{1,6} (.+)$", text_of(path), re.MULTILINE)]


def exercises_of(path: Path) -> dict[str, list[int]]:
    """The sections that a learner works through, and the minutes that their exercises state."""
    _, *parts = re.split(r"^## (.+)$", text_of(path), flags=re.MULTILINE)
    found = {title.strip(): body for title, body in zip(parts[::2], parts[1::2], strict=True)}
    return {title: [*map(int, EXERCISE.findall(body))] for title, body in found.items() if title not in CLOSING}


def asked(path: Path) -> int:
    """The minutes that a notebook's "You need" asks of a learner, exercises included."""
    found = re.search(r"^\*\*You need:\*\*.*?(\d+) minutes", text_of(path), re.MULTILINE)
    assert found, f"{path.name} does not say how many minutes it needs"
    return int(found[1])


CASES = [sum(minutes) for title, minutes in exercises_of(NOTEBOOKS["06"]).items() if title.startswith("Case ")]


def rows_under(heading: str) -> list[list[str]]:
    """The rows of the tables in a section of the page, without their heads."""
    section = PAGE[PAGE.index(f"## {heading}\n") :].split("\n## ")[0]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in section.splitlines() if line.startswith("|")]
    rules = [number for number, row in enumerate(rows) if {*"".join(row)} == {*":-"}]
    return [row for number, row in enumerate(rows) if number not in rules and number + 1 not in rules]


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_minutes_are_those_of_the_notebook(number: str) -> None:
    path = NOTEBOOKS[number]
    sections, title = exercises_of(path), f"{number} {headings(path)[0]}"
    minutes = [each for section in sections.values() for each in section]
    assert text_of(path).count("### Exercise") == len(minutes), "an exercise does not state its minutes"
    (row,) = (row for row in rows_under("Minutes") if row[0] == title)
    assert row[1:4] == [str(asked(path)), str(len(minutes)), str(sum(minutes))]
    parts = [row for row in rows_under("Minutes") if row[0] == number]
    assert [row[1] for row in parts] == [*sections]
    assert [row[3] for row in parts] == [str(sum(each)) if each else "" for each in sections.values()]
    assert sum(int(row[2]) for row in parts) == asked(path) > sum(minutes)
    assert all(int(row[2]) >= int(row[3] or 1) for row in parts)

    needs = f"{asked(path)} | {math.ceil(int(row[4].removesuffix(' s')) / 60)} |"
    assert re.search(rf"^\| \[{title}\]\(notebooks/{path.name}\) \|.*\| {re.escape(needs)}$", README, re.MULTILINE)
    told = re.escape(needs.replace(" |", " min |"))
    assert re.search(rf"{number} [^|]*\| {told}", text_of(NOTEBOOKS["00"])), "notebook 00 says something else"


def needed(words: str) -> tuple[dict[str, int], list[int]]:
    """What a piece of a plan asks for: minutes of each notebook, and the cases that it takes from notebook 06.

    Such as "00, 01", "Notebook 02" or "06, case 4 and cases 9 to 11".
    """
    case = r"cases? (\d+)(?: to (\d+))?"
    numbers = [number for number in re.findall(r"\b\d\d\b", re.sub(case, "", words)) if number in NOTEBOOKS]
    minutes = {number: asked(NOTEBOOKS[number]) for number in numbers}
    ranges = [range(int(first), int(last or first) + 1) for first, last in re.findall(case, words)]
    cases = [number for each in ranges for number in each]
    if cases:
        minutes["06"] = sum(CASES[number - 1] for number in cases)
    return minutes, cases


def test_the_long_day_adds_up() -> None:
    rows, given = rows_under("One long day"), set[str]()
    starts = [60 * int(start[:-3]) + int(start[-2:]) for start, _, _ in rows]
    for start, end, (_, minutes, what) in zip(starts, [*starts[1:], starts[-1]], rows, strict=True):
        assert start + int(minutes) == end, f"after {what!r} comes a gap"
        asks, _ = needed(what)
        assert int(minutes) >= sum(asks.values()), f"{what!r} asks for {sum(asks.values())} minutes"
        given |= {*asks}
    assert given == set(NOTEBOOKS)


def test_the_five_sessions_add_up() -> None:
    rows = rows_under("Five sessions")
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"]
    done, cases = set[str](), list[int]()
    for row in rows:
        work, discuss, quiz, total = map(int, row[2:6])
        assert work + discuss + quiz == total
        (asks, some), (home, more) = needed(row[1]), needed(row[6])
        assert work >= sum(asks.values()), f"session {row[0]} gives {work} minutes to what asks for {asks}"
        done |= {*asks, *home}
        cases += [*some, *more]
    assert done == set(NOTEBOOKS) and sorted(cases) == [*range(1, len(CASES) + 1)]


def test_every_misunderstanding_is_answered_by_a_linked_section() -> None:
    rows = rows_under("Common misunderstandings")
    links = re.findall(r"\[([^\]]+)\]\((notebooks/[^)#]+)(?:#((?:[^()]|\([^()]*\))*))?\)", PAGE)
    assert len(links) == len(rows) >= 15 and {name[10:12] for _, name, _ in links} >= set(NOTEBOOKS) - {"00", "06"}
    for said, answer in rows:
        assert re.fullmatch(r"\".+[.?!]\"", said) and answer.count("](notebooks/") == 1, said
    for words, name, anchor in links:
        found = {title.replace(" ", "-"): f"{name[10:12]}, {title}" for title in headings(ROOT / name)}
        assert found.get(anchor) == words, f"{name} has no heading for #{anchor}, or the link says another"


def test_commands_exist() -> None:
    makefile, project = ((ROOT / name).read_text(encoding="utf-8") for name in ("Makefile", "pyproject.toml"))
    targets = set(re.findall(r"`make ([a-z-]+)`", PAGE))
    assert {"lab", "html", "student", "solutions"} <= targets
    assert [name for name in sorted(targets) if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
    for name in re.findall(r"\b(?:tools|tests)/\w+\.py\b|\b(?:constraints\.txt|environment\.yml|\w+\.md)\b", PAGE):
        assert (ROOT / name).is_file(), name
    # what goes on the USB stick was tried, and holds what pyproject.toml asks for
    (backend,) = re.findall(r'^requires = \["([^"]+)"\]', project, re.MULTILINE)
    assert f'pip download -c constraints.txt -d ../wheels . "{backend}"' in PAGE
    assert "pip install --no-index --find-links ../wheels -c constraints.txt -e ." in PAGE


def test_three_questions_for_each_notebook_with_folded_answers() -> None:
    quiz = PAGE[PAGE.index("\n## Quiz\n") :].split("\n## ")[1]
    _, *parts = re.split(r"^### (.+)$", quiz, flags=re.MULTILINE)
    assert parts[::2] == [f"{number} {headings(path)[0]}" for number, path in NOTEBOOKS.items()]
    for title, body in zip(parts[::2], parts[1::2], strict=True):
        assert re.findall(r"^(\d)\. .+\?$", body, re.MULTILINE) == ["1", "2", "3"], title
        answers = re.findall(r"<details><summary>Answer</summary>\n\n(.+?)\n\n</details>", body, re.DOTALL)
        assert len(answers) == body.count("<details") == body.count("</details>") == 3, title
        assert all(len(answer.split()) >= 6 for answer in answers), title


def test_the_numbers_of_the_page_are_right() -> None:
    """Every number in the quiz and in the table of misunderstandings, worked out by the library."""

    def says(*pieces: str) -> None:
        assert [piece for piece in pieces if piece not in PAGE] == []

    g = torch.Generator().manual_seed(0)
    assert torch.zeros(8, 3, 32, 32).numel() == 24_576
    says("24,576")
    pictures = (torch.rand(400, 1, 28, 28, generator=g) < 0.5).float() * 2 - 1  # variance 1
    mixed, _ = corrupt(pictures * math.sqrt(0.5), 0.5, generator=g)
    assert mixed.var() == pytest.approx(0.375, abs=0.005)
    says("= 0.375")
    assert conv_out(28, 3, 2, 1) == 14 and [conv_transpose_out(14, 3, 2, 1, o) for o in (0, 1)] == [27, 28]
    says("14×14, then 27×27", "it is 28×28 again")
    assert count_parameters(torch.nn.Conv2d(64, 32, 3)) == 18_464
    says("18,464")
    two = from_betas(torch.tensor([0.1, 0.2], dtype=torch.float64))
    assert two.alpha_bar[2] == pytest.approx(0.72) and two.noise[2] ** 2 == pytest.approx(0.28)
    assert two.signal[2] == pytest.approx(0.85, abs=0.005) and two.posterior_variance(0, 1) == 0
    says("0.9 · 0.8 = 0.72", "variance is 0.28", "about 0.85")
    assert make_schedule("linear", 150).signal[-1] == pytest.approx(0.47, abs=0.005)
    says("a_T = 0.47")
    cosine = make_schedule("cosine")
    t = int((cosine.noise / cosine.signal - 10).abs().argmin())
    x0, eps = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    x_t, _ = q_sample(cosine, x0, t, eps)
    x0_hat, _ = to_x0_eps("eps", cosine, eps + 0.1, x_t, t)  # a mean squared error of 0.01
    assert (x0_hat - x0).square().mean() == pytest.approx(1, rel=0.05)
    says("b / a = 10", "100 times as large, so 1")
    line = 0.5 * torch.randn(50_000, generator=g) + 0.5 * torch.randn(50_000, generator=g)
    assert line.std() == pytest.approx(0.71, abs=0.01)
    says("√½, about 0.71", "by a factor of 0.71")
    stepped = reverse_step(cosine, x0, eps, t, t - 100, 0.0)
    torch.testing.assert_close(stepped, q_sample(cosine, x0, t - 100, eps)[0])
    assert cosine.signal[0] == 1 and cosine.noise[0] == 0
