"""ResNet-50 with a feature pyramid, as torchvision's detectors have it; attributes are the keys of its checkpoints.

He et al. 2015, https://arxiv.org/abs/1512.03385, with the stride in the 3 x 3 convolution; Lin et al. 2016, "Feature
Pyramid Networks", https://arxiv.org/abs/1612.03144. The normalisation is frozen: it was never trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

Extra = Literal["pool", "p6p7"]

WIDTH = 256  # channels of every level of the pyramid
_DEPTHS = (3, 4, 6, 3)  # bottlenecks of each stage
_EXPANSION = 4
_FIRST = 2  # the level of the first stage: its stride is 2 ** 2


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

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv1, self.bn1 = _conv(inputs, width, 1), FrozenNorm(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), FrozenNorm(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), FrozenNorm(outputs)
        self.downsample = nn.Sequential()
        if inputs != outputs:
            self.downsample = nn.Sequential(_conv(inputs, outputs, 1, stride), FrozenNorm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        near = F.relu(self.bn1(self.conv1(x)))
        near = F.relu(self.bn2(self.conv2(near)))
        return F.relu(self.bn3(self.conv3(near)) + self.downsample(x))


class ResNet50(nn.Module):
    """Give the maps of the stages from level *first* on: level 2 has stride 4, and each one after it twice that."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self._first = first
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), FrozenNorm(64)
        self.layer1 = _stage(0, 64)
        self.layer2 = _stage(1, 256)
        self.layer3 = _stage(2, 512)
        self.layer4 = _stage(3, 1024)

    def forward(self, images: Tensor) -> list[Tensor]:
        two = self.layer1(F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, 1))
        three = self.layer2(two)
        four = self.layer3(three)
        return [two, three, four, self.layer4(four)][self._first - _FIRST :]


def _stage(number: int, inputs: int) -> nn.Sequential:
    width = 64 << number
    first = Bottleneck(inputs, width, 1 if number == 0 else 2)
    return nn.Sequential(first, *(Bottleneck(width * _EXPANSION, width, 1) for _ in range(_DEPTHS[number] - 1)))


class Pyramid(nn.Module):
    """Tell each map what the coarser ones have seen, then add coarser levels still."""

    def __init__(self, inputs: Sequence[int], extra: Extra) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Conv2d(channels, WIDTH, 1) for channels in inputs)
        self.layer_blocks = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in inputs)
        self.extra_blocks: nn.Module = Halved() if extra == "pool" else P6P7()

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

    def __init__(self) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(WIDTH, WIDTH, 3, 2, 1)
        self.p7 = nn.Conv2d(WIDTH, WIDTH, 3, 2, 1)

    def forward(self, coarsest: Tensor) -> list[Tensor]:
        six = self.p6(coarsest)
        return [six, self.p7(F.relu(six))]


class Backbone(nn.Module):
    """Images (N, 3, H, W) to maps (N, 256, h, w), the finest first.

    Levels *first* to 5 have strides 2 ** level; "pool" adds level 6, "p6p7" adds 6 and 7. Sides need not be divisible
    by these strides: each level rounds up.
    """

    def __init__(self, first: int, extra: Extra) -> None:
        super().__init__()
        self.body = ResNet50(first)
        self.fpn = Pyramid([WIDTH << stage for stage in range(first - _FIRST, len(_DEPTHS))], extra)

    def forward(self, images: Tensor) -> list[Tensor]:
        levels: list[Tensor] = self.fpn(self.body(images))
        return levels
