"""What an object does from its coming to its going: a pure function of time, in pieces."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from engines.world.affine import Affine, similarity
from engines.world.catalogue import ACTION, ACTIONS, CLASSES
from engines.world.noise import Generator

Point = tuple[float, float]

SMALLEST, LARGEST = 22.0, 160.0  # units: the diameter of the circle around an object
_STOPS = 5  # places where it does something
_TURNS = {"spinning-cw": 1, "spinning-ccw": -1}
_ORBITS = {"circling-cw": 1, "circling-ccw": -1}
_GROWTH = {"growing": 1, "shrinking": -1}
_ACTS = tuple(name for name in ACTIONS if name != "moving")
_LEAST_ACT, _LEAST_ACTS = 1.5, 10.0  # seconds: of one, of all together


@dataclass(frozen=True, slots=True)
class Pose:
    """Where an object is, and what it does there."""

    x: float  # units from the middle of the world, to the right
    y: float  # and down
    size: float  # units: the diameter of the circle around it
    angle: float  # radians, clockwise as seen
    action: int

    @property
    def matrix(self) -> Affine:
        """Map the plane of its outline, whose circle has radius 1, to the world."""
        return similarity(self.size / 2, self.angle, self.x, self.y)


@dataclass(frozen=True, slots=True)
class Swing:
    """How an object moves about its place."""

    reach: float = 0.0  # units
    cycles: int = 0  # in the whole span
    phase: float = 0.0  # radians


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time with one action."""

    start: float  # seconds since the object came
    seconds: float
    action: str
    places: tuple[Point, Point]  # at its start and its end
    sizes: tuple[float, float]
    angles: tuple[float, float]
    swing: Swing = Swing()

    def at(self, t: float) -> Pose:
        share = min(max((t - self.start) / self.seconds, 0.0), 1.0)
        (x1, y1), (x2, y2) = self.places
        dx, dy = _offset(self.action, self.swing, share)
        size = self.sizes[0] * (self.sizes[1] / self.sizes[0]) ** share
        angle = self.angles[0] + (self.angles[1] - self.angles[0]) * share
        return Pose(x1 + (x2 - x1) * share + dx, y1 + (y2 - y1) * share + dy, size, angle, ACTION[self.action])


def _offset(action: str, swing: Swing, share: float) -> Point:
    """Say how far from its place an object is that moves about it; at both ends it is there."""
    turn = 2 * math.pi * swing.cycles * share
    if action in _ORBITS:
        now = swing.phase + _ORBITS[action] * turn
        return (
            swing.reach * (math.cos(now) - math.cos(swing.phase)),
            swing.reach * (math.sin(now) - math.sin(swing.phase)),
        )
    if action == "shaking":
        return swing.reach * math.sin(turn), 0.0
    if action == "jumping":
        return 0.0, -swing.reach * abs(math.sin(turn / 2))
    return 0.0, 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Life:
    """One object, from its coming to its going."""

    track_id: int
    class_id: int
    depth: float  # larger is nearer
    begins: float  # seconds of the world's time
    spans: tuple[Span, ...]
    seed: tuple[int, ...]  # of what it looks like

    @property
    def largest(self) -> float:
        """Its largest size, in units."""
        return max(max(span.sizes) for span in self.spans)

    def at(self, t: float) -> Pose:
        """Say where it is at *t* seconds of the world's time; before and after its life it waits out of sight."""
        since = t - self.begins
        index = bisect_right(self.spans, since, key=_start) - 1
        return self.spans[max(index, 0)].at(since)


def _start(span: Span) -> float:
    return span.start


def _depth(rng: Generator, spans: Sequence[Span]) -> float:
    """Choose how near an object is: small ones mostly more so, else they would be hidden for seconds on end."""
    size = sum(span.sizes[0] for span in spans) / len(spans)
    return float(rng.random()) * 0.3 - math.log(size / LARGEST)


@dataclass(frozen=True, slots=True)
class Slot:
    """One of the objects that are there at a time: when it goes, the next one comes."""

    number: int
    slots: int  # of the world
    seed: int
    seconds: float  # of a life
    ahead: float  # seconds that the first one has lived at time 0

    @classmethod
    def make(cls, seed: int, number: int, slots: int) -> Slot:
        rng = np.random.default_rng((seed, 1, number))
        seconds = rng.uniform(22, 29)
        return cls(number, slots, seed, seconds, rng.uniform(0, seconds))

    def index(self, t: float) -> int:
        """Say which of its lives runs at *t*."""
        return math.floor((t + self.ahead) / self.seconds)

    def live(self, index: int, sight: Point, reach: Point) -> Life:
        """Make up a life: as far as *sight* from the middle the world is seen mostly, as far as *reach* ever."""
        rng = np.random.default_rng((self.seed, 2, self.number, index))
        class_id = int(rng.integers(len(CLASSES)))
        spans = _script(rng, self.seconds, sight, reach)
        begins = index * self.seconds - self.ahead
        looks = (self.seed, 3, self.number, index)
        track_id = index * self.slots + self.number + 1
        return Life(track_id, class_id, _depth(rng, spans), begins, spans, looks)


def _script(rng: Generator, seconds: float, sight: Point, reach: Point) -> tuple[Span, ...]:
    """Let an object come in, do one thing at each stop, and leave."""
    size = math.exp(rng.uniform(math.log(28), math.log(120)))
    stops = _stops(rng, sight)
    path = [_outside(rng, stops[0], reach), *stops, _outside(rng, stops[-1], reach)]
    ways = [math.dist(a, b) / rng.uniform(70, 150) for a, b in pairwise(path)]
    ways = [way * min(1.0, (seconds - _LEAST_ACTS) / sum(ways)) for way in ways]
    shares = rng.uniform(0.7, 1.3, _STOPS)
    times = _LEAST_ACT + (seconds - sum(ways) - _STOPS * _LEAST_ACT) * shares / shares.sum()
    acts = rng.choice(len(_ACTS), _STOPS, replace=False).tolist()
    spans = [_way((0.0, ways[0]), (path[0], path[1]), size, rng.uniform(0, 2 * math.pi))]
    for i in range(_STOPS):
        spans.append(_act(rng, spans[-1], times[i], _ACTS[acts[i]]))
        last = spans[-1]
        when = last.start + last.seconds, ways[i + 1]
        spans.append(_way(when, (path[i + 1], path[i + 2]), last.sizes[1], last.angles[1]))
    return tuple(spans)


def _way(when: Point, places: tuple[Point, Point], size: float, angle: float) -> Span:
    return Span(when[0], when[1], "moving", places, (size, size), (angle, angle))


def _act(rng: Generator, before: Span, seconds: float, action: str) -> Span:
    place, size, angle = before.places[1], before.sizes[1], before.angles[1]
    start, turned, grown = before.start + before.seconds, angle, size
    if action in _GROWTH:
        action = "shrinking" if size > 75 else "growing" if size < 47 else action
        factor = math.exp(_GROWTH[action] * min(rng.uniform(0.45, 0.75) * seconds, 1.5))
        grown = min(max(size * factor, SMALLEST), LARGEST)
    if action in _TURNS:
        turned += _TURNS[action] * math.radians(rng.uniform(90, 180)) * seconds
    swing = _swing(rng, action, size, seconds)
    return Span(start, seconds, action, (place, place), (size, grown), (angle, turned), swing)


def _swing(rng: Generator, action: str, size: float, seconds: float) -> Swing:
    """Choose how far and how often, in whole cycles, an object swings: then it ends where it began."""
    if action in _ORBITS:
        return Swing(9 + 0.2 * size, max(1, round(seconds / rng.uniform(1.3, 1.9))), rng.uniform(0, 2 * math.pi))
    if action == "shaking":
        return Swing(2 + 0.06 * size, max(1, round(seconds * rng.uniform(2.4, 3.2))))
    if action == "jumping":
        return Swing(7 + 0.25 * size, max(1, round(seconds * rng.uniform(1.3, 1.9))))
    return Swing()


def _stops(rng: Generator, sight: Point) -> list[Point]:
    """Choose places in sight, each not far from the one before."""
    x, y = rng.uniform(-0.85, 0.85, 2) * sight
    stops = [(float(x), float(y))]
    while len(stops) < _STOPS:
        angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(70, 180)
        x = stops[-1][0] + far * math.cos(angle)
        y = stops[-1][1] + far * math.sin(angle)
        if abs(x) < 0.88 * sight[0] and abs(y) < 0.88 * sight[1]:
            stops.append((x, y))
    return stops


def _outside(rng: Generator, stop: Point, reach: Point) -> Point:
    """Choose a place out of sight; of two ways there the shorter one."""
    return min((_ray(stop, rng.uniform(0, 2 * math.pi), reach) for _ in range(2)), key=lambda to: math.dist(stop, to))


def _ray(stop: Point, angle: float, reach: Point) -> Point:
    """Go from a place into some direction until even the largest object is out of sight."""
    way = math.cos(angle), math.sin(angle)
    limits = [limit + LARGEST / 2 for limit in reach]
    far = min(
        (limit - math.copysign(1, d) * at) / max(abs(d), 1e-6) for at, d, limit in zip(stop, way, limits, strict=True)
    )
    return stop[0] + far * way[0], stop[1] + far * way[1]
