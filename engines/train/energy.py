"""First weights that see motion: without them, FlowNet learns nothing from its first tens of thousands of pairs.

Adelson and Bergen 1985, "Spatiotemporal energy models for the perception of motion",
https://doi.org/10.1364/JOSAA.2.000284: a wave in one image and the same, a quarter further on, in the other answer
together to what moves one way, and against each other to what moves back.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engines.types import Float

_WAYS = 4  # directions of waves
_LONG, _WIDE = 8.0, 2.0  # pixels: from crest to crest, and of the bell around them
CHANNELS = 4 * _WAYS


@torch.no_grad()
def see_motion(weight: Tensor, strength: float) -> None:
    """Overwrite the first 16 channels of a convolution over pairs, (C, 6, K, K), whatever the number of its channels.

    *strength* is the length of a filter, over one image.
    """
    side = weight.shape[-1]
    filters = np.concatenate([_quarters(*_wave(side, way * np.pi / _WAYS)) for way in range(_WAYS)])
    made = torch.from_numpy(filters * strength).to(weight)  # (16, 2, K, K)
    count = min(len(weight), CHANNELS)
    # Of grey: as strong over three colours as it would be over one.
    weight[:count] = made[:count].repeat_interleave(3, 1) / 3**0.5


def _wave(side: int, angle: float) -> tuple[Float, Float]:
    """Draw a wave that has its crest in the middle, and one that rises there, each of length 1 and without a mean."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    bell = np.exp(-(x * x + y * y) / (2 * _WIDE**2))
    phase = 2 * np.pi / _LONG * (x * np.cos(angle) + y * np.sin(angle))
    even, odd = bell * np.cos(phase), bell * np.sin(phase)
    even -= even.mean()
    return (even / np.linalg.norm(even)).astype(np.float32), (odd / np.linalg.norm(odd)).astype(np.float32)


def _quarters(even: Float, odd: Float) -> Float:
    """Put waves a quarter apart on both images, in every way: (4, 2, K, K)."""
    return np.array([(even, odd), (even, -odd), (odd, even), (odd, -even)])
