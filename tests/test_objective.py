"""The loss, against sums done by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from course_lib.forward import TARGETS, make_target, q_sample, to_x0_eps
from course_lib.objective import denoising_loss, loss_by_timestep, min_snr_weights, smoothed
from course_lib.schedule import Schedule, make_schedule, zero_terminal_snr
from course_lib.unet import UNet

SCHEDULE = make_schedule("linear", 10)
X0 = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
EPS = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
T = torch.tensor([1, 5, 10])


class Constant(nn.Module):
    """Gives the same answer to everything and remembers the question."""

    def __init__(self, answer: float | Tensor = 0.0) -> None:
        super().__init__()
        self.answer, self.asked = answer, []  # type: ignore[var-annotated]

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        self.asked.append((x_t, t, y, self.training))
        return torch.zeros_like(x_t) + self.answer


@pytest.mark.parametrize("target", TARGETS)
def test_the_loss_is_the_mean_square_over_the_pixels_of_each_picture(target: str, schedule: Schedule) -> None:
    t = torch.tensor([1, 50, 100])
    truth = make_target(target, schedule, X0, EPS, t)
    loss = denoising_loss(Constant(0.25), schedule, X0, t, EPS, target=target)
    assert loss.shape == (3,) and loss.dtype == torch.float32
    for i in range(3):
        by_hand = sum((0.25 - value) ** 2 for value in truth[i].flatten().tolist()) / 16
        assert loss[i].item() == pytest.approx(by_hand, rel=1e-5)
    assert not denoising_loss(Constant(truth), schedule, X0, t, EPS, target=target).any()


def test_the_network_is_asked_about_x_t() -> None:
    model, y = Constant(), torch.tensor([2, 0, 1])
    denoising_loss(model, SCHEDULE, X0, T, EPS, y=y)
    x_t, t, label, _ = model.asked[0]
    assert torch.equal(x_t, q_sample(SCHEDULE, X0, T, EPS)[0]) and t is T and label is y


def test_the_loss_at_the_start_is_1() -> None:
    """A new network answers 0, and the noise has variance 1: within four standard errors, √(2/n)."""
    x0, eps = torch.zeros(64, 1, 28, 28), torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(2))
    loss = denoising_loss(UNet(), SCHEDULE, x0, torch.full((64,), 5), eps).mean().item()
    assert abs(loss - 1) < 4 * (2 / eps.numel()) ** 0.5


# Weights


def test_the_weights_of_min_snr_by_hand() -> None:
    """Signal-to-noise ratios of 20, 5, 1 and 1/4; the formulas are those of the paper, section 3.4."""
    alpha_bar = torch.tensor([1.0, 20 / 21, 5 / 6, 1 / 2, 1 / 5], dtype=torch.float64)
    schedule = Schedule(alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), "by hand")
    for target, expected in {
        "eps": [0, 5 / 20, 1, 1, 1],
        "x0": [0, 5, 5, 1, 1 / 4],
        "v": [0, 5 / 21, 5 / 6, 1 / 2, 1 / 5],
    }.items():
        assert min_snr_weights(schedule, target).tolist() == pytest.approx(expected)
    assert min_snr_weights(schedule, gamma=0.5).tolist() == pytest.approx([0, 0.5 / 20, 0.5 / 5, 0.5, 1])


@pytest.mark.parametrize("target", TARGETS)
def test_weighted_losses_of_all_targets_are_the_same_error_of_the_picture(target: str, schedule: Schedule) -> None:
    """On every schedule, those that do not keep the variance among them."""
    t = torch.tensor([1, 50, 99])
    x_t, _ = q_sample(schedule, X0, t, EPS)
    answer = make_target(target, schedule, X0, EPS, t) + 0.1 * EPS.flip(0)
    x0_hat, _ = to_x0_eps(target, schedule, answer, x_t, t)
    error = (x0_hat - X0).square().mean((1, 2, 3))
    loss = denoising_loss(Constant(answer), schedule, X0, t, EPS, target=target)
    weighted = min_snr_weights(schedule, target, 2.0)[t] * loss
    torch.testing.assert_close(weighted, schedule.snr[t].clamp(max=2) * error, rtol=2e-3, atol=1e-8)


def test_weights_are_finite_where_no_signal_is_left() -> None:
    schedule = zero_terminal_snr(make_schedule("linear", 100))
    weights = {target: min_snr_weights(schedule, target) for target in TARGETS}
    assert all(value.shape == (101,) and value.isfinite().all() for value in weights.values())
    assert {target: value[-1].item() for target, value in weights.items()} == dict(eps=1, x0=0, v=0, velocity=0)


@pytest.mark.parametrize("mode", [True, False])
def test_loss_by_timestep_uses_the_same_noise_everywhere_and_gives_the_mode_back(mode: bool) -> None:
    model, y = Constant(torch.rand(3, 1, 4, 4)).train(mode), torch.tensor([2, 0, 1])
    generator = torch.Generator().manual_seed(1)
    rows = loss_by_timestep(model, SCHEDULE, X0, T.flip(0), generator=generator, target="v", y=y)
    assert rows.shape == (3,) and rows.device.type == "cpu" and not rows.requires_grad
    assert all(label is not None and torch.equal(label, y) and not training for _, _, label, training in model.asked)
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
