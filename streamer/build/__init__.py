"""From a checked configuration to objects that work: sources, stages with their models, sinks."""

from streamer.build.bounds import FrameMemory, frame_memory
from streamer.build.facts import find_facts
from streamer.build.graph import Graph, open_graph
from streamer.build.models import find_manifests
from streamer.build.sinks import Outlet, check_sink, open_sinks
from streamer.build.sources import goal_of, make_admissions, make_backoff, make_limits, make_source, make_sources

__all__ = [
    "FrameMemory",
    "Graph",
    "Outlet",
    "check_sink",
    "find_facts",
    "find_manifests",
    "frame_memory",
    "goal_of",
    "make_admissions",
    "make_backoff",
    "make_limits",
    "make_source",
    "make_sources",
    "open_graph",
    "open_sinks",
]
