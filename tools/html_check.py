"""What a page of the site may hold: nothing from the network, nothing missing, no equation left between dollars."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup

from executed import WIDGET_STATE
from html_widgets import VIEW, strings

_LOADS = {
    "src": None,  # of any element
    "srcset": None,
    "poster": None,
    "background": None,
    "data": ("object",),
    "href": ("link", "image", "use"),
    "xlink:href": ("image", "use"),
}
_OUTSIDE = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?//|\s*(?:https?|ftp|file):", re.IGNORECASE)
_STYLE_LOADS = re.compile(r"url\(\s*['\"]?\s*((?:https?:)?//[^)'\"]*)|@import\s+([^;]+)", re.IGNORECASE)
_HTML_LOADS = re.compile(r"<[^<>]*\ssrc\s*=\s*['\"]?\s*((?:https?:)?//[^\s'\">]*)", re.IGNORECASE)
_DOLLARS = re.compile(r"\$[^$\s](?:[^$\n]*[^$\s])?\$")


def _style_problems(text: str) -> Iterator[str]:
    for match in _STYLE_LOADS.finditer(text):
        yield f"a style loads {match[1] or match[2]}: nothing may come from the network."


def _state_problems(soup: BeautifulSoup) -> Iterator[str]:
    scripts = soup.find_all("script", type=WIDGET_STATE)
    models = {}
    for script in scripts:
        models.update(json.loads(script.get_text())["state"])
    for script in soup.find_all("script", type=VIEW):
        if json.loads(script.get_text())["model_id"] not in models:
            yield "a cell shows a widget whose state is not in the page: was its state saved with the notebook?"
    for model in models.values():
        for key, value in model.get("state", {}).items():
            for text in strings(value):
                if key in ("_esm", "_css") and text.startswith(("http://", "https://")):
                    yield f"a widget loads {text}: nothing may come from the network."
                elif match := _HTML_LOADS.search(text):
                    yield f"a widget loads {match[1]}: nothing may come from the network."


def check_page(path: Path) -> list[str]:
    """What is wrong with one page of the site, read from its HTML.

    Args:
        path: of the page, in its site.

    Returns:
        Sentences, none if all is well: nothing is loaded from the network, what the page loads or links to in the
        site is there, widgets have their state, and no equation is left between dollar signs.
    """
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    problems = []
    for element in soup.find_all(True):
        for name, value in element.attrs.items():
            value = " ".join(value) if isinstance(value, list) else str(value)
            elements = _LOADS.get(name, ())
            if (elements is None or element.name in elements) and _OUTSIDE.match(value):
                problems.append(f"<{element.name}> loads {value}: nothing may come from the network.")
            elif name == "style":
                problems += _style_problems(value)
            if name in ("src", "href") and not urlsplit(value).scheme and not value.startswith("//"):
                problems += _local_problems(path, value)
    for style in soup.find_all("style"):
        problems += _style_problems(style.get_text())
    problems += _state_problems(soup)
    for hidden in soup.find_all(["script", "style", "code", "pre", "math", "svg"]):
        hidden.decompose()
    for text in soup.find_all(string=_DOLLARS):
        problems.append(f"an equation was not set, write it outside of HTML: {str(text).strip()!r}.")
    return [f"{path.name}: {problem}" for problem in problems]


def _local_problems(page: Path, link: str) -> Iterator[str]:
    parts = urlsplit(link)
    target = page.parent / unquote(parts.path) if parts.path else page
    if not target.is_file():
        yield f"{link} leads to a file that is not there."
    elif parts.fragment and target.suffix == ".html":
        name = unquote(parts.fragment)
        text = target.read_text(encoding="utf-8")
        if f'id="{name}"' not in text and not BeautifulSoup(text, "html.parser").find(id=name):
            yield f"{link} leads to a place that is not there."
