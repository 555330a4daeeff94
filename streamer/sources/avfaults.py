"""What FFmpeg's errors mean for a source: one sentence each, and whether trying again can help."""

from __future__ import annotations

from av import error as av_error

from streamer.errors import SourceError, SourceUnusable

_Meaning = tuple[type[SourceError], str]

_ANYWHERE: tuple[tuple[type[Exception], _Meaning], ...] = (
    (av_error.HTTPUnauthorizedError, (SourceUnusable, "refuses the user name and password; correct them in its URL")),
    (av_error.HTTPForbiddenError, (SourceUnusable, "forbids access; ask for a user that may watch it")),
    (av_error.ProtocolNotFoundError, (SourceUnusable, "speaks a protocol that this PyAV cannot; use RTSP or HTTP")),
    (av_error.DecoderNotFoundError, (SourceUnusable, "is coded in a way that no decoder here reads; re-encode it")),
    (av_error.PermissionError, (SourceUnusable, "may not be read by this user; change its permissions")),
    (av_error.ConnectionRefusedError, (SourceError, "refuses the connection; is it switched on, and the port right?")),
)
_LIVE: tuple[tuple[type[Exception], _Meaning], ...] = (
    (av_error.FileNotFoundError, (SourceError, "is not there; plug it in, or see what there is: ls /dev/video*")),
    (av_error.HTTPNotFoundError, (SourceError, "has no such stream (404); check the path of its URL")),
    (av_error.InvalidDataError, (SourceError, "sends nothing that can be read as video; check the path of its URL")),
)
_RECORDED: tuple[tuple[type[Exception], _Meaning], ...] = (
    (av_error.FileNotFoundError, (SourceUnusable, "does not exist; check its path")),
    (av_error.HTTPNotFoundError, (SourceUnusable, "does not exist (404); check its URL")),
    (av_error.EOFError, (SourceUnusable, "is cut short, or holds no frames; check that it plays, or copy it again")),
    (av_error.InvalidDataError, (SourceUnusable, "is cut short or not a video; check that it plays, or copy it again")),
)


def unanswered(shown: str, timeout: float) -> SourceError:
    return SourceError(f"{shown} did not answer within {timeout:g} s; is it switched on and reachable?")


def opening(shown: str, error: Exception, live: bool) -> SourceError:
    """Say why a source cannot be opened; *shown* is how messages call it."""
    for kind, (fault, sentence) in (*_ANYWHERE, *(_LIVE if live else _RECORDED)):
        if isinstance(error, kind):
            return fault(f"{shown} {sentence}")
    return SourceError(f"{shown} cannot be opened ({reason(error)}); check its address and the network")


def reading(shown: str, error: Exception, timeout: float) -> SourceError:
    """Say why a source that was open broke off."""
    if is_timeout(error):
        return silent(shown, timeout)
    return SourceError(f"{shown} broke off ({reason(error)}); check it and the network")


def silent(shown: str, timeout: float) -> SourceError:
    return SourceError(f"{shown} sent no picture for {timeout:g} s; is it overloaded, or the network down?")


def is_timeout(error: Exception) -> bool:
    """Tell FFmpeg's own timeouts, and PyAV's, which interrupt it ("immediate exit requested")."""
    return isinstance(error, av_error.ExitError | av_error.TimeoutError)


def reason(error: Exception) -> str:
    """Take the reason without the URL that FFmpeg puts beside it, password and all."""
    return str(getattr(error, "strerror", None) or type(error).__name__)
