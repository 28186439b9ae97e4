"""What the course's small classifier says about pictures: features, and probabilities of the classes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data import Pictures, to_float, to_uint8
from ..validate import validate_model, validate_number, validate_pictures

FEATURES = Path(__file__).parent.parent / "weights" / "features28.safetensors"
#: Hash of the file above: another network would give other numbers.
FEATURES_SHA256 = "c4caa218bc5f21e12e9a1e59b636aa3c41fbd8fc0f4e8440046abd867fb2d5fa"


class FeatureNet(nn.Module):
    """A small classifier of 28×28 Fashion-MNIST, whose 64 features describe what a picture looks like.

    Three levels of 3×3 convolutions with BatchNorm, a mean over the last map, and a dense layer. Its outputs, the
    features, have mean 0 and variance 1 over the training pictures. Training taught it to ignore changes that nobody
    sees: a few of the 256 levels brighter or darker, or a little grain.
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
        """Features (B, 64) and class scores (B, 10), before softmax, of pictures (B, 1, 28, 28) in [-1, 1]."""
        validate_pictures(x, "x", channels=1, values=x.device.type == "cpu")
        if x.shape[2:] != (28, 28):
            raise ValueError(f"the feature network sees 28×28 pictures, got {tuple(x.shape[2:])}")
        features = self.features(self.body(x))
        return features, self.head(F.relu(features))


@lru_cache(maxsize=2)
def load_feature_net(device: torch.device | str = "cpu") -> FeatureNet:
    """The trained `FeatureNet` that comes with the course, in eval mode and without gradients; it is loaded once.

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
    with torch.random.fork_rng(devices=[]):  # loaded weights replace the random ones; leave the global generator alone
        net = FeatureNet()
    net.load_state_dict(safetensors.torch.load(content))
    net.to(device).to(memory_format=torch.channels_last)
    return net.eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the feature network says about N pictures.

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
    """Features and class probabilities of pictures, after rounding them to 256 levels in [-1, 1] as a file would.

    With the course's network, the answer for a `Pictures` object is kept, so asking again is free.

    Args:
        pictures: `Pictures`, or floats (N, 1, 28, 28), which are clipped to [-1, 1].
        net: a network in eval mode; None takes the one of `load_feature_net`.
        batch_size: pictures in one pass; a CPU is fastest with few, a GPU with many.
    """
    validate_number("batch_size", batch_size, 1, integer=True)
    if net is None and isinstance(pictures, Pictures):
        return _embed_kept(pictures, batch_size)
    return _embed(stored(pictures, "pictures"), net or load_feature_net(), batch_size)


@lru_cache(maxsize=4)
def _embed_kept(pictures: Pictures, batch_size: int) -> Embedding:
    return _embed(pictures.images, load_feature_net(), batch_size)


@torch.no_grad()
def _embed(images: Tensor, net: FeatureNet, batch_size: int) -> Embedding:
    validate_model(net, "net")
    if net.training:
        raise ValueError("net must be in eval mode, or else its answer depends on the batch; call net.eval()")
    device = net.head.weight.device
    answers = [net(to_float(batch.to(device))) for batch in images.split(batch_size)]
    features, scores = (torch.cat(parts).cpu().double() for parts in zip(*answers, strict=True))
    return Embedding(features, scores.softmax(1))


def stored(pictures: Pictures | Tensor, name: str) -> Tensor:
    """Pictures as they would be stored: uint8, (N, C, H, W)."""
    if isinstance(pictures, Pictures):
        return pictures.images
    validate_pictures(pictures, name)
    return to_uint8(pictures)
