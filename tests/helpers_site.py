"""A course of two small notebooks, executed, to make a site of; and a reader of its pages."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat

from html_site import STATE, build
from html_widgets import VIEW

FIRST = r"""# First

**You will do:** move a slider with $x_t$.

**You need:** 10 minutes.

![A dot](../figures/one.png)

[Next](01_second.ipynb#All-of-$x_T$), the [licence](../LICENSE), a [dot](../figures/one.png), a
[paper](https://example.org/paper).

$$x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1-\bar\alpha_t}\;\varepsilon_t \tag{7}$$

Not equations: `a $b` and `$c$`.

```
$$no$$
```

<details><summary>Answer</summary>

It is $\mathcal N(0, I)$.

</details>

| symbol | what |
|:--|:--|
| $\hat x_0$ | a guess, $q(x_{t-1} \mid x_t)$ |

\begin{align}a &= b\\ c &= d\end{align}
"""
EQUATIONS = [
    r"x_t",
    r"x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1-\bar\alpha_t}\;\varepsilon_t \tag{7}",
    r"\mathcal N(0, I)",
    r"\hat x_0",
    r"q(x_{t-1} \mid x_t)",
    r"\begin{align}a &= b\\ c &= d\end{align}",
]
SECOND = "# Second\n\n**You will do:** follow a link.\n\n## All of $x_T$\n\ntext\n\n## Same\n\n## Same\n"
MODULE = "export default { render() { '</script>' } };\n" + "// filler\n" * 200


def png(width: int, height: int) -> bytes:
    """A gray picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def model(name: str, module: str = "@jupyter-widgets/controls", **state: Any) -> dict[str, Any]:
    """One widget, as a notebook keeps it."""
    return {"model_name": name, "model_module": module, "model_module_version": "2.0.0", "state": state}


def models() -> dict[str, Any]:
    """A slider that is joined to a canvas, which is joined to a second one; a picture; and what nobody needs."""
    canvas = {"_esm": MODULE, "_anywidget_id": "canvas", "layout": "IPY_MODEL_layout"}
    return {
        "layout": model("LayoutModel", "@jupyter-widgets/base"),
        "style": model("SliderStyleModel"),
        "slider": model("FloatSliderModel", value=0.3, layout="IPY_MODEL_layout", style="IPY_MODEL_style"),
        "hidden": model("AnyModel", "anywidget", **canvas),
        "shown": model("AnyModel", "anywidget", friend="anywidget:friend", **canvas),
        "friend": model("AnyModel", "anywidget", value=2.0),
        "box": model("VBoxModel", children=["IPY_MODEL_slider", "IPY_MODEL_output"]),
        "link": model("LinkModel", source=["IPY_MODEL_slider", "value"], target=["IPY_MODEL_hidden", "value"]),
        "chain": model(
            "DirectionalLinkModel", source=["IPY_MODEL_hidden", "value"], target=["IPY_MODEL_shown", "value"]
        ),
        "output": model("OutputModel", "@jupyter-widgets/output", outputs=[{"data": {VIEW: view("image")}}]),
        "image": {
            **model("ImageModel", format="png"),
            "buffers": [{"encoding": "base64", "path": ["value"], "data": base64.b64encode(png(2, 2)).decode()}],
        },
        "dead": model("FloatSliderModel", value=0.5, style="IPY_MODEL_dead_style"),
        "dead_style": model("SliderStyleModel"),
        "dead_link": model("LinkModel", source=["IPY_MODEL_dead", "value"], target=["IPY_MODEL_dead_too", "value"]),
        "dead_too": model("FloatSliderModel", value=0.5),
    }


NEEDED = {"layout", "style", "slider", "hidden", "shown", "friend", "box", "link", "chain", "output", "image"}


def view(name: str) -> dict[str, Any]:
    return {"version_major": 2, "version_minor": 0, "model_id": name}


def executed(text: str, data: list[dict[str, Any]], state: dict[str, Any]) -> nbformat.NotebookNode:
    """A notebook with one cell of markdown, and a cell of code for each output."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
    notebook.metadata["language_info"] = {"name": "python"}
    for number, bundle in enumerate(data, start=1):
        output = nbformat.v4.new_output("execute_result", {"text/plain": "…", **bundle}, execution_count=number)
        notebook.cells.append(nbformat.v4.new_code_cell("show(1 < 2)", execution_count=number, outputs=[output]))
    if state:
        whole = {"version_major": 2, "version_minor": 0, "state": state}
        notebook.metadata["widgets"] = {STATE: whole}
    return notebook


class Course:
    """A small course in a folder: a figure, two notebooks, and executed copies of them."""

    def __init__(self, home: Path) -> None:
        self.home, self.run, self.out = home, home / "build" / "executed", home / "build" / "html"
        for folder in ("figures", "notebooks", "course_lib", "build/executed"):
            (home / folder).mkdir(parents=True)
        (home / "LICENSE").write_text("free", encoding="utf-8")
        (home / "figures" / "one.png").write_bytes(png(30, 20))
        picture = {"image/png": base64.b64encode(png(8, 4)).decode()}
        bundles: list[dict[str, Any]] = [{VIEW: view("box")}, picture, {"text/latex": r"$\eta$"}]
        self.write("00_first", executed(FIRST, bundles, models()))
        self.write("01_second", executed(SECOND, [], {}))

    def write(self, stem: str, notebook: nbformat.NotebookNode) -> None:
        nbformat.write(notebook, self.run / f"{stem}.ipynb")
        (self.home / "notebooks" / f"{stem}.ipynb").touch()

    def build(self) -> list[Path]:
        return build(self.run, self.out, self.home)


class Elements(HTMLParser):
    """Start tags with their attributes, and the content of scripts by type."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts.append((self.tags[-1][1].get("type", ""), data))

    def state(self) -> dict[str, Any]:
        """The widget state, put together as the page does it."""
        (text,) = [data for kind, data in self.scripts if kind == STATE]
        shared = [attrs["data-shared"] for tag, attrs in self.tags if tag == "script" and "data-shared" in attrs]
        texts = [data for kind, data in self.scripts if kind == "application/json"]
        for name, shared_text in zip(shared, texts, strict=True):
            text = text.replace(json.dumps(name), shared_text)
        return json.loads(text)
