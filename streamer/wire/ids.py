"""Names in Redis: the id of an entry, and the keys under a prefix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PREFIX = "streamer:"


class EntryId(NamedTuple):
    """The id of a stream entry; ids compare as Redis compares them."""

    ms: int
    seq: int

    def __str__(self) -> str:
        return f"{self.ms}-{self.seq}"

    @classmethod
    def parse(cls, text: str | bytes) -> EntryId:
        ms, _, seq = (text.decode() if isinstance(text, bytes) else text).partition("-")
        return cls(int(ms), int(seq))

    def next(self) -> EntryId:
        """Return the smallest id that is greater."""
        return EntryId(self.ms, self.seq + 1)


def entry_id(captured_at: float, seq: int) -> EntryId:
    """Return the id of a result: the same from a packet's own time and from the rounded one in its message.

    Redis refuses 0-0, so no id is below 1 ms.
    """
    return EntryId(max(1, round(round(captured_at, 3) * 1000)), seq)


@dataclass(frozen=True, slots=True)
class Keys:
    """What is called what in Redis."""

    prefix: str = PREFIX

    def results(self, camera: str) -> str:
        return f"{self.prefix}results:{camera}"

    def live(self, camera: str) -> str:
        return f"{self.prefix}live:{camera}"

    def latest(self, camera: str) -> str:
        return f"{self.prefix}latest:{camera}"

    def events(self, camera: str) -> str:
        return f"{self.prefix}events:{camera}"

    def flow(self, camera: str, node: str) -> str:
        return f"{self.prefix}flow:{camera}:{node}"

    @property
    def cameras(self) -> str:
        return f"{self.prefix}cameras"

    @property
    def metrics(self) -> str:
        return f"{self.prefix}metrics"

    @property
    def control(self) -> str:
        return f"{self.prefix}control"

    def answer(self, request: str) -> str:
        return f"{self.prefix}control:{request}"
