"""Which true object a clip shows, and what it does: by the boxes that the clip was cut around."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engines.boxes import iou
from engines.types import Detections
from streamer.selftest.films import Moment
from streamer.selftest.reading import Reel, detections
from streamer.wire import Action

_SAME = 0.5  # IoU from which a box shows an object
_SEEN = 0.4  # share of an object that must be seen: else nobody could say what it does
_FOLLOWED = 0.75  # share of a clip's frames in which the object must have been found

Shown = Mapping[int, Mapping[int, int]]  # frame -> number of a track -> that of the true object in its box


@dataclass(frozen=True, slots=True)
class Span:
    """A clip that shows one object doing one thing, and what was said of it."""

    told: Action
    action: int  # of ACTIONS


def spans(reel: Reel, node: str, tracks: str = "tracks") -> Iterator[Span]:
    """Find the clips of a recogniser that can be judged; *tracks* is the node whose boxes they were cut around."""
    shown = {i: _shown(detections(each), reel.footage.moments[i].objects) for i, each in reel.objects(tracks)}
    by_seq = {message.seq: index for index, message in reel.messages.items()}
    for _, result in reel.actions(node):
        for told in result.items:
            frames = [by_seq[seq] for seq in range(told.first_seq, told.last_seq + 1) if seq in by_seq]
            done = _done(reel.footage.moments, frames, _subject(shown, frames, told.track_id))
            if done is not None:
                yield Span(told, done)


def _shown(found: Detections, true: Detections) -> Mapping[int, int]:
    """Say which true object each track's box shows."""
    if not len(found) or not len(true) or found.track_id is None or true.track_id is None:
        return {}
    overlap = iou(found.xyxy, true.xyxy)
    shows = zip(found.track_id.tolist(), true.track_id[overlap.argmax(axis=1)].tolist(), strict=True)
    return {mine: truly for (mine, truly), most in zip(shows, overlap.max(axis=1), strict=True) if most >= _SAME}


def _subject(shown: Shown, frames: Sequence[int], track: int | None) -> int | None:
    """Find the true object that a track has followed through most frames; None where there were several, or none."""
    found = [shown[index][track] for index in frames if track is not None and track in shown.get(index, {})]
    return found[0] if len(set(found)) == 1 and len(found) >= _FOLLOWED * len(frames) else None


def _done(moments: Sequence[Moment], frames: Sequence[int], subject: int | None) -> int | None:
    """Return what an object does in all frames; None where that changes, or too little of it is seen."""
    actions = {None if subject is None else _doing(moments[index], subject) for index in frames}
    return actions.pop() if len(actions) == 1 else None


def _doing(moment: Moment, subject: int) -> int | None:
    ids = moment.objects.track_id
    rows = [] if ids is None else np.flatnonzero(ids == subject).tolist()
    return int(moment.action[rows[0]]) if rows and moment.visible[rows[0]] >= _SEEN else None
