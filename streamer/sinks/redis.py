"""Results into Redis: a stream to read back, a channel to watch and the latest value of each camera.

`publish` hands over to a bounded buffer; one thread writes it out in pipelined batches and owns the connection. An
entry's id comes from its result, so Redis refuses what it has already: writing again after a cut is harmless.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from streamer.backoff import Backoff
from streamer.errors import SinkError, SinkUnusable
from streamer.events import Observer, ResultsDropped, SinkState, ignore
from streamer.sinks.outbox import Outbox, Result, WhenFull
from streamer.types import Packet
from streamer.wire.ids import PREFIX, EntryId, Keys, entry_id
from streamer.wire.link import Command, Link, LinkError, Refused, Timeouts, failure

log = logging.getLogger(__name__)

_BATCH = 256  # results in one pipeline
_NOTHING = EntryId(0, 0)
_BACKOFF = Backoff(0.2, 5.0)
_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """How results are kept. The defaults suit live cameras."""

    prefix: str = PREFIX
    maxlen: int = 10_000  # entries kept a camera, about
    latest_ttl: float = 60.0  # seconds
    capacity: int = 10_000  # results that wait, besides the batch being written
    when_full: WhenFull = "drop-oldest"
    close_deadline: float | None = 0.5  # seconds that `close` may take; None: as long as it takes
    backoff: Backoff = _BACKOFF
    timeouts: Timeouts = _TIMEOUTS

    @classmethod
    def lossless(cls, **options: Any) -> RedisOptions:
        """Return options that suit recordings: wait as long as it takes, and lose nothing."""
        return cls(**{"when_full": "wait", "close_deadline": None, **options})


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
    ) -> None:
        """Connect to nothing yet. Raise SinkUnusable when *url* is none of Redis."""
        self._url, self._encode, self._options, self._observer = url, encode, options, observer
        self._outbox = Outbox(options.capacity, options.when_full)
        self._link = self._open()
        self._writer = _Writer(self._link, options)
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Connect and authenticate. Raise SinkError when nothing answers, SinkUnusable when the server refuses."""
        self._ask("PING")

    def last_id(self, camera: str) -> EntryId | None:
        """Return the id of the newest result that Redis was ever given for *camera*. Raises like `check`."""
        key = Keys(self._options.prefix).results(camera)
        if not self._ask("EXISTS", key):
            return None
        last = EntryId.parse(_fields(self._ask("XINFO", "STREAM", key))[b"last-generated-id"])
        return None if last == _NOTHING else last

    def publish(self, packets: Sequence[Packet]) -> None:
        """Encode *packets* and hand them over. Raise SinkError when they can never be written."""
        for packet in packets:
            self.publish_encoded(packet.frame.camera, packet.frame.captured_at, packet.frame.seq, self._encode(packet))

    def publish_encoded(self, camera: str, captured_at: float, seq: int, payload: bytes) -> None:
        """Hand over a message that is encoded already, such as a line of a JSON Lines file."""
        dropped = self._outbox.put(Result(camera, entry_id(captured_at, seq), payload))
        self._report(dropped)
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
            self._writer.write(self._outbox.pin(min(_BATCH, self._options.maxlen)))
        finally:
            self._outbox.settle()
        if self._outbox.recovered():
            log.info("%s: works again", self.name)
            self._observer(SinkState(self.name, None))

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


class _Writer:
    """Bring batches into Redis, exactly once in the streams however often it takes."""

    def __init__(self, link: Link, options: RedisOptions) -> None:
        self._link, self._options, self._keys = link, options, Keys(options.prefix)
        self._connected = False
        self._newest: dict[str, EntryId] = {}  # of each camera's stream, where nothing uncertain is on its way
        self._warned: set[str] = set()

    def connect(self) -> None:
        if not self._connected:
            self._link.connect()
            self._connected = True

    def forget(self) -> None:
        """Trust nothing that is known of the server: the connection was lost, or a command failed."""
        self._connected = False
        self._newest.clear()

    def write(self, batch: Sequence[Result]) -> None:
        """Return when all of *batch* is in Redis. Raise LinkError; the same results may then be given again."""
        complete = not batch
        while not complete:
            self._ask_unknown(batch)
            self._order(batch)
            complete = self._send(batch)

    def _ask_unknown(self, batch: Sequence[Result]) -> None:
        """Learn the newest id of every stream that is not known, and which results have arrived already."""
        cameras = dict.fromkeys(r.camera for r in batch if not r.written and r.camera not in self._newest)
        for camera in cameras:
            key = self._keys.results(camera)
            uncertain = [r for r in batch if r.camera == camera and r.sent and not r.written]
            commands: list[Command] = [("XINFO", "STREAM", key)]
            if uncertain:
                ids = [r.id for r in uncertain]
                commands.append(("XRANGE", key, str(min(ids)), str(max(ids))))
            info, *entries = self._link.pipeline(commands)
            self._newest[camera] = self._newest_of(info)
            for found in entries:
                self._recognise(uncertain, found)

    def _newest_of(self, info: Any) -> EntryId:
        if not isinstance(info, Exception):
            return EntryId.parse(_fields(info)[b"last-generated-id"])
        if "no such key" in str(info):
            return _NOTHING
        raise failure(self._link.url, info) from info

    def _recognise(self, uncertain: Sequence[Result], found: Any) -> None:
        """Mark what is there. Another producer may have taken the id, so the payload must be ours too."""
        if isinstance(found, Exception):
            raise failure(self._link.url, found) from found
        there = {EntryId.parse(entry): fields for entry, fields in found}
        for result in uncertain:
            result.written = there.get(result.id) == [b"json", result.payload]

    def _order(self, batch: Sequence[Result]) -> None:
        """Give a greater id to what Redis would refuse: a clock that stepped back must lose nothing."""
        newest = dict(self._newest)
        for result in batch:
            if result.written:
                continue
            if result.id <= newest[result.camera]:
                self._warn(result, newest[result.camera])
                result.id = newest[result.camera].next()
            newest[result.camera] = result.id

    def _warn(self, result: Result, newest: EntryId) -> None:
        if result.camera not in self._warned:
            self._warned.add(result.camera)
            log.warning(
                "redis: %s: a result from %s comes after one from %s, so it gets a later id; "
                "check this machine's clock, and that nobody else publishes this camera",
                result.camera, result.id, newest,
            )  # fmt: skip

    def _send(self, batch: Sequence[Result]) -> bool:
        """Send what has not arrived; return whether it has now, or ids were refused and must be looked at again."""
        pending = [result for result in batch if not result.written]
        commands = [command for result in pending for command in self._commands(result)]
        latest = {result.camera: result for result in batch}
        ttl = max(1, round(self._options.latest_ttl * 1000))
        commands += [("SET", self._keys.latest(camera), r.payload, "PX", ttl) for camera, r in latest.items()]
        for result in pending:
            result.sent = True
        replies = self._link.pipeline(commands)
        errors = [reply for reply in replies[2 * len(pending) :] if isinstance(reply, Exception)]
        for result, added, published in zip(pending, replies[::2], replies[1::2], strict=False):
            errors += self._settle(result, added, published)
        if errors:
            raise failure(self._link.url, errors[0]) from errors[0]
        return all(result.written for result in pending)

    def _commands(self, result: Result) -> tuple[Command, Command]:
        key, maxlen = self._keys.results(result.camera), self._options.maxlen
        add = ("XADD", key, "MAXLEN", "~", maxlen, str(result.id), "json", result.payload)
        return add, ("PUBLISH", self._keys.live(result.camera), result.payload)

    def _settle(self, result: Result, added: Any, published: Any) -> list[Exception]:
        """Take the replies to one result; return the errors that are more than a refused id."""
        if not isinstance(added, Exception):
            result.written = True
            if result.camera in self._newest:  # else an earlier one was refused: look first
                self._newest[result.camera] = result.id
            return [published] if isinstance(published, Exception) else []
        if "equal or smaller" not in str(added):
            return [added]
        self._newest.pop(result.camera, None)
        return []


def _fields(flat: Sequence[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
