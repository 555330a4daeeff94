from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.intake import POLICIES, Admission, Grabbed
from streamer.types import Drop

STEPS = st.lists(st.sampled_from(["put", "take"]), max_size=80)
IMAGE = np.zeros((1, 1, 3), np.uint8)


def frame(seq: int, pts: float) -> Grabbed:
    return Grabbed("a", seq, pts, 0.0, seq, lambda: IMAGE)


@pytest.mark.parametrize("drop", ["newest", "every"])
@given(capacity=st.integers(1, 6), fps=st.one_of(st.none(), st.floats(1, 50)), steps=STEPS)
def test_every_frame_is_taken_once_in_order_or_dropped_with_a_reason(
    drop: Drop, capacity: int, fps: float | None, steps: list[str]
) -> None:
    dropped: Counter[str] = Counter()
    changed = threading.Condition()
    intake = POLICIES[drop](capacity, Admission(fps), changed, lambda reason, n: dropped.update({reason: n}))
    taken: list[int] = []
    count = 0
    for step in [*steps, *["take"] * capacity]:
        if step == "put":
            intake.put(frame(count, count / 25))
            count += 1
        else:
            one, late = intake.take()
            taken += [] if one is None else [one.seq]
            intake.report(late)
        assert len(intake) <= capacity
    assert taken == sorted(set(taken))
    assert len(taken) + dropped.total() == count
    assert set(dropped) <= {"late", "skipped"}


@given(
    rate=st.floats(1, 120),
    target=st.floats(1, 60),
    jitter=st.lists(st.floats(-0.2, 0.2), min_size=200, max_size=200),
)
def test_a_target_rate_is_held_however_the_camera_jitters(rate: float, target: float, jitter: list[float]) -> None:
    changed = threading.Condition()
    intake = POLICIES["newest"](1000, Admission(target), changed, lambda *_: None)
    stamps = [(i + wobble) / rate for i, wobble in enumerate(jitter)]
    for seq, pts in enumerate(stamps):
        intake.put(frame(seq, pts))
    expected = len(stamps) * min(1.0, target / rate)
    assert expected * 0.9 - 2 <= len(intake) <= expected * 1.1 + 2
