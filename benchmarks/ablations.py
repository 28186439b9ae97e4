"""What does each part of the course's recipe earn? The recipe, and variants that differ in one thing each.

    python benchmarks/ablations.py                 more than two hours on two cores
    python benchmarks/ablations.py --seeds 0       one training of each in place of two
    python benchmarks/ablations.py --report        the table from the rows so far

The trainings take turns of some seconds in one process, each with the same time of its own, and their samples are drawn
and judged as in pictures_per_minute.py. A finished row is written at once and not made again, and trainings are saved
after each turn: stop the program at any time, and the next start goes on from there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from contestants import OurTraining
from course_lib.data import Pictures
from course_lib.objective import denoising_loss, min_snr_weights
from course_lib.runs import RunConfig
from course_lib.runtime import in_mode, make_generator, pick_device
from course_lib.schedule import Schedule, make_schedule
from course_lib.shapes import count_parameters
from course_lib.train import RandomBatches, TrainConfig
from course_lib.unet import UNet
from records import (
    BUILD,
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

NAME = "ablations"


def adamw_alone(model: nn.Module, lr: float, parts: int = 1) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, as most courses have it, in place of `course_lib.optim.make_optimizers`."""
    return [torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.99), weight_decay=0.0, fused=True)]


class Spread(RandomBatches):
    """What is random in a training, each timestep of a batch from a part of 1..T of its own (stratified sampling)."""

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The batch of one update."""
        index, t, eps = super().__call__(step)
        part = torch.randperm(self.size, device=t.device, generator=self.generator)
        share = (part + torch.rand(self.size, device=t.device, generator=self.generator)) / self.size
        return index, (1 + (share * self.T).long()).clamp(max=self.T), eps


class Proportional(RandomBatches):
    """What is random in a training, the timesteps drawn in proportion to the weights that min-SNR gives them."""

    def __init__(self, pictures: Pictures, schedule: Schedule, batch_size: int, seed: int = 0) -> None:
        super().__init__(pictures, schedule, batch_size, seed)
        gamma = TrainConfig.snr_gamma
        assert gamma is not None
        self.weights = min_snr_weights(schedule, TrainConfig.target, gamma)[1:].to(self.device)

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The batch of one update."""
        index, _, eps = super().__call__(step)
        t = 1 + torch.multinomial(self.weights, self.size, replacement=True, generator=self.generator)
        return index, t, eps


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
    "spread": Variant("timesteps of a batch spread over 1..T", patches={"course_lib.train.RandomBatches": Spread}),
    "proportional": Variant(
        "timesteps drawn in proportion to these weights, and the loss without them",
        {"snr_gamma": None},
        patches={"course_lib.train.RandomBatches": Proportional},
    ),
    "slow": Variant("learning rate halved", {"lr": 2e-3}),
    "fast": Variant("learning rate doubled", {"lr": 8e-3}),
    "batch-64": Variant("batches of 64", {"batch_size": 64}),
    "threads": Variant(
        "the threads share each operation, not the batch",
        patches={"course_lib.training.workers.Workers.suit": lambda model: False},
    ),
    "attention": Variant("attention after every block at 7×7", unet={"attention": (1,)}),
    "pixels": Variant("single pixels in place of 2×2 blocks", unet={"patch": 1}),
    "narrow": Variant("a quarter fewer channels above, 24 and 64", unet={"channels": (24, 64)}),
    "wide": Variant("half as many channels again, 48 and 96", unet={"channels": (48, 96)}),
}


@torch.inference_mode()
def heldout_loss(model: nn.Module, schedule: Schedule, target: str, heldout: Pictures, draws: int = 20_000) -> float:
    """The loss that the recipe trains with, on pictures that no model saw, the same draws whatever was trained.

    min(SNR, gamma) · |x0_hat − x0|², averaged over the timesteps of the cosine schedule: of another schedule the
    timestep with the nearest signal-to-noise ratio takes their place, so that all are asked to remove as much noise.

    Args:
        model: called as model(x_t, t, y).
        schedule: the one that it was trained with.
        target: what it predicts.
        heldout: the pictures, taken one after the other.
        draws: pictures with a timestep and noise each; a picture comes back where there are fewer.
    """
    gamma = TrainConfig.snr_gamma
    assert gamma is not None
    device = next(model.parameters()).device
    generator = make_generator(0)
    asked = make_schedule("cosine").log_snr_half[1:]
    nearest = 1 + (schedule.log_snr_half[1:] - asked[:, None]).abs().argmin(1)
    weights = min_snr_weights(schedule, target, gamma).to(device)
    total = 0.0
    with in_mode(model, training=False):
        for index in (torch.arange(draws) % len(heldout)).split(500):
            x0 = heldout[index]
            t = nearest[torch.randint(len(nearest), (len(x0),), generator=generator)].to(device)
            eps = torch.randn(x0.shape, generator=generator).to(device)
            total += float((weights[t] * denoising_loss(model, schedule, x0.to(device), t, eps, target=target)).sum())
    return total / draws


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
    """Train the variants in turns, each with every seed, judge each when its time is over, and write its row."""
    states = options.build / f"{NAME}_{device.type}"
    train, heldout = load_data(options.data)
    waiting: dict[tuple[int, str], tuple[OurTraining, Row]] = {}
    for seed, name in product(options.seeds, names):
        training = VARIANTS[name].start(train, options.minutes, seed, device)
        row = facts(name, training, options.minutes, options.samples, options.evaluations, options.data)
        here = {**row, "machine": describe(device)}
        if not any(has(made, here) for made in read_rows(path)):
            training.load(states / f"{name}_{seed}.safetensors")
            waiting[seed, name] = training, row
    while waiting:
        for (seed, name), (training, row) in [*waiting.items()]:
            if (left := 60 * options.minutes - training.seconds) > 0:
                with VARIANTS[name].in_force():
                    training.run(min(options.slice, left))
                training.save(states / f"{name}_{seed}.safetensors")
            if training.seconds < 60 * options.minutes:
                continue
            del waiting[seed, name]
            trained = training.to_sample_from(), training.schedule, training.target
            drawn = draw_samples(*trained, options.samples, evaluations=options.evaluations, seed=seed)
            pictures = training.step * training.batch_size
            row |= {
                **training.found,
                "updates": training.step,
                "pictures": pictures,
                "pictures_per_second": round(pictures / training.seconds, 1),
                **circumstances(device),
                "heldout_loss": heldout_loss(*trained, heldout),
                "report": judge(drawn, train, heldout).as_dict(),
            }
            append_row(path, row)
            (states / f"{name}_{seed}.safetensors").unlink()
            distance = row["report"]["frechet"]["value"]
            about = f"{name}, seed {seed}: distance {distance:.2f}, {pictures:,} pictures"
            print(f"{time.strftime('%H:%M')} {about}", flush=True)


def newest(rows: Sequence[Row]) -> dict[str, dict[int, Row]]:
    """The last row of each variant and seed, with the machine, recipe, minutes and samples of the very last."""
    judged = [row for row in rows if row["features"] == FEATURES_ID]
    found: dict[str, dict[int, Row]] = {name: {} for name in VARIANTS}
    for row in judged:
        if all(row.get(key) == judged[-1].get(key) for key in ("machine", "recipe", "minutes", "samples")):
            found[row["variant"]][row["details"]["seed"]] = row
    return {name: by_seed for name, by_seed in found.items() if by_seed}


def report(rows: Sequence[Row]) -> str:
    """The table: one line for each variant, its distance with every seed and their mean; see `newest`."""
    found = newest(rows)
    if not found:
        return "Not run."
    seeds = sorted({seed for by_seed in found.values() for seed in by_seed})
    several = len(seeds) > 1
    lines = []
    for name, by_seed in found.items():
        distances = [row["report"]["frechet"] for row in by_seed.values()]
        speed = mean(row["pictures_per_second"] for row in by_seed.values())
        updates = mean(row["updates"] for row in by_seed.values())
        cells = [interval(by_seed[seed]["report"]["frechet"]) if seed in by_seed else "" for seed in seeds]
        cells += [f"{mean(each['value'] for each in distances):.2f}" if len(by_seed) == len(seeds) else ""] * several
        loss = f"{mean(row['heldout_loss'] for row in by_seed.values()):.4f}"
        lines.append([VARIANTS[name].label, f"{speed:.0f}", f"{updates:,.0f}", loss, *cells])
    row = next(iter(next(iter(found.values())).values()))
    floor = f"*{row['report']['frechet']['floor']:.2f}*"
    lines.append(["*real pictures, held out*", "", "", "", *[floor] * len(seeds), *[floor] * several])
    words = f"{row['minutes']:g} minutes each on {row['machine']}, {row['samples']:,} samples."
    head = [f"distance, seed {seed} (95 %)" if several else "distance (95 %)" for seed in seeds] + ["mean"] * several
    return table(["variant", "pictures/s", "updates", "held-out loss", *head], lines, words=1) + "\n\n" + words


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", default=[*VARIANTS], choices=[*VARIANTS])
    parser.add_argument("--minutes", type=float, default=3.0, help="of training, for each")
    parser.add_argument("--slice", type=float, default=20.0, help="seconds of a turn")
    parser.add_argument("--samples", type=int, default=1000, help="samples of each row")
    parser.add_argument("--evaluations", type=int, default=25, help="of the network, for each sample")
    parser.add_argument("--data", default="full", choices=("full", "packaged"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="a training of each variant for each")
    parser.add_argument("--device", help="cuda, mps or cpu; the best there is by default")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of rows")
    parser.add_argument("--build", type=Path, default=BUILD, help="folder of what is needed to go on")
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
