from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest

from streamer.intake import POLICIES, Admission, Grabbed, Intake
from streamer.mailbox import Closed
from streamer.types import Drop

IMAGE = np.zeros((1, 1, 3), np.uint8)


class Bench:
    def __init__(self, drop: Drop, capacity: int = 2, fps: float | None = None) -> None:
        self.dropped: Counter[str] = Counter()
        self.intake: Intake = POLICIES[drop](
            capacity, Admission(fps), threading.Condition(), lambda reason, n: self.dropped.update({reason: n})
        )

    def put(self, *seqs: int, epoch: int = 0) -> None:
        for seq in seqs:
            self.intake.put(Grabbed("a", seq, seq / 25, 0.0, seq, lambda: IMAGE, epoch))

    def take(self) -> int | None:
        frame, dropped = self.intake.take()
        self.intake.report(dropped)
        return None if frame is None else frame.seq


def test_newest_keeps_a_few_frames_in_order_while_nothing_had_to_go() -> None:
    bench = Bench("newest")
    bench.put(0, 1)
    assert [bench.take(), bench.take(), bench.take()] == [0, 1, None]
    assert not bench.dropped


def test_newest_takes_only_the_newest_once_it_was_full() -> None:
    bench = Bench("newest")
    bench.put(0, 1, 2)
    assert bench.take() == 2
    assert bench.dropped == {"late": 2}
    bench.put(3, 4)
    assert [bench.take(), bench.take()] == [3, 4]


def test_every_thins_out_evenly_under_a_steady_load() -> None:
    bench = Bench("every")
    taken: list[int] = []
    for seq in range(300):  # three times as many as are taken
        bench.put(seq)
        if seq % 3 == 2 and (one := bench.take()) is not None:
            taken.append(one)
    settled = np.diff(taken[-60:])
    assert np.mean(settled == 3) > 0.9
    assert len(taken) + bench.dropped.total() + len(bench.intake) == 300


def test_every_keeps_all_again_when_there_is_time_again() -> None:
    bench = Bench("every")
    bench.put(*range(20))  # nobody takes
    while bench.take() is not None:
        pass
    for seq in range(20, 3000):
        bench.put(seq)
        bench.take()
    before = bench.dropped.total()
    bench.put(3000)
    assert bench.take() == 3000
    assert bench.dropped.total() == before


def test_block_lets_the_grabber_wait_until_there_is_room() -> None:
    bench = Bench("block", capacity=1)
    done = threading.Event()

    def grab() -> None:
        bench.put(0, 1, 2)
        done.set()

    threading.Thread(target=grab, daemon=True).start()
    seen: list[int] = []
    while len(seen) < 3:
        if (one := bench.take()) is not None:
            seen.append(one)
    assert seen == [0, 1, 2]
    assert done.wait(10)
    assert not bench.dropped


@pytest.mark.parametrize(("fps", "kept"), [(25.0, 100), (12.5, 50), (10.0, 40), (1.0, 4), (100.0, 100)])
def test_a_target_rate_is_kept_evenly(fps: float, kept: int) -> None:
    bench = Bench("newest", capacity=1000, fps=fps)
    bench.put(*range(100))
    assert len(bench.intake) == kept
    assert bench.dropped["skipped"] == 100 - kept


def test_a_break_in_the_stream_starts_the_rate_anew() -> None:
    bench = Bench("newest", capacity=10, fps=1.0)
    bench.put(0, 1)
    bench.put(2, epoch=1)
    assert [bench.take(), bench.take()] == [0, 2]


def test_discarding_counts_what_was_inside_by_the_reason_given() -> None:
    bench = Bench("newest", capacity=5)
    bench.put(0, 1, 2)
    bench.intake.discard("removed")
    assert bench.dropped == {"removed": 3}
    with pytest.raises(Closed):
        bench.put(3)
    assert bench.intake.finished


def test_what_comes_to_a_camera_that_was_taken_out_is_dropped_for_the_same_reason() -> None:
    bench = Bench("block")
    bench.intake.discard("paused")
    bench.intake.discard("stopped")
    with pytest.raises(Closed) as caught:
        bench.put(0)
    assert caught.value.reason == "paused"


def test_every_gives_up_the_oldest_frame_when_it_is_full() -> None:
    bench = Bench("every")
    bench.put(*range(250))  # a graph that stands still for ten seconds
    assert (oldest := bench.take()) is not None
    assert oldest > 150


def test_every_is_not_thinned_out_for_long_after_the_graph_stood_still() -> None:
    bench = Bench("every")
    bench.put(*range(250))
    for seq in range(250, 1000):  # half a minute
        bench.put(seq)
        bench.take()
    before = bench.dropped.total()
    bench.put(1000)
    assert bench.dropped.total() == before
