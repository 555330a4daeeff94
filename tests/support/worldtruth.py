"""A second opinion on the world: what lies where, by the geometry of the outlines alone."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from engines.types import Bool
from engines.world import World
from engines.world.affine import apply
from engines.world.catalogue import outline
from engines.world.lives import Life

Points = npt.NDArray[np.float64]  # (P, 2) pixels, from the middle of the first one
_UNSURE = 1.25  # pixels from an edge: there it is a matter of how edges are drawn


def owners(world: World, t: float, points: Points) -> tuple[npt.NDArray[np.int64], Bool]:
    """Say whose surface is the nearest at each point (P,), 0 for the ground's, and whether that is sure (P,)."""
    owner = np.zeros(len(points), np.int64)
    sure = np.ones(len(points), np.bool_)
    for life in sorted(world.alive(t), key=lambda life: life.depth):
        inside = depths(world, life, t, points)
        owner[inside > 0] = life.track_id
        sure &= np.abs(inside) > _UNSURE
    return owner, sure


def depths(world: World, life: Life, t: float, points: Points) -> npt.NDArray[np.float64]:
    """Say how deep points lie in an object (P,): pixels to its edge, negative outside."""
    placed = world.view(t) @ life.at(t).matrix
    rings = [apply(placed, ring).astype(np.float32) for ring in outline(life.class_id)]
    return np.array([_depth(rings, point) for point in points.tolist()])


def _depth(rings: list[npt.NDArray[np.float32]], point: list[float]) -> float:
    outer, *holes = (cv2.pointPolygonTest(ring, point, measureDist=True) for ring in rings)
    return float(min([outer, *(-hole for hole in holes)]))
