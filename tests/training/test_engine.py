"""Batches in parts, in threads, and Accelerate in one process: the same training."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from course_lib.train import TrainConfig
from helpers_training import Tiny, same, threads, updates_of, weights


@pytest.mark.parametrize("engine", ["plain", "threads", "accelerate"])
def test_a_batch_in_parts_gives_what_the_whole_batch_gives(engine: str) -> None:
    """Losses, gradients and weights of 12 updates, in one part and in four, within the precision of floats.

    Of three threads, two have something to do: a part has two pictures.
    """
    models, found = [Tiny(num_classes=3), Tiny(num_classes=3)], []
    for parts, model in zip((1, 4), models, strict=True):
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=parts) if engine == "accelerate" else None
        config = TrainConfig(steps=12, batch_size=8, accumulate=parts, lr=0.02, warmup=4)
        with threads(3 if engine == "threads" and parts > 1 else 1):
            found.append(updates_of(model, config, accelerator=accelerator))
    one, four = models
    assert len(one.asked) == 12 and len(four.asked) == 12 * 4 * (2 if engine == "threads" else 1)
    if engine != "threads":
        seen = [torch.cat([call[0] for call in four.asked[i : i + 4]]) for i in range(0, 48, 4)]
        assert same(seen, [x for x, *_ in one.asked])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b.loss, a.loss, rtol=1e-5, atol=0)
        torch.testing.assert_close(b.grad_norm, a.grad_norm, rtol=1e-4, atol=0)
    for mine, theirs in zip(weights(four), weights(one), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_the_accelerator_changes_nothing_in_one_process() -> None:
    plain, driven, config = Tiny(), Tiny(), TrainConfig(steps=8, batch_size=4)
    updates_of(plain, config)
    updates_of(driven, config, accelerator=Accelerator(cpu=True))
    assert same(weights(plain), weights(driven))


def test_batches_and_accelerators_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"a multiple of 3 \(1 process\(es\) × accumulate=3\), got 32"):
        TrainConfig(steps=1, accumulate=3)
    with pytest.raises(ValueError, match="batch_size must be a multiple of 6"):
        TrainConfig(steps=1, batch_size=8, accumulate=2).share(3)
    assert TrainConfig(steps=1, batch_size=12, accumulate=2).share(3) == 2
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    scaled: Any = SimpleNamespace(scaler=object(), gradient_accumulation_steps=1, device=torch.device("cpu"))
    elsewhere: Any = SimpleNamespace(device=torch.device("cuda", 1))
    for driver, autocast, message in (
        (accelerator, None, r"config.accumulate=1, but the accelerator was made with .*=2"),
        (scaled, None, "mixed_precision='fp16', which needs a scaled loss"),
        (accelerator, torch.bfloat16, "autocast must be None with an accelerator"),
        (elsewhere, None, "model is on cpu: move it, and its average, to the accelerator's cuda:1"),
    ):
        with pytest.raises(ValueError, match=message):
            updates_of(Tiny(), TrainConfig(steps=1, batch_size=4), accelerator=driver, autocast=autocast)
