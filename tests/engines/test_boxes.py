from __future__ import annotations

import warnings

import numpy as np
import pytest

from engines.boxes import iou, nms
from engines.types import Float


def boxes(*rows: list[float]) -> Float:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_overlap_counts_real_widths() -> None:
    a = boxes([0, 0, 2, 2])
    b = boxes([0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 2], [0.5, 0.5, 1.5, 1.5])
    assert iou(a, b)[0].tolist() == pytest.approx([1, 1 / 3, 0, 1 / 4])


@pytest.mark.parametrize(
    "odd",
    [
        [1, 1, 1, 5],
        [3, 3, 1, 1],
        [np.nan, 0, 2, 2],
        [0, 0, np.inf, 2],
        [-np.inf, -np.inf, np.inf, np.inf],
        [-3e38, -3e38, 3e38, 3e38],
    ],
)
def test_odd_boxes_overlap_nothing_and_warn_nobody(odd: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = boxes([0, 0, 2, 2], odd)
        assert iou(both, both).tolist() == [[1, 0], [0, 0]]


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


def test_no_boxes() -> None:
    assert nms(boxes(), np.zeros(0, np.float32), np.zeros(0, np.int32), 0.5).shape == (0,)
    assert iou(boxes(), boxes([0, 0, 1, 1])).shape == (0, 1)
