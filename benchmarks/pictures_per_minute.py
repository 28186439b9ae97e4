"""How good are the pictures after so many minutes of training? This course beside other libraries.

    python benchmarks/pictures_per_minute.py                                 all of it: five to eight hours on two cores
    python benchmarks/pictures_per_minute.py --minutes 3 --models unet diffusers --recipes own
    python benchmarks/pictures_per_minute.py --minutes 0.25 0.75 --models unet    to compare by pictures from the first
    python benchmarks/pictures_per_minute.py --report                        tables and pictures from the rows so far

All trainings take turns, some seconds each, in one process and with the same threads, and only the time of its own
turns counts for each. A recipe with one learning rate is one training that is judged on the way; one that is fitted to
a budget is a training for each budget. A finished row is written at once; stop the program at any time, and the next
start goes on from there. The weights stay in build/bench, so that `--samples 2000` trains nothing anew. Rows of
different machines are not compared.

Start it without OMP_WAIT_POLICY=PASSIVE, which slows the other libraries' trainings by up to a third and not ours.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from contestants import CONTESTANTS, Contestant, Training, start_training
from course_lib.data import Pictures, to_float, to_uint8
from course_lib.runs import WEAK_AT
from course_lib.runtime import pick_device
from course_lib.shapes import count_parameters
from course_lib.viz import COLORS, DPI, Figure, Png, figure_png, grid, new_figure, styled, to_png
from records import (
    BUILD,
    FEATURES_ID,
    GUIDANCE,
    HERE,
    RESULTS,
    Row,
    append_row,
    circumstances,
    describe,
    draw_samples,
    fill_block,
    has,
    interval,
    intervals,
    judge,
    load_data,
    read_rows,
    table,
)

NAME = "pictures_per_minute"
RECIPES = ("own", "ours")
#: Rows compare where these are the same, besides the machine and the feature network.
JUDGED_ALIKE = ("samples", "evaluations", "data", "seed")
#: The samplers whose pictures are judged; the last is guided by the weights of an eighth of the time.
WAYS = {
    "unclipped": "SDE-DPM-Solver++(2M)",
    "clipped": "DDPM, clipped",
    "guided": "SDE-DPM-Solver++(2M), autoguided",
}
#: Samples of each row that the repository keeps to look at.
SHOWN = 16
#: Seconds of its own time after which a training is saved.
SAVE_EVERY = 150.0


@dataclass
class Run:
    """A training with the moments at which its pictures are judged.

    Args:
        contestant: whose model.
        recipe: one of `RECIPES`.
        minutes: the moments that are still to come, rising.
        training: the training itself.
        state: where it is saved; the name holds all that a training must have in common to go on from there.
        weak: those of the minutes of which an eighth is still to come.
        saved: its time when it was last saved.
    """

    contestant: Contestant
    recipe: str
    minutes: list[float]
    training: Training
    state: Path
    weak: list[float] = field(default_factory=list)
    saved: float = field(default=0.0)

    @property
    def due(self) -> float:
        """The minutes after which its weights are kept next: at a moment, or an eighth of the way to one."""
        return min([self.minutes[0], *(WEAK_AT * each for each in self.weak[:1])])

    def save(self) -> None:
        """Write the state of the training."""
        self.training.save(self.state)
        self.saved = self.training.seconds


def plan(models: Sequence[str], recipes: Sequence[str], minutes: Sequence[float]) -> list[tuple[str, str, list[float]]]:
    """The trainings to run: model, recipe, and the minutes at which it is judged.

    The recipe of the course is fitted to its budget, so each budget is a training; it is the course's own as well.
    """
    runs: list[tuple[str, str, list[float]]] = []
    for name in models:
        if "ours" in recipes or CONTESTANTS[name].own is None:
            runs += [(name, "ours", [each]) for each in sorted(minutes)]
        if "own" in recipes and CONTESTANTS[name].own is not None:
            runs.append((name, "own", sorted(minutes)))
    return runs


def slug(model: str, recipe: str, minutes: float) -> str:
    """A name for files: "diffusers_own_30"."""
    return f"{model}_{recipe}_{minutes:g}"


def strip_path(strips: Path, row: Row, way: str) -> Path:
    """The file of the first few samples of a row, those guided apart from the best of the others."""
    name = slug(row["model"], row["recipe"], row["minutes"]) + ("_guided" if way == "guided" else "")
    return strips / re.sub("[^a-z0-9]+", "-", row["machine"].lower()) / f"{name}.png"


class Stop:
    """Ctrl-C, or SIGTERM: a turn is finished first, since half an update cannot be saved; all else ends at once."""

    def __init__(self) -> None:
        self.wanted, self.in_turn = False, False

    def __call__(self, *_: object) -> None:
        if self.wanted or not self.in_turn:
            raise KeyboardInterrupt
        self.wanted = True

    def turn(self, run: Run, seconds: float) -> None:
        """Let a training run, undisturbed.

        Raises:
            KeyboardInterrupt: afterwards, where somebody asked for it.
        """
        self.in_turn = True
        run.training.run(seconds)
        self.in_turn = False
        if self.wanted:
            raise KeyboardInterrupt


def take_turns(
    runs: Sequence[Run],
    seconds: float,
    stop: Stop,
    weak: Callable[[Run, float], None],
    judged: Callable[[Run, float], None],
    log: Callable[[], None],
) -> None:
    """Let all trainings run in turn until each has reached the last of its moments.

    Args:
        runs: the trainings; one whose moments are over takes no turn.
        seconds: length of a turn.
        stop: ends it between turns.
        weak: called with a training and the minutes of which it has just reached an eighth; its time does not count.
        judged: called with a training and the minutes that it has just reached; its time does not count.
        log: called after each turn.
    """
    while active := [run for run in runs if run.minutes]:
        for run in active:
            left = 60 * run.due - run.training.seconds
            if left > 0:
                stop.turn(run, min(seconds, left))
            while run.weak and run.training.seconds >= 60 * WEAK_AT * run.weak[0]:
                weak(run, run.weak.pop(0))
            if run.training.seconds >= 60 * run.minutes[0]:
                run.save()  # so that nothing is lost where judging is cut short
                judged(run, run.minutes.pop(0))
            elif run.training.seconds - run.saved > SAVE_EVERY:
                run.save()
            log()


class Bench:
    """One benchmark on one device: its rows, its files, and what is still to be done.

    Args:
        device: where to train.
        source: which data, "full" or "packaged".
        count: samples of each row.
        evaluations: of the network, for each sample; where it is guided, as many of the one that guides.
        seed: of everything.
        results, build: folders of what is kept and of what is not.
    """

    def __init__(
        self,
        device: torch.device,
        source: str,
        count: int,
        evaluations: int,
        seed: int,
        results: Path = RESULTS,
        build: Path = BUILD,
    ) -> None:
        self.device, self.source, self.count, self.evaluations, self.seed = device, source, count, evaluations, seed
        self.judging: Row = {"samples": count, "evaluations": evaluations, "guidance": GUIDANCE}
        self.rows_path = results / f"{NAME}_{device.type}.jsonl"
        self.strips = results / f"{NAME}_{device.type}"
        self.build = build / f"{NAME}_{device.type}"
        self.train, self.heldout = load_data(source)

    def facts(self, run: Run, minutes: float) -> Row:
        """What identifies a training at one of its moments."""
        return {
            "model": run.contestant.name,
            "recipe": run.recipe,
            "minutes": minutes,
            "details": json.loads(json.dumps(run.training.details)),
            "parameters": count_parameters(run.training.model),
            "data": self.source,
            "seed": self.seed,
            "machine": describe(self.device),
            "threads": torch.get_num_threads(),
        }

    def state_path(self, run: Run) -> Path:
        """Where a training is saved: other data, another machine or other versions go on from files of their own."""
        about = {**self.facts(run, run.minutes[-1]), "versions": circumstances(self.device)["versions"]}
        if run.recipe == "own":  # one training for all moments
            del about["minutes"]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
        return self.build / f"{run.contestant.name}_{run.recipe}_{digest}.safetensors"

    def start(self, model: str, recipe: str, minutes: list[float]) -> Run:
        """A training as far as it has come, with the moments that have no row yet."""

        def make() -> Training:
            return start_training(CONTESTANTS[model], recipe, minutes[-1], self.train, self.seed, self.device)

        run = Run(CONTESTANTS[model], recipe, list(minutes), make(), Path())
        run.state = self.state_path(run)
        run.minutes = [each for each in minutes if not self.settled(run, each)]
        if run.minutes and run.training.load(run.state):
            run.saved = run.training.seconds
        for each in run.minutes:  # what was kept by a training that came further before it was lost is not of this one
            weak = self.kept(run, each, weak=True)
            if run.saved < 60 * WEAK_AT * each or weak is None or weak.get("training") != run.training.id:
                run.weak.append(each)
        if run.minutes and run.saved > 1.1 * 60 * run.due:  # it is past a moment of which nothing was kept
            run.training, run.weak, run.saved = make(), list(run.minutes), 0.0
        return run

    def settled(self, run: Run, minutes: float) -> bool:
        """True where there is such a row by all samplers, or weights from which one is made now."""
        wanted = {**self.facts(run, minutes), **self.judging, "features": FEATURES_ID}
        if any(has(row, wanted) and row["reports"].keys() >= WAYS.keys() for row in read_rows(self.rows_path)):
            return True
        strong, weak = (self.kept(run, minutes, weak=each) for each in (False, True))
        if strong is None or weak is None or strong.get("training") != weak.get("training"):
            return False
        self.judge_kept(run, minutes)
        return True

    def weights_path(self, run: Run, minutes: float, weak: bool) -> Path:
        name = slug(run.contestant.name, run.recipe, minutes) + ("_weak" if weak else "")
        return self.build / "weights" / f"{name}.safetensors"

    def keep(self, run: Run, minutes: float, *, weak: bool = False) -> None:
        """Write the weights to sample from now, with what identifies them and how they came about.

        Args:
            run: the training.
            minutes: the moment, at which it is or, where `weak`, of which an eighth is over.
            weak: as the weights that guide those of that moment.
        """
        training, path = run.training, self.weights_path(run, minutes, weak)
        about = {
            **self.facts(run, minutes),
            **training.found,
            "training": training.id,
            "updates": training.step,
            "pictures": training.step * training.batch_size,
            "seconds": round(training.seconds, 2),
            "pictures_per_second": round(training.step * training.batch_size / training.seconds, 1),
            **circumstances(self.device),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        weights = {name: each.contiguous() for name, each in training.to_sample_from().state_dict().items()}
        safetensors.torch.save_file(weights, path.with_suffix(".part"), metadata={"about": json.dumps(about)})
        path.with_suffix(".part").replace(path)

    def kept(self, run: Run, minutes: float, *, weak: bool) -> Row | None:
        """What `keep` wrote beside the weights; None where there are none of such a training."""
        path = self.weights_path(run, minutes, weak)
        if not path.is_file():
            return None
        with safetensors.safe_open(path, "pt") as file:
            about: Row = json.loads(file.metadata()["about"])
        return about if has(about, self.facts(run, minutes)) else None

    def judged(self, run: Run, minutes: float) -> None:
        """Keep the weights, draw samples, judge them, write the row; tidy up after the last one."""
        self.keep(run, minutes)
        self.judge_kept(run, minutes)
        if not run.minutes:
            run.state.unlink(missing_ok=True)

    def judge_kept(self, run: Run, minutes: float) -> None:
        """Draw samples from kept weights by every sampler, judge them and write their row."""
        about, early = (self.kept(run, minutes, weak=each) for each in (False, True))
        assert about and early
        networks = [copy.deepcopy(run.training.to_sample_from()).eval() for _ in range(2)]
        for network, weak in zip(networks, (False, True), strict=True):
            network.load_state_dict(safetensors.torch.load_file(self.weights_path(run, minutes, weak)))
        model, guide = networks
        began = time.perf_counter()
        drawn = {
            way: to_uint8(
                draw_samples(
                    model,
                    run.training.schedule,
                    run.training.target,
                    self.count,
                    evaluations=self.evaluations,
                    clipped=way == "clipped",
                    weak=guide if way == "guided" else None,
                    seed=self.seed,
                )
            )
            for way in WAYS
        }
        row = {**about, **self.judging, "weak_updates": early["updates"], "drawn": circumstances(self.device)}
        self.add_row({**row, "sampling_seconds": round(time.perf_counter() - began, 1)}, drawn)

    def add_row(self, row: Row, drawn: dict[str, Tensor]) -> None:
        """Judge samples of every sampler, (N, 1, 28, 28) bytes; write their row, and the first few to look at."""
        reports = {way: judge(Pictures(images), self.train, self.heldout).as_dict() for way, images in drawn.items()}
        row = {**row, "features": FEATURES_ID, "reports": reports}
        unguided = {**row, "reports": {way: each for way, each in reports.items() if way != "guided"}}
        for way in (best_way(unguided), "guided"):
            strip = to_png(to_float(drawn[way][:SHOWN]), columns=SHOWN, scale=1, pad=0)
            path = strip_path(self.strips, row, way)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(strip)
        append_row(self.rows_path, row)
        distances = "; ".join(f"{WAYS[way]} {interval(each['frechet'])}" for way, each in reports.items())
        print(
            f"{row['model']}, recipe {row['recipe']}, {row['minutes']:g} minutes, {row['pictures']:,} pictures: "
            + distances,
            flush=True,
        )


class Log:
    """Says at most once a minute how far each training is."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs, self.said = runs, time.perf_counter()

    def __call__(self) -> None:
        if time.perf_counter() - self.said < 60:
            return
        self.said = time.perf_counter()
        parts = (
            f"{run.contestant.name}/{run.recipe} {run.training.seconds / 60:.1f} of {run.minutes[-1]:g} min"
            for run in self.runs
            if run.minutes
        )
        print(time.strftime("%H:%M"), "; ".join(parts), flush=True)


# ------------------------------------------------------------------------------------------------ report


def read_judged(path: Path) -> list[Row]:
    """The rows of a file, without samples that were guided in another way than `AutoGuidance` guides by default."""
    rows = read_rows(path)
    for row in rows:
        if row.get("guidance", GUIDANCE) != GUIDANCE:
            row["reports"].pop("guided", None)
    return rows


def by_machine(rows: Sequence[Row]) -> list[dict[tuple[str, str, float], Row]]:
    """The last row of each model, recipe and budget, judged with the present feature network, in a fixed order.

    One dictionary for each machine, since a minute is not worth the same on another: first that with the most rows of
    models with recipes of their own, among equals that with the last row. Of rows with different numbers of samples,
    steps, threads, seeds or data, those with the most common ones; see also `with_more_samples`. Where the recipe of
    another model was corrected, the last one. Guided samples count where all rows of the machine have them; where not,
    they stand apart under "guided"; see `guided_table`.
    """
    order = [*CONTESTANTS]
    judged = [row for row in rows if row["features"] == FEATURES_ID]
    found = []
    for machine in dict.fromkeys(row["machine"] for row in reversed(judged)):
        here = [row for row in judged if row["machine"] == machine]
        kinds = [tuple(row.get(key) for key in (*JUDGED_ALIKE, "threads")) for row in here]
        (common, _), *_ = Counter(kinds).most_common()
        here = [row for row, kind in zip(here, kinds, strict=True) if kind == common]
        last = {row["model"]: row["details"] for row in here if row["recipe"] == "own"}
        here = [row for row in here if row["recipe"] == "ours" or row["details"] == last[row["model"]]]
        chosen = {(row["model"], row["recipe"], row["minutes"]): row for row in here}
        if not all("guided" in row["reports"] for row in chosen.values()):
            chosen = {key: guided_apart(row) for key, row in chosen.items()}
        keys = sorted(chosen, key=lambda key: (order.index(key[0]), RECIPES.index(key[1]), key[2]))
        found.append({key: chosen[key] for key in keys})
    return sorted(found, key=lambda here: -sum(is_own(model, recipe) for model, recipe, _ in here))


def is_own(model: str, recipe: str) -> bool:
    """True where the recipe was published for the model; ours was for ours."""
    return recipe == "own" or CONTESTANTS[model].own is None


def guided_apart(row: Row) -> Row:
    """A row whose guided samples do not count among the others."""
    reports = dict(row["reports"])
    return {**row, "guided": reports.pop("guided", None), "reports": reports}


def newest(rows: Sequence[Row]) -> dict[tuple[str, str, float], Row]:
    """The rows of the first machine of `by_machine`."""
    return next(iter(by_machine(rows)), {})


def best_way(row: Row) -> str:
    """The one of the `WAYS` whose pictures are nearer to real ones."""
    return min(row["reports"], key=lambda way: row["reports"][way]["frechet"]["value"])


def nearest(row: Row) -> Row:
    """The Fréchet distance of the best of the samplers."""
    distance: Row = row["reports"][best_way(row)]["frechet"]
    return distance


def samplers(rows: dict[tuple[str, str, float], Row]) -> str:
    """By which samplers rows were judged, in words: "the best of 3 samplers (4 of 9 rows by 2)"."""

    def said(count: int) -> str:
        return f"{count}" if count > 1 else f"{WAYS['unclipped']} alone"

    counts = Counter(len(row["reports"]) for row in rows.values())
    most = max(counts)
    fewer = ", ".join(f"{counts[each]} of {len(rows)} rows by {said(each)}" for each in sorted(counts) if each < most)
    best = f"the best of {most} samplers" if most > 1 else WAYS["unclipped"]
    dear = ", of which the guided one takes two evaluations a step" if most == len(WAYS) else ""
    return best + (f" ({fewer})" if fewer else "") + dear


def recipe_label(row: Row) -> str:
    """The recipe of a row in words, as "Adam 1e-3, batch 128, cosine, no EMA"."""
    if row["recipe"] == "ours":
        return "this course's"
    how = row["details"]
    rate = f"{how['lr']:.0e}".replace("e-0", "e-")
    schedule = {"squaredcos_cap_v2": "cosine"}.get(how["schedule"], how["schedule"])
    target = "" if how["target"] == "eps" else f", {how['target']}"
    average = f"EMA {how['ema']}" if how["ema"] else "no EMA"
    return f"{how['optimizer']} {rate}, batch {how['batch size']}, {schedule}{target}, {average}"


def recipe_of(recipe: str) -> str:
    """The recipe in two words, for pictures."""
    return "our recipe" if recipe == "ours" else "its own recipe"


def short_table(rows: dict[tuple[str, str, float], Row]) -> str:
    """Distance of each model and recipe by minutes."""
    budgets = sorted({minutes for _, _, minutes in rows})
    recipes = by_recipe(rows)
    columns = [[nearest(found[each]) if each in found else None for found in recipes.values()] for each in budgets]
    lines = []
    for ((model, _), found), cells in zip(recipes.items(), zip(*intervals(columns), strict=True), strict=True):
        speed = found[max(found)]["pictures_per_second"]
        label = recipe_label(found[max(found)])
        lines.append([CONTESTANTS[model].label, label, f"{speed:.0f}", *cells])
    lines.append(["*real pictures, held out*", "", "", *floors(rows, budgets)])
    return table(["model", "recipe", "pictures/s", *(f"after {each:g} min" for each in budgets)], lines)


def guided_table(rows: dict[tuple[str, str, float], Row]) -> str:
    """Distance of the guided samples beside that of the others, where not all rows have them; empty where none has."""
    lines = [
        [
            CONTESTANTS[model].label,
            recipe_label(row),
            f"{minutes:g}",
            interval(nearest(row)),
            interval(row["guided"]["frechet"]),
        ]
        for (model, _, minutes), row in rows.items()
        if row.get("guided")
    ]
    return table(["model", "recipe", "minutes", "not guided", "guided"], lines) if lines else ""


def floors(rows: dict[tuple[str, str, float], Row], budgets: Sequence[float]) -> list[str]:
    """The distance of as many real pictures, for each budget."""
    by_budget = {key[2]: nearest(row)["floor"] for key, row in rows.items()}
    return [f"*{by_budget[each]:.2f}*" for each in budgets]


def long_table(rows: dict[tuple[str, str, float], Row]) -> str:
    """Every measure of every row."""
    lines = []
    for (model, _, minutes), row in rows.items():
        about = [f"{minutes:g}", f"{row['pictures']:,}", f"{row['updates']:,}"]
        for way, r in row["reports"].items():
            k = r["kernel"]
            lines.append(
                [
                    CONTESTANTS[model].label,
                    recipe_label(row),
                    WAYS[way],
                    *about,
                    interval(r["frechet"]),
                    f"{1000 * k['value']:.1f} ({1000 * k['low']:.1f}–{1000 * k['high']:.1f})",
                    *(f"{r[name]['value']:.0%}" for name in ("precision", "recall", "sure")),
                ]
            )
    real = [row["reports"]["unclipped"] for row in rows.values()][-1]
    last = (f"{real[name]['real']:.0%}" for name in ("precision", "recall", "sure"))
    least = (f"{real['frechet']['floor']:.2f}", f"{1000 * real['kernel']['floor']:.1f}")
    lines.append(["*real, held out*", *[""] * 5, *least, *last])
    head = ["model", "recipe", "sampler", "minutes", "pictures seen", "updates"]
    return table([*head, "distance (95 %)", "kernel × 1000 (95 %)", "precision", "recall", "sure"], lines, words=3)


def ratio_table(rows: dict[tuple[str, str, float], Row]) -> str:
    """The others' distance at each budget, over ours at the smallest; empty where ours is missing."""
    budgets = sorted({minutes for _, _, minutes in rows})
    ours = rows.get(("unet", "ours", budgets[0]))
    if ours is None:
        return ""
    lines = []
    for (model, _), found in by_recipe(rows).items():
        if model != "unet":
            judged = (found.get(each) for each in budgets)
            cells = [f"{nearest(row)['value'] / nearest(ours)['value']:.1f}×" if row else "" for row in judged]
            lines.append([CONTESTANTS[model].label, recipe_label(found[max(found)]), *cells])
    return table(["model", "recipe", *(f"after {each:g} min" for each in budgets)], lines) if lines else ""


def shared(rows: dict[tuple[str, str, float], Row]) -> dict[tuple[str, str, float], Row]:
    """The rows of budgets that another model has too; shorter trainings of ours are there for `per_picture` alone."""
    budgets = {minutes for model, _, minutes in rows if model != "unet"}
    return {key: row for key, row in rows.items() if key[2] in budgets} if budgets else rows


def with_more_samples(rows: Sequence[Row], like: Row) -> str:
    """Rows of the machine of `like` that were judged by more samples, of every training; empty where there are none."""
    same = {key: like[key] for key in ("machine", "features", "evaluations", "data")}
    chosen = {
        (row["model"], row["recipe"], row["minutes"], row["updates"]): guided_apart(row)
        for row in rows
        if row["samples"] > like["samples"] and has(row, same)
    }
    lines = [
        [
            CONTESTANTS[row["model"]].label,
            recipe_label(row),
            f"{row['minutes']:g}",
            f"{row['pictures']:,}",
            f"{row['samples']:,}",
            interval(nearest(row)),
            interval(row["guided"]["frechet"]) if row["guided"] else "",
            f"{nearest(row)['floor']:.2f}",
        ]
        for row in chosen.values()
    ]
    head = ["model", "recipe", "minutes", "pictures", "samples", "not guided", "guided", "real pictures, held out"]
    return table(head, lines) if lines else ""


def per_picture(rows: dict[tuple[str, str, float], Row]) -> str:
    """The others' distance beside ours after no more pictures; empty where there is nothing to compare."""
    ours = [row for (model, _, _), row in rows.items() if model == "unet"]
    lines = []
    for (model, _, _), row in rows.items():
        earlier = [one for one in ours if one["pictures"] <= row["pictures"]]
        if model != "unet" and earlier:
            last = max(earlier, key=lambda one: one["pictures"])
            about = [CONTESTANTS[model].label, recipe_label(row)]
            numbers = [f"{row['pictures']:,}", interval(nearest(row)), f"{last['pictures']:,}", interval(nearest(last))]
            lines.append([*about, *numbers])
    return table(["model", "recipe", "pictures", "distance", "ours: pictures", "distance"], lines) if lines else ""


def repeats(rows: dict[tuple[str, str, float], Row], judged: Sequence[Row]) -> str:
    """Distances of trainings that were made more than once, oldest first; empty where none was."""

    def listed(distances: Iterable[Row]) -> str:
        return "; ".join(interval(each) for each in distances)

    lines = []
    for (model, _, minutes), row in rows.items():
        keys = ("model", "recipe", "minutes", "details", "machine", "threads", "features", *JUDGED_ALIKE)
        same = {key: row.get(key) for key in keys}
        by_training = {each["updates"]: each for each in judged if has(each, same)}
        if len(by_training) > 1:
            apart = [guided_apart(each) for each in by_training.values()]
            pictures = "; ".join(f"{each['pictures']:,}" for each in apart)
            guided = listed(each["guided"]["frechet"] for each in apart if each["guided"])
            label = CONTESTANTS[model].label
            numbers = [f"{minutes:g}", pictures, listed(map(nearest, apart)), guided]
            lines.append([label, recipe_label(row), *numbers])
    head = ["model", "recipe", "minutes", "pictures", "not guided", "guided"]
    return table(head, lines) if lines else ""


def further_tables(rows: dict[tuple[str, str, float], Row], judged: Sequence[Row]) -> str:
    """What else there is of a machine, under a line each: by pictures, guided samples apart, trainings made again,
    more samples.

    Args:
        rows: of one machine, as `by_machine` gives them.
        judged: all rows there are.
    """
    found = {
        "By pictures in place of minutes, beside our `UNet` after no more of them": per_picture(rows),
        "Those of which there are guided samples, at two evaluations a step": guided_table(rows),
        "Trained more than once, of which the last counts": repeats(rows, judged),
        "Judged by more samples, after trainings that need not be those above": with_more_samples(
            judged, [*rows.values()][-1]
        ),
    }
    return "".join(f"\n\n{title}:\n\n{each}" for title, each in found.items() if each)


def by_recipe(rows: dict[tuple[str, str, float], Row]) -> dict[tuple[str, str], dict[float, Row]]:
    """Rows by minutes, for each model and recipe."""
    found: dict[tuple[str, str], dict[float, Row]] = {}
    for (model, recipe, minutes), row in rows.items():
        found.setdefault((model, recipe), {})[minutes] = row
    return found


def minutes_to(distance: float, rows: dict[float, Row]) -> str:
    """After how many minutes of training the rows of a recipe reach a distance, in words.

    Between two budgets along a straight line through their logarithms.

    Args:
        distance: > 0.
        rows: by minutes.
    """
    path = sorted((minutes, nearest(row)["value"]) for minutes, row in rows.items())
    if path[0][1] <= distance:
        return f"at most {path[0][0]:g} min"
    for (early, far), (late, near) in pairwise(path):
        if near <= distance:
            share = math.log(far / distance) / math.log(far / near)
            return f"about {early * (late / early) ** share:.2g} min"
    return f"more than {path[-1][0]:g} min"


def beside_cpu(rows: dict[tuple[str, str, float], Row], cpu: dict[tuple[str, str, float], Row]) -> str:
    """When each recipe on this device reaches what ours reaches in its longest training on a CPU; empty without one."""
    ours = {minutes: row for (model, recipe, minutes), row in cpu.items() if (model, recipe) == ("unet", "ours")}
    last = rows[max(rows, key=lambda key: key[2])]
    if not ours or not has(ours[max(ours)], {key: last[key] for key in ("data", "samples", "evaluations")}):
        return ""
    most, distance = max(ours), nearest(ours[max(ours)])["value"]
    lines = [
        f"- {CONTESTANTS[model].label}, {recipe_of(recipe)}: {minutes_to(distance, found)}"
        for (model, recipe), found in by_recipe(rows).items()
    ]
    return f"\n\nTo the distance of our `UNet` after {most:g} minutes on a CPU, {distance:.2f}:\n\n" + "\n".join(lines)


@styled
def plot(rows: dict[tuple[str, str, float], Row]) -> Figure:
    """Distance against minutes, both logarithmic, with intervals and the floor."""
    figure, (axes,) = new_figure(8, 5.4)
    colors = dict(zip(CONTESTANTS, ("blue", "orange", "green", "purple"), strict=True))
    budgets = sorted({minutes for _, _, minutes in rows})
    for number, ((model, recipe), found) in enumerate(by_recipe(rows).items()):
        shift = 1 + 0.012 * (number - 3)  # so that intervals do not cover each other
        distances = [nearest(row) for row in found.values()]
        values = [d["value"] for d in distances]
        axes.errorbar(
            [minutes * shift for minutes in found],
            values,
            yerr=[[d["value"] - d["low"] for d in distances], [d["high"] - d["value"] for d in distances]],
            color=COLORS[colors[model]],
            linestyle="-" if recipe == "ours" else "--",
            marker="o" if recipe == "ours" else "s",
            markerfacecolor=COLORS[colors[model]] if recipe == "ours" else "white",
            capsize=3,
            linewidth=2.4 if model == "unet" else 1.4,
            label=f"{CONTESTANTS[model].label}, {recipe_of(recipe)}",
        )
    floor = [nearest(row)["floor"] for row in rows.values()][-1]
    axes.axhline(floor, color=COLORS["gray"], linestyle=":", label=f"as many real pictures ({floor:.2f})")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(budgets, [f"{each:g}" for each in budgets])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    ticks = [each for each in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if low <= each <= high]
    axes.set_yticks(ticks, [f"{each:g}" for each in ticks])
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("Fréchet distance, our features")
    axes.set_title("Distance from real pictures against training time: lower is better")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure


@styled
def sample_cells(rows: dict[tuple[str, str, float], Row], strips: Path) -> Figure:
    """The first eight samples of every row as they came: models and recipes below each other, minutes side by side."""
    lines, budgets = by_recipe(rows), sorted({minutes for _, _, minutes in rows})
    wide, high, margin, gap, top = 2 * (4 * 29 + 1), 2 * (2 * 29 + 1), 232, 14, 26
    width = margin + len(budgets) * (wide + gap)
    height = top + len(lines) * (high + 2 * gap)
    figure = Figure(width / DPI, height / DPI)
    for across, minutes in enumerate(budgets):
        left = margin + across * (wide + gap)
        figure.text(left / width, 1 - 12 / height, f"{minutes:g} minutes", fontsize=10, va="center", weight="bold")
        for down, ((model, recipe), found) in enumerate(lines.items()):
            y = top + down * (high + 2 * gap)
            if not across:
                words = f"{CONTESTANTS[model].label}\n{recipe_of(recipe)}"
                figure.text(8 / width, 1 - (y + gap + high / 2) / height, words, fontsize=10, va="center")
            if minutes not in found:
                continue
            path = strip_path(strips, found[minutes], best_way(found[minutes]))
            if not path.is_file():
                continue
            cells = torch.stack(Png(path.read_bytes()).pixels().split(28, 1))[:8, None]
            axes = figure.add_axes((left / width, 1 - (y + gap + high) / height, wide / width, high / height))
            axes.imshow(grid(to_float(cells), columns=4), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_axis_off()
            distance = nearest(found[minutes])["value"]
            figure.text(left / width, 1 - (y + gap - 7) / height, f"distance {distance:.1f}", fontsize=8.5, va="center")
    return figure


def report(bench_rows: Path, strips: Path, readmes: Sequence[Path]) -> str:
    """Write the tables and pictures of all rows so far, and fill the marked blocks of the READMEs.

    Args:
        bench_rows: the file of rows; tables and pictures go beside it.
        strips: the folder of first samples, a folder for each machine in it.
        readmes: files that may hold the block `pictures_per_minute DEVICE` (the short table) or
            `pictures_per_minute DEVICE in full`.

    Returns:
        The full text.

    Raises:
        ValueError: there are no rows yet.
    """
    judged = read_judged(bench_rows)
    rows, *elsewhere = by_machine(judged) or [{}]
    if not rows:
        raise ValueError(f"{bench_rows} holds no rows that were judged with the present feature network")
    stem, last, main = bench_rows.stem, [*rows.values()][-1], shared(rows)
    bench_rows.with_suffix(".png").write_bytes(figure_png(plot(main)))
    bench_rows.with_name(f"{stem}_samples.png").write_bytes(figure_png(sample_cells(main, strips)))
    dates = sorted(row["date"][:10] for row in rows.values())
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items() if version)
    how = (
        "Fréchet distance (95 % interval), lower is better; the least of each column in bold. "
        f"{last['samples']:,} samples a row, in {last['evaluations']} steps, by {samplers(rows)}; "
        f"data: Fashion-MNIST, {last['data']}. {last['machine']}, {last['threads']} threads; {versions}; {dates[0]}"
        + (f" to {dates[-1]}." if dates[0] != dates[-1] else ".")
    )
    short = f"{short_table(main)}\n\n{how}"
    ratios = ratio_table(main)
    smallest = min(minutes for _, _, minutes in main)
    if ratios:
        ratios = f"Their distance over that of our `UNet` after {smallest:g} minutes:\n\n{ratios}"
    if not stem.endswith("_cpu"):
        ratios += beside_cpu(rows, newest(read_judged(bench_rows.with_name(f"{NAME}_cpu.jsonl"))))
    text = f"{ratios}{further_tables(rows, judged)}\n\nEvery measure:\n\n{long_table(rows)}"
    for others in elsewhere:
        machine = next(iter(others.values()))["machine"]
        dates = sorted(row["date"][:10] for row in others.values())
        text += (
            f"\n\nOn another machine, {machine} ({dates[-1]}), by {samplers(others)}:\n\n{short_table(shared(others))}"
            f"{further_tables(others, judged)}"
        )
    block = stem.replace(f"{NAME}_", f"{NAME} ")
    for readme in readmes:
        fill_block(readme, block, short)
        fill_block(readme, f"{block} in full", text)
    return f"{short}\n\n{text}"


def main(arguments: list[str] | None = None) -> int:
    """Train, judge and write what has no row yet; or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*CONTESTANTS], choices=[*CONTESTANTS])
    parser.add_argument("--recipes", nargs="+", default=[*RECIPES], choices=RECIPES)
    parser.add_argument("--minutes", nargs="+", type=float, default=[3.0, 10.0, 30.0], help="budgets of training time")
    parser.add_argument("--slice", type=float, default=20.0, help="seconds of a turn")
    parser.add_argument("--samples", type=int, default=500, help="samples of each row")
    parser.add_argument("--evaluations", type=int, default=25, help="steps of each sample; guided, each asks twice")
    parser.add_argument("--data", default="full", choices=("full", "packaged"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="cuda, mps or cpu; the best there is by default")
    parser.add_argument("--threads", type=int, help="of the CPU, for all alike")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of rows, tables and pictures")
    parser.add_argument("--build", type=Path, default=BUILD, help="folder of what is needed to go on")
    parser.add_argument("--report", action="store_true", help="train nothing; write tables and pictures from the rows")
    options = parser.parse_args(arguments)

    device = pick_device(options.device)
    stem = f"{NAME}_{device.type}"
    if options.report:
        readmes = (HERE / "README.md",) if options.results == RESULTS else ()
        print(report(options.results / f"{stem}.jsonl", options.results / stem, readmes))
        return 0
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.compiler.config.force_disable_caches = True  # each training that compiles pays for it
    bench = Bench(
        device, options.data, options.samples, options.evaluations, options.seed, options.results, options.build
    )
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    runs: list[Run] = []
    try:
        runs += (bench.start(*each) for each in plan(options.models, options.recipes, options.minutes))
        waiting = sum(len(run.minutes) for run in runs)
        print(f"{waiting} rows to make, in {sum(bool(run.minutes) for run in runs)} trainings", flush=True)
        take_turns(runs, options.slice, stop, partial(bench.keep, weak=True), bench.judged, Log(runs))
    except KeyboardInterrupt:
        if not stop.in_turn:  # else a second Ctrl-C: what was saved before must do
            for run in runs:
                if run.minutes:
                    run.save()
        print("stopped; the next start goes on from here", flush=True)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
