"""What counts and measures, in constant memory. None of these is thread-safe: their owner holds a lock."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from itertools import accumulate

from streamer.stats import Histogram, Percentiles

WINDOW = 10  # seconds that rates and latencies look back

_FIRST_MS, _GROWTH = 0.01, 1.05  # a bucket is 5 % wider than the one before: percentiles are right to 2.5 %
_LAST = math.ceil(math.log(1e6 / _FIRST_MS, _GROWTH))  # up to 1000 s
_PER_BUCKET = 1 / math.log(_GROWTH)

# Seconds. Neighbours differ by at most 2.5 times, and least where targets lie.
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
FRAMES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0)


class Rate:
    """Events a second over the last WINDOW seconds."""

    def __init__(self) -> None:
        self._slots = [0] * (WINDOW + 1)  # one a second, the newest still filling
        self._newest: int | None = None
        self._first = 0.0

    def add(self, now: float, count: int = 1) -> None:
        begins = self._newest is None
        self._roll(now)
        if not begins:  # the first event ends no interval: it only starts the clock
            self._slots[int(now) % len(self._slots)] += count

    def read(self, now: float) -> float:
        if self._newest is None:
            return 0.0
        self._roll(now)
        # From the start of the oldest slot, or from the first event if that is later.
        span = now - max(self._first, int(now) - WINDOW)
        return sum(self._slots) / span if span > 0.1 else 0.0

    def _roll(self, now: float) -> None:
        second = int(now)
        if second == self._newest:
            return
        if self._newest is None:
            self._newest, self._first = second, now
        for stale in range(max(self._newest + 1, second - WINDOW), second + 1):
            self._slots[stale % len(self._slots)] = 0
        self._newest = max(self._newest, second)


class Latency:
    """A histogram of milliseconds over the last WINDOW seconds, in buckets of equal ratio.

    Only buckets that hold something exist: at most one for each 5 % between 10 us and 1000 s, and second.
    """

    def __init__(self) -> None:
        self._all: dict[int, int] = {}
        self._seconds: deque[tuple[int, dict[int, int]]] = deque()

    def add(self, now: float, milliseconds: float) -> None:
        bucket = math.ceil(math.log(milliseconds / _FIRST_MS) * _PER_BUCKET) if milliseconds > _FIRST_MS else 0
        bucket = min(bucket, _LAST)
        second = int(now)
        if not self._seconds or self._seconds[-1][0] < second:
            self._roll(second)
            self._seconds.append((second, {}))
        counts = self._seconds[-1][1]
        counts[bucket] = counts.get(bucket, 0) + 1
        self._all[bucket] = self._all.get(bucket, 0) + 1

    def read(self, now: float) -> Percentiles | None:
        return percentiles(self.counts(now))

    def counts(self, now: float) -> dict[int, int]:
        """Return how many values lie in each bucket, for `percentiles`: quick, as its caller holds a lock."""
        self._roll(int(now))
        return dict(self._all)

    def _roll(self, second: int) -> None:
        while self._seconds and self._seconds[0][0] < second - WINDOW:
            for bucket, count in self._seconds.popleft()[1].items():
                self._all[bucket] -= count
                if not self._all[bucket]:
                    del self._all[bucket]


def percentiles(counts: Mapping[int, int]) -> Percentiles | None:
    """Return the percentiles of what `Latency.counts` gave: the middle of the bucket where each one lies."""
    if not counts:
        return None
    ordered = sorted(counts)
    below = list(accumulate(counts[bucket] for bucket in ordered))
    ranks = (math.ceil(share * below[-1]) for share in (0.50, 0.95, 0.99))
    return Percentiles(*(_middle(ordered[bisect_left(below, rank)]) for rank in ranks))


def _middle(bucket: int) -> float:
    """Return the middle of a bucket in milliseconds."""
    return round(_FIRST_MS * math.pow(_GROWTH, bucket - 0.5), 2)


class Buckets:
    """A histogram that only grows, in buckets that never change: what Prometheus wants."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self._bounds, self._counts, self._total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> Histogram:
        return Histogram(self._bounds, tuple(self._counts), self._total)
