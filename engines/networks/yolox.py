"""YOLOX: a cross-stage Darknet, a feature pyramid with paths both ways, and heads that part classes from boxes.

Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021", https://arxiv.org/abs/2107.08430. Keys and shapes are those of
the public checkpoints of release 0.1.1rc0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engines.networks import Family, Published
from engines.networks.blocks import (
    Bottleneck,
    ConvNorm,
    CrossStage,
    Focus,
    PyramidPooling,
    Residual,
    Separable,
    Spatial,
)

STRIDES = (8, 16, 32)


@dataclass(frozen=True, slots=True)
class Variant:
    """How deep and how wide a network is, relative to l; and how it looks around."""

    depth: float
    width: float
    spatial: Spatial = ConvNorm

    @property
    def blocks(self) -> int:
        """Bottlenecks of a short chain."""
        return max(round(3 * self.depth), 1)

    @property
    def channels(self) -> tuple[int, int, int, int, int]:
        """Channels of the stem and of each stage."""
        stem, *stages = (int(64 * 2**stage * self.width) for stage in range(5))
        two, three, four, five = stages
        return stem, two, three, four, five


VARIANTS = {
    "pico": Variant(0.33, 0.125),  # ours: for the synthetic world
    "nano": Variant(0.33, 0.25, Separable),
    "tiny": Variant(0.33, 0.375),
    "s": Variant(0.33, 0.50),
    "m": Variant(0.67, 0.75),
    "l": Variant(1.00, 1.00),
    "x": Variant(1.33, 1.25),
}


class Darknet(nn.Module):
    """Give feature maps at strides 8, 16 and 32."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        stem, two, three, four, five = variant.channels
        self.stem = Focus(3, stem, 3)
        self.dark2 = nn.Sequential(*_stage(variant, stem, two, variant.blocks))
        self.dark3 = nn.Sequential(*_stage(variant, two, three, 3 * variant.blocks))
        self.dark4 = nn.Sequential(*_stage(variant, three, four, 3 * variant.blocks))
        self.dark5 = nn.Sequential(
            variant.spatial(four, five, 3, 2), PyramidPooling(five, five), _chain(variant, five, five)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        three = self.dark3(self.dark2(self.stem(images)))
        four = self.dark4(three)
        return three, four, self.dark5(four)


def _stage(variant: Variant, inputs: int, outputs: int, depth: int) -> tuple[nn.Module, nn.Module]:
    """Halve the size, then think about it."""
    halving = variant.spatial(inputs, outputs, 3, 2)
    return halving, CrossStage(outputs, outputs, depth, Residual, variant.spatial)


def _chain(variant: Variant, inputs: int, outputs: int) -> CrossStage:
    return CrossStage(inputs, outputs, variant.blocks, Bottleneck, variant.spatial)


class Pyramid(nn.Module):
    """Tell the fine maps what the coarse ones have seen, and then the other way round.

    Liu et al. 2018, "Path Aggregation Network", https://arxiv.org/abs/1803.01534
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        _, _, three, four, five = variant.channels
        self.backbone = Darknet(variant)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.lateral_conv0 = ConvNorm(five, four)
        self.C3_p4 = _chain(variant, 2 * four, four)
        self.reduce_conv1 = ConvNorm(four, three)
        self.C3_p3 = _chain(variant, 2 * three, three)
        self.bu_conv2 = variant.spatial(three, three, 3, 2)
        self.C3_n3 = _chain(variant, 2 * three, four)
        self.bu_conv1 = variant.spatial(four, four, 3, 2)
        self.C3_n4 = _chain(variant, 2 * four, five)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        three, four, five = self.backbone(images)
        coarse = self.lateral_conv0(five)
        middle = self.reduce_conv1(self.C3_p4(torch.cat((self.upsample(coarse), four), 1)))
        fine = self.C3_p3(torch.cat((self.upsample(middle), three), 1))
        medium = self.C3_n3(torch.cat((self.bu_conv2(fine), middle), 1))
        return fine, medium, self.C3_n4(torch.cat((self.bu_conv1(medium), coarse), 1))


class Head(nn.Module):
    """Read boxes and objectness on one branch, classes on another, at each level with weights of its own."""

    def __init__(self, variant: Variant, classes: int) -> None:
        super().__init__()
        _, _, *inputs = variant.channels
        width = inputs[0]
        self.stems = nn.ModuleList(ConvNorm(channels, width) for channels in inputs)
        self.cls_convs = nn.ModuleList(_branch(variant, width) for _ in inputs)
        self.reg_convs = nn.ModuleList(_branch(variant, width) for _ in inputs)
        self.cls_preds = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in inputs)
        self.reg_preds = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in inputs)
        self.obj_preds = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in inputs)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        levels = [self._level(level, features).flatten(2) for level, features in enumerate(maps)]
        return torch.cat(levels, 2).transpose(1, 2)

    def _level(self, level: int, features: Tensor) -> Tensor:
        near = self.stems[level](features)
        boxes = self.reg_convs[level](near)
        classes = self.cls_preds[level](self.cls_convs[level](near))
        objectness = self.obj_preds[level](boxes)
        if self.training:
            return torch.cat((self.reg_preds[level](boxes), objectness, classes), 1)
        return torch.cat((self.reg_preds[level](boxes), objectness.sigmoid(), classes.sigmoid()), 1)


def _branch(variant: Variant, width: int) -> nn.Sequential:
    return nn.Sequential(variant.spatial(width, width, 3, 1), variant.spatial(width, width, 3, 1))


class Yolox(nn.Module):
    """Images (N, 3, H, W), sides divisible by 32, to rows (N, A, 5 + classes), one an anchor point, finest level first.

    A row is an offset x, y and a log width and height in units of its stride, then objectness and class scores in 0..1;
    while it is trained, their logits.
    """

    def __init__(self, variant: Variant, classes: int) -> None:
        super().__init__()
        self.backbone = Pyramid(variant)
        self.head = Head(variant, classes)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(self.backbone(images))
        return out


class AnchorPoints(nn.Module):
    """Where the rows of an output lie, for inputs of one *size* (height, width): x, y and stride in input pixels."""

    origin: Tensor  # (A, 2)
    stride: Tensor  # (A, 1)

    def __init__(self, size: tuple[int, int], strides: Sequence[int] = STRIDES) -> None:
        super().__init__()
        levels = [_points(size[0] // stride, size[1] // stride) * stride for stride in strides]
        rows = [torch.full((len(level), 1), float(stride)) for level, stride in zip(levels, strides, strict=True)]
        self.register_buffer("origin", torch.cat(levels), persistent=False)
        self.register_buffer("stride", torch.cat(rows), persistent=False)

    def forward(self, raw: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the boxes of *raw* (N, K, 4), which lie at *rows* (N, K): their centres and sizes (N, K, 2)."""
        stride = self.stride[rows]
        return raw[..., :2] * stride + self.origin[rows], raw[..., 2:4].exp() * stride


def _points(height: int, width: int) -> Tensor:
    """List x, y of each cell, row by row."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x.flatten(), y.flatten()), 1).float()


def _reference(network: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give what the public implementation gives: boxes as centre and size in input pixels, and scores."""
    image = inputs["image"]
    raw = network(image)
    points = AnchorPoints((image.shape[2], image.shape[3]))
    centre, size = points(raw, torch.arange(raw.shape[1]).expand(len(raw), -1))
    return {"boxes": torch.cat((centre, size), 2), "objectness": raw[..., 4:5], "classes": raw[..., 5:]}


YOLOX = Family(
    variants=tuple(VARIANTS),
    build=lambda variant, classes: Yolox(VARIANTS[variant], classes),
    reference=_reference,
    published={f"yolox_{variant}": Published(variant, classes=80) for variant in VARIANTS if variant != "pico"},
)
