"""Throughput and latency against batch size, measured in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engines.build.trial import Clock, Feeds, latencies, throughput, warm_up
from engines.runtimes.base import Runtime


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure."""

    rounds: int = 10
    seconds: float = 0.25  # of each batch size in each round, for latency, and again for throughput


@dataclass(frozen=True, slots=True)
class Point:
    """One batch size on one runtime: ms from feeding a batch to its outputs, frames/s with batches overlapping."""

    name: str
    batch: int
    ms_p50: float
    ms_p95: float
    frames_per_s: float  # median of the rounds
    slowest: float  # round, frames/s
    fastest: float
    ratio: float  # of frames/s to those of the smallest batch


def bench(
    runtimes: Mapping[str, Runtime], feeds: Sequence[Feeds], plan: Plan, clock: Clock = time.perf_counter
) -> list[Point]:
    """Run every one of *feeds*, a batch size each, on every runtime, by name.

    They take turns, round after round: what disturbs the machine disturbs all alike. Points come runtime by runtime.
    """
    trials = {(name, _rows(batch)): _Trial(runtimes[name], batch) for name in runtimes for batch in feeds}
    for trial in trials.values():
        warm_up(trial.runtime, trial.feeds, plan.seconds, clock)
    for _ in range(plan.rounds):
        for trial in trials.values():
            trial.take_turn(plan.seconds, clock)
    smallest = min(map(_rows, feeds))
    return [trial.point(name, rows, trials[name, smallest].rate) for (name, rows), trial in trials.items()]


class _Trial:
    """A batch size on a runtime, and what has been measured so far."""

    def __init__(self, runtime: Runtime, feeds: Feeds) -> None:
        self.runtime, self.feeds = runtime, feeds
        self._ms: list[float] = []
        self._rates: list[float] = []

    def take_turn(self, seconds: float, clock: Clock) -> None:
        self._ms += latencies(self.runtime, self.feeds, seconds, clock)
        self._rates.append(_rows(self.feeds) * throughput(self.runtime, self.feeds, seconds, clock))

    @property
    def rate(self) -> float:
        return statistics.median(self._rates)

    def point(self, name: str, rows: int, base: float) -> Point:
        p50, p95 = (quantile(self._ms, share) for share in (0.5, 0.95))
        return Point(name, rows, p50, p95, self.rate, min(self._rates), max(self._rates), self.rate / base)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the least of the values that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def _rows(feeds: Feeds) -> int:
    return len(next(iter(feeds.values())))
