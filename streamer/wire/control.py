"""Control messages: what a running pipeline is asked to do with its cameras, and what it answers.

A request is published on the channel `control`; each pipeline that it concerns pushes its answer to the list
`control:ID`, which expires.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from engines.yamlsource import Document
from engines.yamlsource import explain as explain_each
from streamer.wire.base import Wire, WireError, explain

Command = Literal["add", "remove", "pause", "resume", "list"]
LONGEST = 1 << 16  # bytes of a request

_ID = r"[A-Za-z0-9_-]{1,64}"
_ID_IN_RUINS = re.compile(rb'"id"\s*:\s*"(' + _ID.encode() + rb')"')


class Request(Wire):
    """What somebody wants. A pipeline that is not the one named stays silent; without a name, all are meant."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[Literal[1], Field(alias="schema")] = 1
    id: Annotated[str, Field(pattern=f"^{_ID}$")]
    command: Command
    camera: str | None = None
    settings: dict[str, Any] | None = None  # of "add": as under `cameras` in a pipeline file
    pipeline: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Request:
        if self.command != "list" and not self.camera:
            raise ValueError(f"{self.command} needs a camera; name one")
        if self.command == "add" and self.settings is None:
            raise ValueError("add needs settings, at least a url")
        return self


class CameraInfo(Wire):
    """One camera of a pipeline, and how it is doing."""

    url: str  # without user and password
    state: str
    error: str | None = None
    fps_in: float = 0.0
    fps_out: float = 0.0


class Answer(Wire):
    """What one pipeline answers: its cameras afterwards, or in one sentence why nothing was done."""

    version: Annotated[Literal[1], Field(alias="schema")] = 1
    id: str
    pipeline: str
    ok: bool
    error: str | None = None
    cameras: dict[str, CameraInfo] = Field(default_factory=dict)


def encode(part: Request | Answer) -> bytes:
    return part.model_dump_json(by_alias=True, exclude_none=True).encode()


def decode_request(data: bytes) -> Request:
    """Read a request. Raise WireError, in one sentence, when *data* is none."""
    if len(data) > LONGEST:
        raise WireError(f"control message: has {len(data)} bytes, more than {LONGEST}; send one camera at a time")
    try:
        plain = from_json(data)
    except ValueError as error:
        raise WireError(f"control message: is not JSON: {error}") from None
    try:
        return Request.model_validate(plain)
    except ValidationError as error:
        faults = explain_each(error, Document(plain, "control message"), Request)
        raise WireError("; ".join(faults)) from None


def decode_answer(data: bytes) -> Answer:
    """Read an answer. Raise WireError when *data* is none."""
    try:
        return Answer.model_validate_json(data)
    except ValidationError as error:
        raise WireError(explain(error, "answer")) from error


def find_id(data: bytes) -> str | None:
    """Find the id in what is no request, so that whoever sent it hears why."""
    match = _ID_IN_RUINS.search(data[:LONGEST])
    return match[1].decode() if match else None
