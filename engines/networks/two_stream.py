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


@dataclass(frozen=True, slots=True)
class Sizes:
    """How deep and wide a stream is; by default as VGG-16 is, for images of 224."""

    classes: int
    hidden: int = 4096
    plan: tuple[tuple[int, int], ...] = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, convolutions
    side: int = 7  # of the map that is classified: the image, halved after each stage
    dropout: tuple[float, float] = (0.9, 0.8)  # these two are Wang et al.'s


def _pico(classes: int) -> Sizes:
    """For images of 64."""
    return Sizes(classes, 128, ((16, 1), (32, 1), (64, 2), (96, 2)), 4, (0.5, 0.5))


class Vgg16(nn.Module):
    """Images (N, C, H, W) to logits (N, classes): C is 3 for colours, 20 for u and v of ten flow fields by turns."""

    def __init__(self, channels: int, sizes: Sizes) -> None:
        super().__init__()
        self.features = nn.Sequential(*_features(channels, sizes))
        self._side = sizes.side
        self.classifier = nn.Sequential(  # the checkpoint counts what drops out, too
            nn.Linear(sizes.plan[-1][0] * sizes.side**2, sizes.hidden),
            nn.ReLU(),
            nn.Dropout(sizes.dropout[0]),
            nn.Linear(sizes.hidden, sizes.hidden),
            nn.ReLU(),
            nn.Dropout(sizes.dropout[1]),
            nn.Linear(sizes.hidden, sizes.classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.features(images)
        if x.shape[2:] != (self._side, self._side):
            x = F.adaptive_avg_pool2d(x, self._side)
        logits: Tensor = self.classifier(x.flatten(1))
        return logits


def _features(channels: int, sizes: Sizes) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width, count in sizes.plan:
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


def _stream(variant: str, classes: int) -> nn.Module:
    stream, _, pico = variant.partition("-")
    return Vgg16(STREAMS[stream], _pico(classes) if pico else Sizes(classes))


# Each stream as a network of its own, which can be served beside the other.
VGG16_STREAM = Family(
    variants=(*STREAMS, *(f"{stream}-pico" for stream in STREAMS)),
    build=_stream,
    reference=lambda network, inputs: {"logits": network(inputs["images"])},
    outputs=("logits",),
)
