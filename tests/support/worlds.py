"""Sources, stages and clocks that a test owns."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engines.types import Detections
from streamer.errors import SourceError
from streamer.types import Packet, Port, RawFrame

DETECTIONS = Port("yolo", Detections)


@dataclass
class ManualClock:
    """A clock that stands still until it is moved."""

    seconds: float = 1000.0
    unix: float = 1_790_000_000.0

    def monotonic_ns(self) -> int:
        return int(self.seconds * 1e9)

    def time(self) -> float:
        return self.unix

    def advance(self, seconds: float) -> None:
        self.seconds += seconds
        self.unix += seconds


def raw(index: int, pts: float | None = None, *, breaks: bool = False) -> RawFrame:
    """A 4 x 4 picture whose every value is *index*."""
    return RawFrame(
        index / 10 if pts is None else pts, lambda: np.full((4, 4, 3), index % 256, np.uint8), breaks=breaks
    )


@dataclass
class Script:
    """A source that plays one list of frames and errors for each time it is opened."""

    camera: str
    takes: list[Sequence[RawFrame | SourceError]]
    live: bool = False
    opened: int = 0
    over: threading.Event = field(default_factory=threading.Event)  # set when every take was played

    @contextmanager
    def open(self) -> Iterator[Iterator[RawFrame]]:
        take = self.takes[self.opened] if self.opened < len(self.takes) else ()
        self.opened += 1
        yield self._play(take)

    def _play(self, take: Sequence[RawFrame | SourceError]) -> Iterator[RawFrame]:
        for item in take:
            if isinstance(item, SourceError):
                if self.opened >= len(self.takes):
                    self.over.set()
                raise item
            yield item
        if self.opened >= len(self.takes):
            self.over.set()


def counting(camera: str, n: int, live: bool = False) -> Script:
    """A source of *n* frames."""
    return Script(camera, [[raw(i) for i in range(n)]], live)


@dataclass
class Brightness:
    """A stage that finds one box as large as the picture is bright, and remembers what it was asked to forget."""

    writes: Port[Detections] = DETECTIONS
    reads: tuple[Port[Any], ...] = ()
    log: list[str] = field(default_factory=list)
    gate: threading.Event | None = None  # when given, every batch waits for it

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        if self.gate is not None:
            self.gate.wait(10)
        self.log += [f"{p.frame.camera} {p.frame.seq}" for p in packets]
        return [p.put(self.writes, one_box(float(p.frame.image[0, 0, 0]))) for p in packets]

    def forget(self, camera: str) -> None:
        self.log.append(f"forget {camera}")

    def close(self) -> None:
        self.log.append("closed")


def one_box(size: float, class_id: int = 0, confidence: float = 0.5) -> Detections:
    return Detections(
        np.array([[0, 0, size, size]], np.float32),
        np.array([class_id], np.int32),
        np.array([confidence], np.float32),
    )
