"""A bounded queue that makes its putter wait and knows when it is closed. For frames of cameras there is `intake`."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Closed(Exception):  # noqa: N818 - a state, not an error
    """The mailbox is closed (and, for a taker, empty); *reason* is what a frame that comes too late is dropped for."""

    def __init__(self, reason: str = "stopped") -> None:
        super().__init__(reason)
        self.reason = reason


class Mailbox(Generic[T]):
    """At most *capacity* items between one or more putters and one taker."""

    def __init__(self, capacity: int) -> None:
        self._items: deque[T] = deque()
        self._capacity = capacity
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Add *item* once there is room; raise Closed if nobody will take it."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._capacity or self._closed)
            if self._closed:
                raise Closed
            self._items.append(item)
            self._changed.notify_all()

    def take(self) -> T:
        """Wait for an item and return it. Raise Closed at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            if not self._items:
                raise Closed
            self._changed.notify_all()
            return self._items.popleft()

    def close(self) -> None:
        """Refuse new items; what is inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def discard(self) -> list[T]:
        """Close, and return what nobody will take any more."""
        with self._changed:
            left = list(self._items)
            self._items.clear()
            self.close()
        return left
