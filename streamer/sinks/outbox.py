"""What waits to be written. The first results are pinned while on their way; of the others the oldest go when full."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from streamer.errors import SinkError, SinkUnusable
from streamer.wire.ids import EntryId

WhenFull = Literal["drop-oldest", "wait"]
_BATCH_BYTES = 1 << 19  # so that a batch crosses a slow network within the reply timeout


@dataclass(slots=True, eq=False)
class Result:
    """One message, or one event, on its way to a stream."""

    camera: str
    key: str  # of the stream
    id: EntryId
    payload: bytes
    channel: str | None = None  # where it is published as well, and then becomes the latest
    sent: bool = False  # it may have arrived
    written: bool = False  # it has arrived


class Outbox:
    """Results in order, the first of them pinned while they are being written, and what both threads must know."""

    def __init__(self, capacity: int, when_full: WhenFull) -> None:
        self._capacity, self._drops = capacity, when_full == "drop-oldest"
        self._results: deque[Result] = deque()
        self._pinned = 0  # may have arrived: neither dropped nor counted until that is known
        self._changed = threading.Condition()
        self._closed = self._aborted = self._failing = False
        self.refusal: SinkUnusable | None = None

    @property
    def hopeless(self) -> bool:
        """Whether nothing more can be written before the end."""
        return self._aborted or (self._closed and self.refusal is not None)

    def put(self, result: Result) -> list[Result]:
        """Add *result*; return what had to go for it. Raise SinkError when it can never be written."""
        dropped = []
        with self._changed:
            self._changed.wait_for(lambda: self._drops or self._has_room() or self._aborted or self.refusal)
            if self._aborted or self._closed:
                raise SinkError("redis: is closed; open another sink to write more")
            if self.refusal is not None:
                raise self.refusal
            if not self._has_room():
                dropped.append(self._results[self._pinned])
                del self._results[self._pinned]
            self._results.append(result)
            self._changed.notify_all()
        return dropped

    def wait(self) -> bool:
        """Wait for a result, or for nothing after a failure; return False when there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._results or self._failing or self._closed or self._aborted)
            return bool(self._results or not self._closed) and not self._aborted

    def pause(self, seconds: float) -> None:
        """Wait before another attempt; closing hurries it."""
        with self._changed:
            closed = self._closed
            self._changed.wait_for(lambda: self._aborted or self._closed is not closed, seconds)

    def pin(self, limit: int) -> list[Result]:
        """Return the first results, which stay until `settle`."""
        with self._changed:
            size = 0
            batch: list[Result] = []
            for result in islice(self._results, limit):
                size += len(result.payload)
                if batch and size > _BATCH_BYTES:
                    break
                batch.append(result)
            self._pinned = len(batch)
            return batch

    def settle(self) -> None:
        """Let go of what is written, and unpin what was never sent."""
        with self._changed:
            pinned = [self._results.popleft() for _ in range(min(self._pinned, len(self._results)))]
            left = [result for result in pinned if not result.written]
            self._results.extendleft(reversed(left))
            self._pinned = sum(result.sent for result in left)
            self._changed.notify_all()

    def failed(self, refusal: SinkUnusable | None) -> bool:
        """Note a failed attempt; return whether it is the first one."""
        with self._changed:
            first, self._failing, self.refusal = not self._failing, True, refusal
            self._changed.notify_all()
            return first

    def recovered(self) -> bool:
        """Note a successful attempt; return whether the one before had failed."""
        with self._changed:
            was, self._failing, self.refusal = self._failing, False, None
            return was

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        with self._changed:
            self._aborted = True
            self._changed.notify_all()

    def discard(self) -> list[Result]:
        """Abort, and return what is left. What is being sent right now counts as left."""
        self.abort()
        with self._changed:
            left = [result for result in self._results if not result.written]
            self._results.clear()
            self._pinned = 0
            return left

    def _has_room(self) -> bool:
        return len(self._results) - self._pinned < self._capacity
