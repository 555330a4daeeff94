"""What a camera's stream holds already, for who brings results a second time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from streamer.wire.ids import EntryId
from streamer.wire.link import Link, failure

_PAGE = 100  # entries read at a time: one with masks may take 100 kB
_NOTHING = EntryId(0, 0)


@dataclass(frozen=True, slots=True)
class Stored:
    """The results in a stream, compared by what they say: their ids may have had to change."""

    oldest: EntryId = _NOTHING  # what has a smaller id has been trimmed, or would be by now
    digests: frozenset[bytes] = frozenset()

    def has(self, entry: EntryId, payload: bytes) -> bool:
        """Whether there is no need to write this result."""
        return entry < self.oldest or _digest(payload) in self.digests


def read_stored(link: Link, key: str, since: EntryId) -> Stored:
    """Read a stream from the id *since* on. Raises LinkError."""
    (info,) = link.pipeline([("XINFO", "STREAM", key)])
    if isinstance(info, Exception):
        if "no such key" in str(info):
            return Stored()
        raise failure(link.url, info) from info
    return Stored(_oldest(fields_of(info)), frozenset(map(_digest, _payloads(link, key, since))))


def fields_of(flat: list[Any]) -> dict[Any, Any]:
    """Pair what Redis gives as one list of names and values."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _oldest(info: dict[bytes, Any]) -> EntryId:
    if info.get(b"entries-added") == info[b"length"]:
        return _NOTHING  # nothing was ever trimmed; servers before Redis 7 cannot tell
    first = info[b"first-entry"]
    return EntryId.parse(first[0]) if first else EntryId.parse(info[b"last-generated-id"]).next()


def _payloads(link: Link, key: str, since: EntryId) -> Iterator[bytes]:
    page = link.call("XRANGE", key, str(since), "+", "COUNT", _PAGE)
    while page:
        yield from (fields_of(fields).get(b"json", b"") for _, fields in page)
        page = link.call("XRANGE", key, str(EntryId.parse(page[-1][0]).next()), "+", "COUNT", _PAGE)


def _digest(payload: bytes) -> bytes:
    return blake2b(payload, digest_size=16).digest()
