"""From a checked configuration to objects that work: sources, stages with their models, sinks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2

from engines.decoders import DetectOptions
from engines.errors import EngineError
from engines.load import Upkeep, open_detector
from engines.manifest import Manifest, find
from engines.runtimes.base import Goal, RuntimeOptions
from engines.yamlsource import suggest
from engines.zoo import Progress, locate
from streamer import config, pipeline
from streamer.backoff import Backoff
from streamer.errors import InputError, SinkError, SinkUnusable
from streamer.events import Observer, ignore
from streamer.sinks.base import Sink
from streamer.sinks.files import Existing
from streamer.sinks.jsonl import JsonlSink
from streamer.sinks.redis import RedisOptions, RedisSink
from streamer.sinks.video import VideoSink
from streamer.sources import SourceOptions, open_source
from streamer.sources.adapters import Paced
from streamer.sources.base import Source
from streamer.stages.base import Stage
from streamer.stages.infer import Detect
from streamer.stages.optional import optional
from streamer.types import Port
from streamer.urls import redact
from streamer.wire import Encoder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Graph:
    """The opened nodes, in order, and what goes with each."""

    stages: tuple[Stage, ...]
    labels: Mapping[str, tuple[str, ...]]  # node -> class names
    runtimes: Mapping[str, str]  # node -> what its model runs on, for people


@dataclass(frozen=True, slots=True)
class Workshop:
    """What it takes to open a node."""

    settings: config.Pipeline
    goal: Goal
    progress: Progress  # hears how far a download is
    upkeep: Upkeep

    def runtime_options(self) -> RuntimeOptions:
        runtime = self.settings.runtime
        return RuntimeOptions(
            runtime.precision, self.goal, self.settings.limits.batch, runtime.threads, runtime.torch_compile
        )


def find_manifests(nodes: Mapping[str, config.Node]) -> dict[str, Manifest]:
    """Find the manifest of every node that runs a model, and check what the node asks of it. Raises InputError."""
    found = {}
    for name, node in nodes.items():
        if isinstance(node, config.Detect):
            with _naming(name):
                found[name] = find(node.model)
            _class_ids(name, node, found[name])
    return found


@contextmanager
def open_graph(
    settings: config.Pipeline, goal: Goal, progress: Progress, upkeep: Upkeep | None = None
) -> Iterator[Graph]:
    """Open every node; close them all at the end. An optional one that cannot be opened is left out, and said so.

    Every name is looked up before the first model is opened. Engines that are missing are built as
    *upkeep* says. Raises InputError when a model cannot be had or opened.
    """
    if not settings.nodes:
        raise InputError("the pipeline has no nodes: nothing would be done with its frames; add one under 'nodes'")
    cv2.setNumThreads(1)  # a pipeline has a thread for each step already: OpenCV's own would take cores from the models
    manifests = find_manifests(settings.nodes)
    workshop = Workshop(settings, goal, progress, upkeep or Upkeep())
    with ExitStack() as stack:
        stages, runtimes = [], {}
        for name, node in settings.nodes.items():
            stage = _open_node(name, node, manifests, workshop)
            if stage is None:
                continue
            stack.enter_context(closing(stage))
            if isinstance(stage, Detect):
                runtimes[name] = stage.model.runtime.description
            stages.append(optional(stage) if node.optional else stage)
        if not stages:
            raise InputError("none of the pipeline's nodes can be opened, so nothing would be done with its frames")
        yield Graph(tuple(stages), {name: m.labels for name, m in manifests.items()}, runtimes)


def _open_node(name: str, node: config.Node, manifests: Mapping[str, Manifest], workshop: Workshop) -> Stage | None:
    """Open one node; None for an optional one that cannot be opened."""
    try:
        with _naming(name):
            return _OPENERS[type(node)](name, node, manifests, workshop)
    except InputError as error:
        if not node.optional:
            raise
        log.warning("%s; the node is optional and left out", error)
        return None


def _open_detect(name: str, node: config.Detect, manifests: Mapping[str, Manifest], workshop: Workshop) -> Detect:
    manifest = manifests[name]
    defaults = manifest.defaults
    options = DetectOptions(
        confidence=defaults.confidence if node.confidence is None else node.confidence,
        iou=defaults.iou if node.iou is None else node.iou,
        classes=_class_ids(name, node, manifest),
        max_detections=node.max_detections,
    )
    weights = locate(manifest, path=node.weights, progress=workshop.progress)
    prefer = workshop.settings.runtime.prefer
    model = open_detector(manifest, weights, options, prefer, workshop.runtime_options(), workshop.upkeep)
    return Detect(model, Port(name, node.value))


_OPENERS: dict[type[config.Node], Callable[[str, Any, Mapping[str, Manifest], Workshop], Stage]] = {
    config.Detect: _open_detect,
}


def _class_ids(name: str, node: config.Detect, manifest: Manifest) -> tuple[int, ...] | None:
    if node.classes is None:
        return None
    for label in node.classes:
        if label not in manifest.labels:
            hint = suggest(label, manifest.labels)
            raise InputError(f"node {name}: {manifest.name} knows no class {label!r}{hint}; see `streamer models show`")
    return tuple(manifest.labels.index(label) for label in node.classes)


@contextmanager
def _naming(node: str) -> Iterator[None]:
    """Before anything has started, what is wrong with a model is wrong input: say whose it is."""
    try:
        yield
    except EngineError as error:
        raise InputError("\n".join(f"node {node}: {line}" for line in str(error).splitlines())) from error


def make_sources(cameras: Mapping[str, config.Camera], observer: Observer) -> list[Source]:
    """Make a source for every camera; nothing is opened yet."""
    return [_source(name, camera, observer) for name, camera in cameras.items()]


def goal_of(sources: Sequence[Source]) -> Goal:
    """Say what models should aim at: one live camera wants each frame soon; more of them, or recordings, want many."""
    return "latency" if len(sources) == 1 and sources[0].live else "throughput"


def _source(name: str, camera: config.Camera, observer: Observer) -> Source:
    options = SourceOptions(
        transport=camera.transport, open_timeout=camera.open_timeout, read_timeout=camera.read_timeout
    )
    source = open_source(name, camera.url, options, observer)
    return Paced(source) if camera.realtime and not source.live else source


def make_backoff(cameras: Mapping[str, config.Camera]) -> dict[str, Backoff]:
    return {name: Backoff(c.reconnect.delay, c.reconnect.max_delay) for name, c in cameras.items()}


def make_limits(limits: config.Limits) -> pipeline.Limits:
    return pipeline.Limits(limits.batch, limits.live_frames, limits.file_frames, limits.batches)


# --- sinks ---


@dataclass(frozen=True, slots=True)
class Outlet:
    """What it takes to open a sink."""

    labels: Mapping[str, tuple[str, ...]]  # node -> class names
    cameras: tuple[str, ...]
    live: bool
    observer: Observer = ignore
    existing: Existing = "refuse"  # what to do with output files that hold something


@contextmanager
def open_sinks(wanted: Sequence[config.Publish], outlet: Outlet) -> Iterator[list[Sink]]:
    """Open every sink; at the end deliver what is still on its way, and close them. Raises SinkError."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(sink)) for entry in wanted for sink in _SINKS[type(entry)](entry, outlet)]


def check_sink(entry: config.Publish) -> str:
    """Find out whether a sink would work, and say what was found. Raises SinkError."""
    if isinstance(entry, config.Redis):
        with closing(RedisSink(entry.url, lambda _: b"")) as sink:
            sink.check()
        return f"answers at {redact(entry.url)}"
    if isinstance(entry, config.JsonLines | config.Video):
        folder = next(parent for parent in entry.path.absolute().parents if parent.exists())
        if not os.access(folder, os.W_OK):
            raise SinkUnusable(f"{entry.path} cannot be written: no permission in {folder}")
        return f"can be written in {folder}"
    raise TypeError(type(entry).__name__)


def _redis(entry: config.Redis, outlet: Outlet) -> Iterator[Sink]:
    """Refuse a wrong password before anything starts; a live pipeline waits for a server that is not there yet."""
    options = RedisOptions(entry.prefix, entry.maxlen, entry.latest_ttl, entry.buffer)
    if not outlet.live:
        options = replace(options, when_full="wait", close_deadline=None)
    sink = RedisSink(entry.url, Encoder(outlet.labels, entry.nodes), options, outlet.observer)
    try:
        sink.check()
    except SinkUnusable:
        raise
    except SinkError as error:
        if not outlet.live:
            raise SinkUnusable(str(error)) from error
        log.warning("%s; results wait until it does", error)
    yield sink


def _json_lines(entry: config.JsonLines, outlet: Outlet) -> Iterator[Sink]:
    yield JsonlSink(entry.path, Encoder(outlet.labels, entry.nodes), existing=outlet.existing)


def _video(entry: config.Video, outlet: Outlet) -> Iterator[Sink]:
    if len(outlet.cameras) > 1 and "{camera}" not in str(entry.path):
        raise InputError(
            f"publish: {entry.path} is one video for {len(outlet.cameras)} cameras; put {{camera}} into it"
        )
    labels = {n: names for n, names in outlet.labels.items() if entry.nodes is None or n in entry.nodes}
    for camera in outlet.cameras:
        path = Path(str(entry.path).replace("{camera}", camera))
        yield VideoSink(path, camera, labels, existing=outlet.existing)


_SINKS: dict[type[config.Publish], Callable[[Any, Outlet], Iterator[Sink]]] = {
    config.Redis: _redis,
    config.JsonLines: _json_lines,
    config.Video: _video,
}
