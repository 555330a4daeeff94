"""The plot of precision over recall, looked at as an image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("pycocotools", reason="needs pycocotools: pip install 'streamer[eval]'")
pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'streamer[eval]'")

from engines.metrics.coco import Evaluation, evaluate
from engines.metrics.plot import plot
from engines.metrics.truth import Found, Truth
from engines.types import Array, Detections


def evaluation(confidences: list[float], names: dict[int, str]) -> Evaluation:
    """Two objects, of which one is found, and as much besides as there are more confidences."""
    boxes = np.array([[0, 0, 9, 9], [50, 50, 90, 90], [200, 0, 220, 20]], np.float32)
    truth = Truth.of([Detections(boxes[:2], np.zeros(2, np.int32), np.ones(2, np.float32))])
    rows = np.array([0, 2, 2, 2])[: len(confidences)]
    found = Detections(boxes[rows], np.zeros(len(rows), np.int32), np.array(confidences, np.float32))
    return evaluate(Truth(truth.pictures, names, truth.annotations), {0: Found(found)})


def pixels(png: bytes) -> Array:
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def test_precision_changes_the_plot() -> None:
    right, wrong = (plot({"boxes": evaluation(scores, {0: "cat"})}, "t") for scores in ([0.9], [0.1, 0.9]))
    assert pixels(right).shape == pixels(wrong).shape
    assert not np.array_equal(pixels(right), pixels(wrong))


def test_masks_have_a_panel_of_their_own() -> None:
    each = evaluation([0.9], {0: "cat"})
    one, two = pixels(plot({"boxes": each}, "t")), pixels(plot({"boxes": each, "masks": each}, "t"))
    assert two.shape[1] == 2 * one.shape[1]


def test_any_name_can_be_drawn() -> None:
    assert pixels(plot({"boxes": evaluation([0.9], {0: "$\\frac{", 1: "dog"})}, "a $ title")).any()


def test_without_any_truth_there_are_no_lines() -> None:
    empty = evaluate(Truth.of([Detections.empty()]), {})
    assert pixels(plot({"boxes": empty}, "t")).any()
