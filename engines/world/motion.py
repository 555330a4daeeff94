"""How every pixel of a scene moves until another one: exact, for each surface moves by an affine map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from engines.types import Bool, Float
from engines.world.affine import Affine
from engines.world.scene import Labels, Scene

_NOWHERE = 255  # nearer than any object: what leaves the picture is not seen


class Motion(NamedTuple):
    """Where what a pixel shows will be."""

    uv: Float  # (H, W, 2) pixels to the right and down
    occluded: Bool  # (H, W): there, something nearer is seen, or it has left the picture


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A surface: how its pixels move from one picture to the other, and how near it is."""

    map: Affine
    depth: float


def motion(before: Scene, after: Labels, layers: Sequence[Layer], ground: Layer, depths: Sequence[float]) -> Motion:
    """Move the pixels of a scene.

    *layers* are its N objects; *after* are the labels (H, W) of the other scene, *depths* those of its M objects. A
    place lies in the pixel whose middle is nearest.
    """
    uv = _field(ground.map, (0, 0), before.size)
    order = np.unique([layer.depth for layer in layers] + list(depths))
    ranks = np.zeros(before.size, np.uint8)
    for row, layer in enumerate(layers):
        top, left, mine = before.mask(row)
        np.copyto(_part(uv, top, left, mine), _field(layer.map, (top, left), mine.shape), where=mine[..., None])
        _part(ranks, top, left, mine)[mine] = 1 + np.searchsorted(order, layer.depth)
    return Motion(uv, _there(uv, after, np.searchsorted(order, depths)) > ranks)


def _part(array: np.ndarray, top: int, left: int, mask: Bool) -> np.ndarray:
    return array[top : top + mask.shape[0], left : left + mask.shape[1]]


def _field(map_: Affine, corner: tuple[int, int], size: tuple[int, int]) -> Float:
    """Say how far a map moves the pixels (h, w) from *corner* (top, left) on: (h, w, 2)."""
    y = np.arange(corner[0], corner[0] + size[0], dtype=np.float64)[:, None]
    x = np.arange(corner[1], corner[1] + size[1], dtype=np.float64)[None]
    step = map_[:2] - np.eye(2, 3)
    out = np.empty((*size, 2), np.float32)
    for axis in range(2):
        np.add(x * step[axis, 0], y * step[axis, 1] + step[axis, 2], out=out[..., axis], casting="same_kind")
    return out


def _there(uv: Float, labels: Labels, ranks: np.ndarray) -> Labels:
    """Look up how near what is seen is where each pixel will be."""
    table = np.zeros(256, np.uint8)
    table[1 : 1 + len(ranks)] = 1 + ranks
    height, width = labels.shape
    columns = uv[..., 0] + np.arange(width, dtype=np.float32)
    rows = uv[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    near = cv2.LUT(labels, table)
    found = cv2.remap(near, columns, rows, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(_NOWHERE,))
    return np.asarray(found, np.uint8)
