"""Cutting what a clip shows out of images and flow fields."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from engines.geometry import Size
from engines.types import Float, Flow, Image

Fit = Literal["crop", "stretch"]
Box = npt.NDArray[np.float64]  # (4,) x and y of the middle, width, height: in source pixels


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of whole source pixels; it may reach beyond the image."""

    left: int
    top: int
    width: int
    height: int


def whole(image: Size, clip: Size, fit: Fit) -> Rect:
    """Choose what of an image a clip of the whole scene shows: all of it, or the largest middle part of its shape."""
    height, width = image
    if fit == "stretch":
        return Rect(0, 0, width, height)
    scale = min(height / clip[0], width / clip[1])
    inner = Rect(0, 0, max(1, round(clip[1] * scale)), max(1, round(clip[0] * scale)))
    return Rect((width - inner.width) // 2, (height - inner.height) // 2, inner.width, inner.height)


def middle_and_size(xyxy: Float, image: Size) -> Box:
    """Describe a box (4,), cut to the image, as its middle and its size: at least one pixel."""
    height, width = image
    left, top, right, bottom = np.clip(xyxy.astype(np.float64), 0, (width, height, width, height))
    return np.array([(left + right) / 2, (top + bottom) / 2, max(right - left, 1), max(bottom - top, 1)])


def around(box: Box, margin: float, image: Size, clip: Size) -> Rect:
    """Choose what a clip around an object shows: its box and *margin* of it at each side, in the shape of the clip.

    It is moved into the image where it fits there, and else lies over the middle of it.
    """
    x, y, width, height = box * (1, 1, 1 + 2 * margin, 1 + 2 * margin)
    shape = clip[1] / clip[0]
    width, height = max(width, height * shape), max(height, width / shape)
    columns, rows = max(1, round(width)), max(1, round(height))
    return Rect(_within(x - width / 2, columns, image[1]), _within(y - height / 2, rows, image[0]), columns, rows)


def _within(start: float, length: int, limit: int) -> int:
    return min(max(round(start), 0), limit - length) if length <= limit else (limit - length) // 2


def smoothed(before: Box, box: Box, passed: float, smooth: float) -> Box:
    """Smooth a box over the *passed* seconds: its size by the time constant *smooth*, its place by a quarter of it.

    Sizes change slowly and places do not; a place that lags behind would lose the object.
    """
    if not smooth:
        return box
    place, size = -math.expm1(-4 * passed / smooth), -math.expm1(-passed / smooth)
    return before + (box - before) * (place, place, size, size)


def cut_image(image: Image, rect: Rect, size: Size) -> Image:
    """Cut an image (h, w, 3) and resize it to (H, W, 3); beyond its border its last pixels are repeated."""
    height, width = image.shape[:2]
    right, bottom = rect.left + rect.width, rect.top + rect.height
    part = image[max(rect.top, 0) : min(bottom, height), max(rect.left, 0) : min(right, width)]
    beyond = (max(-rect.top, 0), max(bottom - height, 0), max(-rect.left, 0), max(right - width, 0))
    if any(beyond):
        part = np.asarray(cv2.copyMakeBorder(part, *beyond, cv2.BORDER_REPLICATE), np.uint8)
    # Averaging over what becomes one pixel: else fine texture flickers from crop to crop.
    how = cv2.INTER_AREA if part.shape[0] >= size[0] and part.shape[1] >= size[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, size[::-1], interpolation=how), np.uint8)


def cut_flow(flow: Flow, rect: Rect, source: Size, size: Size, times: float = 1.0) -> Float:
    """Sample a flow over the image *source* at the pixels (H, W, 2) of a crop; its vectors in pixels of the crop.

    They become *times* as long: to be those of another stretch of time.
    """
    cells = np.array(flow.uv.shape[1::-1]) / source[::-1]  # x, y: of the flow's grid, a source pixel
    step = np.array([rect.width / size[1], rect.height / size[0]])  # source pixels from one of the crop to the next
    first = (np.array([rect.left, rect.top]) + step / 2) * cells - 0.5
    to_grid = np.column_stack([np.diag(step * cells), first])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out: Float = np.asarray(
        cv2.warpAffine(flow.uv, to_grid, size[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE), np.float32
    )
    for axis, pixels in enumerate(step.tolist()):  # one by one: NumPy is slow where the last axis has two values
        out[..., axis] *= times / pixels
    return out
