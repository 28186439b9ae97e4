"""The command line: `python -m course_lib train`, `sample` and `trace`; each has --help."""

from __future__ import annotations

import argparse
import io
import math
import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from . import __version__
from .checkpoint import SHIPPED, SHIPPED_CLASSES, load_checkpoint
from .data import LARGEST
from .forward import TARGETS
from .pipeline import Pipeline
from .runs import RunConfig, SaveEvery, newest_weights, read_config, run
from .runtime import can_compile, is_out_of_memory, make_generator, pick_device
from .sample import SampleStep
from .schedule import SCHEDULES
from .shapes import format_trace, trace
from .train import TrainConfig
from .validate import validate_finite, validate_number

PROGRAM = "python -m course_lib"
#: What `sample` writes: a name for --only, and the names of its files.
PIECES = {"grid": r"grid\.png", "pictures": r"sample-\d{4,}\.png", "gif": r"trajectory\.gif"}
#: The most pictures in the grid of `sample`, in its GIF, and at all.
IN_GRID, IN_GIF, MOST = 1024, 16, 10**6
#: Gives --color a --no-color, which takes back what a --config says.
YES_OR_NO = argparse.BooleanOptionalAction


def main(arguments: list[str] | None = None) -> int:
    """Run one command; bad input ends with one sentence and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # Windows' redirected output lacks letters such as ×
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        said = str(error) if type(error) is MemoryError and error.args else "not enough memory: do less at a time"
        print(f"{PROGRAM}: {said}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    train = commands.add_parser(
        "train",
        help="train a UNet as a run in a folder",
        description="Train a UNet as a run in a folder; on several GPUs: accelerate launch -m course_lib train ...",
        argument_default=argparse.SUPPRESS,  # an option that was not given is missing, so a resumed run can tell
    )
    _add_data(train.add_argument_group("what to learn from"))
    _add_network(train.add_argument_group("the network"))
    _add_training(train.add_argument_group("how to train"))
    _add_run(train.add_argument_group("the run"))
    train.set_defaults(run=_train)
    sample = commands.add_parser(
        "sample",
        help="sample pictures from a checkpoint",
        description="Sample pictures from a checkpoint: a grid, single PNGs, and a GIF of the way there.",
        argument_default=argparse.SUPPRESS,
    )
    _add_sampling(sample)
    _add_output(sample.add_argument_group("what to write"))
    sample.set_defaults(run=_sample)
    one = commands.add_parser("trace", help="list every layer of a checkpoint's model")
    _add_checkpoint(one)
    one.add_argument("--size", type=int, help="height and width of the picture; by default what the model is meant for")
    one.set_defaults(run=_trace)
    return parser


def _add_data(group: Any) -> None:
    group.add_argument("--data", help="fashion-mnist (the default), or a folder of pictures")
    group.add_argument("--size", type=int, help=f"height and width of the pictures; {RunConfig.size} by default")
    group.add_argument("--color", action=YES_OR_NO, help="RGB instead of grey, for a folder")
    group.add_argument("--full", action=YES_OR_NO, help="insist on all 60,000 pictures of Fashion-MNIST")
    group.add_argument("--classes", action=YES_OR_NO, help="tell the network the class of each picture")


def _add_network(group: Any) -> None:
    attention = "levels with attention beside the deepest point, counted from 0"
    group.add_argument("--channels", type=int, nargs="+", help="channels of each level of the UNet")
    group.add_argument("--blocks", type=int, help="residual blocks of each level")
    group.add_argument("--patch", type=int, help="side of the pixel blocks")
    group.add_argument("--attention", type=int, nargs="*", help=attention)
    group.add_argument("--ema", type=float, help=f"decay of the averaged weights; {RunConfig.ema} by default")
    group.add_argument("--init", help="begin with the weights of this checkpoint or run instead of random ones")


def _add_training(group: Any) -> None:
    default = TrainConfig
    rate = f"learning rate before its rise and fall; {default.lr} by default"
    batch = f"pictures per update, over all processes; {default.batch_size} by default"
    gamma = (
        "weigh each picture's loss by min(signal-to-noise ratio, G) times the error of the picture; none weighs all "
        f"timesteps alike; {default.snr_gamma:g} by default"
    )
    group.add_argument("--minutes", type=float, help="stop after this much time")
    group.add_argument("--steps", type=int, help="stop after this many updates")
    group.add_argument("--schedule", choices=SCHEDULES, help=f"{RunConfig.schedule} by default")
    group.add_argument("--target", choices=TARGETS, help=f"what the network predicts; {default.target} by default")
    group.add_argument("--batch-size", type=int, help=batch)
    group.add_argument("--accumulate", type=int, help="parts in which a batch is worked through, to save memory")
    group.add_argument("--lr", type=float, help=rate)
    group.add_argument("--warmup", type=int, help=f"updates over which it rises; {default.warmup} by default")
    group.add_argument("--snr-gamma", type=_snr_gamma, metavar="G|none", help=gamma)
    group.add_argument("--seed", type=int, help=f"of weights, data order and noise; {default.seed} by default")
    group.add_argument("--precision", choices=("auto", "no", "bf16"), help="auto, the default, tries which is faster")
    compiling = "auto, the default: for long trainings on an NVIDIA GPU"
    group.add_argument("--compile", choices=("auto", "no", "yes"), help=compiling)


def _add_run(group: Any) -> None:
    group.add_argument("--config", type=_path, help="repeat the run of this config.json; other options change it")
    group.add_argument("--out", type=_path, required=True, help="folder of the run")
    group.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    group.add_argument("--device", help="cuda, mps or cpu; the best there is by default")
    group.add_argument("--save-every", type=_save_every, metavar="5m|1000", help="minutes or updates; 5m by default")
    group.add_argument("--log", action=YES_OR_NO, help="write curves for TensorBoard into the folder")


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    text = "a .safetensors file or the folder of a run; by default the weights that come with the course"
    parser.add_argument("--checkpoint", type=_path, default=SHIPPED, help=text)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    _add_checkpoint(parser)
    weak = "a worse version of the checkpoint, to guide it; by default what its run kept after an eighth of its time"
    label = "classes to sample in turn, by name or number; by default a row of each, if the model knows classes"
    parser.add_argument("--weak", type=_path, help=weak)
    parser.add_argument("--strength", type=float, help="of that guidance; 1 for none, 2 by default if it can guide")
    parser.add_argument("--steps", type=int, help="reverse steps; 50 by default, or all if there are fewer")
    parser.add_argument("--eta", type=float, help="1, the default, for DDPM; 0 for DDIM")
    parser.add_argument("--order", type=int, choices=(1, 2), help="2, the default, needs fewer steps; 1 clips")
    parser.add_argument("--label", nargs="+", default=None, help=label)
    parser.add_argument("--count", type=int, default=64, help="number of pictures; 64 by default")
    parser.add_argument("--batch-size", type=int, default=256, help="pictures at a time; 256 by default")
    parser.add_argument("--seed", type=int, default=0, help="of all noise; 0 by default")
    parser.add_argument(
        "--compile", action="store_true", default=False, help="torch.compile, which takes about a minute first"
    )
    parser.add_argument("--device", default=None, help="cuda, mps or cpu; the best there is by default")


def _add_output(group: Any) -> None:
    group.add_argument("--only", nargs="+", choices=PIECES, default=[*PIECES], help="write these alone")
    group.add_argument("--out", type=_path, default=Path("samples"), help="folder to write into; samples by default")


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the name is empty, which would stand for the current folder")
    return Path(text)


def _snr_gamma(text: str) -> float | None:
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"snr-gamma must be a number or none, got {text!r}") from None


def _save_every(text: str) -> SaveEvery:
    try:
        return SaveEvery.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error  # argparse hides the words of other errors


def _train(options: argparse.Namespace) -> int:
    given = {key: value for key, value in vars(options).items() if key != "run"}
    folder, config = given.pop("out"), given.pop("config", None)
    how = {key: given.pop(key) for key in ("resume", "device", "save_every", "log") if key in given}
    if config and len({"minutes", "steps"} & given.keys()) == 1:
        given = {"minutes": None, "steps": None, **given}  # the one that was given is the only limit
    for name in {"data", "init"} & given.keys():
        if given[name] not in ("", "fashion-mnist"):
            given[name] = str(Path(given[name]).resolve())
    if "resume" in how and config is None and (folder / "config.json").exists():
        config = folder / "config.json"
    elif "resume" in how and config is None and not {"minutes", "steps"} & given.keys():
        raise ValueError(f"{folder} holds no run to go on with: say what to train")
    settings = RunConfig.of(given, read_config(config)[0] if config else None)
    finished = run(folder, settings, command=f"{PROGRAM} {shlex.join(sys.argv[1:])}", **how)
    return 0 if finished else 130


def _sample(options: argparse.Namespace) -> int:
    if options.out.suffix.lower() in (".png", ".gif"):
        raise ValueError(f"out must be a folder, got {options.out}; the grid will be {options.out.stem}/grid.png")
    validate_number("count", options.count, 1, MOST, integer=True)
    validate_number("batch-size", options.batch_size, 1, MOST, integer=True)
    device = pick_device(options.device)
    generator = make_generator(options.seed, device)
    given = {key: value for key, value in vars(options).items() if key in ("weak", "strength", "steps", "eta", "order")}
    with_classes = options.label is not None and options.checkpoint == SHIPPED
    pipeline = Pipeline.load(SHIPPED_CLASSES if with_classes else options.checkpoint, **given, device=device)
    labels, columns = pipeline.labels(options.label, options.count)
    if options.compile:
        if not can_compile(device):
            raise ValueError("compile needs a compiler that PyTorch can use here; leave it out")
        pipeline = replace(pipeline, model=torch.compile(pipeline.model))  # type: ignore[arg-type]
    noise = pipeline.noise(options.count, generator)
    album = Album(options.out, options.only, pipeline.times, min(IN_GIF, options.batch_size))
    total = math.ceil(options.count / options.batch_size) * (len(pipeline.times) - 1)
    try:
        with torch.inference_mode(), tqdm(total=total, unit="step", disable=None) as bar:
            for first, step in pipeline.walk(noise, labels, batch_size=options.batch_size, generator=generator):
                bar.update()
                album.add(first, step)
    except KeyboardInterrupt:
        print(f"stopped after {album.done} of {options.count} pictures", file=sys.stderr)
        return 130
    album.finish(columns if options.count <= IN_GRID else None)
    guided = f", guided with strength {pipeline.strength:g}" if pipeline.strength != 1 else ""
    in_grid = f", the first {IN_GRID} in the grid" if "grid" in options.only and options.count > IN_GRID else ""
    print(f"{options.count} pictures in {options.out}: {', '.join(sorted(options.only))}{in_grid}{guided}")
    return 0


class Album:
    """The files that `sample` writes, the pictures as soon as they are there.

    Args:
        folder: where to.
        pieces: what to write, of `PIECES`.
        times: the timesteps that are visited.
        few: how many pictures the GIF shows.
    """

    def __init__(self, folder: Path, pieces: Sequence[str], times: Sequence[int], few: int) -> None:
        self.folder, self.pieces, self.few, self.start = folder, pieces, few, times[0]
        self.in_gif = {times[round(i * (len(times) - 2) / 31)] for i in range(32)} if "gif" in pieces else set()
        self.frames: list[Tensor] = []
        self.in_grid: list[Tensor] = []
        self.done = 0

    def add(self, first: int, step: SampleStep) -> None:
        """Take in a step of the batch that begins with this picture."""
        from .viz import encode, grid  # training needs no matplotlib

        if first == 0 and step.t == self.start:
            self._begin()
        if first == 0 and step.t in self.in_gif:
            self.frames.append(self._frame(step.x_t, step.x0_hat))
        if step.s > 0:
            return
        pictures = step.x_s.cpu()
        validate_finite(pictures, "the samples")
        if first == 0 and self.in_gif:
            self.frames.append(self._frame(pictures, pictures))
        if first < IN_GRID:
            self.in_grid.append(pictures)
        if "pictures" in self.pieces:
            for i, picture in enumerate(pictures.split(1), first):
                (self.folder / f"sample-{i:04d}.png").write_bytes(encode(grid(picture, pad=0)))
        self.done = first + len(pictures)

    def _begin(self) -> None:
        """See that the folder can be written, and clear it of the last samples, perhaps of another network."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=self.folder).close()
        for path in self.folder.iterdir():
            if any(re.fullmatch(PIECES[piece], path.name) for piece in self.pieces):
                path.unlink()

    def _frame(self, x_t: Tensor, x0_hat: Tensor) -> Tensor:
        """Noisy pictures, a gap, and what the network sees in them."""
        from .viz import grid

        left, right = (grid(x[: self.few], columns=4) for x in (x_t, x0_hat))
        return torch.cat([left, torch.full_like(left[:, :6], 205), right], 1)

    def finish(self, columns: int | None) -> None:
        """Write the grid, with so many columns, and the GIF."""
        from .viz import to_gif, to_png

        if "grid" in self.pieces:
            (self.folder / "grid.png").write_bytes(to_png(torch.cat(self.in_grid)[:IN_GRID], columns))
        if "gif" in self.pieces:
            (self.folder / "trajectory.gif").write_bytes(to_gif(self.frames))


def _trace(options: argparse.Namespace) -> int:
    checkpoint = load_checkpoint(newest_weights(options.checkpoint))
    built = checkpoint.model.config
    size = built.get("size", RunConfig.size) if options.size is None else options.size
    validate_number("size", size, 1, LARGEST, integer=True)
    x = torch.zeros(1, built["in_channels" if "in_channels" in built else "channels"], size, size)
    t, y = torch.ones(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    told = [t] if "num_classes" in built or built.get("time_plane") else []
    told += [y] if built.get("num_classes") else []
    print(format_trace(trace(checkpoint.model, x, *told)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
