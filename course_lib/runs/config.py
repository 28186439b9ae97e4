"""The settings of a run, and what follows from them: the pictures, and the network before its first update."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import Checkpoint, load_checkpoint
from ..data import LARGEST, Pictures, load_fashion_mnist, load_folder
from ..schedule import SCHEDULES, make_schedule
from ..shapes import count_parameters
from ..train import TrainConfig
from ..unet import UNet
from ..validate import validate_choice, validate_number
from .folder import newest_weights

#: Settings that decide which pictures there are.
OF_THE_DATA = ("data", "size", "color", "full", "classes")
#: The largest number in a network's shape, and the most parameters: a typing error ends here, not in the memory.
MOST, MOST_PARAMETERS = 10_000, 10**10


@dataclass(frozen=True)
class RunConfig:
    """Every setting that decides what a run learns.

    Args:
        train: how to train.
        data: "fashion-mnist", or a folder of pictures.
        size: height and width of the pictures, 1..4096.
        color: RGB instead of grey, for a folder.
        full: insist on all 60,000 pictures of Fashion-MNIST.
        classes: tell the network the label of each picture.
        unet: arguments of `UNet`, besides those that follow from the data.
        schedule: one of `schedule.SCHEDULES`.
        timesteps: T of the schedule, >= 1.
        ema: decay of the averaged weights.
        precision: "no", "bf16", or "auto" to try which is faster here.
        compile: "yes", "no", or "auto": on an NVIDIA GPU that has a compiler, if `compiling_pays`.
        data_sha256: hash that the pictures must have, or None.
        init: a checkpoint, or the folder of a run, whose averaged weights to begin with; None for random weights. Such
            a run keeps no weak weights: after an eighth of it they would be no worse than the final ones.
        init_sha256: hash that the file of these weights must have, or None.

    Raises:
        TypeError, ValueError: an argument is out of range, the network cannot be built, or the loss weights do not go
            with the schedule.
    """

    train: TrainConfig
    data: str = "fashion-mnist"
    size: int = 28
    color: bool = False
    full: bool = False
    classes: bool = False
    unet: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = "cosine"
    timesteps: int = 1000
    ema: float = 0.9999
    precision: str = "auto"
    compile: str = "auto"
    data_sha256: str | None = None
    init: str | None = None
    init_sha256: str | None = None

    def __post_init__(self) -> None:
        if not self.data or self.init == "":
            name = "init" if self.data else "data"
            raise ValueError(f"{name} is empty: name a folder, or leave the option out")
        validate_number("size", self.size, 1, LARGEST, integer=True)
        validate_number("timesteps", self.timesteps, 1, 10**6, integer=True)
        validate_number("ema", self.ema, 0, 1 - 1e-12)
        validate_choice("schedule", self.schedule, SCHEDULES)
        validate_choice("precision", self.precision, ("auto", "no", "bf16"))
        validate_choice("compile", self.compile, ("auto", "no", "yes"))
        if self.color and self.data == "fashion-mnist":
            raise ValueError("color is for a folder of pictures; those of fashion-mnist are grey")
        if self.full and self.data != "fashion-mnist":
            raise ValueError("full is for fashion-mnist; of a folder all pictures are taken anyway")
        self.train.validate_schedule(make_schedule(self.schedule, self.timesteps))
        self.outline()

    @classmethod
    def of(cls, settings: Mapping[str, Any], base: RunConfig | None = None) -> RunConfig:
        """The settings of `base`, or the defaults, with some of them changed.

        Args:
            settings: new values by name, those of `TrainConfig` among them; a name that is no setting is an argument
                of `UNet`.
            base: what they change.
        """
        own = {f.name for f in fields(cls)} - {"train", "unet"}
        of_train = {f.name for f in fields(TrainConfig)}
        training = {key: value for key, value in settings.items() if key in of_train}
        unet = {key: value for key, value in settings.items() if key not in own | of_train}
        changes = {key: value for key, value in settings.items() if key in own}
        if base is None:
            return cls(train=TrainConfig(**training), unet=unet, **changes)
        if (changes.get("data", base.data) == "fashion-mnist") != (base.data == "fashion-mnist"):
            changes = {"color": False, "full": False, **changes}  # each is for one kind of data alone
        if any(changes.get(key, getattr(base, key)) != getattr(base, key) for key in OF_THE_DATA):
            changes["data_sha256"] = None
        if changes.get("init", base.init) != base.init:
            changes["init_sha256"] = None
        return replace(base, train=replace(base.train, **training), unet={**base.unet, **unet}, **changes)

    def outline(self) -> UNet:
        """The network without memory for its weights, so that an impossible one is refused before hours of loading."""
        for name, value in self.unet.items():
            for number in value if isinstance(value, list | tuple) else [value]:
                if isinstance(number, int) and number > MOST:
                    raise ValueError(f"{name} must be at most {MOST:,}, got {number}")
        with torch.device("meta"):
            model = UNet(self.size, 3 if self.color else 1, **self.unet)
        if count_parameters(model) > MOST_PARAMETERS:
            raise ValueError(f"the network must have at most {MOST_PARAMETERS:,} parameters; take fewer channels")
        return model

    def pictures(self) -> Pictures:
        """The pictures to learn from.

        Raises:
            TypeError, ValueError, FileNotFoundError: they are missing, cannot be read, or are not the pictures that
                the run began with.
        """
        if self.data == "fashion-mnist":
            pictures = load_fashion_mnist("train", self.size, "full" if self.full else None)
        else:
            pictures = load_folder(self.data, self.size, 3 if self.color else 1)
        if self.data_sha256 is not None and self.hash_of(pictures) != self.data_sha256:
            raise ValueError(
                f"data has changed since the run was begun: {pictures} have another hash, or another version of the "
                "course read them then"
            )
        return pictures

    def hash_of(self, pictures: Pictures) -> str:
        """Hash of the pictures, and of their labels if the network is told them."""
        if not self.classes or pictures.labels is None:
            return pictures.sha256
        return sha256(pictures.sha256.encode() + pictures.labels.cpu().numpy().tobytes()).hexdigest()

    def model(self, pictures: Pictures) -> UNet:
        """The network before the first update: its weights follow from the seed, or are those of `init`.

        Raises:
            TypeError, ValueError: the network cannot be built, or should learn classes from pictures without labels.
            FileNotFoundError, ValueError: as `initial`.
        """
        classes = None
        if self.classes:
            if pictures.labels is None:
                raise ValueError(f"classes need labels: {pictures.unlabeled}")
            classes = int(pictures.labels.max()) + 1
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                self.train.seed
            )  # the CPU's alone; torch.manual_seed would set GPUs too
            model = UNet(self.size, pictures.images.shape[1], num_classes=classes, **self.unet)
        if self.init is not None:
            made = self.initial(self.init)
            _validate_fit("num_classes", made.model.config.get("num_classes"), classes)
            model.load_state_dict(made.model.state_dict())
        return model

    def initial(self, init: str) -> Checkpoint:
        """The weights to begin with, found to fit as far as that can be told without the pictures.

        Args:
            init: where they are.

        Raises:
            FileNotFoundError: they are not there.
            ValueError: they have changed since the run was begun, or are for another network, schedule or target.
        """
        file = newest_weights(Path(init))
        if self.init_sha256 not in (None, hash_of_file(file)):
            raise ValueError(f"init has changed since the run was begun: {file} has another hash")
        made = load_checkpoint(file)
        theirs = {**made.model.config, "schedule": (made.schedule.name, made.schedule.T), "target": made.target}
        mine = {
            **self.outline().config,
            "schedule": (self.schedule, self.timesteps),
            "target": self.train.target,
        }
        for name, value in mine.items():
            if name != "num_classes":
                _validate_fit(name, theirs.get(name), value)
        return made

    def as_json(self) -> dict[str, Any]:
        """The settings as config.json holds them: lists in place of tuples."""
        return dict(json.loads(json.dumps(asdict(self))))


def _validate_fit(name: str, theirs: Any, mine: Any) -> None:
    if theirs != mine:
        raise ValueError(f"init has weights for {name}={theirs}, this run has {name}={mine}")


def hash_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return sha256(path.read_bytes()).hexdigest()
