"""The command line: `python -m course_lib train`, `sample` and `trace`; each has --help."""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from pathlib import Path

import torch
from tqdm import tqdm

from . import __version__
from .checkpoint import SHIPPED, load_checkpoint, save_checkpoint, weights_path
from .data import Pictures, load_fashion_mnist, load_folder
from .runtime import describe_machine, make_generator, pick_autocast, pick_device
from .sample import sample
from .schedule import SCHEDULES, make_schedule, sampling_times
from .shapes import count_parameters, format_trace, trace
from .train import EMA, TrainConfig, Update, train
from .unet import UNet


def main(arguments: list[str] | None = None) -> int:
    """Run one command; bad input ends with one sentence and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m course_lib", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")

    one = commands.add_parser("train", help="train a UNet and save its averaged weights")
    one.add_argument("--data", default="fashion-mnist", help="fashion-mnist, or a folder of pictures")
    one.add_argument("--size", type=int, default=28, help="height and width of the pictures")
    one.add_argument("--color", action="store_true", help="RGB instead of grey, for a folder")
    one.add_argument("--full", action="store_true", help="insist on all 60,000 pictures of Fashion-MNIST")
    one.add_argument("--minutes", type=float, help="stop after this much time")
    one.add_argument("--steps", type=int, help="stop after this many updates")
    one.add_argument("--schedule", default="cosine", choices=SCHEDULES)
    one.add_argument("--channels", type=int, nargs="+", default=[32, 64], help="channels of each level of the UNet")
    one.add_argument("--batch-size", type=int, default=TrainConfig.batch_size)
    one.add_argument("--lr", type=float, default=TrainConfig.lr)
    one.add_argument("--ema", type=float, default=0.999, help="decay of the averaged weights")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--device", help="cuda, mps or cpu; the best there is by default")
    one.add_argument("--out", type=Path, required=True, help="where to write, ending in .safetensors")
    one.set_defaults(run=_train)

    one = commands.add_parser("sample", help="draw pictures from a checkpoint into one PNG")
    one.add_argument("--checkpoint", type=Path, default=SHIPPED, help="a .safetensors file; the shipped one by default")
    one.add_argument("--count", type=int, default=64, help="number of pictures")
    one.add_argument("--steps", type=int, default=100, help="reverse steps")
    one.add_argument("--eta", type=float, default=1.0, help="1 for DDPM, 0 for DDIM")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--device", help="cuda, mps or cpu; the best there is by default")
    one.add_argument("--out", type=Path, default=Path("samples.png"))
    one.set_defaults(run=_sample)

    one = commands.add_parser("trace", help="list every layer of a checkpoint's model")
    one.add_argument("--checkpoint", type=Path, default=SHIPPED)
    one.set_defaults(run=_trace)

    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def _pictures(options: argparse.Namespace) -> Pictures:
    if options.data == "fashion-mnist":
        return load_fashion_mnist("train", options.size, "full" if options.full else None)
    return load_folder(options.data, options.size, 3 if options.color else 1)


def _train(options: argparse.Namespace) -> None:
    weights_path(options.out)
    device = pick_device(options.device)
    autocast = pick_autocast(device)
    config = TrainConfig(
        steps=options.steps,
        minutes=options.minutes,
        batch_size=options.batch_size,
        lr=options.lr,
        seed=options.seed,
    )
    pictures = _pictures(options)
    torch.manual_seed(options.seed)  # the initial weights
    model = UNet(options.size, in_channels=pictures.images.shape[1], channels=options.channels)
    model = model.to(device).to(memory_format=torch.channels_last)
    schedule = make_schedule(options.schedule)
    ema = EMA(model, options.ema)
    print(f"{describe_machine()}, autocast: {autocast}\n{pictures}\n{count_parameters(model):,} parameters")

    def save(update: Update, loss: float) -> None:
        details = {
            "command": "python -m course_lib " + " ".join(sys.argv[1:]),
            "steps": update.step,
            "minutes": round(update.seconds / 60, 1),
            "loss": round(loss, 4),
            "device": device.type,
            "data": {"source": str(pictures), "sha256": pictures.sha256},
            "torch": torch.__version__,
        }
        save_checkpoint(options.out, ema.model, schedule, target=config.target, details=details)

    recent: deque[torch.Tensor] = deque(maxlen=500)  # left on the device: reading a number makes a GPU wait
    saved = time.perf_counter()

    def loss() -> float:
        return torch.stack([*recent]).mean().item()

    with tqdm(total=100, bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}", mininterval=1) as bar:
        for update in train(model, schedule, pictures, config, ema=ema, autocast=autocast):
            recent.append(update.loss)
            if update.step % 50 == 0 or update.progress == 1:
                bar.set_postfix_str(f"update {update.step:,}, loss {loss():.4f}, lr {update.lr:.1e}", refresh=False)
                bar.update(100 * update.progress - bar.n)
            if time.perf_counter() - saved > 300:
                saved = time.perf_counter()
                save(update, loss())
    save(update, loss())
    print(f"{update.step:,} updates in {update.seconds / 60:.1f} minutes, loss {loss():.4f}; saved {options.out}")


def _sample(options: argparse.Namespace) -> None:
    from .viz import to_png  # imported here: training needs no matplotlib

    device = pick_device(options.device)
    checkpoint = load_checkpoint(options.checkpoint, device)
    built = checkpoint.model.config
    generator = make_generator(options.seed, device)
    shape = (options.count, built["in_channels"], built["size"], built["size"])
    x_T = torch.randn(shape, generator=generator, device=device)
    times = sampling_times(checkpoint.schedule.T, options.steps)
    pictures = sample(
        checkpoint.model,
        checkpoint.schedule,
        x_T,
        times=times,
        eta=options.eta,
        target=checkpoint.target,
        generator=generator,
    )
    options.out.write_bytes(to_png(pictures.cpu()))
    print(f"{options.count} pictures in {options.out}")


def _trace(options: argparse.Namespace) -> None:
    checkpoint = load_checkpoint(options.checkpoint)
    built = checkpoint.model.config
    x = torch.zeros(1, built["in_channels"], built["size"], built["size"])
    print(format_trace(trace(checkpoint.model, x, torch.ones(1, dtype=torch.int64))))


if __name__ == "__main__":
    raise SystemExit(main())
