"""A bounded queue that can drop its oldest item and knows when it is closed."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):  # noqa: N818 - a state, not an error
    """The mailbox is closed (and, for a taker, empty)."""


class Mailbox(Generic[T]):
    """At most *capacity* items between one or more putters and one taker."""

    def __init__(
        self,
        capacity: int,
        on_drop: Callable[[T], None] | None = None,
        changed: threading.Condition | None = None,
    ) -> None:
        """Drop the oldest item when full if *on_drop* is given; otherwise make `put` wait.

        Mailboxes that share one *changed* condition can be waited on together.
        """
        self._items: deque[T] = deque()
        self._capacity, self._on_drop = capacity, on_drop
        self._changed = threading.Condition() if changed is None else changed
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def finished(self) -> bool:
        """Whether nothing is left and nothing will come."""
        return self._closed and not self._items

    def put(self, item: T) -> None:
        """Add *item*; raise Closed if nobody will take it."""
        dropped: list[T] = []
        with self._changed:
            if self._on_drop is None:
                self._changed.wait_for(lambda: len(self._items) < self._capacity or self._closed)
            if self._closed:
                raise Closed
            while len(self._items) >= self._capacity:
                dropped.append(self._items.popleft())
            self._items.append(item)
            self._changed.notify_all()
        if self._on_drop is not None:
            for old in dropped:  # outside the lock: an observer may be slow
                self._on_drop(old)

    def take(self, limit: int, linger: float = 0.0) -> list[T]:
        """Wait for an item, then up to *linger* seconds for more; return at most *limit*. Raise Closed at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            if not self._items:
                raise Closed
            deadline = time.monotonic() + linger
            while len(self._items) < limit and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            return self._pop(limit)

    def poll(self, limit: int) -> list[T]:
        """Return at most *limit* items without waiting."""
        with self._changed:
            return self._pop(limit)

    def close(self) -> None:
        """Refuse new items; what is inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def discard(self) -> list[T]:
        """Close, and return what nobody will take any more."""
        self.close()
        return self.poll(self._capacity)

    def _pop(self, limit: int) -> list[T]:
        taken = [self._items.popleft() for _ in range(min(limit, len(self._items)))]
        if taken:
            self._changed.notify_all()
        return taken
