"""Pictures: Fashion-MNIST, or a folder of your own.

Pictures are kept as bytes, uint8 (N, C, H, W), and handed out as float32 in [-1, 1]. A subset of Fashion-MNIST comes
with the package (1,000 training and 200 test pictures of each class), so the course runs with the network off;
nothing is downloaded unless you ask.

Fashion-MNIST is Xiao, Rasul & Vollgraf 2017 (arXiv:1708.07747), MIT licence.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .folder import allocate, find_classes, find_pictures, list_names, read_pictures, readable
from .validate import validate_choice, validate_finite, validate_flag, validate_number

#: The classes of Fashion-MNIST, by label.
CLASS_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

PACKAGED = Path(__file__).parent / "fashion_mnist" / "subset.npz"
#: Where to look for the full set, besides the folder in COURSE_DATA_DIR.
DEBIAN_DIR = Path("/usr/share/datasets/fashion-mnist")
DOWNLOAD_DIR = Path(os.path.expanduser("~"), ".cache", "torchvision")
SPLITS = {"train": "train", "test": "t10k"}
SOURCES = ("full", "packaged")
#: The largest height and width; beyond it, even one picture asks too much of a network.
LARGEST = 4096


def to_float(images: Tensor) -> Tensor:
    """Bytes to floats: 0..255 to [-1, 1], x = byte / 127.5 − 1.

    Args:
        images: uint8, any shape.

    Returns:
        float32 in [-1, 1], same shape and device.
    """
    _validate_dtype("images", images, torch.uint8, "a uint8 tensor")
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Floats to bytes, rounded; values outside [-1, 1] are clipped, as a screen would.

    Args:
        x: floats, any shape, finite.

    Returns:
        uint8, same shape and device.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor in [-1, 1], got {_kind(x)}")
    validate_finite(x, "x")
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def _kind(x: Any) -> str:
    return str(x.dtype) if isinstance(x, Tensor) else type(x).__name__


def _validate_dtype(name: str, x: Tensor, dtype: torch.dtype, wanted: str, hint: str = "") -> None:
    if not isinstance(x, Tensor) or x.dtype != dtype:
        raise TypeError(f"{name} must be {wanted}, got {_kind(x)}{hint}")


@dataclass(frozen=True, eq=False)
class Pictures:
    """A set of pictures in memory; `print` it to see what is in it.

    Args:
        images: uint8, (N, C, H, W).
        labels: int64, (N,), or None.
        source: where they came from, in words.
        class_names: names of the labels, by number.
        unlabeled: why there are no labels, for messages.
    """

    images: Tensor
    labels: Tensor | None = None
    source: str = "given"
    class_names: tuple[str, ...] = ()
    unlabeled: str = "these pictures have no labels"

    def __post_init__(self) -> None:
        _validate_dtype("images", self.images, torch.uint8, "a uint8 tensor", "; use course_lib.data.to_uint8")
        if self.images.ndim != 4 or len(self.images) == 0:
            raise ValueError(f"images must have shape (N, C, H, W) with N >= 1, got {tuple(self.images.shape)}")
        if self.labels is not None:
            _validate_dtype("labels", self.labels, torch.int64, "an int64 tensor")
            if self.labels.shape != self.images.shape[:1]:
                raise ValueError(f"labels must have shape ({len(self.images)},), got {tuple(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        n, c, h, w = self.images.shape
        return (
            f"{n:,} picture{'s' if n > 1 else ''} of {h}×{w} pixels, {c} channel{'s' if c > 1 else ''}, "
            f"{self._classes()}from {self.source}"
        )

    def _classes(self) -> str:
        if self.labels is None:
            return ""
        found, counts = self.labels.unique(return_counts=True)
        names = [self.class_names[i] if 0 <= i < len(self.class_names) else str(i) for i in found.tolist()]
        each = [f"{count:,}" for count in counts.tolist()]
        if len(set(each)) > 1:
            names = [f"{name} {count}" for name, count in zip(names, each, strict=True)]
        of_each = f" of {each[0]} each" if len(set(each)) == 1 else ""
        return f"{len(names)} class{'es' if len(names) > 1 else ''}{of_each} ({list_names(names)}), "

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        """Pictures as floats in [-1, 1]: (C, H, W) for an int, else (B, C, H, W)."""
        return to_float(self.images[index])

    def of_class(self, label: int) -> Pictures:
        """The pictures with this label.

        Raises:
            ValueError: there are no labels, or no picture has this one.
        """
        if self.labels is None:
            raise ValueError(self.unlabeled)
        validate_number("label", label, integer=True)
        chosen = self.labels == label
        if not chosen.any():
            raise ValueError(f"no picture has label {label}; the labels are {self.labels.unique().tolist()}")
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])

    def to(self, device: torch.device | str) -> Pictures:
        """The same pictures on another device."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, images=self.images.to(device), labels=labels)

    @cached_property
    def sha256(self) -> str:
        """Hash of shape and bytes, the same wherever the files came from."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        digest.update(self.images.cpu().contiguous().numpy().data)  # tobytes() would make a copy
        return digest.hexdigest()


def load_fashion_mnist(
    split: str = "train", size: int = 28, source: str | None = None, *, download: bool = False
) -> Pictures:
    """Fashion-MNIST: the full set if it is on this machine, else the subset that comes with the package.

    The full set (60,000 training and 10,000 test pictures) is looked for in the folder named by the environment
    variable COURSE_DATA_DIR, then in /usr/share/datasets/fashion-mnist (Debian's package dataset-fashion-mnist), then
    in ~/.cache/torchvision, where download=True puts it.

    Args:
        split: "train" or "test".
        size: height and width. 28 is as published; a larger size adds a black border, a smaller one resizes with
            antialiasing.
        source: None takes the full set if it is found; "full" insists on it; "packaged" takes the subset, which is
            the same on every machine.
        download: let torchvision download the full set if it is not found.

    Returns:
        Pictures, uint8 (N, 1, size, size), with labels; `print` them to see which set was found.

    Raises:
        FileNotFoundError: COURSE_DATA_DIR does not hold the files, or source="full" and they are nowhere.
        ValueError: a data file is damaged, or the pictures do not fit into memory.
    """
    validate_choice("split", split, SPLITS)
    validate_number("size", size, 1, LARGEST, integer=True)
    validate_flag("download", download)
    if source is not None:
        validate_choice("source", source, SOURCES)
    found = None if source == "packaged" else _find_full(split)
    if found is None and source != "packaged" and download:
        found = _download(split)
    if found is not None:
        images, labels = (_read_idx(path) for path in found)
        where = f"the full Fashion-MNIST in {found[0].parent}"
    elif source == "full":
        raise FileNotFoundError(
            "the full Fashion-MNIST is not on this machine: call load_fashion_mnist(download=True) in Python, or put "
            "its four idx files into a folder and name it in COURSE_DATA_DIR"
        )
    else:
        with np.load(PACKAGED, allow_pickle=False) as packed:
            images, labels = packed[f"{split}_images"], packed[f"{split}_labels"]
        where = "the subset of Fashion-MNIST that comes with the course"
    pictures = _fit(torch.from_numpy(images)[:, None], size)
    return Pictures(pictures, torch.from_numpy(labels.astype(np.int64)), where, CLASS_NAMES)


def _idx_files(folder: Path, split: str) -> tuple[Path, Path] | None:
    """The picture file and the label file of a split, plain or gzipped, if the folder has both."""
    paths = []
    for kind in ("images-idx3", "labels-idx1"):
        stem = folder / f"{SPLITS[split]}-{kind}-ubyte"
        path = next((p for p in (stem, stem.with_name(stem.name + ".gz")) if p.is_file()), None)
        if path is None:
            return None
        paths.append(path)
    return paths[0], paths[1]


def _find_full(split: str) -> tuple[Path, Path] | None:
    named = os.environ.get("COURSE_DATA_DIR")
    if named:
        found = _idx_files(Path(named), split)
        if found is None:
            raise FileNotFoundError(
                f"COURSE_DATA_DIR={named} does not hold {SPLITS[split]}-images-idx3-ubyte and "
                f"{SPLITS[split]}-labels-idx1-ubyte (.gz or not); unset it to use what the course finds by itself"
            )
        return found
    return _idx_files(DEBIAN_DIR, split) or _idx_files(DOWNLOAD_DIR / "FashionMNIST" / "raw", split)


def _download(split: str) -> tuple[Path, Path] | None:
    from torchvision.datasets import FashionMNIST  # imported here: the import takes a second

    FashionMNIST(str(DOWNLOAD_DIR), train=split == "train", download=True)
    return _idx_files(DOWNLOAD_DIR / "FashionMNIST" / "raw", split)


def _read_idx(path: Path) -> np.ndarray:
    """Read an idx file of bytes: 0, 0, 8, the number of axes, each length as a big-endian int32, then the data."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} cannot be unpacked ({error}); remove it and fetch it again") from error
    axes = data[3] if len(data) > 3 and data[:3] == b"\x00\x00\x08" else 0
    start = 4 + 4 * axes
    axes = 0 if len(data) < start else axes
    shape = tuple(int(n) for n in np.frombuffer(data[4:start], ">i4")) if axes else ()
    if not axes or len(data) - start != np.prod(shape):
        raise ValueError(f"{path} is not an idx file of bytes, or it is cut short; remove it and fetch it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()


def _fit(images: Tensor, size: int) -> Tensor:
    """Square uint8 pictures at size × size: with a black border if they are smaller, resized if they are larger."""
    now = images.shape[-1]
    if size > now:
        before = (size - now) // 2
        larger = allocate(len(images), 1, size).zero_()
        larger[:, :, before : before + now, before : before + now] = images
        return larger
    if size < now:
        small = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
        return small.round().clamp(0, 255).to(torch.uint8)
    return images


def load_folder(path: str | Path, size: int = 28, channels: int = 1) -> Pictures:
    """Your own pictures: every PNG, JPEG, WebP, BMP or GIF below a folder, cropped to its middle square and resized.

    If all pictures lie in two or more subfolders, these are the classes, in alphabetical order. Photos are turned
    upright, transparent pictures are put on white, and a GIF gives its first frame. Links are followed; hidden
    files and the thumbnail folders of common systems are skipped. `print` the result to see classes and counts, and
    how many pictures of other kinds were left out.

    Args:
        path: the folder.
        size: height and width of the result, 1..4096.
        channels: 1 for grey, 3 for RGB.

    Returns:
        Pictures, uint8 (N, channels, size, size).

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no pictures, broken pictures (the first ten are named), or not enough memory.
        OSError: a folder below it cannot be read.
    """
    validate_number("size", size, 1, LARGEST, integer=True)
    validate_choice("channels", channels, (1, 3))
    root = Path(path)
    if path == "" or not root.is_dir():  # Path("") is the current folder, which nobody means by ""
        raise FileNotFoundError(f"there is no folder {readable(path) or repr(path)}")
    files, left_out = find_pictures(root)
    if not files:
        there = f", but {left_out}: convert or rename them" if left_out else ""
        raise ValueError(f"{readable(root)} holds no PNG, JPEG, WebP, BMP or GIF pictures{there}")
    class_names, unlabeled = find_classes(root, files)
    images, sizes = read_pictures(files, size, channels)
    number = {name: i for i, name in enumerate(class_names)}
    labels = torch.tensor([number[file.relative_to(root).parts[0]] for file in files]) if class_names else None
    source = f"the folder {readable(root.resolve().name)}"
    source += f", cut to squares from {sizes} sizes" if sizes > 1 else ""
    source += f", {left_out} left out" if left_out else ""
    _warn_of_narrow_range(images)
    return Pictures(images, labels, source, class_names, unlabeled)


def _warn_of_narrow_range(images: Tensor) -> None:
    low, high = int(images.min()), int(images.max())
    if high - low < 64:
        warnings.warn(
            f"all pictures together use only the values {low} to {high} of 0 to 255, so they look almost uniform. "
            "Stretch them before you train; 12-bit pictures in 16-bit files, for example, need a factor of 16",
            stacklevel=3,
        )


def batches(n: int, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Endless batches of indices: each pass goes through all n pictures in a new random order.

    A batch that reaches the end of a pass continues with the next, so all batches have the same length, even if
    batch_size > n.

    Args:
        n: number of pictures, >= 1.
        batch_size: indices in each batch, >= 1.
        generator: source of the randomness, on the CPU.

    Yields:
        int64, (batch_size,), on the CPU.
    """
    validate_number("n", n, 1, integer=True)
    validate_number("batch_size", batch_size, 1, integer=True)
    left = torch.empty(0, dtype=torch.int64)
    while True:
        while len(left) < batch_size:
            left = torch.cat([left, torch.randperm(n, generator=generator)])
        yield left[:batch_size]
        left = left[batch_size:]
