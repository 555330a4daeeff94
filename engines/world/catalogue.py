"""What there is in the world: kinds of objects, and what they do."""

from __future__ import annotations

import numpy as np

from engines.types import Float

CLASSES = ("disc", "square", "triangle", "star", "ring", "cross", "ember", "frost")  # the last two: capsules, by hue
ACTIONS = (
    "still",
    "moving",
    "spinning-cw",  # clockwise as seen
    "spinning-ccw",
    "circling-cw",
    "circling-ccw",
    "shaking",
    "jumping",
    "growing",
    "shrinking",
    "glowing",
    "striped",
)
IN_APPEARANCE = ("glowing", "striped")  # one picture tells them; all others only motion does

ACTION = {name: index for index, name in enumerate(ACTIONS)}

# Degrees of hue that a class keeps to; any other class has any colour.
HUES: dict[str, tuple[float, float]] = {"ember": (-15, 30), "frost": (205, 250)}


def outline(class_id: int) -> tuple[Float, ...]:
    """Draw a class as polygons (P, 2) within a circle of radius 1: the outer edge, then holes."""
    return _OUTLINES[class_id]


def _round(radius: float, points: int = 72) -> Float:
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)


def _pointed(corners: int, inner: float | None = None) -> Float:
    """Draw a regular polygon that stands on a side; with *inner*, a star."""
    step = corners if inner is None else 2 * corners
    angle = -np.pi / 2 + np.arange(step) * 2 * np.pi / step
    radius = np.ones(step) if inner is None else np.where(np.arange(step) % 2, inner, 1.0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)


def _cross(half: float = 0.3) -> Float:
    far = float(np.sqrt(1 - half**2))
    corner = [(half, half), (half, far), (-half, far)]
    turns = [np.array([[c, -s], [s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    return np.concatenate([np.array(corner) @ turn.T for turn in turns]).astype(np.float32)


def _capsule(half: float = 0.45) -> Float:
    angle = np.linspace(-np.pi / 2, np.pi / 2, 36)
    end = np.stack([1 - half + half * np.cos(angle), half * np.sin(angle)], axis=1)
    return np.concatenate([end, -end]).astype(np.float32)


_SQUARE = np.roll(_pointed(4), 1, axis=0) @ np.array([[1, -1], [1, 1]], np.float32) / np.float32(np.sqrt(2))
_OUTLINES: tuple[tuple[Float, ...], ...] = (
    (_round(1.0),),
    (_SQUARE,),
    (_pointed(3),),
    (_pointed(5, 0.42),),
    (_round(1.0), _round(0.55)),
    (_cross(),),
    (_capsule(),),
    (_capsule(),),
)
