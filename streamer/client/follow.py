"""Follow cameras without a group: new messages only, and never far behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

from streamer.client.cameras import Cameras
from streamer.client.protocol import (
    BLOCK_MS,
    ClientError,
    Deliver,
    Dialogue,
    Ready,
    Session,
    Tuning,
    Wait,
)
from streamer.client.topics import E, Topic
from streamer.wire.ids import EntryId
from streamer.wire.link import Refused

_START = EntryId(0, 0)
_CHECK_EVERY = 1.0  # seconds: a stream that was deleted and begins anew would otherwise seem quiet
_FRESH = 0.1  # seconds for which a fetched chunk is handed out unseen
Entry = tuple[bytes, Sequence[bytes]]


@dataclass(slots=True)
class _Stream:
    """Where a subscriber stands in one stream."""

    key: str
    position: EntryId = _START  # of the last entry handed out or skipped
    counted: int = 0  # entries ever added up to there
    missed: int = 0  # entries skipped since the last message


@dataclass(frozen=True, slots=True)
class _Info:
    """What XINFO STREAM says."""

    length: int
    added: int  # ever
    newest: EntryId
    first: Entry | None
    last: Entry | None

    @classmethod
    def parse(cls, flat: Sequence[Any]) -> _Info:
        fields = dict(zip(flat[::2], flat[1::2], strict=True))
        if b"entries-added" not in fields:
            raise ClientError("this Redis is older than 7.0 and cannot tell what was missed; update it, or use a group")
        return cls(
            fields[b"length"],
            fields[b"entries-added"],
            EntryId.parse(fields[b"last-generated-id"]),
            fields[b"first-entry"],
            fields[b"last-entry"],
        )

    def after(self, position: EntryId) -> int | None:
        """Return how many entries there are after *position*, or None when only counting them would tell."""
        if self.first is None or self.newest <= position:
            return 0
        return self.length if EntryId.parse(self.first[0]) > position else None


_EMPTY = _Info(0, 0, _START, None, None)


class Follower(Generic[E]):
    """Yield each new entry of a topic, or, more than `backlog` behind, skip to the newest and count what was missed."""

    def __init__(self, cameras: Sequence[str] | None, topic: Topic[E], tuning: Tuning) -> None:
        self._topic, self._tuning = topic, tuning
        self._session = Session(tuning.backoff)
        self._cameras = Cameras(cameras, topic, self._session, tuning.now)
        self._streams: dict[str, _Stream] = {}  # by key
        self._check_due = 0.0

    def run(self) -> Dialogue[E, None]:
        for camera in sorted((yield from self._cameras.all())):
            key = self._topic.key(camera)
            info = yield from self._info(key)
            self._streams[key] = _Stream(key, info.newest, info.added)
        yield Ready()
        while True:
            for camera in (yield from self._cameras.some()):
                # A stream that was not there when we started: all of it is new.
                self._streams.setdefault(self._topic.key(camera), _Stream(self._topic.key(camera)))
            yield from self._round()

    def _round(self) -> Dialogue[E, None]:
        """Read what is new in any stream, and hand it out."""
        if not self._streams:
            yield Wait(BLOCK_MS / 1000)
            return
        outages = self._session.outages
        positions = [str(stream.position) for stream in self._streams.values()]
        found = yield from self._session.ask(
            *("XREAD", "COUNT", self._tuning.backlog + 1, "BLOCK", BLOCK_MS, "STREAMS"), *self._streams, *positions
        )
        fetched = self._tuning.now()
        if fetched >= self._check_due or self._session.outages != outages:
            self._check_due = fetched + _CHECK_EVERY
            for stream in self._streams.values():
                yield from self._catch_up(stream)
        for key, entries in found or ():
            fetched = yield from self._hand_out(self._streams[key.decode()], entries, fetched)

    def _hand_out(self, stream: _Stream, entries: Sequence[Entry], fetched: float) -> Dialogue[E, float]:
        """Deliver *entries*, but look first whether they are still new when much has come or time has passed."""
        for raw, fields in entries:
            if len(entries) > self._tuning.backlog or self._tuning.now() - fetched > _FRESH:
                yield from self._catch_up(stream)
                fetched = self._tuning.now()
            entry = EntryId.parse(raw)
            if entry > stream.position:
                stream.counted += 1
                yield from self._deliver(stream, entry, fields)
        return fetched

    def _catch_up(self, stream: _Stream) -> Dialogue[E, None]:
        """Skip to the newest entry when too far behind, and notice what Redis has deleted before we came to it."""
        info = yield from self._info(stream.key)
        if info.added < stream.counted or info.newest < stream.position:  # made anew since
            stream.position, stream.counted = _START, 0
        behind = info.added - stream.counted
        if behind > self._tuning.backlog and info.last is not None:
            stream.missed += behind - 1
            stream.counted = info.added
            yield from self._deliver(stream, info.newest, info.last[1])
        elif (coming := info.after(stream.position)) is not None:
            stream.missed += behind - coming
            stream.counted += behind - coming

    def _deliver(self, stream: _Stream, entry: EntryId, fields: Sequence[bytes]) -> Dialogue[E, None]:
        stream.position = entry
        message = self._topic.read(entry, fields, stream.key)
        if message is None:
            stream.missed += 1
            return
        missed, stream.missed = stream.missed, 0
        yield Deliver(message.model_copy(update={"missed": missed}))

    def _info(self, key: str) -> Dialogue[Any, _Info]:
        try:
            return _Info.parse((yield from self._session.ask("XINFO", "STREAM", key)))
        except Refused as error:
            if "no such key" in str(error):
                return _EMPTY
            raise
