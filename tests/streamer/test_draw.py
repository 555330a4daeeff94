"""What is drawn can be seen, on images of any size, and never on the packet's own pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.types import Detections, Image
from streamer.draw import Pen, colour, describe, draw

LABELS = ("person", "car")


def grey(height: int, width: int) -> Image:
    return np.full((height, width, 3), 128, np.uint8)


def detections(*boxes: tuple[float, float, float, float], track: bool = False) -> Detections:
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(n, 4),
        np.arange(n, dtype=np.int32),
        np.linspace(0.9, 0.5, n, dtype=np.float32),
        np.arange(7, 7 + n, dtype=np.int32) if track else None,
    )


def test_a_box_has_its_class_colour_and_a_label_above() -> None:
    image = draw(grey(240, 320), [(detections((100, 100, 200, 180)), LABELS)])
    assert tuple(int(v) for v in image[179:182, 150].reshape(-1, 3)[1]) == colour(0)
    assert (image[85:100, 100:160] != 128).any()
    assert (image[110:170, 110:190] == 128).all()  # what is inside stays to be seen


def test_the_packets_own_image_is_not_written() -> None:
    image = grey(90, 120)
    image.setflags(write=False)
    drawn = draw(image, [(detections((1, 1, 50, 50)), LABELS)], "gate  12 FPS")
    assert (image == 128).all()
    assert (drawn != 128).any()


def test_a_caption_is_written_in_the_corner() -> None:
    drawn = draw(grey(240, 640), [], "gate  25 FPS")
    assert (drawn[:20, :60] == 0).any()
    assert (drawn[:20, :60] == 255).any()
    assert (drawn[40:] == 128).all()


def test_what_a_box_is_called() -> None:
    assert describe(detections((0, 0, 1, 1), track=True), 0, LABELS) == "#7 person 0.90"
    assert describe(detections((0, 0, 1, 1)), 0, ()) == "class 0 0.90"


def test_labels_that_the_font_lacks_are_drawn_all_the_same() -> None:
    drawn = draw(grey(100, 200), [(detections((10, 50, 60, 90)), ("Fußgänger 人",))])
    assert (drawn != 128).any()


def test_colours_are_stable_and_distinct() -> None:
    assert colour(0) == (242, 61, 61)
    assert len({colour(i) for i in range(80)}) == 80
    far_apart = [sum(abs(a - b) for a, b in zip(colour(i), colour(i + 1), strict=True)) for i in range(79)]
    assert min(far_apart) > 100


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.lists(st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 4), max_size=3),
    st.text(max_size=30),
)
def test_any_size_any_box_any_text(
    size: tuple[int, int], boxes: list[tuple[float, float, float, float]], caption: str
) -> None:
    image = draw(grey(*size), [(detections(*boxes), LABELS)], caption)
    assert image.shape == (*size, 3)


@pytest.mark.parametrize("height", [120, 480, 1080, 2160])
def test_text_is_readable_at_any_size(height: int) -> None:
    """As tall as a subtitle: at least 7 pixels, at most 5 % of the image."""
    pen = Pen.for_image(grey(height, height))
    (_, text), _ = cv2.getTextSize("person", cv2.FONT_HERSHEY_SIMPLEX, pen.text, pen.line)
    assert 7 <= text <= max(9, 0.05 * height)
