"""The site of `make html`: nothing from the network, nothing missing, equations set, sliders with their state."""

from __future__ import annotations

import copy
import hashlib
import lzma
import os
import re
from pathlib import Path

import nbformat
import pytest

import html_site
import notebooks
from helpers_site import EQUATIONS, MODULE, NEEDED, Course, Elements, executed, models, png, view
from html_assets import VENDOR
from html_check import check_page
from html_site import SiteError, build
from html_text import Equations, markdown_to_html
from html_widgets import VIEW, needed_widgets, share_modules

VENDORED = re.findall(
    r"^\| (\S+) \| [^|]+ \| [\d.]+ \| [^|]+ \| `([0-9a-f]{64})` \|$",
    (VENDOR / "VENDORED.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site that the tests of this file only read."""
    course = Course(tmp_path_factory.mktemp("course"))
    course.build()
    return course.out


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


# --- software of others -----------------------------------------------------------------------------------------------


def test_vendored_files_are_those_that_were_published() -> None:
    present = {
        path.relative_to(VENDOR).as_posix()
        for path in VENDOR.rglob("*")
        if path.is_file() and path.name not in ("VENDORED.md", ".gitattributes")
    }
    assert {name for name, _ in VENDORED} == present
    for name, digest in VENDORED:
        kept = (VENDOR / name).read_bytes()
        published = lzma.decompress(kept) if name.endswith(".xz") else kept
        assert hashlib.sha256(published).hexdigest() == digest, name


def test_fonts_of_the_buttons_and_equations_are_there(site: Path) -> None:
    manager = (site / "assets/html-manager/embed-amd.js").read_text(encoding="utf-8")
    fonts = [path.name for path in (site / "assets/html-manager").glob("*.woff2")]
    assert len(fonts) == 2 and all(name in manager for name in fonts)
    named = re.findall(r"url\((fonts/[^)]+\.woff2)\)", (site / "assets/katex/katex.min.css").read_text())
    assert len(named) == 20 and all((site / "assets/katex" / name).is_file() for name in named)


# --- a page -----------------------------------------------------------------------------------------------------------


def test_pages_pass_their_own_check(site: Path) -> None:
    pages = sorted(site.glob("*.html"))
    assert [page.name for page in pages] == ["00_first.html", "01_second.html", "index.html"]
    assert [problem for page in pages for problem in check_page(page)] == []


def test_links_lead_to_pages_pictures_or_nowhere(site: Path) -> None:
    text = (site / "00_first.html").read_text(encoding="utf-8")
    assert '<a href="01_second.html#All-of-$x_T$">Next</a>' in text
    assert "the licence (LICENSE), a" in text
    assert '<a href="assets/figures/one.png">dot</a>' in text
    assert ".ipynb)" not in text and "../" not in text.split("<main")[1].split(html_site.STATE)[0]
    ids = [attrs["id"] for tag, attrs in Elements(site / "01_second.html").tags if tag in ("h1", "h2")]
    assert ids == ["Second", "All-of-$x_T$", "Same", "Same-2"]


def test_equations_are_set_where_they_stand(site: Path) -> None:
    text = (site / "00_first.html").read_text(encoding="utf-8")
    main = text[text.index("<main") : text.index("</main>")]
    assert re.findall(r'<annotation encoding="application/x-tex">(.*?)</annotation>', main) == [
        equation.replace("&", "&amp;") for equation in [*EQUATIONS, r"\eta"]
    ]
    assert main.count('class="katex-html"') == len(EQUATIONS) + 1 == main.count("<math ")
    assert "<code>a $b</code> and <code>$c$</code>" in main and "$$no$$" in main


def test_every_equation_of_the_course_can_be_set() -> None:
    problems: list[str] = []
    equations = Equations()
    for _, path in notebooks.pairs():
        for cell in notebooks.read(path).cells:
            if cell.cell_type == "markdown":
                markdown_to_html(cell.source, equations, problems)
    assert problems == []
    assert len(equations) > 150


def test_pictures_become_files_that_take_their_room(site: Path) -> None:
    images = [attrs for tag, attrs in Elements(site / "00_first.html").tags if tag == "img"]
    figure, made = images
    assert figure["src"] == "assets/figures/one.png" and figure["alt"] == "A dot"
    assert (figure["width"], figure["height"]) == ("30", "20")
    assert (site / made["src"]).read_bytes() == png(8, 4)
    assert (made["width"], made["height"], made["loading"]) == ("8", "4", "lazy")
    assert made["alt"] == "A picture that the code above made."


def test_page_says_how_to_get_the_live_notebook_and_leads_on(site: Path) -> None:
    text = (site / "00_first.html").read_text(encoding="utf-8")
    assert "<code>notebooks/00_first.ipynb</code>" in text
    assert "type <code>make lab</code> in the course's folder." in text
    links = [attrs for tag, attrs in Elements(site / "00_first.html").tags if tag == "a"]
    assert [attrs["href"] for attrs in links if attrs.get("rel") == "next"] == ["01_second.html"] * 2
    assert not [attrs for attrs in links if attrs.get("rel") == "prev"]


def test_first_page_lists_every_notebook(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    assert f"<h1>{notebooks.COURSE}</h1>" in text and "In 2 notebooks you build" in text
    cards = re.findall(r'<li class="card">(.*?)</li>', text, re.DOTALL)
    assert [re.findall(r'\.html">(.*?)</a>', card) for card in cards] == [["00 First"], ["01 Second"]]
    assert "</strong> 10 minutes.</p>" in cards[0] and "You need" not in cards[1]
    assert 'src="assets/figures/one.png" alt="A dot"' in cards[0] and "<img" not in cards[1]
    assert "move a slider with" in cards[0] and 'class="katex"' in cards[0]


# --- widgets ----------------------------------------------------------------------------------------------------------


def test_state_of_a_page_is_what_its_widgets_need(site: Path) -> None:
    page = Elements(site / "00_first.html")
    state = page.state()
    assert {key: state[key] for key in ("version_major", "version_minor")} == {"version_major": 2, "version_minor": 0}
    assert state["state"] == {name: kept for name, kept in models().items() if name in NEEDED}
    assert (site / "00_first.html").read_text(encoding="utf-8").count("// filler") == 200  # once for two widgets
    assert not [kind for kind, _ in Elements(site / "01_second.html").scripts if kind == html_site.STATE]


@pytest.mark.parametrize(
    ("shown", "needed"),
    [
        (["box"], NEEDED),
        (["shown"], NEEDED - {"box", "output", "image"}),  # backwards along both links
        (["image"], {"image"}),
        (["dead_too"], {"dead", "dead_style", "dead_link", "dead_too"}),
        (["nobody"], set()),
    ],
)
def test_needed_widgets(shown: list[str], needed: set[str]) -> None:
    state = models()
    assert needed_widgets(state, shown) == {name: state[name] for name in state if name in needed}


def test_modules_are_shared_only_where_that_saves_something() -> None:
    state = models()
    state["friend"]["state"]["_css"] = "p {}"
    state["dead"]["state"]["_css"] = "p {}"
    before = copy.deepcopy(state)
    shared = share_modules(state)
    (name,) = shared
    assert shared[name] == MODULE
    assert state["hidden"]["state"]["_esm"] == state["shown"]["state"]["_esm"] == name
    for key in ("hidden", "shown"):
        state[key]["state"]["_esm"] = MODULE
    assert state == before
    del before["shown"]
    assert share_modules(before) == {}


def test_manager_is_told_where_its_parts_are(site: Path) -> None:
    sources = [attrs.get("src") for tag, attrs in Elements(site / "00_first.html").tags if tag == "script"]
    order = ["assets/widgets.js", "assets/require.js", "assets/html-manager/embed-amd.js"]
    assert [source for source in sources if source in order] == order
    (manager,) = [attrs for _, attrs in Elements(site / "00_first.html").tags if attrs.get("src") == order[2]]
    assert manager["data-jupyter-widgets-cdn"] == "assets/"


# --- what must not pass -----------------------------------------------------------------------------------------------

STATE_OF_A = '<script type="application/vnd.jupyter.widget-state+json">{"state": {"a": {"state": %s}}}</script>'
VIEW_OF = '<script type="application/vnd.jupyter.widget-view+json">{"model_id": "%s"}</script>'


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<script src="https://cdn.example.org/x.js"></script>', "<script> loads https://cdn.example.org/x.js"),
        ('<script src="//cdn.example.org/x.js"></script>', "<script> loads //cdn.example.org/x.js"),
        ('<link rel="stylesheet" href="http://example.org/x.css">', "<link> loads http://example.org/x.css"),
        ('<img srcset="https://example.org/x.png 2x">', "<img> loads https://example.org/x.png"),
        ('<iframe src="https://example.org"></iframe>', "<iframe> loads https://example.org"),
        ('<object data="https://example.org/x.svg"></object>', "<object> loads https://example.org/x.svg"),
        ('<svg><image xlink:href="https://example.org/x.png"/></svg>', "<image> loads https://example.org/x.png"),
        (
            "<style>p { background: url('https://example.org/x.png') }</style>",
            "a style loads https://example.org/x.png",
        ),
        ('<p style="background: url(//example.org/x.png)">', "a style loads //example.org/x.png"),
        ("<style>@import 'https://example.org/x.css';</style>", "a style loads 'https://example.org/x.css'"),
        ('<img src="assets/none.png">', "assets/none.png leads to a file that is not there"),
        ('<a href="none.html">x</a>', "none.html leads to a file that is not there"),
        ('<a href="#nowhere">x</a>', "#nowhere leads to a place that is not there"),
        ("<p>so $x_t$ is left</p>", "an equation was not set"),
        ('<div data-mime-type="text/html">$$x$$</div>', "an equation was not set"),
        (VIEW_OF % "a", "a cell shows a widget whose state is not in the page"),
        (VIEW_OF % "b" + STATE_OF_A % "{}", "a cell shows a widget whose state is not in the page"),
        (STATE_OF_A % '{"_esm": "https://example.org/x.js"}', "a widget loads https://example.org/x.js"),
        (
            STATE_OF_A % '{"value": "<b><img src=\\"https://example.org/x.png\\"></b>"}',
            "a widget loads https://example.org/x.png",
        ),
    ],
)
def test_check_sees(tmp_path: Path, html: str, problem: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!DOCTYPE html><p>text</p>{html}", encoding="utf-8")
    (found,) = check_page(page)
    assert found.startswith(f"page.html: {problem}")


@pytest.mark.parametrize(
    "html",
    [
        '<a href="https://example.org/paper">a paper</a>',
        '<img src="data:image/png;base64,AAAA//AAAA">',
        '<h2 id="here">x</h2><a href="#here">x</a><a href="page.html#here">x</a>',
        "<pre>$x$ and $y$</pre><p>5 $ and <code>$z$</code></p>",
        "<style>p { background: url(data:image/png;base64,AAAA//AA) }</style>",
        VIEW_OF % "a" + STATE_OF_A % '{"_esm": "import x from \\"./x.js\\"; // https://example.org"}',
    ],
)
def test_check_lets_pass(tmp_path: Path, html: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!DOCTYPE html>{html}", encoding="utf-8")
    assert check_page(page) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            r"an $\unknown$ one",
            r"01_second.ipynb: the equation '\\unknown' cannot be set: KaTeX parse error: Undefined",
        ),
        ("half $\\frac{1}$", "01_second.ipynb: the equation '\\\\frac{1}' cannot be set"),
        ("unusual $é$", "01_second.ipynb: the equation 'é' cannot be set"),
        ("![x](../figures/none.png)", "01_second.ipynb: the picture ../figures/none.png is not there."),
        ("[x](../none.md)", "01_second.ipynb: ../none.md leads to a file that is not there."),
        ("[x](../../outside)", "01_second.ipynb: ../../outside leads to a file that is not there."),
        ("[x](00_first.ipynb#None)", "01_second.html: 00_first.html#None leads to a place that is not there."),
        ("<b>in HTML $x$</b>", None),
        ('<div title="$x$">\nblock $x_t$ of HTML\n</div>', "01_second.html: an equation was not set"),
        ('<img src="https://example.org/x.png">', "01_second.html: <img> loads https://example.org/x.png"),
    ],
)
def test_build_refuses_what_does_not_work(course: Course, text: str, problem: str | None) -> None:
    course.write("01_second", executed(f"# Second\n\n## All of $x_T$\n\n{text}\n", [], {}))
    (course.run / "00_first.ipynb").write_text(nbformat.writes(executed("# First", [], {})), encoding="utf-8")
    if problem is None:
        assert len(course.build()) == 3
    else:
        with pytest.raises(SiteError) as caught:
            course.build()
        assert problem in str(caught.value)


def test_build_refuses_a_widget_without_its_state(course: Course) -> None:
    state = models()
    del state["box"]
    course.write("00_first", executed("# First", [{VIEW: view("box")}], state))
    with pytest.raises(SiteError, match=r"00_first.ipynb: a cell shows a widget whose state was not saved"):
        course.build()


def test_build_refuses_a_site_that_is_too_large(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html_site, "MOST_BYTES_OF_A_PAGE", 1000)
    monkeypatch.setattr(html_site, "MOST_BYTES", 100_000)
    with pytest.raises(SiteError, match=r"00_first.html has [\d,]+ bytes, at most 1,000.\n(.*\n)*.*at most 100,000"):
        course.build()


def test_build_replaces_a_site_and_nothing_else(course: Course) -> None:
    course.build()
    (course.out / "old.html").touch()
    (course.run / "01_second.ipynb").unlink()
    course.write("00_first", executed("# First\n\n[on](01_second.ipynb)", [], {}))
    (course.home / "notebooks" / "01_second.ipynb").touch()
    assert [page.name for page in course.build()] == ["index.html", "00_first.html"]
    assert not (course.out / "old.html").exists()
    assert "<p>on (notebooks/01_second.ipynb)</p>" in (course.out / "00_first.html").read_text(encoding="utf-8")
    mine = course.home / "mine"
    mine.mkdir()
    (mine / "thesis.txt").touch()
    with pytest.raises(SiteError, match="holds something else than an older site"):
        build(course.run, mine, course.home)
    assert (mine / "thesis.txt").exists()


# --- when the notebooks are run again ---------------------------------------------------------------------------------


def test_copies_are_fresh_until_something_changes(course: Course) -> None:
    def at(path: Path, seconds: int) -> None:
        path.touch()
        os.utime(path, (seconds, seconds))

    def is_fresh() -> bool:
        return html_site.is_fresh(course.run, course.home)

    library = course.home / "course_lib" / "widgets.py"
    for path in [*(course.home / "notebooks").glob("*.ipynb"), library]:
        at(path, 1000)
    for path in course.run.glob("*.ipynb"):
        at(path, 2000)
    assert is_fresh()
    at(library, 3000)
    assert not is_fresh()
    at(library, 1000)
    at(course.home / "notebooks" / "01_second.ipynb", 3000)
    assert not is_fresh()
    at(course.home / "notebooks" / "01_second.ipynb", 1000)
    assert is_fresh()
    (course.run / "01_second.ipynb").unlink()
    assert not is_fresh()
