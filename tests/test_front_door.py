"""What a stranger meets first: README, citation, dev container, workflows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

import course_lib

ROOT = Path(course_lib.__file__).parent.parent
README, MAKEFILE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Makefile"))


def test_the_readme_is_short_and_its_first_commands_open_and_test_the_course() -> None:
    assert len(README.splitlines()) < 150
    first = README.split("\n```\n")[1]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make lab", "make test"]


def test_citation_names_this_version() -> None:
    card = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert card["version"] == course_lib.__version__ and card["authors"] and f"# {card['title']}\n" in README


def test_container_and_workflows_run_commands_that_exist() -> None:
    lines = [
        json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))["postCreateCommand"]
    ]
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            lines += [step["run"] for step in job["steps"] if "run" in step]
    assert len(lines) >= 3
    for line in lines:
        made = re.findall(r"\bmake ([a-z-]+)", line)
        assert made or line == "bash .ci/run"
        assert all(f"\n{target}:" in MAKEFILE for target in made)
