"""What all explorers have in common, and what happens where one fails."""

# mypy: allow-untyped-defs
from __future__ import annotations

import base64
import gc
import json
import sys
import weakref
from pathlib import Path

import ipywidgets
import ipywidgets.embed
import nbformat
import numpy as np
import pytest

from course_lib import viz, widgets
from course_lib.widgets.canvas import PictureCanvas
from executed import WIDGET_STATE, scan
from helpers_viz import EXPLORERS, assert_same, painted


@pytest.fixture(scope="module", params=EXPLORERS)
def explorer(request: pytest.FixtureRequest) -> widgets.Explorer:
    return EXPLORERS[request.param]()


def test_the_bytes_sent_show_what_the_library_computes_at_every_position(explorer: widgets.Explorer) -> None:
    seen, sizes = set(), {panel: np.shape(content) for panel, content in explorer.view(**explorer.values()).items()}
    for name in explorer.controls:
        for value in explorer.positions(name, 5):
            setattr(explorer, name, value)
            assert getattr(explorer, name) == explorer.controls[name].value == explorer.values()[name] == value
            wanted = explorer.view(**explorer.values())
            if isinstance(explorer.canvas, PictureCanvas):
                assert_same(painted(explorer), wanted)
            assert {panel: np.shape(content) for panel, content in wanted.items()} == sizes  # or the page would jump
            seen.add(str(wanted))
    assert len(seen) > len(explorer.controls)
    assert not explorer.errors.outputs
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_every_control_is_shown_follows_the_hand_and_drives_the_canvas(explorer: widgets.Explorer) -> None:
    sources = {link.source[0] for link in explorer.links if link.target[0] is explorer.canvas}
    assert sources == set(explorer.controls.values())
    assert all(link._model_name == "LinkModel" for link in explorer.links)
    assert all(getattr(control, "continuous_update", True) for control in explorer.controls.values())
    bar, *below = explorer.children
    assert {*bar.children} >= sources and below == [explorer.canvas, explorer.errors]
    assert "course-explorer" in explorer._dom_classes
    with pytest.raises(AttributeError, match="no attribute"):
        _ = explorer.nonsense
    for call in (lambda: explorer.set(nonsense=1), lambda: explorer.positions("nonsense")):
        with pytest.raises(ValueError, match="unknown; choose one of"):
            call()


def test_panels_fit_the_page_and_the_saved_state_is_small(explorer: widgets.Explorer) -> None:
    state = ipywidgets.embed.dependency_state([explorer])
    assert explorer.canvas.model_id in state
    assert len(json.dumps(state)) < 400_000
    if isinstance(explorer.canvas, PictureCanvas):
        view = explorer.view(**explorer.values())
        for panel in (panel for line in explorer.canvas.spec["panels"] for panel in line):
            assert panel["kind"] != "pictures" or np.shape(view[panel["name"]])[1] * panel["scale"] <= 720


def test_pages_that_cannot_run_it_get_a_still_picture_and_one_line(explorer: widgets.Explorer) -> None:
    bundle = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "run this cell again" in bundle["text/plain"] and "make lab" in bundle["text/plain"]
    pictures = [panel for panel in explorer.view(**explorer.values()).values() if not isinstance(panel, str)]
    assert bool(pictures) == ("image/png" in bundle)
    if pictures:
        still = viz.Png(base64.b64decode(bundle["image/png"])).pixels()[::2, ::2].numpy()
        high, wide = pictures[0].shape
        assert np.array_equal(still[:high, :wide, 0], pictures[0])


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_closed_explorer_is_let_go(name: str) -> None:
    explorer = EXPLORERS[name]()
    held = [weakref.ref(each) for each in (explorer, explorer.canvas)]
    close(explorer)
    del explorer
    gc.collect()
    assert [ref() for ref in held] == [None, None]


def close(widget: ipywidgets.Widget) -> None:
    """Close a widget with all in it and all that joins them."""
    for each in (*getattr(widget, "links", ()), *getattr(widget, "children", ())):
        close(each)
    widget.close()


def broken_at_three(value: int) -> None:
    if value == 3:
        raise RuntimeError("three is broken")


def test_an_error_is_raised_and_shown_until_a_value_works(tmp_path: Path) -> None:
    slider, canvas = ipywidgets.IntSlider(3), PictureCanvas((1, 1, 1, 1), [])
    explorer = widgets.Explorer(lambda value: {}, {"value": slider}, canvas, {"value": ("value", "value")})

    def problems_of_the_notebook() -> list[str]:
        """What the scan of executed notebooks finds."""
        model = {"model_name": "OutputModel", "state": {"outputs": list(explorer.errors.get_state()["outputs"])}}
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["widgets"] = {WIDGET_STATE: {"state": {"id": model}}}
        nbformat.write(notebook, tmp_path / "executed.ipynb")
        return scan([tmp_path / "executed.ipynb"])

    with pytest.raises(RuntimeError, match="three is broken"):
        explorer.follow("value", broken_at_three)  # an error in the first answer fails at once
    explorer.value = 0
    explorer.follow("value", broken_at_three)
    with pytest.raises(RuntimeError, match="three is broken"):
        explorer.value = 3
    (output,) = explorer.errors.outputs
    assert (output["output_type"], output["ename"]) == ("error", "RuntimeError")
    assert "three is broken" in output["evalue"] and "broken_at_three" in "".join(output["traceback"])
    (problem,) = problems_of_the_notebook()
    assert "three is broken" in problem
    explorer.value = 4
    assert not explorer.errors.outputs and problems_of_the_notebook() == []
