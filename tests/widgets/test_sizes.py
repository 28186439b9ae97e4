"""The page's arithmetic is the library's, value by value and word by word; its drawings show what a layer touches."""

# mypy: allow-untyped-defs
from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import traitlets
from py_mini_racer import MiniRacer

from course_lib.shapes import LAYER_KINDS, halve
from course_lib.viz import COLORS
from course_lib.widgets.assets import script
from course_lib.widgets.sizes import LAYER_LIMITS, UNET_LIMITS, LayerDiagram, UnetDiagram, layer_view, unet_view

SOURCE = script("sizes", "drawings")
#: Runs a JavaScript function on the module and an argument; what it returns.
Evaluate = Callable[[str, Any], Any]


@pytest.fixture(scope="module")
def evaluate() -> Evaluate:
    """The module in V8, the engine of Chromium."""
    engine = MiniRacer()
    names = re.findall(r"^export (?:const|function) (\w+)", SOURCE, re.MULTILINE)
    engine.eval(re.sub(r"^export ", "", SOURCE, flags=re.MULTILINE))

    def run(function: str, argument: Any) -> Any:
        call = f"({function})({{ {', '.join(names)} }}, {json.dumps(argument)})"
        return json.loads(str(engine.eval(f"JSON.stringify({call})")))

    return run


def different(found: Sequence[Any], expected: Sequence[Any]) -> list[Any]:
    """The first pairs that differ: of all 50,000 pytest would write down every line."""
    return [pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]][:3]


EVERY_LAYER = """({ layerWords }, { kind, limits }) => limits
  .reduce((all, [name, low, high]) => all.flatMap((values) =>
    Array.from({ length: high - low + 1 }, (_, i) => ({ ...values, [name]: low + i }))), [{ kind }])
  .map(layerWords)
  .map(({ result, note }) => [result, note])"""


@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_every_layer_says_what_the_library_says(evaluate: Evaluate, kind: str) -> None:
    """Every value that the sliders have: sizes, formulas, refusals and notes."""
    limits = [[name, *limit] for name, limit in LAYER_LIMITS.items()]
    every = itertools.product(*(range(low, high + 1) for low, high in LAYER_LIMITS.values()))
    expected = [[*layer_view(kind, *numbers).values()] for numbers in every]
    assert different(evaluate(EVERY_LAYER, {"kind": kind, "limits": limits}), expected) == []


EVERY_LADDER = """({ ladder, ladderWords }, inputs) => inputs.map(([size, halvings]) => {
  const { down, up, problem } = ladder(size, halvings);
  return [down, up, problem, ladderWords(size, halvings).result];
})"""


def test_every_ladder_says_what_the_library_says(evaluate: Evaluate) -> None:
    inputs = list(itertools.product(*(range(low, high + 1) for low, high in UNET_LIMITS.values())))
    expected = []
    for size, halvings in inputs:
        down, up, problem = halve(size, halvings)
        expected.append([down, [list(pair) for pair in up], problem, unet_view(size, halvings)["result"]])
    assert different(evaluate(EVERY_LADDER, inputs), expected) == []


PICTURES = """({ layer, layerPicture, layerWords, ladderPicture, ladderWords, pointed, WIDTH, HEIGHTS }, all) => {
  const bad = [];
  const look = (svg, label, height, name) => {
    const numbers = [...svg.matchAll(/ (?:x|y|width|height)="([^"]*)"| d="([^"]*)"/g)];
    const wrong = /NaN|undefined|Infinity|null/.test(svg + label);
    const outside = numbers.some(([, number]) => number !== undefined && !(number >= 0 && number <= WIDTH));
    const beyond = [...svg.matchAll(/M(-?[\\d.]+) (-?[\\d.]+)/g)].some(
      ([, x, y]) => !(x >= 0 && x <= WIDTH && y >= 0 && y <= height)
    );
    if (wrong || outside || beyond || !label || svg.length > 400000) bad.push(name);
  };
  for (const values of all.layers) {
    const { places } = layer(values);
    for (const place of places ? [null, [0, places - 1], [places - 1, 0]] : [null])
      look(layerPicture(values, place), layerWords(values).label, HEIGHTS.layer, JSON.stringify(values));
  }
  for (const [size, halvings] of all.ladders)
    look(ladderPicture(size, halvings), ladderWords(size, halvings).label, HEIGHTS.unet, `${size}, ${halvings}`);
  return bad;
}"""


def test_every_number_of_a_drawing_is_one_and_lies_inside(evaluate: Evaluate) -> None:
    """Drawings at the ends and in the middle of every slider."""
    ends = {"size": (1, 7, 32), "kernel": (1, 2, 7), "stride": (1, 4), "padding": (0, 1, 4)}
    ends |= {"output_padding": (0, 3), "dilation": (1, 3)}
    layers = [
        {"kind": kind, **dict(zip(ends, numbers, strict=True))}
        for kind in LAYER_KINDS
        for numbers in itertools.product(*ends.values())
    ]
    ladders = list(itertools.product((1, 2, 3, 7, 28, 32, 127, 128), range(1, 6)))
    bad = evaluate(PICTURES, {"layers": layers, "ladders": ladders})
    assert not bad, f"{len(bad)} pictures hold what no browser can draw, such as {bad[:3]}"


def test_pointing_at_a_pixel_finds_its_place(evaluate: Evaluate) -> None:
    values = {"kind": "conv", "size": 7, "kernel": 3, "stride": 2, "padding": 1, "output_padding": 0, "dilation": 1}
    points = [[363, 35], [631, 303], [363 + 270 / 4, 35], [361, 35], [363, 33], [20, 50]]
    function = "({ pointed }, { values, points }) => points.map(([x, y]) => pointed(values, x, y))"
    assert evaluate(function, {"values": values, "points": points}) == [[0, 0], [3, 3], [0, 1], None, None, None]
    values |= {"kind": "transposed conv", "size": 4}  # now the pixels on the left are the single ones
    assert evaluate(function, {"values": values, "points": [[9, 35], [363, 35]]}) == [[0, 0], None]


POOL = {"kind": "pool", "size": 7, "kernel": 2, "stride": 2, "padding": 0, "output_padding": 0, "dilation": 1}
PLACE = "({ placeWords }, values) => placeWords(values, [1, 2])"
LAYER = "({ layerWords }, values) => layerWords(values).label"
LADDER = "({ ladderWords }) => ladderWords(28, 4).label"


@pytest.mark.parametrize(
    ("function", "changes", "said"),
    [
        (PLACE, {}, "output pixel in row 2, column 3 looks at 2 × 2 cells of the input"),
        (PLACE, {"kernel": 1, "padding": 1}, "output pixel in row 2, column 3 looks at 1 cell of the padded input"),
        (PLACE, {"kind": LAYER_KINDS[2]}, "input pixel in row 2, column 3 spreads over 2 × 2 cells of the output"),
        (
            LAYER,
            {},
            "pool, kernel 2, stride 2, padding 0, dilation 1: 7 by 7 becomes 3 by 3. "
            "Red: the last row and column are never looked at.",
        ),
        (LAYER, {"padding": 2}, "There is no such layer: padding must lie in [0, 1], got 2."),
        (LADDER, {}, "U-Net. Down: 28, 14, 7, 3, 1. Up: 2, which does not fit 3, 6, which does not fit 7, 14, 28. 7 →"),
    ],
)
def test_a_drawing_is_told_in_words(evaluate: Evaluate, function: str, changes: dict[str, Any], said: str) -> None:
    assert evaluate(function, POOL | changes).startswith(said)


def test_the_module_is_alone_and_knows_the_same_kinds_numbers_and_colors() -> None:
    assert json.loads(re.findall(r"export const KINDS = (\[.*?\]);", SOURCE)[0]) == list(LAYER_KINDS)
    assert json.loads(re.findall(r"const NUMBERS = (\[.*?\]);", script("diagram"))[0]) == list(LAYER_LIMITS)
    colors = dict(re.findall(r'const ([A-Z]+) = "(#\w{6})";', SOURCE))
    assert colors and all(COLORS[name.lower()] == value for name, value in colors.items())
    for module in (script("controls", "canvas"), script("controls", "sizes", "drawings", "diagram")):
        assert not re.search(r"https?:(?!//www.w3.org)|\bimport\b", module)
        assert module.count("export default") == 1


@pytest.mark.parametrize(
    "numbers",
    [
        ("conv", 7, 2, 2, 0, 0, 1),
        ("conv", 8, 2, 3, 0, 0, 1),
        ("conv", 9, 3, 2, 1, 0, 2),
        ("conv", 11, 2, 4, 2, 0, 3),
        ("transposed conv", 4, 2, 2, 0, 0, 1),
        ("transposed conv", 4, 1, 3, 0, 2, 1),
    ],
)
def test_notes_count_what_no_kernel_touches(numbers: tuple[Any, ...]) -> None:
    kind, size, kernel, stride, padding, output_padding, dilation = numbers
    x, ones = torch.ones(1, 1, size, requires_grad=True), torch.ones(1, 1, kernel)
    if kind == "conv":
        F.conv1d(x, ones, None, stride, padding, dilation).sum().backward()
        touched = x.grad
    else:
        touched = F.conv_transpose1d(x, ones, None, stride, padding, output_padding, 1, dilation)
    note = layer_view(*numbers)["note"]
    found = re.search(r"(\d+) (?:of|rows)|(last row)", note)
    assert touched is not None
    assert int((touched == 0).sum()) == (0 if not found else 1 if found[2] else int(found[1])), note


@pytest.mark.parametrize(("made", "limits"), [(LayerDiagram, LAYER_LIMITS), (UnetDiagram, UNET_LIMITS)])
def test_numbers_are_shared_with_the_browser_and_stay_within_limits(made: Any, limits: Any) -> None:
    diagram = made()
    assert diagram.get_state().keys() >= limits.keys()
    for name, (low, high) in limits.items():
        for value in (low - 1, high + 1):
            with pytest.raises(traitlets.TraitError, match=name):
                setattr(diagram, name, value)
            with pytest.raises(ValueError, match=name):
                made(**{name: value})
        with pytest.raises(TypeError, match=name):
            made(**{name: float(high)})
