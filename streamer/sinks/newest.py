"""Values of which only the newest counts, such as whole flow fields: one for each key, however long Redis is away."""

from __future__ import annotations

import threading
from collections.abc import Mapping


class Newest:
    """The newest value of each key, and no more than *limit* bytes of them: those given longest ago go first.

    One value is kept however large it is.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[str, bytes] = {}  # given longest ago first
        self._lock = threading.Lock()
        self.size = 0  # bytes

    def __len__(self) -> int:
        return len(self._values)

    def put(self, values: Mapping[str, bytes]) -> None:
        with self._lock:
            for key, value in values.items():
                self._remove(key)
                self._values[key] = value
                self.size += len(value)
            self._trim()

    def take(self, limit: int) -> dict[str, bytes]:
        """Take values of *limit* bytes at most, but one at least: those first that were given longest ago."""
        taken: dict[str, bytes] = {}
        with self._lock:
            room = limit
            for key, value in self._values.items():
                room -= len(value)
                if taken and room < 0:
                    break
                taken[key] = value
            for key in taken:
                self._remove(key)
        return taken

    def put_back(self, values: Mapping[str, bytes]) -> None:
        """Put what could not be written where nothing newer is."""
        with self._lock:
            self._values = {**values, **self._values}
            self.size = sum(map(len, self._values.values()))
            self._trim()

    def _remove(self, key: str) -> None:
        self.size -= len(self._values.pop(key, b""))

    def _trim(self) -> None:
        while self.size > self._limit and len(self._values) > 1:
            self._remove(next(iter(self._values)))
