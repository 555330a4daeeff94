"""The latest samples of one thing: when they are due, and when they make a window."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from engines.crops import Box, smoothed
from engines.types import Clip, Float, Image
from streamer.types import Window

# A frame may come this much of a step before its sample is due. Where the camera's rate is a multiple of the samples',
# one frame lies on the instant itself, and rounded pts would put it to either side; up to eleven times as many frames
# as samples, the one before it is farther away than this.
_EARLY = 0.09


@dataclass(slots=True)
class Ticks:
    """Equal steps of media time, from the first frame on: which of them a frame is the first one to reach."""

    step: float  # seconds
    _start: float | None = None
    _tick: int = -1

    def reached(self, pts: float) -> int | None:
        """Return the number of the newest tick up to *pts*, or None when an earlier frame has reached it."""
        if self._start is None:
            self._start = pts
        tick = math.floor((pts - self._start) / self.step + _EARLY)
        if tick <= self._tick:
            return None
        self._tick = tick
        return tick


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One crop; windows that overlap share it."""

    seq: int
    rgb: Image  # (H, W, 3)
    flow: Float | None  # (H, W, 2)


@dataclass(slots=True, eq=False)
class Ring:
    """The last *length* samples, one a tick. A tick that no frame reached gets the sample of the next one.

    The first window comes as soon as it is full, the others each *stride* ticks. Tracks take turns in that: one's
    windows come at ticks of its own, by its number, so those of objects that appeared together do not all fall on one
    frame for ever. Hence its second window comes half a stride to one and a half after the first. What a window holds
    is the same; which windows there are depends on ticks and numbers alone, not on how fast anything is.
    """

    length: int
    stride: int
    tick: int = -1  # of the newest sample
    box: Box | None = None  # smoothed
    pts: float = 0.0  # of the newest sample
    _last: int | None = None  # tick of the last window; None: there was none yet
    _phase: int = 0  # a tick at which a window is due
    _samples: deque[Sample] = field(default_factory=deque)

    def missed(self, tick: int) -> int:
        """Return how many ticks before this one have no sample."""
        return tick - self.tick - 1 if self._samples else 0

    def add(self, sample: Sample, tick: int, pts: float) -> None:
        self._samples.extend([sample] * (1 + self.missed(tick)))
        while len(self._samples) > self.length:
            self._samples.popleft()
        self.tick, self.pts = tick, pts

    def window(self, track_id: int | None) -> Window | None:
        """Make the window that ends with the newest sample, when it is time for one."""
        if len(self._samples) < self.length or not self._due(track_id):
            return None
        self._last = self.tick
        flows = [sample.flow for sample in self._samples if sample.flow is not None]
        clip = Clip(np.stack([sample.rgb for sample in self._samples]), np.stack(flows) if flows else None)
        return Window(track_id, self._samples[0].seq, self._samples[-1].seq, clip)

    def _due(self, track_id: int | None) -> bool:
        """Tell whether a tick at which a window is due has come, half a stride or more after the last window."""
        if self._last is None:
            self._phase = self.tick if track_id is None else track_id
            return True
        return self._round(self.tick) > self._round(self._last + (self.stride - 1) // 2)

    def _round(self, tick: int) -> int:
        return (tick - self._phase) // self.stride

    def follow(self, box: Box, pts: float, smooth: float) -> Box:
        """Smooth a box over time by the constant *smooth* in seconds; see `smoothed`."""
        self.box = box if self.box is None else smoothed(self.box, box, pts - self.pts, smooth)
        return self.box
