"""The course as web pages that need no network and no kernel: sliders and players live in them.

    python tools/html_site.py                      build/html, from build/executed; runs the notebooks first if need be
    python tools/html_site.py --executed FOLDER    from these executed notebooks, as they are

A page is an executed notebook drawn by nbconvert. What nbconvert fetches from the network when a page is opened comes
from tools/pages/vendor and from installed packages instead, once for all pages, and equations are set by KaTeX while
the site is built: one that KaTeX does not understand is an error, like a missing figure or a slider without its state.
"""

from __future__ import annotations

import argparse
import base64
import copy
import hashlib
import json
import lzma
import os
import re
import shutil
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jinja2
import nbformat
from bs4 import BeautifulSoup, Tag
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from py_mini_racer import MiniRacer

import executed as finished
from run_notebooks import EXECUTED, run

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "tools" / "pages"
VENDOR = PAGES / "vendor"
HTML = ROOT / "build" / "html"
MOST_BYTES = 60_000_000
MOST_BYTES_OF_A_PAGE = 6_000_000
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = finished.WIDGET_STATE
LINKS = ("LinkModel", "DirectionalLinkModel")
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")
NO_ALT = "No description has been provided for this image"  # what nbconvert writes
TYPESET = """
function typeset(latex, display) {
  try { return { html: katex.renderToString(latex, { displayMode: display, strict: "error" }) }; }
  catch (error) { return { error: error.message }; }
}"""


class SiteError(ValueError):
    """What is wrong with the site, one sentence a line."""


# --- equations --------------------------------------------------------------------------------------------------------


class Equations:
    """KaTeX, run at build time: HTML for the eye, and MathML beside it for a screen reader."""

    def __init__(self) -> None:
        self._engine = MiniRacer()
        self._engine.eval((VENDOR / "katex" / "katex.min.js").read_text(encoding="utf-8"))
        self._engine.eval(TYPESET)
        self._known: dict[tuple[str, bool], str] = {}

    def typeset(self, latex: str, *, display: bool) -> str:
        """The HTML of one equation.

        Args:
            latex: without the dollar signs.
            display: on a line of its own.

        Raises:
            ValueError: KaTeX does not understand it, or warns of it.
        """
        key = (latex.strip(), display)
        if key not in self._known:
            answer = self._engine.call("typeset", *key)
            if "error" in answer:
                reason = str(answer["error"]).replace("\u0332", "")
                raise ValueError(f"the equation {key[0]!r} cannot be set: {reason}")
            self._known[key] = answer["html"]
        return self._known[key]

    def __len__(self) -> int:
        """How many different ones were set."""
        return len(self._known)


class _Renderer(IPythonRenderer):
    """Markdown to HTML as in JupyterLab, with equations set here and not in the browser."""

    def __init__(self, equations: Equations, problems: list[str]) -> None:
        super().__init__(escape=False, exclude_anchor_links=True)
        self._equations, self._problems = equations, problems

    def _set(self, latex: str, *, display: bool) -> str:
        try:
            return self._equations.typeset(latex, display=display)
        except ValueError as error:
            self._problems.append(str(error))
            return f"<code>{self.escape_html(latex)}</code>"

    def block_math(self, body: str) -> str:
        return self._set(body, display=True)

    def inline_math(self, body: str) -> str:
        return self._set(body, display=False)

    def latex_environment(self, name: str, body: str) -> str:
        return self._set(rf"\begin{{{name}}}{body}\end{{{name}}}", display=True)


def markdown_to_html(source: str, equations: Equations, problems: list[str]) -> str:
    """The HTML of a markdown text; what is wrong with its equations is added to `problems`."""
    return MarkdownWithMath(renderer=_Renderer(equations, problems)).render(source)


# --- widgets ----------------------------------------------------------------------------------------------------------


def _strings(value: Any) -> Iterator[str]:
    """Every string in nested lists and dicts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def shown_widgets(notebook: NotebookNode) -> list[str]:
    """The ids of the widgets that the cells of a notebook show."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.data[VIEW]["model_id"] for output in outputs if VIEW in output.get("data", {})]


def needed_widgets(models: dict[str, Any], shown: Iterable[str]) -> dict[str, Any]:
    """The part of a notebook's widget state that a page needs.

    A widget is needed if a cell shows it, if a needed widget names it, or if a link joins it to a needed one. Links
    name what they join and nothing names them, so they are followed in both directions.

    Args:
        models: widget id to model, as in a notebook's metadata.
        shown: ids of widgets that cells show.

    Returns:
        The needed ones, in the old order.
    """
    names: dict[str, set[str]] = {}
    for name, model in models.items():
        said = {text.removeprefix("IPY_MODEL_").removeprefix("anywidget:") for text in _strings(model.get("state"))}
        names[name] = said & models.keys()
    links = [name for name, model in models.items() if model.get("model_name") in LINKS]
    kept: set[str] = set()
    waiting = [name for name in shown if name in models]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept.add(name)
            waiting += names[name]
            waiting += [link for link in links if name in names[link]]
    return {name: model for name, model in models.items() if name in kept}


def share_modules(models: dict[str, Any]) -> dict[str, str]:
    """Take out of widgets what several hold alike: the text of their module and of its style sheet.

    Args:
        models: widget id to model; changed in place, so that the name of a text stands where the text was.

    Returns:
        Name to text.
    """
    places: dict[str, list[tuple[dict[str, Any], str]]] = {}
    for model in models.values():
        state = model.get("state", {})
        for key in ("_esm", "_css"):
            if isinstance(state.get(key), str):
                places.setdefault(state[key], []).append((state, key))
    shared = {}
    for text, found in places.items():
        if len(found) > 1 and len(text) > 1000:
            name = f"shared:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
            shared[name] = text
            for state, key in found:
                state[key] = name
    return shared


def _in_script(value: Any) -> str:
    """JSON that may stand in a script element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def widget_scripts(state: dict[str, Any], loader: str) -> str:
    """The end of a page with widgets: their state, what they share, and the programs that bring them to life."""
    state = copy.deepcopy(state)
    shared = share_modules(state["state"])
    texts = [
        f'<script type="application/json" data-shared="{name}">{_in_script(text)}</script>'
        for name, text in shared.items()
    ]
    return "\n".join([*texts, f'<script type="{STATE}">{_in_script(state)}</script>', loader])


# --- what a page may hold ---------------------------------------------------------------------------------------------

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
    scripts = soup.find_all("script", type=STATE)
    models = {}
    for script in scripts:
        models.update(json.loads(script.get_text())["state"])
    for script in soup.find_all("script", type=VIEW):
        if json.loads(script.get_text())["model_id"] not in models:
            yield "a cell shows a widget whose state is not in the page: was its state saved with the notebook?"
    for model in models.values():
        for key, value in model.get("state", {}).items():
            for text in _strings(value):
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


# --- the site ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Page:
    """What the first page says of a notebook.

    Args:
        stem: file name without its ending.
        title: the notebook's heading.
        do: what follows "You will do:", as HTML.
        minutes: how long it takes, in words; empty where the README does not say.
        picture: src and alt text of the notebook's first figure.
    """

    stem: str
    title: str
    do: str
    minutes: str
    picture: dict[str, str] | None

    @property
    def href(self) -> str:
        """Address of the page in the site."""
        return f"{self.stem}.html"

    @property
    def file(self) -> str:
        """The notebook in the repository."""
        return f"notebooks/{self.stem}.ipynb"

    @property
    def number(self) -> str:
        """The number that the file's name begins with."""
        return match[0] if (match := re.match(r"\d+", self.stem)) else ""


def _markdown(notebook: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.DOTALL | re.MULTILINE)
    return match[1].strip() if match else ""


def readme_commands(readme: str) -> list[tuple[str, str]]:
    """The commands of the README's first code block, with what it says of each."""
    lines = _first(r"^```\w*\n(.*?)^```", readme).splitlines()
    parts = [line.partition("#") for line in lines if line.strip()]
    return [(command.strip(), purpose.strip()) for command, _, purpose in parts]


def readme_minutes(readme: str, stem: str) -> str:
    """What the README's table says of a notebook's minutes."""
    row = _first(rf"^(\|[^\n]*\(notebooks/{re.escape(stem)}\.ipynb\)[^\n]*\|)\s*$", readme)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    return f"{cells[-2]} minutes for you, {cells[-1]} for the computer" if len(cells) >= 4 else ""


def anywidget_module() -> Path:
    """The AMD module that the installed anywidget ships for pages without JupyterLab.

    Raises:
        SiteError: anywidget is not installed, or without that file.
    """
    try:
        files = metadata.files("anywidget") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix().endswith("nbextensions/anywidget/index.js"):
            return Path(os.path.realpath(str(file.locate())))
    raise SiteError("anywidget's nbextensions/anywidget/index.js is not installed: run `make setup`.")


class Site:
    """One run of the builder: what it writes, and what it found wrong."""

    def __init__(self, out: Path, home: Path) -> None:
        self.out, self.home = out, home
        self.problems: list[str] = []
        self.equations = Equations()
        self.readme = (home / "README.md").read_text(encoding="utf-8")
        self.title = _first(r"^# ([^\n]+)$", self.readme)
        self.stems: list[str] = []
        self.code_styles: list[str] = []
        self.exporter = HTMLExporter(template_name="course", extra_template_basedirs=[str(PAGES)])
        self.exporter.exclude_input_prompt = self.exporter.exclude_output_prompt = True
        self.exporter.log.setLevel("ERROR")  # it warns of pictures without a text, which are given one here
        self.exporter.register_filter("markdown2html", self.markdown)
        self.exporter.register_filter("latex2html", self.latex)
        self.templates = jinja2.Environment(loader=jinja2.FileSystemLoader(PAGES / "course"), autoescape=False)

    def markdown(self, source: str) -> str:
        """HTML of a markdown text."""
        return markdown_to_html(source, self.equations, self.problems)

    def latex(self, source: str) -> str:
        """HTML of a text/latex output, with or without its dollar signs."""
        body = source.strip()
        renderer = _Renderer(self.equations, self.problems)
        inline = re.fullmatch(r"\$([^$]+)\$", body)
        return renderer.inline_math(inline[1]) if inline else renderer.block_math(body.strip("$"))

    def keep_file(self, target: Path) -> str:
        """Copy a file of the repository into the site; its address there."""
        address = f"assets/{target.relative_to(self.home).as_posix()}"
        if not (self.out / address).exists():
            (self.out / address).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(target, self.out / address)
        return address

    def keep_picture(self, data: bytes, ending: str) -> str:
        """Keep a picture that a cell made; its address in the site."""
        address = f"assets/pictures/{hashlib.sha256(data).hexdigest()[:16]}.{ending}"
        (self.out / address).parent.mkdir(parents=True, exist_ok=True)
        (self.out / address).write_bytes(data)
        return address

    def target(self, link: str, folder: str) -> Path | None:
        """The file of the repository that a link in one of its texts means; None for other links."""
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or not parts.path:
            return None
        return (self.home / folder / unquote(parts.path)).resolve()

    # --- one notebook ---

    def describe(self, stem: str, notebook: NotebookNode) -> Page:
        """What the first page says of a notebook, all of it from the notebook and the README."""
        text = _markdown(notebook)
        do = self.markdown(_first(r"^\*\*You will do:\*\*(.+?)(?:\n\n|\Z)", text))
        do = re.sub(r"\A\s*<p>(.*)</p>\s*\Z", r"\1", do, flags=re.DOTALL)
        title = _first(r"^# ([^\n]+)$", text) or stem
        return Page(stem, title, do, readme_minutes(self.readme, stem), self.picture(text, "notebooks"))

    def picture(self, text: str, folder: str) -> dict[str, str] | None:
        """The first picture of a markdown text, copied into the site."""
        found = re.search(r"!\[([^\]]*)\]\(([^)\s]+)\)", text)
        target = self.target(found[2], folder) if found else None
        if found is None or target is None or not target.is_file():
            return None
        return {"src": self.keep_file(target), "alt": found[1]}

    def export(self, page: Page, before: Page | None, after: Page | None, notebook: NotebookNode) -> str:
        """The HTML of one notebook's page."""
        notebook = copy.deepcopy(notebook)
        state = notebook.metadata.get("widgets", {}).get(STATE, {"state": {}})
        notebook.metadata["widgets"] = {
            STATE: {"state": {name: {} for name in state["state"]}}
        }  # nbconvert asks for ids
        shown = shown_widgets(notebook)
        if any(name not in state["state"] for name in shown):
            self.problems.append(
                f"{page.file}: a cell shows a widget whose state was not saved: run it with `make html`."
            )
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                self.take_pictures(output)
        around = ((before, "prev", "← "), (after, "next", " →"))
        links = [{"kind": "index", "href": "index.html", "text": "All notebooks"}]
        for other, kind, arrow in around:
            if other is not None:
                words = f"{other.number} {other.title}".strip()
                text = arrow + words if kind == "prev" else words + arrow
                links.append({"kind": kind, "href": other.href, "text": text})
        site = {"title": self.title, "page": page, "links": links, "commands": readme_commands(self.readme)}
        resources = {"metadata": {"name": page.stem, "path": ""}, "site": site}
        html, made = self.exporter.from_notebook_node(notebook, resources)
        self.code_styles = made["inlining"]["css"]
        html = self.mend(html, page)
        needed = needed_widgets(state["state"], shown)
        scripts = ""
        if needed:
            loader = self.templates.get_template("widgets.html.j2").render()
            scripts = widget_scripts({**state, "state": needed}, loader)
        return html.replace("<!--widgets-->", scripts)

    def take_pictures(self, output: Any) -> None:
        """Move the pictures of an output into files of their own, so that a page is read before they are."""
        for kind, ending in (("image/png", "png"), ("image/jpeg", "jpg")):
            if kind in output.get("data", {}):
                address = self.keep_picture(base64.b64decode(output.data[kind]), ending)
                output.data[kind] = ""
                output.setdefault("metadata", {}).setdefault("filenames", {})[kind] = address

    def mend(self, html: str, page: Page) -> str:
        """Links, pictures and headings of a page, as they must be outside of JupyterLab."""
        soup = BeautifulSoup(html, "html.parser")
        main = soup.find("main")
        if not isinstance(main, Tag):
            raise SiteError(f"{page.file}: the template made a page without <main>.")
        for element in main.find_all(tabindex=True):
            del element["tabindex"]  # a page of text is no list of cells
        for anchor in main.find_all("a", href=True):
            self.mend_link(anchor, page)
        for number, image in enumerate(main.find_all("img", src=True)):
            self.mend_image(image, page, lazy=number > 0)
        contents = main.find("details", class_="contents")
        sections = self.mend_headings(main)
        if isinstance(contents, Tag) and isinstance(contents.ul, Tag) and sections:
            del contents["hidden"]
            for name, heading in sections:
                item, link = soup.new_tag("li"), soup.new_tag("a", href=f"#{name}")
                link.extend(copy.copy(child) for child in list(heading.children)[:-1])
                item.append(link)
                contents.ul.append(item)
        return str(soup)

    def mend_link(self, anchor: Tag, page: Page) -> None:
        """A link to a notebook leads to its page; to a picture, to the picture; to any other file, it becomes text."""
        link = str(anchor["href"])
        target = self.target(link, "notebooks")
        if target is None:
            return
        fragment = f"#{urlsplit(link).fragment}" if urlsplit(link).fragment else ""
        if target.suffix == ".ipynb" and target.stem in self.stems:
            anchor["href"] = f"{target.stem}.html{fragment}"
        elif not target.exists() or not target.is_relative_to(self.home):
            self.problems.append(f"{page.file}: {link} leads to a file that is not there.")
        elif target.suffix in PICTURES:
            anchor["href"] = self.keep_file(target)
        else:
            name = target.relative_to(self.home).as_posix()
            if target.name not in anchor.get_text():
                anchor.append(f" ({name})")
            anchor.unwrap()

    def mend_image(self, image: Tag, page: Page, *, lazy: bool) -> None:
        """A picture comes from a file of the site, has a text, and takes its room before it is loaded."""
        if str(image["src"]).startswith("assets/"):
            address = str(image["src"])
        else:
            target = self.target(str(image["src"]), "notebooks")
            if target is None:
                return
            if not target.is_file() or not target.is_relative_to(self.home):
                self.problems.append(f"{page.file}: the picture {image['src']} is not there.")
                return
            address = image["src"] = self.keep_file(target)
        if image.get("alt", NO_ALT) == NO_ALT:
            image["alt"] = "A picture that the code above made."
        head = (self.out / address).read_bytes()[:24]
        if head.startswith(b"\x89PNG") and not (image.get("width") or image.get("height")):
            width, height = struct.unpack(">II", head[16:24])
            image["width"], image["height"] = str(width), str(height)
        image["decoding"] = "async"
        if lazy:
            image["loading"] = "lazy"

    def mend_headings(self, main: Tag) -> list[tuple[str, Tag]]:
        """Give headings the names that JupyterLab gives them, and a link; the sections, as (name, heading)."""
        seen: dict[str, int] = {}
        sections = []
        for heading in main.find_all(["h1", "h2", "h3", "h4"]):
            words = copy.copy(heading)
            for equation in words.find_all(class_="katex"):
                source = equation.find("annotation")
                equation.replace_with(f"${source.get_text()}$" if isinstance(source, Tag) else "")
            name = words.get_text().strip().replace(" ", "-")
            seen[name] = seen.get(name, 0) + 1
            name = name if seen[name] == 1 else f"{name}-{seen[name]}"
            heading["id"] = name
            link = BeautifulSoup("", "html.parser").new_tag("a", href=f"#{name}", attrs={"class": "anchor"})
            link["aria-label"] = f"Link to {words.get_text().strip()}"
            link.string = "#"
            heading.append(link)
            if heading.name == "h2":
                sections.append((name, heading))
        return sections

    # --- what the pages share ---

    def contents(self, pages: list[Page]) -> str:
        """The HTML of the first page."""
        sentence = self.markdown(_first(r"^\*\*(.+?)\*\*$", self.readme)).strip()
        licences = self.markdown(_first(r"^## Licences\n(.+?)(?:^## |\Z)", self.readme)).strip()
        html = self.templates.get_template("contents.html.j2").render(
            title=self.title,
            sentence=re.sub(r"\A<p>|</p>\Z", "", sentence),
            picture=self.picture(self.readme, "."),
            commands=readme_commands(self.readme),
            pages=pages,
            licences=re.sub(r"</?(?:p|a)\b[^>]*>", "", licences),
            notices=[name for name, _ in self.notices()],
        )
        return html

    def notices(self) -> list[tuple[str, Path]]:
        """The licences of what others wrote, as (name in the site, file)."""
        found = [(f"{path.parent.name}-{path.name}", path) for path in sorted(VENDOR.glob("*/*LICENSE*"))]
        licence = next(
            (file for file in metadata.files("anywidget") or [] if file.name.upper().startswith("LICENSE")), None
        )
        found += [("anywidget-LICENSE", Path(str(licence.locate())))] if licence is not None else []
        return [(name if name.endswith(".txt") else f"{name}.txt", path) for name, path in found]

    def write_assets(self) -> None:
        """Write what all pages share: styles, fonts, and the programs that bring widgets to life."""
        assets = self.out / "assets"
        for name in ("html-manager", "katex", "licences"):
            (assets / name).mkdir(parents=True, exist_ok=True)
        for path in VENDOR.glob("html-manager/*.woff2"):
            shutil.copyfile(path, assets / "html-manager" / path.name)
        with lzma.open(VENDOR / "html-manager" / "embed-amd.js.xz") as packed:
            (assets / "html-manager" / "embed-amd.js").write_bytes(packed.read())
        shutil.copyfile(VENDOR / "katex" / "katex.min.css", assets / "katex" / "katex.min.css")
        shutil.copytree(VENDOR / "katex" / "fonts", assets / "katex" / "fonts")
        shutil.copyfile(VENDOR / "requirejs" / "require.js", assets / "require.js")
        shutil.copyfile(anywidget_module(), assets / "anywidget.js")
        for name in ("site.css", "theme.js", "widgets.js"):
            shutil.copyfile(PAGES / name, assets / name)
        loader = self.exporter.environment.loader
        if loader is None:
            raise SiteError("nbconvert has no templates.")
        styles = [
            loader.get_source(self.exporter.environment, f"static/{name}.css")[0]
            for name in ("index", "theme-light", "theme-dark")
        ]
        (assets / "lab.css").write_text("\n".join([*styles[:2], *self.code_styles]), encoding="utf-8")
        dark = (PAGES / "dark.css").read_text(encoding="utf-8")
        (assets / "lab-dark.css").write_text(f"{styles[2]}\n{dark}", encoding="utf-8")
        shutil.copyfile(VENDOR / "VENDORED.md", assets / "licences" / "VENDORED.txt")
        for name, path in self.notices():
            shutil.copyfile(path, assets / "licences" / name)

    def build(self, executed: Path) -> list[Path]:
        """Write every page; see `build`."""
        notebooks = {path.stem: nbformat.read(path, as_version=4) for path in sorted(executed.glob("*.ipynb"))}
        if not notebooks:
            raise SiteError(f"{executed} holds no executed notebook: run `make html`.")
        self.stems = list(notebooks)
        pages = [self.describe(stem, notebook) for stem, notebook in notebooks.items()]
        written = [self.out / "index.html"]
        for number, page in enumerate(pages):
            before = pages[number - 1] if number else None
            after = pages[number + 1] if number + 1 < len(pages) else None
            first = len(self.problems)
            html = self.export(page, before, after, notebooks[page.stem])
            self.problems[first:] = [
                problem if problem.startswith(page.file) else f"{page.file}: {problem}"
                for problem in self.problems[first:]
            ]
            written.append(self.out / page.href)
            written[-1].write_text(html, encoding="utf-8", newline="\n")
        self.write_assets()
        written[0].write_text(self.contents(pages), encoding="utf-8", newline="\n")
        for path in written:
            self.problems += check_page(path)
        self.problems += too_large(self.out, written)
        if self.problems:
            raise SiteError("\n".join(dict.fromkeys(self.problems)))
        return written


def too_large(out: Path, pages: list[Path]) -> Iterator[str]:
    """What of a site is larger than it may be."""
    for page in pages:
        if page.stat().st_size > MOST_BYTES_OF_A_PAGE:
            yield f"{page.name} has {page.stat().st_size:,} bytes, at most {MOST_BYTES_OF_A_PAGE:,}."
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if total > MOST_BYTES:
        yield f"{out} has {total:,} bytes, at most {MOST_BYTES:,}."


def build(executed: Path, out: Path, home: Path = ROOT) -> list[Path]:
    """Write the site.

    Args:
        executed: folder with executed notebooks, each with its widget state.
        out: folder of the site; an older site in it is replaced.
        home: the repository, whose README and figures the pages show.

    Returns:
        The pages, the first page first.

    Raises:
        SiteError: an equation that cannot be set, a file that is not there, a widget without state, something that
            would be loaded from the network, a site that is too large, or a folder `out` that is no older site.
    """
    if out.exists():
        if any(out.iterdir()) and not (out / "assets" / "site.css").exists():
            raise SiteError(f"{out} holds something else than an older site: give another folder.")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    return Site(out.resolve(), home.resolve()).build(executed)


# --- the command ------------------------------------------------------------------------------------------------------


def is_fresh(executed: Path = EXECUTED, home: Path = ROOT) -> bool:
    """Whether all notebooks were run, without an error, after they and the library were last changed."""
    originals = sorted((home / "notebooks").glob("*.ipynb"))
    copies = [executed / path.name for path in originals]
    if not all(path.exists() for path in copies):
        return False
    library = [path for path in (home / "course_lib").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    changed = max(path.stat().st_mtime for path in [*originals, *library])
    return changed <= min(path.stat().st_mtime for path in copies) and not finished.scan(copies)


def main() -> int:
    """Read the command line, build, and say what came of it; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executed", type=Path, help="executed notebooks to show as they are; none are run")
    parser.add_argument("--out", type=Path, default=HTML, help="folder of the site (default: build/html)")
    options = parser.parse_args()
    try:
        if options.executed is None and not is_fresh() and (problems := run([])):
            raise SiteError("\n".join(problems))
        pages = build(options.executed or EXECUTED, options.out)
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    total = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    for page in pages:
        print(f"{page.name:40} {page.stat().st_size / 1e6:6.2f} MB")
    print(f"{total / 1e6:.1f} MB in all. Open {options.out / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
