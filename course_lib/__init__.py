"""The code behind the course: diffusion models with a U-Net, small enough to read in one sitting.

A picture flows through the files in this order, and an import only ever points up the list:

    validate    what the public functions ask of their arguments
    runtime     device, precision, seeds, what the machine has
    schedule    the two tables a and b of x_t = a_t x_0 + b_t eps
    forward     corrupt, one step, any step, the posterior, targets
    shapes      output-size arithmetic and a tracer
    blocks      the parts of U-Nets
    unet        the ladder of U-Nets
    data        Fashion-MNIST, or your own folder of pictures
    objective   the loss, and its weights
    optim       Muon: more learned in fewer updates
    train       one loop, a generator
    checkpoint  weights and what they are, in one file
    runs        a training kept in a folder, which can go on
    sample      one loop, a generator
    draw        pictures from a checkpoint
    interop     to diffusers and back
    metrics     how good the pictures are
    drawing     the look of every figure
    diagrams    drawings of kernels, sizes and whole networks
    viz         tensors to figures
    canvas      pictures that the browser mixes
    diagram_widget  sizes that the browser computes
    widgets     a slider and a picture
    checks      the check of every exercise, notebook by notebook
"""

import os

# Where other programs want the cores, threads that spin while they wait make PyTorch several times slower. OpenMP
# reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What torch.compile has kept is unpickled: it lies in a folder of one's own, not in /tmp, where anybody may put things.
if os.access(os.path.expanduser("~"), os.W_OK):
    _kept = os.path.join(os.path.expanduser("~"), ".cache", "course_lib", "torchinductor")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", _kept)

__version__ = "0.1.0"
