"""Overlap of boxes and non-maximum suppression, on columns. Boxes are xyxy; widths are x2 - x1, without the old + 1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engines.types import Bool, Float, Int

Rows = npt.NDArray[np.intp]
_BLOCK = 512


def area(xyxy: Float) -> Float:
    """Areas (N,) in square pixels; a box turned inside out has none."""
    sides = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0)
    out: Float = sides[:, 0] * sides[:, 1]
    return out


def iou(a: Float, b: Float) -> Float:
    """Intersection over union (N, M) of every pair; 0 where the union is empty."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    inter = sides[..., 0] * sides[..., 1]
    union = area(a)[:, None] + area(b)[None] - inter
    out: Float = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return out


def nms(xyxy: Float, scores: Float, class_id: Int | None, iou_threshold: float) -> Rows:
    """Greedy non-maximum suppression: rows kept, best first; equal scores in the order they came.

    Boxes of different classes leave each other alone; without *class_id* all are one class. A row whose box or score
    is not finite is never kept.
    """
    finite = np.isfinite(xyxy).all(axis=1) & np.isfinite(scores)
    rows: Rows = np.flatnonzero(finite)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    kept: list[Rows] = []
    while len(rows):  # a block of the best at a time: its matrix stays small, and what it suppresses is never looked at
        block, rest = rows[:_BLOCK], rows[_BLOCK:]
        winners = block[_winners(_clash(block, block, xyxy, class_id, iou_threshold))]
        kept.append(winners)
        rows = rest[~_clash(winners, rest, xyxy, class_id, iou_threshold).any(axis=0)] if len(rest) else rest
    return np.concatenate(kept) if kept else np.zeros(0, np.intp)


def _clash(a: Rows, b: Rows, xyxy: Float, class_id: Int | None, threshold: float) -> Bool:
    """Whether a pair of rows (len(a), len(b)) cannot both be kept."""
    clash: Bool = iou(xyxy[a], xyxy[b]) > threshold
    if class_id is not None:
        clash &= class_id[a][:, None] == class_id[b][None]
    return clash


def _winners(clash: Bool) -> Bool:
    """Keep each row that no kept row before it clashes with."""
    alive: Bool = np.ones(len(clash), np.bool_)
    for row in np.flatnonzero(np.triu(clash, 1).any(axis=1)):  # only rows that suppress anything need a turn
        if alive[row]:
            alive[row + 1 :] &= ~clash[row, row + 1 :]
    return alive
