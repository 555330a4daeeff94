"""Pairs of images whose motion is exact: textured shapes that move over a ground that moves, all by affine maps.

As Dosovitskiy et al. 2015 made their "Flying Chairs", https://arxiv.org/abs/1504.06852, section 4.2, with textures made
of random numbers for their photographs: no file is needed, and there is no end of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from engines.geometry import Size
from engines.train.data.pairs import FlowPair
from engines.train.data.shapes import outline
from engines.train.data.textures import Textures
from engines.types import Float, Image
from engines.world.affine import Affine, apply, inverse, similarity

Generator = np.random.Generator

_SHIFT = 4  # bits of a fraction of a pixel, where polygons are filled
_SOLID = 128  # of opacity: from there on a pixel is the shape's


@dataclass(frozen=True, slots=True)
class Motions:
    """How far things move, in pixels, on the average; nothing moves farther than *most* beside its ground."""

    ground: float = 4.0
    shape: float = 5.0
    most: float = 24.0
    still: float = 0.15  # of the grounds


@dataclass(frozen=True, slots=True, eq=False)
class _Surface:
    """Something flat: its texture, where that lies in the earlier image, and how it moves from there."""

    texture: Image
    placed: Affine
    moved: Affine


class Chairs:
    """A pair for each number, the same for the same seed."""

    def __init__(self, seed: int, size: Size, motions: Motions = Motions(), shapes: int = 14) -> None:
        """Make pairs of *size* with up to so many *shapes*."""
        self._seed, self._size, self._motions, self._shapes = seed, size, motions, shapes
        self._textures = Textures(seed)

    def pair(self, number: int) -> FlowPair:
        rng = np.random.default_rng((self._seed, 21, number))
        pace = math.exp(rng.uniform(-1.6, 0.8))  # some cameras look at slow things only
        ground = self._ground(rng, pace)
        uv = _field(ground.moved, (0, 0), self._size)
        images = [self._painted(ground.texture, map_) for map_ in (ground.placed, ground.moved @ ground.placed)]
        for _ in range(rng.integers(min(1, self._shapes), self._shapes + 1)):
            self._add(rng, pace, ground, (images[0], images[1], uv))
        return FlowPair(images[0], images[1], uv, np.ones(self._size, np.bool_))

    def _ground(self, rng: Generator, pace: float) -> _Surface:
        still = rng.random() < self._motions.still
        moved = np.eye(3) if still else self._motion(rng, self._middle, pace * self._motions.ground, 0.25)
        return _Surface(self._textures.any(rng), self._placed(rng), moved)

    def _add(self, rng: Generator, pace: float, ground: _Surface, canvas: tuple[Image, Image, Float]) -> None:
        """Put a shape before all that is there already, in both images and in the motion."""
        height, width = self._size
        middle = rng.uniform(-0.1, 1.1) * width, rng.uniform(-0.1, 1.1) * height
        radius = min(height, width) * math.exp(rng.uniform(math.log(0.04), math.log(0.5)))
        edge = apply(similarity(radius, rng.uniform(0, 2 * math.pi), *middle), outline(rng))
        own = self._motion(rng, middle, pace * self._motions.shape, 1.0)
        moved = ground.moved @ own if rng.random() < 0.7 else own
        surface = _Surface(self._textures.any(rng), self._placed(rng), moved)
        before, after, uv = canvas
        _cover(before, surface.texture, surface.placed, edge)
        _cover(after, surface.texture, moved @ surface.placed, apply(moved, edge))
        _tell(uv, moved, edge)

    def _motion(self, rng: Generator, middle: tuple[float, float], far: float, turn: float) -> Affine:
        """Choose a turn and a zoom about a point, a shear and a shift: mostly small ones."""
        angle, zoom = turn * rng.normal(0, 0.12), math.exp(turn * rng.normal(0, 0.08))
        length = min(rng.exponential(far), self._motions.most)
        way = rng.uniform(0, 2 * math.pi)
        sheared = np.eye(3)
        sheared[:2, :2] += turn * rng.normal(0, 0.04, (2, 2))
        back = similarity(1, 0, -middle[0], -middle[1])
        x, y = middle[0] + length * math.cos(way), middle[1] + length * math.sin(way)
        out: Affine = similarity(zoom, angle, x, y) @ sheared @ back
        return out

    def _placed(self, rng: Generator) -> Affine:
        """Lay a texture into the image, turned and scaled at random."""
        scale = math.exp(rng.uniform(math.log(0.7), math.log(2)))
        start = rng.uniform(-1, 0, 2) * self._textures.side
        return similarity(scale, rng.uniform(0, 2 * math.pi), *self._middle) @ similarity(1, 0, *start)

    def _painted(self, texture: Image, map_: Affine) -> Image:
        return _warped(texture, map_, self._size)

    @property
    def _middle(self) -> tuple[float, float]:
        return (self._size[1] - 1) / 2, (self._size[0] - 1) / 2


def _warped(texture: Image, map_: Affine, size: Size) -> Image:
    """Paint a texture, which is mirrored beyond its edges, where a map lays it: (H, W, 3)."""
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(texture, inverse(map_)[:2], size[::-1], flags=how, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(out, np.uint8)


def _cover(image: Image, texture: Image, placed: Affine, edge: npt.NDArray[np.float64]) -> None:
    """Paint a texture over the inside of a polygon."""
    found = _opacity(edge, (image.shape[0], image.shape[1]))
    if found is None:
        return
    top, left, opacity = found
    rows, columns = opacity.shape
    paint = _warped(texture, similarity(1, 0, -left, -top) @ placed, opacity.shape)
    part = image[top : top + rows, left : left + columns]
    over = cv2.merge([opacity] * 3)
    mixed = cv2.add(cv2.multiply(paint, over, scale=1 / 255), cv2.multiply(part, cv2.bitwise_not(over), scale=1 / 255))
    part[:] = mixed


def _tell(uv: Float, moved: Affine, edge: npt.NDArray[np.float64]) -> None:
    """Write how the inside of a polygon moves."""
    found = _opacity(edge, (uv.shape[0], uv.shape[1]))
    if found is None:
        return
    top, left, opacity = found
    rows, columns = opacity.shape
    part = uv[top : top + rows, left : left + columns]
    np.copyto(part, _field(moved, (top, left), opacity.shape), where=(opacity >= _SOLID)[..., None])


def _opacity(edge: npt.NDArray[np.float64], size: Size) -> tuple[int, int, npt.NDArray[np.uint8]] | None:
    """Fill a polygon, where it lies in the image: (top, left, (h, w)); None for one that lies outside."""
    low, high = np.floor(edge.min(0)) - 1, np.ceil(edge.max(0)) + 2
    left, top = (max(int(n), 0) for n in low)
    right, bottom = min(int(high[0]), size[1]), min(int(high[1]), size[0])
    if right <= left or bottom <= top:
        return None
    filled = np.zeros((bottom - top, right - left), np.uint8)
    at = np.rint((edge - (left, top)) * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(filled, [at], (255,), cv2.LINE_AA, _SHIFT)
    return top, left, filled


def _field(map_: Affine, corner: tuple[int, int], size: Size) -> Float:
    """Say how far a map moves the pixels (h, w) from *corner* (top, left) on: (h, w, 2)."""
    y = np.arange(corner[0], corner[0] + size[0], dtype=np.float32)[:, None]
    x = np.arange(corner[1], corner[1] + size[1], dtype=np.float32)[None]
    step = (map_[:2] - np.eye(2, 3)).astype(np.float32)
    return np.stack([x * row[0] + y * row[1] + row[2] for row in step], axis=2)
