"""One channel of Redis, heard for as long as somebody wants to."""

from __future__ import annotations

import select
import socket
import threading

from redis import exceptions

from streamer.wire.link import Away, Link, Timeouts, failure

_TIMEOUTS = Timeouts()
_QUIET = 15.0  # seconds of silence after which the server is asked whether it is still there


class Subscription(Link):
    """A link that hears one channel. A server that is gone without a word is noticed, and a wait can be ended."""

    def __init__(self, url: str, channel: str, timeouts: Timeouts = _TIMEOUTS, quiet: float = _QUIET) -> None:
        """Connect to nothing yet. Raise Refused when *url* is none of Redis."""
        super().__init__(url, timeouts)
        self._channel, self._patience, self._quiet = channel, timeouts.reply, quiet
        self._over = threading.Event()
        self._ear, self._bell = socket.socketpair()

    def __enter__(self) -> Subscription:
        return self

    def close(self) -> None:
        super().close()
        self._ear.close()
        self._bell.close()

    def subscribe(self) -> None:
        """Hear what is published from now on. Raise Away or Refused."""
        self.call("SUBSCRIBE", self._channel)

    def hear(self) -> bytes | None:
        """Wait for the next message; return None after `hang_up`. Raise Away or Refused."""
        try:
            while not self._over.is_set():
                kind, *rest = self._next()
                if kind == b"message":
                    return bytes(rest[1])
        except (exceptions.RedisError, OSError) as error:
            self._connection.disconnect()
            raise failure(self.url, error) from error
        return None

    def hang_up(self) -> None:
        """End a `hear` that waits in another thread, and every later one."""
        self._over.set()
        self._bell.send(b".")

    def _next(self) -> list[bytes]:
        if not self._readable(self._quiet):
            self._connection.send_command("PING", check_health=False)
            if not self._readable(self._patience):
                self._connection.disconnect()
                raise Away(str(failure(self.url, exceptions.TimeoutError())))
        if self._over.is_set():
            return [b"over"]
        answer: list[bytes] = self._connection.read_response()
        return answer

    def _readable(self, seconds: float) -> bool:
        """Wait until there is something to read, or `hang_up`."""
        connection = self._connection
        if connection.can_read(0):
            return True
        poll = select.poll()  # not select.select: that knows no descriptor above 1024
        poll.register(connection._sock, select.POLLIN)
        poll.register(self._ear, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
