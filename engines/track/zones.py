"""Zones that tracks stand in: who, since when, and how many came and went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.geometry import Size
from engines.regions import Region, inside
from engines.track.kalman import Doubles
from engines.track.watch import WatchOptions, admit, feet, ids_of, sizes
from engines.types import Array, Bool, Detections, Int


@dataclass(frozen=True, slots=True)
class ZoneEntered:
    """An object has come into a zone, or was first seen in it."""

    zone: str
    track_id: int
    class_id: int
    pts: float  # seconds of media time


@dataclass(frozen=True, slots=True)
class ZoneLeft:
    """An object has gone out of a zone, or was last seen in it and is gone."""

    zone: str
    track_id: int
    class_id: int
    pts: float  # when it was first seen outside, or last seen at all
    dwell: float  # seconds since it came


@dataclass(frozen=True, slots=True, eq=False)
class ZoneState:
    """Who is in a zone now, those included that may only be hidden; and how many came and went so far."""

    zone: str
    track_id: Int  # (K,) ascending
    dwell: Doubles  # (K,) seconds until it was last seen
    entries: int
    exits: int

    @property
    def occupancy(self) -> int:
        return len(self.track_id)


class ZoneWatch:
    """Watch who is in which zone, of one camera; entries less exits are always those who are in it.

    An object is where the middle of the lower edge of its box is. It has come once that is in the zone, and gone once
    it is out of it by the margin, so who trembles on the edge comes once. One that has not been seen for longer than
    *memory* left when it was last seen.
    """

    def __init__(self, zones: Sequence[Region], options: WatchOptions | None = None) -> None:
        self._zones, self._options = tuple(zones), options or WatchOptions()
        count = len(self._zones)
        fields: list[Any] = [("track_id", np.int32), ("class_id", np.int32), ("seen", np.float64)]
        fields += [("inside", np.bool_, (count,)), ("since", np.float64, (count,))]
        self._known: Array = np.zeros(0, fields)
        self._gone: Array = self._known
        self._counts = np.zeros((2, count), np.int64)

    @property
    def remembered(self) -> int:
        """How many tracks are remembered."""
        return len(self._known)

    @property
    def states(self) -> tuple[ZoneState, ...]:
        known = self._known[np.argsort(self._known["track_id"])]
        return tuple(self._state(number, known[known["inside"][:, number]]) for number in range(len(self._zones)))

    def reset(self) -> None:
        """Let everybody leave, as when a stream breaks; the next update tells. What was counted stays."""
        self._go(np.ones(len(self._known), np.bool_))

    def update(self, tracked: Detections, pts: float, size: Size) -> tuple[ZoneEntered | ZoneLeft, ...]:
        """Tell who has come and gone since the last frame; *size* (height, width) is that of the image.

        *pts* is media time in seconds. Raises ValueError when objects have no track ids.
        """
        ids = ids_of(tracked)
        if not self._zones:
            return ()
        self._go((pts < self._known["seen"]) | (pts - self._known["seen"] > self._options.memory))
        left = list(self._departed())
        self._known, rows, _ = admit(self._known, ids)
        before = self._known[rows]
        now = self._inside(tracked, size, before["inside"])
        since = np.where(now & ~before["inside"], pts, before["since"])
        for name, column in (("class_id", tracked.class_id), ("seen", pts), ("inside", now), ("since", since)):
            self._known[name][rows] = column
        after = self._known[rows]
        left += self._left(after, before["inside"] & ~now)
        return *left, *self._entered(after, now & ~before["inside"])

    def _inside(self, tracked: Detections, size: Size, before: Bool) -> Bool:
        """Tell who is in which zone (K, Z): near it, those who were in it *before* still are."""
        edge = np.stack([_from_edge(zone.corners(size), feet(tracked.xyxy)) for zone in self._zones], axis=1)
        near = edge <= self._options.margin * sizes(tracked.xyxy)[:, None]
        return inside(self._zones, tracked.xyxy, size) | (before & near)

    def _go(self, gone: Bool) -> None:
        """Take tracks out of what is known; `_departed` tells of them."""
        self._gone = np.concatenate([self._gone, self._known[gone & self._known["inside"].any(1)]])
        self._known = self._known[~gone]

    def _departed(self) -> Iterator[ZoneLeft]:
        gone, self._gone = self._gone, self._gone[:0]
        return self._left(gone, gone["inside"])

    def _left(self, tracks: Array, which: Bool) -> Iterator[ZoneLeft]:
        self._counts[1] += which.sum(0)
        for i, j in np.argwhere(which):
            track_id, class_id, seen = tracks[i].item()[:3]
            yield ZoneLeft(self._zones[j].name, track_id, class_id, seen, seen - float(tracks["since"][i, j]))

    def _entered(self, tracks: Array, which: Bool) -> Iterator[ZoneEntered]:
        self._counts[0] += which.sum(0)
        for i, j in np.argwhere(which):
            yield ZoneEntered(self._zones[j].name, *tracks[i].item()[:3])

    def _state(self, number: int, tracks: Array) -> ZoneState:
        entries, exits = self._counts[:, number].tolist()
        dwell = tracks["seen"] - tracks["since"][:, number]
        return ZoneState(self._zones[number].name, tracks["track_id"], dwell, entries, exits)


def _from_edge(corners: Doubles, points: Doubles) -> Doubles:
    """How far points (K, 2) are from the nearest edge of a polygon (P, 2), inside or outside, in pixels: (K,)."""
    along = np.roll(corners, -1, axis=0) - corners
    offset = points[:, None] - corners
    length = np.maximum((along**2).sum(1), np.finfo(np.float64).tiny)
    at = np.clip((offset * along).sum(2) / length, 0, 1)
    out: Doubles = np.linalg.norm(offset - at[..., None] * along, axis=2).min(1)
    return out
