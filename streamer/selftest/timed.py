"""How long a node works, measured around it while the pipeline runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.stages.around import Around
from streamer.stages.base import Overlapping, Stage
from streamer.types import Packet


def timed(stage: Stage, clock: Clock = SYSTEM_CLOCK) -> Timed:
    """Put a watch around a stage."""
    return OverlappingTimed(stage, clock) if isinstance(stage, Overlapping) else Timed(stage, clock)


class Timed(Around):
    """Time what a stage does; frames that it passes over do not count."""

    def __init__(self, stage: Stage, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(stage)
        self._clock = clock
        self._frames, self._busy_ns, self._ended = 0, 0, 0
        self._batches_ms: list[float] = []

    @property
    def fps(self) -> float | None:
        """Frames a second while it worked; None where it never did."""
        return self._frames * 1e9 / self._busy_ns if self._busy_ns and self._frames else None

    @property
    def latency_ms(self) -> float | None:
        """Milliseconds from the beginning to the end of a batch, at the median."""
        return statistics.median(self._batches_ms) if self._batches_ms else None

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        began = self._clock.monotonic_ns()
        return self._book(began, self._stage.process(packets))

    def _book(self, began: int, done: Sequence[Packet]) -> Sequence[Packet]:
        now, frames = self._clock.monotonic_ns(), sum(packet.get(self.writes) is not None for packet in done)
        if frames:
            self._batches_ms.append((now - began) / 1e6)
            self._frames += frames
            self._busy_ns += now - max(began, self._ended)  # of two batches at a time, the time counts once
            self._ended = now
        return done


class OverlappingTimed(Timed):
    """The same around a stage that begins with a batch before the one before is done."""

    def __init__(self, stage: Overlapping, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(stage, clock)
        self._overlapping = stage

    def begin(self, packets: Sequence[Packet]) -> Callable[[], Sequence[Packet]]:
        """Begin with packets; what finishes them books the time."""
        began = self._clock.monotonic_ns()
        finish = self._overlapping.begin(packets)
        return lambda: self._book(began, finish())
