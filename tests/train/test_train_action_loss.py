"""The loss of actions, reckoned by hand."""

from __future__ import annotations

import math

import pytest
import torch

from engines.train.losses.actions import cross_entropy


def test_it_is_the_cross_entropy_with_a_truth_that_is_a_little_uncertain() -> None:
    logits = torch.tensor([[math.log(7.0), math.log(2.0), 0.0]])  # 0.7, 0.2, 0.1
    wanted = -(0.9 + 0.1 / 3) * math.log(0.7) - 0.1 / 3 * (math.log(0.2) + math.log(0.1))
    assert cross_entropy(logits, torch.tensor([0]), 0.1).item() == pytest.approx(wanted, rel=1e-5)


def test_it_is_the_mean_over_clips_whose_action_is_known() -> None:
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    alone = cross_entropy(logits[:2], torch.tensor([1, 4]))
    assert cross_entropy(logits, torch.tensor([1, 4, -1])).item() == pytest.approx(alone.item())


def test_where_no_action_is_known_there_is_nothing_to_learn() -> None:
    logits = torch.randn(2, 5, requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([-1, -1]))
    loss.backward()  # type: ignore[no-untyped-call]  # torch's
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_halves_are_compared_in_full_precision() -> None:
    logits = torch.tensor([[20.0, 0.0, 0.0]])
    half = cross_entropy(logits.bfloat16(), torch.tensor([0]))
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(cross_entropy(logits, torch.tensor([0])).item())
