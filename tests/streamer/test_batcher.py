from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from worlds import ManualClock

from streamer import events
from streamer.batcher import Batch, Batcher, Grabbed
from streamer.errors import SourceError
from streamer.mailbox import Closed, Mailbox

IMAGE = np.zeros((2, 2, 3), np.uint8)


class Yard:
    """Mailboxes and a batcher over them."""

    def __init__(self, *cameras: str, size: int = 4) -> None:
        changed = threading.Condition()
        self.seen: list[events.Event] = []
        self.clock = ManualClock()
        self.boxes = {c: Mailbox[Grabbed](100, changed=changed) for c in cameras}
        self.batcher = Batcher(self.boxes, changed, size, self.seen.append, self.clock)

    def put(self, camera: str, *seqs: int, **more: Any) -> None:
        for seq in seqs:
            args: dict[str, Any] = {"to_rgb": lambda: IMAGE, **more}
            self.boxes[camera].put(Grabbed(camera, seq, seq / 10, 0.0, self.clock.monotonic_ns(), **args))

    def batches(self) -> list[Batch]:
        for box in self.boxes.values():
            box.close()
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
    assert yard.seen == [events.FrameDropped("a", "corrupt")]


def test_waiting_is_booked_to_the_queue_and_work_to_convert() -> None:
    yard = Yard("a")

    def slow() -> Any:
        yard.clock.advance(0.002)
        return IMAGE

    yard.put("a", 0, to_rgb=slow)
    yard.clock.advance(0.005)
    (packet,) = yard.batches()[0].packets
    assert packet.latency_ms == pytest.approx({"queue": 5.0, "convert": 2.0})


def test_the_end_comes_when_every_mailbox_is_closed_and_empty() -> None:
    yard = Yard("a", "b")
    yard.boxes["a"].close()
    yard.put("b", 0)
    assert [g.seq for g in yard.batcher.take()] == [0]
    yard.boxes["b"].close()
    with pytest.raises(Closed):
        yard.batcher.take()
