"""Cells that break behind a test runner's back, each with its name in the error; and one that is sound."""

START = """# %%
import traceback

import ipywidgets as w
from IPython.display import display


def fail(x, name=""):
    if x == 0:
        raise ZeroDivisionError(name)
    return 1 / x


zero, out = w.IntSlider(0), {}
"""
BROKEN = {
    "interact": "w.interact(fail, x=zero, name=w.fixed('interact'))",
    "interactive": "display(w.interactive_output(fail, {'x': zero, 'name': w.fixed('interactive')}))",
    "context": "out[1] = w.Output()\nwith out[1]:\n    fail(0, 'context')\nout[1]",
    "capture": "out[2] = w.Output()\nout[2].capture()(fail)(0, 'capture')\nout[2]",
    "in a box": "out[3] = w.Output()\nwith out[3]:\n    fail(0, 'in a box')\nw.VBox([w.HBox([out[3]])])",
    "observe": "out[4], s = w.Output(), w.IntSlider(1)\n"
    "s.observe(out[4].capture()(lambda change: fail(s.value, 'observe')), 'value')\ns.value = 0\nw.VBox([s, out[4]])",
    "printed": "try:\n    fail(0, 'printed')\nexcept ZeroDivisionError:\n    traceback.print_exc()",
}
HEALTHY = "w.interact(fail, x=w.IntSlider(1, min=1))\nout[0] = w.Output()\nwith out[0]:\n    print(fail(2))\nout[0]"


def notebook_of(*cells: str) -> str:
    """The text form of a notebook: the imports above, then these cells."""
    return START + "".join(f"\n# %%\n{cell}\n" for cell in cells)
