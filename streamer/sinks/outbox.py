"""What waits to be written. The first results are pinned while on their way; of the others the oldest go when full."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

from streamer.errors import SinkError, SinkUnusable
from streamer.sinks.newest import Newest
from streamer.wire.ids import EntryId

WhenFull = Literal["drop-oldest", "wait"]
BATCH_BYTES = 1 << 19  # so that a batch crosses a slow network within the reply timeout


@dataclass(slots=True, eq=False)
class Result:
    """One message, or one event, on its way to a stream."""

    camera: str
    captured_at: float  # Unix seconds
    key: str  # of the stream
    id: EntryId
    payload: bytes
    channel: str | None = None  # where a message is published as well, and then becomes the latest; None: an event
    copies: int = 0  # sent, and nobody knows whether they arrived
    announced: bool = False  # it is out on the channel
    written: bool = False  # it has arrived


class Capacity(NamedTuple):
    """The bounds of an outbox, besides the batch that is being written."""

    results: int
    size: int  # bytes


class Outbox:
    """Results in order, the first of them pinned while they are being written, and what both threads must know."""

    def __init__(self, capacity: Capacity, when_full: WhenFull) -> None:
        self._capacity, self._drops = capacity, when_full == "drop-oldest"
        self.newest = Newest(capacity.size // 2)  # beside the results, and within the same bound
        self._results: deque[Result] = deque()
        self._size = 0  # bytes of all results
        self._pinned = 0  # may have arrived: neither dropped nor counted until that is known
        self._pinned_size = 0
        self._changed = threading.Condition()
        self._closed = self._aborted = self._failing = False
        self.refusal: SinkUnusable | None = None

    @property
    def hopeless(self) -> bool:
        """Whether nothing more can be written before the end."""
        return self._aborted or (self._closed and self.refusal is not None)

    @property
    def size(self) -> int:
        """The bytes that are held here."""
        return self._size + self.newest.size

    def put(self, results: Iterable[Result]) -> list[Result]:
        """Add *results*; return what had to go for them. Raise SinkError when they can never be written."""
        dropped: list[Result] = []
        with self._changed:
            self._refuse()
            for result in results:
                dropped += self._make_room(result)
                self._results.append(result)
                self._size += len(result.payload)
            self._changed.notify_all()
        return dropped

    def wait(self) -> bool:
        """Wait for something to write, or for nothing after a failure; return False when nothing is left to do."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._results or self.newest or self._failing or self._closed or self._aborted
            )
            return bool(self._results or self.newest or not self._closed) and not self._aborted

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
                if batch and size > BATCH_BYTES:
                    break
                batch.append(result)
            self._pin(batch)
            return batch

    def settle(self) -> list[Result]:
        """Let go of what is written and return it; unpin what has certainly not arrived."""
        with self._changed:
            pinned = [self._results.popleft() for _ in range(self._pinned)]
            written, left = _by_arrival(pinned)
            self._results.extendleft(reversed(left))
            self._size -= _size(written)
            self._pin([result for result in left if result.copies])
            self._changed.notify_all()
            return written

    def failed(self, refusal: SinkUnusable | None) -> None:
        """Note a failed attempt, and whether it is no use to try again."""
        with self._changed:
            self._failing, self.refusal = True, refusal
            self._changed.notify_all()

    def recovered(self) -> None:
        """Note a successful attempt."""
        with self._changed:
            self._failing, self.refusal = False, None

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
            written, left = _by_arrival(self._results)
            self._results = deque(written)  # for `settle`, which tells of them
            self._size = _size(written)
            self._pin(written)
            return left

    def _refuse(self) -> None:
        """Raise when what is put here could never be written. Where the oldest go anyway, a refusal may yet pass."""
        if self._aborted or self._closed:
            raise SinkError("redis: is closed; open another sink to write more")
        if self.refusal is not None and not self._drops:
            raise self.refusal

    def _make_room(self, result: Result) -> list[Result]:
        dropped: list[Result] = []
        while not self._has_room(result):
            if self._drops:
                dropped.append(self._drop())
            else:
                self._changed.notify_all()
                self._changed.wait()
                self._refuse()
        return dropped

    def _has_room(self, result: Result) -> bool:
        """Whether *result* fits; where nothing else waits, it does whatever its size."""
        waiting = len(self._results) - self._pinned
        size = self.size - self._pinned_size + len(result.payload)
        return not waiting or (waiting < self._capacity.results and size <= self._capacity.size)

    def _drop(self) -> Result:
        oldest = self._results[self._pinned]
        del self._results[self._pinned]
        self._size -= len(oldest.payload)
        return oldest

    def _pin(self, first: Sequence[Result]) -> None:
        self._pinned, self._pinned_size = len(first), _size(first)


def _by_arrival(results: Iterable[Result]) -> tuple[list[Result], list[Result]]:
    """Part what is written from what is not, each looked at once: the writer may be at it."""
    written: list[Result] = []
    left: list[Result] = []
    for result in results:
        (written if result.written else left).append(result)
    return written, left


def _size(results: Iterable[Result]) -> int:
    return sum(len(result.payload) for result in results)
