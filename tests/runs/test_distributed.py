"""Two processes on the CPU (gloo) that share batches: the same training as one process, and they end together."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from course_lib.checkpoint import load_checkpoint
from course_lib.data import Pictures
from course_lib.runs import checkpoints, read_config
from course_lib.schedule import make_schedule
from course_lib.train import EMA, TrainConfig, train
from course_lib.training import clock as clock_module
from course_lib.unet import UNet

SCHEDULE = make_schedule("cosine", 50)


def pictures() -> Pictures:
    """Eleven pictures, a number that no batch divides, of three classes."""
    images = torch.randint(0, 256, (11, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Pictures(images, torch.arange(11) % 3)


def result(config: TrainConfig, **options: Any) -> dict[str, Any]:
    """Train a small network in this process, or this process's part of it."""
    torch.manual_seed(0)
    model = UNet(8, channels=(8, 16), num_classes=3)
    ema = EMA(model, 0.9)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=config.accumulate)
    losses, lengths, rates = [], [], []
    for update in train(model, SCHEDULE, pictures(), config, ema=ema, accelerator=accelerator, **options):
        losses.append(accelerator.reduce(update.loss, "mean"))
        lengths.append(update.grad_norm)
        rates.append(update.lr)
    return {
        "processes": accelerator.num_processes,
        "losses": torch.stack(losses),
        "lengths": torch.stack(lengths),
        "rates": rates,
        "seconds": update.seconds,
        "weights": torch.cat([p.detach().flatten() for p in model.parameters()]),
        "average": torch.cat([p.flatten() for p in ema.model.parameters()]),
    }


def whole_run(_: int) -> dict[str, Any]:
    return result(TrainConfig(steps=30, batch_size=8, lr=5e-3, warmup=5))


def run_in_parts(_: int) -> dict[str, Any]:
    return result(TrainConfig(steps=30, batch_size=8, lr=5e-3, warmup=5, accumulate=2))


class FastClock:
    """Three seconds pass on it in one."""

    @staticmethod
    def perf_counter() -> float:
        return 3 * time.perf_counter()


def run_by_the_clock(rank: int) -> dict[str, Any]:
    """The clock of the second process goes three times too fast."""
    if rank == 1:
        setattr(clock_module, "time", FastClock)  # noqa: B010
    return result(TrainConfig(minutes=0.05, batch_size=8))


def run_stopped(rank: int) -> dict[str, Any]:
    """The second process alone wants to stop, after its third update."""
    asked = iter([False, False, True])
    return result(TrainConfig(steps=30, batch_size=8), stop=lambda: rank == 1 and next(asked))


def refused(_: int) -> str:
    with pytest.raises(
        ValueError, match=r"batch_size must be a multiple of 2 \(2 process\(es\) × accumulate=1\), got 7"
    ):
        result(TrainConfig(steps=1, batch_size=7))
    return "refused"


def worker(work: Callable[[int], Any], rank: int, port: int, path: Path) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", OMP_NUM_THREADS="1",
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    torch.set_num_threads(1)
    answer = work(rank)
    torch.save(answer, path / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def in_two_processes(work: Callable[[int], Any], path: Path) -> list[Any]:
    """What two processes answer, each told its number."""
    context, port = multiprocessing.get_context("forkserver"), free_port()
    context.set_forkserver_preload(["course_lib.train", "accelerate", "torch._dynamo"])
    processes = [context.Process(target=worker, args=(work, rank, port, path)) for rank in range(2)]
    for process in processes:
        process.start()
    end = time.monotonic() + 120
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    hanging = [process for process in processes if process.is_alive()]
    for process in hanging:
        process.kill()
    assert not hanging and [process.exitcode for process in processes] == [0, 0]
    return [torch.load(path / f"{rank}.pt", weights_only=True) for rank in range(2)]


def assert_close(mine: Tensor, theirs: Tensor, rtol: float) -> None:
    torch.testing.assert_close(mine, theirs, rtol=rtol, atol=0)


@pytest.mark.parametrize("work", [whole_run, run_in_parts])
def test_two_processes_give_the_loss_curve_of_one_with_the_whole_batch(
    work: Callable[[int], dict[str, Any]], tmp_path: Path
) -> None:
    alone = result(TrainConfig(steps=30, batch_size=8, lr=5e-3, warmup=5))
    first, second = in_two_processes(work, tmp_path)
    assert (alone["processes"], first["processes"], second["processes"]) == (1, 2, 2)
    assert_close(first["losses"], alone["losses"], 2e-4)
    assert_close(first["lengths"], alone["lengths"], 5e-3)
    assert first["rates"] == alone["rates"]
    assert alone["losses"][-5:].mean() < 0.97 * alone["losses"][:5].mean()  # something was learned meanwhile
    for key in ("losses", "lengths", "weights", "average"):
        assert torch.equal(first[key], second[key])


def test_processes_share_one_clock_and_one_learning_rate(tmp_path: Path) -> None:
    first, second = in_two_processes(run_by_the_clock, tmp_path)
    assert first["rates"] == second["rates"] and first["seconds"] == second["seconds"] >= 3
    assert torch.equal(first["weights"], second["weights"])


def test_where_one_process_stops_all_stop(tmp_path: Path) -> None:
    first, second = in_two_processes(run_stopped, tmp_path)
    assert len(first["losses"]) == len(second["losses"]) == 3


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    assert in_two_processes(refused, tmp_path) == ["refused", "refused"]


TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=(pytest.mark.cuda, TWO_GPUS))])
def test_the_command_line_under_accelerate_launch(device: str, tmp_path: Path) -> None:
    """Two processes make the run that one makes, and leave one set of files."""
    numbers = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(5):
        Image.fromarray(numbers.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    options = f"train --data {tmp_path}/pictures --size 8 --channels 8 16 --steps 12 --batch-size 4"
    options += f" --precision no --warmup 0 --ema 0 --device {device}"
    launch = "-m accelerate.commands.launch --multi_gpu --num_machines 1 --mixed_precision no --dynamo_backend no"
    port = f"--num_processes 2 --main_process_port {free_port()}"
    for command in (f"{launch} {port} -m course_lib {options} --out two", f"-m course_lib {options} --out one"):
        done = subprocess.run([sys.executable, *command.split()], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("saved") == 1
        assert ("2 process(es)" if "launch" in command else "1 process(es)") in done.stdout
    one, two = (load_checkpoint(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert two.details["loss"] == pytest.approx(one.details["loss"], rel=1e-3)
    config, _ = read_config(tmp_path / "one" / "config.json")
    start, ends = config.model(config.pictures()).state_dict(), [each.model.state_dict() for each in (one, two)]
    # of all weights together: a bias before a GroupNorm has no gradient but rounding, and goes anywhere
    a, b, c = (torch.cat([state[name].flatten() for name in start]) for state in (start, *ends))
    assert (b - a).norm() > 0 and (c - b).norm() < 0.01 * (b - a).norm()
    assert [path.name for path in checkpoints(tmp_path / "two")] == ["step-00000012"]
