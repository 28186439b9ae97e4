"""Two processes on the CPU (gloo) that share batches: the same training as one process, and they end together."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from course_lib.checkpoint import load_checkpoint
from course_lib.data import Pictures
from course_lib.runs import checkpoints, read_config
from course_lib.schedule import make_schedule
from course_lib.train import EMA, TrainConfig, train
from course_lib.training import clock
from course_lib.unet import UNet
from helpers_runs import apart

WHOLE = dict(steps=30, batch_size=8, lr=5e-3, warmup=5)


def result(settings: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Train a small network on eleven pictures, a number that no batch divides, or this process's part of it."""
    images = torch.randint(0, 256, (11, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    config, pictures = TrainConfig(**settings), Pictures(images, torch.arange(11) % 3)
    torch.manual_seed(0)
    model = UNet(8, channels=(8, 16), num_classes=3)
    ema = EMA(model, 0.9)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=config.accumulate)
    losses, lengths, rates = [], [], []
    schedule = make_schedule("cosine", 50)
    for update in train(model, schedule, pictures, config, ema=ema, accelerator=accelerator, **options):
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


def by_the_clock(rank: int) -> dict[str, Any]:
    """The clock of the second process goes three times too fast."""

    class FastClock:
        @staticmethod
        def perf_counter() -> float:
            return 3 * time.perf_counter()

    with pytest.MonkeyPatch.context() as patch:
        if rank == 1:
            patch.setattr(clock, "time", FastClock)
        return result(dict(minutes=0.05, batch_size=8))


def stopped(rank: int) -> dict[str, Any]:
    """The second process alone wants to stop, after its third update."""
    asked = iter([False, False, True])
    return result(dict(steps=30, batch_size=8), stop=lambda: rank == 1 and next(asked))


def refused() -> str:
    with pytest.raises(ValueError) as error:
        result(dict(steps=1, batch_size=7))
    return str(error.value)


def worker(rank: int, port: int, path: Path) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", OMP_NUM_THREADS="1",
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    torch.set_num_threads(1)
    answers = {
        "whole": result(WHOLE),
        "in parts": result({**WHOLE, "accumulate": 2}),
        "by the clock": by_the_clock(rank),
        "stopped": stopped(rank),
        "refused": refused(),
    }
    torch.save(answers, path / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes found, in all the trainings of `worker`."""
    path, port = tmp_path_factory.mktemp("answers"), free_port()
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=worker, args=(rank, port, path)) for rank in range(2)]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 120
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
    hanging = [process for process in processes if process.is_alive()]
    for process in hanging:
        process.kill()
    assert not hanging and [process.exitcode for process in processes] == [0, 0]
    return [torch.load(path / f"{rank}.pt", weights_only=True) for rank in range(2)]


def assert_close(mine: Tensor, theirs: Tensor, rtol: float) -> None:
    torch.testing.assert_close(mine, theirs, rtol=rtol, atol=0)


def test_two_processes_give_the_loss_curve_of_one_with_the_whole_batch(answers: list[dict[str, Any]]) -> None:
    alone = result(WHOLE)
    assert alone["losses"][-5:].mean() < 0.97 * alone["losses"][:5].mean()  # something was learned meanwhile
    for work in ("whole", "in parts"):
        first, second = (answer[work] for answer in answers)
        assert (alone["processes"], first["processes"], second["processes"]) == (1, 2, 2)
        assert_close(first["losses"], alone["losses"], 2e-4)
        assert_close(first["lengths"], alone["lengths"], 5e-3)
        assert first["rates"] == alone["rates"]
        for key in ("losses", "lengths", "weights", "average"):
            assert torch.equal(first[key], second[key])


def test_processes_share_one_clock_and_one_learning_rate(answers: list[dict[str, Any]]) -> None:
    first, second = (answer["by the clock"] for answer in answers)
    assert first["rates"] == second["rates"] and first["seconds"] == second["seconds"] >= 3
    assert torch.equal(first["weights"], second["weights"])


def test_where_one_process_stops_all_stop(answers: list[dict[str, Any]]) -> None:
    assert [len(answer["stopped"]["losses"]) for answer in answers] == [3, 3]


def test_a_batch_that_cannot_be_shared_is_refused(answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        assert answer["refused"] == "batch_size must be a multiple of 2 (2 process(es) × accumulate=1), got 7"


TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=(pytest.mark.cuda, TWO_GPUS))])
def test_the_command_line_under_accelerate_launch(
    device: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two processes make the run that one makes, and leave one set of files."""
    from course_lib.__main__ import main

    options = f"train --data {pictures} --size 8 --channels 8 16 --steps 12 --batch-size 4"
    options += f" --precision no --warmup 0 --ema 0 --device {device}"
    launch = "-m accelerate.commands.launch --multi_gpu --num_machines 1 --mixed_precision no --dynamo_backend no"
    port = f"--num_processes 2 --main_process_port {free_port()}"
    command = [sys.executable, *f"{launch} {port} -m course_lib {options} --out two".split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    assert main([*options.split(), "--out", "one"]) == 0
    for said, count in ((done.stdout, 2), (capsys.readouterr().out, 1)):
        assert said.count("saved") == 1 and f"{count} process(es)" in said
    one, two = (load_checkpoint(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert two.details["loss"] == pytest.approx(one.details["loss"], rel=1e-3)
    config, _ = read_config(tmp_path / "one" / "config.json")
    start, *ends = config.model(config.pictures()), one.model, two.model
    assert apart(*(model.state_dict() for model in (start, *ends))) < 0.01
    assert [path.name for path in checkpoints(tmp_path / "two")] == ["step-00000012"]
