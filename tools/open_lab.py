"""Open the course in JupyterLab, reachable from this machine alone: bound to 127.0.0.1, with a token."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIRST = "notebooks/00_start_here.ipynb"
#: No question about news; and the state of sliders is saved with a notebook, so that they are alive on the next day.
SETTINGS = ROOT / "tools" / "jupyter"
ADDRESS = "127.0.0.1"
TRIES = 50


def is_free(port: int) -> bool:
    """Whether a server could listen on a port of this machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def choose_port(port: int) -> int | None:
    """The wanted port or the next free one; None if there is none."""
    return next((candidate for candidate in range(port, min(port + TRIES, 65536)) if is_free(candidate)), None)


def command(port: int, more: list[str]) -> list[str]:
    """The command that starts JupyterLab on the first notebook, with the whole repository in view."""
    return [
        *(sys.executable, "-m", "jupyterlab"),  # `jupyter lab` could be that of another Python
        f"--ServerApp.ip={ADDRESS}",
        f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={ROOT}",
        f"--LabApp.default_url=/lab/tree/{FIRST}",
        "--LabApp.extension_manager=readonly",  # else it would look for extensions on the network
        "--log-level=ERROR",
        *(["--allow-root"] if os.name != "nt" and os.geteuid() == 0 else []),  # as in a container
        *more,
    ]


def main() -> int:
    """Find a port, say what happens, and turn into JupyterLab."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8888, help="the first port to try")
    options, more = parser.parse_known_args()
    if not (ROOT / FIRST).exists():
        print(f"{FIRST} is missing: get it back with `git checkout {FIRST}`, then run this again.", file=sys.stderr)
        return 1
    if not 1024 <= options.port < 65536:
        print(f"A port is a number from 1024 to 65535, got {options.port}. Try: make lab PORT=9000", file=sys.stderr)
        return 1
    port = choose_port(options.port)
    if port is None:
        print(
            f"No port from {options.port} to {options.port + TRIES - 1} is free. Stop a program that uses one, "
            "or choose other ports: make lab PORT=9000",
            file=sys.stderr,
        )
        return 1
    if port != options.port:
        print(f"Another program uses port {options.port}, so JupyterLab takes port {port}.")
    print(f"Opening JupyterLab on {FIRST}. If no browser opens, copy the address with the token below into one.")
    print("Stop it with Ctrl-C.", flush=True)
    os.chdir(ROOT)
    paths = [str(SETTINGS), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(path for path in paths if path)
    arguments = command(port, more)
    if os.name == "nt":  # there exec would give the terminal back at once
        lab = subprocess.Popen(arguments)
        while True:
            try:
                return lab.wait()
            except KeyboardInterrupt:  # JupyterLab has got it too, and ends by itself
                pass
    os.execv(arguments[0], arguments)


if __name__ == "__main__":
    sys.exit(main())
