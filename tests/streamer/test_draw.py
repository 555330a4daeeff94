"""What is drawn can be seen, on images of any size, and never on the packet's own pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.regions import Region
from engines.types import Detections, Image, Masks
from streamer.draw import Annotator, Layer, Mark, Pen, Tail, Tails, colour, describe, draw
from streamer.types import Frame, Packet
from streamer.wire import NodeFacts

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
    image = draw(grey(240, 320), [Layer(detections((100, 100, 200, 180)), LABELS)])
    assert tuple(int(v) for v in image[179:182, 150].reshape(-1, 3)[1]) == colour(0)
    assert (image[85:100, 100:160] != 128).any()
    assert (image[110:170, 110:190] == 128).all()  # what is inside stays to be seen


def test_the_packets_own_image_is_not_written() -> None:
    image = grey(90, 120)
    image.setflags(write=False)
    drawn = draw(image, [Layer(detections((1, 1, 50, 50)), LABELS)], caption="gate  12 FPS")
    assert (image == 128).all()
    assert (drawn != 128).any()


def test_a_caption_is_written_in_the_corner() -> None:
    drawn = draw(grey(240, 640), [], caption="gate  25 FPS")
    assert (drawn[:20, :60] == 0).any()
    assert (drawn[:20, :60] == 255).any()
    assert (drawn[40:] == 128).all()


def test_what_a_box_is_called() -> None:
    assert describe(detections((0, 0, 1, 1), track=True), 0, LABELS) == "#7 person 0.90"
    assert describe(detections((0, 0, 1, 1)), 0, ()) == "class 0 0.90"


def test_labels_that_the_font_lacks_are_drawn_all_the_same() -> None:
    drawn = draw(grey(100, 200), [Layer(detections((10, 50, 60, 90)), ("Fußgänger 人",))])
    assert (drawn != 128).any()


def test_colours_are_stable_and_distinct() -> None:
    assert colour(0) == (242, 61, 61)
    assert len({colour(i) for i in range(80)}) == 80
    far_apart = [sum(abs(a - b) for a, b in zip(colour(i), colour(i + 1), strict=True)) for i in range(79)]
    assert min(far_apart) > 100


# --- masks, regions, tails ---


def pixel(image: Image, x: int, y: int) -> tuple[int, ...]:
    return tuple(int(v) for v in image[y, x])


def halves(found: Detections) -> Detections:
    """Give every object a mask: the left half of its box."""
    probs = np.zeros((len(found), 28, 28), np.float32)
    probs[:, :, :14] = 1
    return replace(found, masks=Masks(probs))


def blended(tint: tuple[int, int, int]) -> list[int]:
    return [round(0.55 * 128 + 0.45 * channel) for channel in tint]


def test_a_mask_lets_through_what_is_under_it() -> None:
    found = halves(detections((40, 40, 140, 140)))
    image = draw(grey(240, 320), [Layer(found)])
    assert pixel(image, 60, 100) == pytest.approx(blended(colour(0)), abs=1)
    assert pixel(image, 120, 100) == (128, 128, 128)
    assert pixel(image, 30, 100) == (128, 128, 128)


def test_masks_reach_no_further_than_the_image() -> None:
    found = halves(detections((-60, -60, 40, 40), (200, 100, 400, 300), (500, 500, 600, 600)))
    image = draw(grey(240, 320), [Layer(found)])
    assert pixel(image, 250, 200) == pytest.approx(blended(colour(1)), abs=1)
    assert pixel(image, 310, 200) == (128, 128, 128)


@pytest.mark.parametrize("rows", [[0, 1], [1, 0]])
def test_the_surest_object_lies_on_top(rows: list[int]) -> None:
    small_and_sure = detections((40, 40, 140, 140), (20, 20, 220, 220))
    found = replace(small_and_sure, masks=Masks(np.ones((2, 28, 28), np.float32)))[np.array(rows)]
    expected = 0.55 * np.array(blended(colour(1))) + 0.45 * np.array(colour(0))
    assert pixel(draw(grey(240, 320), [Layer(found)]), 90, 90) == pytest.approx(expected, abs=2)


def test_a_tracked_object_keeps_its_colour_whatever_it_is_taken_for() -> None:
    found = detections((100, 100, 200, 180), track=True)
    for class_id in (0, 5):
        image = draw(grey(240, 320), [Layer(replace(found, class_id=np.array([class_id], np.int32)))])
        assert pixel(image, 150, 180) == colour(7)


def test_a_region_is_outlined_and_named() -> None:
    region = Region("door", ((0.25, 0.5), (0.75, 0.5), (0.75, 0.9), (0.25, 0.9)))
    image = draw(grey(240, 320), [], [Mark(region, "door")])
    assert max(pixel(image, 160, 216)) > 200
    assert (image[125:210, 90:230] == 128).all()
    assert (image[100:120, 80:110] != 128).any()


def frame(seq: int, *, pts: float | None = None, size: tuple[int, int] = (240, 320), **values: object) -> Packet:
    return Packet(Frame("gate", seq, seq / 10 if pts is None else pts, 0.0, 0, grey(*size)), values)


def walker(seq: int, y: float = 200) -> Detections:
    """Somebody who walks to the right, 20 pixels a frame; the middle of the lower edge is drawn after."""
    return detections((20 * seq, y - 60, 20 * seq + 20, y), track=True)


def on_tail(image: Image, x: int, y: int = 200) -> bool:
    return bool((abs(image[y - 1 : y + 2, x].astype(int) - colour(7)) < 30).all(-1).any())  # its edges are smooth


def test_a_track_leaves_a_tail() -> None:
    annotator = Annotator({"tracks": NodeFacts()})
    images = [annotator(frame(seq, tracks=walker(seq))) for seq in range(8)]
    assert not on_tail(images[0], 60)
    assert all(on_tail(images[7], x) for x in (20, 60, 100, 130))
    assert not on_tail(images[7], 190)


def test_a_tail_is_as_long_as_it_may_be_and_goes_with_its_track() -> None:
    annotator = Annotator({"tracks": NodeFacts()})
    for seq in range(10):
        image = annotator(frame(seq, tracks=walker(seq)))
    assert on_tail(annotator(frame(15, tracks=Detections.empty())), 100)  # a moment out of sight
    image = annotator(frame(27, tracks=Detections.empty()))
    assert not on_tail(image, 30)  # longer ago than two seconds
    assert on_tail(image, 180)
    assert (annotator(frame(40, tracks=Detections.empty())) == 128).all()


@pytest.mark.parametrize("after", [{"pts": 0.2}, {"size": (240, 330)}, {"pts": 60.0}])
def test_no_tail_spans_a_break(after: dict[str, Any]) -> None:
    annotator = Annotator({"tracks": NodeFacts()})
    for seq in range(4):
        annotator(frame(seq, tracks=walker(seq)))
    image = annotator(frame(4, **after, tracks=walker(12)))
    assert not on_tail(image, 60)
    assert not on_tail(image, 200)


def test_objects_without_tracks_have_no_tails() -> None:
    annotator = Annotator({"yolo": NodeFacts()})
    for seq in range(4):
        image = annotator(frame(seq, yolo=replace(walker(seq), track_id=None)))
    assert (image[:, :50] == 128).all()


def test_only_the_nodes_that_are_asked_for_and_their_regions() -> None:
    region = Region("yard", ((0, 0), (319, 0), (319, 239)))
    annotator = Annotator({"yolo": NodeFacts(LABELS, regions=(region,))})
    assert (annotator(frame(0, other=detections((50, 100, 90, 200))))[110:, :100] == 128).all()
    image = annotator(frame(1, yolo=detections((50, 100, 90, 200)), count=3))
    assert pixel(image, 50, 180) == colour(0)
    assert max(pixel(image, 319, 120)) > 200


@given(st.lists(st.lists(st.integers(0, 400), max_size=30, unique=True), max_size=40))
def test_tails_stay_bounded(frames: list[list[int]]) -> None:
    tails = Tails(seconds=3, tracks=50, points=8)
    for seq, tracks in enumerate(frames):
        found = detections(*[(1, 1, 2, 2)] * len(tracks), track=True)
        tails.follow(replace(found, track_id=np.array(tracks, np.int32)), seq / 2)
        kept: list[Tail] = list(tails)
        assert len(kept) <= 50
        assert all(2 <= len(tail.points) <= min(8, seq + 1, 7) for tail in kept)
        recent = {track for now in frames[max(0, seq - 6) : seq + 1] for track in now}
        assert {tail.track_id for tail in kept} <= recent


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.lists(st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 4), max_size=3),
    st.text(max_size=30),
)
def test_any_size_any_box_any_text(
    size: tuple[int, int], boxes: list[tuple[float, float, float, float]], caption: str
) -> None:
    image = draw(grey(*size), [Layer(detections(*boxes), LABELS)], caption=caption)
    assert image.shape == (*size, 3)


@pytest.mark.parametrize("height", [120, 480, 1080, 2160])
def test_text_is_readable_at_any_size(height: int) -> None:
    """As tall as a subtitle: at least 7 pixels, at most 5 % of the image."""
    pen = Pen.for_image(grey(height, height))
    (_, text), _ = cv2.getTextSize("person", cv2.FONT_HERSHEY_SIMPLEX, pen.text, pen.line)
    assert 7 <= text <= max(9, 0.05 * height)
