"""Which cameras there are in Redis, found again and again at little cost."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from streamer.client.protocol import Dialogue, Session
from streamer.client.topics import Topic

_PAGE = 10_000  # keys looked at in one go: a millisecond or two of the server's time
_INTERVAL = 0.5  # seconds between looks


class Cameras:
    """The cameras to read: those named, or all of them, new ones too."""

    def __init__(
        self, names: Sequence[str] | None, topic: Topic[Any], session: Session, now: Callable[[], float]
    ) -> None:
        self._names, self._topic, self._session, self._now = names, topic, session, now
        self._cursor = 0
        self._due = 0.0

    def all(self) -> Dialogue[Any, set[str]]:
        """Return every camera there is."""
        found = yield from self._page()
        while self._cursor:
            found |= yield from self._page()
        return found

    def some(self) -> Dialogue[Any, set[str]]:
        """Return some of the cameras, each of them within some calls; seldom calls Redis."""
        if self._names is not None or self._now() < self._due:
            return set()
        return (yield from self._page())

    def _page(self) -> Dialogue[Any, set[str]]:
        """Look at one page of the keyspace, and at the cameras that a running pipeline reports."""
        self._due = self._now() + _INTERVAL
        if self._names is not None:
            return set(self._names)
        pattern = re.sub(r"([*?\[\]\\])", r"\\\1", self._topic.stem) + "*"
        cursor, found = yield from self._session.ask(
            "SCAN", self._cursor, "MATCH", pattern, "COUNT", _PAGE, "TYPE", "stream"
        )
        self._cursor = int(cursor)
        reported = yield from self._session.ask("HKEYS", self._topic.cameras)
        return {self._topic.camera(key.decode()) for key in found} | {name.decode() for name in reported}
