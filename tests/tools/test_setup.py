"""The set-up: three lists of packages that agree, refusals that say what to do, a server for this machine alone."""

from __future__ import annotations

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import notebooks
import open_lab
import setup_env

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
EXACT = dict(line.split("==") for line in LINES)
FOLDERS = ("course_lib", "notebooks/py", "figures", "benchmarks", "tools", "tests")
OWN = {"course_lib", *(path.stem for part in FOLDERS for path in (ROOT / part).rglob("*.py"))}
#: Of each import the packages that bring it.
PACKAGES = metadata.packages_distributions()


# --- pyproject.toml, constraints.txt, environment.yml -----------------------------------------------------------------


def test_every_direct_dependency_has_an_exact_version_within_its_bound() -> None:
    for text in [*PROJECT["dependencies"], *(text for texts in EXTRAS.values() for text in texts)]:
        wanted = Requirement(text)
        assert str(wanted.specifier).startswith(">="), f"{text}: the exact versions are in constraints.txt"
        assert wanted.specifier.contains(EXACT[canonicalize_name(wanted.name)]), text


def test_the_kernel_is_of_the_series_before_7() -> None:
    """ipykernel 7 now and then loses a message, and the cell waits for ever (its issue 1554); it answers sliders in a
    thread beside the running cell, where two may draw one figure of pyplot (JupyterLab's issue 19719)."""
    assert EXACT["ipykernel"].split(".")[0] == "6"


def test_environment_and_python_versions_agree() -> None:
    python, pip, listed = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    assert pip == "pip" and listed == {"pip": ["-c constraints.txt", f"-e .[{setup_env.EXTRAS}]"]}
    assert sorted(setup_env.EXTRAS.split(",")) == sorted(EXTRAS)
    minors = sorted(int(minor) for minor in re.findall(r":: Python :: 3\.(\d+)", "\n".join(PROJECT["classifiers"])))
    assert python in [f"python=3.{minor}" for minor in minors]
    assert (3, minors[0]) == setup_env.OLDEST and (3, minors[-1]) == setup_env.NEWEST_TRIED
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert allowed.contains(f"3.{minors[0]}.0") and not allowed.contains(f"3.{minors[0] - 1}.99")


@pytest.mark.skipif(not Path(sys.prefix, Path(setup_env.STAMP).name).exists(), reason="not made by `make setup`")
def test_what_is_installed_is_what_constraints_say() -> None:
    """Also what is needed by what is needed."""
    todo = [Requirement(f"course-lib[{setup_env.EXTRAS}]")]
    seen: set[tuple[str, str]] = set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            more = map(Requirement, metadata.requires(name) or [])
            todo += [each for each in more if each.marker is None or each.marker.evaluate({"extra": extra})]
    names = {name for name, _ in seen} - {"course-lib"}
    assert {name: metadata.version(name) for name in names} == {name: EXACT.get(name) for name in names}


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """The packages of others that some statements import."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module))
    return {name.split(".")[0] for name in found} - OWN - sys.stdlib_module_names


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_import_is_a_declared_dependency(folder: str) -> None:
    """What a learner's files import at their top is installed with the course; all else may be an extra."""
    needed = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    extra = needed | {canonicalize_name(Requirement(text).name) for texts in EXTRAS.values() for text in texts}
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # diffusers_model.py is itself imported inside a function
        strict = folder in ("course_lib", "notebooks/py", "figures") and path.name != "diffusers_model.py"
        for names, allowed in ((imported(tree.body), needed if strict else extra), (imported(ast.walk(tree)), extra)):
            assert [name for name in names if not allowed & {*map(canonicalize_name, PACKAGES.get(name, [name]))}] == []


# --- README.md, CONTRIBUTING.md, Makefile -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_pages_name_only_what_is_there(name: str) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", page, flags=re.MULTILINE))
    assert named and named <= targets
    links = re.findall(r"!?\[[^\]]*\]\((?!https?:)([^)#]+)", page) + re.findall(r"(?:src|srcset)=\"([^\"]+)\"", page)
    assert [link for link in links if not (ROOT / link).exists()] == []
    listed = re.findall(r"^([\w/]+)/ ", page, flags=re.MULTILINE)
    assert [folder for folder in listed if not (ROOT / folder).is_dir()] == []


def test_readme_lists_every_notebook_under_its_title() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {notebooks.COURSE}\n")
    for _, path in notebooks.pairs():
        title = notebooks.read(path).cells[0].source.splitlines()[0].removeprefix("# ")
        assert f"| [{path.stem[:2]} {title}](notebooks/{path.name}) |" in page


# --- tools/setup.sh and tools/setup_env.py ----------------------------------------------------------------------------


def test_setup_runs_on_any_python() -> None:
    tree = ast.parse(Path(setup_env.__file__).read_text(encoding="utf-8"), feature_version=(3, 7))
    for node in ast.walk(tree):
        assert not isinstance(node, (ast.JoinedStr, ast.NamedExpr, ast.AnnAssign, ast.AsyncFunctionDef, ast.Nonlocal))
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None and not node.args.kwonlyargs
            assert all(argument.annotation is None for argument in node.args.args)


def test_old_python_and_one_without_venv_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert setup_env.version_problem((3, 11, 0)) is None is setup_env.version_problem((4, 0, 0))
    for version in [(2, 7, 18), (3, 8, 0), (3, 10, 13)]:
        said = setup_env.version_problem(version)
        assert f"This is Python {version[0]}.{version[1]}" in said and "3.11 or newer" in said and "PYTHON=" in said
    assert setup_env.venv_problem() is None
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    assert f"apt install python3.{sys.version_info[1]}-venv" in setup_env.venv_problem()


def test_small_disk_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert setup_env.disk_problem(lambda folder: 100e9) is None
    said = setup_env.disk_problem(lambda folder: 1.25e9)
    assert "Not enough room" in said and "1.2 GB free" in said and "Free some space" in said
    monkeypatch.setattr(setup_env, "ROOT", "/proc" if Path("/proc").is_dir() else "/dev")
    said = setup_env.disk_problem(lambda folder: 100e9 if folder == setup_env.ROOT else 0)
    assert "TMPDIR=" in said, "where the downloads go is another disk, and that one is full"


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError(...)'", "could not be reached"),
        ("'SSLError(CERTIFICATE_VERIFY_FAILED)'\nERROR: No matching distribution found for setuptools", "PIP_CERT="),
        ("ERROR: No matching distribution found for torch==2.15.0", "tried with Python 3.11 to 3.13"),
        ("ERROR: something else", "    ERROR: something else"),
    ],
)
def test_failed_installation_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: str, expected: str) -> None:
    (tmp_path / "log").write_text(log, encoding="utf-8")
    monkeypatch.setattr(setup_env, "LOG", str(tmp_path / "log"))
    assert expected in setup_env.why_it_failed()


def test_stamp_holds_until_a_list_changes_or_an_installation_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list changes, the installation ends half-way, the list is put back: .venv holds neither."""
    for name in ("pyproject.toml", "constraints.txt", "log"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    for name, value in {"ROOT": tmp_path, "STAMP": tmp_path / "stamp", "LOG": tmp_path / "log"}.items():
        monkeypatch.setattr(setup_env, name, str(value))
    monkeypatch.setattr(setup_env, "VENV_PYTHON", sys.executable)
    monkeypatch.setattr(setup_env, "install", lambda: False)
    monkeypatch.setattr(setup_env, "disk_problem", lambda: None)
    (tmp_path / "stamp").write_text(setup_env.wanted_stamp(), encoding="utf-8")
    assert setup_env.main([]) == 0
    (tmp_path / "constraints.txt").write_text("torch==0", encoding="utf-8")
    assert setup_env.main([]) == 1 and not (tmp_path / "stamp").exists()
    assert "The installation failed." in capsys.readouterr().err


def fake_python(folder: Path, name: str, usable: bool | str) -> None:
    """A program that answers tools/setup.sh as a Python would: usable, newer than what was tried ("new"), or not."""
    status, tried = int(not usable), int(usable is not True)
    lines = [f"*--tried*) exit {tried} ;;", f"*--usable*) exit {status} ;;", '"-c "*) exit 0 ;;', "esac"]
    lines = ["#!/bin/sh", 'case "$*" in', *lines, f'echo "{name} $*"', f"exit {status}", ""]
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    (folder / name).chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize(
    ("pythons", "asked_for", "status", "said"),
    [
        ({"python3": True, "python3.13": True}, [], 0, "python3 tools/setup_env.py\n"),
        ({"python3": False, "python3.12": True}, [], 0, "python3.12 tools/setup_env.py\n"),
        ({"python3": "new", "python3.12": True}, [], 0, "python3.12 tools/setup_env.py\n"),
        ({"python3": "new", "python3.12": False}, [], 0, "python3 tools/setup_env.py\n"),
        ({"python3": False, "python": False}, [], 1, "python3 tools/setup_env.py\n"),
        ({}, [], 1, "No Python was found. Install Python 3.11 or newer"),
        ({"python3": True, "mine": True}, ["mine"], 0, "mine tools/setup_env.py --asked-for\n"),
        ({"python3": True}, ["python3.99"], 1, "There is no program called python3.99"),
    ],
)
def test_a_usable_python_is_found(
    tmp_path: Path, pythons: dict[str, bool | str], asked_for: list[str], status: int, said: str
) -> None:
    for name, usable in pythons.items():
        fake_python(tmp_path, name, usable)
    for tool in ("sh", "dirname"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    done = subprocess.run(
        [tmp_path / "sh", ROOT / "tools" / "setup.sh", *asked_for],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status and (done.stdout + done.stderr).startswith(said)


# --- tools/open_lab.py ------------------------------------------------------------------------------------------------


def test_ports_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for port in ("-1", "80", "70000"):
        monkeypatch.setattr(sys, "argv", ["open_lab.py", "--port", port])
        assert open_lab.main() == 1
        assert f"A port is a number from 1024 to 65535, got {port}" in capsys.readouterr().err


def answer(url: str) -> int:
    """The HTTP status of an address; 0 where nobody listens."""
    try:
        return int(urllib.request.urlopen(url, timeout=5).status)
    except OSError as error:
        return getattr(error, "code", 0)


@pytest.mark.slow
def test_lab_wants_a_token_and_listens_on_a_free_port_of_this_machine_alone(tmp_path: Path) -> None:
    taken = socket.create_server((open_lab.ADDRESS, 0))
    port = taken.getsockname()[1]
    folders = {name: str(tmp_path) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    arguments = [sys.executable, str(ROOT / "tools" / "open_lab.py"), f"--port={port}", "--no-browser"]
    with open(tmp_path / "log", "w+", encoding="utf-8") as log:
        lab = subprocess.Popen(arguments, env={**os.environ, **folders}, stdout=log, stderr=log)
        try:
            page, deadline = None, time.monotonic() + 120
            while page is None and lab.poll() is None and time.monotonic() < deadline:
                time.sleep(0.3)
                page = re.search(r"http://127\.0\.0\.1:(\d+)(/lab/tree/\S+)\?token=(\w+)", Path(log.name).read_text())
            assert page is not None, Path(log.name).read_text()
            assert page[2] == f"/lab/tree/{open_lab.FIRST}" and int(page[1]) != port
            contents = f":{page[1]}/api/contents/{open_lab.FIRST}?content=0"
            assert answer(f"http://127.0.0.1{contents}") == 403
            assert answer(f"http://127.0.0.1{contents}&token={page[3]}") == 200
            if sys.platform.startswith("linux"):  # every 127.x.y.z is this machine, but not this address
                assert answer(f"http://127.0.0.2{contents}&token={page[3]}") == 0
        finally:
            lab.terminate()
            lab.wait(timeout=30)
            taken.close()
