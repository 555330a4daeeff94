"""Figures of a pipeline in which everything happens at once."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from streamer import events
from streamer.monitor import Monitor
from streamer.stats import GpuStats, ProcessStats, Stats
from streamer.types import Frame, Packet

_PIXELS = np.zeros((2, 2, 3), np.uint8)


def feed(monitor: Monitor, frames: int = 20) -> None:
    """Let *frames* of the camera gate through, with all that may go along; yard is paused, dock is away."""
    for camera, state, error in (("gate", "running", None), ("yard", "paused", None), ("dock", "retrying", "no route")):
        monitor(events.CameraState(camera, state, error))  # type: ignore[arg-type]  # each is one of the states
    for seq in range(frames):
        start, now = time.monotonic_ns() - 40_000_000, time.time()
        frame = Frame("gate", seq, seq / 25, now - 0.1, start, _PIXELS)
        packet = Packet(frame).mark("queue", start + 4_000_000).mark("yolo", start + 40_000_000)
        monitor(events.FrameGrabbed("gate"))
        monitor(events.BatchTaken(1, {"gate": 1}))
        monitor(events.PacketPublished(packet))
        monitor(events.ResultsWritten("redis", (events.Written("gate", frame.captured_at, now),)))
    monitor(events.FrameGrabbed("gate"))
    monitor(events.FrameDropped("gate", "late"))
    monitor(events.FrameLost("gate", "damaged"))
    monitor(events.WorkShed("actions", "gate"))
    monitor(events.LatencyHeld(False, "yolo alone takes 210 ms"))
    monitor(events.SinkState("redis", "localhost:6379 cannot be reached"))
    monitor(events.ResultsDropped("redis", 1, "gate"))


def complete(stats: Stats) -> Stats:
    """Add what only the pipeline, the process and its GPUs can tell."""
    return replace(
        stats,
        queues={"camera gate": 1, "stage yolo": 1, "publish": 0},
        busy={"stage yolo": 34.0},
        process=ProcessStats(812.5, 1.43, 812_000_000, 41, 88, 1_790_000_000.0, 0.72),
        gpus={"0": GpuStats("H200", 0.61, 0.4, 3_100_000_000, 139_000_000_000, 45.0), "1": GpuStats("mute")},
    )


def everything() -> Stats:
    monitor = Monitor({}, target=0.15)
    feed(monitor)
    return complete(monitor.stats())
