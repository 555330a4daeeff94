"""What may be observed while a pipeline runs. Observers are called from many threads and must be quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from streamer.types import Packet

CameraStatus = Literal["connecting", "running", "retrying", "paused", "ended", "failed"]


@dataclass(frozen=True, slots=True)
class CameraState:
    """A camera changed state; *error* says why when it is retrying or failed."""

    camera: str
    state: CameraStatus
    error: str | None = None


@dataclass(frozen=True, slots=True)
class FrameGrabbed:
    camera: str


@dataclass(frozen=True, slots=True)
class FrameDropped:
    """A frame was grabbed and will never be published; *reason* is one stable word.

    late: newer ones came before it was its turn; skipped: above the camera's target FPS, or thinned out evenly;
    corrupt: its pixels cannot be read; paused, removed: its camera was; stopped: the pipeline ended.
    """

    camera: str
    reason: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class CameraRemoved:
    """A camera was taken out of the running pipeline."""

    camera: str


@dataclass(frozen=True, slots=True)
class FrameLost:
    """A source could not decode *count* frames that its container promises: data is missing or damaged."""

    camera: str
    detail: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class BatchTaken:
    """*size* frames go into the graph together; *waiting* frames of each camera stay behind."""

    size: int
    waiting: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class WorkShed:
    """A node that cannot keep up left out *count* pieces of its own work, such as clips; the frames went on."""

    node: str
    camera: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class LatencyHeld:
    """Whether the latency target is held; *detail* says in one sentence what is done for it, or why it cannot be."""

    held: bool
    detail: str


@dataclass(frozen=True, slots=True)
class PacketPublished:
    """A packet went through every stage and was handed to every sink."""

    packet: Packet


@dataclass(frozen=True, slots=True)
class SinkState:
    """A sink lost (error set) or regained (None) what it writes to."""

    sink: str
    error: str | None


@dataclass(frozen=True, slots=True)
class ResultsDropped:
    """A sink gave up *count* results: its buffer was full while it could not write, or it had to close."""

    sink: str
    count: int
    camera: str


@dataclass(frozen=True, slots=True)
class Written:
    """One result that has arrived for good: a server has acknowledged it."""

    camera: str
    captured_at: float  # Unix seconds
    at: float  # Unix seconds of the acknowledgement


@dataclass(frozen=True, slots=True)
class ResultsWritten:
    """A sink that writes to a server has had *results* acknowledged."""

    sink: str
    results: Sequence[Written]


Event = (
    CameraState
    | CameraRemoved
    | FrameGrabbed
    | FrameDropped
    | FrameLost
    | BatchTaken
    | WorkShed
    | LatencyHeld
    | PacketPublished
    | SinkState
    | ResultsDropped
    | ResultsWritten
)
Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Observe nothing."""
