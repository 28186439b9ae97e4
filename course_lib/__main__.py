"""The command line: `python -m course_lib train`, `sample` and `trace`; each has --help."""

from __future__ import annotations

import argparse
import io
import math
import shlex
import sys
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from . import __version__
from .checkpoint import SHIPPED, SHIPPED_CLASSES, SHIPPED_WEAK, Checkpoint, load_checkpoint
from .forward import TARGETS
from .runs import RunConfig, SaveEvery, checkpoints, read_config, run
from .runtime import can_compile, is_out_of_memory, make_generator, pick_device
from .sample import AutoGuidance, trajectory
from .schedule import SCHEDULES, sampling_times, start_time
from .shapes import format_trace, trace
from .train import TrainConfig
from .unet import UNet
from .validate import check_finite, check_number

#: What `sample` writes.
PIECES = ("grid", "pictures", "gif")


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
    one.add_argument("--color", action="store_true", help="RGB instead of grey, for a folder")
    one.add_argument("--full", action="store_true", help="insist on all 60,000 pictures of Fashion-MNIST")
    one.add_argument("--classes", action="store_true", help="tell the network the class of each picture")
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
    one.add_argument("--lr", type=float, help=f"highest learning rate; {TrainConfig.lr} by default")
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
    one.add_argument("--config", type=Path, help="repeat the run of this config.json; other options change it")
    one.add_argument("--out", type=Path, required=True, help="folder of the run")
    one.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    one.add_argument("--device", help="cuda, mps or cpu; the best there is by default")
    one.add_argument("--save-every", type=_save_every, metavar="5m|1000", help="minutes or updates; 5m by default")
    one.add_argument("--log", action="store_true", help="write curves for TensorBoard into the folder")
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
    if given.get("data", "fashion-mnist") != "fashion-mnist":
        given["data"] = str(Path(given["data"]).resolve())
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


def _sample(options: argparse.Namespace) -> None:
    from .viz import encode, grid, to_gif, to_png  # imported here: training needs no matplotlib

    if options.out.suffix.lower() in (".png", ".gif"):
        raise ValueError(f"out must be a folder, got {options.out}; the grid will be {options.out.stem}/grid.png")
    check_number("count", options.count, 1, integer=True)
    check_number("batch-size", options.batch_size, 1, integer=True)
    device = pick_device(options.device)
    generator = make_generator(options.seed, device)
    told = options.label is not None and options.checkpoint == SHIPPED
    checkpoint = SHIPPED_CLASSES if told else options.checkpoint
    made = load_checkpoint(_newest(checkpoint), device)
    if not isinstance(made.model, UNet):
        raise ValueError(f"checkpoint must be of a UNet, which knows the time, got a {type(made.model).__name__}")
    strength = 2.0 if options.strength is None else options.strength
    check_number("strength", strength, 0)
    weak = None if strength == 1 else _weak(options.weak, checkpoint, made, device)
    if weak is None and options.strength not in (None, 1):
        raise ValueError("strength needs weak weights, and the checkpoint has none: give them by --weak")
    if options.compile and not can_compile(device):
        raise ValueError("compile needs a compiler that PyTorch can use here; leave it out")
    none_left = made.target == "eps" and made.schedule.signal[-1] == 0  # in x_T, and so nothing to be seen in it
    first = made.schedule.T if options.order == 1 and not none_left else start_time(made.schedule, made.target)
    steps = min(50, first) if options.steps is None else options.steps
    times = sampling_times(made.schedule.T, steps, start=first)
    asked = None if options.label is None else [_label(each, made) for each in options.label]
    labels, columns = _labels(asked, options.count, made.model.config.get("num_classes"))
    built = made.model.config
    x_T = torch.randn(
        options.count, built["in_channels"], built["size"], built["size"], generator=generator, device=device
    )
    model: nn.Module = made.model if weak is None else AutoGuidance(made.model, weak, made.schedule, strength)
    if options.compile:
        model = torch.compile(model)  # type: ignore[assignment]
    shown = {times[round(i * (steps - 1) / 31)] for i in range(32)}  # in the GIF, with the first few pictures
    few = min(16, options.batch_size)
    frames, done = [], []

    def side_by_side(x_t: torch.Tensor, x0_hat: torch.Tensor) -> torch.Tensor:
        """Noisy pictures, a gap, and what the network sees in them."""
        left, right = (grid(x[:few], columns=4) for x in (x_t, x0_hat))
        return torch.cat([left, torch.full_like(left[:, :6], 205), right], 1)

    parts = x_T.split(options.batch_size)
    with torch.inference_mode(), tqdm(total=len(parts) * steps, unit="step", disable=None) as bar:
        for i, part in enumerate(parts):
            y = None if labels is None else labels.split(options.batch_size)[i].to(device)
            settings = dict(times=times, eta=options.eta, order=options.order, target=made.target, y=y)
            settings["clip"] = options.order == 1  # it would spoil the look back of the second order
            for step in trajectory(model, made.schedule, part, generator=generator, **settings):
                bar.update()
                if i == 0 and step.t == times[0]:
                    options.out.mkdir(parents=True, exist_ok=True)  # where that fails, better now than at the end
                if i == 0 and "gif" in options.only and step.t in shown:
                    frames.append(side_by_side(step.x_t, step.x0_hat))
            done.append(step.x_s)
    pictures = torch.cat(done).cpu()
    check_finite(pictures, "the samples")
    if "grid" in options.only:
        (options.out / "grid.png").write_bytes(to_png(pictures, columns))
    if "pictures" in options.only:
        for old in options.out.glob("sample-[0-9]*.png"):  # there may have been more last time
            old.unlink()
        for i in range(options.count):
            (options.out / f"sample-{i:04d}.png").write_bytes(encode(grid(pictures[i : i + 1], pad=0)))
    if "gif" in options.only:
        frames.append(side_by_side(pictures, pictures))
        (options.out / "trajectory.gif").write_bytes(to_gif(frames))
    guided = f", guided with strength {strength:g}" if weak is not None else ""
    print(f"{options.count} pictures in {options.out}: {', '.join(sorted(options.only))}{guided}")


def _newest(path: Path) -> Path:
    """A checkpoint's file, or the newest in the folder of a run."""
    if not path.is_dir():
        return path
    found = [folder / "model.safetensors" for folder in (path, *checkpoints(path))]  # the first is there at the end
    found = [file for file in found if file.is_file()]
    if not found:
        raise FileNotFoundError(f"there is no model.safetensors in {path}, nor a checkpoint of a run")
    return found[0]


def _weak(path: Path | None, checkpoint: Path, made: Checkpoint, device: torch.device) -> nn.Module | None:
    """The network that guides the one of a checkpoint: the one asked for, else the one that came with it, if any."""
    if path is None and checkpoint in (SHIPPED, SHIPPED_CLASSES):
        path = SHIPPED_WEAK
    elif path is None:
        file = _newest(checkpoint)  # in the folder of a run, or in that of one of its checkpoints
        near = [folder / "weak.safetensors" for folder in file.parents[:2] if file.name == "model.safetensors"]
        path = next((each for each in near if each.is_file()), None)
        if path is None:
            return None
    weak = load_checkpoint(_newest(path), device)
    theirs, ours = weak.model.config, made.model.config
    differ = [name for name in ("size", "in_channels") if theirs.get(name) != ours.get(name)]
    differ += ["num_classes"] * (theirs.get("num_classes") not in (None, ours.get("num_classes")))
    differ += ["target"] * (weak.target != made.target)
    tables = ((each.schedule.signal, each.schedule.noise) for each in (weak, made))
    alike = (a.shape == b.shape and torch.allclose(a, b, rtol=1e-6) for a, b in zip(*tables, strict=True))
    differ += ["schedule"] * (not all(alike))  # another machine computes another last digit
    if differ:
        raise ValueError(f"weak must have the {' and '.join(differ)} of the checkpoint that it guides; {path} has not")
    return weak.model


def _label(asked: str, made: Checkpoint) -> int:
    """The class that is meant by a name, as its pictures' folder had it, or by a number; a name comes first."""
    classes = made.model.config.get("num_classes")
    if classes is None:
        raise ValueError("label needs a model that was trained with --classes; this one knows none")
    names = made.details.get("classes", ())
    alike = [i for i, name in enumerate(names) if name == asked] or [
        i for i, name in enumerate(names) if name.casefold() == asked.casefold()
    ]
    if alike:
        return alike[0]
    if asked.isdecimal() and int(asked) < classes:
        return int(asked)
    known = f"one of {', '.join(names)}, or " if names else ""
    raise ValueError(f"label must be {known}a number from 0 to {classes - 1}, got {asked!r}")


def _labels(asked: list[int] | None, count: int, classes: int | None) -> tuple[torch.Tensor | None, int | None]:
    """Labels for so many pictures, and the columns of their grid; None where there are no classes."""
    if classes is None:
        return None, None
    if asked is not None:
        return torch.tensor(asked).repeat(math.ceil(count / len(asked)))[:count], None
    if count < classes:
        return torch.arange(count), None
    return torch.arange(count) * classes // count, None if count % classes else count // classes


def _trace(options: argparse.Namespace) -> None:
    checkpoint = load_checkpoint(_newest(options.checkpoint))
    built = checkpoint.model.config
    size = built.get("size", RunConfig.size) if options.size is None else options.size
    check_number("size", size, 1, integer=True)
    x = torch.zeros(1, built["in_channels" if "in_channels" in built else "channels"], size, size)
    t, y = torch.ones(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    told = [t] if "num_classes" in built or built.get("time_plane") else []
    told += [y] if built.get("num_classes") else []
    print(format_trace(trace(checkpoint.model, x, *told)))


if __name__ == "__main__":
    raise SystemExit(main())
