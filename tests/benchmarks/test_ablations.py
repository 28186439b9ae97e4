"""Every variant changes what its name says, and no training is lost or made twice."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import ablations
from ablations import VARIANTS, Proportional, Spread, Variant, heldout_loss
from course_lib.objective import min_snr_weights
from course_lib.schedule import Schedule, make_schedule
from course_lib.training.workers import Workers
from helpers_benchmarks import CPU, HELDOUT, PICTURES, Judged, without_trials
from records import interval, read_rows


def test_every_variant_trains_and_differs_from_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    without_trials(monkeypatch)
    made = {}
    for name, changed in VARIANTS.items():
        changes = {} if name == "batch-64" else {"batch_size": 8}
        with replace(changed, train={**changed.train, **changes}).start(PICTURES, 3.0, CPU) as training:
            assert Workers.suit(training.model) == (name != "threads" and torch.get_num_threads() > 1)
            training.run(1e-9)
        made[name] = training.state()  # weights, average and moments
        assert all(tensor.isfinite().all() for part in made[name].values() for tensor in part.values())
    recipe = made.pop("recipe")
    del made["threads"]  # which adds the same numbers in another order
    for variant in made.values():
        with pytest.raises(AssertionError):
            torch.testing.assert_close(variant, recipe, rtol=0, atol=0)


def test_a_variant_is_trained_for_its_time_judged_and_not_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_trials(monkeypatch)
    small = {"channels": (8, 16)}
    variants = {
        "recipe": Variant("recipe", unet=small),
        "adamw": Variant("AdamW", {"batch_size": 8}, small, ablations.ADAMW),
        "linear": Variant("linear, last", {"schedule": "linear", "ema": 0.0, "batch_size": 16}, small),
    }
    monkeypatch.setattr(ablations, "VARIANTS", variants)
    monkeypatch.setattr(ablations, "load_data", lambda source: (PICTURES, HELDOUT))
    monkeypatch.setattr(ablations, "heldout_loss", partial(heldout_loss, count=50))
    monkeypatch.setattr(ablations, "judge", lambda samples, *_: Judged(float(samples.abs().mean())))
    command = ["--minutes", "0.005", "--samples", "20", "--device", "cpu", "--results", str(tmp_path), "--variants"]
    path = tmp_path / "ablations_cpu.jsonl"
    assert ablations.main([*command, "adamw"]) == 0 and len(read_rows(path)) == 1
    assert ablations.main([*command, *variants]) == 0
    rows = read_rows(path)
    assert [row["variant"] for row in rows] == ["adamw", "recipe", "linear"]
    for row in rows:
        assert row["pictures"] == row["updates"] * row["details"]["batch size"] > 0
        assert row["details"]["optimizers"] == (["AdamW"] if row["variant"] == "adamw" else ["Muon", "AdamW"])
        assert row["details"]["schedule"] == ("linear" if row["variant"] == "linear" else "cosine")
    capsys.readouterr()
    assert ablations.main([*command, *variants]) == 0 and read_rows(path) == rows
    shown = capsys.readouterr().out
    assert "| AdamW | " in shown and all(interval(row["report"]["frechet"]) in shown for row in rows)
    other = {**rows[0], "recipe": {**rows[0]["recipe"], "ema": 0.5}}
    assert ablations.newest([other, *rows[1:]]).keys() == {row["variant"] for row in rows[1:]}


def test_timesteps_are_as_frequent_as_their_variant_says() -> None:
    schedule = make_schedule("cosine", 100)
    spread, proportional = (
        torch.bincount(kind(PICTURES, schedule, 1000)(1)[1], minlength=101)[1:] for kind in (Spread, Proportional)
    )
    assert (spread - 10).abs().max() <= 1  # one of each part, wherever in it
    weights = min_snr_weights(schedule, "eps", 5.0)[1:].double()
    expected = 1000 * weights / weights.sum()
    # chi-squared with 99 degrees of freedom: above 160 once in ten thousand times
    assert len(proportional) == 100 and float(((proportional - expected) ** 2 / expected).sum()) < 160


class Gray(nn.Module):
    """Always guesses a gray picture, and says so as noise, as v or as the picture itself."""

    def __init__(self, schedule: Schedule, target: str) -> None:
        super().__init__()
        self.schedule, self.target, self.device = schedule, target, nn.Parameter(torch.zeros(()))

    def forward(self, x_t: Tensor, t: Tensor, y: None = None) -> Tensor:
        a, b = self.schedule.at(t, x_t)
        gray = torch.zeros_like(x_t)
        return {"x0": gray, "eps": x_t / b, "v": a * x_t / b}[self.target]  # v = a eps − b x0, eps = (x_t − a x0)/b


def test_the_heldout_loss_is_the_same_for_the_same_guess_whatever_is_predicted() -> None:
    cosine, linear = make_schedule("cosine"), make_schedule("linear")
    losses = [heldout_loss(Gray(cosine, target), cosine, target, PICTURES, 4000) for target in ("x0", "eps", "v")]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-4)
    by_hand = float(cosine.snr[1:].clamp(max=5).mean() * PICTURES[:].square().mean())
    assert losses[0] == pytest.approx(by_hand, rel=0.05)
    # other timesteps, the same signal-to-noise ratios
    assert heldout_loss(Gray(linear, "eps"), linear, "eps", PICTURES, 4000) == pytest.approx(losses[0], rel=0.01)
