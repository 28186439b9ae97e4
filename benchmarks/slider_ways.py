"""The ways to make pictures follow a slider that benchmarks/slider_latency.py compares: a short notebook for each."""

from __future__ import annotations

from dataclasses import dataclass

#: What all ways begin with: 64 pictures, noise, and a slider like those of the course.
START = """
from io import BytesIO

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import display
from PIL import Image

from course_lib import widgets
from course_lib.checkpoint import load_shipped
from course_lib.data import load_fashion_mnist
from course_lib.schedule import SCHEDULES, make_schedule, zero_terminal_snr

x = load_fashion_mnist("test", source="packaged")[:64, 0].numpy()
eps = np.random.default_rng(0).standard_normal(x.shape).astype("float32")
slider = ipywidgets.FloatSlider(0.3, min=0, max=1, step=0.01, description="amount", layout={"width": "360px"})

def mix(amount):
    return (1 - amount) * x + amount * eps

def grid(amount):
    pixels = np.full((8, 29, 8, 29), 205, dtype=np.uint8)
    levels = (mix(amount).clip(-1, 1) * 127.5 + 127.5).round()
    pixels[:, :28, :, :28] = levels.reshape(8, 8, 28, 28).transpose(0, 2, 1, 3)
    return pixels.reshape(232, 232)
"""

SUBPLOTS = """
def show(amount):
    figure, axes = plt.subplots(8, 8, figsize=(6, 6))
    for ax, picture in zip(axes.flat, mix(amount)):
        ax.imshow(picture, cmap="gray", vmin=-1, vmax=1)
        ax.axis("off")
    plt.show()

ipywidgets.interact(show, amount=slider);
"""

IMSHOW = """
def show(amount):
    plt.figure(figsize=(6, 6))
    plt.imshow(grid(amount), cmap="gray", vmin=0, vmax=255)
    plt.axis("off")
    plt.show()

ipywidgets.interact(show, amount=slider);
"""

CLEAR = """
output = ipywidgets.Output()

def show(change):
    with output:
        output.clear_output()
        figure, ax = plt.subplots(figsize=(6, 6))
        ax.imshow(grid(slider.value), cmap="gray", vmin=0, vmax=255)
        ax.axis("off")
        display(figure)
        plt.close(figure)

show(None)
slider.observe(show, "value")
ipywidgets.VBox([slider, output])
"""

IPYMPL = """
# %matplotlib widget
with plt.ioff():
    figure, ax = plt.subplots(figsize=(6, 6))
ax.axis("off")
picture = ax.imshow(grid(slider.value), cmap="gray", vmin=0, vmax=255)

def show(change):
    picture.set_data(grid(slider.value))
    figure.canvas.draw_idle()

slider.observe(show, "value")
ipywidgets.VBox([slider, figure.canvas])
"""

PNG = """
def png(amount):
    buffer = BytesIO()
    Image.fromarray(grid(amount)).save(buffer, "png", compress_level=1)
    return buffer.getvalue()

image = ipywidgets.Image(value=png(slider.value), format="png", width=464, height=464)

def show(change):
    image.value = png(slider.value)

slider.observe(show, "value")
ipywidgets.VBox([slider, image])
"""

BYTES = '''
import anywidget
import traitlets

class Canvas(anywidget.AnyWidget):
    _esm = """
    export default { render({ model, el }) {
      const canvas = document.createElement("canvas");
      canvas.className = "raw";
      canvas.width = canvas.height = 232;
      canvas.style.cssText = "width: 464px; height: 464px; image-rendering: pixelated";
      const context = canvas.getContext("2d", { alpha: false });
      const image = context.createImageData(232, 232);
      const pixels = new Uint32Array(image.data.buffer);
      function paint() {
        const view = model.get("pixels");
        const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
        for (let i = 0; i < pixels.length; i++) pixels[i] = 0xff000000 | (bytes[i] * 0x010101);
        context.putImageData(image, 0, 0);
      }
      paint();
      model.on("change:pixels", paint);
      el.append(canvas);
    } };"""
    pixels = traitlets.Bytes().tag(sync=True)

canvas = Canvas(pixels=grid(slider.value).tobytes())

def show(change):
    canvas.pixels = grid(slider.value).tobytes()

slider.observe(show, "value")
ipywidgets.VBox([slider, canvas])
'''

CORRUPTION = """
widgets.corruption_explorer(torch.from_numpy(x)[:, None], columns=8)
"""

TIMESTEP = """
kinds = [make_schedule(name) for name in SCHEDULES]
kinds += [zero_terminal_snr(schedule) for schedule in kinds[:3]]
widgets.timestep_explorer(torch.from_numpy(x)[:8, None], kinds)
"""

NETWORK = """
shipped = load_shipped("cpu")
widgets.x0_hat_explorer(shipped.model, shipped.schedule, torch.from_numpy(x)[:8, None], shipped.target)
"""


@dataclass(frozen=True)
class Way:
    """One way to make pictures follow a slider; its notebook is `START` and this code."""

    label: str
    code: str
    selector: str  # of the canvas or image in the page
    needs: str = ""  # a package that the course does not install
    ours: bool = False
    network: bool = False  # each picture is a forward pass


CANVAS, X0_HAT = ".course-explorer canvas[data-panel]", '.course-explorer canvas[data-panel="x0_hat"]'
WAYS = {
    "subplots": Way("interact + 64 subplots", SUBPLOTS, ".jp-RenderedImage img"),
    "imshow": Way("interact + one imshow", IMSHOW, ".jp-RenderedImage img"),
    "clear_output": Way("clear_output and redraw", CLEAR, ".jp-RenderedImage img"),
    "ipympl": Way("ipympl, set_data", IPYMPL, ".jupyter-matplotlib-canvas-div canvas:first-of-type", needs="ipympl"),
    "png": Way("ipywidgets.Image fed PNG bytes", PNG, "img.widget-image"),
    "bytes": Way("a canvas (anywidget) fed raw bytes by the kernel", BYTES, "canvas.raw"),
    "corruption": Way("**`corruption_explorer`**, 64 pictures", CORRUPTION, CANVAS, ours=True),
    "timestep": Way("**`timestep_explorer`**, 8 pictures in 8 schedules", TIMESTEP, CANVAS, ours=True),
    "network": Way("**`x0_hat_explorer`**, 8 pictures through the network", NETWORK, X0_HAT, ours=True, network=True),
}


def notebook_of(way: Way) -> str:
    """The text of its notebook."""
    return f"# %%\n{START.strip()}\n\n# %%\n{way.code.strip()}\n"
