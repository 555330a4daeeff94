"""How much of a recording was lost: what its container promises against what came out of the decoder."""

from __future__ import annotations

import re
from dataclasses import dataclass

import av

_TOLERANCE = 1.0  # seconds by which a header may overstate a healthy recording
_HEADER_KNOWS_THE_END = frozenset({"matroska,webm", "flv"})  # others hold an index, or measure the end itself
_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")


@dataclass(slots=True)
class Tally:
    """Counts of one reading from beginning to end."""

    packets: int = 0
    discarded: int = 0  # decoded for others' sake and never shown: before the start of an edit list
    damaged: int = 0  # packets that are incomplete
    undecodable: int = 0  # packets that the decoder refused
    unreadable: int = 0  # reads that failed
    frames: int = 0
    mended: int = 0  # of them: parts were damaged, and the decoder has put in what was there before
    end: float = 0.0  # the container's time at the end of the last frame, seconds

    def count(self, packet: av.Packet[av.VideoStream]) -> None:
        if packet.size or packet.pts is not None or packet.dts is not None:  # else it only flushes the decoder
            self.packets += 1
            self.discarded += packet.is_discard
            self.damaged += packet.is_corrupt

    def lost(self, container: av.container.InputContainer, stream: av.VideoStream, step: float) -> int:
        """Return how many frames are missing; 0 wherever a healthy file could look the same.

        The index alone is trusted to say that packets are missing: it is what the demuxer itself goes by, edit lists
        applied. The header's frame count, which knows no edit lists, only says how many, once damage is certain.
        """
        index = len(stream.index_entries)
        short = self._seconds_short(container, stream)
        unread = max(0, index - self.packets)
        damage = self.undecodable + self.unreadable
        if not (damage or self.damaged or unread or short):
            return 0
        undelivered = max(index, stream.frames) - self.discarded - self.frames
        return max(damage, unread, undelivered, round(short / step))

    def _seconds_short(self, container: av.container.InputContainer, stream: av.VideoStream) -> float:
        promised = _end_by_header(container, stream)
        return promised - self.end if promised - self.end > _TOLERANCE else 0.0


def _end_by_header(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Return the second at which the header says that the video ends, 0 where it does not say so."""
    if container.format.name not in _HEADER_KNOWS_THE_END:
        return 0.0
    if clock := _CLOCK.match(stream.metadata.get("DURATION", "")):
        return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3])
    alone = len(container.streams) == 1  # else the end is the longest stream's, perhaps the sound's
    return (container.duration or 0) / av.time_base if alone else 0.0
