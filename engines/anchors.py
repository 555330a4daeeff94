"""Anchors: the boxes that a network's rows are offsets to, level by level, in pixels of its input.

Within a level they lie row by row, and those of one cell together. Boxes are xyxy and may reach beyond the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from engines.geometry import Size
from engines.types import Array, Float


def level_anchors(
    size: Size, strides: Sequence[int], sizes: Sequence[Sequence[float]], ratios: Sequence[Sequence[float]]
) -> list[Float]:
    """List the anchors (A, 4) of each level of a feature pyramid, for an input of *size* (height, width).

    A level's map has a cell for each *stride* pixels begun; its anchors have each of its *sizes* (the root of their
    area) in each of its *ratios* (height to width), ratio by ratio. Ren et al. 2015, https://arxiv.org/abs/1506.01497,
    as torchvision trained its networks: corners are rounded to whole pixels, and so is the distance of cells, which is
    the input divided by the map.
    """
    levels = []
    for stride, lengths, shapes in zip(strides, sizes, ratios, strict=True):
        cells = (-(-size[0] // stride), -(-size[1] // stride))
        step = (size[0] // cells[0], size[1] // cells[1])
        y, x = np.mgrid[: cells[0], : cells[1]]
        corner = np.stack([x * step[1], y * step[0], x * step[1], y * step[0]], -1).reshape(-1, 1, 4)
        levels.append((corner + _around_zero(lengths, shapes)).reshape(-1, 4).astype(np.float32))
    return levels


def default_boxes(
    size: Size,
    maps: Sequence[Size],
    scales: Sequence[float],
    ratios: Sequence[Sequence[float]],
    steps: Sequence[float] | None = None,
) -> Float:
    """List SSD's default boxes (A, 4) of all maps (heights, widths), for an input of *size* (height, width).

    A cell has squares of its map's scale and of the mean of this and the next (so there is one scale more than maps);
    and for each ratio a wide and a tall box. Scales are shares of the input, and no side is longer than the input.
    *steps* are the pixels between cells; without them the cells divide the input. Liu et al. 2016,
    https://arxiv.org/abs/1512.02325.
    """
    height, width = size
    levels = []
    for level, (rows, columns) in enumerate(maps):
        step_y, step_x = (steps[level],) * 2 if steps else (height / rows, width / columns)
        half = _shapes(scales[level], scales[level + 1], ratios[level]) * (width, height) / 2
        y, x = (np.mgrid[:rows, :columns] + 0.5) * np.reshape((step_y, step_x), (2, 1, 1))
        centre = np.stack([x, y], -1).reshape(-1, 1, 2)
        levels.append(np.concatenate([centre - half, centre + half], -1).reshape(-1, 4))
    return np.concatenate(levels).astype(np.float32)


def _around_zero(lengths: Sequence[float], ratios: Sequence[float]) -> Float:
    tall = np.sqrt(np.array(ratios, np.float32))[:, None]
    sides = np.array(lengths, np.float32)
    width, height = (sides / tall).ravel(), (sides * tall).ravel()
    # float32 and half to even, as when the networks were trained: some corners lie just between two pixels.
    corners: Float = np.round(np.stack([-width, -height, width, height], 1) / 2)
    return corners


def _shapes(scale: float, following: float, ratios: Sequence[float]) -> Array:
    """List width and height of each box of a cell, as shares of the input."""
    mean = math.sqrt(scale * following)
    shapes = [(scale, scale), (mean, mean)]
    for ratio in ratios:
        long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
        shapes += [(long, short), (short, long)]
    return np.array(shapes).clip(0, 1)
