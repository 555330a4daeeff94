"""Hold a latency target: smaller batches first, then heavy nodes less often; and say so when neither is enough.

Frames are skipped by themselves: the batcher takes the newest ones, and only as many as the graph can work on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from streamer.batcher import Batcher
from streamer.events import Event, LatencyHeld, Observer, PacketPublished
from streamer.flight import Flight
from streamer.stages.base import Stage
from streamer.types import Packet

log = logging.getLogger(__name__)

_PERIOD_NS = 1_000_000_000  # between two looks
_LEAST = 10  # frames that a look takes, so that one hiccup decides nothing
_EASY = 0.6  # below this share of the target something may be undone …
_EASY_LOOKS = 5  # … after so many looks; twice as many each time that it soon had to be done again
_MOST_LOOKS = 320
_SOON = 4  # times as many looks as were waited for before it was undone
_HARDLY = 1 / 16  # what a look counts at which the target was held, but not easily: else that could stay for ever
_MOST_STRETCH = 8
_SURE = 5  # looks on end that must be alike before it is said that a target is lost, or held again
_LINGER_SHARE = 0.25  # of what is left of the target, for frames to wait for each other


@runtime_checkable
class Stretchable(Stage, Protocol):
    """A stage that can do with fewer frames: it looks at each (`every` x *stretch*)-th."""

    stretch: int


@dataclass(frozen=True, slots=True)
class Target:
    """What is aimed at: the 95th percentile of seconds from grab to hand-over, and the largest batch there may be."""

    seconds: float
    batch: int


@dataclass(frozen=True, slots=True)
class _Measure:
    """Something that was done to get faster."""

    what: str
    undo: Callable[[], None]


class Governor:
    """An observer that turns the knobs. Called from the publisher's thread alone."""

    def __init__(
        self, target: Target, stages: Sequence[Stage], batcher: Batcher, flight: Flight, observer: Observer
    ) -> None:
        """*observer* is told whether the target is held."""
        self._target, self._batcher, self._flight, self._observer = target, batcher, flight, observer
        self._steps = {index + 1: stage for index, stage in enumerate(stages)}
        self._latencies: list[float] = []  # seconds
        self._looked_ns: int | None = None
        self._done: list[_Measure] = []
        self._easy, self._patience = 0.0, _EASY_LOOKS  # looks
        self._undone_for: int | None = None  # looks since something was undone; None: something was done since
        self._said: LatencyHeld | None = None
        self._over, self._alike = False, 0  # whether the last look was above the target, and how many on end were alike

    def __call__(self, event: Event) -> None:
        if isinstance(event, PacketPublished):
            self._note(event.packet)

    def _note(self, packet: Packet) -> None:
        now = packet.marked_ns
        if now is None:
            return
        self._latencies.append((now - packet.frame.grabbed_ns) / 1e9)
        if self._looked_ns is None:
            self._looked_ns = now
        if now - self._looked_ns >= _PERIOD_NS and len(self._latencies) >= _LEAST:
            self._look(float(np.percentile(self._latencies, 95)))
            self._looked_ns = now
            self._latencies.clear()

    def _look(self, p95: float) -> None:
        held = p95 <= self._target.seconds
        self._undone_for = None if self._undone_for is None else self._undone_for + 1
        self._easy += 1 if p95 <= _EASY * self._target.seconds else _HARDLY
        if not held:
            self._easy = 0
            held = self._get_faster()
        elif self._easy >= self._patience and self._done:
            self._done.pop().undo()
            self._easy, self._undone_for = 0, 0
        spare = self._target.seconds - self._flight.seconds(self._batcher.size)
        self._batcher.linger = max(0.0, spare * _LINGER_SHARE)
        self._say(p95, helpless=not held)

    def _get_faster(self) -> bool:
        """Do the next thing that helps; return whether there is one."""
        measure = self._smaller_batches() or self._less_often()
        if measure is None:
            return False
        if self._undone_for is not None:
            too_early = self._undone_for <= _SOON * self._patience
            self._patience = min(self._patience * 2, _MOST_LOOKS) if too_early else _EASY_LOOKS
            self._undone_for = None
        self._done.append(measure)
        return True

    def _smaller_batches(self) -> _Measure | None:
        size = self._batcher.size
        half = size // 2
        # A batch waits for the one before it, so its time counts twice.
        if size == 1 or 2 * self._flight.seconds(size) <= self._target.seconds:
            return None
        self._batcher.size = half

        def undo() -> None:
            self._batcher.size = size

        return _Measure(f"batches of at most {half}", undo)

    def _less_often(self) -> _Measure | None:
        """Let the node that takes most look at half as many frames."""
        size = self._batcher.size
        open_ = {
            step: stage
            for step, stage in self._steps.items()
            if isinstance(stage, Stretchable) and stage.stretch < _MOST_STRETCH
        }
        if not open_:
            return None
        stage = open_[max(open_, key=lambda step: self._flight.seconds_of(step, size))]
        before = stage.stretch
        stage.stretch = before * 2

        def undo() -> None:
            stage.stretch = before

        return _Measure(f"{stage.writes.node} on one frame in {stage.stretch}", undo)

    def _say(self, p95: float, *, helpless: bool) -> None:
        """Tell what is so for a few looks on end: on the edge of a target it would be another thing every second."""
        over = p95 > self._target.seconds
        self._alike = self._alike + 1 if over is self._over else 1
        self._over = over
        sure = self._alike >= _SURE
        if over and helpless and sure:
            self._tell(held=False, p95=p95)
        elif not over and (sure or self._said is None or self._said.held):
            self._tell(held=True, p95=p95)

    def _tell(self, *, held: bool, p95: float) -> None:
        done = ", ".join(measure.what for measure in self._done) or "nothing had to be done"
        target = f"{self._target.seconds * 1e3:.0f} ms"
        if held:
            said = LatencyHeld(True, f"{target} held: {done}")
        else:
            remedy = "take a smaller model, fewer cameras or a longer target"
            said = LatencyHeld(False, f"{target} cannot be held, for all that was done ({done}): {remedy}")
        if said == self._said:
            return
        if said.held != (self._said is None or self._said.held):
            level = logging.INFO if held else logging.WARNING
            log.log(level, "latency: %s; 95 %% of frames took up to %.0f ms", said.detail, p95 * 1e3)
        self._said = said
        self._observer(said)
