"""How good are the pictures after so many minutes of training? This course beside other libraries.

    python benchmarks/pictures_per_minute.py                                 all of it: five to eight hours on two cores
    python benchmarks/pictures_per_minute.py --minutes 3 --models unet diffusers --recipes own
    python benchmarks/pictures_per_minute.py --minutes 0.25 0.75 --models unet    to compare early on, by pictures
    python benchmarks/pictures_per_minute.py --report                        tables and pictures from the rows so far

All trainings take turns of some seconds in one process, with the same threads, and only a training's own turns count.
The course's recipe fits its learning rate to a budget of minutes, so each budget is a training. A recipe with one
learning rate needs one training for all budgets, which is judged on its way.

You can stop the program at any time: each row is written as soon as it is there, and the next start goes on from the
last saves in build/bench. The weights stay there, so `--samples 2000` trains nothing anew.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from contestants import CONTESTANTS, start_training
from course_lib.data import Pictures, to_float, to_uint8
from course_lib.runs import WEAK_AT
from course_lib.runtime import pick_device
from course_lib.shapes import count_parameters
from course_lib.viz import to_png
from judging import EVALUATIONS, FEATURES_ID, GUIDANCE, judge, load_data, make_samples
from pictures_report import RECIPES, WAYS, best_way, draw_pictures, not_guided, report, strip_path
from records import BUILD, Row, append_row, circumstances, command_line, describe, interval, lacks, publish
from trainings import Training, save_whole

NAME = "pictures_per_minute"
SEED = 0
SHOWN = 16  # samples of each row that the repository keeps to look at
SAVE_EVERY = 150.0  # seconds of a training's own time


@dataclass
class Run:
    """A training, and the moments at which its weights will be kept.

    A moment is the minutes of training, the budget that they belong to, and whether they are only an eighth of it: the
    weights of then are the weak ones, which guide those of the end.
    """

    model: str
    recipe: str
    training: Training
    folder: Path = Path()
    moments: list[tuple[float, float, bool]] = field(default_factory=list)
    saved: float = 0.0

    def weights(self, minutes: float, weak: bool) -> Path:
        """The file of the weights to sample from after so many minutes, or after an eighth of them."""
        return self.folder / f"{minutes:g}{'_weak' * weak}.pt"

    def save(self) -> None:
        """Save the training and print how far it is."""
        self.training.save(self.folder / "state.pt")
        self.saved = self.training.seconds
        print(f"{time.strftime('%H:%M')} {self.model}, {self.recipe}: {self.saved / 60:.1f} minutes", flush=True)


def plan(models: Sequence[str], recipes: Sequence[str], minutes: Sequence[float]) -> list[tuple[str, str, list[float]]]:
    """The trainings to run: model, recipe, and the minutes at which each is judged.

    The course's network has no other recipe than the course's.
    """
    runs: list[tuple[str, str, list[float]]] = []
    for name in models:
        if "ours" in recipes or CONTESTANTS[name].own is None:
            runs += [(name, "ours", [each]) for each in sorted(minutes)]
        if "own" in recipes and CONTESTANTS[name].own is not None:
            runs.append((name, "own", sorted(minutes)))
    return runs


def take_turns(runs: Sequence[Run], seconds: float, reached: Callable[[Run, float, bool], None]) -> None:
    """Let all trainings run in turns of so many seconds until each has reached its last moment.

    `reached` is called at each moment with the training, the budget, and whether only an eighth of it is over. The time
    it takes does not count.
    """
    while active := [run for run in runs if run.moments]:
        for run in active:
            left = 60 * run.moments[0][0] - run.training.seconds
            if left > 0:
                run.training.run(min(seconds, left))
            while run.moments and run.training.seconds >= 60 * run.moments[0][0]:
                _, minutes, weak = run.moments.pop(0)
                reached(run, minutes, weak)
            if run.moments and run.training.seconds - run.saved > SAVE_EVERY:
                run.save()


class Bench:
    """The benchmark on one device, with the options of the command line."""

    def __init__(self, options: argparse.Namespace, device: torch.device) -> None:
        self.options, self.device = options, device
        self.rows_path = options.results / f"{NAME}_{device.type}.jsonl"
        self.train, self.heldout = load_data(options.data)
        counts = {"samples": options.samples, "evaluations": EVALUATIONS}
        self.judging: Row = {**counts, "guidance": GUIDANCE, "features": FEATURES_ID}

    def facts(self, run: Run, minutes: float) -> Row:
        """What identifies a training at one of its moments."""
        about = {"model": run.model, "recipe": run.recipe, "minutes": minutes, "details": run.training.details}
        learned = {"parameters": count_parameters(run.training.model), "data": self.options.data, "seed": SEED}
        return {**about, **learned, "machine": describe(self.device), "threads": torch.get_num_threads()}

    def start(self, model: str, recipe: str, minutes: Sequence[float]) -> Run:
        """A training as far as it has come, with the moments that have no row yet."""
        begin = partial(start_training, CONTESTANTS[model], recipe, minutes[-1], self.train, SEED)
        run = Run(model, recipe, begin(self.device))
        about = {**self.facts(run, minutes[-1]), "versions": circumstances(self.device)["versions"]}
        if recipe == "own":  # one training for all budgets
            del about["minutes"]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]
        run.folder = self.options.build / f"{NAME}_{self.device.type}" / f"{model}_{recipe}_{digest}"
        for each in self.unknown(run, minutes):
            if all(run.weights(each, weak).is_file() for weak in (False, True)):
                self.judge(run, each)
        waiting = self.unknown(run, minutes)
        every = sorted([(each, each, False) for each in waiting] + [(WEAK_AT * each, each, True) for each in waiting])
        run.moments = [each for each in every if not (each[2] and run.weights(*each[1:]).is_file())]
        if run.moments and run.training.load(run.folder / "state.pt"):
            run.saved = run.training.seconds
        if run.moments and not 0 < run.saved <= 60 * run.moments[0][0]:
            run.training, run.moments, run.saved = begin(self.device), every, 0.0
            for _, each, weak in every:  # weights kept by a training that is lost do not belong to this one
                run.weights(each, weak).unlink(missing_ok=True)
        return run

    def unknown(self, run: Run, minutes: Sequence[float]) -> list[float]:
        """The budgets for which there is no row yet."""
        return [each for each in minutes if lacks(self.rows_path, {**self.facts(run, each), **self.judging})]

    def reached(self, run: Run, minutes: float, weak: bool) -> None:
        """Keep the weights of this moment, and judge them at the end of a budget."""
        about = {**self.facts(run, minutes), **run.training.progress(), **circumstances(self.device)}
        weights = run.training.to_sample_from().state_dict()
        save_whole(run.weights(minutes, weak), {"about": about, "weights": weights})
        run.save()  # after the weights, so that a training never goes on from where weights are missing
        if not weak:
            self.judge(run, minutes)
        if not run.moments:
            (run.folder / "state.pt").unlink()

    def judge(self, run: Run, minutes: float) -> None:
        """Sample from kept weights by every sampler, and write the row of what `judge` finds and a few samples."""
        kept = [torch.load(run.weights(minutes, weak), self.device, weights_only=True) for weak in (False, True)]
        models = [copy.deepcopy(run.training.to_sample_from()).eval() for _ in kept]
        for model, each in zip(models, kept, strict=True):
            model.load_state_dict(each["weights"])
        network = models[0], run.training.schedule, run.training.target
        make = partial(make_samples, *network, self.options.samples)
        made = {"unclipped": make(), "clipped": make(clipped=True), "guided": make(weak=models[1])}
        samples = {way: Pictures(to_uint8(each)) for way, each in made.items()}
        row = {
            **kept[0]["about"],
            **self.judging,
            "weak_updates": kept[1]["about"]["updates"],
            "reports": {way: judge(each, self.train, self.heldout).as_dict() for way, each in samples.items()},
        }
        for way in (best_way(not_guided(row)), "guided"):
            path = strip_path(self.rows_path.with_suffix(""), row, way)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(to_png(to_float(samples[way].images[:SHOWN]), columns=SHOWN, scale=1, pad=0))
        append_row(self.rows_path, row)
        found = "; ".join(f"{WAYS[way]} {interval(each['frechet'])}" for way, each in row["reports"].items())
        print(f"{run.model}, {run.recipe}, {minutes:g} minutes, {row['pictures']:,} pictures: {found}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Train, judge and write what has no row yet; or report."""
    parser = command_line(__doc__)
    parser.add_argument("--models", nargs="+", default=[*CONTESTANTS], choices=[*CONTESTANTS])
    parser.add_argument("--recipes", nargs="+", default=[*RECIPES], choices=RECIPES)
    parser.add_argument("--minutes", nargs="+", type=float, default=[3.0, 10.0, 30.0], help="budgets of training time")
    parser.add_argument("--slice", type=float, default=20.0, help="seconds of a turn")
    parser.add_argument("--samples", type=int, default=500, help="samples of each row")
    parser.add_argument("--build", type=Path, default=BUILD, help="folder of weights and of what is needed to go on")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    path = options.results / f"{NAME}_{device.type}.jsonl"
    if options.report:
        publish(report(path), options.results)
        draw_pictures(path)
        return 0
    torch.compiler.config.force_disable_caches = True  # each training that compiles pays for it
    bench = Bench(options, device)
    try:
        runs = [bench.start(*each) for each in plan(options.models, options.recipes, options.minutes)]
        waiting = [run for run in runs if run.moments]
        print(f"{len(waiting)} trainings to run", flush=True)
        take_turns(waiting, options.slice, bench.reached)
    except KeyboardInterrupt:
        print("stopped; the next start goes on from the last saves", flush=True)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
