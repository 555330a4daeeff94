from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from worlds import DETECTIONS, ManualClock, counting

from engines.errors import ModelError
from engines.types import Detections
from streamer.events import Event, WorkShed
from streamer.pipeline import Pipeline
from streamer.sinks.memory import MemorySink
from streamer.stages.base import Overlapping, Stage
from streamer.stages.optional import optional
from streamer.types import Frame, Packet, Port


def packets(count: int = 2) -> list[Packet]:
    image = np.zeros((4, 4, 3), np.uint8)
    return [Packet(Frame("gate", seq, seq / 10, 0.0, 0, image)) for seq in range(count)]


def replace_camera(packet: Packet, camera: str) -> Packet:
    return replace(packet, frame=replace(packet.frame, camera=camera))


@dataclass
class Moody:
    """A stage that fails as long as it is out of memory."""

    broken: bool = False
    error: type[Exception] = ModelError
    forgotten: list[str] = field(default_factory=list)
    calls: int = 0
    closed: bool = False
    writes: Port[Detections] = DETECTIONS
    reads: tuple[Port[Detections], ...] = ()

    def process(self, given: Sequence[Packet]) -> Sequence[Packet]:
        self.calls += 1
        if self.broken:
            raise self.error("out of device memory: lower limits.batch")
        return [packet.put(self.writes, Detections.empty()) for packet in given]

    def forget(self, camera: str) -> None:
        self.forgotten.append(camera)

    def close(self) -> None:
        self.closed = True


@dataclass
class MoodyOverlapping(Moody):
    """The same in two halves; *late* tells that the second one fails."""

    late: bool = False
    finished: int = 0

    def begin(self, given: Sequence[Packet]) -> Callable[[], Sequence[Packet]]:
        if not self.late:
            begun = self.process(given)
            return lambda: begun

        def finish() -> Sequence[Packet]:
            self.finished += 1
            return self.process(given)

        return finish


def has_value(given: Sequence[Packet]) -> bool:
    return all(packet.get(DETECTIONS) is not None for packet in given)


def test_while_it_works_nothing_is_different() -> None:
    inner = Moody()
    stage = optional(inner)
    assert has_value(stage.process(packets()))
    assert stage.writes is DETECTIONS
    assert not isinstance(stage, Overlapping)  # no more than what it wraps
    stage.forget("gate")
    stage.close()
    assert inner.forgotten == ["gate"]
    assert inner.closed


def test_a_fault_costs_its_values_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clock, inner = ManualClock(), Moody(broken=True)
    stage = optional(inner, clock)
    given = packets()
    for _ in range(3):
        assert stage.process(given) == given
    assert inner.calls == 1
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        "node yolo rests for half a minute: out of device memory: lower limits.batch"
    ]


def test_it_is_tried_again_and_recovers() -> None:
    clock, inner = ManualClock(), Moody(broken=True)
    stage = optional(inner, clock)
    stage.process(packets())
    inner.broken = False
    assert not has_value(stage.process(packets()))
    clock.advance(31)
    assert has_value(stage.process(packets()))


@pytest.mark.parametrize("late", [False, True])
def test_either_half_may_fail(late: bool) -> None:
    clock, inner = ManualClock(), MoodyOverlapping(broken=True, late=late)
    stage = optional(inner, clock)
    assert isinstance(stage, Overlapping)
    given = packets()
    assert stage.begin(given)() == given
    assert stage.begin(given)() == given
    assert inner.calls == 1
    inner.broken = False
    clock.advance(31)
    assert has_value(stage.begin(given)())


def test_what_has_begun_is_finished_though_the_one_before_failed() -> None:
    inner = MoodyOverlapping(broken=True, late=True)
    stage = optional(inner, ManualClock())
    assert isinstance(stage, Overlapping)
    first, second = stage.begin(packets()), stage.begin(packets())
    assert not has_value(first())
    assert not has_value(second())
    assert inner.finished == 2


@pytest.mark.parametrize(("make", "late"), [(Moody, False), (MoodyOverlapping, False), (MoodyOverlapping, True)])
def test_every_packet_that_goes_without_is_counted(make: type[Moody], late: bool) -> None:
    clock, seen, inner = ManualClock(), list[Event](), make(broken=True)
    stage = optional(inner, clock, seen.append)

    def send(given: list[Packet]) -> None:
        if isinstance(inner, MoodyOverlapping):
            assert isinstance(stage, Overlapping)
            inner.late = late
            stage.begin(given)()
        else:
            stage.process(given)

    send([*packets(2), replace_camera(packets(1)[0], "yard")])
    send(packets(3))  # at rest
    assert seen == [WorkShed("yolo", "gate", 2), WorkShed("yolo", "yard", 1), WorkShed("yolo", "gate", 3)]
    inner.broken = False
    clock.advance(31)
    send(packets())
    assert len(seen) == 3


@pytest.mark.parametrize("make", [Moody, MoodyOverlapping])
def test_of_somebodys_own_code_everything_is_borne_when_asked_for(
    make: type[Moody], caplog: pytest.LogCaptureFixture
) -> None:
    stage = optional(make(broken=True, error=KeyError), ManualClock(), bears=(Exception,))
    assert not has_value(stage.process(packets()))
    assert "node yolo rests" in caplog.text


@pytest.mark.parametrize("make", [Moody, MoodyOverlapping])
def test_a_bug_is_not_borne(make: type[Moody]) -> None:
    stage: Stage = optional(make(broken=True, error=ZeroDivisionError))
    with pytest.raises(ZeroDivisionError):
        stage.process(packets())


def test_the_other_nodes_go_on() -> None:
    sink, other = MemorySink(), Port("other", Detections)
    stages = [optional(Moody(broken=True)), Moody(writes=other)]
    Pipeline([counting("gate", 5)], stages, [sink]).run()
    assert len(sink.packets) == 5
    assert all(p.get(other) is not None and p.get(DETECTIONS) is None for p in sink.packets)


@dataclass
class Forgetful(Moody):
    """A stage that cannot forget."""

    def forget(self, camera: str) -> None:
        raise self.error("no such camera")


def test_one_that_fails_to_forget_rests_as_well(caplog: pytest.LogCaptureFixture) -> None:
    stage = optional(Forgetful(), ManualClock())
    stage.forget("gate")
    assert all(packet.get(DETECTIONS) is None for packet in stage.process(packets()))
    assert "node yolo rests for half a minute: no such camera" in caplog.text
