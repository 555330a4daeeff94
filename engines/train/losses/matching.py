"""Which anchors and regions stand for which true objects, which of them are learnt from, and by how much they miss.

Everything has fixed shapes, so nothing waits for a device to count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engines.networks.proposals import Weights
from engines.train.losses.boxes import centred, each_iou
from engines.train.losses.yolox import Objects

_LEAST_SIDE = 1e-3  # pixels: what is thinner has no shape to learn


@dataclass(frozen=True, slots=True)
class Instances(Objects):
    """True objects with masks."""

    masks: Tensor  # (N, G, M, M) in 0..1, or bytes in 0..255, each aligned to its box


@dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """What each of A boxes stands for in N images; those that are neither positive nor negative teach nothing."""

    row: Tensor  # (N, A): the object that it overlaps most
    positive: Tensor  # (N, A)
    negative: Tensor  # (N, A)


def overlaps(truth: Objects, boxes: Tensor) -> Tensor:
    """Overlap every object with every box (A, 4), or (N, A, 4): intersection over union, (N, G, A).

    Rows that are no objects have -1.
    """
    return each_iou(truth.boxes, boxes).masked_fill(~truth.there[..., None], -1.0)


def match(over: Tensor, high: float, low: float) -> Matched:
    """Match boxes by their overlaps (N, G, A): of *high* and more to their object, of less than *low* to nothing.

    Ren et al. 2015, https://arxiv.org/abs/1506.01497.
    """
    best, row = over.max(1)
    return Matched(row, best >= high, best < low)


def match_all(over: Tensor, high: float, low: float) -> Matched:
    """Match as `match` does, and the boxes that overlap an object most as well, however little that is.

    Such a box stands for the object that it overlaps most itself, as torchvision has it.
    """
    matched, most = match(over, high, low), over.amax(2, keepdim=True)
    nearest = ((over == most) & (most > 0)).any(1)
    return Matched(matched.row, matched.positive | nearest, matched.negative & ~nearest)


def choose(matched: Matched, count: int, share: float) -> tuple[Tensor, Tensor]:
    """Choose at most *count* boxes of each image by chance: the positive first, at most this *share* of them.

    But one at least; the rest are negative. Returns rows (N, K) and which of them are there (N, K).
    """
    chance = torch.rand(matched.positive.shape, device=matched.positive.device)
    positive = torch.where(matched.positive, chance, -1.0)
    most = min(max(int(count * share), 1), positive.shape[1])
    few = matched.positive & (positive >= positive.topk(most, 1).values[:, -1:])
    rank = torch.where(few, 2 + chance, torch.where(matched.negative, chance, -1.0))
    worth, rows = rank.topk(min(count, rank.shape[1]), 1)
    return rows, worth >= 0


def deltas(boxes: Tensor, onto: Tensor, weights: Weights) -> Tensor:
    """Tell what moves boxes (..., 4) *onto* others, as `engines.networks.proposals.moved` reads it: (..., 4)."""
    (centre, side), (target, extent) = centred(boxes), centred(onto)
    side, extent = side.clamp(min=_LEAST_SIDE), extent.clamp(min=_LEAST_SIDE)
    return torch.cat(((target - centre) / side * weights[0], (extent / side).log() * weights[1]), -1)


def of_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Take rows (N, K) of values (N, A, ...): (N, K, ...)."""
    image = torch.arange(len(rows), device=rows.device).unsqueeze(1)
    return values[image, rows]
