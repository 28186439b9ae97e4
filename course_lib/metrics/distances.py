"""Distances between two sets of features, with intervals: Fréchet and kernel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..validate import validate_finite, validate_number


def frechet_distance(features: Tensor, real_features: Tensor) -> float:
    """Fréchet distance between the Gaussians that have the means and covariances of two sets of features.

    d² = ‖μ − μ'‖² + tr(Σ + Σ' − 2 (Σ Σ')^½) (Dowson & Landau 1982; for pictures Heusel et al. 2017,
    arXiv:1706.08500). It is 0 if both moments agree. With more samples it is smaller on average, so compare only equal
    numbers of them, and compare with the floor: the distance of as many real pictures. It is not the FID of papers,
    which uses Inception's features.

    Args:
        features: of the samples, (N, D), N >= 2, best many times D; computed in float64.
        real_features: of the real pictures, (M, D).

    Returns:
        d², >= 0, in squared units of the features.
    """
    features, real_features = validate_features(features, real_features)
    return _frechet(*_moments(features), *_moments(real_features)).item()


def frechet_interval(
    features: Tensor,
    real_features: Tensor,
    *,
    level: float = 0.95,
    resamples: int = 200,
    generator: torch.Generator | None = None,
) -> tuple[float, float]:
    """Bootstrap interval for the Fréchet distance of this many samples from these real pictures.

    Each resample picks N of the samples at random, with replacement (Efron & Tibshirani 1993, chapter 13). Repeated
    samples make the distance larger on average, so only the deviations of the resamples from their own mean count;
    they are mirrored at the distance found. We compute on the scale of √d², because its spread hardly depends on the
    distance. The interval is for the average of d² over many sets of samples of this size, which is the number to
    compare with the floor. If N is only a few times D, the interval is wider than necessary.

    Args:
        features, real_features: as `frechet_distance`.
        level: the share of intervals that contain that average.
        resamples: how many resamples.
        generator: source of the randomness, on the CPU.

    Returns:
        Low and high end, both >= 0.
    """
    features, real_features = validate_features(features, real_features)
    validate_number("level", level, 1e-6, 1 - 1e-6)
    validate_number("resamples", resamples, 2, integer=True)
    n = len(features)
    chosen = (torch.randint(n, (n,), generator=generator) for _ in range(resamples))
    means, covs = (torch.stack(m) for m in zip(*(_moments(features[index]) for index in chosen), strict=True))
    distances = _frechet(means, covs, *_moments(real_features))
    roots, root = distances.sqrt(), frechet_distance(features, real_features) ** 0.5
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = (roots - roots.mean()).quantile(ends).tolist()
    return max(root - high, 0.0) ** 2, (root - low) ** 2


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D), the latter divided by N − 1."""
    mean = features.mean(0)
    centered = features - mean
    return mean, centered.T @ centered / (len(features) - 1)


def _frechet(mean: Tensor, cov: Tensor, real_mean: Tensor, real_cov: Tensor) -> Tensor:
    """Distance of one or several Gaussians, mean (..., D) and cov (..., D, D), from that of the real features.

    With the symmetric root R = Σ'^½, the eigenvalues of Σ Σ' are those of R Σ R, which is symmetric.
    """
    values, vectors = torch.linalg.eigh(real_cov)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ cov @ root).clamp(min=0).sqrt().sum(-1)
    trace = cov.diagonal(dim1=-2, dim2=-1).sum(-1) + real_cov.trace()
    return ((mean - real_mean).square().sum(-1) + trace - 2 * overlap).clamp(min=0)


def kernel_distance(features: Tensor, real_features: Tensor) -> float:
    """Squared maximum mean discrepancy with the kernel k(x, y) = (x·y / D + 1)³, without bias.

    mean k(x, x') + mean k(y, y') − 2 mean k(x, y), over all pairs of different samples x, x' and real pictures y, y'
    (Gretton et al. 2012, eq. 3; kernel of Bińkowski et al. 2018, arXiv:1801.01401). Its expectation does not depend
    on the number of samples. For samples like the real pictures the expectation is 0, so a single value can be
    negative. It is not the KID of papers, which uses Inception's features.

    Args:
        features: of the samples, (N, D), N >= 2; computed in float64. Memory grows with D³, not with N².
        real_features: of the real pictures, (M, D), M >= 2.

    Returns:
        The distance; 0 is best.
    """
    features, real_features = validate_features(features, real_features)
    return kernel_against(features, pairs_of(real_features))[0]


def kernel_interval(features: Tensor, real_features: Tensor, *, level: float = 0.95) -> tuple[float, float]:
    """Interval for the kernel distance: d ± z · standard error, by the jackknife over the samples.

    Leaving out one sample after another gives d_i; the squared error is (N − 1)/N · Σ (d_i − mean)² (Efron & Stein
    1981). The real pictures count as fixed.

    Args:
        features, real_features: as `kernel_distance`, with N >= 3.
        level: the share of intervals that contain the expectation over the samples.

    Returns:
        Low and high end.
    """
    validate_number("level", level, 1e-6, 1 - 1e-6)
    features, real_features = validate_features(features, real_features)
    if len(features) < 3:
        raise ValueError(f"features must hold at least 3 samples, got {len(features)}")
    return kernel_against(features, pairs_of(real_features), level)[1:]


@dataclass(frozen=True)
class Pairs:
    """What the kernel distance needs to know of a set of features; make it with `pairs_of`.

    Args:
        n: size of the set.
        cubes: Σ z⊗z⊗z, see `_cubes`.
        mean: of the kernel over all pairs of different members.
    """

    n: int
    cubes: Tensor
    mean: Tensor


def pairs_of(features: Tensor) -> Pairs:
    """What `kernel_against` needs to know of features, float64 (N, D) on the CPU."""
    z, n = _lift(features), len(features)
    cubes = _cubes(z)
    return Pairs(n, cubes, (cubes.square().sum() - (z.square().sum(1) ** 3).sum()) / (n * (n - 1)))


def kernel_against(features: Tensor, real: Pairs, level: float = 0.95) -> tuple[float, float, float]:
    """The kernel distance and the ends of its interval; the real side is computed once, for many sets of samples.

    Args:
        features: of the samples, float64 (N, D) on the CPU.
        real: of the real pictures.
        level: as `kernel_interval`.
    """
    z, own = _lift(features), pairs_of(features)
    n = own.n
    cross = _kernel_sums(z, real.cubes) / real.n
    value = (own.mean + real.mean - 2 * cross.mean()).item()
    per_sample = _kernel_sums(z, own.cubes) - z.square().sum(1) ** 3
    left_out = (n * (n - 1) * own.mean - 2 * per_sample) / ((n - 1) * (n - 2))
    without = left_out + real.mean - 2 * (cross.sum() - cross) / (n - 1)
    error = ((n - 1) / n * (without - without.mean()).square().sum()).sqrt()
    half = (torch.special.ndtri(torch.tensor((1 + level) / 2).double()) * error).item()
    return value, value - half, value + half


def _lift(features: Tensor) -> Tensor:
    """Vectors z, (N, D + 1), with z·z' = x·x' / D + 1."""
    return torch.cat([features / features.shape[1] ** 0.5, torch.ones_like(features[:, :1])], 1)


def _cubes(z: Tensor) -> Tensor:
    """Σ z⊗z⊗z as a (D, D²) matrix: with it, Σ (z·z')³ over many z' is one product."""
    return sum((part.T @ _squares(part) for part in z.split(1000)), torch.zeros(()))


def _kernel_sums(z: Tensor, cubes: Tensor) -> Tensor:
    """Σ_j (z_i·z_j)³ for each i, (N,)."""
    return torch.cat([(_squares(part) @ cubes.T * part).sum(1) for part in z.split(1000)])


def _squares(z: Tensor) -> Tensor:
    return (z[:, :, None] * z[:, None, :]).flatten(1)


def validate_features(features: Tensor, real_features: Tensor) -> tuple[Tensor, Tensor]:
    """Two sets of features, (N, D) and (M, D) with N, M >= 2, as float64 on the CPU."""
    for name, f in (("features", features), ("real_features", real_features)):
        if not isinstance(f, Tensor) or not f.is_floating_point():
            got = f.dtype if isinstance(f, Tensor) else type(f).__name__
            raise TypeError(f"{name} must be a floating-point tensor, got {got}; use embed(pictures).features")
        if f.ndim != 2 or len(f) < 2 or f.shape[1] == 0:
            raise ValueError(f"{name} must have shape (N, D) with N >= 2, got {tuple(f.shape)}")
        validate_finite(f, name)
    if features.shape[1] != real_features.shape[1]:
        raise ValueError(
            f"features and real_features must have the same length, got {features.shape[1]} and "
            f"{real_features.shape[1]}; were they made by the same network?"
        )
    return features.cpu().double(), real_features.cpu().double()  # in this order: MPS has no float64
