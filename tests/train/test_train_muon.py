"""Muon against torch's, which knows matrices only, and what it is for: what is rare is learnt, too."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engines.train.loop import _optimiser
from engines.train.muon import Muon, Together, is_inner, orthogonal
from engines.train.plan import Plan


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
def test_matrices_learn_as_torch_teaches_them(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    mine, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    ours = Muon([mine], 0.01, 0.1)
    reference = torch.optim.Muon([theirs], 0.01, 0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        mine.grad = torch.randn(shape)
        theirs.grad = mine.grad.clone()
        ours.step()
        reference.step()  # type: ignore[no-untyped-call]  # torch's
    # Both compute in bfloat16: seven bits of steps that are 0.01 long.
    assert torch.allclose(mine, theirs, atol=2e-4)


def test_a_kernel_is_a_matrix_whose_rows_are_outputs() -> None:
    torch.manual_seed(0)
    flat = nn.Parameter(torch.randn(16, 16 * 9))
    kernel = nn.Parameter(flat.detach().reshape(16, 16, 3, 3).clone(memory_format=torch.channels_last))
    flat.grad = torch.randn(16, 16 * 9)
    kernel.grad = flat.grad.reshape(16, 16, 3, 3).clone(memory_format=torch.channels_last)
    Muon([flat], 0.01, 0.1).step()
    Muon([kernel], 0.01, 0.1).step()
    assert torch.equal(flat, kernel.flatten(1))


def test_weak_directions_become_as_strong_as_others() -> None:
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(20, 20)).Q for _ in range(2))
    made = orthogonal(left @ torch.diag(torch.logspace(0, -2, 20)) @ right)
    strengths = torch.diagonal(left.T @ made @ right.T)
    assert strengths.min() > 0.3
    assert strengths.max() < 1.4


def test_no_gradient_is_no_number() -> None:
    assert orthogonal(torch.zeros(16, 20)).abs().max() == 0


def test_it_suits_what_is_wide_on_both_sides() -> None:
    shapes = {
        "first": nn.Conv2d(3, 64, 3),
        "depthwise": nn.Conv2d(64, 64, 3, groups=64),
        "last": nn.Conv2d(64, 8, 1),
        "inner": nn.Conv2d(64, 32, 3),
        "up": nn.ConvTranspose2d(64, 32, 4),
    }
    assert [name for name, layer in shapes.items() if is_inner(layer.weight)] == ["inner", "up"]
    assert not is_inner(nn.BatchNorm2d(64).weight)


def test_together_each_has_its_own_weights_and_all_have_one_rate() -> None:
    matrix, bias = nn.Parameter(torch.ones(16, 16)), nn.Parameter(torch.ones(16))
    both = Together(Muon([matrix], 0.0, 0.0), torch.optim.AdamW([bias], 0.0, weight_decay=0.0))
    for group in both.param_groups:
        group["lr"] = 0.5
    matrix.grad, bias.grad = torch.eye(16), torch.ones(16)
    both.step()
    assert bias.detach().tolist() == pytest.approx([0.5] * 16, abs=1e-5)
    assert (torch.diagonal(matrix) < 1).all()
    both.zero_grad()
    assert matrix.grad is bias.grad is None


def test_a_network_that_is_nowhere_wide_learns_without_it() -> None:
    model = nn.Linear(4, 1)
    learner = _optimiser(model, Plan(steps=1, optimiser="muon"))
    assert isinstance(learner, torch.optim.AdamW)
    assert [each.shape for group in learner.param_groups for each in group["params"]] == [(1, 4), (1,)]
