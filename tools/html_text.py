"""Markdown to HTML: KaTeX sets the equations while the site is built, and headings get the names of JupyterLab."""

from __future__ import annotations

import copy
from pathlib import Path

from bs4 import BeautifulSoup, Tag
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from py_mini_racer import MiniRacer

KATEX = Path(__file__).with_name("pages") / "vendor" / "katex" / "katex.min.js"
TYPESET = """
function typeset(latex, display) {
  try { return { html: katex.renderToString(latex, { displayMode: display, strict: "error" }) }; }
  catch (error) { return { error: error.message }; }
}"""


class Equations:
    """KaTeX, run at build time: HTML for the eye, and MathML beside it for a screen reader."""

    def __init__(self) -> None:
        self._engine = MiniRacer()
        self._engine.eval(KATEX.read_text(encoding="utf-8"))
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


class Renderer(IPythonRenderer):
    """Markdown to HTML as in JupyterLab, with equations set here and not in the browser."""

    def __init__(self, equations: Equations, problems: list[str]) -> None:
        super().__init__(escape=False, exclude_anchor_links=True)
        self._equations, self._problems = equations, problems

    def set(self, latex: str, *, display: bool) -> str:
        try:
            return self._equations.typeset(latex, display=display)
        except ValueError as error:
            self._problems.append(str(error))
            return f"<code>{self.escape_html(latex)}</code>"

    def block_math(self, body: str) -> str:
        return self.set(body, display=True)

    def inline_math(self, body: str) -> str:
        return self.set(body, display=False)

    def latex_environment(self, name: str, body: str) -> str:
        return self.set(rf"\begin{{{name}}}{body}\end{{{name}}}", display=True)


def markdown_to_html(source: str, equations: Equations, problems: list[str]) -> str:
    """The HTML of a markdown text; what is wrong with its equations is added to `problems`."""
    return MarkdownWithMath(renderer=Renderer(equations, problems)).render(source)


def mend_headings(main: Tag) -> list[tuple[str, Tag]]:
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
