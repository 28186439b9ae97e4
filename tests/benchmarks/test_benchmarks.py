"""The benchmarks: everybody trains as published, only one's own time counts, and nothing is lost by stopping."""

from __future__ import annotations

import copy
import inspect
import json
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

import ablations
import contestants
import pictures_per_minute
import records
import sampling
import speed
from contestants import CONTESTANTS, Contestant, OurTraining, OwnTraining, Shifted, Training, start_training
from course_lib.checkpoint import load_shipped
from course_lib.data import Pictures, load_fashion_mnist
from course_lib.metrics import measure
from course_lib.objective import denoising_loss, min_snr_weights
from course_lib.schedule import Schedule, make_schedule, sampling_times, start_time
from course_lib.shapes import count_parameters
from course_lib.train import RandomBatches, TrainConfig, train
from course_lib.unet import DoubleConvUNet, UNet
from pictures_per_minute import Run, Stop, plan, take_turns

CPU = torch.device("cpu")
PEERS = {"diffusers": "diffusers", "lucidrains": "denoising_diffusion_pytorch", "double-conv": "torch", "unet": "torch"}
EVERY = [(name, recipe) for name in PEERS for recipe in ("ours", "own") if (name, recipe) != ("unet", "own")]


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    packaged = load_fashion_mnist("train", source="packaged")
    return Pictures(packaged.images[::50].clone())


@pytest.fixture(scope="module")
def heldout() -> Pictures:
    return Pictures(load_fashion_mnist("test", source="packaged").images[::20].clone())


def tiny_unet() -> nn.Module:
    return UNet(channels=(8, 8), attention=())


def narrow_double_conv() -> nn.Module:
    return DoubleConvUNet(1, 1, (8, 8, 8, 8), 8, time_plane=1000, resize_to_skip=True)


class Tiny(nn.Module):
    """A network of "another library": it counts timesteps from 0 and answers with an object."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.seen: list[int] = []

    def forward(self, x: Tensor, t: Tensor) -> Any:
        self.seen += t.tolist()
        return type("Answer", (), {"sample": self.conv(x)})()


def own_tiny(model: nn.Module, pictures: Pictures, seed: int) -> OwnTraining:
    from ema_pytorch import EMA

    schedule = make_schedule("linear")
    return OwnTraining(
        model,
        pictures,
        seed,
        schedule=schedule,
        target="eps",
        batch_size=8,
        loss=lambda x0, t, eps: denoising_loss(model, schedule, x0, t, eps).mean(),
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        grad_clip=1.0,
        average=EMA(model, beta=0.9, update_every=2, update_after_step=0, include_online_model=False),
        details={"optimizer": "Adam", "lr": 1e-3, "ema": None},
    )


TINY = {
    "unet": Contestant("unet", "UNet of this course", tiny_unet),
    "diffusers": Contestant("diffusers", "diffusers UNet2DModel", lambda: Shifted(Tiny()), own_tiny),
    "lucidrains": CONTESTANTS["lucidrains"],
    "double-conv": CONTESTANTS["double-conv"],
}


# ------------------------------------------------------------------------------------------- contestants


@pytest.mark.parametrize(("name", "recipe"), EVERY)
def test_one_update_of_everybody(name: str, recipe: str, pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(PEERS[name])
    monkeypatch.setattr(contestants, "TrainConfig", partial(TrainConfig, batch_size=2))  # big ones take long
    monkeypatch.setattr(contestants, "OurTraining", partial(OurTraining, batch_size=2))
    contestant = CONTESTANTS[name]
    if (name, recipe) == ("double-conv", "ours"):
        contestant = replace(
            contestant, build=lambda: DoubleConvUNet(1, 1, (8, 8, 8, 8), 8, time_plane=1000, resize_to_skip=True)
        )
    training = start_training(contestant, recipe, 3.0, pictures, 0, CPU)
    if isinstance(training, OwnTraining):
        training.batches = RandomBatches(pictures, training.schedule, 2)
    before = [parameter.detach().clone() for parameter in training.model.parameters()]
    training.run(1e-9)
    assert training.step == 1 and training.seconds > 0
    assert any(not torch.equal(a, b) for a, b in zip(before, training.model.parameters(), strict=True))
    judged = training.to_sample_from()
    assert not judged.training
    with torch.no_grad():
        assert judged(pictures[:2], torch.tensor([1, 1000]), None).shape == (2, 1, 28, 28)


def test_timesteps_of_the_other_libraries_are_ours_less_one() -> None:
    net = Tiny()
    Shifted(net)(torch.zeros(2, 1, 28, 28), torch.tensor([1, 1000]))
    assert net.seen == [0, 999]
    with pytest.raises(ValueError, match="y must be None"):
        Shifted(net)(torch.zeros(1, 1, 28, 28), torch.tensor([1]), torch.tensor([0]))


@pytest.mark.parametrize("name", ["diffusers", "lucidrains"])
def test_the_wrapped_network_answers_as_it_does_alone(name: str) -> None:
    pytest.importorskip(PEERS[name])
    torch.manual_seed(0)
    wrapped = CONTESTANTS[name].build().eval()
    assert isinstance(wrapped, Shifted)
    x = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        alone = wrapped.net(x, torch.tensor([0, 499]))
        alone = alone if isinstance(alone, Tensor) else alone.sample
        assert torch.equal(wrapped(x, torch.tensor([1, 500])), alone)
        assert not torch.allclose(wrapped(x, torch.tensor([2, 501])), alone, atol=1e-4)  # it does look at t


@pytest.mark.parametrize("name", ["diffusers", "lucidrains", "double-conv"])
def test_an_own_loss_is_ours_with_its_schedule_and_target(name: str, pictures: Pictures) -> None:
    pytest.importorskip(PEERS[name])
    training = start_training(CONTESTANTS[name], "own", 3.0, pictures, 0, CPU)
    assert isinstance(training, OwnTraining)
    x0, t = pictures[:3], torch.tensor([1, 400, 1000])
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1))
    net = training.model.net if isinstance(training.model, Shifted) else training.model
    seen: list[tuple[Tensor, Tensor]] = []
    hook = net.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[:2]))
    with torch.no_grad():
        found = training.loss(x0, t, eps)
        hook.remove()
        each = denoising_loss(training.model, training.schedule, x0, t, eps, target=training.target)
    a, b = training.schedule.at(t, x0)
    torch.testing.assert_close(seen[0][0], a * x0 + b * eps, rtol=0, atol=2e-4)
    assert torch.equal(seen[0][1], t if name == "double-conv" else t - 1)
    weight = training.schedule.alpha_bar[t].float() if name == "lucidrains" else torch.ones(3)
    torch.testing.assert_close(found, (weight * each).mean(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "batch_size", "kind", "lr", "rest"),
    [
        ("diffusers", 128, "Adam", 1e-3, "cosine, no EMA"),
        ("lucidrains", 16, "Adam", 1e-4, "sigmoid, v, EMA 0.995"),
        ("double-conv", 16, "AdamW", 3e-4, "linear, no EMA"),
    ],
)
def test_own_recipes_are_the_published_ones(
    name: str, batch_size: int, kind: str, lr: float, rest: str, pictures: Pictures
) -> None:
    pytest.importorskip(PEERS[name])
    training = start_training(CONTESTANTS[name], "own", 3.0, pictures, 0, CPU)
    assert isinstance(training, OwnTraining)
    assert training.batch_size == training.batches.size == batch_size
    assert type(training.optimizer).__name__ == kind == training.details["optimizer"]
    assert training.optimizer.param_groups[0]["lr"] == lr == training.details["lr"]
    assert training.optimizer.param_groups[0]["betas"] == ((0.9, 0.99) if name == "lucidrains" else (0.9, 0.999))
    assert training.optimizer.param_groups[0]["weight_decay"] == (0.01 if kind == "AdamW" else 0)
    assert training.grad_clip == (1.0 if name == "lucidrains" else None)
    words = pictures_per_minute.recipe_label({"recipe": "own", "details": training.details})
    assert words == f"{kind} {lr * 1e4:.0f}e-4, batch {batch_size}, {rest}".replace("10e-4", "1e-3")
    if name == "lucidrains":
        assert (training.average.beta, training.average.update_every) == (0.995, 10)
    else:
        assert training.average is None
    assert sum(p.numel() for g in training.optimizer.param_groups for p in g["params"]) == count_parameters(
        training.model
    )


def test_a_gradient_is_clipped_where_the_recipe_says_so(pictures: Pictures) -> None:
    pytest.importorskip("ema_pytorch")
    lengths = {}
    for longest in (1e-3, None):
        torch.manual_seed(0)
        training = own_tiny(Shifted(Tiny()), pictures, 0)
        training.grad_clip = longest
        training.optimizer = torch.optim.SGD(training.model.parameters(), lr=1.0)
        before = nn.utils.parameters_to_vector(training.model.parameters()).detach().clone()
        training.run(1e-9)
        after = nn.utils.parameters_to_vector(training.model.parameters()).detach()
        lengths[longest] = float((after - before).norm())
    assert lengths[1e-3] == pytest.approx(1e-3, rel=1e-2) and lengths[None] > 0.1


def test_the_defaults_of_lucidrains_are_what_we_say() -> None:
    package = pytest.importorskip("denoising_diffusion_pytorch")
    trainer = {k: v.default for k, v in inspect.signature(package.Trainer.__init__).parameters.items()}
    assert (trainer["train_batch_size"], trainer["train_lr"], trainer["adam_betas"]) == (16, 1e-4, (0.9, 0.99))
    assert (trainer["ema_decay"], trainer["ema_update_every"], trainer["max_grad_norm"]) == (0.995, 10, 1.0)
    assert (trainer["amp"], trainer["gradient_accumulate_every"]) == (False, 1)
    diffusion = {k: v.default for k, v in inspect.signature(package.GaussianDiffusion.__init__).parameters.items()}
    assert (diffusion["objective"], diffusion["beta_schedule"], diffusion["timesteps"]) == ("pred_v", "sigmoid", 1000)


def test_our_recipe_has_the_defaults(pictures: Pictures) -> None:
    training = start_training(TINY["diffusers"], "ours", 10.0, pictures, 0, CPU)
    assert isinstance(training, OurTraining)
    assert training.config == TrainConfig(minutes=10.0)
    with pytest.raises(ValueError, match="is 'ours'"):
        start_training(TINY["unet"], "own", 10.0, pictures, 0, CPU)


def test_the_readme_gives_the_right_numbers_of_parameters() -> None:
    text = (records.HERE / "README.md").read_text(encoding="utf-8")
    stated = re.findall(r"\| ([\d.]+) M \|", text)
    assert stated == [f"{count_parameters(one.build()) / 1e6:.1f}" for one in CONTESTANTS.values()]


# ------------------------------------------------------------------------------------- stopping, going on


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_an_own_training_goes_on_as_if_never_stopped(pictures: Pictures, tmp_path: Path) -> None:
    pytest.importorskip("ema_pytorch")
    whole = start_training(TINY["diffusers"], "own", 3.0, pictures, 0, CPU)
    for _ in range(5):
        whole.run(1e-9)
    part = start_training(TINY["diffusers"], "own", 3.0, pictures, 0, CPU)
    for _ in range(2):
        part.run(1e-9)
    part.save(tmp_path / "a.safetensors")
    rest = start_training(TINY["diffusers"], "own", 3.0, pictures, 0, CPU)
    assert rest.load(tmp_path / "a.safetensors")
    assert (rest.step, rest.seconds) == (2, part.seconds)
    for _ in range(3):
        rest.run(1e-9)
    assert rest.step == whole.step == 5
    assert same(rest._tensors(), whole._tensors())


def test_our_training_is_restored_in_full(pictures: Pictures, tmp_path: Path) -> None:
    part = start_training(TINY["unet"], "ours", 3.0, pictures, 0, CPU)
    for _ in range(2):
        part.run(1e-9)
    part.save(tmp_path / "a.safetensors")
    rest = start_training(TINY["unet"], "ours", 3.0, pictures, 0, CPU)
    assert not same(rest._tensors(), part._tensors())
    assert rest.load(tmp_path / "a.safetensors")
    assert same(rest._tensors(), part._tensors())
    assert isinstance(rest, OurTraining) and rest.ema.updates == 2
    rest.run(1e-9)
    assert rest.step == 3 and rest.seconds > part.seconds
    other = start_training(TINY["unet"], "ours", 10.0, pictures, 0, CPU)
    assert not other.load(tmp_path / "a.safetensors")  # of another budget
    assert not other.load(tmp_path / "b.safetensors")  # there is none


def test_a_training_goes_on_with_the_numbers_that_it_began_with(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is faster is found by a trial, and that may end the other way when a program starts again."""
    used: list[torch.dtype | None] = []

    def watched(*arguments: Any, autocast: torch.dtype | None, **others: Any) -> Iterator[Any]:
        used.append(autocast)
        return train(*arguments, autocast=autocast, **others)

    monkeypatch.setattr(contestants, "train", watched)
    for first, then in ((torch.bfloat16, None), (None, torch.bfloat16)):
        monkeypatch.setattr(contestants, "pick_autocast", lambda *_, dtype=first: dtype)
        part = start_training(TINY["unet"], "ours", 3.0, pictures, 0, CPU)
        part.run(1e-9)
        part.save(tmp_path / "a.safetensors")
        monkeypatch.setattr(contestants, "pick_autocast", lambda *_, dtype=then: dtype)
        rest = start_training(TINY["unet"], "ours", 3.0, pictures, 0, CPU)
        assert rest.details == part.details and rest.found != part.found
        assert rest.load(tmp_path / "a.safetensors") and rest.found == part.found
        rest.run(1e-9)
        assert used == [first, first]
        used.clear()


@pytest.mark.cuda
def test_our_training_is_compiled_on_a_gpu(pictures: Pictures, tmp_path: Path) -> None:
    part = start_training(TINY["unet"], "ours", 10.0, pictures, 0, torch.device("cuda"))
    assert part.details["compiled"] and part.model._compiled_call_impl is not None
    part.run(1e-9)
    part.save(tmp_path / "a.safetensors")
    rest = start_training(TINY["unet"], "ours", 10.0, pictures, 0, torch.device("cuda"))
    assert rest.load(tmp_path / "a.safetensors")
    assert same(rest._tensors(), part._tensors())
    assert rest.to_sample_from()._compiled_call_impl is None  # the average draws samples as it is


class Clock:
    """A clock that goes on by `pace` seconds when it is read, and otherwise as it is told."""

    def __init__(self, pace: float = 0.0) -> None:
        self.now, self.pace = 0.0, pace

    def perf_counter(self) -> float:
        self.now += self.pace
        return self.now


class Paced(Training):
    """A training whose updates take so many seconds of a clock that we turn ourselves."""

    def __init__(self, clock: Clock, pace: float, turns: list[str], name: str) -> None:
        super().__init__(nn.Linear(1, 1), make_schedule("linear", 10), "eps", 4, {})
        self.clock, self.pace, self.turns, self.name = clock, pace, turns, name

    def _get_ready(self) -> None:
        self.clock.now += 100

    def _run(self, until: float) -> None:
        self.turns.append(self.name)
        while self.clock.now < until:
            self.clock.now += self.pace
            self.step += 1

    def _tensors(self) -> dict[str, Tensor]:
        self.clock.now += 1000  # saving takes its time
        return {}


def test_only_the_time_of_its_own_turns_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock, turns = Clock(), list[str]()
    kept, judged = list[tuple[str, float, float]](), list[tuple[str, float, float]]()
    monkeypatch.setattr(contestants, "time", clock)
    quick, slow = Paced(clock, 1.0, turns, "quick"), Paced(clock, 7.0, turns, "slow")
    runs = [
        Run(TINY["unet"], "own", [0.5, 2.0], quick, tmp_path / "quick.safetensors", weak=[2.0]),
        Run(TINY["unet"], "own", [2.0], slow, tmp_path / "slow.safetensors", weak=[2.0]),
    ]

    def keep(run: Run, minutes: float) -> None:
        clock.now += 10_000
        kept.append((run.state.stem, minutes, run.training.seconds))

    def judge(run: Run, minutes: float) -> None:
        clock.now += 10_000
        judged.append((run.state.stem, minutes, run.training.seconds))

    take_turns(runs, 20.0, Stop(), keep, judge, lambda: None)
    assert (quick.seconds, quick.step) == (120.0, 120)
    assert (slow.step, slow.seconds) == (18, 126.0)  # six turns of 21 seconds
    assert turns == ["quick", "slow"] * 6 + ["quick"]  # a turn ends where its training is judged, or kept
    assert kept == [("quick", 2.0, 15.0), ("slow", 2.0, 21.0)]  # an eighth of the way
    assert sorted(judged) == [("quick", 0.5, 30.0), ("quick", 2.0, 120.0), ("slow", 2.0, 126.0)]


def test_a_stop_waits_for_the_end_of_a_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock, stop = Clock(), Stop()
    monkeypatch.setattr(contestants, "time", clock)
    training = Paced(clock, 1.0, [], "one")
    with pytest.raises(KeyboardInterrupt):
        stop()  # nobody is in a turn: at once
    monkeypatch.setattr(training, "_get_ready", stop)
    with pytest.raises(KeyboardInterrupt):
        stop.turn(Run(TINY["unet"], "own", [1.0], training, tmp_path / "a.safetensors"), 5.0)
    assert training.step == 5 and training.seconds == 5.0 and not stop.in_turn


def test_plan() -> None:
    assert plan(["unet", "diffusers"], ["own", "ours"], [10, 3]) == [
        ("unet", "ours", [3]),
        ("unet", "ours", [10]),
        ("diffusers", "ours", [3]),
        ("diffusers", "ours", [10]),
        ("diffusers", "own", [3, 10]),
    ]
    assert plan(["unet", "diffusers"], ["own"], [3]) == [("unet", "ours", [3]), ("diffusers", "own", [3])]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, pictures: Pictures, heldout: Pictures) -> Iterator[None]:
    """Both benchmarks with tiny contestants and little data."""
    for module in (contestants, pictures_per_minute):
        monkeypatch.setattr(module, "CONTESTANTS", TINY)
    for module in (pictures_per_minute, sampling):
        monkeypatch.setattr(module, "load_data", lambda source: (pictures, heldout))
    monkeypatch.setattr(records, "measure", partial(measure, resamples=10))
    yield


def test_a_stopped_benchmark_goes_on(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ema_pytorch")
    arguments = "--models unet diffusers --minutes 0.002 0.004 --slice 0.05 --samples 20 --evaluations 3 --device cpu"
    call = [*arguments.split(), "--results", str(tmp_path / "r"), "--build", str(tmp_path / "b")]
    rows = tmp_path / "r" / "pictures_per_minute_cpu.jsonl"
    turn, turns = Stop.turn, 0

    def interrupted(self: Stop, run: Run, seconds: float) -> None:
        nonlocal turns
        turns += 1
        self.wanted = turns == 12
        turn(self, run, seconds)

    monkeypatch.setattr(Stop, "turn", interrupted)
    assert pictures_per_minute.main(call) == 130
    assert "6 rows to make, in 5 trainings" in capsys.readouterr().out
    before = len(records.read_rows(rows))
    assert before < 6
    loaded: list[float] = []
    load = Training.load

    def watched(self: Training, path: Path) -> bool:
        found = load(self, path)
        loaded.append(self.seconds)
        return found

    monkeypatch.setattr(Training, "load", watched)
    assert pictures_per_minute.main(call) == 0
    assert f"{6 - before} rows to make" in capsys.readouterr().out
    assert max(loaded) > 0
    build = tmp_path / "b" / "pictures_per_minute_cpu"
    assert not [*build.glob("*.safetensors")]  # nothing left to go on with
    found = records.read_rows(rows)
    assert sorted((row["model"], row["recipe"], row["minutes"]) for row in found) == [
        *(("diffusers", recipe, each) for recipe in ("ours", "own") for each in (0.002, 0.004)),
        *(("unet", "ours", each) for each in (0.002, 0.004)),
    ]
    for row in found:
        assert row["seconds"] >= 60 * row["minutes"] and row["pictures"] > 0
        assert row["reports"].keys() == {"unclipped", "clipped", "guided"} and row["versions"]["torch"]
        for report in row["reports"].values():
            assert report["n"] == 20
            assert report["frechet"]["low"] <= report["frechet"]["value"] <= report["frechet"]["high"]
        assert row["reports"]["unclipped"] != row["reports"]["clipped"]
        assert 0 < row["weak_updates"] <= row["updates"]
    assert pictures_per_minute.main(call) == 0
    assert "0 rows to make" in capsys.readouterr().out

    rows.write_text("".join(line + "\n" for line in rows.read_text(encoding="utf-8").splitlines()[:-1]))
    assert pictures_per_minute.main(call) == 0  # its weights are there: judged again, not trained again
    assert "0 rows to make" in capsys.readouterr().out
    again = records.read_rows(rows)
    assert len(again) == 6 and again[-1]["reports"] == found[-1]["reports"]
    assert pictures_per_minute.main([*call, "--models", "unet", "--samples", "24"]) == 0
    assert "0 rows to make" in capsys.readouterr().out
    assert [row["samples"] for row in records.read_rows(rows)[6:]] == [24, 24]
    kept = build / "weights" / "unet_ours_0.004_weak.safetensors"
    with safetensors.safe_open(kept, "pt") as file:
        about, weights = file.metadata(), {name: 0.5 * file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.torch.save_file(weights, kept, metadata=about)
    assert pictures_per_minute.main([*call, "--models", "unet", "--minutes", "0.004", "--evaluations", "4"]) == 0
    one, other = (records.read_rows(rows)[-1]["reports"][way] for way in ("unclipped", "guided"))
    assert one != other  # by the weights that lie there
    kept.unlink()  # without it no row can be made: a training anew
    assert pictures_per_minute.main([*call, "--models", "unet", "--samples", "25"]) == 0
    assert "1 rows to make, in 1 trainings" in capsys.readouterr().out and kept.is_file()

    assert pictures_per_minute.main([*call, "--report"]) == 0
    table = capsys.readouterr().out
    for row in found:
        for report in row["reports"].values():
            assert f"{report['frechet']['value']:.2f}" in table
    assert {path.suffix for path in (tmp_path / "r").iterdir() if path.is_file()} == {".jsonl", ".png"}
    assert len([*(tmp_path / "r" / "pictures_per_minute_cpu").glob("*/*.png")]) == 12


def test_what_a_lost_training_kept_is_not_taken_for_that_of_the_next(small: None, tmp_path: Path) -> None:
    bench = pictures_per_minute.Bench(CPU, "full", 20, 3, 0, tmp_path, tmp_path)

    def at(seconds: float, weak: Sequence[float] = ()) -> Run:
        """As the program starts that finds a training saved at this time, and weights of an eighth."""
        for old in tmp_path.rglob("*.safetensors"):
            old.unlink()
        run = bench.start("diffusers", "own", [8.0, 16.0])
        for minutes in weak:
            run.training.step, run.training.seconds = 1, 60.0
            bench.keep(run, minutes, weak=True)
        run.training.seconds = seconds
        run.save()
        return bench.start("diffusers", "own", [8.0, 16.0])

    for seconds, weak, goes_on, left in (
        (30, [], True, [8.0, 16.0]),
        (30, [8.0, 16.0], True, [8.0, 16.0]),  # kept after 60 seconds, and so by another training
        (64, [8.0], True, [16.0]),
        (64, [], True, [8.0, 16.0]),  # near enough
        (70, [], False, [8.0, 16.0]),
        (130, [8.0, 16.0], True, []),
        (140, [8.0], False, [8.0, 16.0]),
        (479, [8.0, 16.0], True, []),
        (530, [8.0, 16.0], False, [8.0, 16.0]),  # there is no row of 8 minutes
    ):
        run = at(seconds, weak)
        assert (run.training.seconds, run.weak) == (seconds if goes_on else 0, left)


def test_a_training_goes_on_with_its_own_files_alone(small: None, tmp_path: Path) -> None:
    def bench(data: str) -> pictures_per_minute.Bench:
        return pictures_per_minute.Bench(CPU, data, 20, 3, 0, tmp_path, tmp_path)

    def begun(data: str = "full") -> Run:
        return bench(data).start("diffusers", "own", [8.0, 16.0])

    run = begun()
    run.training.step, run.training.seconds = 1, 61.0
    bench("full").keep(run, 8.0, weak=True)
    run.save()
    again = begun()
    assert (again.training.id, again.training.seconds, again.weak) == (run.training.id, 61.0, [16.0])
    assert begun("packaged").training.seconds == 0  # other data
    run.state.unlink()
    other = begun()
    assert other.training.id != run.training.id and other.weak == [8.0, 16.0]
    other.training.step, other.training.seconds = 1, 480.0
    bench("full").keep(other, 8.0)  # beside the weak weights of the first
    assert not bench("full").settled(other, 8.0)
    bench("full").keep(other, 8.0, weak=True)
    assert bench("full").settled(other, 8.0)


def test_rows_from_before_a_sampler_are_made_again(small: None, tmp_path: Path) -> None:
    bench = pictures_per_minute.Bench(CPU, "full", 20, 3, 0, tmp_path, tmp_path)
    run = bench.start("unet", "ours", [0.002])
    row = {**bench.facts(run, 0.002), **bench.judging, "features": records.FEATURES_ID}
    records.append_row(bench.rows_path, {**row, "reports": {"unclipped": {}, "clipped": {}}})
    assert bench.start("unet", "ours", [0.002]).minutes == [0.002]
    records.append_row(bench.rows_path, {**row, "reports": {way: {} for way in pictures_per_minute.WAYS}})
    assert bench.start("unet", "ours", [0.002]).minutes == []


def test_a_bad_network_is_held_in_range_where_its_guesses_are_clipped() -> None:
    class NoNoise(nn.Module):
        """Takes everything for picture, which makes guesses of x_t / a."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))
            self.first = 0

        def forward(self, x: Tensor, t: Tensor, y: None = None) -> Tensor:
            self.first = max(self.first, int(t.max()))
            return self.weight * x

    schedule, reached, first = make_schedule("cosine"), {}, {}
    for clipped in (False, True):
        model = NoNoise()
        drawn = records.draw_samples(model, schedule, "eps", 4, evaluations=5, clipped=clipped, batch=2)
        reached[clipped], first[clipped] = drawn.abs().max(), model.first
    assert reached[True] <= 1 < 10 < reached[False]
    assert first == {True: schedule.T, False: start_time(schedule, "eps")}


# -------------------------------------------------------------------------------------- rows and reports


def judged_at(value: float) -> records.Row:
    distance = dict(value=value, low=0.9 * value, high=1.1 * value, n=1000, floor=0.18)
    score = dict(value=0.5, real=0.9)
    return {"frechet": distance, "kernel": distance, "precision": score, "recall": score, "sure": score}


OWN = {"batch size": 128, "optimizer": "Adam", "lr": 1e-3, "ema": None, "target": "eps", "schedule": "linear"}


def row(
    model: str, recipe: str, minutes: float, value: float, features: str = records.FEATURES_ID, **other: float
) -> records.Row:
    return {
        "model": model,
        "recipe": recipe,
        "minutes": minutes,
        "details": OWN if recipe == "own" else {},
        "pictures": 12345,
        "updates": 67,
        "pictures_per_second": 89.0,
        "samples": 1000,
        "evaluations": 25,
        "data": "full",
        "machine": "M",
        "threads": 2,
        "versions": {"torch": "2"},
        "date": "2025-01-02T00:00:00+00:00",
        "features": features,
        "reports": {"unclipped": judged_at(value)} | {way: judged_at(each) for way, each in other.items()},
    }


def test_tables_are_made_from_the_newest_rows(tmp_path: Path) -> None:
    path = tmp_path / "pictures_per_minute_cpu.jsonl"
    for each in (
        row("unet", "ours", 3, 99.0),
        row("unet", "ours", 3, 4.0),  # the newer of two
        row("unet", "ours", 30, 2.0),
        row("diffusers", "own", 3, 60.0),
        row("diffusers", "own", 30, 44.0, clipped=30.0),  # the better of two samplers counts
        row("diffusers", "ours", 30, 1.0, features="of another network"),
        row("lucidrains", "own", 3, 77.0) | {"machine": "a slower one"},  # not to be compared
    ):
        records.append_row(path, each)
    readme = tmp_path / "README.md"
    name = "pictures_per_minute cpu"
    readme.write_text(f"a\n<!-- {name}: begin -->\nstale\n<!-- {name}: end -->\nb\n", encoding="utf-8")
    text = pictures_per_minute.report(path, tmp_path, [readme, tmp_path / "none.md"])
    assert "| UNet of this course | this course's | 89 | **4.00 (3.60–4.40)** | **2.00 (1.80–2.20)** |" in text
    assert "by the best of 2 samplers (3 of 4 rows by SDE-DPM-Solver++(2M) alone);" in text
    here, elsewhere = text.split("On another machine, a slower one (2025-01-02), by SDE-DPM-Solver++(2M):")
    assert "99.00" not in text and "77.00" not in here and "1.00 (" not in text
    assert "| 77.00" in elsewhere.replace("**", "") and "60.00" not in elsewhere
    assert "| 60.00 (54.00–66.00) | 30.00 (27.00–33.00) |" in text
    assert "| Adam 1e-3, batch 128, linear, no EMA | 15.0× | 7.5× |" in text
    assert "| *real pictures, held out* |  |  | *0.18* | *0.18* |" in text
    assert "| 3 | 12,345 | 67 | 4.00 (3.60–4.40) | 4000.0 (3600.0–4400.0) | 50% | 50% | 50% |" in text
    for sampler, distance in ("SDE-DPM-Solver++(2M)", "44.00"), ("DDPM, clipped", "30.00"):
        assert f"no EMA | {sampler} | 30 | 12,345 | 67 | {distance} (" in text
    filled = readme.read_text(encoding="utf-8")
    assert filled.startswith("a\n<!-- ") and filled.endswith(" -->\nb\n") and "stale" not in filled
    assert "**4.00 (" in filled and "15.0×" not in filled  # the short table alone
    with pytest.raises(ValueError, match="no rows"):
        pictures_per_minute.report(tmp_path / "pictures_per_minute_cuda.jsonl", tmp_path, [])


def test_of_several_machines_that_with_most_recipes_as_published_comes_first() -> None:
    def on(machine: str, *keys: tuple[str, str]) -> list[records.Row]:
        return [row(model, recipe, 3, 4.0) | {"machine": machine} for model, recipe in keys]

    unet, own, ours = ("unet", "ours"), ("diffusers", "own"), ("diffusers", "ours")
    a, b = on("A", unet, own), on("B", unet, ours, ("lucidrains", "ours"))
    first, second = pictures_per_minute.by_machine(a + b)
    assert [*first] == [(*unet, 3), (*own, 3)] and len(second) == 3
    first, second = pictures_per_minute.by_machine(a + b + on("B", own))  # as many: that of the last row
    assert len(first) == 4 and len(second) == 2


def test_guided_samples_count_where_all_have_them(tmp_path: Path) -> None:
    path = tmp_path / "pictures_per_minute_cpu.jsonl"
    for each in (
        row("unet", "ours", 3, 4.0, clipped=5.0, guided=2.0),
        row("diffusers", "own", 3, 60.0, clipped=50.0),
        row("lucidrains", "own", 3, 70.0, clipped=65.0, guided=1.0) | {"guidance": {"strength": 9.0, "largest": 1.0}},
    ):
        records.append_row(path, each)
    text = pictures_per_minute.report(path, tmp_path, [])
    assert "| 65.00 (58.50–71.50) |" in text  # it was guided in another way, and the rest of it counts
    apart = "Those of which there are guided samples, at two evaluations a step:"
    first, guided = text.split(apart)
    assert "by the best of 2 samplers;" in first and "**4.00 (" in first and "2.00 (" not in first and "12.5×" in first
    assert "| UNet of this course | this course's | 3 | 4.00 (3.60–4.40) | 2.00 (1.80–2.20) |" in guided
    assert "1.00 (" not in text and "| SDE-DPM-Solver++(2M), autoguided |" not in text
    records.append_row(path, row("diffusers", "own", 3, 60.0, clipped=50.0, guided=55.0))
    records.append_row(path, row("lucidrains", "own", 3, 70.0, clipped=65.0, guided=62.0))
    text = pictures_per_minute.report(path, tmp_path, [])
    assert apart not in text and "the best of 3 samplers, of which the guided one takes two evaluations" in text
    assert "**2.00 (" in text and "| SDE-DPM-Solver++(2M), autoguided |" in text and "25.0×" in text


def test_rows_with_more_samples_stand_apart(tmp_path: Path) -> None:
    path = tmp_path / "pictures_per_minute_cpu.jsonl"
    for each in (
        row("unet", "ours", 3, 4.0),
        *(row(model, "own", 3, 60.0) for model in ("diffusers", "lucidrains", "double-conv")),
        row("unet", "ours", 3, 3.5) | {"samples": 9000},
        row("unet", "ours", 3, 3.0, guided=2.0) | {"samples": 9000},  # judged again
        row("unet", "ours", 3, 5.0) | {"samples": 9000, "updates": 68, "pictures": 54321},
        row("unet", "ours", 3, 1.0) | {"samples": 9000, "machine": "another"},
        row("diffusers", "own", 3, 50.0) | {"samples": 9000},
    ):
        records.append_row(path, each)
    text = pictures_per_minute.report(path, tmp_path, [])
    first, more = text.split("Judged by more samples, after trainings that need not be those above:")
    assert "| **4.00 (3.60–4.40)** |" in first and "3.00 (" not in first and "50.00 (" not in first
    more, _ = more.split("Every measure:")
    assert "| this course's | 3 | 12,345 | 9,000 | 3.00 (2.70–3.30) | 2.00 (1.80–2.20) | 0.18 |" in more
    assert "| this course's | 3 | 54,321 | 9,000 | 5.00 (4.50–5.50) |  | 0.18 |" in more
    assert "| 3 | 12,345 | 9,000 | 50.00 (45.00–55.00) |  | 0.18 |" in more and more.count("\n| ") == 5


def test_of_a_corrected_recipe_the_last_one_counts(tmp_path: Path) -> None:
    path = tmp_path / "pictures_per_minute_cpu.jsonl"
    before = {"details": {**OWN, "lr": 4e-4}}
    for each in (
        row("unet", "ours", 3, 4.0),
        row("diffusers", "own", 3, 60.0) | before,
        row("diffusers", "own", 30, 50.0) | before,
        row("diffusers", "own", 3, 40.0),
        row("diffusers", "own", 3, 20.0) | before | {"machine": "another"},
    ):
        records.append_row(path, each)
    here, there = pictures_per_minute.by_machine(records.read_rows(path))
    assert [(key, row["reports"]["unclipped"]["frechet"]["value"]) for key, row in here.items()] == [
        (("unet", "ours", 3), 4.0),
        (("diffusers", "own", 3), 40.0),
    ]
    assert [*there] == [("diffusers", "own", 3)]
    here_text, there_text = pictures_per_minute.report(path, tmp_path, []).split("On another machine")
    assert "| Adam 1e-3, batch 128, linear, no EMA |" in here_text and "4e-4" not in here_text
    assert "| Adam 4e-4, batch 128, linear, no EMA |" in there_text and "Trained more than once" not in here_text


def test_trainings_that_were_made_again_are_all_shown(tmp_path: Path) -> None:
    path = tmp_path / "pictures_per_minute_cpu.jsonl"
    for each in (
        row("unet", "ours", 3, 4.0),
        row("lucidrains", "own", 3, 77.0),
        row("lucidrains", "own", 3, 66.0, clipped=55.0, guided=1.0) | {"updates": 68, "pictures": 54321},
        row("lucidrains", "own", 3, 66.0, clipped=56.0, guided=8.0)
        | {"updates": 68, "pictures": 54321},  # judged again
        row("lucidrains", "own", 3, 22.0) | {"updates": 69, "threads": 1},
        row("lucidrains", "own", 3, 33.0) | {"updates": 70, "seed": 1},
    ):
        records.append_row(path, each)
    text = pictures_per_minute.report(path, tmp_path, [])
    _, again = text.split("Trained more than once, of which the last counts:")
    again, _ = again.split("Every measure:")
    assert "| 3 | 12,345; 54,321 | 77.00 (69.30–84.70); 56.00 (50.40–61.60) | 8.00 (7.20–8.80) |" in again
    assert again.count("\n| ") == 3  # head, rule and this line alone


def test_a_short_training_of_ours_is_compared_by_pictures_alone(tmp_path: Path) -> None:
    path = tmp_path / "pictures_per_minute_cpu.jsonl"
    for each in (
        row("unet", "ours", 0.25, 9.0) | {"pictures": 1000},
        row("unet", "ours", 0.75, 7.0) | {"pictures": 3000},
        row("unet", "ours", 3, 4.0),
        row("diffusers", "own", 3, 60.0) | {"pictures": 2999},
    ):
        records.append_row(path, each)
    text = pictures_per_minute.report(path, tmp_path, [])
    assert "| model | recipe | pictures/s | after 3 min |\n" in text
    assert "of our `UNet` after 3 minutes:" in text and "| 15.0× |" in text
    assert "| 2,999 | 60.00 (54.00–66.00) | 1,000 | 9.00 (8.10–9.90) |" in text


def test_minutes_to_a_distance() -> None:
    rows = {minutes: row("unet", "ours", minutes, value) for minutes, value in ((1.0, 8.0), (4.0, 2.0), (9.0, 1.0))}
    assert pictures_per_minute.minutes_to(4.0, rows) == "about 2 min"  # halfway, by logarithms
    assert pictures_per_minute.minutes_to(2.0, rows) == "about 4 min"
    assert pictures_per_minute.minutes_to(8.0, rows) == "at most 1 min"
    assert pictures_per_minute.minutes_to(0.5, rows) == "more than 9 min"


def test_a_report_of_a_gpu_says_when_it_is_as_far_as_a_cpu(tmp_path: Path) -> None:
    records.append_row(tmp_path / "pictures_per_minute_cpu.jsonl", row("unet", "ours", 3, 9.0))
    records.append_row(tmp_path / "pictures_per_minute_cpu.jsonl", row("unet", "ours", 30, 4.0))
    path = tmp_path / "pictures_per_minute_cuda.jsonl"
    for each in (row("unet", "ours", 1, 8.0), row("unet", "ours", 4, 2.0), row("diffusers", "own", 4, 5.0)):
        records.append_row(path, each)
    text = pictures_per_minute.report(path, tmp_path, [])
    assert "To the distance of our `UNet` after 30 minutes on a CPU, 4.00:" in text
    assert "- UNet of this course, our recipe: about 2 min" in text
    assert "- diffusers UNet2DModel, its own recipe: more than 4 min" in text
    assert "on a CPU, 4.00" not in pictures_per_minute.report(tmp_path / "pictures_per_minute_cpu.jsonl", tmp_path, [])


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    assert records.read_rows(path) == []
    records.append_row(path, {"a": 1, "share": float("nan"), "many": (1.0, float("nan"))})
    with path.open("a", encoding="utf-8") as file:
        file.write('{"a": 2, "b"')
    records.append_row(path, {"a": 3})
    assert [each["a"] for each in records.read_rows(path)] == [1, 3]
    assert records.read_rows(path)[0] == {"a": 1, "share": None, "many": [1.0, None]}


def test_the_readmes_have_their_blocks() -> None:
    text = (records.HERE / "README.md").read_text(encoding="utf-8")
    for device in ("cpu", "cuda"):
        for name in (f"pictures_per_minute {device} in full", f"sampling {device} in full", f"speed {device}"):
            assert text.count(f"<!-- {name}: begin -->") == text.count(f"<!-- {name}: end -->") == 1


def test_the_pages_show_what_the_rows_say(tmp_path: Path) -> None:
    """As if each program had just been called with --report."""
    page = (records.HERE / "README.md").read_text(encoding="utf-8")
    programs = {"pictures_per_minute": pictures_per_minute, "speed": speed}
    for name in ("pictures_per_minute", "sampling", "sampling_classes", "speed"):
        program: Any = programs.get(name, sampling)
        rows = tmp_path / f"{name}_cpu.jsonl"
        shutil.copy(records.RESULTS / rows.name, rows)
        arguments: tuple[Any, ...] = (
            (rows, records.RESULTS / rows.stem, []) if program is pictures_per_minute else (rows, [])
        )
        text = program.report(*arguments)
        block = name.replace("_classes", " classes")
        shown = re.findall(rf"<!-- {block} cpu(?: in full)?: begin -->\n(.*?)\n<!--", page, re.DOTALL)
        assert "\n\n".join(shown) == text.strip(), f"python benchmarks/{name}.py --report"
    assert ablations.report(records.read_rows(records.RESULTS / "ablations_cpu.jsonl")) in page


Key = tuple[str, str, float]
OTHERS = [model for model in CONTESTANTS if model != "unet"]


def distances(rows: dict[Key, records.Row], guided: bool | None = None) -> dict[Key, float]:
    """By the best of all samplers, by the guided one, or by the best of the others."""
    if guided:
        return {key: row["reports"]["guided"]["frechet"]["value"] for key, row in rows.items()}
    rows = rows if guided is None else {key: pictures_per_minute.guided_apart(row) for key, row in rows.items()}
    return {key: pictures_per_minute.nearest(row)["value"] for key, row in rows.items()}


def test_what_the_readme_says_of_the_others_holds() -> None:
    all_rows = pictures_per_minute.read_judged(records.RESULTS / "pictures_per_minute_cpu.jsonl")
    machines = pictures_per_minute.by_machine(all_rows)
    rows, best = machines[0], distances(machines[0])
    assert rows.keys() >= {
        (model, recipe, at) for model in OTHERS for recipe in pictures_per_minute.RECIPES for at in (3, 10, 30)
    }
    readme = (records.HERE / "README.md").read_text(encoding="utf-8")
    assert "by the best of three samplers of this course" in readme and "by the best of 3 samplers" in readme

    def times(found: dict[Key, float]) -> list[float]:
        """The others' distances after thirty minutes of their own recipes, over ours after three, rising."""
        return sorted(found[model, "own", 30] / found["unet", "ours", 3] for model in OTHERS)

    said = "these are at {:.1f}, {:.1f} and {:.1f} times its distance"
    assert said.format(*times(best)) in readme
    mine = rows["unet", "ours", 3]
    same = {key: mine[key] for key in ("model", "minutes", "samples", "machine", "details", "features")}
    again = {row["updates"]: row for row in all_rows if records.has(row, same) and row["updates"] != mine["updates"]}
    nearest_own = best["lucidrains", "own", 30]
    more = sorted(nearest_own / pictures_per_minute.nearest(row)["value"] for row in again.values())
    assert "two more of ours would turn the {:.1f} into {:.1f} and {:.1f}".format(times(best)[0], *more) in readme
    many = {key: mine[key] for key in ("machine", "features", "guidance")} | {"samples": 2000}
    by_many = {(row["model"], row["updates"]): row for row in all_rows if records.has(row, many)}
    for way, said in (
        ("guided", "our three trainings of three minutes put it at {:.1f}, {:.1f} and {:.1f}"),
        ("unclipped", "Without guidance it is {:.1f}, {:.1f} and {:.1f}"),
    ):
        value = {key: row["reports"][way]["frechet"]["value"] for key, row in by_many.items()}
        (theirs,) = (value.pop(key) for key in [*value] if key[0] == "lucidrains")
        assert said.format(*sorted(theirs / each for each in value.values())) in readme
    alone = [distances(here, guided=False) for here in machines if ("lucidrains", "own", 30) in here]
    elsewhere = [times(found)[0] for found in alone[1:]]
    assert len(elsewhere) == 2
    assert f"and on two other machines {max(elsewhere):.1f} and {min(elsewhere):.1f}." in readme
    for found in alone[1:]:  # with the other recipe, benchmarks/README.md says, it came nearer
        assert found["diffusers", "own", 30] < alone[0]["diffusers", "own", 30]
    swings = sorted(found["double-conv", "own", 30] for found in alone)
    assert f"came to between {swings[0]:.1f} and {swings[-1]:.1f} on the three" in readme

    for at in (3, 10):  # what is said for the plot
        assert best["unet", "ours", at] == min(each for (_, _, minutes), each in best.items() if minutes == at)
    assert times(best)[0] > 1

    sure = {
        model: row["reports"][pictures_per_minute.best_way(row)]["sure"]["value"]
        for (model, recipe, at), row in rows.items()
        if at == 3 and pictures_per_minute.is_own(model, recipe)
    }
    share, least, most = (round(100 * each) for each in (sure.pop("unet"), min(sure.values()), max(sure.values())))
    assert f"sure of {share} % of our network's pictures, and of {least} to {most} % of the others'" in readme


def test_what_the_page_says_of_model_and_recipe_holds() -> None:
    machines = pictures_per_minute.by_machine(
        pictures_per_minute.read_judged(records.RESULTS / "pictures_per_minute_cpu.jsonl")
    )
    rows, page = machines[0], (records.HERE / "README.md").read_text(encoding="utf-8")
    alone, guided = distances(rows, guided=False), distances(rows, guided=True)
    ours_10, ours_30, own_10, own_30 = (
        "{:.1f}, {:.1f} and {:.1f}".format(*(alone[model, recipe, minutes] for model in OTHERS))
        for recipe in ("ours", "own")
        for minutes in (10, 30)
    )
    assert f"come to {ours_10} after ten minutes and to {ours_30} after thirty; their own way, to {own_10}, and" in page
    assert f", and to {own_30}. What" in page
    speed = {model: rows[model, "ours", 10]["pictures_per_second"] for model in CONTESTANTS}
    faster = sorted(speed["unet"] / speed[model] for model in OTHERS)
    assert (
        "sees {:.0f} and {:.0f} times as many pictures in the same time as those of the two".format(*faster[:2]) in page
    )
    assert faster[2] == speed["unet"] / speed["double-conv"] and f"{faster[2]:.0f} times as many as the" in page
    said = []
    for found in (alone, guided):
        best = min(found[model, "ours", 10] for model in OTHERS)
        said.append(f"{found['unet', 'ours', 3]:.2f} and {best:.2f}")
        assert best == found["lucidrains", "ours", 10]
        assert all(best < found[key] for key, row in rows.items() if key[0] == "unet" and row["pictures"] < 41_000)
    assert f"about where the best of the others is after ten ({said[0]}; guided, {said[1]})" in page
    assert 40_000 < rows["lucidrains", "ours", 10]["pictures"] < 41_000
    three = [rows[model, "ours", 30] for model in ("unet", "diffusers", "lucidrains")]
    level, ahead = ([row["reports"][way]["frechet"] for row in three] for way in ("unclipped", "guided"))
    assert "equally near, as far as 500 samples can tell ({:.2f}, {:.2f} and {:.2f})".format(
        *(each["value"] for each in level)
    ) in page and max(each["low"] for each in level) < min(each["value"] for each in level)
    values = [each["value"] for each in ahead]
    assert "ahead, within the intervals ({:.2f}, {:.2f} and {:.2f})".format(*values) in page
    assert values[0] == max(values) and max(each["low"] for each in ahead) < min(each["high"] for each in ahead)
    ours, *pictures = (round(row["pictures"], -3) for row in three)
    assert "with {:,} and {:,} pictures, ours needs {:,}.".format(*pictures, ours) in page
    near = alone["lucidrains", "ours", 10] / alone["unet", "ours", 3]  # the front page has no numbers of it
    readme = (records.HERE / "README.md").read_text(encoding="utf-8")
    assert (
        0.9 < near < 1.1
        and "after ten minutes about where our network is after three, and after thirty minutes two" in readme
    )


def test_by_pictures_ours_is_no_worse_than_the_others_with_their_recipes() -> None:
    """Each of their rows beside ours after no more pictures, from some thousand pictures on."""
    path = records.RESULTS / "pictures_per_minute_cpu.jsonl"
    rows = pictures_per_minute.newest(pictures_per_minute.read_judged(path))
    ours = [row for (model, _, _), row in rows.items() if model == "unet"]
    theirs = [row for (model, recipe, _), row in rows.items() if model != "unet" and recipe == "own"]
    fewest = min(row["pictures"] for row in ours)
    theirs = [row for row in theirs if row["pictures"] >= fewest]
    assert len(theirs) >= 8 and fewest < 10_000
    for row in theirs:
        earlier = [one for one in ours if one["pictures"] <= row["pictures"]]
        last = max(earlier, key=lambda one: one["pictures"])
        assert pictures_per_minute.nearest(last)["value"] < pictures_per_minute.nearest(row)["value"]


# ----------------------------------------------------------------------------------------------- sampling


class Seen(nn.Module):
    """Answers as a good model of gray pictures would, and notes the timesteps that it is asked about."""

    def __init__(self, contrast: float = 0.5) -> None:
        super().__init__()
        self.weight, self.contrast = nn.Parameter(torch.full((1,), contrast)), contrast
        self.schedule = make_schedule("cosine")
        self.times: list[int] = []

    def forward(self, x_t: Tensor, t: Tensor, y: None = None) -> Tensor:
        self.times.append(int(t[0]))
        a, b = self.schedule.at(t, x_t)
        shape = self.contrast * torch.linspace(-1, 1, 28).view(1, 1, 1, 28)
        return b * (x_t - a * shape) / (0.01 * a * a + b * b)  # of pictures with mean `shape` and variance 0.01


def network(model: nn.Module, target: str = "eps", weak: nn.Module | None = None) -> sampling.Network:
    return sampling.Network(model.eval(), make_schedule("cosine"), target, weak and weak.eval())


@pytest.mark.parametrize("name", [*sampling.SAMPLERS])
def test_every_sampler_asks_at_our_timesteps_and_finds_the_pictures(name: str) -> None:
    if "diffusers" in name:
        pytest.importorskip("diffusers")
    sampler = sampling.SAMPLERS[name]
    model, weak = (Seen(0.3), Seen(0.1)) if sampler.guided else (Seen(), Seen())  # twice 0.3 less 0.1 is 0.5
    noise = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    drawn = sampler.draw(network(model, weak=weak), noise, 20, 0)
    start = 1000 if name.removeprefix("diffusers-") in ("ddpm", "ddim") else start_time(model.schedule)
    times = sampling_times(1000, 10 if sampler.guided else 20, start=start)[:-1]
    assert max(abs(a - b) for a, b in zip(model.times, times, strict=True)) <= 1  # another rounding is no harm
    assert weak.times == (model.times if sampler.guided else [])
    assert (drawn.mean((0, 1, 2)) - 0.5 * torch.linspace(-1, 1, 28)).abs().max() < 0.1


def test_two_libraries_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.setattr(sampling, "start_time", lambda schedule, target: 980)  # 49 whole steps each
    noise = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    models = network(Seen(1.5))  # beyond [-1, 1], so that clipping would be seen
    a, b = (sampling.SAMPLERS[name].draw(models, noise, 20, 0) for name in ("2m", "diffusers-2m"))
    torch.testing.assert_close(a, b, rtol=0, atol=2e-3)
    assert not torch.allclose(a, sampling.SAMPLERS["ddim"].draw(models, noise, 20, 0), atol=0.02)
    with pytest.raises(ValueError, match="velocity"):
        sampling.build_scheduler("DDIMScheduler", network(Seen(), "velocity"), 1)


def test_the_sampling_benchmark_goes_on_and_reports(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.setattr(sampling, "load_shipped", lambda device, weak=False: network(Seen(0.1 if weak else 0.3)))
    same = ["--samples", "20", "--device", "cpu", "--results", str(tmp_path), "--samplers", "ddim", "diffusers-ddim"]
    call = [*same, "--evaluations", "3"]
    path = tmp_path / "sampling_cpu.jsonl"
    assert sampling.main(call) == 0
    first = path.read_text(encoding="utf-8")
    assert sorted(json.loads(line)["kind"] for line in first.splitlines()) == ["overhead"] * 2 + ["sampler"] * 2
    assert sampling.main(call) == 0
    assert path.read_text(encoding="utf-8") == first
    assert sampling.main([*same, "--evaluations", "2", "3"]) == 0
    assert len(path.read_text(encoding="utf-8").splitlines()) == 6
    assert sampling.main([*same, "2m-sde-guided", "--evaluations", "3"]) == 0
    guided = records.read_rows(path)[-1]
    assert guided["weak"] == sampling.weights_id(Seen(0.1)) != guided["weights"] == sampling.weights_id(Seen(0.3))
    monkeypatch.setattr(sampling, "load_checkpoint", lambda path, device: network(Seen(0.2)))
    elsewhere = ["--checkpoint", "a.safetensors", "--results", str(tmp_path / "b")]
    assert sampling.main([*same, "2m-sde-guided", "--evaluations", "3", *elsewhere]) == 0  # nothing to guide it by
    drawn = (row.get("sampler") for row in records.read_rows(tmp_path / "b" / "sampling_cpu.jsonl"))
    assert [each for each in drawn if each] == ["ddim", "diffusers-ddim"]
    with pytest.raises(SystemExit):
        sampling.main([*elsewhere, "--samplers", "2m-sde-guided"])
    assert sampling.main([*same, "2m-sde-guided", "--evaluations", "3", *elsewhere, "--weak", "b.safetensors"]) == 0
    assert records.read_rows(tmp_path / "b" / "sampling_cpu.jsonl")[-1]["weak"] == sampling.weights_id(Seen(0.2))
    capsys.readouterr()
    assert sampling.main([*call, "--report"]) == 0
    text = capsys.readouterr().out
    for each in records.read_rows(path):
        if each["kind"] == "sampler":
            assert records.interval(each["report"]["frechet"]) in text
        else:
            assert each["ratios"].keys() == {"ddim", "diffusers-ddim"}
    assert "| DDIM | diffusers |" in text and (tmp_path / "sampling_cpu.png").stat().st_size > 10_000


def test_time_of_a_sampling_loop_is_that_of_its_passes_and_what_it_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(sampling, "time", clock)

    class Slow(Seen):
        def forward(self, x_t: Tensor, t: Tensor, y: None = None) -> Tensor:
            clock.now += 1
            return super().forward(x_t, t, y)

    def draw(network: sampling.Network, x_T: Tensor, evaluations: int, seed: int, extra: float) -> Tensor:
        clock.now += 5  # once for each batch
        for t in range(evaluations):
            network.model(x_T, torch.full((len(x_T),), t), None)
            clock.now += extra
        return x_T

    half, twice = (
        replace(sampling.SAMPLERS[name], draw=partial(draw, extra=extra))
        for name, extra in (("ddim", 0.5), ("ddpm", 1))
    )
    found = sampling.overhead(network(Slow()), [half, twice], 2, 10, rounds=3)
    assert found == {"batch": 2, "bare_ms": 1000, "ratios": {"ddim": 2, "ddpm": 2.5}}  # 5 seconds by 10 passes
    drawn = sampling.draw_in_turns(network(Slow()), [half, twice], 10, sampling.BATCH + 3, 0)
    assert {name: seconds for name, (_, seconds) in drawn.items()} == {"ddim": 2 * 20, "ddpm": 2 * 25}
    assert all(samples.shape == (sampling.BATCH + 3, 1, 28, 28) for samples, _ in drawn.values())


# --- ablations.py


def test_ablations_train_each_variant_its_way_and_make_no_row_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"channels": (8, 16)}
    monkeypatch.setattr(
        ablations,
        "VARIANTS",
        {
            "recipe": ablations.Variant("recipe", unet=small),
            "adamw": ablations.Variant("AdamW", {"batch_size": 8}, small, ablations.ADAMW),
            "linear": ablations.Variant("linear, last", {"schedule": "linear", "ema": 0.0, "batch_size": 16}, small),
        },
    )
    moments: dict[str, set[str]] = {}
    averaged: dict[str, bool] = {}

    class Watched(OurTraining):
        def _run(self, until: float) -> None:
            super()._run(until)
            moments[f"batches of {self.batch_size}"] = {key.rpartition(".")[2] for key in self.moments}
            pairs = zip(self.model.parameters(), self.to_sample_from().parameters(), strict=True)
            averaged[f"batches of {self.batch_size}"] = any(not torch.equal(*pair) for pair in pairs)

    monkeypatch.setattr(ablations, "OurTraining", Watched)
    monkeypatch.setattr(contestants, "time", Clock(0.1))  # however long an update takes
    monkeypatch.setattr(ablations, "heldout_loss", partial(ablations.heldout_loss, draws=200))
    monkeypatch.setattr(records, "measure", partial(measure, resamples=10))
    command = ["--minutes", "0.01", "--slice", "0.3", "--samples", "80", "--evaluations", "2", "--data", "packaged"]
    build = tmp_path / "build" / "ablations_cpu"
    command += ["--results", str(tmp_path), "--build", str(build.parent), "--device", "cpu"]
    command += ["--variants", "recipe", "adamw", "linear", "--seeds", "0", "3"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # stopped before the first is judged
        patch.setattr(ablations, "draw_samples", lambda *_, **__: signal.raise_signal(signal.SIGINT))
        ablations.main(command)
    saved = {}
    for path in build.iterdir():
        with safetensors.safe_open(path, "pt") as file:
            saved[path.stem] = file.metadata()
    assert ablations.main(command) == 0
    assert not [*build.iterdir()]
    rows = records.read_rows(tmp_path / "ablations_cpu.jsonl")
    done = {f"{row['variant']}_{row['details']['seed']}": row["updates"] for row in rows}
    assert saved.keys() == done.keys()
    over = {name for name, about in saved.items() if float(about["seconds"]) >= 0.6}
    assert len(over) == 1  # each had a turn, the first one two
    for name, about in saved.items():  # those whose time was over did not go on, the others did not begin anew
        assert done[name] == int(about["step"]) if name in over else done[name] > int(about["step"])
    made = sorted((row["variant"], row["details"]["seed"]) for row in rows)
    assert made == [(name, seed) for name in ("adamw", "linear", "recipe") for seed in (0, 3)]
    assert averaged == {"batches of 32": True, "batches of 8": True, "batches of 16": False}
    assert moments["batches of 32"] == {"momentum_buffer", "exp_avg", "exp_avg_sq", "step"}
    assert moments["batches of 8"] == {"exp_avg", "exp_avg_sq", "step"}
    for row in rows:
        assert row["pictures"] == row["updates"] * row["details"]["batch size"] > 0
        assert row["details"]["optimizers"] == (["AdamW"] if row["variant"] == "adamw" else ["Muon", "AdamW"])
        assert row["details"]["schedule"] == ("linear" if row["variant"] == "linear" else "cosine")
    assert ablations.main(command) == 0
    assert records.read_rows(tmp_path / "ablations_cpu.jsonl") == rows
    shown = capsys.readouterr().out
    assert "| AdamW | " in shown and "*real pictures, held out*" in shown
    for row in rows:
        assert records.interval(row["report"]["frechet"]) in shown
    a, b = (row["report"]["frechet"]["value"] for row in rows if row["variant"] == "linear")
    assert f" | {(a + b) / 2:.2f} |" in next(line for line in shown.splitlines() if line.startswith("| linear"))
    other = {**rows[0], "recipe": {**rows[0]["recipe"], "ema": 0.5}}
    assert ablations.report([other, *rows[1:]]) == ablations.report(rows[1:])  # of another recipe


@pytest.mark.parametrize("name", ablations.VARIANTS)
def test_a_variant_of_the_ablations_trains(name: str, pictures: Pictures) -> None:
    variant = ablations.VARIANTS[name]
    training = variant.start(pictures, 3.0, 0, torch.device("cpu"))
    before = [weight.clone() for weight in training.model.parameters()]
    with variant.in_force():
        training.run(0.01)
    assert training.step >= 1
    pairs = zip(before, training.model.parameters(), strict=True)
    assert all(weight.isfinite().all() for weight in training.model.parameters())
    assert any(not torch.equal(*pair) for pair in pairs)


def test_the_draws_of_the_ablations_favour_the_timesteps_that_they_say(pictures: Pictures) -> None:
    schedule = make_schedule("cosine", 100)
    weights = min_snr_weights(schedule, "eps", 5.0)[1:].double()
    for draws, expected in (
        (ablations.Spread(pictures, schedule, 1000), torch.full((100,), 10.0)),
        (ablations.Proportional(pictures, schedule, 1000), 1000 * weights / weights.sum()),
    ):
        _, t, eps = draws(1)
        counts = torch.bincount(t, minlength=101)[1:]
        assert len(counts) == 100 and eps.shape == (1000, 1, 28, 28)
        if isinstance(draws, ablations.Spread):
            assert (counts - expected).abs().max() <= 1  # one of each part, wherever in it
        else:  # chi-squared with 99 degrees of freedom: above 160 once in ten thousand times
            assert float(((counts - expected) ** 2 / expected).sum()) < 160


def test_the_heldout_loss_is_one_for_the_same_guess_of_the_picture_whatever_is_predicted(pictures: Pictures) -> None:
    """A network that always guesses a gray picture, said as noise, as v and as the picture itself."""

    class Gray(nn.Module):
        def __init__(self, schedule: Schedule, target: str) -> None:
            super().__init__()
            self.schedule, self.target, self.device = schedule, target, nn.Parameter(torch.zeros(()))

        def forward(self, x_t: Tensor, t: Tensor, y: None = None) -> Tensor:
            a, b = self.schedule.at(t, x_t)
            gray = torch.zeros_like(x_t)
            return {"x0": gray, "eps": x_t / b, "v": a * x_t / b}[self.target]  # v = a eps − b x0, eps = (x_t − a x0)/b

    schedule = make_schedule("cosine")
    draws = 4000
    losses = {
        target: ablations.heldout_loss(Gray(schedule, target), schedule, target, pictures, draws)
        for target in ("x0", "eps", "v")
    }
    assert losses["eps"] == pytest.approx(losses["x0"], rel=1e-4) and losses["v"] == pytest.approx(
        losses["x0"], rel=1e-4
    )
    by_hand = float(schedule.snr[1:].clamp(max=5).mean() * pictures[:].square().mean())
    assert losses["x0"] == pytest.approx(by_hand, rel=0.05)
    linear = make_schedule("linear")  # other timesteps, the same signal-to-noise ratios
    assert ablations.heldout_loss(Gray(linear, "eps"), linear, "eps", pictures, draws) == pytest.approx(
        losses["eps"], rel=0.01
    )


def test_what_the_page_says_of_the_ablations_holds() -> None:
    newest = ablations.newest(records.read_rows(records.RESULTS / "ablations_cpu.jsonl"))
    assert newest.keys() == ablations.VARIANTS.keys() and {(*by_seed,) for by_seed in newest.values()} == {(0,)}
    rows = {name: by_seed[0] for name, by_seed in newest.items()}
    page = (records.HERE / "README.md").read_text(encoding="utf-8")
    assert "with three minutes and one seed for each, all in bfloat16" in page
    assert all(row["minutes"] == 3 and row["autocast"] == "torch.bfloat16" for row in rows.values())
    distance = {name: row["report"]["frechet"] for name, row in rows.items()}
    more = {name: row["heldout_loss"] / rows["recipe"]["heldout_loss"] - 1 for name, row in rows.items()}
    apart = distance["threads"]["value"] / distance["recipe"]["value"] - 1
    assert f"this one repeat differs by {100 * abs(more['threads']):.1f} % in the loss and by" in page
    assert f" by {100 * abs(apart):.0f} % in the distance, and other seeds would differ more." in page
    for name in ("adamw", "adamw-fast", "linear", "unweighted", "gamma-1"):
        assert 0.02 < more.pop(name) < 0.08
    for name in ("narrow", "attention"):
        assert 0.02 < more.pop(name) < 0.03
    assert abs(more.pop("last")) < 0.002 and distance.pop("last")["value"] > 2 * distance["recipe"]["value"]
    assert -0.025 < more.pop("pixels") < -0.02 and distance.pop("pixels")["low"] > distance["recipe"]["high"]
    for name, each in more.items():
        assert abs(each) < 0.01
        assert distance[name]["low"] < distance["recipe"]["high"] and distance[name]["high"] > distance["recipe"]["low"]


def test_the_readme_shows_what_was_measured_on_the_weights_that_are_shipped() -> None:
    rows = records.read_rows(records.RESULTS / "sampling_cpu.jsonl")
    shipped = sampling.weights_id(load_shipped().model)
    newest, _ = sampling.newest(rows)
    row = newest["2m-sde-guided", 50]
    assert row["weights"] == shipped and row["weak"] == sampling.weights_id(load_shipped(weak=True).model)
    assert row["data"] == "full" and row["samples"] == 1000
    readme = (records.HERE / "README.md").read_text(encoding="utf-8")
    assert f"weights {shipped}" in readme
    d = row["report"]["frechet"]
    assert (
        f"distance from real pictures is {records.interval(d)}; that of as many real ones is {d['floor']:.2f}" in readme
    )


def test_a_network_that_knows_classes_is_asked_for_each_in_turn() -> None:
    asked = []

    class Told(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
            asked.append(y.tolist())
            return x_t

    sampling.InTurn(Told(), 3)(torch.zeros(5, 1, 2, 2), torch.ones(5))
    assert asked == [[0, 1, 2, 0, 1]]


def test_the_readme_shows_what_was_measured_on_the_weights_that_know_classes() -> None:
    rows, _ = sampling.newest(records.read_rows(records.RESULTS / "sampling_classes_cpu.jsonl"))
    row = rows["2m-sde", 25]
    told = load_shipped(classes=True).model
    assert row["weights"] == sampling.weights_id(sampling.InTurn(told, told.config["num_classes"]))
    assert row["data"] == "full" and row["samples"] == 1000
    readme = (records.HERE / "README.md").read_text(encoding="utf-8")
    distance = records.interval(row["report"]["frechet"])
    assert f"the distance of its samples is {distance} after 25 steps" in readme
    others, _ = sampling.newest(records.read_rows(records.RESULTS / "sampling_cpu.jsonl"))
    assert row["report"]["frechet"]["high"] < others["2m-sde", 25]["report"]["frechet"]["low"]


def test_what_is_said_of_the_samplers_holds() -> None:
    """Beside the plot, and in notebook 05 of fresh noise and of guidance: which is nearer, and whether clearly so."""
    rows, _ = sampling.newest(records.read_rows(records.RESULTS / "sampling_cpu.jsonl"))
    found = {key: row["report"]["frechet"] for key, row in rows.items()}

    def nearer(one: tuple[str, int], other: tuple[str, int], clearly: bool) -> bool:
        a, b = found[one], found[other]
        return bool(a["value"] < b["value"] and (a["high"] < b["low"]) == clearly)

    for calls, name in ((5, "diffusers-unipc"), (10, "diffusers-unipc"), (25, "2m-sde"), (50, "2m-sde-guided")):
        best = min((key for key in found if key[1] == calls), key=lambda key: found[key]["value"])
        assert sampling.SAMPLERS[best[0]].method == sampling.SAMPLERS[name].method
    assert found["2m-sde-guided", 100]["value"] < found["ddpm", 100]["value"]
    assert nearer(("2m", 5), ("2m-sde", 5), clearly=True)
    assert nearer(("2m-sde", 25), ("2m", 25), clearly=False) and nearer(("2m-sde", 50), ("2m", 50), clearly=False)
    assert nearer(("2m-sde-guided", 50), ("2m-sde", 50), clearly=False)
    assert nearer(("2m-sde", 25), ("2m-sde-guided", 25), clearly=False)
    assert nearer(("2m-sde", 10), ("2m-sde-guided", 10), clearly=True)


# --- speed.py


def test_operations_are_counted_as_by_hand() -> None:
    """Two convolutions on 28×28: forward, weights' gradient twice, and input's gradient of the second."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

        def forward(self, x_t: Tensor, t: Tensor, y: None = None) -> Tensor:
            return self.second(self.first(x_t))

    one = 2 * 28 * 28 * 9 * 4
    model = Two()
    assert speed.flops_per_picture(model, make_schedule("cosine"), torch.zeros(1, 1, 28, 28)) == 5 * one
    assert all(p.grad is None for p in model.parameters()) and model.training


def test_operations_of_a_network_with_batchnorm_are_counted_on_one_picture() -> None:
    model = CONTESTANTS["double-conv"].build()
    before = copy.deepcopy(model.state_dict())
    assert speed.flops_per_picture(model, make_schedule("cosine"), torch.zeros(1, 1, 28, 28)) > 1e9
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_attention_is_counted_however_it_is_computed() -> None:
    """The deepest point: 49 positions, 64 channels, two products forward and four backward."""
    x0, schedule = torch.zeros(1, 1, 28, 28), make_schedule("cosine")
    with_it, without = UNet(), UNet()
    without.middle[0].attention = nn.Identity()
    here = [speed.flops_per_picture(model, schedule, x0) for model in (with_it, without)]
    projections = 3 * 2 * 49 * 64 * (192 + 64)
    assert here[0] - here[1] == projections + 6 * 2 * 49 * 49 * 64


def test_speed_is_measured_once_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = Contestant("unet", "UNet, narrow", tiny_unet)
    monkeypatch.setattr(speed, "CONTESTANTS", {"unet": narrow})
    monkeypatch.setattr(speed, "can_compile", lambda device: True)
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda model, **_: compiled.append(model))
    command = ["--models", "unet", "--batches", "4", "--seconds", "0.05", "--rounds", "3", "--data", "packaged"]
    command += ["--ways", "float32", "channels-last", "compiled", "--device", "cpu", "--results", str(tmp_path)]
    assert speed.main(command) == 0
    rows = records.read_rows(tmp_path / "speed_cpu.jsonl")
    assert [row["way"] for row in rows] == ["float32", "channels-last", "compiled"] and len(compiled) == 1
    for row in rows:
        slowest, fastest = row["slowest_and_fastest_turn"]
        assert 0 < slowest <= row["pictures_per_second"] <= fastest and row["peak_bytes"] is None
        share = row["flops_per_picture"] * row["pictures_per_second"] / row["reference_flops_per_second"]
        assert row["utilization"] == pytest.approx(share, abs=1e-3) and 0 < share < 1
    assert speed.main(command) == 0
    assert records.read_rows(tmp_path / "speed_cpu.jsonl") == rows
    assert "| UNet, narrow | + channels last | 4 | " in capsys.readouterr().out


def test_the_rate_of_a_turn_is_of_pictures_not_of_updates(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "CONTESTANTS", {"unet": Contestant("unet", "UNet, narrow", tiny_unet)})
    timed = speed.Timed("unet", speed.WAYS["float32"], 3, pictures, None)
    clock = Clock()
    monkeypatch.setattr(speed, "time", clock)

    def updates() -> Iterator[Any]:
        while True:
            clock.now += 0.5
            yield

    timed.updates = updates()
    for seconds in (2, 0.1, 2):
        timed.turn(seconds)
    assert timed.rates == [6, 6, 6]  # two updates of three pictures in each second
    row = timed.row(reference=1e9)
    assert row["pictures_per_second"] == 6 and row["utilization"] == pytest.approx(6 * timed.flops / 1e9, abs=1e-4)


def test_ways_that_a_device_cannot_go_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def names(autocast: torch.dtype | None, compiler: bool) -> list[str]:
        monkeypatch.setattr(speed, "can_compile", lambda device: compiler)
        return [way.name for way in speed.ways_of(CPU, [*speed.WAYS], autocast)]

    assert names(torch.bfloat16, True) == ["float32", "channels-last", "bfloat16", "compiled"]
    assert names(None, True) == ["float32", "channels-last", "compiled"]
    assert names(torch.bfloat16, False) == ["float32", "channels-last", "bfloat16"]


def test_when_compiling_pays() -> None:
    plain = {"pictures_per_second": 100.0, "first_seconds": 1.0}
    assert speed.pays_back({"pictures_per_second": 150.0, "first_seconds": 61.0}, plain) == "3.0 min"  # 60 s · 150/50
    assert speed.pays_back({"pictures_per_second": 90.0, "first_seconds": 61.0}, plain) == "never"


@pytest.mark.cuda
def test_speed_on_the_gpu(tmp_path: Path) -> None:
    command = ["--models", "unet", "--batches", "64", "--seconds", "1", "--rounds", "2", "--data", "packaged"]
    assert speed.main([*command, "--device", "cuda", "--results", str(tmp_path)]) == 0
    rows = {row["way"]: row for row in records.read_rows(tmp_path / "speed_cuda.jsonl")}
    assert {"float32", "channels-last"} <= set(rows)
    for row in rows.values():
        assert 4 * row["parameters"] < row["peak_bytes"] < 2**32 and 0 < row["utilization"] < 1
