"""How a pipeline is doing, as it travels: the stream `metrics` and the hash `cameras`."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_core import to_json

from streamer.stats import CameraStats, Stats
from streamer.wire.base import SCHEMA, Wire, WireError, explain


class PercentilesMs(Wire):
    """Milliseconds."""

    p50: float
    p95: float
    p99: float


class CameraMetrics(Wire):
    """One camera. Counts run from its start; rates and latencies cover the last ten seconds."""

    state: str
    error: str | None = None
    fps_in: float = 0.0
    fps_out: float = 0.0
    grabbed: int = 0
    published: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    lost: int = 0
    reconnects: int = 0
    latency_ms: PercentilesMs | None = None
    seen: dict[str, int] = Field(default_factory=dict)
    end_to_end_ms: PercentilesMs | None = None
    stages_ms: dict[str, PercentilesMs] = Field(default_factory=dict)


class SinkMetrics(Wire):
    """One sink; *error* says why it cannot write at the moment."""

    error: str | None = None
    dropped: int = 0
    written: int = 0
    end_to_end_ms: PercentilesMs | None = None


class NodeMetrics(Wire):
    """One node; *shed* counts pieces of its own work, such as clips, that it left out."""

    shed: int = 0


class LatencyMetrics(Wire):
    """The latency target: whether it is held, and what is done for it."""

    target_ms: float | None = None
    held: bool = True
    detail: str = ""


class ProcessMetrics(Wire):
    """The process: CPU as a share of one core, memory in bytes; *machine_cpu* is a share of all cores."""

    cpu_seconds: float = 0.0
    cpu: float = 0.0
    rss: int = 0
    threads: int = 0
    files: int = 0
    started: float = 0.0
    machine_cpu: float = 0.0


class GpuMetrics(Wire):
    """One GPU: shares from 0 to 1, bytes, degrees Celsius; null is what its driver does not tell."""

    name: str
    busy: float | None = None
    decoder_busy: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    temperature: float | None = None


class Metrics(Wire):
    """The whole pipeline at one moment."""

    version: Annotated[Literal[1], Field(alias="schema")]
    at: float  # Unix seconds
    cameras: dict[str, CameraMetrics] = Field(default_factory=dict)
    sinks: dict[str, SinkMetrics] = Field(default_factory=dict)
    queues: dict[str, int] = Field(default_factory=dict)
    batch_size: float | None = None
    latency: LatencyMetrics | None = None
    nodes: dict[str, NodeMetrics] = Field(default_factory=dict)
    process: ProcessMetrics | None = None
    gpus: dict[str, GpuMetrics] = Field(default_factory=dict)
    busy: dict[str, float] = Field(default_factory=dict)


def encode_metrics(stats: Stats) -> bytes:
    """Return an entry of the stream `metrics`."""
    told = {one.name: getattr(stats, one.name) for one in fields(stats) if one.name != "histograms"}
    return to_json({"schema": SCHEMA, **told}, inf_nan_mode="null")


def encode_camera(stats: CameraStats, at: float) -> bytes:
    """Return a field of the hash `cameras`. Its moment is in it, for it outlives the pipeline."""
    return to_json({"schema": SCHEMA, "at": at, **asdict(stats)}, inf_nan_mode="null")


def decode_metrics(data: bytes | str) -> Metrics:
    """Read an entry of the stream `metrics`. Raise WireError when *data* is none."""
    try:
        return Metrics.model_validate_json(data)
    except ValidationError as error:
        raise WireError(explain(error, "metrics")) from error
