"""The node that finds how things move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engines.motion import Pair, Placed
from engines.types import Flow as FlowField
from engines.types import Image
from streamer.types import Frame, Packet, Port

GAP = 10.0  # seconds: longer ago is no motion any more, but another scene


class Estimator(Protocol):
    """A `FlowModel`, or what stands for one."""

    def place(self, image: Image, /) -> Placed: ...
    def __call__(self, pairs: Sequence[Pair], /) -> list[FlowField]: ...
    def begin(self, pairs: Sequence[Pair], /) -> Callable[[], list[FlowField]]: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    pts: float
    image: Placed


class Flow:
    """Find the motion since the frame before, of the same camera; pairs of all cameras share a batch.

    A camera's first frame has none, nor the first one after a break: `forget`, media time that does not advance or
    leaps by more than *gap* seconds, images of another size. One placed image is kept for each camera.
    """

    def __init__(self, model: Estimator, writes: Port[FlowField], gap: float = GAP) -> None:
        self._model, self._writes, self._gap = model, writes, gap
        self._before: dict[str, _Seen] = {}

    @property
    def reads(self) -> tuple[Port[Any], ...]:
        return ()

    @property
    def writes(self) -> Port[FlowField]:
        return self._writes

    def process(self, packets: Sequence[Packet]) -> Sequence[Packet]:
        pairs = [self._pair(packet.frame) for packet in packets]
        return self._put(packets, pairs, self._model(_there(pairs)))

    def begin(self, packets: Sequence[Packet]) -> Callable[[], Sequence[Packet]]:
        """Begin with packets while the model works on those before."""
        pairs = [self._pair(packet.frame) for packet in packets]
        finish = self._model.begin(_there(pairs))
        return lambda: self._put(packets, pairs, finish())

    def forget(self, camera: str) -> None:
        """Let no flow span a break."""
        self._before.pop(camera, None)

    def close(self) -> None:
        self._model.close()

    def _pair(self, frame: Frame) -> Pair | None:
        before = self._before.get(frame.camera)
        now = _Seen(frame.pts, self._model.place(frame.image))
        self._before[frame.camera] = now
        if before is None or before.image.geometry != now.image.geometry or not 0 < now.pts - before.pts <= self._gap:
            return None
        return Pair(before.image, now.image, now.pts - before.pts)

    def _put(
        self, packets: Sequence[Packet], pairs: Sequence[Pair | None], flows: Sequence[FlowField]
    ) -> Sequence[Packet]:
        rest: Iterator[FlowField] = iter(flows)
        return [
            packet if pair is None else packet.put(self._writes, next(rest))
            for packet, pair in zip(packets, pairs, strict=True)
        ]


def _there(pairs: Sequence[Pair | None]) -> list[Pair]:
    return [pair for pair in pairs if pair is not None]
