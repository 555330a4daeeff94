"""The whole test, from films to verdicts."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from engines.build.base import Tell
from engines.errors import EngineError
from streamer.embedded import redis_or_embedded
from streamer.errors import StreamerError
from streamer.selftest.accuracy import Course, accuracy_rows, missing_rows
from streamer.selftest.expected import AGAIN, Expected
from streamer.selftest.fidelity import decoder_rows, watch
from streamer.selftest.films import FILMS, Film, Footage, shoot
from streamer.selftest.lineup import Lineup
from streamer.selftest.live import run_live
from streamer.selftest.liverows import live_rows, truth_row
from streamer.selftest.quantised import quantised
from streamer.selftest.reading import remove
from streamer.selftest.recorded import Place
from streamer.selftest.rows import Report, Row
from streamer.selftest.variants import Variant
from streamer.wire.link import LinkError

log = logging.getLogger(__name__)

_NOISY = ("streamer.grabber", "streamer.stages.clips")  # a film that ends, and gaps where the machine is too slow


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tested, and against what."""

    variants: Sequence[Variant]
    expected: Expected = field(default_factory=Expected)
    films: Sequence[Film] = FILMS
    lineup: Lineup = field(default_factory=Lineup)


def selftest(plan: Plan, redis: str, tell: Tell) -> Report:
    """Test all that *plan* names, with the Redis at a URL, or one of our own where none answers; *tell* hears how far.

    Raises InputError and SinkUnusable for what no test can be made of; what goes wrong in it is a row.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="streamer-selftest-") as folder, _place(redis) as place:
        tell(f"filming {len(plan.films)} worlds that no model has seen")
        footage = shoot(plan.films, Path(folder))
        rows = tuple(_rows(plan, footage, place, tell))
    return Report(rows, time.monotonic() - began)


def _rows(plan: Plan, footage: Sequence[Footage], place: Place, tell: Tell) -> Iterator[Row]:
    tell("looking at each picture that the decoder gives")
    yield from _guarded("decoder", lambda: decoder_rows([watch(each) for each in footage]))
    expected = plan.expected
    if not expected.same_films(footage, plan.lineup):
        expected = Expected()
        yield Row("films", "as recorded", "", "stale", why=f"no figures are recorded of these films: {AGAIN}")
    missing = dict(missing_rows(plan.lineup))
    yield from missing.values()
    lineup = plan.lineup.only(figure for figure in plan.lineup.figures if figure not in missing)
    if not lineup.figures:
        return
    course = Course(footage, lineup, expected)
    tell(f"showing {len(footage)} live cameras to all models at once")
    yield from _guarded("live", lambda: _live(course, place.at("live"), tell))
    for variant in plan.variants:
        tell(f"measuring in {variant}")
        yield from _guarded(str(variant), partial(_measured, course, variant, place.at(variant), tell))


def _measured(course: Course, variant: Variant, place: Place, tell: Tell) -> Iterator[Row]:
    return accuracy_rows(quantised(course, variant, tell), variant, place, tell)


def _live(course: Course, place: Place, tell: Tell) -> list[Row]:
    with _hushed():
        lived = run_live(course.footage, course.lineup, place, tell)
    finder = next((figure for figure in course.lineup.figures if figure.measure == "boxes"), None)
    if finder is None:
        return list(live_rows(lived))
    return [*live_rows(lived), truth_row(lived, finder.node, course.recorded(finder))]


def _guarded(what: str, job: Callable[[], Iterable[Row]]) -> list[Row]:
    """Make a row of what breaks, so that the rest is tested all the same."""
    try:
        return list(job())
    except (EngineError, StreamerError) as error:
        return [Row(what, "works", "", "failed", why=str(error).partition("\n")[0])]


@contextmanager
def _place(redis: str) -> Iterator[Place]:
    """Find a Redis, and leave nothing of ours in it."""
    with redis_or_embedded(redis) as url:
        place = Place(url, f"selftest:{os.getpid()}-{secrets.token_hex(4)}:")
        try:
            yield place
        finally:
            _clear(place)


def _clear(place: Place) -> None:
    try:
        remove(place.url, place.prefix)
    except LinkError as error:
        log.warning("%s; what begins with %s stays there", error, place.prefix)


@contextmanager
def _hushed() -> Iterator[None]:
    """Log nothing of what is as it should be, here."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
