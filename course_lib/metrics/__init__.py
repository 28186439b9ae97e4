"""How good are the pictures? Distances between samples and real pictures, on the features of a small network.

The network, `FeatureNet`, is a classifier of Fashion-MNIST that comes with the course. Its numbers therefore compare
with each other and with nothing else: the well-known FID uses another network (Inception), other pictures and 50,000
samples. Most numbers also depend on how many samples there are. So beside each stands the same number for as many
held-out real pictures: no model can hope for better.

    from course_lib.metrics import measure
    print(measure(samples, train, heldout, generator=generator))

Before anything is measured, samples are clipped to [-1, 1] and rounded to 256 levels, as the real pictures were.
"""

from .distances import frechet_distance, frechet_interval, kernel_distance, kernel_interval
from .features import FEATURES, FEATURES_SHA256, Embedding, FeatureNet, embed, load_feature_net
from .neighbors import nearest, nearest_distance, precision_recall
from .report import Distance, Report, Score, SureShare, measure, sure_share

__all__ = [
    "FEATURES",
    "FEATURES_SHA256",
    "Distance",
    "Embedding",
    "FeatureNet",
    "Report",
    "Score",
    "SureShare",
    "embed",
    "frechet_distance",
    "frechet_interval",
    "kernel_distance",
    "kernel_interval",
    "load_feature_net",
    "measure",
    "nearest",
    "nearest_distance",
    "precision_recall",
    "sure_share",
]
