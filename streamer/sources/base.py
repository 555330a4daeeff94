"""The interface of everything that frames come from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from streamer.types import RawFrame


class Source(Protocol):
    """Where frames come from. `open` may be called again after it failed or ended: each time a fresh decoder.

    The iterator ends when the stream ends. Both `open` and the iterator raise SourceError when it fails, and
    SourceUnusable when trying again cannot help. Used from one thread at a time.
    """

    @property
    def camera(self) -> str: ...
    @property
    def live(self) -> bool: ...  # live: drop when late, reconnect at the end; not live: wait, and end

    def open(self) -> AbstractContextManager[Iterator[RawFrame]]: ...
