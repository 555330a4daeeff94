"""Questions with one answer, and the pipeline's figures."""

from __future__ import annotations

import logging
from typing import Any

from streamer.client.protocol import BLOCK_MS, Deliver, Dialogue, Session, Tuning
from streamer.client.topics import E, Topic, results
from streamer.wire.base import WireError
from streamer.wire.fields import FlowField, decode_field
from streamer.wire.ids import EntryId, Keys
from streamer.wire.messages import Message, decode
from streamer.wire.metrics import Metrics, decode_metrics

log = logging.getLogger(__name__)
_PAGE = 500  # entries of one read


def latest(camera: str, keys: Keys, tuning: Tuning) -> Dialogue[Message, None]:
    """Deliver the newest message, if there is one that has not expired."""
    data = yield from Session(tuning.backoff).ask("GET", keys.latest(camera))
    if data is not None:
        yield Deliver(decode(data))


def flow(camera: str, node: str, keys: Keys, tuning: Tuning) -> Dialogue[FlowField, None]:
    """Deliver the newest whole field of a node, if there is one that has not expired."""
    data = yield from Session(tuning.backoff).ask("GET", keys.flow(camera, node))
    if data is not None:
        yield Deliver(decode_field(data))


def history(
    camera: str, span: tuple[float | None, float | None], limit: int | None, keys: Keys, tuning: Tuning
) -> Dialogue[Message, None]:
    """Deliver what was captured in *span* (Unix seconds), oldest first; with *limit* only the newest so many."""
    start, end = (None if at is None else str(max(0, round(at * 1000))) for at in span)
    session, topic = Session(tuning.backoff), results(keys)
    if limit is None:
        yield from _forwards(session, topic, camera, (start or "-", end or "+"))
        return
    newest = yield from session.ask("XREVRANGE", topic.key(camera), end or "+", start or "-", "COUNT", limit)
    yield from _messages(topic, camera, reversed(newest))


def _forwards(session: Session, topic: Topic[E], camera: str, span: tuple[str, str]) -> Dialogue[E, None]:
    start, end = span
    while page := (yield from session.ask("XRANGE", topic.key(camera), start, end, "COUNT", _PAGE)):
        yield from _messages(topic, camera, page)
        start = str(EntryId.parse(page[-1][0]).next())


def _messages(topic: Topic[E], camera: str, entries: Any) -> Dialogue[E, None]:
    for raw, fields in entries:
        message = topic.read(EntryId.parse(raw), fields, topic.key(camera))
        if message is not None:
            yield Deliver(message)


def metrics(keys: Keys, tuning: Tuning) -> Dialogue[Metrics, None]:
    """Deliver the newest figures and then each newer ones; a slow consumer gets the newest only."""
    session = Session(tuning.backoff)
    entries = yield from session.ask("XREVRANGE", keys.metrics, "+", "-", "COUNT", 1)
    position = b"0-0"
    while True:
        if entries:
            position, fields = entries[-1]
            yield from _figures(fields)
        found = yield from session.ask("XREAD", "COUNT", _PAGE, "BLOCK", BLOCK_MS, "STREAMS", keys.metrics, position)
        entries = found[0][1] if found else ()


def _figures(fields: list[bytes]) -> Dialogue[Metrics, None]:
    try:
        yield Deliver(decode_metrics(dict(zip(fields[::2], fields[1::2], strict=True))[b"json"]))
    except (WireError, KeyError) as error:
        log.warning("figures that cannot be read are skipped: %s", error)
