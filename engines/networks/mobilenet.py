"""MobileNetV3-Large with a reduced tail, and coarser maps after it, as SSDlite has it.

Howard et al. 2019, https://arxiv.org/abs/1905.02244. Attributes are the keys of torchvision's checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

_EPS, _MOMENTUM = 1e-3, 0.03  # of every normalisation in SSDlite

Act = type[nn.Module]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the paper's table 1: a block and its inner width."""

    kernel: int
    inner: int
    outputs: int
    squeezes: bool
    act: Act
    stride: int = 1


_FINE = (
    Row(3, 16, 16, False, nn.ReLU),
    Row(3, 64, 24, False, nn.ReLU, 2),
    Row(3, 72, 24, False, nn.ReLU),
    Row(5, 72, 40, True, nn.ReLU, 2),
    Row(5, 120, 40, True, nn.ReLU),
    Row(5, 120, 40, True, nn.ReLU),
    Row(3, 240, 80, False, nn.Hardswish, 2),
    Row(3, 200, 80, False, nn.Hardswish),
    Row(3, 184, 80, False, nn.Hardswish),
    Row(3, 184, 80, False, nn.Hardswish),
    Row(3, 480, 112, True, nn.Hardswish),
    Row(3, 672, 112, True, nn.Hardswish),
)
_COARSE = (  # half as wide as for classification
    Row(5, 672, 80, True, nn.Hardswish, 2),
    Row(5, 480, 80, True, nn.Hardswish),
    Row(5, 480, 80, True, nn.Hardswish),
)


class MobileNetV3(nn.Module):
    """Images (N, 3, H, W) to six maps at strides 16 to 512, the finest first; each level rounds up."""

    channels = (672, 480, 512, 256, 256, 128)

    def __init__(self) -> None:
        super().__init__()
        fine, (cut, *coarse) = _blocks(16, _FINE), _blocks(112, _COARSE)
        # The finest map is taken out of the middle of a block, where it is widest.
        self.features = nn.Sequential(
            nn.Sequential(conv_norm(3, 16, 3, 2, act=nn.Hardswish), *fine, cut.block[0]),
            nn.Sequential(cut.block[1:], *coarse, conv_norm(80, 480, act=nn.Hardswish)),
        )
        self.extra = nn.ModuleList(
            _coarser(inputs, outputs) for inputs, outputs in zip(self.channels[1:], self.channels[2:], strict=False)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        maps, x = [], images
        for block in (*self.features, *self.extra):
            x = block(x)
            maps.append(x)
        return maps


def _blocks(inputs: int, rows: tuple[Row, ...]) -> list[InvertedResidual]:
    widths = (inputs, *(row.outputs for row in rows))
    return [InvertedResidual(width, row) for width, row in zip(widths, rows, strict=False)]


class InvertedResidual(nn.Module):
    """Widen, look around, weigh the channels, narrow; and add that to what was given, where it has the same shape."""

    def __init__(self, inputs: int, row: Row) -> None:
        super().__init__()
        self._adds = row.stride == 1 and inputs == row.outputs
        widening = [conv_norm(inputs, row.inner, act=row.act)] if row.inner != inputs else []
        squeezing = [Squeeze(row.inner)] if row.squeezes else []
        self.block = nn.Sequential(
            *widening,
            depthwise(row.inner, row.kernel, row.stride, row.act),
            *squeezing,
            conv_norm(row.inner, row.outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return x + out if self._adds else out


class Squeeze(nn.Module):
    """Weigh every channel by what all of the image shows: Hu et al. 2017, https://arxiv.org/abs/1709.01507."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = _round_to_eight(channels / 4)
        self.fc1 = nn.Conv2d(channels, narrow, 1)
        self.fc2 = nn.Conv2d(narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        whole = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(whole))))


def _round_to_eight(channels: float) -> int:
    """Round to a multiple of eight, but never by more than a tenth down."""
    near = max(int(channels + 4) // 8 * 8, 8)
    return near if near >= 0.9 * channels else near + 8


def depthwise(channels: int, kernel: int, stride: int, act: Act) -> nn.Sequential:
    """Convolve each channel on its own."""
    return conv_norm(channels, channels, kernel, stride, channels, act)


def conv_norm(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: Act | None = None
) -> nn.Sequential:
    """Convolve so that a stride of one keeps the size, normalise, and activate."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(outputs, _EPS, _MOMENTUM)
    return nn.Sequential(conv, norm, act()) if act else nn.Sequential(conv, norm)


def _coarser(inputs: int, outputs: int) -> nn.Sequential:
    narrow = outputs // 2
    return nn.Sequential(
        conv_norm(inputs, narrow, act=nn.ReLU6),
        depthwise(narrow, 3, 2, nn.ReLU6),
        conv_norm(narrow, outputs, act=nn.ReLU6),
    )
