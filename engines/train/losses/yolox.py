"""YOLOX's loss: which anchor points shall find an object (SimOTA), and what they shall say of it.

Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021", https://arxiv.org/abs/2107.08430, section 2.1; the assignment is
a short form of Ge et al. 2021, "OTA: Optimal Transport Assignment", https://arxiv.org/abs/2103.14259.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from engines.networks.yolox import AnchorPoints
from engines.train.losses.boxes import centred, each_iou, paired_iou

NOBODY = -1
_RADIUS = 2.5  # strides: so near to its centre, an anchor point may find an object, however small that is
_MOST = 10  # anchor points whose overlaps say how many an object gets
_BOX_WEIGHT = 5.0  # of the overlap, in the loss
_OVERLAP_COST = 3.0  # of the overlap, in the assignment
_ASIDE = 1e5  # what a point costs that is not both within the object and near its centre


@dataclass(frozen=True, slots=True)
class Objects:
    """The true objects of N images, each padded to the most that one has."""

    boxes: Tensor  # (N, G, 4) xyxy in pixels of the input
    classes: Tensor  # (N, G) whole numbers
    there: Tensor  # (N, G) bool: False is padding


@dataclass(frozen=True, slots=True)
class Answers:
    """What a network says at each anchor point."""

    boxes: Tensor  # (N, A, 4) xyxy in pixels of the input
    objectness: Tensor  # (N, A) logits
    classes: Tensor  # (N, A, C) logits


def yolox_loss(rows: Tensor, points: AnchorPoints, truth: Objects, *, exact: Tensor) -> dict[str, Tensor]:
    """Rate a network's rows (N, A, 5 + C), scores as logits; each part is over the number of points with an object.

    *exact*, 0 or 1, is the weight of the distance (L1) between raw boxes: 1 towards the end of a training, when mosaics
    are over.
    """
    rows = rows.float()
    answers = _read(rows, points)
    match, overlap = assign(answers, points, truth)
    image, point = torch.nonzero(match >= 0, as_tuple=True)
    which = match[image, point]
    boxes, classes = truth.boxes[image, which], truth.classes[image, which]
    count = max(len(which), 1)
    near = paired_iou(answers.boxes[image, point], boxes)
    wanted = F.one_hot(classes, answers.classes.shape[2]) * overlap[image, point, None]
    raw = _raw(boxes, points, point)
    return {
        "box": _BOX_WEIGHT * (1 - near**2).sum() / count,
        "objectness": _binary(answers.objectness, (match >= 0).float()) / count,
        "classes": _binary(answers.classes[image, point], wanted) / count,
        "exact": exact * (rows[image, point, :4] - raw).abs().sum() / count,
    }


@torch.no_grad()
def assign(answers: Answers, points: AnchorPoints, truth: Objects) -> tuple[Tensor, Tensor]:
    """Say which object each anchor point shall find (N, A), or NOBODY, and how much its box overlaps it now (N, A).

    An object gets the points that cost least, as many as the overlaps of the best ten add up to, but one at least. A
    point that several objects want goes to the one that it costs least.
    """
    within, central = _places(points, truth.boxes)  # (N, G, A)
    may = (within | central) & truth.there[..., None]
    overlap = each_iou(truth.boxes, answers.boxes) * may
    # In double precision: beside what aside costs, a float forgets the second digit of the rest.
    cost = _class_cost(answers, truth) - _OVERLAP_COST * torch.log(overlap.double() + 1e-8)
    cost = cost + _ASIDE * ~(within & central)
    cost = cost.masked_fill(~may, float("inf"))
    wanted = _cheapest(cost, _counts(overlap)) & may
    match = cost.masked_fill(~wanted, float("inf")).argmin(1)  # (N, A)
    match = match.masked_fill(~wanted.any(1), NOBODY)
    return match, overlap.gather(1, match.clamp(min=0)[:, None]).squeeze(1)


def _places(points: AnchorPoints, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Say which points (A) lie within boxes (N, G, 4), and which near their centres: (N, G, A) each."""
    stride = points.stride[:, 0]
    x, y = points.origin[:, 0] + stride / 2, points.origin[:, 1] + stride / 2
    x1, y1, x2, y2 = (side[..., None] for side in boxes.unbind(2))
    within = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    near = _RADIUS * stride
    central = ((x - (x1 + x2) / 2).abs() < near) & ((y - (y1 + y2) / 2).abs() < near)
    return within, central


def _class_cost(answers: Answers, truth: Objects) -> Tensor:
    """Sum the binary cross-entropies of classes, each sqrt(class x objectness), for each pair of object and point.

    Only one class is wanted of a pair, so the sum for none of them is corrected for that one.
    """
    sure = (answers.classes.sigmoid() * answers.objectness.sigmoid()[..., None]).sqrt().clamp(1e-6, 1 - 1e-6)
    yes, no = -sure.log(), -torch.log1p(-sure)
    rows = truth.classes[..., None].expand(-1, -1, sure.shape[1])  # (N, G, A)
    return no.sum(2)[:, None] + (yes - no).transpose(1, 2).gather(1, rows)


def _counts(overlap: Tensor) -> Tensor:
    """Say how many points each object gets (N, G)."""
    most = min(_MOST, overlap.shape[2])
    return overlap.topk(most, 2).values.sum(2).int().clamp(min=1)


def _cheapest(cost: Tensor, counts: Tensor) -> Tensor:
    """Mark the *counts* (N, G) cheapest points of each object: (N, G, A)."""
    most = min(_MOST, cost.shape[2])
    rows = cost.topk(most, 2, largest=False).indices
    counted = torch.arange(most, device=cost.device) < counts[..., None]
    return torch.zeros_like(cost, dtype=torch.bool).scatter(2, rows, counted)


def _read(rows: Tensor, points: AnchorPoints) -> Answers:
    every = torch.arange(rows.shape[1], device=rows.device).expand(len(rows), -1)
    centre, size = points(rows, every)
    return Answers(torch.cat((centre - size / 2, centre + size / 2), 2), rows[..., 4], rows[..., 5:])


def _raw(boxes: Tensor, points: AnchorPoints, point: Tensor) -> Tensor:
    """Write boxes (K, 4) as the network should, at the anchor points (K,)."""
    centre, size = centred(boxes)
    stride = points.stride[point]
    return torch.cat(((centre - points.origin[point]) / stride, (size / stride).clamp(min=1e-4).log()), 1)


def _binary(logits: Tensor, wanted: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
