from __future__ import annotations

import threading
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import DETECTIONS, ManualClock

from engines.types import Detections
from streamer import events
from streamer.monitor import Latency, Monitor, Rate
from streamer.monitor.meters import Buckets
from streamer.stats import LatencyTarget
from streamer.types import Frame, Packet


def published(clock: ManualClock, age_ms: float, class_ids: tuple[int, ...] = ()) -> events.PacketPublished:
    n = len(class_ids)
    found = Detections(np.zeros((n, 4), np.float32), np.array(class_ids, np.int32), np.ones(n, np.float32))
    frame = Frame("gate", 0, 0.0, 0.0, clock.monotonic_ns() - int(age_ms * 1e6), np.zeros((2, 2, 3), np.uint8))
    return events.PacketPublished(Packet(frame).put(DETECTIONS, found).mark("yolo", clock.monotonic_ns()))


@pytest.mark.parametrize("fps", [1, 5, 25, 120])
def test_rate_of_a_steady_stream(fps: int) -> None:
    rate = Rate()
    for i in range(fps * 30):
        rate.add(1000 + i / fps)
    assert rate.read(1030) == pytest.approx(fps, rel=0.01)


def test_rate_is_right_before_the_window_is_full_and_falls_to_zero_after_the_end() -> None:
    rate = Rate()
    for i in range(50):
        rate.add(1000.5 + i / 25)
    assert rate.read(1002.5) == pytest.approx(25, rel=0.05)
    assert rate.read(1100) == 0


def test_percentiles_are_right_to_a_bucket() -> None:
    latency = Latency()
    values = np.random.default_rng(0).lognormal(3, 0.7, 5000)
    for value in values:
        latency.add(1000.0, float(value))
    got = latency.read(1000.0)
    assert got is not None
    assert (got.p50, got.p95, got.p99) == pytest.approx(tuple(np.percentile(values, [50, 95, 99])), rel=0.03)


def test_latency_looks_back_only_as_far_as_the_window() -> None:
    latency = Latency()
    latency.add(1000.0, 500.0)
    latency.add(1009.0, 5.0)
    both, late = latency.read(1009.0), latency.read(1012.0)
    assert both is not None
    assert late is not None
    assert both.p99 == pytest.approx(500, rel=0.03)
    assert late.p99 == pytest.approx(5, rel=0.03)
    assert latency.read(1100.0) is None


def test_a_camera_s_life_in_figures() -> None:
    clock = ManualClock()
    monitor = Monitor({"yolo": ("person", "car")}, clock)
    monitor(events.CameraState("gate", "connecting"))
    monitor(events.CameraState("gate", "running"))
    for _ in range(20):
        clock.advance(0.1)
        monitor(events.FrameGrabbed("gate"))
    for _ in range(8):
        monitor(published(clock, 12.0, (0, 1, 0, 7)))
    monitor(events.FrameDropped("gate", "late", 12))
    monitor(events.FrameLost("gate", "cut short", 3))
    gate = monitor.stats().cameras["gate"]
    assert (gate.state, gate.grabbed, gate.published, gate.lost) == ("running", 20, 8, 3)
    assert gate.dropped == {"late": 12}
    assert gate.grabbed == gate.published + sum(gate.dropped.values())
    assert gate.fps_in == pytest.approx(10, rel=0.06)
    assert gate.seen == {"person": 2, "car": 1, "7": 1}
    assert gate.latency_ms is not None
    assert gate.latency_ms.p50 == pytest.approx(12, rel=0.03)


def test_the_reason_stays_while_a_camera_connects_again() -> None:
    monitor = Monitor({})
    monitor(events.CameraState("gate", "retrying", "connection refused"))
    monitor(events.CameraState("gate", "connecting"))
    gate = monitor.stats().cameras["gate"]
    assert (gate.state, gate.error, gate.reconnects) == ("connecting", "connection refused", 1)
    monitor(events.CameraState("gate", "running"))
    assert monitor.stats().cameras["gate"].error is None


def test_sinks_keep_their_error_and_count() -> None:
    monitor = Monitor({})
    monitor(events.SinkState("redis", "refused"))
    monitor(events.ResultsDropped("redis", 7, "gate"))
    monitor(events.ResultsDropped("redis", 2, "gate"))
    assert (monitor.stats().sinks["redis"].error, monitor.stats().sinks["redis"].dropped) == ("refused", 9)
    monitor(events.SinkState("redis", None))
    assert (monitor.stats().sinks["redis"].error, monitor.stats().sinks["redis"].dropped) == (None, 9)


def running(*cameras: str, clock: ManualClock | None = None, target: float | None = None) -> Monitor:
    monitor = Monitor({}, clock or ManualClock(), target)
    for camera in cameras:
        monitor(events.CameraState(camera, "running"))
    return monitor


def test_end_to_end_runs_from_capture_to_acknowledgement_and_never_below_zero() -> None:
    monitor = running("gate", "yard")
    late = events.Written("gate", captured_at=100.0, at=100.25)
    ahead = events.Written("yard", captured_at=100.0, at=99.0)  # the camera's clock is ahead of ours
    monitor(events.ResultsWritten("redis", (late, late, ahead)))
    stats = monitor.stats()
    gate, yard, redis = stats.cameras["gate"].end_to_end_ms, stats.cameras["yard"].end_to_end_ms, stats.sinks["redis"]
    assert gate is not None
    assert yard is not None
    assert redis.end_to_end_ms is not None
    assert gate.p50 == pytest.approx(250, rel=0.03)
    assert yard.p50 < 0.02
    assert (redis.written, redis.end_to_end_ms.p50) == (3, gate.p50)
    ever = stats.histograms.end_to_end
    assert ever["gate", "redis"].total == pytest.approx(0.5)
    assert ever["yard", "redis"].total == 0


def test_steps_are_told_apart_and_add_up() -> None:
    clock = ManualClock()
    monitor = running("gate", clock=clock)
    start = clock.monotonic_ns()
    frame = Frame("gate", 0, 0.0, 0.0, start, np.zeros((2, 2, 3), np.uint8))
    packet = Packet(frame).mark("queue", start + 2_000_000).mark("yolo", start + 32_000_000)
    monitor(events.PacketPublished(packet))
    stats = monitor.stats()
    gate, ever = stats.cameras["gate"], stats.histograms
    assert {step: of.p99 for step, of in gate.stages_ms.items()} == pytest.approx({"queue": 2, "yolo": 30}, rel=0.03)
    assert sum(one.total for one in ever.stages.values()) == pytest.approx(ever.latency["gate"].total)


def test_batches_and_what_stays_behind() -> None:
    clock = ManualClock()
    monitor = running("gate", "yard", clock=clock)
    for size in (8, 2, 4, 6):  # the first one only starts the clock
        monitor(events.BatchTaken(size, {"gate": 2, "yard": 0}))
        clock.advance(0.5)
    stats = monitor.stats()
    assert stats.batch_size == 4
    assert stats.queues == {"camera gate": 2, "camera yard": 0}
    assert stats.histograms.batch is not None
    assert (sum(stats.histograms.batch.counts), stats.histograms.batch.total) == (4, 20)


def test_work_that_was_left_out_and_the_latency_target() -> None:
    monitor = running("gate", target=0.15)
    assert monitor.stats().latency == LatencyTarget(150.0, held=True)
    monitor(events.LatencyHeld(False, "yolo alone takes 210 ms"))
    monitor(events.WorkShed("actions", "gate", 3))
    monitor(events.WorkShed("actions", "gate"))
    stats = monitor.stats()
    assert stats.latency == LatencyTarget(150.0, held=False, detail="yolo alone takes 210 ms")
    assert stats.nodes["actions"].shed == 4
    assert Monitor({}).stats().latency is None


def test_a_removed_camera_is_gone_whatever_comes_after_it() -> None:
    clock = ManualClock()
    monitor = running("gate", "yard", clock=clock)
    monitor(events.BatchTaken(1, {"gate": 1, "yard": 1}))
    monitor(events.CameraRemoved("gate"))
    monitor(events.FrameGrabbed("gate"))
    monitor(events.FrameDropped("gate", "removed"))
    monitor(published(clock, 5.0))
    monitor(events.ResultsWritten("redis", (events.Written("gate", 0.0, 1.0),)))
    monitor(events.CameraState("gate", "ended"))
    stats = monitor.stats()
    assert list(stats.cameras) == ["yard"]
    assert list(stats.queues) == ["camera yard"]
    assert stats.histograms.latency.keys() == {"yard"}
    assert stats.sinks["redis"].written == 1


def test_a_camera_that_comes_back_under_its_name_begins_anew() -> None:
    monitor = running("gate")
    monitor(events.FrameGrabbed("gate"))
    monitor(events.CameraRemoved("gate"))
    monitor(events.CameraState("gate", "connecting"))
    monitor(events.FrameGrabbed("gate"))
    assert monitor.stats().cameras["gate"].grabbed == 1


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 2e6)), max_size=200))
def test_the_window_s_memory_is_bounded_and_it_forgets_exactly_what_it_was_told(
    events_: list[tuple[float, float]],
) -> None:
    latency, now = Latency(), 1000.0
    for gap, milliseconds in events_:
        now += gap
        latency.add(now, milliseconds)
    assert all(count > 0 for count in latency.counts(now).values())
    assert latency.counts(now + 60) == {}


@given(st.lists(st.floats(0, 100), max_size=100))
def test_a_cumulative_histogram_counts_everything_once(values: list[float]) -> None:
    buckets = Buckets()
    for value in values:
        buckets.add(value)
    read = buckets.read()
    below = [sum(value <= bound for value in values) for bound in read.bounds]
    assert list(accumulate(read.counts)) == [*below, len(values)]
    assert read.total == pytest.approx(sum(values))


def test_many_threads_lose_nothing() -> None:
    monitor = running("gate")
    grabbed, written = events.FrameGrabbed("gate"), events.ResultsWritten("redis", (events.Written("gate", 0.0, 1.0),))

    def work() -> None:
        for _ in range(300):
            monitor(grabbed)
            monitor(written)
            monitor.stats()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = monitor.stats()
    assert (stats.cameras["gate"].grabbed, stats.sinks["redis"].written) == (1200, 1200)
