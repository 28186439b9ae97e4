"""Sliders, and the pictures that they move: ipywidgets' controls above, a canvas below.

    explorer     what all have in common
    noise        mix noise in, drag the timestep, see what the last timestep leaves
    sampling     a sampling run, samples for each η, the network's guess at every timestep
    sizes        where a kernel lands, a size on its way through a U-Net
    monitor      a training run
    canvas       stacks of pictures that the browser mixes
    controls     sliders, buttons, pictures as arrays
    assets       the files of static/

An explorer's values can be read and set from Python (`explorer.amount = 0.5`). `explorer.view(amount=0.5)` computes
with the library what the page must show for it; the browser tests compare the page with that.
"""

from .explorer import Explorer
from .monitor import LivePicture, LossPlot, TrainingMonitor
from .noise import corruption_explorer, noise_gauge, timestep_explorer
from .sampling import STORE_FRAMES, eta_explorer, trajectory_player, x0_hat_explorer
from .sizes import shape_explorer, unet_explorer

__all__ = [
    "STORE_FRAMES",
    "Explorer",
    "LivePicture",
    "LossPlot",
    "TrainingMonitor",
    "corruption_explorer",
    "eta_explorer",
    "noise_gauge",
    "shape_explorer",
    "timestep_explorer",
    "trajectory_player",
    "unet_explorer",
    "x0_hat_explorer",
]
