"""How many evaluations of the network does a good picture need? The course's sampler beside diffusers' schedulers.

    python benchmarks/sampling.py                     the default set: about twenty minutes on two quiet cores
    python benchmarks/sampling.py --evaluations 250 --samplers ddpm diffusers-ddpm
    python benchmarks/sampling.py --classes           the network that knows classes, asked for each in turn
    python benchmarks/sampling.py --report            tables and a picture from the rows so far

All of them use the shipped weights, start from the same noise and go through evenly spaced timesteps. Samplers with the
same number of evaluations take turns, batch by batch, so that their times compare.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import records
from course_lib.checkpoint import load_shipped
from course_lib.runtime import make_generator, pick_device
from course_lib.viz import figure_png
from distance_plot import Line, plot_distances
from judging import FEATURES_ID, GUIDANCE, judge, load_data
from records import Row
from samplers import SAMPLERS, InTurn, Network

NAME = "sampling"
BATCH, SEED = 250, 0
#: By sampler and number of evaluations.
Rows = dict[tuple[str, int], Row]


def weights_id(model: nn.Module) -> str:
    """Twelve digits of a hash of the weights."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def sample_in_turns(
    network: Network, names: Sequence[str], evaluations: int, count: int
) -> dict[str, tuple[Tensor, float]]:
    """Samples (count, 1, 28, 28) on the CPU and the seconds they took, by the name of the sampler.

    All samplers start from the same noise, and take turns batch by batch.
    """
    device = next(network.model.parameters()).device
    noise = torch.randn(count, 1, 28, 28, generator=make_generator(SEED))
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    seconds = dict.fromkeys(names, 0.0)
    for name in names:  # imports and set-up at the first use do not count
        SAMPLERS[name].run(network, noise[:2].to(device), min(evaluations, 4), SEED)
    for number, x_T in enumerate(noise.split(BATCH)):
        for name in names:
            began = time.perf_counter()
            samples = SAMPLERS[name].run(network, x_T.to(device), evaluations, SEED + number)
            parts[name].append(samples.cpu())  # this waits for a GPU
            seconds[name] += time.perf_counter() - began
    return {name: (torch.cat(parts[name]), seconds[name]) for name in names}


def run(network: Network, asked: Sequence[tuple[str, int]], options: argparse.Namespace, path: Path) -> None:
    """Make the rows of these samplers and numbers of evaluations, unless they are there already."""
    device = next(network.model.parameters()).device
    train, heldout = load_data(options.data)

    def facts(name: str, n: int) -> Row:
        guidance = {"weak": weights_id(network.weak), "guidance": GUIDANCE} if SAMPLERS[name].guided else {}
        same = {"weights": weights_id(network.model), "machine": records.describe(device), "features": FEATURES_ID}
        asked = {"data": options.data, "samples": options.samples, "seed": SEED}
        return {**same, **guidance, **asked, "kind": "sampler", "sampler": name, "evaluations": n}

    for n in sorted({n for _, n in asked}):
        due = [name for name, each in asked if each == n and records.lacks(path, facts(name, n))]
        for name, (samples, seconds) in sample_in_turns(network, due, n, options.samples).items():
            report = judge(samples, train, heldout)
            row = {**facts(name, n), "seconds": round(seconds, 2), "report": report.as_dict()}
            records.append_row(path, {**row, **records.circumstances(device)})
            print(f"{name}, {n} evaluations: distance {records.interval(row['report']['frechet'])}", flush=True)


def newest(path: Path) -> Rows:
    """The rows like the last one, without those judged by another feature network or guided otherwise than today."""
    rows = [row for row in records.rows_like(path, features=FEATURES_ID) if row.get("guidance", GUIDANCE) == GUIDANCE]
    like = {name: rows[-1][name] for name in ("weights", "machine", "data", "samples", "seed")}
    chosen = {(row["sampler"], row["evaluations"]): row for row in rows if records.has(row, like)}
    order = [*SAMPLERS]
    return dict(sorted(chosen.items(), key=lambda item: (order.index(item[0][0]), item[0][1])))


def distance_table(rows: Rows) -> str:
    """Distance by evaluations, and the time of a picture for each evaluation."""
    numbers = sorted({n for _, n in rows})
    names = [*dict.fromkeys(name for name, _ in rows)]
    columns = [[rows[name, n]["report"]["frechet"] if (name, n) in rows else None for name in names] for n in numbers]
    lines = []
    for name, cells in zip(names, zip(*records.intervals(columns), strict=True), strict=True):
        found = [rows[name, n] for n in numbers if (name, n) in rows]
        spent = [1000 * row["seconds"] / row["samples"] / row["evaluations"] for row in found]
        lines.append([SAMPLERS[name].method, SAMPLERS[name].library, f"{statistics.median(spent):.2f}", *cells])
    floor = [row["report"]["frechet"]["floor"] for row in rows.values()][-1]
    lines.append(["*real pictures, held out*", "", "", *([f"*{floor:.2f}*"] * len(numbers))])
    return records.table(["sampler", "library", "ms per picture and evaluation", *map(str, numbers)], lines)


def plot(rows: Rows) -> bytes:
    """Distance against evaluations, as PNG."""
    names = ("blue", "orange", "green", "purple", "yellow", "sky")
    colors = dict(zip(dict.fromkeys(one.method for one in SAMPLERS.values()), names, strict=True))
    lines = []
    for name in dict.fromkeys(name for name, _ in rows):
        one, mine = SAMPLERS[name], SAMPLERS[name].library == "course_lib"
        found: dict[float, Row] = {n: row["report"]["frechet"] for (each, n), row in rows.items() if each == name}
        lines.append(Line(f"{one.method}, {one.library}", colors[one.method], mine, found, 2.2 if mine else 1.3))
    floor = [row["report"]["frechet"]["floor"] for row in rows.values()][-1]
    title = "One set of weights, many samplers: distance from real pictures"
    return figure_png(plot_distances(lines, floor, "evaluations of the network for each picture", title))


def report(path: Path) -> dict[str, str]:
    """The table, by the name of its block in benchmarks/README.md."""
    rows = newest(path)
    last = [*rows.values()][-1]
    text = (
        f"{distance_table(rows)}\n\nFréchet distance (95 % interval) after so many evaluations of the network, lower "
        f"is better; {last['samples']:,} samples in batches of {BATCH}; weights {last['weights']}; data: "
        f"Fashion-MNIST, {last['data']}. {records.made_on(rows.values(), ('torch', 'diffusers'))}"
    )
    return {path.stem.replace("_", " "): text}


def main(arguments: list[str] | None = None) -> int:
    """Sample, judge and write what has no row yet; or report."""
    parser = records.command_line(__doc__)
    parser.add_argument("--classes", action="store_true", help="the shipped network that knows classes, asked in turn")
    parser.add_argument("--samplers", nargs="+", default=[*SAMPLERS], choices=[*SAMPLERS])
    parser.add_argument("--evaluations", nargs="+", type=int, help="for all samplers, instead of the default of each")
    parser.add_argument("--samples", type=int, default=1000, help="samples of each row")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    path = options.results / f"{NAME}_{'classes_' * options.classes}{device.type}.jsonl"
    if options.report:
        records.publish(report(path), options.results)
        if not options.classes:  # two lines need no picture
            path.with_suffix(".png").write_bytes(plot(newest(path)))
        return 0
    made = load_shipped(device)
    model: nn.Module = InTurn(load_shipped(device, classes=True).model, 10).eval() if options.classes else made.model
    network = Network(model, made.schedule, made.target, load_shipped(device, weak=True).model)
    asked = [(name, n) for name in options.samplers for n in options.evaluations or SAMPLERS[name].evaluations]
    run(network, asked, options, path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
