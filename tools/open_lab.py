"""Open the course in JupyterLab, reachable from this machine alone: bound to 127.0.0.1, with a token."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIRST = "notebooks/00_start_here.ipynb"
#: No question about news; and the state of sliders is saved with a notebook, so that they are alive on the next day.
SETTINGS = ROOT / "tools" / "jupyter"
ADDRESS = "127.0.0.1"


def command(folder: Path, port: int, more: list[str]) -> list[str]:
    """The command that starts JupyterLab with a folder in view, on this port or, where it is taken, on another one."""
    return [
        *(sys.executable, "-m", "jupyterlab"),  # `jupyter lab` could be that of another Python
        f"--ServerApp.ip={ADDRESS}",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.extension_manager=readonly",  # else it would look for extensions on the network
        *(["--allow-root"] if os.name != "nt" and os.geteuid() == 0 else []),  # as in a container
        *more,
    ]


def main() -> int:
    """Say what happens, and turn into JupyterLab."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8888, help="the first port to try")
    options, more = parser.parse_known_args()
    if not 1024 <= options.port < 65536:
        print(f"A port is a number from 1024 to 65535, got {options.port}. Try: make lab PORT=9000", file=sys.stderr)
        return 1
    print(f"Opening JupyterLab on {FIRST}. If no browser opens, copy the address with the token below into one.")
    print("Stop it with Ctrl-C.", flush=True)
    paths = [str(SETTINGS), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(path for path in paths if path)
    os.chdir(ROOT)
    start = command(ROOT, options.port, [f"--LabApp.default_url=/lab/tree/{FIRST}", "--log-level=ERROR", *more])
    if os.name == "nt":  # there exec would give the terminal back at once
        lab = subprocess.Popen(start)
        while True:
            try:
                return lab.wait()
            except KeyboardInterrupt:  # JupyterLab has got it too, and ends by itself
                pass
    os.execv(start[0], start)


if __name__ == "__main__":
    sys.exit(main())
