"""Asking running pipelines to change their cameras: one request, and the answers of all who heard it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from streamer.client.protocol import ClientError, Deliver, Dialogue, Session, Tuning
from streamer.urls import redact
from streamer.wire.base import SCHEMA
from streamer.wire.control import Answer, Command, Request, decode_answer, decode_request, encode
from streamer.wire.ids import Keys

_LONGEST_BLOCK = 1.0  # seconds of one blocking read: well below the time in which a server must reply


@dataclass(frozen=True, slots=True)
class Where:
    """Which pipelines are asked, and how long their answers are waited for, in seconds."""

    url: str
    keys: Keys
    timeout: float


class Unanswered(ClientError):  # noqa: N818 - named for what it is; "Error" would add nothing
    """Redis is there, but no pipeline listens, or none answers in time."""


def request(command: Command, camera: str | None, settings: Mapping[str, Any] | None, pipeline: str | None) -> Request:
    """Write a request under an id that nobody else has. Raise WireError when it is none."""
    plain = {"command": command, "camera": camera, "settings": settings, "pipeline": pipeline}
    given = {key: value for key, value in plain.items() if value is not None}
    return decode_request(to_json({"schema": SCHEMA, "id": secrets.token_hex(8), **given}))


def ask(wanted: Request, where: Where, tuning: Tuning) -> Dialogue[Answer, None]:
    """Deliver the answers as they come, until all who heard the request have answered or the time is over.

    Raises Unanswered when nobody hears it, or nobody answers; ClientError when Redis is not there.
    """
    session, keys = Session(tuning.backoff), where.keys
    hearers = yield from session.ask("PUBLISH", keys.control, encode(wanted))
    if not hearers:
        raise Unanswered(f"no pipeline listens at {_shown(where)}; start one that publishes there, or name another")
    awaited = 1 if wanted.pipeline else hearers
    deadline, answers = tuning.now() + where.timeout, 0
    while answers < awaited and (left := deadline - tuning.now()) > 0:
        block = f"{min(max(left, 0.01), _LONGEST_BLOCK):.3f}"  # 0 would be for ever
        popped = yield from session.ask("BLPOP", keys.answer(wanted.id), block)
        if popped is not None:
            answers += 1
            yield Deliver(decode_answer(popped[1]))
    if not answers:
        whom = "whoever listens" if wanted.pipeline is None else f"no pipeline called {wanted.pipeline!r}"
        fault = "does not answer" if wanted.pipeline is None else "answers"
        raise Unanswered(f"{whom} at {_shown(where)} {fault} within {where.timeout:g} s; see `streamer cameras list`")


def _shown(where: Where) -> str:
    return f"{redact(where.url)} under {where.keys.prefix!r}"
