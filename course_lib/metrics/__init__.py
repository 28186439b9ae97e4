"""How good are the pictures? Distances between samples and real pictures, on the features of a small network.

The network, `FeatureNet`, is a classifier of Fashion-MNIST that comes with the course. The numbers are therefore
comparable with each other and with nothing else: the well-known FID uses another network (Inception), another
kind of pictures and 50,000 samples. Most numbers also depend on how many samples there are, so beside each stands
the same number for as many real pictures that were held out: the best that can be hoped for.

    from course_lib.metrics import measure
    print(measure(samples, train, heldout, generator=generator))

Samples are clipped to [-1, 1] and rounded to 256 levels before anything is measured, since the real pictures were.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import CLASS_NAMES, Pictures, to_float, to_uint8
from ..validate import validate_finite, validate_number, validate_pictures

FEATURES = Path(__file__).parent.parent / "weights" / "features28.safetensors"
#: Hash of the file above. Another network gives other numbers, so the metric and its network change together.
FEATURES_SHA256 = "c4caa218bc5f21e12e9a1e59b636aa3c41fbd8fc0f4e8440046abd867fb2d5fa"


class FeatureNet(nn.Module):
    """A small classifier of 28×28 Fashion-MNIST, whose 64 features say what a picture looks like.

    Three levels of 3×3 convolutions with BatchNorm, a mean over the last map, and a dense layer whose outputs, the
    features, are brought to mean 0 and variance 1 over the training pictures. It was trained to answer the same where
    a picture changes by what nobody sees: some levels of 256 lighter or darker, or with some grain.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = ((1, 32), (32, 64), (64, 64), (64, 128))
        convs = [
            nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()) for i, o in widths
        ]
        pool = nn.MaxPool2d(2)
        self.body = nn.Sequential(convs[0], pool, convs[1], convs[2], pool, convs[3], nn.AdaptiveAvgPool2d(1))
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(128, 64, bias=False), nn.BatchNorm1d(64, affine=False))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, 64) and class scores (B, 10), before softmax, of pictures (B, 1, 28, 28) in [-1, 1].

        Raises:
            TypeError, ValueError: not pictures of this shape.
        """
        validate_pictures(x, "x", channels=1, values=x.device.type == "cpu")
        if x.shape[2:] != (28, 28):
            raise ValueError(f"the feature network sees 28×28 pictures, got {tuple(x.shape[2:])}")
        features = self.features(self.body(x))
        return features, self.head(F.relu(features))


@lru_cache(maxsize=2)
def load_feature_net(device: torch.device | str = "cpu") -> FeatureNet:
    """The trained `FeatureNet` that comes with the course, in eval mode and without gradients; loaded once.

    The header of its file says how it was trained: `safetensors.safe_open(FEATURES, "pt").metadata()["card"]`.

    Args:
        device: where to put it.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file was cut short or altered.
    """
    if not FEATURES.is_file():
        raise FileNotFoundError(f"there is no {FEATURES}; install the course again, or train it: make features")
    content = FEATURES.read_bytes()
    if hashlib.sha256(content).hexdigest() != FEATURES_SHA256:
        raise ValueError(f"{FEATURES} was cut short or altered: its hash is not FEATURES_SHA256; copy the file again")
    with torch.random.fork_rng(devices=[]):  # what is drawn for new weights is missed by nobody
        net = FeatureNet()
    net.load_state_dict(safetensors.torch.load(content))
    net.to(device).to(memory_format=torch.channels_last)
    return net.eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the feature network says of N pictures.

    Args:
        features: float64, (N, 64), on the CPU.
        probabilities: of the ten classes, float64, (N, 10), on the CPU.
    """

    features: Tensor
    probabilities: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: slice | Tensor) -> Embedding:
        """Some of them."""
        return Embedding(self.features[index], self.probabilities[index])


def embed(pictures: Pictures | Tensor, *, net: FeatureNet | None = None, batch_size: int = 50) -> Embedding:
    """Features and class probabilities of pictures, each as it would be stored: in [-1, 1], with 256 levels.

    With the course's network, the answer for a `Pictures` is kept for the next call with the same object.

    Args:
        pictures: `Pictures`, or floats (N, 1, 28, 28), where what lies outside [-1, 1] is clipped.
        net: the network, in eval mode; the one of `load_feature_net` where None.
        batch_size: pictures in one pass; few are fastest on a CPU, many on a GPU.

    Raises:
        TypeError, ValueError: not pictures of this shape, or not finite.
    """
    validate_number("batch_size", batch_size, 1, integer=True)
    if net is None and isinstance(pictures, Pictures):
        return _embed_kept(pictures, batch_size)
    return _embed(_stored(pictures, "pictures"), net or load_feature_net(), batch_size)


@lru_cache(maxsize=4)
def _embed_kept(pictures: Pictures, batch_size: int) -> Embedding:
    return _embed(pictures.images, load_feature_net(), batch_size)


@torch.no_grad()
def _embed(images: Tensor, net: FeatureNet, batch_size: int) -> Embedding:
    if net.training:
        raise ValueError("net must be in eval mode, else its answer depends on the batch; call net.eval()")
    device = net.head.weight.device
    answers = [net(to_float(batch.to(device))) for batch in images.split(batch_size)]
    features, scores = (torch.cat(parts).cpu().double() for parts in zip(*answers, strict=True))
    return Embedding(features, scores.softmax(1))


def _stored(pictures: Pictures | Tensor, name: str) -> Tensor:
    """Pictures as bytes, (N, C, H, W)."""
    if isinstance(pictures, Pictures):
        return pictures.images
    validate_pictures(pictures, name)
    return to_uint8(pictures)


# Fréchet distance


def frechet_distance(features: Tensor, real_features: Tensor) -> float:
    """Fréchet distance between the Gaussians that have the means and covariances of two sets of features.

    d² = ‖μ − μ'‖² + tr(Σ + Σ' − 2 (Σ Σ')^½) (Dowson & Landau 1982; for pictures Heusel et al. 2017,
    arXiv:1706.08500). 0 where both moments agree. In expectation it falls with the number of samples, so compare
    only at the same number, and with the floor: the distance of as many real pictures. On the features of
    `FeatureNet` it is not the FID of papers, whose features are Inception's.

    Args:
        features: of the samples, (N, D), N >= 2, best many times D; float64 is computed with.
        real_features: of the real pictures, (M, D).

    Returns:
        d², >= 0, in squared units of the features.

    Raises:
        TypeError, ValueError: not finite features of the same length, or fewer than two.
    """
    features, real_features = _validate_features(features, real_features)
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

    Samples are drawn again with replacement (Efron & Tibshirani 1993, chapter 13). Repeats make the distance larger
    on average, so only the deviations of the resamples from their own mean are used, turned about the distance
    found; on the scale of √d², whose spread changes little with the distance. The interval is for where d² lies on
    average over many sets of samples of this size, which is what the floor is compared with. Where N is no more than
    a few times D it is wider than it need be.

    Args:
        features, real_features: as `frechet_distance`.
        level: the share of intervals that hold that average.
        resamples: number of sets drawn.
        generator: source of the randomness, on the CPU.

    Returns:
        Low and high end, both >= 0.

    Raises:
        TypeError, ValueError: as `frechet_distance`, or a level out of (0, 1).
    """
    features, real_features = _validate_features(features, real_features)
    validate_number("level", level, 1e-6, 1 - 1e-6)
    validate_number("resamples", resamples, 2, integer=True)
    n = len(features)
    drawn = (torch.randint(n, (n,), generator=generator) for _ in range(resamples))
    means, covs = (torch.stack(m) for m in zip(*(_moments(features[index]) for index in drawn), strict=True))
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


# Kernel distance


def kernel_distance(features: Tensor, real_features: Tensor) -> float:
    """Squared maximum mean discrepancy with the kernel k(x, y) = (x·y / D + 1)³, without bias.

    mean k(x, x') + mean k(y, y') − 2 mean k(x, y), over all pairs of different samples x, x' and real pictures y, y'
    (Gretton et al. 2012, eq. 3; kernel of Bińkowski et al. 2018, arXiv:1801.01401). Its expectation does not
    depend on the number of samples and is 0 for samples like the real pictures, so it may fall below 0. On the
    features of `FeatureNet` it is not the KID of papers, whose features are Inception's.

    Args:
        features: of the samples, (N, D), N >= 2; float64 is computed with. Memory grows with D³, not with N².
        real_features: of the real pictures, (M, D), M >= 2.

    Returns:
        The distance; 0 is best.

    Raises:
        TypeError, ValueError: not finite features of the same length, or fewer than two.
    """
    features, real_features = _validate_features(features, real_features)
    return _kernel(features, _pairs(real_features))[0]


def kernel_interval(features: Tensor, real_features: Tensor, *, level: float = 0.95) -> tuple[float, float]:
    """Interval for the kernel distance: d ± z · standard error, by the jackknife over the samples.

    Leaving out one sample after another gives d_i; the squared error is (N − 1)/N · Σ (d_i − mean)² (Efron & Stein
    1981). The real pictures are taken as given.

    Args:
        features, real_features: as `kernel_distance`, with N >= 3.
        level: the share of intervals that hold the expectation over the samples.

    Returns:
        Low and high end.

    Raises:
        TypeError, ValueError: as `kernel_distance`, or a level out of (0, 1).
    """
    validate_number("level", level, 1e-6, 1 - 1e-6)
    features, real_features = _validate_features(features, real_features)
    if len(features) < 3:
        raise ValueError(f"features must hold at least 3 samples, got {len(features)}")
    return _kernel_interval(*_kernel(features, _pairs(real_features)), level)


def _kernel_interval(value: float, without: Tensor, level: float) -> tuple[float, float]:
    n = len(without)
    error = ((n - 1) / n * (without - without.mean()).square().sum()).sqrt()
    half = (torch.special.ndtri(torch.tensor((1 + level) / 2).double()) * error).item()
    return value - half, value + half


def _kernel(features: Tensor, real: _Pairs) -> tuple[float, Tensor]:
    """The kernel distance, and the N distances that leave out one sample each."""
    z, own = _lift(features), _pairs(features)
    n = own.n
    same = n * (n - 1) * own.mean
    per_sample = _kernel_sums(z, own.cubes) - z.square().sum(1) ** 3
    cross = _kernel_sums(z, real.cubes) / real.n
    value = own.mean + real.mean - 2 * cross.mean()
    without = (same - 2 * per_sample) / ((n - 1) * (n - 2)) + real.mean - 2 * (cross.sum() - cross) / (n - 1)
    return value.item(), without


@dataclass(frozen=True)
class _Pairs:
    """What the kernel distance needs of a set: its size, `_cubes`, and the mean of k over pairs of different ones."""

    n: int
    cubes: Tensor
    mean: Tensor


def _pairs(features: Tensor) -> _Pairs:
    z, n = _lift(features), len(features)
    cubes = _cubes(z)
    return _Pairs(n, cubes, (cubes.square().sum() - (z.square().sum(1) ** 3).sum()) / (n * (n - 1)))


def _lift(features: Tensor) -> Tensor:
    """Vectors z, (N, D + 1), with z·z' = x·x' / D + 1."""
    return torch.cat([features / features.shape[1] ** 0.5, torch.ones_like(features[:, :1])], 1)


def _cubes(z: Tensor) -> Tensor:
    """Σ z⊗z⊗z as a (D, D²) matrix: all that a sum of (z·z')³ over many z' needs to know of them."""
    return sum((part.T @ _squares(part) for part in z.split(1000)), torch.zeros(()))


def _kernel_sums(z: Tensor, cubes: Tensor) -> Tensor:
    """Σ_j (z_i·z_j)³ for each i, (N,)."""
    return torch.cat([(_squares(part) @ cubes.T * part).sum(1) for part in z.split(1000)])


def _squares(z: Tensor) -> Tensor:
    return (z[:, :, None] * z[:, None, :]).flatten(1)


# Precision and recall


def precision_recall(features: Tensor, real_features: Tensor, k: int = 5) -> tuple[float, float]:
    """Precision: are samples like real pictures? Recall: is every kind of real picture among the samples?

    Precision is the share of samples that lie in a ball about some real picture that reaches to its k-th nearest
    other real picture; recall is the same with the sets exchanged (Kynkäänniemi et al. 2019, arXiv:1904.06991).
    Both depend on the sizes of the sets, which the paper takes equal, and stay below 1 even for real pictures. A few
    odd real pictures have very wide balls, which can take in poor samples, pure noise among them (Naeem et al. 2020,
    arXiv:2002.09797): read precision only beside recall and the distances.

    Args:
        features: of the samples, (N, D), N > k.
        real_features: of the real pictures, (M, D), M > k.
        k: how far the balls reach.

    Returns:
        Precision and recall, in [0, 1].

    Raises:
        TypeError, ValueError: not finite features of the same length, or too few for k.
    """
    features, real_features = _validate_features(features, real_features)
    validate_number("k", k, 1, min(len(features), len(real_features)) - 1, integer=True)
    return _inside(features, real_features, k), _inside(real_features, features, k)


def _inside(points: Tensor, centers: Tensor, k: int) -> float:
    """Share of points in the ball of some center; a ball reaches to the k-th nearest other center."""
    radius = torch.cat([_distances(part, centers).kthvalue(k + 1).values for part in centers.split(500)])
    inside = [(_distances(part, centers) <= radius).any(1) for part in points.split(500)]
    return torch.cat(inside).double().mean().item()


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")  # so that equal vectors have distance 0


# Classes


@dataclass(frozen=True)
class SureShare:
    """Share of samples of which the classifier is sure.

    Args:
        share: over all samples, in [0, 1].
        by_class: over the samples that look most like each class; NaN where there are none.
        counts: number of samples that look most like each class.
    """

    share: float
    by_class: tuple[float, ...]
    counts: tuple[int, ...]


def sure_share(probabilities: Tensor, threshold: float = 0.9) -> SureShare:
    """Share of samples whose most probable class has at least the probability `threshold`, by that class too.

    A sample between two classes, or like none, makes the classifier unsure. So do some real pictures: compare with
    held-out ones. That all samples are sure does not mean that they differ: look at the counts.

    Args:
        probabilities: of the classes, (N, K), rows with sum 1.
        threshold: in [0, 1].

    Raises:
        TypeError, ValueError: not probabilities, or a threshold out of range.
    """
    validate_number("threshold", threshold, 0, 1)
    if not isinstance(probabilities, Tensor) or not probabilities.is_floating_point():
        got = probabilities.dtype if isinstance(probabilities, Tensor) else type(probabilities).__name__
        raise TypeError(f"probabilities must be a floating-point tensor, got {got}")
    if probabilities.ndim != 2 or probabilities.numel() == 0:
        raise ValueError(f"probabilities must have shape (N, K), got {tuple(probabilities.shape)}")
    validate_finite(probabilities, "probabilities")
    probabilities = probabilities.detach().cpu()
    if probabilities.min() < 0 or (probabilities.sum(1) - 1).abs().max() > 1e-3:
        raise ValueError("probabilities must be >= 0 with sum 1 in each row; use scores.softmax(1)")
    best, label = probabilities.max(1)
    sure = (best >= threshold).double()
    classes = [sure[label == c] for c in range(probabilities.shape[1])]
    by_class = tuple(one.mean().item() if len(one) else float("nan") for one in classes)
    return SureShare(sure.mean().item(), by_class, tuple(len(one) for one in classes))


# Copies


def nearest_distance(pictures: Pictures | Tensor, train: Pictures | Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each picture to the training picture that is nearest in pixels.

    min over i of √(mean over pixels of (x − x_i)²). 0 is a copy. Compare with the same for held-out pictures: a
    model that copies is clearly nearer. A blurred picture is near as well, so this says nothing of quality.

    Args:
        pictures: `Pictures`, or floats in [-1, 1], (N, C, H, W).
        train: what the model was trained on, likewise, (M, C, H, W).

    Returns:
        Distances, float64 (N,), in [0, 2] (black against white), and indices into train, int64 (N,).

    Raises:
        TypeError, ValueError: not pictures, or of different shapes.
    """
    images, known = _stored(pictures, "pictures"), _stored(train, "train")
    if images.shape[1:] != known.shape[1:]:
        raise ValueError(
            f"pictures and train must have the same size, got {tuple(images.shape[1:])} and {tuple(known.shape[1:])}"
        )
    x, y = (to_float(each.cpu()).flatten(1) for each in (images, known))
    least, index = torch.full((len(x),), float("inf")), torch.zeros(len(x), dtype=torch.int64)
    for start in range(0, len(y), 2000):
        part = y[start : start + 2000]
        squared = part.square().sum(1) - 2 * (x @ part.T)  # and + ‖x‖², the same for all
        value, where = squared.min(1)
        index = torch.where(value < least, start + where, index)
        least = torch.minimum(value, least)
    return (x.double() - y[index].double()).square().mean(1).sqrt(), index


# All of them


@dataclass(frozen=True)
class Distance:
    """A distance with what is needed to judge it.

    Args:
        value: of the samples from the training pictures.
        low, high: ends of its 95 % interval over the samples.
        n: number of samples.
        floor: the distance of as many held-out real pictures from the training pictures; of all of them where they are
            fewer, which makes a Fréchet floor too high to compare with.
    """

    value: float
    low: float
    high: float
    n: int
    floor: float


@dataclass(frozen=True)
class Score:
    """A number for the samples, and the same for as many held-out real pictures."""

    value: float
    real: float


def _without_nan(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary in which None stands for what is no number, as JSON has it."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return [plain(each) for each in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    return {key: plain(value) for key, value in pairs}


@dataclass(frozen=True)
class Report:
    """All measures side by side; `print` it.

    Args:
        n: number of samples.
        n_real: number of held-out pictures beside them: n, or all there are.
        n_train: number of training pictures.
        frechet: see `frechet_distance`.
        kernel: see `kernel_distance`.
        precision, recall: see `precision_recall`; against n training pictures.
        sure: share that the classifier is sure of, see `sure_share`.
        nearest: median distance to the nearest training picture, see `nearest_distance`.
        copies: share nearer to a training picture than all but 1 % of the held-out ones.
        classes: see `sure_share`, by class.
        real_classes: the same for the held-out pictures.
    """

    n: int
    n_real: int
    n_train: int
    frechet: Distance
    kernel: Distance
    precision: Score
    recall: Score
    sure: Score
    nearest: Score
    copies: Score
    classes: SureShare
    real_classes: SureShare

    def as_dict(self) -> dict[str, Any]:
        """Nested dictionaries of numbers, for JSON; None where there is none."""
        return asdict(self, dict_factory=_without_nan)

    def __str__(self) -> str:
        head = (
            f"{self.n:,} samples beside {self.n_real:,} held-out pictures, against {self.n_train:,} training pictures"
        )
        lines = [head, "", f"{'':34}{'samples':>10}{'95 % interval':>20}{'real':>10}"]
        for name, d, digits in (("Fréchet distance", self.frechet, 2), ("kernel distance", self.kernel, 4)):
            value, low, high, floor = (f"{v:.{digits}f}" for v in (d.value, d.low, d.high, d.floor))
            lines.append(f"{name:34}{value:>10}{f'{low} to {high}':>20}{floor:>10}")
        for name, score in (("precision", self.precision), ("recall", self.recall), ("classifier is sure", self.sure)):
            lines.append(f"{name:34}{score.value:>10.1%}{'':20}{score.real:>10.1%}")
        lines.append(
            f"{'nearest training picture, median':34}{self.nearest.value:>10.3f}{'':20}{self.nearest.real:>10.3f}"
        )
        lines.append(f"{'nearer than 99 % of the real':34}{self.copies.value:>10.1%}{'':20}{self.copies.real:>10.1%}")
        lines += ["", f"{'looks like':16}{'samples':>10}{'sure':>8}{'real':>10}{'sure':>8}"]
        both = (self.classes, self.real_classes)
        for c, name in enumerate(CLASS_NAMES):
            cells = "".join(f"{s.counts[c] / sum(s.counts):>10.1%}{_percent(s.by_class[c]):>8}" for s in both)
            lines.append(f"{name:16}{cells}")
        return "\n".join(lines)


def _percent(share: float) -> str:
    return "–" if share != share else f"{share:.0%}"


def measure(
    samples: Pictures | Tensor,
    train: Pictures,
    heldout: Pictures,
    *,
    generator: torch.Generator | None = None,
    net: FeatureNet | None = None,
    resamples: int = 200,
) -> Report:
    """Every measure of this module at once, beside the same for as many real pictures that were held out.

    The features of `train` and `heldout` are kept, so the second call with the same objects is faster.

    Args:
        samples: floats (N, 1, 28, 28), clipped to [-1, 1], or `Pictures`; N >= 10, better 1,000.
        train: what the model was trained on.
        heldout: real pictures that it has not seen; N of them are drawn if there are more.
        generator: source of the draws, on the CPU.
        net: the network, in eval mode; the one of `load_feature_net` where None.
        resamples: see `frechet_interval`.

    Raises:
        TypeError, ValueError: not pictures of 28×28 with one channel, or fewer than ten.
    """
    for name, pictures in (("train", train), ("heldout", heldout)):
        if not isinstance(pictures, Pictures):
            raise TypeError(f"{name} must be course_lib.data.Pictures, got {type(pictures).__name__}")
    samples = Pictures(_stored(samples, "samples"), source="the model")
    for name, pictures in (("samples", samples), ("train", train), ("heldout", heldout)):
        if len(pictures) < 10:
            raise ValueError(f"{name} must hold at least 10 pictures, got {len(pictures)}")
    n = len(samples)
    ours, known = embed(samples[:], net=net), embed(train, net=net)
    chosen = torch.randperm(len(heldout), generator=generator)[:n]
    real = embed(heldout, net=net)[chosen]
    peers = known.features[torch.randperm(len(train), generator=generator)[:n]]

    frechet = Distance(
        frechet_distance(ours.features, known.features),
        *frechet_interval(ours.features, known.features, resamples=resamples, generator=generator),
        n,
        frechet_distance(real.features, known.features),
    )
    pairs = _pairs(known.features)
    value, without = _kernel(ours.features, pairs)
    kernel = Distance(value, *_kernel_interval(value, without, 0.95), n, _kernel(real.features, pairs)[0])
    precision, recall = zip(*(precision_recall(e.features, peers) for e in (ours, real)), strict=True)
    classes, real_classes = (sure_share(e.probabilities) for e in (ours, real))
    held = Pictures(heldout.images[chosen])
    nearest, real_nearest = (nearest_distance(p, train)[0] for p in (samples, held))
    close = torch.quantile(real_nearest, 0.01)
    return Report(
        n=n,
        n_real=len(real),
        n_train=len(train),
        frechet=frechet,
        kernel=kernel,
        precision=Score(*precision),
        recall=Score(*recall),
        sure=Score(classes.share, real_classes.share),
        nearest=Score(nearest.median().item(), real_nearest.median().item()),
        copies=Score(*((d <= close).double().mean().item() for d in (nearest, real_nearest))),
        classes=classes,
        real_classes=real_classes,
    )


def _validate_features(features: Tensor, real_features: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float64 on the CPU.

    Raises:
        TypeError: not floating-point tensors.
        ValueError: not (N, D) and (M, D) with N, M >= 2, or not finite.
    """
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
