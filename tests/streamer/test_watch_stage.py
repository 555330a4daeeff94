"""Lines and zones as nodes: values in every tracked frame, events when something happens, cameras apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from moving import packet, tracked

from engines.regions import Region
from engines.track.lines import Line, LineCounter, LineCrossed
from engines.track.zones import ZoneEntered, ZoneLeft, ZoneWatch
from engines.types import Detections
from streamer.stages.watch import CrossingWatcher, OccupancyWatcher, Watch
from streamer.types import Crossings, Occupancy, Packet, Port

TRACKS, LINES, ZONES = Port("tracks", Detections), Port("lines", Crossings), Port("zones", Occupancy)
IMAGE = np.zeros((100, 200, 3), np.uint8)
DOOR = Line("door", (0.5, 1), (0.5, 0))  # drawn upwards: its left is that of the picture
YARD = Region("yard", ((0.5, 0), (1, 0), (1, 1), (0.5, 1)))


def lines(cameras: int = 1024) -> Watch[Crossings]:
    return Watch(TRACKS, LINES, lambda: CrossingWatcher(LineCounter([DOOR])), cameras)


def zones() -> Watch[Occupancy]:
    return Watch(TRACKS, ZONES, lambda: OccupancyWatcher(ZoneWatch([YARD])))


def walk(*xs: float, camera: str = "gate", first: int = 0) -> list[Packet]:
    """Somebody who stands at each x in turn."""
    return [packet(IMAGE, first + i, camera, tracks=tracked([(x - 10, 40, x + 10, 80)], [1])) for i, x in enumerate(xs)]


def counts(packets: Sequence[Packet]) -> list[tuple[int, int]]:
    values = [one.get(LINES) for one in packets]
    return [(value.lines[0].left_to_right, value.lines[0].right_to_left) for value in values if value is not None]


def events(packets: Sequence[Packet], port: Port[Any]) -> list[Any]:
    values = [one.get(port) for one in packets]
    return [event for value in values if value is not None for event in value.events]


def test_crossings_are_counted_and_told_in_their_frame() -> None:
    out = lines().process(walk(60, 80, 120, 140, 70))
    assert counts(out) == [(0, 0), (0, 0), (1, 0), (1, 0), (1, 1)]
    assert events(out, LINES) == [
        LineCrossed("door", 1, 0, 0.2, "left_to_right"),
        LineCrossed("door", 1, 0, 0.4, "right_to_left"),
    ]


def test_who_is_in_a_zone() -> None:
    out = zones().process(walk(60, 120, 140, 160, 60))
    occupancy = [value.zones[0].occupancy for one in out if (value := one.get(ZONES)) is not None]
    assert occupancy == [0, 1, 1, 1, 0]
    assert events(out, ZONES) == [ZoneEntered("yard", 1, 0, 0.1), ZoneLeft("yard", 1, 0, 0.4, 0.4 - 0.1)]


def test_cameras_are_counted_apart_and_frames_without_tracks_pass() -> None:
    mixed = [one for pair in zip(walk(80, 120), walk(80, 90, camera="yard"), strict=True) for one in pair]
    out = lines().process([*mixed, packet(IMAGE, 9)])
    assert counts(out[::2][:2]) == [(0, 0), (1, 0)]
    assert counts(out[1::2]) == [(0, 0), (0, 0)]
    assert out[-1].get(LINES) is None


def test_after_a_break_nobody_has_crossed_and_counts_go_on() -> None:
    stage = lines()
    stage.process(walk(80, 120))
    stage.forget("gate")
    stage.forget("never seen")
    assert counts(stage.process(walk(60, 120, first=10))) == [(1, 0), (2, 0)]


def test_after_a_break_the_next_frame_tells_who_has_left() -> None:
    stage = zones()
    stage.process(walk(120, 130))
    stage.forget("gate")
    told = events(stage.process([packet(IMAGE, 9, tracks=Detections.empty())]), ZONES)
    assert [type(event) for event in told] == [ZoneLeft]


def test_cameras_that_come_and_go_take_no_more_memory() -> None:
    stage = lines(cameras=2)
    for camera in "abc":
        stage.process(walk(80, 120, camera=camera))
    assert counts(stage.process(walk(140, camera="c", first=5))) == [(1, 0)]
    assert counts(stage.process(walk(80, camera="a", first=5))) == [(0, 0)]
