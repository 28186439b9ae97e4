"""What the tests share: one thread, a seed, and a skip where there is no GPU."""

from __future__ import annotations

import os

import pytest
import torch

from course_lib.schedule import Schedule
from helpers import SCHEDULE_NAMES, every_schedule

# The tensors are small: a second thread gains nothing, and on a busy machine makes the tests many times slower.
torch.set_num_threads(1)

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # older PyTorch asks it of whoever wants the same twice


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names without the bytes of a file: a packed one holds the time, and every process must find the same names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(params=SCHEDULE_NAMES)
def schedule(request: pytest.FixtureRequest) -> Schedule:
    """Each kind of schedule in turn, T = 100."""
    return every_schedule(100)[request.param]
