"""Only a training's own time counts, and nothing is lost or mixed up by stopping."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import judging
import pictures_per_minute as bench
import pictures_report
import trainings
from course_lib.schedule import make_schedule
from helpers_benchmarks import CPU, HELDOUT, PICTURES, TINY, Judged, without_trials
from pictures_per_minute import Run, take_turns
from records import read_rows
from trainings import Training


class Paced(Training):
    """A training whose updates take so many seconds of a clock that we turn ourselves."""

    def __init__(self, clock: Any, pace: float, turns: list[str], name: str) -> None:
        super().__init__(nn.Linear(1, 1), PICTURES, make_schedule("linear", 10), "eps", 4, {})
        self.clock, self.pace, self.turns, self.name = clock, pace, turns, name

    def get_ready(self) -> None:
        self.clock.now += 100

    def update_until(self, end: float) -> None:
        self.turns.append(self.name)
        while self.clock.now < end:
            self.clock.now += self.pace
            self.step += 1

    def state(self) -> dict[str, Any]:
        self.clock.now += 1000  # saving takes its time
        return {}


def test_only_the_time_of_its_own_turns_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock, turns, kept = SimpleNamespace(now=0.0), list[str](), list[tuple[str, float, bool, float]]()
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(trainings, "time", clock)
    quick, slow = Paced(clock, 1.0, turns, "quick"), Paced(clock, 7.0, turns, "slow")
    runs = [
        Run("quick", "own", quick, tmp_path / "a", [(0.25, 2.0, True), (0.5, 0.5, False), (2.0, 2.0, False)]),
        Run("slow", "own", slow, tmp_path / "b", [(0.25, 2.0, True), (2.0, 2.0, False)]),
    ]

    def reached(run: Run, minutes: float, weak: bool) -> None:
        clock.now += 10_000
        kept.append((run.model, minutes, weak, run.training.seconds))

    take_turns(runs, 20.0, reached)
    assert (quick.seconds, quick.step) == (120.0, 120)
    assert (slow.step, slow.seconds) == (18, 126.0)  # six turns of 21 seconds
    assert turns == ["quick", "slow"] * 6 + ["quick"]  # a turn ends where weights are kept
    assert [each[1:] for each in kept if each[0] == "quick"] == [(2, True, 15), (0.5, False, 30), (2, False, 120)]
    assert [each[1:] for each in kept if each[0] == "slow"] == [(2, True, 21), (2, False, 126)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny networks, little data and few steps; the distance is the mean level of the samples."""
    pytest.importorskip("denoising_diffusion_pytorch")
    monkeypatch.setattr(judging, "EVALUATIONS", 3)
    without_trials(monkeypatch)
    for module in (bench, pictures_report):
        monkeypatch.setattr(module, "CONTESTANTS", TINY)
    monkeypatch.setattr(bench, "load_data", lambda source: (PICTURES, HELDOUT))
    monkeypatch.setattr(bench, "judge", lambda samples, *_: Judged(float(samples.images.float().mean())))


def test_a_stopped_benchmark_goes_on(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--models", "unet", "lucidrains", "--minutes", "0.002", "0.004", "--slice", "0.05", "--samples", "20"]
    arguments += ["--device", "cpu", "--results", str(tmp_path / "r"), "--build", str(tmp_path / "b")]
    rows, build = tmp_path / "r" / "pictures_per_minute_cpu.jsonl", tmp_path / "b" / "pictures_per_minute_cpu"
    run, begun = Training.run, list[float]()

    def call(*more: str, status: int = 0) -> str:
        assert bench.main([*arguments, *more]) == status
        return capsys.readouterr().out

    def watched(self: Training, seconds: float) -> None:
        begun.append(self.seconds)
        if len(begun) == 12:
            raise KeyboardInterrupt
        run(self, seconds)

    monkeypatch.setattr(bench, "SAVE_EVERY", 0.01)
    monkeypatch.setattr(Training, "run", watched)
    assert "5 trainings to run" in call(status=130) and len(read_rows(rows)) < 6
    call()
    assert begun[12] > 0 and not [*build.rglob("state.pt")]
    found = read_rows(rows)
    # a recipe that knows its budget is a training for each, and the course's network has no other recipe
    assert sorted((row["model"], row["recipe"], row["minutes"]) for row in found) == [
        *(("lucidrains", recipe, each) for recipe in ("ours", "own") for each in (0.002, 0.004)),
        *(("unet", "ours", each) for each in (0.002, 0.004)),
    ]
    for row in found:
        assert row["seconds"] >= 60 * row["minutes"] and 0 < row["weak_updates"] <= row["updates"]
        assert row["versions"]["torch"] and row["pictures"] == row["updates"] * row["details"]["batch size"]
        assert row["reports"]["unclipped"] != row["reports"]["clipped"]
    assert len([*(tmp_path / "r").rglob("*.png")]) == 12  # of each row, with and without guidance
    assert "0 trainings to run" in call("--recipes", "own") and read_rows(rows) == found

    rows.write_text("".join(line + "\n" for line in rows.read_text(encoding="utf-8").splitlines()[:-1]))
    assert "0 trainings to run" in call()  # its weights are there: judged again, not trained again
    assert read_rows(rows)[-1]["reports"] == found[-1]["reports"] and len(read_rows(rows)) == 6
    assert "0 trainings to run" in call("--models", "unet", "--samples", "24")
    assert [row["samples"] for row in read_rows(rows)[6:]] == [24, 24]
    next(build.glob("unet_ours_*/0.004_weak.pt")).unlink()  # no row without it
    assert "1 trainings to run" in call("--models", "unet", "--samples", "25")
    shown = call("--report")
    for row in found:
        assert all(f"{report['frechet']['value']:.2f}" in shown for report in row["reports"].values())
    assert {path.suffix for path in (tmp_path / "r").iterdir() if path.is_file()} == {".jsonl", ".png"}


def made(tmp_path: Path, data: str = "full") -> bench.Bench:
    return bench.Bench(Namespace(data=data, samples=20, results=tmp_path, build=tmp_path), CPU)


def test_a_training_goes_on_only_where_it_kept_what_it_is_past(small: None, tmp_path: Path) -> None:
    def begun(data: str = "full") -> Run:
        return made(tmp_path, data).start("lucidrains", "own", [8.0, 16.0])

    every = [(1.0, 8.0, True), (2.0, 16.0, True), (8.0, 8.0, False), (16.0, 16.0, False)]
    run = begun()
    assert run.moments == every
    run.training.step, run.training.seconds = 1, 61.0
    made(tmp_path).reached(run, 8.0, weak=True)
    again = begun()
    assert (again.training.seconds, again.moments) == (61.0, every[1:])
    assert begun("packaged").training.seconds == 0  # other data, another training
    run.weights(8.0, weak=True).unlink()
    again = begun()
    assert (again.training.seconds, again.moments) == (0.0, every)

    made(tmp_path).reached(run, 8.0, weak=True)
    (run.folder / "state.pt").unlink()  # so what this training kept must not guide the next one's samples
    assert begun().moments == every and not run.weights(8.0, weak=True).exists()


def test_the_weights_of_an_eighth_guide_those_of_the_end(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def made_by(model: nn.Module, *_: object, clipped: bool = False, weak: nn.Module | None = None) -> Tensor:
        seen.append([each and float(next(each.parameters()).detach().mean()) for each in (model, weak)])
        return torch.zeros(20, 1, 28, 28)

    monkeypatch.setattr(bench, "make_samples", made_by)
    run = made(tmp_path).start("unet", "ours", [8.0])
    for number, (_, minutes, weak) in enumerate([*run.moments], start=1):
        run.moments.pop(0)
        run.training.step, run.training.seconds = number, 60.0 * number
        torch.nn.init.constant_(next(run.training.to_sample_from().parameters()), number)
        made(tmp_path).reached(run, minutes, weak)
    assert seen == [[2.0, None], [2.0, None], [2.0, 1.0]]
    (row,) = read_rows(tmp_path / "pictures_per_minute_cpu.jsonl")
    assert (row["weak_updates"], row["updates"]) == (1, 2) and not (run.folder / "state.pt").exists()
