"""Tiled inference: a large image cut into overlapping parts, so that its small objects are large enough to be found.

As in Akyon et al. 2022 (slicing aided hyper inference), https://arxiv.org/abs/2202.06934; what differs is how parts of
objects are told from objects: by the inner borders of tiles, that cut them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from engines.boxes import Suppression, ios, iou
from engines.decoders import DetectOptions
from engines.decoders.selection import select
from engines.geometry import Size
from engines.model import Model
from engines.runtimes.base import Runtime
from engines.types import Bool, Detections, Float, Image, Int, Masks

_NEAR = 2.0  # source pixels from a border to a box that it cuts: networks do not draw to the pixel
_NEAR_SHARE = 0.01  # of the tile's side, where that is more: what a pixel of the network's input is of a large tile


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of an image, in whole pixels."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, image: Image) -> Image:
        """Cut it out of an image (H, W, 3): a view."""
        return image[self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True, slots=True)
class Tiling:
    """How an image is cut: an object no larger than the overlap is whole in one tile at least. Raises ValueError."""

    rows: int
    columns: int
    overlap: float = 0.2  # of neighbours, as a share of a tile's side
    whole: bool = True  # the whole image as well, for objects larger than a tile

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"a grid of {self.rows}x{self.columns} has no tiles: write 2x2, rows before columns")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"tiles cannot overlap by {self.overlap:g} of their side: give 0 or more, less than 1")

    @classmethod
    def parse(cls, text: str) -> Tiling:
        """Read ``2x3``: two rows of three. Raises ValueError."""
        parts = text.split("x")
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise ValueError(f"{text!r} is no grid of tiles: write 2x2, rows before columns")
        return cls(int(parts[0]), int(parts[1]))

    def cut(self, size: Size) -> list[Tile]:
        """List the tiles of an image of *size* (height, width), the whole one first if wanted; each only once."""
        height, width = size
        across, down = _spans(width, self.columns, self.overlap), _spans(height, self.rows, self.overlap)
        parts = [Tile(left, top, right, bottom) for top, bottom in down for left, right in across]
        whole = [Tile(0, 0, width, height)] if self.whole else []
        return list(dict.fromkeys(whole + parts))


def _spans(length: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Cover *length* pixels evenly with the shortest equal spans that overlap by enough; of few pixels, with fewer."""
    side = math.ceil(length / (count - (count - 1) * overlap))
    while side + (count - 1) * math.floor(side * (1 - overlap)) < length:  # steps are whole pixels
        side += 1
    side = min(side, length)
    starts = [(length - side) * i // max(count - 1, 1) for i in range(count)]
    return [(start, start + side) for start in dict.fromkeys(starts)]


def per_tile(options: DetectOptions) -> DetectOptions:
    """Leave out what can be said only of the whole image: for the model that looks at the tiles."""
    return replace(options, min_size=0.0, regions=())


def tiled(model: Model[Image, Detections], tiling: Tiling, options: DetectOptions) -> Tiled:
    """Let a detector look at an image tile by tile. Open it with the options that `per_tile` leaves of these."""
    return Tiled(model, tiling, options)


class Tiled:
    """A detector that looks at images of any size tile by tile; to its callers it is a `Model`."""

    def __init__(self, model: Model[Image, Detections], tiling: Tiling, options: DetectOptions) -> None:
        self._model, self._tiling, self._options = model, tiling, options

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def labels(self) -> tuple[str, ...]:
        return self._model.labels

    @property
    def runtime(self) -> Runtime:
        return self._model.runtime

    def __call__(self, images: Sequence[Image]) -> list[Detections]:
        """Look at images (H, W, 3): all their tiles are one sequence, so they fill batches."""
        return self.begin(images)()

    def begin(self, images: Sequence[Image]) -> Callable[[], list[Detections]]:
        """Start on images; the function that is returned waits for their objects. See `Model.begin`."""
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        cuts = [self._tiling.cut(size) for size in sizes]
        crops = [tile.of(image) for image, tiles in zip(images, cuts, strict=True) for tile in tiles]
        finish = self._model.begin(crops)
        return lambda: self._merged(finish(), cuts, sizes)

    def _merged(
        self, found: list[Detections], cuts: Sequence[Sequence[Tile]], sizes: Sequence[Size]
    ) -> list[Detections]:
        ends = accumulate((len(tiles) for tiles in cuts), initial=0)
        parts = (found[start:end] for start, end in pairwise(ends))
        return [
            select(merge(part, tiles, size, self._options.suppression), self._options, size)
            for part, tiles, size in zip(parts, cuts, sizes, strict=True)
        ]

    def close(self) -> None:
        self._model.close()


def merge(found: Sequence[Detections], tiles: Sequence[Tile], size: Size, how: Suppression) -> Detections:
    """Make one image's objects of those of its tiles: in its pixels, best first, each of them once.

    An object that no inner border of its tile cuts counts as whole. Of two whole ones of a class (*agnostic*: of any)
    that overlap by more than *how* says, from different tiles, the better one stays. One that is cut goes where its
    intersection with another, over the smaller area, is more than that: whole ones come before it, then better ones.
    """
    whole = [~_cut(one.xyxy, tile, size) for one, tile in zip(found, tiles, strict=True)]
    every = _joined([_moved(one, tile) for one, tile in zip(found, tiles, strict=True)])
    views = _Views(
        np.repeat(np.arange(len(found), dtype=np.int32), [len(one) for one in found]),
        np.concatenate([*whole, np.zeros(0, np.bool_)]),
    )
    order = np.lexsort((-every.confidence, ~views.whole))  # stable: of equals the earlier tile's, so the whole image's
    every, views = every[order], _Views(views.tile[order], views.whole[order])
    kept = np.flatnonzero(_standing(_same(every, views, how)))
    best = kept[np.argsort(-every.confidence[kept], kind="stable")]
    return every[best]


@dataclass(frozen=True, slots=True, eq=False)
class _Views:
    """How N objects were seen."""

    tile: Int  # (N,) by which tile
    whole: Bool  # (N,)


def _same(every: Detections, views: _Views, how: Suppression) -> Bool:
    """Tell which objects are the same one, seen twice: (N, N)."""
    xyxy, both_whole = every.xyxy, views.whole[:, None] & views.whole
    same: Bool = np.where(both_whole, iou(xyxy, xyxy), ios(xyxy, xyxy)) > how.iou
    same &= views.tile[:, None] != views.tile  # of one tile they were told apart already
    if not how.agnostic:
        same &= every.class_id[:, None] == every.class_id
    return same


def _standing(same: Bool) -> Bool:
    """Walk down objects (N,), first come first served: which of them are no object that stands already."""
    gone = np.zeros(len(same), np.bool_)
    for i, row in enumerate(same):
        if not gone[i]:
            gone[i + 1 :] |= row[i + 1 :]
    return ~gone


def _cut(xyxy: Float, tile: Tile, size: Size) -> Bool:
    """Tell which boxes (N, 4), in the tile's pixels, reach a border of it that is none of the image's."""
    height, width = size
    sides = np.array([tile.right - tile.left, tile.bottom - tile.top] * 2, np.float32)
    near = np.maximum(_NEAR, sides * _NEAR_SHARE)
    inner = [tile.left > 0, tile.top > 0, tile.right < width, tile.bottom < height]
    gap = np.concatenate([xyxy[:, :2], sides[2:] - xyxy[:, 2:]], axis=1)
    out: Bool = ((gap < near) & inner).any(1)
    return out


def _moved(found: Detections, tile: Tile) -> Detections:
    return replace(found, xyxy=found.xyxy + np.array([tile.left, tile.top] * 2, np.float32))


def _joined(found: Sequence[Detections]) -> Detections:
    masks = [one.masks.probs for one in found if one.masks is not None]
    return Detections(
        np.concatenate([one.xyxy for one in found]),
        np.concatenate([one.class_id for one in found]),
        np.concatenate([one.confidence for one in found]),
        masks=Masks(np.concatenate(masks)) if masks else None,
    )
