"""What the monitor keeps of each camera, each sink and the graph.

Each `copy` is quick, as its caller holds a lock; what it returns makes the figures, which takes longer and needs none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from engines.types import Detections
from streamer import events
from streamer.monitor.meters import FRAMES, Buckets, Latency, Rate, percentiles
from streamer.stats import CameraStats, Histogram, LatencyTarget, NodeStats, Percentiles, SinkStats
from streamer.types import Packet

ClassIds = npt.NDArray[np.int32]
Labels = Mapping[str, Sequence[str]]  # class names of each node


@dataclass(frozen=True, slots=True)
class CameraCopy:
    """One camera at one moment."""

    stats: Callable[[Labels], CameraStats]
    latency: Histogram
    end_to_end: Mapping[str, Histogram]  # by sink


@dataclass(slots=True)
class CameraTally:
    """One camera since its start."""

    state: events.CameraStatus = "connecting"
    error: str | None = None
    grabbed: int = 0
    published: int = 0
    lost: int = 0
    reconnects: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    _found: tuple[str, ClassIds] | None = None  # which node found what in the newest frame
    _rate_in: Rate = field(default_factory=Rate)
    _rate_out: Rate = field(default_factory=Rate)
    _latency: Latency = field(default_factory=Latency)
    _stages: defaultdict[str, Latency] = field(default_factory=lambda: defaultdict(Latency))
    _end_to_end: Latency = field(default_factory=Latency)
    _latency_ever: Buckets = field(default_factory=Buckets)
    _end_to_end_ever: defaultdict[str, Buckets] = field(default_factory=lambda: defaultdict(Buckets))

    def enter(self, state: events.CameraStatus, error: str | None) -> None:
        self.reconnects += state == "retrying"
        # While it connects again the reason stays: that is what somebody looking wants to know.
        self.state, self.error = state, self.error if state == "connecting" else error

    def grab(self, now: float) -> None:
        self.grabbed += 1
        self._rate_in.add(now)

    def publish(self, packet: Packet, now: float) -> None:
        self.published += 1
        self._rate_out.add(now)
        self._found = _found(packet)
        for step, milliseconds in packet.latency_ms.items():
            self._stages[step].add(now, milliseconds)
        if packet.marked_ns is not None:
            nanoseconds = packet.marked_ns - packet.frame.grabbed_ns
            self._latency.add(now, nanoseconds / 1e6)
            self._latency_ever.add(nanoseconds / 1e9)

    def acknowledge(self, sink: str, seconds: float, now: float) -> None:
        self._end_to_end.add(now, seconds * 1e3)
        self._end_to_end_ever[sink].add(seconds)

    def copy(self, now: float) -> CameraCopy:
        known = partial(
            CameraStats,
            state=self.state,
            error=self.error,
            fps_in=round(self._rate_in.read(now), 2),
            fps_out=round(self._rate_out.read(now), 2),
            grabbed=self.grabbed,
            published=self.published,
            dropped=dict(self.dropped),
            lost=self.lost,
            reconnects=self.reconnects,
        )
        latency, end_to_end = self._latency.counts(now), self._end_to_end.counts(now)
        stages = {step: window.counts(now) for step, window in self._stages.items()}
        found = self._found
        return CameraCopy(
            lambda labels: known(
                latency_ms=percentiles(latency),
                seen=_seen(found, labels),
                end_to_end_ms=percentiles(end_to_end),
                stages_ms=_percentiles(stages),
            ),
            self._latency_ever.read(),
            {sink: buckets.read() for sink, buckets in self._end_to_end_ever.items()},
        )


@dataclass(slots=True)
class SinkTally:
    """One sink since the start."""

    error: str | None = None
    dropped: int = 0
    written: int = 0
    _end_to_end: Latency = field(default_factory=Latency)

    def acknowledge(self, seconds: float, now: float) -> None:
        self.written += 1
        self._end_to_end.add(now, seconds * 1e3)

    def copy(self, now: float) -> Callable[[], SinkStats]:
        known = partial(SinkStats, self.error, self.dropped, self.written)
        end_to_end = self._end_to_end.counts(now)
        return lambda: known(percentiles(end_to_end))


@dataclass(frozen=True, slots=True)
class GraphCopy:
    """What is not of one camera or sink, at one moment."""

    waiting: Mapping[str, int]  # frames of each camera
    batch_size: float | None
    latency: LatencyTarget | None
    nodes: Mapping[str, NodeStats]
    batch: Histogram
    stages: Mapping[str, Histogram]


@dataclass(slots=True)
class GraphTally:
    """Batches, steps, nodes and the latency target since the start."""

    latency: LatencyTarget | None = None
    shed: Counter[str] = field(default_factory=Counter)
    _waiting: Mapping[str, int] = field(default_factory=dict)
    _batches: Rate = field(default_factory=Rate)
    _frames: Rate = field(default_factory=Rate)
    _batch_ever: Buckets = field(default_factory=lambda: Buckets(FRAMES))
    _stages_ever: defaultdict[str, Buckets] = field(default_factory=lambda: defaultdict(Buckets))

    def take(self, size: int, waiting: Mapping[str, int], now: float) -> None:
        self._waiting = waiting
        self._batches.add(now)
        self._frames.add(now, size)
        self._batch_ever.add(size)

    def publish(self, packet: Packet) -> None:
        for step, milliseconds in packet.latency_ms.items():
            self._stages_ever[step].add(milliseconds / 1e3)

    def hold(self, held: bool, detail: str) -> None:
        target = None if self.latency is None else self.latency.target_ms
        self.latency = LatencyTarget(target, held, detail)

    def copy(self, now: float) -> GraphCopy:
        batches = self._batches.read(now)
        return GraphCopy(
            self._waiting,
            round(self._frames.read(now) / batches, 2) if batches else None,
            self.latency,
            {node: NodeStats(count) for node, count in self.shed.items()},
            self._batch_ever.read(),
            {step: buckets.read() for step, buckets in self._stages_ever.items()},
        )


def _percentiles(counts: Mapping[str, Mapping[int, int]]) -> dict[str, Percentiles]:
    read = {step: percentiles(of) for step, of in counts.items()}
    return {step: found for step, found in read.items() if found is not None}


def _found(packet: Packet) -> tuple[str, ClassIds] | None:
    """Pick the last node that found any kind of detections, so that no object counts twice."""
    found = None
    for node, value in packet.values.items():
        if isinstance(value, Detections):
            found = node, value.class_id
    return found


def _seen(found: tuple[str, ClassIds] | None, labels: Labels) -> dict[str, int]:
    """Count objects by label."""
    if found is None:
        return {}
    node, class_ids = found
    names = labels.get(node, ())
    counts = Counter(class_ids.tolist())
    return {names[i] if i < len(names) else str(i): n for i, n in counts.most_common()}
