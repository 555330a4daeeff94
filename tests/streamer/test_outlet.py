"""Sinks in the pipeline's hands: what fails in one of them is counted, told and tried anew, and harms no other."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import pytest
from redisworld import packet
from worlds import ManualClock

from streamer import events
from streamer.backoff import Backoff
from streamer.batcher import Batch
from streamer.publisher import Outlet, Publisher
from streamer.sinks.memory import MemorySink
from streamer.types import Packet
from streamer.wire import WireError


class Nameless:
    """A sink of somebody's own, as short as can be, which breaks while it is told to."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.broken = False

    def publish(self, packets: Sequence[Packet]) -> None:
        if self.broken:
            raise KeyError("speed")
        self.taken += [packet.frame.seq for packet in packets]

    def close(self) -> None:
        """Nothing to release."""


class Picky(MemorySink):
    """A sink that has no form for the frames *bad*."""

    def __init__(self, *bad: int) -> None:
        super().__init__()
        self._bad = bad

    def publish(self, packets: Sequence[Packet]) -> None:
        for one in packets:
            if one.frame.seq in self._bad:
                raise WireError("node yolo: a box is not finite; check its model and its precision")
        super().publish(packets)


class Remembers(MemorySink):
    """A sink that notes the breaks between the packets."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []

    def publish(self, packets: Sequence[Packet]) -> None:
        self.seen += [packet.frame.seq for packet in packets]

    def forget(self, camera: str) -> None:
        self.seen.append(camera)


def dropped(seen: Sequence[events.Event]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for event in seen:
        if isinstance(event, events.ResultsDropped):
            counts[event.sink, event.camera] += event.count
    return counts


def test_a_bug_in_one_sink_is_told_once_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    clock, broken, whole, seen = ManualClock(), Nameless(), MemorySink(), list[events.Event]()
    outlet, other = (Outlet(sink, seen.append, clock, Backoff(1.0, jitter=0.0)) for sink in (broken, whole))  # type: ignore[arg-type]  # it has no name
    broken.broken = True
    with caplog.at_level(logging.INFO, "streamer"):
        for seq in range(4):
            outlet.publish([packet(seq)])
            other.publish([packet(seq)])
            clock.advance(0.5)
        broken.broken = False
        clock.advance(2.0)
        outlet.publish([packet(4)])
    assert [p.frame.seq for p in whole.packets] == [0, 1, 2, 3]
    assert broken.taken == [4]
    assert dropped(seen) == {("Nameless", "gate"): 4}
    assert [e.error is None for e in seen if isinstance(e, events.SinkState)] == [False, True]
    warning, works = caplog.records
    assert "KeyError('speed')" in warning.message
    assert warning.exc_info is not None
    assert works.message == "Nameless: works again"


def test_a_result_without_a_form_takes_no_other_along(caplog: pytest.LogCaptureFixture) -> None:
    sink, seen = Picky(1, 3), list[events.Event]()
    outlet = Outlet(sink, seen.append, ManualClock(), Backoff())
    outlet.publish([packet(0), packet(1), packet(2, "yard")])
    outlet.publish([packet(3), packet(4)])
    assert [p.frame.seq for p in sink.packets] == [0, 2, 4]
    assert dropped(seen) == {("memory", "gate"): 2}
    assert not [e for e in seen if isinstance(e, events.SinkState)], "the sink itself works"
    assert len(caplog.records) == 1
    assert "not finite" in caplog.text


@pytest.mark.parametrize("live", [True, False])
def test_a_break_is_told_to_who_remembers_before_what_comes_after_it(live: bool) -> None:
    sink = Remembers()
    publisher = Publisher([sink, MemorySink()], events.ignore, ManualClock(), live=live)
    publisher.publish(Batch((packet(0),)))
    publisher.publish(Batch((packet(1),), frozenset({"gate"})))
    assert sink.seen == [0, "gate", 1]


def test_a_recorded_run_ends_with_a_bug() -> None:
    sink = Nameless()
    sink.broken = True
    with pytest.raises(KeyError):
        Publisher([sink], events.ignore, live=False).publish(Batch((packet(0),)))  # type: ignore[list-item]  # no name
