"""Textures made of nothing but random numbers: smooth noise on grids, and colours along it."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from engines.geometry import Size
from engines.types import Float, Image

Generator = np.random.Generator
Colour = tuple[float, float, float]  # RGB in 0..255


def value_noise(rng: Generator, size: Size, cell: float) -> Float:
    """Spread random values in 0..1, one each *cell* pixels, smoothly over (H, W)."""
    rows, columns = (max(2, round(side / cell) + 1) for side in size)
    coarse = rng.random((rows, columns), np.float32)
    return np.asarray(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def fractal(rng: Generator, size: Size, cell: float, octaves: int = 4) -> Float:
    """Add noise of finer and finer grain, each half as strong: (H, W) of about 0..1."""
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        total += value_noise(rng, size, max(cell / 2**octave, 2)) * np.float32(0.5**octave)
    return total / np.float32(2 - 0.5 ** (octaves - 1))


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """Make a colour of a hue in degrees."""
    r, g, b = colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value)
    return 255 * r, 255 * g, 255 * b


def coloured(tone: Float, stops: Sequence[Colour]) -> Image:
    """Give tones (H, W) in 0..1 the colours between *stops*, evenly spaced: (H, W, 3)."""
    at = np.linspace(0, 255, len(stops))
    channels = [np.interp(np.arange(256), at, [stop[i] for stop in stops]) for i in range(3)]
    table = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    index = np.clip(tone * 255, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(cv2.merge([index] * 3), table[None]), np.uint8)


def smoothstep(values: Float, low: float, high: float) -> Float:
    """Rise from 0 at *low* to 1 at *high* without a corner."""
    t = np.clip((values - low) / (high - low), 0, 1)
    out: Float = (t * t * (3 - 2 * t)).astype(np.float32, copy=False)
    return out
