from __future__ import annotations

from collections.abc import Sequence

import pytest
from redisworld import packet
from worlds import ManualClock

from streamer import events
from streamer.backoff import Backoff
from streamer.batcher import Batch
from streamer.errors import SinkError
from streamer.publisher import Outlet, Publisher
from streamer.sinks.memory import MemorySink
from streamer.types import Packet


class Away(MemorySink):
    """A sink that fails while it is told to, and counts how often it was asked."""

    name = "away"

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.asked = 0

    def publish(self, packets: Sequence[Packet]) -> None:
        self.asked += 1
        if self.down:
            raise SinkError("no route")
        super().publish(packets)


def test_a_failing_sink_is_asked_again_only_after_its_delay() -> None:
    clock, sink, seen = ManualClock(), Away(), list[events.Event]()
    outlet = Outlet(sink, seen.append, clock, Backoff(1.0, 60.0, jitter=0.0))
    sink.down = True
    for seq in range(5):
        outlet.publish([packet(seq)])
    assert sink.asked == 1
    clock.advance(1.0)
    outlet.publish([packet(5)])  # fails again: now two seconds
    clock.advance(1.5)
    outlet.publish([packet(6)])
    assert sink.asked == 2
    sink.down = False
    clock.advance(0.5)
    outlet.publish([packet(7)])
    outlet.publish([packet(8)])
    assert [p.frame.seq for p in sink.packets] == [7, 8]
    assert sum(e.count for e in seen if isinstance(e, events.ResultsDropped)) == 7
    assert [e.error for e in seen if isinstance(e, events.SinkState)] == ["no route", None]


def test_losses_are_counted_by_camera() -> None:
    sink, seen = Away(), list[events.Event]()
    sink.down = True
    Outlet(sink, seen.append, ManualClock(), Backoff()).publish([packet(0, "a"), packet(0, "b"), packet(1, "a")])
    lost = {(e.camera, e.count) for e in seen if isinstance(e, events.ResultsDropped)}
    assert lost == {("a", 2), ("b", 1)}


def test_a_recorded_run_hears_of_the_first_failure() -> None:
    sink = Away()
    sink.down = True
    with pytest.raises(SinkError, match="no route"):
        Publisher([sink], events.ignore, live=False).publish(Batch((packet(0),)))


def test_every_packet_is_reported_once_it_was_handed_to_every_sink() -> None:
    clock, sinks, seen = ManualClock(), [MemorySink(), MemorySink()], list[events.Event]()
    publisher = Publisher(sinks, seen.append, clock, live=True)
    publisher.publish(Batch((packet(0), packet(1))))
    publisher.publish(Batch(()))
    assert [e.packet.frame.seq for e in seen if isinstance(e, events.PacketPublished)] == [0, 1]
    for sink in sinks:
        assert [p.marked_ns for p in sink.packets] == [clock.monotonic_ns()] * 2
