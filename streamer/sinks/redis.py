"""Results into Redis: a stream to read back, a channel to watch and the latest value of each camera.

Events go to a stream of their own, and whole flow fields each to a key that holds the newest.

`publish` hands over to a bounded buffer; one thread writes it out in pipelined batches and owns the connection. An
entry's id comes from its result, so Redis refuses what it has already: writing again after a cut is harmless.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from streamer.backoff import Backoff
from streamer.errors import SinkError, SinkUnusable
from streamer.events import Observer, ResultsDropped, SinkState, ignore
from streamer.sinks.outbox import Outbox, Result, WhenFull
from streamer.sinks.redis_writer import Writer, fields_of
from streamer.types import Packet
from streamer.wire.encode import Beside
from streamer.wire.ids import PREFIX, EntryId, Keys, entry_id
from streamer.wire.link import Link, LinkError, Refused, Timeouts

log = logging.getLogger(__name__)

_BATCH = 256  # results in one pipeline
_NOTHING = EntryId(0, 0)
_BACKOFF = Backoff(0.2, 5.0)
_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """How results are kept. The defaults suit live cameras."""

    prefix: str = PREFIX
    maxlen: int = 10_000  # results kept a camera, and as many events, about
    latest_ttl: float = 60.0  # seconds; of whole fields too
    capacity: int = 10_000  # results and events that wait, besides the batch being written
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
    """Write results to the Redis at *url*, again and again until they arrive.

    While it cannot write it says so once (SinkState) and holds `capacity` results; then the oldest go
    (ResultsDropped) or `publish` waits. When Redis refuses for good, `publish` raises SinkUnusable.
    """

    name = "redis"

    def __init__(
        self,
        url: str,
        encode: Callable[[Packet], bytes],
        options: RedisOptions = RedisOptions(),
        observer: Observer = ignore,
        beside: Callable[[Packet], Beside] = nothing,
    ) -> None:
        """Connect to nothing yet. Raise SinkUnusable when *url* is none of Redis."""
        self._url, self._encode, self._options, self._observer = url, encode, options, observer
        self._beside, self._keys, self._newest = beside, Keys(options.prefix), _Newest()
        self._outbox = Outbox(options.capacity, options.when_full)
        self._link = self._open()
        self._writer = Writer(self._link, self._keys, options.maxlen, options.latest_ttl)
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Connect and authenticate. Raise SinkError when nothing answers, SinkUnusable when the server refuses."""
        self._ask("PING")

    def last_id(self, camera: str) -> EntryId | None:
        """Return the id of the newest result that Redis was ever given for *camera*. Raises like `check`."""
        key = self._keys.results(camera)
        if not self._ask("EXISTS", key):
            return None
        last = EntryId.parse(fields_of(self._ask("XINFO", "STREAM", key))[b"last-generated-id"])
        return None if last == _NOTHING else last

    def publish(self, packets: Sequence[Packet]) -> None:
        """Encode *packets* and hand them over. Raise SinkError when they can never be written."""
        for packet in packets:
            frame, beside = packet.frame, self._beside(packet)
            self._newest.put({self._keys.flow(frame.camera, node): data for node, data in beside.fields.items()})
            at = entry_id(frame.captured_at, frame.seq)
            self._hand_over(
                [*self._events(frame.camera, at, beside.events), self._result(frame.camera, at, self._encode(packet))]
            )

    def publish_encoded(self, camera: str, captured_at: float, seq: int, payload: bytes) -> None:
        """Hand over a message that is encoded already, such as a line of a JSON Lines file, and its events.

        The events may be there already: those of a run that was killed after it had written them.
        """
        at = entry_id(captured_at, seq)
        events = self._events(camera, at, _events_in(payload))
        for event in events:
            event.sent = True
        self._hand_over([*events, self._result(camera, at, payload)])

    def _result(self, camera: str, at: EntryId, payload: bytes) -> Result:
        return Result(camera, self._keys.results(camera), at, payload, self._keys.live(camera))

    def _events(self, camera: str, at: EntryId, payloads: Sequence[bytes]) -> list[Result]:
        key = self._keys.events(camera)
        return [Result(camera, key, EntryId(at.ms, at.seq + i), payload) for i, payload in enumerate(payloads)]

    def _hand_over(self, results: Sequence[Result]) -> None:
        for result in results:
            self._report(self._outbox.put(result))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="redis sink", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write what is left, until the deadline; then give it up and report it.

        Without a deadline, raise SinkUnusable when Redis refuses what is left.
        """
        self._outbox.close()
        if self._thread is not None:
            self._thread.join(self._options.close_deadline)
        left = self._outbox.discard()
        self._report(left)
        if not left:
            return
        log.warning("%s: closed with %d results that could not be written", self.name, len(left))
        if self._outbox.refusal is not None and self._options.close_deadline is None:
            raise self._outbox.refusal

    def abort(self) -> None:
        """Give up what is left: `close` returns at once, and so does a `publish` that waits, with SinkError.

        Callable from any thread and from a signal handler.
        """
        self._outbox.abort()

    # --- the writer's thread ---

    def _work(self) -> None:
        try:
            self._write_until_closed()
        except Exception as error:
            self._outbox.failed(SinkUnusable(f"{self.name}: the writer broke off ({error!r}); please report this"))
            raise

    def _write_until_closed(self) -> None:
        delays: Iterator[float] = self._options.backoff.delays()
        with self._link:
            while self._outbox.wait():
                try:
                    self._write_batch()
                except LinkError as error:
                    self._failed(error)
                    if self._outbox.hopeless:
                        return
                    self._outbox.pause(next(delays))
                else:
                    delays = self._options.backoff.delays()

    def _write_batch(self) -> None:
        self._writer.connect()
        try:
            self._write(self._outbox.pin(min(_BATCH, self._options.maxlen)))
        finally:
            self._outbox.settle()
        if self._outbox.recovered():
            log.info("%s: works again", self.name)
            self._observer(SinkState(self.name, None))

    def _write(self, batch: Sequence[Result]) -> None:
        fields = self._newest.take()
        try:
            self._writer.write(batch, fields)
        except LinkError:
            self._newest.put_back(fields)
            raise

    def _failed(self, error: LinkError) -> None:
        self._writer.forget()
        unusable = SinkUnusable(str(error)) if isinstance(error, Refused) else None
        if self._outbox.failed(unusable):
            log.warning("%s: %s; trying again", self.name, error)
            self._observer(SinkState(self.name, str(error)))

    def _report(self, dropped: Sequence[Result]) -> None:
        for camera, count in Counter(result.camera for result in dropped).items():
            self._observer(ResultsDropped(self.name, count, camera))

    def _open(self) -> Link:
        try:
            return Link(self._url, self._options.timeouts)
        except Refused as error:
            raise SinkUnusable(str(error)) from error

    def _ask(self, *command: str) -> Any:
        """Ask over a connection of its own: the other one is the writer's."""
        try:
            with self._open() as link:
                return link.call(*command)
        except Refused as error:
            raise SinkUnusable(str(error)) from error
        except LinkError as error:
            raise SinkError(str(error)) from error


class _Newest:
    """Values of which only the newest counts: however long Redis is away, one for each key is held."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, values: Mapping[str, bytes]) -> None:
        with self._lock:
            self._values.update(values)

    def take(self) -> dict[str, bytes]:
        with self._lock:
            values, self._values = self._values, {}
            return values

    def put_back(self, values: Mapping[str, bytes]) -> None:
        """Put what could not be written where nothing newer is."""
        with self._lock:
            self._values = {**values, **self._values}


def _events_in(payload: bytes) -> list[bytes]:
    """Take the events out of a message, as they were written beside it."""
    message = from_json(payload)
    head = {key: message[key] for key in ("schema", "camera", "seq", "pts", "captured_at") if key in message}
    return [
        to_json({**head, "node": node, "event": event})
        for node, result in message.get("results", {}).items()
        for event in result.get("events", ())
    ]
