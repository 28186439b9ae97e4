"""A real browser on real notebooks: JupyterLab on this machine, Chromium, and the kernel asked from the side.

What the browser tests and benchmarks/slider_latency.py share. Nothing of the checkout is written to, no program but
Chromium is started beside JupyterLab, and every address but this machine's is refused.
"""

from __future__ import annotations

import ast
import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np

import notebooks
from open_lab import ADDRESS, SETTINGS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ElementHandle, Page

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"
VARIABLE = "COURSE_CHROMIUM"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
#: Wide enough for every explorer beside a closed file browser, high enough for the highest.
VIEWPORT = {"width": 1280, "height": 1000}
DARK, LIGHT = "JupyterLab Dark", "JupyterLab Light"
#: Seconds in which a notebook must have run; the longest trains for minutes.
LONGEST_RUN = 1200.0


# ------------------------------------------------------------------------------------------------------- the programs


def find_chromium() -> str | None:
    """The program named by COURSE_CHROMIUM, else the first of the usual names that is installed."""
    given = os.environ.get(VARIABLE)
    names = (given,) if given else CHROMIUM
    return next((found for found in map(shutil.which, names) if found), None)


def missing() -> str | None:
    """What this machine lacks for a test in a browser, and how to get it; None where nothing is missing."""
    if find_spec("playwright") is None:
        return "needs the package playwright: run `make setup`, or `pip install -e '.[browser]'`"
    if find_chromium() is None:
        if os.environ.get(VARIABLE):
            return f"{VARIABLE} is {os.environ[VARIABLE]!r}, which is no program: set it to Chromium's path"
        return (
            "needs Chromium: install it (Debian: `apt install chromium`; elsewhere Chromium or Google Chrome), or set "
            f"{VARIABLE} to its path"
        )
    return None


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window and with a home folder of its own; nothing is downloaded.

    Raises:
        RuntimeError: it is not there, with what to install.
    """
    lack = missing()
    if lack is not None:
        raise RuntimeError(lack)
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory(prefix="course-chromium-", ignore_cleanup_errors=True) as home, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=find_chromium(),
            args=[
                f"--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE {ADDRESS}",  # refuses every other machine
                "--no-proxy-server",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-dev-shm-usage",  # small in containers
                "--disable-gpu",
            ],
            env={**os.environ, "HOME": home, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home},
        )
        try:
            yield browser
        finally:
            browser.close()


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
    """

    address: str
    token: str = field(repr=False)
    folder: Path

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
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
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
        lab = Lab(f"http://{ADDRESS}:{port}", token, folder)
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


# -------------------------------------------------------------------------------------------------------- the kernel


class Kernel:
    """A second line to a kernel that a page is connected to.

    Args:
        lab: the server.
        kernel: the kernel's id.

    `errors` collects what the kernel reports and no cell shows, such as an exception that a slider's callback raised.
    """

    def __init__(self, lab: Lab, kernel: str) -> None:
        import websocket

        self.errors: list[str] = []
        self._session, self._mine = uuid.uuid4().hex, set[str]()
        self._replies: dict[str, dict[str, Any]] = {}
        self._news = threading.Condition()
        host = urlsplit(lab.address).netloc
        self._line = websocket.create_connection(
            f"ws://{host}/api/kernels/{kernel}/channels?session_id={self._session}",
            header=[f"Authorization: token {lab.token}"],
            http_no_proxy=[ADDRESS],
            enable_multithread=True,
            timeout=60,
        )
        self._line.settimeout(None)
        self._open = True
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Hang up."""
        self._open = False
        self._line.close()
        self._reader.join(5)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        """Take in all that comes, at once: a line on which nobody answers is cut by the server."""
        while self._open:
            try:
                frame = self._line.recv()
            except Exception:  # it was closed, from here or from there
                break
            if not isinstance(frame, str) or not frame:  # pictures on their way to the page
                continue
            message = json.loads(frame)
            kind, parent = message["header"]["msg_type"], message.get("parent_header", {}).get("msg_id")
            with self._news:
                if kind == "execute_reply" and parent in self._mine:
                    self._replies[parent] = message["content"]
                    self._news.notify_all()
                elif kind == "error" and parent not in self._mine:
                    self.errors.append(f"{message['content']['ename']}: {message['content']['evalue']}")
        with self._news:
            self._open = False
            self._news.notify_all()

    def start(self, code: str, expression: str | None = None) -> str:
        """Send code and go on; the message's id, for `done` and `wait`."""
        name = uuid.uuid4().hex
        header = {"msg_id": name, "msg_type": "execute_request", "username": "", "session": self._session}
        header |= {"version": "5.3", "date": datetime.now(UTC).isoformat()}
        expressions = {} if expression is None else {"value": f"__import__('json').dumps({expression})"}
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": expressions}
        content |= {"allow_stdin": False, "stop_on_error": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        with self._news:
            self._mine.add(name)
        self._line.send(json.dumps(message))
        return name

    def done(self, name: str) -> bool:
        """Whether the kernel has answered."""
        with self._news:
            return name in self._replies

    def wait(self, name: str, timeout: float = 120.0) -> Any:
        """The value of the expression that was sent with some code.

        Raises:
            RuntimeError: the code or the expression raised.
            TimeoutError: no answer in time, or the line is cut.
        """
        with self._news:
            self._news.wait_for(lambda: name in self._replies or not self._open, timeout)
            if name not in self._replies:
                raise TimeoutError(f"the kernel did not answer in {timeout:.0f} s")
            reply = self._replies[name]
        if reply["status"] != "ok":
            raise RuntimeError(f"in the kernel: {reply.get('ename')}: {reply.get('evalue')}")
        value = reply["user_expressions"].get("value")
        if value is None:
            return None
        if value["status"] != "ok":
            raise RuntimeError(f"in the kernel: {value.get('ename')}: {value.get('evalue')}")
        return json.loads(ast.literal_eval(value["data"]["text/plain"]))

    def ask(self, call: str, timeout: float = 120.0) -> Any:
        """The answer of a function of tools/kernel_side.py, such as `kernel.ask("pid()")`."""
        code = f"import sys\nsys.path.insert(0, {str(TOOLS)!r})\nimport kernel_side\nsys.path.remove({str(TOOLS)!r})"
        expression = f"__import__('kernel_side').{call}"
        return self.wait(
            self.start(f"def _load():\n    {code.replace(chr(10), chr(10) + '    ')}\n_load()", expression), timeout
        )


# --------------------------------------------------------------------------------------------------------- the pages


@dataclass
class Sheet:
    """A page of the browser, and what went wrong on it.

    Args:
        page: of playwright.
        errors: on the console, uncaught, or a crash.
        refused: addresses that were asked for and refused.
    """

    page: Page
    errors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Close the page with its context."""
        self.page.context.close()


def new_sheet(browser: Browser, allow: Callable[[str], bool]) -> Sheet:
    """An empty page that notes every address that is not allowed; those of other machines are refused in any case.

    Args:
        browser: which one.
        allow: says of an address whether it may be opened.
    """
    context: BrowserContext = browser.new_context(viewport=VIEWPORT, service_workers="block")  # type: ignore[arg-type]
    context.add_init_script(path=TOOLS / "browser_page.js")
    page = context.new_page()
    sheet = Sheet(page)

    def note(address: str) -> None:
        if not allow(address):
            sheet.refused.append(address)

    page.on("request", lambda request: note(request.url))
    page.on("websocket", lambda line: note(line.url))
    page.on("console", lambda said: sheet.errors.append(f"console: {said.text}") if said.type == "error" else None)
    page.on("pageerror", lambda error: sheet.errors.append(f"uncaught: {error}"))
    page.on("crash", lambda _: sheet.errors.append("the page crashed"))
    page.set_default_timeout(60_000)
    return sheet


def is_local(address: str) -> bool:
    """Whether an address stays inside the browser or on this machine."""
    parts = urlsplit(address)
    return parts.scheme in ("data", "blob", "about") or parts.hostname == ADDRESS


def is_file(address: str) -> bool:
    """Whether an address stays inside the browser or is a file."""
    return urlsplit(address).scheme in ("data", "blob", "about", "file")


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
        self.kernel = Kernel(lab, self._id)

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
                found += [f"cell {number}: {error}" for error in notebooks.errors_in(cell["outputs"])]
                if not cell["empty"] and cell["count"] is None:
                    found.append(f"cell {number}: was not executed")
        found += [f"inside a widget: {text}" for text in notebooks.errors_in(self.kernel.ask("errors_in_widgets()"))]
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


@dataclass(frozen=True)
class Explorer:
    """An explorer on a page, with or without a kernel.

    Args:
        page: of playwright.
        element: its outermost element.
        about: its controls in the order of the page, as `kernel_side.shown` tells.
        id: in the kernel.
    """

    page: Page
    element: ElementHandle
    about: list[dict[str, Any]]
    id: str = ""

    def state(self, pixels: bool = True) -> State:
        """What it shows now."""
        return State(self.element.evaluate("(element, pixels) => probe.state(element, pixels)", pixels), self.about)

    def controls(self) -> list[ElementHandle]:
        """Elements of its controls, in the order of `about`.

        Raises:
            RuntimeError: the page has another number of them.
        """
        found = self.element.query_selector_all(self.page.evaluate("probe.CONTROLS"))
        if len(found) != len(self.about):
            raise RuntimeError(f"the page shows {len(found)} controls of an explorer that has {len(self.about)}")
        return found

    def handle(self, number: int) -> ElementHandle:
        """What a hand takes hold of in a slider."""
        found = self.controls()[number].query_selector(".noUi-handle")
        assert found is not None
        return found

    def show(self) -> None:
        """Scroll to it."""
        self.element.evaluate("element => element.scrollIntoView({ block: 'center' })")

    def press(self, number: int, *keys: str) -> None:
        """Press keys on a slider."""
        self.handle(number).focus()
        for key in keys:
            self.page.keyboard.press(key)

    def drag(self, number: int, to: float, moves: int = 12) -> None:
        """Drag a slider with the mouse.

        Args:
            number: of the control.
            to: where to, as a fraction of its range.
            moves: on the way.
        """
        x, y, left, width = self.track(number)
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(left + to * width, y, steps=moves)
        self.page.mouse.up()

    def track(self, number: int) -> tuple[float, float, float, float]:
        """Of a slider: x and y of its handle's centre, left end and width of its track, in pixels of the page."""
        handle, base = self.handle(number), self.controls()[number].query_selector(".noUi-base")
        handle.scroll_into_view_if_needed()
        assert base is not None
        box, track = handle.bounding_box(), base.bounding_box()
        assert box is not None and track is not None, "the slider is hidden"
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, track["x"], track["width"]

    def names(self) -> list[tuple[str, str]]:
        """Role and name of all that a screen reader finds in it and that can be used or looked at."""
        mark = uuid.uuid4().hex
        self.element.evaluate("(element, mark) => element.setAttribute('data-probe', mark)", mark)
        line = self.page.context.new_cdp_session(self.page)
        try:
            found = line.send("Runtime.evaluate", {"expression": f"document.querySelector('[data-probe=\"{mark}\"]')"})
            tree = line.send("Accessibility.queryAXTree", {"objectId": found["result"]["objectId"]})
        finally:
            line.detach()
        told = {"slider", "button", "checkbox", "switch", "combobox", "radio", "spinbutton", "image", "img", "canvas"}
        names = []
        for node in tree["nodes"]:
            role = str(node.get("role", {}).get("value", "")).lower()
            if not node.get("ignored") and role in told:
                names.append((role, str(node.get("name", {}).get("value", "")).strip()))
        return names


class State:
    """What an explorer shows at one moment.

    Args:
        raw: as `probe.state` tells.
        about: its controls.
    """

    def __init__(self, raw: Mapping[str, Any], about: Sequence[Mapping[str, Any]]) -> None:
        self.raw: list[Any] = list(raw["values"])
        self.visible: list[bool] = list(raw["visible"])
        self.busy = bool(raw["busy"])
        self.texts: dict[str, str] = dict(raw["texts"])
        self.drawings: list[str] = list(raw["drawings"])
        self.paints = sum(picture["paints"] for picture in raw["pictures"])
        self.names = [picture["name"] for picture in raw["pictures"]]
        self.pictures = {picture["name"]: _pixels(picture) for picture in raw["pictures"] if picture["data"]}
        if len(self.raw) != len(about):
            raise RuntimeError(f"the page shows {len(self.raw)} controls of an explorer that has {len(about)}")
        #: The controls that have a name, as Python knows their values.
        self.values = {
            control["name"]: value if control["options"] is None else control["options"][int(value)]
            for control, value in zip(about, self.raw, strict=True)
            if control["name"] is not None
        }


def _pixels(picture: Mapping[str, Any]) -> np.ndarray:
    """uint8, (H, W, 4)."""
    data = np.frombuffer(base64.b64decode(picture["data"]), dtype=np.uint8)
    return data.reshape(picture["height"], picture["width"], 4)


def plain(text: str) -> str:
    """A text without white space, which a page may change."""
    return "".join(text.split())


def differences(state: State, wanted: Mapping[str, Any], grey: int = 1) -> list[str]:
    """In what an explorer differs from what Python says; nothing where all is right.

    Args:
        state: what it shows.
        wanted: panel to array, uint8 (H, W) or (H, W, 3), or text.
        grey: levels by which a pixel may be off.
    """
    found = []
    for name, content in wanted.items():
        if isinstance(content, str):
            if name not in state.texts:
                found.append(f"there is no text panel {name!r}")
            elif plain(state.texts[name]) != plain(content):
                found.append(f"{name} reads {state.texts[name]!r} in place of {content!r}")
        elif name not in state.pictures:
            found.append(f"there is no canvas {name!r}")
        else:
            found += _pixel_differences(name, state.pictures[name], content, grey)
    told = {*state.pictures, *state.texts}
    found += [f"Python says nothing of panel {name!r}" for name in sorted(told - set(wanted))]
    if len(set(state.names)) < len(state.names):
        found.append(f"panels share a name: {state.names}")
    return found


def _pixel_differences(name: str, shown: np.ndarray, wanted: np.ndarray, grey: int) -> Iterator[str]:
    if wanted.ndim == 2:
        wanted = np.repeat(wanted[:, :, None], 3, axis=2)
    if shown.shape[:2] != wanted.shape[:2]:
        yield f"{name} has {shown.shape[:2]} pixels in place of {wanted.shape[:2]}"
        return
    if shown[:, :, 3].min() < 255:
        yield f"{name} has transparent pixels"
    off = np.abs(shown[:, :, :3].astype(int) - wanted.astype(int))
    if off.max() > grey:
        yield f"{name} is off by up to {off.max()} levels, in {(off.max(axis=2) > grey).mean():.1%} of its pixels"


# ------------------------------------------------------------------------------------------------------ measurements


def time_to_pixels(page: Page, selector: str, press: Callable[[], None], limit: float = 10.0) -> float | None:
    """Milliseconds from a key press, as it reaches the page, to the first frame with other pixels.

    Args:
        page: where the pictures are.
        selector: finds them: canvases or images.
        press: presses the key.
        limit: seconds to wait.

    Returns:
        None where no pixel has changed in time.
    """
    page.evaluate("([selector, limit]) => { probe.arm(selector, limit); }", [selector, 1000 * limit])
    press()
    answer: float | None = page.evaluate("probe.answer()")
    return answer


def at_rest(page: Page, selector: str, quiet: float = 0.25) -> bool:
    """Wait until pictures have stayed the same for some seconds; False where they never do."""
    return bool(page.evaluate("([selector, quiet]) => probe.rest(selector, quiet)", [selector, 1000 * quiet]))


def memory(page: Page) -> dict[str, float]:
    """Bytes that a page holds after its garbage is collected, and its number of nodes and listeners."""
    line = page.context.new_cdp_session(page)
    try:
        for _ in range(3):
            line.send("HeapProfiler.collectGarbage")
        heap, counters = line.send("Runtime.getHeapUsage"), line.send("Memory.getDOMCounters")
    finally:
        line.detach()
    held = heap["usedSize"] + heap.get("backingStorageSize", 0)
    return {"bytes": held, "nodes": counters["nodes"], "listeners": counters["jsEventListeners"]}
