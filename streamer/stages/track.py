"""The node that numbers objects."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

from engines.track.tracker import Tracker, TrackOptions
from engines.types import Detections
from streamer.types import Packet, Port

Between = Literal["nothing", "predicted"]


class Track:
    """Follow the objects of each camera, and give those of them that are seen for sure a number.

    A packet whose frame no detector looked at passes without a value, or *between* with where the objects are likely to
    be. Detections must be made with a confidence as low as `TrackOptions.low`.

    A camera's numbers are never used twice, break in the stream or not. The trackers of at most *cameras* are kept;
    the one that has waited longest goes, and numbers begin beyond all of its own should its camera come back.
    """

    def __init__(
        self,
        detections: Port[Detections],
        writes: Port[Detections],
        options: TrackOptions | None = None,
        between: Between = "nothing",
        cameras: int = 1024,
    ) -> None:
        self._detections, self._writes = detections, writes
        self._options, self._between, self._most = options or TrackOptions(), between, cameras
        self._trackers: OrderedDict[str, Tracker] = OrderedDict()
        self._spent = 0  # no number up to here is left for a camera that nobody knows

    @property
    def reads(self) -> tuple[Port[Any], ...]:
        return (self._detections,)

    @property
    def writes(self) -> Port[Detections]:
        return self._writes

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        return [self._followed(packet) for packet in packets]

    def forget(self, camera: str) -> None:
        """Begin anew with the objects of a camera; its numbers go on."""
        if camera in self._trackers:
            self._trackers[camera].reset()

    def close(self) -> None:
        self._trackers.clear()

    def _followed(self, packet: Packet) -> Packet:
        tracker = self._tracker(packet.frame.camera)
        found = packet.get(self._detections)
        if found is not None:
            return packet.put(self._writes, tracker.update(found, packet.frame.pts))
        likely = tracker.predict(packet.frame.pts) if self._between == "predicted" else None
        return packet if likely is None else packet.put(self._writes, likely)

    def _tracker(self, camera: str) -> Tracker:
        if camera not in self._trackers:
            self._trackers[camera] = Tracker(self._options, self._spent)
        tracker = self._trackers[camera]
        self._trackers.move_to_end(camera)
        if len(self._trackers) > self._most:
            _, gone = self._trackers.popitem(last=False)
            self._spent = max(self._spent, gone.last)
        return tracker
