from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import ManualClock, Script, counting, raw

from streamer import events
from streamer.backoff import Backoff
from streamer.errors import SourceError, SourceUnusable
from streamer.grabber import Grabber, Timeline
from streamer.intake import Grabbed
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
    assert [g.seq for g in bench.box.discard()] == [7, 8, 9]
    assert bench.states() == ["connecting", "running", "ended"]
    assert bench.source.opened == 1
    with pytest.raises(Closed):
        bench.box.take()


def test_a_file_that_fails_is_not_tried_again_and_closes_its_mailbox() -> None:
    bench = Bench(Script("a", [[raw(0), SourceError("cut short")]]))
    with pytest.raises(SourceError, match="cut short"):
        bench.grabber.run()
    assert bench.states() == ["connecting", "running", "failed"]
    assert len(bench.box.discard()) == 1
    with pytest.raises(Closed):
        bench.box.take()


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


class Recorded(threading.Event):
    """A stop that comes after *count* waits, none of which takes time."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._count = count

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        if len(self.waits) == self._count:
            self.set()
        return self.is_set()


def waits(takes: list[Sequence[RawFrame | SourceError]], source: type[Script] = Script) -> tuple[Bench, list[float]]:
    """Run a live grabber over *takes*; return how long it waited after each."""
    bench = Bench(source("a", takes, live=True))
    bench.stop = bench.grabber.stop = stop = Recorded(len(takes))
    bench.grabber.backoff = Backoff(1.0, 4.0, jitter=0.0, refused=100.0)
    bench.grabber.run()
    return bench, stop.waits


FAIL, REFUSE = [SourceError("x")], [SourceUnusable("refuses the user name and password")]


def test_delays_start_small_again_after_a_success() -> None:
    assert waits([FAIL, FAIL, [raw(0), *FAIL], FAIL, FAIL])[1] == [1.0, 2.0, 1.0, 2.0, 4.0]


def test_a_camera_that_refuses_us_is_soon_left_in_peace_and_that_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    bench, waited = waits([*[REFUSE] * 8, FAIL, REFUSE, [raw(0), *REFUSE]])
    assert waited == [1.0, 2.0, 4.0, 4.0, 4.0, 100.0, 100.0, 100.0, 4.0, 100.0, 1.0]
    told = [record.getMessage() for record in caplog.records]
    rarely = "a: refuses the user name and password; trying again only every 100 s from now on"
    assert [said.partition(",")[0] for said in told].count(rarely) == 1
    assert len(told) == 5 + 1 + 1 + 1  # as usual, rarely, out of reach, and anew
    assert {getattr(record, "camera", None) for record in caplog.records} == {"a"}
    assert bench.states().count("retrying") == 11


class Buggy(Script):
    """A source that raises what no source should."""

    def _play(self, take: Sequence[RawFrame | SourceError]) -> Iterator[RawFrame]:
        for item in super()._play(take):
            if not item.pts:
                raise ZeroDivisionError("rtsp://bob:s3cret@gate/ is nothing\nto divide by")
            yield item


def test_a_bug_in_one_live_source_is_told_with_its_traceback_once_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench, waited = waits([[raw(1), raw(0)], [raw(0)], [raw(0)], [raw(2)]], Buggy)
    assert waited == [1.0, 2.0, 4.0, 1.0]
    errors = [e.error for e in bench.seen if isinstance(e, events.CameraState) and e.state == "retrying"]
    assert errors[:3] == ["internal error: ZeroDivisionError: rtsp://***@gate/ is nothing"] * 3
    (told,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert told.exc_info
    assert [g.seq for g in bench.box.discard()] == [0, 1]


def test_a_bug_in_a_recorded_source_ends_that_source_as_failed() -> None:
    bench = Bench(Buggy("a", [[raw(1), raw(0)]]))
    with pytest.raises(SourceError, match="internal error: ZeroDivisionError") as caught:
        bench.grabber.run()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert bench.states() == ["connecting", "running", "failed"]
    assert len(bench.box.discard()) == 1


def test_a_frame_without_time_is_a_fault_of_its_source() -> None:
    bench = Bench(Script("a", [[raw(0), raw(1, math.nan)]]))
    with pytest.raises(SourceError, match="a frame has pts nan"):
        bench.grabber.run()


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
        assert line.place("a", raw(1)).captured_at > first.captured_at

    def test_breaks_before_the_first_frame_do_not_count(self) -> None:
        line = Timeline(ManualClock())
        line.interrupt()
        assert line.place("a", raw(0)).epoch == 0

    @given(
        st.lists(
            st.tuples(
                st.floats(0, 10),  # seconds that pass
                st.floats(-3600, 3600),  # by how much the machine's own clock is set anew
                st.floats(-1e6, 1e6) | st.sampled_from([0.0, 2**32 / 90_000, 2**33 / 90_000]),  # the stream's stamp
                st.none() | st.floats(1.7e9, 1.9e9),  # what the camera says
                st.booleans(),  # a break
                st.booleans(),  # a connection that was lost
            )
        )
    )
    def test_whatever_a_camera_says_no_time_runs_backwards(
        self, steps: list[tuple[float, float, float, float | None, bool, bool]]
    ) -> None:
        clock = ManualClock()
        line = Timeline(clock, first_seq=3)
        placed = []
        for passed, set_by, stamp, captured_at, breaks, lost in steps:
            clock.advance(passed)
            clock.unix += set_by
            if lost:
                line.interrupt()
            placed.append(line.place("a", replace(raw(0, stamp, breaks=breaks), captured_at=captured_at)))
        assert [g.seq for g in placed] == list(range(3, 3 + len(steps)))
        for before, after in itertools.pairwise(placed):
            assert before.pts < after.pts
            assert before.captured_at <= after.captured_at
            assert before.grabbed_ns <= after.grabbed_ns
            assert before.epoch <= after.epoch
