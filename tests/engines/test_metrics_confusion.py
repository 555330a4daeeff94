"""The confusion matrix as a picture: legible for a few classes and for hundreds."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engines.metrics.actions import Counts, top_k
from engines.metrics.plot_confusion import plot
from engines.types import Array


def counts(classes: int, *cells: tuple[int, int, int]) -> Counts:
    table = np.zeros((classes, classes), np.int64)
    for true, taken, count in cells:
        table[true, taken] = count
    return table


def pixels(png: bytes) -> Array:
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


LABELS = ("a", "b", "c", "d")


def test_every_count_changes_the_picture() -> None:
    tables = [counts(4, (0, 0, 3), (1, 1, 3)), counts(4, (0, 1, 3), (1, 1, 3)), counts(4, (0, 0, 2), (1, 1, 3))]
    pictures = [pixels(plot(table, LABELS, "t")) for table in tables]
    assert all(picture.shape == pictures[0].shape for picture in pictures)
    assert not any(np.array_equal(pictures[i], pictures[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_a_row_is_dark_where_it_is_taken_for() -> None:
    """The upper left cell is the first class taken for itself."""
    right, wrong = (pixels(plot(counts(30, (0, taken, 9), (29, 29, 9)), ["x"] * 30, "")) for taken in (0, 29))
    darker = np.argwhere((right.astype(int) - wrong).sum(2) < -200)
    lighter = np.argwhere((right.astype(int) - wrong).sum(2) > 200)
    assert darker[:, 1].max() < lighter[:, 1].min()  # it went from the left to the right


def test_classes_without_clips_have_no_row_and_share_a_column() -> None:
    few = pixels(plot(counts(400, *((n, n, 5) for n in range(8))), [str(n) for n in range(400)], "t"))
    more = pixels(plot(counts(400, *((n, 399, 5) for n in range(8))), [str(n) for n in range(400)], "t"))
    assert few.shape[0] == more.shape[0] < 1200
    assert more.shape[1] > few.shape[1]


def test_hundreds_of_classes_have_room_for_their_names() -> None:
    classes = 120
    picture = pixels(plot(np.eye(classes, dtype=np.int64), [f"class {n}" for n in range(classes)], "t"))
    assert min(picture.shape[:2]) > 12 * classes  # pixels a row


@pytest.mark.parametrize("labels", [("$\\frac{", "$"), ("", "x" * 300), ("日本", "ü")])
@pytest.mark.filterwarnings("ignore:Glyph")  # the font lacks what the picture shows as boxes
def test_any_name_can_be_drawn(labels: tuple[str, str]) -> None:
    assert pixels(plot(counts(2, (0, 1, 1), (1, 0, 1)), labels, "a $ title")).any()


def test_nothing_at_all() -> None:
    assert pixels(plot(counts(3), LABELS[:3], "t")).any()


def test_the_mean_class_accuracy_is_of_classes_that_are_there() -> None:
    measured = top_k([0, 0, 0, 2], np.eye(4, dtype=np.float32)[[0, 0, 1, 2]])
    assert measured.mean_class_accuracy == pytest.approx((2 / 3 + 1) / 2)
    assert measured.top1 == 0.75
    assert np.isnan(top_k([], np.zeros((0, 3), np.float32)).mean_class_accuracy)
