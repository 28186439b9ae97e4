"""What does each part of the course's recipe earn? The recipe, and variants that differ in one thing each.

    python benchmarks/ablations.py                 an hour and a half on two cores
    python benchmarks/ablations.py --report        the table from the rows so far

Samples are made and judged as in pictures_per_minute.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import records
from course_lib.data import Pictures
from course_lib.objective import denoising_loss, min_snr_weights
from course_lib.runs import RunConfig
from course_lib.runtime import in_mode, make_generator, pick_device
from course_lib.schedule import Schedule, make_schedule
from course_lib.shapes import count_parameters
from course_lib.train import TrainConfig
from course_lib.training.batches import RandomBatches
from course_lib.unet import UNet
from judging import EVALUATIONS, FEATURES_ID, judge, load_data, make_samples
from records import Row
from trainings import OurTraining

NAME = "ablations"
GAMMA = 5.0  # of min-SNR, as in the recipe
SEED = 0


def adamw_alone(model: nn.Module, lr: float, parts: int = 1) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, as most courses have it; takes the place of `course_lib.optim.make_optimizers`."""
    return [torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)]


class Spread(RandomBatches):
    """Batches in which each timestep comes from a part of 1..T of its own (stratified sampling)."""

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        index, t, eps = super().__call__(step)
        part = torch.randperm(self.size, device=t.device, generator=self.generator)
        share = (part + torch.rand(self.size, device=t.device, generator=self.generator)) / self.size
        return index, (1 + (share * self.T).long()).clamp(max=self.T), eps


class Proportional(RandomBatches):
    """Batches whose timesteps are as frequent as min-SNR would weight them."""

    def __init__(self, pictures: Pictures, schedule: Schedule, batch_size: int, seed: int = 0) -> None:
        super().__init__(pictures, schedule, batch_size, seed)
        self.weights = min_snr_weights(schedule, TrainConfig.target, GAMMA)[1:].to(self.device)

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        index, _, eps = super().__call__(step)
        t = 1 + torch.multinomial(self.weights, self.size, replacement=True, generator=self.generator)
        return index, t, eps


@dataclass(frozen=True)
class Variant:
    """The recipe with one thing changed: settings as in `RunConfig.of`, arguments of `UNet`, or parts of the loop."""

    label: str
    train: Mapping[str, Any] = field(default_factory=dict)
    unet: Mapping[str, Any] = field(default_factory=dict)
    patches: Mapping[str, Any] = field(default_factory=dict)  # by the name of what they replace

    @contextmanager
    def start(self, pictures: Pictures, minutes: float, device: torch.device) -> Iterator[OurTraining]:
        """A training that has not begun; within the `with` block, the loop uses the replaced parts."""
        with ExitStack() as stack:
            for name, other in self.patches.items():
                stack.enter_context(mock.patch(name, other))
            torch.manual_seed(SEED)
            yield OurTraining(UNet(**self.unet).to(device), pictures, SEED, minutes, **self.train)


ADAMW = {"course_lib.train.make_optimizers": adamw_alone, "trainings.make_optimizers": adamw_alone}
BATCHES, SUIT = "course_lib.train.RandomBatches", "course_lib.training.workers.Workers.suit"
VARIANTS = {
    "recipe": Variant("the recipe"),
    "adamw": Variant("AdamW at 1e-3 in place of Muon", {"lr": 1e-3}, patches=ADAMW),
    "adamw-fast": Variant("AdamW at 4e-3 in place of Muon", patches=ADAMW),
    "last": Variant("the last weights in place of their average", {"ema": 0.0}),
    "v": Variant("v predicted in place of the noise", {"target": "v"}),
    "linear": Variant("linear schedule in place of cosine", {"schedule": "linear"}),
    "unweighted": Variant("loss without the weights of min-SNR", {"snr_gamma": None}),
    "gamma-1": Variant("weights of min-SNR with γ = 1 in place of 5", {"snr_gamma": 1.0}),
    "spread": Variant("timesteps of a batch spread over 1..T", patches={BATCHES: Spread}),
    "proportional": Variant(
        "timesteps in proportion to these weights, and the loss without them",
        {"snr_gamma": None},
        patches={BATCHES: Proportional},
    ),
    "slow": Variant("learning rate halved", {"lr": 2e-3}),
    "fast": Variant("learning rate doubled", {"lr": 8e-3}),
    "batch-64": Variant("batches of 64", {"batch_size": 64}),
    "threads": Variant("the threads share each operation, not the batch", patches={SUIT: lambda model: False}),
    "attention": Variant("attention after every block at 7×7", unet={"attention": (1,)}),
    "pixels": Variant("single pixels in place of 2×2 blocks", unet={"patch": 1}),
    "narrow": Variant("a quarter fewer channels above, 24 and 64", unet={"channels": (24, 64)}),
    "wide": Variant("half as many channels again, 48 and 96", unet={"channels": (48, 96)}),
}


@torch.inference_mode()
def heldout_loss(model: nn.Module, schedule: Schedule, target: str, heldout: Pictures, count: int = 20_000) -> float:
    """The loss that the recipe trains with, on pictures that no model saw.

    It is min(SNR, γ) · |x0_hat − x0|², averaged over `count` pairs of a timestep and a noise, the same for every model.
    The timesteps are those of the cosine schedule; on another schedule, the one with the nearest signal-to-noise ratio
    takes their place, so that all models have as much noise to remove.
    """
    device = next(model.parameters()).device
    generator = make_generator(0)
    asked = make_schedule("cosine").log_snr_half[1:]
    nearest = 1 + (schedule.log_snr_half[1:] - asked[:, None]).abs().argmin(1)
    weights = min_snr_weights(schedule, target, GAMMA).to(device)
    total = 0.0
    with in_mode(model, training=False):
        for index in (torch.arange(count) % len(heldout)).split(500):
            x0 = heldout[index]
            t = nearest[torch.randint(len(nearest), (len(x0),), generator=generator)].to(device)
            eps = torch.randn(x0.shape, generator=generator).to(device)
            total += float((weights[t] * denoising_loss(model, schedule, x0.to(device), t, eps, target=target)).sum())
    return total / count


def measure(name: str, options: argparse.Namespace, device: torch.device, path: Path) -> None:
    """Train a variant, judge it, and write its row, unless this machine has one already."""
    train, heldout = load_data(options.data)
    with VARIANTS[name].start(train, options.minutes, device) as training:
        recipe = asdict(RunConfig.of({"minutes": options.minutes}))
        about = {"variant": name, "recipe": recipe, "minutes": options.minutes, "details": training.details}
        judging = {"samples": options.samples, "evaluations": EVALUATIONS, "features": FEATURES_ID}
        row = {**about, "parameters": count_parameters(training.model), **judging, "data": options.data}
        if not records.lacks(path, {**row, "machine": records.describe(device)}):
            return
        training.run(60 * options.minutes)
    trained = training.to_sample_from(), training.schedule, training.target
    samples = make_samples(*trained, options.samples)
    row |= {
        **training.progress(),
        **records.circumstances(device),
        "heldout_loss": heldout_loss(*trained, heldout),
        "report": judge(samples, train, heldout).as_dict(),
    }
    records.append_row(path, row)
    print(f"{name}: distance {row['report']['frechet']['value']:.2f}, {row['pictures']:,} pictures", flush=True)


def newest(rows: Sequence[Row]) -> dict[str, Row]:
    """The last row of each variant that was made like the very last one."""
    alike = ("machine", "recipe", "minutes", "samples", "features")
    found = {row["variant"]: row for row in rows if records.has(row, {key: rows[-1].get(key) for key in alike})}
    return {name: found[name] for name in VARIANTS if name in found}


def report(path: Path) -> dict[str, str]:
    """The table, by the name of its block in benchmarks/README.md."""
    rows = newest(records.rows_like(path))
    lines = []
    for name, row in rows.items():
        numbers = f"{row['pictures_per_second']:.0f}", f"{row['updates']:,}", f"{row['heldout_loss']:.4f}"
        lines.append([VARIANTS[name].label, *numbers, records.interval(row["report"]["frechet"])])
    lines.append(["*real pictures, held out*", "", "", "", f"*{row['report']['frechet']['floor']:.2f}*"])
    head = ["variant", "pictures/s", "updates", "held-out loss", "distance (95 %)"]
    words = f"{row['minutes']:g} minutes each on {row['machine']}, {row['samples']:,} samples."
    return {path.stem.replace("_", " "): f"{records.table(head, lines, words=1)}\n\n{words}"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, judge and write what has no row yet, then the table."""
    parser = records.command_line(__doc__)
    parser.add_argument("--variants", nargs="+", default=[*VARIANTS], choices=[*VARIANTS])
    parser.add_argument("--minutes", type=float, default=3.0, help="of training, for each")
    parser.add_argument("--samples", type=int, default=1000, help="samples of each row")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    path = options.results / f"{NAME}_{device.type}.jsonl"
    for name in options.variants if not options.report else ():
        measure(name, options, device, path)
    records.publish(report(path), options.results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
