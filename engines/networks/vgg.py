"""VGG-16 as SSD has it: its fully connected layers became dilated convolutions, and coarser maps come after them.

Simonyan and Zisserman 2014, https://arxiv.org/abs/1409.1556; Liu et al. 2016, "SSD", https://arxiv.org/abs/1512.02325.
Attributes are the keys of torchvision's checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_TINY = 2.0**-14  # the smallest normal half


class Vgg16(nn.Module):
    """Images (N, 3, H, W) to six maps, the finest first; sides of 300 give 38, 19, 10, 5, 3 and 1."""

    channels = (512, 1024, 512, 256, 256, 256)

    def __init__(self) -> None:
        super().__init__()
        self.scale_weight = nn.Parameter(torch.full((512,), 20.0))
        self.features = nn.Sequential(
            *convs(3, 64, 2),
            nn.MaxPool2d(2),
            *convs(64, 128, 2),
            nn.MaxPool2d(2),
            *convs(128, 256, 3),
            nn.MaxPool2d(2, ceil_mode=True),
            *convs(256, 512, 3),
        )
        coarser = (
            nn.Sequential(nn.MaxPool2d(2), *convs(512, 512, 3), _dilated()),
            _coarser(1024, 256, nn.Conv2d(256, 512, 3, 2, 1)),
            _coarser(512, 128, nn.Conv2d(128, 256, 3, 2, 1)),
            _coarser(256, 128, nn.Conv2d(128, 256, 3)),
            _coarser(256, 128, nn.Conv2d(128, 256, 3)),
        )
        self.extra = nn.ModuleList(coarser)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.features(images)
        maps = [unit_length(x) * self.scale_weight.reshape(-1, 1, 1)]
        for block in self.extra:
            x = block(x)
            maps.append(x)
        return maps


def unit_length(features: Tensor) -> Tensor:
    """Bring every pixel's features (N, C, H, W) to a length of one.

    Divided by their largest first, for the square of 256 is more than a half can hold. Liu et al. 2015, "ParseNet",
    https://arxiv.org/abs/1506.04579.
    """
    tiny = features.new_tensor(_TINY)
    safe = features / features.abs().amax(1, keepdim=True).maximum(tiny)
    return safe / (safe * safe).sum(1, keepdim=True).maximum(tiny).sqrt()


def convs(inputs: int, outputs: int, count: int) -> list[nn.Module]:
    """Make *count* convolutions that keep the size, each with its ReLU."""
    layers: list[nn.Module] = []
    for i in range(count):
        layers += [nn.Conv2d(outputs if i else inputs, outputs, 3, padding=1), nn.ReLU()]
    return layers


def _dilated() -> nn.Sequential:
    """What was fully connected."""
    return nn.Sequential(
        nn.MaxPool2d(3, 1, 1),
        nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
        nn.ReLU(),
        nn.Conv2d(1024, 1024, 1),
        nn.ReLU(),
    )


def _coarser(inputs: int, narrow: int, shrinking: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, narrow, 1), nn.ReLU(), shrinking, nn.ReLU())
