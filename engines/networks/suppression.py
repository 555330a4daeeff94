"""Suppression of overlapping boxes without a loop: a fixed number of steps, of operators that every runtime has.

Greedy suppression goes through the boxes, best first, and a box stays unless a better one that stayed overlaps it. Said
as an equation, with S the set that stays, this is S = boxes that none of S suppresses; going from *all* to what these
do not suppress, and again, ends at the one solution. After t rounds every box is settled that stands at the end of a
chain of at most t boxes, each of which could suppress the next; and what an even number of rounds leaves never lacks a
box that should stay. Zheng et al. 2020, "Cluster-NMS", https://arxiv.org/abs/2005.03572.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engines.networks.exact import Exact, Inexact

# Even: where a chain is longer, which a crowd of boxes of one object does not make, a box too many stays.
ROUNDS = 16


class Suppress(Exact):
    """Tell which of K boxes stay: of two that overlap by more than *iou*, the earlier one."""

    def __init__(self, iou: float, rounds: int = ROUNDS) -> None:
        super().__init__()
        self.iou = iou
        self.settle = Settle(rounds)

    def forward(self, boxes: Tensor, there: Tensor, classes: Tensor | None = None) -> Tensor:
        """Boxes (N, K, 4), best first, of which only those *there* (N, K) count, each against its own class (N, K)."""
        better = self._suppressed(boxes)
        if classes is not None:
            better = better & (classes.unsqueeze(2) == classes.unsqueeze(1))
        stay: Tensor = self.settle(there.to(boxes.dtype).unsqueeze(1), better.to(boxes.dtype))
        return stay.squeeze(1) > 0.5

    def _suppressed(self, boxes: Tensor) -> Tensor:
        """Tell of each box (N, K, K; rows) which later ones it overlaps by too much."""
        over = overlapping(boxes, self.iou)
        rank = torch.arange(boxes.shape[1], device=boxes.device)
        return over & (rank.unsqueeze(1) < rank)


class Settle(Inexact):
    """Find out which boxes stay, of ones and zeros: all (N, 1, K), and whom each would suppress (N, K, K)."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds

    def forward(self, there: Tensor, suppressed: Tensor) -> Tensor:
        stay = there
        for _ in range(self.rounds):
            stay = there * ((stay @ suppressed) < 0.5).to(there.dtype)
        return stay


def overlapping(boxes: Tensor, iou: float) -> Tensor:
    """Compare all boxes (N, K, 4) with each other: (N, K, K)."""
    x1, y1, x2, y2 = torch.split(boxes, 1, 2)
    area = (x2 - x1) * (y2 - y1)
    width = (torch.minimum(x2, x2.mT) - torch.maximum(x1, x1.mT)).clamp(min=0.0)
    height = (torch.minimum(y2, y2.mT) - torch.maximum(y1, y1.mT)).clamp(min=0.0)
    shared = width * height
    over: Tensor = shared > (area + area.mT - shared) * iou  # without a division: what has no area overlaps nothing
    return over
