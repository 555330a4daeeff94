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
    """One camera. Counts run from its start; rates and latencies cover the last ten seconds."""

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
    end_to_end_ms: Percentiles | None = None  # from capture until a server has acknowledged the result
    stages_ms: Mapping[str, Percentiles] = field(default_factory=dict)  # by step, the wait for it included


@dataclass(frozen=True, slots=True)
class SinkStats:
    """One sink."""

    error: str | None = None  # why it cannot write at the moment
    dropped: int = 0  # results given up since the start
    written: int = 0  # results that its server has acknowledged since the start
    end_to_end_ms: Percentiles | None = None  # of all cameras, over the last ten seconds


@dataclass(frozen=True, slots=True)
class NodeStats:
    """One node of the graph."""

    shed: int = 0  # pieces of its own work, such as clips, left out since the start


@dataclass(frozen=True, slots=True)
class LatencyTarget:
    """What `latency:` in the pipeline file asks for, and what has become of it."""

    target_ms: float | None = None
    held: bool = True
    detail: str = ""  # one sentence: what is done for it, or why it cannot be held


@dataclass(frozen=True, slots=True)
class ProcessStats:
    """What the process takes from the machine. Shares are of one core, so a busy process exceeds 1."""

    cpu_seconds: float  # user and system, since the process started
    cpu: float  # share, over the last second or so
    rss: int  # bytes of memory
    threads: int
    files: int  # open file descriptors
    started: float  # Unix seconds
    machine_cpu: float  # share of all cores that everything on the machine takes, 0 to 1


@dataclass(frozen=True, slots=True)
class GpuStats:
    """One GPU; None is what its driver does not tell. Shares run from 0 to 1, of the whole device."""

    name: str
    busy: float | None = None
    decoder_busy: float | None = None
    memory_used: int | None = None  # bytes
    memory_total: int | None = None  # bytes
    temperature: float | None = None  # degrees Celsius


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values were at most each of *bounds*, and above them all. Since the start, so it only grows."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]  # one more than bounds; not yet added up
    total: float  # of all values


@dataclass(frozen=True, slots=True)
class Histograms:
    """What Prometheus makes percentiles of; seconds, and frames of a batch."""

    latency: Mapping[str, Histogram] = field(default_factory=dict)  # by camera, from grab to hand-over
    stages: Mapping[str, Histogram] = field(default_factory=dict)  # by step
    end_to_end: Mapping[tuple[str, str], Histogram] = field(default_factory=dict)  # by camera and sink
    batch: Histogram | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """The whole pipeline at one moment."""

    at: float  # Unix seconds
    cameras: Mapping[str, CameraStats] = field(default_factory=dict)
    sinks: Mapping[str, SinkStats] = field(default_factory=dict)
    queues: Mapping[str, int] = field(default_factory=dict)  # what waits: frames of a camera, batches of a stage
    batch_size: float | None = None  # frames a batch, on average over the last ten seconds
    latency: LatencyTarget | None = None
    nodes: Mapping[str, NodeStats] = field(default_factory=dict)
    process: ProcessStats | None = None
    gpus: Mapping[str, GpuStats] = field(default_factory=dict)  # by number
    busy: Mapping[str, float] = field(default_factory=dict)  # thread -> seconds at its present batch
    histograms: Histograms = field(default_factory=Histograms, repr=False, compare=False)  # stay in this process
