"""Textures for things that have none: grounds of the world, and collages with edges as photographs have them."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from engines.train.data.shapes import outline
from engines.types import Float, Image
from engines.world.affine import apply, similarity
from engines.world.backgrounds import background
from engines.world.noise import coloured, fractal, hsv, smoothstep

Generator = np.random.Generator

SIDE = 480  # pixels of a texture
_COUNT = 96


class Textures:
    """A number of textures, each painted when it is first asked for."""

    side = SIDE

    def __init__(self, seed: int, count: int = _COUNT) -> None:
        self._seed, self._count = seed, count
        self._made = lru_cache(maxsize=count)(self._make)

    def any(self, rng: Generator) -> Image:
        """Take one at random: (S, S, 3), read-only."""
        return self._made(int(rng.integers(self._count)))

    def _make(self, number: int) -> Image:
        rng = np.random.default_rng((self._seed, 20, number))
        image = _KINDS[number % len(_KINDS)](rng)
        image.flags.writeable = False
        return image


def _ground(rng: Generator) -> Image:
    return background(rng, (SIDE, SIDE), float(rng.uniform(0.5, 1.5)))


def _collage(rng: Generator) -> Image:
    """Lay many shapes of plain or shaded colours on each other, then a little grain."""
    image = _clouds(rng)
    for _ in range(rng.integers(30, 160)):
        radius = float(np.exp(rng.uniform(np.log(4), np.log(90))))
        map_ = similarity(radius, rng.uniform(0, 6.3), *rng.uniform(0, SIDE, 2))
        colour = rng.uniform(0, 1) * 0.5 * _colour(rng) + 0.5 * image[tuple(rng.integers(0, SIDE, 2))]
        points = np.rint(apply(map_, outline(rng)) * 16).astype(np.int32)
        cv2.fillPoly(image, [points], colour.tolist(), cv2.LINE_AA, 4)
    grain = rng.normal(0, rng.uniform(1, 10), image.shape).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(cv2.add(image, grain, dtype=cv2.CV_8U), (0, 0), 0.6), np.uint8)


def _clouds(rng: Generator) -> Image:
    """Smooth tones of a few colours; at times hardly any contrast, as fog and walls have."""
    tone = smoothstep(fractal(rng, (SIDE, SIDE), float(rng.uniform(15, 160)), int(rng.integers(2, 7))), 0.2, 0.8)
    strength = float(rng.uniform(0.1, 1))
    return coloured(tone * np.float32(strength) + np.float32(rng.uniform(0, 1 - strength)), _palette(rng))


def _rough(rng: Generator) -> Image:
    """Grains and pores of one size, as stone, sand and cloth have."""
    cell = float(rng.uniform(2, 9))
    fine, broad = fractal(rng, (SIDE, SIDE), cell, 2), fractal(rng, (SIDE, SIDE), 80, 3)
    tone = smoothstep(fine, 0.3, 0.7) * np.float32(rng.uniform(0.15, 0.7)) + broad * np.float32(0.5)
    return coloured(np.clip(tone, 0, 1), _palette(rng))


def _palette(rng: Generator) -> list[tuple[float, float, float]]:
    return [tuple(_colour(rng).tolist()) for _ in range(rng.integers(2, 5))]


def _colour(rng: Generator) -> Float:
    return np.array(hsv(rng.uniform(0, 360), rng.uniform(0, 0.8), rng.uniform(0.05, 1)), np.float32)


_KINDS = (_ground, _collage, _clouds, _rough, _collage)
