"""The loss of optical flow: reckoned by hand, and safe wherever nothing is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from engines.train.losses.flow import WEIGHTS, Penalty, charbonnier, endpoint, multiscale, robust, shrink


def field(*vectors: tuple[float, float], rows: int = 1) -> Tensor:
    """Lay vectors (u, v) out row by row: (1, 2, rows, columns)."""
    return torch.tensor(vectors).T.reshape(1, 2, rows, -1)


def everywhere(truth: Tensor) -> Tensor:
    return torch.ones(truth[:, 0].shape, dtype=torch.bool)


def test_one_scale_is_the_sum_of_the_lengths_of_errors() -> None:
    found, truth = field((3.0, 4.0), (1.0, 1.0)), field((0.0, 0.0), (1.0, 0.0))
    assert multiscale([found], truth, everywhere(truth), [0.5]).item() == pytest.approx(0.5 * (5 + 1) / 2)


def test_a_coarser_scale_is_compared_with_the_mean_and_counts_by_its_weight() -> None:
    truth = field((2.0, 0.0), (4.0, 0.0))
    fine, coarse = field((2.0, 1.0), (4.0, 0.0)), field((3.0, 2.0))
    loss = multiscale([fine, coarse], truth, everywhere(truth), [10.0, 100.0])
    assert loss.item() == pytest.approx((10 * 1 + 100 * 2) / 1)  # one place at the coarsest scale


def test_places_that_are_not_known_count_for_nothing_whatever_is_there() -> None:
    truth, known = field((1.0, 0.0), (math.nan, math.inf)), torch.tensor([[[True, False]]])
    found = field((1.0, 2.0), (50.0, 50.0)).requires_grad_()
    loss = multiscale([found, found[..., :1]], truth, known, [1.0, 1.0])
    loss.backward()  # type: ignore[no-untyped-call]  # torch's
    # Of the only place of the coarse field, half is known, and so it counts for half.
    assert loss.item() == pytest.approx(2 + 0.5 * 2)
    assert found.grad is not None
    assert found.grad.isfinite().all()
    assert not found.grad[..., 1].any()


def test_where_nothing_is_known_there_is_nothing_to_learn() -> None:
    truth = torch.full((2, 2, 8, 8), math.nan)
    found = torch.randn(2, 2, 4, 4, requires_grad=True)
    loss = multiscale([found], truth, torch.zeros(2, 8, 8, dtype=torch.bool), [1.0])
    loss.backward()  # type: ignore[no-untyped-call]  # torch's
    assert loss.item() == 0
    assert found.grad is not None
    assert not found.grad.any()


def test_what_is_known_of_a_cell_is_averaged_alone() -> None:
    truth, known = (
        field((8.0, 0.0), (math.nan, 0.0), (4.0, 2.0), (9.0, 9.0)),
        torch.tensor([[[True, False, True, False]]]),
    )
    mean, share = shrink(truth, known, (1, 1))
    assert mean.flatten().tolist() == pytest.approx([6.0, 1.0])
    assert share.item() == pytest.approx(0.5)


@pytest.mark.parametrize("penalty", [endpoint, charbonnier, robust])
def test_gradients_are_finite_where_there_is_no_error(penalty: Penalty) -> None:
    found = torch.zeros(1, 2, 4, 4, requires_grad=True)
    truth = torch.zeros(1, 2, 16, 16)
    multiscale([found], truth, everywhere(truth), [1.0], penalty).backward()  # type: ignore[no-untyped-call]  # torch's
    assert found.grad is not None
    assert found.grad.isfinite().all()


@pytest.mark.parametrize("penalty", [endpoint, charbonnier, robust])
def test_gradients_are_those_of_the_loss(penalty: Penalty) -> None:
    generator = torch.Generator().manual_seed(0)
    errors = torch.randn(2, 2, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(penalty, [errors])


def test_penalties_count_an_error_as_the_papers_have_it() -> None:
    error = field((3.0, -4.0))
    assert endpoint(error).item() == pytest.approx(5)
    assert charbonnier(error, 0.5).item() == pytest.approx(math.sqrt(25.25))
    assert robust(error).item() == pytest.approx(7.01**0.4)


def test_the_size_of_images_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(1, 2, 64, 64, generator=generator)
    fields = [torch.randn(1, 2, 64 >> level, 64 >> level, generator=generator) for level in range(2, 7)]
    small = multiscale(fields, truth, everywhere(truth))
    wide = [torch.cat([each, each], 3) for each in [truth, *fields]]
    large = multiscale(wide[1:], wide[0], everywhere(wide[0]))
    assert large.item() == pytest.approx(small.item(), rel=1e-5)
    assert len(WEIGHTS) == len(fields)


def test_halves_are_compared_in_full_precision() -> None:
    truth = torch.full((1, 2, 4, 4), 0.5003)
    found = torch.full((1, 2, 4, 4), 0.5, dtype=torch.bfloat16)
    assert multiscale([found], truth, everywhere(truth), [1.0]).item() == pytest.approx(0.0003 * math.sqrt(2), rel=1e-3)


def test_every_field_needs_a_weight() -> None:
    truth = torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match="zip"):
        multiscale([truth, truth], truth, everywhere(truth), [1.0])
