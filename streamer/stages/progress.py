"""Scores of window after window to what is going on: smoothed over time, with a beginning and an end."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from engines.types import Float, Scores
from streamer.types import Action, ActionEnded, Actions, ActionStarted, Window

_LOST = 60.0  # seconds of media time after which somebody whose end nobody told is gone
_CAMERAS = 1024  # that have something to tell: those that went without another packet are let go, oldest first


@dataclass(frozen=True, slots=True)
class ActionOptions:
    """When an action begins and ends. Raises ValueError."""

    smooth: float = 1.0  # seconds over which scores are smoothed; 0: not at all
    start: float = 0.5  # smoothed score from which an action has started
    stop: float = 0.3  # and below which it has ended

    def __post_init__(self) -> None:
        if not 0 <= self.stop <= self.start <= 1:
            raise ValueError(f"stop {self.stop} must not be above start {self.start}, and both lie in 0..1")


@dataclass(slots=True, eq=False)
class _Doing:
    """What one track, or the whole scene, has been doing."""

    probs: Float  # (C,) smoothed
    pts: float  # of the last window
    since: dict[int, float] = field(default_factory=dict)  # when what is going on started, by class


class Progress:
    """Follow the actions of one camera. It holds what is done by those who are there, and nothing else.

    Scores p are averaged over time with weights that fade: mean += (1 - exp(-dt / smooth)) (p - mean), where dt is the
    media time since the last window of the same track; so they stay probabilities, whatever the stride.
    """

    def __init__(self, options: ActionOptions) -> None:
        self._options = options
        self._doing: dict[int | None, _Doing] = {}

    @property
    def remembered(self) -> int:
        """How many tracks are remembered, the scene as one."""
        return len(self._doing)

    def smoothed(self, track_id: int | None, probs: Float, pts: float) -> Float:
        """Take the scores (C,) of a window, and return what they are over time."""
        known = self._doing.get(track_id)
        if known is None:
            known = self._doing[track_id] = _Doing(probs, pts)
        passed, smooth = pts - known.pts, self._options.smooth
        weight = np.float32(-math.expm1(-passed / smooth) if smooth else 1.0)
        known.probs, known.pts = known.probs + weight * (probs - known.probs), pts
        return known.probs

    def changes(self, track_id: int | None) -> Iterator[ActionStarted | ActionEnded]:
        """Tell what has ended and started with the last scores of a track."""
        known = self._doing[track_id]
        for class_id in [one for one in known.since if known.probs[one] < self._options.stop]:
            yield ActionEnded(track_id, class_id, known.pts, known.pts - known.since.pop(class_id))
        for class_id in np.flatnonzero(known.probs >= self._options.start).tolist():
            if class_id not in known.since:
                known.since[class_id] = known.pts
                yield ActionStarted(track_id, class_id, known.pts, float(known.probs[class_id]))

    def lost(self, pts: float) -> list[int | None]:
        """Return who has had no window for long before *pts*."""
        return [track for track, known in self._doing.items() if pts - known.pts > _LOST]

    def end(self, track_id: int | None) -> Iterator[ActionEnded]:
        """Let a track go, and tell what ended with it."""
        if (known := self._doing.pop(track_id, None)) is not None:
            for class_id, since in known.since.items():
                yield ActionEnded(track_id, class_id, known.pts, known.pts - since)

    def end_all(self) -> list[ActionEnded]:
        """Let everybody go, as when a stream breaks."""
        return [event for track in [*self._doing] for event in self.end(track)]


@dataclass(slots=True, eq=False)
class _Untold:
    items: list[Action] = field(default_factory=list)
    events: list[ActionStarted | ActionEnded] = field(default_factory=list)


class News:
    """What the next packet of each camera has to tell: what its windows showed, and what started and ended."""

    def __init__(self, options: ActionOptions) -> None:
        self._progress: defaultdict[str, Progress] = defaultdict(lambda: Progress(options))  # by camera
        self._untold: defaultdict[str, _Untold] = defaultdict(_Untold)  # by camera

    def scored(self, camera: str, window: Window, scores: Scores, pts: float) -> None:
        """Take the scores of a window that was complete at *pts*; those of one track come in order."""
        progress, untold = self._progress[camera], self._untold[camera]
        smoothed = Scores(progress.smoothed(window.track_id, scores.probs, pts))
        untold.items.append(Action(window.track_id, window.first_seq, window.last_seq, smoothed))
        untold.events += progress.changes(window.track_id)

    def gone(self, camera: str, tracks: Iterable[int | None], pts: float) -> None:
        """End what *tracks* were doing, and whoever was lost long before *pts*."""
        progress, untold = self._progress[camera], self._untold[camera]
        for track in (*tracks, *progress.lost(pts)):
            untold.events += progress.end(track)

    def broken(self, camera: str) -> None:
        """End all that a camera's objects were doing: its stream broke."""
        if camera in self._progress:
            self._untold[camera].events += self._progress.pop(camera).end_all()
        while len(self._untold) > _CAMERAS:
            self._untold.pop(next(iter(self._untold)))

    def take(self, camera: str) -> Actions | None:
        """Return what is to be told of a camera, once; None when that is nothing."""
        untold = self._untold.pop(camera, None)
        if untold is None or not (untold.items or untold.events):
            return None
        return Actions(tuple(untold.items), tuple(untold.events))
