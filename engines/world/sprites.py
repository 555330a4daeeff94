"""What an object looks like: an outline filled with a texture, in sizes that halve, so that none is shrunk by much."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from engines.types import Float
from engines.world.affine import Affine
from engines.world.catalogue import CLASSES, HUES, outline
from engines.world.noise import Colour, Generator, hsv, smoothstep, value_noise

Sprite = npt.NDArray[np.uint8]  # (S, S, 4) RGB times opacity, and opacity

RADIUS = 0.46  # of the outline's circle, as a share of a sprite's side
_STEP = 16  # sides are multiples of it, so they can be halved
_MASTER, _SHIFT = 384, 4  # pixels, and bits of a fraction of one
_SMALLEST = 24  # pixels: half of it is never asked for


def side_for(diameter: float) -> int:
    """Choose the side of a sprite whose object is up to *diameter* pixels large."""
    return max(_SMALLEST, _STEP * int(np.ceil(diameter / (2 * RADIUS) / _STEP)))


def from_sprite(side: int, level: int) -> Affine:
    """Map the pixels of a sprite that was halved *level* times to the plane where its circle's radius is 1."""
    radius, grown = RADIUS * side, 2.0**level
    shift = (grown / 2 - side / 2) / radius
    return np.array([[grown / radius, 0, shift], [0, grown / radius, shift], [0, 0, 1.0]])


def paint(rng: Generator, class_id: int, side: int, action: str) -> tuple[Sprite, ...]:
    """Paint an object of *side* pixels and its halves; what it does may show. The same of the same state of *rng*."""
    opacity = _silhouette(class_id, side)
    axis = (np.arange(side, dtype=np.float32) + np.float32(0.5) - np.float32(side / 2)) / np.float32(RADIUS * side)
    x, y = axis[None], axis[:, None]
    rgb = _fill(rng, class_id, (x, y))
    if action in _LOOKS:
        rgb = _LOOKS[action](rgb, x, y)
    rgb *= _rim(opacity)[..., None]
    whole = np.dstack([rgb * opacity[..., None], opacity * np.float32(255)])
    return _halved(np.clip(np.rint(whole), 0, 255).astype(np.uint8))


def _halved(sprite: Sprite) -> tuple[Sprite, ...]:
    levels = [sprite]
    while levels[-1].shape[0] % 2 == 0 and levels[-1].shape[0] > _SMALLEST:
        half = levels[-1].shape[0] // 2
        levels.append(np.asarray(cv2.resize(levels[-1], (half, half), interpolation=cv2.INTER_AREA), np.uint8))
    return tuple(levels)


def _silhouette(class_id: int, side: int) -> Float:
    """Draw the outline (S, S) in 0..1: pixels at the edge are as opaque as they are covered."""
    small = cv2.resize(_master(class_id), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32) / np.float32(255)


@lru_cache(maxsize=len(CLASSES))
def _master(class_id: int) -> npt.NDArray[np.uint8]:
    image = np.zeros((_MASTER, _MASTER), np.uint8)
    for polygon, ink in zip(outline(class_id), (255, 0), strict=False):
        at = np.rint((polygon * RADIUS * _MASTER + (_MASTER - 1) / 2) * 2**_SHIFT).astype(np.int32)
        cv2.fillPoly(image, [at], (ink,), cv2.LINE_8, _SHIFT)
    image.flags.writeable = False
    return image


def _rim(opacity: Float) -> Float:
    """Darken an object towards its edge, as round things are."""
    soft = cv2.GaussianBlur(opacity, (0, 0), 0.045 * len(opacity))
    return 0.45 + 0.55 * smoothstep(np.asarray(soft, np.float32), 0.35, 0.85)


def _fill(rng: Generator, class_id: int, xy: tuple[Float, Float]) -> Float:
    """Choose colours and a pattern of them: (S, S, 3) in 0..255."""
    size = (xy[1].shape[0], xy[0].shape[1])
    one, other = (np.array(colour, np.float32) for colour in _colours(rng, class_id))
    tone = PATTERNS[rng.integers(len(PATTERNS))](rng, *xy)
    grain = value_noise(rng, size, max(2.0, size[0] / 28)) - np.float32(0.5)
    mixed = one + (other - one) * np.broadcast_to(tone, size)[..., None]
    out: Float = mixed * (1 + np.float32(0.5) * grain)[..., None]
    return out


def _colours(rng: Generator, class_id: int) -> tuple[Colour, Colour]:
    """Choose two colours that differ in brightness; a class that has hues of its own keeps to them."""
    low, high = HUES.get(CLASSES[class_id], (0, 360))
    first, second = rng.uniform(low, high, 2)
    dark, bright = rng.uniform(0.25, 0.55), rng.uniform(0.75, 1.0)
    pair = hsv(first, rng.uniform(0.65, 1), dark), hsv(second, rng.uniform(0.5, 0.95), bright)
    return pair if rng.random() < 0.5 else pair[::-1]


# --- patterns: tones (S, S), or what broadcasts to it, in 0..1, of x (1, S) and y (S, 1) ---


def _waves(rng: Generator, x: Float, y: Float) -> Float:
    angle, count = rng.uniform(0, np.pi), rng.uniform(5, 13)
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    return smoothstep(np.sin(along * np.float32(count) + np.float32(rng.uniform(0, 6))), -0.5, 0.5)


def _checks(rng: Generator, x: Float, y: Float) -> Float:
    count, phase = np.float32(rng.uniform(5, 10)), np.float32(rng.uniform(0, 6))
    return smoothstep(np.sin(x * count + phase) * np.sin(y * count - phase), -0.25, 0.25)


def _blots(rng: Generator, x: Float, y: Float) -> Float:
    size = (y.shape[0], x.shape[1])
    return smoothstep(value_noise(rng, size, size[0] / rng.uniform(4, 8)), 0.35, 0.65)


def _halves(rng: Generator, x: Float, y: Float) -> Float:
    angle = rng.uniform(0, 2 * np.pi)
    return smoothstep(x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)), -0.15, 0.15)


def _dots(rng: Generator, x: Float, y: Float) -> Float:
    count = np.float32(rng.uniform(7, 12))
    return smoothstep(np.sin(x * count) + np.sin(y * count), 0.2, 0.9)


PATTERNS: tuple[Callable[[Generator, Float, Float], Float], ...] = (_waves, _checks, _blots, _halves, _dots)


# --- looks: what an action changes of the colours (S, S, 3) ---


def _glowing(rgb: Float, x: Float, y: Float) -> Float:
    """Let it shine from its middle."""
    light = np.exp(np.float32(-1.8) * (x * x + y * y))[..., None] * np.float32(0.9)
    out: Float = rgb * (1 - light) * np.float32(1.15) + np.array([255, 250, 215], np.float32) * light
    return out


def _striped(rgb: Float, x: Float, y: Float) -> Float:
    """Lay bars of black and white over it."""
    across = (x + y) * np.float32(np.sqrt(0.5) * np.pi / 0.36)
    bars = smoothstep(np.sin(across), -0.3, 0.3)[..., None]
    ink = smoothstep(np.sin(across / 2), -0.1, 0.1)[..., None] * np.float32(245) + 5
    out: Float = rgb + (ink - rgb) * bars * np.float32(0.95)
    return out


_LOOKS: dict[str, Callable[[Float, Float, Float], Float]] = {"glowing": _glowing, "striped": _striped}
