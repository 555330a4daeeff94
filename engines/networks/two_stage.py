"""A two-stage detector from images to objects, in fixed shapes: what is exported and served.

Everything has its highest number: proposals, pairs of a proposal and a class, objects. What is missing has a score of
zero. Convolutions and products may compute in halves; all that is `Exact` is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from engines.build.base import Operators
from engines.geometry import Size
from engines.manifest import Manifest
from engines.networks import Family, Published
from engines.networks.exact import Exact
from engines.networks.native import NativeAlign, PaintFound
from engines.networks.proposals import NEVER, Propose, Weights, clipped, moved, sizeable, take
from engines.networks.rcnn import BOX_BINS, MASK_BINS, VARIANTS, MaskedRoiHeads, Rcnn, RoiHeads
from engines.networks.roi import RoiAlign, pack
from engines.networks.suppression import Suppress
from engines.outputs import RcnnDecoder

WEIGHTS: Weights = (10.0, 5.0)  # of the second stage's deltas
_PAIRS = 1000  # of a proposal and a class: the best of an image
_LEAST_SIDE = 1e-2  # pixels


class TwoStage(nn.Module):
    """Images (N, 3, H, W) to `boxes` (N, K, 4) xyxy in their pixels, `scores` (N, K) best first, `classes` (N, K).

    Mask R-CNN gives `masks` (N, K, 28, 28) besides: probabilities within each box.
    """

    def __init__(self, network: nn.Module, manifest: Manifest, operators: Operators = "portable") -> None:
        super().__init__()
        decoder, size = manifest.decoder, manifest.preprocess.size
        assert isinstance(network, Rcnn)  # noqa: S101 - by the table
        assert isinstance(decoder, RcnnDecoder)  # noqa: S101 - by the table
        self.network = network
        self.propose = Propose(size, decoder.proposals, network.variant.search)
        self.align = _ALIGN[operators](size, BOX_BINS)
        self.choose = Choose(size, decoder)
        self.trust = Trust()
        self.paint = _PAINT[operators](size)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        levels, heads = self.network(images), self.network.roi_heads
        sought = self.network.rpn.head(levels)
        regions, worth = self.propose(sought)
        atlas = pack(levels[:-1])
        boxes, scores, classes = self.choose(*heads.boxes(self.align(atlas, regions)), regions, worth)
        scores = self.trust(scores, [objectness for objectness, _ in sought])
        found = boxes, scores, classes
        if not isinstance(heads, MaskedRoiHeads):
            return boxes, scores, classes.int()
        return boxes, scores, classes.int(), self.paint(heads, atlas, found)


class Choose(Exact):
    """Make objects of the classes and deltas of regions, class by class without those that overlap a better one."""

    def __init__(self, size: Size, decoder: RcnnDecoder) -> None:
        super().__init__()
        self.size, self.least, self.objects = size, decoder.score, decoder.detections
        self.suppress = Suppress(decoder.iou)

    def forward(self, logits: Tensor, deltas: Tensor, regions: Tensor, worth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N * P, C), deltas (N * P, 4 C), regions (N, P, 4) and their scores (N, P) to (N, K, 4), twice (N, K).

        Class 0 is the background. Where a logit of an image is no number, or a box that is picked, all scores are -1.
        """
        count, classes = regions.shape[1], logits.shape[1]
        logits = logits.float().reshape(-1, count, classes)
        scores, row, label = self._pairs(logits, worth)
        near = take(deltas.float().reshape(-1, count * classes, 4), row * classes + label)
        boxes = clipped(moved(take(regions, row), near, WEIGHTS), self.size)
        stays = self.suppress(boxes, (scores > 0) & sizeable(boxes, _LEAST_SIDE), label)
        best, rows = torch.where(stays, scores, 0.0).topk(min(self.objects, scores.shape[1]), 1)
        best = distrusted(best, wild(logits), wild(near) & (scores > 0).unsqueeze(2))
        return torch.where(best.unsqueeze(2) > 0, take(boxes, rows), 0.0), best, label.gather(1, rows)

    def _pairs(self, logits: Tensor, worth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the best pairs of a region and a class: their scores, regions and classes (N, pairs each)."""
        scores = logits.softmax(2)[..., 1:]
        scores = torch.where((scores > self.least) & (worth > NEVER).unsqueeze(2), scores, 0.0)
        kinds = scores.shape[2]
        best, pair = scores.flatten(1).topk(min(_PAIRS, scores.shape[1] * kinds), 1)
        row = pair // kinds
        return best, row, pair - row * kinds + 1


class Trust(Exact):
    """Take the scores from images of which the first stage has no numbers to say."""

    def forward(self, scores: Tensor, objectness: Sequence[Tensor]) -> Tensor:
        """Lower the scores (N, K) to -1 where the objectness (N, A, h, w) of a level is none."""
        return distrusted(scores, *map(wild, objectness))


def distrusted(scores: Tensor, *lost: Tensor) -> Tensor:
    """Lower the scores (N, K) to -1 in images where any of *lost* (N, ...) is true.

    No threshold lets NaN pass, so that a network that overflows would seem to see nothing.
    """
    for each in lost:
        scores = torch.where(each.flatten(1).float().amax(1, keepdim=True) > 0, -1.0, scores)
    return scores


def wild(values: Tensor) -> Tensor:
    """Tell which are NaN or infinite."""
    return values.isnan() | (values.float().abs() > -NEVER)


class Paint(nn.Module):
    """Paint objects, real or not: probabilities (N, K, 28, 28)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.align = RoiAlign(size, MASK_BINS)

    def forward(self, heads: MaskedRoiHeads, atlas: Tensor, found: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        boxes, _, classes = found
        masks = heads.masks(self.align(atlas, boxes), classes.flatten()).sigmoid()
        return masks.reshape(*classes.shape, *masks.shape[1:])


_ALIGN: dict[Operators, Callable[[Size, int], nn.Module]] = {"portable": RoiAlign, "native": NativeAlign}
_PAINT: dict[Operators, Callable[[Size], nn.Module]] = {"portable": Paint, "native": PaintFound}


def _reference(network: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give what the public implementation gives; its heads look at five regions that are always the same."""
    assert isinstance(network, Rcnn)  # noqa: S101 - by the table
    image = inputs["image"]
    size = (image.shape[2], image.shape[3])
    levels = network(image)
    out = {f"fpn_{'pool' if i == 4 else i}": level for i, level in enumerate(levels)}
    for i, (objectness, deltas) in enumerate(network.rpn.head(levels)):
        out |= {f"rpn_objectness_{i}": objectness, f"rpn_deltas_{i}": deltas}
    regions = _regions(size).expand(len(image), -1, -1)
    atlas = pack(levels[:-1])
    out["box_roi_features"] = RoiAlign(size, BOX_BINS)(atlas, regions)
    out["class_logits"], out["box_deltas"] = network.roi_heads.boxes(out["box_roi_features"])
    if isinstance(network.roi_heads, MaskedRoiHeads):
        out["mask_roi_features"] = RoiAlign(size, MASK_BINS)(atlas, regions)
        out["mask_logits"] = network.roi_heads.masks(out["mask_roi_features"])
    return out


def _regions(size: tuple[int, int]) -> Tensor:
    """List the regions (1, 5, 4) that the reference looks at."""
    whole = (0.0, 0.0, size[1] - 1.0, size[0] - 1.0)
    fixed = [(8.0, 12.0, 120.0, 150.0), (40.0, 30.0, 90.0, 60.0), (100.0, 20.0, 250.0, 180.0), whole]
    return torch.tensor([[*fixed, (33.3, 44.4, 77.7, 99.9)]])


FASTER_RCNN = Family(
    variants=tuple(VARIANTS),
    build=lambda variant, classes: Rcnn(VARIANTS[variant], RoiHeads, classes),
    reference=_reference,
    published={"fasterrcnn_resnet50_fpn": Published("r50", classes=91)},
    outputs=("boxes", "scores", "classes"),
    served=TwoStage,
)

MASK_RCNN = Family(
    variants=tuple(VARIANTS),
    build=lambda variant, classes: Rcnn(VARIANTS[variant], MaskedRoiHeads, classes),
    reference=_reference,
    published={"maskrcnn_resnet50_fpn": Published("r50", classes=91)},
    outputs=("boxes", "scores", "classes", "masks"),
    served=TwoStage,
)
