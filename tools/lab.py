"""JupyterLab on this machine, the notebooks open in it, and a second line to their kernels.

The browser tests and benchmarks/slider_latency.py share it. JupyterLab runs without any of the user's settings.
"""

from __future__ import annotations

import ast
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np
import zmq
from jupyter_client.blocking.client import BlockingKernelClient

from browser import Sheet
from executed import errors_in
from explorers import Explorer
from open_lab import ADDRESS, SETTINGS

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parent.parent
DARK, LIGHT = "JupyterLab Dark", "JupyterLab Light"
#: Seconds in which a notebook must have run.
LONGEST_RUN = 1200.0


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab.

    Args:
        address: "http://127.0.0.1:PORT".
        token: of the server.
        folder: what it shows.
        runtime: where its kernels leave their connection files.
    """

    address: str
    token: str = field(repr=False)
    folder: Path
    runtime: Path

    def ask(self, path: str, method: str = "GET") -> Any:
        """The answer of the server's interface, read from JSON; None where it is empty."""
        request = Request(f"{self.address}{path}", method=method, headers={"Authorization": f"token {self.token}"})
        with build_opener(ProxyHandler({})).open(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def page_address(self, path: str) -> str:
        """Where a browser sees a notebook of the folder, alone in a workspace of its own."""
        workspace = uuid.uuid4().hex
        return f"{self.address}/lab/workspaces/{workspace}/tree/{quote(path)}?token={self.token}"

    def stop_kernels(self, kernel: str | None = None) -> None:
        """End one kernel, or all."""
        for session in self.ask("/api/sessions"):
            if kernel in (None, session["kernel"]["id"]):
                self.ask(f"/api/sessions/{session['id']}", "DELETE")


@contextmanager
def jupyterlab(folder: Path) -> Iterator[Lab]:
    """JupyterLab on a free port of this machine alone, with a token and without any of the user's settings.

    Args:
        folder: what it shows.

    Raises:
        RuntimeError: it did not start; the end of its log is in the message.
    """
    with TemporaryDirectory(prefix="course-lab-", ignore_cleanup_errors=True) as place:
        home, token, port = Path(place), secrets.token_hex(24), free_port()
        own = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
        own |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
        own |= {"IPYTHONDIR": "ipython", "MPLCONFIGDIR": "matplotlib", "HOME": "home"}
        for name in own.values():
            (home / name).mkdir()
        environment = {**os.environ, **{key: str(home / name) for key, name in own.items()}}
        environment |= {"JUPYTER_TOKEN": token, "JUPYTER_CONFIG_PATH": str(SETTINGS)}
        paths = (str(ROOT), str(ROOT / "tools"), os.environ.get("PYTHONPATH"))  # tools: for kernel_side
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        environment.pop("MPLBACKEND", None)  # else the notebooks would show no figures
        command = [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.ip={ADDRESS}"),
            *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"),
            *("--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"),
            *(["--allow-root"] if os.name != "nt" and os.geteuid() == 0 else []),
        ]
        log = home / "lab.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )
        lab = Lab(f"http://{ADDRESS}:{port}", token, folder, home / "runtime")
        try:
            _wait_for_start(lab, process, log)
            yield lab
        finally:
            _stop(lab, process)


def _wait_for_start(lab: Lab, process: subprocess.Popen[bytes], log: Path, limit: float = 90.0) -> None:
    deadline = time.monotonic() + limit
    while True:
        try:
            lab.ask("/api/status")
            return
        except OSError as error:  # nobody listens yet
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise RuntimeError(f"JupyterLab did not start ({error}):\n{tail}") from None
        time.sleep(0.1)


def _stop(lab: Lab, process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        try:
            lab.stop_kernels()
            lab.ask("/api/shutdown", "POST")
        except OSError:
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Kernel:
    """A second line to a kernel that a page is connected to.

    Args:
        connection: the kernel's connection file.
    """

    def __init__(self, connection: Path) -> None:
        self._client = BlockingKernelClient(connection_file=str(connection))
        self._client.load_connection_file()
        self._client.context.setsockopt(zmq.RCVHWM, 0)  # a long training sends more than the usual 1,000 messages
        self._client.start_channels(stdin=False, hb=False, control=False)
        self._asked: set[str] = set()
        self._errors: list[str] = []

    def close(self) -> None:
        """Hang up."""
        self._client.stop_channels()

    @property
    def errors(self) -> list[str]:
        """What the kernel reported so far, in cells or outside, such as an exception in a slider's callback."""
        while self._client.iopub_channel.msg_ready():
            message = self._client.iopub_channel.get_msg()
            if message["msg_type"] == "error" and message["parent_header"].get("msg_id") not in self._asked:
                self._errors.append(f"{message['content']['ename']}: {message['content']['evalue']}")
        return self._errors

    def start(self, code: str, expression: str | None = None) -> None:
        """Send code, and an expression to evaluate after it, without waiting; `wait` has the answer."""
        wanted = {} if expression is None else {"value": f"__import__('json').dumps({expression})"}
        options = {"store_history": False, "allow_stdin": False, "stop_on_error": False}
        self._asked.add(self._client.execute(code, user_expressions=wanted, **options))

    def answered(self) -> bool:
        """Whether the kernel has worked off what `start` sent."""
        return bool(self._client.shell_channel.msg_ready())

    def wait(self, timeout: float = 120.0) -> Any:
        """The value of the expression that `start` sent.

        Raises:
            RuntimeError: the code or the expression raised.
            TimeoutError: no answer in time.
        """
        try:
            content = self._client.shell_channel.get_msg(timeout)["content"]
        except Empty:
            raise TimeoutError(f"the kernel did not answer in {timeout:.0f} s") from None
        value = content.get("user_expressions", {}).get("value")
        for said in (content, value or content):
            if said["status"] != "ok":
                raise RuntimeError(f"in the kernel: {said.get('ename')}: {said.get('evalue')}")
        return None if value is None else json.loads(ast.literal_eval(value["data"]["text/plain"]))

    def ask(self, call: str, timeout: float = 120.0) -> Any:
        """The answer of a function of tools/kernel_side.py, such as `kernel.ask("pid()")`."""
        self.start("", f"__import__('kernel_side').{call}")
        return self.wait(timeout)


class Notebook:
    """A notebook open in JupyterLab.

    Args:
        lab: the server.
        sheet: a page.
        path: in the server's folder.
        fresh: load JupyterLab into the page; else the notebook that is open in it makes room.
    """

    def __init__(self, lab: Lab, sheet: Sheet, path: str, fresh: bool = True) -> None:
        self.lab, self.sheet, self.path = lab, sheet, path
        if fresh:
            self.page.goto(lab.page_address(path), wait_until="domcontentloaded")
            self.page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context")
            self._id = self.page.evaluate("path => probe.lab.ready(path)", path)
        else:
            self._id = self.page.evaluate("path => probe.lab.change(path)", path)
        self.kernel = Kernel(lab.runtime / f"kernel-{self._id}.json")

    @property
    def page(self) -> Page:
        """Of playwright."""
        return self.sheet.page

    def run(self, limit: float = LONGEST_RUN) -> float:
        """Run all cells and wait for the kernel; the seconds that it took."""
        begin = time.monotonic()
        self.page.evaluate("probe.lab.run()")
        self.page.wait_for_function("probe.lab.idle()", timeout=1000 * limit, polling=100)
        self.page.wait_for_timeout(300)
        self.kernel.ask("pid()")  # and what it still had to do
        return time.monotonic() - begin

    def cells(self) -> list[dict[str, Any]]:
        """Of every cell: kind, empty, count, outputs (errors and streams), views (ids of displayed widgets)."""
        return list(self.page.evaluate("probe.lab.cells()"))

    def problems(self) -> list[str]:
        """All that went wrong so far, in cells, widgets, kernel and page; nothing where all is well."""
        found = []
        for number, cell in enumerate(self.cells(), start=1):
            if cell["kind"] == "code":
                found += [f"cell {number}: {error}" for error in errors_in(cell["outputs"])]
                if not cell["empty"] and cell["count"] is None:
                    found.append(f"cell {number}: was not executed")
        found += [f"inside a widget: {text}" for text in errors_in(self.kernel.ask("errors_in_widgets()"))]
        found += [f"in the page: {text}" for text in self.page.evaluate("probe.lab.written()")]
        found += [f"kernel: {text}" for text in self.kernel.errors]
        return found + self.sheet.errors + [f"asked for {address}" for address in self.sheet.refused]

    def explorers(self) -> list[Explorer]:
        """All explorers that the notebook shows, from top to bottom.

        Raises:
            RuntimeError: the page holds another number than the kernel.
        """
        found: list[Explorer] = []
        cells = self.cells()
        told = self.kernel.ask(f"shown({[view for cell in cells for view in cell['views']]!r})")
        for index, cell in enumerate(cells):
            about = [each for each in told if each["view"] in cell["views"]]
            elements = self.page.evaluate_handle("index => probe.lab.explorers(index)", index).get_properties()
            if len(elements) != len(about):
                raise RuntimeError(
                    f"cell {index + 1} has {len(about)} explorers in the kernel, {len(elements)} in the page"
                )
            for each, handle in zip(about, elements.values(), strict=True):
                element = handle.as_element()
                assert element is not None
                found.append(Explorer(self.page, element, each["controls"], each["id"]))
        return found

    def views(self, explorer: Explorer, asked: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What Python says that an explorer must show at some values: panel to array or text."""
        with TemporaryDirectory(prefix="course-views-") as place:
            path = Path(place) / "views.npz"
            texts = self.kernel.ask(f"views({explorer.id!r}, {list(asked)!r}, {str(path)!r})")
            with np.load(path) as arrays:
                kept = {name: arrays[name] for name in arrays.files}
        found: list[dict[str, Any]] = [dict(each) for each in texts]
        for name, array in kept.items():
            number, panel = name.split("/", 1)
            found[int(number)][panel] = array
        return found

    def close(self) -> None:
        """Close the notebook, hang up, and end the kernel; the page stays open."""
        self.page.evaluate("probe.lab.panel?.dispose()")
        self.kernel.close()
        self.lab.stop_kernels(self._id)
