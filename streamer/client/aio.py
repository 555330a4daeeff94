"""`streamer.client` for asyncio: the same names, the same dialogues.

    from streamer.client import aio
    async for message in aio.subscribe(camera="gate"):
        ...

Leave early with `async with contextlib.aclosing(aio.subscribe(...)) as messages`, and the connection is closed at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, TypeVar

from streamer.client import pipelines, queries, topics
from streamer.client.api import URL, Whose, subscription
from streamer.client.protocol import Call, ClientError, Deliver, Dialogue, Tuning, Wait
from streamer.wire.control import Answer, Command
from streamer.wire.events import Event
from streamer.wire.fields import FlowField
from streamer.wire.ids import PREFIX, Keys
from streamer.wire.link import AioLink, LinkError
from streamer.wire.messages import Message
from streamer.wire.metrics import Metrics

__all__ = ["control", "events", "flow", "history", "latest", "metrics", "subscribe"]
T = TypeVar("T")
_TUNING = Tuning()


def subscribe(
    url: str = URL,
    *,
    camera: str | Sequence[str] | None = None,
    group: str | None = None,
    consumer: str | None = None,
    prefix: str = PREFIX,
    tuning: Tuning = _TUNING,
) -> AsyncGenerator[Message, None]:
    """Do what `streamer.client.subscribe` does; it begins with the first `anext`."""
    return _drive(subscription(topics.results(Keys(prefix)), Whose(camera, group, consumer), tuning), url, tuning)


def events(
    url: str = URL,
    *,
    camera: str | Sequence[str] | None = None,
    group: str | None = None,
    consumer: str | None = None,
    prefix: str = PREFIX,
    tuning: Tuning = _TUNING,
) -> AsyncGenerator[Event, None]:
    """Do what `streamer.client.events` does; it begins with the first `anext`."""
    return _drive(subscription(topics.events(Keys(prefix)), Whose(camera, group, consumer), tuning), url, tuning)


async def latest(url: str, camera: str, *, prefix: str = PREFIX) -> Message | None:
    """Do what `streamer.client.latest` does."""
    return await anext(_drive(queries.latest(camera, Keys(prefix), _TUNING), url, _TUNING), None)


async def flow(url: str, camera: str, node: str, *, prefix: str = PREFIX) -> FlowField | None:
    """Do what `streamer.client.flow` does."""
    return await anext(_drive(queries.flow(camera, node, Keys(prefix), _TUNING), url, _TUNING), None)


def history(
    url: str,
    camera: str,
    *,
    start: float | None = None,
    end: float | None = None,
    limit: int | None = None,
    prefix: str = PREFIX,
) -> AsyncGenerator[Message, None]:
    """Do what `streamer.client.history` does."""
    return _drive(queries.history(camera, (start, end), limit, Keys(prefix), _TUNING), url, _TUNING)


def metrics(url: str = URL, *, prefix: str = PREFIX, tuning: Tuning = _TUNING) -> AsyncGenerator[Metrics, None]:
    """Do what `streamer.client.metrics` does."""
    return _drive(queries.metrics(Keys(prefix), tuning), url, tuning)


async def control(
    url: str,
    command: Command,
    camera: str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    pipeline: str | None = None,
    prefix: str = PREFIX,
    timeout: float = 2.0,  # noqa: ASYNC109 - of the pipelines, that have so long to answer; not of the call
) -> list[Answer]:
    """Do what `streamer.client.control` does."""
    request = pipelines.request(command, camera, settings, pipeline)
    where = pipelines.Where(url, Keys(prefix), timeout)
    return [answer async for answer in _drive(pipelines.ask(request, where, _TUNING), url, _TUNING)]


async def _drive(dialogue: Dialogue[T, None], url: str, tuning: Tuning) -> AsyncGenerator[T, None]:
    """Carry out *dialogue* over one connection."""
    link = None
    try:
        link = AioLink(url, tuning.timeouts)
        step = next(dialogue)
        while True:
            reply = None
            match step:
                case Call(command):
                    try:
                        reply = await link.call(*command)
                    except LinkError as error:
                        step = dialogue.throw(error)
                        continue
                case Wait(seconds):
                    await asyncio.sleep(seconds)
                case Deliver(value):
                    yield value
            step = dialogue.send(reply)
    except StopIteration:
        return
    except LinkError as error:
        raise ClientError(str(error)) from error
    finally:
        if link is not None:
            await link.close()
