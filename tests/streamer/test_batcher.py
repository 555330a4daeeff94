from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from worlds import ManualClock

from streamer import events
from streamer.batcher import Batch, Batcher
from streamer.errors import SourceError
from streamer.flight import Flight
from streamer.intake import Admission, Grabbed, Intake
from streamer.mailbox import Closed

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Yard:
    """Intakes and a batcher over them."""

    def __init__(self, *cameras: str, size: int = 4, steps: int | None = None) -> None:
        """With *steps*, batches enter as a flight of so many says."""
        self.changed = threading.Condition()
        self.seen: list[events.Event] = []
        self.clock = ManualClock()
        self.flight = None if steps is None else Flight(steps, self.changed, self.clock)
        self.batcher = Batcher(self.changed, size, self.seen.append, self.clock, self.flight)
        self.boxes: dict[str, Intake] = {}
        for camera in cameras:
            self.add(camera)

    def add(self, camera: str, priority: float = 1.0) -> None:
        self.boxes[camera] = Intake(100, Admission(priority=priority), self.changed, lambda reason, count: None)
        self.batcher.add(camera, self.boxes[camera])

    def put(self, camera: str, *seqs: int, **more: Any) -> None:
        for seq in seqs:
            args: dict[str, Any] = {"to_rgb": lambda: IMAGE, **more}
            self.boxes[camera].put(Grabbed(camera, seq, seq / 10, 0.0, self.clock.monotonic_ns(), **args))

    def batches(self) -> list[Batch]:
        for box in self.boxes.values():
            box.close()
        self.batcher.close()
        return list(self.batcher)


def names(batch: Batch) -> list[str]:
    return [f"{p.frame.camera}{p.frame.seq}" for p in batch.packets]


def test_a_busy_camera_does_not_crowd_out_the_others() -> None:
    yard = Yard("a", "b", "c")
    yard.put("a", *range(6))
    yard.put("b", 0, 1)
    yard.put("c", 0)
    assert [names(b) for b in yard.batches()] == [["a0", "b0", "c0", "a1"], ["b1", "a2", "a3", "a4"], ["a5"]]


def test_more_cameras_than_a_batch_holds_take_turns() -> None:
    yard = Yard("a", "b", "c", size=2)
    for camera in "abc":
        yard.put(camera, *range(2))
    assert [names(b) for b in yard.batches()] == [["a0", "b0"], ["c0", "a1"], ["b1", "c1"]]


def test_what_is_there_goes_at_once() -> None:
    yard = Yard("a", "b", size=8)
    yard.put("a", 0)
    assert [g.seq for g in yard.batcher.take()] == [0]


def test_a_batch_is_cut_where_a_stream_breaks() -> None:
    yard = Yard("a", "b", size=8)
    yard.put("a", 0, 1)
    yard.put("a", 2, 3, epoch=1)
    yard.put("b", 0)
    first, second = yard.batches()
    assert names(first) == ["a0", "b0", "a1"]
    assert not first.breaks
    assert names(second) == ["a2", "a3"]
    assert second.breaks == {"a"}


def test_a_break_is_noticed_when_its_first_frame_was_dropped() -> None:
    yard = Yard("a")
    yard.put("a", 0)
    yard.put("a", 2, epoch=1)  # seq 1 would have been the first after the break
    assert [b.breaks for b in yard.batches()] == [set(), {"a"}]


def test_a_picture_that_cannot_be_converted_is_counted_and_skipped() -> None:
    def broken() -> Any:
        raise SourceError("bad macroblock")

    yard = Yard("a")
    yard.put("a", 0)
    yard.put("a", 1, to_rgb=broken)
    yard.put("a", 2)
    assert [names(b) for b in yard.batches()] == [["a0", "a2"]]
    assert [e for e in yard.seen if isinstance(e, events.FrameDropped)] == [events.FrameDropped("a", "corrupt")]


def test_waiting_is_booked_to_the_queue_and_work_to_convert() -> None:
    yard = Yard("a")

    def slow() -> Any:
        yard.clock.advance(0.002)
        return IMAGE

    yard.put("a", 0, to_rgb=slow)
    yard.clock.advance(0.005)
    (packet,) = yard.batches()[0].packets
    assert packet.latency_ms == pytest.approx({"queue": 5.0, "convert": 2.0})


def test_the_end_comes_when_no_camera_may_come_and_every_intake_is_closed_and_empty() -> None:
    yard = Yard("a", "b")
    yard.boxes["a"].close()
    yard.put("b", 0)
    assert [g.seq for g in yard.batcher.take()] == [0]
    yard.boxes["b"].close()
    yard.batcher.close()
    with pytest.raises(Closed):
        yard.batcher.take()


def test_a_camera_of_twice_the_priority_gets_twice_the_frames() -> None:
    yard = Yard(size=6)
    yard.add("plain")
    yard.add("urgent", priority=2)
    for camera in ("plain", "urgent"):
        yard.put(camera, *range(60))
    first = [g.camera for _ in range(6) for g in yard.batcher.take()]
    assert first.count("urgent") == 2 * first.count("plain") == 24


def test_a_camera_that_was_silent_gains_no_credit() -> None:
    yard = Yard("a", "b", size=2)
    yard.put("a", *range(50))
    for _ in range(20):
        yard.batcher.take()  # only a sends
    yard.put("b", *range(50))
    later = [g.camera for _ in range(5) for g in yard.batcher.take()]
    assert later.count("b") in (5, 6)


def test_stages_are_told_of_a_camera_that_was_removed() -> None:
    yard = Yard("a", "b")
    yard.put("b", 0)
    yard.boxes["a"].discard("removed")
    yard.batcher.remove("a")
    (batch,) = yard.batches()
    assert names(batch) == ["b0"]
    assert batch.breaks == {"a"}


def test_the_last_camera_may_go_and_another_come() -> None:
    yard = Yard("a")
    yard.boxes["a"].close()
    yard.batcher.remove("a")
    assert yard.batcher.take() == []  # so that the stages hear of it
    yard.add("b")
    yard.put("b", 0)
    assert [g.camera for g in yard.batcher.take()] == ["b"]


def test_what_stays_behind_is_told_with_each_batch() -> None:
    yard = Yard("a", "b", size=2)
    yard.put("a", 0, 1, 2)
    yard.put("b", 0)
    yard.batcher.take()
    assert yard.seen == [events.BatchTaken(2, {"a": 2, "b": 0})]


def test_with_a_linger_a_frame_waits_for_others_while_the_graph_is_busy() -> None:
    yard = Yard("a", "b", size=2, steps=3)
    assert yard.flight is not None
    yard.batcher.linger = 0.5
    yard.flight.enter(1)  # busy, with what no estimate is known of
    yard.put("a", 0)
    taken: list[Grabbed] = []
    thread = threading.Thread(target=lambda: taken.extend(yard.batcher.take()))
    thread.start()
    yard.put("b", 0)  # the clock stands still: without this one it would wait for ever
    thread.join(10)
    assert [g.camera for g in taken] == ["a", "b"]


def test_a_camera_removed_while_its_frames_are_in_hand_is_forgotten_after_them() -> None:
    yard = Yard("a")
    yard.put("a", 0)
    unobserved = yard.seen.append

    def observe(event: events.Event) -> None:
        unobserved(event)
        if isinstance(event, events.BatchTaken):
            yard.boxes["a"].discard("removed")
            yard.batcher.remove("a")

    yard.batcher = Batcher(yard.changed, 4, observe, yard.clock)
    yard.batcher.add("a", yard.boxes["a"])
    batches = iter(yard.batcher)
    first, second = next(batches), next(batches)
    assert [names(first), names(second)] == [["a0"], []]
    assert [first.breaks, second.breaks] == [set(), {"a"}]


def test_a_bug_in_one_camera_does_not_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Any:
        raise ZeroDivisionError("no rows")

    yard = Yard("a", "b", size=8)
    yard.put("a", 0, 1, to_rgb=broken)
    yard.put("b", 0)
    assert [names(b) for b in yard.batches()] == [["b0"]]
    assert yard.seen.count(events.FrameDropped("a", "corrupt")) == 2
    assert caplog.text.count("a: internal error: a frame cannot be converted: ZeroDivisionError('no rows')") == 1
