"""Faster and Mask R-CNN on a ResNet's pyramid, as torchvision has them; attributes are the keys of its checkpoints.

Ren et al. 2015, https://arxiv.org/abs/1506.01497; He et al. 2017, https://arxiv.org/abs/1703.06870. Here are the
weights; `engines.networks.two_stage` puts what is chosen, suppressed and sampled between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from engines.networks.proposals import Search
from engines.networks.resnet import PICO, RESNET50, Backbone, Body

ANCHORS = 3  # of each cell
BOX_BINS, MASK_BINS = 7, 14  # of an RoI, along each side
_BOX = 4


@dataclass(frozen=True, slots=True)
class Variant:
    """What sees, how much each region is made of, and where regions are looked for."""

    body: Body
    hidden: int  # numbers that a region becomes
    painted: int  # channels of what masks are made of
    search: Search


VARIANTS = {
    "r50": Variant(RESNET50, 1024, 256, Search()),
    # No region is narrower than a cell, so native RoIAlign gives the same as ours: see `engines.networks.native`.
    "pico": Variant(PICO, 256, 32, Search((10, 20, 40, 80, 160), best=256, least=4.0)),
}


class RpnHead(nn.Module):
    """Tell of every anchor whether it holds an object, and where in truth that lies: (N, 3, h, w) and (N, 12, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.cls_logits = nn.Conv2d(width, ANCHORS, 1)
        self.bbox_pred = nn.Conv2d(width, ANCHORS * _BOX, 1)

    def forward(self, levels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        near = [F.relu(self.conv(level)) for level in levels]
        return [(self.cls_logits(each), self.bbox_pred(each)) for each in near]


class BoxHead(nn.Module):
    """Features (R, C, 7, 7) to a vector each."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.fc6 = nn.Linear(variant.body.pyramid * BOX_BINS**2, variant.hidden)
        self.fc7 = nn.Linear(variant.hidden, variant.hidden)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.fc7(F.relu(self.fc6(features.flatten(1)))))


class BoxPredictor(nn.Module):
    """Vectors (R, hidden) to class logits (R, C) and, for each class, deltas (R, 4 C)."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(hidden, classes)
        self.bbox_pred = nn.Linear(hidden, classes * _BOX)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(vectors), self.bbox_pred(vectors)


class MaskHead(nn.Module):
    """Features (R, C, 14, 14) to others that know their surroundings: (R, painted, 14, 14)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        width = variant.painted
        self.mask_fcn1 = nn.Conv2d(variant.body.pyramid, width, 3, padding=1)
        self.mask_fcn2 = nn.Conv2d(width, width, 3, padding=1)
        self.mask_fcn3 = nn.Conv2d(width, width, 3, padding=1)
        self.mask_fcn4 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        near = F.relu(self.mask_fcn2(F.relu(self.mask_fcn1(features))))
        return F.relu(self.mask_fcn4(F.relu(self.mask_fcn3(near))))


class MaskPredictor(nn.Module):
    """Features (R, width, 14, 14) to mask logits (R, C, 28, 28); or (R, 28, 28), of one class each."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv5_mask = nn.ConvTranspose2d(width, width, 2, 2)
        self.mask_fcn_logits = nn.Conv2d(width, classes, 1)

    def forward(self, features: Tensor, classes: Tensor | None = None) -> Tensor:
        fine = F.relu(self._twice_as_fine(features))
        if classes is None:
            every: Tensor = self.mask_fcn_logits(fine)
            return every
        # A hundredth of the arithmetic and of the memory: what a class is made of is taken first.
        weight = self.mask_fcn_logits.weight.flatten(1)[classes]
        logits = weight.unsqueeze(1) @ fine.flatten(2)
        assert self.mask_fcn_logits.bias is not None  # noqa: S101 - for the type checker
        bias = self.mask_fcn_logits.bias[classes].reshape(-1, 1, 1)
        return (logits + bias).reshape(-1, *fine.shape[2:])

    def _twice_as_fine(self, features: Tensor) -> Tensor:
        """Transpose the convolution: at a stride of its size, four pixels of each, and nothing is added up.

        Said so, for TensorRT-RTX has no transposed one in bfloat16.
        """
        weight = self.conv5_mask.weight.flatten(1).t()[..., None, None]
        assert self.conv5_mask.bias is not None  # noqa: S101 - for the type checker
        return F.pixel_shuffle(F.conv2d(features, weight, self.conv5_mask.bias.repeat_interleave(4)), 2)


class Rpn(nn.Module):
    """The region proposal network's weights."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = RpnHead(width)


class RoiHeads(nn.Module):
    """What looks at each region."""

    def __init__(self, variant: Variant, classes: int) -> None:
        super().__init__()
        self.box_head = BoxHead(variant)
        self.box_predictor = BoxPredictor(variant.hidden, classes)

    def boxes(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Classify regions by their features (R, width, 7, 7): logits (R, C) and deltas (R, 4 C)."""
        logits, deltas = self.box_predictor(self.box_head(features))
        return logits, deltas


class MaskedRoiHeads(RoiHeads):
    """What looks at each region, and paints it."""

    def __init__(self, variant: Variant, classes: int) -> None:
        super().__init__(variant, classes)
        self.mask_head = MaskHead(variant)
        self.mask_predictor = MaskPredictor(variant.painted, classes)

    def masks(self, features: Tensor, classes: Tensor | None = None) -> Tensor:
        """Paint regions by their features (R, width, 14, 14): logits (R, C, 28, 28), or of one class each."""
        logits: Tensor = self.mask_predictor(self.mask_head(features), classes)
        return logits


class Rcnn(nn.Module):
    """The weights of a two-stage detector: of Mask R-CNN where its *heads* paint, else of Faster R-CNN."""

    def __init__(self, variant: Variant, heads: Callable[[Variant, int], RoiHeads], classes: int) -> None:
        super().__init__()
        self.variant = variant
        self.backbone = Backbone(variant.body, 2, "pool")
        self.rpn = Rpn(variant.body.pyramid)
        self.roi_heads = heads(variant, classes)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Give the pyramid of images (N, 3, H, W), strides 4 to 64: all that needs no proposals."""
        levels: list[Tensor] = self.backbone(images)
        return levels
