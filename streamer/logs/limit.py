"""Not too much of the same: a camera that is broken for months must not fill a disk with saying so."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from streamer.clock import SYSTEM_CLOCK, Clock
from streamer.logs.lines import camera_of, message_of

_DIGITS = re.compile(r"\d+")
_Key = tuple[str, str, str | None]  # logger, template, camera


@dataclass(slots=True)
class _Tally:
    """Records that are alike, within a minute."""

    began_ns: int
    said: int = 0
    left_out: int = 0
    last: logging.LogRecord | None = None  # of those left out, in words only


class RateLimit:
    """Let through the first few records of a kind, then tell once a minute how many more there were. Not thread-safe.

    Of a kind are records of one logger, template and camera; numbers in the template count for nothing, since other
    libraries put them in themselves. Without a thread: what was left out is told when any next record comes.
    """

    def __init__(
        self,
        burst: int = 5,
        seconds: float = 60.0,
        exempt: Sequence[str] = (),
        most: int = 1000,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """*exempt* names packages that may say all they want; *most* bounds the kinds that are told apart."""
        self._burst, self._window_ns = burst, int(seconds * 1e9)
        self._exempt, self._most, self._clock = frozenset(exempt), most, clock
        self._tallies: dict[_Key, _Tally] = {}  # those that began first come first

    def admit(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        """Return what is to be said now: summaries that are due, and the record if it is one of the first."""
        if record.name.partition(".")[0] in self._exempt:
            return [record]
        now = self._clock.monotonic_ns()
        due = self._expired(now)
        tally = self._tallies.setdefault(self._key(record), _Tally(now))
        if tally.said < self._burst:
            tally.said += 1
            return [*due, record]
        tally.left_out, tally.last = tally.left_out + 1, _in_words(record)
        return due

    def settle(self) -> list[logging.LogRecord]:
        """Return what remains to be said, at the end."""
        tallies, self._tallies = self._tallies, {}
        return [_summary(tally) for tally in tallies.values() if tally.left_out]

    def _expired(self, now: int) -> list[logging.LogRecord]:
        due = []
        while self._tallies:
            key, tally = next(iter(self._tallies.items()))
            if now - tally.began_ns < self._window_ns:
                break
            del self._tallies[key]
            if tally.left_out:  # it may go on: then a line a minute is enough
                due.append(_summary(tally))
                self._tallies[key] = _Tally(now, self._burst)
        return due

    def _key(self, record: logging.LogRecord) -> _Key:
        template = record.getMessage() if record.msg == "%s" else str(record.msg)
        key = record.name, _DIGITS.sub("#", template), camera_of(record)
        return key if key in self._tallies or len(self._tallies) < self._most else (record.name, "", None)


def _in_words(record: logging.LogRecord) -> logging.LogRecord:
    """Keep what a record says without what it holds: an error holds frames of the stack, and these hold images."""
    kept = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname, "camera": camera_of(record)}
    return logging.makeLogRecord({**kept, "msg": message_of(record), "args": ()})


def _summary(tally: _Tally) -> logging.LogRecord:
    assert tally.last is not None, "kept with the first that was left out"  # noqa: S101 - for the type checker
    tally.last.msg = f"{tally.left_out} more like it within a minute, the last: {tally.last.msg}"
    return tally.last
