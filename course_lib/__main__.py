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

import torch
from tqdm import tqdm

from . import __version__
from .checkpoint import SHIPPED, SHIPPED_CLASSES, load_checkpoint
from .forward import TARGETS
from .pipeline import Pipeline
from .runs import RunConfig, SaveEvery, newest_weights, read_config, run
from .runtime import can_compile, is_out_of_memory, make_generator, pick_device
from .schedule import SCHEDULES
from .shapes import format_trace, trace
from .train import TrainConfig
from .validate import validate_finite, validate_number

#: What `sample` writes.
PIECES = ("grid", "pictures", "gif")
#: The most pictures in its grid.
IN_GRID = 1024
#: Makes --no-color of --color, so that what a --config says can be taken back.
YES_OR_NO = argparse.BooleanOptionalAction


def main(arguments: list[str] | None = None) -> int:
    """Run one command; bad input ends with one sentence and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m course_lib", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")

    one = commands.add_parser(
        "train",
        help="train a UNet as a run in a folder",
        description="Train a UNet as a run in a folder; on several GPUs: accelerate launch -m course_lib train ...",
        argument_default=argparse.SUPPRESS,  # so that only what was given stands in the options
    )
    one.add_argument("--data", help="fashion-mnist (the default), or a folder of pictures")
    one.add_argument("--size", type=int, help=f"height and width of the pictures; {RunConfig.size} by default")
    one.add_argument("--color", action=YES_OR_NO, help="RGB instead of grey, for a folder")
    one.add_argument("--full", action=YES_OR_NO, help="insist on all 60,000 pictures of Fashion-MNIST")
    one.add_argument("--classes", action=YES_OR_NO, help="tell the network the class of each picture")
    one.add_argument("--minutes", type=float, help="stop after this much time")
    one.add_argument("--steps", type=int, help="stop after this many updates")
    one.add_argument("--schedule", choices=SCHEDULES, help=f"{RunConfig.schedule} by default")
    one.add_argument("--target", choices=TARGETS, help=f"what the network predicts; {TrainConfig.target} by default")
    one.add_argument("--channels", type=int, nargs="+", help="channels of each level of the UNet")
    one.add_argument("--blocks", type=int, help="residual blocks of each level")
    one.add_argument("--patch", type=int, help="side of the pixel blocks")
    one.add_argument(
        "--attention", type=int, nargs="*", help="levels with attention beside the deepest point, counted from 0"
    )
    one.add_argument(
        "--batch-size", type=int, help=f"pictures of an update, over all processes; {TrainConfig.batch_size} by default"
    )
    one.add_argument("--accumulate", type=int, help="parts in which a batch is worked through, to save memory")
    one.add_argument("--lr", type=float, help=f"learning rate, before its rise and fall; {TrainConfig.lr} by default")
    one.add_argument(
        "--warmup", type=int, help=f"updates over which the learning rate rises; {TrainConfig.warmup} by default"
    )
    one.add_argument(
        "--snr-gamma",
        type=_snr_gamma,
        metavar="G|none",
        help="the loss is min(signal-to-noise ratio, G) times the error of the picture; none: all timesteps alike; "
        f"{TrainConfig.snr_gamma:g} by default",
    )
    one.add_argument("--ema", type=float, help=f"decay of the averaged weights; {RunConfig.ema} by default")
    one.add_argument("--seed", type=int, help=f"of weights, data order and noise; {TrainConfig.seed} by default")
    one.add_argument("--precision", choices=("auto", "no", "bf16"), help="auto, the default, tries what is faster")
    one.add_argument(
        "--compile", choices=("auto", "no", "yes"), help="auto, the default: for long trainings on an NVIDIA GPU"
    )
    one.add_argument("--init", help="begin with the weights of this checkpoint or run, not with random ones")
    one.add_argument("--config", type=Path, help="repeat the run of this config.json; other options change it")
    one.add_argument("--out", type=Path, required=True, help="folder of the run")
    one.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    one.add_argument("--device", help="cuda, mps or cpu; the best there is by default")
    one.add_argument("--save-every", type=_save_every, metavar="5m|1000", help="minutes or updates; 5m by default")
    one.add_argument("--log", action=YES_OR_NO, help="write curves for TensorBoard into the folder")
    one.set_defaults(run=_train)

    one = commands.add_parser(
        "sample",
        help="draw pictures from a checkpoint",
        description="Draw pictures from a checkpoint: a grid, single PNGs, and a GIF of the way there.",
    )
    one.add_argument(
        "--checkpoint", type=Path, default=SHIPPED, help="a .safetensors file or a run's folder; the shipped weights"
    )
    one.add_argument(
        "--weak",
        type=Path,
        help="a worse version of the checkpoint, to guide it; by default what its run kept after an eighth of its time",
    )
    one.add_argument("--strength", type=float, help="of that guidance; 1 for none, 2 by default where it can guide")
    one.add_argument("--count", type=int, default=64, help="number of pictures")
    one.add_argument("--steps", type=int, help="reverse steps; 50 by default, or all where there are fewer")
    one.add_argument("--eta", type=float, default=1.0, help="1 for DDPM, 0 for DDIM")
    one.add_argument(
        "--order", type=int, default=2, choices=(1, 2), help="1 clips its guesses; 2, the default, needs fewer steps"
    )
    one.add_argument(
        "--label",
        nargs="+",
        help="classes to draw, in turn, by name or number; by default a row of each where the model knows classes",
    )
    one.add_argument("--batch-size", type=int, default=256, help="pictures at a time")
    one.add_argument("--only", nargs="+", choices=PIECES, default=PIECES, help="write these alone")
    one.add_argument("--seed", type=int, default=0, help="of all noise; 0 by default")
    one.add_argument("--compile", action="store_true", help="torch.compile, which takes about a minute first")
    one.add_argument("--device", help="cuda, mps or cpu; the best there is by default")
    one.add_argument("--out", type=Path, default=Path("samples"), help="folder to write into")
    one.set_defaults(run=_sample)

    one = commands.add_parser("trace", help="list every layer of a checkpoint's model")
    one.add_argument(
        "--checkpoint", type=Path, default=SHIPPED, help="a .safetensors file or a run's folder; the shipped weights"
    )
    one.add_argument("--size", type=int, help="height and width of the picture; by default what the model is meant for")
    one.set_defaults(run=_trace)

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # redirected on Windows, they may lack a letter such as ×
    options = parser.parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        said = str(error) if type(error) is MemoryError and error.args else "not enough memory: do less at a time"
        print(f"{parser.prog}: {said}", file=sys.stderr)
    return 2


def _train(options: argparse.Namespace) -> int:
    given = {key: value for key, value in vars(options).items() if key != "run"}
    folder, config = given.pop("out"), given.pop("config", None)
    how = {key: given.pop(key) for key in ("resume", "device", "save_every", "log") if key in given}
    if config and len({"minutes", "steps"} & given.keys()) == 1:
        given = {"minutes": None, "steps": None, **given}  # the only limit then
    if given.get("data", "fashion-mnist") != "fashion-mnist":
        given["data"] = str(Path(given["data"]).resolve())
    if "init" in given:
        given["init"] = str(Path(given["init"]).resolve())
    if "resume" in how and config is None and (folder / "config.json").exists():
        config = folder / "config.json"
    elif "resume" in how and config is None and not {"minutes", "steps"} & given.keys():
        raise ValueError(f"{folder} holds no run to go on with: say what to train")
    settings = RunConfig.of(given, read_config(config)[0] if config else None)
    finished = run(folder, settings, command="python -m course_lib " + shlex.join(sys.argv[1:]), **how)
    return 0 if finished else 130


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
        raise argparse.ArgumentTypeError(str(error)) from error  # of others argparse hides the words


def _sample(options: argparse.Namespace) -> int:
    from .viz import encode, grid, to_gif, to_png  # imported here: training needs no matplotlib

    if options.out.suffix.lower() in (".png", ".gif"):
        raise ValueError(f"out must be a folder, got {options.out}; the grid will be {options.out.stem}/grid.png")
    validate_number("count", options.count, 1, integer=True)
    validate_number("batch-size", options.batch_size, 1, integer=True)
    device = pick_device(options.device)
    generator = make_generator(options.seed, device)
    told = options.label is not None and options.checkpoint == SHIPPED
    given = {name: getattr(options, name) for name in ("weak", "strength", "steps", "eta", "order")}
    pipeline = Pipeline.load(SHIPPED_CLASSES if told else options.checkpoint, **given, device=device)
    labels, columns = pipeline.labels(options.label, options.count)
    if options.compile and not can_compile(device):
        raise ValueError("compile needs a compiler that PyTorch can use here; leave it out")
    if options.compile:
        pipeline = replace(pipeline, model=torch.compile(pipeline.model))  # type: ignore[arg-type]
    times, steps, few = pipeline.times, len(pipeline.times) - 1, min(16, options.batch_size)
    shown = {times[round(i * (steps - 1) / 31)] for i in range(32)}  # in the GIF, with the first few pictures
    frames: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []  # for the grid
    done = 0

    def side_by_side(x_t: torch.Tensor, x0_hat: torch.Tensor) -> torch.Tensor:
        """Noisy pictures, a gap, and what the network sees in them."""
        left, right = (grid(x[:few], columns=4) for x in (x_t, x0_hat))
        return torch.cat([left, torch.full_like(left[:, :6], 205), right], 1)

    x_T, total = pipeline.noise(options.count, generator), math.ceil(options.count / options.batch_size) * steps
    walk = pipeline.walk(x_T, labels, batch_size=options.batch_size, generator=generator)
    try:
        with torch.inference_mode(), tqdm(total=total, unit="step", disable=None) as bar:
            for first, step in walk:
                bar.update()
                if first == 0 and step.t == times[0]:  # where that fails, better now than at the end
                    options.out.mkdir(parents=True, exist_ok=True)
                    tempfile.TemporaryFile(dir=options.out).close()
                    _clear(options.out, options.only)
                if first == 0 and "gif" in options.only and step.t in shown:
                    frames.append(side_by_side(step.x_t, step.x0_hat))
                if step.s > 0:
                    continue
                pictures = step.x_s.cpu()
                validate_finite(pictures, "the samples")
                if first == 0 and "gif" in options.only:
                    frames.append(side_by_side(pictures, pictures))
                if first < IN_GRID:
                    kept.append(pictures)
                if "pictures" in options.only:
                    for i, picture in enumerate(pictures.split(1), first):
                        (options.out / f"sample-{i:04d}.png").write_bytes(encode(grid(picture, pad=0)))
                done = first + len(pictures)
    except KeyboardInterrupt:
        print(f"stopped after {done} of {options.count} pictures", file=sys.stderr)
        return 130
    if "grid" in options.only:
        shown_first = torch.cat(kept)[:IN_GRID]
        columns = columns if options.count <= IN_GRID else None
        (options.out / "grid.png").write_bytes(to_png(shown_first, columns))
    if "gif" in options.only:
        (options.out / "trajectory.gif").write_bytes(to_gif(frames))
    guided = f", guided with strength {pipeline.strength:g}" if pipeline.strength != 1 else ""
    first_ones = f", the first {IN_GRID} in the grid" if "grid" in options.only and options.count > IN_GRID else ""
    print(f"{options.count} pictures in {options.out}: {', '.join(sorted(options.only))}{first_ones}{guided}")
    return 0


def _clear(folder: Path, pieces: Sequence[str]) -> None:
    """Remove what was drawn last time, so that nothing of two networks stands side by side."""
    names = {"grid": r"grid\.png", "pictures": r"sample-\d{4,}\.png", "gif": r"trajectory\.gif"}
    for path in folder.iterdir():
        if any(re.fullmatch(names[piece], path.name) for piece in pieces):
            path.unlink()


def _trace(options: argparse.Namespace) -> None:
    checkpoint = load_checkpoint(newest_weights(options.checkpoint))
    built = checkpoint.model.config
    size = built.get("size", RunConfig.size) if options.size is None else options.size
    validate_number("size", size, 1, integer=True)
    x = torch.zeros(1, built["in_channels" if "in_channels" in built else "channels"], size, size)
    t, y = torch.ones(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    told = [t] if "num_classes" in built or built.get("time_plane") else []
    told += [y] if built.get("num_classes") else []
    print(format_trace(trace(checkpoint.model, x, *told)))


if __name__ == "__main__":
    raise SystemExit(main())
