"""Whose window a model that cannot keep up looks at next."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from streamer.types import Window

_AIM = 1.0  # seconds that a batch may take


@dataclass(slots=True, eq=False)
class Turn:
    """One window on its way to the model and back."""

    camera: str
    window: Window
    pts: float  # media time at which it was complete
    taken: bool = False  # the model has it
    last: bool = False  # its track is gone: no more will come
    void: bool = False  # nobody waits for its scores any more


@dataclass(slots=True, eq=False)
class _Place:
    """Where a track stands."""

    camera: str
    newest: Turn | None = None  # its newest window, until the model is done with it

    @property
    def waits(self) -> bool:
        return self.newest is not None and not self.newest.taken


class Turns:
    """At most one waiting window a track, and *room* of them a camera. The track served longest ago is next.

    A newer window takes the place of the one that its track has waiting. A track that is new counts as served when it
    came: however many come, those who are there get their turn. A window that has waited for *late* seconds of its
    camera's media time is overdue.
    """

    def __init__(self, room: int, late: float) -> None:
        self._room, self._late = room, late
        self._now: dict[str, float] = {}  # media time by camera
        self._line: list[_Place] = []  # whoever is served goes to the back
        self._places: dict[tuple[str, int | None], _Place] = {}  # by camera and track, of those who are not gone
        self._waiting: Counter[str] = Counter()  # by camera
        self._taken: list[Turn] = []  # with the model, or back and not yet told of

    def __len__(self) -> int:
        return self._waiting.total()

    def offer(self, camera: str, window: Window, pts: float) -> bool:
        """Let a window wait; return whether one was shed for it: its predecessor or, where there is no room, itself."""
        self._now[camera] = pts
        place = self._places.get((camera, window.track_id))
        if place is None:
            place = self._places[camera, window.track_id] = _Place(camera)
            self._line.append(place)
        if place.newest is not None and place.waits:
            place.newest.window, place.newest.pts = window, pts
            return True
        if self._waiting[camera] >= self._room:
            return True
        place.newest = Turn(camera, window, pts)
        self._waiting[camera] += 1
        return False

    def leave(self, camera: str, track: int | None) -> bool:
        """Note that a track is gone; return whether a window of it is still on its way."""
        place = self._places.pop((camera, track), None)
        if place is None:
            return False
        if place.newest is not None:
            place.newest.last = True
        if not place.waits:
            self._line.remove(place)
        return place.newest is not None

    def take(self, most: int) -> list[Turn]:
        """Take the next ones, for the model; their tracks go to the back."""
        served = [place for place in self._line if place.waits][:most]
        turns = self._withdraw(served)
        behind = [place for place in self._line if place in served]
        self._line = [place for place in self._line if place not in served] + behind
        return turns

    def overdue(self) -> list[Turn]:
        """Take those that have waited for too long: as a track's next window replaces one, mostly of who is gone."""
        return self._withdraw([place for place in self._line if place.waits and self._is_late(place)])

    def _is_late(self, place: _Place) -> bool:
        return place.newest is not None and self._now[place.camera] - place.newest.pts > self._late

    def _withdraw(self, places: list[_Place]) -> list[Turn]:
        turns = [place.newest for place in places if place.newest is not None]
        for turn in turns:
            turn.taken = True
        self._waiting.subtract(turn.camera for turn in turns)
        self._taken += turns
        self._line = [
            place for place in self._line if place.newest is None or not (place.newest.taken and place.newest.last)
        ]
        return turns

    def done(self, turn: Turn) -> None:
        """Let go of what was taken."""
        self._taken = [one for one in self._taken if one is not turn]
        place = self._places.get((turn.camera, turn.window.track_id))
        if place is not None and place.newest is turn:
            place.newest = None

    def drop(self, camera: str | None = None) -> list[Turn]:
        """Give up all that waits or is with the model, of one camera or of all; return it."""
        waiting = [place.newest for place in self._line if place.waits and place.newest is not None]
        dropped = [turn for turn in (*self._taken, *waiting) if camera in (None, turn.camera)]
        for turn in dropped:
            turn.void = True
        self._taken = [turn for turn in self._taken if not turn.void]
        self._line = [place for place in self._line if camera not in (None, place.camera)]
        self._places = {key: place for key, place in self._places.items() if camera not in (None, place.camera)}
        self._waiting = Counter(place.camera for place in self._line if place.waits)
        self._now = {name: pts for name, pts in self._now.items() if camera not in (None, name)}
        return dropped


class Pace:
    """How many windows a model looks at together: at most *most*, and no more than take it about a second."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._cost: float | None = None  # seconds that a window takes

    @property
    def size(self) -> int:
        """How many to give it next; one, until it is known how long that takes."""
        if self._cost is None:
            return 1
        return self._most if self._cost * self._most <= _AIM else max(1, int(_AIM / self._cost))

    def took(self, windows: int, seconds: float) -> None:
        """Learn from a batch. The first ones are slow while a model warms up, so each counts as much as all before."""
        cost = seconds / windows
        self._cost = cost if self._cost is None else (self._cost + cost) / 2
