"""Make batches of frames across cameras, fairly, and turn pixels into RGB on the way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.errors import SourceError
from streamer.events import BatchTaken, FrameDropped, Observer
from streamer.flight import Gate, Open
from streamer.intake import Grabbed, Intake
from streamer.mailbox import Closed
from streamer.types import Packet

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Packets that go through the graph together, and the cameras whose streams broke just before them."""

    packets: tuple[Packet, ...]
    breaks: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Part:
    """What becomes one batch."""

    frames: list[Grabbed] = field(default_factory=list)
    breaks: set[str] = field(default_factory=set)


class _Lane:
    """A camera's place in the fair choice: start-time fair queueing, Goyal, Vin and Cheng 1996."""

    def __init__(self, intake: Intake) -> None:
        self.intake = intake
        self.finish = 0.0  # virtual time at which its last frame is paid for

    def pay(self, start: float) -> None:
        self.finish = start + 1 / self.intake.priority


class Batcher:
    """Take frames from the intakes of all cameras, by their priority, as soon as the *gate* says.

    Alone, a frame goes at once. Under load frames gather while a batch is worked on, so batches grow by themselves;
    with a *linger* they are waited for as well. Cameras may come and go at any time, from any thread.
    """

    def __init__(
        self,
        changed: threading.Condition,
        size: int,
        observer: Observer,
        clock: Clock = SYSTEM_CLOCK,
        gate: Gate | None = None,
    ) -> None:
        """*changed* is the condition that all intakes share; *size* the most frames in one batch."""
        self.size = size
        self.linger = 0.0  # seconds that a frame may wait for others while the graph is busy anyway
        self._changed, self._observer, self._clock = changed, observer, clock
        self._gate = Open() if gate is None else gate
        self._lanes: dict[str, _Lane] = {}
        self._epochs: dict[str, int] = {}
        self._gone: set[str] = set()  # removed cameras whose last frame was taken
        self._leaving: set[str] = set()  # those of them that stages are told of next
        self._now = 0.0  # virtual time: where the frame started that was served last
        self._closed = False
        self._told: set[type[Exception]] = set()  # kinds of bugs whose traceback was logged

    def add(self, camera: str, intake: Intake) -> None:
        """Serve a camera, in place of the one that had its name."""
        with self._changed:
            self._lanes[camera] = _Lane(intake)
            self._changed.notify_all()

    def remove(self, camera: str) -> None:
        """Serve a camera no longer, and let every stage forget it; its intake is the caller's to close."""
        with self._changed:
            if self._lanes.pop(camera, None) is not None:
                self._gone.add(camera)
            self._changed.notify_all()

    def close(self) -> None:
        """Say that no camera will come: the end is there once every intake has finished."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            try:
                taken = self.take()
            except Closed:
                return
            for part in self._parts(taken):
                self._gate.enter(len(part.frames))
                with self._gate.working(0):
                    batch = self._batch(part)
                yield batch

    def take(self) -> list[Grabbed]:
        """Wait until frames are there and it is time; return them, at most *size*. Raise Closed at the end."""
        with self._changed:
            while (delay := self._delay()) != 0:
                self._changed.wait(delay)
            self._leaving |= self._gone  # now, before another goes of which a frame is taken here
            self._gone.clear()
            taken, dropped = self._choose()
            waiting = {camera: len(lane.intake) for camera, lane in self._lanes.items()}
        for intake, counts in dropped:
            intake.report(counts)
        if taken:
            self._observer(BatchTaken(len(taken), waiting))
        return taken

    def _delay(self) -> float | None:
        """Return the seconds to wait, None: for a change. Raise Closed."""
        waiting = sum(len(lane.intake) for lane in self._lanes.values())
        if self._gone:
            return 0.0
        if not waiting:
            if self._closed and all(lane.intake.finished for lane in self._lanes.values()):
                raise Closed
            return None
        size = min(waiting, self.size)
        delay = self._gate.delay(size)
        return self._lingering(size) if delay == 0 else delay

    def _lingering(self, size: int) -> float:
        if size == self.size or not self.linger or not len(self._gate):
            return 0.0
        oldest = min(ns for lane in self._lanes.values() if (ns := lane.intake.oldest_ns) is not None)
        return max(0.0, self.linger - (self._clock.monotonic_ns() - oldest) / 1e9)

    def _choose(self) -> tuple[list[Grabbed], list[tuple[Intake, Mapping[str, int]]]]:
        taken: list[Grabbed] = []
        dropped = []
        lowest = min((lane.intake.priority for lane in self._lanes.values()), default=1.0)
        while len(taken) < self.size and (lane := self._next()):
            self._now = max(self._now, lane.finish)
            lane.pay(self._now)
            frame, counts = lane.intake.take(round(lane.intake.priority / lowest))
            taken += [] if frame is None else [frame]
            dropped.append((lane.intake, counts))
        return taken, dropped

    def _next(self) -> _Lane | None:
        ready = [lane for lane in self._lanes.values() if len(lane.intake)]
        return min(ready, key=lambda lane: max(lane.finish, self._now), default=None)

    def _parts(self, taken: list[Grabbed]) -> Iterator[_Part]:
        """Cut where a stream breaks, so that stages forget exactly between the right two frames."""
        part, self._leaving = _Part(breaks=self._leaving), set()
        for camera in part.breaks:
            self._epochs.pop(camera, None)
        for grabbed in taken:
            if grabbed.epoch != self._epochs.get(grabbed.camera, 0):
                self._epochs[grabbed.camera] = grabbed.epoch
                if part.frames:
                    yield part
                    part = _Part()
                part.breaks.add(grabbed.camera)
            part.frames.append(grabbed)
        if part.frames or part.breaks:
            yield part

    def _batch(self, part: _Part) -> Batch:
        now = self._clock.monotonic_ns()
        packets = [packet for grabbed in part.frames if (packet := self._convert(grabbed, now))]
        return Batch(tuple(packets), frozenset(part.breaks))

    def _convert(self, grabbed: Grabbed, taken_ns: int) -> Packet | None:
        try:
            packet = Packet(grabbed.frame())
        except Exception as error:  # noqa: BLE001 - one camera's border: its bad picture must not end the others
            self._complain(grabbed, error)
            self._observer(FrameDropped(grabbed.camera, "corrupt"))
            return None
        return packet.mark("queue", taken_ns).mark("convert", self._clock.monotonic_ns())

    def _complain(self, grabbed: Grabbed, error: Exception) -> None:
        """Tell of a bad picture; of what is no fault of the picture, the traceback of each kind once."""
        camera, of_camera = grabbed.camera, {"camera": grabbed.camera}
        if isinstance(error, SourceError):
            log.debug("%s: frame %d: %s", camera, grabbed.seq, error, extra=of_camera)
        elif type(error) not in self._told:
            self._told.add(type(error))
            said = "%s: internal error: a frame cannot be converted: %r; please report it"
            log.error(said, camera, error, exc_info=error, extra=of_camera)
