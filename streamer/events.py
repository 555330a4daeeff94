"""What may be observed while a pipeline runs. Observers are called from many threads and must be quick."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from streamer.types import Packet

CameraStatus = Literal["connecting", "running", "retrying", "ended", "failed"]


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
    """A frame was grabbed and will never be published; *reason* is one stable word: late, corrupt, stopped."""

    camera: str
    reason: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class FrameLost:
    """A source could not decode *count* frames that its container promises: data is missing or damaged."""

    camera: str
    detail: str
    count: int = 1


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


Event = CameraState | FrameGrabbed | FrameDropped | FrameLost | PacketPublished | SinkState | ResultsDropped
Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Observe nothing."""
