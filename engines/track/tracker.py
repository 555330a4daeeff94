"""Numbers for objects that stay the same from frame to frame.

ByteTrack, Zhang et al. 2022, https://arxiv.org/abs/2110.06864: what was found surely is paired with the tracks first,
then what was found doubtfully with those that nobody claimed, so an object half hidden keeps its number. Three things
differ: time counts in seconds, not in frames, so that any frame rate and dropped frames will do; what is found
doubtfully may also be an object that was lost, for whoever comes out from behind something is half hidden at first; and
an object is published from the sighting that confirms it, in the first frame as in any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from engines.boxes import Rows, iou
from engines.masks import realign
from engines.track import kalman, tracks
from engines.track.assignment import match
from engines.track.kalman import Noise
from engines.track.tracks import Tracks
from engines.types import Bool, Detections, Float


@dataclass(frozen=True, slots=True)
class TrackOptions:
    """When two boxes are one object, and for how long an unseen one is remembered. Raises ValueError.

    Detections must come down to *low*: a detector that is set to 0.3 has thrown away half of what the tracker lives on.
    """

    high: float = 0.5  # confidence from which a detection counts as sure
    low: float = 0.1  # below it, a detection counts for nothing
    start: float = 0.6  # confidence that it takes to become a new object
    iou: float = 0.2  # least overlap times confidence of a sure detection with a track
    low_iou: float = 0.4  # least overlap of a doubtful one
    new_iou: float = 0.1  # least overlap times confidence of a sure one with a candidate
    confirm: int = 2  # sightings, one frame after another, that make a candidate an object with a number
    memory: float = 2.0  # seconds for which an object that is not seen keeps its number
    agnostic: bool = False  # an object may change its class
    boxes: Literal["detected", "smoothed"] = "detected"
    noise: Noise = field(default_factory=Noise)

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= self.start <= 1:
            raise ValueError(
                f"confidences must rise: low {self.low}, high {self.high}, start {self.start}; keep them in 0..1"
            )
        if self.confirm < 1 or not self.memory >= 0:
            raise ValueError(f"confirm {self.confirm} must be 1 or more, and memory {self.memory} not negative")


class Tracker:
    """Follow the objects of one camera: 1, 2, 3 …, and no number twice. Equal inputs give equal outputs.

    It holds what was seen within *memory* seconds, and nothing else. *last* is the highest number already given away.
    """

    def __init__(self, options: TrackOptions | None = None, last: int = 0) -> None:
        self._options = options or TrackOptions()
        self._last = last
        self.reset()

    @property
    def last(self) -> int:
        """The highest number given away so far."""
        return self._last

    @property
    def remembered(self) -> int:
        """How many objects and candidates are remembered."""
        return len(self._tracks)

    def reset(self) -> None:
        """Forget every object; numbers go on."""
        self._tracks = tracks.begin(Detections.empty(), 0.0, self._options.noise)
        self._pts: float | None = None

    def update(self, found: Detections, pts: float) -> Detections:
        """Return those of *found* that are objects with a number, in their order and with all their columns.

        *pts* is media time in seconds; where it goes back, all is forgotten. Raises ValueError if it is not finite.
        """
        if not math.isfinite(pts):
            raise ValueError(f"pts {pts} is not finite: give seconds of media time")
        if self._pts is not None and pts < self._pts:
            self.reset()
        known = self._moved(pts)
        owner = _owners(known, found, self._options)
        claimed = np.flatnonzero(owner >= 0)
        known = tracks.see(known, owner[claimed], found[claimed], pts, self._options.noise)
        born = np.flatnonzero((owner < 0) & _solid(found) & (found.confidence >= self._options.start))
        owner[born] = len(known) + np.arange(len(born))
        known = tracks.join(known, tracks.begin(found[born], pts, self._options.noise))
        known = tracks.number(known, self._options.confirm, self._last)
        self._last = max(self._last, int(known.track_id.max(initial=0)))
        self._tracks, self._pts = known[self._remembered(known, pts)], pts
        return self._published(found, known, owner)

    def predict(self, pts: float) -> Detections | None:
        """Say where the objects of the last update are at *pts*, for a frame in which nobody looked; without masks.

        None where that is longer ago than *memory*, or there was none: nobody knows. It changes nothing.
        """
        if self._pts is None or not 0 <= pts - self._pts <= self._options.memory:
            return None
        seen = self._moved(pts)[self._fresh() & (self._tracks.track_id > 0)]
        return Detections(seen.motion.xyxy, seen.class_id, seen.confidence, seen.track_id)

    def _moved(self, pts: float) -> Tracks:
        passed = 0.0 if self._pts is None else max(0.0, pts - self._pts)
        return replace(self._tracks, motion=kalman.predict(self._tracks.motion, passed, self._options.noise))

    def _fresh(self) -> Bool:
        """Tell which tracks were seen at the last update."""
        out: Bool = self._tracks.seen == self._pts
        return out

    def _remembered(self, known: Tracks, pts: float) -> Bool:
        """Candidates go when they are not seen once, objects after a while; each has at least one more chance."""
        out: Bool = (known.seen == pts) | ((known.track_id > 0) & (pts - known.seen <= self._options.memory))
        return out

    def _published(self, found: Detections, known: Tracks, owner: Rows) -> Detections:
        rows = np.flatnonzero(owner >= 0)
        rows = rows[known.track_id[owner[rows]] > 0]
        mine = owner[rows]
        out = replace(found[rows], track_id=known.track_id[mine])
        if self._options.boxes == "detected":
            return out
        xyxy = known.motion.xyxy[mine]
        masks = None if out.masks is None else realign(out.masks, out.xyxy, xyxy)
        return replace(out, xyxy=xyxy, masks=masks)


def _owners(known: Tracks, found: Detections, options: TrackOptions) -> Rows:
    """Say to which track (a row) each detection belongs, -1 if to none: (D,)."""
    overlap = _overlap(known, found, options)
    numbered, solid = known.track_id > 0, _solid(found)
    sure = solid & (found.confidence >= options.high)
    doubtful = solid & (found.confidence >= options.low) & ~sure
    weighted = overlap * found.confidence
    owner: Rows = np.full(len(found), -1)
    free = np.ones(len(known), np.bool_)
    for who, what, likeness, least in (
        (numbered, sure, weighted, options.iou),
        (numbered, doubtful, overlap, options.low_iou),
        (~numbered, sure, weighted, options.new_iou),
    ):
        rows, columns = np.flatnonzero(who & free), np.flatnonzero(what & (owner < 0))
        i, j = match(likeness[np.ix_(rows, columns)], least)
        owner[columns[j]] = rows[i]
        free[rows[i]] = False
    return owner


def _overlap(known: Tracks, found: Detections, options: TrackOptions) -> Float:
    overlap = iou(known.motion.xyxy, found.xyxy)
    if not options.agnostic:
        overlap[known.class_id[:, None] != found.class_id] = 0
    return overlap


def _solid(found: Detections) -> Bool:
    """Tell which boxes are finite and have an area."""
    xyxy = found.xyxy
    out: Bool = np.isfinite(xyxy).all(1) & (xyxy[:, 0] < xyxy[:, 2]) & (xyxy[:, 1] < xyxy[:, 3])
    return out
