"""A folder of pictures as people have it: which files are pictures, how to read one, what the classes are.

`data.load_folder` puts these together.
"""

from __future__ import annotations

import os
import stat
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from .runtime import is_out_of_memory

#: Endings of the pictures that are read.
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif")
#: Endings of pictures that are left out and counted.
OTHER_SUFFIXES = (".avif", ".heic", ".heif", ".tif", ".tiff", ".jp2", ".jxl", ".svg", ".psd", ".dng", ".cr2", ".nef")
#: Folders in which systems and photo programs keep thumbnails and deleted files, in lower case.
SYSTEM_FOLDERS = (
    *("@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found", "__macosx"),
    *("thumbs", "thumbnails"),
)
#: Folders that hold parts of a data set, in lower case: classes lie inside them.
SPLIT_FOLDERS = ("train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval")
#: How to turn a picture upright, by the orientation in its EXIF block; Pillow rotates to the left.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION, SHORT = 0x112, 3


def readable(path: str | Path) -> str:
    r"""A path or a name as text that can be printed: bytes that are not UTF-8 become \x escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode().replace("\\udc", "\\x")


def find_pictures(root: Path) -> tuple[list[Path], str]:
    """All pictures below a folder, also through links, in the same order on every system.

    Returns:
        The files, and what was left out, such as "2 .heic, 1 @eaDir"; hidden files and folders are not mentioned.

    Raises:
        OSError: a folder below it cannot be read.
    """
    files, left_out, seen = [], Counter[str](), set()

    def refuse(error: OSError) -> None:
        raise error

    for path, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        left_out.update(name for name in folders if name.lower() in SYSTEM_FOLDERS)
        folders[:] = [name for name in folders if name.lower() not in SYSTEM_FOLDERS]
        if (real := os.path.realpath(path)) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        for file in (Path(path, name) for name in names if not name.startswith(".")):
            if file.suffix.lower() in SUFFIXES:
                files.append(file)
            elif file.suffix.lower() in OTHER_SUFFIXES:
                left_out[file.suffix.lower()] += 1
    files.sort(key=lambda file: file.relative_to(root).parts)
    return files, ", ".join(f"{count} {name}" for name, count in sorted(left_out.items()))


def find_classes(root: Path, files: Sequence[Path]) -> tuple[tuple[str, ...], str]:
    """The folders directly inside `root`, if they divide the pictures into classes.

    Returns:
        Their names in alphabetical order, and ""; or no names, and a sentence that says why.
    """
    inside = [file.relative_to(root).parts[:-1] for file in files]
    names = tuple(sorted({parts[0] for parts in inside if parts}))
    stray = [file.name for file, parts in zip(files, inside, strict=True) if not parts]
    below = tuple(sorted({parts[1] for parts in inside if len(parts) > 1}))
    listed = list_names(names)
    if not names:
        why = "it has no folders with pictures in them"
    elif stray:
        why = f"{list_names(stray)} {'lies' if len(stray) == 1 else 'lie'} beside {listed}: move or remove"
        why += " it" if len(stray) == 1 else " them"
    elif len(names) == 1:
        why = f"all pictures lie in one folder, {listed}"
        why += f": give {readable(root / names[0])}, which holds {list_names(below)}" if len(below) > 1 else ""
    elif all(name.lower() in SPLIT_FOLDERS for name in names) and all(len(parts) > 1 for parts in inside):
        why = f"{listed} look like parts of a data set, each with its classes ({list_names(below)}) inside: give one "
        why += f"of them, such as {readable(root / names[-1])}"
    else:
        return names, ""
    return (), f"each class needs its own folder directly inside {readable(root)}, and there must be two; {why}"


def list_names(names: Sequence[str], most: int = 10) -> str:
    """Names in one line, and how many more there are."""
    shown = [readable(name) for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def read_pictures(files: Sequence[Path], size: int, channels: int) -> tuple[Tensor, int]:
    """Read pictures and bring them to one size.

    Returns:
        uint8, (N, channels, size, size), and the number of different sizes that the files had.

    Raises:
        ValueError: there is not enough memory, or files cannot be read (the first ten are named).
    """
    images, sizes = allocate(len(files), channels, size), set()
    broken: list[str] = []
    for i, file in enumerate(tqdm(files, unit="picture", disable=True if len(files) < 500 else None)):
        try:
            if not stat.S_ISREG(file.stat().st_mode):  # opening a named pipe would wait for ever
                raise OSError("a pipe, a socket, a device or a folder, not a file")
            with Image.open(file) as picture:
                sizes.add(picture.size)
                picture.draft(None, (3 * size, 3 * size))  # unpack a large JPEG at a fraction of its size
                square = square_picture(plain_picture(picture).convert("L" if channels == 1 else "RGB"), size)
        except MemoryError:
            raise
        except Exception as error:  # a broken file makes Pillow raise almost anything
            broken.append(f"{readable(file)} ({error})")
            continue
        images[i] = torch.from_numpy(np.array(square)).view(size, size, channels).permute(2, 0, 1)
    if broken:
        raise ValueError(
            f"{len(broken)} of {len(files)} pictures cannot be read; mend or remove them: {list_names(broken)}"
        )
    return images, len(sizes)


def allocate(n: int, channels: int, size: int) -> Tensor:
    """Memory for pictures, uint8 (n, channels, size, size).

    Raises:
        ValueError: there is not enough.
    """
    try:
        return torch.empty(n, channels, size, size, dtype=torch.uint8)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"size {size} is too large for this machine's memory: {n:,} such pictures take "
            f"{n * channels * size**2 / 1e9:.0f} GB; choose a smaller size or fewer pictures"
        ) from error


def plain_picture(picture: Image.Image) -> Image.Image:
    """The picture upright, on white where it was transparent, with at most 8 bits a channel."""
    if (turn := TURNS.get(read_orientation(picture))) is not None:
        picture = picture.transpose(turn)
    if picture.mode.startswith("I"):  # 16 bits: convert("L") would clip them to 255
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture


def read_orientation(picture: Image.Image) -> int:
    """The orientation in the EXIF block, 1..8, and 1 if there is none.

    `ImageOps.exif_transpose` would read all tags and write them anew; it fails, or leaves the picture as it is, when
    another tag has an odd type. Here only the tag itself has to be right.
    """
    try:
        block = picture.info.get("exif", b"").removeprefix(b"Exif\0\0")
        if order := {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4]):
            start = struct.unpack_from(f"{order}I", block, 4)[0]
            for i in range(struct.unpack_from(f"{order}H", block, start)[0]):
                tag, kind, _, value = struct.unpack_from(f"{order}HHIH", block, start + 2 + 12 * i)
                if (tag, kind) == (ORIENTATION, SHORT):
                    return int(value)
        return int(picture.getexif().get(ORIENTATION, 1))  # another type, or another place, such as XMP
    except MemoryError:
        raise
    except Exception:  # a broken block makes Pillow raise almost anything; the picture itself may be whole
        return 1


def square_picture(picture: Image.Image, size: int) -> Image.Image:
    """The middle of the picture, cropped to a square and resized with antialiasing."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    return picture.resize((size, size), Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
