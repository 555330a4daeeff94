"""What brings results into Redis: which ids are free, what has arrived, and what must be sent again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import Any

from streamer.sinks.outbox import Result
from streamer.sinks.stored import fields_of
from streamer.wire.ids import EntryId, Keys
from streamer.wire.link import Command, Link, failure

log = logging.getLogger(__name__)

_NOTHING = EntryId(0, 0)


class Writer:
    """Bring batches into Redis, exactly once in the streams however often it takes."""

    def __init__(self, link: Link, keys: Keys, maxlen: int, latest_ttl: float) -> None:
        """Keep about *maxlen* entries of a stream, and the latest values for so many seconds."""
        self._link, self._keys, self._maxlen = link, keys, maxlen
        self._ttl = max(1, round(latest_ttl * 1000))
        self._connected = False
        self._newest: dict[str, EntryId] = {}  # of each stream, where nothing uncertain is on its way
        self._warned: set[str] = set()

    def connect(self) -> None:
        if not self._connected:
            self._link.connect()
            self._connected = True

    def forget(self) -> None:
        """Trust nothing that is known of the server: the connection was lost, or a command failed."""
        self._connected = False
        self._newest.clear()

    def write(self, batch: Sequence[Result], latest: Mapping[str, bytes]) -> None:
        """Return when all of *batch* is in Redis, and *latest* by key. Raise LinkError; all may then be given again."""
        complete = not batch and not latest
        while not complete:
            self._ask_unknown(batch)
            self._order(batch)
            complete = self._send(batch, latest)

    def _ask_unknown(self, batch: Sequence[Result]) -> None:
        """Learn the newest id of every stream that is not known, and which results have arrived already."""
        unknown = (r.key for r in batch if not r.written and (r.copies or r.key not in self._newest))
        for key in dict.fromkeys(unknown):
            uncertain = [r for r in batch if r.key == key and r.copies and not r.written]
            commands: list[Command] = [("XINFO", "STREAM", key)]
            if uncertain:
                ids = [r.id for r in uncertain]
                commands.append(("XRANGE", key, str(min(ids)), str(max(ids))))
            info, *entries = self._link.pipeline(commands)
            self._newest[key] = self._newest_of(info)
            for found in entries:
                self._recognise(uncertain, found)

    def _newest_of(self, info: Any) -> EntryId:
        if not isinstance(info, Exception):
            return EntryId.parse(fields_of(info)[b"last-generated-id"])
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
            if result.id <= newest[result.key]:
                self._warn(result, newest[result.key])
                result.id = newest[result.key].next()
            newest[result.key] = result.id

    def _warn(self, result: Result, newest: EntryId) -> None:
        """Say it once a camera; of events several may come at a time, so there it means nothing."""
        if result.channel is not None and result.camera not in self._warned:
            self._warned.add(result.camera)
            log.warning(
                "redis: %s: a result from %s comes after one from %s, so it gets a later id; "
                "check this machine's clock, and that nobody else publishes this camera",
                result.camera, result.id, newest,
            )  # fmt: skip

    def _send(self, batch: Sequence[Result], latest: Mapping[str, bytes]) -> bool:
        """Send what has not arrived; return whether it has now, or ids were refused and must be looked at again."""
        pending = [result for result in batch if not result.written]
        commands = [self._commands(result) for result in pending]
        results = {self._keys.latest(r.camera): r.payload for r in batch if r.channel is not None}
        values: list[Command] = [("SET", key, data, "PX", self._ttl) for key, data in {**results, **latest}.items()]
        for result in pending:
            result.copies += 1
        replies = iter(self._link.pipeline([*chain(*commands), *values]))
        errors = []
        for result, sent in zip(pending, commands, strict=True):
            errors += self._settle(result, *islice(replies, len(sent)))
        errors += [reply for reply in replies if isinstance(reply, Exception)]
        if errors:
            raise failure(self._link.url, errors[0]) from errors[0]
        return all(result.written for result in pending)

    def _commands(self, result: Result) -> list[Command]:
        """Write, and announce what is not yet: a server without room, or a replica, refuses only the first."""
        add = ("XADD", result.key, "MAXLEN", "~", self._maxlen, str(result.id), "json", result.payload)
        if result.channel is None or result.announced:
            return [add]
        return [add, ("PUBLISH", result.channel, result.payload)]

    def _settle(self, result: Result, added: Any, *published: Any) -> list[Exception]:
        """Take the replies to one result; return the errors that are more than a refused id."""
        result.copies -= 1
        errors = [reply for reply in published if isinstance(reply, Exception)]
        result.announced = result.announced or (bool(published) and not errors)
        if not isinstance(added, Exception):
            result.written = True
            if result.key in self._newest:  # else an earlier one was refused: look first
                self._newest[result.key] = result.id
            return errors
        if "equal or smaller" not in str(added):
            return [added]
        self._newest.pop(result.key, None)
        return []
