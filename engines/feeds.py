"""What a served graph is fed, and what its network makes of it, by what the network looks at.

images         `frames` uint8 (N, H, W, 3)         (N, 3, H, W)
pairs          `frames` uint8 (N, 2, H, W, 3)      (N, 6, H, W), the earlier image first
clips          `frames` uint8 (N, T, H, W, 3)      (N, 3, T, H, W), or stacked (N, T x 3, H, W)
clips of flow  `flows` float32 (N, T, H, W, 2)     (N, 2, T, H, W), or stacked (N, T x 2, H, W)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from engines.manifest import ClipInput, Manifest
from engines.types import PixelInput

Form = Literal["image", "stack", "volume"]


@dataclass(frozen=True, slots=True)
class Feed:
    """One input of a served graph, without its batch axis, and how the network wants it."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]  # as it is fed: (H, W, C) or (T, H, W, C)
    form: Form
    values: PixelInput | float  # of bytes; or the flow, in pixels, that counts as one

    @property
    def network(self) -> tuple[int, ...]:
        """The shape that the network takes: (C, H, W), (T x C, H, W) or (C, T, H, W)."""
        *times, height, width, channels = self.shape
        if self.form == "volume":
            return channels, *times, height, width
        return channels * int(np.prod(times, dtype=int)), height, width


def feed_of(manifest: Manifest) -> Feed:
    """Tell what a model's graph is fed."""
    told = manifest.preprocess
    pixels = PixelInput(told.channels, told.mean, told.std)
    if manifest.clip is not None:
        return _clips(manifest.clip, told.size, pixels)
    if manifest.task == "flow":
        return Feed("frames", np.dtype(np.uint8), (2, *told.size, 3), "stack", pixels)
    return Feed("frames", np.dtype(np.uint8), (*told.size, 3), "image", pixels)


def _clips(clip: ClipInput, size: tuple[int, int], pixels: PixelInput) -> Feed:
    if clip.input == "flow":
        return Feed("flows", np.dtype(np.float32), (clip.length, *size, 2), clip.form, clip.limit)
    return Feed("frames", np.dtype(np.uint8), (clip.length, *size, 3), clip.form, pixels)
