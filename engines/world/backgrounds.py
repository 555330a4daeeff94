"""Grounds for objects to move on: never plain, so that flow and codecs have something to hold on to."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from engines.geometry import Size
from engines.types import Float, Image
from engines.world.noise import Generator, coloured, fractal, hsv, smoothstep, value_noise


def background(rng: Generator, size: Size, unit: float) -> Image:
    """Paint a ground (H, W, 3) of some kind; *unit* is the pixels of a unit of the world."""
    tone = KINDS[rng.integers(len(KINDS))](rng, size, unit)
    rough = fractal(rng, size, 40 * unit) - np.float32(0.5)
    grain = value_noise(rng, size, 3) - np.float32(0.5)
    image = coloured(tone * np.float32(0.75) + rough * np.float32(0.5) + grain * np.float32(0.22) + 0.12, _palette(rng))
    # Without edges between two pixels: what moves by half of one looks the same.
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.7), np.uint8)


def _palette(rng: Generator) -> list[tuple[float, float, float]]:
    """Choose muted colours, from dark to bright; objects are more colourful."""
    hue, spread = rng.uniform(0, 360), rng.uniform(-70, 70)
    values = np.sort(rng.uniform(0.15, 0.9, 3)) + np.array([-0.08, 0, 0.08])
    return [hsv(hue + i * spread, rng.uniform(0.05, 0.4), float(np.clip(v, 0.05, 1))) for i, v in enumerate(values)]


def _turned(rng: Generator, size: Size) -> tuple[Float, Float]:
    """Lay a grid over the ground at some angle: x and y of each pixel, (H, W) each."""
    angle = rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    y, x = np.ogrid[: size[0], : size[1]]
    x, y = x.astype(np.float32), y.astype(np.float32)
    return np.asarray(c * x - s * y + 4096, np.float32), np.asarray(s * x + c * y + 4096, np.float32)


def _clouds(rng: Generator, size: Size, unit: float) -> Float:
    return smoothstep(fractal(rng, size, rng.uniform(50, 140) * unit), 0.25, 0.75)


def _bricks(rng: Generator, size: Size, unit: float) -> Float:
    x, y = _turned(rng, size)
    high = rng.uniform(14, 34) * unit
    return _tiled(rng, (x, y), (high * rng.uniform(1.6, 3), high), 0.5)


def _tiles(rng: Generator, size: Size, unit: float) -> Float:
    side = rng.uniform(20, 60) * unit
    return _tiled(rng, _turned(rng, size), (side, side), 0)


def _tiled(rng: Generator, xy: tuple[Float, Float], tile: tuple[float, float], shift: float) -> Float:
    """Give each tile a tone of its own, and joints around it; each other row is *shift* of a tile aside."""
    across, down = xy[0] / np.float32(tile[0]), xy[1] / np.float32(tile[1])
    row = np.floor(down)
    across = across + (row % 2) * np.float32(shift)
    column = np.floor(across)
    tones = rng.uniform(0.3, 1, (64, 64)).astype(np.float32)
    tone = tones[row.astype(np.int32) % 64, column.astype(np.int32) % 64]
    edge = [
        np.minimum(at - whole, 1 + whole - at) * np.float32(n)
        for at, whole, n in zip((across, down), (column, row), tile, strict=True)
    ]
    joint = smoothstep(np.minimum(*edge), 0.3, 2)
    return np.asarray(tone * joint, np.float32)


def _stripes(rng: Generator, size: Size, unit: float) -> Float:
    x, _ = _turned(rng, size)
    wobble = value_noise(rng, size, 90 * unit) * np.float32(rng.uniform(0, 40) * unit)
    wave = np.sin((x + wobble) * np.float32(2 * np.pi / (rng.uniform(14, 60) * unit)))
    return smoothstep(wave, -0.6, 0.6)


def _gradient(rng: Generator, size: Size, unit: float) -> Float:
    """A slope from dark to bright, with soft patches."""
    x, _ = _turned(rng, size)
    slope = (x - x.min()) / np.float32(np.ptp(x))
    patches = smoothstep(value_noise(rng, size, rng.uniform(20, 50) * unit), 0.5, 0.6)
    out: Float = slope * np.float32(0.7) + patches * np.float32(0.3)
    return out


KINDS: tuple[Callable[[Generator, Size, float], Float], ...] = (_clouds, _bricks, _tiles, _stripes, _gradient)
