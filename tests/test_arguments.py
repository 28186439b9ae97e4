"""Every function of the core with good arguments but for one: it names the argument, and asks no network before."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from course_lib.data import Pictures
from course_lib.forward import corrupt, left_in_words, make_target, q_posterior, q_sample, q_step, to_x0_eps
from course_lib.guide import AutoGuidance
from course_lib.objective import denoising_loss, loss_by_timestep, min_snr_weights
from course_lib.optim import make_optimizers
from course_lib.runtime import pick_autocast
from course_lib.sample import extrapolate, predict, reverse_step, sample, trajectory
from course_lib.schedule import make_schedule, start_time, zero_terminal_snr
from course_lib.train import EMA, RandomBatches, TrainConfig, TrainState, train
from helpers_models import Recorder, randn

X, X0, TIMES = randn(2, 1, 4, 4), randn(2, 1, 4, 4, seed=1).clamp(-1, 1), torch.tensor([3, 4])
MODEL, SCHEDULE = Recorder(), make_schedule("linear", 10)
SOME = Pictures(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
ASKED = dict(model=MODEL, schedule=SCHEDULE, target="v", y=TIMES)
WALK = ASKED | dict(x_T=X, times=[4, 2, 0], eta=0.5, order=2, clip=True)

#: Good arguments: those that are pictures first.
GOOD: dict[Callable[..., Any], dict[str, Any]] = {
    corrupt: dict(x=X0, noise=X, amount=0.5),
    q_step: dict(x_s=X, eps=X, schedule=SCHEDULE, s=3, t=4),
    q_sample: dict(x0=X0, eps=X, schedule=SCHEDULE, t=4),
    q_posterior: dict(x_t=X, x0=X0, schedule=SCHEDULE, s=3, t=4),
    make_target: dict(x0=X0, eps=X, kind="v", schedule=SCHEDULE, t=4),
    to_x0_eps: dict(x_t=X, prediction=X, kind="v", schedule=SCHEDULE, t=4),
    denoising_loss: dict(x0=X0, eps=X, **ASKED, t=TIMES),
    loss_by_timestep: dict(x0=X0, **ASKED, times=TIMES),
    min_snr_weights: dict(schedule=SCHEDULE, target="v", gamma=5),
    reverse_step: dict(x0_hat=X, eps_hat=X, schedule=SCHEDULE, t=4, s=3, eta=0.5),
    extrapolate: dict(x0_hat=X, x0_before=X, schedule=SCHEDULE, t=4, s=3, t_before=9),
    predict: dict(x_t=X, **ASKED, t=3, clip=True),
    trajectory: WALK,
    sample: WALK | dict(batch_size=2),
    AutoGuidance: dict(model=MODEL, weak=MODEL, schedule=SCHEDULE, strength=2, largest=2),
    start_time: dict(schedule=SCHEDULE, target="eps", largest=80),
    zero_terminal_snr: dict(schedule=SCHEDULE),
    left_in_words: dict(schedule=SCHEDULE),
    lambda schedule: RandomBatches(SOME, schedule, 2): dict(schedule=SCHEDULE),
    lambda model: pick_autocast(model, X, TIMES): dict(model=MODEL),
    make_optimizers: dict(model=MODEL, lr=1e-3),
    EMA: dict(model=MODEL, decay=0.9),
    train: dict(model=MODEL, schedule=SCHEDULE, pictures=SOME, config=TrainConfig(1), start=TrainState()),
}
PER_PICTURE = (q_step, q_sample, q_posterior, make_target, to_x0_eps, denoising_loss)

Case = tuple[Any, type[Exception], str]
PICTURES: list[Case] = [
    ([0.0], TypeError, "must be a torch.Tensor, got list"),
    (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), TypeError, "must hold floats .*got torch.uint8; .*to_float"),
    (torch.zeros(1, 4, 4), ValueError, r"must have 4 dimensions .*got 3"),
    (torch.zeros(0, 1, 4, 4), ValueError, "is empty"),
    (torch.zeros(2, 1, 4, 4) / 0, ValueError, "holds 32 value.* NaN or infinite"),
]
COMPANIONS: list[Case] = [
    (torch.zeros(2, 1, 4, 5), ValueError, r"must have the shape of .*\(2, 1, 4, 4\), got \(2, 1, 4, 5\)"),
    (torch.zeros(2, 1, 4, 4).double(), TypeError, "must have the dtype of .*got torch.float64"),
    (torch.full((2, 1, 4, 4), math.nan), ValueError, "holds 32 value.* NaN"),
]
STEPS: list[Case] = [
    (11, ValueError, r"must lie in [01]..10, got 11"),
    (torch.tensor([4, -1]), ValueError, r"must lie in [01]..10, got -1..4"),
    (torch.tensor([4]), ValueError, "must have one entry per picture, 2, got 1"),
    (torch.tensor([4, 4], device="meta"), ValueError, r"must be on the device of the pictures, cpu, got meta; use"),
    (torch.tensor([4.0, 4.0]), TypeError, r"must hold int64 or int32 timesteps, got torch.float32; use \w+.long"),
]
INTS: list[Case] = [
    (11, ValueError, r"must lie in \[[01], 10\], got 11"),
    (torch.tensor([4, 4]), TypeError, "must be an int, got Tensor"),
]
OTHERS: dict[str, list[Case]] = {
    "schedule": [
        ("cosine", TypeError, r"must be a course_lib.schedule.Schedule, got str; use make_schedule\('cosine'\)$"),
        (None, TypeError, "must be a course_lib.schedule.Schedule, got NoneType$"),
    ],
    "model": [("a.safetensors", TypeError, "must be a torch.nn.Module, got str; .*load_checkpoint")],
    "weak": [(None, TypeError, "must be a torch.nn.Module, got NoneType")],
    "target": [("epsilon", ValueError, "='epsilon' is unknown; choose one of 'eps', 'x0', 'v', 'velocity'")],
    "kind": [("epsilon", ValueError, "='epsilon' is unknown; choose one of 'eps', 'x0', 'v', 'velocity'")],
    "noise": [("pink", ValueError, "='pink' is unknown; choose one of 'gaussian', 'uniform'")],
    "order": [(3, ValueError, "=3 is unknown; choose one of 1, 2"), (True, ValueError, "=True is unknown")],
    "clip": [("no", TypeError, "must be True or False, got 'no'"), (None, TypeError, "must be True or False")],
    "eta": [(1.5, ValueError, r"must lie in \[0, 1\], got 1.5")],
    "gamma": [(0, ValueError, "must lie in"), (math.inf, ValueError, "must lie in")],
    "strength": [(-1, ValueError, "must lie in"), (math.inf, ValueError, "must be finite")],
    "largest": [(0, ValueError, "must lie in"), (math.inf, ValueError, "must be finite")],
    "lr": [(0, ValueError, "must lie in"), (math.inf, ValueError, "must be finite")],
    "decay": [(bad, ValueError, "must lie in") for bad in (1.0, -0.1, math.nan)],
    "config": [(None, TypeError, "must be a TrainConfig, got NoneType")],
    "start": [("runs/last", TypeError, "must be a TrainState, got str")],
    "batch_size": [(0, ValueError, "must lie in"), (2.0, TypeError, "must be an int")],
    "amount": [
        (-0.1, ValueError, r"must lie in \[0, 1\], got -0.1"),
        ("half", TypeError, "must be a number, got str"),
        (torch.tensor([0.5, 1.5]), ValueError, r"must lie in \[0, 1\], got 0.5 to 1.5"),
        (torch.tensor([0.5, math.nan]), ValueError, r"must lie in \[0, 1\]"),
        (torch.zeros(2, 1), ValueError, r"must be one number or one per picture, \(2,\), got shape \(2, 1\)"),
        (torch.zeros(2, device="meta"), ValueError, "must be on the device of x, cpu, got"),
    ],
    "times": [
        ([11, 0], ValueError, r"must lie in \[0, 10\], got 11"),
        ([5, 1], ValueError, "must fall strictly and end with 0"),
        ([5, 5, 0], ValueError, "must fall strictly"),
        ([0], ValueError, "must fall strictly"),
        ([5.0, 0], TypeError, "must be an int, got float"),
        (torch.tensor([5, 0]), TypeError, "must be an int, got Tensor"),
    ],
}
LABELS: list[Case] = [
    (torch.tensor([1]), ValueError, "must have one entry per picture, 2, got 1"),
    (7, TypeError, "must be a tensor of integers, one per picture, got int"),
]
SPECIAL: list[tuple[Callable[..., Any], dict[str, Any], type[Exception], str]] = [
    *((each, dict(s=s, t=t), ValueError, "s must be earlier than t")
      for each in (q_step, q_posterior) for s, t in ((4, 4), (5, 4), (torch.tensor([1, 5]), torch.tensor([2, 5])))),
    *((reverse_step, dict(s=s, t=t), ValueError, "s must be earlier than t") for s, t in ((4, 4), (0, 0))),
    *((extrapolate, changes, ValueError, "must fall: s < t < t_before") for changes in (dict(s=4), dict(t_before=4))),
    (predict, dict(t=0), ValueError, r"t must lie in \[1, 10\], got 0"),
    (denoising_loss, dict(t=TIMES - 3), ValueError, "t must lie in 1..10, got 0..1; t = 0 is the picture itself"),
    (loss_by_timestep, dict(times=TIMES - 3), ValueError, "times must lie in 1..10, got 0..1"),
    (loss_by_timestep, dict(times=[5]), TypeError, r"times must be a tensor of integers, \(K,\), got list"),
    *((each, {name: X * 200}, ValueError, rf"{name} must lie in \[-1, 1\], got values from")
      for each, name in ((corrupt, "x"), (q_sample, "x0"), (denoising_loss, "x0"), (loss_by_timestep, "x0"))),
    # PyTorch would compare each row with the one that came
    (denoising_loss, dict(model=lambda x_t, t, y: x_t[:, :, :1]), ValueError, "prediction must have the shape of x0"),
    (train, dict(pictures=X), TypeError, "pictures must be course_lib.data.Pictures, got Tensor"),
    (sample, dict(step=3), TypeError, "unexpected keyword argument 'step'"),
]  # fmt: skip


def cases() -> list[Any]:
    found = []
    for function, good in GOOD.items():
        pictures = [name for name, value in good.items() if value is X or value is X0]
        for name in good:
            bad = OTHERS.get(name, [])
            if name in pictures:
                bad = bad + (PICTURES if name == pictures[0] else COMPANIONS)
            elif name in {"s", "t", "t_before"}:
                bad = STEPS if function in PER_PICTURE else INTS
            elif name == "y" and "clip" in good:
                bad = LABELS
            elif function is loss_by_timestep and name == "times":
                bad = []
            found += [(function, {name: value}, error, f"^{name}.?{message}") for value, error, message in bad]
    return found + SPECIAL


@pytest.mark.parametrize(("function", "changes", "error", "message"), cases())
def test_a_bad_argument_is_named(
    function: Callable[..., Any], changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    function(**GOOD[function])
    MODEL.calls.clear()
    with pytest.raises(error, match=message):
        function(**(GOOD[function] | changes))
    assert not MODEL.calls
