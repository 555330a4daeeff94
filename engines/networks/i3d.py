"""I3D: Inception, inflated from images to clips; one network for colours, one for flow.

Carreira and Zisserman 2017, "Quo Vadis, Action Recognition?", https://arxiv.org/abs/1705.07750. Keys and shapes are
those of the public rgb_imagenet.pt and flow_imagenet.pt.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from engines.networks import Family, Published
from engines.networks.blocks3d import ONE, Triple, window_means

_EPS = 1e-3  # of every normalisation, as in the network that the weights came from
_WINDOW: Triple = (2, 7, 7)  # of the head

CHANNELS = {"rgb": 3, "flow": 2}

Widths = tuple[int, int, int, int, int, int]


def _padding(size: torch.Size, kernel: Triple, stride: Triple) -> list[tuple[int, int]]:
    """Pad each axis, before and after, to an output for every stride begun; an odd one goes after."""
    missing = [max(kernel[i] - (size[2 + i] % stride[i] or stride[i]), 0) for i in range(3)]
    return [(pad // 2, pad - pad // 2) for pad in missing]


class SameConv(nn.Conv3d):
    """Convolve with a padding that depends on the size of what comes, as TensorFlow's "same" does."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple, stride: Triple) -> None:
        super().__init__(inputs, outputs, kernel, stride, bias=False)
        self._kernel, self._stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        pads = _padding(x.shape, self._kernel, self._stride)
        time, rows, columns = (after - before for before, after in pads)
        if time or rows or columns:  # the rest is the convolution's own to pad, which costs no copy
            x = F.pad(x, (0, columns, 0, rows, 0, time))
        return F.conv3d(x, self.weight, self.bias, self.stride, [before for before, _ in pads])


def same_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Take the largest of each window, padded as `SameConv` does; no value may be negative.

    So it does not matter that a pool pads with less than everything and not with 0; rounding up pads the odd one after.
    """
    before = [before for before, _ in _padding(x.shape, kernel, stride)]
    return F.max_pool3d(x, kernel, stride, before, ceil_mode=True)


class Unit(nn.Module):
    """Convolve, normalise and activate."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv3d = SameConv(inputs, outputs, (kernel, kernel, kernel), (stride, stride, stride))
        self.bn = nn.BatchNorm3d(outputs, _EPS)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv3d(x)))


class Mixed(nn.Module):
    """Look at several ranges at once.

    *widths* are the channels of the plain look, of the narrow and wide half of two others, and of the pooled one.
    Szegedy et al. 2014, "Going Deeper with Convolutions", https://arxiv.org/abs/1409.4842.
    """

    def __init__(self, inputs: int, widths: Widths) -> None:
        super().__init__()
        plain, narrow1, wide1, narrow2, wide2, pooled = widths
        self.b0 = Unit(inputs, plain)
        self.b1a = Unit(inputs, narrow1)
        self.b1b = Unit(narrow1, wide1, 3)
        self.b2a = Unit(inputs, narrow2)
        self.b2b = Unit(narrow2, wide2, 3)
        self.b3b = Unit(inputs, pooled)

    def forward(self, x: Tensor) -> Tensor:
        pooled = same_pool(x, (3, 3, 3), ONE)
        return torch.cat((self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)), 1)


class Logits(nn.Module):
    """Classify every place on its own."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(1024, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3d(x)
        return out


class I3d(nn.Module):
    """Clips (N, C, T, H, W) in -1..1, three colours or u and v, to logits (N, classes).

    Flow is cut to 20 pixels and divided by that. What the head sees, every 8 frames and 224 pixels, is averaged.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(channels, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        self.Mixed_3b = Mixed(192, (64, 96, 128, 16, 32, 32))
        self.Mixed_3c = Mixed(256, (128, 128, 192, 32, 96, 64))
        self.Mixed_4b = Mixed(480, (192, 96, 208, 16, 48, 64))
        self.Mixed_4c = Mixed(512, (160, 112, 224, 24, 64, 64))
        self.Mixed_4d = Mixed(512, (128, 128, 256, 24, 64, 64))
        self.Mixed_4e = Mixed(512, (112, 144, 288, 32, 64, 64))
        self.Mixed_4f = Mixed(528, (256, 160, 320, 32, 128, 128))
        self.Mixed_5b = Mixed(832, (256, 160, 320, 32, 128, 128))
        self.Mixed_5c = Mixed(832, (384, 192, 384, 48, 128, 128))
        self.logits = Logits(classes)

    def forward(self, clip: Tensor) -> Tensor:
        # Classifying is linear: the mean is classified as the mean of what is classified.
        mean = F.adaptive_avg_pool3d(window_means(self._features(clip), _WINDOW), 1)
        logits: Tensor = self.logits(mean)
        return logits.flatten(1)

    def segments(self, clip: Tensor) -> Tensor:
        """Classify every window of the clip: logits (N, classes, T', H', W')."""
        out: Tensor = self.logits(window_means(self._features(clip), _WINDOW))
        return out

    def _features(self, clip: Tensor) -> Tensor:
        x = same_pool(self.Conv3d_1a_7x7(clip), (1, 3, 3), (1, 2, 2))
        x = same_pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        x = same_pool(self.Mixed_3c(self.Mixed_3b(x)), (3, 3, 3), (2, 2, 2))
        x = self.Mixed_4d(self.Mixed_4c(self.Mixed_4b(x)))
        x = same_pool(self.Mixed_4f(self.Mixed_4e(x)), (2, 2, 2), (2, 2, 2))
        out: Tensor = self.Mixed_5c(self.Mixed_5b(x))
        return out


def _reference(network: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    assert isinstance(network, I3d)  # noqa: S101 - by the table
    # Where an image has more than one window, the public implementation leaves them standing side by side.
    return {"logits": network.segments(inputs["clip"]).squeeze(3).squeeze(3)}


I3D = Family(
    variants=tuple(CHANNELS),
    build=lambda variant, classes: I3d(CHANNELS[variant], classes),
    reference=_reference,
    published={f"i3d_{variant}": Published(variant, classes=400) for variant in CHANNELS},
    outputs=("logits",),
)
