"""The five losses of Mask R-CNN, of which Faster R-CNN has four: they add up with equal weights.

Ren et al. 2015, https://arxiv.org/abs/1506.01497; He et al. 2017, https://arxiv.org/abs/1703.06870. Numbers are
torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn

from engines.geometry import Size
from engines.networks.proposals import NEVER, Propose, Search
from engines.networks.rcnn import BOX_BINS, MASK_BINS, MaskedRoiHeads, Rcnn
from engines.networks.roi import RoiAlign, pack
from engines.networks.ssd import in_rows
from engines.networks.two_stage import WEIGHTS
from engines.train.losses.matching import Instances, Matched, choose, deltas, match, match_all, of_rows, overlaps
from engines.train.losses.yolox import Objects

_BEND = 1 / 9  # of the smooth L1 loss: where it goes over from a square into a line
_ANCHOR, _BACKGROUND = 0.7, 0.3  # overlap from which on an anchor is positive, and below which it is negative
_REGION = 0.5  # the same of a region; there is nothing between


@dataclass(frozen=True, slots=True)
class Lesson:
    """How many anchors and regions of an image are learnt from, and which share of them may be objects."""

    anchors: int = 256
    anchors_share: float = 0.5
    proposals: int = 2000  # regions that are chosen from
    regions: int = 512
    regions_share: float = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """Regions that are learnt from, K of an image, those of objects first."""

    boxes: Tensor  # (N, K, 4)
    there: Tensor  # (N, K)
    positive: Tensor  # (N, K)
    classes: Tensor  # (N, K): 0 where it is background
    row: Tensor  # (N, K): of the object that it stands for


class RcnnLoss(nn.Module):
    """What a two-stage detector for images of one *size* gets wrong."""

    def __init__(self, size: Size, search: Search, lesson: Lesson) -> None:
        super().__init__()
        self.lesson = lesson
        self.propose = Propose(size, lesson.proposals, search)
        self.align, self.align_finely = RoiAlign(size, BOX_BINS), RoiAlign(size, MASK_BINS)

    def forward(self, network: Rcnn, images: Tensor, truth: Objects) -> dict[str, Tensor]:
        """Run the network on images (N, 3, H, W); random, by which anchors and regions are looked at."""
        levels = network(images)
        found = network.rpn.head(levels)
        with torch.no_grad():
            regions, worth = self.propose(found)
            looked = look(regions, worth, truth, self.lesson)
        parts = proposal_losses(found, self.propose.anchors, truth, self.lesson)
        atlas, heads = pack(levels[:-1]), network.roi_heads
        parts |= region_losses(*heads.boxes(self.align(atlas, looked.boxes)), looked, truth)
        if isinstance(heads, MaskedRoiHeads):
            parts["mask"] = self._mask(heads, atlas, looked, truth)
        return parts

    def _mask(self, heads: MaskedRoiHeads, atlas: Tensor, looked: Looked, truth: Objects) -> Tensor:
        most = int(looked.positive.sum(1).max())  # they come first; all others would be painted for nothing
        if most == 0:
            return atlas.new_zeros(())
        boxes, row, positive = looked.boxes[:, :most], looked.row[:, :most], looked.positive[:, :most]
        logits = heads.masks(self.align_finely(atlas, boxes), looked.classes[:, :most].flatten())
        assert isinstance(truth, Instances), "a segmenter is taught with masks"  # noqa: S101 - for the type checker
        old = of_rows(truth.boxes, row)[positive]
        wanted = seen(of_rows(truth.masks, row)[positive], old, boxes[positive], logits.shape[1])
        return F.binary_cross_entropy_with_logits(logits[positive.flatten()].float(), wanted)


def proposal_losses(
    found: Sequence[tuple[Tensor, Tensor]], anchors: Tensor, truth: Objects, lesson: Lesson
) -> dict[str, Tensor]:
    """Compare objectness (N, 3, h, w) and deltas (N, 12, h, w) of each level with what *anchors* (A, 4) stand for."""
    logits = torch.cat([in_rows(objectness, 1) for objectness, _ in found], 1).squeeze(2).float()
    moves = torch.cat([in_rows(each, 4) for _, each in found], 1).float()
    matched = match_all(overlaps(truth, anchors), _ANCHOR, _BACKGROUND)
    rows, there = choose(matched, lesson.anchors, lesson.anchors_share)
    positive = of_rows(matched.positive, rows) & there
    wanted = deltas(anchors[rows], of_rows(truth.boxes, of_rows(matched.row, rows)), (1.0, 1.0))
    count = there.sum().clamp(min=1)
    binary = F.binary_cross_entropy_with_logits(of_rows(logits, rows), positive.float(), reduction="none")
    return {
        "objectness": (binary * there).sum() / count,
        "proposal": missed(of_rows(moves, rows), wanted, positive) / count,
    }


def look(regions: Tensor, worth: Tensor, truth: Objects, lesson: Lesson) -> Looked:
    """Choose what to learn from of regions (N, P, 4), with their scores (N, P), and of the objects themselves."""
    boxes = torch.cat((regions, truth.boxes), 1)
    real = torch.cat((worth > NEVER, truth.there), 1)
    matched = match(overlaps(truth, boxes), _REGION, _REGION)
    matched = Matched(matched.row, matched.positive & real, matched.negative & real)
    rows, there = choose(matched, lesson.regions, lesson.regions_share)
    positive, row = of_rows(matched.positive, rows) & there, of_rows(matched.row, rows)
    classes = torch.where(positive, of_rows(truth.classes, row), 0)
    return Looked(of_rows(boxes, rows), there, positive, classes, row)


def region_losses(logits: Tensor, moves: Tensor, looked: Looked, truth: Objects) -> dict[str, Tensor]:
    """Compare class logits (N * K, C) and deltas (N * K, 4 C) of regions with what these stand for."""
    count = looked.there.sum().clamp(min=1)
    entropy = F.cross_entropy(logits.float(), looked.classes.flatten(), reduction="none")
    classes = looked.classes.flatten()
    own = moves.float().reshape(len(classes), -1, 4)[torch.arange(len(classes), device=classes.device), classes]
    wanted = deltas(looked.boxes, of_rows(truth.boxes, looked.row), WEIGHTS)
    return {
        "class": (entropy * looked.there.flatten()).sum() / count,
        "box": missed(own.reshape(wanted.shape), wanted, looked.positive) / count,
    }


def missed(moves: Tensor, wanted: Tensor, positive: Tensor) -> Tensor:
    """Add up how far deltas (N, K, 4) are from those *wanted*, of the positive (N, K) alone."""
    loss = F.smooth_l1_loss(moves, wanted, reduction="none", beta=_BEND).sum(2)
    return torch.where(positive, loss, 0.0).sum()


def seen(masks: Tensor, old: Tensor, new: Tensor, cells: int) -> Tensor:
    """See masks (R, M, M) of the *old* boxes (R, 4) through the *new* ones: (R, cells, cells) in 0..1.

    What lies outside an old box is nothing. Edges are where the boxes say, not half a pixel off as in torchvision:
    masks are painted so, and of a small object half a pixel is much.
    """
    scale = 255.0 if masks.dtype == torch.uint8 else 1.0
    steps = (torch.arange(cells, device=masks.device) + 0.5) / cells
    side = (old[:, 2:] - old[:, :2]).clamp(min=1e-3)
    where = new[:, :2, None] + (new[:, 2:] - new[:, :2])[..., None] * steps  # (R, 2, cells), x and y
    x, y = ((where - old[:, :2, None]) / side[..., None] * 2 - 1).unbind(1)
    grid = torch.stack((x[:, None, :].expand(-1, cells, -1), y[:, :, None].expand(-1, -1, cells)), 3)
    return F.grid_sample(masks.unsqueeze(1).float() / scale, grid, align_corners=False).squeeze(1)
