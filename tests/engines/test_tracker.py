from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from crowds import crowd

from engines.track.tracker import Tracker, TrackOptions
from engines.types import Detections, Float, Masks

SIDE = 60.0


def seen(*places: tuple[float, float], confidence: float = 0.9, classes: Sequence[int] = ()) -> Detections:
    """Objects whose upper left corners are at *places*."""
    corner = np.array(places, np.float32).reshape(-1, 2)
    n = len(places)
    class_id = np.array(classes or [0] * n, np.int32)
    return Detections(np.hstack([corner, corner + np.float32(SIDE)]), class_id, np.full(n, confidence, np.float32))


def ids(tracked: Detections) -> list[int]:
    assert tracked.track_id is not None
    numbers: list[int] = tracked.track_id.tolist()
    return numbers


def follow(tracker: Tracker, frames: Sequence[Detections], rate: float = 10, start: float = 0) -> list[list[int]]:
    return [ids(tracker.update(found, start + frame / rate)) for frame, found in enumerate(frames)]


def test_objects_are_numbered_from_one_on_once_they_are_confirmed() -> None:
    frames = [seen((0, 0)), seen((4, 0), (300, 0)), seen((8, 0), (300, 4)), seen((300, 8), (12, 0))]
    assert follow(Tracker(), frames) == [[], [1], [1, 2], [2, 1]]


def test_a_single_sighting_will_do_if_asked() -> None:
    assert follow(Tracker(TrackOptions(confirm=1)), [seen((0, 0), (300, 0)), seen((3, 0), (303, 0))]) == [[1, 2]] * 2


def test_a_false_alarm_gets_no_number_and_takes_none_away() -> None:
    frames = [seen((0, 0)), seen((0, 0), (500, 0)), seen((0, 0)), seen((0, 0), (900, 0)), seen((0, 0), (900, 0))]
    assert follow(Tracker(), frames) == [[], [1], [1], [1], [1, 2]]


def test_no_number_is_used_twice() -> None:
    tracker = Tracker()
    assert follow(tracker, [seen((0, 0))] * 3) == [[], [1], [1]]
    tracker.reset()
    assert follow(tracker, [seen((0, 0))] * 3) == [[], [2], [2]]
    assert follow(tracker, [seen((0, 0))] * 2, start=100) == [[2], [2]]  # one more chance, however long the gap
    assert follow(tracker, [seen(), seen((0, 0)), seen((0, 0))], rate=0.1, start=200) == [[], [], [3]]
    assert tracker.last == 3


def test_what_is_seen_faintly_keeps_its_number_and_begins_nothing() -> None:
    sure, faint = [seen((4 * i, 0)) for i in range(5)], [seen((4 * i, 0), confidence=0.2) for i in range(5, 60)]
    assert follow(Tracker(), sure + faint)[-1] == [1]
    assert follow(Tracker(), faint) == [[]] * len(faint)
    below = [replace(each, confidence=each.confidence * 0.4) for each in faint]
    assert follow(Tracker(), sure + below)[5:] == [[]] * len(faint)


def test_an_object_that_is_sure_but_not_enough_to_begin_is_followed() -> None:
    frames = [seen((0, 0))] * 2 + [seen((0, 0), (500, 0), confidence=0.55)] * 3
    assert follow(Tracker(), frames)[-1] == [1]


@pytest.mark.parametrize("rate", [5, 10, 30])
def test_who_walks_behind_something_is_the_same_at_any_frame_rate(rate: int) -> None:
    times = np.arange(0, 5, 1 / rate)
    frames = [seen() if 2 < t < 3.5 else seen((100 * t, 30 * t)) for t in times]
    got = follow(Tracker(), frames, rate)
    assert got[1] == got[-1] == [1]


def test_dropped_frames_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    tracker = Tracker()
    times = np.cumsum(rng.choice((1, 1, 1, 2, 8), 60)) / 30
    got = [ids(tracker.update(seen((150 * t, 0)), t)) for t in times.tolist()]
    assert got == [[]] + [[1]] * 59


def test_who_is_away_for_longer_than_memory_is_somebody_new() -> None:
    frames = [seen((0, 0))] * 3 + [seen()] * 8 + [seen((0, 0))] * 2
    assert follow(Tracker(TrackOptions(memory=1)), frames)[-1] == [1]
    assert follow(Tracker(TrackOptions(memory=0.5)), frames)[-1] == [2]


def test_two_who_cross_keep_their_numbers() -> None:
    frames = [seen((10 * i, 0), (400 - 10 * i, 12)) for i in range(41)]
    assert follow(Tracker(), frames)[1:] == [[1, 2]] * 40


def test_classes_are_kept_apart_unless_they_may_change() -> None:
    frames = [seen((0, 0), classes=[1])] * 2 + [seen((0, 0), classes=[2])] * 2
    assert follow(Tracker(), frames) == [[], [1], [], [2]]
    assert follow(Tracker(TrackOptions(agnostic=True)), frames) == [[], [1], [1], [1]]


def test_what_comes_out_is_what_went_in_with_a_number() -> None:
    found = seen((0, 0), (500, 0), (200, 0))
    found = replace(
        found,
        masks=Masks(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 2, 2)),
        regions=np.array([[True], [False], [True]]),
        confidence=np.array([0.9, 0.3, 0.8], np.float32),
    )
    tracker = Tracker()
    tracker.update(found, 0)
    got = tracker.update(found, 0.1)
    assert ids(got) == [1, 2]
    expected = found[np.array([0, 2])]
    np.testing.assert_array_equal(got.xyxy, expected.xyxy)
    assert got.masks is not None
    assert expected.masks is not None
    np.testing.assert_array_equal(got.masks.probs, expected.masks.probs)
    np.testing.assert_array_equal(got.regions, expected.regions)


def test_smoothed_boxes_are_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(1)
    trackers = Tracker(), Tracker(TrackOptions(boxes="smoothed"))
    errors: tuple[list[Float], list[Float]] = [], []
    for frame in range(60):
        truth = seen((10 * frame, 3 * frame)).xyxy
        noisy = replace(seen((0, 0)), xyxy=(truth + rng.normal(0, 3, (1, 4))).astype(np.float32))
        for tracker, error in zip(trackers, errors, strict=True):
            error += [np.abs(box - truth[0]) for box in tracker.update(noisy, frame / 30).xyxy]
    raw, smooth = (np.mean(error[10:]) for error in errors)
    assert smooth < 0.8 * raw


def test_masks_stay_where_they_are_when_boxes_are_smoothed() -> None:
    probs = np.zeros((1, 28, 28), np.float32)
    probs[:, :, 14:] = 1
    tracker = Tracker(TrackOptions(boxes="smoothed"))
    for frame, x in enumerate((0, 0, 0, 20)):
        got = tracker.update(replace(seen((x, 0)), masks=Masks(probs)), frame / 10)
    assert got.masks is not None
    left, _, right, _ = got.xyxy[0]
    assert left < 18  # the box lags behind, so the object's edge, at 50, is further to the right in it
    edge = float((got.masks.probs[0, 14] < 0.5).sum() / 28 * (right - left) + left)
    assert edge == pytest.approx(50, abs=3)


def test_between_two_looks_objects_go_on() -> None:
    tracker = Tracker()
    assert tracker.predict(0.0) is None
    for frame in range(10):
        tracker.update(seen((100 * frame / 10, 0), (500, 0)), frame / 10)
    for _ in range(2):  # it changes nothing
        likely = tracker.predict(1.2)
        assert likely is not None
        assert ids(likely) == [1, 2]
        np.testing.assert_allclose(likely.xyxy[:, 0], [120, 500], atol=2)
    assert tracker.predict(0.9 + 2.1) is None
    assert tracker.predict(0.5) is None
    tracker.update(seen((500, 0)), 1.0)
    likely = tracker.predict(1.1)
    assert likely is not None
    assert ids(likely) == [2]  # who was not there at the last look is not guessed at


def test_when_time_goes_back_all_is_forgotten() -> None:
    tracker = Tracker()
    follow(tracker, [seen((0, 0))] * 3, start=50)
    assert follow(tracker, [seen((0, 0))] * 3) == [[], [2], [2]]


@pytest.mark.parametrize("pts", [float("nan"), float("inf")])
def test_time_must_be_a_number(pts: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        Tracker().update(seen(), pts)


def test_boxes_that_are_none_are_left_out() -> None:
    bad = seen((0, 0), (100, 0), (200, 0), (300, 0))
    bad.xyxy[1, 2], bad.xyxy[2] = np.nan, (200, 60, 200, 0)
    assert follow(Tracker(), [bad] * 4)[-1] == [1, 2]


def test_empty_frames_before_between_and_after() -> None:
    empty = Detections.empty()
    assert follow(Tracker(), [empty, seen((0, 0)), seen((0, 0)), empty, seen((0, 0)), empty]) == [
        [],
        [],
        [1],
        [],
        [1],
        [],
    ]


def test_equal_inputs_give_equal_outputs() -> None:
    shots = crowd(30, 3, seed=8)
    one, other = Tracker(), Tracker()
    for shot in shots:
        a, b = one.update(shot.found, shot.pts), other.update(shot.found, shot.pts)
        assert ids(a) == ids(b)
        assert len(set(ids(a))) == len(a)
        np.testing.assert_array_equal(a.xyxy, b.xyxy)


def test_memory_is_bounded_by_what_was_seen_lately() -> None:
    rng = np.random.default_rng(2)
    tracker = Tracker(TrackOptions(memory=1.0, confirm=1))
    most = 0
    for frame in range(200):
        tracker.update(seen(*rng.uniform(0, 4000, (50, 2)).tolist()), frame / 10)
        most = max(most, tracker.remembered)
    assert most <= 50 * 12
    assert tracker.last > 3000


@pytest.mark.parametrize(
    "wrong",
    [{"low": 0.6}, {"start": 0.4}, {"high": 1.5, "start": 2.0}, {"confirm": 0}, {"memory": -1.0}, {"low": -0.1}],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"confidences must rise|must be 1 or more"):
        TrackOptions(**wrong)
