"""The latest samples of one thing: when they are due, and when they make a window."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from engines.types import Clip, Float, Image
from streamer.stages.crops import Box
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
    """The last *length* samples, one a tick. A tick that no frame reached gets the sample of the next one."""

    length: int
    stride: int
    tick: int = -1  # of the newest sample
    box: Box | None = None  # smoothed
    pts: float = 0.0  # of the newest sample
    _fresh: int | None = None  # samples since the last window; None: there was none yet
    _samples: deque[Sample] = field(default_factory=deque)

    def missed(self, tick: int) -> int:
        """Return how many ticks before this one have no sample."""
        return tick - self.tick - 1 if self._samples else 0

    def add(self, sample: Sample, tick: int, pts: float) -> None:
        steps = 1 + self.missed(tick)
        self._samples.extend([sample] * steps)
        while len(self._samples) > self.length:
            self._samples.popleft()
        self._fresh = None if self._fresh is None else self._fresh + steps
        self.tick, self.pts = tick, pts

    def window(self, track_id: int | None) -> Window | None:
        """Make the window that ends with the newest sample, when it is time for one."""
        if len(self._samples) < self.length or (self._fresh is not None and self._fresh < self.stride):
            return None
        self._fresh = 0
        flows = [sample.flow for sample in self._samples if sample.flow is not None]
        clip = Clip(np.stack([sample.rgb for sample in self._samples]), np.stack(flows) if flows else None)
        return Window(track_id, self._samples[0].seq, self._samples[-1].seq, clip)

    def follow(self, box: Box, pts: float, smooth: float) -> Box:
        """Smooth a box over time: its size by the time constant *smooth* in seconds, its place by a quarter of it.

        Sizes change slowly and places do not; a place that lags behind would lose the object.
        """
        if self.box is None or not smooth:
            self.box = box
        else:
            passed = pts - self.pts
            place, size = -math.expm1(-4 * passed / smooth), -math.expm1(-passed / smooth)
            self.box = self.box + (box - self.box) * (place, place, size, size)
        return self.box
