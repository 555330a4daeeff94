"""RoIAlign as an operator, and masks of as many objects as there are: for runtimes that have both.

For export alone: torch has no such operator, so what these modules give there are zeros. A region that is narrower
than a cell, and ends at the lower or right edge of the image, is seen a little otherwise than by `roi.RoiAlign`: its
samples beyond the edge fade into zero, where they are zero there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engines.geometry import Size
from engines.networks.exact import Exact
from engines.networks.rcnn import MASK_BINS, MaskedRoiHeads
from engines.networks.roi import SAMPLES, Placing


class Lookup(Exact):
    """Look up regions (M, 4) in the atlas of the image (M,) that each is of: (M, C, bins, bins)."""

    def __init__(self, size: Size, bins: int) -> None:
        super().__init__()
        self.placing = Placing(size)
        self.bins = bins

    def forward(self, atlas: Tensor, regions: Tensor, image: Tensor) -> Tensor:
        scale, top, _, _ = self.placing(regions)
        down = torch.cat((torch.zeros_like(top), top), 1).repeat(1, 2)
        return torch.onnx.ops.symbolic(
            "RoiAlign",
            (atlas, regions * scale + down, image),
            {
                "output_height": self.bins,
                "output_width": self.bins,
                "sampling_ratio": SAMPLES,
                "spatial_scale": 1.0,
                "mode": "avg",
                "coordinate_transformation_mode": "output_half_pixel",
            },
            dtype=torch.float32,
            shape=(regions.shape[0], atlas.shape[1], self.bins, self.bins),
        )


class NativeAlign(nn.Module):
    """Look up regions (N, R, 4), in pixels of images of one *size*, in their atlas: (N * R, C, bins, bins)."""

    def __init__(self, size: Size, bins: int) -> None:
        super().__init__()
        self.lookup = Lookup(size, bins)

    def forward(self, atlas: Tensor, regions: Tensor) -> Tensor:
        rows, count = regions.shape[:2]
        image = torch.arange(rows, device=atlas.device).unsqueeze(1).expand(-1, count).flatten()
        features: Tensor = self.lookup(atlas.float(), regions.flatten(0, 1), image)
        return features.to(atlas.dtype)


class PaintFound(nn.Module):
    """Paint the objects that there are, and leave the others blank: probabilities (N, K, 28, 28)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.lookup = Lookup(size, MASK_BINS)

    def forward(self, heads: MaskedRoiHeads, atlas: Tensor, found: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        boxes, scores, classes = found
        there = (scores.flatten() > 0).nonzero().squeeze(1)
        image = there // scores.shape[1]
        features = self.lookup(atlas.float(), boxes.flatten(0, 1)[there], image).to(atlas.dtype)
        masks = heads.masks(features, classes.flatten()[there]).sigmoid()
        blank = masks.new_zeros((scores.numel(), *masks.shape[1:]))
        return blank.index_put((there,), masks).reshape(*scores.shape, *masks.shape[1:])
