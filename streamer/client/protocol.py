"""What a client says and hears, without any I/O: generators that yield steps and are sent replies.

The drivers (`streamer.client` and `streamer.client.aio`) carry the steps out; nothing else differs between them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from streamer.backoff import Backoff
from streamer.errors import StreamerError
from streamer.wire.link import Away, Command, Part, Refused, Timeouts

log = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

BLOCK_MS = 500  # of one blocking read: how soon a new camera is noticed


class ClientError(StreamerError):
    """Redis cannot be read: nobody answered the first call, or it refuses."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a subscription may be told beyond what it reads."""

    backlog: int = 64  # messages that a subscriber without a group may be behind before it skips to the newest
    claim_after: float = 30.0  # seconds after which what a consumer of the group has not acknowledged goes to another
    chunk: int = 16  # messages that a consumer of a group reads ahead
    backoff: Backoff = field(default_factory=lambda: Backoff(0.1, 5.0))
    timeouts: Timeouts = field(default_factory=Timeouts)
    now: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Call:
    """Send a command; its reply is sent back, or Away or Refused thrown in."""

    command: Command


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class Ready:
    """From now on nothing is overlooked."""


@dataclass(frozen=True, slots=True)
class Deliver(Generic[T]):
    """Hand a value to the consumer; the generator goes on when the consumer asks for the next one."""

    value: T


Dialogue: TypeAlias = Generator[Call | Wait | Ready | Deliver[T], Any, R]


class Session:
    """Ask a server that may go away. Every command must be harmless when repeated."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._met = False
        self.outages = 0

    def ask(self, *command: Part) -> Dialogue[Any, Any]:
        """Return the reply, however long it takes. Only a server that never answered raises Away."""
        delays = None
        while True:
            try:
                reply = yield Call(command)
            except Away as error:
                if not self._met:
                    raise
                if delays is None:
                    log.warning("%s; trying again", error)
                    delays = self._backoff.delays()
                    self.outages += 1
                yield Wait(next(delays))
            except Refused:
                self._met = True  # whatever it refuses, it answers
                raise
            else:
                if delays is not None:
                    log.info("Redis answers again")
                self._met = True
                return reply
