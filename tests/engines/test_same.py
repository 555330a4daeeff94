"""Whether two answers hold the same objects: their order, and what scores zero, is no matter."""

from __future__ import annotations

import numpy as np

from engines.build.same import objects_apart
from engines.types import Array

BOXES = np.array([[[0, 0, 10, 10], [20, 20, 60, 50], [5, 5, 9, 90], [0, 0, 0, 0]]], np.float32)
SCORES = np.array([[0.9, 0.5, 0.4999, 0]], np.float32)
CLASSES = np.array([[1, 2, 2, 0]], np.int32)
MASKS = np.random.default_rng(0).random((1, 4, 28, 28), np.float32)


def answer(rows: tuple[int, ...] = (0, 1, 2, 3)) -> list[Array]:
    return [each[:, list(rows)].copy() for each in (BOXES, SCORES, CLASSES, MASKS)]


def test_order_and_what_is_no_object_do_not_count() -> None:
    other = answer((0, 2, 1, 3))
    other[0][0, 3] = 7
    other[3][0, 3] = 1
    assert objects_apart(answer(), other) == 0


def test_each_object_that_the_other_lacks_counts_on_both_sides() -> None:
    for column, change in enumerate((30, 0.1, 1, 0.2)):
        other = answer()
        other[column][0, 1] += change
        assert objects_apart(other, answer()) == objects_apart(answer(), other) == 2 / 6


def test_nothing_equals_nothing_and_no_number_equals_none() -> None:
    nothing = [np.zeros_like(each) for each in answer()]
    assert objects_apart(nothing, nothing) == 0
    assert objects_apart(answer(), nothing) == 1
    broken = answer()
    broken[0][:] = np.nan
    assert objects_apart(broken, answer()) == 1


def test_other_shapes_are_as_far_apart_as_can_be() -> None:
    assert objects_apart(answer((0, 1)), answer()) == float("inf")
