"""Scenes with masks: of the synthetic world, and of folders with COCO annotations; mirrored, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from engines.geometry import Size
from engines.metrics.outlines import outlined
from engines.metrics.truth import Annotation, Picture
from engines.rle import Rle, decode, encode
from engines.train.data.augment import mirror
from engines.train.data.coco import Folder
from engines.train.data.scene import Random, Scene
from engines.train.data.world import VISIBLE, Worlds
from engines.train.errors import TrainingError
from engines.types import Bool, Float, Image
from engines.world import CLASSES
from engines.world import Scene as Truth

CELLS = 56  # of a mask, along each side of its box: twice what networks paint

Cells = npt.NDArray[np.uint8]  # (N, CELLS, CELLS) in 0..255, each aligned to its box


@dataclass(frozen=True, slots=True, eq=False)
class MaskedScene(Scene):
    """An image with N objects and their masks."""

    masks: Cells
    outlines: tuple[Rle, ...] = ()  # of the whole image, where they are measured by; else none

    def only(self, rows: Bool) -> MaskedScene:
        outlines = tuple(each for each, kept in zip(self.outlines, rows, strict=True) if kept) if self.outlines else ()
        kept = Scene.only(self, rows)  # without arguments, super would miss the class that slots make anew
        assert isinstance(kept, MaskedScene)  # noqa: S101 - for the type checker
        return replace(kept, masks=self.masks[rows], outlines=outlines)


class MaskedWorlds:
    """Endless images of worlds."""

    labels = CLASSES

    def __init__(self, seed: int, held_out: int | None = None, size: Size = (0, 0)) -> None:
        """See `Worlds`."""
        self._worlds = Worlds(seed, held_out, size)

    def learn(self, number: int) -> MaskedScene:
        found, random = self._worlds.look(number)
        return mirrored(_masked(found), random)

    def calm(self, number: int) -> MaskedScene:
        return self.learn(number)

    def held_out(self) -> Sequence[MaskedScene]:
        return self._held_out

    @cached_property
    def _held_out(self) -> list[MaskedScene]:
        return [replace(_masked(each), outlines=_outlines(each)) for each in self._worlds.held_out()]


def _masked(found: Truth) -> MaskedScene:
    cells = []
    for row, box in enumerate(found.xyxy):
        top, left, pixels = found.mask(row)
        cells.append(in_cells(pixels, box - (left, top, left, top)))
    return MaskedScene(found.image, found.xyxy, found.class_id, found.visible < VISIBLE, stacked(cells))


def _outlines(found: Truth) -> tuple[Rle, ...]:
    return tuple(encode(found.labels == row + 1) for row in range(len(found)))


class MaskedFolder:
    """A folder's images in an order that is another each time around."""

    def __init__(self, folder: Folder, seed: int, measured: Folder | None = None) -> None:
        self._seed, self._folder, self._measured = seed, folder, measured or folder
        self._learnt, self._held = folder.parts(measured)
        self.labels = tuple(folder.truth.categories[each] for each in sorted(folder.truth.categories))
        self._rows = {category: row for row, category in enumerate(sorted(folder.truth.categories))}

    def learn(self, number: int) -> MaskedScene:
        turn, place = divmod(number, len(self._learnt))
        picture = self._learnt[_order(self._seed, turn, len(self._learnt))[place]]
        return mirrored(self._read(self._folder, picture), np.random.default_rng((self._seed, number)))

    def calm(self, number: int) -> MaskedScene:
        return self.learn(number)

    def held_out(self) -> Sequence[MaskedScene]:
        return [self._read(self._measured, picture) for picture in self._held]

    def _read(self, folder: Folder, picture: Picture) -> MaskedScene:
        objects = _objects(folder).get(picture.id, [])
        xywh = np.array([each.xywh for each in objects], np.float32).reshape(-1, 4)
        boxes = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])
        outlines = [_outline(each, picture) for each in objects]
        cells = [in_cells(decode(rle), box) for rle, box in zip(outlines, boxes, strict=True)]
        classes = np.array([self._rows[each.category] for each in objects], np.int32)
        hidden = np.array([each.crowd or each.difficult for each in objects], np.bool_)
        image = _image(folder.images / picture.file_name, picture)
        return MaskedScene(image, boxes, classes, hidden, stacked(cells), tuple(outlines))


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, count: int) -> list[int]:
    order: list[int] = np.random.default_rng((seed, turn, count)).permutation(count).tolist()
    return order


@lru_cache(maxsize=2)
def _objects(folder: Folder) -> Mapping[int, list[Annotation]]:
    grouped: dict[int, list[Annotation]] = {}
    for each in folder.truth.annotations:
        grouped.setdefault(each.picture, []).append(each)
    return grouped


def _outline(each: Annotation, picture: Picture) -> Rle:
    try:
        return outlined(each, picture.size)
    except ValueError as error:
        raise TrainingError(f"{picture.file_name}: {error}: mend the annotations, or train a detector") from error


def _image(path: Path, picture: Picture) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None or image.shape[:2] != picture.size:
        raise TrainingError(
            f"{path} is no image of {picture.size} pixels: replace it, or take it out of the annotations"
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def mirrored(scene: MaskedScene, random: Random) -> MaskedScene:
    """Turn left and right around, every other time."""
    turned = mirror(scene, random)
    if turned is scene:
        return scene
    assert isinstance(turned, MaskedScene)  # noqa: S101 - for the type checker
    return replace(turned, masks=np.ascontiguousarray(scene.masks[:, :, ::-1]))


def in_cells(mask: Bool, box: Float) -> Cells:
    """Sample a mask (H, W) in the cells of a box (4,) in its pixels, bilinearly: (CELLS, CELLS) in 0..255.

    What lies outside the box is not looked at: the mask goes on there as it ends.
    """
    (left, top), (right, bottom) = np.floor(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
    part = mask[max(top, 0) : max(bottom, top + 1), max(left, 0) : max(right, left + 1)]
    step, first = (box[2:] - box[:2]) / CELLS, box[:2] - np.maximum((left, top), 0)
    matrix = np.column_stack([np.diag(step), first + step / 2 - 0.5])
    pixels = np.where(part, np.uint8(255), np.uint8(0))
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(pixels, matrix, (CELLS, CELLS), flags=how, borderMode=cv2.BORDER_REPLICATE))


def stacked(cells: Sequence[Cells]) -> Cells:
    """Stack masks of one object each; there may be none."""
    return np.stack(cells) if cells else np.zeros((0, CELLS, CELLS), np.uint8)
