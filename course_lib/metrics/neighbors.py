"""Neighbors: precision and recall among features, the nearest training pictures among pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..data import Pictures, to_float
from ..validate import validate_number, validate_pictures
from .distances import validate_features
from .features import stored


def precision_recall(features: Tensor, real_features: Tensor, k: int = 5) -> tuple[float, float]:
    """Precision: are samples like real pictures? Recall: is every kind of real picture among the samples?

    Every real picture has a ball that reaches to its k-th nearest other real picture. Precision is the share of
    samples that lie in at least one of these balls; recall exchanges the two sets (Kynkäänniemi et al. 2019,
    arXiv:1904.06991). Both depend on the sizes of the sets, which are equal in the paper, and stay below 1 even for
    real pictures. A few odd real pictures have very wide balls, and poor samples, even pure noise, fall into them
    (Naeem et al. 2020, arXiv:2002.09797). So never read precision without recall and the distances.

    Args:
        features: of the samples, (N, D), N > k.
        real_features: of the real pictures, (M, D), M > k.
        k: which neighbor the balls reach to.

    Returns:
        Precision and recall, in [0, 1].
    """
    features, real_features = validate_features(features, real_features)
    validate_number("k", k, 1, min(len(features), len(real_features)) - 1, integer=True)
    return _inside(features, real_features, k), _inside(real_features, features, k)


def _inside(points: Tensor, centers: Tensor, k: int) -> float:
    """Share of points in at least one ball; each center has one, which reaches to its k-th nearest other center."""
    radius = torch.cat([_distances(part, centers).kthvalue(k + 1).values for part in centers.split(500)])
    inside = [(_distances(part, centers) <= radius).any(1) for part in points.split(500)]
    return torch.cat(inside).double().mean().item()


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")  # equal vectors are at distance 0


def nearest(pictures: Tensor, train: Tensor, k: int = 3) -> tuple[Tensor, Tensor]:
    """The training pictures nearest to each picture, by the Euclidean distance of their pixels.

    Args:
        pictures: (B, C, H, W), floats.
        train: (N, C, H, W), floats in [-1, 1].
        k: how many for each picture, 1..N.

    Returns:
        Distances, rising, float64 (B, k), and indices into train, int64 (B, k); both on the CPU.
    """
    validate_pictures(pictures, "pictures")
    validate_pictures(train, "train")
    if pictures.shape[1:] != train.shape[1:]:
        raise ValueError(
            f"pictures and train must have one shape, got {tuple(pictures.shape[1:])} and {tuple(train.shape[1:])}"
        )
    validate_number("k", k, 1, len(train), integer=True)
    x = pictures.flatten(1).float()
    best, index = x.new_empty(len(x), 0), torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
    for start in range(0, len(train), 4096):
        y = train[start : start + 4096].flatten(1).to(x)
        squared = y.square().sum(1) - 2 * x @ y.T  # without ‖x‖², which is the same for all
        here = start + torch.arange(len(y), device=x.device).expand(len(x), -1)
        best, places = torch.cat([best, squared], 1).topk(min(k, start + len(y)), largest=False)
        index = torch.cat([index, here], 1).gather(1, places)
    index = index.cpu()
    found = train.flatten(1)[index.to(train.device)].cpu().double()  # float32 was enough to find them
    distances, order = (found - x.cpu().double()[:, None]).square().sum(2).sqrt().sort(1)
    return distances, index.gather(1, order)


def nearest_distance(pictures: Pictures | Tensor, train: Pictures | Tensor) -> tuple[Tensor, Tensor]:
    """How far each picture is from the nearest training picture: min over i of √(mean over pixels of (x − x_i)²).

    0 is a copy. Compare with held-out pictures: a model that copies is clearly nearer than they are. A blurred picture
    is near as well, so the distance says nothing about quality.

    Args:
        pictures: `Pictures`, or floats in [-1, 1], (N, C, H, W).
        train: what the model was trained on, likewise, (M, C, H, W).

    Returns:
        Distances, float64 (N,), in [0, 2] (black against white), and indices into train, int64 (N,).
    """
    images, known = (to_float(stored(each, name).cpu()) for each, name in ((pictures, "pictures"), (train, "train")))
    distances, index = nearest(images, known, 1)
    return distances[:, 0] / images[0].numel() ** 0.5, index[:, 0]
