"""What objects do is what they are said to do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.world import ACTIONS, CLASSES, IN_APPEARANCE
from engines.world.catalogue import outline
from engines.world.lives import LARGEST, SMALLEST, Life, Pose, Slot, Span

SIGHT, REACH = (320.0, 180.0), (390.0, 240.0)

lives = st.builds(
    lambda seed, number, index: Slot.make(seed, number, 12).live(index, SIGHT, REACH),
    st.integers(0, 2**32), st.integers(0, 11), st.integers(0, 10**6),
)  # fmt: skip


def poses(span: Span, count: int = 61) -> list[Pose]:
    """Follow a span from just after its start to just before its end."""
    return [span.at(t) for t in np.linspace(span.start, span.start + span.seconds, count + 2)[1:-1]]


def places(found: list[Pose]) -> np.ndarray:
    return np.array([(pose.x, pose.y) for pose in found])


def turning(found: list[Pose]) -> np.ndarray:
    """To which side the way bends: positive is clockwise as seen, for y grows downwards."""
    steps = np.diff(places(found), axis=0)
    return np.asarray(steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0])


def stays(found: list[Pose]) -> bool:
    return bool(np.ptp(places(found), axis=0).max() < 1e-9)


def steady(found: list[Pose]) -> bool:
    """Neither its size nor its angle changes."""
    return len({(pose.size, pose.angle) for pose in found}) == 1


def still(found: list[Pose], seconds: float) -> bool:
    return stays(found) and steady(found)


def moving(found: list[Pose], seconds: float) -> bool:
    speed = np.linalg.norm(np.diff(places(found), axis=0), axis=1) * 62 / seconds
    return steady(found) and np.ptp(speed) < 1e-6 * speed.max() and speed.min() > 60


def spinning(sign: int) -> Callable[[list[Pose], float], bool]:
    def holds(found: list[Pose], seconds: float) -> bool:
        rate = np.diff([pose.angle for pose in found]) * 62 / seconds
        return stays(found) and len({pose.size for pose in found}) == 1 and bool((sign * rate > math.radians(80)).all())

    return holds


def circling(sign: int) -> Callable[[list[Pose], float], bool]:
    def holds(found: list[Pose], seconds: float) -> bool:
        return steady(found) and bool((sign * turning(found) > 0).all())

    return holds


def growing(sign: int) -> Callable[[list[Pose], float], bool]:
    def holds(found: list[Pose], seconds: float) -> bool:
        sizes = np.array([pose.size for pose in found])
        return stays(found) and bool((sign * np.diff(sizes) > 0).all()) and abs(math.log(sizes[-1] / sizes[0])) > 0.4

    return holds


def shaking(found: list[Pose], seconds: float) -> bool:
    x, y = places(found).T
    turns = int((np.diff(np.sign(np.diff(x))) != 0).sum())
    return steady(found) and float(np.ptp(y)) < 1e-9 and 4 < turns / seconds < 7


def jumping(found: list[Pose], seconds: float) -> bool:
    x, y = places(found).T
    hops = int(((y[1:-1] < y[:-2]) & (y[1:-1] <= y[2:])).sum())  # up is less: the top of a hop
    return steady(found) and float(np.ptp(x)) < 1e-9 and 1 < hops / seconds < 2.5


HOLDS: dict[str, Callable[[list[Pose], float], bool]] = {
    "still": still, "moving": moving, "shaking": shaking, "jumping": jumping, "glowing": still, "striped": still,
    "spinning-cw": spinning(1), "spinning-ccw": spinning(-1), "circling-cw": circling(1), "circling-ccw": circling(-1),
    "growing": growing(1), "shrinking": growing(-1),
}  # fmt: skip


def some(count: int) -> Iterator[Life]:
    for index in range(count):
        yield Slot.make(1, index % 12, 12).live(index, SIGHT, REACH)


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_is_the_motion_that_its_name_says(action: str) -> None:
    spans = [span for life in some(120) for span in life.spans if span.action == action]
    assert len(spans) > 30
    assert all(HOLDS[action](poses(span), span.seconds) for span in spans)
    others = [
        name for name in ACTIONS
        if name != action and (HOLDS[name] is not still or HOLDS[action] is not still)
        and all(HOLDS[name](poses(span), span.seconds) for span in spans)
    ]  # fmt: skip
    assert not others  # what is told apart by motion is told apart by these motions


def test_only_what_shows_is_like_standing_still() -> None:
    assert {name for name, holds in HOLDS.items() if holds is still} == {"still", *IN_APPEARANCE}


@settings(max_examples=60, deadline=None)
@given(lives)
def test_a_life_is_one_way_without_jumps(life: Life) -> None:
    for before, after in pairwise(life.spans):
        assert after.start == pytest.approx(before.start + before.seconds)
        end, start = before.at(before.start + before.seconds), after.at(after.start)
        assert (end.x, end.y, end.size, end.angle) == pytest.approx((start.x, start.y, start.size, start.angle))
        assert "moving" in (before.action, after.action)


@settings(max_examples=60, deadline=None)
@given(lives)
def test_sizes_and_places_keep_within_bounds(life: Life) -> None:
    for span in life.spans:
        assert span.seconds > 0.1
        for pose in poses(span, 9):
            assert SMALLEST - 1e-6 <= pose.size <= LARGEST + 1e-6
        if span.action != "moving":
            assert abs(span.places[0][0]) < SIGHT[0]
            assert abs(span.places[0][1]) < SIGHT[1]
    for t in (life.begins - 1, life.begins, life.begins + 100):
        pose = life.at(t)
        outside = pose.size / 2 - 1e-6
        assert abs(pose.x) >= REACH[0] + outside or abs(pose.y) >= REACH[1] + outside


def test_every_class_and_action_comes_about_as_often() -> None:
    found = list(some(600))
    classes = Counter(life.class_id for life in found)
    acts = Counter(span.action for life in found for span in life.spans if span.action != "moving")
    assert len(classes) == len(CLASSES)
    assert min(classes.values()) > 600 / len(CLASSES) * 0.6
    assert set(acts) == set(ACTIONS) - {"moving"}
    assert min(acts.values()) > acts.total() / len(acts) * 0.6


@pytest.mark.parametrize("class_id", range(len(CLASSES)))
def test_an_outline_fills_its_circle(class_id: int) -> None:
    radius = np.linalg.norm(outline(class_id)[0], axis=1)
    assert radius.max() == pytest.approx(1, abs=1e-3)
