"""Results into Redis: a stream to read back, a channel to watch and the latest value of each camera.

Events go to a stream of their own, and whole flow fields each to a key that holds the newest.

`publish` hands over to a bounded buffer; one thread writes it out in pipelined batches and owns the connection. An
entry's id comes from its result, so Redis refuses what it has already: writing again after a cut is harmless.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from streamer.backoff import Backoff
from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.errors import SinkError, SinkUnusable
from streamer.events import Observer, ResultsDropped, ResultsWritten, SinkState, Written, ignore
from streamer.sinks.outbox import BATCH_BYTES, Capacity, Outbox, Result, WhenFull
from streamer.sinks.redis_writer import Writer
from streamer.sinks.stored import Stored, read_stored
from streamer.types import Packet
from streamer.wire.encode import Beside
from streamer.wire.ids import PREFIX, EntryId, Keys, entry_id
from streamer.wire.link import Link, LinkError, Refused, Timeouts

log = logging.getLogger(__name__)

_BATCH = 256  # results in one pipeline
_BACKOFF = Backoff(0.2, 5.0)
_LEFT: dict[WhenFull, str] = {
    "drop-oldest": "%s: the end came before %d results and events were written, so they are given up",
    "wait": "%s: the end came before %d results and events were written; what is in a JSON Lines file as well, "
    "`streamer process … --resume` brings there",
}
_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """How results are kept. The defaults suit live cameras."""

    prefix: str = PREFIX
    maxlen: int = 10_000  # results kept a camera, and as many events, about
    latest_ttl: float = 60.0  # seconds; of whole fields too
    capacity: int = 10_000  # results and events that wait, besides the batch being written
    capacity_bytes: int = 64 << 20  # of them and of whole fields; the first bound that is reached counts
    when_full: WhenFull = "drop-oldest"
    close_deadline: float | None = 0.5  # seconds that `close` may take; None: as long as it takes
    backoff: Backoff = _BACKOFF
    timeouts: Timeouts = _TIMEOUTS

    @classmethod
    def lossless(cls, **options: Any) -> RedisOptions:
        """Return options that suit recordings: wait as long as it takes, and lose nothing."""
        return cls(**{"when_full": "wait", "close_deadline": None, **options})


def nothing(packet: Packet) -> Beside:  # noqa: ARG001 - one answer for all
    """Put nothing beside a message."""
    return Beside()


class RedisSink:
    """Write results to the Redis at *url*, again and again until they arrive, and tell when they have (ResultsWritten).

    While it cannot write it says why (SinkState) and holds what `capacity` and `capacity_bytes` allow. Then the oldest
    go (ResultsDropped), or `publish` waits; one that waits raises SinkUnusable where only a person can mend it.
    """

    name = "redis"

    def __init__(
        self,
        url: str,
        encode: Callable[[Packet], bytes],
        options: RedisOptions = RedisOptions(),
        observer: Observer = ignore,
        beside: Callable[[Packet], Beside] = nothing,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Connect to nothing yet. Raise SinkUnusable when *url* is none of Redis."""
        self._url, self._encode, self._options, self._observer = url, encode, options, observer
        self._beside, self._clock, self._keys = beside, clock, Keys(options.prefix)
        self._outbox = Outbox(Capacity(options.capacity, options.capacity_bytes), options.when_full)
        self._link = self._open()
        self._writer = Writer(self._link, self._keys, options.maxlen, options.latest_ttl)
        self._thread: threading.Thread | None = None
        self._trouble: type[LinkError] | None = None  # the last one that was told of

    @property
    def held(self) -> int:
        """The bytes that wait here, or are being written."""
        return self._outbox.size

    def check(self) -> None:
        """Connect and authenticate. Raise SinkError when nothing answers, SinkUnusable when the server refuses."""
        with self._asking() as link:
            link.connect()

    def stored(self, camera: str, since: EntryId) -> Stored:
        """Read which results of *camera*, from the id *since* on, are in Redis already. Raises like `check`."""
        with self._asking() as link:
            return read_stored(link, self._keys.results(camera), since)

    def publish(self, packets: Sequence[Packet]) -> None:
        """Encode *packets*, all before any is handed over. Raise SinkError when they can never be written."""
        results: list[Result] = []
        fields: dict[str, bytes] = {}
        for packet in packets:
            frame, beside = packet.frame, self._beside(packet)
            at = entry_id(frame.captured_at, frame.seq)
            fields.update((self._keys.flow(frame.camera, node), data) for node, data in beside.fields.items())
            if beside.events:
                results += self._events(frame.camera, frame.captured_at, at, beside.events)
            results.append(self._message(frame.camera, frame.captured_at, at, self._encode(packet)))
        if fields:
            self._outbox.newest.put(fields)
        self._hand_over(results)

    def publish_encoded(self, camera: str, captured_at: float, seq: int, payload: bytes) -> None:
        """Hand over a message that is encoded already, such as a line of a JSON Lines file, and its events.

        The events may be there already: those of a run that was killed after it had written them.
        """
        at = entry_id(captured_at, seq)
        events = self._events(camera, captured_at, at, _events_in(payload))
        for event in events:
            event.copies = 1
        self._hand_over([*events, self._message(camera, captured_at, at, payload)])

    def _message(self, camera: str, captured_at: float, at: EntryId, payload: bytes) -> Result:
        return Result(camera, captured_at, self._keys.results(camera), at, payload, self._keys.live(camera))

    def _events(self, camera: str, captured_at: float, at: EntryId, payloads: Sequence[bytes]) -> list[Result]:
        key = self._keys.events(camera)
        ids = (EntryId(at.ms, at.seq + i) for i in range(len(payloads)))
        return [Result(camera, captured_at, key, *one) for one in zip(ids, payloads, strict=True)]

    def _hand_over(self, results: Sequence[Result]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="redis sink", daemon=True)
            self._thread.start()
        self._report_dropped(self._outbox.put(results))

    def close(self) -> None:
        """Write what is left, until the deadline; then give it up and report it.

        Without a deadline, raise SinkUnusable when Redis refuses what is left.
        """
        self._outbox.close()
        if self._thread is not None:
            self._thread.join(self._options.close_deadline)
        left = self._outbox.discard()
        self._report_dropped(left)
        if left:
            log.warning(_LEFT[self._options.when_full], self.name, len(left))
            if self._outbox.refusal is not None and self._options.close_deadline is None:
                raise self._outbox.refusal

    def abort(self) -> None:
        """Give up what is left: `close` returns at once, and so does a `publish` that waits, with SinkError.

        Callable from any thread and from a signal handler.
        """
        self._outbox.abort()

    # --- the writer's thread ---

    def _work(self) -> None:
        delays: Iterator[float] = self._options.backoff.delays()
        with self._link:
            while self._outbox.wait():
                error = self._attempt()
                if error is None:
                    delays = self._options.backoff.delays()
                    continue
                self._failed(error)
                if self._outbox.hopeless:
                    return
                self._outbox.pause(next(delays))

    def _attempt(self) -> LinkError | None:
        try:
            self._write_batch()
        except LinkError as error:
            return error
        except Exception as error:  # noqa: BLE001 - a thread's border: without it nobody would count what is lost
            broken = Broken(f"the writer broke off ({error!r}); please report this")
            broken.__cause__ = error
            return broken
        return None

    def _write_batch(self) -> None:
        self._writer.connect()
        batch = self._outbox.pin(min(_BATCH, self._options.maxlen))
        try:
            self._write(batch)
        finally:
            self._report_written(self._outbox.settle())
        self._outbox.recovered()
        if self._trouble is not None:
            self._trouble = None
            log.info("%s: works again", self.name)
            self._observer(SinkState(self.name, None))

    def _write(self, batch: Sequence[Result]) -> None:
        fields = self._outbox.newest.take(BATCH_BYTES)
        try:
            self._writer.write(batch, fields)
        except BaseException:
            self._outbox.newest.put_back(fields)
            raise

    def _failed(self, error: LinkError) -> None:
        self._writer.forget()
        self._outbox.failed(SinkUnusable(str(error)) if isinstance(error, Refused) else None)
        if self._trouble is type(error):
            return
        self._trouble = type(error)
        cause = error.__cause__ if isinstance(error, Broken) else None  # with a traceback, for who has to mend it
        log.warning("%s: %s; trying again", self.name, error, exc_info=cause)
        self._observer(SinkState(self.name, str(error)))

    def _report_written(self, results: Sequence[Result]) -> None:
        now = self._clock.time()
        written = [Written(r.camera, r.captured_at, now) for r in results if r.channel is not None]
        if written:
            self._observer(ResultsWritten(self.name, written))

    def _report_dropped(self, dropped: Sequence[Result]) -> None:
        """Count messages, of which each frame has one; their events are in them as well."""
        for camera, count in Counter(r.camera for r in dropped if r.channel is not None).items():
            self._observer(ResultsDropped(self.name, count, camera))

    # --- what is asked over a connection of its own: the other one is the writer's ---

    def _open(self) -> Link:
        try:
            return Link(self._url, self._options.timeouts)
        except Refused as error:
            raise SinkUnusable(str(error)) from error

    @contextmanager
    def _asking(self) -> Iterator[Link]:
        try:
            with self._open() as link:
                yield link
        except Refused as error:
            raise SinkUnusable(str(error)) from error
        except LinkError as error:
            raise SinkError(str(error)) from error


class Broken(Refused):
    """Something of ours does not do what it should."""


def _events_in(payload: bytes) -> list[bytes]:
    """Take the events out of a message, as they were written beside it."""
    message = from_json(payload)
    head = {key: message[key] for key in ("schema", "camera", "seq", "pts", "captured_at") if key in message}
    return [
        to_json({**head, "node": node, "event": event})
        for node, result in message.get("results", {}).items()
        for event in result.get("events", ())
    ]
