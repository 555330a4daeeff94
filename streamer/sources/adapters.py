"""Sources around another source: played at its own speed, or without its beginning."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.sources.base import Source
from streamer.types import RawFrame


@dataclass(slots=True)
class Adapter:
    """Hand on what *source* gives, as `_adapted` has it."""

    source: Source

    @property
    def camera(self) -> str:
        return self.source.camera

    @property
    def live(self) -> bool:
        return self.source.live

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        with self.source.open() as frames:
            yield self._adapted(frames)

    def _adapted(self, frames: Iterator[RawFrame]) -> Iterator[RawFrame]:
        return frames


@dataclass(slots=True)
class Skip(Adapter):
    """Leave out the first *count* frames: they are decoded, for those after them need them, and dropped."""

    count: int

    def _adapted(self, frames: Iterator[RawFrame]) -> Iterator[RawFrame]:
        return islice(frames, self.count, None)


@dataclass(slots=True)
class Paced(Adapter):
    """Hand out each frame no sooner than its media time, as if a recording were a camera that can wait."""

    clock: Clock = SYSTEM_CLOCK
    tick: threading.Event = field(default_factory=threading.Event)  # never set: waiting on it is how time passes

    def _adapted(self, frames: Iterator[RawFrame]) -> Iterator[RawFrame]:
        start: float | None = None
        for raw in frames:
            now = self.clock.monotonic_ns() / 1e9
            if start is None or raw.breaks:
                start = now - raw.pts
            self.tick.wait(max(0.0, start + raw.pts - now))
            yield raw
