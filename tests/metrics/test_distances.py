"""Distances against torchmetrics, scipy and scikit-learn on random features, and against known truths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from course_lib.metrics import frechet_distance, frechet_interval, kernel_distance, kernel_interval
from helpers_metrics import gen, randn, two_sets


def all_pairs(x: Tensor, y: Tensor) -> float:
    """The kernel distance as its formula is written, with scikit-learn's kernel."""

    def kernel(x: Tensor, y: Tensor) -> np.ndarray:
        return polynomial_kernel(x.numpy(), y.numpy(), degree=3, gamma=1 / x.shape[1], coef0=1)

    xx, yy = (kernel(z, z)[~np.eye(len(z), dtype=bool)].mean() for z in (x, y))
    return float(xx + yy - 2 * kernel(x, y).mean())


@pytest.mark.parametrize(("n", "m", "d"), [(150, 90, 6), (80, 80, 1), (20, 500, 30)])
def test_frechet_is_that_of_torchmetrics(n: int, m: int, d: int) -> None:
    x, y = two_sets(n, m, d)
    identity: Any = nn.Identity()  # instead of a feature network
    identity.num_features = d
    theirs = FrechetInceptionDistance(feature=identity).set_dtype(torch.float64)
    theirs.update(x, real=False)
    theirs.update(y, real=True)
    assert frechet_distance(x, y) == pytest.approx(theirs.compute().item(), rel=1e-6)


def test_frechet_is_never_negative_and_0_for_equal_moments() -> None:
    x, y = two_sets()
    assert 0 <= frechet_distance(x, x) < 1e-9
    assert 0 <= frechet_distance(x, x.flip(0)) < 1e-9
    flat = torch.cat([x, torch.zeros(len(x), 2).double()], 1)  # a covariance without full rank
    assert 0 <= frechet_distance(flat, flat) < 1e-6
    assert frechet_distance(x.float(), y.float()) == pytest.approx(frechet_distance(x, y), rel=1e-5)


@pytest.mark.parametrize(("shift", "least", "most"), [(0.5, 0.88, 0.985), (0.0, 0.9, 1.0)])
def test_intervals_hold_the_expected_distance_as_often_as_they_say(shift: float, least: float, most: float) -> None:
    # Gaussian features against a fixed real set; without a shift the samples are like the real features. What the
    # Fréchet distance is on average at this n comes from 1,000 sets of samples.
    n, d, trials, generator = 200, 3, 200, gen()
    real = randn(3000, d, seed=1)

    def samples(n: int = n) -> Tensor:
        x = torch.randn(n, d, generator=generator, dtype=torch.float64)
        return x * torch.linspace(1, 1 + shift, d).double() + shift / 2

    expected = sum(frechet_distance(samples(), real) for _ in range(1000)) / 1000
    known = kernel_distance(samples(200_000), real)  # no bias: its expectation is that of very many samples
    held = torch.zeros(2)
    for _ in range(trials):
        x = samples()
        low, high = frechet_interval(x, real, resamples=100, generator=generator)
        held[0] += low <= expected <= high
        low, high = kernel_interval(x, real)
        held[1] += low <= known <= high
    assert (held / trials >= least).all() and (held / trials <= most).all(), held / trials


def test_the_frechet_interval_is_that_of_scipy() -> None:
    """Scipy's bootstrap of the root of the distance; ours takes out what repeats add on average."""
    x, y = two_sets(120, 150, 3)

    def root(chosen: np.ndarray) -> float:
        return frechet_distance(x[torch.from_numpy(chosen)], y) ** 0.5

    theirs = scipy.stats.bootstrap(
        (np.arange(120),),
        root,
        vectorized=False,
        n_resamples=2000,
        method="basic",
        confidence_level=0.9,
        rng=np.random.default_rng(0),
    )
    shift = theirs.bootstrap_distribution.mean() - frechet_distance(x, y) ** 0.5
    expected = [max(end + shift, 0) ** 2 for end in theirs.confidence_interval]
    ours = frechet_interval(x, y, level=0.9, resamples=2000, generator=gen(1))
    assert ours == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (30, 70), (1500, 1001)])
def test_kernel_is_the_mean_over_all_pairs(n: int, m: int) -> None:
    x, y = two_sets(n, m)
    assert kernel_distance(x, y) == pytest.approx(all_pairs(x, y), rel=1e-9)


def test_the_kernel_interval_is_the_jackknife() -> None:
    x, y = two_sets(25, 40)
    without = torch.tensor([all_pairs(torch.cat([x[:i], x[i + 1 :]]), y) for i in range(25)])
    error = (24 / 25 * (without - without.mean()).square().sum()).sqrt().item()
    for level, quantile in ((0.95, 1.959964), (0.5, 0.674490)):
        low, high = kernel_interval(x, y, level=level)
        assert (low + high) / 2 == pytest.approx(kernel_distance(x, y))
        assert (high - low) / 2 == pytest.approx(quantile * error, rel=1e-5)
