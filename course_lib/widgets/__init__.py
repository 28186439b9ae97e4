"""Sliders and the pictures that follow them: ipywidgets' controls above, a canvas below.

    explorer     what all explorers have in common
    noise        mix noise in, drag the timestep, see how much of the picture is left in x_T
    sampling     a sampling run, samples for each η, the network's guess at every timestep
    sizes        which pixels a kernel covers, how a size changes on its way through a U-Net
    monitor      watch a training run
    canvas       stacks of pictures that the browser mixes
    controls     sliders, buttons, pictures as arrays
    assets       the files of static/

You can read and set an explorer's values from Python (`explorer.amount = 0.5`). `explorer.view(amount=0.5)` computes
with the library what the page should show for this value, and tests compare the two.
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
