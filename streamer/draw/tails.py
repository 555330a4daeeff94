"""Where tracked objects have been."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from engines.types import Detections, Float


class Tail(NamedTuple):
    """The way of one track, newest point last."""

    track_id: int
    points: Float  # (P, 2) x, y in pixels


@dataclass(slots=True)
class Tails:
    """Remember for each track of one stream where the middle of its box's lower edge was.

    A tail is *seconds* of media time long, and goes when its track has not been seen for so long. Memory is bounded: no
    more than *tracks* tails, the newest, of no more than *points* points each.
    """

    seconds: float = 2.0
    tracks: int = 256
    points: int = 64
    _ways: dict[int, deque[tuple[float, float, float]]] = field(default_factory=dict, init=False)  # pts, x, y

    def follow(self, found: Detections, pts: float) -> None:
        """Add where the objects of a frame are; those without a track have no tail."""
        if found.track_id is not None:
            x, y = (found.xyxy[:, 0] + found.xyxy[:, 2]) / 2, found.xyxy[:, 3]
            for track, *place in zip(found.track_id.tolist(), x.tolist(), y.tolist(), strict=True):
                way = self._ways.pop(track, None) or deque(maxlen=self.points)
                way.append((pts, *place))
                self._ways[track] = way  # at the end: the first is the one seen longest ago
        self._trim(pts - self.seconds)

    def forget(self) -> None:
        """Begin anew: the stream broke."""
        self._ways.clear()

    def __iter__(self) -> Iterator[Tail]:
        for track, way in self._ways.items():
            if len(way) > 1:
                yield Tail(track, np.array(way, np.float32)[:, 1:])

    def _trim(self, since: float) -> None:
        for track, way in [*self._ways.items()]:
            while way and way[0][0] < since:
                way.popleft()
            if not way:
                del self._ways[track]
        for track in [*self._ways][: -self.tracks]:
            del self._ways[track]
