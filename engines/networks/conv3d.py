"""Clips through 3-D convolutions: C3D, and the ResNet-18s that convolve time wholly, at first, or on its own.

Tran et al. 2015, "Learning Spatiotemporal Features with 3D Convolutional Networks", https://arxiv.org/abs/1412.0767;
Tran et al. 2018, "A Closer Look at Spatiotemporal Convolutions", https://arxiv.org/abs/1711.11248. Keys and shapes are
those of the public c3d.pickle (Sports-1M) and of torchvision's checkpoints (Kinetics-400).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from engines.networks import Family, Published
from engines.networks.blocks3d import Triple, conv, conv_norm, mean_features

# Makes a convolution: channels in, channels out, channels in the middle where it has one, stride.
Conv = Callable[[int, int, int, Triple], nn.Module]

_HIDDEN = 4096
_CORNER = 512 * 1 * 4 * 4  # what C3D leaves of a clip of 16 frames, 112 x 112


class C3d(nn.Module):
    """Clips (N, 3, 16, 112, 112), the mean clip subtracted from values in 0..255, to logits (N, classes)."""

    def __init__(self, classes: int, hidden: int = _HIDDEN) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 3, padding=1)
        self.conv2 = nn.Conv3d(64, 128, 3, padding=1)
        self.conv3a = nn.Conv3d(128, 256, 3, padding=1)
        self.conv3b = nn.Conv3d(256, 256, 3, padding=1)
        self.conv4a = nn.Conv3d(256, 512, 3, padding=1)
        self.conv4b = nn.Conv3d(512, 512, 3, padding=1)
        self.conv5a = nn.Conv3d(512, 512, 3, padding=1)
        self.conv5b = nn.Conv3d(512, 512, 3, padding=1)
        self.fc6 = nn.Linear(_CORNER, hidden)
        self.fc7 = nn.Linear(hidden, hidden)
        self.fc8 = nn.Linear(hidden, classes)

    def forward(self, clip: Tensor) -> Tensor:
        x = F.max_pool3d(F.relu(self.conv1(clip)), (1, 2, 2))
        x = F.max_pool3d(F.relu(self.conv2(x)), 2)
        x = F.max_pool3d(F.relu(self.conv3b(F.relu(self.conv3a(x)))), 2)
        x = F.max_pool3d(F.relu(self.conv4b(F.relu(self.conv4a(x)))), 2)
        x = F.max_pool3d(F.relu(self.conv5b(F.relu(self.conv5a(x)))), 2, padding=(0, 1, 1))
        x = F.relu(self.fc7(F.relu(self.fc6(x.flatten(1)))))
        logits: Tensor = self.fc8(x)
        return logits


def _whole(inputs: int, outputs: int, _middle: int, stride: Triple) -> nn.Module:
    """Convolve time and space together."""
    return conv(inputs, outputs, (3, 3, 3), stride)


def _flat(inputs: int, outputs: int, _middle: int, stride: Triple) -> nn.Module:
    """Convolve each frame on its own."""
    return conv(inputs, outputs, (1, 3, 3), stride)


def _parted(inputs: int, outputs: int, middle: int, stride: Triple) -> nn.Sequential:
    """Convolve space, then time."""
    space = conv_norm(inputs, middle, (1, 3, 3), (1, *stride[1:]))
    return nn.Sequential(*space, nn.ReLU(), conv(middle, outputs, (3, 1, 1), (stride[0], 1, 1)))


@dataclass(frozen=True, slots=True)
class Kind:
    """How the blocks of a stage convolve; *pace* is the stride in time where the size is halved."""

    conv: Conv
    pace: int


_WHOLE, _FLAT, _PARTED = Kind(_whole, 2), Kind(_flat, 1), Kind(_parted, 2)


class Block(nn.Module):
    """Two convolutions, added to what was given."""

    def __init__(self, kind: Kind, inputs: int, outputs: int, stride: Triple) -> None:
        super().__init__()
        # As many channels between space and time as make both together as large as the whole convolution.
        middle = inputs * outputs * 27 // (inputs * 9 + 3 * outputs)
        first, second = kind.conv(inputs, outputs, middle, stride), kind.conv(outputs, outputs, middle, (1, 1, 1))
        self.conv1 = nn.Sequential(first, nn.BatchNorm3d(outputs), nn.ReLU())
        self.conv2 = nn.Sequential(second, nn.BatchNorm3d(outputs))
        self.downsample = nn.Sequential()
        if inputs != outputs:
            self.downsample = nn.Sequential(*conv_norm(inputs, outputs, (1, 1, 1), stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv2(self.conv1(x)) + self.downsample(x))


def _whole_stem(outputs: int) -> nn.Sequential:
    return nn.Sequential(*conv_norm(3, outputs, (3, 7, 7), (1, 2, 2)), nn.ReLU())


def _parted_stem(outputs: int) -> nn.Sequential:
    space, time = conv_norm(3, 45, (1, 7, 7), (1, 2, 2)), conv_norm(45, outputs, (3, 1, 1))
    return nn.Sequential(*space, nn.ReLU(), *time, nn.ReLU())


@dataclass(frozen=True, slots=True)
class Variant:
    """A stem, a kind for each of the four stages, and how many channels the first has; every next one has twice."""

    stem: Callable[[int], nn.Sequential]
    kinds: tuple[Kind, Kind, Kind, Kind]
    wide: int = 64


RESNETS = {
    "r3d-18": Variant(_whole_stem, (_WHOLE, _WHOLE, _WHOLE, _WHOLE)),
    "mc3-18": Variant(_whole_stem, (_WHOLE, _FLAT, _FLAT, _FLAT)),
    "r2plus1d-18": Variant(_parted_stem, (_PARTED, _PARTED, _PARTED, _PARTED)),
    "r3d-pico": Variant(_whole_stem, (_WHOLE, _WHOLE, _WHOLE, _WHOLE), wide=16),
}


class VideoResNet(nn.Module):
    """Clips (N, 3, T, H, W) of any length and size, normalised, to logits (N, classes)."""

    def __init__(self, variant: Variant, classes: int) -> None:
        super().__init__()
        one, two, three, four = variant.kinds
        wide = variant.wide
        self.stem = variant.stem(wide)
        self.layer1 = nn.Sequential(Block(one, wide, wide, (1, 1, 1)), Block(one, wide, wide, (1, 1, 1)))
        self.layer2 = _halving(two, wide)
        self.layer3 = _halving(three, 2 * wide)
        self.layer4 = _halving(four, 4 * wide)
        self.fc = nn.Linear(8 * wide, classes)

    def forward(self, clip: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.stem(clip)))
        logits: Tensor = self.fc(mean_features(self.layer4(self.layer3(x))))
        return logits


def _halving(kind: Kind, inputs: int) -> nn.Sequential:
    """Halve the size and double the channels."""
    outputs = 2 * inputs
    return nn.Sequential(Block(kind, inputs, outputs, (kind.pace, 2, 2)), Block(kind, outputs, outputs, (1, 1, 1)))


def _build(variant: str, classes: int) -> nn.Module:
    return C3d(classes) if variant == "c3d" else VideoResNet(RESNETS[variant], classes)


def _reference(network: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"logits": network(inputs["clip"])}


CONV3D = Family(
    variants=("c3d", *RESNETS),
    build=_build,
    reference=_reference,
    published={
        "c3d": Published("c3d", classes=487),
        "r3d_18": Published("r3d-18", classes=400),
        "mc3_18": Published("mc3-18", classes=400),
        "r2plus1d_18": Published("r2plus1d-18", classes=400),
    },
    outputs=("logits",),
)
