from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest
from worlds import ManualClock

from streamer.flight import Estimate, Flight, Open

CONVERT, DETECT, PUBLISH = range(3)


class Course:
    """A flight of three steps whose clock a test moves."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.flight = Flight(3, threading.Condition(), self.clock)
        self._stays: dict[int, ExitStack] = {}

    def arrive(self, step: int) -> None:
        self._stays[step] = ExitStack()
        self._stays[step].enter_context(self.flight.working(step))

    def leave(self, step: int) -> None:
        self._stays.pop(step).close()

    def go(self, *seconds: float, size: int = 4) -> None:
        """Send one batch all the way, alone, with so many seconds at each step."""
        self.flight.enter(size)
        for step, time in enumerate(seconds):
            self.arrive(step)
            self.clock.advance(time)
            self.leave(step)


def test_alone_a_batch_enters_at_once() -> None:
    course = Course()
    assert course.flight.delay(4) == 0
    course.go(0.01, 0.1, 0.001)
    assert course.flight.delay(4) == 0
    assert len(course.flight) == 0


def test_the_next_batch_enters_just_in_time_for_the_slowest_step() -> None:
    course = Course()
    course.go(0.01, 0.1, 0.001)
    course.flight.enter(4)
    course.arrive(CONVERT)
    course.clock.advance(0.01)
    course.leave(CONVERT)
    course.arrive(DETECT)
    course.clock.advance(0.03)
    delay = course.flight.delay(4)
    assert delay == pytest.approx(0.1 - 0.03 - 0.01 * 1.1 - 0.002, abs=1e-6)
    course.clock.advance(0.06)
    assert course.flight.delay(4) == 0


def test_no_more_than_one_batch_waits_for_a_step_that_takes_longer_than_ever() -> None:
    course = Course()
    course.go(0.01, 0.1, 0.001)
    course.flight.enter(4)
    course.arrive(CONVERT)
    course.leave(CONVERT)
    course.arrive(DETECT)
    course.clock.advance(5)
    assert course.flight.delay(4) == 0  # it may be done at any moment: have one ready
    course.flight.enter(4)
    course.arrive(CONVERT)
    course.leave(CONVERT)
    assert course.flight.delay(4) is None  # until something happens
    course.leave(DETECT)
    course.arrive(DETECT)
    assert course.flight.delay(4) is not None


def test_what_is_past_the_slowest_step_is_waited_for_no_longer() -> None:
    course = Course()
    course.go(0.01, 0.1, 0.05)
    course.flight.enter(4)
    for step in (CONVERT, DETECT):
        course.arrive(step)
        course.leave(step)
    course.arrive(PUBLISH)
    assert len(course.flight) == 1
    assert course.flight.delay(4) == 0


def test_whoever_waits_is_woken_when_a_step_is_done() -> None:
    changed = threading.Condition()
    flight = Flight(1, changed)
    flight.enter(1)
    woken = threading.Event()
    ready = threading.Event()

    def wait() -> None:
        with changed:
            ready.set()
            changed.wait(10)
            woken.set()

    threading.Thread(target=wait, daemon=True).start()
    assert ready.wait(10)
    with flight.working(0):
        pass
    assert woken.wait(10)


def test_an_estimate_follows_what_is_measured_and_grows_with_the_batch() -> None:
    estimate = Estimate()
    assert estimate.of(4) == 0
    estimate.learn(4, 0.1)
    assert estimate.of(4) == pytest.approx(0.1)
    assert estimate.of(8) == pytest.approx(0.2)
    assert estimate.of(1) == pytest.approx(0.1)
    for _ in range(40):
        estimate.learn(4, 0.3)
    assert estimate.of(4) == pytest.approx(0.3, rel=0.01)
    estimate.learn(0, 9.0)  # a batch that only tells of breaks
    assert estimate.of(1) == pytest.approx(0.3, rel=0.01)


def test_recordings_enter_whenever_they_like() -> None:
    gate = Open()
    gate.enter(8)
    with gate.working(0):
        assert gate.delay(8) == 0
