"""What is said while the streamer runs: on stderr, for people or as JSON lines; never too much, and no password."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Literal, TextIO, get_args

from streamer.logs.limit import RateLimit
from streamer.logs.lines import Json, Text, hide, local_time, named, plain, syslog_level, told, traced
from streamer.logs.others import hear_glib, hear_python, under_journald

__all__ = ["FORMS", "Form", "Reporter", "configure", "hear_glib", "hide", "named", "plain", "read_by_people", "usual"]

Form = Literal["text", "json"]
FORMS: tuple[Form, ...] = get_args(Form)
OURS = ("streamer", "engines")


def usual(form: Form) -> int:
    """Choose a level: journals and collectors keep what happens in passing, people want to read what is wrong."""
    return logging.INFO if form == "json" or under_journald() else logging.WARNING


def configure(level: int, form: Form = "text") -> None:
    """Write what is at least of *level* to stderr; what other libraries say from warnings on.

    With DEBUG, errors come with their tracebacks. A second call replaces the first.
    """
    root, debug = logging.getLogger(), level <= logging.DEBUG
    for old in [each for each in root.handlers if isinstance(each, Reporter)]:
        root.removeHandler(old)
        old.close()
    show = traced if debug else told
    style = Json(show) if form == "json" else Text(show, syslog_level if under_journald() else local_time)
    root.addHandler(Reporter(style, RateLimit(exempt=OURS if debug else ())))
    root.setLevel(logging.WARNING)
    for package in OURS:
        logging.getLogger(package).setLevel(level)
    hear_python()


def read_by_people() -> bool:
    """Tell whether stderr may hold anything but log lines: a collector and a journal want each with its level."""
    reporters = [each for each in logging.getLogger().handlers if isinstance(each, Reporter)]
    return not under_journald() and not any(isinstance(each.formatter, Json) for each in reporters)


class Reporter(logging.StreamHandler[TextIO]):
    """Write to whatever stderr is at the moment: a live table puts its own in its place."""

    def __init__(self, style: logging.Formatter, limit: RateLimit) -> None:
        super().__init__()
        self._limit = limit
        self.setFormatter(style)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, and summaries that are due; `logging` holds the handler's lock meanwhile."""
        for each in self._limit.admit(record):
            self._write(each)

    def close(self) -> None:
        """Tell what was left out. `logging` closes every handler when the process ends."""
        with self.lock or threading.Lock():
            for each in self._limit.settle():
                self._write(each)
        super().close()

    def _write(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)
