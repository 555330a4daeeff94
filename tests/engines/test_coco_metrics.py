"""Average precision, on cases small enough to be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.metrics.coco import MeanAp, mean_ap
from engines.types import Detections

BOX = (0.0, 0.0, 100.0, 100.0)
FAR = (300.0, 300.0, 400.0, 400.0)
Row = tuple[tuple[float, float, float, float], int, float]  # box, class, confidence


def detections(*rows: Row) -> Detections:
    if not rows:
        return Detections.empty()
    boxes, classes, scores = zip(*rows, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(classes, np.int32), np.array(scores, np.float32))


def close(measured: MeanAp, ap: float, ap50: float, ap75: float) -> bool:
    return (measured.ap, measured.ap50, measured.ap75) == pytest.approx((ap, ap50, ap75), abs=1e-6)


def test_what_is_found_as_it_is_scores_one() -> None:
    truth = [detections((BOX, 0, 1.0), (FAR, 3, 1.0)), detections(), detections((FAR, 0, 1.0))]
    assert close(mean_ap(truth, truth), 1.0, 1.0, 1.0)


def test_nothing_found_scores_nought() -> None:
    assert mean_ap([detections((BOX, 0, 1.0))], [detections()]) == MeanAp(0.0, 0.0, 0.0)


def test_overlap_counts_up_to_its_threshold() -> None:
    found = detections(((0.0, 0.0, 100.0, 72.0), 0, 0.9))  # IoU 0.72: good for 0.50 … 0.70, five of ten thresholds
    assert close(mean_ap([detections((BOX, 0, 1.0))], [found]), 0.5, 1.0, 0.0)


@pytest.mark.parametrize(("confidence", "expected"), [(0.9, 0.5), (0.1, 1.0)])
def test_a_false_alarm_costs_what_it_outranks(confidence: float, expected: float) -> None:
    found = detections((BOX, 0, 0.5), (FAR, 0, confidence))
    assert close(mean_ap([detections((BOX, 0, 1.0))], [found]), expected, expected, expected)


def test_ranks_go_across_images() -> None:
    truth = [detections((BOX, 0, 1.0)), detections((BOX, 0, 1.0))]
    found = [detections((BOX, 0, 0.9)), detections((FAR, 0, 0.8), (BOX, 0, 0.7))]
    share = (51 * 1 + 50 * 2 / 3) / 101  # of 101 recalls, those up to 0.5 at precision 1, the rest at 2/3
    assert close(mean_ap(truth, found), share, share, share)


def test_a_second_box_on_the_same_object_is_a_false_alarm() -> None:
    truth = [detections((BOX, 0, 1.0), (FAR, 0, 1.0))]
    found = [detections((BOX, 0, 0.9), (BOX, 0, 0.8), (FAR, 0, 0.7))]
    assert mean_ap(truth, found).ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_classes_weigh_the_same_however_many_objects_they_have() -> None:
    truth = detections((BOX, 0, 1.0), (FAR, 0, 1.0), (BOX, 7, 1.0))
    found = detections((BOX, 0, 0.9), (FAR, 0, 0.9))
    assert close(mean_ap([truth], [found]), 0.5, 0.5, 0.5)


def test_a_wrong_class_or_image_is_not_found() -> None:
    truth = [detections((BOX, 0, 1.0)), detections()]
    assert mean_ap(truth, [detections((BOX, 1, 0.9)), detections()]).ap == 0
    assert mean_ap(truth, [detections(), detections((BOX, 0, 0.9))]).ap == 0


def test_classes_that_are_nowhere_true_count_nowhere() -> None:
    found = detections((BOX, 0, 0.5), (BOX, 1, 0.9))
    assert close(mean_ap([detections((BOX, 0, 1.0))], [found]), 1.0, 1.0, 1.0)


def test_only_the_most_confident_of_an_image_count() -> None:
    found = [detections((FAR, 0, 0.9), (BOX, 0, 0.8))]
    truth = [detections((BOX, 0, 1.0))]
    assert mean_ap(truth, found).ap == pytest.approx(0.5)
    assert mean_ap(truth, found, max_detections=1).ap == 0


def test_without_any_truth_there_is_no_number() -> None:
    nothing = mean_ap([detections()], [detections((BOX, 0, 0.9))])
    assert all(math.isnan(value) for value in (nothing.ap, nothing.ap50, nothing.ap75))
    assert math.isnan(mean_ap([], []).ap)


def test_images_must_pair() -> None:
    with pytest.raises(ValueError, match="2 images, but 1"):
        mean_ap([detections(), detections()], [detections()])


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    mean_ap([detections((BOX, 0, 1.0))], [detections((BOX, 0, 0.9))])
    assert capsys.readouterr() == ("", "")


Drawn = tuple[int, int, int, int, int, int]  # x, y, width, height, class, confidence in percent
coordinates = st.integers(0, 50)
rows = st.lists(
    st.tuples(coordinates, coordinates, st.integers(1, 50), st.integers(1, 50), st.integers(0, 2), st.integers(1, 99)),
    max_size=6,
    unique_by=lambda row: row[-1],  # equal confidences may be taken in any order
)


def of(drawn: list[Drawn]) -> Detections:
    return detections(*(((x, y, x + w, y + h), label, score / 100) for x, y, w, h, label, score in drawn))


@settings(deadline=None, max_examples=50)
@given(rows, rows)
def test_the_order_of_what_is_found_changes_nothing(truth: list[Drawn], found: list[Drawn]) -> None:
    one, other = mean_ap([of(truth)], [of(found)]), mean_ap([of(truth)], [of(found[::-1])])
    assert (one.ap, one.ap50, one.ap75) == pytest.approx((other.ap, other.ap50, other.ap75), nan_ok=True)
    assert 0 <= one.ap <= 1 + 1e-9 if truth else math.isnan(one.ap)
