"""Clips of a video: sampled as the streamer samples a camera, at steady steps of media time.

Only what a clip needs is converted and searched for flow. `streamer.stages.clips` gives the same clips, frame by frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from engines.crops import Rect, cut_flow, cut_image, whole
from engines.geometry import Size
from engines.motion import FlowModel, Pair
from engines.recognition import ClipSpec
from engines.sampling import spread
from engines.types import Clip, Float, Flow, Image
from streamer.errors import SourceUnusable
from streamer.events import Event, FrameLost
from streamer.sources import from_path
from streamer.sources.address import Address, SourceOptions
from streamer.stages.clips import ClipOptions
from streamer.stages.rings import Ticks
from streamer.types import RawFrame

_USUAL = ClipOptions(1, 1, 1.0, (1, 1))  # what a clips node does when it is told nothing else


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """What is scored of a video."""

    clips: list[Clip]
    whole: bool  # else it was too short for a clip, and so began again
    lost: tuple[str, ...]  # what of it could not be read


@dataclass(frozen=True, slots=True, eq=False)
class Sampler:
    """Cut up to *views* clips, evenly spread, out of a video.

    A video that is too short for one clip begins again at its end, as I3D's authors had it (Carreira and Zisserman
    2017, "Quo Vadis, Action Recognition?"). The samples of no more than twice the views are held in memory.
    """

    spec: ClipSpec
    views: int
    flow: FlowModel | None = None  # where the model looks at motion

    def __call__(self, path: Path) -> Sampled:
        """Sample a video, or a folder of images. Raises SourceError for one that cannot be read, or gives no sample."""
        lost: list[str] = []

        def observe(event: Event) -> None:
            if isinstance(event, FrameLost):
                lost.append(event.detail)

        windows = _Windows(self.spec.length)
        with from_path(path.stem, Address("file", str(path)), SourceOptions(), observe).open() as frames:
            chosen = spread(windows.of(self._samples(frames)), self.views)
        if not windows.longest:
            raise SourceUnusable(f"{path} is a single picture, which shows no motion: leave it out")
        looped = tuple(islice(cycle(windows.longest), self.spec.length))
        return Sampled([_clip(samples) for samples in chosen or [looped]], bool(chosen), tuple(lost))

    def _samples(self, frames: Iterable[RawFrame]) -> Iterator[_Sample]:
        """Take samples, with the flow of as many at a time as the model for flow takes."""
        moments = self._moments(frames)
        if self.flow is None:
            yield from (_Sample(each.rgb, None, each.steps) for each in moments)
            return
        while some := list(islice(moments, self.flow.runtime.max_batch)):
            flows = self.flow([each.pair for each in some if each.pair is not None])
            for each, flow in zip(some, flows, strict=True):
                yield _Sample(each.rgb, self._motion(each, flow), each.steps)

    def _moments(self, frames: Iterable[RawFrame]) -> Iterator[_Moment]:
        """Find the frames that are sampled: the first one to reach each step. With flow, a first frame has none."""
        before: _Picture | None = None
        ticks, last = None, 0
        for raw in frames:
            if raw.breaks:
                before = ticks = None
            earlier, before = before, _Picture(raw)
            if self.flow is not None and earlier is None:
                continue
            begins, ticks = ticks is None, ticks or Ticks(1 / self.spec.fps)
            tick = ticks.reached(raw.pts)
            if tick is not None:
                yield self._moment(earlier, before, 0 if begins else tick - last)
                last = tick

    def _moment(self, before: _Picture | None, now: _Picture, steps: int) -> _Moment:
        height, width = now.image.shape[:2]
        rect = whole((height, width), self.spec.size, _USUAL.fit)
        pair = None
        if self.flow is not None and before is not None:
            placed = self.flow.place(before.image), self.flow.place(now.image)
            pair = Pair(*placed, now.raw.pts - before.raw.pts)
        return _Moment(cut_image(now.image, rect, self.spec.size), rect, (height, width), pair, steps)

    def _motion(self, moment: _Moment, flow: Flow) -> Float:
        """Cut the flow to the clip, in pixels of the clip from one sample to the next."""
        steps = 1.0 if flow.seconds is None else flow.seconds * self.spec.fps  # that the motion took
        return cut_flow(flow, moment.rect, moment.source, self.spec.size, 1 / steps)


class _Picture:
    """A frame whose pixels are converted when somebody asks."""

    def __init__(self, raw: RawFrame) -> None:
        self.raw = raw

    @cached_property
    def image(self) -> Image:
        return self.raw.to_rgb()


@dataclass(frozen=True, slots=True, eq=False)
class _Moment:
    """A sample whose flow is not known yet."""

    rgb: Image
    rect: Rect  # of the source that it shows
    source: Size
    pair: Pair | None
    steps: int  # since the sample before; 0: it is the first


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    rgb: Image  # (H, W, 3)
    flow: Float | None  # (H, W, 2)
    steps: int


class _Windows:
    """Every run of so many steps, each ending with a sample; none spans a break."""

    def __init__(self, length: int) -> None:
        self._length = length
        self.longest: tuple[_Sample, ...] = ()  # run of samples so far

    def of(self, samples: Iterable[_Sample]) -> Iterator[tuple[_Sample, ...]]:
        """A step that no frame reached has the sample of the next one."""
        run: deque[_Sample] = deque(maxlen=self._length)
        for sample in samples:
            if not 0 < sample.steps <= _USUAL.gap + 1:
                run.clear()
            run.extend([sample] * (sample.steps if run else 1))
            if len(run) > len(self.longest):
                self.longest = tuple(run)
            if len(run) == self._length:
                yield tuple(run)


def _clip(samples: tuple[_Sample, ...]) -> Clip:
    flows = [sample.flow for sample in samples if sample.flow is not None]
    return Clip(np.stack([sample.rgb for sample in samples]), np.stack(flows) if flows else None)
