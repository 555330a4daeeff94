"""Time as an argument, so that tests own it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What time it is; nothing here waits."""

    def monotonic_ns(self) -> int: ...
    def time(self) -> float: ...  # Unix seconds


class SystemClock:
    """The machine's own clocks."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def time(self) -> float:
        return time.time()


SYSTEM_CLOCK: Clock = SystemClock()
