from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest

from engines.track.tracker import TrackOptions
from engines.types import Detections
from streamer import graph
from streamer.stages.base import Stage
from streamer.stages.track import Between, Track
from streamer.types import Frame, Packet, Port

YOLO, TRACKS = Port("yolo", Detections), Port("tracks", Detections)
IMAGE = np.zeros((4, 4, 3), np.uint8)


class Yolo:
    """A node that is only declared."""

    reads: tuple[Port[Any], ...] = ()
    writes: Port[Any] = YOLO


def found(*lefts: float) -> Detections:
    x = np.array(lefts, np.float32)
    n = len(lefts)
    boxes = np.stack([x, 0 * x, x + 60, 0 * x + 90], axis=1)
    return Detections(boxes, np.zeros(n, np.int32), np.full(n, 0.9, np.float32))


def packet(camera: str, seq: int, value: Detections | None) -> Packet:
    empty = Packet(Frame(camera, seq, seq / 10, 0.0, 0, IMAGE))
    return empty if value is None else empty.put(YOLO, value)


def ids(packets: Sequence[Packet]) -> list[list[int] | None]:
    values = [each.get(TRACKS) for each in packets]
    return [None if v is None or v.track_id is None else v.track_id.tolist() for v in values]


def run(stage: Stage, camera: str, seqs: Sequence[int]) -> list[list[int] | None]:
    return ids(stage.process([packet(camera, seq, found(3.0 * seq)) for seq in seqs]))


def test_it_is_a_node_of_the_graph() -> None:
    yolo, stage = Yolo(), Track(YOLO, TRACKS)
    nodes: dict[str, graph.Node] = {"tracks": stage, "yolo": yolo}
    assert graph.order(nodes) == [yolo, stage]


def test_packets_gain_tracks_and_keep_the_rest() -> None:
    stage = Track(YOLO, TRACKS)
    given = [packet("gate", seq, found(3.0 * seq)) for seq in range(3)]
    got = stage.process(given)
    assert ids(got) == [[], [1], [1]]
    assert [after.get(YOLO) is before.get(YOLO) for before, after in zip(given, got, strict=True)] == [True] * 3


def test_cameras_in_one_batch_have_numbers_of_their_own() -> None:
    stage = Track(YOLO, TRACKS)
    gate = [packet("gate", seq, found(3.0 * seq)) for seq in range(4)]
    yard = [packet("yard", seq, found(3.0 * seq, 500)) for seq in range(4)]
    got = stage.process([each for pair in zip(gate, yard, strict=True) for each in pair])
    assert ids(got[::2]) == [[], [1], [1], [1]]
    assert ids(got[1::2]) == [[], [1, 2], [1, 2], [1, 2]]


def test_batches_are_cut_where_they_like() -> None:
    whole, parts = Track(YOLO, TRACKS), Track(YOLO, TRACKS)
    expected = run(whole, "gate", range(8))
    assert run(parts, "gate", range(3)) + run(parts, "gate", range(3, 4)) + run(parts, "gate", range(4, 8)) == expected


def test_a_break_begins_anew_and_uses_no_number_twice() -> None:
    stage = Track(YOLO, TRACKS)
    run(stage, "gate", range(3))
    run(stage, "yard", range(3))
    stage.forget("gate")
    stage.forget("never seen")
    assert run(stage, "gate", range(3)) == [[], [2], [2]]
    assert run(stage, "yard", [3]) == [[1]]


def looked_at_every_third(stage: Stage) -> list[Packet]:
    return list(stage.process([packet("gate", seq, None if seq % 3 else found(3.0 * seq)) for seq in range(10)]))


def test_a_frame_that_nobody_looked_at_passes_without_tracks() -> None:
    assert ids(looked_at_every_third(Track(YOLO, TRACKS))) == [[], None, None, [1], None, None, [1], None, None, [1]]


def test_or_with_where_they_are_likely_to_be() -> None:
    got = looked_at_every_third(Track(YOLO, TRACKS, between="predicted"))
    assert ids(got) == [[], [], [], *[[1]] * 7]
    value = got[8].get(TRACKS)
    assert value is not None
    np.testing.assert_allclose(value.xyxy[:, 0], [24], atol=2)


def test_nothing_is_guessed_once_nobody_has_looked_for_long() -> None:
    stage = Track(YOLO, TRACKS, TrackOptions(memory=1), "predicted")
    assert ids(stage.process([packet("gate", 0, None)])) == [None]
    run(stage, "gate", range(3))
    assert ids(stage.process([packet("gate", 11, None), packet("gate", 13, None)])) == [[1], None]


def test_options_reach_the_tracker() -> None:
    assert run(Track(YOLO, TRACKS, TrackOptions(confirm=1)), "gate", range(2)) == [[1], [1]]


def test_cameras_that_come_and_go_take_no_more_memory_and_never_their_old_numbers() -> None:
    stage = Track(YOLO, TRACKS, cameras=2)
    assert run(stage, "a", range(3)) == [[], [1], [1]]
    for camera in "bcd":
        run(stage, camera, range(3))
    (again,) = [seen[0] for seen in run(stage, "a", range(3, 6)) if seen][:1]
    assert again > 1


@pytest.mark.parametrize("between", get_args(Between))
def test_no_packets(between: Between) -> None:
    assert Track(YOLO, TRACKS, between=between).process([]) == []
