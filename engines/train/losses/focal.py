"""RetinaNet's losses: a cross-entropy that hardly counts what is easy, and how far boxes are off.

Lin et al. 2017, https://arxiv.org/abs/1708.02002.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from engines.train.losses.matching import deltas, match_all, of_rows, overlaps
from engines.train.losses.yolox import Objects

_ALPHA, _GAMMA = 0.25, 2.0
_OBJECT, _BACKGROUND = 0.5, 0.4  # overlap from which on an anchor is positive, and below which it is negative


def focal(logits: Tensor, truth: Tensor, alpha: float = _ALPHA, gamma: float = _GAMMA) -> Tensor:
    """Compare logits with truths, 0 or 1 each: -alpha (1 - p)^gamma log(p), p what is given to the truth."""
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    wrong = (logits.sigmoid() - truth).abs()
    weight = alpha * truth + (1 - alpha) * (1 - truth)
    return weight * wrong**gamma * entropy


def retinanet_losses(logits: Tensor, offsets: Tensor, anchors: Tensor, truth: Objects) -> dict[str, Tensor]:
    """Compare class logits (N, A, C) and offsets (N, A, 4) with what *anchors* (A, 4) stand for.

    Both are added up and divided by the positive anchors, image by image; then the mean of the images is taken.
    Distances are absolute, as torchvision trained the public weights; the paper's are rounded off near zero.
    """
    matched = match_all(overlaps(truth, anchors), _OBJECT, _BACKGROUND)
    count = matched.positive.sum(1).clamp(min=1)
    classes = F.one_hot(of_rows(truth.classes, matched.row), logits.shape[2]) * matched.positive.unsqueeze(2)
    taught = (matched.positive | matched.negative).unsqueeze(2)
    wrong = torch.where(taught, focal(logits.float(), classes.float()), 0.0).sum((1, 2))
    wanted = deltas(anchors, of_rows(truth.boxes, matched.row), (1.0, 1.0))
    far = torch.where(matched.positive, (offsets.float() - wanted).abs().sum(2), 0.0).sum(1)
    return {"class": (wrong / count).mean(), "box": (far / count).mean()}
