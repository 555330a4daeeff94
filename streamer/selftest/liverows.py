"""What a live run must hold: no frame unaccounted for, times that advance as the clock on the wall does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from streamer.selftest.live import Lived
from streamer.selftest.measures import measure
from streamer.selftest.reading import Reel
from streamer.selftest.rows import Bound, Row, judged
from streamer.selftest.variants import Variant
from streamer.stats import CameraStats, Percentiles

_NONE = Bound(0, 0)
_NOT_THEIRS = "live results are not those of the frames that were shown at their times"
_UNACCOUNTED = "frames were neither published nor counted as dropped, or results did not arrive"
_ON_TIME = Bound(most=20.0)  # milliseconds: half the time of a frame
_AS_FAST = Bound(0.8, 1.25)  # of the clock on the wall: on a busy machine frames arrive late by some of the film
_NOW = Bound(most=2.0)  # seconds
_ALIKE = 5.0  # hundredths that live may differ from recorded: it sees fewer frames, and not always the same


def live_rows(lived: Lived) -> Iterator[Row]:
    """Judge a live run by what any must hold."""
    what = _what(lived)
    yield from _speed(what, lived)
    yield judged(what, "frames lost", "", _lost(lived), _NONE, "frames of the films never came")
    yield judged(what, "frames unaccounted for", "", _unaccounted(lived), _NONE, _UNACCOUNTED)
    off = 1e3 * _worst(_pts_off(reel) for reel in lived.reels)
    yield judged(what, "pts off by", "ms", off, _ON_TIME, "media time is not that of the frames that are shown")
    rate = max((_rate(reel) for reel in lived.reels), key=_strangeness, default=math.nan)
    yield judged(
        what, "captured_at, s a second", "s", rate, _AS_FAST, "capture time does not advance as the clock does"
    )
    away = _worst(_away(reel, lived.span) for reel in lived.reels)
    yield judged(what, "captured_at not of now", "s", away, _NOW, "capture time is not of now: check the clocks")


def truth_row(lived: Lived, finder: str, recorded: float | None) -> Row:
    """Compare the boxes of a node with the truth of their frames' times; *recorded* is what it should about reach."""
    found = measure("boxes", lived.reels, finder)
    what, figure = _what(lived), f"{finder} mAP50, by pts"
    if recorded is None:
        row = Row(what, figure, "%", "told", found)
    else:
        row = judged(what, figure, "%", found, Bound(least=recorded - _ALIKE, about=recorded), _NOT_THEIRS)
    runtime, _, _ = lived.runtimes[finder].partition(" ")
    return replace(row, runtime=runtime, precision=Variant(runtime, "auto").shown(lived.runtimes[finder]))


def _what(lived: Lived) -> str:
    return f"live, {lived.how}"


def _worst(values: Iterable[float]) -> float:
    """Return the largest value; NaN where one is, or there are none."""
    found = [*values]
    return float(np.max(found)) if found else math.nan


def _speed(what: str, lived: Lived) -> Iterator[Row]:
    """Tell how fast it was: that depends on the machine, and nothing is expected of it."""
    seconds = lived.span[1] - lived.span[0]
    grabbed, published = (_total(lived, name) / seconds for name in ("grabbed", "published"))
    yield Row(what, "FPS in (and out)", "", "told", grabbed, fps=published)
    if (times := _end_to_end(lived)) is not None:
        yield Row(what, "end to end, p95 (p50)", "ms", "told", times.p95, latency_ms=times.p50)


def _end_to_end(lived: Lived) -> Percentiles | None:
    return next((sink.end_to_end_ms for sink in lived.stats.sinks.values() if sink.end_to_end_ms), None)


def _total(lived: Lived, name: str) -> int:
    return sum(getattr(camera, name) for camera in lived.stats.cameras.values())


def _lost(lived: Lived) -> int:
    grabbed = {name: camera.grabbed for name, camera in lived.stats.cameras.items()}
    return sum(max(0, reel.film.frames - grabbed.get(reel.film.name, 0)) for reel in lived.reels)


def _unaccounted(lived: Lived) -> int:
    """Count frames that went neither way, and results that were published and cannot be read."""
    cameras = lived.stats.cameras
    given_up = sum(sink.dropped for sink in lived.stats.sinks.values())
    read = sum(reel.count for reel in lived.reels)
    return sum(map(_vanished, cameras.values())) + abs(_total(lived, "published") - given_up - read)


def _vanished(camera: CameraStats) -> int:
    return abs(camera.grabbed - camera.published - sum(camera.dropped.values()))


def _pts_off(reel: Reel) -> float:
    """Return by how many seconds a frame's media time is not that of its number, at worst."""
    offs = [abs(message.pts - message.seq / reel.film.fps) for message in reel.all]
    return max(offs, default=math.nan)


def _rate(reel: Reel) -> float:
    """Return how many seconds of capture time go by in one of the film; below 0 where it ever runs backwards.

    A busy machine only ever makes frames late, so that the least late one of each half is what tells of the clock.
    """
    messages = reel.all
    if len(messages) < 2:
        return math.nan
    if any(after.captured_at < before.captured_at for before, after in pairwise(messages)):
        return -1.0
    late = np.array([message.captured_at - message.seq / reel.film.fps for message in messages])
    half = len(messages) // 2
    apart = (messages[-1].seq - messages[0].seq + 1) / 2 / reel.film.fps
    return float(1 + (late[half:].min() - late[:half].min()) / apart)


def _strangeness(rate: float) -> float:
    """Rank rates by how far they are from 1."""
    return math.inf if math.isnan(rate) or rate <= 0 else abs(math.log(rate))


def _away(reel: Reel, span: tuple[float, float]) -> float:
    """Return by how many seconds a capture time lies before or after the run."""
    began, ended = span
    return max((max(began - each.captured_at, each.captured_at - ended, 0.0) for each in reel.all), default=math.nan)
