"""Muon: its orthogonalization against the singular value decomposition, its updates against PyTorch's own."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from course_lib.optim import Muon, is_matrix, make_optimizers, orthogonalize
from course_lib.unet import UNet
from helpers_models import gen, randn


@pytest.mark.parametrize("shape", [(2, 32, 288), (3, 64, 64), (1, 128, 32)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int, int]) -> None:
    matrices = randn(*shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ orthogonalize(matrices) @ v.mT  # diagonal where the directions are kept
    diagonal = inside.diagonal(dim1=1, dim2=2)
    assert (inside - torch.diag_embed(diagonal)).abs().max() < 1e-10
    # A square random matrix has singular values near 0, which five rounds cannot lift all the way.
    large = torch.linalg.svdvals(matrices) > 0.05 * torch.linalg.matrix_norm(matrices, ord=2)[:, None]
    assert diagonal[large].min() > 0.6 and diagonal.max() < 1.3


def test_the_scale_of_a_gradient_does_not_matter_and_none_gives_no_update() -> None:
    matrices = randn(1, 16, 40)
    torch.testing.assert_close(orthogonalize(1e-3 * matrices), orthogonalize(matrices), rtol=1e-4, atol=1e-5)
    assert torch.equal(orthogonalize(torch.zeros(1, 16, 40)), torch.zeros(1, 16, 40))


@pytest.mark.parametrize("shape", [(32, 64), (64, 32)])
def test_updates_are_those_of_pytorch(shape: tuple[int, int]) -> None:
    """torch.optim.Muon works in bfloat16, which keeps three digits: hence the tolerance of 3 % of an update."""
    theirs_class = getattr(torch.optim, "Muon", None)
    if theirs_class is None:
        pytest.skip("this version of PyTorch has no Muon")
    generator = gen()
    mine, theirs = (nn.Parameter(torch.zeros(shape)) for _ in range(2))
    ours = Muon([mine], lr=0.1, momentum=0.9)
    reference = theirs_class([theirs], lr=0.1, momentum=0.9, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        mine.grad = torch.randn(shape, generator=generator)
        theirs.grad = mine.grad.clone()
        ours.step()
        reference.step()
        difference = torch.linalg.vector_norm(mine - theirs) / torch.linalg.vector_norm(theirs)
        assert difference < 0.03


def test_a_convolution_counts_as_a_matrix_in_any_memory_format() -> None:
    gradient, zeros = randn(16, 8, 3, 3), torch.zeros(16, 8, 3, 3)
    plain, flat = nn.Parameter(zeros.clone()), nn.Parameter(zeros.flatten(1))
    last = nn.Parameter(zeros.to(memory_format=torch.channels_last))
    for p in (plain, last, flat):
        p.grad = gradient.reshape(p.shape)
        Muon([p], lr=0.1).step()
    torch.testing.assert_close(last, plain)
    torch.testing.assert_close(flat.view_as(plain), plain)
    assert plain.abs().max() > 0


def test_a_closure_gives_the_loss_and_a_parameter_without_a_gradient_is_left_alone() -> None:
    used, unused = nn.Parameter(torch.ones(16, 16)), nn.Parameter(torch.ones(16, 16))

    def closure() -> torch.Tensor:
        loss = used.square().sum()
        loss.backward()
        return loss

    assert Muon([used, unused], lr=0.1).step(closure).item() == 256
    assert torch.equal(unused, torch.ones(16, 16)) and not torch.equal(used, torch.ones(16, 16))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Muon([nn.Parameter(torch.ones(16, 16))], lr=math.inf), "lr must be finite"),
        (lambda: Muon([nn.Parameter(torch.ones(16, 16))], momentum=1.0), "momentum must lie in"),
        (lambda: Muon([nn.Parameter(torch.ones(16))]), "two dimensions"),
        (lambda: orthogonalize(torch.ones(3, 4)), "rows, columns"),
        (lambda: make_optimizers(nn.ReLU(), 1e-3), "got none"),
        (lambda: make_optimizers(UNet(), 1e-3, parts=0), "parts must lie in"),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_a_network_gets_muon_for_its_matrices_and_adamw_for_the_rest() -> None:
    model = UNet()
    muon, adamw = make_optimizers(model, 1e-3)
    assert isinstance(muon, Muon) and isinstance(adamw, torch.optim.AdamW)
    owned = [p for optimizer in (muon, adamw) for group in optimizer.param_groups for p in group["params"]]
    assert len(owned) == len({id(p) for p in owned}) == len(list(model.parameters()))
    matrices, names = muon.param_groups[0]["params"], {p: name for name, p in model.named_parameters()}
    assert all(is_matrix(p) and not names[p].endswith("bias") and "norm" not in names[p] for p in matrices)
    assert sum(p.numel() for p in matrices) > 0.98 * sum(p.numel() for p in names)
    assert [type(optimizer) for optimizer in make_optimizers(nn.Linear(16, 16, bias=False), 1e-3)] == [Muon]
    for other in (nn.Linear(4, 4), nn.Embedding(20, 32)):  # a push that a rare class once got must fade away
        assert [type(optimizer) for optimizer in make_optimizers(other, 1e-3)] == [torch.optim.AdamW]


@pytest.mark.parametrize("parts", [2, 3, 50])
def test_dealt_out_optimizers_make_the_same_updates(parts: int) -> None:
    results = []
    for number in (1, parts):
        torch.manual_seed(0)
        model = UNet(8, channels=(16, 24))
        optimizers = make_optimizers(model, 1e-2, parts=number)
        for _ in range(2):
            for p in model.parameters():
                p.grad = torch.randn_like(p)
            for optimizer in optimizers:
                optimizer.step()
        results.append(list(model.parameters()))
    assert len(optimizers) == 1 + min(parts, sum(map(is_matrix, model.parameters())))
    for one, dealt in zip(*results, strict=True):
        torch.testing.assert_close(one, dealt, rtol=1e-4, atol=1e-5)


def test_matrices_are_dealt_out_evenly() -> None:
    """In each part of two, the multiplications of an update are within a twentieth of half of all."""
    *muons, _ = make_optimizers(UNet(), 1e-3, parts=2)
    work = []
    for muon in muons:
        shapes = [sorted(p.flatten(1).shape) for p in muon.param_groups[0]["params"]]
        work.append(sum(small**2 * (2 * large + small) for small, large in shapes))
    assert len(work) == 2 and max(work) < 1.05 * sum(work) / 2
