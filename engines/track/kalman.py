"""Boxes that move: a Kalman filter for all of them at once.

Centre and size of a box are four numbers that move at constant speed and are pushed at random (white noise on the
acceleration). Kalman 1960, https://doi.org/10.1115/1.3662552; Bar-Shalom, Li and Kirubarajan 2001, "Estimation with
Applications to Tracking and Navigation", section 6.2. As none of the four tells anything of another, each has a filter
of its own with a state of two numbers, and nothing is inverted. Time counts in seconds: two short steps are a long one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from engines.types import Float, Rows

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Noise:
    """How boxes move and how well they are measured, in sizes of the box: the root of its area. Pairs: centre, size."""

    measured: tuple[float, float] = (0.06, 0.08)  # standard deviation of one measurement
    push: tuple[float, float] = (0.7, 0.2)  # of the speed after one second, in sizes a second
    start: tuple[float, float] = (2.0, 0.5)  # of the speed of what was seen once


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """N boxes as (centre x, centre y, width, height), their speeds in pixels a second, and how sure that is."""

    place: Doubles  # (N, 4) pixels
    speed: Doubles  # (N, 4) pixels a second
    spread: Doubles  # (3, N, 4): variance of the place, covariance of both, variance of the speed
    size: Doubles  # (N,) pixels: the root of the area when it was last measured

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, rows: Rows) -> Motion:
        return Motion(self.place[rows], self.speed[rows], self.spread[:, rows], self.size[rows])

    @property
    def xyxy(self) -> Float:
        """The boxes (N, 4); a side that has shrunk to nothing is one pixel long."""
        half = np.maximum(self.place[:, 2:], 1.0) / 2
        out: Float = np.hstack([self.place[:, :2] - half, self.place[:, :2] + half]).astype(np.float32)
        return out


def begin(xyxy: Float, noise: Noise) -> Motion:
    """Begin with boxes (N, 4) that were seen once: they stand still, as far as anybody knows."""
    place, size = _measured(xyxy)
    spread = np.zeros((3, *place.shape))
    spread[0] = _variance(noise.measured, size)
    spread[2] = _variance(noise.start, size)
    return Motion(place, np.zeros_like(place), spread, size)


def predict(motion: Motion, seconds: float, noise: Noise) -> Motion:
    """Let time pass."""
    place, both, speed = motion.spread
    push = _variance(noise.push, motion.size) * seconds
    spread = np.stack(
        [
            place + seconds * (2 * both + seconds * (speed + push / 3)),
            both + seconds * (speed + push / 2),
            speed + push,
        ]
    )
    return replace(motion, place=motion.place + seconds * motion.speed, spread=spread)


def update(motion: Motion, xyxy: Float, noise: Noise) -> Motion:
    """Correct N boxes by what was measured of each: (N, 4)."""
    measured, size = _measured(xyxy)
    gain = motion.spread[:2] / (motion.spread[0] + _variance(noise.measured, size))  # of place and speed
    surprise = measured - motion.place
    spread = motion.spread.copy()
    spread[2] -= gain[1] * spread[1]
    spread[:2] *= 1 - gain[0]
    return Motion(motion.place + gain[0] * surprise, motion.speed + gain[1] * surprise, spread, size)


def hold_size(motion: Motion) -> Motion:
    """Stop boxes from growing or shrinking, as what nobody sees must not: a small error would become a large box."""
    speed = motion.speed.copy()
    speed[:, 2:] = 0
    return replace(motion, speed=speed)


def put(motion: Motion, rows: Rows, other: Motion) -> Motion:
    """Replace the boxes in *rows* (K,) by those of *other*, K of them."""
    place, speed, spread, size = motion.place.copy(), motion.speed.copy(), motion.spread.copy(), motion.size.copy()
    place[rows], speed[rows], spread[:, rows], size[rows] = other.place, other.speed, other.spread, other.size
    return Motion(place, speed, spread, size)


def join(one: Motion, other: Motion) -> Motion:
    """Put the boxes of *other* after those of *one*."""
    return Motion(
        np.concatenate([one.place, other.place]),
        np.concatenate([one.speed, other.speed]),
        np.concatenate([one.spread, other.spread], axis=1),
        np.concatenate([one.size, other.size]),
    )


def _measured(xyxy: Float) -> tuple[Doubles, Doubles]:
    """Say where boxes (N, 4) are (N, 4), and how large (N,)."""
    corners = xyxy.astype(np.float64)
    sides = corners[:, 2:] - corners[:, :2]
    return np.hstack([corners[:, :2] + sides / 2, sides]), np.sqrt(np.maximum(sides.prod(1), 1.0))


def _variance(deviation: tuple[float, float], size: Doubles) -> Doubles:
    """Turn standard deviations of centre and size, in sizes of the box, into variances (N, 4) in pixels."""
    out: Doubles = (np.repeat(deviation, 2) * size[:, None]) ** 2
    return out
