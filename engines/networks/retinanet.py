"""RetinaNet: every anchor of a pyramid is asked for every class, by the same few convolutions at all levels.

Lin et al. 2017, https://arxiv.org/abs/1708.02002. Keys and shapes are those of torchvision's checkpoint of 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from engines.networks import Family, Published
from engines.networks.resnet import WIDTH, Backbone
from engines.networks.ssd import BOX, in_rows

_ANCHORS = 9  # of a cell: three sizes in three shapes
_DEPTH = 4  # convolutions before the last
_FINEST = 3  # level


class RetinaNet(nn.Module):
    """Images (N, 3, H, W) to class logits (N, A, C), each a yes or no, and offsets (N, A, 4).

    One row an anchor, the finest of five levels first. Offsets are to its centre and to the logarithm of its size.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = Backbone(_FINEST, "p6p7")
        self.head = nn.ModuleDict({"classification_head": Classes(classes), "regression_head": Offsets()})

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.backbone(images)
        return self.head["classification_head"](maps), self.head["regression_head"](maps)


class Classes(nn.Module):
    """Maps (N, 256, h, w) to class logits (N, A, C)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self._columns = classes
        self.conv = _tower()
        self.cls_logits = nn.Conv2d(WIDTH, _ANCHORS * classes, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([in_rows(self.cls_logits(self.conv(x)), self._columns) for x in maps], 1)


class Offsets(nn.Module):
    """Maps (N, 256, h, w) to offsets (N, A, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _tower()
        self.bbox_reg = nn.Conv2d(WIDTH, _ANCHORS * BOX, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat([in_rows(self.bbox_reg(self.conv(x)), BOX) for x in maps], 1)


def _tower() -> nn.Sequential:
    steps = [(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU()) for _ in range(_DEPTH)]
    return nn.Sequential(*(layer for step in steps for layer in step))


def _reference(network: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    logits, offsets = network(inputs["image"])
    return {"cls_logits": logits, "bbox_regression": offsets}


RETINANET = Family(
    variants=("r50",),
    build=lambda _variant, classes: RetinaNet(classes),
    reference=_reference,
    published={"retinanet_resnet50_fpn": Published("r50", classes=91)},
    outputs=("cls_logits", "bbox_regression"),
)
