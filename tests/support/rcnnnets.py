"""R-CNNs with random weights whose numbers stay small, manifests for them, and what they should give, step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from engines.manifest import Manifest
from engines.networks import build_network
from engines.networks.rcnn import MaskedRoiHeads, Rcnn
from engines.outputs import RcnnDecoder

Kind = Literal["mask-rcnn", "faster-rcnn"]


def network(kind: Kind = "mask-rcnn", variant: str = "r50", classes: int = 7, seed: int = 0) -> Rcnn:
    """Build a network that finds things in noise, of every class and with every score."""
    made = build_network(kind, variant, classes)
    assert isinstance(made, Rcnn)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in made.state_dict().items():
        tensor.copy_(_random(name, tensor, generator))
    _temper(made.eval(), generator)
    return made


def images(rows: int, size: tuple[int, int] = (128, 160), seed: int = 0) -> Tensor:
    """Make images of coarse and fine noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((rows, 3, size[0] // 8, size[1] // 8), generator=generator) * 4 - 2
    return F.interpolate(coarse, scale_factor=8) + 0.3 * torch.randn((rows, 3, *size), generator=generator)


@torch.no_grad()
def _temper(made: Rcnn, generator: torch.Generator) -> None:
    """Shift and scale the last layers: scores of all classes lie between 0 and 1, and boxes near their anchors."""
    levels = made(images(1))
    head = made.rpn.head
    _scale(head.cls_logits, torch.cat([found[0].flatten() for found in head(levels)])[:, None], 1.0)
    _scale(head.bbox_pred, torch.cat([found[1].flatten() for found in head(levels)])[:, None], 0.2)
    corners = torch.rand((40, 2, 2), generator=generator) * torch.tensor([160.0, 128.0])
    regions = torch.cat((corners.amin(1), corners.amax(1)), 1)
    features = roi_align(levels[:4], regions, 7)
    logits, deltas = made.roi_heads.boxes(features)
    predictor = made.roi_heads.box_predictor
    _scale(predictor.cls_score, logits, 2.0)
    _scale(predictor.bbox_pred, deltas, 1.0)
    if isinstance(made.roi_heads, MaskedRoiHeads):
        masks = made.roi_heads.masks(roi_align(levels[:4], regions, 14)).transpose(1, 3).flatten(0, 2)
        _scale(made.roi_heads.mask_predictor.mask_fcn_logits, masks, 2.0)


def _scale(layer: torch.nn.Conv2d | torch.nn.Linear, seen: Tensor, spread: float) -> None:
    """Let what has been *seen* (rows, outputs) of a layer have a mean of zero and this standard deviation."""
    assert layer.bias is not None
    factor = spread / seen.std()
    layer.weight.mul_(factor)
    layer.bias.copy_((layer.bias - seen.mean(0)) * factor)


def _random(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var" or (leaf == "weight" and tensor.ndim == 1):
        return torch.empty(tensor.shape).uniform_(0.6, 1.2, generator=generator)
    noise = torch.randn(tensor.shape, generator=generator)
    return 0.05 * noise if tensor.ndim < 2 else noise * math.sqrt(1.6 / math.prod(tensor.shape[1:]))


def manifest(kind: Kind = "mask-rcnn", variant: str = "r50", classes: int = 7, **decoder: float) -> Manifest:
    """Make the manifest of such a network."""
    return Manifest.model_validate(
        {
            "name": f"{kind}-{variant}",
            "task": "segment" if kind == "mask-rcnn" else "detect",
            "architecture": kind,
            "variant": variant,
            "labels": [f"class {i}" for i in range(classes)],
            "preprocess": {"size": (128, 160), "pad": (124, 116, 104), "mean": (124, 116, 104), "std": (58, 57, 57)},
            "decoder": {"kind": "rcnn", "proposals": 60, "detections": 20, **decoder},
            "weights": {"checkpoint": {"file": "w.pth"}},
        }
    )


def checkpoint(path: Path, made: Rcnn) -> Path:
    torch.save(made.state_dict(), path)
    return path


@dataclass(frozen=True)
class Found:
    """What one image holds."""

    boxes: Tensor  # (K, 4)
    scores: Tensor  # (K,)
    classes: Tensor  # (K,)
    masks: Tensor | None = None  # (K, 28, 28)


def reference(made: Rcnn, image: Tensor, told: Manifest) -> Found:
    """Find objects in one image (1, 3, H, W) as the papers say it: loops, and tensors of any length."""
    decoder, size = told.decoder, told.preprocess.size
    assert isinstance(decoder, RcnnDecoder)
    levels = made(image)
    regions = _regions(made, levels, size, decoder.proposals)
    features = roi_align(levels[:4], regions, 7)
    logits, deltas = made.roi_heads.boxes(features)
    scores, deltas = logits.softmax(1), deltas.reshape(len(deltas), -1, 4)
    found: list[tuple[float, int, Tensor]] = []
    for label in range(1, len(told.labels)):
        boxes = _clip(_decode(regions, deltas[:, label], (10, 10, 5, 5)), size)
        keep = (scores[:, label] > decoder.score) & ((boxes[:, 2:] - boxes[:, :2]) >= 1e-2).all(1)
        boxes, confidence = boxes[keep], scores[keep, label]
        found += [(float(confidence[i]), label, boxes[i]) for i in greedy(boxes, confidence, decoder.iou)]
    found = sorted(found, key=lambda each: -each[0])[: decoder.detections]
    boxes = torch.stack([box for _, _, box in found]) if found else torch.zeros(0, 4)
    classes = torch.tensor([label for _, label, _ in found], dtype=torch.long)
    masks = None
    if isinstance(made.roi_heads, MaskedRoiHeads):
        every = made.roi_heads.masks(roi_align(levels[:4], boxes, 14)).sigmoid()
        masks = every[torch.arange(len(found)), classes]
    return Found(boxes, torch.tensor([score for score, _, _ in found]), classes, masks)


def _regions(made: Rcnn, levels: Sequence[Tensor], size: tuple[int, int], count: int) -> Tensor:
    search = made.variant.search
    boxes, scores = [], []
    for level, (objectness, deltas) in enumerate(made.rpn.head(levels)):
        height, width = objectness.shape[2:]
        corners = [
            torch.tensor([x, y, x, y]) * 1.0 + _anchor(search.sides[level], ratio)
            for y in range(0, height * (size[0] // height), size[0] // height)
            for x in range(0, width * (size[1] // width), size[1] // width)
            for ratio in (0.5, 1.0, 2.0)
        ]
        logits = objectness[0].permute(1, 2, 0).flatten()
        moves = deltas[0].permute(1, 2, 0).reshape(-1, 4)
        best = logits.argsort(descending=True, stable=True)[: search.best]
        found = _clip(_decode(torch.stack(corners)[best], moves[best], (1, 1, 1, 1)), size)
        large = ((found[:, 2:] - found[:, :2]) >= search.least).all(1)
        found, logits = found[large], logits[best][large]
        kept = greedy(found, logits, 0.7)
        boxes.append(found[kept])
        scores.append(logits[kept])
    order = torch.cat(scores).argsort(descending=True, stable=True)[:count]
    return torch.cat(boxes)[order]


def _anchor(side: float, ratio: float) -> Tensor:
    width, height = side / math.sqrt(ratio), side * math.sqrt(ratio)
    return (torch.tensor([-width, -height, width, height]) / 2).round()


def _decode(boxes: Tensor, deltas: Tensor, weights: tuple[float, ...]) -> Tensor:
    sides = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, :2] + sides / 2 + deltas[:, :2] / torch.tensor(weights[:2]) * sides
    half = (deltas[:, 2:] / torch.tensor(weights[2:])).clamp(max=math.log(1000 / 16)).exp() * sides / 2
    return torch.cat((centre - half, centre + half), 1)


def _clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    limit = torch.tensor([size[1], size[0], size[1], size[0]]) * 1.0
    return boxes.clamp(min=0).minimum(limit)


def greedy(boxes: Tensor, scores: Tensor, iou: float) -> list[int]:
    """Keep boxes one after the other, best first, unless one that was kept overlaps them."""
    kept: list[int] = []
    left = scores.argsort(descending=True, stable=True)
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = left[_iou(boxes[best], boxes[left]) <= iou]
    return kept


def _iou(one: Tensor, others: Tensor) -> Tensor:
    sides = (torch.minimum(one[2:], others[:, 2:]) - torch.maximum(one[:2], others[:, :2])).clamp(min=0)
    shared = sides.prod(1)
    return (shared / ((one[2:] - one[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared)).nan_to_num(0)


def roi_align(levels: Sequence[Tensor], regions: Tensor, bins: int) -> Tensor:
    """Pool regions (R, 4) from levels (1, C, h, w) at strides 4 to 32, sample by sample: (R, C, bins, bins)."""
    pooled = [torch.zeros(0, levels[0].shape[1], bins, bins)]
    for box in regions:
        side = math.sqrt(float((box[2] - box[0]) * (box[3] - box[1])))
        level = min(max(math.floor(4 + math.log2(side / 224 + 1e-30) + 1e-6), 2), 5) - 2
        x1, y1, x2, y2 = (box / (4 << level)).tolist()
        xs = _samples(x1, max(x2 - x1, 1.0), 2 * bins)
        ys = _samples(y1, max(y2 - y1, 1.0), 2 * bins)
        pooled.append(F.avg_pool2d(_bilinear(levels[level][0], xs, ys), 2).unsqueeze(0))
    return torch.cat(pooled)


def _samples(first: float, length: float, count: int) -> Tensor:
    return first + length * (torch.arange(count) + 0.5) / count


def _bilinear(level: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    (near, far), (left, right) = (_between(at, size) for at, size in ((ys, level.shape[1]), (xs, level.shape[2])))
    rows = level[:, near] * (1 - _share(ys, near))[:, None] + level[:, far] * _share(ys, near)[:, None]
    out = rows[:, :, left] * (1 - _share(xs, left)) + rows[:, :, right] * _share(xs, left)
    return out * (ys <= level.shape[1])[:, None] * (xs <= level.shape[2])


def _between(at: Tensor, size: int) -> tuple[Tensor, Tensor]:
    low = at.floor().long().clamp(max=size - 1)
    return low, (low + 1).clamp(max=size - 1)


def _share(at: Tensor, low: Tensor) -> Tensor:
    return (at - low).clamp(0, 1)


def frames(rows: int, size: tuple[int, int] = (128, 160), seed: int = 0) -> Tensor:
    """Make bytes (N, H, W, 3) that are such images when the manifest's mean and deviation are taken away."""
    return (images(rows, size, seed) * 57 + 116).clamp(0, 255).permute(0, 2, 3, 1).byte().contiguous()
