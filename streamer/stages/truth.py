"""The node that knows: what is truly there, where a camera shows a world with known truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engines.types import Detections
from engines.world import World
from engines.world.truth import detections
from streamer.types import Frame, Packet, Port


class Truth:
    """Say of each frame which objects it truly shows, with their numbers and masks, from its pts alone.

    Frames of a camera that shows none of the *worlds* (by camera) pass without a value. Where frames were scaled on
    their way, so are the boxes.
    """

    def __init__(self, worlds: Mapping[str, World], writes: Port[Detections]) -> None:
        self._worlds, self._writes = worlds, writes

    @property
    def reads(self) -> tuple[Port[Any], ...]:
        return ()

    @property
    def writes(self) -> Port[Detections]:
        return self._writes

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        return [self._told(packet) for packet in packets]

    def forget(self, camera: str) -> None:
        """Forget nothing: the truth depends on the time alone."""

    def close(self) -> None:
        """Hold nothing."""

    def _told(self, packet: Packet) -> Packet:
        frame = packet.frame
        world = self._worlds.get(frame.camera)
        return packet if world is None else packet.put(self._writes, _seen(world, frame))


def _seen(world: World, frame: Frame) -> Detections:
    found = detections(world.at(max(frame.pts, 0.0)))
    height, width = world.size
    scale = np.array([frame.image.shape[1] / width, frame.image.shape[0] / height] * 2, np.float32)
    return replace(found, xyxy=found.xyxy * scale)
