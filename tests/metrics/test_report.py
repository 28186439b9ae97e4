"""Everything measured at once; shares, neighbors and copies."""

from __future__ import annotations

import json
import math

import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from course_lib import metrics
from course_lib.data import CLASS_NAMES, Pictures, load_fashion_mnist, to_float, to_uint8
from helpers_metrics import blur, gen, held_out_pictures, randn, train_pictures


@pytest.mark.parametrize(("n", "m", "k"), [(300, 300, 5), (700, 90, 1), (40, 600, 3)])
def test_precision_and_recall_are_those_by_scikit_learn(n: int, m: int, k: int) -> None:
    x, y = randn(n, 4) + 1, randn(m, 4, seed=1)

    def inside(points: Tensor, centers: Tensor) -> float:
        radius = NearestNeighbors(n_neighbors=k + 1).fit(centers).kneighbors(centers)[0][:, k]
        every = NearestNeighbors(n_neighbors=len(centers)).fit(centers)
        distances, index = every.kneighbors(points)
        return float((distances <= radius[index]).any(1).mean())

    precision, recall = metrics.precision_recall(x, y, k)
    assert (precision, recall) == (inside(x, y), inside(y, x)) and 0 < precision < 1 and 0 < recall < 1


def test_precision_and_recall_where_they_are_known() -> None:
    x = randn(200, 3)
    assert metrics.precision_recall(x, x) == (1, 1) and metrics.precision_recall(x + 100, x) == (0, 0)
    precision, recall = metrics.precision_recall(randn(200, 3, seed=1), torch.cat([x, x + 100]))  # half of the kinds
    assert precision > 0.9 and 0.4 < recall <= 0.5
    same = torch.zeros(9, 3)
    assert metrics.precision_recall(same, same) == (1, 1)  # balls of radius 0 hold their center


def test_the_sure_share_by_hand() -> None:
    rows = [[0.95, 0.05, 0], [0.6, 0.4, 0], [0, 0.9, 0.1], [0.91, 0, 0.09]]
    result = metrics.sure_share(torch.tensor(rows, dtype=torch.float64))
    assert result.share == 0.75 and result.counts == (3, 1, 0)
    assert result.by_class[:2] == pytest.approx((2 / 3, 1)) and math.isnan(result.by_class[2])
    assert metrics.sure_share(torch.tensor(rows), threshold=0).share == 1


def test_the_nearest_pictures_are_those_of_scikit_learn() -> None:
    noisy = held_out_pictures()[:50] + 0.3 * torch.randn(50, 1, 28, 28, generator=gen())
    known = load_fashion_mnist("train", source="packaged").images[:4500]  # more than one block
    x, y = to_float(to_uint8(noisy)), to_float(known)
    theirs, places = NearestNeighbors(n_neighbors=3).fit(y.flatten(1).double()).kneighbors(x.flatten(1).double())
    distances, index = metrics.nearest(x, y, 3)
    assert torch.equal(index, torch.from_numpy(places)) and index.max() >= 4096
    torch.testing.assert_close(distances, torch.from_numpy(theirs), atol=1e-12, rtol=1e-12)
    distance, first = metrics.nearest_distance(noisy, Pictures(known))
    assert torch.equal(first, index[:, 0])
    torch.testing.assert_close(distance, distances[:, 0] / 28, atol=1e-12, rtol=1e-12)


def test_the_scale_of_the_nearest_distance() -> None:
    black, white = torch.full((1, 1, 4, 4), -1.0), torch.full((1, 1, 4, 4), 1.0)
    assert metrics.nearest_distance(white, black)[0].item() == 2
    distance, index = metrics.nearest_distance(torch.cat([white, black, white * 5]), torch.cat([black, white]))
    assert distance.tolist() == [0, 0, 0] and index.tolist() == [1, 0, 1]


def test_the_report_holds_every_measure() -> None:
    train, held = (Pictures(pictures.images[:300]) for pictures in (train_pictures(), held_out_pictures()))
    samples = blur(held[:])
    report = metrics.measure(samples, train, held, generator=gen(), resamples=50)
    ours, known, real = (metrics.embed(pictures) for pictures in (samples, train, held))
    assert (report.n, report.n_real, report.n_train) == (300, 300, 300)
    for found, distance in ((report.frechet, metrics.frechet_distance), (report.kernel, metrics.kernel_distance)):
        assert found.n == 300 and found.value == pytest.approx(distance(ours.features, known.features))
        assert found.floor == pytest.approx(distance(real.features, known.features), rel=1e-3, abs=1e-4)
        assert found.floor < found.low < found.value < found.high
    assert (report.kernel.low, report.kernel.high) == pytest.approx(
        metrics.kernel_interval(ours.features, known.features)
    )
    assert (report.precision.value, report.recall.value) == metrics.precision_recall(ours.features, known.features)
    assert (report.precision.real, report.recall.real) == metrics.precision_recall(real.features, known.features)
    assert report.classes == metrics.sure_share(ours.probabilities) and report.sure.value == report.classes.share
    assert report.sure.real == report.real_classes.share == pytest.approx(metrics.sure_share(real.probabilities).share)
    near, real_near = (metrics.nearest_distance(x, train)[0] for x in (samples, held))
    assert report.nearest.value == near.median() and report.nearest.real == real_near.median()
    assert report.copies.value == (near < real_near.quantile(0.01)).double().mean()
    assert report == metrics.measure(Pictures(to_uint8(samples)), train, held, generator=gen(), resamples=50)


def test_the_report_knows_copies_and_few_held_out_pictures() -> None:
    train, test = train_pictures(), held_out_pictures()
    report = metrics.measure(train[:100], train, Pictures(test.images[:40]), generator=gen(), resamples=20)
    assert (report.n, report.n_real, report.nearest.value, report.copies.value) == (100, 40, 0, 1)
    assert report.copies.real < 0.05 and "100 samples beside 40 held-out pictures" in str(report)


def test_the_report_can_be_read_and_stored() -> None:
    train, test = train_pictures(), held_out_pictures()
    report = metrics.measure(torch.randn(50, 1, 28, 28, generator=gen()), train, test, generator=gen(), resamples=20)
    d = report.frechet
    stored = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert None in stored["classes"]["by_class"]
    assert (stored["frechet"]["value"], stored["classes"]["counts"]) == (d.value, [*report.classes.counts])
    assert (report.n, report.n_real) == (50, 50)
    text = str(report)
    assert max(map(len, text.splitlines())) <= 88 and "FID" not in text
    rows = {line[:30].strip(): line[30:].split() for line in text.splitlines()}
    assert rows["Fréchet distance"] == f"{d.value:.2f} {d.low:.2f} to {d.high:.2f} {d.floor:.2f}".split()
    assert rows["recall"] == [f"{report.recall.value:.1%}", f"{report.recall.real:.1%}"]
    assert all(name in text for name in CLASS_NAMES) and "–" in text  # no noise looks like some of the classes
