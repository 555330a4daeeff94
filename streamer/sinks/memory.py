"""A sink that keeps what it gets: for tests, and for programs that want packets in a list."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.types import Packet


class MemorySink:
    """Keep every packet. Unbounded: pixels too, so only for short runs."""

    name = "memory"

    def __init__(self) -> None:
        self.packets: list[Packet] = []

    def publish(self, packets: Sequence[Packet]) -> None:
        self.packets += packets

    def close(self) -> None:
        """Nothing to release."""
