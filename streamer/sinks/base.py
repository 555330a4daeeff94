"""The interface of everything that results go to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from streamer.types import Packet


class Sink(Protocol):
    """Where results go. Called from one thread.

    `publish` returns once the packets are handed over, and raises SinkError when they cannot be: all or none of them.
    `close` delivers what was handed over and is still on its way.
    """

    @property
    def name(self) -> str: ...  # for people and metrics: "redis", "jsonl"

    def publish(self, packets: Sequence[Packet]) -> None: ...
    def close(self) -> None: ...


@runtime_checkable
class Remembering(Protocol):
    """A sink that keeps something of a camera from packet to packet, such as where tracks have been."""

    def forget(self, camera: str) -> None: ...  # the stream broke: drop it
