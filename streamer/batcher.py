"""Make batches of frames across cameras, fairly, and turn pixels into RGB on the way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from engines.types import Image
from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.errors import SourceError
from streamer.events import FrameDropped, Observer
from streamer.mailbox import Closed, Mailbox
from streamer.types import Frame, Packet

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Grabbed:
    """A frame whose pixels nobody has asked for yet."""

    camera: str
    seq: int
    pts: float
    captured_at: float
    grabbed_ns: int
    to_rgb: Callable[[], Image]
    epoch: int = 0  # counts the breaks of this stream, so that a drop cannot hide one

    def frame(self) -> Frame:
        return Frame(self.camera, self.seq, self.pts, self.captured_at, self.grabbed_ns, self.to_rgb())


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Packets that go through the graph together, and the cameras whose streams broke just before them."""

    packets: tuple[Packet, ...]
    breaks: frozenset[str] = frozenset()


class Batcher:
    """Take frames from every camera's mailbox in turn: at once what is there, never waiting for a full batch.

    Under load the mailboxes fill while a batch is worked on, so batches grow by themselves; alone, a frame goes.
    """

    def __init__(
        self,
        mailboxes: Mapping[str, Mailbox[Grabbed]],
        changed: threading.Condition,
        size: int,
        observer: Observer,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """*changed* is the condition that all *mailboxes* share; *size* the most frames in one batch."""
        self._mailboxes, self._changed, self._size = mailboxes, changed, size
        self._observer, self._clock = observer, clock
        self._order = list(mailboxes)
        self._epochs = dict.fromkeys(mailboxes, 0)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            try:
                taken = self.take()
            except Closed:
                return
            yield from self._batches(taken)

    def take(self) -> list[Grabbed]:
        """Wait until any camera has a frame; take round after round, one frame a camera. Raise Closed at the end."""
        with self._changed:
            self._changed.wait_for(lambda: any(map(len, self._mailboxes.values())) or self._finished())
            if self._finished():
                raise Closed
            taken: list[Grabbed] = []
            while len(taken) < self._size and (round_ := self._round(self._size - len(taken))):
                taken += round_
        return taken

    def _round(self, limit: int) -> list[Grabbed]:
        """At most one frame of each camera; whoever was served goes to the back of the line."""
        served: list[str] = []
        frames: list[Grabbed] = []
        for camera in self._order:
            if len(frames) == limit:
                break
            if got := self._mailboxes[camera].poll(1):
                served.append(camera)
                frames += got
        self._order = [c for c in self._order if c not in served] + served
        return frames

    def _finished(self) -> bool:
        return all(box.finished for box in self._mailboxes.values())

    def _batches(self, taken: list[Grabbed]) -> Iterator[Batch]:
        """Convert, and cut where a stream breaks, so that stages forget exactly between the right two frames."""
        now = self._clock.monotonic_ns()
        packets: list[Packet] = []
        breaks: set[str] = set()
        for grabbed in taken:
            if grabbed.epoch != self._epochs[grabbed.camera]:
                self._epochs[grabbed.camera] = grabbed.epoch
                if packets:
                    yield Batch(tuple(packets), frozenset(breaks))
                    packets, breaks = [], set()
                breaks.add(grabbed.camera)
            packets += self._convert(grabbed, now)
        if packets or breaks:
            yield Batch(tuple(packets), frozenset(breaks))

    def _convert(self, grabbed: Grabbed, taken_ns: int) -> list[Packet]:
        try:
            packet = Packet(grabbed.frame())
        except SourceError as error:  # one bad picture; the source itself goes on
            log.debug("%s: frame %d: %s", grabbed.camera, grabbed.seq, error)
            self._observer(FrameDropped(grabbed.camera, "corrupt"))
            return []
        return [packet.mark("queue", taken_ns).mark("convert", self._clock.monotonic_ns())]
