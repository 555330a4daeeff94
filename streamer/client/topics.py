"""The kinds of streams that are read: results and events, one stream a camera."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from streamer.wire.base import Entry, WireError
from streamer.wire.events import Event, decode_event
from streamer.wire.ids import EntryId, Keys
from streamer.wire.messages import Message, decode

log = logging.getLogger(__name__)
E = TypeVar("E", bound=Entry)


@dataclass(frozen=True, slots=True)
class Topic(Generic[E]):
    """How streams of one kind are called, and what their entries are."""

    stem: str  # of a key: before the camera's name
    cameras: str  # the key under which a running pipeline reports its cameras
    decode: Callable[[bytes], E]

    def key(self, camera: str) -> str:
        return self.stem + camera

    def camera(self, key: str) -> str:
        return key.removeprefix(self.stem)

    def read(self, entry: EntryId, fields: Sequence[bytes], source: str) -> E | None:
        """Decode an entry; say in the log when it is none of ours, and return None."""
        try:
            return self.decode(dict(zip(fields[::2], fields[1::2], strict=True))[b"json"])
        except KeyError:
            log.warning("%s: entry %s has no field 'json' and is skipped; check who writes to this key", source, entry)
        except WireError as error:
            log.warning("%s: entry %s is skipped: %s", source, entry, error)
        return None


def results(keys: Keys) -> Topic[Message]:
    return Topic(keys.results(""), keys.cameras, decode)


def events(keys: Keys) -> Topic[Event]:
    return Topic(keys.events(""), keys.cameras, decode_event)
