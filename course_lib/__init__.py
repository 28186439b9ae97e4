"""The code behind the course: diffusion models with a U-Net.

The core is flat. A picture flows through its files in this order, and an import only ever points up the list:

    validate    what functions ask of their arguments
    runtime     device, precision, seeds
    folder      the pictures below a folder, and their classes
    data        Fashion-MNIST, or your own folder of pictures
    schedule    the two tables a and b of x_t = a_t x_0 + b_t eps
    forward     corrupt, one step, any step, the posterior, targets
    shapes      output-size arithmetic and a tracer
    blocks      the parts of U-Nets
    unet        the ladder of U-Nets
    objective   the loss, and its weights
    optim       Muon: more learned in fewer updates
    training    a folder: what makes the loop fast and safe
    train       one training loop, a generator
    sample      one sampling loop, a generator
    guide       a network guided by a worse version of itself
    diffusers_model  a network as a model of diffusers
    interop     to diffusers and back

Around it are the rooms, most of them folders:

    checkpoint  weights and what they are, in one file
    runs        a training kept in a folder, which can be resumed
    pipeline    pictures from a checkpoint
    metrics     how good the pictures are
    viz         from tensors to figures
    widgets     sliders, and the pictures they move
    checks      the check of every exercise, notebook by notebook
"""

import os

# Waiting threads spin by default, which makes PyTorch several times slower if other programs want the cores too.
# OpenMP reads this once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# torch.compile unpickles its cache, so keep it where only this user can write.
if os.access(os.path.expanduser("~"), os.W_OK):
    _kept = os.path.join(os.path.expanduser("~"), ".cache", "course_lib", "torchinductor")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", _kept)

__version__ = "0.1.0"
