"""A network that a worse version of itself guides."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from course_lib.guide import AutoGuidance
from course_lib.sample import predict, sample
from course_lib.schedule import make_schedule, sampling_times, start_time
from course_lib.unet import UNet
from helpers import randomize
from helpers_models import DOUBLE, Always, Oracle, randn

SCHEDULE = make_schedule("cosine")


def test_it_goes_on_from_the_weak_answer_past_the_better_one() -> None:
    better, worse, x_T = (randn(3, 1, 4, 4, seed=seed, dtype=DOUBLE) for seed in range(3))
    model, weak = (Oracle(SCHEDULE, x0) for x0 in (better, worse))
    options: dict[str, Any] = dict(times=sampling_times(1000, 8), eta=0, target="x0", clip=False)
    for strength, expected in ((0, worse), (1, better), (2.5, better + 1.5 * (better - worse))):
        guided = AutoGuidance(model, weak, SCHEDULE, strength)
        torch.testing.assert_close(sample(guided, SCHEDULE, x_T, **options), expected)


def test_it_keeps_out_of_where_noise_prevails() -> None:
    model, weak = (Oracle(SCHEDULE, x0) for x0 in (torch.ones(4, 1, 2, 2), torch.zeros(4, 1, 2, 2)))
    guided = AutoGuidance(model, weak, SCHEDULE, strength=3)
    ratio = SCHEDULE.noise / SCHEDULE.signal
    assert ratio[guided.start] <= 2 < ratio[guided.start + 1] and 650 < guided.start < 750
    t = torch.tensor([1, guided.start, guided.start + 1, 1000])
    torch.testing.assert_close(guided(randn(4, 1, 2, 2), t)[:, 0, 0, 0], torch.tensor([3.0, 3, 1, 1]))
    assert AutoGuidance(model, weak, SCHEDULE, largest=1).start == start_time(SCHEDULE, largest=1) == 496
    assert AutoGuidance(model, weak, make_schedule("linear")).start != guided.start


def test_labels_and_mode_reach_both_and_a_weak_network_without_classes_is_asked_without() -> None:
    model, weak, classless = (
        randomize(UNet(8, channels=(8,), num_classes=classes), seed) for seed, classes in enumerate((2, 2, None))
    )
    guided = AutoGuidance(model.train(), weak.eval(), SCHEDULE, 2)
    x_t, t, y = randn(2, 1, 8, 8), torch.tensor([7, 7]), torch.tensor([1, 0])
    eps_hat = predict(guided, SCHEDULE, x_t, 7, clip=False, y=y)[1]
    assert model.training and not weak.training and guided.training
    guided = AutoGuidance(model, classless, SCHEDULE, 3).eval()
    with torch.no_grad():
        answers = model(x_t, t, y), weak(x_t, t, y)
        assert not torch.allclose(*answers, atol=0.01)
        assert not torch.allclose(answers[1], weak(x_t, t, 1 - y), atol=0.01)
        torch.testing.assert_close(eps_hat, 2 * answers[0] - answers[1])
        torch.testing.assert_close(guided(x_t, t, y), 3 * answers[0] - 2 * classless(x_t, t))


def test_answers_of_two_shapes_are_refused() -> None:
    model, weak = Always(torch.zeros(2, 1, 4, 4)), Always(torch.zeros(2, 1, 4, 3))
    with pytest.raises(ValueError, match="answer of weak must have the shape of answer of model"):
        AutoGuidance(model, weak, SCHEDULE)(torch.zeros(2, 1, 4, 4), torch.tensor([1, 2]))
