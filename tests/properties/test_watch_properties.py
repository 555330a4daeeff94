from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.regions import Region
from engines.track.lines import Line, LineCounter
from engines.track.zones import ZoneEntered, ZoneLeft, ZoneWatch
from engines.types import Detections

Doubles = npt.NDArray[np.float64]

SIZE = (480, 640)
A, B = (300.0, 400.0), (280.0, 60.0)
CORNERS = ((200.0, 150.0), (420.0, 180.0), (390.0, 390.0), (210.0, 350.0))

SCALES = st.sampled_from([0.5, 1.0, 2.0, 16.0])  # no rounding: a place on the very edge stays there
SHIFTS = st.tuples(st.integers(2, 4000), st.integers(2, 4000))


def path(draw: st.DrawFn) -> Doubles:
    places = st.tuples(st.integers(0, 640), st.integers(0, 480))
    return np.array(draw(st.lists(places, min_size=2, max_size=25)), np.float64)


paths = st.composite(path)()


def objects(place: Doubles, scale: float, track_id: int = 1) -> Detections:
    x, y = place
    box = np.array([[x - 16 * scale, y - 64 * scale, x + 16 * scale, y]], np.float32)
    return Detections(box, np.zeros(1, np.int32), np.ones(1, np.float32), np.array([track_id], np.int32))


def crossings(places: Doubles, a: Doubles, b: Doubles, scale: float = 1) -> list[tuple[float, str]]:
    counter = LineCounter([Line("line", (a[0], a[1]), (b[0], b[1]))])
    return [
        (event.pts, event.direction)
        for step, place in enumerate(places)
        for event in counter.update(objects(place, scale), float(step), SIZE)
    ]


def visits(places: Doubles, corners: Doubles, scale: float = 1) -> list[tuple[type, float]]:
    watch = ZoneWatch([Region("zone", tuple((x, y) for x, y in corners.tolist()))])
    return [
        (type(event), event.pts)
        for step, place in enumerate(places)
        for event in watch.update(objects(place, scale), float(step), SIZE)
    ]


@given(st.integers(0, 12), st.booleans(), st.floats(0.1, 0.9))
def test_a_track_that_crosses_n_times_counts_n(times: int, from_right: bool, where: float) -> None:
    a, b = np.array(A), np.array(B)
    along = b - a
    aside = np.array([-along[1], along[0]]) / np.hypot(*along) * 40  # to the right, as y goes down
    sides = [(-1) ** (step + (not from_right)) for step in range(times + 1)]
    got = crossings(np.array([a + where * along + side * aside for side in sides]), a, b)
    first, second = ("right_to_left", "left_to_right") if from_right else ("left_to_right", "right_to_left")
    assert [direction for _, direction in got] == [(first, second)[step % 2] for step in range(times)]


@given(paths)
def test_ways_over_a_line_alternate(places: Doubles) -> None:
    """Without ends to go round, nobody crosses twice the same way."""
    far = np.array(A) + 1000 * (np.array(A) - B), np.array(B) - 1000 * (np.array(A) - B)
    directions = [direction for _, direction in crossings(places, *far)]
    assert all(one != other for one, other in pairwise(directions))


@given(paths)
def test_the_line_the_other_way_round_counts_the_other_way(places: Doubles) -> None:
    other = {"left_to_right": "right_to_left", "right_to_left": "left_to_right"}
    forth, back = crossings(places, np.array(A), np.array(B)), crossings(places, np.array(B), np.array(A))
    assert back == [(pts, other[direction]) for pts, direction in forth]


@given(paths, SCALES, SHIFTS)
@settings(deadline=None)
def test_a_picture_that_is_scaled_and_moved_counts_the_same(
    places: Doubles, scale: float, shift: tuple[int, int]
) -> None:
    a, b, corners = np.array(A), np.array(B), np.array(CORNERS)
    by = np.array(shift, np.float64)
    assert crossings(places * scale + by, a * scale + by, b * scale + by, scale) == crossings(places, a, b)
    assert visits(places * scale + by, corners * scale + by, scale) == visits(places, corners)


@given(paths)
def test_a_zone_is_entered_and_left_in_turn(places: Doubles) -> None:
    kinds = [kind for kind, _ in visits(places, np.array(CORNERS))]
    assert kinds == [(ZoneEntered, ZoneLeft)[step % 2] for step in range(len(kinds))]


@given(st.lists(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 640)), unique_by=lambda one: one[0]), max_size=12))
@settings(deadline=None, max_examples=40)
def test_objects_do_not_touch_each_other(frames: list[list[tuple[int, int]]]) -> None:
    """What is told of all together is what is told of each alone."""
    together, alone = told(frames), []
    for track_id in range(1, 7):
        alone += told([[one for one in frame if one[0] == track_id] for frame in frames])
    assert sorted(together) == sorted(alone)


def told(frames: list[list[tuple[int, int]]]) -> list[tuple[float, int, str]]:
    counter = LineCounter([Line("line", A, B)])
    watch = ZoneWatch([Region("zone", CORNERS)])
    out = []
    for step, frame in enumerate(frames):
        x = np.array([x for _, x in frame], np.float32)
        boxes = np.stack([x - 16, np.full_like(x, 200), x + 16, np.full_like(x, 264)], axis=1)
        ids = np.array([track_id for track_id, _ in frame], np.int32)
        tracked = Detections(boxes, np.zeros(len(x), np.int32), np.ones(len(x), np.float32), ids)
        events = (*counter.update(tracked, float(step), SIZE), *watch.update(tracked, float(step), SIZE))
        out += [(event.pts, event.track_id, type(event).__name__) for event in events]
    return out
