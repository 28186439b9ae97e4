"""Runs: a training in a folder, from which it can be repeated, and where it goes on after a stop or a crash.

    runs/a/config.json          what to do, with every choice made, and what it was done with
    runs/a/step-00001000/       a checkpoint; the last two stay
        model.safetensors       averaged weights, for `load_checkpoint`
        state.safetensors       weights, the optimizers' moments and the counters, to go on from
    runs/a/model.safetensors    averaged weights, once the run is over
    runs/a/weak.safetensors     those of an eighth of the way, to guide them: see `course_lib.guide.AutoGuidance`
    runs/a/log/                 curves for TensorBoard, if asked for
    runs/a/.lock                keeps a second process out while one trains

The files of this room:

    folder   which checkpoints a folder holds, and who trains in it
    config   the settings
    card     config.json
    saves    checkpoints, written and read
    signals  Ctrl-C and its kin
    engine   device, precision, compiler, processes; Hugging Face Accelerate does the work
    report   what is shown meanwhile
    loop     the training
    start    how a run begins, goes on, and fails
"""

from .card import How, SaveEvery, read_config, read_how, write_config
from .config import RunConfig
from .engine import compiling_pays
from .folder import checkpoints, newest_weights
from .loop import WEAK_AT
from .saves import Saved, last_good, load_state, save_state
from .start import run

__all__ = [
    "WEAK_AT",
    "How",
    "RunConfig",
    "SaveEvery",
    "Saved",
    "checkpoints",
    "compiling_pays",
    "last_good",
    "load_state",
    "newest_weights",
    "read_config",
    "read_how",
    "run",
    "save_state",
    "write_config",
]
