"""Outlines of things that nobody has seen: what may move over a textured ground."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from engines.types import Array, Float

Generator = np.random.Generator
_ROUND = 40  # points of a smooth outline


def outline(rng: Generator) -> Float:
    """Draw a polygon (P, 2) within about a circle of radius 1."""
    kind = _KINDS[rng.integers(len(_KINDS))]
    return np.asarray(kind(rng), np.float32)


def _ellipse(rng: Generator) -> Array:
    return np.asarray(_circle() * np.array([1, rng.uniform(0.3, 1)]))


def _blob(rng: Generator) -> Array:
    """Let the radius rise and fall around a circle."""
    angle = np.linspace(0, 2 * np.pi, _ROUND, endpoint=False)
    waves = range(2, 6)
    radius = 0.7 + sum(rng.uniform(-0.3, 0.3) / n * np.sin(n * angle + rng.uniform(0, 6)) for n in waves)
    return np.asarray(_circle() * np.asarray(radius)[:, None])


def _polygon(rng: Generator) -> Array:
    """Join points at random radii, in order around the middle: mostly not convex."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 10)))
    return np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(0.35, 1, (len(angle), 1))


def _bar(rng: Generator) -> Array:
    """A stick: long and thin."""
    half = rng.uniform(0.02, 0.15)
    return np.array([[-1, -half], [1, -half], [1, half], [-1, half]])


def _arc(rng: Generator) -> Array:
    """A bent stick, such as a handle or a branch."""
    angle = np.linspace(0, rng.uniform(1.5, 5.5), _ROUND // 2)
    outer = np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.concatenate([outer, outer[::-1] * rng.uniform(0.6, 0.92)])


def _circle() -> Array:
    angle = np.linspace(0, 2 * np.pi, _ROUND, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], 1)


_KINDS: tuple[Callable[[Generator], Array], ...] = (_ellipse, _blob, _blob, _polygon, _polygon, _bar, _arc)
