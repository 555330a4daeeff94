"""Nodes that run a model on each whole frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engines.types import Detections, Image
from streamer.types import Packet, Port


class Finder(Protocol):
    """A `Model` that finds objects, or what stands around one, such as `Tiled`."""

    def __call__(self, images: Sequence[Image], /) -> list[Detections]: ...
    def begin(self, images: Sequence[Image], /) -> Callable[[], list[Detections]]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Detect:
    """Find objects in every frame, with masks where the model gives them."""

    model: Finder
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
