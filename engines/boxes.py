"""Boxes against boxes: overlap and suppression.

Boxes are xyxy with real-valued edges, so a width is x2 - x1; the "+ 1" of code that counts pixels is not used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from engines.types import Bool, Float, Int

Rows = npt.NDArray[np.intp]
_Doubles = npt.NDArray[np.float64]
NmsKind = Literal["hard", "soft-linear", "soft-gaussian", "adaptive", "none"]

_BLOCK = 32  # boxes at a time: the overlaps stay in the cache, and of most groups only the best is left after the first
_SQUARE = 512  # boxes of which overlaps are computed in blocks and kept; of more, a row whenever it is needed
_SMALL, _LARGE = 32.0, 96.0  # sides of COCO's small and large objects, in pixels


@dataclass(frozen=True, slots=True)
class Suppression:
    """What becomes of a box that overlaps a better one of its class (*agnostic*: of any).

    - hard: it goes where they overlap by more than *iou*.
    - soft-linear: there its score is multiplied by 1 - overlap.
    - soft-gaussian: its score is multiplied by exp(-overlap² / sigma), however little they overlap.
      Both: Bodla et al. 2017, https://arxiv.org/abs/1704.04503.
    - adaptive: as hard, but the threshold follows the better box's side s, the root of its area: *iou* times
      2/3 + 2/3 · clip((s - 32) / (96 - 32), 0, 1), one at most. Boxes on one small object differ by few pixels, but
      overlap by little; large neighbours overlap by much, and are two objects. That the threshold belongs to the box
      that stays is from Liu et al. 2019, https://arxiv.org/abs/1904.03629; there it follows a predicted density.
    - none: nothing, for networks that find everything once.
    """

    kind: NmsKind = "hard"
    iou: float = 0.45
    agnostic: bool = False
    sigma: float = 0.5


def iou(a: Float, b: Float) -> Float:
    """Overlap every box of *a* (N, 4) with every box of *b* (M, 4): intersection over union, (N, M) in 0..1.

    Boxes without an area, turned inside out, or with coordinates that are not finite overlap nothing.
    """
    return np.nan_to_num(_iou(_columns(a), _columns(b)), copy=False, nan=0.0)


def ios(a: Float, b: Float) -> Float:
    """Overlap as `iou` does, but over the smaller of the two areas: one where a box lies in the other."""
    one, other = _columns(a), _columns(b)
    with np.errstate(invalid="ignore", divide="ignore"):
        smaller = np.minimum(one[4, :, None], other[4])
        out: Float = _shared(one, other) / smaller
    out[~np.isfinite(one[4])] = out[:, ~np.isfinite(other[4])] = 0
    return np.nan_to_num(out, copy=False, nan=0.0)


def giou(a: Float, b: Float) -> Float:
    """Overlap every box of *a* (N, 4) with every box of *b* (M, 4), less what their hull has empty: (N, M) in -1..1.

    Boxes without an area, turned inside out, or with coordinates that are not finite have -1, as what is infinitely far
    apart. Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630.
    """
    one, other = _columns(a), _columns(b)
    ax1, ay1, ax2, ay2, a_area = one[:, :, None]
    bx1, by1, bx2, by2, b_area = other
    over = np.nan_to_num(_iou(one, other), copy=False, nan=0.0)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        hull = (np.maximum(ax2, bx2) - np.minimum(ax1, bx1)) * (np.maximum(ay2, by2) - np.minimum(ay1, by1))
        union = (a_area + b_area) / (1 + over)  # for overlap = inter / union and inter + union = both areas
        out: Float = over - (hull - union) / hull
    solid = (a_area > 0) & (b_area > 0) & np.isfinite(hull)
    return np.where(solid, np.clip(out, -1, 1), np.array(-1, out.dtype))


def suppress(xyxy: Float, scores: Float, class_id: Int, how: Suppression, floor: float) -> tuple[Rows, Float]:
    """Keep the best of every group of boxes that overlap; their rows (K,), best first, and their scores (K,).

    Boxes (N, 4), scores (N,) in 0..1 and classes (N,). Soft kinds lower scores. A row that has no more than *floor*,
    before or after, is not kept; nor is one whose box or score is not finite, and that suppresses nothing. Of equal
    scores the earlier row counts as better.
    """
    rows = _ranked(xyxy, scores, floor)
    ranked = scores[rows]
    if how.kind == "none":
        return rows, ranked
    columns, classes = _columns(xyxy[rows]), None if how.agnostic else class_id[rows]
    if how.kind in ("hard", "adaptive"):
        stay = _hard(columns, classes, _thresholds(columns, how))
        return rows[stay], ranked[stay]
    kept, lowered = _soft(_factors(columns, classes, partial(_DECAYS[how.kind], how)), ranked, max(floor, 0.0))
    return rows[kept], lowered


def nms(xyxy: Float, scores: Float, class_id: Int | None, iou_threshold: float) -> Rows:
    """Keep the best of every group of boxes that overlap by more than *iou_threshold*: greedy, hard suppression.

    Boxes (N, 4), scores (N,) and classes (N,); a box suppresses only its own class, or any where classes are None.
    Returns the kept rows, best score first; of equal scores the earlier row counts as better. A row whose box or score
    is not finite is never kept, and suppresses nothing.
    """
    rows = _ranked(xyxy, scores, -np.inf)
    classes = None if class_id is None else class_id[rows]
    thresholds = np.full(len(rows), iou_threshold, np.float64)
    return rows[_hard(_columns(xyxy[rows]), classes, thresholds)]


def _ranked(xyxy: Float, scores: Float, floor: float) -> Rows:
    """Sort the rows that are finite and score more than *floor*, best first; of equals the earlier one first."""
    rows = np.flatnonzero(np.isfinite(xyxy).all(1) & np.isfinite(scores) & (scores > floor))
    return rows[np.argsort(-scores[rows], kind="stable")]


def _thresholds(columns: Float, how: Suppression) -> _Doubles:
    """Say for each of N boxes by how much another may overlap it: (N,); see `Suppression`."""
    if how.kind == "hard":
        return np.full(columns.shape[1], how.iou)
    growth = np.clip((np.sqrt(columns[4].astype(np.float64)) - _SMALL) / (_LARGE - _SMALL), 0, 1)
    out: _Doubles = np.minimum(how.iou * (2 + 2 * growth) / 3, 1.0)
    return out


def _hard(columns: Float, classes: Int | None, thresholds: _Doubles) -> Rows:
    """Keep the best of every group of N `_columns`, which come best first, by the threshold (N,) of the better box."""
    left: Rows = np.arange(columns.shape[1])
    kept = [left[:0]]
    while len(left):
        over = _iou(columns[:, :_BLOCK], columns) > thresholds[:_BLOCK, None]
        if classes is not None:
            over &= classes[:_BLOCK, None] == classes
        winners, dead = _greedy(over)
        kept.append(left[winners])
        alive = np.flatnonzero(~dead[_BLOCK:]) + _BLOCK
        left, columns, thresholds = left[alive], columns[:, alive], thresholds[alive]
        classes = None if classes is None else classes[alive]
    return np.concatenate(kept)


def _greedy(over: Bool) -> tuple[list[int], Bool]:
    """Walk down a block (K, N >= K), best first: the rows that no kept row has suppressed, and all N that one has."""
    dead = np.zeros(over.shape[1], np.bool_)
    winners = []
    for i, row in enumerate(over):
        if not dead[i]:
            winners.append(i)
            dead |= row
    return winners, dead


def _soft(factors: Callable[[int], Float], scores: Float, floor: float) -> tuple[list[int], Float]:
    """Take the best and multiply all by its row of *factors* (N,), again and again; none above *floor*, and it ends."""
    now = scores.astype(np.float64)
    kept, lowered = [], []
    while len(now) and now[best := int(now.argmax())] > floor:
        kept.append(best)
        lowered.append(now[best])
        now *= factors(best)
        now[best] = 0
    return kept, np.array(lowered, scores.dtype)


def _linear(how: Suppression, overlap: Float) -> Float:
    return 1 - overlap * (overlap > how.iou)


def _gaussian(how: Suppression, overlap: Float) -> Float:
    lowered: Float = np.exp(overlap * overlap / -how.sigma)
    return lowered


_DECAYS = {"soft-linear": _linear, "soft-gaussian": _gaussian}


def _factors(columns: Float, classes: Int | None, decay: Callable[[Float], Float]) -> Callable[[int], Float]:
    """Give the row of any of N boxes: by what it multiplies each one's score."""

    few = _BLOCK if columns.shape[1] <= _SQUARE else 1

    @lru_cache(_SQUARE // _BLOCK)
    def block(index: int) -> Float:
        some = slice(index * few, (index + 1) * few)
        overlap = np.nan_to_num(_iou(columns[:, some], columns), copy=False, nan=0.0)
        if classes is not None:
            overlap *= classes[some, None] == classes
        return decay(overlap)

    return lambda row: block(row // few)[row % few]


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
    both = _shared(a, b)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        union = np.add(a[4, :, None], b[4])
        union -= both
        both /= union
    return both


def _shared(a: Float, b: Float) -> Float:
    """Intersect `_columns` with `_columns`: areas."""
    ax1, ay1, ax2, ay2, _ = a[:, :, None]
    bx1, by1, bx2, by2, _ = b
    with np.errstate(invalid="ignore", over="ignore"):
        both: Float = np.minimum(ax2, bx2)
        both -= np.maximum(ax1, bx1)
        np.maximum(both, 0, out=both)
        height = np.minimum(ay2, by2)
        height -= np.maximum(ay1, by1)
        np.maximum(height, 0, out=height)
        both *= height
    return both
