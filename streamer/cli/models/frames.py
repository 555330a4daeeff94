"""Frames to measure and to calibrate on: evenly spread over a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from engines.sampling import spread
from engines.types import Image
from streamer.errors import InputError
from streamer.events import ignore
from streamer.sources import SourceOptions, open_source
from streamer.types import RawFrame

_LIVE_STEP = 1.0  # seconds of media time between two frames of a camera, which never ends


def read_frames(urls: Sequence[str], count: int) -> list[Image]:
    """Read *count* images (H, W, 3) RGB, or all where there are fewer: shared out among the sources, spread over each.

    Of a live camera one frame a second is taken. Raises InputError when there is no frame, SourceError.
    """
    images: list[Image] = []
    for left, url in zip(range(len(urls), 0, -1), urls, strict=True):
        images += _read(url, -(-(count - len(images)) // left))
    if not images:
        raise InputError(f"there is no frame in {', '.join(urls)}: give a video that has some")
    return images


def _read(url: str, count: int) -> list[Image]:
    source = open_source("frames", url, SourceOptions(), ignore)
    with source.open() as frames:
        return _every_second(frames, count) if source.live else [f.to_rgb() for f in spread(frames, count)]


def _every_second(frames: Iterator[RawFrame], count: int) -> list[Image]:
    images: list[Image] = []
    due = -np.inf
    for frame in frames:
        if frame.pts >= due:
            images.append(frame.to_rgb())
            due = frame.pts + _LIVE_STEP
        if len(images) == count:
            break
    return images
