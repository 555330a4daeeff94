"""Hand finished packets to every sink; one that fails does not hold up the others."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from streamer.backoff import Backoff
from streamer.batcher import Batch
from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.errors import SinkError
from streamer.events import Observer, PacketPublished, ResultsDropped, SinkState
from streamer.sinks.base import Sink
from streamer.types import Packet

log = logging.getLogger(__name__)


class Outlet:
    """One sink of a live pipeline: while it fails, results for it are given up and counted, and it is tried anew."""

    def __init__(self, sink: Sink, observer: Observer, clock: Clock, backoff: Backoff) -> None:
        self._sink, self._observer, self._clock, self._backoff = sink, observer, clock, backoff
        self._delays: Iterator[float] | None = None  # set while the sink fails
        self._retry_ns = 0

    def publish(self, packets: Sequence[Packet]) -> None:
        if self._delays is not None and self._clock.monotonic_ns() < self._retry_ns:
            return self._give_up(packets)
        try:
            self._sink.publish(packets)
        except SinkError as error:
            return self._failed(packets, error)
        if self._delays is not None:
            self._delays = None
            log.info("%s: works again", self._sink.name)
            self._observer(SinkState(self._sink.name, None))
        return None

    def _failed(self, packets: Sequence[Packet], error: SinkError) -> None:
        if self._delays is None:
            self._delays = self._backoff.delays()
            log.warning("%s: %s; trying again", self._sink.name, error)
            self._observer(SinkState(self._sink.name, str(error)))
        self._retry_ns = self._clock.monotonic_ns() + int(next(self._delays) * 1e9)
        self._give_up(packets)

    def _give_up(self, packets: Sequence[Packet]) -> None:
        for camera, count in Counter(p.frame.camera for p in packets).items():
            self._observer(ResultsDropped(self._sink.name, count, camera))


class Publisher:
    """The last thread of a pipeline."""

    def __init__(self, sinks: Sequence[Sink], observer: Observer, clock: Clock = SYSTEM_CLOCK, *, live: bool) -> None:
        """When *live*, a failing sink is tried again for ever; otherwise its first error ends the run."""
        self._observer, self._clock = observer, clock
        outlets = [Outlet(sink, observer, clock, Backoff()) for sink in sinks]
        self._publish = [target.publish for target in (outlets if live else sinks)]

    def run(self, batches: Iterable[Batch]) -> None:
        """Publish every batch in order."""
        for batch in batches:
            now = self._clock.monotonic_ns()
            packets = [packet.mark("publish", now) for packet in batch.packets]
            for publish in self._publish:
                publish(packets)
            for packet in packets:
                self._observer(PacketPublished(packet))
