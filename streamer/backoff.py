"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_REFUSALS = 5  # tries in vain after which a client that is refused keeps its distance


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds that grow by *factor* from *delay* to *max_delay*, each shortened by a random part.

    The random part spreads clients that lost the same server at the same moment.
    """

    delay: float = 0.5
    max_delay: float = 30.0
    factor: float = 2.0
    jitter: float = 0.5  # the largest share that chance takes off a delay
    refused: float = 30.0  # seconds between tries once the password was refused five times

    def __post_init__(self) -> None:
        if not 0 < self.delay <= self.max_delay:
            raise ValueError(f"delay: must lie between 0 and max_delay ({self.max_delay} s), is {self.delay} s")
        if self.factor < 1 or not 0 <= self.jitter < 1:
            raise ValueError(f"factor must be at least 1 and jitter in [0, 1), are {self.factor} and {self.jitter}")
        if self.refused <= 0:
            raise ValueError(f"refused: must be more than 0 s, is {self.refused} s")

    def delays(self, chance: Callable[[], float] = random.random) -> Iterator[float]:
        """Yield delays without end; *chance* gives numbers in [0, 1)."""
        delay = self.delay
        while True:
            yield delay * (1 - self.jitter * chance())
            delay = min(delay * self.factor, self.max_delay)


class Retries:
    """When one client tries again: later and later while it fails, and as at first once it has worked.

    Where it is refused, for its password or for what it is, more tries may lock it out: they become rare.
    """

    def __init__(self, policy: Backoff) -> None:
        self._policy = policy
        self.worked()

    @property
    def rare(self) -> bool:
        """Whether it was refused so often that each further refusal is followed by a long wait."""
        return self._refusals > _REFUSALS

    def worked(self) -> None:
        """Begin anew: the next failure is a first one."""
        self._delays = self._policy.delays()
        self._fresh, self._refusals = True, 0

    def failed(self, spent: float = 0.0) -> float:
        """Return the seconds to wait, of which those count that a try in vain has *spent*, down to a first delay."""
        delay = next(self._delays)
        if not self._fresh:
            delay = max(delay - spent, next(self._policy.delays()))
        self._fresh = False
        return delay

    def refused(self) -> float:
        """Return the seconds to wait after what trying again will hardly mend."""
        self._fresh = False
        self._refusals += 1
        return self._policy.refused if self.rare else next(self._delays)
