"""What GStreamer's errors mean for a source: one sentence each, and whether trying again can help."""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamer.errors import SourceError, SourceUnusable
from streamer.sources.gstreamer_library import install_usual
from streamer.urls import redact

_CORE, _RESOURCE, _STREAM = "gst-core-error-quark", "gst-resource-error-quark", "gst-stream-error-quark"
_NOT_FOUND = (_RESOURCE, 3)
_UNREACHABLE = {(_RESOURCE, 5), (_RESOURCE, 7)}  # opening for reading, or for reading and writing
_UNREAD = {(_RESOURCE, 9), (_STREAM, 1)}
_REFUSED = (_RESOURCE, 15)
_NO_VIDEO = {(_STREAM, 2), (_STREAM, 3), (_STREAM, 4), (_STREAM, 5), (_STREAM, 9)}
_NO_DECODER = {(_CORE, 12), (_STREAM, 6)}
_SECRET = re.compile(r"""(?i)\b([\w-]*(?:pw|pass\w*|secret|token|key))\s*=\s*(?:"[^"]*"|'[^']*'|\S+)""")


@dataclass(frozen=True, slots=True)
class Trouble:
    """An error as an element posted it: *domain* and *code* are GStreamer's, *reason* its own words."""

    domain: str
    code: int
    reason: str

    @property
    def kind(self) -> tuple[str, int]:
        return self.domain, self.code


def opening(shown: str, trouble: Trouble, live: bool) -> SourceError:
    """Say why a source gave no picture at all; *shown* is how messages call it."""
    lasting = SourceError if live else SourceUnusable
    kind, reason = trouble.kind, hidden(trouble.reason)
    if kind == _REFUSED:
        return SourceUnusable(f"{shown} refuses the user name and password; correct them in its URL")
    if kind in _NO_DECODER:
        return SourceUnusable(f"{shown} needs a plugin that GStreamer lacks here ({reason}); {install_usual()}")
    if kind == _NOT_FOUND:
        return lasting(f"{shown} is not there ({reason}); check its path")
    if kind in _NO_VIDEO:
        return lasting(f"{shown} is cut short or not a video ({reason}); check that it plays")
    if kind in _UNREACHABLE or kind in _UNREAD:
        return SourceError(
            f"{shown} cannot be reached or refuses the connection; is it switched on, and the port right?"
        )
    return SourceError(f"{shown} cannot be opened ({reason}); check its address and the network")


def reading(shown: str, trouble: Trouble) -> SourceError:
    """Say why a source that had given pictures broke off."""
    return SourceError(f"{shown} broke off ({hidden(trouble.reason)}); check it and the network")


def hidden(text: str) -> str:
    """Hide the passwords of a message or of a pipeline's description, in one line."""
    words = (redact(word) for word in text.split())
    return _SECRET.sub(r"\1=***", " ".join(words)).rstrip(".")
