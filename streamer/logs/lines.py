"""One record, one line: for people, for journald, or as JSON."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from streamer.urls import redact

_URL = re.compile(r"[A-Za-z][\w+.-]*://\S+")
_NAMED = re.compile(r"""(?i)([\w-]*(?:password|passwd|pwd|-pw|secret|token)=)[^\s&,;"']+""")


def hide(text: str) -> str:
    """Hide what looks like a password: messages should hold none, and this is the last that sees them."""
    return _NAMED.sub(r"\1***", _URL.sub(lambda found: redact(found[0]), text))


def message_of(record: logging.LogRecord) -> str:
    """Write out what a record says."""
    message = record.getMessage().strip()  # libraries in C end their lines themselves
    return message.partition("\n")[0] if record.name == "py.warnings" else message  # then comes a line of code


def camera_of(record: logging.LogRecord) -> str | None:
    """Say whose record it is: as the caller says, or else that of the thread that grabs its frames."""
    camera: str | None = getattr(record, "camera", None)
    thread = record.threadName or ""
    if camera is None and thread.startswith("grab "):  # FFmpeg and GStreamer cannot know it
        return thread.removeprefix("grab ")
    return camera


# --- errors ---

Show = Callable[[logging.LogRecord], str]  # of the error that a record tells of; empty when there is none


def told(record: logging.LogRecord) -> str:
    """Name a record's error, what it came from and, of one that was not expected, where it was raised; in one line."""
    error = error_of(record)
    if error is None:
        return ""
    return " <- ".join(map(named, _chain(error))) + (_place(error) if record.exc_info else "")


def traced(record: logging.LogRecord) -> str:
    """Show a record's error with its traceback."""
    if not record.exc_info or record.exc_info[1] is None:
        return told(record)
    return logging.Formatter().formatException(record.exc_info)


def error_of(record: logging.LogRecord) -> BaseException | None:
    """Find the error that a record tells of: passed as `exc_info`, or as one of the message's arguments."""
    if record.exc_info and record.exc_info[1] is not None:
        return record.exc_info[1]
    values = record.args if isinstance(record.args, tuple) else ()
    return next((value for value in values if isinstance(value, BaseException)), None)


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    return chain


def named(error: BaseException) -> str:
    """Write out an error in one line, with its notes: ``ZeroDivisionError: division by zero (in node fall)``."""
    return plain(error) + "".join(f" ({note})" for note in getattr(error, "__notes__", ()))


def plain(error: BaseException) -> str:
    """Write out an error in one line, without its notes."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(error: BaseException) -> str:
    """Say where an error was raised: what a report of a bug needs, also without --debug."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" (in {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})"


# --- lines ---

Prefix = Callable[[logging.LogRecord], str]


def local_time(record: logging.LogRecord) -> str:
    """Say when it was, in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S ", time.localtime(record.created))


def syslog_level(record: logging.LogRecord) -> str:
    """Tell journald how bad it is; it knows the time itself. See sd-daemon(3)."""
    return f"<{next(syslog for floor, syslog in _SYSLOG if record.levelno >= floor)}>"


_SYSLOG = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))


class Text(logging.Formatter):
    """``LEVEL logger: message``, after a prefix; the camera comes first where the message does not name it."""

    def __init__(self, show: Show, prefix: Prefix) -> None:
        super().__init__()
        self._show, self._prefix = show, prefix

    def format(self, record: logging.LogRecord) -> str:
        message, camera = message_of(record), camera_of(record)
        if camera is not None and not re.search(rf"(?<!\w){re.escape(camera)}(?!\w)", message):
            message = f"{camera}: {message}"
        if _adds(record, message) and (error := self._show(record)):
            message += f"\n{error}" if "\n" in error else f": {error}"
        prefix = self._prefix(record)  # on each line: journald takes it for an entry of its own
        return hide(f"{prefix}{record.levelname} {record.name}: {message}".replace("\n", f"\n{prefix}  "))


def _adds(record: logging.LogRecord, message: str) -> bool:
    """Tell whether a record holds an error that its message does not quote."""
    error = error_of(record) if record.exc_info else None
    return error is not None and not (str(error) and str(error) in message)


class Json(logging.Formatter):
    """One JSON object: time (RFC 3339), level, logger, message; camera and cause where there are any."""

    def __init__(self, show: Show) -> None:
        super().__init__()
        self._show = show

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message_of(record),
            "camera": camera_of(record),
            "cause": self._show(record) or None,
        }
        return json.dumps({key: hide(text) for key, text in fields.items() if text is not None}, ensure_ascii=False)
