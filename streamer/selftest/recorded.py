"""The films through all models, every frame of them, in one runtime and precision, into Redis."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from engines.build.base import Tell
from engines.load import Upkeep
from engines.zoo import ignore as no_progress
from streamer import build, config
from streamer.errors import InputError, SourceError
from streamer.events import ignore
from streamer.pipeline import Pipeline
from streamer.selftest.films import Footage
from streamer.selftest.lineup import Lineup
from streamer.selftest.reading import Reel, read_back
from streamer.selftest.timed import Timed, timed
from streamer.selftest.variants import Variant

_NODE = re.compile(
    r"node (?P<node>[\w-]+): (?P<reason>.*)", re.DOTALL
)  # how the fault of one that cannot be opened begins


@dataclass(frozen=True, slots=True)
class Place:
    """Where results go."""

    url: str
    prefix: str

    def at(self, name: object) -> Place:
        """Make a place of its own for something."""
        return Place(self.url, f"{self.prefix}{str(name).replace(' ', '-')}:")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run over the films has left."""

    reels: tuple[Reel, ...]
    watches: Mapping[str, Timed]  # by node
    runtimes: Mapping[str, str]  # what each node's model ran on, for people
    faults: Mapping[str, str] = field(default_factory=dict)  # by node that could not be opened: why


_Opened = tuple[Pipeline, Mapping[str, Timed], Mapping[str, str]]  # watches and runtimes are by node


def settings(
    cameras: Mapping[str, Any], nodes: Mapping[str, Any], place: Place, runtime: Mapping[str, Any]
) -> config.Pipeline:
    """Write down a pipeline, all parts as a file has them. Raises InputError."""
    plain = {
        "cameras": cameras,
        "nodes": nodes,
        "publish": [{"kind": "redis", "url": place.url, "prefix": place.prefix, "control": False}],
        "runtime": runtime,
    }
    return config.parse(json.dumps(plain), "selftest")  # JSON is YAML


def run(footage: Sequence[Footage], lineup: Lineup, variant: Variant, place: Place, tell: Tell) -> Outcome:
    """Run the films through every node that can be opened, and read back what was found.

    Raises StreamerError and EngineError for what breaks while it runs.
    """
    faults: dict[str, str] = {}
    cameras = {each.film.name: {"url": str(each.path)} for each in footage}
    runtime = {"prefer": [variant.runtime], "precision": variant.precision}
    while lineup.figures:
        nodes = lineup.chosen(footage)
        try:
            with _opened(settings(cameras, nodes, place, runtime), tell) as (pipeline, watches, runtimes):
                pipeline.run()
        except InputError as error:
            fault = _NODE.match(str(error))
            if fault is None or fault["node"] not in lineup.nodes:
                raise
            faults[fault["node"]] = fault["reason"].partition("\n")[0]
            lineup = lineup.without(fault["node"])
            continue
        _check(pipeline.failures)
        flows = [name for name, node in nodes.items() if node.get("field")]
        return Outcome(read_back(place.url, place.prefix, footage, flows), watches, runtimes, faults)
    return Outcome((), {}, {}, faults)


@contextmanager
def _opened(settings: config.Pipeline, tell: Tell) -> Iterator[_Opened]:
    """Open all as for recorded video, with a watch around each node; what is published has arrived at the end."""
    with build.open_graph(settings, "throughput", no_progress, Upkeep(tell)) as graph:
        watches = {stage.writes.node: timed(stage) for stage in graph.stages}
        outlet = build.Outlet(graph.facts, tuple(settings.cameras), live=False)
        with build.open_sinks(settings.publish, outlet) as sinks:
            sources = build.make_sources(settings.cameras, ignore)
            yield (
                Pipeline(sources, tuple(watches.values()), sinks, build.make_limits(settings)),
                watches,
                graph.runtimes,
            )


def _check(failures: Mapping[str, SourceError]) -> None:
    for failure in failures.values():
        raise failure
