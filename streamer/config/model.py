"""A checked pipeline: cameras, nodes, sinks, runtime and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from engines.errors import RuntimeUnavailable
from engines.runtimes import find_backend
from engines.runtimes.base import Precision
from engines.yamlsource import Document, dotted
from streamer.config.node import Node
from streamer.config.values import Count, Duration, Listen, Size, Strict
from streamer.types import Drop
from streamer.wire.facts import FlowStyle


class Reconnect(Strict):
    """How long to wait before a live camera is tried again: doubling from *delay* to *max_delay*, with jitter."""

    delay: Duration = 0.5
    max_delay: Duration = 3.0
    refused: Duration = 30.0  # once the password was refused five times: cameras lock out who insists

    @model_validator(mode="after")
    def _grows(self) -> Reconnect:
        if self.delay > self.max_delay:
            raise ValueError("delay is longer than max_delay; swap them")
        return self


class Camera(Strict):
    """One source of frames: a *url*, or a GStreamer *pipeline*."""

    url: str = ""
    pipeline: str = ""  # GStreamer's own words, with an appsink named out: "rtspsrc … ! appsink name=out"
    source: Literal["auto", "av", "gstreamer"] = "auto"  # what decodes; auto: GStreamer for a pipeline, else FFmpeg
    size: Size | None = None  # WIDTHxHEIGHT to scale to on the way, where the decoder can; None: as it comes
    transport: Literal["tcp", "udp"] = "tcp"  # of RTSP
    open_timeout: Duration = 5.0
    read_timeout: Duration = 4.0  # without a frame for so long, a live camera counts as broken
    realtime: bool = False  # play a recording at its own speed, as if it were a camera that can wait
    reconnect: Reconnect = Reconnect()
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None  # at most so many frames a second; None: all
    priority: Annotated[float, Field(gt=0, le=100)] = 1.0  # under overload, 2 gets twice the frames of 1
    drop: Drop | None = None  # None: newest for a live camera, block for a recording
    paused: bool = False  # not connected until it is resumed

    @model_validator(mode="after")
    def _has_one_origin(self) -> Camera:
        if bool(self.url) == bool(self.pipeline):
            raise ValueError("needs either a url or a pipeline; give one of them")
        if self.pipeline and self.source == "av":
            raise ValueError("a pipeline is GStreamer's, and source says av; leave source out")
        return self


class Publish(Strict):
    """What every kind of sink has. *kind* picks the class from SINKS."""

    kind: str
    nodes: tuple[str, ...] | None = None  # whose results; None: all


class Redis(Publish):
    """Streams, channels and latest values in Redis."""

    kind: Literal["redis"]
    url: str = "redis://localhost:6379/0"
    prefix: str = "streamer:"
    maxlen: Count = 10_000  # entries kept a camera, about
    latest_ttl: Duration = 60.0
    buffer: Count = 10_000  # results held while Redis is away; then the oldest go (live)
    buffer_bytes: Count = 64 << 20  # bytes of them, whichever is reached first
    control: bool = True  # listen there for messages that add, remove, pause and re-aim cameras


class JsonLines(Publish):
    """One wire message a line."""

    kind: Literal["jsonl"]
    path: Path


class Video(Publish):
    """An H.264 video a camera with all that was found drawn, and FPS; `{camera}` in *path* is the camera's name."""

    kind: Literal["video"]
    path: Path
    flow: FlowStyle = "wheel"  # how flow is drawn: in the colours of Middlebury's wheel, as arrows, or not at all


class Runtime(Strict):
    """Where the models run."""

    prefer: tuple[str, ...] = ()  # backends, best first; empty: what suits this machine
    precision: Precision = "auto"
    threads: Annotated[int, Field(gt=0)] | None = None
    torch_compile: bool = False  # of PyTorch alone

    @field_validator("prefer")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for name in names:
                find_backend(name)
        except RuntimeUnavailable as error:
            raise ValueError(str(error)) from error
        return names


class Limits(Strict):
    """Bounds: together with the frame size they say how much memory a pipeline takes."""

    batch: Annotated[int, Field(gt=0, le=1024)] = 8  # frames that go through the graph together
    live_frames: Annotated[int, Field(gt=0, le=1024)] = (
        2  # newest ones kept a live camera; with a higher priority, as many, up to 8
    )
    file_frames: Annotated[int, Field(gt=0, le=4096)] = 16  # decoded frames a file may be ahead
    batches: Annotated[int, Field(gt=0, le=64)] = 1  # batches waiting in front of each stage
    cameras: Annotated[int, Field(gt=0, le=1024)] = 64  # also counting those added while it runs
    stage: Duration = 30.0  # a stage that works on one batch for longer counts as hanging
    drain: Duration = 1.0  # what is inside may take so long to go through after a signal


class Monitoring(Strict):
    """Where the pipeline says how it is doing, beside Redis."""

    http: Listen | None = None  # HOST:PORT or PORT, of /metrics, /healthz, /readyz and /status; None: nowhere


SINKS: dict[str, type[Publish]] = {"redis": Redis, "jsonl": JsonLines, "video": Video}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A whole pipeline; nodes stand in graph order."""

    cameras: Mapping[str, Camera]
    nodes: Mapping[str, Node]
    publish: tuple[Publish, ...] = ()
    runtime: Runtime = field(default_factory=Runtime)
    limits: Limits = field(default_factory=Limits)
    monitor: Monitoring = field(default_factory=Monitoring)
    latency: float | None = None  # seconds from grab to hand-over to aim at, instead of knobs
    document: Document | None = field(default=None, repr=False, compare=False)  # where all this was read

    def at(self, *loc: str | int) -> str:
        """Begin a message about what stands at *loc*: ``p.yaml:5: nodes.yolo.model: ``."""
        return f"{dotted(loc)}: " if self.document is None else self.document.at(loc)
