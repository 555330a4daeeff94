"""Two streams: one frame for what is there, a stack of flow for how it moves; their scores are fused afterwards.

Simonyan and Zisserman 2014, "Two-Stream Convolutional Networks for Action Recognition in Videos",
https://arxiv.org/abs/1406.2199; with VGG-16 (https://arxiv.org/abs/1409.1556) as in Wang et al. 2015, "Towards Good
Practices for Very Deep Two-Stream ConvNets", https://arxiv.org/abs/1507.02159. Each stream has the keys of
torchvision's vgg16; where both are one network, after `spatial.` or `temporal.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from engines.networks import Family
from engines.networks.i3d import CHANNELS, I3d
from engines.networks.vgg import convs

FIELDS = 10  # of flow, in a stack
STREAMS = {"spatial": 3, "temporal": 2 * FIELDS}  # channels
_PLAN = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions between halvings
_MAP = 7  # a side of what is left of an image of 224


@dataclass(frozen=True, slots=True)
class Sizes:
    """How wide a stream's last layers are."""

    classes: int
    hidden: int = 4096


class Vgg16(nn.Module):
    """Images (N, C, H, W) to logits (N, classes): C is 3 for colours, 20 for u and v of ten flow fields by turns."""

    def __init__(self, channels: int, sizes: Sizes) -> None:
        super().__init__()
        self.features = nn.Sequential(*_features(channels))
        self.classifier = nn.Sequential(
            nn.Linear(512 * _MAP * _MAP, sizes.hidden),
            nn.ReLU(),
            nn.Dropout(0.9),  # these two are Wang et al.'s; the checkpoint counts them
            nn.Linear(sizes.hidden, sizes.hidden),
            nn.ReLU(),
            nn.Dropout(0.8),
            nn.Linear(sizes.hidden, sizes.classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.features(images)
        if x.shape[2:] != (_MAP, _MAP):
            x = F.adaptive_avg_pool2d(x, _MAP)
        logits: Tensor = self.classifier(x.flatten(1))
        return logits


def _features(channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width, count in _PLAN:
        layers += [*convs(channels, width, count), nn.MaxPool2d(2)]
        channels = width
    return layers


class TwoStream(nn.Module):
    """Colours and flow, each as its own stream takes them, to the logits (N, classes) of each."""

    def __init__(self, spatial: nn.Module, temporal: nn.Module) -> None:
        super().__init__()
        self.spatial, self.temporal = spatial, temporal

    def forward(self, rgb: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        return self.spatial(rgb), self.temporal(flow)


def _vgg16(classes: int) -> TwoStream:
    sizes = Sizes(classes)
    return TwoStream(Vgg16(STREAMS["spatial"], sizes), Vgg16(STREAMS["temporal"], sizes))


def _i3d(classes: int) -> TwoStream:
    return TwoStream(I3d(CHANNELS["rgb"], classes), I3d(CHANNELS["flow"], classes))


VARIANTS = {"vgg16": _vgg16, "i3d": _i3d}


def _reference(network: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    spatial, temporal = network(inputs["rgb"], inputs["flow"])
    return {"spatial": spatial, "temporal": temporal}


TWO_STREAM = Family(
    variants=tuple(VARIANTS),
    build=lambda variant, classes: VARIANTS[variant](classes),
    reference=_reference,
    outputs=("spatial", "temporal"),
)

# Each stream as a network of its own, which can be served beside the other.
VGG16_STREAM = Family(
    variants=tuple(STREAMS),
    build=lambda variant, classes: Vgg16(STREAMS[variant], Sizes(classes)),
    reference=lambda network, inputs: {"logits": network(inputs["images"])},
    outputs=("logits",),
)
