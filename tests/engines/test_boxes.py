from __future__ import annotations

import warnings

import numpy as np
import pytest

from engines.boxes import NmsKind, Suppression, giou, ios, iou, nms, suppress
from engines.types import Float

KINDS: tuple[NmsKind, ...] = ("hard", "soft-linear", "soft-gaussian", "adaptive", "none")
ODD = [
    [1, 1, 1, 5],
    [3, 3, 1, 1],
    [np.nan, 0, 2, 2],
    [0, 0, np.inf, 2],
    [-np.inf, -np.inf, np.inf, np.inf],
    [-3e38, -3e38, 3e38, 3e38],
]


def boxes(*rows: list[float]) -> Float:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_overlap_counts_real_widths() -> None:
    a = boxes([0, 0, 2, 2])
    b = boxes([0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2], [0.5, 0.5, 1.5, 1.5])
    assert iou(a, b)[0].tolist() == pytest.approx([1, 1 / 3, 0, 1 / 4])


@pytest.mark.parametrize("odd", ODD)
def test_odd_boxes_overlap_nothing_and_warn_nobody(odd: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = boxes([0, 0, 2, 2], odd)
        assert iou(both, both).tolist() == [[1, 0], [0, 0]]
        assert ios(both, both).tolist() == [[1, 0], [0, 0]]
        assert giou(both, both).tolist() == [[1, -1], [-1, -1]]


def test_a_box_in_another_is_all_of_the_smaller_one() -> None:
    a = boxes([0, 0, 8, 8])
    assert ios(a, boxes([2, 2, 4, 4], [6, 0, 10, 8], [8, 0, 9, 1]))[0].tolist() == [1, 0.5, 0]


def test_giou_tells_near_from_far() -> None:
    a = boxes([0, 0, 2, 2])
    near, far, half, same = giou(a, boxes([2, 0, 4, 2], [6, 0, 8, 2], [1, 0, 3, 2], [0, 0, 2, 2]))[0]
    assert (near, far, same) == (0, -0.5, 1)
    assert half == pytest.approx(1 / 3)
    corner = giou(a, boxes([1, 1, 3, 3]))[0, 0]
    assert corner == pytest.approx(1 / 7 - 2 / 9)


def test_the_best_of_a_group_stays_and_order_is_by_score() -> None:
    xyxy = boxes([0, 0, 10, 10], [50, 50, 60, 60], [1, 0, 11, 10], [0, 1, 10, 11])
    assert nms(xyxy, np.array([0.5, 0.6, 0.9, 0.7], np.float32), None, 0.5).tolist() == [2, 1]


def test_a_suppressed_box_suppresses_nothing() -> None:
    chain = boxes([0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10])
    assert nms(chain, np.array([0.9, 0.8, 0.7], np.float32), None, 0.3).tolist() == [0, 2]


def test_classes_leave_each_other_alone() -> None:
    same = boxes(*[[0.0, 0, 10, 10]] * 3)
    scores = np.array([0.7, 0.8, 0.9], np.float32)
    assert nms(same, scores, np.array([0, 1, 1], np.int32), 0.5).tolist() == [2, 0]
    assert nms(same, scores, None, 0.5).tolist() == [2]


def test_overlap_of_just_the_threshold_is_allowed() -> None:
    half = boxes([0, 0, 2, 2], [0, 0, 2, 1])
    scores = np.array([0.9, 0.8], np.float32)
    assert len(nms(half, scores, None, 0.5)) == 2
    assert len(nms(half, scores, None, 0.49)) == 1


def test_of_equal_scores_the_first_row_wins() -> None:
    same = boxes(*[[0.0, 0, 10, 10]] * 100)
    assert nms(same, np.full(100, 0.5, np.float32), None, 0.5).tolist() == [0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", ["box", "score"])
def test_what_is_not_finite_is_never_kept_and_suppresses_nothing(bad: float, column: str) -> None:
    xyxy = boxes([0, 0, 4, 4], [0, 0, 4, 4], [9, 9, 12, 12])
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    if column == "box":
        xyxy[0, 2] = bad
    else:
        scores[0] = bad
    assert nms(xyxy, scores, None, 0.5).tolist() == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_of_one_box_all_kinds_keep_it(kind: NmsKind) -> None:
    one, score, label = boxes([0, 0, 4, 4]), np.array([0.5], np.float32), np.zeros(1, np.int32)
    rows, scores = suppress(one, score, label, Suppression(kind), 0.3)
    assert (rows.tolist(), scores.tolist()) == ([0], [0.5])
    assert len(suppress(one, score, label, Suppression(kind), 0.5)[0]) == 0  # more than the floor


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("odd", ODD)
def test_odd_boxes_suppress_nothing_of_any_kind(kind: NmsKind, odd: list[float]) -> None:
    xyxy, scores = boxes(odd, [0, 0, 4, 4], [9, 9, 12, 12]), np.array([0.9, 0.7, 0.8], np.float32)
    rows, kept = suppress(xyxy, scores, np.zeros(3, np.int32), Suppression(kind), 0.0)
    assert rows.tolist() == ([0] if np.isfinite(odd).all() else []) + [2, 1]
    assert kept == pytest.approx(scores[rows])


@pytest.mark.parametrize("kind", KINDS)
def test_of_equals_the_earlier_row_comes_first(kind: NmsKind) -> None:
    same = boxes(*[[0.0, 0, 10, 10]] * 40)
    scores, classes = np.full(40, 0.5, np.float32), np.zeros(40, np.int32)
    rows, _ = suppress(same, scores, classes, Suppression(kind), 0.3)
    assert rows.tolist() == (list(range(40)) if kind == "none" else [0])


def test_soft_kinds_lower_what_overlaps() -> None:
    xyxy = boxes([0, 0, 2, 2], [0, 0, 2, 1], [0, 0, 2, 0.5])  # overlaps 1/2, 1/4 and 1/2
    scores, classes = np.array([0.8, 0.6, 0.4], np.float32), np.zeros(3, np.int32)
    rows, linear = suppress(xyxy, scores, classes, Suppression("soft-linear", iou=0.3), 0.0)
    assert rows.tolist() == [
        0,
        2,
        1,
    ]  # the second falls to 0.3, so the third is the better one: and it takes half again
    assert linear == pytest.approx([0.8, 0.4, 0.15])
    rows, gaussian = suppress(xyxy, scores, classes, Suppression("soft-gaussian", sigma=0.5), 0.0)
    assert rows.tolist() == [0, 1, 2]
    assert gaussian == pytest.approx([0.8, 0.6 * np.exp(-0.5), 0.4 * np.exp(-0.125) * np.exp(-0.5)])
    assert len(suppress(xyxy, scores, classes, Suppression("soft-linear", iou=0.3), 0.2)[0]) == 2


@pytest.mark.parametrize(("side", "kept"), [(16, 1), (32, 1), (64, 2), (96, 2), (500, 2)])
def test_adaptive_is_stricter_with_small_objects(side: float, kept: int) -> None:
    pair = boxes([0, 0, side, side], [side * 0.45, 0, side * 1.45, side])  # overlap 0.379
    scores, classes = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int32)
    assert len(suppress(pair, scores, classes, Suppression("adaptive", iou=0.45), 0.0)[0]) == kept


@pytest.mark.parametrize("kind", ["hard", "soft-linear", "soft-gaussian", "adaptive"])
def test_agnostic_suppression_knows_no_classes(kind: NmsKind) -> None:
    xyxy, scores = boxes(*[[0.0, 0, 40, 40]] * 2), np.array([0.9, 0.8], np.float32)
    classes = np.array([0, 1], np.int32)
    assert len(suppress(xyxy, scores, classes, Suppression(kind), 0.3)[0]) == 2
    assert len(suppress(xyxy, scores, classes, Suppression(kind, agnostic=True), 0.3)[0]) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_boxes_of_any_kind(kind: NmsKind) -> None:
    rows, scores = suppress(boxes(), np.zeros(0, np.float32), np.zeros(0, np.int32), Suppression(kind), 0.3)
    assert (rows.shape, scores.shape) == ((0,), (0,))
    assert scores.dtype == np.float32


def test_no_boxes() -> None:
    assert nms(boxes(), np.zeros(0, np.float32), np.zeros(0, np.int32), 0.5).shape == (0,)
    assert iou(boxes(), boxes([0, 0, 1, 1])).shape == (0, 1)
