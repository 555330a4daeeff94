"""Nodes that run code of the user's own, a frame at a time or a batch at a time.

    class Fall:
        reads = (Detections,)                              # what it expects of each node that it reads, in order
        writes = Note                                      # or Detections, Flow, or any class
        def __init__(self, ratio: float = 1.3) -> None:    # its options
        def __call__(self, frame: Frame, tracks: Detections | None) -> Note | None:
        def forget(self) -> None:                          # may be left out: the camera's stream broke
        def close(self) -> None:                           # may be left out

There is one object a camera, so what it remembers is of that camera alone. A value is None where the node that is read
has none for this frame. Who runs a model takes all cameras' packets at once instead:

    class Pose:
        reads = ()
        writes = Poses
        labels = ("person",)                               # may be left out: of the objects that it finds
        def __init__(self, reads: tuple[Port[Any], ...], writes: Port[Poses], path: str) -> None:
        def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        def forget(self, camera: str) -> None:             # may be left out
        def close(self) -> None:                           # may be left out

All is called from one thread, but the first object is made by the one that opens the pipeline.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from streamer.types import Frame, Packet, Port

log = logging.getLogger(__name__)


class PerCamera(Protocol):
    """What a user's class is, at the least."""

    def __call__(self, frame: Frame, /, *values: Any) -> Any: ...


class PerBatch(Protocol):
    """What a user's class is that takes batches, at the least."""

    def process(self, packets: Sequence[Packet], /) -> Sequence[Packet]: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a user's object stands in the graph."""

    reads: tuple[Port[Any], ...]
    writes: Port[Any]
    made: str  # the class, as messages call it

    def checked(self, value: object) -> Any:
        """Raise TypeError for what the class did not promise."""
        if isinstance(value, self.writes.kind):
            return value
        raise TypeError(
            f"node {self.writes.node}: {self.made} returned {type(value).__name__}, but writes "
            f"{self.writes.kind.__name__}; return that, or None"
        )

    @contextmanager
    def telling(self, where: str) -> Iterator[None]:
        """Add to what the user's code raises in which node that was, and *where*."""
        try:
            yield
        except SystemExit as error:  # it would end the process without a word
            raise RuntimeError(
                f"node {self.writes.node}: {self.made} called sys.exit({error.code!r}), {where}"
            ) from error
        except Exception as error:
            error.add_note(f"in node {self.writes.node}: {self.made}, {where}")
            raise


class EachCamera:
    """Give each camera an object of its own, from its first frame on.

    Those of at most *cameras* are kept; the one that has waited longest is closed, and what it knew is gone.
    """

    def __init__(self, make: Callable[[], PerCamera], place: Place, cameras: int = 1024) -> None:
        """Make the first object at once, so that whatever is wrong with it is found out before anything starts."""
        self._make, self._place, self._most = make, place, cameras
        self._spare: PerCamera | None = make()
        self._objects: OrderedDict[str, PerCamera] = OrderedDict()

    @property
    def reads(self) -> tuple[Port[Any], ...]:
        return self._place.reads

    @property
    def writes(self) -> Port[Any]:
        return self._place.writes

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        return [self._told(packet) for packet in packets]

    def forget(self, camera: str) -> None:
        """Tell a camera's object that its stream broke."""
        if camera in self._objects:
            with self._place.telling(f"told of a break, camera {camera}"):
                _call(self._objects[camera], "forget")

    def close(self) -> None:
        for known in (*self._objects.values(), *([] if self._spare is None else [self._spare])):
            _close(known, self._place)
        self._objects.clear()
        self._spare = None

    def _told(self, packet: Packet) -> Packet:
        frame = packet.frame
        values = [packet.get(port) for port in self.reads]
        with self._place.telling(f"frame {frame.seq} of camera {frame.camera}"):
            value = self._object(frame.camera)(frame, *values)
        return packet if value is None else packet.put(self.writes, self._place.checked(value))

    def _object(self, camera: str) -> PerCamera:
        if camera not in self._objects:
            self._objects[camera], self._spare = self._make() if self._spare is None else self._spare, None
        self._objects.move_to_end(camera)
        if len(self._objects) > self._most:
            _close(self._objects.popitem(last=False)[1], self._place)
        return self._objects[camera]


class EachBatch:
    """Let one object work on the packets of all cameras, and see that it gives back what it was given."""

    def __init__(self, made: PerBatch, place: Place) -> None:
        self._made, self._place = made, place

    @property
    def reads(self) -> tuple[Port[Any], ...]:
        return self._place.reads

    @property
    def writes(self) -> Port[Any]:
        return self._place.writes

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        with self._place.telling(f"{len(packets)} packets"):
            done = self._made.process(packets)
        if [packet.frame for packet in done or ()] != [packet.frame for packet in packets]:
            raise TypeError(f"node {self.writes.node}: {self._place.made} must return the packets it took, in order")
        for packet in done:
            if (value := packet.values.get(self.writes.node)) is not None:
                self._place.checked(value)
        return done

    def forget(self, camera: str) -> None:
        with self._place.telling(f"told of a break, camera {camera}"):
            _call(self._made, "forget", camera)

    def close(self) -> None:
        _close(self._made, self._place)


def _close(known: object, place: Place) -> None:
    """Close what may have nothing to close. The others are to be closed as well, so a fault is only told."""
    try:
        _call(known, "close")
    except Exception:
        log.exception("node %s: %s could not be closed", place.writes.node, place.made)


def _call(known: object, method: str, *values: str) -> None:
    found = getattr(known, method, None)
    if found is not None:
        found(*values)
