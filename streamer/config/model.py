"""A checked pipeline: cameras, nodes, sinks, runtime and limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from engines.runtimes.base import Precision
from engines.yamlsource import Document, dotted
from streamer.config.node import Node
from streamer.config.values import Count, Duration, Strict
from streamer.wire.facts import FlowStyle


class Reconnect(Strict):
    """How long to wait before a live camera is tried again: doubling from *delay* to *max_delay*, with jitter."""

    delay: Duration = 0.5
    max_delay: Duration = 30.0

    @model_validator(mode="after")
    def _grows(self) -> Reconnect:
        if self.delay > self.max_delay:
            raise ValueError("delay is longer than max_delay; swap them")
        return self


class Camera(Strict):
    """One source of frames."""

    url: str
    transport: Literal["tcp", "udp"] = "tcp"  # of RTSP
    open_timeout: Duration = 10.0
    read_timeout: Duration = 10.0  # without a frame for so long, a live camera counts as broken
    realtime: bool = False  # play a recording at its own speed, as if it were a camera that can wait
    reconnect: Reconnect = Reconnect()


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


class Limits(Strict):
    """Bounds: together with the frame size they say how much memory a pipeline takes."""

    batch: Count = 8  # frames that go through the graph together
    live_frames: Count = 2  # newest frames kept a live camera
    file_frames: Count = 16  # decoded frames a file may be ahead
    batches: Count = 1  # batches waiting in front of each stage


SINKS: dict[str, type[Publish]] = {"redis": Redis, "jsonl": JsonLines, "video": Video}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A whole pipeline; nodes stand in graph order."""

    cameras: Mapping[str, Camera]
    nodes: Mapping[str, Node]
    publish: tuple[Publish, ...] = ()
    runtime: Runtime = field(default_factory=Runtime)
    limits: Limits = field(default_factory=Limits)
    document: Document | None = field(default=None, repr=False, compare=False)  # where all this was read

    def at(self, *loc: str | int) -> str:
        """Begin a message about what stands at *loc*: ``p.yaml:5: nodes.yolo.model: ``."""
        return f"{dotted(loc)}: " if self.document is None else self.document.at(loc)
