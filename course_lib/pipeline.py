"""Pictures from a checkpoint: what guides it, where to begin, which classes; for `python -m course_lib sample`."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import SHIPPED, SHIPPED_CLASSES, SHIPPED_WEAK, Checkpoint, load_checkpoint
from .folder import readable
from .guide import AutoGuidance
from .runs import newest_weights
from .sample import SampleStep, trajectory
from .schedule import sampling_times, start_time
from .unet import UNet
from .validate import validate_choice, validate_number

#: Strength of the guidance if there is a weak network and nothing else is asked for.
STRENGTH = 2.0


@dataclass(frozen=True)
class Pipeline:
    """A checkpoint and how to sample from it; `Pipeline.load` makes one.

    Args:
        checkpoint: of a `UNet`.
        model: what is asked at each step: its network, guided or not.
        times: the timesteps to visit, strictly falling to 0.
        eta, order: as `sample.trajectory`. Order 1 clips what the network sees; order 2 would suffer from it.
        strength: of the guidance; 1 without any.
    """

    checkpoint: Checkpoint
    model: nn.Module
    times: list[int]
    eta: float = 1.0
    order: int = 2
    strength: float = 1.0

    def __post_init__(self) -> None:
        validate_number("eta", self.eta, 0, 1)
        validate_choice("order", self.order, (1, 2))
        validate_number("strength", self.strength, 0)

    @classmethod
    def load(
        cls,
        path: Path = SHIPPED,
        *,
        weak: Path | None = None,
        strength: float | None = None,
        steps: int | None = None,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> Pipeline:
        """From a file, or from the folder of a run.

        Args:
            path: the checkpoint.
            weak: a worse version of it, to guide it; None takes the one that came with it or lies in its run, if any.
            strength: of that guidance, >= 0; 1 for none, None for `STRENGTH` if there is something to guide by.
            steps: reverse steps, >= 1; None for 50, or for all if there are fewer.
            device: where to sample.
            options: eta and order.

        Raises:
            FileNotFoundError: no such file, no weights in the folder.
            TypeError, ValueError: a number out of range, a network that is no `UNet`, weak weights of another kind,
                or a strength without weak weights.
        """
        made = load_checkpoint(newest_weights(path), device)
        if not isinstance(made.model, UNet):
            raise ValueError(f"checkpoint must be of a UNet, which knows the time, got a {type(made.model).__name__}")
        wanted = STRENGTH if strength is None else strength
        validate_number("strength", wanted, 0)
        guide = None if wanted == 1 else _find_weak(weak, path, made, device)
        if guide is None and strength not in (None, 1):
            raise ValueError("strength needs weak weights, and the checkpoint has none: give them by --weak")
        unseen = made.target == "eps" and made.schedule.signal[-1] == 0  # x_T is noise alone, with nothing to be seen
        order_1 = options.get("order", cls.order) == 1
        first = made.schedule.T if order_1 and not unseen else start_time(made.schedule, made.target)
        times = sampling_times(made.schedule.T, min(50, first) if steps is None else steps, start=first)
        if guide is None:
            return cls(made, made.model, times, **options)
        guided = AutoGuidance(made.model, guide, made.schedule, wanted)
        return cls(made, guided, times, strength=wanted, **options)

    def noise(self, count: int, generator: torch.Generator) -> Tensor:
        """x_T of so many pictures, (count, C, H, W), on the device of the generator."""
        built = self.checkpoint.model.config
        shape = count, built["in_channels"], built["size"], built["size"]
        return torch.randn(shape, generator=generator, device=generator.device)

    def walk(
        self, x_T: Tensor, y: Tensor | None = None, *, batch_size: int = 256, generator: torch.Generator | None = None
    ) -> Iterator[tuple[int, SampleStep]]:
        """Every step of every batch, one batch after the other.

        Args:
            x_T: noise, (N, C, H, W), on the model's device.
            y: a class for each, int64 (N,), or None.
            batch_size: pictures at a time, >= 1.
            generator: source of the noise of the steps, on the device of x_T.

        Yields:
            The number of the batch's first picture, from 0, and a `sample.SampleStep`.
        """
        validate_number("batch_size", batch_size, 1, integer=True)
        target, clip = self.checkpoint.target, self.order == 1
        options = dict(times=self.times, eta=self.eta, order=self.order, target=target, clip=clip, generator=generator)
        for first in range(0, len(x_T), batch_size):
            labels = None if y is None else y[first : first + batch_size].to(x_T.device)
            batch = x_T[first : first + batch_size]
            for step in trajectory(self.model, self.checkpoint.schedule, batch, y=labels, **options):  # type: ignore[arg-type]
                yield first, step

    def labels(self, asked: Sequence[str] | None, count: int) -> tuple[Tensor | None, int | None]:
        """Classes for so many pictures, and the columns of a grid that suits them.

        Args:
            asked: classes to sample in turn, by name or number; None for all, one after the other.
            count: number of pictures, >= 1.

        Returns:
            Classes, int64 (count,), or None if the model knows none; the number of columns that gives each class a
            row, or None if none does.

        Raises:
            ValueError: a class that the model does not know.
        """
        classes = self.checkpoint.model.config.get("num_classes")
        if asked is not None:
            found = torch.tensor([self.label(each) for each in asked])
            return found.repeat(math.ceil(count / len(found)))[:count], None
        if classes is None:
            return None, None
        if count < classes:
            return torch.arange(count), None
        return torch.arange(count) * classes // count, None if count % classes else count // classes

    def label(self, asked: str) -> int:
        """The class of this name, that of its pictures' folder, or of this number; names come first.

        Upper and lower case are alike, and so are both ways in which Unicode writes é.

        Raises:
            ValueError: the model does not know it.
        """
        classes = self.checkpoint.model.config.get("num_classes")
        if classes is None:
            raise ValueError("label needs a model that was trained with --classes; this one knows none")
        names = list(self.checkpoint.details.get("classes", ()))
        if asked in names:
            return names.index(asked)
        folded = [_fold(name) for name in names]
        if _fold(asked) in folded:
            return folded.index(_fold(asked))
        if asked.isdecimal() and int(asked) < classes:
            return int(asked)
        known = f"one of {', '.join(map(readable, names))}, or " if names else ""
        raise ValueError(f"label must be {known}a number from 0 to {classes - 1}, got {asked!r}")


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _find_weak(path: Path | None, checkpoint: Path, made: Checkpoint, device: torch.device | str) -> nn.Module | None:
    """The network that guides the one of a checkpoint: the one asked for, else the one that came with it, if any."""
    if path is None and checkpoint in (SHIPPED, SHIPPED_CLASSES):
        path = SHIPPED_WEAK
    elif path is None:
        file = newest_weights(checkpoint)  # in the folder of a run, or in that of one of its checkpoints
        near = [folder / "weak.safetensors" for folder in file.parents[:2] if file.name == "model.safetensors"]
        path = next((each for each in near if each.is_file()), None)
        if path is None:
            return None
    weak = load_checkpoint(newest_weights(path), device)
    theirs, ours = weak.model.config, made.model.config
    differ = [name for name in ("size", "in_channels") if theirs.get(name) != ours.get(name)]
    differ += ["num_classes"] * (theirs.get("num_classes") not in (None, ours.get("num_classes")))
    differ += ["target"] * (weak.target != made.target)
    tables = ((each.schedule.signal, each.schedule.noise) for each in (weak, made))
    alike = (a.shape == b.shape and torch.allclose(a, b, rtol=1e-6) for a, b in zip(*tables, strict=True))
    differ += ["schedule"] * (not all(alike))  # another machine may compute another last digit
    if differ:
        raise ValueError(f"weak must have the {' and '.join(differ)} of the checkpoint that it guides; {path} does not")
    return weak.model
