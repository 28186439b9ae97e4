"""Pictures: bytes and floats, the packaged subset, full sets of our own making, folders, batches."""

from __future__ import annotations

import errno
import gzip
import os
import socket
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from course_lib import data
from course_lib.data import (
    CLASS_NAMES,
    Pictures,
    batches,
    load_fashion_mnist,
    load_folder,
    to_float,
    to_uint8,
    validate_training_pictures,
)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the full set and without a network."""
    monkeypatch.delenv("COURSE_DATA_DIR", raising=False)
    monkeypatch.setattr(data, "DEBIAN_DIR", tmp_path / "debian")
    monkeypatch.setattr(data, "DOWNLOAD_DIR", tmp_path / "cache")

    def refuse(*_: object) -> None:
        raise AssertionError("something reached for the network")

    monkeypatch.setattr(socket, "socket", refuse)
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
        path = folder / f"{data.SPLITS[split]}-{name}-ubyte"
        if zipped:
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(idx(array)))
        else:
            path.write_bytes(idx(array))


# Bytes and floats


def test_bytes_to_floats_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    x = to_float(every)
    assert x.dtype == torch.float32 and x.min() == -1 and x.max() == 1
    assert x.flatten()[51].item() == pytest.approx(51 / 127.5 - 1)
    assert torch.equal(to_uint8(x), every)
    assert torch.equal(to_uint8(x.double()), every)


def test_floats_outside_the_range_are_clipped_and_others_rounded() -> None:
    x = torch.tensor([-7.0, -1.0, 0.0, 0.0039, 1.0, 1.5])
    assert to_uint8(x).tolist() == [0, 0, 128, 128, 255, 255]


def test_bytes_and_floats_are_not_confused() -> None:
    with pytest.raises(TypeError, match=r"images must be a uint8 tensor, got torch.float32"):
        to_float(torch.zeros(1))
    with pytest.raises(TypeError, match=r"images must be a uint8 tensor, got list"):
        to_float([0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"x must be a floating-point tensor in \[-1, 1\], got torch.uint8"):
        to_uint8(torch.zeros(1, dtype=torch.uint8))
    with pytest.raises(TypeError, match="got float"):
        to_uint8(0.5)  # type: ignore[arg-type]


# Pictures


def test_pictures_hand_out_floats() -> None:
    images = torch.randint(0, 256, (5, 1, 3, 4), dtype=torch.uint8)
    pictures = Pictures(images, torch.tensor([0, 1, 1, 2, 1]), "a test", ("a", "b", "c"))
    assert len(pictures) == 5 and str(pictures) == "5 pictures of 3×4 pixels, 1 channel, from a test"
    assert torch.equal(pictures[2], to_float(images[2])) and pictures[2].shape == (1, 3, 4)
    assert torch.equal(pictures[1:3], to_float(images[1:3]))
    assert torch.equal(pictures[torch.tensor([4, 0])], to_float(images[[4, 0]]))
    ones = pictures.of_class(1)
    assert (
        torch.equal(ones.images, images[[1, 2, 4]]) and ones.labels is not None and ones.class_names == ("a", "b", "c")
    )
    with pytest.raises(ValueError, match=r"no picture has label 3; the labels are \[0, 1, 2\]"):
        pictures.of_class(3)
    with pytest.raises(ValueError, match="have no labels"):
        Pictures(images).of_class(0)
    assert ones.labels is not None and set(ones.labels.tolist()) == {1}
    moved = pictures.to("cpu")
    assert pictures.labels is not None and moved.labels is not None
    assert torch.equal(moved.labels, pictures.labels) and moved.class_names == pictures.class_names != ()
    assert torch.equal(moved.images, images) and moved.labels is not None and str(moved) == str(pictures)


def test_the_hash_is_that_of_shape_and_bytes() -> None:
    images = torch.arange(24, dtype=torch.uint8).view(2, 1, 3, 4)
    same = Pictures(images.transpose(2, 3).contiguous().transpose(2, 3), source="elsewhere")
    changed = images.clone()
    changed[0, 0, 0, 0] += 1
    assert Pictures(images).sha256 == same.sha256
    assert len({Pictures(i).sha256 for i in (images, changed, images.view(2, 1, 4, 3), images.view(1, 2, 3, 4))}) == 4


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (torch.zeros(2, 1, 4, 4), None, TypeError, r"images must be a uint8 tensor, got torch.float32; use .*to_uint8"),
        (np.zeros((2, 1, 4, 4), np.uint8), None, TypeError, "got ndarray"),
        (
            torch.zeros(2, 4, 4, dtype=torch.uint8),
            None,
            ValueError,
            r"shape \(N, C, H, W\) with N >= 1, got \(2, 4, 4\)",
        ),
        (torch.zeros(0, 1, 4, 4, dtype=torch.uint8), None, ValueError, r"N >= 1, got \(0, 1, 4, 4\)"),
        (
            torch.zeros(2, 1, 4, 4, dtype=torch.uint8),
            torch.tensor([1]),
            ValueError,
            r"labels must have shape \(2,\), got",
        ),
        (
            torch.zeros(2, 1, 4, 4, dtype=torch.uint8),
            torch.ones(2),
            TypeError,
            "labels must be an int64 tensor, got torch.f",
        ),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), [1, 2], TypeError, "labels must be an int64 tensor, got list"),
    ],
)
def test_what_are_no_pictures(images: Any, labels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Pictures(images, labels)


def test_training_pictures_must_fit_the_model() -> None:
    pictures = Pictures(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))
    validate_training_pictures(pictures, 3)
    with pytest.raises(ValueError, match=r"pictures must have 1 channel\(s\), got 3"):
        validate_training_pictures(pictures, 1)
    with pytest.raises(TypeError, match=r"pictures must be course_lib.data.Pictures, got Tensor"):
        validate_training_pictures(torch.zeros(2, 3, 4, 4), 3)  # type: ignore[arg-type]


# Fashion-MNIST


@pytest.mark.parametrize(("split", "each"), [("train", 1000), ("test", 200)])
def test_the_packaged_subset_is_balanced_and_needs_no_network(split: str, each: int, nowhere: Path) -> None:
    pictures = load_fashion_mnist(split)
    assert pictures.images.shape == (10 * each, 1, 28, 28) and pictures.images.dtype == torch.uint8
    assert pictures.labels is not None and pictures.labels.dtype == torch.int64
    assert pictures.labels.bincount().tolist() == [each] * 10
    assert pictures.class_names == CLASS_NAMES and len(CLASS_NAMES) == 10
    assert "the subset of Fashion-MNIST that comes with the course" in str(pictures)
    assert len(pictures.images.flatten(1).unique(dim=0)) > 0.99 * len(pictures)
    # Published mean and standard deviation of the pixels: 0.286 and 0.353.
    assert abs(pictures.images.float().mean() / 255 - 0.286) < 0.01
    assert abs(pictures.images.float().std() / 255 - 0.353) < 0.01
    assert load_fashion_mnist(split, source="packaged").sha256 == pictures.sha256


def test_training_and_test_pictures_do_not_overlap(nowhere: Path) -> None:
    seen = {row.numpy().tobytes() for row in load_fashion_mnist("train").images}
    assert not any(row.numpy().tobytes() in seen for row in load_fashion_mnist("test").images)


def test_larger_pictures_get_a_black_border_and_smaller_ones_are_resized(nowhere: Path) -> None:
    as_published = load_fashion_mnist("test").images
    wide = load_fashion_mnist("test", 32).images
    assert wide.shape == (2000, 1, 32, 32)
    assert torch.equal(wide[:, :, 2:-2, 2:-2], as_published)
    assert wide.sum() == as_published.sum()
    odd = load_fashion_mnist("test", 31).images
    assert torch.equal(odd[:, :, 1:-2, 1:-2], as_published)
    small = load_fashion_mnist("test", 16).images
    assert small.shape == (2000, 1, 16, 16) and small.dtype == torch.uint8
    means = small.float().mean((1, 2, 3)) - as_published.float().mean((1, 2, 3))
    assert means.abs().max() < 4  # resized, not cropped: each keeps its brightness
    four = small[:, :, :8, :8].float().mean((1, 2, 3)) - as_published[:, :, :14, :14].float().mean((1, 2, 3))
    assert four.abs().max() < 8  # and each quarter its own
    exact = F.interpolate(as_published.float(), size=(16, 16), mode="bilinear", antialias=True)
    assert (small.float() - exact).abs().max() <= 0.5 + 1e-3


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


def test_a_named_folder_without_the_files_is_an_error_not_a_silent_subset(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_DATA_DIR", str(nowhere))
    with pytest.raises(FileNotFoundError, match=r"does not hold t10k-images-idx3-ubyte and t10k-labels.*unset it"):
        load_fashion_mnist("test")
    assert len(load_fashion_mnist("test", source="packaged")) == 2000


def test_insisting_on_the_full_set_where_there_is_none(nowhere: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"not on this machine: call .*download=True.*COURSE_DATA_DIR"):
        load_fashion_mnist(source="full")


def test_download_goes_through_torchvision_and_only_where_asked(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, bool, bool]] = []

    def fetch(root: str, train: bool, download: bool) -> None:
        calls.append((root, train, download))
        write_set(Path(root) / "FashionMNIST" / "raw", 12, split="train" if train else "test")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", fetch)
    load_fashion_mnist()
    load_fashion_mnist(source="packaged", download=True)
    assert calls == []
    assert len(load_fashion_mnist("test", download=True)) == 12
    assert calls == [(str(nowhere / "cache"), False, True)]
    load_fashion_mnist("test", download=True)
    assert len(calls) == 1  # already there


@pytest.mark.parametrize(
    ("content", "zipped", "message"),
    [
        (b"", False, "is not an idx file of bytes, or it is cut short; remove it and fetch"),
        (b"<html>not found</html>", False, "is not an idx file of bytes"),
        (idx(np.zeros((3, 28, 28)))[:-1], False, "cut short"),
        (idx(np.zeros((3, 28, 28)))[:6], False, "cut short"),
        (idx(np.zeros((3, 28, 28))) + b"x", False, "is not an idx file"),
        (gzip.compress(idx(np.zeros((3, 28, 28))))[:-12], True, "cannot be unpacked .*remove it and fetch"),
        (b"<html>not found</html>", True, "cannot be unpacked .*remove it and fetch"),
        (idx(np.zeros((4, 28, 28))), False, r"labels must have shape \(4,\), got \(3,\)"),
    ],
)
def test_broken_files_are_named(
    content: bytes, zipped: bool, message: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_DATA_DIR", str(nowhere))
    write_set(nowhere, 3)
    plain = nowhere / "train-images-idx3-ubyte"
    plain.unlink()
    path = nowhere / (plain.name + ".gz") if zipped else plain
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as refusal:
        load_fashion_mnist()
    assert "labels" in message or str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(split="valid"), ValueError, "split='valid' is unknown; choose one of 'train', 'test'"),
        (dict(source="debian"), ValueError, "source='debian' is unknown; choose one of 'full', 'packaged'"),
        (dict(size=0), ValueError, "size must lie in"),
        (dict(size=28.0), TypeError, "size must be an int, got float"),
    ],
)
def test_bad_requests(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_fashion_mnist(**options)


def test_the_packaged_pictures_are_in_the_published_set(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    try:
        full, subset = (load_fashion_mnist("test", source=source) for source in ("full", "packaged"))
    except FileNotFoundError:
        pytest.skip("the full Fashion-MNIST is not on this machine")
    assert full.labels is not None and subset.labels is not None
    assert full.images.shape == (10_000, 1, 28, 28) and full.labels.bincount().tolist() == [1000] * 10
    labels = {image.numpy().tobytes(): int(label) for image, label in zip(full.images, full.labels, strict=True)}
    for image, label in zip(subset.images, subset.labels, strict=True):
        assert labels[image.numpy().tobytes()] == int(label)


# A folder of one's own


def save(path: Path, array: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path, **options)


def test_pictures_are_resized_smoothly(tmp_path: Path) -> None:
    save(tmp_path / "board.png", 255 * (np.indices((64, 64)).sum(0) % 2))  # the nearest pixels are black or white
    assert (load_folder(tmp_path, size=8).images.float() - 127.5).abs().max() < 16


def test_a_folder_of_folders_is_a_set_with_classes(tmp_path: Path) -> None:
    for i, name in enumerate(("shoes/b.png", "shoes/deep/c.PNG", "bags/a.bmp")):
        save(tmp_path / name, np.full((20, 30, 3), 40 * (i + 1)))
    (tmp_path / "notes.txt").write_text("not a picture")
    for hidden in ("bags/._a.png", ".thumbnails/a.png", "__MACOSX/a.png"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_bytes(b"of a file manager")
    pictures = load_folder(tmp_path, size=8)
    assert pictures.images.shape == (3, 1, 8, 8) and pictures.class_names == ("bags", "shoes")
    assert pictures.labels is not None and pictures.labels.tolist() == [0, 1, 1]
    assert pictures.images[:, 0, 0, 0].tolist() == [120, 40, 80]
    assert tmp_path.name in str(pictures)


def test_a_flat_folder_has_no_classes_and_colors_are_kept_where_asked(tmp_path: Path) -> None:
    red = np.zeros((10, 10, 3))
    red[..., 0] = 200
    save(tmp_path / "red.png", red)
    color = load_folder(str(tmp_path), size=10, channels=3)
    assert color.labels is None and color.class_names == ()
    assert torch.equal(color.images[0], torch.from_numpy(red).permute(2, 0, 1).to(torch.uint8))
    assert load_folder(tmp_path, size=10).images.unique().tolist() == [60]  # its luminance


def test_pictures_are_cropped_to_the_middle(tmp_path: Path) -> None:
    wide = np.zeros((8, 24))
    wide[:, 8:16] = 255
    save(tmp_path / "wide.png", wide)
    save(tmp_path / "tall.png", wide.T)
    assert (load_folder(tmp_path, size=8).images == 255).all()


def test_a_picture_beside_the_folders_leaves_no_classes(tmp_path: Path) -> None:
    for name in ("bags/a.png", "shoes/b.png"):
        save(tmp_path / name, np.zeros((8, 8)))
    assert load_folder(tmp_path, size=8).class_names == ("bags", "shoes")
    save(tmp_path / "cover.png", np.zeros((8, 8)))
    pictures = load_folder(tmp_path, size=8)
    assert len(pictures) == 3 and pictures.labels is None and pictures.class_names == ()


def test_links_are_followed_and_those_that_lead_back_are_not(tmp_path: Path) -> None:
    for name in ("elsewhere/a.png", "pictures/shoes/b.png"):
        save(tmp_path / name, np.zeros((8, 8)))
    try:
        (tmp_path / "pictures" / "bags").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "pictures" / "shoes" / "again").symlink_to(tmp_path / "pictures")
    except OSError:
        pytest.skip("this system makes no links")
    pictures = load_folder(tmp_path / "pictures", size=8)
    assert len(pictures) == 2 and pictures.class_names == ("bags", "shoes")


def test_transparent_pictures_are_put_on_white(tmp_path: Path) -> None:
    """Black drawn on nothing: without a ground all of it would be black."""
    drawing = np.zeros((8, 8, 4), np.uint8)
    drawing[:4, :, 3] = 255
    Image.fromarray(drawing).save(tmp_path / "a.png")
    Image.fromarray(drawing[..., 2:]).save(tmp_path / "b.png")  # grey with alpha
    palette = Image.fromarray(np.repeat([[0], [1]], 4, 0).repeat(8, 1).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 10, 10, 10])
    palette.save(tmp_path / "c.gif", transparency=1)
    for channels in (1, 3):
        for picture in load_folder(tmp_path, size=8, channels=channels).images:
            assert (picture[:, :4] == 0).all() and (picture[:, 4:] == 255).all()


def test_of_sixteen_bits_the_upper_eight_are_taken(tmp_path: Path) -> None:
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for channels in (1, 3):
        for layer in load_folder(tmp_path, size=8, channels=channels).images[0]:
            assert torch.equal(layer, torch.from_numpy((deep >> 8).astype(np.uint8)))


@pytest.mark.parametrize(("number", "turns"), [(1, 0), (3, 2), (6, 1), (8, 3)])
@pytest.mark.parametrize("name", ["photo.jpg", "photo.png"])
def test_photographs_stand_upright(name: str, number: int, turns: int, tmp_path: Path) -> None:
    """Each was stored after so many quarter turns to the left, which the camera noted; upright, it is bright above."""
    upright = np.zeros((16, 32))
    upright[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = number
    save(tmp_path / name, np.rot90(upright, turns), exif=exif)
    picture = load_folder(tmp_path, size=16).images[0, 0]
    assert picture[:7].min() > 240 and picture[9:].max() < 15


def test_broken_notes_do_not_break_a_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.webp", "c.jpg"):
        save(tmp_path / name, np.full((8, 8), 200), exif=b"Exif\x00\x00these are no notes")
    assert (load_folder(tmp_path, size=8).images.int() - 200).abs().max() <= 2


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("coats", "dresses"):
        save(tmp_path / name / "a.png", np.zeros((8, 8)))
    honest = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "dresses":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return honest(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match="dresses"):
        load_folder(tmp_path)


def test_the_order_is_that_of_the_letters_on_every_system(tmp_path: Path) -> None:
    for i, name in enumerate(("B.png", "a.png", "b/c.png", "b-c.png")):
        save(tmp_path / name, np.full((4, 4), i))
    assert [int(picture.max()) for picture in load_folder(tmp_path, size=4).images] == [0, 1, 2, 3]


def test_a_lack_of_memory_is_no_broken_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> None:
        raise MemoryError

    save(tmp_path / "good.png", np.zeros((4, 4)))
    monkeypatch.setattr(data, "_square", none)
    with pytest.raises(MemoryError):
        load_folder(tmp_path)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*missing"):
        load_folder(tmp_path / "missing")
    with pytest.raises(ValueError, match="holds no PNG, JPEG, WebP, BMP or GIF pictures"):
        load_folder(tmp_path)
    save(tmp_path / "good.png", np.zeros((4, 4)))
    with pytest.raises(ValueError, match="channels=4 is unknown; choose one of 1, 3"):
        load_folder(tmp_path, channels=4)
    with pytest.raises(ValueError, match="size must lie in"):
        load_folder(tmp_path, size=0)
    whole = (tmp_path / "good.png").read_bytes()
    for broken in (b"", b"text", whole[:40]):
        (tmp_path / "broken.png").write_bytes(broken)
        with pytest.raises(ValueError, match=r"1 of 2 pictures cannot be read; mend or remove them: .*broken.png \("):
            load_folder(tmp_path)


def test_all_broken_pictures_are_told_of_at_once(tmp_path: Path) -> None:
    for i in range(15):
        save(tmp_path / f"{i:02d}.png", np.zeros((4, 4)))
        if i >= 3:
            (tmp_path / f"{i:02d}.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"^12 of 15 pictures cannot be read; mend or remove them: ") as refusal:
        load_folder(tmp_path)
    said = str(refusal.value)
    assert all(f"{i:02d}.png (" in said for i in range(3, 13)) and "13.png" not in said
    assert said.endswith(", and 2 more")


def test_pictures_of_other_kinds_are_counted(tmp_path: Path) -> None:
    for name in ("a.HEIC", "deep/b.heic", "c.tif", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds no PNG, .* pictures, but 2 \.heic, 1 \.tif: convert them$"):
        load_folder(tmp_path)
    save(tmp_path / "d.jfif", np.zeros((8, 8)), format="JPEG")
    pictures = load_folder(tmp_path, size=8)
    assert len(pictures) == 1 and "2 .heic, 1 .tif left out" in str(pictures)


def test_a_large_photograph_is_unpacked_small_and_looks_the_same(tmp_path: Path) -> None:
    y, x = np.mgrid[:600, :800] / 100
    photo = 127 + 60 * np.sin(x) + 60 * np.cos(y)
    photo[:, 400:] *= 0.5  # an edge
    for name in ("a.jpg", "a.png"):
        save(tmp_path / name[2:] / name, photo, **(dict(quality=95) if name == "a.jpg" else {}))
    sizes, honest = [], data._square

    def watched(picture: Image.Image, size: int) -> Image.Image:
        sizes.append(picture.size)
        return honest(picture, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_square", watched)
        one, other = (load_folder(tmp_path / kind, size=32).images.int() for kind in ("jpg", "png"))
    assert sizes == [(200, 150), (800, 600)]  # a quarter: an eighth would be less than three times 32
    assert (one - other).abs().max() <= 4


def test_pictures_that_break_in_other_ways_are_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cut in (("a.gif", 40), ("a.webp", 30), ("a.jpg", 300)):
        file = tmp_path / name
        save(file, np.random.default_rng(0).integers(0, 256, (64, 64)))
        file.write_bytes(file.read_bytes()[:cut])
        with pytest.raises(ValueError, match=rf"1 of 1 pictures cannot be read.*{name} \("):
            load_folder(tmp_path)
        file.unlink()
    save(tmp_path / "huge.png", np.zeros((64, 64)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"huge.png \(Image size"):
        load_folder(tmp_path)


# Batches


@pytest.mark.parametrize(("n", "size"), [(10, 5), (10, 3), (7, 7), (3, 10), (1, 4)])
def test_each_pass_goes_through_all_pictures_once(n: int, size: int) -> None:
    passes = 4
    drawn: Iterator[torch.Tensor] = batches(n, size, torch.Generator().manual_seed(0))
    rows = list(islice(drawn, -(-passes * n // size)))
    assert all(row.shape == (size,) and row.dtype == torch.int64 for row in rows)
    order = torch.cat(rows)[: passes * n].view(passes, n)
    assert torch.equal(order.sort(dim=1).values, torch.arange(n).expand(passes, n))
    if n >= 7:
        assert len(order.unique(dim=0)) == passes  # each time in another order


def test_the_order_depends_on_the_generator_alone() -> None:
    def first(seed: int) -> torch.Tensor:
        return next(batches(100, 50, torch.Generator().manual_seed(seed)))

    state = torch.get_rng_state()
    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("n", "size", "name"), [(0, 1, "n"), (1, 0, "batch_size"), (1.0, 1, "n"), (1, True, "batch_size")]
)
def test_bad_batches(n: Any, size: Any, name: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{name} must"):
        next(batches(n, size))
