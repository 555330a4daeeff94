from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from engines.regions import Region
from engines.track.watch import WatchOptions
from engines.track.zones import ZoneEntered, ZoneLeft, ZoneWatch
from engines.types import Detections

SIZE = (480, 640)
YARD = Region("yard", ((200, 200), (400, 200), (400, 400), (200, 400)))


def standing(*feet: tuple[float, float], ids: Sequence[int] = ()) -> Detections:
    x, y = np.array(feet, np.float64).reshape(-1, 2).T
    n = len(feet)
    xyxy = np.stack([x - 20, y - 100, x + 20, y], axis=1).astype(np.float32)
    return Detections(xyxy, np.full(n, 3, np.int32), np.ones(n, np.float32), np.array(ids or range(1, n + 1), np.int32))


def test_who_walks_through_comes_and_goes() -> None:
    watch = ZoneWatch([YARD])
    events = [
        event for step in range(41) for event in watch.update(standing((100 + 10 * step, 300)), 50 + step / 10, SIZE)
    ]
    came, left = events
    assert isinstance(came, ZoneEntered)
    assert (came.zone, came.track_id, came.class_id) == ("yard", 1, 3)
    assert came.pts == pytest.approx(51, abs=0.2)
    assert isinstance(left, ZoneLeft)
    assert (left.zone, left.track_id, left.class_id) == ("yard", 1, 3)
    assert left.pts == pytest.approx(53, abs=0.2)
    assert left.dwell == pytest.approx(left.pts - came.pts)


def test_a_zone_may_be_thinner_than_the_margin() -> None:
    watch = ZoneWatch([Region("mat", ((200, 295), (400, 295), (400, 305), (200, 305)))])
    events = [e for step in range(60) for e in watch.update(standing((300, 270 + step)), step / 10, SIZE)]
    assert [type(event) for event in events] == [ZoneEntered, ZoneLeft]


def test_it_tells_who_is_in_it_and_since_when() -> None:
    watch = ZoneWatch([YARD, Region("hall", ((0, 0), (1, 0), (1, 1), (0, 1)))])
    watch.update(standing((300, 300), (500, 300)), 10.0, SIZE)
    watch.update(standing((300, 310), (390, 300), ids=[1, 2]), 11.5, SIZE)
    yard, hall = watch.states
    assert (yard.zone, yard.occupancy, yard.entries, yard.exits) == ("yard", 2, 2, 0)
    assert dict(zip(yard.track_id.tolist(), yard.dwell.tolist(), strict=True)) == {1: 1.5, 2: 0.0}
    assert (hall.occupancy, hall.dwell.tolist()) == (2, [1.5, 1.5])


def test_who_trembles_on_the_edge_comes_once() -> None:
    rng = np.random.default_rng(0)
    path = [
        (100.0, 300.0),
        *((x, 300.0) for x in (200 + rng.normal(0, 1, 300)).tolist()),
        (300.0, 300.0),
        (100.0, 300.0),
    ]
    watch = ZoneWatch([YARD])
    events = [e for step, place in enumerate(path) for e in watch.update(standing(place), step / 10, SIZE)]
    assert [type(event) for event in events] == [ZoneEntered, ZoneLeft]


def test_who_is_hidden_for_a_moment_has_not_left() -> None:
    watch = ZoneWatch([YARD], WatchOptions(memory=2))
    watch.update(standing((300, 300)), 0.0, SIZE)
    assert watch.update(standing(), 1.9, SIZE) == ()
    assert watch.states[0].occupancy == 1
    assert watch.update(standing((310, 300)), 2.0, SIZE) == ()
    assert watch.states[0].dwell.tolist() == [2.0]


def test_who_is_gone_left_when_last_seen() -> None:
    watch = ZoneWatch([YARD], WatchOptions(memory=2))
    watch.update(standing((300, 300), (20, 20)), 1.0, SIZE)
    watch.update(standing((300, 300), (20, 20)), 4.0 - 1.5, SIZE)
    assert watch.update(standing(), 9.0, SIZE) == (ZoneLeft("yard", 1, 3, 2.5, 1.5),)
    assert watch.remembered == 0
    assert watch.states[0].occupancy == 0


def test_a_break_lets_everybody_leave_and_the_next_update_tells() -> None:
    watch = ZoneWatch([YARD])
    watch.update(standing((300, 300)), 1.0, SIZE)
    watch.update(standing((300, 300)), 3.0, SIZE)
    watch.reset()
    assert watch.states[0].occupancy == 0
    assert watch.update(standing((300, 300), ids=[2]), 0.0, SIZE) == (
        ZoneLeft("yard", 1, 3, 3.0, 2.0),
        ZoneEntered("yard", 2, 3, 0.0),
    )


def test_time_that_goes_back_lets_everybody_leave() -> None:
    watch = ZoneWatch([YARD])
    watch.update(standing((300, 300)), 100.0, SIZE)
    left, came = watch.update(standing((300, 300)), 5.0, SIZE)
    assert (type(left), type(came)) == (ZoneLeft, ZoneEntered)


def test_memory_is_bounded_and_the_books_are_right_while_ids_keep_coming() -> None:
    rng = np.random.default_rng(3)
    watch, came, left = ZoneWatch([YARD], WatchOptions(memory=1.0)), 0, 0
    for frame in range(400):
        ids = (frame // 3 + np.arange(5)).tolist()
        events = watch.update(
            standing(*rng.uniform(100, 500, (5, 2)).tolist(), ids=[i + 1 for i in ids]), frame / 10, SIZE
        )
        came += sum(isinstance(event, ZoneEntered) for event in events)
        left += sum(isinstance(event, ZoneLeft) for event in events)
        state = watch.states[0]
        assert (state.entries, state.exits) == (came, left)
        assert state.occupancy == came - left
        assert watch.remembered <= 5 + 12


def test_no_zones_and_no_objects() -> None:
    assert ZoneWatch([]).update(standing((1, 1)), 0, SIZE) == ()
    assert ZoneWatch([]).states == ()
    assert ZoneWatch([YARD]).update(Detections.empty(), 0, SIZE) == ()


def test_what_a_detector_gives_cannot_be_watched() -> None:
    found = standing((1, 1))
    with pytest.raises(ValueError, match="no track ids"):
        ZoneWatch([YARD]).update(Detections(found.xyxy, found.class_id, found.confidence), 0, SIZE)
