"""Pictures: Fashion-MNIST, or a folder of your own.

Pictures are kept as bytes, uint8 (N, C, H, W), and handed out as float32 in [-1, 1]. Nothing here is fetched
unless asked: a subset of Fashion-MNIST comes with the package (1,000 training and 200 test pictures of each
class), so the course runs with the network off.

Fashion-MNIST is Xiao, Rasul & Vollgraf 2017 (arXiv:1708.07747), MIT licence.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from .validate import validate_choice, validate_number, validate_pictures

#: What `load_folder` takes for a picture.
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif")
#: Kinds of pictures that it leaves out, and says so.
OTHER_SUFFIXES = (".avif", ".heic", ".heif", ".tif", ".tiff", ".jp2", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".nef")
#: The classes of Fashion-MNIST, by label.
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

PACKAGED = Path(__file__).parent / "fashion_mnist" / "subset.npz"
#: Where the full set is looked for; the first two as four idx files, gzipped or not.
DEBIAN_DIR = Path("/usr/share/datasets/fashion-mnist")
DOWNLOAD_DIR = Path(os.path.expanduser("~"), ".cache", "torchvision")
SPLITS = {"train": "train", "test": "t10k"}
SOURCES = ("full", "packaged")


def to_float(images: Tensor) -> Tensor:
    """Bytes to floats: 0..255 to [-1, 1], x = byte / 127.5 − 1.

    Args:
        images: uint8, any shape.

    Returns:
        float32 in [-1, 1], same shape and device.

    Raises:
        TypeError: not a uint8 tensor.
    """
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images must be a uint8 tensor, got {got}")
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Floats to bytes, rounded; what lies outside [-1, 1] is clipped, as a screen would.

    Args:
        x: floats, any shape, finite.

    Returns:
        uint8, same shape and device.

    Raises:
        TypeError: not a floating-point tensor.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a floating-point tensor in [-1, 1], got {got}")
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


@dataclass(frozen=True, eq=False)
class Pictures:
    """A set of pictures in memory.

    Args:
        images: uint8, (N, C, H, W).
        labels: int64, (N,), or None.
        source: where they came from, in words.
        class_names: names of the labels, by number.

    Raises:
        TypeError: images are not uint8, or labels not int64.
        ValueError: not four dimensions, no pictures, or labels of another length.
    """

    images: Tensor
    labels: Tensor | None = None
    source: str = "given"
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.images, Tensor) or self.images.dtype != torch.uint8:
            got = self.images.dtype if isinstance(self.images, Tensor) else type(self.images).__name__
            raise TypeError(f"images must be a uint8 tensor, got {got}; use course_lib.data.to_uint8")
        if self.images.ndim != 4 or len(self.images) == 0:
            raise ValueError(f"images must have shape (N, C, H, W) with N >= 1, got {tuple(self.images.shape)}")
        if self.labels is not None and (not isinstance(self.labels, Tensor) or self.labels.dtype != torch.int64):
            got = self.labels.dtype if isinstance(self.labels, Tensor) else type(self.labels).__name__
            raise TypeError(f"labels must be an int64 tensor, got {got}")
        if self.labels is not None and self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"labels must have shape ({len(self.images)},), got {tuple(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.images)

    def __str__(self) -> str:
        n, c, h, w = self.images.shape
        return (
            f"{n:,} picture{'s' if n > 1 else ''} of {h}×{w} pixels, {c} channel{'s' if c > 1 else ''}, "
            f"from {self.source}"
        )

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        """Pictures as floats in [-1, 1]: (C, H, W) for an int, else (B, C, H, W)."""
        return to_float(self.images[index])

    def of_class(self, label: int) -> Pictures:
        """The pictures with this label.

        Raises:
            ValueError: there are no labels, or no picture has this one.
        """
        if self.labels is None:
            raise ValueError("these pictures have no labels")
        chosen = self.labels == label
        if not chosen.any():
            raise ValueError(f"no picture has label {label}; the labels are {self.labels.unique().tolist()}")
        return Pictures(self.images[chosen], self.labels[chosen], self.source, self.class_names)

    def to(self, device: torch.device | str) -> Pictures:
        """The same pictures on another device."""
        labels = None if self.labels is None else self.labels.to(device)
        return Pictures(self.images.to(device), labels, self.source, self.class_names)

    @cached_property
    def sha256(self) -> str:
        """Hash of shape and bytes, the same wherever the files came from."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        digest.update(self.images.cpu().contiguous().numpy().data)  # not tobytes(): that would be one more copy
        return digest.hexdigest()


def load_fashion_mnist(
    split: str = "train", size: int = 28, source: str | None = None, *, download: bool = False
) -> Pictures:
    """Fashion-MNIST: the full set if it is on this machine, else the subset that comes with the package.

    The full set (60,000 training and 10,000 test pictures) is looked for in the folder named by the environment
    variable COURSE_DATA_DIR, in /usr/share/datasets/fashion-mnist (Debian's package dataset-fashion-mnist), and in
    ~/.cache/torchvision, where torchvision puts it with download=True.

    Args:
        split: "train" or "test".
        size: height and width; 28 is as published, larger ones get a black border (32), smaller ones are
            resized with antialiasing (16).
        source: None takes the best there is; "full" insists on the full set; "packaged" on the subset, which is
            the same on every machine.
        download: let torchvision fetch the full set where it is not found.

    Returns:
        Pictures, uint8 (N, 1, size, size), with labels; `print` them to see what was used.

    Raises:
        TypeError, ValueError: an unknown split or source, a bad size, a data file that is not what it should be.
        FileNotFoundError: COURSE_DATA_DIR does not hold the files, or source="full" and they are nowhere.
    """
    validate_choice("split", split, SPLITS)
    validate_number("size", size, 1, 1024, integer=True)
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
    """The picture and label files of a split in a folder, plain or gzipped."""
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
    from torchvision.datasets import FashionMNIST  # imported here: it takes a second, and few need it

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
    """Square uint8 pictures to size × size: a black border where they are smaller, resized where larger."""
    now = images.shape[-1]
    if size > now:
        before = (size - now) // 2
        return F.pad(images, (before, size - now - before) * 2)
    if size < now:
        small = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
        return small.round().clamp(0, 255).to(torch.uint8)
    return images


def load_folder(path: str | Path, size: int = 28, channels: int = 1) -> Pictures:
    """Your own pictures: every PNG, JPEG, WebP, BMP or GIF below a folder, center-cropped to a square and resized.

    Where all pictures lie in two subfolders or more, these are the classes, in alphabetical order. Photographs are
    turned upright, transparent pictures are put on white, and of a film the first picture is taken. Links are followed;
    hidden files and folders are left out. Pictures of other kinds are too; `Pictures.source` says how many.

    Args:
        path: the folder.
        size: height and width of the result, >= 1.
        channels: 1 for grey, 3 for RGB.

    Returns:
        Pictures, uint8 (N, channels, size, size).

    Raises:
        TypeError, ValueError: a bad size or number of channels, a folder without pictures, broken pictures (the first
            ten are named).
        FileNotFoundError: no such folder.
        OSError: a folder below it cannot be read.
    """
    validate_number("size", size, 1, integer=True)
    validate_choice("channels", channels, (1, 3))
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    below = [*_files_below(root)]
    found = (file for file in below if file.suffix.lower() in SUFFIXES)
    files = sorted(found, key=lambda file: file.relative_to(root).parts)  # in the same order on every system
    others = Counter(file.suffix.lower() for file in below if file.suffix.lower() in OTHER_SUFFIXES)
    left_out = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    if not files:
        there = f", but {left_out}: convert them" if others else ""
        raise ValueError(f"{root} holds no PNG, JPEG, WebP, BMP or GIF pictures{there}")
    images, sizes = torch.empty(len(files), channels, size, size, dtype=torch.uint8), set()
    broken: list[str] = []
    for i, file in enumerate(tqdm(files, unit="picture", disable=True if len(files) < 500 else None)):
        try:
            with Image.open(file) as picture:
                sizes.add(picture.size)
                picture.draft(None, (3 * size, 3 * size))  # a large JPEG is unpacked at half its size or less
                square = _square(_plain(picture).convert("L" if channels == 1 else "RGB"), size)
        except MemoryError:
            raise
        except Exception as error:  # a broken file makes Pillow raise almost anything
            broken.append(f"{file} ({error})")
            continue
        images[i] = torch.from_numpy(np.array(square)).view(size, size, channels).permute(2, 0, 1)
    if broken:
        more = "" if len(broken) <= 10 else f", and {len(broken) - 10} more"
        raise ValueError(
            f"{len(broken)} of {len(files)} pictures cannot be read; mend or remove them: {', '.join(broken[:10])}"
            f"{more}"
        )
    folders = [file.relative_to(root).parts[0] if file.parent != root else "" for file in files]
    names = tuple(sorted(set(folders)))
    number = {name: i for i, name in enumerate(names)}
    labels = torch.tensor([number[folder] for folder in folders]) if "" not in names and len(names) > 1 else None
    cut = f", cut to squares from {len(sizes)} sizes" if len(sizes) > 1 else ""
    source = f"the folder {root.resolve().name}{cut}" + (f", {left_out} left out" if others else "")
    return Pictures(images, labels, source, names if labels is not None else ())


def _files_below(root: Path) -> Iterator[Path]:
    """All files below a folder that are not hidden, also through links; no folder twice."""
    seen = set()

    def refuse(error: OSError) -> None:
        raise error

    for path, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        if (real := os.path.realpath(path)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(path, name) for name in files if not name.startswith("."))


def _plain(picture: Image.Image) -> Image.Image:
    """Upright, without transparency, at most 8 bits a channel."""
    try:
        upright = ImageOps.exif_transpose(picture)
    except (SyntaxError, ValueError, KeyError, struct.error):  # its notes are broken; whether it is, is seen below
        upright = picture
    if upright.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    if upright.has_transparency_data:
        upright = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
    return upright


def _square(picture: Image.Image, size: int) -> Image.Image:
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def batches(n: int, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Endless batches of indices: each pass goes through all n pictures in a new random order.

    A batch that reaches the end of one pass goes on with the next, so that all have the same length, also where
    batch_size > n.

    Args:
        n: number of pictures, >= 1.
        batch_size: indices in each batch, >= 1.
        generator: source of the randomness, on the CPU.

    Yields:
        int64, (batch_size,), on the CPU.

    Raises:
        TypeError, ValueError: n or batch_size is not an int >= 1.
    """
    validate_number("n", n, 1, integer=True)
    validate_number("batch_size", batch_size, 1, integer=True)
    left = torch.empty(0, dtype=torch.int64)
    while True:
        while len(left) < batch_size:
            left = torch.cat([left, torch.randperm(n, generator=generator)])
        yield left[:batch_size]
        left = left[batch_size:]


def validate_training_pictures(pictures: Pictures, channels: int | None) -> None:
    """Refuse what a model with this many channels (None: any number) cannot be trained on.

    Raises:
        TypeError: not `Pictures`.
        ValueError: another number of channels.
    """
    if not isinstance(pictures, Pictures):
        raise TypeError(f"pictures must be course_lib.data.Pictures, got {type(pictures).__name__}")
    validate_pictures(pictures[:1], "pictures", channels=channels)
