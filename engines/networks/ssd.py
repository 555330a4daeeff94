"""SSD: classes and offsets to default boxes, read off six maps by one convolution each; and SSDlite, with cheaper ones.

Liu et al. 2016, https://arxiv.org/abs/1512.02325; Sandler et al. 2018, "MobileNetV2" (SSDlite),
https://arxiv.org/abs/1801.04381. Keys and shapes are those of torchvision's checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engines.anchors import default_boxes
from engines.networks import Family, Published
from engines.networks.blocks import ConvNorm
from engines.networks.mobilenet import MobileNetV3, depthwise
from engines.networks.vgg import Vgg16
from engines.networks.yolox import VARIANTS as YOLOX
from engines.networks.yolox import Pyramid

BOX = 4  # columns
_LOOK = 64  # channels that ours reads boxes and classes off


@dataclass(frozen=True, slots=True)
class Variant:
    """What sees, what reads it off, and which boxes are meant: see `default_boxes`."""

    backbone: Callable[[], Vgg16 | MobileNetV3 | SixMaps]
    predictor: Callable[[int, int], nn.Module]
    scales: tuple[float, ...]
    ratios: tuple[tuple[float, ...], ...]
    steps: tuple[float, ...] | None = None

    @property
    def boxes(self) -> list[int]:
        """Default boxes of a cell, for each map."""
        return [2 + 2 * len(ratios) for ratios in self.ratios]


class SixMaps(Pyramid):
    """Images (N, 3, H, W), sides divisible by 32, to maps at strides 8 to 256: YOLOX's three, then coarser ones.

    Its keys are those of a YOLOX, so that it can begin with what one has learnt.
    """

    def __init__(self) -> None:
        small = YOLOX["pico"]
        super().__init__(small)
        _, _, *found = small.channels
        self.channels = (*found, found[-1], found[-1], found[-1])
        self.extra = nn.ModuleList(ConvNorm(found[-1], found[-1], 3, 2) for _ in range(3))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = super().forward(images)
        for coarser in self.extra:
            maps = (*maps, coarser(maps[-1]))
        return maps


def _one_conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _conv_and_look(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(ConvNorm(inputs, _LOOK, 3), nn.Conv2d(_LOOK, outputs, 3, padding=1))


def _two_convs(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(depthwise(inputs, 3, 1, nn.ReLU6), nn.Conv2d(inputs, outputs, 1))


VARIANTS = {
    "vgg16": Variant(
        Vgg16,
        _one_conv,
        scales=(0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
        ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        steps=(8, 16, 32, 64, 100, 300),
    ),
    "lite-mobilenetv3": Variant(
        MobileNetV3,
        _two_convs,
        scales=(0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0),
        ratios=((2, 3),) * 6,
    ),
    "pico": Variant(  # ours: for the synthetic world
        SixMaps,
        _conv_and_look,
        scales=(0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9),
        ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
    ),
}


class Ssd(nn.Module):
    """Images (N, 3, H, W) to class logits (N, A, C), of which 0 is background, and offsets (N, A, 4).

    One row a default box. Offsets are to its centre and to the logarithm of its size, in tenths and fifths of it.
    """

    def __init__(self, variant: Variant, classes: int) -> None:
        super().__init__()
        self.variant = variant
        self.backbone = variant.backbone()
        self.head = Head(variant, self.backbone.channels, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = self.head(self.backbone(images))
        return out


class Head(nn.Module):
    """Read classes and offsets off the same maps."""

    def __init__(self, variant: Variant, channels: Sequence[int], classes: int) -> None:
        super().__init__()
        self.classification_head = Reader(variant, channels, classes)
        self.regression_head = Reader(variant, channels, BOX)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        return self.classification_head(maps), self.regression_head(maps)


class Reader(nn.Module):
    """Maps to rows (N, A, columns), one a default box."""

    def __init__(self, variant: Variant, channels: Sequence[int], columns: int) -> None:
        super().__init__()
        self._columns = columns
        self.module_list = nn.ModuleList(
            variant.predictor(width, boxes * columns) for width, boxes in zip(channels, variant.boxes, strict=True)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        pairs = zip(self.module_list, maps, strict=True)
        return torch.cat([in_rows(read(features), self._columns) for read, features in pairs], 1)


def in_rows(found: Tensor, columns: int) -> Tensor:
    """Turn a map (N, boxes * columns, H, W) into rows (N, H * W * boxes, columns)."""
    _, width, rows, cells = found.shape
    return found.permute(0, 2, 3, 1).reshape(-1, rows * cells * width // columns, columns)


def _reference(network: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give what the public implementation gives, default boxes as xyxy in pixels of the input."""
    assert isinstance(network, Ssd)  # noqa: S101 - by the table
    image, told = inputs["image"], network.variant
    maps = network.backbone(image)
    logits, offsets = network.head(maps)
    boxes = default_boxes(_size(image), [_size(each) for each in maps], told.scales, told.ratios, told.steps)
    return {"cls_logits": logits, "bbox_regression": offsets, "anchors": torch.from_numpy(boxes)}


def _size(image: Tensor) -> tuple[int, int]:
    return image.shape[2], image.shape[3]


SSD = Family(
    variants=tuple(VARIANTS),
    build=lambda variant, classes: Ssd(VARIANTS[variant], classes),
    reference=_reference,
    published={
        "ssd300_vgg16": Published("vgg16", classes=91),
        "ssdlite320_mobilenet_v3_large": Published("lite-mobilenetv3", classes=91),
    },
    outputs=("cls_logits", "bbox_regression"),
)
