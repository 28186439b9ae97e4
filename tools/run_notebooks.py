"""Execute copies of the notebooks in full, then read from the copies what went wrong.

    python tools/run_notebooks.py [NAME ..]              as they are, in build/executed/
    python tools/run_notebooks.py --solutions [NAME ..]  with every exercise done, in build/executed-solutions/
    python tools/run_notebooks.py --jobs 2               two at a time; trainings get fewer updates into their minutes

A name may be cut short: 03.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile

import notebooks
from executed import scan, verdicts
from handouts import contents_of
from solutions import HandoutError

EXECUTED = notebooks.ROOT / "build" / "executed"
SOLVED = notebooks.ROOT / "build" / "executed-solutions"
#: 05 samples from the weights that 04 saves. Both together take longer than all others.
IN_THIS_ORDER = ("04", "05")


def run(
    names: list[str],
    folder: Path = notebooks.NOTEBOOKS,
    executed: Path | None = None,
    *,
    solved: bool = False,
    jobs: int = 1,
) -> list[str]:
    """Execute copies of notebooks with pytest; everything that went wrong, a sentence each.

    Sliders that ask a network store some of its pictures in the copies, so that pages can be made of them.

    Args:
        names: how the names of the notebooks begin; none for all.
        folder: where the notebooks are.
        executed: where their copies go; what it holds is deleted.
        solved: execute copies with every exercise done, of which nobody makes pages.
        jobs: how many notebooks run at a time, 1 or 2.
    """
    prefixes = tuple(Path(name).stem for name in names) or ("",)
    chosen = [path for _, path in notebooks.pairs(folder) if path.stem.startswith(prefixes)]
    missing = [notebooks.name_of(path) for path in chosen if not path.exists()]
    if missing or not chosen:
        return [f"no notebook to run: {', '.join(missing) or 'no name starts with ' + ' or '.join(prefixes)}."]
    try:
        contents = contents_of(chosen, solved=True) if solved else {path.name: path.read_bytes() for path in chosen}
    except HandoutError as error:
        return str(error).splitlines()
    executed = executed or (SOLVED if solved else EXECUTED)
    shutil.rmtree(executed, ignore_errors=True)
    executed.mkdir(parents=True)
    for name, content in contents.items():
        (executed / name).write_bytes(content)
    copies = [executed / name for name in contents]
    chain = [copy for copy in copies if copy.name.startswith(IN_THIS_ORDER)]
    groups = [chain, [copy for copy in copies if copy not in chain]] if jobs > 1 else [copies]
    status = execute([group for group in groups if group], executed, {} if solved else {"COURSE_STORE_FRAMES": "1"})
    failed = [f"pytest ended with status {status}: see its report above."] if status else []
    return failed + scan(copies) + verdicts(copies, "correct" if solved else "not done yet")


def execute(groups: list[list[Path]], folder: Path, environment: dict[str, str]) -> int:
    """Run one pytest for each group of notebooks, all at a time; the largest of their exit statuses.

    The first one's report is seen as it grows, the others' when all have ended.
    """
    command = [sys.executable, "-m", "pytest", "--nbmake", "--overwrite", "--nbmake-timeout=1200", "--durations=0"]
    command += ["-v", "-p", "no:cacheprovider", f"--rootdir={folder}", "-c", os.devnull]
    with TemporaryFile() as log:
        running = [
            subprocess.Popen(
                [*command, *map(str, group)],
                cwd=folder,
                env={**os.environ, **environment},
                stdout=log if number else None,
            )
            for number, group in enumerate(groups)
        ]
        statuses = [each.wait() for each in running]
        log.seek(0)
        print(log.read().decode(errors="replace"), end="", flush=True)
    return max(statuses)


def main() -> int:
    """Read the command line, run, and say what is wrong; 0 if nothing is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--solutions", action="store_true", help="with the solution in every exercise")
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=1, help="how many notebooks run at a time")
    options = parser.parse_args()
    problems = run(options.names, solved=options.solutions, jobs=options.jobs)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
