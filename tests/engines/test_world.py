"""The world with known truth: the same for everybody, and every pixel of it is whose it is said to be."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worldtruth import owners

from engines.world import ACTIONS, CLASSES, CLEAR, IN_APPEARANCE, Conditions, Scene, World

ROOT = Path(__file__).resolve().parents[2]
SMALL = (160, 96)
TIMES = (1234.5, 0.0, 7.25, 1e6)

seeds = st.integers(0, 2**32)
times = st.floats(0, 1e5)


def digest(scene: Scene) -> str:
    parts = (scene.image, scene.labels, scene.xyxy, scene.whole, scene.visible, scene.track_id, scene.action)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


PRINT = f"""
import sys; sys.path[:0] = ["tests/engines"]
from test_world import World, digest, TIMES
print(*[digest(World(7, {SMALL}).at(t)) for t in reversed(TIMES)])
"""


def test_another_process_sees_the_same_bytes() -> None:
    environment = {"PYTHONPATH": "tests/support", "PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PRINT], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    world = World(7, SMALL)
    assert done.stdout.split()[::-1] == [digest(world.at(t)) for t in TIMES]


@settings(max_examples=15, deadline=None)
@given(seeds, st.lists(times, min_size=1, max_size=6))
def test_what_was_asked_before_changes_nothing(seed: int, asked: list[float]) -> None:
    """Also where so much was asked that what is kept had to go."""
    world = World(seed, (64, 48), objects=3)
    for t in asked:
        world.render(t)
    assert digest(world.at(asked[0])) == digest(World(seed, (64, 48), objects=3).at(asked[0]))


def test_other_seeds_and_times_show_other_things() -> None:
    pictures = [World(seed, SMALL).render(t) for seed in (1, 2) for t in (0.0, 5.0, 500.0)]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert not pictures[0].flags.writeable


@settings(max_examples=25, deadline=None)
@given(seeds, times, st.integers(0, 16))
def test_columns_agree_with_the_labels(seed: int, t: float, objects: int) -> None:
    scene = World(seed, SMALL, objects).at(t)
    assert len(scene) <= objects
    assert scene.labels.max(initial=0) == len(scene)
    for row in range(len(scene)):
        y, x = np.nonzero(scene.labels == row + 1)
        assert scene.xyxy[row].tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        top, left, mask = scene.mask(row)
        assert mask.sum() == len(x)
        assert mask[y - top, x - left].all()
    assert ((scene.visible > 0) & (scene.visible <= 1)).all()
    assert ((scene.class_id >= 0) & (scene.class_id < len(CLASSES))).all()
    assert ((scene.action >= 0) & (scene.action < len(ACTIONS))).all()
    assert len(set(scene.track_id.tolist())) == len(scene)


@settings(max_examples=12, deadline=None)
@given(seeds, times)
def test_each_pixel_belongs_to_the_nearest_outline_over_it(seed: int, t: float) -> None:
    world = World(seed, SMALL)
    scene = world.at(t)
    y, x = np.mgrid[: SMALL[1] : 3, seed % 3 : SMALL[0] : 3].reshape(2, -1)
    truth, sure = owners(world, t, np.stack([x, y], axis=1).astype(np.float64))
    numbered = np.concatenate([[0], scene.track_id])[scene.labels[y, x]]
    assert sure.mean() > 0.5
    assert (numbered == truth)[sure].all()


@settings(max_examples=12, deadline=None)
@given(seeds, times)
def test_what_is_whole_holds_what_is_seen(seed: int, t: float) -> None:
    scene = World(seed, SMALL).at(t)
    assert (scene.whole[:, :2] <= scene.xyxy[:, :2] + 1).all()
    assert (scene.whole[:, 2:] >= scene.xyxy[:, 2:] - 1).all()
    clear = scene.visible == 1
    assert np.abs(scene.whole - scene.xyxy)[clear].max(initial=0) < 3  # the tips of a star cover no half of a pixel


def test_a_share_that_is_seen_is_that_of_the_pixels() -> None:
    """An object alone covers as many pixels as its outline has area."""
    for seed in range(6):
        world = World(seed, (640, 360), objects=1)
        for scene in (world.at(t) for t in np.arange(0, 60, 5.0)):
            for row in range(len(scene)):
                x1, y1, x2, y2 = scene.whole[row]
                inside = x1 >= 0 and y1 >= 0 and x2 <= 640 and y2 <= 360
                assert (scene.visible[row] == 1) == inside or scene.visible[row] > 0.97


@settings(max_examples=6, deadline=None)
@given(seeds)
def test_numbers_are_kept_for_life_and_never_given_again(seed: int) -> None:
    world = World(seed, (64, 48), objects=8)
    seen: dict[int, list[int]] = defaultdict(list)
    classes: dict[int, int] = {}
    for step in range(200):
        scene = world.at(float(step))
        for track, kind in zip(scene.track_id.tolist(), scene.class_id.tolist(), strict=True):
            seen[track].append(step)
            assert classes.setdefault(track, kind) == kind
    assert all(steps[-1] - steps[0] < 30 for steps in seen.values())  # half a minute is the longest life
    assert len(seen) > 50
    assert max(seen) < 2**31


def test_objects_come_from_beyond_the_picture_and_leave_it() -> None:
    world = World(3, SMALL, conditions=CLEAR)
    for life in world.alive(100.0):
        last = life.spans[-1]
        for t in (life.begins, life.begins + last.start + last.seconds):
            assert life.track_id not in world.at(t).track_id


def test_there_is_texture_everywhere() -> None:
    for seed in range(12):
        grey = World(seed, (320, 192), conditions=CLEAR).render(3).mean(axis=2)
        tiles = grey.reshape(12, 16, 20, 16).std(axis=(1, 3))
        assert tiles.min() > 0.5
        assert np.median(tiles) > 4


def test_conditions_change_pixels_and_nothing_else() -> None:
    clear, rough = (World(5, SMALL, conditions=each).at(4) for each in (CLEAR, Conditions(2, 2, 2)))
    assert (clear.labels == rough.labels).all()
    assert (clear.xyxy == rough.xyxy).all()
    assert (clear.image != rough.image).mean() > 0.5


def test_a_camera_on_a_pole_does_not_move() -> None:
    world = World(5, SMALL, objects=0, conditions=Conditions(0, 0, 0, pan=0))
    assert (world.render(0) == world.render(77)).all()
    moving = World(5, SMALL, objects=0, conditions=CLEAR)
    assert (moving.render(0) != moving.render(10)).mean() > 0.5


def test_only_what_shows_in_appearance_changes_it() -> None:
    """In one place and pose, an object that glows or has stripes looks otherwise; one that spins does not."""
    world = World(11, (320, 192), conditions=Conditions(0, 0, 0, 0))
    scenes = [world.at(t) for t in np.arange(0, 40, 0.25)]
    looks: dict[str, list[float]] = defaultdict(list)
    for a, b in pairwise(scenes):
        for row, track in enumerate(a.track_id.tolist()):
            other = np.flatnonzero(b.track_id == track)
            if len(other) and a.visible[row] == 1 and b.visible[other[0]] == 1:
                colours = [s.image[s.labels == r + 1].mean(axis=0) for s, r in ((a, row), (b, int(other[0])))]
                shows = [ACTIONS[action] in IN_APPEARANCE for action in (a.action[row], b.action[other[0]])]
                kind = "changed" if shows[0] != shows[1] else "same"
                looks[kind].append(float(np.abs(colours[0] - colours[1]).max()))
    assert np.percentile(looks["same"], 95) < 6
    assert np.median(looks["changed"]) > 8


def test_two_classes_differ_by_hue_alone() -> None:
    ember, frost = CLASSES.index("ember"), CLASSES.index("frost")
    redder: dict[int, list[float]] = defaultdict(list)
    for seed in range(15):
        scene = World(seed, (320, 192), conditions=CLEAR).at(11)
        for row in range(len(scene)):
            if ACTIONS[scene.action[row]] not in IN_APPEARANCE:
                r, _, b = scene.image[scene.labels == row + 1].mean(axis=0)
                redder[int(scene.class_id[row])].append(float(r - b))
    assert min(redder[ember]) > 0 > max(redder[frost])
    others = [value for kind, values in redder.items() if kind not in (ember, frost) for value in values]
    assert min(others) < -20 < 20 < max(others)


@pytest.mark.parametrize("wrong", [{"objects": 201}, {"objects": -1}, {"size": (8, 96)}, {"seed": -1}])
def test_impossible_worlds_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="objects"):
        World(**{"seed": 0, "size": SMALL, **wrong})  # type: ignore[arg-type]  # what the test is about


def test_there_is_no_time_before_the_beginning() -> None:
    for t in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="begins at 0"):
            World(0, SMALL).at(t)


def test_pictures_do_not_depend_on_threads() -> None:
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            found.append(digest(World(9, (320, 192)).at(3)))
    finally:
        cv2.setNumThreads(before)
    assert found[0] == found[1]
