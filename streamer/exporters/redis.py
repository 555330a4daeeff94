"""The pipeline's figures into Redis: one hash of cameras, and a stream with an entry an export."""

from __future__ import annotations

import threading

from streamer.errors import SinkError, SinkUnusable
from streamer.stats import Stats
from streamer.wire.ids import PREFIX, Keys
from streamer.wire.link import Command, Link, LinkError, Refused, Timeouts, failure
from streamer.wire.metrics import encode_camera, encode_metrics

_KEPT = 3600  # entries: about an hour
_TIMEOUTS = Timeouts(connect=1.0, reply=1.0)


class RedisExporter:
    """Write figures to the Redis at *url*. Tries once an export; the next one makes up for it."""

    def __init__(self, url: str, prefix: str = PREFIX, timeouts: Timeouts = _TIMEOUTS) -> None:
        """Connect to nothing yet. Raise SinkUnusable when *url* is none of Redis."""
        self._keys = Keys(prefix)
        self._lock = threading.Lock()  # a link serves one caller
        self._there: frozenset[str] = frozenset()  # cameras that we may have put into the hash
        try:
            self._link = Link(url, timeouts)
        except Refused as error:
            raise SinkUnusable(str(error)) from error

    def __enter__(self) -> RedisExporter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def export(self, stats: Stats) -> None:
        """Write *stats*. Raise SinkError when Redis does not take them, within the timeouts.

        A camera that was removed leaves the hash; what another pipeline has put there stays.
        """
        add: Command = ("XADD", self._keys.metrics, "MAXLEN", "~", _KEPT, "*", "json", encode_metrics(stats))
        cameras = [part for name, camera in stats.cameras.items() for part in (name, encode_camera(camera, stats.at))]
        try:
            with self._lock:
                gone = sorted(self._there - stats.cameras.keys())
                self._there |= stats.cameras.keys()  # before it is known whether they arrive
                self._write(
                    [
                        *([("HDEL", self._keys.cameras, *gone)] if gone else []),
                        *([("HSET", self._keys.cameras, *cameras)] if cameras else []),
                        add,
                    ]
                )
                self._there = frozenset(stats.cameras)
        except LinkError as error:
            raise SinkError(str(error)) from error

    def close(self) -> None:
        with self._lock:
            self._link.close()

    def _write(self, commands: list[Command]) -> None:
        for reply in self._link.pipeline(commands):
            if isinstance(reply, Exception):
                raise failure(self._link.url, reply) from reply
