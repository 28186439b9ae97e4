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
import re
import shutil
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jinja2
from bs4 import BeautifulSoup, Tag
from nbconvert import HTMLExporter
from nbformat import NotebookNode

import executed as finished
import notebooks
from html_assets import PAGES, notices, write_assets
from html_check import check_page
from html_text import Equations, Renderer, markdown_to_html, mend_headings
from html_widgets import needed_widgets, shown_widgets, widget_scripts
from run_notebooks import EXECUTED, run

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "build" / "html"
MOST_BYTES = 60_000_000
MOST_BYTES_OF_A_PAGE = 6_000_000
STATE = finished.WIDGET_STATE
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")
HERO = "figures/hero.gif"
NO_ALT = "No description has been provided for this image"  # what nbconvert writes


class SiteError(ValueError):
    """What is wrong with the site, one sentence a line."""


@dataclass(frozen=True)
class Page:
    """What the first page says of a notebook.

    Args:
        stem: file name without its ending.
        title: the notebook's heading.
        do: what follows "You will do:", as HTML.
        need: what follows "You need:", as HTML, with the minutes.
        picture: src and alt text of the notebook's first figure.
    """

    stem: str
    title: str
    do: str
    need: str
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


def _paragraphs(notebook: NotebookNode) -> list[str]:
    """The text of the first cell, which says what the notebook is about."""
    return [part.strip() for part in notebook.cells[0].source.split("\n\n")]


def _after(mark: str, paragraphs: list[str]) -> str:
    """What follows a mark at the beginning of a paragraph; empty where no paragraph has it."""
    return next((part.removeprefix(mark).strip() for part in paragraphs if part.startswith(mark)), "")


class Site:
    """One run of the builder: what it writes, and what it found wrong."""

    def __init__(self, out: Path, home: Path) -> None:
        self.out, self.home = out, home
        self.problems: list[str] = []
        self.equations = Equations()
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
        renderer = Renderer(self.equations, self.problems)
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
        """What the first page says of a notebook, all of it from the notebook's first cell."""
        about = _paragraphs(notebook)
        do, need = (self.inline(_after(f"**You {word}:**", about)) for word in ("will do", "need"))
        return Page(stem, _after("# ", about) or stem, do, need, self.picture(about))

    def inline(self, source: str) -> str:
        """HTML of one paragraph, without its element."""
        return self.markdown(source).strip().removeprefix("<p>").removesuffix("</p>")

    def picture(self, paragraphs: list[str]) -> dict[str, str] | None:
        """The first picture of a text, copied into the site."""
        images = BeautifulSoup(self.markdown("\n\n".join(paragraphs)), "html.parser").find_all("img", src=True)
        target = self.target(str(images[0]["src"]), "notebooks") if images else None
        if target is None or not target.is_file():
            return None
        return {"src": self.keep_file(target), "alt": str(images[0].get("alt", ""))}

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
        site = {"title": notebooks.COURSE, "page": page, "links": links}
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
        sections = mend_headings(main)
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

    # --- what the pages share ---

    def contents(self, pages: list[Page]) -> str:
        """The HTML of the first page."""
        hero = self.home / HERO
        return self.templates.get_template("contents.html.j2").render(
            title=notebooks.COURSE,
            picture=self.keep_file(hero) if hero.is_file() else None,
            pages=pages,
            notices=[name for name, _ in notices()],
        )

    def build(self, executed: Path) -> list[Path]:
        """Write every page; see `build`."""
        books = {path.stem: notebooks.read(path) for path in sorted(executed.glob("*.ipynb"))}
        if not books:
            raise SiteError(f"{executed} holds no executed notebook: run `make html`.")
        self.stems = list(books)
        pages = [self.describe(stem, notebook) for stem, notebook in books.items()]
        written = [self.out / "index.html"]
        for number, page in enumerate(pages):
            before = pages[number - 1] if number else None
            after = pages[number + 1] if number + 1 < len(pages) else None
            first = len(self.problems)
            html = self.export(page, before, after, books[page.stem])
            self.problems[first:] = [
                problem if problem.startswith(page.file) else f"{page.file}: {problem}"
                for problem in self.problems[first:]
            ]
            written.append(self.out / page.href)
            written[-1].write_text(html, encoding="utf-8", newline="\n")
        write_assets(self.out, self.exporter, self.code_styles)
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
