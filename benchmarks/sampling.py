"""How many evaluations of the network does a good picture need? The course's sampler beside diffusers' schedulers.

    python benchmarks/sampling.py                     the default set: about twenty minutes on two quiet cores
    python benchmarks/sampling.py --evaluations 250 --samplers ddpm diffusers-ddpm
    python benchmarks/sampling.py --classes           the network that knows classes, asked for each in turn
    python benchmarks/sampling.py --report            tables and a picture from the rows so far

All drive the shipped weights from the same noise, at evenly spaced timesteps. Samplers with the same number of
evaluations take turns, batch by batch, so that their times compare. Stop the program at any time: rows are written at
once, and the next start goes on from there.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from course_lib.checkpoint import load_shipped
from course_lib.runtime import make_generator, pick_device
from course_lib.schedule import sampling_times
from course_lib.viz import figure_png
from distance_plot import Line, plot_distances
from judging import FEATURES_ID, GUIDANCE, judge, load_data
from records import (
    Row,
    append_row,
    circumstances,
    command_line,
    describe,
    has,
    intervals,
    made_on,
    publish,
    read_rows,
    table,
)
from samplers import SAMPLERS, InTurn, Network, Sampler

NAME = "sampling"
BATCH = 250


def weights_id(model: nn.Module) -> str:
    """Twelve digits of a hash of the weights."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def draw_in_turns(
    network: Network, samplers: Sequence[Sampler], evaluations: int, count: int, seed: int
) -> dict[str, tuple[Tensor, float]]:
    """Samples of several samplers from the same noise, batch by batch in turn.

    Returns:
        By name: samples (count, 1, 28, 28) on the CPU, and seconds in all.
    """
    device = next(network.model.parameters()).device
    noise = torch.randn(count, 1, 28, 28, generator=make_generator(seed))
    parts: dict[str, list[Tensor]] = {one.name: [] for one in samplers}
    seconds = dict.fromkeys(parts, 0.0)
    for one in samplers:  # imports and set-up at the first use do not count
        one.draw(network, noise[:2].to(device), min(evaluations, 4), seed)
    for number, x_T in enumerate(noise.split(BATCH)):
        for one in samplers:
            began = time.perf_counter()
            drawn = one.draw(network, x_T.to(device), evaluations, seed + number)
            parts[one.name].append(drawn.cpu())  # this waits for a GPU
            seconds[one.name] += time.perf_counter() - began
    return {name: (torch.cat(parts[name]), seconds[name]) for name in parts}


def overhead(network: Network, samplers: Sequence[Sampler], batch: int, evaluations: int, rounds: int) -> Row:
    """Time of sampling loops over that of as many bare forward passes, the median of several rounds.

    Args:
        network: whose forward passes.
        samplers: the loops; in a round they take turns, with bare passes in between.
        batch: pictures at a time.
        evaluations: of each loop.
        rounds: how often.

    Returns:
        Milliseconds of a bare pass, and for each loop the ratio of its time to that of as many passes.
    """
    device = next(network.model.parameters()).device
    x = torch.randn(batch, 1, 28, 28, generator=make_generator(0)).to(device)
    times = sampling_times(network.schedule.T, evaluations)[:-1]
    bare: list[float] = []
    ratios: dict[str, list[float]] = {one.name: [] for one in samplers}
    for number in range(rounds + 1):
        before = _bare(network.model, x, times)
        for one in samplers:
            began = time.perf_counter()
            one.draw(network, x, evaluations, 0).sum().item()
            took = (time.perf_counter() - began) / evaluations
            after = _bare(network.model, x, times)
            if number:  # the first round warms up
                bare.append(after)
                ratios[one.name].append(2 * took / (before + after))
            before = after
    return {
        "batch": batch,
        "bare_ms": round(1000 * statistics.median(bare), 3),
        "ratios": {name: round(statistics.median(each), 4) for name, each in ratios.items()},
    }


def _bare(model: nn.Module, x: Tensor, times: Sequence[int]) -> float:
    """Seconds of one forward pass, the mean over passes at these timesteps."""
    began = time.perf_counter()
    with torch.inference_mode():
        for t in times:
            answer = model(x, torch.full((len(x),), t, device=x.device), None)
    answer.sum().item()
    return (time.perf_counter() - began) / len(times)


def run(network: Network, asked: Sequence[tuple[Sampler, int]], count: int, seed: int, source: str, path: Path) -> None:
    """Make the rows that are not there yet.

    Args:
        network: whose weights.
        asked: samplers, with numbers of evaluations.
        count: samples of a row.
        seed: of the noise.
        source: data to judge with, "full" or "packaged".
        path: the file of rows.
    """
    device = next(network.model.parameters()).device
    train, heldout = load_data(source)
    same = {"weights": weights_id(network.model), "machine": describe(device)}

    def facts(one: Sampler, n: int) -> Row:
        guidance = {"weak": weights_id(network.weak), "guidance": GUIDANCE} if one.guided else {}
        about = {"data": source, "samples": count, "seed": seed, "features": FEATURES_ID, **guidance}
        return {**same, **about, "kind": "sampler", "sampler": one.name, "evaluations": n}

    def lacks(wanted: Row) -> bool:
        return not any(has(row, wanted) for row in read_rows(path))

    for n in sorted({n for _, n in asked}):
        due = [one for one, each in asked if each == n and lacks(facts(one, n))]
        for name, (drawn, seconds) in draw_in_turns(network, due, n, count, seed).items():
            report = judge(drawn, train, heldout)
            row = {**facts(SAMPLERS[name], n), "seconds": round(seconds, 2), "report": report.as_dict()}
            append_row(path, {**row, **circumstances(device)})
            d = report.frechet
            print(f"{name}, {n} evaluations: distance {d.value:.2f} ({d.low:.2f} to {d.high:.2f})", flush=True)
    for batch in (16, 64):
        about = {**same, "kind": "overhead", "batch": batch}
        if lacks(about):
            found = overhead(network, [*dict.fromkeys(one for one, _ in asked)], batch, 10, 30)
            append_row(path, {**about, **found, **circumstances(device)})
            print(f"batch {batch}: a bare pass takes {found['bare_ms']} ms; loops {found['ratios']}", flush=True)


# ------------------------------------------------------------------------------------------------ report


def newest(rows: Sequence[Row]) -> tuple[dict[tuple[str, int], Row], dict[int, Row]]:
    """The rows like the last one: by sampler and evaluations; and the loops' times with its weights, by batch.

    Rows judged by another feature network, or guided otherwise than today, are left out.
    """
    drawn = [row for row in rows if row.get("features") == FEATURES_ID and row.get("guidance", GUIDANCE) == GUIDANCE]
    if not drawn:
        return {}, {}
    last = {name: drawn[-1][name] for name in ("weights", "machine")}
    like = last | {name: drawn[-1][name] for name in ("data", "samples", "seed")}
    chosen = {(row["sampler"], row["evaluations"]): row for row in drawn if has(row, like)}
    order = [*SAMPLERS]
    loops = {row["batch"]: row for row in rows if row["kind"] == "overhead" and has(row, last)}
    return dict(sorted(chosen.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))), loops


def distance_table(rows: dict[tuple[str, int], Row]) -> str:
    """Distance by evaluations, and the time of a picture for each evaluation."""
    numbers = sorted({n for _, n in rows})
    names = [*dict.fromkeys(name for name, _ in rows)]
    columns = [[rows[name, n]["report"]["frechet"] if (name, n) in rows else None for name in names] for n in numbers]
    lines = []
    for name, cells in zip(names, zip(*intervals(columns), strict=True), strict=True):
        found = [rows[name, n] for n in numbers if (name, n) in rows]
        spent = [1000 * row["seconds"] / row["samples"] / row["evaluations"] for row in found]
        lines.append([SAMPLERS[name].method, SAMPLERS[name].library, f"{statistics.median(spent):.2f}", *cells])
    floor = [row["report"]["frechet"]["floor"] for row in rows.values()][-1]
    lines.append(["*real pictures, held out*", "", "", *([f"*{floor:.2f}*"] * len(numbers))])
    return table(["sampler", "library", "ms per picture and evaluation", *map(str, numbers)], lines)


def loop_table(loops: dict[int, Row]) -> str:
    """What each loop takes beyond its forward passes."""
    lines = []
    for name, one in SAMPLERS.items():
        cells = [f"{row['ratios'][name] - 1:+.1%}" if name in row["ratios"] else "" for row in loops.values()]
        if any(cells):
            lines.append([one.method, one.library, *cells])
    return table(["loop", "library", *(f"batch of {batch}" for batch in loops)], lines)


def plot(rows: dict[tuple[str, int], Row]) -> bytes:
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


def blocks(path: Path) -> dict[str, str]:
    """The two blocks of benchmarks/README.md, by name: distances, and times of the loops.

    Raises:
        ValueError: there are no rows yet.
    """
    rows, loops = newest(read_rows(path))
    if not rows:
        raise ValueError(f"{path} must hold rows judged with today's feature network; run the benchmark first")
    last = [*rows.values()][-1]
    short = (
        f"{distance_table(rows)}\n\nFréchet distance (95 % interval) after so many evaluations of the network, lower "
        f"is better; {last['samples']:,} samples, drawn in batches of {BATCH}; weights {last['weights']}; data: "
        f"Fashion-MNIST, {last['data']}. {made_on(rows.values(), ('torch', 'diffusers'))}"
    )
    bare = ", ".join(f"{row['bare_ms']:.1f} ms for a batch of {batch}" for batch, row in loops.items())
    full = f"Time of the loop beyond its forward passes (a bare pass takes {bare}):\n\n{loop_table(loops)}"
    name = path.stem.replace("_", " ")
    return {name: short, f"{name} in full": full}


def report(path: Path) -> dict[str, str]:
    """Draw the picture beside the rows; returns `blocks`."""
    made = blocks(path)
    if "classes" not in path.stem:  # two lines need no picture
        path.with_suffix(".png").write_bytes(plot(newest(read_rows(path))[0]))
    return made


def main(arguments: list[str] | None = None) -> int:
    """Draw, judge and write what has no row yet; or report."""
    parser = command_line(__doc__)
    parser.add_argument("--classes", action="store_true", help="the shipped network that knows classes, asked in turn")
    parser.add_argument("--samplers", nargs="+", default=[*SAMPLERS], choices=[*SAMPLERS])
    parser.add_argument("--evaluations", nargs="+", type=int, help="for all samplers, instead of the default of each")
    parser.add_argument("--samples", type=int, default=1000, help="samples of each row")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    path = options.results / f"{NAME}_{'classes_' * options.classes}{device.type}.jsonl"
    if options.report:
        publish(report(path), options.results)
        return 0
    made = load_shipped(device)
    model: nn.Module = InTurn(load_shipped(device, classes=True).model, 10).eval() if options.classes else made.model
    network = Network(model, made.schedule, made.target, load_shipped(device, weak=True).model)
    chosen = [SAMPLERS[name] for name in options.samplers]
    asked = [(one, n) for one in chosen for n in options.evaluations or one.evaluations]
    try:
        run(network, asked, options.samples, options.seed, options.data, path)
    except KeyboardInterrupt:
        print("stopped; the next start goes on from the rows so far", flush=True)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
