"""One connection to Redis, and the border where redis-py's exceptions become ours. Replies are raw RESP 2.

Nothing here tries again: who uses a link knows what may be repeated.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hiredis
import redis
import redis.asyncio
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamer.errors import StreamerError
from streamer.urls import redact

Part = str | bytes | int | float
Command = tuple[Part, ...]

# What a server says while it cannot serve but soon may.
_BUSY = (
    *("OOM ", "READONLY ", "LOADING ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ", "BUSY ", "NOREPLICAS ", "MISCONF "),
    *("UNBLOCKED ", "max number of clients reached"),
)
_BUSY_CLASSES = (
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.BusyLoadingError,
    exceptions.MasterDownError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
    exceptions.MaxConnectionsError,
)


class LinkError(StreamerError):
    """A server cannot be used."""


class Away(LinkError):  # noqa: N818 - named for what it is; "Error" would add nothing
    """No answer. Trying again may help."""


class Busy(Away):
    """The server answered that it cannot serve at the moment. Trying again may help."""


class Refused(LinkError):  # noqa: N818 - named for what it is; "Error" would add nothing
    """The server refuses: trying again cannot help."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds after which a silent server counts as away. *reply* must exceed the longest blocking read."""

    connect: float = 2.0
    reply: float = 4.0


def failure(url: str, error: Exception) -> LinkError:
    """Translate what redis-py raised."""
    where = f"Redis at {redact(url)}"
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthenticationWrongNumberOfArgsError):
        return Refused(f"{where} refuses the user name or password; check the URL")
    if isinstance(error, exceptions.NoPermissionError):
        return Refused(f"{where} does not permit it ({_said(error)}); extend the user's ACL")
    if isinstance(error, _BUSY_CLASSES) or str(error).startswith(_BUSY):
        return Busy(f"{where} cannot serve at the moment: {_said(error)}")
    if isinstance(error, exceptions.AskError):  # or MovedError, its child
        return Refused(f"{where} is one node of a Redis Cluster, which cannot be used; give one that stands alone")
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return Away(f"{where} does not answer in time; check that it is running and reachable")
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return Refused(f"{where} shows a certificate that cannot be verified: {error.__context__.verify_message}")
    if isinstance(error, exceptions.InvalidResponse):
        return Refused(f"{where} does not speak Redis; check host and port")
    if isinstance(error, exceptions.ConnectionError | OSError):
        return Away(f"{where} cannot be reached; check that it is running and reachable ({_said(error)})")
    return Refused(f"{where} refuses: {_said(error)}")


def _said(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


def _options(timeouts: Timeouts) -> dict[str, Any]:
    return {
        "socket_connect_timeout": timeouts.connect,
        "socket_timeout": timeouts.reply,
        "protocol": 2,
        "health_check_interval": 0,
    }


@contextmanager
def _readable(url: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:
        raise Refused(f"{redact(url)} is no Redis URL: {error}; write redis://, rediss:// or unix://") from error


class Link:
    """A connection that is made when it is first needed and made anew after it failed."""

    def __init__(self, url: str, timeouts: Timeouts = Timeouts()) -> None:
        self.url = url
        with _readable(url):
            pool = redis.ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 0), **_options(timeouts))
            self._connection: Any = pool.make_connection()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.disconnect()

    def connect(self) -> None:
        """Connect, authenticate and get one answer. Raise Away or Refused."""
        self.call("PING")

    def call(self, *command: Part) -> Any:
        """Send one command. Raise Away or Refused, also for an error that it is answered with."""
        (reply,) = self.pipeline([command])
        if isinstance(reply, Exception):
            raise failure(self.url, reply) from reply
        return reply

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Send *commands* together; return a reply for each, an error among them as redis-py's ResponseError."""
        connection = self._connection
        try:
            # In one piece: redis-py would make a system call of every 6 kB.
            packed = b"".join(map(hiredis.pack_command, commands))  # type: ignore[arg-type]  # its stub: one argument
            connection.send_packed_command([packed])
            return [self._reply() for _ in commands]
        except (exceptions.RedisError, OSError) as error:
            connection.disconnect()
            raise failure(self.url, error) from error
        except BaseException:
            connection.disconnect()  # replies that nobody has read would be taken for those of the next command
            raise

    def _reply(self) -> Any:
        try:
            return self._connection.read_response()
        except exceptions.ResponseError as error:
            return error
        except exceptions.AuthenticationError as error:  # NOAUTH: no connection was lost
            return error


class AioLink:
    """What `Link` is, for asyncio."""

    def __init__(self, url: str, timeouts: Timeouts = Timeouts()) -> None:
        self.url = url
        retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
        with _readable(url):
            pool = redis.asyncio.ConnectionPool.from_url(url, retry=retry, **_options(timeouts))
            self._connection: Any = pool.make_connection()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        await self._connection.disconnect()

    async def call(self, *command: Part) -> Any:
        """Send one command. Raise Away or Refused, also for an error that it is answered with."""
        connection = self._connection
        try:
            await connection.connect()
            await connection.send_command(*command)
            return await connection.read_response()
        except exceptions.ResponseError as error:
            raise failure(self.url, error) from error
        except (exceptions.RedisError, OSError) as error:
            await connection.disconnect()
            raise failure(self.url, error) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
