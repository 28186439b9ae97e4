"""Pictures: bytes and floats, the packaged subset, full sets of our own making, batches."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from course_lib import data
from course_lib.data import CLASS_NAMES, Pictures, batches, load_fashion_mnist, to_float, to_uint8


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the full set and without a network."""
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)
    monkeypatch.setattr(data, "DEBIAN_DIR", tmp_path / "debian")
    monkeypatch.setattr(data, "DOWNLOAD_DIR", tmp_path / "cache")

    monkeypatch.setattr(socket, "socket", Mock(side_effect=AssertionError("something reached for the network")))
    return tmp_path


def idx(array: np.ndarray) -> bytes:
    """The idx format of bytes."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def write_set(folder: Path, n: int, *, zipped: bool = False, split: str = "train", shade: int = 0) -> None:
    """A full set of n pictures of 28×28: picture i is all i + shade, its label i % 10."""
    folder.mkdir(parents=True, exist_ok=True)
    images = np.arange(n)[:, None, None].repeat(28, 1).repeat(28, 2) + shade
    for name, array in (("images-idx3", images), ("labels-idx1", np.arange(n) % 10)):
        path = folder / f"{data.SPLITS[split]}-{name}-ubyte{'.gz' * zipped}"
        path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))


def blank(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


# Bytes and floats


def test_bytes_to_floats_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    x = to_float(every)
    assert x.dtype == torch.float32 and x.min() == -1 and x.max() == 1
    assert x.flatten()[51].item() == pytest.approx(51 / 127.5 - 1)
    assert torch.equal(to_uint8(x), every) and torch.equal(to_uint8(x.double()), every)
    outside = torch.tensor([-7.0, -1.0, 0.0, 0.0039, 1.0, 1.5])
    assert to_uint8(outside).tolist() == [0, 0, 128, 128, 255, 255]


# Pictures


def test_pictures_hand_out_floats_and_keep_their_labels() -> None:
    images = torch.randint(0, 256, (5, 1, 3, 4), dtype=torch.uint8)
    pictures = Pictures(images, torch.tensor([0, 1, 1, 2, 1]), "a test", ("a", "b", "c"))
    for index in (2, slice(1, 3), torch.tensor([4, 0])):
        assert torch.equal(pictures[index], to_float(images[index]))
    ones, moved = pictures.of_class(1), pictures.to("cpu")
    assert ones.labels is not None and set(ones.labels.tolist()) == {1} and ones.class_names == ("a", "b", "c")
    assert torch.equal(ones.images, images[[1, 2, 4]])
    assert torch.equal(moved.images, images) and str(moved) == str(pictures)


@pytest.mark.parametrize(
    ("labels", "names", "said"),
    [
        (None, (), "4 pictures of 3×5 pixels, 2 channels, from a test"),
        ([0, 1, 1, 1], ("cat", "dog"), "2 channels, 2 classes (cat 1 and dog 3), from a test"),
        ([1, 1, 0, 0], ("cat", "dog"), "2 classes of 2 each (cat and dog), from"),
        ([7, 7, 7, 7], (), "1 class of 4 each (7), from"),
        ([0, 1, 1, 0], ("Gr\udcfc\udcdfe", "a"), r"(Gr\xfc\xdfe and a)"),
        (range(14), tuple("abcdefghijklmn"), "14 classes of 1 each (a, b, c, d, e, f, g, h, i, j and 4 more)"),
    ],
)
def test_pictures_say_what_is_in_them(labels: Sequence[int] | None, names: tuple[str, ...], said: str) -> None:
    told = None if labels is None else torch.tensor(labels)
    assert said in str(Pictures(blank(len(labels or range(4)), 2, 3, 5), told, "a test", names))


def test_the_hash_is_that_of_shape_and_bytes() -> None:
    images = torch.arange(24, dtype=torch.uint8).view(2, 1, 3, 4)
    same = images.transpose(2, 3).contiguous().transpose(2, 3)  # in another order in memory
    assert Pictures(images).sha256 == Pictures(same, source="elsewhere").sha256
    others = (images, images ^ 1, images.view(2, 1, 4, 3), images.view(1, 2, 3, 4))
    assert len({Pictures(each).sha256 for each in others}) == 4


# Fashion-MNIST


def test_the_packaged_subset_is_balanced_and_needs_no_network(nowhere: Path) -> None:
    seen: set[bytes] = set()
    for split, each in (("train", 1000), ("test", 200)):
        pictures = load_fashion_mnist(split)
        assert pictures.images.shape == (10 * each, 1, 28, 28) and pictures.images.dtype == torch.uint8
        assert pictures.labels is not None and pictures.labels.bincount().tolist() == [each] * 10
        assert pictures.class_names == CLASS_NAMES and len(CLASS_NAMES) == 10
        assert "the subset of Fashion-MNIST that comes with the course" in str(pictures)
        # Published mean and standard deviation of the pixels: 0.286 and 0.353.
        assert abs(pictures.images.float().mean() / 255 - 0.286) < 0.01
        assert abs(pictures.images.float().std() / 255 - 0.353) < 0.01
        rows = {row.numpy().tobytes() for row in pictures.images}
        assert len(rows) > 0.99 * len(pictures) and not rows & seen  # no picture is in both
        seen |= rows


def test_larger_pictures_get_a_black_border_and_smaller_ones_are_resized(nowhere: Path) -> None:
    as_published = load_fashion_mnist("test").images
    wide, odd, small = (load_fashion_mnist("test", size).images for size in (32, 31, 16))
    assert wide.shape == (2000, 1, 32, 32) and wide.sum() == as_published.sum()
    assert torch.equal(wide[:, :, 2:-2, 2:-2], as_published)
    assert torch.equal(odd[:, :, 1:-2, 1:-2], as_published)
    exact = F.interpolate(as_published.float(), size=(16, 16), mode="bilinear", antialias=True)
    assert small.dtype == torch.uint8 and (small.float() - exact).abs().max() <= 0.5 + 1e-3


@pytest.mark.parametrize("zipped", [True, False])
def test_the_full_set_is_found_in_the_order_that_is_promised(
    zipped: bool, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [nowhere / "cache" / "FashionMNIST" / "raw", nowhere / "debian", nowhere / "named"]
    for shade, place in enumerate(places):
        if shade == 2:
            monkeypatch.setenv("COURSE_DATA_DIR", str(place))
        write_set(place, 20, zipped=zipped, shade=10 * shade)
        found = load_fashion_mnist()
        assert str(place) in found.source and "full" in found.source
        assert found.images[:, 0, 5, 5].tolist() == [i + 10 * shade for i in range(20)]
        assert found.labels is not None and found.labels.tolist() == [i % 10 for i in range(20)]
        assert len(load_fashion_mnist(source="full")) == 20
        assert len(load_fashion_mnist(source="packaged")) == 10_000


def test_a_full_set_that_is_missing_is_an_error_not_a_silent_subset(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match=r"not on this machine: call .*download=True.*COURSE_DATA_DIR"):
        load_fashion_mnist(source="full")
    monkeypatch.setenv("COURSE_DATA_DIR", str(nowhere))
    with pytest.raises(FileNotFoundError, match=r"does not hold t10k-images-idx3-ubyte and t10k-labels.*unset it"):
        load_fashion_mnist("test")


def test_download_goes_through_torchvision_and_only_where_asked(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = nowhere / "cache" / "FashionMNIST" / "raw"
    fetch = Mock(side_effect=lambda *_, **__: write_set(raw, 12, split="test"))
    monkeypatch.setattr("torchvision.datasets.FashionMNIST", fetch)
    assert len(load_fashion_mnist()) == len(load_fashion_mnist(source="packaged", download=True)) == 10_000
    assert not fetch.called
    for _ in range(2):
        assert len(load_fashion_mnist("test", download=True)) == 12
    fetch.assert_called_once_with(str(nowhere / "cache"), train=False, download=True)


THREE = idx(np.zeros((3, 28, 28)))


@pytest.mark.parametrize(
    ("content", "zipped", "message"),
    [
        (b"", False, "is not an idx file of bytes, or it is cut short; remove it and fetch"),
        (THREE[:-1], False, "is not .* cut short"),
        (THREE[:6], False, "is not .* cut short"),
        (THREE + b"x", False, "is not an idx file"),
        (gzip.compress(THREE)[:-12], True, "cannot be unpacked .*remove it and fetch"),
        (b"<html>not found</html>", True, "cannot be unpacked .*remove it and fetch"),
        (idx(np.zeros((4, 28, 28))), False, r"labels must have shape \(4,\), got \(3,\)"),
    ],
)
def test_broken_files_are_named(
    content: bytes, zipped: bool, message: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_DATA_DIR", str(nowhere))
    write_set(nowhere, 3)
    path = nowhere / "train-images-idx3-ubyte"
    if zipped:
        path = path.rename(f"{path}.gz")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message if "labels" in message else f"{path} {message}"):
        load_fashion_mnist()


# Batches


@pytest.mark.parametrize(("n", "size"), [(10, 5), (10, 3), (7, 7), (3, 10), (1, 4)])
def test_each_pass_goes_through_all_pictures_once(n: int, size: int) -> None:
    passes = 4
    rows = list(islice(batches(n, size, torch.Generator().manual_seed(0)), -(-passes * n // size)))
    assert all(row.shape == (size,) and row.dtype == torch.int64 for row in rows)
    order = torch.cat(rows)[: passes * n].view(passes, n)
    assert torch.equal(order.sort(dim=1).values, torch.arange(n).expand(passes, n))
    assert n < 7 or len(order.unique(dim=0)) == passes  # each time in another order


def test_the_order_depends_on_the_generator_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (next(batches(100, 50, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


# What is refused


TWO = blank(2, 1, 4, 4)
LABELED = Pictures(blank(4, 1, 4, 4), torch.tensor([0, 1, 1, 2]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: to_float(torch.zeros(1)), TypeError, "images must be a uint8 tensor, got torch.float32"),
        (lambda: to_float([0]), TypeError, "images must be a uint8 tensor, got list"),  # type: ignore[arg-type]
        (lambda: to_uint8(TWO), TypeError, r"x must be a floating-point tensor in \[-1, 1\], got torch.uint8"),
        (lambda: to_uint8(torch.tensor([0.0, float("nan")])), ValueError, r"x holds 1 value\(s\) that are NaN"),
        (lambda: Pictures(torch.zeros(2, 1, 4, 4)), TypeError, "a uint8 tensor, got torch.float32; use .*to_uint8"),
        (lambda: Pictures(TWO[0]), ValueError, r"shape \(N, C, H, W\) with N >= 1, got \(1, 4, 4\)"),
        (lambda: Pictures(TWO[:0]), ValueError, r"N >= 1, got \(0, 1, 4, 4\)"),
        (lambda: Pictures(TWO, torch.tensor([1])), ValueError, r"labels must have shape \(2,\), got"),
        (lambda: Pictures(TWO, torch.ones(2)), TypeError, "labels must be an int64 tensor, got torch.f"),
        (lambda: LABELED.of_class("b"), TypeError, "label must be an int, got str"),  # type: ignore[arg-type]
        (lambda: LABELED.of_class(3), ValueError, r"no picture has label 3; the labels are \[0, 1, 2\]"),
        (lambda: Pictures(TWO).of_class(0), ValueError, "have no labels"),
        (lambda: load_fashion_mnist("valid"), ValueError, "split='valid' is unknown; choose one of 'train', 'test'"),
        (lambda: load_fashion_mnist(source="debian"), ValueError, "source='debian' is unknown; choose one of 'full'"),
        (lambda: load_fashion_mnist(size=28.0), TypeError, "size must be an int, got float"),  # type: ignore[arg-type]
        (lambda: load_fashion_mnist(size=1_000_000_000), ValueError, r"size must lie in \[1, 4096\]"),
        (lambda: next(batches(0, 1)), ValueError, "n must"),
        (lambda: next(batches(1, True)), TypeError, "batch_size must"),
    ],
)
def test_what_is_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
