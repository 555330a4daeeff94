from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engines.boxes import iou, nms
from engines.types import Float, Int

# A coarse grid of coordinates and scores, so that equal boxes, touching edges and ties all happen.
COORDINATES = st.sampled_from([0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 100.0])
SCORES = st.sampled_from([0.1, 0.3, 0.5, 0.5000001, 0.9])


@st.composite
def rows(draw: st.DrawFn, most: int = 24) -> tuple[Float, Float, Int]:
    n = draw(st.integers(0, most))
    xyxy = draw(hnp.arrays(np.float32, (n, 4), elements=COORDINATES))
    scores = draw(hnp.arrays(np.float32, n, elements=SCORES))
    return xyxy, scores, draw(hnp.arrays(np.int32, n, elements=st.integers(0, 2)))


def by_definition(xyxy: Float, scores: Float, classes: Int | None, threshold: float) -> list[int]:
    """Greedy suppression as it is told: take the best, drop what overlaps it, again."""
    left = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [
            i
            for i in left
            if not (classes is None or classes[i] == classes[best]) or overlap(xyxy[i], xyxy[best]) <= threshold
        ]
    return kept


def overlap(a: Float, b: Float) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inter = float(max(sides[0], 0) * max(sides[1], 0))
    total = sum(float(max(box[2] - box[0], 0) * max(box[3] - box[1], 0)) for box in (a, b)) - inter
    return inter / total if total > 0 else 0.0


@given(rows(), st.sampled_from([0.0, 0.3, 0.45, 0.7, 1.0]), st.booleans())
def test_nms_is_what_its_definition_says(table: tuple[Float, Float, Int], threshold: float, agnostic: bool) -> None:
    xyxy, scores, classes = table
    chosen = None if agnostic else classes
    assert nms(xyxy, scores, chosen, threshold).tolist() == by_definition(xyxy, scores, chosen, threshold)


@given(rows(8), rows(8))
def test_iou_is_symmetric_bounded_and_one_only_for_equal_boxes(
    one: tuple[Float, Float, Int], other: tuple[Float, Float, Int]
) -> None:
    a, b = one[0], other[0]
    got = iou(a, b)
    assert got.shape == (len(a), len(b))
    assert np.array_equal(got, iou(b, a).T)
    assert ((got >= 0) & (got <= 1)).all()
    for i, j in np.argwhere(got == 1):
        assert np.array_equal(a[i], b[j])
    assert (np.diag(iou(a, a)) == ((a[:, 0] < a[:, 2]) & (a[:, 1] < a[:, 3]))).all()


@given(rows(), st.sampled_from([0.0, 0.3, 0.45, 0.7, 1.0]))
def test_what_is_kept_does_not_depend_on_the_order_of_other_classes(
    table: tuple[Float, Float, Int], threshold: float
) -> None:
    xyxy, scores, classes = table
    together = nms(xyxy, scores, classes, threshold)
    apart = [
        own[nms(xyxy[own], scores[own], None, threshold)] for own in (np.flatnonzero(classes == c) for c in range(3))
    ]
    assert sorted(together) == sorted(np.concatenate(apart))


def test_ten_thousand_boxes_across_blocks_equal_the_definition() -> None:
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 400, (10_000, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(5, 60, (10_000, 2))], axis=1).astype(np.float32)
    scores = rng.random(10_000).astype(np.float32)
    kept = nms(xyxy, scores, None, 0.45)
    assert (np.diff(scores[kept]) <= 0).all()
    among = iou(xyxy[kept], xyxy[kept])
    np.fill_diagonal(among, 0)
    assert among.max() <= 0.45  # no two of the kept overlap …
    dropped = np.setdiff1d(np.arange(10_000), kept)
    clash = iou(xyxy[dropped], xyxy[kept]) > 0.45
    better = scores[kept][None] > scores[dropped][:, None]
    assert (clash & better).any(axis=1).all()  # … and each of the dropped overlaps a better one
