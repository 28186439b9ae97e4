"""Chromium on this machine: pages that refuse every other address, and how long their pixels take.

The browser tests and benchmarks/slider_latency.py share it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from open_lab import ADDRESS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

SCRIPT = Path(__file__).with_name("browser_page.js")
VARIABLE = "COURSE_CHROMIUM"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
#: Wide enough for every explorer beside a closed file browser, high enough for the highest.
VIEWPORT: ViewportSize = {"width": 1280, "height": 1000}
#: Kinds of addresses that lead nowhere else.
INSIDE = ("data", "blob", "about")


def find_chromium() -> str | None:
    """The program named by COURSE_CHROMIUM, else the first of the usual names that is installed."""
    names = (os.environ[VARIABLE],) if os.environ.get(VARIABLE) else CHROMIUM
    return next((found for found in map(shutil.which, names) if found), None)


def missing() -> str | None:
    """What this machine lacks for a test in a browser, and how to get it; None where nothing is missing."""
    if find_spec("playwright") is None:
        return "needs the package playwright: run `make setup`, or `pip install -e '.[browser]'`"
    if find_chromium() is not None:
        return None
    if os.environ.get(VARIABLE):
        return f"{VARIABLE} is {os.environ[VARIABLE]!r}, which is no program: set it to Chromium's path"
    return (
        "needs Chromium: install it (Debian: `apt install chromium`; elsewhere Chromium or Google Chrome), or set "
        f"{VARIABLE} to its path"
    )


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window and with a home folder of its own; nothing is downloaded.

    Raises:
        RuntimeError: it is not there, with what to install.
    """
    if lack := missing():
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
        with closing(browser):
            yield browser


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
    """An empty page that notes every address which is not allowed; those of other machines are refused in any case."""
    context = browser.new_context(viewport=VIEWPORT, service_workers="block")
    context.add_init_script(path=SCRIPT)
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
    return urlsplit(address).scheme in INSIDE or urlsplit(address).hostname == ADDRESS


def is_file(address: str) -> bool:
    """Whether an address stays inside the browser or is a file."""
    return urlsplit(address).scheme in (*INSIDE, "file")


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


if __name__ == "__main__" and (lack := missing()):
    print(f"Tests in a browser were left out: {lack}.")
