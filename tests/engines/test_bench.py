"""Benchmarks: what is measured, with a clock that a network moves; and the plot of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.build.bench import Plan, Point, bench, quantile
from engines.build.trial import Feeds, latencies, throughput, time_batches
from engines.errors import BuildError
from engines.runtimes.base import Overlapping
from engines.runtimes.fake import FakeRuntime
from engines.types import Array


class Stopwatch:
    """A clock that only networks move, and what they did, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def network(self, name: str, seconds: Callable[[int], float]) -> FakeRuntime:
        """Make a network that takes so many *seconds* for a batch of so many rows."""

        def answer(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
            self.log.append(f"{name} {len(feeds['x'])}")
            self.now += seconds(len(feeds["x"]))
            return feeds

        return FakeRuntime(answer)


class TwoAtATime(FakeRuntime):
    """A network that works on two batches at once: the second takes no time of its own."""

    lanes = 2

    def __init__(self, watch: Stopwatch, seconds: float) -> None:
        super().__init__(lambda feeds: feeds)
        self.begun = self.most = 0
        self._watch, self._seconds = watch, seconds

    def start(self, feeds: Mapping[str, Array]) -> Callable[[], Mapping[str, Array]]:
        self.begun += 1
        self.most = max(self.most, self.begun)

        def finish() -> Mapping[str, Array]:
            self._watch.now += self._seconds / self.begun
            self.begun -= 1
            return feeds

        return finish


def batch(rows: int) -> Feeds:
    return {"x": np.zeros((rows, 1), np.float32)}


def test_latency_and_throughput_by_batch_size() -> None:
    watch = Stopwatch()
    runtime = watch.network("a", lambda rows: 0.010 + 0.002 * rows)
    points = bench({"a": runtime}, [batch(1), batch(5)], Plan(rounds=2, seconds=0.1), watch)
    assert [(p.name, p.batch) for p in points] == [("a", 1), ("a", 5)]
    assert [p.ms_p50 for p in points] == pytest.approx([12, 20])
    assert [p.ms_p95 for p in points] == pytest.approx([12, 20])
    assert [p.frames_per_s for p in points] == pytest.approx([1 / 0.012, 5 / 0.020])
    assert [p.ratio for p in points] == pytest.approx([1, 5 * 0.012 / 0.020])


def test_runtimes_and_batch_sizes_take_turns() -> None:
    watch = Stopwatch()
    runtimes = {name: watch.network(name, lambda rows: 1.0) for name in "ab"}
    bench(runtimes, [batch(1), batch(2)], Plan(rounds=3, seconds=0.5), watch)
    warm, measured = watch.log[:4], watch.log[4:]
    assert warm == ["a 1", "a 2", "b 1", "b 2"]
    assert measured == ["a 1", "a 1", "a 2", "a 2", "b 1", "b 1", "b 2", "b 2"] * 3  # latency, then throughput


def test_a_bad_round_moves_the_spread_and_not_the_median() -> None:
    watch = Stopwatch()
    turns = iter([1.0] * 3 + [9.0] * 2 + [1.0] * 100)
    (point,) = bench({"a": watch.network("a", lambda _: next(turns))}, [batch(1)], Plan(5, 0.5), watch)
    assert point.frames_per_s == pytest.approx(1)
    assert point.fastest == pytest.approx(1)
    assert point.slowest == pytest.approx(1 / 9)
    assert point.ms_p50 == pytest.approx(1000)


def test_one_batch_is_run_however_little_time_there_is() -> None:
    watch = Stopwatch()
    assert latencies(watch.network("a", lambda _: 2.0), batch(1), 0.0, watch) == [2000]


def test_what_can_overlap_is_measured_overlapping() -> None:
    watch = Stopwatch()
    runtime = TwoAtATime(watch, 0.1)
    assert isinstance(runtime, Overlapping)
    assert throughput(runtime, batch(1), 10.0, watch) == pytest.approx(20, rel=0.02)
    assert runtime.most == 2
    assert runtime.begun == 0  # every start is finished


def test_speed_is_of_each_batch_and_each_round() -> None:
    watch = Stopwatch()
    speed = time_batches(watch.network("a", lambda rows: 0.25), batch(4), rounds=3, seconds=0.5, clock=watch)
    assert speed.rows == 4
    assert speed.ms == pytest.approx([250] * 6)
    assert speed.frames_per_s == pytest.approx([16] * 3)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_one_of_the_values_and_as_many_are_below(values: list[float], share: float) -> None:
    got = quantile(values, share)
    assert got in values
    assert sum(v <= got for v in values) >= share * len(values) - 1e-6
    assert sum(v < got for v in values) < share * len(values) + 1e-6


def points(*names: str) -> list[Point]:
    return [Point(name, n, 5.0 * n, 6.0 * n, 100 + n, 90, 120, 1.0) for name in names for n in (1, 2, 4, 8)]


def test_the_plot_is_a_picture_with_a_line_for_each_runtime(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'streamer[build]'")
    from engines.build.plot import plot

    plot(points("openvino bf16"), "one", tmp_path / "one.png")
    plot(points("openvino bf16", "onnxruntime fp32"), "two", tmp_path / "two.png")
    one, two = (cv2.imread(str(tmp_path / name)) for name in ("one.png", "two.png"))
    assert one is not None
    assert two is not None
    assert one.shape == two.shape
    colours = [len(np.unique(image.reshape(-1, 3), axis=0)) for image in (one, two)]
    assert colours[0] < colours[1]


def test_a_plot_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'streamer[build]'")
    from engines.build.plot import plot

    with pytest.raises(BuildError, match=r"absent/p\.png cannot be written"):
        plot(points("a"), "a", tmp_path / "absent" / "p.png")
