"""People who walk about before a camera, what a detector makes of them, and a plain tracker to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.boxes import iou
from engines.types import Bool, Detections, Float, Int

Doubles = npt.NDArray[np.float64]

WIDTH, HEIGHT = 1280, 720
RATE = 30  # frames a second that the world is made of
_PILLARS = ((420.0, 470.0), (840.0, 930.0))  # x from, to: they hide whoever walks behind them


@dataclass(frozen=True)
class Shot:
    """One frame: when it was, who was there, and what the detector said."""

    pts: float
    truth: Detections  # with the true ids
    found: Detections


def crowd(people: int, seconds: float, seed: int, classes: int = 1) -> list[Shot]:
    """Film *people* at 30 frames a second; the same seed makes the same film."""
    rng = np.random.default_rng(seed)
    feet, speed = _start(rng, people)
    class_id = rng.integers(0, classes, people).astype(np.int32)
    wish = speed.copy()
    visits = np.zeros(people, np.int32)
    shots = []
    for frame in range(int(seconds * RATE)):
        visits = _visits(visits, _in_view(_boxes(feet)))
        truth = _truth(feet, class_id, visits)
        shots.append(Shot(frame / RATE, truth, _detect(rng, truth, classes)))
        speed += (wish - speed) * 0.05 + rng.normal(0, 4, speed.shape)  # people do not walk like machines
        feet += speed / RATE
        wish[:, 0] = _turned(wish[:, 0], feet[:, 0], (-80, WIDTH + 80))
        wish[:, 1] = _turned(wish[:, 1], feet[:, 1], (220, HEIGHT))
    return shots


def thinned(shots: Sequence[Shot], rate: int) -> list[Shot]:
    """Film the same at *rate* frames a second."""
    return list(shots[:: RATE // rate])


def dropped(shots: Sequence[Shot], seed: int) -> list[Shot]:
    """Lose a fifth of the frames, and every few seconds half a second of them."""
    rng = np.random.default_rng(seed)
    lost = rng.random(len(shots)) < 0.2
    pts = np.array([shot.pts for shot in shots])
    lost |= pts % 5 > 4.5
    return [shot for shot, gone in zip(shots, lost, strict=True) if not gone]


def _start(rng: np.random.Generator, people: int) -> tuple[Doubles, Doubles]:
    feet = rng.uniform((0, 240), (WIDTH, HEIGHT - 20), (people, 2))
    pace = rng.uniform(0.5, 1.0, people) * rng.choice((-1, 1), people)
    heights = _height(feet[:, 1])
    return feet, np.stack([pace * heights, rng.normal(0, 0.1, people) * heights], axis=1)


def _height(y: Doubles) -> Doubles:
    """How tall people look: those further up in the picture are further away."""
    out: Doubles = 50 + 150 * np.clip(y - 220, 0, 500) / 500
    return out


def _turned(wish: Doubles, at: Doubles, limits: tuple[float, float]) -> Doubles:
    """Let those who are beyond the limits wish to come back."""
    beyond = (at < limits[0]) | (at > limits[1])
    return np.where(beyond, np.copysign(wish, sum(limits) / 2 - at), wish)


def _boxes(feet: Doubles) -> Float:
    height = _height(feet[:, 1])
    half = 0.2 * height
    xyxy = np.stack([feet[:, 0] - half, feet[:, 1] - height, feet[:, 0] + half, feet[:, 1]], axis=1)
    return xyxy.astype(np.float32)


def _in_view(xyxy: Float) -> Bool:
    out: Bool = (xyxy[:, 2] > 20) & (xyxy[:, 0] < WIDTH - 20)
    return out


def _visits(before: Int, in_view: Bool) -> Int:
    """Number whoever is in the picture; outside, his last number is negative: he comes back as somebody new."""
    new = in_view & (before <= 0)
    after = np.where(in_view, before, -np.abs(before))
    after[new] = np.abs(before).max() + 1 + np.arange(int(new.sum()))
    return after.astype(np.int32)


def _truth(feet: Doubles, class_id: Int, visits: Int) -> Detections:
    rows = np.flatnonzero(visits > 0)
    return Detections(_boxes(feet[rows]), class_id[rows], np.ones(len(rows), np.float32), visits[rows])


def _seen(truth: Detections) -> Doubles:
    """What share of each box is not hidden by somebody nearer, or by a pillar: (N,)."""
    x1, y1, x2, y2 = truth.xyxy.T.astype(np.float64)
    columns = np.linspace(0.05, 0.95, 10)
    x = x1[:, None] + (x2 - x1)[:, None] * columns
    covered = np.zeros((len(x), 10), np.float64)
    for i in range(len(x)):  # who stands nearer covers those columns of a box from the top of his head down
        nearer = y2 > y2[i]
        over = (x1[nearer, None] <= x[i]) & (x[i] <= x2[nearer, None])
        share = np.clip((y2[i] - y1[nearer]) / (y2[i] - y1[i]), 0, 1)
        covered[i] = (over * share[:, None]).max(axis=0, initial=0)
        if y2[i] < 600:
            covered[i] = np.maximum(covered[i], [any(a <= at <= b for a, b in _PILLARS) for at in x[i]])
    out: Doubles = 1 - covered.mean(axis=1)
    return out


def _detect(rng: np.random.Generator, truth: Detections, classes: int) -> Detections:
    seen = _seen(truth)
    confidence = np.clip(1.1 * seen - 0.2 + rng.normal(0, 0.08, len(seen)), 0.02, 0.98)
    there = (seen > 0.25) & (rng.random(len(seen)) > 0.02)
    sides = np.tile(truth.xyxy[:, 2:] - truth.xyxy[:, :2], 2)
    blur = 0.025 + 0.06 * (1 - seen)
    boxes = truth.xyxy + rng.normal(0, 1, sides.shape) * blur[:, None] * sides
    false = _false(rng, classes)
    rows = np.flatnonzero(there)
    xyxy = np.concatenate([boxes[rows].astype(np.float32), false.xyxy])
    class_id = np.concatenate([truth.class_id[rows], false.class_id])
    scores = np.concatenate([confidence[rows].astype(np.float32), false.confidence])
    best = np.argsort(-scores, kind="stable")
    return Detections(xyxy[best], class_id[best], scores[best])


def _false(rng: np.random.Generator, classes: int) -> Detections:
    count = rng.poisson(1.5)
    feet, height = rng.uniform((0, 200), (WIDTH, HEIGHT), (count, 2)), rng.uniform(50, 200, (count, 1))
    xyxy = np.hstack([feet - height * (0.2, 1.0), feet + height * (0.2, 0.0)])
    scores = np.clip(rng.exponential(0.2, count) + 0.05, 0, 0.95).astype(np.float32)
    return Detections(xyxy.astype(np.float32), rng.integers(0, classes, count).astype(np.int32), scores)


class Greedy:
    """The plain tracker: sure detections, the largest overlap with a last seen box first, a second of memory."""

    def __init__(self, confidence: float = 0.5, least: float = 0.3, memory: float = 1.0) -> None:
        self._confidence, self._least, self._memory = confidence, least, memory
        self._boxes: Float = np.zeros((0, 4), np.float32)
        self._classes: Int = np.zeros(0, np.int32)
        self._ids: Int = np.zeros(0, np.int32)
        self._seen: Doubles = np.zeros(0)
        self._last = 0

    def update(self, found: Detections, pts: float) -> Detections:
        found = found[found.confidence >= self._confidence]
        overlap = iou(self._boxes, found.xyxy) * (self._classes[:, None] == found.class_id)
        ids = np.zeros(len(found), np.int32)
        while overlap.size and overlap.max() >= self._least:
            row, column = np.unravel_index(overlap.argmax(), overlap.shape)
            ids[column] = self._ids[row]
            overlap[row] = overlap[:, column] = 0
        new = ids == 0
        ids[new] = self._last + 1 + np.arange(int(new.sum()))
        self._last = max(self._last, int(ids.max(initial=0)))
        stay: Bool = ~np.isin(self._ids, ids) & (pts - self._seen <= self._memory)
        self._boxes = np.concatenate([self._boxes[stay], found.xyxy])
        self._classes = np.concatenate([self._classes[stay], found.class_id])
        self._ids = np.concatenate([self._ids[stay], ids])
        self._seen = np.concatenate([self._seen[stay], np.full(len(ids), pts)])
        return Detections(found.xyxy, found.class_id, found.confidence, ids)
