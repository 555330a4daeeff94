"""Endpoint error and outliers of flow; top-1, top-5 and confusion of actions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engines.metrics.actions import top_k
from engines.metrics.flow import FlowError, flow_error


def field(*vectors: tuple[float, float]) -> np.ndarray:
    return np.array([vectors], np.float32)


def test_the_endpoint_error_is_a_distance() -> None:
    error = flow_error(field((0, 0), (10, 0)), field((3, 4), (10, 0)))
    assert (error.endpoint, error.pixels) == (2.5, 2)


def test_an_outlier_is_wrong_by_three_pixels_and_by_five_per_cent() -> None:
    truth = field((100, 0), (100, 0), (10, 0), (10, 0))
    found = field((104, 0), (106, 0), (12.9, 0), (14, 0))
    assert flow_error(truth, found).outliers == 0.5


def test_only_what_is_known_counts() -> None:
    known = np.array([[True, False]])
    assert flow_error(field((0, 0), (0, 0)), field((0, 1), (90, 0)), known) == FlowError(1.0, 0.0, 1)
    nothing = flow_error(field((0, 0)), field((1, 1)), np.array([[False]]))
    assert math.isnan(nothing.endpoint)
    assert FlowError.mean([nothing, FlowError(1.0, 0.5, 3), FlowError(5.0, 0.1, 1)]) == FlowError(2.0, 0.4, 4)


def test_what_is_no_number_is_an_outlier() -> None:
    assert flow_error(field((0, 0)), field((math.nan, 0))).outliers == 1.0


def test_u_and_v_are_not_exchangeable() -> None:
    truth = field((5, 0))
    assert flow_error(truth, truth).endpoint == 0
    assert flow_error(truth, truth[..., ::-1]).endpoint == pytest.approx(50**0.5)


def test_fields_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="truth is"):
        flow_error(field((0, 0)), field((0, 0), (0, 0)))


def test_top_one_top_five_and_confusion() -> None:
    probs = np.array([[9, 8, 7, 6, 5, 4], [1, 9, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]], np.float32)
    measured = top_k([5, 1, 1], probs)
    assert [measured.top1, measured.top5] == pytest.approx([1 / 3, 2 / 3])
    assert measured.confusion[5, 0] == measured.confusion[1, 1] == measured.confusion[1, 5] == 1
    assert measured.confusion.sum() == 3
    assert measured.class_accuracy[1] == 0.5
    assert math.isnan(measured.class_accuracy[0])


def test_scores_that_are_no_numbers_come_last() -> None:
    assert top_k([1], np.array([[math.nan, 0.1]], np.float32)).top1 == 1.0


@pytest.mark.parametrize(("truth", "shape"), [([0], (2, 3)), ([3], (1, 3)), ([-1], (1, 3))])
def test_what_does_not_fit_is_refused(truth: list[int], shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="true class"):
        top_k(truth, np.zeros(shape, np.float32))


def test_no_clips_at_all() -> None:
    assert math.isnan(top_k([], np.zeros((0, 4), np.float32)).top1)
