"""What the benchmarks share: rows in a JSON-lines file, what they were made on, samples, and tables in Markdown."""

from __future__ import annotations

import inspect
import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.data import Pictures, load_fashion_mnist
from course_lib.guide import AutoGuidance
from course_lib.metrics import FEATURES_SHA256, Report, measure
from course_lib.runtime import make_generator
from course_lib.sample import sample
from course_lib.schedule import Schedule, sampling_times, start_time

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
#: What is kept in the repository, and what is not.
RESULTS, BUILD = HERE / "results", ROOT / "build" / "bench"
#: How `AutoGuidance` guides by default: rows of another guidance are no rows of this one.
GUIDANCE = {name: inspect.signature(AutoGuidance).parameters[name].default for name in ("strength", "largest")}
#: All benchmarks judge with the same draw of held-out pictures.
JUDGE_SEED = 0

Row = dict[str, Any]


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line to a file of results, on disk before this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cut_short = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * cut_short + json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, none where there is no file; a line that a crash cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def has(row: Row, facts: Row) -> bool:
    """True where a row has all these facts."""
    return all(row.get(key) == value for key, value in facts.items())


def _plain(value: Any) -> Any:
    """Numbers that JSON does not know become None."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def circumstances(device: torch.device) -> Row:
    """Machine, what else it does, versions and date, to stand in a row."""
    names = ("torch", "diffusers", "denoising-diffusion-pytorch")
    return {
        "machine": describe(device),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "versions": {name: _version(name) for name in names},
        "commit": COMMIT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def describe(device: torch.device) -> str:
    """The processor, its cores and its widest instructions; or the card."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return asked.stdout.strip() or None


#: Of the code that runs; commits that are made meanwhile are not its.
COMMIT = _commit()


def load_data(source: str) -> tuple[Pictures, Pictures]:
    """Training and held-out pictures: of all of Fashion-MNIST ("full") or of the course's subset ("packaged")."""
    return load_fashion_mnist("train", source=source), load_fashion_mnist("test", source=source)


def draw_samples(
    model: nn.Module,
    schedule: Schedule,
    target: str,
    count: int,
    *,
    evaluations: int,
    clipped: bool = False,
    weak: nn.Module | None = None,
    seed: int = 0,
    batch: int = 250,
) -> Tensor:
    """Samples by the stochastic DPM-Solver++(2M), guided or not, or by DDPM, from the same noise for every model.

    DPM-Solver++ looks back at the predictions of the picture, so these are not clipped, and it begins at `start_time`.
    DDPM begins at T and keeps them in [-1, 1], as the other libraries' own samplers do by default.

    Args:
        model: called as model(x_t, t, y), in eval mode.
        schedule: the one that it was trained with.
        target: what it predicts.
        count: number of samples.
        evaluations: of the network, for each sample.
        clipped: by DDPM, its predictions clipped.
        weak: a network that guides the model (`AutoGuidance` as it is by default), at as many evaluations more.
        seed: of all noise.
        batch: samples at a time.

    Returns:
        float32 (count, 1, 28, 28), on the CPU.
    """
    device = next(model.parameters()).device
    generator = make_generator(seed, device)
    return sample(
        model if weak is None else AutoGuidance(model, weak, schedule),
        schedule,
        torch.randn(count, 1, 28, 28, generator=generator, device=device),
        times=sampling_times(schedule.T, evaluations, start=None if clipped else start_time(schedule, target)),
        eta=1.0,
        order=1 if clipped else 2,
        target=target,
        clip=clipped,
        batch_size=batch,
        generator=generator,
    ).cpu()


def judge(samples: Pictures | Tensor, train: Pictures, heldout: Pictures) -> Report:
    """All measures of some samples, against all training pictures, beside held-out ones."""
    return measure(samples, train, heldout, generator=make_generator(JUDGE_SEED))


#: Rows that were judged with different feature networks cannot be compared.
FEATURES_ID = FEATURES_SHA256[:12]


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: int = 2) -> str:
    """A table in Markdown; the first columns hold words and stand to the left, the others numbers, to the right."""
    lines = [head, ["---"] * words + ["---:"] * (len(head) - words), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def interval(distance: Row) -> str:
    """A distance with its interval, for a table."""
    return f"{distance['value']:.2f} ({distance['low']:.2f}–{distance['high']:.2f})"


def intervals(columns: Sequence[Sequence[Row | None]]) -> list[list[str]]:
    """Distances with their intervals, the least of each column in bold; "" where there is none."""
    least = [min((one["value"] for one in column if one), default=None) for column in columns]
    return [
        ["" if one is None else f"**{interval(one)}**" if one["value"] == best else interval(one) for one in column]
        for column, best in zip(columns, least, strict=True)
    ]


def fill_block(path: Path, name: str, text: str) -> bool:
    """Put text between the lines `<!-- name: begin -->` and `<!-- name: end -->` of a file.

    Returns:
        False where the file, or the block in it, does not exist.
    """
    if not path.is_file():
        return False
    whole = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in whole or end not in whole:
        return False
    before, rest = whole.split(begin, 1)
    path.write_text(f"{before}{begin}\n{text.strip()}\n{end}{rest.split(end, 1)[1]}", encoding="utf-8")
    return True
