"""Count what a pipeline does: FPS, drops by reason, latency percentiles."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from engines.types import Detections
from streamer import events
from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.stats import CameraStats, Percentiles, SinkStats, Stats
from streamer.types import Packet

WINDOW = 10  # seconds that rates and latencies look back

_FIRST_MS, _GROWTH = 0.01, 1.05  # a bucket is 5 % wider than the one before: percentiles are right to 2.5 %
_BUCKETS = 1 + math.ceil(math.log(1e6 / _FIRST_MS, _GROWTH))  # up to 1000 s


class Rate:
    """Events a second over the last WINDOW seconds."""

    def __init__(self) -> None:
        self._slots = [0] * (WINDOW + 1)  # one a second, the newest still filling
        self._newest: int | None = None
        self._first = 0.0

    def add(self, now: float) -> None:
        begins = self._newest is None
        self._roll(now)
        if not begins:  # the first event ends no interval: it only starts the clock
            self._slots[int(now) % len(self._slots)] += 1

    def read(self, now: float) -> float:
        if self._newest is None:
            return 0.0
        self._roll(now)
        # From the start of the oldest slot, or from the first event if that is later.
        span = now - max(self._first, int(now) - WINDOW)
        return sum(self._slots) / span if span > 0.1 else 0.0

    def _roll(self, now: float) -> None:
        second = int(now)
        if self._newest is None:
            self._newest, self._first = second, now
        for stale in range(max(self._newest + 1, second - WINDOW), second + 1):
            self._slots[stale % len(self._slots)] = 0
        self._newest = max(self._newest, second)


class Latency:
    """A histogram of milliseconds over the last WINDOW seconds, in buckets of equal ratio; memory is constant."""

    def __init__(self) -> None:
        self._counts = np.zeros((WINDOW + 1, _BUCKETS), np.int32)
        self._newest = 0

    def add(self, now: float, milliseconds: float) -> None:
        self._roll(now)
        bucket = math.ceil(math.log(max(milliseconds, _FIRST_MS) / _FIRST_MS, _GROWTH))
        self._counts[int(now) % len(self._counts), min(bucket, _BUCKETS - 1)] += 1

    def read(self, now: float) -> Percentiles | None:
        self._roll(now)
        cumulative = self._counts.sum(axis=0).cumsum()
        if not cumulative[-1]:
            return None
        ranks = np.ceil(np.array([0.50, 0.95, 0.99]) * cumulative[-1])
        upper = _FIRST_MS * _GROWTH ** np.searchsorted(cumulative, ranks)
        middle = upper / math.sqrt(_GROWTH)
        return Percentiles(*(round(float(ms), 2) for ms in middle))

    def _roll(self, now: float) -> None:
        second = int(now)
        for stale in range(max(self._newest + 1, second - WINDOW), second + 1):
            self._counts[stale % len(self._counts)] = 0
        self._newest = max(self._newest, second)


@dataclass(slots=True)
class _Camera:
    state: events.CameraStatus = "connecting"
    error: str | None = None
    grabbed: int = 0
    published: int = 0
    lost: int = 0
    reconnects: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    seen: Mapping[str, int] = field(default_factory=dict)
    rate_in: Rate = field(default_factory=Rate)
    rate_out: Rate = field(default_factory=Rate)
    latency: Latency = field(default_factory=Latency)

    def stats(self, now: float) -> CameraStats:
        return CameraStats(
            state=self.state,
            error=self.error,
            fps_in=round(self.rate_in.read(now), 2),
            fps_out=round(self.rate_out.read(now), 2),
            grabbed=self.grabbed,
            published=self.published,
            dropped=dict(self.dropped),
            lost=self.lost,
            reconnects=self.reconnects,
            latency_ms=self.latency.read(now),
            seen=self.seen,
        )


class Monitor:
    """An observer that turns events into `Stats`. Thread-safe."""

    def __init__(self, labels: Mapping[str, Sequence[str]], clock: Clock = SYSTEM_CLOCK) -> None:
        """*labels* are the class names of each node."""
        self._labels, self._clock = labels, clock
        self._cameras: dict[str, _Camera] = {}
        self._sinks: dict[str, SinkStats] = {}
        self._lock = threading.Lock()

    def __call__(self, event: events.Event) -> None:
        now = self._clock.monotonic_ns() / 1e9
        with self._lock:
            self._take(event, now)

    def stats(self) -> Stats:
        now = self._clock.monotonic_ns() / 1e9
        with self._lock:
            cameras = {name: camera.stats(now) for name, camera in self._cameras.items()}
            return Stats(self._clock.time(), cameras, dict(self._sinks))

    def _take(self, event: events.Event, now: float) -> None:
        match event:
            case events.FrameGrabbed(camera):
                self._camera(camera).grabbed += 1
                self._camera(camera).rate_in.add(now)
            case events.PacketPublished(packet):
                self._published(packet, now)
            case events.FrameDropped(camera, reason, count):
                self._camera(camera).dropped[reason] += count
            case events.FrameLost(camera, _, count):
                self._camera(camera).lost += count
            case events.CameraState(name, state, error):
                camera_ = self._camera(name)
                camera_.reconnects += state == "retrying"
                # While it connects again the reason stays: that is what somebody looking wants to know.
                camera_.state, camera_.error = state, camera_.error if state == "connecting" else error
            case events.SinkState(sink, error):
                self._sinks[sink] = SinkStats(error, self._sink(sink).dropped)
            case events.ResultsDropped(sink, count, _):
                self._sinks[sink] = SinkStats(self._sink(sink).error, self._sink(sink).dropped + count)

    def _published(self, packet: Packet, now: float) -> None:
        camera = self._camera(packet.frame.camera)
        camera.published += 1
        camera.rate_out.add(now)
        camera.seen = self._seen(packet)
        if packet.marked_ns is not None:
            camera.latency.add(now, (packet.marked_ns - packet.frame.grabbed_ns) / 1e6)

    def _seen(self, packet: Packet) -> dict[str, int]:
        """Count objects by label: of the last node that found any kind of detections, so that none counts twice."""
        found = [(node, v) for node, v in packet.values.items() if isinstance(v, Detections)]
        if not found:
            return {}
        node, detections = found[-1]
        labels = self._labels.get(node, ())
        counts = Counter(detections.class_id.tolist())
        return {labels[i] if i < len(labels) else str(i): n for i, n in counts.most_common()}

    def _camera(self, name: str) -> _Camera:
        return self._cameras.setdefault(name, _Camera())

    def _sink(self, name: str) -> SinkStats:
        return self._sinks.get(name, SinkStats())
