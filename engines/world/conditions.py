"""What lies between the world and its picture: light, shadows, a lens out of focus, a sensor's noise."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from engines.geometry import Size
from engines.types import Float, Image
from engines.world.camera import Wave
from engines.world.noise import smoothstep, value_noise

_GRID = 8  # pixels of a picture to one of the light's
_ONE = 128  # of the light's 8 bits
_CLOUDS = 96  # cells a side of the clouds, which are mirrored beyond
_SIGMA = 32.0  # of the noise that is kept
_SPARE = 64  # pixels by which the noise is larger than a picture, so that it can be laid elsewhere each time


@dataclass(frozen=True, slots=True)
class Conditions:
    """How strong each is: 1 is usual, 0 nothing. The camera's motion belongs to it, too."""

    noise: float = 1.0
    blur: float = 1.0
    light: float = 1.0
    pan: float = 1.0


USUAL = Conditions()
CLEAR = Conditions(noise=0, blur=0, light=0)  # every pixel is the world's own


class Film:
    """Make pictures of what the world looks like; a pure function of a seed and the time."""

    def __init__(self, seed: int, size: Size, conditions: Conditions) -> None:
        rng = np.random.default_rng((seed, 4))
        self._seed, self._size = seed, size
        self._sigma = float(rng.uniform(0, 0.9)) * conditions.blur  # pixels
        self._light = _Light(rng, size, conditions.light) if conditions.light else None
        self._grain = float(rng.uniform(1, 6)) * conditions.noise  # of 255

    def expose(self, image: Image, t: float) -> Image:
        """Give a picture (H, W, 3) its light, its blur and its noise, in this order."""
        if self._light is not None:
            image = self._light.on(image, t)
        if self._sigma > 0.3:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), self._sigma), np.uint8)
        if self._grain:
            gain = self._grain / _SIGMA
            image = np.asarray(cv2.addWeighted(image, 1, self._noise(t), gain, -_ONE * gain), np.uint8)
        return image

    def _noise(self, t: float) -> Image:
        """Choose a part of the noise by the time."""
        bits = struct.unpack("<Q", struct.pack("<d", t))[0]
        top, left = np.random.default_rng((self._seed, 5, bits)).integers(0, _SPARE, 2)
        return np.asarray(_static(self._size)[top : top + self._size[0], left : left + self._size[1]], np.uint8)


@lru_cache(maxsize=4)
def _static(size: Size) -> Image:
    """Make noise about the middle of 8 bits, a little larger than a picture: the same for all worlds of a size."""
    noise = np.random.default_rng(0).standard_normal((size[0] + _SPARE, size[1] + _SPARE, 3), np.float32)
    return np.asarray(np.clip(np.rint(noise * np.float32(_SIGMA) + np.float32(_ONE)), 0, 255), np.uint8)


class _Light:
    """A lamp that wavers, a slope across the picture, and the shadows of clouds that drift."""

    def __init__(self, rng: np.random.Generator, size: Size, strength: float) -> None:
        rows, columns = (-(-side // _GRID) + 1 for side in size)
        self._size, self._strength = size, strength
        self._gain = Wave.make(rng)
        angle = rng.uniform(0, 2 * math.pi)
        y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None]
        self._slope = ((x * math.cos(angle) + y * math.sin(angle)) * rng.uniform(0, 0.18)).astype(np.float32)
        self._tint = (1 + rng.uniform(-0.06, 0.06, 3) * strength).astype(np.float32)
        self._clouds = rng.uniform(0.1, 0.4) * smoothstep(value_noise(rng, (_CLOUDS, _CLOUDS), 16), 0.5, 0.75)
        self._drift = rng.uniform(-1.2, 1.2, 2).tolist()  # of the clouds, cells a second

    def on(self, image: Image, t: float) -> Image:
        bright = 1 + self._strength * (0.06 * np.float32(self._gain.at(t)) + self._slope - self._shadow(t))
        cells = np.clip(bright[..., None] * self._tint * np.float32(_ONE), 0, 255).astype(np.uint8)
        light = cv2.resize(cells, self._size[::-1], interpolation=cv2.INTER_LINEAR)
        return np.asarray(cv2.multiply(image, light, scale=1 / _ONE), np.uint8)

    def _shadow(self, t: float) -> Float:
        rows, columns = self._slope.shape
        moved = np.array(
            [[1, 0, self._drift[0] * t % (2 * _CLOUDS)], [0, 1, self._drift[1] * t % (2 * _CLOUDS)]], np.float64
        )
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(self._clouds, moved, (columns, rows), flags=how, borderMode=cv2.BORDER_REFLECT), np.float32
        )
