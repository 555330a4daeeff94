from __future__ import annotations

import numpy as np
import pytest
from worlds import DETECTIONS, ManualClock

from engines.types import Detections
from streamer import events
from streamer.monitor import Latency, Monitor, Rate
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
