"""What a teacher hands out: the notebooks in a clean folder, and the same with every exercise done.

    python tools/handouts.py student      build/student: the notebooks as they came, their pictures, the licenses
    python tools/handouts.py solutions    build/solutions: the same, with the solution in every exercise

Both follow from notebooks/py/*.py and course_lib.checks alone: nothing is handed out that somebody did in
notebooks/*.ipynb.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat

import notebooks
from solutions import HandoutError, fill

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
TITLE = f"{notebooks.COURSE}: the notebooks"
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
    parser.add_argument("kinds", nargs="+", choices=KINDS, metavar="kind", help="student or solutions, or both")
    parser.add_argument("--out", type=Path, help="the folder of one kind (default: build/student or build/solutions)")
    options = parser.parse_args()
    if options.out and len(options.kinds) > 1:
        parser.error("--out is for one kind of handout: call twice.")
    for kind in options.kinds:
        out = options.out or BUILD / kind
        try:
            report(out, build(out, solved=kind == "solutions"))
        except HandoutError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def report(out: Path, files: list[Path]) -> None:
    """Say what was written."""
    books = sum(path.suffix == ".ipynb" for path in files)
    size = sum(path.stat().st_size for path in files)
    print(
        f"{notebooks.name_of(out)}: {books} notebooks and {len(files) - books} files beside them, {size / 1e6:.1f} MB."
    )


if __name__ == "__main__":
    sys.exit(main())
