"""From configuration to stages with their models."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace

import cv2

from engines.download import Unreachable
from engines.errors import EngineError
from engines.load import Upkeep
from engines.runtimes.base import Goal
from engines.zoo import Progress
from streamer import config
from streamer.build.clips import plan_clips
from streamer.build.facts import find_facts
from streamer.build.models import find_manifests
from streamer.build.openers import Opened, Workshop, opener_of
from streamer.errors import InputError
from streamer.events import Observer, ignore
from streamer.stages.base import Stage
from streamer.stages.every import every
from streamer.stages.optional import optional
from streamer.wire import NodeFacts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Graph:
    """The opened nodes, in order, and what goes with each."""

    stages: tuple[Stage, ...]
    facts: Mapping[str, NodeFacts]  # by node
    runtimes: Mapping[str, str]  # node -> what its model runs on, for people

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """The class names of each node."""
        return {name: facts.labels for name, facts in self.facts.items()}


@contextmanager
def open_graph(
    settings: config.Pipeline,
    goal: Goal,
    progress: Progress,
    upkeep: Upkeep | None = None,
    observer: Observer = ignore,
    *,
    live: bool = False,
) -> Iterator[Graph]:
    """Open every node; close them all at the end. An optional one that cannot be opened is left out, and said so.

    When *live*, what may take its time works beside the frames; *observer* is told of work that is left out. Every name
    is looked up before the first model is opened. Engines that are missing are built as *upkeep* says. Raises
    InputError when a model cannot be opened, Unreachable when its weights cannot be fetched.
    """
    if not settings.nodes:
        raise InputError("the pipeline has no nodes: nothing would be done with its frames; add one under 'nodes'")
    cv2.setNumThreads(1)  # a pipeline has a thread for each step already: OpenCV's own would take cores from the models
    manifests = find_manifests(settings)
    clips = plan_clips(settings, manifests)
    workshop = Workshop(settings, goal, progress, upkeep or Upkeep(), manifests, clips, observer, live)
    with ExitStack() as stack:
        opened: dict[str, Opened] = {}
        for name, node in settings.nodes.items():
            one = _open_node(name, node, workshop)
            if one is not None:
                stack.enter_context(closing(one.stage))
                opened[name] = one
        if not opened:
            raise InputError("none of the pipeline's nodes can be opened, so nothing would be done with its frames")
        yield Graph(
            tuple(one.stage for one in opened.values()),
            find_facts(settings, manifests),
            {name: one.runtime for name, one in opened.items()},
        )


def _open_node(name: str, node: config.Node, workshop: Workshop) -> Opened | None:
    """Open one node; None for an optional one that cannot be opened."""
    try:
        with _naming(name):
            opened = opener_of(node)(name, node, workshop)
    except (InputError, Unreachable) as error:
        if not node.optional:
            raise
        log.warning("%s; the node is optional and left out", error)
        return None
    stage = opened.stage
    if node.optional:
        stage = optional(stage, observer=workshop.observer, bears=opened.bears)
    if opened.every is not None:
        stage = every(opened.every, stage)
    return replace(opened, stage=stage)


@contextmanager
def _naming(node: str) -> Iterator[None]:
    """Before anything has started, what is wrong with a model is wrong input: say whose it is.

    Not so a download that fails: a machine that starts before its network does well to try again.
    """
    try:
        yield
    except Unreachable as error:
        raise Unreachable(f"node {node}: {error}") from error
    except EngineError as error:
        raise InputError("\n".join(f"node {node}: {line}" for line in str(error).splitlines())) from error
