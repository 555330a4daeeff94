"""Boxes against boxes: overlap and suppression.

Boxes are xyxy with real-valued edges, so a width is x2 - x1; the "+ 1" of code that counts pixels is not used.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engines.types import Float, Int

Rows = npt.NDArray[np.intp]

_BLOCK = 32  # boxes at a time: the overlaps stay in the cache, and of most groups only the best is left after the first


def iou(a: Float, b: Float) -> Float:
    """Overlap every box of *a* (N, 4) with every box of *b* (M, 4): intersection over union, (N, M) in 0..1.

    Boxes without an area, turned inside out, or with coordinates that are not finite overlap nothing.
    """
    return np.nan_to_num(_iou(_columns(a), _columns(b)), copy=False, nan=0.0)


def nms(xyxy: Float, scores: Float, class_id: Int | None, iou_threshold: float) -> Rows:
    """Keep the best of every group of boxes that overlap by more than *iou_threshold*: greedy, hard suppression.

    Boxes (N, 4), scores (N,) and classes (N,); a box suppresses only its own class, or any where classes are None.
    Returns the kept rows, best score first; of equal scores the earlier row counts as better. A row whose box or score
    is not finite is never kept, and suppresses nothing.
    """
    left: Rows = np.flatnonzero(np.isfinite(xyxy).all(1) & np.isfinite(scores))
    left = left[np.argsort(-scores[left], kind="stable")]
    columns = _columns(xyxy[left])
    classes = None if class_id is None else class_id[left]
    kept = [left[:0]]
    while len(left):
        over = _iou(columns[:, :_BLOCK], columns) > iou_threshold
        if classes is not None:
            over &= classes[:_BLOCK, None] == classes
        winners, dead = _greedy(over)
        kept.append(left[winners])
        alive = np.flatnonzero(~dead[_BLOCK:]) + _BLOCK
        left, columns = left[alive], columns[:, alive]
        classes = None if classes is None else classes[alive]
    return np.concatenate(kept)


def _greedy(over: npt.NDArray[np.bool_]) -> tuple[list[int], npt.NDArray[np.bool_]]:
    """Walk down a block (K, N >= K), best first: the rows that no kept row has suppressed, and all N that one has."""
    dead = np.zeros(over.shape[1], np.bool_)
    winners = []
    for i, row in enumerate(over):
        if not dead[i]:
            winners.append(i)
            dead |= row
    return winners, dead


def _columns(xyxy: Float) -> Float:
    """Put x1, y1, x2, y2 and the area of N boxes into rows (5, N): NumPy is fast along the last axis."""
    columns = np.empty((5, len(xyxy)), xyxy.dtype)
    columns[:4] = xyxy.T
    with np.errstate(invalid="ignore", over="ignore"):
        width, height = np.maximum(columns[2:4] - columns[:2], 0)
        columns[4] = width * height
    return columns


def _iou(a: Float, b: Float) -> Float:
    """Overlap `_columns` with `_columns`; NaN where there is nothing to divide by."""
    ax1, ay1, ax2, ay2, a_area = a[:, :, None]
    bx1, by1, bx2, by2, b_area = b
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        both: Float = np.minimum(ax2, bx2)
        both -= np.maximum(ax1, bx1)
        np.maximum(both, 0, out=both)
        height = np.minimum(ay2, by2)
        height -= np.maximum(ay1, by1)
        np.maximum(height, 0, out=height)
        both *= height
        union = np.add(a_area, b_area, out=height)
        union -= both
        both /= union
    return both
