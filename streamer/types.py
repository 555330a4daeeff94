"""What moves through the pipeline: raw frames, frames, and packets of what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Generic, Literal, TypeVar

from engines.track.lines import LineCount, LineCrossed
from engines.track.zones import ZoneEntered, ZoneLeft, ZoneState
from engines.types import Clip, Image, Scores
from streamer.notes import Note as Note

T = TypeVar("T")
Drop = Literal["newest", "every", "block"]  # what a full mailbox does; see streamer.intake
_NOTHING: Mapping[str, object] = MappingProxyType({})
_NO_TIMES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class RawFrame:
    """One picture as the decoder left it. Cheap to drop: pixels are converted only by `to_rgb`."""

    pts: float  # seconds of media time
    to_rgb: Callable[[], Image]  # called once, from the batcher's thread
    captured_at: float | None = None  # Unix seconds, where the source knows them; else arrival counts
    breaks: bool = False  # the stream is not continuous with the frame before: a seek, a gap


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One decoded image of one camera. Pixels are shared and must not be written."""

    camera: str
    seq: int  # counts grabbed frames, so gaps show drops
    pts: float  # seconds of media time
    captured_at: float  # Unix seconds: for the outside world
    grabbed_ns: int  # monotonic clock: for latency
    image: Image  # (H, W, 3) RGB


@dataclass(frozen=True, slots=True)
class Port(Generic[T]):
    """A typed slot in a packet, written by exactly one graph node."""

    node: str
    kind: type[T]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Packet:
    """A frame and what the graph has found out about it so far. Immutable."""

    frame: Frame
    values: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    latency_ms: Mapping[str, float] = field(default_factory=lambda: _NO_TIMES)  # by step, in order
    marked_ns: int | None = None  # monotonic clock at the end of the last step; the steps add up to it

    def get(self, port: Port[T]) -> T | None:
        value = self.values.get(port.node)
        if value is None or isinstance(value, port.kind):
            return value
        raise TypeError(f"{port.node}: holds {type(value).__name__}, not {port.kind.__name__}")

    def put(self, port: Port[T], value: T) -> Packet:
        return replace(self, values=MappingProxyType({**self.values, port.node: value}))

    def mark(self, step: str, now_ns: int) -> Packet:
        """Book the time since the last mark (at first: since the grab) to *step*, waiting included."""
        since = self.frame.grabbed_ns if self.marked_ns is None else self.marked_ns
        times = MappingProxyType({**self.latency_ms, step: (now_ns - since) / 1e6})
        return replace(self, latency_ms=times, marked_ns=now_ns)


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A clip and where it came from: a whole camera, or one tracked object."""

    track_id: int | None
    first_seq: int
    last_seq: int
    clip: Clip


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """The windows that this packet's frame completed, and whose crops ended with it: a track's, or None, the scene's.

    What is *gone* has no more windows; one that comes back under the same number begins anew.
    """

    items: tuple[Window, ...] = ()
    gone: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """What one clip shows. Keeps the span, not the pixels."""

    track_id: int | None
    first_seq: int
    last_seq: int
    scores: Scores


@dataclass(frozen=True, slots=True)
class ActionStarted:
    """An action has become likely enough, of a tracked object or of the whole scene."""

    track_id: int | None
    class_id: int
    pts: float  # seconds of media time
    score: float


@dataclass(frozen=True, slots=True)
class ActionEnded:
    """An action that had started is no longer likely, or whoever did it is gone."""

    track_id: int | None
    class_id: int
    pts: float  # when it was first seen to be over; of who is gone, when it was last seen at all
    duration: float  # seconds since it started


@dataclass(frozen=True, slots=True, eq=False)
class Actions:
    """The actions recognised at this packet's frame, and what has started or ended with it."""

    items: tuple[Action, ...] = ()
    events: tuple[ActionStarted | ActionEnded, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Crossings:
    """How often each line has been crossed up to this packet's frame, and who has crossed one in it."""

    lines: tuple[LineCount, ...]
    events: tuple[LineCrossed, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Occupancy:
    """Who is in which zone in this packet's frame, and who has come and gone."""

    zones: tuple[ZoneState, ...]
    events: tuple[ZoneEntered | ZoneLeft, ...] = ()


Happening = LineCrossed | ZoneEntered | ZoneLeft | ActionStarted | ActionEnded  # what `events` of a value may hold
