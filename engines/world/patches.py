"""Objects as they lie in the picture: cut to it, numbered by pixel, and painted over each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from engines.geometry import Size
from engines.types import Bool, Image
from engines.world.affine import Affine, apply
from engines.world.catalogue import outline
from engines.world.lives import Life
from engines.world.scene import Labels
from engines.world.sprites import Sprite, from_sprite

_HALF = 128  # of opacity: from there on a pixel is the object's

Edges = tuple[int, int, int, int]  # left, top, right, bottom: whole pixels


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """An object as it lies in the picture, cut to it."""

    life: Life
    action: int
    top: int
    left: int
    pixels: Sprite  # (h, w, 4)
    solid: Bool  # (h, w)
    full: int  # pixels of the object, beyond the picture too
    whole: npt.NDArray[np.float64]  # (4,) xyxy around the outline

    def of(self, array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """View the part of a picture that the patch lies on."""
        height, width = self.solid.shape
        return array[self.top : self.top + height, self.left : self.left + width]


def bounds(class_id: int, placed: Affine) -> npt.NDArray[np.float64]:
    """Say how far an outline that is *placed* in the picture reaches: xyxy, from the middle of the first pixel."""
    points = apply(placed, outline(class_id)[0])
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def in_sight(reach: npt.NDArray[np.float64], size: Size) -> bool:
    """Tell whether something that reaches so far may touch a pixel of the picture."""
    left, top, right, bottom = _edges(reach)
    return right > 0 and bottom > 0 and left < size[1] and top < size[0]


def patch(life: Life, action: int, levels: Sequence[Sprite], placed: Affine, size: Size) -> Patch:
    """Lay an object whose sprites are *levels* into a picture of *size*; it must be in sight."""
    reach = bounds(life.class_id, placed)
    edges = _edges(reach)
    left, top = edges[:2]
    inside = slice(max(-top, 0), size[0] - top), slice(max(-left, 0), size[1] - left)
    pixels = _turned(levels, placed, edges)
    solid = pixels[..., 3] >= _HALF
    full = int(np.count_nonzero(solid))
    return Patch(life, action, max(top, 0), max(left, 0), pixels[inside], solid[inside], full, reach + 0.5)


def _edges(reach: npt.NDArray[np.float64]) -> Edges:
    """Widen to whole pixels, and one more for soft edges."""
    left, top = (np.floor(reach[:2]).astype(int) - 1).tolist()
    right, bottom = (np.ceil(reach[2:]).astype(int) + 2).tolist()
    return left, top, right, bottom


def _turned(levels: Sequence[Sprite], placed: Affine, edges: Edges) -> Sprite:
    """Turn and scale the sprite whose size is nearest, as it lies between *edges* of the picture."""
    side = len(levels[0])
    shrunk = 1 / np.hypot(*(placed @ from_sprite(side, 0))[:2, 0])  # sprite pixels to one of the picture
    level = min(max(round(float(np.log2(shrunk))), 0), len(levels) - 1)
    map_ = (placed @ from_sprite(side, level))[:2]
    left, top, right, bottom = edges
    map_[:, 2] -= left, top
    return np.asarray(cv2.warpAffine(levels[level], map_, (right - left, bottom - top)), np.uint8)


def number(patches: Sequence[Patch], size: Size) -> Labels:
    """Number the pixels (H, W) of each patch from 1 on, the nearest last."""
    labels = np.zeros(size, np.uint8)
    for index, each in enumerate(patches, 1):
        each.of(labels)[each.solid] = index
    return labels


def seen(labels: Labels, index: int, whole: Patch) -> tuple[Edges, int]:
    """Find what is left of a patch: its box, and how many pixels."""
    mine = whole.of(labels) == index
    rows, columns = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
    if not len(rows):
        return (0, 0, 0, 0), 0
    left, top = whole.left + int(columns[0]), whole.top + int(rows[0])
    box = left, top, whole.left + int(columns[-1]) + 1, whole.top + int(rows[-1]) + 1
    return box, int(np.count_nonzero(mine))


def overlay(image: Image, patches: Sequence[Patch]) -> None:
    """Paint patches over a picture, the nearest last."""
    for each in patches:
        part = each.of(image)
        rgb, opacity = (np.ascontiguousarray(each.pixels[..., channels]) for channels in (slice(3), 3))
        clear = cv2.merge([cv2.bitwise_not(opacity)] * 3)
        part[:] = cv2.add(cv2.multiply(part, clear, scale=1 / 255), rgb)
