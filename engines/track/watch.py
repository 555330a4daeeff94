"""What lines and zones have in common: where an object stands, and what is remembered of each track."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engines.boxes import Rows
from engines.track.kalman import Doubles
from engines.types import Array, Bool, Detections, Float, Int


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """When an object has moved, and when it is gone. Raises ValueError."""

    margin: float = 0.1  # how far beyond a line or out of a zone it must be, in sizes: the root of its area
    memory: float = 3.0  # seconds after which a track that is not seen is gone: more than the tracker's own

    def __post_init__(self) -> None:
        if not (self.margin >= 0 and self.memory >= 0):
            raise ValueError(f"margin {self.margin} and memory {self.memory} must not be negative")


def ids_of(tracked: Detections) -> Int:
    """The track ids (N,) of objects. Raises ValueError when they have none."""
    if tracked.track_id is not None:
        return tracked.track_id
    if len(tracked):
        raise ValueError("objects have no track ids: watch what a tracker gives, not what a detector gives")
    return np.zeros(0, np.int32)


def feet(xyxy: Float) -> Doubles:
    """Where objects stand (N, 2): the middle of the lower edge of each box."""
    corners = xyxy.astype(np.float64)
    return np.stack([(corners[:, 0] + corners[:, 2]) / 2, corners[:, 3]], axis=1)


def sizes(xyxy: Float) -> Doubles:
    """How large boxes are (N,): the root of their areas, in pixels."""
    out: Doubles = np.sqrt(np.maximum(xyxy[:, 2:].astype(np.float64) - xyxy[:, :2], 0).prod(1))
    return out


def admit(known: Array, track_id: Int) -> tuple[Array, Rows, Bool]:
    """Find tracks (K,) in a table of records (N,) with a field *track_id*, those that are new added with zeros.

    Returns the table, the row of each (K,), and which are new (K,).
    """
    order = np.argsort(known["track_id"])
    place = np.searchsorted(known["track_id"], track_id, sorter=order)
    rows = np.append(order, 0)[place]  # whoever is beyond the last is none of them
    new = np.append(known["track_id"], 0)[rows] != track_id if len(known) else np.ones(len(track_id), np.bool_)
    added = np.zeros(int(new.sum()), known.dtype)
    added["track_id"] = track_id[new]
    rows[new] = len(known) + np.arange(len(added))
    return np.concatenate([known, added]), rows, new
