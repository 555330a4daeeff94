"""The node that gathers clips: of the whole scene, or of each tracked object."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engines.crops import Fit, Rect, around, cut_flow, cut_image, middle_and_size, whole
from engines.geometry import Size
from engines.types import Detections, Flow
from streamer.stages.rings import Ring, Sample, Ticks
from streamer.types import Frame, Packet, Port, Window, Windows

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClipOptions:
    """What a clip is, and how many things are followed at a time.

    A camera takes `tracks` x `length` x height x width x 3 bytes at most, and 11 instead of 3 with flow; one thing is
    followed where clips show the whole scene.
    """

    length: int  # samples
    stride: int  # samples from one window to the next
    fps: float  # samples a second
    size: Size  # height, width
    margin: float = 0.1  # beside a box at each side, as a share of it
    smooth: float = 0.5  # seconds over which boxes are smoothed; 0: not at all
    gap: int = 4  # ticks without a sample that are filled; more are a break
    tracks: int = 16  # objects of a camera that have clips at a time: those that have some, then the largest
    fit: Fit = "crop"  # of the whole scene


@dataclass(frozen=True, slots=True)
class ClipPorts:
    """What clips are made of; a frame without a value of each is not sampled."""

    around: Port[Detections] | None = None
    flow: Port[Flow] | None = None


@dataclass(slots=True, eq=False)
class _Scene:
    """What is kept of one camera."""

    ticks: Ticks
    shape: tuple[int, ...]
    pts: float
    tick: int = 0  # of the newest sample
    rings: dict[int | None, Ring] = field(default_factory=dict)  # by track


class Clips:
    """Sample each camera at a steady rate by pts, keep resized crops, and pass on each window that is complete.

    A tick takes the first frame that reaches it. No window spans a break: `forget`, media time that runs back, an image
    of another size, or more than `gap` ticks without a sample, of the camera or of one object.
    """

    def __init__(self, ports: ClipPorts, writes: Port[Windows], options: ClipOptions) -> None:
        self._ports, self._writes, self._options = ports, writes, options
        self._scenes: dict[str, _Scene] = {}
        self._warned: set[str] = set()

    @property
    def reads(self) -> tuple[Port[Any], ...]:
        return tuple(port for port in (self._ports.around, self._ports.flow) if port is not None)

    @property
    def writes(self) -> Port[Windows]:
        return self._writes

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        return [self._sampled(packet) for packet in packets]

    def forget(self, camera: str) -> None:
        """Drop all samples of a camera."""
        self._scenes.pop(camera, None)

    def close(self) -> None:
        self._scenes.clear()

    def _sampled(self, packet: Packet) -> Packet:
        frame = packet.frame
        if any(packet.get(port) is None for port in self.reads):
            return packet
        before = self._scenes.get(frame.camera)
        if before is None or frame.pts < before.pts or frame.image.shape != before.shape:
            return self._begun(packet, before)
        tick, before.pts = before.ticks.reached(frame.pts), frame.pts
        return packet if tick is None else self._ticked(packet, before, tick)

    def _begun(self, packet: Packet, before: _Scene | None) -> Packet:
        """Begin a camera anew, with its first tick."""
        frame = packet.frame
        scene = _Scene(Ticks(1 / self._options.fps), frame.image.shape, frame.pts)
        self._scenes[frame.camera] = scene
        done = self._ticked(packet, scene, scene.ticks.reached(frame.pts) or 0)
        if before is None or not before.rings:
            return done
        windows = done.get(self._writes) or Windows()
        return done.put(self._writes, Windows(windows.items, (*before.rings, *windows.gone)))

    def _ticked(self, packet: Packet, scene: _Scene, tick: int) -> Packet:
        self._check_pace(packet.frame, tick - scene.tick - 1)
        scene.tick = tick
        gone = [track for track, ring in scene.rings.items() if ring.missed(tick) > self._options.gap]
        for track in gone:
            del scene.rings[track]
        windows = tuple(self._windows(packet, scene, tick))
        return packet.put(self._writes, Windows(windows, tuple(gone))) if windows or gone else packet

    def _check_pace(self, frame: Frame, missed: int) -> None:
        if missed > self._options.gap and frame.camera not in self._warned:
            self._warned.add(frame.camera)
            log.warning(
                "node %s: camera %s had no frame for %.1f s, so its clips begin anew; if it always gives so few, "
                "set a lower 'fps' or a larger 'gap'",
                self._writes.node, frame.camera, missed / self._options.fps,
            )  # fmt: skip

    def _windows(self, packet: Packet, scene: _Scene, tick: int) -> Iterator[Window]:
        frame, flow = packet.frame, None if self._ports.flow is None else packet.get(self._ports.flow)
        for track, ring, rect in self._subjects(packet, scene):
            ring.add(self._sample(frame, flow, rect), tick, frame.pts)
            if (window := ring.window(track)) is not None:
                yield window

    def _subjects(self, packet: Packet, scene: _Scene) -> Iterator[tuple[int | None, Ring, Rect]]:
        """What is followed, and where it is; whoever is new gets a ring."""
        options, frame = self._options, packet.frame
        height, width = frame.image.shape[:2]
        if self._ports.around is None:
            yield None, self._ring(scene, None), whole((height, width), options.size, options.fit)
            return
        for track, xyxy in self._chosen(packet.get(self._ports.around) or Detections.empty(), scene):
            ring = self._ring(scene, track)
            box = ring.follow(middle_and_size(xyxy, (height, width)), frame.pts, options.smooth)
            yield track, ring, around(box, options.margin, (height, width), options.size)

    def _ring(self, scene: _Scene, track: int | None) -> Ring:
        return scene.rings.setdefault(track, Ring(self._options.length, self._options.stride))

    def _chosen(self, found: Detections, scene: _Scene) -> list[tuple[int, Any]]:
        """Who is followed: all that have a ring, and of the others the largest while there is room."""
        if found.track_id is None:
            return []
        ids = found.track_id.tolist()
        areas = (found.xyxy[:, 2:] - found.xyxy[:, :2]).prod(1)
        known = [row for row, track in enumerate(ids) if track in scene.rings]
        new = [row for row in np.argsort(-areas, kind="stable").tolist() if ids[row] not in scene.rings]
        rows = known + new[: max(0, self._options.tracks - len(scene.rings))]
        return [(ids[row], found.xyxy[row]) for row in rows]

    def _sample(self, frame: Frame, flow: Flow | None, rect: Rect) -> Sample:
        size = self._options.size
        rgb = cut_image(frame.image, rect, size)
        if flow is None:
            return Sample(frame.seq, rgb, None)
        height, width = frame.image.shape[:2]
        ticks = 1.0 if flow.seconds is None else flow.seconds * self._options.fps  # that the motion took
        return Sample(frame.seq, rgb, cut_flow(flow, rect, (height, width), size, 1 / ticks))
