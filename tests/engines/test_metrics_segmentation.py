"""Labels of pixels: worked examples, and what counts nowhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engines.metrics.segmentation import BACKGROUND, IGNORED, Confusion, Figures, paint
from engines.types import Bool, Int


def labels(*rows: str) -> Int:
    """Make a label map of digits; a dot counts nowhere."""
    return np.array([[IGNORED if c == "." else int(c) for c in row] for row in rows], np.int32)


def figures(truth: Int, found: Int, classes: int = 3) -> Figures:
    confusion = Confusion(classes)
    confusion.add(truth, found)
    return confusion.figures()


def test_a_worked_example() -> None:
    got = figures(labels("0011", "0011"), labels("0001", "0011"), classes=2)
    assert got.pixel_accuracy == pytest.approx(7 / 8)
    assert got.class_accuracy == pytest.approx([1, 3 / 4])
    assert got.iou == pytest.approx([4 / 5, 3 / 4])
    assert got.dice == pytest.approx([8 / 9, 6 / 7])
    assert got.mean_class_accuracy == pytest.approx(7 / 8)
    assert got.mean_iou == pytest.approx((4 / 5 + 3 / 4) / 2)
    assert got.mean_dice == pytest.approx((8 / 9 + 6 / 7) / 2)


def test_a_class_that_is_nowhere_is_left_out_and_one_that_is_only_found_is_wrong() -> None:
    got = figures(labels("0001"), labels("0021"), classes=4)
    assert got.iou == pytest.approx([2 / 3, 1, 0, math.nan], nan_ok=True)
    assert got.mean_iou == pytest.approx(5 / 9)
    assert got.mean_class_accuracy == pytest.approx((2 / 3 + 1) / 2)  # of what is true somewhere


def test_ignored_pixels_count_nowhere() -> None:
    assert figures(labels("00.."), labels("0012")).pixel_accuracy == 1


def test_images_add_up() -> None:
    confusion = Confusion(2)
    confusion.add(labels("00"), labels("01"))
    confusion.add(labels("111"), labels("111"))
    assert confusion.pixels.tolist() == [[1, 1], [0, 3]]
    assert confusion.figures().pixel_accuracy == pytest.approx(4 / 5)


def test_without_any_pixel_there_is_no_number() -> None:
    got = figures(labels(".."), labels("00"))
    assert all(math.isnan(value) for value in (got.pixel_accuracy, got.mean_iou, got.mean_dice))


@pytest.mark.parametrize(
    ("truth", "found", "says"),
    [
        (labels("00"), labels("000"), "truth is"),
        (labels("03"), labels("00"), "truth has labels 0 to 3, but there are 3 classes"),
        (labels("00"), labels("0."), "found has labels -1 to 0"),
    ],
)
def test_maps_that_do_not_fit_are_refused(truth: Int, found: Int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        figures(truth, found)


@given(arrays(np.int32, (2, 5, 4), elements=st.integers(0, 2)))
def test_it_is_what_sets_of_pixels_say(maps: Int) -> None:
    truth, found = maps
    got = figures(truth, found)
    for c in range(3):
        t, f = truth == c, found == c
        if (t | f).any():
            assert got.iou[c] == pytest.approx((t & f).sum() / (t | f).sum())
            assert got.dice[c] == pytest.approx(2 * (t & f).sum() / (t.sum() + f.sum()))
    assert got.pixel_accuracy == pytest.approx((truth == found).mean())


def test_later_instances_lie_on_top() -> None:
    left: Bool = np.array([[True, True, False, False]])
    middle: Bool = np.array([[False, True, True, False]])
    assert paint([(2, left), (1, middle)], (1, 4)).tolist() == [[2, 1, 1, BACKGROUND]]
