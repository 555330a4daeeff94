"""One thread a camera: open the source, number its frames, and open it again when it breaks."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from streamer.backoff import Backoff, Retries
from streamer.clock import Clock
from streamer.errors import SourceError, SourceUnusable
from streamer.events import CameraState, CameraStatus, FrameDropped, FrameGrabbed, Observer
from streamer.intake import Grabbed
from streamer.mailbox import Closed
from streamer.sources.base import Source
from streamer.types import RawFrame
from streamer.urls import redact

log = logging.getLogger(__name__)

_APART = 0.001  # seconds between two frames whose clock says that no time has passed
_SOON = "%s: %s; trying again in %.1f s"
_RARELY = "%s: %s; trying again only every %.0f s from now on, for cameras lock out who insists"


class Timeline:
    """Number frames, and keep their times from running backwards, also when the source starts again. Thread-safe.

    Of two threads one may be a grabber that was replaced and is still on its way out of a read.
    """

    def __init__(self, clock: Clock, first_seq: int = 0) -> None:
        self.clock = clock
        self._seq, self._epoch, self._offset = first_seq, 0, 0.0
        self._pts = self._captured_at = float("-inf")
        self._grabbed_ns = 0
        self._lock = threading.Lock()

    def interrupt(self) -> None:
        """Say that the next frame does not follow from the last one."""
        with self._lock:
            self._break()

    def place(self, camera: str, raw: RawFrame) -> Grabbed:
        """Return the frame with its number and times. Raises ValueError where its own time is no number."""
        if not math.isfinite(raw.pts):
            raise ValueError(f"a frame has pts {raw.pts}, where seconds belong")
        with self._lock:
            if raw.breaks:
                self._break()
            self._pts = self._forward(raw.pts)
            self._captured_at = max(
                self._captured_at + _APART, self.clock.time() if raw.captured_at is None else raw.captured_at
            )
            self._grabbed_ns = self.clock.monotonic_ns()
            self._seq += 1
            return Grabbed(
                camera, self._seq - 1, self._pts, self._captured_at, self._grabbed_ns, raw.to_rgb, self._epoch
            )

    def _break(self) -> None:
        if self._grabbed_ns:
            self._epoch += 1

    def _forward(self, pts: float) -> float:
        """Return media time; where the stream's clock has jumped back, it goes on where it stood."""
        if pts + self._offset > self._pts:
            return pts + self._offset
        waited = (self.clock.monotonic_ns() - self._grabbed_ns) / 1e9
        following = self._pts + max(waited, 1e-3)
        self._offset = following - pts
        return following


class Receiver(Protocol):
    """What frames are put into: a camera's intake."""

    def put(self, frame: Grabbed, /) -> None: ...  # raises Closed when nobody will take it
    def close(self) -> None: ...


@dataclass(slots=True)
class Grabber:
    """Feed one camera's mailbox until its stream ends (a file) or for ever (a live camera).

    *stop* is noticed at the next frame; while none comes, as soon as the source gives up waiting for it.
    """

    source: Source
    mailbox: Receiver
    stop: threading.Event
    timeline: Timeline
    backoff: Backoff
    observer: Observer
    _failed: bool = field(default=False, init=False)  # since it last worked
    _told: set[type[Exception]] = field(default_factory=set, init=False)

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
        except Exception as error:
            fault = self._internal(error)
            self._say("failed", str(fault))
            raise fault from error
        self._say("ended")

    def _forever(self) -> None:
        retries = Retries(self.backoff)
        while not self.stop.is_set():
            self._say("connecting")
            began_ns = self.timeline.clock.monotonic_ns()
            failure = self._until_it_fails(retries)
            if not self.stop.is_set():  # else the timeline may be another's by now
                self.timeline.interrupt()
                self._pause(failure, retries, (self.timeline.clock.monotonic_ns() - began_ns) / 1e9)
        self._say("ended")

    def _until_it_fails(self, retries: Retries) -> SourceError:
        try:
            for _ in self._grab():
                retries.worked()
        except SourceError as failure:
            return failure
        except Exception as error:  # noqa: BLE001 - one camera's border: a bug in its source must not end the others
            return self._internal(error)
        return SourceError("the stream ended")

    def _pause(self, failure: SourceError, retries: Retries, spent: float) -> None:
        """Wait before the next try, of which the last one took *spent* seconds."""
        refused = isinstance(failure, SourceUnusable)
        known = refused and retries.rare
        delay = retries.refused() if refused else retries.failed(spent)
        if not known:
            self._warn(_RARELY if refused and retries.rare else _SOON, failure, delay)
        self._failed = True
        self._say("retrying", str(failure))
        self.stop.wait(delay)

    def _internal(self, error: Exception) -> SourceError:
        """Make of a fault of the program's own one of this camera alone; tell the traceback of each kind once."""
        fault = SourceError(redact(f"internal error: {type(error).__name__}: {error}".partition("\n")[0]))
        if type(error) not in self._told:
            self._told.add(type(error))
            camera = self.source.camera
            log.error("%s: %s; please report it", camera, fault, exc_info=error, extra={"camera": camera})
        return fault

    def _warn(self, template: str, failure: SourceError, delay: float) -> None:
        camera = self.source.camera
        log.warning(template, camera, failure, delay, extra={"camera": camera})

    def _grab(self) -> Iterator[None]:
        """Move frames from a fresh decoder to the mailbox; yield once, when the first one has come."""
        with self.source.open() as frames:
            for count, raw in enumerate(frames):
                if self.stop.is_set():
                    return
                if count == 0:
                    self._begun()
                    yield
                self._deliver(raw)

    def _begun(self) -> None:
        self._say("running")
        if self._failed:
            log.info("%s: works again", self.source.camera, extra={"camera": self.source.camera})
        self._failed = False

    def _deliver(self, raw: RawFrame) -> None:
        grabbed = self.timeline.place(self.source.camera, raw)
        self.observer(FrameGrabbed(self.source.camera))
        try:
            self.mailbox.put(grabbed)
        except Closed as closed:  # this frame was in our hands
            self.observer(FrameDropped(self.source.camera, closed.reason))
            self.stop.set()

    def _say(self, state: CameraStatus, error: str | None = None) -> None:
        self.observer(CameraState(self.source.camera, state, error))
