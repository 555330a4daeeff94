"""SSD's loss: default boxes near an object shall move onto it, and of all others only the hardest count.

Liu et al. 2016, "SSD: Single Shot MultiBox Detector", https://arxiv.org/abs/1512.02325, section 2.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from engines.train.losses.boxes import centred, each_iou
from engines.train.losses.yolox import NOBODY, Objects

_NEAR = 0.5  # overlap from which a default box is to find an object
_NEGATIVES = 3  # background boxes that count, for each one with an object
_BACKGROUND = 0  # its class


def multibox_loss(
    logits: Tensor, offsets: Tensor, defaults: Tensor, truth: Objects, weights: tuple[float, float]
) -> dict[str, Tensor]:
    """Rate class logits (N, A, C) and offsets (N, A, 4) to default boxes (A, 4) xyxy; class 0 is background.

    *weights* are those that offsets are in: of the centre, and of the size. Both parts are over the number of default
    boxes with an object.
    """
    match = assign(defaults, truth)
    image, row = torch.nonzero(match >= 0, as_tuple=True)
    which = match[image, row]
    count = max(len(which), 1)
    wanted = torch.full_like(match, _BACKGROUND)
    wanted[image, row] = truth.classes[image, which]
    entropy = F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), reduction="none").reshape(wanted.shape)
    counts = (match >= 0) | hardest(entropy.detach(), match >= 0)
    moves = encoded(truth.boxes[image, which], defaults[row], weights)
    return {
        "box": F.smooth_l1_loss(offsets[image, row].float(), moves, reduction="sum") / count,
        "classes": (entropy * counts).sum() / count,
    }


@torch.no_grad()
def assign(defaults: Tensor, truth: Objects) -> Tensor:
    """Say which object each default box (A, 4) is to find (N, A), or NOBODY.

    It is the one that it overlaps most, if by more than half; and each object has the default box that overlaps it
    most, whatever else that overlaps.
    """
    overlap = each_iou(truth.boxes, defaults).masked_fill(~truth.there[..., None], -1)  # (N, G, A)
    most, match = overlap.max(1)
    match = match.masked_fill(most <= _NEAR, NOBODY)
    best = overlap.argmax(2)  # (N, G)
    for each in range(truth.boxes.shape[1]):  # one by one: of two with the same box the later has it, on any device
        there = torch.nonzero(truth.there[:, each])[:, 0]
        match[there, best[there, each]] = each
    return match


def hardest(entropy: Tensor, positive: Tensor) -> Tensor:
    """Mark the background boxes (N, A) of each image with the greatest losses, three for each positive one."""
    ranked = entropy.masked_fill(positive, -float("inf")).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(ranked).scatter(
        1, ranked, torch.arange(ranked.shape[1], device=ranked.device).expand_as(ranked)
    )
    return (rank < _NEGATIVES * positive.sum(1, keepdim=True)) & ~positive


def encoded(boxes: Tensor, defaults: Tensor, weights: tuple[float, float]) -> Tensor:
    """Write boxes (K, 4) as offsets to default boxes (K, 4): see `engines.networks.heads`."""
    (centre, size), (origin, extent) = centred(boxes), centred(defaults)
    stretch = (size / extent).clamp(min=1e-4).log()
    return torch.cat(((centre - origin) / extent * weights[0], stretch * weights[1]), 1)
