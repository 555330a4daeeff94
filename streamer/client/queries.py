"""Questions with one answer, and the pipeline's figures."""

from __future__ import annotations

import logging
from typing import Any

from streamer.client.protocol import BLOCK_MS, Deliver, Dialogue, Session, Tuning, read_message
from streamer.wire.ids import EntryId, Keys
from streamer.wire.messages import Message, WireError, decode
from streamer.wire.metrics import Metrics, decode_metrics

log = logging.getLogger(__name__)
_PAGE = 500  # entries of one read


def latest(camera: str, keys: Keys, tuning: Tuning) -> Dialogue[Message, None]:
    """Deliver the newest message, if there is one that has not expired."""
    data = yield from Session(tuning.backoff).ask("GET", keys.latest(camera))
    if data is not None:
        yield Deliver(decode(data))


def history(
    camera: str, span: tuple[float | None, float | None], limit: int | None, keys: Keys, tuning: Tuning
) -> Dialogue[Message, None]:
    """Deliver what was captured in *span* (Unix seconds), oldest first; with *limit* only the newest so many."""
    start, end = (None if at is None else str(max(0, round(at * 1000))) for at in span)
    session, key = Session(tuning.backoff), keys.results(camera)
    if limit is None:
        yield from _forwards(session, key, start or "-", end or "+")
        return
    newest = yield from session.ask("XREVRANGE", key, end or "+", start or "-", "COUNT", limit)
    yield from _messages(key, reversed(newest))


def _forwards(session: Session, key: str, start: str, end: str) -> Dialogue[Message, None]:
    while page := (yield from session.ask("XRANGE", key, start, end, "COUNT", _PAGE)):
        yield from _messages(key, page)
        start = str(EntryId.parse(page[-1][0]).next())


def _messages(key: str, entries: Any) -> Dialogue[Message, None]:
    for raw, fields in entries:
        message = read_message(EntryId.parse(raw), fields, key)
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
