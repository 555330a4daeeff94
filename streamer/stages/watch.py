"""Nodes that watch where tracked objects go: over lines, and into zones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from engines.geometry import Size
from engines.track.lines import LineCounter
from engines.track.zones import ZoneWatch
from engines.types import Detections
from streamer.types import Crossings, Occupancy, Packet, Port

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)


class Watcher(Protocol[V_co]):
    """What watches the tracks of one camera."""

    def update(self, tracked: Detections, pts: float, size: Size, /) -> V_co: ...
    def reset(self) -> None: ...


class Watch(Generic[V]):
    """Give each camera a watcher of its own, from its first frame on; counts go on after a break.

    A packet whose frame nobody tracked passes without a value. The watchers of at most *cameras* are kept; the one that
    has waited longest goes, and its counts with it.
    """

    def __init__(
        self, tracks: Port[Detections], writes: Port[V], watcher: Callable[[], Watcher[V]], cameras: int = 1024
    ) -> None:
        self._tracks, self._writes, self._new, self._most = tracks, writes, watcher, cameras
        self._watchers: OrderedDict[str, Watcher[V]] = OrderedDict()

    @property
    def reads(self) -> tuple[Port[Any], ...]:
        return (self._tracks,)

    @property
    def writes(self) -> Port[V]:
        return self._writes

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        return [self._watched(packet) for packet in packets]

    def forget(self, camera: str) -> None:
        """Forget where a camera's objects were."""
        if camera in self._watchers:
            self._watchers[camera].reset()

    def close(self) -> None:
        self._watchers.clear()

    def _watched(self, packet: Packet) -> Packet:
        tracked, frame = packet.get(self._tracks), packet.frame
        if tracked is None:
            return packet
        height, width = frame.image.shape[:2]
        return packet.put(self._writes, self._watcher(frame.camera).update(tracked, frame.pts, (height, width)))

    def _watcher(self, camera: str) -> Watcher[V]:
        watcher = self._watchers.get(camera) or self._new()
        self._watchers[camera] = watcher
        self._watchers.move_to_end(camera)
        if len(self._watchers) > self._most:
            self._watchers.popitem(last=False)
        return watcher


class CrossingWatcher:
    """Count who crosses which line."""

    def __init__(self, counter: LineCounter) -> None:
        self._counter = counter

    def update(self, tracked: Detections, pts: float, size: Size) -> Crossings:
        events = self._counter.update(tracked, pts, size)
        return Crossings(self._counter.counts, events)

    def reset(self) -> None:
        self._counter.reset()


class OccupancyWatcher:
    """Tell who is in which zone."""

    def __init__(self, zones: ZoneWatch) -> None:
        self._zones = zones

    def update(self, tracked: Detections, pts: float, size: Size) -> Occupancy:
        events = self._zones.update(tracked, pts, size)
        return Occupancy(self._zones.states, events)

    def reset(self) -> None:
        self._zones.reset()
