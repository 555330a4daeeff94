"""Rows of what the models find, in one runtime and precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from engines import zoo
from engines.build.base import Tell
from engines.errors import EngineError
from streamer.errors import StreamerError
from streamer.selftest.expected import AGAIN, Expected, bound, key, weights_of
from streamer.selftest.films import Footage
from streamer.selftest.lineup import Figure, Lineup
from streamer.selftest.measures import measure
from streamer.selftest.recorded import Outcome, Place, run
from streamer.selftest.rows import Row, judged
from streamer.selftest.variants import Variant

_FAR = "is worse than where it was recorded"


@dataclass(frozen=True, slots=True)
class Course:
    """What every variant goes over."""

    footage: Sequence[Footage]
    lineup: Lineup  # of models that have weights here
    expected: Expected

    def recorded(self, figure: Figure) -> float | None:
        """Find what is expected of a figure with the weights that are here."""
        weights = weights_of(self.lineup.networks(figure))
        return None if weights is None else self.expected.of(key(self.lineup, figure), weights)


def accuracy_rows(course: Course, variant: Variant, place: Place, tell: Tell) -> Iterator[Row]:
    """Run the films in a variant, and judge each figure. What breaks is a row, and the next variant has its turn."""
    try:
        outcome = run(course.footage, course.lineup, variant, place, tell)
    except (EngineError, StreamerError) as error:
        reason = str(error).partition("\n")[0]
        yield from (_named(_failed(course.lineup, each, reason), variant) for each in course.lineup.figures)
        return
    for figure in course.lineup.figures:
        yield _row(course, figure, outcome, variant)


def _row(course: Course, figure: Figure, outcome: Outcome, variant: Variant) -> Row:
    lineup = course.lineup
    fault = next((outcome.faults[node] for node in lineup.needs(figure.node) if node in outcome.faults), None)
    if fault is not None:
        return _named(_failed(lineup, figure, fault), variant)
    measured, recorded = measure(figure.measure, outcome.reels, figure.node), course.recorded(figure)
    watch, what = outcome.watches[figure.node], lineup.title(figure)
    if recorded is None:
        row = Row(
            what, figure.name, "%", "stale", measured, why=f"nothing is recorded of these weights and films: {AGAIN}"
        )
    else:
        row = judged(what, figure.name, "%", measured, bound(figure, recorded, variant), f"{what} {_FAR}")
    row = _named(row, variant, _described(lineup, figure, outcome.runtimes))
    return replace(row, fps=watch.fps, latency_ms=watch.latency_ms)


def _described(lineup: Lineup, figure: Figure, runtimes: Mapping[str, str]) -> str:
    """Say what the model of a figure's node ran on, or of the last node before it that has one."""
    nodes = [node for node in lineup.needs(figure.node) if "model" in lineup.nodes[node]]
    return runtimes[nodes[-1]] if nodes else ""


def _failed(lineup: Lineup, figure: Figure, reason: str) -> Row:
    return Row(lineup.title(figure), figure.name, "%", "failed", why=reason)


def _named(row: Row, variant: Variant, description: str = "") -> Row:
    return replace(row, runtime=variant.runtime, precision=variant.shown(description))


def missing_rows(lineup: Lineup) -> Iterator[tuple[Figure, Row]]:
    """Find the figures whose weights are not on this machine."""
    for figure in lineup.figures:
        absent = {each.name: each.weights.file.file for each in lineup.networks(figure) if weights_of([each]) is None}
        if absent:
            files = " and ".join(file.rpartition("/")[2] for file in absent.values())
            why = f"there are no weights of {' and '.join(absent)} here: put {files} into {zoo.cache_dir()}"
            yield figure, Row(lineup.title(figure), figure.name, "%", "missing", why=why)
