"""How fast is a training, and what does each setting earn? The course's model beside diffusers', by the same loop.

    python benchmarks/speed.py                  batches of 32 on a CPU, of 128 and 1024 on a GPU: some minutes
    python benchmarks/speed.py --batches 256 --models unet
    python benchmarks/speed.py --report         the table from the rows so far

All models and settings of a batch size take turns with the same loop, `course_lib.train.train`; data, optimizers and
average count. Rows are written when a batch size is finished.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import records
from contestants import CONTESTANTS
from course_lib.data import Pictures
from course_lib.runtime import can_compile, pick_device
from course_lib.schedule import make_schedule
from course_lib.shapes import count_parameters
from course_lib.train import EMA, TrainConfig, train
from judging import load_data
from records import Row
from trainings import compile_alone

NAME = "speed"
BATCHES = {"cpu": (32,), "mps": (32, 128), "cuda": (128, 1024)}  # by default
WARM_UP = 5  # updates that do not count: a GPU loads its kernels, and the model may be compiled
#: Each way adds one setting to the way before.
WAYS = {"float32": "float32", "channels-last": "+ channels last", "compiled": "+ compiled"}


class Timed:
    """A training in float32 on the device of its pictures, timed in turns after its first updates."""

    def __init__(self, model_name: str, way: str, batch: int, pictures: Pictures) -> None:
        self.batch, self.device = batch, pictures.images.device
        self.rates: list[float] = []
        torch.manual_seed(0)
        model = CONTESTANTS[model_name].build().to(self.device)
        self.about = {"model": model_name, "way": way, "batch": batch, "parameters": count_parameters(model)}
        if way != "float32":
            model = model.to(memory_format=torch.channels_last)
        ema = EMA(model)
        if way == "compiled":
            compile_alone(model)
        config = TrainConfig(steps=10**9, batch_size=batch)
        self.updates = train(model, make_schedule("cosine"), pictures, config, ema=ema)
        self.first_seconds = self.seconds_of(1)
        self.seconds_of(WARM_UP - 1)

    def seconds_of(self, updates: int) -> float:
        """Make updates, and wait for a GPU."""
        began = time.perf_counter()
        for _ in range(updates):
            next(self.updates)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began

    def turn(self, seconds: float) -> None:
        """Train for about so long, at least for ten updates, and note the rate."""
        took = self.seconds_of(10)
        more = max(int(10 * (seconds / took - 1)), 0)
        took += self.seconds_of(more)
        self.rates.append((10 + more) * self.batch / took)

    def row(self) -> Row:
        """What was measured."""
        return {
            **self.about,
            "pictures_per_second": round(statistics.median(self.rates), 1),
            "first_seconds": round(self.first_seconds, 1),
        }


def run(options: argparse.Namespace, device: torch.device, path: Path) -> None:
    """Measure what has no row of this machine yet; the ways of a batch size take turns."""
    torch.compiler.config.force_disable_caches = True  # otherwise a second start would compile in no time
    pictures = load_data(options.data)[0].to(device)
    ways = [way for way in WAYS if way != "compiled" or can_compile(device)]
    for batch in options.batches or BATCHES[device.type]:
        trainings = [
            Timed(model, way, batch, pictures)
            for model in options.models
            for way in ways
            if records.lacks(path, {"model": model, "batch": batch, "machine": records.describe(device), "way": way})
        ]
        for _ in range(options.rounds):
            for each in trainings:
                each.turn(options.seconds)
        for each in trainings:
            row = each.row()
            records.append_row(path, {**row, **records.circumstances(device)})
            print(f"batch {batch}, {row['model']}, {row['way']}: {row['pictures_per_second']:.0f}/s", flush=True)


def pays_back(compiled: Row, plain: Row) -> str:
    """Minutes of training after which a compiled model has seen more pictures than one that is not compiled."""
    fast, slow = compiled["pictures_per_second"], plain["pictures_per_second"]
    if fast <= slow:
        return "never"
    lost = compiled["first_seconds"] - plain["first_seconds"]
    return f"{lost * fast / (fast - slow) / 60:.1f} min"


def report(path: Path) -> dict[str, str]:
    """The table of the last row's machine, by the name of its block in benchmarks/README.md."""
    found = records.rows_like(path)
    rows = {(row["batch"], row["model"], row["way"]): row for row in found if row["machine"] == found[-1]["machine"]}
    lines = []
    for batch, model in dict.fromkeys(key[:2] for key in sorted(rows, key=lambda key: (key[0], key[1] != "unet"))):
        ways = [way for way in WAYS if (batch, model, way) in rows]
        for before, way in zip([None, *ways], ways, strict=False):
            row = rows[batch, model, way]
            pays = pays_back(row, rows[batch, model, before]) if before and way == "compiled" else ""
            rate, first = f"{row['pictures_per_second']:,.0f}", f"{row['first_seconds']:.1f}"
            lines.append([CONTESTANTS[model].label, WAYS[way], str(batch), rate, first, pays])
    head = ["model", "settings", "batch", "pictures/s", "first update (s)", "compiling pays after"]
    text = f"{records.table(head, lines)}\n\n{records.made_on([found[-1]], ('torch', 'diffusers'))}"
    return {path.stem.replace("_", " "): text}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write what has no row yet, then the table."""
    parser = records.command_line(__doc__)
    parser.add_argument("--models", nargs="+", default=["unet", "diffusers"], choices=[*CONTESTANTS])
    parser.add_argument("--batches", nargs="+", type=int, help="pictures of an update")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    path = options.results / f"{NAME}_{device.type}.jsonl"
    if not options.report:
        run(options, device, path)
    records.publish(report(path), options.results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
