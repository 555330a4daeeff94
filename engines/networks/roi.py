"""RoIAlign over a pyramid, of operators that every runtime has: He et al. 2017, https://arxiv.org/abs/1703.06870.

All levels are laid below each other into one map, the atlas, and one `grid_sample` looks everything up. It gives what
torchvision's gives (sampling ratio 2, aligned=False) for regions within the image: there no sample lies before the
first pixel of a level. Beyond the last one the row and the column that each level is padded by repeat it; and samples
further out still, of regions narrower than a cell, which are taken as a cell wide, count as zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from engines.geometry import Size
from engines.networks.exact import Exact

STRIDES = (4, 8, 16, 32)
SAMPLES = 2  # of a bin, along each side
_CANONICAL = 224.0  # the side of a region that is looked up at stride 16
_ROUNDING = 1e-6  # that torchvision adds to a level before it rounds it down
_BETWEEN = 2  # rows from one level to the next
_OUTSIDE = -3.0  # of the atlas, which reaches from -1 to 1


def pack(levels: Sequence[Tensor]) -> Tensor:
    """Lay levels (N, C, h, w), the finest on top, below each other: each with its last row and column repeated once.

    Then comes a row of zeros, so that nothing of one level is seen in another.
    """
    width = levels[0].shape[3] + 1
    rows = [F.pad(F.pad(level, (0, 1, 0, 1), "replicate"), (0, width - level.shape[3] - 1, 0, 1)) for level in levels]
    return torch.cat(rows, 2)


class Placing(Exact):
    """Know where in the atlas of images of one *size* each level is, and which of them a region is looked up in.

    A level for each doubling of the root of the area, as Lin et al. 2016 have it: https://arxiv.org/abs/1612.03144.
    """

    table: Tensor  # (levels, 4): scale, first row, height and width of each level

    def __init__(self, size: Size) -> None:
        super().__init__()
        shapes = [(math.ceil(size[0] / stride), math.ceil(size[1] / stride)) for stride in STRIDES]
        rows, top = [], 0
        for stride, (height, width) in zip(STRIDES, shapes, strict=True):
            rows.append((1 / stride, top, height, width))
            top += height + _BETWEEN
        self.atlas = (top, shapes[0][1] + 1)  # height, width
        self.register_buffer("table", torch.tensor(rows, dtype=torch.float32), persistent=False)
        sides = [_CANONICAL * 2.0 ** (level - 2 - _ROUNDING) for level in range(1, len(STRIDES))]
        self.areas = [side**2 for side in sides]  # from which on the next level is looked at

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give scale, first row, height and width of the level of each region (..., 4): (..., 1) each."""
        x1, y1, x2, y2 = torch.split(regions, 1, -1)
        area = (x2 - x1) * (y2 - y1)
        level = torch.zeros_like(area, dtype=torch.long)
        for least in self.areas:
            level = level + (area >= least).long()
        scale, top, height, width = torch.split(self.table[level.squeeze(-1)], 1, -1)
        return scale, top, height, width


class Grid(Exact):
    """Say where in the atlas each of a region's samples lies: (N, R * 2 bins, 2 bins, 2), as grid_sample wants it."""

    steps: Tensor

    def __init__(self, size: Size, bins: int) -> None:
        super().__init__()
        self.placing = Placing(size)
        count = SAMPLES * bins
        self.register_buffer("steps", (torch.arange(count) + 0.5) / count, persistent=False)

    def forward(self, regions: Tensor) -> Tensor:
        scale, top, height, width = self.placing(regions)
        x1, y1, x2, y2 = torch.split(regions, 1, 2)
        x, y = self._along(x1, x2, scale), self._along(y1, y2, scale)
        rows, columns = self.placing.atlas
        x = torch.where(x > width, _OUTSIDE, x * (2 / (columns - 1)) - 1).unsqueeze(2)
        y = torch.where(y > height, _OUTSIDE, (y + top) * (2 / (rows - 1)) - 1).unsqueeze(3)
        count = len(self.steps)
        points = torch.stack((x.expand(-1, -1, count, -1), y.expand(-1, -1, -1, count)), 4)
        return points.flatten(1, 2)

    def _along(self, first: Tensor, last: Tensor, scale: Tensor) -> Tensor:
        """Spread samples over one side; a region is at least one cell wide."""
        return first * scale + self.steps * ((last - first) * scale).clamp(min=1.0)


class Sample(Exact):
    """Interpolate a map at points (N, h, w, 2)."""

    def forward(self, atlas: Tensor, points: Tensor) -> Tensor:
        return F.grid_sample(atlas, points, "bilinear", "zeros", align_corners=True)


class RoiAlign(nn.Module):
    """Look up regions (N, R, 4), in pixels of images of one *size*, in their atlas: (N * R, C, bins, bins)."""

    def __init__(self, size: Size, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.grid = Grid(size, bins)
        self.sample = Sample()

    def forward(self, atlas: Tensor, regions: Tensor) -> Tensor:
        sampled = self.sample(atlas.float(), self.grid(regions)).to(atlas.dtype)
        pooled = F.avg_pool2d(sampled, SAMPLES)
        apart = pooled.reshape(atlas.shape[0], pooled.shape[1], -1, self.bins, self.bins).transpose(1, 2)
        return apart.flatten(0, 1)
