"""One thread a camera: open the source, number its frames, and open it again when it breaks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from streamer.backoff import Backoff
from streamer.batcher import Grabbed
from streamer.clock import Clock
from streamer.errors import SourceError
from streamer.events import CameraState, CameraStatus, FrameDropped, FrameGrabbed, Observer
from streamer.mailbox import Closed, Mailbox
from streamer.sources.base import Source
from streamer.types import RawFrame

log = logging.getLogger(__name__)


class Timeline:
    """Number frames, and keep their times from running backwards, also when the source starts again."""

    def __init__(self, clock: Clock, first_seq: int = 0) -> None:
        self._clock, self._seq = clock, first_seq
        self._epoch, self._offset = 0, 0.0
        self._pts = self._captured_at = float("-inf")
        self._grabbed_ns = 0

    def interrupt(self) -> None:
        """Say that the next frame does not follow from the last one."""
        if self._grabbed_ns:
            self._epoch += 1

    def place(self, camera: str, raw: RawFrame) -> Grabbed:
        now = self._clock.monotonic_ns()
        if raw.breaks:
            self.interrupt()
        if raw.pts + self._offset <= self._pts:  # the stream's clock jumped back: go on where media time stood
            self._offset = self._pts + max((now - self._grabbed_ns) / 1e9, 1e-3) - raw.pts
        self._pts = raw.pts + self._offset
        self._captured_at = max(self._captured_at, self._clock.time() if raw.captured_at is None else raw.captured_at)
        self._grabbed_ns = now
        self._seq += 1
        return Grabbed(camera, self._seq - 1, self._pts, self._captured_at, now, raw.to_rgb, self._epoch)


@dataclass(slots=True)
class Grabber:
    """Feed one camera's mailbox until its stream ends (a file) or for ever (a live camera)."""

    source: Source
    mailbox: Mailbox[Grabbed]
    stop: threading.Event
    timeline: Timeline
    backoff: Backoff
    observer: Observer

    def run(self) -> None:
        """Grab until the end or *stop*, then close the mailbox.

        Raises SourceError when a recorded source fails. A live one is tried again for as long as it takes.
        """
        try:
            if self.source.live:
                self._forever()
            else:
                self._once()
        finally:
            self.mailbox.close()

    def _once(self) -> None:
        self._say("connecting")
        try:
            for _ in self._grab():
                pass
        except SourceError as error:
            self._say("failed", str(error))
            raise
        self._say("ended")

    def _forever(self) -> None:
        delays = self.backoff.delays()
        while not self.stop.is_set():
            self._say("connecting")
            error = "the stream ended"
            try:
                for _ in self._grab():
                    delays = self.backoff.delays()  # it works: the next failure is a first one again
            except SourceError as failure:
                error = str(failure)
            self.timeline.interrupt()
            if not self.stop.is_set():
                self._retry_after(next(delays), error)
        self._say("ended")

    def _retry_after(self, delay: float, error: str) -> None:
        log.warning("%s: %s; trying again in %.1f s", self.source.camera, error, delay)
        self._say("retrying", error)
        self.stop.wait(delay)

    def _grab(self) -> Iterator[None]:
        """Move frames from a fresh decoder to the mailbox; yield once, when the first one has come."""
        with self.source.open() as frames:
            for count, raw in enumerate(frames):
                if self.stop.is_set():
                    return
                if count == 0:
                    self._say("running")
                    yield
                self._deliver(raw)

    def _deliver(self, raw: RawFrame) -> None:
        grabbed = self.timeline.place(self.source.camera, raw)
        self.observer(FrameGrabbed(self.source.camera))
        try:
            self.mailbox.put(grabbed)
        except Closed:  # the pipeline is ending: this frame was in our hands
            self.observer(FrameDropped(self.source.camera, "stopped"))
            self.stop.set()

    def _say(self, state: CameraStatus, error: str | None = None) -> None:
        self.observer(CameraState(self.source.camera, state, error))
