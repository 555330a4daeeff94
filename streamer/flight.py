"""When the next batch should enter the graph: just in time for its slowest step, so that it does not age in a queue.

Frames are dropped in front of the batcher and nowhere else, so a frame that has entered is worked on however late it
is. A pipeline that is full would therefore work on old frames all the time. Instead a batch enters when it will reach
the slowest step just as that one becomes free. By Little's law that is as much throughput as full queues would give.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from streamer.clock import SYSTEM_CLOCK, Clock

_NEW = 0.2  # the weight of what was measured last
_MARGIN_SHARE, _MARGIN = 0.1, 0.002  # of the time to the slowest step, and seconds: waking takes a moment too


class Estimate:
    """How long a step takes for a batch of so many frames: a moving average for each size."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}

    def learn(self, size: int, seconds: float) -> None:
        if not size:  # a batch without frames only tells of breaks
            return
        known = self._seconds.get(size)
        self._seconds[size] = seconds if known is None else known + _NEW * (seconds - known)

    def of(self, size: int) -> float:
        """Return seconds; of a size never seen, what the nearest suggests: more frames take longer, fewer as long."""
        if not self._seconds:
            return 0.0
        nearest = min(self._seconds, key=lambda known: abs(known - size))
        return self._seconds[nearest] * max(1.0, size / nearest)


class Gate(Protocol):
    """What decides when a batch may enter."""

    def __len__(self) -> int: ...  # batches inside

    def delay(self, size: int) -> float | None:
        """Return the seconds until a batch of *size* should enter; None: not before something else has happened."""

    def enter(self, size: int) -> None:
        """Note that a batch has entered."""

    def working(self, step: int) -> AbstractContextManager[None]:
        """Note how long the first batch that has come to *step* is being worked on there."""


@dataclass(slots=True)
class _Trip:
    """One batch on its way."""

    size: int
    step: int = 0  # where it is, or waits
    began_ns: int | None = None  # when work on it began there; None: it waits


class Flight:
    """The batches that are in the graph, and how long each step takes. Thread-safe."""

    def __init__(self, steps: int, changed: threading.Condition, clock: Clock = SYSTEM_CLOCK) -> None:
        """*changed* is the batcher's own condition: it is told whenever a step is done with a batch."""
        self._changed, self._clock = changed, clock
        self._estimates = [Estimate() for _ in range(steps)]
        self._trips: deque[_Trip] = deque()

    def __len__(self) -> int:
        return len(self._trips)

    def seconds(self, size: int) -> float:
        """Estimate how long a batch of *size* takes when nothing is before it."""
        with self._changed:
            return sum(estimate.of(size) for estimate in self._estimates)

    def seconds_of(self, step: int, size: int) -> float:
        """Estimate how long one step takes for a batch of *size*."""
        with self._changed:
            return self._estimates[step].of(size)

    def enter(self, size: int) -> None:
        with self._changed:
            self._trips.append(_Trip(size))

    @contextmanager
    def working(self, step: int) -> Iterator[None]:
        with self._changed:
            trip = next(t for t in self._trips if t.step == step and t.began_ns is None)
            trip.began_ns = began_ns = self._clock.monotonic_ns()
        try:
            yield
        finally:
            with self._changed:
                self._estimates[step].learn(trip.size, (self._clock.monotonic_ns() - began_ns) / 1e9)
                trip.step, trip.began_ns = step + 1, None
                if trip.step == len(self._estimates):
                    self._trips.remove(trip)
                self._changed.notify_all()

    def delay(self, size: int) -> float | None:
        with self._changed:
            if not self._trips:
                return 0.0
            slowest = self._slowest(size)
            before = [trip for trip in self._trips if trip.step <= slowest]
            if not before:
                return 0.0
            approach = sum(estimate.of(size) for estimate in self._estimates[:slowest])
            return self._wait(before, slowest, approach * (1 + _MARGIN_SHARE) + _MARGIN)

    def _slowest(self, size: int) -> int:
        times = [estimate.of(size) for estimate in self._estimates]
        return times.index(max(times))

    def _wait(self, before: Sequence[_Trip], slowest: int, approach: float) -> float | None:
        free, overdue = 0.0, False
        for trip in before:
            expected = self._estimates[slowest].of(trip.size)
            if trip.step == slowest and trip.began_ns is not None:
                left = expected - (self._clock.monotonic_ns() - trip.began_ns) / 1e9
                overdue = left < 0
                expected = max(0.0, left)
            free += expected
        wait = max(0.0, free - approach)
        return None if wait and overdue else wait


class Open:
    """Let every batch in at once: for recordings, whose frames do not age."""

    def __len__(self) -> int:
        return 0

    def delay(self, size: int) -> float | None:  # noqa: ARG002 - as any gate
        return 0.0

    def enter(self, size: int) -> None:
        """Every batch may."""

    @contextmanager
    def working(self, step: int) -> Iterator[None]:  # noqa: ARG002 - as any gate
        yield
