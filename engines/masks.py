"""Masks as run lengths, as outlines and as pixels: all made from the box alone, never from a full-size image.

A soft mask (M, M) covers its box. It is painted as torchvision and Detectron2 do it: bilinearly, with one cell of zeros
around it, over the whole pixels that the box reaches; a pixel belongs to the object where that gives more than a half.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from engines.geometry import Size
from engines.rle import Rle, area, compress, decode, encode, from_runs, rle_iou
from engines.types import Bool, Float, Masks

__all__ = ["Rle", "area", "decode", "encode", "encode_masks", "paint", "polygons", "realign", "rle_iou"]

_HALF = 0.5
_Longs = npt.NDArray[np.int64]


def paint(masks: Masks, xyxy: Float, size: Size) -> Iterator[tuple[int, int, Bool]]:
    """Say box by box which pixels of an image of *size* (height, width) are the object's: (top, left, Bool (h, w)).

    What lies outside the image is cut off; nothing may be left, then h or w is 0. Boxes (N, 4) must be finite.
    """
    for top, left, columns in _painted(masks, xyxy, size):
        yield top, left, columns.T


def encode_masks(masks: Masks, xyxy: Float, size: Size) -> list[Rle]:
    """Encode N masks on boxes (N, 4), each for the whole image of *size* (height, width)."""
    runs = [from_runs(top, left, columns, size) for top, left, columns in _painted(masks, xyxy, size)]
    return compress(runs, size)


def polygons(masks: Masks, xyxy: Float, size: Size) -> list[list[Float]]:
    """Draw round N masks on boxes (N, 4): for each the outlines (P, 2) of its parts, x and y in source pixels.

    An outline runs along the pixels' edges, as COCO's polygons do: made a mask again, by pycocotools, it is the same
    but for holes, which are left out.
    """
    return [_outlines(top, left, pixels) for top, left, pixels in paint(masks, xyxy, size)]


def realign(masks: Masks, old: Float, new: Float) -> Masks:
    """See the masks of the *old* boxes (N, 4) through the *new* ones: what lies outside an old box is nothing."""
    count = masks.probs.shape[2]
    across, down = (_weights(old[:, [i, i + 2]], new[:, [i, i + 2]], count) for i in (0, 1))
    probs: Float = np.matmul(np.matmul(down, masks.probs), across.transpose(0, 2, 1))
    return Masks(probs)


def _painted(masks: Masks, xyxy: Float, size: Size) -> Iterator[tuple[int, int, Bool]]:
    """Paint as `paint` does, but column by column: (top, left, Bool (w, h)); so RLE reads it in one go."""
    height, width = size
    padded = np.pad(masks.probs, ((0, 0), (1, 1), (1, 1))).transpose(0, 2, 1)
    for probs, (x1, y1, x2, y2) in zip(np.ascontiguousarray(padded), _pixels(xyxy, masks).tolist(), strict=True):
        soft = cv2.resize(probs, (max(y2 - y1, 1), max(x2 - x1, 1)), interpolation=cv2.INTER_LINEAR)
        left, top = max(x1, 0), max(y1, 0)
        seen = soft[left - x1 : max(min(x2, width) - x1, 0), top - y1 : max(min(y2, height) - y1, 0)]
        yield top, left, seen > _HALF


def _pixels(xyxy: Float, masks: Masks) -> _Longs:
    """Widen boxes by the cell of zeros, and find the pixels (N, 4) that they reach: first, and one after the last."""
    cells = masks.probs.shape[2]
    half = (xyxy[:, 2:] - xyxy[:, :2]) * np.float32(0.5) * np.float32((cells + 2) / cells)
    centre = (xyxy[:, 2:] + xyxy[:, :2]) * np.float32(0.5)
    edges = np.concatenate([centre - half, centre + half], axis=1).astype(np.int64)  # towards zero, as torchvision
    edges[:, 2:] += 1
    return edges


def _outlines(top: int, left: int, pixels: Bool) -> list[Float]:
    """Trace the outer edges of pixels, not their middles: of twice as many, each edge lies beside one of its own."""
    double = np.ascontiguousarray(pixels, np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    found, _ = cv2.findContours(double, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corner = np.array([left, top])
    return [((line[:, 0] + 1) // 2 + corner).astype(np.float32) for line in found]


def _weights(old: Float, new: Float, count: int) -> Float:
    """Say how much of each old cell every new one takes, along one axis: edges (N, 2) each -> (N, M, M).

    Weights fall off linearly to the middles of the neighbours: bilinear sampling with zeros outside.
    """
    steps = (np.arange(count) + _HALF) / count
    where = new[:, :1] + (new[:, 1:] - new[:, :1]) * steps  # middles of the new cells
    with np.errstate(divide="ignore", invalid="ignore"):
        cell = (where - old[:, :1]) / (old[:, 1:] - old[:, :1]) * count - _HALF
    weights: Float = np.maximum(0, 1 - np.abs(cell[:, :, None] - np.arange(count))).astype(np.float32)
    return np.nan_to_num(weights, copy=False, nan=0.0)
