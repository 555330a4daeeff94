"""A recording played at its own speed, as if it were a camera that can wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.sources.base import Source
from streamer.types import RawFrame


@dataclass(slots=True)
class Paced:
    """Hand out each frame of *source* no sooner than its media time; never drop one."""

    source: Source
    clock: Clock = SYSTEM_CLOCK
    tick: threading.Event = field(default_factory=threading.Event)  # never set: waiting on it is how time passes

    @property
    def camera(self) -> str:
        return self.source.camera

    @property
    def live(self) -> bool:
        return self.source.live

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        with self.source.open() as frames:
            yield self._paced(frames)

    def _paced(self, frames: Iterator[RawFrame]) -> Iterator[RawFrame]:
        start: float | None = None
        for raw in frames:
            now = self.clock.monotonic_ns() / 1e9
            if start is None or raw.breaks:
                start = now - raw.pts
            self.tick.wait(max(0.0, start + raw.pts - now))
            yield raw
