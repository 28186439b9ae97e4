"""How many evaluations of the network does a good picture need? The course's sampler beside diffusers' schedulers.

    python benchmarks/sampling.py                     the default set: about twenty minutes on two quiet cores
    python benchmarks/sampling.py --evaluations 250 --samplers ddpm diffusers-ddpm
    python benchmarks/sampling.py --classes           the network that knows classes, asked for each in turn
    python benchmarks/sampling.py --report            tables and a picture from the rows so far

All drive the same weights, from the same noise, at evenly spaced timesteps. Samplers with the same number of
evaluations take turns, batch by batch, so that their times can be compared. A finished row is written at once; stop
the program at any time, and the next start goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.checkpoint import load_checkpoint, load_shipped
from course_lib.guide import AutoGuidance
from course_lib.interop import PREDICTION_TYPES
from course_lib.runtime import make_generator, pick_device
from course_lib.sample import sample
from course_lib.schedule import Schedule, sampling_times, start_time
from course_lib.viz import COLORS, Figure, figure_png, new_figure, styled
from records import (
    FEATURES_ID,
    GUIDANCE,
    HERE,
    RESULTS,
    Row,
    append_row,
    circumstances,
    describe,
    fill_block,
    has,
    intervals,
    judge,
    load_data,
    read_rows,
    table,
)

NAME = "sampling"
BATCH = 250


@dataclass(frozen=True, eq=False)
class Network:
    """What samplers draw from.

    Args:
        model: in eval mode, called as model(x_t, t, y).
        schedule, target: those that it was trained with.
        weak: one of the same kind that was trained less, to guide it; None leaves the guided sampler out.
    """

    model: nn.Module
    schedule: Schedule
    target: str
    weak: nn.Module | None = None


class InTurn(nn.Module):
    """A network that knows classes, asked for each of them in turn: it stands where one without classes does."""

    def __init__(self, model: nn.Module, classes: int) -> None:
        super().__init__()
        self.model, self.classes = model, classes

    def forward(self, x_t: Tensor, t: Tensor, y: None = None) -> Tensor:
        """The answer for picture i of the batch and class i modulo their number."""
        return self.model(x_t, t, torch.arange(len(x_t), device=x_t.device) % self.classes)


#: From a network, noise, a number of evaluations and a seed to samples.
Draw = Callable[[Network, Tensor, int, int], Tensor]


@dataclass(frozen=True)
class Sampler:
    """One way from noise to pictures.

    Args:
        name: for the command line.
        method: for tables, the same for the same mathematics.
        library: "course_lib" or "diffusers".
        draw: runs it.
        evaluations: the numbers of evaluations that it is tried with by default.
        guided: needs a weak network, of whose evaluations each counts as well.
    """

    name: str
    method: str
    library: str
    draw: Draw
    evaluations: tuple[int, ...]
    guided: bool = False


def ours(eta: float, order: int, guided: bool = False) -> Draw:
    """The course's loop with two of its numbers.

    With the first order, predictions of the picture are kept in [-1, 1] and sampling begins at T; with the second
    they are not, since clipping spoils its look back, and it begins at `start_time`. Guided, each step is one
    evaluation of either network, so that there are half as many steps.
    """

    def draw(network: Network, x_T: Tensor, evaluations: int, seed: int) -> Tensor:
        schedule, target = network.schedule, network.target
        start = schedule.T if order == 1 else start_time(schedule, target)
        model, steps = network.model, evaluations
        if guided:
            assert network.weak is not None
            model, steps = AutoGuidance(model, network.weak, schedule).eval(), evaluations // 2
        return sample(
            model,
            schedule,
            x_T,
            times=sampling_times(schedule.T, steps, start=start),
            eta=eta,
            order=order,
            target=target,
            clip=order == 1,
            generator=make_generator(seed, x_T.device),
        )

    return draw


def theirs(scheduler: str, order: int, **settings: Any) -> Draw:
    """A scheduler of diffusers, its timesteps t driven through our model as t + 1.

    Args:
        scheduler: name of its class.
        order: begins where ours of this order begins.
        settings: other arguments than its defaults.
    """

    def draw(network: Network, x_T: Tensor, evaluations: int, seed: int) -> Tensor:
        driver = build_scheduler(scheduler, network, order, **settings)
        driver.set_timesteps(evaluations, device=x_T.device)
        options: dict[str, Any] = {}
        if "generator" in inspect.signature(driver.step).parameters:
            options["generator"] = make_generator(seed, x_T.device)
        x = x_T * driver.init_noise_sigma
        with torch.inference_mode():  # as ours does: a little faster than no_grad
            for t in driver.timesteps:
                seen = driver.scale_model_input(x, t)
                ours_t = (t + 1).to(x.device, torch.int64).expand(len(x))
                x = driver.step(network.model(seen, ours_t, None), t, x, **options).prev_sample
        return x

    return draw


@cache
def build_scheduler(name: str, network: Network, order: int, **settings: Any) -> Any:
    """A scheduler of diffusers with our schedule, up to where sampling begins; built once, as in its pipelines.

    Raises:
        ValueError: it knows nothing like the network's target.
    """
    import diffusers

    if network.target not in PREDICTION_TYPES:
        raise ValueError(f"diffusers has no prediction_type for the target {network.target!r}")
    schedule, target = network.schedule, network.target
    T = schedule.T if order == 1 else start_time(schedule, target)
    return getattr(diffusers, name)(
        num_train_timesteps=T,
        trained_betas=schedule.beta[1 : T + 1].tolist(),
        prediction_type=PREDICTION_TYPES[target],
        timestep_spacing="trailing",
        **settings,
    )


_MANY, _FEW = (10, 25, 50, 100), (5, 10, 25, 50)
_GUIDED = "DPM-Solver++(2M), stochastic, autoguided"
SAMPLERS = {
    one.name: one
    for one in (
        Sampler("ddpm", "DDPM", "course_lib", ours(1.0, 1), _MANY),
        Sampler("ddim", "DDIM", "course_lib", ours(0.0, 1), _FEW),
        Sampler("2m", "DPM-Solver++(2M)", "course_lib", ours(0.0, 2), _FEW),
        Sampler("2m-sde", "DPM-Solver++(2M), stochastic", "course_lib", ours(1.0, 2), _FEW),
        Sampler("2m-sde-guided", _GUIDED, "course_lib", ours(1.0, 2, guided=True), _MANY, guided=True),
        Sampler("diffusers-ddpm", "DDPM", "diffusers", theirs("DDPMScheduler", 1), _MANY),
        Sampler("diffusers-ddim", "DDIM", "diffusers", theirs("DDIMScheduler", 1), _FEW),
        Sampler("diffusers-2m", "DPM-Solver++(2M)", "diffusers", theirs("DPMSolverMultistepScheduler", 2), _FEW),
        Sampler(
            "diffusers-2m-sde",
            "DPM-Solver++(2M), stochastic",
            "diffusers",
            theirs("DPMSolverMultistepScheduler", 2, algorithm_type="sde-dpmsolver++"),
            _FEW,
        ),
        Sampler("diffusers-unipc", "UniPC", "diffusers", theirs("UniPCMultistepScheduler", 2), _FEW),
    )
}


def weights_id(model: nn.Module) -> str:
    """Twelve digits of a hash of the weights: rows of other weights are no rows of these."""
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
    for one in samplers:  # what is imported and set up at the first use is not counted
        one.draw(network, noise[:2].to(device), min(evaluations, 4), seed)
    for number, x_T in enumerate(noise.split(BATCH)):
        for one in samplers:
            began = time.perf_counter()
            drawn = one.draw(network, x_T.to(device), evaluations, seed + number)
            parts[one.name].append(drawn.cpu())  # this waits for a GPU
            seconds[one.name] += time.perf_counter() - began
    return {name: (torch.cat(parts[name]), seconds[name]) for name in parts}


def overhead(network: Network, samplers: Sequence[Sampler], batch: int, evaluations: int, rounds: int) -> Row:
    """Time of sampling loops over that of as many bare forward passes before and after, the median of several rounds.

    Args:
        network: whose forward passes.
        samplers: the loops.
        batch: pictures at a time.
        evaluations: of each loop.
        rounds: how often; within a round they take turns, with bare passes in between.

    Returns:
        Milliseconds of a bare pass, and for each loop the ratio of its time to that of as many passes.
    """
    model = network.model
    device = next(model.parameters()).device
    x = torch.randn(batch, 1, 28, 28, generator=make_generator(0)).to(device)
    times = sampling_times(network.schedule.T, evaluations)[:-1]
    bare: list[float] = []
    ratios: dict[str, list[float]] = {one.name: [] for one in samplers}
    for number in range(rounds + 1):
        before = _bare(model, x, times)
        for one in samplers:
            began = time.perf_counter()
            one.draw(network, x, evaluations, 0).sum().item()
            took = (time.perf_counter() - began) / evaluations
            after = _bare(model, x, times)
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
    answer = x
    began = time.perf_counter()
    with torch.inference_mode():
        for t in times:
            answer = model(x, torch.full((len(x),), t, device=x.device), None)
    answer.sum().item()
    return (time.perf_counter() - began) / len(times)


def run(
    network: Network,
    chosen: Sequence[Sampler],
    evaluations: Sequence[int] | None,
    count: int,
    seed: int,
    source: str,
    path: Path,
) -> None:
    """Make the rows that are not there yet.

    Args:
        network: whose weights.
        chosen: the samplers.
        evaluations: for all of them, or None for the default of each.
        count: samples of a row.
        seed: of the noise.
        source: data to judge with, "full" or "packaged".
        path: the file of rows.
    """
    device = next(network.model.parameters()).device
    train, heldout = load_data(source)
    same = {"weights": weights_id(network.model), "machine": describe(device)}

    def facts(one: Sampler, n: int) -> Row:
        about = {**same, "data": source, "samples": count, "seed": seed, "features": FEATURES_ID}
        if one.guided and network.weak is not None:
            about |= {"weak": weights_id(network.weak), "guidance": GUIDANCE}
        return {**about, "kind": "sampler", "sampler": one.name, "evaluations": n}

    for n in sorted({n for one in chosen for n in evaluations or one.evaluations}):
        there = read_rows(path)
        due = [
            one
            for one in chosen
            if n in (evaluations or one.evaluations) and not any(has(row, facts(one, n)) for row in there)
        ]
        for name, (drawn, seconds) in draw_in_turns(network, due, n, count, seed).items():
            report = judge(drawn, train, heldout)
            row = {**facts(SAMPLERS[name], n), "seconds": round(seconds, 2)}
            append_row(path, {**row, "report": report.as_dict(), **circumstances(device)})
            d = report.frechet
            print(f"{name}, {n} evaluations: distance {d.value:.2f} ({d.low:.2f} to {d.high:.2f})", flush=True)
    for batch in (16, 64):
        about = {**same, "kind": "overhead", "batch": batch}
        if not any(has(row, about) for row in read_rows(path)):
            found = overhead(network, chosen, batch, 10, 30)
            append_row(path, {**about, **found, **circumstances(device)})
            print(f"batch {batch}: a bare pass takes {found['bare_ms']} ms; loops {found['ratios']}", flush=True)


# ------------------------------------------------------------------------------------------------ report


def newest(rows: Sequence[Row]) -> tuple[dict[tuple[str, int], Row], dict[int, Row]]:
    """The rows like the last one: by sampler and evaluations, and the overheads of its weights by batch."""
    samplers = [
        row
        for row in rows
        if row["kind"] == "sampler" and row["features"] == FEATURES_ID and row.get("guidance", GUIDANCE) == GUIDANCE
    ]
    if not samplers:
        return {}, {}
    last = {name: samplers[-1][name] for name in ("weights", "machine")}
    like = last | {name: samplers[-1][name] for name in ("data", "samples", "seed")}
    chosen = {(row["sampler"], row["evaluations"]): row for row in samplers if has(row, like)}
    order = [*SAMPLERS]
    over = {row["batch"]: row for row in rows if row["kind"] == "overhead" and has(row, last)}
    return dict(sorted(chosen.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))), over


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


def overhead_table(over: dict[int, Row]) -> str:
    """Time of the loops over bare forward passes."""
    names = [name for name in SAMPLERS if any(name in row["ratios"] for row in over.values())]
    lines = []
    for name in names:
        cells = [f"{row['ratios'][name] - 1:+.1%}" if name in row["ratios"] else "" for row in over.values()]
        lines.append([SAMPLERS[name].method, SAMPLERS[name].library, *cells])
    return table(["loop", "library", *(f"batch of {batch}" for batch in over)], lines)


@styled
def plot(rows: dict[tuple[str, int], Row]) -> Figure:
    """Distance against evaluations, both logarithmic."""
    figure, (axes,) = new_figure(8, 5.2)
    methods = [*dict.fromkeys(one.method for one in SAMPLERS.values())]
    names = ("blue", "orange", "green", "purple", "yellow", "sky")
    colors = {method: COLORS[color] for method, color in zip(methods, names, strict=True)}
    for name in dict.fromkeys(name for name, _ in rows):
        one = SAMPLERS[name]
        found = [row for (each, _), row in rows.items() if each == name]
        distances = [row["report"]["frechet"] for row in found]
        mine = one.library == "course_lib"
        axes.errorbar(
            [row["evaluations"] for row in found],
            [d["value"] for d in distances],
            yerr=[[d["value"] - d["low"] for d in distances], [d["high"] - d["value"] for d in distances]],
            color=colors[one.method],
            linestyle="-" if mine else "--",
            marker="o" if mine else "s",
            markerfacecolor=colors[one.method] if mine else "white",
            capsize=3,
            linewidth=2.2 if mine else 1.3,
            label=f"{one.method}, {one.library}",
        )
    floor = [row["report"]["frechet"]["floor"] for row in rows.values()][-1]
    axes.axhline(floor, color=COLORS["gray"], linestyle=":", label=f"as many real pictures ({floor:.2f})")
    axes.set_xscale("log")
    axes.set_yscale("log")
    numbers = sorted({n for _, n in rows})
    axes.set_xticks(numbers, [str(n) for n in numbers])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    ticks = [each for each in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= each <= high]
    axes.set_yticks(ticks, [f"{each:g}" for each in ticks])
    axes.set_xlabel("evaluations of the network for each picture")
    axes.set_ylabel("Fréchet distance, our features")
    axes.set_title("One set of weights, many samplers: distance from real pictures")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


def report(path: Path, readmes: Sequence[Path]) -> str:
    """Write table and plot of the rows so far, and fill the blocks of the READMEs: `sampling DEVICE`, the distances
    alone, and `sampling DEVICE in full`.

    Raises:
        ValueError: there are no rows yet.
    """
    rows, over = newest(read_rows(path))
    if not rows:
        raise ValueError(f"{path} holds no rows that were judged with the present feature network")
    if "classes" not in path.stem:  # two lines need no picture
        path.with_suffix(".png").write_bytes(figure_png(plot(rows)))
    last = [*rows.values()][-1]
    versions = ", ".join(f"{name} {last['versions'][name]}" for name in ("torch", "diffusers"))
    dates = sorted(row["date"][:10] for row in rows.values())
    how = (
        f"Fréchet distance (95 % interval) after so many evaluations of the network, lower is better; "
        f"{last['samples']:,} samples, drawn in batches of {BATCH}; weights {last['weights']}; data: Fashion-MNIST, "
        f"{last['data']}. {last['machine']}, {last['threads']} threads; {versions}; {dates[0]}"
        + (f" to {dates[-1]}." if dates[0] != dates[-1] else ".")
    )
    text, short = "", f"{distance_table(rows)}\n\n{how}"
    if over:
        bare = ", ".join(f"{row['bare_ms']:.1f} ms for a batch of {batch}" for batch, row in over.items())
        text = f"Time of the loop beyond its forward passes (a bare pass takes {bare}):\n\n{overhead_table(over)}"
    for readme in readmes:
        block = path.stem.replace("_", " ")
        fill_block(readme, block, short)
        fill_block(readme, f"{block} in full", text)
    return f"{short}\n\n{text}"


def main(arguments: list[str] | None = None) -> int:
    """Draw, judge and write what has no row yet; or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint of the course; the shipped one by default")
    parser.add_argument("--classes", action="store_true", help="the shipped network that knows classes, asked in turn")
    parser.add_argument("--weak", type=Path, help="one to guide it by; the shipped one for the shipped one")
    parser.add_argument("--samplers", nargs="+", default=[*SAMPLERS], choices=[*SAMPLERS])
    parser.add_argument("--evaluations", nargs="+", type=int, help="for all samplers, instead of the default of each")
    parser.add_argument("--samples", type=int, default=1000, help="samples of each row")
    parser.add_argument("--data", default="full", choices=("full", "packaged"), help="what samples are judged against")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cuda, mps or cpu; the best there is by default")
    parser.add_argument("--threads", type=int, help="of the CPU, for all alike")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of rows, tables and pictures")
    parser.add_argument("--report", action="store_true", help="draw nothing; write table and picture from the rows")
    options = parser.parse_args(arguments)

    device = pick_device(options.device)
    path = options.results / f"{NAME}_{'classes_' * options.classes}{device.type}.jsonl"
    if options.classes and options.checkpoint:
        parser.error("--classes is about the shipped weights: leave out --checkpoint")
    if options.report:
        readmes = (HERE / "README.md",) if options.results == RESULTS else ()
        print(report(path, readmes))
        return 0
    if options.threads:
        torch.set_num_threads(options.threads)
    made = load_checkpoint(options.checkpoint, device) if options.checkpoint else load_shipped(device)
    weak = load_checkpoint(options.weak, device) if options.weak else None
    if not options.checkpoint and weak is None:
        weak = load_shipped(device, weak=True)
    model: nn.Module = made.model
    if options.classes:
        model = InTurn(load_shipped(device, classes=True).model, 10).eval()
    network = Network(model, made.schedule, made.target, weak.model if weak else None)
    chosen = [SAMPLERS[name] for name in options.samplers if weak or not SAMPLERS[name].guided]
    if not chosen:
        parser.error("the guided sampler needs --weak")
    try:
        run(network, chosen, options.evaluations, options.samples, options.seed, options.data, path)
    except KeyboardInterrupt:
        print("stopped; the next start goes on from the rows so far", flush=True)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
