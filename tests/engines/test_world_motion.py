"""The motion of the world: a pixel is where the field says it goes, and hidden where it says so."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from worldtruth import depths, owners

from engines.types import Bool, Float
from engines.world import ACTIONS, CLEAR, IN_APPEARANCE, Conditions, Scene, World
from engines.world.motion import Motion

SIZE = (320, 192)
seeds = st.integers(0, 2**32)
times = st.floats(0, 1e5)
steps = st.sampled_from([1 / 30, 1 / 15, 0.2])


def moved_back(motion: Motion, after: Scene, shift: tuple[float, float] = (0, 0)) -> Float:
    """Paint the earlier picture out of the later one."""
    y, x = np.indices(after.size, np.float32)
    u, v = motion.uv[..., 0] + np.float32(shift[0]), motion.uv[..., 1] + np.float32(shift[1])
    found = cv2.remap(after.image, x + u, y + v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)


def comparable(before: Scene, after: Scene, motion: Motion) -> Bool:
    """Where a surface is seen in both, away from edges, and has not begun to glow in between."""
    kernel = np.ones((5, 5), np.uint8)
    edges = cv2.dilate(before.labels, kernel) != cv2.erode(before.labels, kernel)
    later = dict(zip(after.track_id.tolist(), after.action.tolist(), strict=True))
    pairs = zip(before.track_id.tolist(), before.action.tolist(), strict=True)
    changed = [_look(action) != _look(later.get(track, action)) for track, action in pairs]
    out: Bool = ~motion.occluded & ~edges & ~np.array([False, *changed])[before.labels]
    return out


def _look(action: int) -> str:
    return ACTIONS[action] if ACTIONS[action] in IN_APPEARANCE else ""


@settings(max_examples=25, deadline=None)
@given(seeds, times, steps)
def test_the_later_picture_moved_back_is_the_earlier_one(seed: int, t: float, step: float) -> None:
    world = World(seed, SIZE, conditions=CLEAR)
    before, after = world.at(t), world.at(t + step)
    motion = world.between(before, after)
    where = comparable(before, after, motion)
    error = np.abs(moved_back(motion, after) - before.image).mean(axis=2)[where]
    assert where.mean() > 0.4
    assert error.mean() < 3
    assert np.percentile(error, 95) < 10


def test_it_is_exact_to_a_fraction_of_a_pixel() -> None:
    """Half a pixel to any side of where the field points, the pictures fit worse."""
    for seed in range(8):
        world = World(seed, SIZE, conditions=CLEAR)
        before, after = world.at(9), world.at(9.1)
        motion = world.between(before, after)
        where = comparable(before, after, motion)

        def misfit(shift: tuple[float, float], seen: tuple[Scene, Scene, Motion, Bool]) -> float:
            one, other, field, kept = seen
            return float(np.abs(moved_back(field, other, shift) - one.image)[kept].mean())

        seen = (before, after, motion, where)
        best = misfit((0, 0), seen)
        assert all(misfit(shift, seen) > 1.5 * best for shift in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)))


@settings(max_examples=20, deadline=None)
@given(seeds, times, steps)
def test_every_point_moves_as_its_outline_does(seed: int, t: float, step: float) -> None:
    """How deep a point lies in its object does not change, but for the object's growth."""
    world = World(seed, (160, 96), conditions=Conditions(0, 0, 0, pan=3))
    before = world.at(t)
    uv, _ = world.flow(t, t + step)
    for life in world.alive(t):
        y, x = np.nonzero(before.labels == _row(before, life.track_id))
        start = np.stack([x, y], axis=1).astype(np.float64)[::7]
        scale = [world.view(when)[:2, :2] @ life.at(when).matrix[:2, :2] for when in (t, t + step)]
        grown = np.sqrt(np.linalg.det(scale[1]) / np.linalg.det(scale[0]))
        then = depths(world, life, t + step, start + uv[y, x][::7])
        np.testing.assert_allclose(then, depths(world, life, t, start) * grown, atol=0.02)


def _row(scene: Scene, track: int) -> int:
    found = np.flatnonzero(scene.track_id == track)
    return int(found[0]) + 1 if len(found) else -1


@settings(max_examples=12, deadline=None)
@given(seeds, times, st.sampled_from([1 / 15, 0.3, 1.0]))
def test_what_is_hidden_is_what_something_nearer_covers(seed: int, t: float, step: float) -> None:
    """By brute force: each point is looked for in the other picture's outlines."""
    world = World(seed, (96, 64), objects=14)
    before = world.at(t)
    motion = world.flow(t, t + step)
    y, x = (each.reshape(-1)[::3] for each in np.indices(before.size))
    there = np.stack([x, y], axis=1).astype(np.float64) + motion.uv[y, x]
    mine = np.concatenate([[0], before.track_id])[before.labels[y, x]]
    owner, sure = owners(world, t + step, there)
    depth = {0: -1.0} | {life.track_id: life.depth for when in (t, t + step) for life in world.alive(when)}
    covered = np.array([depth[a] > depth[b] for a, b in zip(owner.tolist(), mine.tolist(), strict=True)])
    outside = ((there < -0.5) | (there > np.array([95.5, 63.5]))).any(axis=1)
    assert (motion.occluded[y, x] == (covered | outside))[
        sure & (np.abs(there - there.round()).max(axis=1) < 0.49)
    ].all()


@settings(max_examples=10, deadline=None)
@given(seeds, times)
def test_nothing_moves_in_no_time(seed: int, t: float) -> None:
    uv, occluded = World(seed, (96, 64)).flow(t, t)
    assert np.abs(uv).max() < 1e-3
    assert not occluded.any()


def test_the_ground_moves_with_the_camera_alone() -> None:
    still = World(4, (96, 64), objects=0, conditions=Conditions(pan=0)).flow(3, 9)
    assert np.abs(still.uv).max() < 1e-6
    moving = World(4, (96, 64), objects=0).flow(3, 9)
    assert np.abs(moving.uv).max() > 0.5
    assert moving.occluded.any()  # what has left the picture
    assert not moving.occluded.all()


def test_an_object_that_has_gone_or_is_behind_another_is_hidden_wholly() -> None:
    """Over a minute nobody is left of those who were there; where they were, the ground is not known to be seen."""
    world = World(6, (160, 96), conditions=Conditions(pan=0))
    before = world.at(10)
    _, occluded = world.flow(10, 70)
    assert not set(before.track_id.tolist()) & set(world.at(70).track_id.tolist())
    assert occluded[before.labels > 0].all()
    assert not occluded[before.labels == 0].all()


def test_there_and_back_again() -> None:
    """What is not hidden on its way there is where it was after the way back."""
    world = World(8, SIZE)
    there, back = world.flow(20, 20.1), world.flow(20.1, 20)
    y, x = np.indices(there.occluded.shape, np.float32)
    returned = cv2.remap(back.uv, x + there.uv[..., 0], y + there.uv[..., 1], cv2.INTER_LINEAR)
    gap = np.linalg.norm(there.uv + returned, axis=2)[~there.occluded]
    assert np.median(gap) < 0.01
    assert np.percentile(gap, 90) < 0.1
