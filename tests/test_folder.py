"""A folder of one's own: what people have on their disks, and what comes of it."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.ExifTags import Base as Tag

from course_lib import folder
from course_lib.data import load_folder

pytestmark = pytest.mark.filterwarnings("ignore:all pictures together:UserWarning")


def save(path: Path, array: np.ndarray | int = 0, **options: Any) -> None:
    """A picture of bytes, or of 16 bits, or one of 8×8 pixels all of this shade."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((8, 8), array) if isinstance(array, int) else array
    Image.fromarray(array if array.dtype == np.uint16 else array.astype(np.uint8)).save(path, **options)


HALVES = np.repeat([[255], [0]], 8, 0).repeat(16, 1)  # white above black


# One picture


def test_pictures_are_cropped_to_the_middle_and_resized_smoothly(tmp_path: Path) -> None:
    board = 255 * (np.indices((64, 128)).sum(0) % 2)  # the nearest pixels are black or white
    board[:, :32] = board[:, 96:] = 0
    save(tmp_path / "wide.png", board)
    save(tmp_path / "tall.png", board.T)
    pictures = load_folder(tmp_path, size=8)
    assert (pictures.images.float() - 127.5).abs().max() < 16 and "cut to squares from 2 sizes" in str(pictures)


def test_colors_are_kept_if_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "red.png", np.full((10, 10, 3), (200, 0, 0)))
    assert load_folder(str(tmp_path), size=10, channels=3).images.unique(dim=0)[0, :, 0, 0].tolist() == [200, 0, 0]
    assert load_folder(tmp_path, size=10).images.unique().tolist() == [60]  # its luminance


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


@pytest.mark.parametrize("bits", [12, 14, 16])
def test_of_sixteen_bits_the_upper_eight_are_taken_and_a_narrow_range_brings_a_warning(
    bits: int, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    deep = np.linspace(0, 2**bits - 1, 64).astype(np.uint16).reshape(8, 8)
    save(tmp_path / "deep.png", deep)
    for channels in (1, 3):
        for layer in load_folder(tmp_path, size=8, channels=channels).images[0]:
            assert torch.equal(layer, torch.from_numpy((deep >> 8).astype(np.uint8)))
    assert len(recwarn) == (bits < 16)  # Python tells it once for each of the caller's lines
    for each in recwarn:
        assert f"use only the values 0 to {(2**bits - 1) >> 8} of 0 to 255" in str(each.message)
        assert each.filename == __file__


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.webp"])
def test_photos_are_turned_upright(name: str, number: int, tmp_path: Path) -> None:
    """The eight orientations of the EXIF standard: where row 0 and column 0 of the file belong in the picture."""
    upright = np.zeros((16, 16))
    upright[:8], upright[:8, 8:] = 255, 128
    mirrored = upright[:, ::-1] if number in (2, 4, 5, 7) else upright
    exif = Image.Exif()
    exif[Tag.Orientation] = number
    save(tmp_path / name, np.rot90(mirrored, (0, 0, 2, 2, 1, 1, 3, 3)[number - 1]), exif=exif)
    picture = load_folder(tmp_path, size=16).images[0, 0].numpy()
    for corner in (np.s_[1:7, 1:7], np.s_[1:7, 9:15], np.s_[9:15]):
        assert abs(picture[corner].astype(int) - upright[corner]).max() < 16


@pytest.mark.parametrize(
    ("tag", "kind", "count", "raw"),
    [
        (Tag.XResolution, 2, 8, b"300 dpi\0"),
        (Tag.Make, 5, 1, b"\0\0\0\1\0\0\0\3"),
        (Tag.ImageWidth, 2, 5, b"wide\0"),
        (Tag.Make, 2, 20, b"cut short"),
    ],
)
def test_an_odd_tag_beside_the_orientation_does_not_matter(
    tag: int, kind: int, count: int, raw: bytes, tmp_path: Path
) -> None:
    entries = sorted([(tag, kind, count, 38), (int(Tag.Orientation), 3, 1, 6 << 16)])  # 38: where raw begins
    block = b"MM\0*" + struct.pack(">IH", 8, 2) + b"".join(struct.pack(">HHII", *entry) for entry in entries)
    exif = b"Exif\0\0" + block + b"\0\0\0\0" + raw
    save(tmp_path / "a.jpg", np.rot90(HALVES), exif=exif, quality=95)
    picture = load_folder(tmp_path, size=16).images[0, 0]
    assert picture[:7].min() > 240 and picture[9:].max() < 15


def test_a_broken_exif_block_does_not_break_a_picture(tmp_path: Path) -> None:
    for name in ("a.png", "b.webp", "c.jpg"):
        save(tmp_path / name, 200, exif=b"Exif\x00\x00this is no EXIF")
    assert (load_folder(tmp_path, size=8).images.int() - 200).abs().max() <= 2


def test_a_large_photo_is_unpacked_small_and_looks_the_same(tmp_path: Path) -> None:
    y, x = np.mgrid[:600, :800] / 100
    photo = 127 + 60 * np.sin(x) + 60 * np.cos(y)
    photo[:, 400:] *= 0.5  # an edge
    save(tmp_path / "a.jpg", photo, quality=95)
    save(tmp_path / "b.png", photo)
    jpeg, png = load_folder(tmp_path, size=32).images.int()
    assert (jpeg - png).abs().max() <= 4


# Which files, and in which order


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Two cats and a dog, one level deeper than need be."""
    for i, name in enumerate(("cat/b.png", "cat/deep/c.PNG", "dog/a.bmp")):
        save(tmp_path / "pets" / name, 40 * (i + 1))
    return tmp_path / "pets"


def test_folders_are_classes(pets: Path) -> None:
    (pets / "notes.txt").write_text("not a picture")
    pictures = load_folder(pets, size=8)
    assert pictures.images.shape == (3, 1, 8, 8) and pictures.class_names == ("cat", "dog")
    assert pictures.labels is not None and pictures.labels.tolist() == [0, 0, 1]
    assert pictures.images[:, 0, 0, 0].tolist() == [40, 80, 120]
    assert str(pictures).endswith("1 channel, 2 classes (cat 2 and dog 1), from the folder pets")


def test_what_systems_put_beside_pictures_is_skipped(pets: Path) -> None:
    hidden = ("cat/._b.png", ".thumbnails/a.png")
    for name in (*hidden, "@eaDir/b.png/SYNOPHOTO_THUMB_M.jpg", "cat/@eaDir/x.jpg", "Thumbs/a.png", "__MACOSX/a.png"):
        (pets / name).parent.mkdir(parents=True, exist_ok=True)
        (pets / name).write_bytes(b"of a file manager")
    assert str(load_folder(pets, size=8)).endswith("from the folder pets, 2 @eaDir, 1 Thumbs, 1 __MACOSX left out")


def test_a_class_whose_name_is_not_utf8_can_be_printed(pets: Path) -> None:
    try:
        os.rename(os.fsencode(pets / "dog"), os.fsencode(pets) + b"/Gr\xfc\xdfe")
    except (OSError, UnicodeError):
        pytest.skip("this system has only names in Unicode")
    pictures = load_folder(pets, size=8)
    assert [os.fsencode(name) for name in pictures.class_names] == [b"Gr\xfc\xdfe", b"cat"]
    assert r"(Gr\xfc\xdfe 1 and cat 2)" in str(pictures) and str(pictures).encode()
    Path(os.fsdecode(os.fsencode(pets) + b"/Gr\xfc\xdfe/broken.png")).touch()
    with pytest.raises(ValueError, match=r"Gr\\xfc\\xdfe.broken.png \("):
        load_folder(pets)


SPLITS = [f"{part}/{name}/a.png" for part in ("test", "train") for name in ("cat", "dog")]


TWO_CLASSES = ["in/cat/a.png", "in/dog/b.png"]


@pytest.mark.parametrize(
    ("files", "given", "why"),
    [
        (["a.png"], ".", r"directly inside \S+set, and there must be two; it has no folders with pictures in them"),
        (["cat/a.png", "dog/b.png", "cover.png"], ".", "; cover.png lies beside cat and dog: move or remove it"),
        (["cat/a.png", "1.png", "2.png"], ".", "; 1.png and 2.png lie beside cat: move or remove them"),
        (["cat/a.png"], ".", "; all pictures lie in one folder, cat$"),
        (TWO_CLASSES, ".", r" lie in one folder, in: give \S+set.in, which holds cat and dog$"),
        (TWO_CLASSES, "in", None),
        (
            SPLITS,
            ".",
            r"; test and train look like parts .* \(cat and dog\) inside: give one of them, such as \S+train$",
        ),
        (["test/a.png", "train/b.png"], ".", None),
    ],
)
def test_a_set_without_classes_says_why(files: list[str], given: str, why: str | None, tmp_path: Path) -> None:
    for name in files:
        save(tmp_path / "set" / name)
    pictures = load_folder(tmp_path / "set" / given, size=8)
    assert len(pictures) == len(files) and (pictures.labels is None) == (why is not None)
    if why is not None:
        assert pictures.class_names == () and "class" not in str(pictures)
        with pytest.raises(ValueError, match=f"^each class needs its own folder .*{why}"):
            pictures.of_class(0)


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_links_are_followed_and_those_that_lead_back_are_not(pets: Path, tmp_path: Path) -> None:
    save(tmp_path / "elsewhere" / "a.png")
    (pets / "emu").symlink_to(tmp_path / "elsewhere")
    (pets / "cat" / "again").symlink_to(pets)
    assert "3 classes (cat 2, dog 1 and emu 1)" in str(load_folder(pets, size=8))


def test_a_folder_that_cannot_be_looked_into_is_named(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(pets))
    monkeypatch.setattr(os, "scandir", Mock(side_effect=denied))
    with pytest.raises(PermissionError, match="pets"):
        load_folder(pets)


def test_the_order_is_that_of_the_letters_on_every_system(tmp_path: Path) -> None:
    for i, name in enumerate(("B.png", "a.png", "b/c.png", "b-c.png")):
        save(tmp_path / name, i)
    assert [int(picture.max()) for picture in load_folder(tmp_path, size=4).images] == [0, 1, 2, 3]


def test_pictures_of_other_kinds_are_counted(tmp_path: Path) -> None:
    for name in ("a.HEIC", "deep/b.heic", "c.tif", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds no PNG, .* pictures, but 2 \.heic, 1 \.tif: convert or rename them$"):
        load_folder(tmp_path)
    save(tmp_path / "d.jfif", format="JPEG")
    assert str(load_folder(tmp_path, size=8)).endswith("2 .heic, 1 .tif left out")


# What cannot be read


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("missing", {}, "there is no folder .*missing"),
        ("", {}, "there is no folder ''"),
        (".", {}, "holds no PNG, JPEG, WebP, BMP or GIF pictures"),
        (".", dict(channels=4), "channels=4 is unknown; choose one of 1, 3"),
        (".", dict(size=0), "size must lie in"),
        (".", dict(size=1_000_000_000), r"size must lie in \[1, 4096\]"),
    ],
)
def test_bad_folders(path: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_folder(tmp_path / path if path else "", **options)


def test_all_broken_pictures_are_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off, no picture at all, far too large; and a pipe, at which a reader would wait for ever."""
    for name, end in (("a.png", 0), ("b.png", 40), ("c.gif", 40), ("d.webp", 30), ("e.jpg", 300)):
        save(tmp_path / name, np.random.default_rng(0).integers(0, 256, (64, 64)))
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:end])
    (tmp_path / "f.png").write_bytes(b"text")
    save(tmp_path / "huge.png", np.zeros((300, 300)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
    broken = len([*tmp_path.iterdir()])
    save(tmp_path / "whole.png")
    with pytest.raises(ValueError, match=f"^{broken} of {broken + 1} pictures cannot be read; mend") as refusal:
        load_folder(tmp_path)
    said = str(refusal.value)
    assert all(f"{path.name} (" in said for path in tmp_path.iterdir() if path.stem != "whole") and "whole" not in said
    assert "huge.png (Image size" in said
    for i in range(14 - broken):
        (tmp_path / f"{i}.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"^14 of 15 .* and 4 more$"):
        load_folder(tmp_path)


def test_a_lack_of_memory_is_no_broken_picture(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoMemoryError(MemoryError, RuntimeError):  # the one is Python's, the other PyTorch's
        pass

    fail = Mock(side_effect=NoMemoryError("DefaultCPUAllocator: can't allocate memory"))
    monkeypatch.setattr(folder, "square_picture", fail)
    with pytest.raises(MemoryError):
        load_folder(pets)
    monkeypatch.setattr(torch, "empty", fail)
    with pytest.raises(ValueError, match=r"for this machine's memory: 3 such pictures take \d+ GB; choose a smaller"):
        load_folder(pets, size=4000)
