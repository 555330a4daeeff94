from __future__ import annotations

from dataclasses import astuple
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.track import kalman
from engines.track.kalman import Doubles, Motion, Noise
from engines.types import Float

NOISE = Noise()
BOX = np.array([[100, 50, 140, 150]], np.float32)


def moved(box: Float, dx: float, dy: float, growth: float = 1.0) -> Float:
    centre, half = (box[:, :2] + box[:, 2:]) / 2 + (dx, dy), (box[:, 2:] - box[:, :2]) / 2 * growth
    return np.hstack([centre - half, centre + half]).astype(np.float32)


def walked(seconds: float, rate: float) -> Motion:
    """A box that goes 60 pixels a second to the right and 20 down, filmed for so long."""
    motion = kalman.begin(BOX, NOISE)
    for frame in range(1, round(seconds * rate) + 1):
        motion = kalman.predict(motion, 1 / rate, NOISE)
        motion = kalman.update(motion, moved(BOX, 60 * frame / rate, 20 * frame / rate), NOISE)
    return motion


def same(one: Motion, other: Motion) -> None:
    for a, b in zip(astuple(one), astuple(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rate", [5, 10, 30, 60])
def test_speed_is_learned_in_pixels_a_second_at_any_frame_rate(rate: int) -> None:
    motion = walked(3, rate)
    np.testing.assert_allclose(motion.speed, [[60, 20, 0, 0]], atol=1.0)
    later = kalman.predict(motion, 0.5, NOISE)
    np.testing.assert_allclose(later.xyxy, moved(BOX, 60 * 3.5, 20 * 3.5), atol=1.0)


@given(st.floats(0, 2), st.floats(0, 2))
def test_two_short_steps_are_one_long_one(first: float, second: float) -> None:
    motion = walked(1, 10)
    same(
        kalman.predict(kalman.predict(motion, first, NOISE), second, NOISE),
        kalman.predict(motion, first + second, NOISE),
    )


def test_the_longer_nobody_looks_the_less_is_sure() -> None:
    motion = walked(1, 10)
    spread = [kalman.predict(motion, seconds, NOISE).spread[0] for seconds in (0, 0.1, 1, 2)]
    assert all((a < b).all() for a, b in pairwise(spread))


def test_it_is_the_filter_of_the_textbook() -> None:
    motion, state, covariance = kalman.begin(BOX, NOISE), np.zeros(8), np.zeros((8, 8))
    size = np.sqrt(40 * 100)
    state[:4] = 120, 100, 40, 100
    covariance[range(8), range(8)] = (size * np.array([*np.repeat(NOISE.measured, 2), *np.repeat(NOISE.start, 2)])) ** 2
    rng = np.random.default_rng(0)
    for step in (0.04, 0.2, 0.033, 1.0):
        box = moved(BOX, *rng.normal(0, 10, 2))
        motion = kalman.update(kalman.predict(motion, step, NOISE), box, NOISE)
        state, covariance = textbook(state, covariance, step, box)
    np.testing.assert_allclose(motion.place[0], state[:4], rtol=1e-5)
    np.testing.assert_allclose(motion.speed[0], state[4:], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(motion.spread[1, 0], covariance[range(4), range(4, 8)], rtol=1e-5)


def textbook(state: Doubles, covariance: Doubles, step: float, box: Float) -> tuple[Doubles, Doubles]:
    """One step of eight numbers with matrices; the box stays as large as it is."""
    one, none = np.eye(4), np.zeros((4, 4))
    size = np.sqrt(40 * 100)
    move = np.block([[one, step * one], [none, one]])
    look = np.block([one, none])
    push = np.diag((size * np.repeat(NOISE.push, 2)) ** 2)
    noise = np.block([[push * step**3 / 3, push * step**2 / 2], [push * step**2 / 2, push * step]])
    state, covariance = move @ state, move @ covariance @ move.T + noise
    measured = np.array([*(box[0, :2] + box[0, 2:]) / 2, *(box[0, 2:] - box[0, :2])], np.float64)
    blur = np.diag((size * np.repeat(NOISE.measured, 2)) ** 2)
    gain = covariance @ look.T @ np.linalg.inv(look @ covariance @ look.T + blur)
    return state + gain @ (measured - look @ state), (np.eye(8) - gain @ look) @ covariance


@given(st.floats(0.1, 20), st.floats(-500, 500))
def test_a_larger_picture_is_the_same_picture(scale: float, shift: float) -> None:
    def follow(change: float, by: float) -> Float:
        motion = kalman.begin(BOX * np.float32(change) + np.float32(by), NOISE)
        for frame in range(1, 5):
            box = moved(BOX, 9 * frame, 2 * frame) * np.float32(change) + np.float32(by)
            motion = kalman.update(kalman.predict(motion, 0.1, NOISE), box, NOISE)
        return motion.xyxy

    np.testing.assert_allclose(follow(scale, shift), follow(1, 0) * scale + shift, rtol=1e-3, atol=0.05)


def test_boxes_do_not_touch_each_other() -> None:
    boxes = np.concatenate([BOX, moved(BOX, 300, 0, 2)])
    both = kalman.update(kalman.predict(kalman.begin(boxes, NOISE), 0.1, NOISE), boxes + 3, NOISE)
    for row in (0, 1):
        alone = kalman.begin(boxes[row : row + 1], NOISE)
        same(both[row : row + 1], kalman.update(kalman.predict(alone, 0.1, NOISE), boxes[row : row + 1] + 3, NOISE))


def test_what_is_held_keeps_its_size_and_goes_on() -> None:
    motion = kalman.begin(BOX, NOISE)
    for frame in range(1, 20):
        box = moved(BOX, 6 * frame, 0, 1 + frame / 20)
        motion = kalman.update(kalman.predict(motion, 0.1, NOISE), box, NOISE)
    held = kalman.predict(kalman.hold_size(motion), 1.0, NOISE)
    np.testing.assert_allclose(held.place[0, 2:], motion.place[0, 2:])
    assert held.place[0, 0] == pytest.approx(motion.place[0, 0] + 60, abs=3)
    assert motion.speed[0, 2] > 10  # the first one is as it was


def test_a_box_never_turns_inside_out() -> None:
    motion = kalman.begin(BOX, NOISE)
    for frame in range(1, 6):
        motion = kalman.update(kalman.predict(motion, 0.1, NOISE), moved(BOX, 0, 0, 1 - frame / 6), NOISE)
    x1, y1, x2, y2 = kalman.predict(motion, 10, NOISE).xyxy[0]
    assert (x2 - x1, y2 - y1) == (1, 1)
