"""How fast is a training, and what does each setting earn? The course's model beside diffusers', by the same loop.

    python benchmarks/speed.py                  batches of 32 on a CPU, of 128 and 1024 on a GPU: some minutes
    python benchmarks/speed.py --batches 256 --models unet --ways float32 compiled
    python benchmarks/speed.py --report         the table from the rows so far

All models and settings of a batch size take turns in `course_lib.train.train`, data, optimizers and average included.
Rows are written when a batch size is finished.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from contestants import CONTESTANTS
from course_lib.data import Pictures
from course_lib.objective import denoising_loss
from course_lib.runtime import can_compile, in_mode, pick_autocast, pick_device
from course_lib.schedule import Schedule, make_schedule
from course_lib.shapes import count_parameters
from course_lib.train import EMA, TrainConfig, Update, train
from judging import load_data
from records import (
    Row,
    append_row,
    circumstances,
    command_line,
    describe,
    has,
    lacks,
    made_on,
    publish,
    read_rows,
    table,
)
from trainings import compile_alone

NAME = "speed"
#: Batch sizes that are measured by default.
BATCHES = {"cpu": (32,), "mps": (32, 128), "cuda": (128, 1024)}
#: Updates that do not count: in the first, a GPU loads its kernels and a compiler may be at work.
WARM_UP = 5


@dataclass(frozen=True)
class Way:
    """Settings of a training; each way adds one to the way before."""

    label: str
    channels_last: bool = True
    autocast: bool = True
    compiled: bool = False


WAYS = {
    "float32": Way("float32", channels_last=False, autocast=False),
    "channels-last": Way("+ channels last", autocast=False),
    "bfloat16": Way("+ bfloat16"),
    "compiled": Way("+ compiled", compiled=True),
}


def ways_of(device: torch.device, names: Sequence[str], autocast: torch.dtype | None) -> list[str]:
    """The ways that suit this device: bfloat16 if it is faster, compiling if there is a compiler."""
    compiler = "compiled" in names and can_compile(device)
    return [name for name in names if (name != "bfloat16" or autocast) and (name != "compiled" or compiler)]


def flops_per_picture(model: nn.Module, schedule: Schedule, x0: Tensor) -> int:
    """Operations of convolutions and matrix products, forward and backward, for one picture (1, C, H, W).

    A multiplication with its addition counts as two, attention as its two products.
    """
    t = torch.ones(1, dtype=torch.int64, device=x0.device)
    # in eval mode, since BatchNorm cannot train on one picture of one pixel; it counts as nothing either way
    with in_mode(model, training=False), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        denoising_loss(model, schedule, x0, t, torch.zeros_like(x0)).sum().backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of a large product of two matrices: the best of ten."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        _wait(device)
        began = time.perf_counter()
        a @ b
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * n**3 / best


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        getattr(torch, device.type).synchronize(*([device] if device.type == "cuda" else []))


class Timed:
    """A training that is timed: by turns, after its first updates.

    Args:
        model_name: one of `CONTESTANTS`.
        way_name: one of `WAYS`.
        batch: pictures of an update.
        pictures: what to learn from, on the device.
        autocast: dtype for the ways that use it, or None.

    Attributes:
        first_seconds: time of the first update, compiling included.
        rates: pictures per second, of each turn.
    """

    def __init__(self, model_name: str, way_name: str, batch: int, pictures: Pictures, autocast: torch.dtype | None):
        self.model_name, self.way_name, self.batch, self.device = model_name, way_name, batch, pictures.images.device
        self.rates: list[float] = []
        way = WAYS[way_name]
        torch.manual_seed(0)
        model, schedule = CONTESTANTS[model_name].build().to(self.device), make_schedule("cosine")
        self.parameters = count_parameters(model)
        self.flops = flops_per_picture(model, schedule, pictures[torch.zeros(1, dtype=torch.int64)])
        model = model.to(memory_format=torch.channels_last) if way.channels_last else model
        ema = EMA(model)
        if way.compiled:
            compile_alone(model)
        config, dtype = TrainConfig(steps=10**9, batch_size=batch), autocast if way.autocast else None
        self.updates: Iterator[Update] = train(model, schedule, pictures, config, ema=ema, autocast=dtype)
        began = time.perf_counter()
        next(self.updates)
        _wait(self.device)
        self.first_seconds = time.perf_counter() - began
        for _ in range(WARM_UP - 1):
            next(self.updates)
        _wait(self.device)

    def turn(self, seconds: float) -> None:
        """Train for about so long, at least for one update, and note the rate."""
        made, began = 0, time.perf_counter()
        while not made or time.perf_counter() - began < seconds:
            next(self.updates)
            made += 1
        _wait(self.device)
        self.rates.append(made * self.batch / (time.perf_counter() - began))

    def row(self, reference: float) -> Row:
        """What was found, as a share of the rate of a large matrix product."""
        rate = statistics.median(self.rates)
        return {
            "model": self.model_name,
            "way": self.way_name,
            "batch": self.batch,
            "parameters": self.parameters,
            "flops_per_picture": self.flops,
            "pictures_per_second": round(rate, 1),
            "slowest_and_fastest_turn": [round(min(self.rates), 1), round(max(self.rates), 1)],
            "utilization": round(self.flops * rate / reference, 4),
            "reference_flops_per_second": round(reference),
            "first_seconds": round(self.first_seconds, 1),
        }


def run(options: argparse.Namespace, device: torch.device, path: Path) -> None:
    """Measure what has no row of this machine yet; the ways of a batch size take turns."""
    torch.compiler.config.force_disable_caches = True  # otherwise a second start would compile for nothing
    pictures = load_data(options.data)[0].to(device)
    asked = pictures[:32], torch.ones(32, dtype=torch.int64, device=device)
    picked = (pick_autocast(CONTESTANTS[model].build(), *asked) for model in options.models)
    autocast = next((each for each in picked if each), None)  # tried for all models if it suits one
    ways, reference = ways_of(device, options.ways, autocast), product_rate(device, autocast or torch.float32)
    for batch in options.batches or BATCHES[device.type]:
        trainings = []
        for model in options.models:
            about = {"model": model, "parameters": count_parameters(CONTESTANTS[model].build()), "batch": batch}
            about["machine"] = describe(device)
            due = [way for way in ways if lacks(path, {**about, "way": way})]
            trainings += [Timed(model, way, batch, pictures, autocast) for way in due]
        for _ in range(options.rounds):
            for each in trainings:
                each.turn(options.seconds)
        for each in trainings:
            row = each.row(reference)
            append_row(path, {**row, **circumstances(device)})
            print(f"batch {batch}, {row['model']}, {row['way']}: {row['pictures_per_second']:.0f}/s", flush=True)


# ------------------------------------------------------------------------------------------------ report


def pays_back(compiled: Row, plain: Row) -> str:
    """Minutes of training after which a compiled model has seen more pictures than one that is not compiled."""
    fast, slow = compiled["pictures_per_second"], plain["pictures_per_second"]
    if fast <= slow:
        return "never"
    lost = compiled["first_seconds"] - plain["first_seconds"]
    return f"{lost * fast / (fast - slow) / 60:.1f} min"


def report(path: Path) -> dict[str, str]:
    """The table of the last row's machine, by the name of its block in benchmarks/README.md.

    Raises:
        ValueError: there are no rows yet.
    """
    found = read_rows(path)
    if not found:
        raise ValueError(f"{path} must hold rows; run the benchmark first")
    rows = {(row["batch"], row["model"], row["way"]): row for row in found if row["machine"] == found[-1]["machine"]}
    lines = []
    order = sorted(rows, key=lambda key: (key[0], [*CONTESTANTS].index(key[1]), [*WAYS].index(key[2])))
    for number, (batch, model, way) in enumerate(order):
        row, before = rows[batch, model, way], rows[order[number - 1]]
        pays = WAYS[way].compiled and has(row, {key: before[key] for key in ("batch", "model")}) and before is not row
        cells = [
            CONTESTANTS[model].label,
            WAYS[way].label,
            str(batch),
            f"{row['pictures_per_second']:,.0f}",
            f"{row['flops_per_picture'] / 1e6:,.0f}",
            f"{row['utilization']:.1%}",
            f"{row['first_seconds']:.1f}",
            pays_back(row, before) if pays else "",
        ]
        lines.append(cells)
    head = ["model", "settings", "batch", "pictures/s", "MFLOP a picture", "utilization", "first update (s)"]
    last = rows[order[-1]]
    text = (
        f"{table([*head, 'compiling pays after'], lines)}\n\n{made_on([last], ('torch', 'diffusers'))} Utilization: "
        "operations of the convolutions and matrix products of both passes, as a share of what one large matrix "
        f"product reaches on this machine, {last['reference_flops_per_second'] / 1e12:.3g} TFLOP/s."
    )
    return {path.stem.replace("_", " "): text}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write what has no row yet, then the table."""
    parser = command_line(__doc__)
    parser.add_argument("--models", nargs="+", default=["unet", "diffusers"], choices=[*CONTESTANTS])
    parser.add_argument("--ways", nargs="+", default=[*WAYS], choices=[*WAYS])
    parser.add_argument("--batches", nargs="+", type=int, help="pictures of an update")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    path = options.results / f"{NAME}_{device.type}.jsonl"
    if not options.report:
        run(options, device, path)
    publish(report(path), options.results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
