"""Notebooks that break behind a test runner's back, and one that is sound."""

START = (
    "# %%\nimport ipywidgets as w\nfrom IPython.display import display\n\n\ndef fail(x):\n    return 1 / x\n\n\n# %%\n"
)
BROKEN = {
    "interact": "w.interact(fail, x=w.IntSlider(0))",
    "interactive_output": "display(w.interactive_output(fail, {'x': w.IntSlider(0)}))",
    "output_context": "out = w.Output()\nwith out:\n    fail(0)\nout",
    "output_capture": "out = w.Output()\nout.capture()(fail)(0)\nout",
    "output_in_a_box": "out = w.Output()\nbox = w.VBox([w.HBox([out])])\nwith out:\n    fail(0)\nbox",
    "observe": "out, s = w.Output(), w.IntSlider(1)\ns.observe(out.capture()(lambda change: fail(s.value)), 'value')\n"
    "s.value = 0\nw.VBox([s, out])",
    "printed_traceback": "import traceback\n\ntry:\n    fail(0)\nexcept ZeroDivisionError:\n    traceback.print_exc()",
}
HEALTHY = "w.interact(fail, x=w.IntSlider(1, min=1))\nout = w.Output()\nwith out:\n    print(fail(2))\nout"
