"""RetinaNet: every anchor of a pyramid is asked for every class, by the same few convolutions at all levels.

Lin et al. 2017, https://arxiv.org/abs/1708.02002. Keys and shapes are those of torchvision's checkpoint of 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from engines.networks import Family, Published
from engines.networks.resnet import PICO, RESNET50, Backbone, Body
from engines.networks.ssd import BOX, in_rows

_ANCHORS = 9  # of a cell: three sizes in three shapes
_DEPTH = 4  # convolutions before the last
_FINEST = 3  # level


class RetinaNet(nn.Module):
    """Images (N, 3, H, W) to class logits (N, A, C), each a yes or no, and offsets (N, A, 4).

    One row an anchor, the finest of five levels first. Offsets are to its centre and to the logarithm of its size.
    """

    def __init__(self, body: Body, classes: int) -> None:
        super().__init__()
        self.backbone = Backbone(body, _FINEST, "p6p7")
        heads = {"classification_head": Classes(body.pyramid, classes), "regression_head": Offsets(body.pyramid)}
        self.head = nn.ModuleDict(heads)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.backbone(images)
        return self.head["classification_head"](maps), self.head["regression_head"](maps)


class Classes(nn.Module):
    """Maps (N, width, h, w) to class logits (N, A, C)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self._columns = classes
        self.conv = _tower(width)
        self.cls_logits = nn.Conv2d(width, _ANCHORS * classes, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([in_rows(self.cls_logits(self.conv(x)), self._columns) for x in maps], 1)


class Offsets(nn.Module):
    """Maps (N, width, h, w) to offsets (N, A, 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = _tower(width)
        self.bbox_reg = nn.Conv2d(width, _ANCHORS * BOX, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([in_rows(self.bbox_reg(self.conv(x)), BOX) for x in maps], 1)


def _tower(width: int) -> nn.Sequential:
    steps = [(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()) for _ in range(_DEPTH)]
    return nn.Sequential(*(layer for step in steps for layer in step))


def _reference(network: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    logits, offsets = network(inputs["image"])
    return {"cls_logits": logits, "bbox_regression": offsets}


VARIANTS = {"r50": RESNET50, "pico": PICO}

RETINANET = Family(
    variants=tuple(VARIANTS),
    build=lambda variant, classes: RetinaNet(VARIANTS[variant], classes),
    reference=_reference,
    published={"retinanet_resnet50_fpn": Published("r50", classes=91)},
    outputs=("cls_logits", "bbox_regression"),
)
