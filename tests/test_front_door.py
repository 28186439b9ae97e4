"""What a stranger meets first: README, citation, dev container, workflows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

import course_lib

ROOT = Path(course_lib.__file__).parent.parent
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_readme_is_short_and_its_first_commands_open_and_test_the_course() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    first = re.search(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first[1].splitlines()] == ["make lab", "make test"]


def test_citation_names_this_version() -> None:
    card = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert card["version"] == course_lib.__version__ and card["authors"]
    assert f"# {card['title']}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_container_and_workflows_run_commands_that_exist() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    lines = [container["postCreateCommand"]]
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            lines += [step["run"] for step in job["steps"] if "run" in step]
    assert len(lines) >= 3
    for line in lines:
        made = re.findall(r"\bmake ([a-z-]+)", line)
        assert set(made) <= TARGETS
        assert made or line == "bash .ci/run"
