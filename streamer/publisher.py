"""Hand finished packets to every sink; one that fails does not hold up the others."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence

from streamer.backoff import Backoff
from streamer.batcher import Batch
from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.errors import SinkError
from streamer.events import Observer, PacketPublished, ResultsDropped, SinkState
from streamer.sinks.base import Remembering, Sink
from streamer.types import Packet
from streamer.wire.base import WireError

log = logging.getLogger(__name__)


class Outlet:
    """One sink of a live pipeline: while it fails, results for it are given up and counted, and it is tried anew.

    So is one that raises what is no SinkError: somebody's bug in one sink must not take the others along.
    """

    def __init__(self, sink: Sink, observer: Observer, clock: Clock, backoff: Backoff) -> None:
        self._sink, self._observer, self._clock, self._backoff = sink, observer, clock, backoff
        self._name: str = getattr(sink, "name", type(sink).__name__)
        self._delays: Iterator[float] | None = None  # set while the sink fails
        self._retry_ns = 0
        self._unwritable: set[str] = set()  # cameras of which a result had no form on the wire

    def publish(self, packets: Sequence[Packet]) -> None:
        if self._delays is not None and self._clock.monotonic_ns() < self._retry_ns:
            return self._give_up(packets)
        try:
            self._sink.publish(packets)
        except WireError as error:
            return self._part(packets, error)
        except SinkError as error:
            return self._failed(packets, str(error))
        except Exception as error:  # noqa: BLE001 - told with its traceback, and the others go on
            return self._failed(packets, f"broke off ({error!r}); please report this to who wrote it", error)
        self._works()
        return None

    def forget(self, camera: str) -> None:
        if isinstance(self._sink, Remembering):
            try:
                self._sink.forget(camera)
            except Exception as error:  # noqa: BLE001 - as above
                self._failed((), f"broke off ({error!r}); please report this to who wrote it", error)

    def _part(self, packets: Sequence[Packet], error: WireError) -> None:
        """Keep what cannot be written, such as a NaN, from taking along what was published with it."""
        if len(packets) > 1:
            for packet in packets:
                self.publish([packet])
            return
        camera = packets[0].frame.camera
        if camera not in self._unwritable:
            self._unwritable.add(camera)
            log.warning("%s: %s: %s; such results are left out", self._name, camera, error, extra={"camera": camera})
        self._give_up(packets)

    def _works(self) -> None:
        if self._delays is not None:
            self._delays = None
            log.info("%s: works again", self._name)
            self._observer(SinkState(self._name, None))

    def _failed(self, packets: Sequence[Packet], error: str, bug: Exception | None = None) -> None:
        if self._delays is None:
            self._delays = self._backoff.delays()
            log.warning("%s: %s; trying again", self._name, error, exc_info=bug)
            self._observer(SinkState(self._name, error))
        self._retry_ns = self._clock.monotonic_ns() + int(next(self._delays) * 1e9)
        self._give_up(packets)

    def _give_up(self, packets: Sequence[Packet]) -> None:
        for camera, count in Counter(p.frame.camera for p in packets).items():
            self._observer(ResultsDropped(self._name, count, camera))


class Publisher:
    """The last thread of a pipeline."""

    def __init__(self, sinks: Sequence[Sink], observer: Observer, clock: Clock = SYSTEM_CLOCK, *, live: bool) -> None:
        """When *live*, a failing sink is tried again for ever; otherwise its first error ends the run."""
        self._observer, self._clock = observer, clock
        outlets: Sequence[Sink | Outlet] = [Outlet(s, observer, clock, Backoff()) for s in sinks] if live else sinks
        self._publish = [target.publish for target in outlets]
        self._forget = [target.forget for target in outlets if isinstance(target, Remembering)]

    def publish(self, batch: Batch) -> None:
        """Hand one batch to every sink, and tell those that remember which streams broke before it."""
        for camera in batch.breaks:
            for forget in self._forget:
                forget(camera)
        now = self._clock.monotonic_ns()
        packets = [packet.mark("publish", now) for packet in batch.packets]
        for publish in self._publish:
            publish(packets)
        for packet in packets:
            self._observer(PacketPublished(packet))
