"""What cannot be measured is refused in words that name it."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from course_lib import metrics
from helpers_metrics import held_out_pictures, randn

PICTURE, SMALL, REAL = torch.zeros(1, 1, 28, 28), torch.zeros(1, 1, 4, 4), held_out_pictures


@pytest.mark.parametrize(
    "name", ["frechet_distance", "frechet_interval", "kernel_distance", "kernel_interval", "precision_recall"]
)
def test_what_are_no_features(name: str) -> None:
    some, none = torch.zeros(9, 3), [[0.0]]
    cases: list[tuple[Any, Any, type[Exception], str]] = [
        (some.int(), some, TypeError, "^features must be a floating-point tensor"),
        (some, none, TypeError, r"real_features must be .* got list; use embed\(pictures\).features"),
        (some[:1], some, ValueError, r"features must have shape \(N, D\) with N >= 2, got \(1, 3\)"),
        (some, torch.zeros(9), ValueError, r"real_features must have shape .* got \(9,\)"),
        (some, torch.zeros(9, 4), ValueError, "same length, got 3 and 4; were they made by the same"),
        (some + math.nan, some, ValueError, "features holds 27 value"),
    ]
    for x, y, error, message in cases:
        with pytest.raises(error, match=message):
            getattr(metrics, name)(x, y)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: metrics.frechet_interval(randn(9, 2), randn(9, 2), level=1), ValueError, "level must lie in"),
        (lambda: metrics.frechet_interval(randn(9, 2), randn(9, 2), resamples=1), ValueError, "resamples must lie in"),
        (lambda: metrics.kernel_interval(randn(9, 2), randn(9, 2), level=0), ValueError, "level must lie in"),
        (lambda: metrics.kernel_interval(randn(2, 2), randn(9, 2)), ValueError, "at least 3 samples, got 2"),
        (lambda: metrics.precision_recall(randn(5, 2), randn(9, 2)), ValueError, r"k must lie in \[1, 4\], got 5"),
        (lambda: metrics.sure_share([[1.0]]), TypeError, "probabilities must be a floating-point tensor, got list"),
        (lambda: metrics.sure_share(torch.zeros(3)), ValueError, r"shape \(N, K\), got \(3,\)"),
        (lambda: metrics.sure_share(randn(4, 3)), ValueError, r"sum 1 in each row; use scores.softmax\(1\)"),
        (lambda: metrics.sure_share(torch.eye(3), 1.5), ValueError, "threshold must lie in"),
        (lambda: metrics.nearest_distance(SMALL, torch.zeros(1, 1, 5, 4)), ValueError, "must have one shape, got"),
        (lambda: metrics.nearest_distance(SMALL[0], SMALL), ValueError, "pictures must have 4 dimensions"),
        (lambda: metrics.nearest(SMALL, SMALL, 2), ValueError, r"k must lie in \[1, 1\], got 2"),
        (lambda: metrics.embed(torch.zeros(1, 1, 32, 32)), ValueError, r"sees 28×28 pictures, got \(32, 32\)"),
        (lambda: metrics.embed(torch.zeros(1, 3, 28, 28)), ValueError, r"x must have 1 channel\(s\), got 3"),
        (lambda: metrics.embed(PICTURE + math.nan), ValueError, "pictures holds 784 value"),
        (lambda: metrics.embed(PICTURE, net="features28.safetensors"), TypeError, "net must be a torch.nn.Module"),
        (lambda: metrics.embed(PICTURE, net=metrics.FeatureNet()), ValueError, "net must be in eval mode"),
        (lambda: metrics.embed(PICTURE, batch_size=0), ValueError, "batch_size must lie in"),
        (lambda: metrics.measure(REAL()[:20], REAL()[:20], REAL()), TypeError, "train must be .*Pictures, got Tensor"),
        (lambda: metrics.measure(REAL()[:9], REAL(), REAL()), ValueError, "samples must hold at least 10 .* got 9"),
        (lambda: metrics.measure(REAL()[:20] * math.inf, REAL(), REAL()), ValueError, "samples holds"),
    ],
)
def test_what_cannot_be_measured(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
