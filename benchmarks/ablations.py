"""What does each part of the course's recipe earn? The recipe, and variants that differ in one thing each.

    python benchmarks/ablations.py                 fifty minutes on two cores
    python benchmarks/ablations.py --report        the table from the rows so far

The trainings take turns of some seconds in one process, each with the same time of its own, and their samples are drawn
and judged as in pictures_per_minute.py. A finished row is written at once and not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from contestants import OurTraining
from records import (
    FEATURES_ID,
    RESULTS,
    ROOT,
    Row,
    append_row,
    circumstances,
    describe,
    draw_samples,
    fill_block,
    has,
    interval,
    judge,
    load_data,
    read_rows,
    table,
)
from torch import Tensor, nn

from course_lib.data import Pictures
from course_lib.runs import RunConfig
from course_lib.runtime import pick_device
from course_lib.shapes import count_parameters
from course_lib.train import Draws
from course_lib.unet import UNet

NAME = "ablations"


def adamw_alone(model: nn.Module, lr: float, parts: int = 1) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, as most courses have it, in place of `course_lib.optim.make_optimizers`."""
    return [torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)]


class Spread(Draws):
    """What is random in a training, each timestep of a batch from a part of 1..T of its own (stratified sampling)."""

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The draws of one update."""
        index, t, eps = super().__call__(step)
        part = torch.randperm(self.size, device=t.device, generator=self._generator)
        share = (part + torch.rand(self.size, device=t.device, generator=self._generator)) / self.size
        return index, (1 + (share * self.T).long()).clamp(max=self.T), eps


ADAMW = {"course_lib.train.make_optimizers": adamw_alone, "contestants.make_optimizers": adamw_alone}


@dataclass(frozen=True)
class Variant:
    """The recipe with one thing changed.

    Args:
        label: for the table.
        train: other settings of the training, as in `course_lib.runs.RunConfig.of`.
        unet: other arguments of `UNet`.
        patches: what stands in place of what else, by its name, while the variant trains.
    """

    label: str
    train: Mapping[str, Any] = field(default_factory=dict)
    unet: Mapping[str, Any] = field(default_factory=dict)
    patches: Mapping[str, Any] = field(default_factory=dict)

    def start(self, pictures: Pictures, minutes: float, seed: int, device: torch.device) -> OurTraining:
        """A training that has not begun."""
        torch.manual_seed(seed)
        with self.in_force():
            return OurTraining(UNet(**self.unet).to(device), pictures, seed, minutes, **self.train)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """While this lasts, `train` takes what this variant has in place of its own."""
        with ExitStack() as stack:
            for name, other in self.patches.items():
                stack.enter_context(mock.patch(name, other))
            yield


VARIANTS = {
    "recipe": Variant("the recipe"),
    "adamw": Variant("AdamW at 1e-3 in place of Muon", {"lr": 1e-3}, patches=ADAMW),
    "adamw-fast": Variant("AdamW at 4e-3 in place of Muon", patches=ADAMW),
    "last": Variant("the last weights in place of their average", {"ema": 0.0}),
    "v": Variant("v predicted in place of the noise", {"target": "v"}),
    "linear": Variant("linear schedule in place of cosine", {"schedule": "linear"}),
    "unweighted": Variant("loss without the weights of min-SNR", {"snr_gamma": None}),
    "gamma-1": Variant("weights of min-SNR with γ = 1 in place of 5", {"snr_gamma": 1.0}),
    "spread": Variant("timesteps of a batch spread over 1..T", patches={"course_lib.train.Draws": Spread}),
    "slow": Variant("learning rate halved", {"lr": 2e-3}),
    "fast": Variant("learning rate doubled", {"lr": 8e-3}),
    "batch-64": Variant("batches of 64", {"batch_size": 64}),
    "threads": Variant(
        "the threads share each operation, not the batch",
        patches={"course_lib.train._Workers.suit": lambda model: False},
    ),
    "attention": Variant("attention after every block at 7×7", unet={"attention": (1,)}),
    "pixels": Variant("single pixels in place of 2×2 blocks", unet={"patch": 1}),
    "narrow": Variant("a quarter fewer channels above, 24 and 64", unet={"channels": (24, 64)}),
    "wide": Variant("half as many channels again, 48 and 96", unet={"channels": (48, 96)}),
}


#: Labels of rows of earlier recipes, which have no variant here any more.
EARLIER = {"v-noise": "v predicted, with the loss of the noise", "min-snr": "loss weighted by min-SNR"}


def facts(name: str, training: OurTraining, minutes: float, count: int, evaluations: int, data: str) -> Row:
    """What identifies a row, whenever it is made."""
    return {
        "variant": name,
        "recipe": asdict(RunConfig.of({"minutes": minutes})),
        "minutes": minutes,
        "details": json.loads(json.dumps(training.details)),
        "parameters": count_parameters(training.model),
        "samples": count,
        "evaluations": evaluations,
        "data": data,
        "features": FEATURES_ID,
    }


def compare(names: Sequence[str], options: argparse.Namespace, device: torch.device, path: Path) -> None:
    """Train the variants in turns, judge each when its time is over, and write its row."""
    train, heldout = load_data(options.data)
    waiting: dict[str, tuple[OurTraining, Row]] = {}
    for name in names:
        training = VARIANTS[name].start(train, options.minutes, options.seed, device)
        row = facts(name, training, options.minutes, options.samples, options.evaluations, options.data)
        here = {**row, "machine": describe(device)}
        if not any(has(made, here) for made in read_rows(path)):
            waiting[name] = training, row
    while waiting:
        for name, (training, row) in [*waiting.items()]:
            with VARIANTS[name].in_force():
                training.run(min(options.slice, 60 * options.minutes - training.seconds))
            if training.seconds < 60 * options.minutes:
                continue
            del waiting[name]
            drawn = draw_samples(
                training.to_sample_from(),
                training.schedule,
                training.target,
                options.samples,
                evaluations=options.evaluations,
                seed=options.seed,
            )
            pictures = training.step * training.batch_size
            row |= {
                "updates": training.step,
                "pictures": pictures,
                "pictures_per_second": round(pictures / training.seconds, 1),
                **circumstances(device),
                "report": judge(drawn, train, heldout).as_dict(),
            }
            append_row(path, row)
            distance = row["report"]["frechet"]["value"]
            print(f"{time.strftime('%H:%M')} {name}: distance {distance:.2f}, {pictures:,} pictures", flush=True)


def report(rows: Sequence[Row]) -> str:
    """The table: one row for each variant, the newest with the machine and the recipe of the last one."""
    judged = [row for row in rows if row["features"] == FEATURES_ID]
    alike = [row for row in judged if all(row.get(key) == judged[-1].get(key) for key in ("machine", "recipe"))]
    newest = {row["variant"]: row for row in alike}
    lines = []
    labels = {name: variant.label for name, variant in VARIANTS.items()} | EARLIER
    for name in [name for name in labels if name in newest]:
        row = newest[name]
        distance = interval(row["report"]["frechet"])
        lines.append([labels[name], f"{row['pictures_per_second']:.0f}", f"{row['updates']:,}", distance])
    if not lines:
        return "Not run."
    any_row = next(iter(newest.values()))
    floor = any_row["report"]["frechet"]["floor"]
    lines.append(["*real pictures, held out*", "", "", f"*{floor:.2f}*"])
    words = f"{any_row['minutes']:g} minutes each on {any_row['machine']}, {any_row['samples']:,} samples."
    return table(["variant", "pictures/s", "updates", "distance (95 %)"], lines) + "\n\n" + words


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=[*VARIANTS], choices=[*VARIANTS])
    parser.add_argument("--minutes", type=float, default=3.0, help="of training, for each")
    parser.add_argument("--slice", type=float, default=20.0, help="seconds of a turn")
    parser.add_argument("--samples", type=int, default=1000, help="samples of each row")
    parser.add_argument("--evaluations", type=int, default=25, help="of the network, for each sample")
    parser.add_argument("--data", default="full", choices=("full", "packaged"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cuda, mps or cpu; the best there is by default")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of rows")
    parser.add_argument("--report", action="store_true", help="train nothing; write the table from the rows")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    path = options.results / f"{NAME}_{device.type}.jsonl"
    if not options.report:
        compare(options.variants, options, device, path)
    text = report(read_rows(path))
    if options.results == RESULTS:
        fill_block(ROOT / "benchmarks" / "README.md", f"{NAME} {device.type}", text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
