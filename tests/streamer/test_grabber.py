from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

import pytest
from worlds import ManualClock, Script, counting, raw

from streamer import events
from streamer.backoff import Backoff
from streamer.batcher import Grabbed
from streamer.errors import SourceError
from streamer.grabber import Grabber, Timeline
from streamer.mailbox import Closed, Mailbox
from streamer.types import RawFrame

NO_WAIT = Backoff(0.001, 0.001)


class Bench:
    def __init__(self, source: Script, capacity: int = 100, first_seq: int = 0) -> None:
        self.seen: list[events.Event] = []
        self.box: Mailbox[Grabbed] = Mailbox(capacity)
        self.stop = threading.Event()
        timeline = Timeline(ManualClock(), first_seq)
        self.grabber = Grabber(source, self.box, self.stop, timeline, NO_WAIT, self.seen.append)
        self.source = source

    def states(self) -> list[str]:
        return [e.state for e in self.seen if isinstance(e, events.CameraState)]

    def run_until_over(self) -> list[Grabbed]:
        """Run a live grabber until its script has been played."""
        thread = threading.Thread(target=self.grabber.run, daemon=True)
        thread.start()
        assert self.source.over.wait(10)
        self.stop.set()
        thread.join(10)
        assert not thread.is_alive()
        return self.box.discard()


def test_a_file_is_grabbed_once_and_numbered() -> None:
    bench = Bench(counting("a", 3), first_seq=7)
    bench.grabber.run()
    assert [g.seq for g in bench.box.take(9)] == [7, 8, 9]
    assert bench.states() == ["connecting", "running", "ended"]
    assert bench.source.opened == 1
    with pytest.raises(Closed):
        bench.box.take(1)


def test_a_file_that_fails_is_not_tried_again_and_closes_its_mailbox() -> None:
    bench = Bench(Script("a", [[raw(0), SourceError("cut short")]]))
    with pytest.raises(SourceError, match="cut short"):
        bench.grabber.run()
    assert bench.states() == ["connecting", "running", "failed"]
    assert len(bench.box.take(9)) == 1
    assert bench.box.finished


def test_a_live_camera_is_opened_again_and_its_frames_go_on() -> None:
    takes: list[Sequence[RawFrame | SourceError]] = [
        [raw(0), raw(1), SourceError("reset by peer")],
        [SourceError("refused")],
        [raw(0), raw(1)],
    ]
    bench = Bench(Script("a", takes, live=True))
    got = bench.run_until_over()
    assert [g.seq for g in got] == [0, 1, 2, 3]
    assert [g.epoch for g in got] == [0, 0, 2, 2]  # two breaks between them
    assert all(a.pts < b.pts for a, b in itertools.pairwise(got))
    errors = [e.error for e in bench.seen if isinstance(e, events.CameraState) and e.state == "retrying"]
    assert errors[:2] == ["reset by peer", "refused"]


def test_a_live_stream_that_just_ends_is_opened_again() -> None:
    bench = Bench(Script("a", [[raw(0)], [raw(0)]], live=True))
    assert [g.seq for g in bench.run_until_over()] == [0, 1]
    assert "the stream ended" in [e.error for e in bench.seen if isinstance(e, events.CameraState)]


def test_a_frame_in_hand_at_the_end_is_counted() -> None:
    bench = Bench(counting("a", 3))
    bench.box.close()
    bench.grabber.run()
    assert bench.seen.count(events.FrameDropped("a", "stopped")) == 1
    assert sum(isinstance(e, events.FrameGrabbed) for e in bench.seen) == 1


def test_delays_start_small_again_after_a_success() -> None:
    class Recorded(threading.Event):
        def __init__(self) -> None:
            super().__init__()
            self.waits: list[float] = []

        def wait(self, timeout: float | None = None) -> bool:
            self.waits.append(timeout or 0.0)
            if len(self.waits) == 5:
                self.set()
            return self.is_set()

    fail = [SourceError("x")]
    bench = Bench(Script("a", [fail, fail, [raw(0), *fail], fail, fail], live=True))
    bench.stop = bench.grabber.stop = Recorded()
    bench.grabber.backoff = Backoff(1.0, 60.0, jitter=0.0)
    bench.grabber.run()
    assert bench.stop.waits == [1.0, 2.0, 1.0, 2.0, 4.0]


class TestTimeline:
    def test_media_time_goes_on_where_it_stood_when_the_stream_starts_anew(self) -> None:
        clock = ManualClock()
        line = Timeline(clock)
        assert line.place("a", raw(0, 41.0)).pts == 41.0
        clock.advance(5)
        assert line.place("a", raw(0, 0.0, breaks=True)).pts == pytest.approx(46.0)
        clock.advance(0.1)
        assert line.place("a", raw(0, 0.1)).pts == pytest.approx(46.1)

    def test_a_forward_jump_of_the_stream_is_kept(self) -> None:
        line = Timeline(ManualClock())
        line.place("a", raw(0, 1.0))
        assert line.place("a", raw(0, 100.0)).pts == 100.0

    def test_capture_time_never_runs_backwards_when_the_clock_is_set_back(self) -> None:
        clock = ManualClock()
        line = Timeline(clock)
        first = line.place("a", raw(0))
        clock.unix -= 3600
        assert line.place("a", raw(1)).captured_at == first.captured_at

    def test_breaks_before_the_first_frame_do_not_count(self) -> None:
        line = Timeline(ManualClock())
        line.interrupt()
        assert line.place("a", raw(0)).epoch == 0
