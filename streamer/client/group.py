"""Share cameras among the consumers of a group: every message is handled at least once.

A message is acknowledged when the consumer asks for the next one. A consumer that dies, or leaves its loop by an
exception or a `break`, has not acknowledged the message in its hands: it comes again, to itself under the same name
or after `claim_after` seconds to another.
"""

from __future__ import annotations

import secrets
import socket
from collections import Counter
from collections.abc import Sequence
from typing import Any, Generic

from streamer.client.cameras import Cameras
from streamer.client.protocol import BLOCK_MS, Deliver, Dialogue, Ready, Session, Tuning, Wait
from streamer.client.topics import E, Topic
from streamer.wire.ids import EntryId
from streamer.wire.link import Refused

_CLAIM_EVERY = 5.0  # seconds, at most
Entry = tuple[bytes, Sequence[bytes] | None]  # without fields: it was deleted before we came to it


def consumer_name() -> str:
    """Return a name that nobody else has."""
    return f"{socket.gethostname()}-{secrets.token_hex(4)}"


class Member(Generic[E]):
    """Yield a topic's entries as one consumer of a group. The group begins at the oldest entry."""

    def __init__(
        self, group: str, consumer: str, cameras: Sequence[str] | None, topic: Topic[E], tuning: Tuning
    ) -> None:
        self._group, self._consumer, self._topic, self._tuning = group, consumer, topic, tuning
        self._session = Session(tuning.backoff)
        self._cameras = Cameras(cameras, topic, self._session, tuning.now)
        self._wanted: set[str] = set()  # keys
        self._joined: dict[str, None] = {}  # keys whose group exists, in order
        self._unsure = True  # something may be pending under our name that is not in our hands
        self._claim_due = 0.0
        self._missed: Counter[str] = Counter()  # by key

    def run(self) -> Dialogue[E, None]:
        self._want((yield from self._cameras.all()))
        yield from self._join()
        yield Ready()
        while True:
            try:
                yield from self._round()
            except Refused as error:
                if "NOGROUP" not in str(error):
                    raise
                self._joined.clear()  # a stream was deleted, or a server came back empty

    def _round(self) -> Dialogue[E, None]:
        self._want((yield from self._cameras.some()))
        yield from self._join()
        if not self._joined:
            yield Wait(BLOCK_MS / 1000)
            return
        if self._unsure:
            self._unsure = False
            yield from self._resume()
        if self._tuning.now() >= self._claim_due:
            self._claim_due = self._tuning.now() + min(_CLAIM_EVERY, self._tuning.claim_after / 2)
            yield from self._claim()
        if not self._unsure:
            yield from self._read_new()

    def _want(self, cameras: set[str]) -> None:
        self._wanted |= {self._topic.key(camera) for camera in cameras}

    def _join(self) -> Dialogue[Any, None]:
        for key in sorted(self._wanted - self._joined.keys()):
            try:
                yield from self._session.ask("XGROUP", "CREATE", key, self._group, "0", "MKSTREAM")
            except Refused as error:
                if "BUSYGROUP" not in str(error):
                    raise
            self._joined[key] = None

    def _resume(self) -> Dialogue[E, None]:
        """Handle what is pending under our name: from before a restart, or from a reply that was lost."""
        for key in list(self._joined):
            start = "0"
            while not self._unsure:
                entries = (yield from self._read(self._tuning.chunk, {key: start})).get(key)
                if not entries:
                    break
                yield from self._hand_out(key, entries)
                start = entries[-1][0].decode()

    def _claim(self) -> Dialogue[E, None]:
        """Take over what others have held for too long."""
        idle = max(1, round(self._tuning.claim_after * 1000))
        for key in list(self._joined):
            cursor = b"0-0"
            while not self._unsure:
                outages = self._session.outages
                reply = yield from self._session.ask(
                    *("XAUTOCLAIM", key, self._group, self._consumer, idle, cursor, "COUNT", self._tuning.chunk)
                )
                cursor, entries = reply[0], reply[1]
                self._missed[key] += len(reply[2]) if len(reply) > 2 else 0
                self._unsure = self._session.outages != outages
                yield from self._hand_out(key, entries)
                if cursor == b"0-0":
                    break

    def _read_new(self) -> Dialogue[E, None]:
        outages = self._session.outages
        found = yield from self._read(self._tuning.chunk, dict.fromkeys(self._joined, ">"), "BLOCK", BLOCK_MS)
        if self._session.outages != outages:
            self._unsure = True  # an earlier reply may have been lost with what it held
            return
        read = self._tuning.now()
        for key, entries in found.items():
            # Of a chunk that waited long behind another, what was not claimed from us is read again.
            self._unsure = self._unsure or self._tuning.now() - read > self._tuning.claim_after / 2
            yield from self._hand_out(key, entries)

    def _read(self, count: int, streams: dict[str, str], *options: str | int) -> Dialogue[Any, dict[str, list[Entry]]]:
        found = yield from self._session.ask(
            *("XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", count), *options,
            *("STREAMS", *streams, *streams.values()),
        )  # fmt: skip
        return {key.decode(): entries for key, entries in found or ()}

    def _hand_out(self, key: str, entries: Sequence[Entry]) -> Dialogue[E, None]:
        """Deliver and acknowledge one after the other; stop when others may have claimed the rest meanwhile."""
        fetched, outages = self._tuning.now(), self._session.outages
        for raw, fields in entries:
            if self._tuning.now() - fetched > self._tuning.claim_after / 2 or self._session.outages != outages:
                self._unsure = True
            if self._unsure:
                return
            message = None if fields is None else self._topic.read(EntryId.parse(raw), fields, key)
            if message is None:
                self._missed[key] += 1
            else:
                yield Deliver(message.model_copy(update={"missed": self._missed.pop(key, 0)}))
            yield from self._session.ask("XACK", key, self._group, raw)
