"""What TensorRT says: one logger a process, as TensorRT keeps the first that it is given and ignores all others."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorrt_rtx  # for names only: those of the full TensorRT are the same

log = logging.getLogger(__name__)

_PLACE = re.compile(r"^\[[^\]]*\]\s*|^I\w+::\w+:\s*|^\S+\.cpp:\d+:\s*")  # in TensorRT's sources: of no use to a user
_CODE = re.compile(r"Error Code \d+: (?P<kind>[\w ]+) \((?P<text>.*)\)\s*$", re.DOTALL)
_WHERE = re.compile(r"[.,;]?\s*\bIn \w+ at \S+:\d+")
_VAGUE = ("Internal Error", "API Usage Error", "Cuda Runtime")
_HEARD = 64


@cache
def logger(trt: Any) -> Any:
    """Make the logger of a TensorRT module; its `errors` are the last that were said, in the order of their coming."""

    class Logger(trt.ILogger):  # type: ignore[misc]  # the module is an argument, so its classes are Any
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=_HEARD)
            self.said = 0

        def log(self, severity: tensorrt_rtx.ILogger.Severity, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(plain(msg))
                self.said += 1
            elif severity == trt.ILogger.WARNING:
                log.debug("%s", msg)  # it warns of much that is as it should be

    return Logger()


@contextmanager
def listening(trt: Any) -> Iterator[list[str]]:
    """Collect the errors that are said meanwhile; they are in the list when the block ends, also by an exception."""
    heard: list[str] = []
    ears = logger(trt)
    before = ears.said
    try:
        yield heard
    finally:
        new = min(ears.said - before, _HEARD)
        heard += list(ears.errors)[len(ears.errors) - new :]


def last_error(trt: Any) -> str:
    """Tell what was said last; nothing where all has been well."""
    errors = logger(trt).errors
    return errors[-1] if errors else ""


def plain(message: str) -> str:
    """Cut an error down to what it says: no place in TensorRT's sources, one line."""
    text = _PLACE.sub("", " ".join(message.split()))
    if found := _CODE.search(text):
        text = found["text"] if found["kind"] in _VAGUE else f"{found['kind']}: {found['text']}"
    return _WHERE.sub("", text).strip(" .")
