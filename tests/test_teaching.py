"""TEACHING.md: its minutes are those of the notebooks, its plans add up, its links and numbers are right.

The table of minutes is written by `python tests/test_teaching.py`; the seconds of the computer in it are kept.
"""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

import course_lib
from course_lib.forward import corrupt, q_sample, to_x0_eps
from course_lib.sample import reverse_step
from course_lib.schedule import from_betas, make_schedule
from course_lib.shapes import conv_out, conv_transpose_out, count_parameters

ROOT = Path(course_lib.__file__).parent.parent
PAGE = ROOT / "TEACHING.md"
NOTEBOOKS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
BEGIN, END = "<!-- minutes: begin -->", "<!-- minutes: end -->"
#: Sections that take no time of their own in the plan.
CLOSING = {"In three lines", "Honest limits", "On your own", "References"}
EXERCISE = re.compile(r"^### Exercise .*\(difficulty [123] of 3, (\d+) minutes?\)$", re.MULTILINE)


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


# --------------------------------------------------------------------------------------------- what notebooks say


@dataclass
class Section:
    """A section of a notebook: its title, the minutes of its exercises, and how long its text is."""

    title: str
    exercises: list[int] = field(default_factory=list)
    words: int = 0


def cells(path: Path) -> list[tuple[str, str]]:
    """Kind and text of every cell."""
    return [
        (cell["cell_type"], "".join(cell["source"])) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
    ]


def headings(path: Path) -> list[str]:
    """Every heading of a notebook, as it is written."""
    text = "\n".join(source for kind, source in cells(path) if kind == "markdown")
    return [words.strip() for words in re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)]


def sections_of(path: Path) -> list[Section]:
    """The sections that a learner works through."""
    found: list[Section] = []
    for kind, source in cells(path):
        parts = re.split(r"^## (.+)$", source, flags=re.MULTILINE) if kind == "markdown" else [source]
        for i, part in enumerate(parts):
            if i % 2:
                found.append(Section(part.strip()))
            elif found:
                found[-1].words += len(part.split())
                found[-1].exercises += (
                    [int(minutes) for minutes in EXERCISE.findall(part)] if kind == "markdown" else []
                )
    return [section for section in found if section.title not in CLOSING]


def asked(path: Path) -> int:
    """The minutes that a notebook's "You need" asks of a learner, exercises included."""
    line = next(line for _, source in cells(path) for line in source.splitlines() if line.startswith("**You need:**"))
    found = re.search(r"(\d+) minutes", line)
    assert found, f"{path.name} does not say how many minutes it needs: {line}"
    return int(found[1])


def title_of(path: Path) -> str:
    return f"{path.name[:2]} {headings(path)[0]}"


def minutes_of(path: Path) -> list[int]:
    """Minutes of each section: its exercises, and its share of the rest by the length of its text; rounded in sum."""
    sections = sections_of(path)
    rest = asked(path) - sum(sum(section.exercises) for section in sections)
    words = sum(section.words for section in sections)
    shares = [sum(section.exercises) + rest * section.words / words for section in sections]
    minutes = [max(1, round(share)) for share in shares]
    while off := asked(path) - sum(minutes):
        step = 1 if off > 0 else -1
        free = [i for i in range(len(minutes)) if minutes[i] + step > 0]
        minutes[max(free, key=lambda i: step * (shares[i] - minutes[i]))] += step
    return minutes


def table(seconds: dict[str, str]) -> str:
    """The table of minutes, as the notebooks give it."""
    lines = ["| notebook and section | you, minutes | exercises | their minutes | computer |", "|:--|--:|--:|--:|--:|"]
    for number, path in NOTEBOOKS.items():
        sections = sections_of(path)
        exercises = [minutes for section in sections for minutes in section.exercises]
        what = f"{asked(path)}** | **{len(exercises)}** | **{sum(exercises)}** | **{seconds.get(number, '?')}"
        lines.append(f"| **{title_of(path)}** | **{what}** |")
        for section, minutes in zip(sections, minutes_of(path), strict=True):
            count = f"{len(section.exercises)} | {sum(section.exercises)}" if section.exercises else "|"
            lines.append(f"| {section.title} | {minutes} | {count} | |")
    return "\n".join(lines)


def block() -> list[list[str]]:
    """The table as it stands on the page, cell by cell, without its head."""
    text = page()
    lines = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip().splitlines()
    return [
        [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")] for line in lines[2:]
    ]


def seconds_on_page() -> dict[str, str]:
    return {row[0][2:4]: row[4].strip("*") for row in block() if row[0].startswith("**")}


def write() -> None:
    """Put the table as the notebooks give it onto the page."""
    text, seconds = page(), seconds_on_page()
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    PAGE.write_text(f"{text[:begin]}\n{table(seconds)}\n{text[end:]}", encoding="utf-8")


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_notebooks_ask_for_more_than_their_exercises(number: str) -> None:
    """Reading takes time as well."""
    sections = sections_of(NOTEBOOKS[number])
    exercises = sum(sum(section.exercises) for section in sections)
    assert asked(NOTEBOOKS[number]) > exercises, f"{exercises} minutes of exercises; mend its 'You need'"
    lines = [line for kind, text in cells(NOTEBOOKS[number]) if kind == "markdown" for line in text.splitlines()]
    written = sum(line.startswith("### Exercise") for line in lines)
    assert written == sum(len(section.exercises) for section in sections), "an exercise does not state its minutes"


def test_the_table_says_what_the_notebooks_say() -> None:
    wanted = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table(seconds_on_page()).splitlines()[2:]
    ]
    found, hint = block(), "write it again: python tests/test_teaching.py"
    assert [row[0] for row in found] == [row[0] for row in wanted], hint
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine[2:4] == theirs[2:4], f"{mine[0]}: {hint}"
        if mine[0].startswith("**"):
            assert mine[1] == theirs[1], f"{mine[0]}: {hint}"
        else:  # a sentence more or less changes nothing
            assert abs(int(mine[1]) - int(theirs[1])) <= 2, f"{mine[0]}: {hint}"


def test_minutes_of_sections_add_up() -> None:
    for path in NOTEBOOKS.values():
        assert sum(minutes_of(path)) == asked(path)
    total, parts = 0, 0
    for row in [*block(), ["**end**", "**0**"]]:
        if row[0].startswith("**"):
            assert parts == total, f"before {row[0]}: the sections add up to {parts} minutes, not to {total}"
            total, parts = int(row[1].strip("*")), 0
        else:
            parts += int(row[1])


def test_the_readme_states_the_same_minutes() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS.values():
        (row,) = re.findall(rf"^\| \[[^\]]+\]\(notebooks/{path.name}\) \|.*$", readme, re.MULTILINE)
        minutes = [int(cell) for cell in row.strip(" |").split("|")[-2:]]
        seconds = int(seconds_on_page()[path.name[:2]].removesuffix(" s"))
        assert minutes == [asked(path), math.ceil(seconds / 60)], f"{path.name}: README.md says {row}"
        first = NOTEBOOKS["00"].read_text(encoding="utf-8")
        assert re.search(rf"{path.name[:2]} [^|]*\| {minutes[0]} min \| {minutes[1]} min \|", first), path.name


# ---------------------------------------------------------------------------------------------------- the plans


def rows_under(heading: str) -> list[list[str]]:
    """The table in a section of the page."""
    text = page()
    text = text[text.index(f"## {heading}\n") :].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def needed(words: str) -> tuple[dict[str, int], dict[str, set[int]]]:
    """What a piece of a plan asks for: minutes by notebook, and the cases of notebooks that are done in part.

    Such as "00, 01", "Notebook 02" or "06, case 4 and cases 9 to 11".
    """
    minutes: dict[str, int] = {}
    cases: dict[str, set[int]] = {}
    for number, part in re.findall(r"(?:^|[ ;,])(\d\d)\b((?:, (?:cases? \d+(?: to \d+)?(?: and )?)+)?)", words):
        if number not in NOTEBOOKS:
            continue
        if not part:
            minutes[number] = asked(NOTEBOOKS[number])
            continue
        for first, last in re.findall(r"cases? (\d+)(?: to (\d+))?", part):
            cases.setdefault(number, set()).update(range(int(first), int(last or first) + 1))
        named = {
            section.title: spent
            for section, spent in zip(sections_of(NOTEBOOKS[number]), minutes_of(NOTEBOOKS[number]), strict=True)
        }
        parts = [spent for title, spent in named.items() if re.match(r"Case (\d+):", title)]
        assert max(cases[number]) <= len(parts), f"notebook {number} has {len(parts)} cases"
        minutes[number] = sum(parts[case - 1] for case in cases[number])
    return minutes, cases


def test_the_long_day_adds_up() -> None:
    rows = rows_under("One long day")
    clock = 0
    for i, (start, minutes, _) in enumerate(rows):
        hours, past = map(int, start.split(":"))
        assert i == 0 or 60 * hours + past == clock, f"{start} does not follow from the rows above it"
        clock = 60 * hours + past + int(minutes)
    given = set()
    for start, minutes, what in rows:
        for name in re.findall(r"Notebook (\d\d[^;.]*)", what):
            asks, _ = needed(name)
            given |= set(asks)
            assert int(minutes) >= sum(asks.values()), f"{start}: {what} asks for {sum(asks.values())} minutes"
    assert given == set(NOTEBOOKS)


def test_the_five_sessions_add_up() -> None:
    rows = rows_under("Five sessions")
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"]
    done: set[str] = set()
    cases: list[int] = []
    for row in rows:
        work, discuss, quiz, total = map(int, row[2:6])
        assert work + discuss + quiz == total
        asks, some = needed(row[1])
        assert work >= sum(asks.values()), f"session {row[0]} gives {work} minutes to what asks for {asks}"
        home, more = needed(row[6])
        done |= set(asks) | set(home)
        cases += [*some.get("06", ()), *more.get("06", ())]
    assert done == set(NOTEBOOKS)
    assert sorted(cases) == list(range(1, sum(s.title.startswith("Case ") for s in sections_of(NOTEBOOKS["06"])) + 1))


# ------------------------------------------------------------------------------------- links, names, commands


def linked() -> list[tuple[str, str, str]]:
    """Every link into a notebook: its words, its file, and the heading that it names."""
    return re.findall(r"\[([^\]]+)\]\((notebooks/[^)#]+)(?:#((?:[^()]|\([^()]*\))*))?\)", page())


def missing_headings(links: list[tuple[str, str, str]]) -> list[str]:
    """Links whose heading is not in the notebook, or whose words do not name it."""
    wrong = []
    for words, name, anchor in links:
        path = ROOT / name
        found = {title.replace(" ", "-"): title for title in headings(path)} if path.is_file() else {}
        if anchor not in found:
            wrong.append(f"{name} has no heading for #{anchor}")
        elif words != f"{path.name[:2]}, {found[anchor]}":
            wrong.append(f"the link to {anchor} reads {words!r}")
    return wrong


def test_every_linked_heading_exists() -> None:
    links = linked()
    assert len(links) >= 15 and missing_headings(links) == []


def test_every_misunderstanding_is_answered_by_a_cell() -> None:
    rows = rows_under("Common misunderstandings")
    assert len(rows) >= 15
    for said, answer in rows:
        assert re.fullmatch(r"\".+[.?!]\"", said) and len(re.findall(r"\]\(notebooks/", answer)) == 1, said
    assert {name[10:12] for _, name, _ in linked()} >= set(NOTEBOOKS) - {"00", "06"}


def test_commands_exist() -> None:
    text = page()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`make ([a-z-]+)`", text))
    assert {"lab", "html", "student", "solutions"} <= targets
    assert [name for name in sorted(targets) if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
    for name in re.findall(r"\b(?:tools|tests)/\w+\.py\b|\b(?:constraints\.txt|environment\.yml|\w+\.md)\b", text):
        assert (ROOT / name).is_file(), name


# ------------------------------------------------------------------------------------------------------ the quiz


def test_three_questions_for_each_notebook_with_folded_answers() -> None:
    text = page()
    quiz = text[text.index("\n## Quiz\n") :].split("\n## ")[1]
    parts = re.split(r"^### (.+)$", quiz, flags=re.MULTILINE)[1:]
    titles = parts[::2]
    assert [title[:2] for title in titles] == [f"{i:02}" for i in range(7)]
    assert [title for title, path in zip(titles, NOTEBOOKS.values(), strict=False) if title != title_of(path)] == []
    for title, body in zip(titles, parts[1::2], strict=True):
        assert re.findall(r"^(\d)\. .+\?$", body, re.MULTILINE) == ["1", "2", "3"], title
        answers = re.findall(r"<details><summary>Answer</summary>\n\n(.+?)\n\n</details>", body, re.DOTALL)
        assert len(answers) == body.count("<details") == body.count("</details>") == 3, title
        assert all(len(answer.split()) >= 6 for answer in answers), title


def test_the_numbers_of_the_page_are_right() -> None:
    """Every number in the quiz and in the table of misunderstandings, worked out by the library."""
    text = page()

    def says(*pieces: str) -> None:
        assert [piece for piece in pieces if piece not in text] == []

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
    says("0.9 · 0.8 = 0.72", "variance 0.28", "about 0.85")
    assert make_schedule("linear", 150).signal[-1] == pytest.approx(0.47, abs=0.005)
    says("a_T = 0.47")
    cosine = make_schedule("cosine")
    t = int((cosine.noise / cosine.signal - 10).abs().argmin())
    x0, eps = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    x_t, _ = q_sample(cosine, x0, t, eps)
    x0_hat, _ = to_x0_eps("eps", cosine, eps + 0.1, x_t, t)  # a mean squared error of 0.01
    assert (x0_hat - x0).square().mean() == pytest.approx(1, rel=0.05)
    says("b / a = 10", "100 times as large, 1")
    line = 0.5 * torch.randn(50_000, generator=g) + 0.5 * torch.randn(50_000, generator=g)
    assert line.std() == pytest.approx(0.71, abs=0.01)
    says("√½, about 0.71", "by a factor of 0.71")
    stepped = reverse_step(cosine, x0, eps, t, t - 100, 0.0)
    torch.testing.assert_close(stepped, q_sample(cosine, x0, t - 100, eps)[0])
    assert cosine.signal[0] == 1 and cosine.noise[0] == 0


def test_what_the_page_says_of_the_bundle_fits_the_set_up() -> None:
    """The commands of the USB stick are those that were tried, and name what pyproject.toml asks for."""
    text = page()
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (backend,) = re.findall(r'^requires = \["([^"]+)"\]', project, re.MULTILINE)
    assert f'pip download -c constraints.txt -d ../wheels . "{backend}"' in text
    assert "pip install --no-index --find-links ../wheels -c constraints.txt -e ." in text


if __name__ == "__main__":
    write()
    sys.exit(0)
