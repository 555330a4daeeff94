"""How each kind of node is opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypedDict

from engines.boxes import Suppression
from engines.classical import METHODS, Method
from engines.decoders import DetectOptions
from engines.load import Upkeep, open_detector, open_flow, open_recogniser
from engines.manifest import Manifest
from engines.runtimes.base import Goal, RuntimeOptions
from engines.tiles import per_tile, tiled
from engines.track.lines import LineCounter
from engines.track.tracker import TrackOptions
from engines.track.watch import WatchOptions
from engines.track.zones import ZoneWatch
from engines.types import Detections
from engines.types import Flow as FlowField
from engines.zoo import Progress, locate
from streamer import config
from streamer.build.facts import lines_of, regions_of
from streamer.errors import InputError
from streamer.events import Observer, ignore
from streamer.sources.synthetic import city_of
from streamer.stages.aside import Aside, Bounds
from streamer.stages.base import Stage
from streamer.stages.clips import ClipOptions, ClipPorts, Clips
from streamer.stages.flow import Flow
from streamer.stages.infer import Detect
from streamer.stages.optional import ENGINE_FAULTS, Faults
from streamer.stages.progress import ActionOptions
from streamer.stages.python import EachBatch, EachCamera, Place
from streamer.stages.recognise import Recognise
from streamer.stages.track import Track
from streamer.stages.truth import Truth
from streamer.stages.watch import CrossingWatcher, OccupancyWatcher, Watch
from streamer.types import Actions, Crossings, Occupancy, Port, Windows

log = logging.getLogger(__name__)

_NO_MODEL = "CPU"  # what such a node runs on


class Opening(TypedDict):
    """What every model is opened with."""

    prefer: Sequence[str]
    options: RuntimeOptions
    upkeep: Upkeep


@dataclass(frozen=True, slots=True)
class Opened:
    """One node that works."""

    stage: Stage
    runtime: str  # what its model runs on, for people
    bears: Faults = ENGINE_FAULTS  # what the pipeline can bear of it where the node is optional
    every: int | None = None  # it looks at each so many-th frame, or at fewer under a latency target; None: at all


@dataclass(frozen=True, slots=True)
class Workshop:
    """What it takes to open a node."""

    settings: config.Pipeline
    goal: Goal
    progress: Progress  # hears how far a download is
    upkeep: Upkeep
    manifests: Mapping[str, Manifest]  # by node
    clips: Mapping[str, ClipOptions]  # by node
    observer: Observer = ignore  # is told of work that is left out
    live: bool = False  # then what may take its time works beside the frames

    def opening(self) -> Opening:
        """What every model is opened with."""
        runtime = self.settings.runtime
        options = RuntimeOptions(
            runtime.precision, self.goal, self.settings.limits.batch, runtime.threads, runtime.torch_compile
        )
        return {"prefer": runtime.prefer, "options": options, "upkeep": self.upkeep}


def _open_finder(name: str, node: config.FindObjects, workshop: Workshop) -> Opened:
    manifest = workshop.manifests[name]
    options = _detect_options(node, manifest)
    weights = locate(manifest, path=node.weights, progress=workshop.progress)
    boxes_only = isinstance(node, config.Detect)  # then masks that the model gives are never made
    model = open_detector(
        manifest.model_copy(update={"task": "detect"}) if boxes_only else manifest,
        weights,
        per_tile(options) if node.tiles else options,
        **workshop.opening(),
    )
    finder = tiled(model, node.tiles.tiling(), options) if node.tiles else model
    return Opened(Detect(finder, Port(name, node.value)), model.runtime.description, every=node.every)


def _detect_options(node: config.FindObjects, manifest: Manifest) -> DetectOptions:
    """Say what is wanted; where the node leaves it open, what the manifest says."""
    defaults = manifest.defaults
    return DetectOptions(
        confidence=defaults.confidence if node.confidence is None else node.confidence,
        suppression=Suppression(node.nms, defaults.iou if node.iou is None else node.iou, node.agnostic),
        classes=None if node.classes is None else tuple(manifest.labels.index(label) for label in node.classes),
        max_detections=node.max_detections,
        min_size=node.min_size,
        regions=regions_of(node.regions),
    )


def _open_flow(name: str, node: config.Flow, workshop: Workshop) -> Opened:
    model = open_flow(*_network(name, node, workshop), **workshop.opening())
    stage = Flow(model, Port(name, FlowField), node.gap)
    return Opened(stage, model.runtime.description, every=node.every)


def _network(name: str, node: config.Flow, workshop: Workshop) -> tuple[Manifest | Method, Path | None]:
    for method in METHODS:
        if node.model == method:
            return method, None
    manifest = workshop.manifests[name]
    return manifest, locate(manifest, path=node.weights, progress=workshop.progress)


def _open_track(name: str, node: config.Track, workshop: Workshop) -> Opened:
    _warn_of_doubtful(name, node, workshop)
    options = TrackOptions(
        high=node.high,
        low=node.low,
        start=node.start,
        iou=node.iou,
        confirm=node.confirm,
        memory=node.memory,
        agnostic=node.agnostic,
        boxes=node.boxes,
    )
    return Opened(Track(Port(node.detections, Detections), Port(name, Detections), options, node.between), _NO_MODEL)


def _warn_of_doubtful(name: str, node: config.Track, workshop: Workshop) -> None:
    """Say where a tracker never sees what it could keep tracks alive with."""
    detector = workshop.settings.nodes[node.detections]
    if not isinstance(detector, config.FindObjects):
        return
    least = _detect_options(detector, workshop.manifests[node.detections]).confidence
    if least > node.low:
        log.warning(
            "node %s: %s gives nothing below a confidence of %g, but doubtful objects from %g on keep tracks alive; "
            "give %s 'confidence: %g', or %s 'low: %g'",
            name, node.detections, least, node.low, node.detections, node.low, name, least,
        )  # fmt: skip


def _open_lines(name: str, node: config.Lines, workshop: Workshop) -> Opened:
    lines, options = lines_of(node), _watching(node, workshop)
    stage = Watch(
        Port(node.tracks, Detections),
        Port(name, Crossings),
        lambda: CrossingWatcher(LineCounter(lines, options)),
    )
    return Opened(stage, _NO_MODEL)


def _open_zones(name: str, node: config.Zones, workshop: Workshop) -> Opened:
    zones, options = regions_of(node.zones), _watching(node, workshop)
    stage = Watch(
        Port(node.tracks, Detections),
        Port(name, Occupancy),
        lambda: OccupancyWatcher(ZoneWatch(zones, options)),
    )
    return Opened(stage, _NO_MODEL)


def _watching(node: config.Lines | config.Zones, workshop: Workshop) -> WatchOptions:
    """Say how long tracks are remembered: where the node leaves it open, longer than they can come back."""
    tracker = workshop.settings.nodes[node.tracks]
    memory = tracker.memory + 1 if isinstance(tracker, config.Track) else WatchOptions().memory
    return WatchOptions(node.margin, memory if node.memory is None else node.memory)


def _open_clips(name: str, node: config.Clips, workshop: Workshop) -> Opened:
    ports = ClipPorts(
        None if node.around is None else Port(node.around, Detections),
        None if node.flow is None else Port(node.flow, FlowField),
    )
    return Opened(Clips(ports, Port(name, Windows), workshop.clips[name]), _NO_MODEL)


def _open_recogniser(name: str, node: config.Recognise, workshop: Workshop) -> Opened:
    def weights(part: Manifest) -> Path:
        return locate(part, path=node.weights, progress=workshop.progress)

    model = open_recogniser(workshop.manifests[name], weights, **workshop.opening())
    options = ActionOptions(node.smooth or 0.0, node.start, node.stop)
    stage = Recognise(model, Port(node.clips, Windows), Port(name, Actions), options)
    if not workshop.live:
        return Opened(stage, model.description)
    bounds = Bounds(workshop.settings.limits.batch, workshop.clips[node.clips].tracks)
    return Opened(Aside(stage, bounds, workshop.observer), model.description)


def _open_python(name: str, node: config.Python, workshop: Workshop) -> Opened:
    contract = node.contract
    reads: list[Port[Any]] = [Port(read, kind) for read, kind in zip(node.reads, contract.reads, strict=True)]
    place = Place(tuple(reads), Port(name, contract.writes), node.made.__name__)
    ports = {"reads": place.reads, "writes": place.writes} if contract.batches else {}
    make = partial(node.made, **ports, **node.arguments())
    try:
        stage = EachBatch(make(), place) if contract.batches else EachCamera(make, place)
    except Exception as error:  # it is the user's own code, and may raise anything
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(
            f"{workshop.settings.at('nodes', name)}{place.made} cannot be made ({said}); correct its options or code"
        ) from error
    # What looks at each frame may count them: only who runs a model, or says so, is spared some under overload.
    sparing = contract.batches or node.every > 1
    return Opened(stage, "Python", (Exception,), node.every if sparing else None)


def _open_own(name: str, node: Openable, workshop: Workshop) -> Opened:  # noqa: ARG001 - openers are called alike
    return Opened(node.open(name), "Python", (Exception,))


class Openable(Protocol):
    """A node of another package."""

    def open(self, name: str, /) -> Stage: ...


def opener_of(node: config.Node) -> Callable[[str, Any, Workshop], Opened]:
    """Find what opens a node; those of other packages do it themselves."""
    return OPENERS.get(type(node), _open_own)


def _open_truth(name: str, node: config.Truth, workshop: Workshop) -> Opened:  # noqa: ARG001 - openers are called alike
    cameras = workshop.settings.cameras.items()
    worlds = {camera: world for camera, told in cameras if told.url and (world := city_of(told.url))}
    if not worlds:
        at = workshop.settings.at("nodes", name)
        raise InputError(f"{at}no camera shows a world whose truth is known; add one with url: synthetic://city")
    return Opened(Truth(worlds, Port(name, Detections)), _NO_MODEL)


OPENERS: dict[type[config.Node], Callable[[str, Any, Workshop], Opened]] = {
    config.Detect: _open_finder,
    config.Segment: _open_finder,
    config.Flow: _open_flow,
    config.Track: _open_track,
    config.Lines: _open_lines,
    config.Zones: _open_zones,
    config.Clips: _open_clips,
    config.Recognise: _open_recogniser,
    config.Truth: _open_truth,
    config.Python: _open_python,
}
