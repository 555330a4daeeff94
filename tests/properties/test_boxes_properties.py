from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engines.boxes import NmsKind, Suppression, giou, iou, nms, suppress
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


def by_definition(xyxy: Float, scores: Float, classes: Int | None, threshold: Callable[[Float], float]) -> list[int]:
    """Greedy suppression as it is told: take the best, drop what overlaps it by more than its threshold, again."""
    left = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        most = threshold(xyxy[best])
        left = [
            i
            for i in left
            if not (classes is None or classes[i] == classes[best]) or overlap(xyxy[i], xyxy[best]) <= most
        ]
    return kept


def overlap(a: Float, b: Float) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    inter = float(max(sides[0], 0) * max(sides[1], 0))
    total = sum(float(max(box[2] - box[0], 0) * max(box[3] - box[1], 0)) for box in (a, b)) - inter
    return inter / total if total > 0 else 0.0


@given(rows(), st.sampled_from([0.0, 0.3003, 0.4501, 0.7003, 1.0]), st.booleans())
def test_nms_is_what_its_definition_says(table: tuple[Float, Float, Int], threshold: float, agnostic: bool) -> None:
    xyxy, scores, classes = table
    chosen = None if agnostic else classes
    assert nms(xyxy, scores, chosen, threshold).tolist() == by_definition(xyxy, scores, chosen, lambda _: threshold)


def adapted(box: Float) -> float:
    """0.45 for an object of 64 pixels, a third less for small ones, a third more for large ones, evenly between."""
    side = math.sqrt((max(box[2] - box[0], 0)) * (max(box[3] - box[1], 0)))
    return 0.3 if side <= 32 else 0.6 if side >= 96 else 0.3 + 0.3 * (side - 32) / 64


@given(rows(), st.booleans())
def test_adaptive_suppression_is_what_its_definition_says(table: tuple[Float, Float, Int], agnostic: bool) -> None:
    xyxy, scores, classes = table
    got, _ = suppress(xyxy, scores, classes, Suppression("adaptive", 0.45, agnostic), 0.0)
    assert got.tolist() == by_definition(xyxy, scores, None if agnostic else classes, adapted)


@given(rows(), st.sampled_from(["hard", "adaptive", "none"]), st.sampled_from([0.0, 0.3, 0.6]))
def test_kinds_that_lower_no_score_keep_what_is_above_the_floor(
    table: tuple[Float, Float, Int], kind: NmsKind, floor: float
) -> None:
    xyxy, scores, classes = table
    rows, kept = suppress(xyxy, scores, classes, Suppression(kind), floor)
    everything, _ = suppress(xyxy, scores, classes, Suppression(kind), 0.0)
    assert rows.tolist() == [row for row in everything.tolist() if scores[row] > floor]
    assert kept.tolist() == scores[rows].tolist()
    assert kind != "none" or sorted(everything.tolist()) == list(range(len(scores)))


def lowered(kind: str, over: float) -> float:
    if kind == "soft-gaussian":
        return math.exp(-(over**2) / 0.5)
    return 1 - over if over > 0.3 else 1.0


@pytest.mark.parametrize("kind", ["soft-linear", "soft-gaussian"])
@given(table=rows(), floor=st.sampled_from([0.0, 0.25]), agnostic=st.booleans())
def test_soft_suppression_is_what_its_definition_says(
    kind: NmsKind, table: tuple[Float, Float, Int], floor: float, agnostic: bool
) -> None:
    """Replayed: each that is kept was the best of what was left, with the score that those before had left it."""
    xyxy, scores, classes = table
    rows, kept = suppress(xyxy, scores, classes, Suppression(kind, 0.3, agnostic, 0.5), floor)
    now = dict(enumerate(scores.astype(float).tolist()))
    for row, score in zip(rows.tolist(), kept.tolist(), strict=True):
        mine = now.pop(row)
        assert score == pytest.approx(mine, rel=1e-5)
        assert mine > floor - 1e-6
        assert mine >= max(now.values(), default=0) - 1e-6
        for i in now:
            if agnostic or classes[i] == classes[row]:
                now[i] *= lowered(kind, overlap(xyxy[i], xyxy[row]))
    assert max(now.values(), default=0) <= floor + 1e-6


@given(rows(8), rows(8))
def test_giou_is_symmetric_and_never_above_iou(one: tuple[Float, Float, Int], other: tuple[Float, Float, Int]) -> None:
    a, b = one[0], other[0]
    got = giou(a, b)
    assert np.array_equal(got, giou(b, a).T)
    assert ((got >= -1) & (got <= iou(a, b) + 1e-6)).all()
    for i, j in np.ndindex(*got.shape):
        assert got[i, j] == pytest.approx(by_hull(a[i], b[j]), abs=1e-5)


def by_hull(a: Float, b: Float) -> float:
    areas = [float(max(box[2] - box[0], 0) * max(box[3] - box[1], 0)) for box in (a, b)]
    if not min(areas):
        return -1.0
    sides = np.maximum(a[2:], b[2:]) - np.minimum(a[:2], b[:2])
    hull, over = float(sides[0] * sides[1]), overlap(a, b)
    return over - (hull - sum(areas) / (1 + over)) / hull


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


@given(rows(), st.sampled_from([0.0, 0.3003, 0.4501, 0.7003, 1.0]))
def test_what_is_kept_does_not_depend_on_the_order_of_other_classes(
    table: tuple[Float, Float, Int], threshold: float
) -> None:
    xyxy, scores, classes = table
    together = nms(xyxy, scores, classes, threshold)
    apart = [
        own[nms(xyxy[own], scores[own], None, threshold)] for own in (np.flatnonzero(classes == c) for c in range(3))
    ]
    assert sorted(together) == sorted(np.concatenate(apart))


def ten_thousand() -> tuple[Float, Float]:
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 400, (10_000, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(5, 60, (10_000, 2))], axis=1).astype(np.float32)
    return xyxy, rng.random(10_000).astype(np.float32)


def test_ten_thousand_boxes_across_blocks_equal_the_definition() -> None:
    xyxy, scores = ten_thousand()
    kept = nms(xyxy, scores, None, 0.45)
    assert (np.diff(scores[kept]) <= 0).all()
    among = iou(xyxy[kept], xyxy[kept])
    np.fill_diagonal(among, 0)
    assert among.max() <= 0.45  # no two of the kept overlap …
    dropped = np.setdiff1d(np.arange(10_000), kept)
    clash = iou(xyxy[dropped], xyxy[kept]) > 0.45
    better = scores[kept][None] > scores[dropped][:, None]
    assert (clash & better).any(axis=1).all()  # … and each of the dropped overlaps a better one


@pytest.mark.parametrize("kind", ["soft-linear", "soft-gaussian"])
def test_many_boxes_are_lowered_row_by_row_as_few_are_at_once(kind: NmsKind) -> None:
    """Far from each other, groups know nothing of each other: each alone is as all together."""
    rng = np.random.default_rng(2)
    corner = rng.uniform(0, 40, (1200, 2)) + np.repeat(np.arange(6), 200)[:, None] * 1000
    xyxy = np.concatenate([corner, corner + rng.uniform(5, 60, (1200, 2))], axis=1).astype(np.float32)
    scores, classes = rng.random(1200).astype(np.float32), rng.integers(0, 3, 1200).astype(np.int32)
    how = Suppression(kind)
    together = dict(zip(*(column.tolist() for column in suppress(xyxy, scores, classes, how, 0.2)), strict=True))
    apart: dict[int, float] = {}
    for start in range(0, 1200, 200):
        own = slice(start, start + 200)
        rows_, kept = suppress(xyxy[own], scores[own], classes[own], how, 0.2)
        apart |= dict(zip((rows_ + start).tolist(), kept.tolist(), strict=True))
    assert together == pytest.approx(apart, rel=1e-6)


@pytest.mark.parametrize("kind", ["soft-linear", "soft-gaussian"])
def test_ten_thousand_boxes_are_lowered_by_those_before_them(kind: NmsKind) -> None:
    xyxy, scores = ten_thousand()
    rows_, kept = suppress(xyxy, scores, np.zeros(10_000, np.int32), Suppression(kind, iou=0.3), 0.3)
    assert len(rows_) == len(set(rows_.tolist())) > 100
    assert (np.diff(kept) <= 0).all()
    for last in (1, len(rows_) // 2, len(rows_) - 1):
        over = iou(xyxy[rows_[last : last + 1]], xyxy[rows_[:last]])[0]
        assert kept[last] == pytest.approx(scores[rows_[last]] * math.prod(lowered(kind, o) for o in over), rel=1e-4)
