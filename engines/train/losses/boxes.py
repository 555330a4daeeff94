"""Overlaps of boxes in torch, with gradients. Boxes are xyxy; one without an area overlaps nothing."""

from __future__ import annotations

import torch
from torch import Tensor


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlap boxes (…, 4) with their partners (…, 4), broadcast: intersection over union (…)."""
    # A side at a time: vectors of two numbers keep a processor from computing many at once.
    ax1, ay1, ax2, ay2 = a.unbind(-1)
    bx1, by1, bx2, by2 = b.unbind(-1)
    width = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).clamp(min=0)
    height = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).clamp(min=0)
    shared = width * height
    union = area(a) + area(b) - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)


def each_iou(a: Tensor, b: Tensor) -> Tensor:
    """Overlap every box of *a* (…, N, 4) with every box of *b* (…, M, 4): (…, N, M)."""
    return paired_iou(a[..., :, None, :], b[..., None, :, :])


def area(boxes: Tensor) -> Tensor:
    """Multiply the sides of boxes (…, 4): (…)."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def centred(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Write boxes (…, 4) as centres and sizes (…, 2)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
