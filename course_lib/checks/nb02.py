"""The exercises of notebook 02: building a U-Net."""

from __future__ import annotations

from ..shapes import conv_transpose_out, pool_out
from .judge import Choice, Exercise, Question
from .nb02_down import DOWN_BLOCK
from .nb02_sizes import CONV_OUT, CONV_TRANSPOSE_OUT, DOUBLE_CONV_PARAMETERS, MERGE_CHANNELS
from .nb02_up import UP_BLOCK


def _what_28_does() -> str:
    """Whether what comes up from the deepest map fits the first skip that it meets."""
    sizes = [28]
    for _ in range(4):
        sizes.append(pool_out(sizes[-1], 2))
    skip, below = sizes[-2:]
    return "a" if conv_transpose_out(below, 2, 2) == skip else "c"


FOUR_POOLINGS = Choice(
    _what_28_does,
    "28 → 14 → 7 → 3 → 1: the pools round down, and 1 doubles to 2, which cannot lie beside a skip of 3.",
    {
        "a": "28 = 4 · 7 can be halved only twice without a loss; what the pools drop, doubling does not bring back.",
        "b": "16×16 would come out if nothing were concatenated. But every map on the way up meets a skip.",
        "d": "A pool takes odd sizes: it leaves the last row and column out, 7 becomes 3 and no error is raised.",
    },
)

EXERCISES: dict[str, Exercise | Question | Choice] = {
    "conv_out": CONV_OUT,
    "conv_transpose_out": CONV_TRANSPOSE_OUT,
    "merge_channels": MERGE_CHANNELS,
    "double_conv_parameters": DOUBLE_CONV_PARAMETERS,
    "down_block": DOWN_BLOCK,
    "up_block": UP_BLOCK,
    "four_poolings": FOUR_POOLINGS,
}
