"""Measures against torchmetrics, scipy and scikit-learn on random inputs, against known truths, and on pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import scipy.stats
import torch
import torch.nn.functional as F
from scipy.linalg import sqrtm
from sklearn.metrics import accuracy_score
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from course_lib.data import CLASS_NAMES, Pictures, load_fashion_mnist, to_float, to_uint8
from course_lib.metrics import (
    FEATURES,
    FeatureNet,
    embed,
    features,
    frechet_distance,
    frechet_interval,
    kernel_distance,
    kernel_interval,
    load_feature_net,
    measure,
    nearest_distance,
    precision_recall,
    sure_share,
)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=gen(seed), dtype=torch.float64)


def two_sets(n: int = 150, m: int = 150, d: int = 6) -> tuple[Tensor, Tensor]:
    """Random features whose means, spreads and correlations differ, (n, d) and (m, d)."""
    return randn(n, d) @ randn(d, d, seed=1) + randn(d, seed=2), randn(m, d, seed=3) @ randn(d, d, seed=4)


def exactly(mean: Tensor, cov: Tensor, n: int = 40, seed: int = 0) -> Tensor:
    """Features whose sample mean and covariance are exactly these."""
    x = randn(n, len(mean), seed=seed)
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return white @ torch.linalg.cholesky(cov).T + mean


class Identity(nn.Module):
    """What torchmetrics takes for a feature network: the input is the features."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, x: Tensor) -> Tensor:
        return x


def all_pairs(x: Tensor, y: Tensor) -> float:
    """The kernel distance as its formula is written, with scikit-learn's kernel."""

    def kernel(x: Tensor, y: Tensor) -> np.ndarray:
        return polynomial_kernel(x.numpy(), y.numpy(), degree=3, gamma=1 / x.shape[1], coef0=1)

    xx, yy = (kernel(z, z)[~np.eye(len(z), dtype=bool)].mean() for z in (x, y))
    return float(xx + yy - 2 * kernel(x, y).mean())


@pytest.fixture(scope="module")
def train() -> Pictures:
    """2,000 of the packaged training pictures, so that the tests stay quick."""
    pictures = load_fashion_mnist("train", source="packaged")
    chosen = torch.randperm(len(pictures), generator=gen())[:2000]
    assert pictures.labels is not None
    return Pictures(pictures.images[chosen], pictures.labels[chosen], pictures.source, pictures.class_names)


@pytest.fixture(scope="module")
def test() -> Pictures:
    return load_fashion_mnist("test", source="packaged")


def blur(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), value=-1), 3, 1)


# The feature network


def test_the_network_is_right_about_93_of_100_test_pictures() -> None:
    # The full test set where it is on this machine, else the 2,000 test pictures that come with the course.
    pictures = load_fashion_mnist("test")
    right = accuracy_score(pictures.labels, embed(pictures).probabilities.argmax(1))
    assert right >= 0.93, f"{right:.2%} of {pictures}"
    card = json.loads(safetensors.safe_open(FEATURES, "pt").metadata()["card"])
    if len(pictures) == 10_000:
        assert right == pytest.approx(card["test_accuracy"], abs=2e-4)
    try:
        data = load_fashion_mnist("train", source="full").sha256
    except FileNotFoundError:
        return
    assert card["data_sha256"] == data


def test_the_network_is_small_and_ready() -> None:
    assert FEATURES.stat().st_size < 1_000_000
    net = load_feature_net()
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    assert load_feature_net() is net


@pytest.mark.parametrize("at", [10, 5000, -1])
def test_an_altered_network_is_refused(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "features28.safetensors"
    monkeypatch.setattr(features, "FEATURES", path)
    load = load_feature_net.__wrapped__
    with pytest.raises(FileNotFoundError, match=r"there is no .*features28.safetensors; install the course again"):
        load()
    content = bytearray(FEATURES.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="was cut short or altered"):
        load()
    path.write_bytes(FEATURES.read_bytes()[:-1])
    with pytest.raises(ValueError, match="was cut short or altered"):
        load()


def test_features_have_mean_0_and_variance_1(train: Pictures) -> None:
    features = embed(train).features
    assert features.mean(0).abs().max() < 0.3
    assert features.var(0).mean().item() == pytest.approx(1, abs=0.2)


def test_an_embedding_is_what_the_network_says_of_stored_pictures(test: Pictures) -> None:
    net = load_feature_net()
    x = test[:7]
    e = embed(x)
    assert e.features.dtype == e.probabilities.dtype == torch.float64 and len(e) == 7
    features, scores = net(x)
    torch.testing.assert_close(e.features, features.double(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(e.probabilities, scores.double().softmax(1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(e.probabilities.sum(1), torch.ones(7).double())
    torch.testing.assert_close(embed(x, batch_size=3).features, e.features, atol=1e-4, rtol=1e-4)
    assert torch.equal(e[2:4].features, e.features[2:4]) and len(e[torch.tensor([6, 0])]) == 2

    rough = x * 1.3 + 0.001
    stored = to_uint8(rough)
    assert not torch.equal(to_float(stored), rough)
    for again in (embed(rough), embed(Pictures(stored)), embed(rough, net=net)):
        assert torch.equal(again.features, embed(to_float(stored)).features)


def test_the_embedding_of_pictures_is_kept_only_for_the_same_network(test: Pictures) -> None:
    few = Pictures(test.images[:3])
    assert embed(few) is embed(few)
    other = FeatureNet().eval()
    assert not torch.allclose(embed(few, net=other).features, embed(few).features)


def test_what_the_network_does_not_see() -> None:
    with pytest.raises(ValueError, match=r"sees 28×28 pictures, got \(32, 32\)"):
        embed(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match=r"x must have 1 channel\(s\), got 3"):
        embed(torch.zeros(1, 3, 28, 28))
    with pytest.raises(ValueError, match="pictures holds 784 value"):
        embed(torch.full((1, 1, 28, 28), math.nan))
    with pytest.raises(TypeError, match="pictures must hold floats"):
        embed(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))
    with pytest.raises(ValueError, match="net must be in eval mode"):
        embed(torch.zeros(1, 1, 28, 28), net=FeatureNet())
    with pytest.raises(ValueError, match="batch_size must lie in"):
        embed(torch.zeros(1, 1, 28, 28), batch_size=0)


# Fréchet distance


@pytest.mark.parametrize(("n", "m", "d"), [(150, 90, 6), (80, 80, 1), (300, 200, 32), (20, 500, 30)])
def test_frechet_is_that_of_torchmetrics_and_scipy(n: int, m: int, d: int) -> None:
    x, y = two_sets(n, m, d)
    theirs = FrechetInceptionDistance(feature=Identity(d)).set_dtype(torch.float64)
    theirs.update(x, real=False)
    theirs.update(y, real=True)
    assert frechet_distance(x, y) == pytest.approx(theirs.compute().item(), rel=1e-6)
    if n > d:  # scipy's root of a singular product is a matter of rounding
        cov, cov_y = torch.cov(x.T).view(d, d).numpy(), torch.cov(y.T).view(d, d).numpy()
        root = sqrtm(cov @ cov_y).real.trace()
        mean = (x.mean(0) - y.mean(0)).square().sum().item()
        assert frechet_distance(x, y) == pytest.approx(mean + cov.trace() + cov_y.trace() - 2 * root, rel=1e-8)


def test_frechet_of_gaussians_that_are_known() -> None:
    low, high = torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor([1.0, 1.0, 0.0]).double()
    std, other = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([2.0, 2.0, 5.0]).double()
    x, y = exactly(low, std.square().diag()), exactly(high, other.square().diag(), seed=1)
    assert frechet_distance(x, y) == pytest.approx((1 + 0 + 4) + (1 + 0 + 4), rel=1e-9)
    assert frechet_distance(x + 3, x) == pytest.approx(27, rel=1e-9)
    assert frechet_distance(3 * (x - low), x - low) == pytest.approx(4 * (1 + 4 + 9), rel=1e-9)


def test_frechet_is_symmetric_never_negative_and_0_for_equal_moments() -> None:
    x, y = two_sets()
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)
    assert 0 <= frechet_distance(x, x) < 1e-9
    assert 0 <= frechet_distance(x, x.flip(0)) < 1e-9
    flat = torch.cat([x, torch.zeros(len(x), 2).double()], 1)  # a covariance without full rank
    assert 0 <= frechet_distance(flat, flat) < 1e-6
    assert frechet_distance(x.float(), y.float()) == pytest.approx(frechet_distance(x, y), rel=1e-5)


def test_frechet_falls_with_the_number_of_samples() -> None:
    y = randn(5000, 8, seed=9)
    values = [sum(frechet_distance(randn(n, 8, seed=s), y) for s in range(10)) for n in (50, 200, 800)]
    assert values[0] > 2 * values[1] > 4 * values[2] > 0


@pytest.mark.parametrize(("shift", "least", "most"), [(0.5, 0.88, 0.985), (0.0, 0.9, 1.0)])
def test_intervals_hold_the_expected_distance_as_often_as_they_say(shift: float, least: float, most: float) -> None:
    # Gaussian features against a fixed real set; without a shift the samples are like the real features. What the
    # Fréchet distance is on average at this n comes from 1,000 sets of samples.
    n, d, trials, generator = 200, 3, 200, gen()
    real = randn(3000, d, seed=1)

    def draw(n: int = n) -> Tensor:
        x = torch.randn(n, d, generator=generator, dtype=torch.float64)
        return x * torch.linspace(1, 1 + shift, d).double() + shift / 2

    expected = sum(frechet_distance(draw(), real) for _ in range(1000)) / 1000
    known = kernel_distance(draw(200_000), real)  # no bias: its expectation is that of very many samples
    held = torch.zeros(2)
    for _ in range(trials):
        x = draw()
        low, high = frechet_interval(x, real, resamples=100, generator=generator)
        held[0] += low <= expected <= high
        low, high = kernel_interval(x, real)
        held[1] += low <= known <= high
    assert (held / trials >= least).all() and (held / trials <= most).all(), held / trials


def test_the_frechet_interval_is_the_bootstrap_turned_about_the_distance() -> None:
    x, y = two_sets(60)
    draw = gen(5)
    again = [frechet_distance(x[torch.randint(60, (60,), generator=draw)], y) ** 0.5 for _ in range(80)]
    root, mean = frechet_distance(x, y) ** 0.5, np.mean(again)
    low, high = (max(root + mean - np.percentile(again, q), 0) ** 2 for q in (90, 10))
    assert frechet_interval(x, y, level=0.8, resamples=80, generator=gen(5)) == pytest.approx((low, high), rel=1e-9)


def test_the_frechet_interval_follows_level_seed_and_number() -> None:
    x, y = two_sets(400)
    wide, narrow = (frechet_interval(x, y, level=level, generator=gen()) for level in (0.99, 0.5))
    assert wide[0] < narrow[0] < frechet_distance(x, y) < narrow[1] < wide[1]
    assert frechet_interval(x, y, generator=gen(1)) == frechet_interval(x, y, generator=gen(1))
    assert frechet_interval(x, y, generator=gen(1)) != frechet_interval(x, y, generator=gen(2))
    few, many = (frechet_interval(x[:n], y, generator=gen()) for n in (50, 400))
    assert few[1] - few[0] > 1.5 * (many[1] - many[0])
    low, high = kernel_interval(x, y, level=0.5)
    wide = kernel_interval(x, y, level=0.99)
    assert wide[0] < low < kernel_distance(x, y) < high < wide[1]


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


# Kernel distance


@pytest.mark.filterwarnings("ignore:Metric .Kernel Inception Distance. will save all:UserWarning")
@pytest.mark.parametrize(("n", "d"), [(100, 6), (60, 1), (50, 32)])
def test_kernel_is_that_of_torchmetrics(n: int, d: int) -> None:
    x, y = two_sets(n, n, d)
    theirs = KernelInceptionDistance(feature=Identity(d), subsets=1, subset_size=n).set_dtype(torch.float64)
    theirs.update(x, real=False)
    theirs.update(y, real=True)
    assert kernel_distance(x, y) == pytest.approx(theirs.compute()[0].item(), rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (30, 70), (1500, 1001)])
def test_kernel_is_the_mean_over_all_pairs(n: int, m: int) -> None:
    x, y = two_sets(n, m)
    assert kernel_distance(x, y) == pytest.approx(all_pairs(x, y), rel=1e-9)


def test_kernel_has_no_bias() -> None:
    real = randn(2000, 4, seed=99)
    for n in (5, 50):
        values = torch.tensor([kernel_distance(randn(n, 4, seed=s), randn(n, 4, seed=10_000 + s)) for s in range(400)])
        error = values.std() / len(values) ** 0.5
        assert values.mean().abs() < 4 * error
        against = torch.tensor([kernel_distance(randn(n, 4, seed=s) * 1.2, real) for s in range(400)])
        truth = kernel_distance(randn(200_000, 4, seed=5) * 1.2, real)
        assert (against.mean() - truth).abs() < 4 * against.std() / len(against) ** 0.5


def test_the_kernel_interval_is_the_jackknife() -> None:
    x, y = two_sets(25, 40)
    without = torch.tensor([all_pairs(torch.cat([x[:i], x[i + 1 :]]), y) for i in range(25)])
    error = (24 / 25 * (without - without.mean()).square().sum()).sqrt().item()
    low, high = kernel_interval(x, y)
    assert (low + high) / 2 == pytest.approx(kernel_distance(x, y))
    assert (high - low) / 2 == pytest.approx(1.959964 * error, rel=1e-5)


# Precision and recall


@pytest.mark.parametrize(("n", "m", "k"), [(300, 300, 5), (700, 90, 1), (40, 600, 3)])
def test_precision_and_recall_are_those_by_scikit_learn(n: int, m: int, k: int) -> None:
    x, y = randn(n, 4) + 1, randn(m, 4, seed=1)

    def inside(points: Tensor, centers: Tensor) -> float:
        radius = NearestNeighbors(n_neighbors=k + 1).fit(centers).kneighbors(centers)[0][:, k]
        every = NearestNeighbors(n_neighbors=len(centers)).fit(centers)
        distances, index = every.kneighbors(points)
        return float((distances <= radius[index]).any(1).mean())

    precision, recall = precision_recall(x, y, k)
    assert (precision, recall) == (inside(x, y), inside(y, x)) and 0 < precision < 1 and 0 < recall < 1


def test_precision_and_recall_where_they_are_known() -> None:
    x = randn(200, 3)
    assert precision_recall(x, x) == (1, 1)
    assert precision_recall(x + 100, x) == (0, 0)
    two = torch.cat([x, x + 100])  # half of the kinds
    precision, recall = precision_recall(randn(200, 3, seed=1), two)
    assert precision > 0.9 and 0.4 < recall <= 0.5
    recall, precision = precision_recall(two, randn(200, 3, seed=1))
    assert precision > 0.9 and 0.4 < recall <= 0.5
    assert precision_recall(torch.zeros(9, 3), torch.zeros(9, 3)) == (1, 1)  # balls of radius 0 hold their center


# Sure share


def test_the_sure_share_by_hand() -> None:
    rows = [[0.95, 0.05, 0], [0.6, 0.4, 0], [0, 0.9, 0.1], [0.91, 0, 0.09]]
    result = sure_share(torch.tensor(rows, dtype=torch.float64))
    assert result.share == 0.75 and result.counts == (3, 1, 0)
    assert result.by_class[:2] == pytest.approx((2 / 3, 1)) and math.isnan(result.by_class[2])
    assert sure_share(torch.tensor(rows), threshold=0).share == 1


def test_the_sure_share_is_that_of_scikit_learn() -> None:
    probabilities = (3 * randn(500, 10)).softmax(1)
    best, label = probabilities.max(1)
    result = sure_share(probabilities, 0.8)
    assert result.share == pytest.approx(accuracy_score(best >= 0.8, torch.ones(500)))
    weights = [accuracy_score(best >= 0.8, torch.ones(500), sample_weight=label == c) for c in range(10)]
    assert result.by_class == pytest.approx(weights) and sum(result.counts) == 500
    assert result.counts == tuple(label.bincount(minlength=10).tolist())


# Copies


def test_the_nearest_picture_is_that_of_scikit_learn(train: Pictures, test: Pictures) -> None:
    noisy = test[:50] + 0.3 * torch.randn(50, 1, 28, 28, generator=gen())
    known = load_fashion_mnist("train", source="packaged").images[:4500]  # more than two blocks
    x = to_float(to_uint8(noisy)).flatten(1).double()
    theirs, index = NearestNeighbors(n_neighbors=1).fit(to_float(known).flatten(1).double()).kneighbors(x)
    distance, ours = nearest_distance(noisy, Pictures(known))
    assert ours.tolist() == index[:, 0].tolist() and ours.max() >= 4000
    torch.testing.assert_close(distance, torch.from_numpy(theirs[:, 0]) / 28, atol=1e-12, rtol=1e-12)


def test_the_scale_of_the_nearest_distance() -> None:
    black, white = torch.full((1, 1, 4, 4), -1.0), torch.full((1, 1, 4, 4), 1.0)
    assert nearest_distance(white, black)[0].item() == 2
    distance, index = nearest_distance(torch.cat([white, black, white * 5]), torch.cat([black, white]))
    assert distance.tolist() == [0, 0, 0] and index.tolist() == [1, 0, 1]


# All of them


def test_distances_tell_real_from_blurred_from_noise(train: Pictures, test: Pictures) -> None:
    real, known = embed(test).features[1000:], embed(train).features
    pictures = blur(test[:1000]), torch.randn(1000, 1, 28, 28, generator=gen())
    bad = [embed(x).features for x in pictures]
    for distance, few, many in ((frechet_distance, 20, 4), (kernel_distance, 20, 8)):
        best, blurred, noise = (distance(f, known) for f in (real, *bad))
        assert few * max(best, 0) < blurred and many * blurred < noise, (best, blurred, noise)
    assert precision_recall(real, known[:1000])[1] > 0.85
    assert all(precision_recall(f, known[:1000])[1] < 0.2 for f in bad)


def test_the_distance_leaves_aside_what_nobody_sees(train: Pictures, test: Pictures) -> None:
    known = embed(train).features  # benchmarks/README.md gives these bounds
    levels = test.images[:1000].float()
    grain = torch.randn(levels.shape, generator=gen())
    unseen, seen = (levels + 4, levels - 4, levels + 4 * grain), (levels + 32, levels + 32 * grain)
    floor, *distances = (
        frechet_distance(embed(Pictures(x.round().clamp(0, 255).to(torch.uint8))).features, known)
        for x in (levels, *unseen, *seen)
    )
    assert max(distances[:3]) < 1.3 * floor and min(distances[3:]) > 5 * floor, (floor, distances)


def test_the_report_holds_every_measure(train: Pictures, test: Pictures) -> None:
    samples = blur(test[:300])
    report = measure(samples, train, test, generator=gen(3))
    ours, known = embed(samples).features, embed(train).features
    assert (report.n, report.n_real, report.n_train) == (300, 300, 2000)
    assert report.frechet.n == report.kernel.n == 300
    assert report.frechet.value == frechet_distance(ours, known)
    assert report.kernel.value == pytest.approx(kernel_distance(ours, known))
    assert (report.kernel.low, report.kernel.high) == pytest.approx(kernel_interval(ours, known))
    for d in (report.frechet, report.kernel):
        assert d.floor < d.low < d.value < d.high
    draw = gen(3)
    held = test[torch.randperm(2000, generator=draw)[:300]]
    peers = known[torch.randperm(2000, generator=draw)[:300]]
    assert (report.frechet.low, report.frechet.high) == pytest.approx(frechet_interval(ours, known, generator=draw))
    real = embed(held)
    torch.testing.assert_close(report.frechet.floor, frechet_distance(real.features, known), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(report.kernel.floor, kernel_distance(real.features, known), atol=1e-4, rtol=1e-3)
    assert (report.precision.value, report.recall.value) == precision_recall(ours, peers)
    assert (report.precision.real, report.recall.real) == precision_recall(real.features, peers)
    assert report.classes == sure_share(embed(samples).probabilities) and report.sure.value == report.classes.share
    assert report.sure.real == report.real_classes.share == pytest.approx(sure_share(real.probabilities).share)
    nearest, real_nearest = (nearest_distance(x, train)[0] for x in (samples, held))
    assert report.nearest.value == nearest.median() and report.nearest.real == real_nearest.median()
    assert report.copies.value == (nearest < real_nearest.quantile(0.01)).double().mean()
    assert report.copies.real == pytest.approx(0.01, abs=0.004)
    assert report == measure(Pictures(to_uint8(samples)), train, test, generator=gen(3))
    assert report.frechet != measure(samples, train, test, generator=gen(4)).frechet


def test_the_report_knows_copies_and_few_held_out_pictures(train: Pictures, test: Pictures) -> None:
    report = measure(train[:100], train, Pictures(test.images[:40]), generator=gen(), resamples=20)
    assert (report.n, report.n_real) == (100, 40)
    assert report.nearest.value == 0 < report.nearest.real and report.copies.value == 1
    assert "100 samples beside 40 held-out pictures" in str(report)


def test_the_report_can_be_read_and_stored(train: Pictures, test: Pictures) -> None:
    report = measure(torch.randn(50, 1, 28, 28, generator=gen()), train, test, generator=gen(), resamples=20)
    stored = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert None in stored["classes"]["by_class"]
    assert stored["frechet"]["value"] == report.frechet.value and stored["classes"]["counts"] == [
        *report.classes.counts
    ]
    text = str(report)
    assert max(map(len, text.splitlines())) <= 88 and "FID" not in text
    rows = {line[:30].strip(): line[30:].split() for line in text.splitlines()}
    d = report.frechet
    assert rows["Fréchet distance"] == f"{d.value:.2f} {d.low:.2f} to {d.high:.2f} {d.floor:.2f}".split()
    assert rows["recall"] == [f"{report.recall.value:.1%}", f"{report.recall.real:.1%}"]
    assert all(name in text for name in CLASS_NAMES) and "–" in text  # no noise looks like some of the classes


# What is refused


@pytest.mark.parametrize(
    "function", [frechet_distance, frechet_interval, kernel_distance, kernel_interval, precision_recall]
)
@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (
            torch.zeros(9, 3, dtype=torch.int64),
            torch.zeros(9, 3),
            TypeError,
            "^features must be a floating-point tensor",
        ),
        (torch.zeros(9, 3), [[0.0]], TypeError, r"real_features must be .* got list; use embed\(pictures\).features"),
        (
            torch.zeros(1, 3),
            torch.zeros(9, 3),
            ValueError,
            r"features must have shape \(N, D\) with N >= 2, got \(1, 3\)",
        ),
        (torch.zeros(9, 3), torch.zeros(9), ValueError, r"real_features must have shape .* got \(9,\)"),
        (torch.zeros(9, 3), torch.zeros(9, 4), ValueError, "same length, got 3 and 4; were they made by the same"),
        (torch.full((9, 3), math.nan), torch.zeros(9, 3), ValueError, "features holds 27 value"),
    ],
)
def test_what_are_no_features(function: Callable, x: Any, y: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        function(x, y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frechet_interval(randn(9, 2), randn(9, 2), level=1), "level must lie in"),
        (lambda: frechet_interval(randn(9, 2), randn(9, 2), resamples=1), "resamples must lie in"),
        (lambda: kernel_interval(randn(9, 2), randn(9, 2), level=0), "level must lie in"),
        (lambda: kernel_interval(randn(2, 2), randn(9, 2)), "at least 3 samples, got 2"),
        (lambda: precision_recall(randn(5, 2), randn(9, 2)), r"k must lie in \[1, 4\], got 5"),
        (lambda: sure_share(torch.zeros(3)), r"shape \(N, K\), got \(3,\)"),
        (lambda: sure_share(randn(4, 3)), r"sum 1 in each row; use scores.softmax\(1\)"),
        (lambda: sure_share(torch.eye(3), 1.5), "threshold must lie in"),
        (lambda: nearest_distance(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 5, 4)), "must have one shape, got"),
        (lambda: nearest_distance(torch.zeros(1, 4, 4), torch.zeros(1, 1, 4, 4)), "pictures must have 4 dimensions"),
    ],
)
def test_bad_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_what_cannot_be_measured(test: Pictures) -> None:
    with pytest.raises(TypeError, match=r"train must be course_lib.data.Pictures, got Tensor"):
        measure(test[:20], test[:20], test)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="samples must hold at least 10 pictures, got 9"):
        measure(test[:9], test, test)
    with pytest.raises(ValueError, match="samples holds 1 value"):
        broken = test[:20]
        broken[3, 0, 5, 5] = math.inf
        measure(broken, test, test)
    with pytest.raises(TypeError, match="probabilities must be a floating-point tensor, got list"):
        sure_share([[1.0]])  # type: ignore[arg-type]


@pytest.mark.cuda
def test_a_gpu_says_the_same(test: Pictures) -> None:
    x = test[:100]
    ours = embed(x, net=load_feature_net("cuda"), batch_size=100)
    assert ours.features.device.type == "cpu"
    torch.testing.assert_close(ours.features, embed(x).features, atol=2e-2, rtol=2e-2)
