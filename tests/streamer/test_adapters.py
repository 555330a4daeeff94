from __future__ import annotations

import threading

import pytest
from worlds import ManualClock, Script, raw

from streamer.sources.adapters import Paced, Skip


class Tick(threading.Event):
    """Waiting on it moves the clock."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.advance(timeout or 0.0)
        return False


def times(source: Script) -> list[float]:
    """When each frame was handed out, in seconds after the first."""
    clock = ManualClock()
    with Paced(source, clock, Tick(clock)).open() as frames:
        handed = [clock.seconds for _ in frames]
    return [t - handed[0] for t in handed]


def test_frames_come_at_their_media_time() -> None:
    assert times(Script("a", [[raw(i, pts) for i, pts in enumerate((5.0, 5.1, 5.4, 6.0))]])) == pytest.approx(
        [0, 0.1, 0.4, 1.0]
    )


def test_a_break_starts_the_clock_anew() -> None:
    frames = [raw(0, 0.0), raw(1, 0.1), raw(2, 900.0, breaks=True), raw(3, 900.2)]
    assert times(Script("a", [frames])) == pytest.approx([0, 0.1, 0.1, 0.3])


def test_a_late_reader_is_not_made_later() -> None:
    clock = ManualClock()
    with Paced(Script("a", [[raw(0, 0.0), raw(1, 0.1), raw(2, 0.2)]]), clock, Tick(clock)).open() as frames:
        next(frames)
        clock.advance(10)
        began = clock.seconds
        assert len(list(frames)) == 2
        assert clock.seconds == began


def test_it_is_as_live_as_what_it_plays() -> None:
    assert not Paced(Script("a", [])).live
    assert Paced(Script("a", [], live=True)).live
    assert Paced(Script("a", [])).camera == "a"


def test_skipping_leaves_out_the_beginning() -> None:
    with Skip(Script("a", [[raw(i) for i in range(5)]]), 3).open() as frames:
        assert [frame.pts for frame in frames] == pytest.approx([0.3, 0.4])
    with Skip(Script("a", [[raw(0)]]), 3).open() as frames:
        assert list(frames) == []
