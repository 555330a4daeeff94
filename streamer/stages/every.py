"""A node that looks at some frames only."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from streamer.stages.around import Around
from streamer.stages.base import Overlapping, Stage
from streamer.types import Packet

Due = Sequence[bool]  # of each packet: whether it is looked at


def every(nth: int, stage: Stage) -> Stage:
    """Let a stage look at each *nth* frame of a camera, from its first on, or at fewer while it is stretched."""
    return OverlappingEvery(nth, stage) if isinstance(stage, Overlapping) else Every(nth, stage)


class Every(Around):
    """Give the stage within each *nth* packet of a camera; pass the others on without its value.

    What counts are the frames that get here, not those that were dropped before. After a break in the stream the next
    one is looked at. *stretch* times as many frames are passed over while a latency target could not be held else.
    """

    stretch: int = 1

    def __init__(self, nth: int, stage: Stage) -> None:
        super().__init__(stage)
        self._nth = nth
        self._seen: dict[str, int] = {}  # frames since the last one that was looked at, that one included

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        due = self._count(packets)
        return _merged(packets, due, self._stage.process(_chosen(packets, due))) if any(due) else packets

    def forget(self, camera: str) -> None:
        """Look at the camera's next frame."""
        self._seen.pop(camera, None)
        super().forget(camera)

    def _count(self, packets: Sequence[Packet]) -> Due:
        due = []
        for packet in packets:
            seen = self._seen.get(packet.frame.camera, 0)
            self._seen[packet.frame.camera] = (seen + 1) % (self._nth * self.stretch)
            due.append(seen == 0)
        return due


class OverlappingEvery(Every):
    """The same around a stage that can begin with packets while those before are still being worked on."""

    def __init__(self, nth: int, stage: Overlapping) -> None:
        super().__init__(nth, stage)
        self._overlapping = stage

    def begin(self, packets: Sequence[Packet]) -> Callable[[], Sequence[Packet]]:
        """Begin with those packets that are looked at; where there is none, with nothing."""
        due = self._count(packets)
        if not any(due):
            return lambda: packets
        finish = self._overlapping.begin(_chosen(packets, due))
        return lambda: _merged(packets, due, finish())


def _chosen(packets: Sequence[Packet], due: Due) -> Sequence[Packet]:
    return [packet for packet, looked_at in zip(packets, due, strict=True) if looked_at]


def _merged(packets: Sequence[Packet], due: Due, done: Sequence[Packet]) -> Sequence[Packet]:
    """Put what is *done* back to where it was taken from."""
    rest = iter(done)
    return [next(rest) if looked_at else packet for packet, looked_at in zip(packets, due, strict=True)]
