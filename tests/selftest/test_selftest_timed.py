"""The watch around a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from worlds import DETECTIONS, Brightness, ManualClock, one_box

from engines.types import Detections
from streamer.selftest.timed import OverlappingTimed, Timed, timed
from streamer.stages.every import every
from streamer.types import Frame, Packet, Port


def packets(count: int, first: int = 0) -> list[Packet]:
    return [Packet(Frame("gate", first + i, 0.0, 0.0, 0, np.zeros((4, 4, 3), np.uint8))) for i in range(count)]


@dataclass
class Slow:
    """A stage that takes 10 ms a frame, and may begin before it has finished."""

    clock: ManualClock
    writes: Port[Detections] = DETECTIONS
    reads: tuple[Port[Any], ...] = ()
    forgotten: list[str] = field(default_factory=list)

    def process(self, given: Sequence[Packet]) -> Sequence[Packet]:
        return self.begin(given)()

    def begin(self, given: Sequence[Packet]) -> Callable[[], Sequence[Packet]]:
        def finish() -> Sequence[Packet]:
            self.clock.advance(0.01 * len(given))
            return [packet.put(self.writes, one_box(1.0)) for packet in given]

        return finish

    def forget(self, camera: str) -> None:
        self.forgotten.append(camera)

    def close(self) -> None:
        """Hold nothing."""


def test_a_watch_counts_frames_while_its_stage_works() -> None:
    clock = ManualClock()
    watch = timed(Slow(clock), clock)
    assert watch.fps is watch.latency_ms is None
    watch.process(packets(4))
    clock.advance(5)  # nothing to do
    watch.process(packets(2))
    assert watch.fps == pytest.approx(100)
    assert watch.latency_ms == pytest.approx(30)


def test_of_two_batches_at_a_time_the_time_counts_once() -> None:
    clock = ManualClock()
    watch = timed(Slow(clock), clock)
    assert isinstance(watch, OverlappingTimed)
    first, second = watch.begin(packets(4)), watch.begin(packets(4, 4))
    first()
    second()
    assert watch.fps == pytest.approx(100)
    assert watch.latency_ms == pytest.approx(60)  # 40 ms, and 80 from its beginning on


def test_frames_that_are_passed_over_do_not_count() -> None:
    clock = ManualClock()
    watch = timed(every(4, Slow(clock)), clock)
    watch.process(packets(8))
    assert watch.fps == pytest.approx(100)


def test_a_watch_is_as_its_stage() -> None:
    stage = Brightness()
    watch = timed(stage)
    assert type(watch) is Timed
    assert watch.writes == stage.writes
    watch.forget("gate")
    watch.close()
    assert stage.log == ["forget gate", "closed"]
