"""Whether two graphs of a network that chooses find the same objects.

Their outputs cannot be compared number by number: of two scores that differ by a rounding the other may come first, and
a box that overlaps another by just the threshold stays in one and goes in the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.boxes import iou
from engines.types import Array, Float

_NEAR = 0.99  # overlap of what is the same box
_SCORE = 1e-2  # that may lie between the scores of what is the same object
_MASK = 0.05  # likewise, between the means of their masks


def objects_apart(found: Sequence[Array], wanted: Sequence[Array]) -> float:
    """Tell which share of the objects in one answer the other lacks, whichever is more.

    Answers are `boxes` (N, K, 4), `scores` (N, K), `classes` (N, K) and perhaps `masks` (N, K, M, M); what scores zero
    is no object.
    """
    if [each.shape for each in found] != [each.shape for each in wanted]:
        return float("inf")
    lone = sum(
        _lone([each[row] for each in one], [each[row] for each in other])
        for one, other in ((found, wanted), (wanted, found))
        for row in range(len(one[0]))
    )
    total = int((found[1] > 0).sum() + (wanted[1] > 0).sum())
    return lone / max(total, 1)


def _lone(one: Sequence[Array], other: Sequence[Array]) -> int:
    """Count the objects of one image's answer that the other one lacks."""
    there, candidates = one[1] > 0, other[1] > 0
    near = iou(one[0][there], other[0][candidates]) > _NEAR
    near &= one[2][there][:, None] == other[2][candidates]
    near &= np.abs(one[1][there][:, None] - other[1][candidates]) < _SCORE
    for mine, theirs in zip(one[3:], other[3:], strict=True):
        near &= _mask_distance(mine[there], theirs[candidates]) < _MASK
    return int((~near.any(1)).sum())


def _mask_distance(one: Float, other: Float) -> Float:
    """Average how far masks (N, M, M) and (K, M, M) are apart: (N, K)."""
    rows = [np.abs(mask - other).mean((1, 2)) for mask in one]
    return np.array(rows, np.float32).reshape(len(one), len(other))
