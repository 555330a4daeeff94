from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from worlds import Brightness, ManualClock

from engines.types import Detections
from streamer import events
from streamer.batcher import Batcher
from streamer.flight import Flight
from streamer.governor import Governor, Target
from streamer.stages.base import Stage
from streamer.stages.every import every
from streamer.types import Frame, Packet, Port

IMAGE = np.zeros((1, 1, 3), np.uint8)


@dataclass
class Site:
    """A graph of two nodes whose times a test decides, and its governor."""

    target: float = 0.1
    costs: tuple[float, float] = (0.01, 0.08)  # seconds a frame, of the two nodes
    clock: ManualClock = field(default_factory=ManualClock)
    seen: list[events.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        changed = threading.Condition()
        self.flight = Flight(4, changed, self.clock)
        self.batcher = Batcher(changed, 8, self.seen.append, self.clock, self.flight)
        self.stages = [every(1, Brightness(Port(name, Detections))) for name in ("light", "heavy")]
        stages: list[Stage] = list(self.stages)
        self.governor = Governor(Target(self.target, 8), stages, self.batcher, self.flight, self.seen.append)

    @property
    def stretches(self) -> dict[str, Any]:
        return {stage.writes.node: vars(stage).get("stretch", 1) for stage in self.stages}

    def fly(self, size: int) -> float:
        """Send a batch through; return how long it took."""
        began = self.clock.seconds
        self.flight.enter(size)
        for step in range(4):
            with self.flight.working(step):
                if step in (1, 2):
                    stage = self.stages[step - 1]
                    self.clock.advance(self.costs[step - 1] * size / vars(stage).get("stretch", 1))
        return self.clock.seconds - began

    def second(self, latency: float | None = None) -> None:
        """Let a second's worth of packets be published; without *latency*, as the graph gives it."""
        size = self.batcher.size
        took = self.fly(size)
        for _ in range(12):
            self.clock.advance(0.1)
            grabbed = self.clock.monotonic_ns() - int((2 * took if latency is None else latency) * 1e9)
            packet = Packet(Frame("a", 0, 0.0, 0.0, grabbed, IMAGE)).mark("publish", self.clock.monotonic_ns())
            self.governor(events.PacketPublished(packet))

    def said(self) -> list[events.LatencyHeld]:
        return [event for event in self.seen if isinstance(event, events.LatencyHeld)]


def test_a_target_that_is_held_changes_nothing() -> None:
    site = Site(target=10)
    for _ in range(3):
        site.second()
    assert site.batcher.size == 8
    assert site.stretches == {"light": 1, "heavy": 1}
    assert [s.held for s in site.said()] == [True]


def test_batches_get_smaller_before_nodes_run_less_often() -> None:
    site = Site(target=0.4)
    for _ in range(10):
        site.second()
    assert site.batcher.size == 2
    assert site.stretches == {"light": 1, "heavy": 1}
    assert site.said()[-1].held


def test_the_heaviest_node_runs_less_often_when_smaller_batches_do_not_help() -> None:
    site = Site(target=0.1)
    for _ in range(12):
        site.second()
    assert site.batcher.size == 1
    assert site.stretches["heavy"] in (2, 4)
    assert site.stretches["light"] == 1
    assert site.said()[-1].held


def test_what_cannot_be_held_is_said_once_with_what_was_tried(caplog: pytest.LogCaptureFixture) -> None:
    site = Site(target=0.001)
    for _ in range(30):
        site.second()
    last = site.said()[-1]
    assert not last.held
    assert "1 ms cannot be held" in last.detail
    assert "heavy on one frame in 8" in last.detail
    assert [s.held for s in site.said()].count(False) == 1
    assert caplog.text.count("cannot be held") == 1


def test_what_was_done_is_undone_when_it_is_easy_again() -> None:
    site = Site(target=0.4)
    for _ in range(6):
        site.second()
    assert site.batcher.size < 8
    site.costs = (0.001, 0.001)
    for _ in range(40):
        site.second()
    assert site.batcher.size == 8
    assert site.said()[-1] == events.LatencyHeld(True, "400 ms held: nothing had to be done")


def test_what_was_undone_too_early_is_left_alone_for_longer() -> None:
    site = Site(target=0.4)
    for _ in range(4):
        site.second()
    sizes = []
    for _ in range(200):
        easy = site.batcher.size <= 2
        site.second(0.1 if easy else 1.0)
        sizes.append(site.batcher.size)
    changes = np.flatnonzero(np.diff(sizes) > 0)
    assert len(changes) >= 3
    assert np.all(np.diff(np.diff(changes)) > 0)


def test_frames_may_wait_for_each_other_only_within_the_target() -> None:
    site = Site(target=2.0, costs=(0.001, 0.001))
    site.second()
    assert 0 < site.batcher.linger <= 0.5
    tight = Site(target=0.01)
    tight.second()
    assert tight.batcher.linger == 0


def test_what_was_done_is_tried_without_when_the_target_is_only_just_held() -> None:
    site = Site(target=0.4)
    for _ in range(4):
        site.second()
    assert site.batcher.size < 8
    for _ in range(400):
        site.second(0.3)
    assert site.batcher.size == 8


def test_what_was_undone_too_early_is_forgiven_in_time() -> None:
    site = Site(target=0.4)
    for _ in range(4):
        site.second()
    for _ in range(300):  # each time that it is undone, it has to be done again at once
        site.second(0.1 if site.batcher.size <= 2 else 1.0)
    for _ in range(3000):  # an hour of peace
        site.second(0.1)
    assert site.batcher.size == 8
    site.second(1.0)
    assert site.batcher.size == 4
    for _ in range(16):
        site.second(0.1)
    assert site.batcher.size == 8
