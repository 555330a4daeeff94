"""What a dashboard or a consumer imports: results and figures from Redis, typed. `aio` is the same for asyncio.

from streamer.client import subscribe
for message in subscribe("redis://localhost:6379/0", camera="gate"):
    print(message.seq, message.results)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from streamer.client import pipelines, queries, topics
from streamer.client.api import URL, Whose, subscription
from streamer.client.pipelines import Unanswered
from streamer.client.protocol import Call, ClientError, Deliver, Dialogue, Ready, Tuning, Wait
from streamer.wire.control import Answer, CameraInfo, Command
from streamer.wire.events import Event
from streamer.wire.fields import FlowField
from streamer.wire.ids import PREFIX, Keys
from streamer.wire.link import Link, LinkError
from streamer.wire.messages import Message
from streamer.wire.metrics import Metrics

__all__ = [
    "Answer",
    "CameraInfo",
    "ClientError",
    "Command",
    "Event",
    "FlowField",
    "Message",
    "Metrics",
    "Tuning",
    "Unanswered",
    "control",
    "events",
    "flow",
    "history",
    "latest",
    "metrics",
    "subscribe",
]
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
) -> Iterator[Message]:
    """Return an endless iterator over the results of one, several or all cameras, new ones included.

    Without *group*: what comes from now on. A subscriber more than `tuning.backlog` messages behind a camera skips
    to its newest, and `message.missed` says how many it did not see; entries that are no messages count as missed.
    With *group*: every entry from the oldest on, once among its consumers, acknowledged when the next one is asked
    for; see `streamer.client.group`. A *consumer* that keeps its name gets back first what it had not acknowledged.
    Waits while Redis is away. Raises ClientError when nothing answers at first, or Redis refuses.
    """
    return _begun(
        _steps(subscription(topics.results(Keys(prefix)), Whose(camera, group, consumer), tuning), url, tuning)
    )


def events(
    url: str = URL,
    *,
    camera: str | Sequence[str] | None = None,
    group: str | None = None,
    consumer: str | None = None,
    prefix: str = PREFIX,
    tuning: Tuning = _TUNING,
) -> Iterator[Event]:
    """Return an endless iterator over what happens before one, several or all cameras.

    Lines are crossed, zones entered and left, actions start and end. A stream of their own is read, so nothing else is
    decoded; all that is said of `subscribe` holds.
    """
    return _begun(
        _steps(subscription(topics.events(Keys(prefix)), Whose(camera, group, consumer), tuning), url, tuning)
    )


def latest(url: str, camera: str, *, prefix: str = PREFIX) -> Message | None:
    """Return the newest result of *camera*, or None when there is none that has not expired."""
    return next(_values(_steps(queries.latest(camera, Keys(prefix), _TUNING), url, _TUNING)), None)


def flow(url: str, camera: str, node: str, *, prefix: str = PREFIX) -> FlowField | None:
    """Return the newest whole field of a flow node with `field: true`, or None where none is that has not expired."""
    return next(_values(_steps(queries.flow(camera, node, Keys(prefix), _TUNING), url, _TUNING)), None)


def history(
    url: str,
    camera: str,
    *,
    start: float | None = None,
    end: float | None = None,
    limit: int | None = None,
    prefix: str = PREFIX,
) -> Iterator[Message]:
    """Iterate over what *camera* captured from *start* to *end* (Unix seconds, both included), oldest first.

    With *limit*, only the newest so many. Entries that are no messages are skipped.
    """
    return _values(_steps(queries.history(camera, (start, end), limit, Keys(prefix), _TUNING), url, _TUNING))


def metrics(url: str = URL, *, prefix: str = PREFIX, tuning: Tuning = _TUNING) -> Iterator[Metrics]:
    """Iterate over the pipeline's figures: the newest at once if there are any, then each newer ones. Endless."""
    return _values(_steps(queries.metrics(Keys(prefix), tuning), url, tuning))


def control(
    url: str,
    command: Command,
    camera: str | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    pipeline: str | None = None,
    prefix: str = PREFIX,
    timeout: float = 2.0,
) -> list[Answer]:
    """Ask the pipelines that publish at *url* to change their cameras while they run; return what each answers.

        control(url, "add", "gate", {"url": "rtsp://10.0.0.5/stream1", "fps": 5})   # or re-aim it, if it is there
        control(url, "pause", "gate"); control(url, "resume", "gate"); control(url, "remove", "gate")
        for answer in control(url, "list"): print(answer.pipeline, answer.cameras)

    *settings* are those that stand under `cameras` in a pipeline file. *pipeline* is the name of the only one that is
    meant. An answer that is not `ok` says why in `error`; then nothing was changed there. Raises Unanswered when
    nobody listens, or nobody answers within *timeout* seconds; ClientError when Redis is not there; WireError when what
    is asked is no request.
    """
    request = pipelines.request(command, camera, settings, pipeline)
    where = pipelines.Where(url, Keys(prefix), timeout)
    return list(_values(_steps(pipelines.ask(request, where, _TUNING), url, _TUNING)))


def _steps(dialogue: Dialogue[T, None], url: str, tuning: Tuning) -> Iterator[Ready | Deliver[T]]:
    """Carry out *dialogue* over one connection; yield the steps that concern the caller."""
    try:
        with Link(url, tuning.timeouts) as link:
            step = next(dialogue)
            while True:
                reply = None
                match step:
                    case Call(command):
                        try:
                            reply = link.call(*command)
                        except LinkError as error:
                            step = dialogue.throw(error)
                            continue
                    case Wait(seconds):
                        time.sleep(seconds)
                    case _:
                        yield step
                step = dialogue.send(reply)
    except StopIteration:
        return
    except LinkError as error:
        raise ClientError(str(error)) from error


def _values(steps: Iterator[Ready | Deliver[T]]) -> Iterator[T]:
    return (step.value for step in steps if isinstance(step, Deliver))


def _begun(steps: Iterator[Ready | Deliver[T]]) -> Iterator[T]:
    """Go on until nothing is overlooked any more, so that what is written after the call is seen."""
    for step in steps:
        if isinstance(step, Ready):
            break
    return _values(steps)
