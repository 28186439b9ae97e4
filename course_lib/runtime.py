"""The machine: device, precision, seeds, and one line that describes it."""

from __future__ import annotations

import copy
import math
import os
import platform
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .validate import validate_choice, validate_model, validate_number

#: The devices that the course runs on, best first.
DEVICES = ("cuda", "mps", "cpu")


def pick_device(name: str | None = None) -> torch.device:
    """The best device of this machine, or the one asked for.

    Args:
        name: None, "cuda", "mps" or "cpu"; "cuda:1" picks a card.
    """
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return torch.device(next(device for device in DEVICES if have[device]))
    validate_choice("name", str(name).split(":")[0], DEVICES)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"name must be a device such as 'cpu' or 'cuda:1', got {name!r}") from error
    if not have[device.type]:
        raise ValueError(f"this machine has no {name}; it has {' and '.join(d for d in DEVICES if have[d])}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"this machine has {torch.cuda.device_count()} CUDA device(s), so there is no {name}")
    return device


def pick_autocast(model: nn.Module, *inputs: Tensor) -> torch.dtype | None:
    """bfloat16 if this model clearly trains faster with it on this device, else None.

    On a CPU this measures both, since many CPUs have bfloat16 and are slower with it. Even AMX helps only large
    networks: a `UNet` with twice the default channels trains half as fast again, but the default one spends the gain
    on casting back and forth. An NVIDIA GPU that has bfloat16 uses it; other devices do not.

    Args:
        model: the network; the measurement trains a copy.
        inputs: what the model is called with, a batch as in training, (B, ...) each, on the device to train on.

    Returns:
        torch.bfloat16 or None, for `train.train`.
    """
    validate_model(model)
    device = inputs[0].device
    if device.type == "cuda":
        with torch.cuda.device(device):  # PyTorch asks the current device
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if device.type != "cpu":
        return None
    threads = torch.get_num_threads()
    share = [each[: math.ceil(len(each) / threads)] for each in inputs]  # as in training, where threads share a batch
    trial = copy.deepcopy(model).to(device).to(memory_format=torch.channels_last)

    def seconds(in_bfloat16: bool) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=in_bfloat16):
            answer = trial(*share)
        answers = [answer] if isinstance(answer, Tensor) else answer
        torch.stack([each.float().square().mean() for each in answers]).sum().backward()
        return time.perf_counter() - start

    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):  # leave the caller's seed alone
            plain, fast = map(min, zip(*((seconds(False), seconds(True)) for _ in range(5)), strict=True))
    finally:
        torch.set_num_threads(threads)
    return torch.bfloat16 if fast < 0.85 * plain else None


def can_compile(device: torch.device) -> bool:
    """Whether `torch.compile` works for this device; it compiles a small function to find out, in some seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compiled = torch.compile(lambda x: (x * 2 + 1).sin().sum())
            return bool(compiled(torch.ones(8, device=device)).isfinite())
        except Exception:  # a missing or broken compiler can raise anything
            return False


def make_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A source of randomness: same seed, same numbers, on one kind of device.

    Args:
        seed: an int, 0 <= seed < 2^64.
        device: where the random tensors will be.
    """
    validate_number("seed", seed, 0, 2**64 - 1, integer=True)
    return torch.Generator(device).manual_seed(seed)


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put a model into train or eval mode; afterwards every layer has its own mode again.

    Args:
        model: if it is in that mode already, its layers stay as they are, frozen ones too.
        training: True for train mode.
    """
    modes = {layer: layer.training for layer in model.modules()} if model.training != training else {}
    if modes:
        model.train(training)
    try:
        yield
    finally:
        for layer, mode in modes.items():
            layer.training = mode


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or the computer ran out of memory; PyTorch often says so only in the message."""
    said = "(can't allocate|not enough) memory|out of memory|STATUS_ALLOC_FAILED"
    words = isinstance(error, RuntimeError) and re.search(said, str(error))
    return bool(words) or isinstance(error, MemoryError | torch.OutOfMemoryError)


def describe_machine(device: torch.device | str | None = None) -> str:
    """One line: Python, PyTorch, cores, and the device.

    Args:
        device: the one in use; None for what `pick_device` picks.
    """
    device = pick_device() if device is None else torch.device(device)
    what = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else {"mps": "Apple GPU", "cpu": "CPU"}[device.type]
    )
    return (
        f"Python {platform.python_version()}, PyTorch {torch.__version__}, {os.cpu_count()} CPU cores, "
        f"training on: {device.type} ({what})"
    )
