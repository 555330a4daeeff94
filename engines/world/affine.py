"""Affine maps of the plane as (3, 3) matrices: of pixels counted from the middle of the first, as OpenCV counts."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Affine = npt.NDArray[np.float64]  # (3, 3)


def similarity(scale: float, angle: float, x: float, y: float) -> Affine:
    """Scale, turn by *angle* in radians, clockwise as seen, and move."""
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[c, -s, x], [s, c, y], [0.0, 0.0, 1.0]])


def inverse(map_: Affine) -> Affine:
    """Turn a map round; quicker than the general way."""
    (a, b, x), (c, d, y) = map_[:2].tolist()
    det = a * d - b * c
    return np.array(
        [[d / det, -b / det, (b * y - d * x) / det], [-c / det, a / det, (c * x - a * y) / det], [0.0, 0.0, 1.0]]
    )


def apply(map_: Affine, points: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Map points (P, 2)."""
    out: npt.NDArray[np.float64] = points @ map_[:2, :2].T + map_[:2, 2]
    return out
