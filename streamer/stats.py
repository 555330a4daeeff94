"""How a pipeline is doing, as plain values: what the monitor makes and every exporter and client reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamer.events import CameraStatus


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class CameraStats:
    """One camera. Counts run from the pipeline's start; rates and latencies cover the last ten seconds."""

    state: CameraStatus
    error: str | None = None
    fps_in: float = 0.0  # frames grabbed a second
    fps_out: float = 0.0  # frames published a second
    grabbed: int = 0
    published: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)  # by reason
    lost: int = 0  # frames the source could not decode
    reconnects: int = 0
    latency_ms: Percentiles | None = None  # from grab to hand-over; None until something was published
    seen: Mapping[str, int] = field(default_factory=dict)  # label -> how many in the newest frame


@dataclass(frozen=True, slots=True)
class SinkStats:
    """One sink."""

    error: str | None = None  # why it cannot write at the moment
    dropped: int = 0  # results given up since the start


@dataclass(frozen=True, slots=True)
class Stats:
    """The whole pipeline at one moment."""

    at: float  # Unix seconds
    cameras: Mapping[str, CameraStats] = field(default_factory=dict)
    sinks: Mapping[str, SinkStats] = field(default_factory=dict)
