"""Endpoint error at every scale of a network for optical flow.

Dosovitskiy et al. 2015, "FlowNet", https://arxiv.org/abs/1504.06852, with the weights that its authors give the scales;
the robust penalty is that of Sun et al. 2018, "PWC-Net", https://arxiv.org/abs/1709.02371, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

# Of each scale, the finest first. A coarse one has fewer places, which is why it counts for more.
WEIGHTS = (0.005, 0.01, 0.02, 0.08, 0.32)

Penalty = Callable[[Tensor], Tensor]  # of error vectors (N, 2, h, w), one of each place (N, h, w)


def endpoint(error: Tensor) -> Tensor:
    """Count an error as long as it is; where there is none, it has no gradient."""
    length: Tensor = torch.linalg.vector_norm(error, dim=1)
    return length


def charbonnier(error: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Count an error as long as it is, but smoothly around none: Charbonnier et al. 1994."""
    return ((error * error).sum(1) + epsilon * epsilon).sqrt()


def robust(error: Tensor, power: float = 0.4, epsilon: float = 0.01) -> Tensor:
    """Count large errors for less, as there are always some that cannot be helped."""
    length = error.abs().sum(1) + epsilon
    return torch.pow(length, power)


def multiscale(
    fields: Sequence[Tensor],
    truth: Tensor,
    known: Tensor,
    weights: Sequence[float] = WEIGHTS,
    penalty: Penalty = endpoint,
) -> Tensor:
    """Compare fields (N, 2, h, w), the finest first, with a *truth* (N, 2, H, W) where it is *known*, bool (N, H, W).

    All are in the same units. A coarser place is compared with the mean of what is known in it, and counts by the
    share that is. Penalties are summed over places, as the authors' are, and averaged over images and the places of the
    coarsest field, so that the size of images does not matter. Nothing known is no loss. Raises ValueError where there
    are not as many weights as fields.
    """
    total = truth.new_zeros((), dtype=torch.float32)
    for field, weight in zip(fields, weights, strict=True):
        mean, share = shrink(truth.float(), known, (field.shape[2], field.shape[3]))
        total = total + weight * (penalty(field.float() - mean) * share).sum()
    return total / fields[-1][:, 0].numel()


def shrink(truth: Tensor, known: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Average what is *known* of a *truth* over the cells of a coarser field; give also the share of each that is."""
    there = known[:, None].to(truth.dtype)
    share = F.adaptive_avg_pool2d(there, size)
    # What is not known may be anything, also no number, which times nothing would still be none.
    summed = F.adaptive_avg_pool2d(truth.where(known[:, None], truth.new_zeros(())), size)
    mean = summed / share.clamp_min(torch.finfo(truth.dtype).tiny)
    return mean, share[:, 0]
