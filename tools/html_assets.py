"""What all pages of the site share: styles, fonts, the programs that bring widgets to life, and their licences."""

from __future__ import annotations

import lzma
import os
import shutil
from importlib import metadata
from pathlib import Path

from nbconvert import HTMLExporter

PAGES = Path(__file__).with_name("pages")
VENDOR = PAGES / "vendor"


def anywidget_module() -> Path:
    """The AMD module that the installed anywidget ships for pages without JupyterLab.

    Raises:
        RuntimeError: anywidget is not installed, or without that file.
    """
    try:
        files = metadata.files("anywidget") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix().endswith("nbextensions/anywidget/index.js"):
            return Path(os.path.realpath(str(file.locate())))
    raise RuntimeError("anywidget's nbextensions/anywidget/index.js is not installed: run `make setup`.")


def notices() -> list[tuple[str, Path]]:
    """The licences of what others wrote, as (name in the site, file)."""
    found = [(f"{path.parent.name}-{path.name}", path) for path in sorted(VENDOR.glob("*/*LICENSE*"))]
    licence = next(
        (file for file in metadata.files("anywidget") or [] if file.name.upper().startswith("LICENSE")), None
    )
    found += [("anywidget-LICENSE", Path(str(licence.locate())))] if licence is not None else []
    return [(name if name.endswith(".txt") else f"{name}.txt", path) for name, path in found]


def write_assets(out: Path, exporter: HTMLExporter, code_styles: list[str]) -> None:
    """Write what all pages share: styles, fonts, and the programs that bring widgets to life."""
    assets = out / "assets"
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
    loader = exporter.environment.loader
    if loader is None:
        raise RuntimeError("nbconvert has no templates.")
    styles = [
        loader.get_source(exporter.environment, f"static/{name}.css")[0]
        for name in ("index", "theme-light", "theme-dark")
    ]
    (assets / "lab.css").write_text("\n".join([*styles[:2], *code_styles]), encoding="utf-8")
    dark = (PAGES / "dark.css").read_text(encoding="utf-8")
    (assets / "lab-dark.css").write_text(f"{styles[2]}\n{dark}", encoding="utf-8")
    shutil.copyfile(VENDOR / "VENDORED.md", assets / "licences" / "VENDORED.txt")
    for name, path in notices():
        shutil.copyfile(path, assets / "licences" / name)
