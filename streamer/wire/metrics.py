"""How a pipeline is doing, as it travels: the stream `metrics` and the hash `cameras`."""

from __future__ import annotations

from dataclasses import asdict
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
    """One camera. Counts run from the pipeline's start; rates and latencies cover the last ten seconds."""

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


class SinkMetrics(Wire):
    """One sink; *error* says why it cannot write at the moment."""

    error: str | None = None
    dropped: int = 0


class Metrics(Wire):
    """The whole pipeline at one moment."""

    version: Annotated[Literal[1], Field(alias="schema")]
    at: float  # Unix seconds
    cameras: dict[str, CameraMetrics] = Field(default_factory=dict)
    sinks: dict[str, SinkMetrics] = Field(default_factory=dict)


def encode_metrics(stats: Stats) -> bytes:
    """Return an entry of the stream `metrics`."""
    return to_json({"schema": SCHEMA, **asdict(stats)}, inf_nan_mode="null")


def encode_camera(stats: CameraStats, at: float) -> bytes:
    """Return a field of the hash `cameras`. Its moment is in it, for it outlives the pipeline."""
    return to_json({"schema": SCHEMA, "at": at, **asdict(stats)}, inf_nan_mode="null")


def decode_metrics(data: bytes | str) -> Metrics:
    """Read an entry of the stream `metrics`. Raise WireError when *data* is none."""
    try:
        return Metrics.model_validate_json(data)
    except ValidationError as error:
        raise WireError(explain(error, "metrics")) from error
