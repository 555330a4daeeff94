"""Who is served next by a model that cannot keep up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from windowed import window

from streamer.stages.turns import Pace, Turn, Turns


def spans(turns: Sequence[Turn]) -> list[tuple[str, int | None, int]]:
    return [(turn.camera, turn.window.track_id, turn.window.last_seq) for turn in turns]


def test_a_newer_window_takes_the_place_of_the_one_that_waits() -> None:
    turns = Turns(room=4, late=5.0)
    assert [turns.offer("gate", window(0.5, track, seq), seq / 10) for track, seq in ((1, 4), (2, 4), (1, 8))] == [
        False,
        False,
        True,
    ]
    assert spans(turns.take(1)) == [("gate", 1, 8)]
    assert not turns.offer("gate", window(0.5, 1, 12), 1.2)  # the one before is with the model, and stays there
    assert spans(turns.take(9)) == [("gate", 2, 4), ("gate", 1, 12)]


def test_a_camera_has_no_more_than_its_room() -> None:
    turns = Turns(room=2, late=5.0)
    shed = [turns.offer(camera, window(0.5, track), 0.0) for camera in ("gate", "yard") for track in (1, 2, 3)]
    assert shed == [False, False, True, False, False, True]
    turns.take(1)
    assert not turns.offer("gate", window(0.5, 3), 0.0)


def test_who_left_is_told_apart_from_who_comes_back_under_his_number() -> None:
    turns = Turns(room=4, late=5.0)
    assert not turns.leave("gate", 1)
    turns.offer("gate", window(0.5, 1, 4), 0.4)
    assert turns.leave("gate", 1)
    assert not turns.offer("gate", window(0.5, 1, 9), 0.9)
    first, second = turns.take(2)
    assert (first.last, second.last) == (True, False)
    turns.done(first)
    assert turns.leave("gate", 1)
    assert second.last
    turns.done(second)
    assert not turns.leave("gate", 1)


def test_what_has_waited_for_too_long_is_overdue() -> None:
    turns = Turns(room=4, late=5.0)
    turns.offer("gate", window(0.5, 1), 0.0)
    turns.offer("gate", window(0.5, 2), 0.0)
    assert turns.leave("gate", 1)
    turns.offer("yard", window(0.5, 1), 1.0)
    turns.offer("gate", window(0.5, 2, 50), 5.0)
    assert turns.overdue() == []
    turns.offer("gate", window(0.5, 3, 51), 5.1)
    (late,) = turns.overdue()
    assert (late.window.track_id, late.last) == (1, True)
    assert spans(turns.take(9)) == [("gate", 2, 50), ("yard", 1, 0), ("gate", 3, 51)]


def test_what_is_dropped_is_void_wherever_it_is() -> None:
    turns = Turns(room=4, late=5.0)
    for camera in ("gate", "yard"):
        for track in (1, 2):
            turns.offer(camera, window(0.5, track), 0.0)
    (taken,) = turns.take(1)
    dropped = turns.drop("gate")
    assert spans(dropped) == [("gate", 1, 0), ("gate", 2, 0)]
    assert taken.void
    assert not turns.leave("gate", 1)
    assert spans(turns.take(9)) == [("yard", 1, 0), ("yard", 2, 0)]
    assert spans(turns.drop()) == [("yard", 1, 0), ("yard", 2, 0)]
    assert not len(turns)


@given(tracks=st.integers(1, 12), size=st.integers(1, 5), newcomers=st.integers(0, 3), rounds=st.integers(1, 60))
def test_tracks_share_a_model_evenly_and_newcomers_do_not_push_in(
    tracks: int, size: int, newcomers: int, rounds: int
) -> None:
    """Each always has a window waiting; others come for one and are never seen again."""
    turns, served = Turns(room=10_000, late=5.0), Counter[int | None]()
    for at in range(rounds):
        for track in range(tracks):
            turns.offer("gate", window(0.5, track, at), at / 10)
        for other in range(newcomers):
            turns.offer("gate", window(0.5, 1000 + newcomers * at + other, at), at / 10)
        served.update(turn.window.track_id for turn in turns.take(size))
    counts = [served[track] for track in range(tracks)]
    assert max(counts) - min(counts) <= 1


@given(
    st.lists(
        st.tuples(st.sampled_from(["offer", "leave", "take", "drop"]), st.sampled_from("ab"), st.integers(0, 4)),
        max_size=80,
    )
)
def test_every_window_is_accounted_for_and_those_of_a_track_stay_in_order(steps: list[tuple[str, str, int]]) -> None:
    turns, offered, shed = Turns(room=3, late=5.0), 0, 0
    out: list[Turn] = []
    for at, (what, camera, track) in enumerate(steps):
        if what == "offer":
            offered += 1
            shed += turns.offer(camera, window(0.5, track, at), float(at))
        elif what == "leave":
            turns.leave(camera, track)
        elif what == "drop":
            shed += len(turns.drop(camera))
        else:
            out += (taken := turns.take(track))
            for turn in taken:
                turns.done(turn)
    assert offered == len(out) + shed + len(turns)
    for key in {(turn.camera, turn.window.track_id) for turn in out}:
        mine = [turn.pts for turn in out if (turn.camera, turn.window.track_id) == key]
        assert mine == sorted(mine)


def test_a_batch_is_what_takes_about_a_second() -> None:
    pace = Pace(8)
    assert pace.size == 1
    pace.took(1, 0.35)
    assert pace.size == 2
    pace.took(2, 0.2)
    assert pace.size == 4
    pace.took(4, 0.04)
    assert pace.size == 8
    for _ in range(9):
        pace.took(8, 24.0)
    assert pace.size == 1


@pytest.mark.parametrize("seconds", [0.0, 1e-9])
def test_what_takes_no_time_is_limited_all_the_same(seconds: float) -> None:
    pace = Pace(8)
    pace.took(1, seconds)
    assert pace.size == 8
