"""Nodes about what moves: flow, tracks, lines, zones, clips and actions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, FiniteFloat, PositiveInt, model_validator

from engines.types import Detections
from engines.types import Flow as FlowField
from streamer.config.node import Fault, Node, ordinal
from streamer.config.shapes import Name, Point, Polygon, Segment
from streamer.config.values import Count, Duration, Fraction
from streamer.types import Actions, Crossings, Occupancy, Windows

Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[FiniteFloat, Field(ge=0)]


class Flow(Node):
    """Find how things move from each frame to the next."""

    kind: Literal["flow"]
    model: str  # a name that `streamer models list` shows, the path of a manifest, or dis: OpenCV's, without weights
    weights: Path | None = None  # the user's own file instead of the manifest's
    field: bool = False  # publish the whole field as well, under a key of its own in Redis
    every: Count = 1  # look at each Nth frame of a camera: flow is then that over N frames
    gap: Duration = 10.0  # frames farther apart have nothing in common
    value: ClassVar[type] = FlowField
    alone = "flow"

    def summary(self) -> str:
        """Say for people what the node does: ``flow flownets, every 2nd frame``."""
        return f"flow {self.model}" + ("" if self.every == 1 else f", every {ordinal(self.every)} frame")


class Track(Node):
    """Number the objects that another node finds. Its `confidence` should be down to *low*."""

    kind: Literal["track"]
    detections: str  # a node
    high: Fraction = 0.5  # confidence from which a detection counts as sure
    low: Fraction = 0.1  # below it, a detection counts for nothing
    start: Fraction = 0.6  # confidence that it takes to become a new object
    iou: Fraction = 0.2  # least overlap times confidence of a sure detection with a track
    confirm: Count = 2  # sightings that make a candidate an object with a number
    memory: Duration = 2.0  # for how long an object that is not seen keeps its number
    agnostic: bool = False  # an object may change its class
    boxes: Literal["detected", "smoothed"] = "detected"
    between: Literal["nothing", "predicted"] = "nothing"  # what frames get that the detections' node skips
    value: ClassVar[type] = Detections
    numbered = True

    @model_validator(mode="after")
    def _confidences_rise(self) -> Track:
        if not self.low <= self.high <= self.start:
            raise ValueError(f"low {self.low:g}, high {self.high:g} and start {self.start:g} must rise; reorder them")
        return self

    def sources(self) -> Mapping[str, type]:
        return {self.detections: Detections}

    def summary(self) -> str:
        """Say for people what the node does: ``track yolo``."""
        return f"track {self.detections}"


def _untracked(where: str, node: str, nodes: Mapping[str, Node]) -> Iterator[Fault]:
    """Refuse objects without numbers."""
    if node in nodes and issubclass(nodes[node].value, Detections) and not nodes[node].numbered:
        tracks = ", ".join(name for name, other in nodes.items() if isinstance(other, Track))
        remedy = f"name {tracks}" if tracks else f"add a node {{kind: track, detections: {node}}} and name that"
        yield (where,), f"{node!r} does not number its objects; {remedy}"


class _Watching(Node):
    """What nodes that watch tracks have in common."""

    tracks: str  # a node of kind track
    margin: NonNegative = 0.1  # how far beyond a line or out of a zone one must be, in sizes: the root of a box's area
    memory: Duration | None = None  # a track that is not seen for so long is gone; None: the tracker's own and 1 s

    def sources(self) -> Mapping[str, type]:
        return {self.tracks: Detections}

    def faults(self, nodes: Mapping[str, Node]) -> Iterator[Fault]:
        yield from _untracked("tracks", self.tracks, nodes)
        track = nodes.get(self.tracks)
        if isinstance(track, Track) and self.memory is not None and self.memory <= track.memory:
            yield ("memory",), f"{self.memory:g} s must be more than the {track.memory:g} s of {self.tracks}"


class Lines(_Watching):
    """Count who crosses which line, each way."""

    kind: Literal["lines"]
    lines: Annotated[Mapping[Name, Segment], Field(min_length=1)]  # from a to b: left and right are as seen from a
    value: ClassVar[type] = Crossings

    def shapes(self) -> Mapping[str, tuple[Point, ...]]:
        return self.lines

    def summary(self) -> str:
        """Say for people what the node does: ``lines door, gate on tracks``."""
        return f"lines {', '.join(self.lines)} on {self.tracks}"


class Zones(_Watching):
    """Tell who is in which zone, and for how long."""

    kind: Literal["zones"]
    zones: Annotated[Mapping[Name, Polygon], Field(min_length=1)]
    value: ClassVar[type] = Occupancy

    def shapes(self) -> Mapping[str, tuple[Point, ...]]:
        return self.zones

    def summary(self) -> str:
        """Say for people what the node does: ``zones yard on tracks``."""
        return f"zones {', '.join(self.zones)} on {self.tracks}"


class Clips(Node):
    """Gather clips; what is None is taken from the models of the nodes that read them."""

    kind: Literal["clips"]
    around: str | None = None  # a node of kind track; None: clips show the whole scene
    flow: str | None = None  # a node of kind flow, for models that look at motion
    length: Count | None = None  # samples
    stride: Count | None = None  # samples from one clip to the next; None: half the length
    fps: Annotated[FiniteFloat, Field(gt=0)] | None = None  # samples a second, whatever the camera's rate
    size: tuple[PositiveInt, PositiveInt] | None = None  # height, width
    margin: Annotated[NonNegative, Field(le=2)] = 0.1  # beside a box at each side, as a share of it
    smooth: Duration | None = 0.5  # over which boxes are smoothed; None: not at all
    gap: Count | None = None  # missing samples that are filled, more are a break; None: a quarter of the length
    tracks: Count = 16  # objects of a camera that have clips at a time: together with length and size it is memory
    fit: Literal["crop", "stretch"] = "crop"  # of the whole scene
    value: ClassVar[type] = Windows

    def sources(self) -> Mapping[str, type]:
        around = {} if self.around is None else {self.around: Detections}
        return around if self.flow is None else {**around, self.flow: FlowField}

    def faults(self, nodes: Mapping[str, Node]) -> Iterator[Fault]:
        if self.around is not None:
            yield from _untracked("around", self.around, nodes)

    def summary(self) -> str:
        """Say for people what the node does: ``clips around tracks``."""
        return f"clips {'of the scene' if self.around is None else f'around {self.around}'}"


class Recognise(Node):
    """Say what clips show."""

    kind: Literal["recognise"]
    model: str  # a name that `streamer models list` shows, or the path of a manifest
    clips: str  # a node
    weights: Path | None = None  # the user's own file instead of the manifest's
    top: Count = 5  # labels published
    smooth: Duration | None = 1.0  # over which the scores of a track are averaged; None: not at all
    start: Share = 0.5  # smoothed score from which an action has started
    stop: Share = 0.3  # and below which it has ended
    value: ClassVar[type] = Actions

    @model_validator(mode="after")
    def _stops_below(self) -> Recognise:
        if self.stop > self.start:
            raise ValueError(f"stop {self.stop:g} lies above start {self.start:g}; swap them")
        return self

    def sources(self) -> Mapping[str, type]:
        return {self.clips: Windows}

    def summary(self) -> str:
        """Say for people what the node does: ``recognise r3d-18 in clips``."""
        return f"recognise {self.model} in {self.clips}"
