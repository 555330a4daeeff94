"""Choose how a CPU's cores are shared, by measuring: what is best depends on the network and on the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engines.runtimes.base import Goal

Trial = Callable[[], None]  # runs one batch
Clock = Callable[[], float]  # seconds

_CLOSE = 1.03  # what is slower by less may be as fast
_HOPELESS = 1.25  # what is slower by more, even at its best, needs no further measuring
_LONG = 0.3  # seconds of a trial, beside which it is nothing to allocate
_SURE = 3  # rounds before any is given up
_ROUNDS = 12


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """*threads* in all, shared among *streams* that each run one request at a time."""

    streams: int
    threads: int


def settings(cores: int, goal: Goal, rows: int) -> list[Setting]:
    """List what is worth trying, likely best first. *rows*: as many requests as there are at a time."""
    if goal == "latency":
        return [Setting(1, cores), *([Setting(1, cores // 2)] if cores > 1 else [])]  # half: siblings share a core
    streams = {min(n, rows) for n in (cores, cores // 2, cores // 4, 1) if n}
    return [Setting(n, cores) for n in sorted(streams, reverse=True)]


def measure(
    trials: Mapping[Setting, Trial], budget: float = 1.0, clock: Clock = time.perf_counter
) -> dict[Setting, float]:
    """Measure the seconds that each setting takes at its best.

    They take turns, so what disturbs the machine disturbs all of them; and as it only ever slows, the least is nearest
    to the truth. It ends when one is left, after some rounds, or when the budget (s) is spent; but all have had a turn.
    """
    end = clock() + budget
    best = {setting: _first(trial, clock) for setting, trial in trials.items()}
    for turn in range(_ROUNDS):
        for setting in _racing(best, turn):
            if best[setting] < float("inf") and clock() > end:
                return best
            best[setting] = min(best[setting], _seconds(trials[setting], clock))
        if len(_racing(best, turn + 1)) == 1:
            return best
    return best


def fastest(best: Mapping[Setting, float]) -> Setting:
    """Pick the first, in the order of *best*, that nothing beats by more than noise."""
    limit = min(best.values()) * _CLOSE
    return next(setting for setting, seconds in best.items() if seconds <= limit)


def _racing(best: Mapping[Setting, float], turn: int) -> list[Setting]:
    limit = min(best.values()) * _HOPELESS
    return [setting for setting, seconds in best.items() if turn < _SURE or seconds <= limit]


def _first(trial: Trial, clock: Clock) -> float:
    """Run for the first time, which allocates: the seconds count where that is next to nothing of them."""
    seconds = _seconds(trial, clock)
    return seconds if seconds >= _LONG else float("inf")


def _seconds(trial: Trial, clock: Clock) -> float:
    start = clock()
    trial()
    return clock() - start
