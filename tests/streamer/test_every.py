"""`every: N`: each camera's Nth frames are looked at, however the cameras' frames are mixed into batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import DETECTIONS, counting

from engines.types import Detections
from streamer.pipeline import Pipeline
from streamer.sinks.memory import MemorySink
from streamer.stages.base import Overlapping, Stage
from streamer.stages.every import every
from streamer.types import Frame, Packet, Port

PICTURE = np.zeros((4, 4, 3), np.uint8)


@dataclass
class Looking:
    """A stage that remembers every batch that it was given."""

    batches: list[list[str]] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    writes: Port[Detections] = DETECTIONS
    reads: tuple[Port[Any], ...] = ()

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        self.batches.append([name(p) for p in packets])
        return [p.put(self.writes, Detections.empty()) for p in packets]

    def forget(self, camera: str) -> None:
        self.forgotten.append(camera)

    def close(self) -> None:
        self.forgotten.append("everything")


@dataclass
class LookingAhead(Looking):
    """The same in two halves."""

    def begin(self, packets: Sequence[Packet]) -> Callable[[], Sequence[Packet]]:
        done = self.process(packets)
        return lambda: done


def packet(camera: str, seq: int) -> Packet:
    return Packet(Frame(camera, seq, seq / 10, 0.0, 0, PICTURE))


def name(packet: Packet) -> str:
    return f"{packet.frame.camera}{packet.frame.seq}"


def looked_at(packets: Sequence[Packet]) -> list[str]:
    return [name(p) for p in packets if p.get(DETECTIONS) is not None]


def at_once(stage: Stage, batches: Sequence[Sequence[Packet]]) -> list[Packet]:
    return [packet for batch in batches for packet in stage.process(batch)]


def two_at_a_time(stage: Stage, batches: Sequence[Sequence[Packet]]) -> list[Packet]:
    """Begin with a batch before the one ahead of it is finished, as a pipeline does with recordings."""
    assert isinstance(stage, Overlapping)
    out: list[Packet] = []
    finish: Callable[[], Sequence[Packet]] = tuple
    for batch in batches:
        begun = stage.begin(batch)
        out += finish()
        finish = begun
    return [*out, *finish()]


@pytest.mark.parametrize(("make", "run"), [(Looking, at_once), (LookingAhead, at_once), (LookingAhead, two_at_a_time)])
@given(
    nth=st.integers(1, 7),
    cameras=st.lists(st.sampled_from("abc"), max_size=60),
    cuts=st.lists(st.integers(1, 9), min_size=60, max_size=60),
    first=st.integers(0, 1000),
)
def test_each_nth_frame_of_each_camera(
    make: type[Looking],
    run: Callable[[Stage, Sequence[Sequence[Packet]]], list[Packet]],
    nth: int,
    cameras: list[str],
    cuts: list[int],
    first: int,
) -> None:
    """*first*: numbers of frames play no part, so a run that goes on at frame 700 looks at that one."""
    packets = [packet(camera, first + i) for i, camera in enumerate(cameras)]
    batches, rest = [], packets
    for size in cuts:
        batches.append(rest[:size])
        rest = rest[size:]
    out = run(every(nth, make()), [b for b in batches if b])
    assert [name(p) for p in out] == [name(p) for p in packets]
    expected = {name(p) for camera in "abc" for p in [p for p in packets if p.frame.camera == camera][::nth]}
    assert set(looked_at(out)) == expected


@pytest.mark.parametrize(("make", "run"), [(Looking, at_once), (LookingAhead, two_at_a_time)])
def test_frames_that_are_not_due_cost_nothing(
    make: type[Looking], run: Callable[[Stage, Sequence[Sequence[Packet]]], list[Packet]]
) -> None:
    inner = make()
    out = run(every(4, inner), [[packet("a", i), packet("a", i + 1)] for i in range(0, 12, 2)])
    assert inner.batches == [["a0"], ["a4"], ["a8"]]
    assert len(out) == 12


def test_after_a_break_the_next_frame_is_looked_at() -> None:
    inner = Looking()
    stage = every(3, inner)
    at_once(stage, [[packet("a", 0), packet("b", 0)]])
    stage.forget("a")
    out = at_once(stage, [[packet("a", 1), packet("b", 1), packet("a", 2), packet("b", 2), packet("b", 3)]])
    assert looked_at(out) == ["a1", "b3"]
    assert inner.forgotten == ["a"]
    stage.close()
    assert inner.forgotten == ["a", "everything"]


def test_it_is_no_more_than_what_it_wraps() -> None:
    plain = Looking()
    assert not isinstance(every(2, plain), Overlapping)
    assert every(2, plain).writes is DETECTIONS


@pytest.mark.parametrize("make", [Looking, LookingAhead])
def test_in_a_pipeline(make: type[Looking]) -> None:
    sink = MemorySink()
    Pipeline([counting("gate", 23), counting("yard", 9)], [every(5, make())], [sink]).run()
    seen = {p.frame.camera: [q for q in sink.packets if q.frame.camera == p.frame.camera] for p in sink.packets}
    assert [len(packets) for packets in (seen["gate"], seen["yard"])] == [23, 9]
    assert looked_at(seen["gate"]) == [f"gate{i}" for i in (0, 5, 10, 15, 20)]
    assert looked_at(seen["yard"]) == ["yard0", "yard5"]
    assert all("yolo" in p.latency_ms for p in sink.packets)
