"""From a checked configuration to objects that work: sources, stages with their models, sinks."""

from streamer.build.facts import find_facts
from streamer.build.graph import Graph, open_graph
from streamer.build.models import find_manifests
from streamer.build.sinks import Outlet, check_sink, open_sinks
from streamer.build.sources import goal_of, make_backoff, make_limits, make_sources

__all__ = [
    "Graph",
    "Outlet",
    "check_sink",
    "find_facts",
    "find_manifests",
    "goal_of",
    "make_backoff",
    "make_limits",
    "make_sources",
    "open_graph",
    "open_sinks",
]
