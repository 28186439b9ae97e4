"""Every measure at once, beside the same for held-out pictures."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..data import CLASS_NAMES, Pictures
from ..validate import validate_finite, validate_number
from .distances import frechet_distance, frechet_interval, kernel_against, pairs_of
from .features import FeatureNet, embed, stored
from .neighbors import nearest_distance, precision_recall


@dataclass(frozen=True)
class SureShare:
    """How many samples the classifier is sure about.

    Args:
        share: of all samples, in [0, 1].
        by_class: share of the samples that look most like each class; NaN where there are none.
        counts: how many samples look most like each class.
    """

    share: float
    by_class: tuple[float, ...]
    counts: tuple[int, ...]


def sure_share(probabilities: Tensor, threshold: float = 0.9) -> SureShare:
    """The share of samples whose most probable class has at least the probability `threshold`, also by class.

    A sample between two classes, or like none, makes the classifier unsure. Some real pictures do too, so compare with
    held-out ones. A model that always makes the same shirt gets a share of 1: look at the counts as well.

    Args:
        probabilities: of the classes, (N, K), rows with sum 1.
        threshold: in [0, 1].
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


@dataclass(frozen=True)
class Distance:
    """A distance, with the numbers that you need to judge it.

    Args:
        value: of the samples from the training pictures.
        low, high: ends of its 95 % interval over the samples.
        n: number of samples.
        floor: the distance of as many held-out real pictures from the training pictures. If there are fewer of
            them, all are used, and the Fréchet floor is too high to compare with.
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
    """A dictionary in which None replaces NaN, which JSON does not know."""

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
        n_real: number of held-out pictures: n, or all there are.
        n_train: number of training pictures.
        frechet: see `frechet_distance`.
        kernel: see `kernel_distance`.
        precision, recall: see `precision_recall`; against n training pictures.
        sure: see `sure_share`.
        nearest: median distance to the nearest training picture, see `nearest_distance`.
        copies: share that is nearer to a training picture than all but 1 % of the held-out ones.
        classes: see `SureShare`.
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
        """Nested dictionaries of numbers, for JSON; None stands for NaN."""
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
    """Every measure of `course_lib.metrics`, beside the same for as many held-out real pictures.

    The features of `train` and `heldout` are kept, so the second call with the same objects is faster.

    Args:
        samples: floats (N, 1, 28, 28), clipped to [-1, 1], or `Pictures`; N >= 10, better 1,000.
        train: what the model was trained on.
        heldout: real pictures that it has not seen; if there are more than N, N of them are chosen at random.
        generator: source of the randomness, on the CPU.
        net: a network in eval mode; None takes the one of `load_feature_net`.
        resamples: see `frechet_interval`.
    """
    for name, pictures in (("train", train), ("heldout", heldout)):
        if not isinstance(pictures, Pictures):
            raise TypeError(f"{name} must be course_lib.data.Pictures, got {type(pictures).__name__}")
    samples = Pictures(stored(samples, "samples"), source="the model")
    for name, pictures in (("samples", samples), ("train", train), ("heldout", heldout)):
        if len(pictures) < 10:
            raise ValueError(f"{name} must hold at least 10 pictures, got {len(pictures)}")
    ours, known = embed(samples[:], net=net), embed(train, net=net)
    chosen = torch.randperm(len(heldout), generator=generator)[: len(samples)]
    real = embed(heldout, net=net)[chosen]
    peers = known.features[torch.randperm(len(train), generator=generator)[: len(samples)]]
    frechet, kernel = _distances(ours.features, real.features, known.features, resamples, generator)
    precision, recall = zip(*(precision_recall(e.features, peers) for e in (ours, real)), strict=True)
    classes, real_classes = (sure_share(e.probabilities) for e in (ours, real))
    held = Pictures(heldout.images[chosen])
    nearest, real_nearest = (nearest_distance(p, train)[0] for p in (samples, held))
    close = torch.quantile(real_nearest, 0.01)
    return Report(
        n=len(samples),
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


def _distances(
    ours: Tensor, real: Tensor, known: Tensor, resamples: int, generator: torch.Generator | None
) -> tuple[Distance, Distance]:
    """Fréchet and kernel distance of the samples' features, and of the held-out ones, from the training features."""
    low, high = frechet_interval(ours, known, resamples=resamples, generator=generator)
    frechet = Distance(frechet_distance(ours, known), low, high, len(ours), frechet_distance(real, known))
    pairs = pairs_of(known)
    return frechet, Distance(*kernel_against(ours, pairs), len(ours), kernel_against(real, pairs)[0])
