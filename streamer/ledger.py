"""Every frame that was grabbed is published or dropped, and counted once: whatever breaks on its way."""

from __future__ import annotations

import threading
from collections import Counter

from streamer.events import Event, FrameDropped, FrameGrabbed, Observer, PacketPublished


class Ledger:
    """An observer that passes everything on, and at the end accounts for the frames nobody has spoken of."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._inside: Counter[str] = Counter()  # frames of each camera that are somewhere in the pipeline
        self._over = False
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        if self._over:
            return  # from a thread that was left behind: its frames are accounted for
        match event:
            case FrameGrabbed(camera):
                self._book(camera, 1)
            case PacketPublished(packet):
                self._book(packet.frame.camera, -1)
            case FrameDropped(camera, _, count):
                self._book(camera, -count)
        self._observer(event)

    def settle(self) -> None:
        """Report what is still inside as dropped: the pipeline has ended, and with it those frames."""
        with self._lock:
            left, self._over = +self._inside, True
        for camera, count in left.items():
            self._observer(FrameDropped(camera, "stopped", count))

    def _book(self, camera: str, count: int) -> None:
        with self._lock:
            self._inside[camera] += count
