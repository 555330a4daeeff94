"""What a tracker remembers of its objects, column by column."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from engines.track import kalman
from engines.track.kalman import Doubles, Motion, Noise
from engines.types import Detections, Float, Int, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """N objects, the oldest first: those that have a number, and candidates that were seen too seldom for one."""

    motion: Motion
    track_id: Int  # (N,) 1, 2, 3 …; 0 while it is a candidate
    class_id: Int  # (N,)
    confidence: Float  # (N,) when it was last seen
    sightings: Int  # (N,) how often it was seen
    seen: Doubles  # (N,) seconds of media time when it was last seen

    def __len__(self) -> int:
        return len(self.track_id)

    def __getitem__(self, rows: Rows) -> Tracks:
        return Tracks(
            self.motion[rows],
            self.track_id[rows],
            self.class_id[rows],
            self.confidence[rows],
            self.sightings[rows],
            self.seen[rows],
        )


def begin(found: Detections, pts: float, noise: Noise) -> Tracks:
    """Begin with objects seen for the first time: candidates."""
    ones = np.ones(len(found), np.int32)
    motion = kalman.begin(found.xyxy, noise)
    return Tracks(motion, 0 * ones, found.class_id, found.confidence, ones, np.full(len(found), pts))


def see(tracks: Tracks, rows: Rows, found: Detections, pts: float, noise: Noise) -> Tracks:
    """Tell that the tracks in *rows* (K,) were *found* (K of them); all others were not seen, and hold their size."""
    corrected = kalman.update(tracks.motion[rows], found.xyxy, noise)
    motion = kalman.put(kalman.hold_size(tracks.motion), rows, corrected)
    class_id, confidence = tracks.class_id.copy(), tracks.confidence.copy()
    sightings, seen = tracks.sightings.copy(), tracks.seen.copy()
    class_id[rows], confidence[rows], seen[rows] = found.class_id, found.confidence, pts
    sightings[rows] += 1
    return Tracks(motion, tracks.track_id, class_id, confidence, sightings, seen)


def number(tracks: Tracks, sightings: int, last: int) -> Tracks:
    """Give numbers from *last* + 1 on to candidates that were seen so often."""
    grown = np.flatnonzero((tracks.track_id == 0) & (tracks.sightings >= sightings))
    track_id = tracks.track_id.copy()
    track_id[grown] = last + 1 + np.arange(len(grown))
    return replace(tracks, track_id=track_id)


def join(one: Tracks, other: Tracks) -> Tracks:
    """Put the objects of *other* after those of *one*."""
    return Tracks(
        kalman.join(one.motion, other.motion),
        np.concatenate([one.track_id, other.track_id]),
        np.concatenate([one.class_id, other.class_id]),
        np.concatenate([one.confidence, other.confidence]),
        np.concatenate([one.sightings, other.sightings]),
        np.concatenate([one.seen, other.seen]),
    )
