"""Whether what a decoder gives is what was filmed: every picture, in its colours, at its time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engines.types import Image
from streamer import build, config
from streamer.events import ignore
from streamer.selftest.films import Footage, reduced
from streamer.selftest.rows import Bound, Row, judged

Double = npt.NDArray[np.float64]

_LIKE = Bound(least=30.0)  # dB of each channel, at a quarter of the size: what was coded well has 38 and more
_ON_TIME = Bound(most=2.0)  # milliseconds: containers count time more finely than that


@dataclass(slots=True)
class Watched:
    """What came of one film."""

    footage: Footage
    frames: int = 0
    likeness: Double = field(default_factory=lambda: np.full(3, np.inf))  # dB of R, G and B in the worst picture
    off: float = 0.0  # seconds by which the worst frame's time is not its own

    def see(self, pts: float, image: Image) -> None:
        """Compare the next picture with the one that was filmed."""
        film, index = self.footage.film, self.frames
        self.frames += 1
        if index >= film.frames:
            return
        self.off = max(self.off, abs(pts - index / film.fps))
        if image.shape[1::-1] == film.size:
            self.likeness = np.minimum(self.likeness, likeness(reduced(image), self.footage.pictures[index]))
        else:
            self.likeness = np.zeros(3)


def likeness(found: Image, true: Image) -> Double:
    """Return the peak signal-to-noise ratio of each channel, in dB."""
    error = np.square(found.astype(np.float64) - true).mean(axis=(0, 1))
    return np.asarray(10 * np.log10(255**2 / np.maximum(error, 1e-6)), np.float64)


def watch(footage: Footage) -> Watched:
    """Read a film through the source that a pipeline would use. Raises SourceError."""
    watched = Watched(footage)
    camera = config.Camera(url=str(footage.path))
    with build.make_source(footage.film.name, camera, ignore).open() as frames:
        for raw in frames:
            watched.see(raw.pts, raw.to_rgb())
    return watched


def decoder_rows(watched: Sequence[Watched]) -> Iterator[Row]:
    """Say whether pictures and times are those that were filmed."""
    wanted = sum(each.footage.film.frames for each in watched)
    came = sum(each.frames for each in watched)
    yield judged("decoder", "frames", "", came, Bound(wanted, wanted), "frames of the films were lost or came twice")
    worst = np.min([each.likeness for each in watched], axis=0)
    yield judged("decoder", "PSNR", "dB", _least(worst), _LIKE, _colours(worst))
    off = 1e3 * max(each.off for each in watched)
    yield judged("decoder", "pts off by", "ms", off, _ON_TIME, "frames have the media time of others")


def _least(decibels: Double) -> float:
    least = float(decibels.min())
    return least if math.isfinite(least) else float("nan")


def _colours(decibels: Double) -> str:
    red, green, blue = (round(each, 1) if math.isfinite(each) else "no" for each in decibels.tolist())
    return f"pictures are not those that were filmed: red {red}, green {green}, blue {blue} dB"
