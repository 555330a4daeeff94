"""``python -m streamer.selftest.record``: record what is expected, on a machine that is known to be right."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from engines.build.base import Tell
from engines.errors import EngineError
from streamer.embedded import EmbeddedRedis
from streamer.errors import StreamerError
from streamer.selftest.accuracy import missing_rows
from streamer.selftest.expected import FILE, Expected, Recorded, definition, key, printed, weights_of, write
from streamer.selftest.films import FILMS, Footage, shoot
from streamer.selftest.lineup import Lineup
from streamer.selftest.measures import measure
from streamer.selftest.recorded import Place, run
from streamer.selftest.variants import REFERENCE


def main() -> int:
    """Record; 0 when it is done, 1 when a model is missing or something breaks: then nothing is written."""
    parser = argparse.ArgumentParser(prog="python -m streamer.selftest.record", description=__doc__)
    parser.add_argument("--partly", action="store_true", help="record those models that are here")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="default: where the self-test reads it")
    told = parser.parse_args()
    lineup, missing = Lineup(), dict(missing_rows(Lineup()))
    for row in missing.values():
        _tell(row.why)
    if missing and not told.partly:
        return 1
    try:
        with tempfile.TemporaryDirectory() as folder, EmbeddedRedis() as redis:
            footage = shoot(FILMS, Path(folder))
            only = lineup.only(figure for figure in lineup.figures if figure not in missing)
            write(record(footage, only, Place(redis.url, "record:"), _tell), told.out)
    except (EngineError, StreamerError) as error:
        _tell(str(error))
        return 1
    _tell(f"{told.out} is written")
    return 0


def record(footage: tuple[Footage, ...], lineup: Lineup, place: Place, tell: Tell) -> Expected:
    """Measure all figures in the reference. Raises EngineError and StreamerError."""
    outcome = run(footage, lineup, REFERENCE, place, tell)
    for node, fault in outcome.faults.items():
        raise EngineError(f"{node} cannot be opened in {REFERENCE}: {fault}")
    figures = {}
    for figure in lineup.figures:
        value = measure(figure.measure, outcome.reels, figure.node)
        figures[key(lineup, figure)] = Recorded(value, weights_of(lineup.networks(figure)) or {})
        tell(f"{key(lineup, figure)}: {value:.2f}")
    films = [each.film for each in footage]
    return Expected({each.film.name: printed(each) for each in footage}, definition(films, lineup), figures)


def _tell(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


if __name__ == "__main__":
    sys.exit(main())
