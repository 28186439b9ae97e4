"""Only a training's own time counts, nothing is lost or mixed up by stopping, and the right rows make the tables."""

from __future__ import annotations

import re
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
import records
import trainings
from course_lib.schedule import make_schedule
from helpers_benchmarks import CPU, HELDOUT, OWN, PICTURES, TINY, Judged, row, without_trials
from pictures_per_minute import Run, take_turns
from pictures_report import report
from records import Row, append_row, read_rows
from trainings import Training


class Paced(Training):
    """A training whose updates take so many seconds of a clock that we turn ourselves."""

    def __init__(self, clock: Any, pace: float) -> None:
        super().__init__(nn.Linear(1, 1), PICTURES, make_schedule("linear", 10), "eps", 4, {})
        self.clock, self.pace = clock, pace

    def get_ready(self) -> None:
        self.clock.now += 100

    def update_until(self, end: float) -> None:
        self.clock.turns.append(self.pace)
        while self.clock.now < end:
            self.clock.now += self.pace
            self.step += 1

    def state(self) -> dict[str, Any]:
        self.clock.now += 1000  # saving takes its time
        return {}


def test_only_the_time_of_its_own_turns_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock, kept = SimpleNamespace(now=0.0, turns=[]), list[tuple[str, float, bool, float]]()
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(trainings, "time", clock)
    quick, slow = Paced(clock, 1.0), Paced(clock, 7.0)
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
    assert clock.turns == [1, 7] * 6 + [1]  # a turn ends where weights are kept
    moments = {name: [each[1:] for each in kept if each[0] == name] for name in ("quick", "slow")}
    assert moments["quick"] == [(2, True, 15), (0.5, False, 30), (2, False, 120)]
    assert moments["slow"] == [(2, True, 21), (2, False, 126)]


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
    for each in found:
        assert each["seconds"] >= 60 * each["minutes"] and 0 < each["weak_updates"] <= each["updates"]
        assert each["versions"]["torch"] and each["pictures"] == each["updates"] * each["details"]["batch size"]
        assert each["reports"]["unclipped"] != each["reports"]["clipped"]
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
    for each in found:
        assert all(f"{judged['frechet']['value']:.2f}" in shown for judged in each["reports"].values())
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
    (found,) = read_rows(tmp_path / "pictures_per_minute_cpu.jsonl")
    assert (found["weak_updates"], found["updates"]) == (1, 2) and not (run.folder / "state.pt").exists()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pictures_per_minute_cpu.jsonl"


def tables(path: Path, *rows: Row) -> tuple[str, str]:
    """The main table and all others."""
    for each in rows:
        append_row(path, each)
    main, full = report(path).values()
    return main, full


def listed(text: str, title: str) -> str:
    """The table under a title."""
    found = re.search(rf"^{re.escape(title)}[^\n]*:\n\n(.*?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def test_tables_are_made_from_the_newest_rows(path: Path) -> None:
    main, full = tables(
        path,
        row("lucidrains", "own", 3, 77.0, machine="a slower one"),  # not to be compared
        row("unet", "ours", 0.25, 9.0, pictures=1000),  # nobody else trains as short
        row("unet", "ours", 3, 99.0),
        row("unet", "ours", 3, 4.0),  # the newer of two
        row("unet", "ours", 30, 2.0),
        row("diffusers", "own", 3, 60.0, details={**OWN, "lr": 4e-4}),  # a recipe from before a correction
        row("diffusers", "own", 3, 60.0, pictures=2999),
        row("diffusers", "own", 30, 44.0, 30.0),  # the better of two samplers counts
        row("diffusers", "ours", 30, 1.0, features="of another network"),
    )
    assert "| UNet of this course | this course's | 89 | **4.00 (3.60–4.40)** | **2.00 (1.80–2.20)** |" in main
    assert "| Adam 1e-3, batch 128, linear, no EMA | 89 | 60.00 (54.00–66.00) | 30.00 (27.00–33.00) |" in main
    assert "| *real pictures, held out* |  |  | *0.18* | *0.18* |" in main
    assert "| after 3 min | after 30 min |\n" in main
    assert "| 2,999 | 60.00 (54.00–66.00) | 1,000 | 9.00 (8.10–9.90) |" in listed(full, "By pictures in place of")
    assert "99.00" not in main and "77.00" not in main and "1.00 (" not in main and "4e-4" not in main
    assert "| 77.00 (" in listed(full, "On another machine, a slower one (2025-01-02)").replace("**", "")
    every = listed(full, "Every measure")
    assert "| 3 | 12,345 | 67 | 4.00 (3.60–4.40) | 4000.0 (3600.0–4400.0) | 50% | 50% | 50% |" in every
    for sampler, distance in ("SDE-DPM-Solver++(2M)", "44.00"), ("DDPM, clipped", "30.00"):
        assert f"no EMA | {sampler} | 30 | 12,345 | 67 | {distance} (" in every
    with pytest.raises(ValueError, match="must hold rows"):
        report(path.with_name("pictures_per_minute_cuda.jsonl"))


def test_guided_samples_count_where_all_have_them(path: Path) -> None:
    unguided = row("diffusers", "own", 3, 60.0, 50.0)
    for others in (unguided, row("diffusers", "own", 3, 60.0, 50.0, 1.0, guidance={"strength": 9.0})):
        main, full = tables(path, row("unet", "ours", 3, 4.0, 5.0, 2.0), others)
        assert "the best of 2 samplers;" in main and "**4.00 (" in main and "| 50.00 (" in main
        assert "2.00 (" not in main and "autoguided" not in full
    main, full = tables(path, row("diffusers", "own", 3, 60.0, 50.0, 55.0))
    assert "the best of 3 samplers, of which the guided one takes two evaluations" in main
    assert "**2.00 (" in main and "| SDE-DPM-Solver++(2M), autoguided |" in full


def test_what_was_trained_or_judged_again_is_listed_apart(path: Path) -> None:
    second = {"updates": 68, "pictures": 54321}
    main, full = tables(
        path,
        row("unet", "ours", 3, 1.0, samples=9000, machine="another"),
        *(row(model, "own", 3, 60.0) for model in ("diffusers", "double-conv")),
        row("unet", "ours", 3, 4.0),
        row("lucidrains", "own", 3, 77.0),
        row("lucidrains", "own", 3, 66.0, 55.0, 1.0, **second),
        row("lucidrains", "own", 3, 66.0, 56.0, 8.0, **second),  # judged again by as many
        row("unet", "ours", 3, 3.0, 9.0, 2.0, samples=9000),
        row("unet", "ours", 3, 5.0, samples=9000, **second),
    )
    assert "**4.00 (" in main and "| 56.00 (" in main and "3.00 (" not in main
    again = listed(full, "Trained more than once (the last one counts), or judged by more samples")
    assert [line.split("|")[3:-1] for line in again.replace(" ", "").splitlines()[2:]] == [
        ["3", "12,345", "1,000", "4.00(3.60–4.40)", "", "0.18"],
        ["3", "12,345", "9,000", "3.00(2.70–3.30)", "2.00(1.80–2.20)", "0.18"],
        ["3", "54,321", "9,000", "5.00(4.50–5.50)", "", "0.18"],
        ["3", "12,345", "1,000", "77.00(69.30–84.70)", "", "0.18"],
        ["3", "54,321", "1,000", "56.00(50.40–61.60)", "8.00(7.20–8.80)", "0.18"],
    ]


def test_a_block_is_filled_in_its_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x cpu: begin -->\nstale\n<!-- x cpu: end -->\nb\n", encoding="utf-8")
    records.fill_block(page, "x cpu", "new\n")
    assert page.read_text(encoding="utf-8") == "a\n<!-- x cpu: begin -->\nnew\n<!-- x cpu: end -->\nb\n"
    with pytest.raises(ValueError, match="must have the lines"):
        records.fill_block(page, "x cuda", "new")
