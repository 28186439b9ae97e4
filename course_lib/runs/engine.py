"""What a run decides about its machine: device, precision, compiler, processes. Accelerate does the work."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..data import Pictures
from ..runtime import can_compile, pick_autocast
from ..train import TrainConfig
from ..unet import UNet
from .config import RunConfig

if TYPE_CHECKING:  # importing it takes a second
    from accelerate import Accelerator, PartialState

#: Ways to split a network over GPUs that Accelerate can be told to use, which this course does without.
UNUSED = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG")


def compiling_pays(config: TrainConfig, device: torch.device) -> bool:
    """Whether compiling the network saves more time than it takes: in long trainings on NVIDIA GPUs.

    Args:
        config: of the training; below 10 minutes or 10,000 updates it is short.
        device: where it will run.
    """
    long = (config.minutes is None or config.minutes >= 10) and (config.steps is None or config.steps >= 10_000)
    return long and device.type == "cuda" and can_compile(device)


def has_bf16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself rather than emulating it."""
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def connect(device: torch.device, config: RunConfig, precision_before: str | None) -> PartialState:
    """Connect the processes of a run, and refuse what they cannot do.

    Args:
        device: of this process.
        config: what to do.
        precision_before: with which an earlier session trained, or None.

    Raises:
        ValueError: Accelerate already uses another device or another way to train, the batch cannot be shared out, or
            the GPU has no bfloat16.
    """
    from accelerate import PartialState

    for name in UNUSED:
        variable = f"ACCELERATE_USE_{name}"
        if os.environ.get(variable, "false").lower() not in ("", "0", "false", "no"):
            raise ValueError(
                f"{variable} is set, but this course trains with whole copies of the network: unset it, or choose "
                "another way in `accelerate config`"
            )
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    # processes may finish loading, or compiling, at very different times
    processes = PartialState(cpu=device.type == "cpu", timeout=timedelta(hours=2))
    if processes.device.type != device.type:
        raise ValueError(
            f"device must be {processes.device.type!r}, which Accelerate was first used with in this process, "
            f"got {device}"
        )
    config.train.share(processes.num_processes)
    if config.precision == "bf16" and not has_bf16(processes.device):
        if precision_before != "bf16":
            raise ValueError("precision='bf16' needs a GPU that has it, Ampere or newer; take precision='no'")
        processes.print("this GPU emulates bfloat16: the run goes on slowly; --precision no is faster")
    return processes


def decide(config: RunConfig, pictures: Pictures, model: UNet, processes: PartialState, begun: bool) -> RunConfig:
    """The settings with every default written out and every choice made, the same in all processes.

    A run that was begun with a compiler goes on without it, slower, where there is none.

    Raises:
        ValueError: there is no compiler, the processes differ in what they loaded, or Accelerate was first used with
            another precision.
    """
    from accelerate.state import AcceleratorState, is_initialized
    from accelerate.utils import broadcast_object_list

    sha = config.hash_of(pictures)
    choice: list[Any] = [config.precision, config.compile, sha, config.init_sha256]
    if processes.is_main_process:
        if config.precision == "auto":
            choice[0] = _pick_precision(config, pictures, model, processes.device)
        if config.compile == "auto":
            choice[1] = "yes" if compiling_pays(config.train, processes.device) else "no"
        elif config.compile == "yes" and not can_compile(processes.device):
            if not begun:
                raise ValueError("compile='yes' needs a compiler that PyTorch can use here; take compile='no'")
            choice[1] = "no"
    precision, compile, first, init = broadcast_object_list(choice)
    if sha != first:
        raise ValueError(f"data must be the same on all machines: the first process has others than {pictures}")
    if config.init_sha256 != init:
        raise ValueError(f"init must be the same in all processes: the first has other weights than {config.init}")
    if is_initialized() and AcceleratorState().mixed_precision != precision:
        raise ValueError(
            f"precision must be {AcceleratorState().mixed_precision!r}, which Accelerate was first used with in this "
            f"process, got {precision!r}"
        )
    follows = ("size", "in_channels", "out_channels", "num_classes")
    unet = {key: value for key, value in model.config.items() if key not in follows}
    return replace(config, unet=unet, precision=precision, compile=compile, data_sha256=sha)


def _pick_precision(config: RunConfig, pictures: Pictures, model: UNet, device: torch.device) -> str:
    some = torch.arange(config.train.batch_size) % len(pictures)
    told = [] if pictures.labels is None or not config.classes else [pictures.labels[some]]
    batch = [pictures[some], torch.ones(len(some), dtype=torch.int64), *told]
    return "no" if pick_autocast(model, *(each.to(device) for each in batch)) is None else "bf16"


def make_accelerator(config: RunConfig, folder: Path, device: torch.device, log: bool, step: int) -> Accelerator:
    """The Accelerator of a run, which does what the settings say, whatever the environment says.

    Args:
        config: with every choice made.
        folder: of the run.
        device: of this process.
        log: write curves for TensorBoard.
        step: updates made so far; later ones are removed from the curves.
    """
    from accelerate import Accelerator
    from accelerate.utils import GradientAccumulationPlugin

    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision=config.precision,
        dynamo_backend="no",  # as the next: without it ACCELERATE_DYNAMO_BACKEND decides
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=config.train.accumulate),
        log_with="tensorboard" if log else None,
        project_dir=folder if log else None,
    )
    if log:
        accelerator.init_trackers("log", init_kwargs={"tensorboard": {"purge_step": step + 1}})
    return accelerator


def validate_shared(folder: Path, step: int) -> None:
    """Refuse processes that found another checkpoint than the first one, as machines without a common disk do."""
    from accelerate.utils import broadcast_object_list

    first = broadcast_object_list([step])[0]
    if step != first:
        raise ValueError(
            f"out must be a folder that all machines share: in {folder} the first process found the checkpoint of "
            f"update {first}, and this one that of update {step}"
        )
