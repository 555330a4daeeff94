"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds that grow by *factor* from *delay* to *max_delay*, each shortened by a random part.

    The random part spreads clients that lost the same server at the same moment.
    """

    delay: float = 0.5
    max_delay: float = 30.0
    factor: float = 2.0
    jitter: float = 0.5  # the largest share that chance takes off a delay

    def __post_init__(self) -> None:
        if not 0 < self.delay <= self.max_delay:
            raise ValueError(f"delay: must lie between 0 and max_delay ({self.max_delay} s), is {self.delay} s")
        if self.factor < 1 or not 0 <= self.jitter < 1:
            raise ValueError(f"factor must be at least 1 and jitter in [0, 1), are {self.factor} and {self.jitter}")

    def delays(self, chance: Callable[[], float] = random.random) -> Iterator[float]:
        """Yield delays without end; *chance* gives numbers in [0, 1)."""
        delay = self.delay
        while True:
            yield delay * (1 - self.jitter * chance())
            delay = min(delay * self.factor, self.max_delay)
