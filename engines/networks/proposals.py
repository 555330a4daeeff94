"""Boxes as R-CNNs know them: deltas to anchors and regions, and the regions that are worth a second look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from engines.anchors import level_anchors
from engines.geometry import Size
from engines.networks.exact import Exact
from engines.networks.roi import STRIDES
from engines.networks.suppression import Suppress

_RATIOS = (0.5, 1.0, 2.0)
_IOU = 0.7
_GROWTH = math.log(1000 / 16)  # of a side: more is a mistake
NEVER = -1e30  # the score of what is no candidate

Weights = tuple[float, float]  # of a box's shift, and of its growth


@dataclass(frozen=True, slots=True)
class Search:
    """Where regions are looked for: around anchors of so many pixels a side at each level, the best of each."""

    sides: tuple[int, int, int, int, int] = (32, 64, 128, 256, 512)  # the last level is for proposals alone
    best: int = 1000
    least: float = 1e-3  # pixels of a region's sides


class Propose(Exact):
    """Choose regions of images of one *size*: the best anchors of each level, moved, less what overlaps a better one.

    Ren et al. 2015, https://arxiv.org/abs/1506.01497.
    """

    anchors: Tensor  # (A, 4), level by level

    def __init__(self, size: Size, proposals: int, search: Search = Search()) -> None:
        super().__init__()
        self.size = size
        sides = search.sides
        levels = level_anchors(size, (*STRIDES, 64), [(side,) for side in sides], [_RATIOS] * len(sides))
        self.lengths = [len(level) for level in levels]
        self.register_buffer("anchors", torch.from_numpy(np.concatenate(levels)), persistent=False)
        self.best, self.least = min(search.best, max(self.lengths)), search.least
        self.proposals = min(proposals, self.best * len(levels))
        self.suppress = Suppress(_IOU)

    def forward(self, found: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Objectness (N, 3, h, w) and deltas (N, 12, h, w) of each level to regions (N, P, 4) and their scores (N, P).

        Regions that are missing have a score of `NEVER` and no area.
        """
        levels = [self._best(level, *each) for level, each in enumerate(found)]
        scores, rows, moves = (torch.cat(column, 1) for column in zip(*levels, strict=True))
        boxes = clipped(moved(self.anchors[rows], moves, (1.0, 1.0)), self.size)
        there = (scores > NEVER) & sizeable(boxes, self.least)
        # Each level is a group of its own: its boxes are compared with each other alone.
        stays = self.suppress(boxes.reshape(-1, self.best, 4), there.reshape(-1, self.best)).reshape(there.shape)
        best, rows = torch.where(stays, scores, NEVER).topk(self.proposals, 1)
        return torch.where(best.unsqueeze(2) > NEVER, take(boxes, rows), 0.0), best

    def _best(self, level: int, objectness: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the best anchors of a level, best first: scores (N, best), rows (N, best) and deltas (N, best, 4)."""
        logits = objectness.float().permute(0, 2, 3, 1).flatten(1)
        count = min(self.best, self.lengths[level])
        scores, rows = torch.where(logits.isnan(), NEVER, logits).topk(count, 1)
        moves = take(deltas.float().permute(0, 2, 3, 1).reshape(deltas.shape[0], -1, 4), rows)
        rows = rows + sum(self.lengths[:level])
        if lack := self.best - count:
            scores = F.pad(scores, (0, lack), value=NEVER)
            rows, moves = F.pad(rows, (0, lack)), F.pad(moves, (0, 0, 0, lack))
        return scores, rows, moves


def moved(boxes: Tensor, deltas: Tensor, weights: Weights) -> Tensor:
    """Move boxes (..., 4) by deltas (..., 4): shares of their sides and logarithms of growth, each times a weight."""
    first, last = torch.split(boxes, 2, -1)
    shift, growth = torch.split(deltas, 2, -1)
    side = last - first
    centre = first + (shift / weights[0] + 0.5) * side
    half = (growth / weights[1]).clamp(max=_GROWTH).exp() * side / 2
    return torch.cat((centre - half, centre + half), -1)


def clipped(boxes: Tensor, size: Size) -> Tensor:
    """Cut boxes (..., 4) to an image of *size* (height, width)."""
    x, y = boxes[..., 0::2], boxes[..., 1::2]
    return torch.stack((x.clamp(0.0, float(size[1])), y.clamp(0.0, float(size[0]))), -1).flatten(-2)


def sizeable(boxes: Tensor, least: float) -> Tensor:
    """Tell which boxes (..., 4) have sides of at least so many pixels; what is no number has not."""
    first, last = torch.split(boxes, 2, -1)
    large: Tensor = ((last - first) >= least).all(-1)
    return large


def take(values: Tensor, rows: Tensor) -> Tensor:
    """Gather rows (N, K) of values (N, A, W)."""
    return values.gather(1, rows.unsqueeze(2).expand(-1, -1, values.shape[2]))
