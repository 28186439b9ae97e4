"""All samplers ask at our timesteps and find the pictures, and each is measured once."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

import judging
import sampling
from course_lib.metrics import measure
from course_lib.schedule import make_schedule, sampling_times, start_time
from helpers_benchmarks import HELDOUT, PICTURES
from records import interval, read_rows
from samplers import SAMPLERS, InTurn, Network


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


def network(model: nn.Module, weak: nn.Module | None = None) -> Network:
    return Network(model.eval(), make_schedule("cosine"), "eps", (weak or Seen()).eval())


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_asks_at_our_timesteps_and_finds_the_pictures(name: str) -> None:
    if "diffusers" in name:
        pytest.importorskip("diffusers")
    sampler = SAMPLERS[name]
    model, weak = (Seen(0.3), Seen(0.1)) if sampler.guided else (Seen(), Seen())  # twice 0.3 less 0.1 is 0.5
    noise = torch.randn(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    samples = sampler.run(network(model, weak), noise, 20, 0)
    start = 1000 if name.removeprefix("diffusers-") in ("ddpm", "ddim") else start_time(model.schedule)
    times = sampling_times(1000, 10 if sampler.guided else 20, start=start)[:-1]
    assert max(abs(a - b) for a, b in zip(model.times, times, strict=True)) <= 1  # another rounding is no harm
    assert weak.times == (model.times if sampler.guided else [])
    assert (samples.mean((0, 1, 2)) - 0.5 * torch.linspace(-1, 1, 28)).abs().max() < 0.1


def test_guesses_are_clipped_where_ddpm_samples_and_it_begins_at_T() -> None:
    for clipped, start in ((False, start_time(make_schedule("cosine"))), (True, 1000)):
        model = Seen(5.0)  # its pictures are far outside of [-1, 1]
        samples = judging.make_samples(model.eval(), model.schedule, "eps", 4, clipped=clipped)
        assert len(samples) == 4 and (samples.abs().max() <= 1) == clipped
        assert model.times[0] == start and len(model.times) == judging.EVALUATIONS


def test_a_network_that_knows_classes_is_asked_for_each_in_turn() -> None:
    told = Mock()
    InTurn(told, 3)(torch.zeros(5, 1, 2, 2), torch.ones(5))
    assert told.call_args.args[2].tolist() == [0, 1, 2, 0, 1]


def test_the_benchmark_goes_on_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("diffusers")
    monkeypatch.setattr(sampling, "load_data", lambda source: (PICTURES, HELDOUT))
    monkeypatch.setattr(judging, "measure", partial(measure, resamples=10))
    monkeypatch.setattr(sampling, "load_shipped", lambda device, weak=False: network(Seen(0.1 if weak else 0.3)))
    same = ["--samples", "20", "--device", "cpu", "--results", str(tmp_path), "--samplers"]
    path = tmp_path / "sampling_cpu.jsonl"

    def rows(*arguments: str) -> list[str]:
        assert sampling.main([*same, *arguments]) == 0
        return [row["sampler"] for row in read_rows(path)]

    both = ["ddim", "diffusers-ddim"]
    assert rows(*both, "--evaluations", "3") == both == rows(*both, "--evaluations", "3")
    assert rows(*both, "--evaluations", "3", "2") == [*both, *both]
    assert rows("2m-sde-guided", "--evaluations", "3") == [*both, *both, "2m-sde-guided"]
    guided = read_rows(path)[-1]
    assert guided["weak"] == sampling.weights_id(Seen(0.1)) != guided["weights"] == sampling.weights_id(Seen(0.3))
    capsys.readouterr()
    rows(*both, "--report")
    text = capsys.readouterr().out
    assert all(interval(each["report"]["frechet"]) in text for each in read_rows(path))
    assert "| DDIM | diffusers |" in text and (tmp_path / "sampling_cpu.png").stat().st_size > 10_000
