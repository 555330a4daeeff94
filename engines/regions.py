"""Regions of interest: polygons with names, and which objects stand in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.geometry import Size
from engines.types import Bool, Float

_Points = npt.NDArray[np.float64]  # (P, 2)


@dataclass(frozen=True, slots=True)
class Region:
    """A polygon in the image: where all values are at most 1, shares of width and height; else source pixels.

    Its edges may cross: what they go round an even number of times is outside. Raises ValueError.
    """

    name: str
    points: tuple[tuple[float, float], ...]  # x, y

    def __post_init__(self) -> None:
        if len(self.points) < 3:
            raise ValueError(f"region {self.name!r} has {len(self.points)} points: a polygon needs three or more")
        if not all(math.isfinite(value) for point in self.points for value in point):
            raise ValueError(f"region {self.name!r} has a point that is not finite: give x and y as plain numbers")

    def corners(self, size: Size) -> _Points:
        """Place the polygon (P, 2) in an image of *size* (height, width), in pixels."""
        points = np.array(self.points, np.float64)
        return points * np.array(size[::-1]) if points.max() <= 1 else points


def inside(regions: Sequence[Region], xyxy: Float, size: Size) -> Bool:
    """Tell which boxes (N, 4) of an image stand in which regions: (N, R).

    An object stands where the middle of its box's lower edge is; on a region's edge counts as in it.
    """
    x = (xyxy[:, 0].astype(np.float64) + xyxy[:, 2]) / 2
    y = xyxy[:, 3].astype(np.float64)
    out = np.empty((len(xyxy), len(regions)), np.bool_)
    for column, region in enumerate(regions):
        out[:, column] = _holds(region.corners(size), x, y)
    return out


def _holds(corners: _Points, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Bool:
    """Count the edges that a ray to the right crosses, by the even-odd rule; (N,)."""
    (ax, ay), (bx, by) = corners.T[:, :, None], np.roll(corners, -1, axis=0).T[:, :, None]
    side = (bx - ax) * (y - ay) - (by - ay) * (x - ax)  # (P, N): 0 on the line, its sign tells the side of it
    crossed = ((ay > y) != (by > y)) & ((side > 0) == (by > ay))
    near = (np.minimum(ax, bx) <= x) & (x <= np.maximum(ax, bx)) & (np.minimum(ay, by) <= y) & (y <= np.maximum(ay, by))
    on_edge: Bool = ((side == 0) & near).any(0)
    odd: Bool = np.bitwise_xor.reduce(crossed, axis=0)
    return odd | on_edge
