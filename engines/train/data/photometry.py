"""What light, lenses and sensors do to a pair of images: once for both, and a little to each alone.

The ranges are those of Dosovitskiy et al. 2015, "FlowNet", https://arxiv.org/abs/1504.06852, section 4.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from engines.types import Float, Image

Generator = np.random.Generator
Table = npt.NDArray[np.float32]  # (256, 3): what a level of each channel becomes, in 0..1

_NOISE = 1 << 20  # numbers, from one of which on the noise of an image is taken


@dataclass(frozen=True, slots=True)
class Photometry:
    """How much may change; 0 changes nothing, 1 is as much as FlowNet was trained with."""

    both: float = 1.0
    each: float = 0.25  # between the earlier and the later image
    noise: float = 0.03  # the most, as a share of full scale
    blur: float = 0.2  # how often


def disturb(rng: Generator, images: tuple[Image, ...], amount: Photometry) -> tuple[Image, ...]:
    """Change the colours of images (H, W, 3) together, and of each a little more; add noise, and at times blur."""
    both = _curve(rng, np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[:, None], 3, 1), amount.both)
    sigma = float(rng.uniform(0, amount.noise)) * 255
    blur = float(rng.uniform(0.4, 1.2)) if rng.random() < amount.blur else 0.0
    return tuple(_grained(rng, _soft(_mapped(image, _curve(rng, both, amount.each)), blur), sigma) for image in images)


def _curve(rng: Generator, levels: Table, amount: float) -> Table:
    """Change levels by contrast, brightness, the strength of each channel, and gamma."""
    contrast = 1 + amount * rng.uniform(-0.6, 0.4)
    gains = np.exp(amount * rng.uniform(-0.5, 0.5, 3)).astype(np.float32)
    bright = amount * rng.normal(0, 0.12)
    gamma = float(np.exp(amount * rng.uniform(-0.4, 0.4)))
    out: Table = np.clip(((levels - 0.5) * contrast + 0.5 + bright) * gains, 0, 1).astype(np.float32)
    return np.asarray(out**gamma, np.float32)


def _mapped(image: Image, levels: Table) -> Image:
    table = np.rint(levels * 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[None]), np.uint8)


def _soft(image: Image, sigma: float) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8) if sigma else image


def _grained(rng: Generator, image: Image, sigma: float) -> Image:
    if sigma < 0.5:  # it would be rounded away
        return image
    start = int(rng.integers(_NOISE))
    noise = np.resize(_noise()[start : start + image.size], image.shape)
    return np.asarray(cv2.add(image, noise * np.float32(sigma), dtype=cv2.CV_8U), np.uint8)


@lru_cache(maxsize=1)
def _noise() -> Float:
    """Make noise once: to make it anew for each image takes as long as all the rest."""
    return np.random.default_rng(0).standard_normal(2 * _NOISE, np.float32)
