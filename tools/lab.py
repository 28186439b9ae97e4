"""JupyterLab on this machine, the notebooks open in it, and a second line to their kernels.

The browser tests and benchmarks/slider_latency.py share it. JupyterLab runs without any of the user's settings.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import zmq
from jupyter_client.blocking.client import BlockingKernelClient

from browser import Sheet
from executed import errors_in
from explorers import Explorer, from_base64
from open_lab import SETTINGS, command

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab.

    Args:
        address: "http://127.0.0.1:PORT/".
        token: of the server.
        folder: what it shows.
        runtime: where its kernels leave their connection files.
    """

    address: str
    token: str = field(repr=False)
    folder: Path
    runtime: Path

    def page_address(self, path: str) -> str:
        """Where a browser sees a notebook of the folder, alone in a workspace of its own."""
        return f"{self.address}lab/workspaces/{uuid.uuid4().hex}/tree/{quote(path)}?token={self.token}"


@contextmanager
def jupyterlab(folder: Path) -> Iterator[Lab]:
    """JupyterLab on a free port of this machine alone, with a token and without any of the user's settings.

    Args:
        folder: what it shows.

    Raises:
        RuntimeError: it did not start; the end of its log is in the message.
    """
    with TemporaryDirectory(prefix="course-lab-", ignore_cleanup_errors=True) as place:
        home, log = Path(place), Path(place, "lab.log")
        # MPLBACKEND would keep figures out of the notebooks; the others lead to the user's own settings
        own = ("JUPYTER", "IPYTHON", "MPL", "XDG_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        paths = (str(ROOT), str(ROOT / "tools"), os.environ.get("PYTHONPATH"))  # tools: for kernel_side
        environment |= {
            "HOME": place,
            "JUPYTER_CONFIG_PATH": str(SETTINGS),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                command(folder, 0, ["--no-browser", "--LabApp.expose_app_in_browser=True"]),
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        try:
            server = _wait_for_start(process, home / "runtime", log)
            yield Lab(server["url"], server["token"], folder, home / "runtime")
        finally:
            process.terminate()  # and JupyterLab ends its kernels
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for_start(process: subprocess.Popen[bytes], runtime: Path, log: Path, limit: float = 90.0) -> Any:
    """What JupyterLab says of itself as soon as it listens."""
    deadline = time.monotonic() + limit
    while True:
        for path in runtime.glob("jpserver-*.json"):
            with suppress(json.JSONDecodeError):  # still being written
                return json.loads(path.read_text(encoding="utf-8"))
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(
                f"JupyterLab did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-2000:]}"
            )
        time.sleep(0.1)


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
        self._errors: list[str] = []

    def close(self) -> None:
        """Hang up."""
        self._client.stop_channels()

    @property
    def errors(self) -> list[str]:
        """What the kernel reported so far, in cells or outside, such as an exception in a slider's callback."""
        while self._client.iopub_channel.msg_ready():
            message = self._client.iopub_channel.get_msg()
            if message["msg_type"] == "error":
                self._errors.append(f"{message['content']['ename']}: {message['content']['evalue']}")
        return self._errors

    def ask(self, call: str) -> Any:
        """The answer of a function of tools/kernel_side.py, such as `kernel.ask("pid()")`.

        Raises:
            RuntimeError: the function raised.
            queue.Empty: no answer in two minutes.
        """
        wanted = {"value": f"__import__('json').dumps(__import__('kernel_side').{call})"}
        self._client.execute("", store_history=False, user_expressions=wanted)
        value = self._client.shell_channel.get_msg(timeout=120)["content"]["user_expressions"]["value"]
        if value["status"] != "ok":
            raise RuntimeError(f"in the kernel: {value['ename']}: {value['evalue']}")
        return json.loads(ast.literal_eval(value["data"]["text/plain"]))


class Notebook:
    """A notebook open in JupyterLab.

    Args:
        lab: the server.
        sheet: an empty page, or one of this server in which no notebook is open any more.
        path: in the server's folder.
    """

    def __init__(self, lab: Lab, sheet: Sheet, path: str) -> None:
        self.sheet = sheet
        sheet.errors.clear()
        sheet.refused.clear()
        if not self.page.url.startswith(lab.address):
            self.page.goto(lab.page_address(path), wait_until="domcontentloaded")
            self.page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context")
        kernel = self.page.evaluate("path => probe.lab.open(path)", path)
        self.kernel = Kernel(lab.runtime / f"kernel-{kernel}.json")

    @property
    def page(self) -> Page:
        """Of playwright."""
        return self.sheet.page

    def run(self, limit: float = 1200.0) -> None:
        """Run all cells and wait for the kernel."""
        self.page.evaluate("probe.lab.run()")
        self.page.wait_for_function("probe.lab.idle()", timeout=1000 * limit, polling=100)
        self.page.wait_for_timeout(300)
        self.kernel.ask("pid()")  # and what it still had to do

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
        """All explorers that the notebook shows, from top to bottom; the page must hold as many as the kernel."""
        told = self.kernel.ask(f"shown({[view for cell in self.cells() for view in cell['views']]!r})")
        handles = self.page.evaluate_handle("probe.lab.explorers()").get_properties().values()
        elements = [element for handle in handles if (element := handle.as_element())]
        return [
            Explorer(self.page, element, each["controls"], each["id"])
            for element, each in zip(elements, told, strict=True)
        ]

    def view(self, explorer: Explorer, values: Mapping[str, Any]) -> dict[str, Any]:
        """What Python says that an explorer must show at these values: panel to array or text."""
        told = self.kernel.ask(f"view({explorer.id!r}, {dict(values)!r})")
        return {name: each if isinstance(each, str) else from_base64(*each) for name, each in told.items()}

    def close(self) -> None:
        """Close the notebook, hang up, and end the kernel; the page stays open."""
        self.page.evaluate("probe.lab.close()")
        self.kernel.close()
