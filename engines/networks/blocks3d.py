"""What the video networks are made of; clips are (N, C, T, H, W), and triples are in the order time, rows, columns."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

Triple = tuple[int, int, int]

ONE: Triple = (1, 1, 1)


def conv(inputs: int, outputs: int, kernel: Triple, stride: Triple = ONE) -> nn.Conv3d:
    """Make a convolution without a bias that keeps the size at a stride of one, as the kernel's sides are odd."""
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)


def conv_norm(inputs: int, outputs: int, kernel: Triple, stride: Triple = ONE) -> tuple[nn.Conv3d, nn.BatchNorm3d]:
    """Make a convolution and its normalisation; each network has its own names for the two."""
    return conv(inputs, outputs, kernel, stride), nn.BatchNorm3d(outputs)


def window_means(x: Tensor, window: Triple) -> Tensor:
    """Average over every place of a *window*, which a smaller map cuts to its own size."""
    kernel = [min(side, size) for side, size in zip(window, x.shape[2:], strict=True)]
    return F.avg_pool3d(x, kernel, 1)


def mean_features(x: Tensor) -> Tensor:
    """Average clips (N, C, T, H, W) over all but their channels: (N, C)."""
    return F.adaptive_avg_pool3d(x, 1).flatten(1)
