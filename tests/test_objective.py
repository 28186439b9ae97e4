"""The loss, against sums done by hand."""

from __future__ import annotations

import pytest
import torch

from course_lib.forward import TARGETS, make_target, q_sample, to_x0_eps
from course_lib.objective import denoising_loss, loss_by_timestep, min_snr_weights, smoothed
from course_lib.schedule import Schedule, make_schedule, zero_terminal_snr
from helpers_models import Always, Recorder, gen, randn

SCHEDULE = make_schedule("linear", 10)
X0 = torch.rand(3, 1, 4, 4, generator=gen()) * 2 - 1
EPS = randn(3, 1, 4, 4, seed=1)
T = torch.tensor([1, 5, 10])


@pytest.mark.parametrize("target", TARGETS)
def test_the_loss_is_the_mean_square_over_the_pixels_of_each_picture(target: str, schedule: Schedule) -> None:
    t = torch.tensor([1, 50, 100])
    truth = make_target(target, schedule, X0, EPS, t)
    loss = denoising_loss(Always(torch.full_like(X0, 0.25)), schedule, X0, t, EPS, target=target)
    assert loss.shape == (3,) and loss.dtype == torch.float32
    for i in range(3):
        by_hand = sum((0.25 - value) ** 2 for value in truth[i].flatten().tolist()) / 16
        assert loss[i].item() == pytest.approx(by_hand, rel=1e-5)
    assert not denoising_loss(Always(truth), schedule, X0, t, EPS, target=target).any()


def test_the_network_is_asked_about_x_t() -> None:
    model, y = Recorder(), torch.tensor([2, 0, 1])
    denoising_loss(model, SCHEDULE, X0, T, EPS, y=y)
    ((x_t, t, label, _),) = model.calls
    assert torch.equal(x_t, q_sample(SCHEDULE, X0, T, EPS)[0]) and t is T and label is y


# Weights


@pytest.mark.parametrize("target", TARGETS)
def test_weighted_losses_of_all_targets_are_the_same_error_of_the_picture(target: str, schedule: Schedule) -> None:
    """On every schedule, those that do not keep the variance among them."""
    t = torch.tensor([1, 50, 99])
    x_t, _ = q_sample(schedule, X0, t, EPS)
    answer = make_target(target, schedule, X0, EPS, t) + 0.1 * EPS.flip(0)
    x0_hat, _ = to_x0_eps(target, schedule, answer, x_t, t)
    error = (x0_hat - X0).square().mean((1, 2, 3))
    loss = denoising_loss(Always(answer), schedule, X0, t, EPS, target=target)
    for gamma, weights in ((2, min_snr_weights(schedule, target, 2.0)), (5, min_snr_weights(schedule, target))):
        expected = schedule.snr[t].clamp(max=gamma) * error
        torch.testing.assert_close(weights[t] * loss, expected, rtol=2e-3, atol=1e-8)
        assert weights[0] == 0


def test_weights_are_finite_where_no_signal_is_left() -> None:
    schedule = zero_terminal_snr(make_schedule("linear", 100))
    weights = {target: min_snr_weights(schedule, target) for target in TARGETS}
    assert all(value.shape == (101,) and value.isfinite().all() for value in weights.values())
    assert {target: value[-1].item() for target, value in weights.items()} == dict(eps=1, x0=0, v=0, velocity=0)


@pytest.mark.parametrize("mode", [True, False])
def test_loss_by_timestep_uses_the_same_noise_everywhere_and_gives_the_mode_back(mode: bool) -> None:
    model, y = Recorder().train(mode), torch.tensor([2, 0, 1])
    rows = loss_by_timestep(model, SCHEDULE, X0, T.flip(0), generator=gen(1), target="v", y=y)
    assert rows.shape == (3,) and rows.device.type == "cpu" and not rows.requires_grad
    assert all(label is y and not training for *_, label, training in model.calls)
    for row, t in zip(rows, T.flip(0), strict=True):
        torch.testing.assert_close(row, denoising_loss(model, SCHEDULE, X0, t.expand(3), EPS, target="v").mean())
    with pytest.raises(ValueError, match="target='noise' is unknown"):
        loss_by_timestep(model, SCHEDULE, X0, T, target="noise")
    assert model.training is mode


@pytest.mark.parametrize("smooth", [0.0, 0.5, 0.98])
def test_smoothed_keeps_a_constant_and_averages(smooth: float) -> None:
    assert smoothed([2.0] * 9, smooth) == pytest.approx([2.0] * 9)
    losses = torch.rand(50, dtype=torch.float64).tolist()
    weights = [smooth ** (49 - i) for i in range(50)]
    wanted = sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
    assert smoothed(losses, smooth)[-1] == pytest.approx(wanted)
    with pytest.raises(ValueError, match="smooth"):
        smoothed([1.0], 1.0)
