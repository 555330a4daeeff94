"""Every frame that was grabbed is published or dropped, and counted once: whatever breaks on its way."""

from __future__ import annotations

import logging
import threading
from collections import Counter

from streamer.events import Event, FrameDropped, FrameGrabbed, Observer, PacketPublished
from streamer.types import Frame, Packet

log = logging.getLogger(__name__)


class Ledger:
    """An observer that passes everything on, and at the end accounts for the frames nobody has spoken of.

    An observer that raises is logged, once, and goes on being told: it must not stop what it only watches.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._inside: Counter[str] = Counter()  # frames of each camera that are somewhere in the pipeline
        self._over = self._complained = False
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self._over:
                return  # from a thread that was left behind: its frames are accounted for
            self._book(event)
        self._tell(event)

    def settle(self) -> None:
        """Report what is still inside as dropped: the pipeline has ended, and with it those frames."""
        with self._lock:
            left, self._inside, self._over = +self._inside, Counter(), True
        for camera, count in left.items():
            self._tell(FrameDropped(camera, "stopped", count))

    def _tell(self, event: Event) -> None:
        try:
            self._observer(event)
        except Exception:  # the observer's own fault, and not the pipeline's to die of
            if not self._complained:
                self._complained = True
                log.exception(
                    "an observer failed at %s, and may go on failing: figures may be wrong", type(event).__name__
                )

    def _book(self, event: Event) -> None:
        match event:
            case FrameGrabbed(camera):
                change = 1
            case PacketPublished(Packet(Frame(camera))):
                change = -1
            case FrameDropped(camera, _, count):
                change = -count
            case _:
                return
        self._inside[camera] += change
        if not self._inside[camera]:
            del self._inside[camera]  # cameras come and go
