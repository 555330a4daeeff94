"""Nodes that run a model on each whole frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engines.model import Model
from engines.types import Detections, Image
from streamer.types import Packet, Port


@dataclass(frozen=True, slots=True)
class Detect:
    """Find objects in every frame."""

    model: Model[Image, Detections]
    writes: Port[Detections]
    reads: tuple[Port[Any], ...] = ()

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        return self._put(packets, self.model([p.frame.image for p in packets]))

    def begin(self, packets: Sequence[Packet]) -> Callable[[], Sequence[Packet]]:
        """Begin with packets while the model works on those before."""
        finish = self.model.begin([p.frame.image for p in packets])
        return lambda: self._put(packets, finish())

    def _put(self, packets: Sequence[Packet], found: Sequence[Detections]) -> Sequence[Packet]:
        return [p.put(self.writes, d) for p, d in zip(packets, found, strict=True)]

    def forget(self, camera: str) -> None:
        """Frames are looked at one by one: nothing to forget."""

    def close(self) -> None:
        self.model.close()
