"""ResNets with a feature pyramid, as torchvision's detectors have them; attributes are the keys of its checkpoints.

He et al. 2015, https://arxiv.org/abs/1512.03385, with the stride in the 3 x 3 convolution; Lin et al. 2016, "Feature
Pyramid Networks", https://arxiv.org/abs/1612.03144. ResNet-50's normalisation is frozen: it was never trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

Extra = Literal["pool", "p6p7"]
Norm = Callable[[int], nn.Module]  # makes a normalisation of so many channels

_FIRST = 2  # the level of the first stage: its stride is 2 ** 2
_STEM_KERNEL = 7


class FrozenNorm(nn.Module):
    """Normalise by what the checkpoint holds; *eps* is 0, as torchvision sets it for the files of 2019 and 2020."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    eps = 0.0

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.reshape(-1, 1, 1) + shift.reshape(-1, 1, 1)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class Bottleneck(nn.Module):
    """Narrow, look around, widen, and add that to what was given."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = _conv(inputs, width, 1), norm(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), norm(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), norm(outputs)
        self.downsample = nn.Sequential()
        if inputs != outputs:
            self.downsample = nn.Sequential(_conv(inputs, outputs, 1, stride), norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        near = F.relu(self.bn1(self.conv1(x)))
        near = F.relu(self.bn2(self.conv2(near)))
        return F.relu(self.bn3(self.conv3(near)) + self.downsample(x))


class Basic(nn.Module):
    """Look around twice, and add that to what was given."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), norm(width)
        self.conv2, self.bn2 = _conv(width, width, 3), norm(width)
        self.downsample = nn.Sequential()
        if inputs != width:
            self.downsample = nn.Sequential(_conv(inputs, width, 1, stride), norm(width))

    def forward(self, x: Tensor) -> Tensor:
        near = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(near)) + self.downsample(x))


@dataclass(frozen=True, slots=True)
class Body:
    """What a ResNet and its pyramid are made of."""

    block: type[Bottleneck | Basic]
    depths: tuple[int, int, int, int]  # blocks of each stage
    widths: tuple[int, int, int, int]
    norm: Norm
    pyramid: int  # channels of every level

    @property
    def channels(self) -> list[int]:
        """Channels of each stage's map."""
        return [width * self.block.expansion for width in self.widths]


RESNET50 = Body(Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), FrozenNorm, 256)
PICO = Body(Basic, (1, 2, 2, 1), (32, 64, 128, 256), nn.BatchNorm2d, 64)


class ResNet(nn.Module):
    """Give the maps of the stages from level *first* on: level 2 has stride 4, and each one after it twice that."""

    def __init__(self, body: Body, first: int) -> None:
        super().__init__()
        self._first = first
        stem = body.widths[0]
        self.conv1, self.bn1 = _conv(3, stem, _STEM_KERNEL, 2), body.norm(stem)
        self.layer1, self.layer2, self.layer3, self.layer4 = _stages(body)

    def forward(self, images: Tensor) -> list[Tensor]:
        two = self.layer1(F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1))
        three = self.layer2(two)
        four = self.layer3(three)
        return [two, three, four, self.layer4(four)][self._first - _FIRST :]


def _stages(body: Body) -> list[nn.Sequential]:
    stages, inputs = [], body.widths[0]
    for number, (depth, width, outputs) in enumerate(zip(body.depths, body.widths, body.channels, strict=True)):
        first = body.block(inputs, width, 1 if number == 0 else 2, body.norm)
        stages.append(nn.Sequential(first, *(body.block(outputs, width, 1, body.norm) for _ in range(depth - 1))))
        inputs = outputs
    return stages


class Pyramid(nn.Module):
    """Tell each map what the coarser ones have seen, then add coarser levels still."""

    def __init__(self, inputs: Sequence[int], width: int, extra: Extra) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in inputs)
        self.layer_blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in inputs)
        self.extra_blocks: nn.Module = Halved() if extra == "pool" else P6P7(width)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        inner = [block(features) for block, features in zip(self.inner_blocks, maps, strict=True)]
        for level in range(len(inner) - 2, -1, -1):
            inner[level] = inner[level] + _widened(inner[level + 1], inner[level])
        levels = [block(features) for block, features in zip(self.layer_blocks, inner, strict=True)]
        return [*levels, *self.extra_blocks(levels[-1])]


def _widened(coarse: Tensor, fine: Tensor) -> Tensor:
    """Repeat pixels until one map is as large as the other; twice, where that is so, needs no shape in the graph."""
    if fine.shape[2] == 2 * coarse.shape[2] and fine.shape[3] == 2 * coarse.shape[3]:
        return F.interpolate(coarse, scale_factor=2.0, mode="nearest")
    return F.interpolate(coarse, size=fine.shape[2:], mode="nearest")


class Halved(nn.Module):
    """Keep every other pixel, for the region proposals: "pool"."""

    def forward(self, coarsest: Tensor) -> list[Tensor]:
        return [F.max_pool2d(coarsest, 1, 2)]


class P6P7(nn.Module):
    """Two more levels, of the coarsest one's output: Lin et al. 2017, "RetinaNet", https://arxiv.org/abs/1708.02002."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(width, width, 3, 2, 1)
        self.p7 = nn.Conv2d(width, width, 3, 2, 1)

    def forward(self, coarsest: Tensor) -> list[Tensor]:
        six = self.p6(coarsest)
        return [six, self.p7(F.relu(six))]


class Backbone(nn.Module):
    """Images (N, 3, H, W) to maps (N, C, h, w), the finest first.

    Levels *first* to 5 have strides 2 ** level; "pool" adds level 6, "p6p7" adds 6 and 7. Sides need not be divisible
    by these strides: each level rounds up.
    """

    def __init__(self, body: Body, first: int, extra: Extra) -> None:
        super().__init__()
        self.body = ResNet(body, first)
        self.fpn = Pyramid(body.channels[first - _FIRST :], body.pyramid, extra)

    def forward(self, images: Tensor) -> list[Tensor]:
        levels: list[Tensor] = self.fpn(self.body(images))
        return levels
