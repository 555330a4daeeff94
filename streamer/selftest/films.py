"""The films of the self-test: worlds that no model has ever seen, and what is true of each of their frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from engines.flowfiles import FlowField
from engines.runtimes.cores import cores
from engines.types import Bool, Detections, Float, Image, Int
from engines.world import Conditions, Scene, World
from engines.world.truth import doubtful, field
from streamer.selftest import known
from streamer.selftest.coded import Coder

# Seeds of worlds that nothing learns from: flow and actions learn from those below 1,000,000, detectors from 1,000,000
# on, eight worlds to each 64 images, and from 50,000,000 further on with each seed that they are trained with.
UNSEEN = range(2_000_000, 50_000_000)
BETWEEN = 10  # frames from one picture to the next that motion is looked for between
STEP = 5  # detectors are measured on each so many-th frame: those between show almost the same
SEEN = 0.4  # share of an object that must be seen: else nobody could say what it does
SMALLER = 4  # by this much are the pictures that decoded ones are compared with


@dataclass(frozen=True, slots=True)
class Film:
    """What a camera films."""

    name: str
    seed: int
    start: float  # seconds of the world's time at which it begins
    seconds: float = 4.8
    objects: int = 12
    size: tuple[int, int] = (640, 360)  # width, height in pixels
    fps: int = 25
    pan: float = 1.0  # how fast the camera moves; 1 is usual

    @property
    def frames(self) -> int:
        """Count the frames; the last is *seconds* after the first."""
        return round(self.seconds * self.fps) + 1

    def world(self) -> World:
        return World(self.seed, self.size, self.objects, Conditions(pan=self.pan))

    def index(self, pts: float) -> int:
        """Find the frame that is shown at a media time in seconds."""
        return round(pts * self.fps)

    def time(self, index: int) -> float:
        """Return the world's time at a frame, in seconds."""
        return self.start + index / self.fps


FILMS = (
    Film("square", 2_000_001, 5.0),
    Film("market", 2_000_002, 20.0),
    Film("harbour", 2_000_003, 35.0),
    Film("station", 2_000_004, 50.0),
    Film("ferry", 2_000_005, 65.0, seconds=2.0, pan=4.0),
)


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """What is true of one frame: N objects, from the farthest to the nearest."""

    objects: Detections
    visible: Float  # (N,) share of its pixels that is seen
    action: Int  # (N,) of ACTIONS
    doubtful: Bool  # (N,): nobody can be blamed for missing it, or for finding it

    @classmethod
    def of(cls, scene: Scene) -> Moment:
        sure = np.ones(len(scene), np.float32)
        objects = Detections(scene.xyxy, scene.class_id, sure, scene.track_id)
        return cls(objects, scene.visible, scene.action, doubtful(scene))


@dataclass(frozen=True, slots=True, eq=False)
class Footage:
    """A film as a file, and the truth about it."""

    film: Film
    path: Path  # MP4 of H.264 with B-frames
    moments: tuple[Moment, ...]  # of each frame
    pictures: tuple[Image, ...]  # of each frame, a quarter of the size
    scenes: Mapping[int, Scene]  # of each STEP-th frame
    motion: FlowField  # to the last frame, from BETWEEN before it


def shoot(films: Sequence[Film], folder: Path) -> tuple[Footage, ...]:
    """Render and encode films into *folder*, as many at a time as there are cores; beside them, who can be seen."""
    with ThreadPoolExecutor(min(len(films), cores())) as pool:
        return tuple(pool.map(lambda film: _shot(film, folder / f"{film.name}.mp4"), films))


def reduced(image: Image) -> Image:
    """Make a picture a quarter of its size, which averages a camera's and a codec's noise away."""
    size = image.shape[1] // SMALLER, image.shape[0] // SMALLER
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _shot(film: Film, path: Path) -> Footage:
    world = film.world()
    moments, pictures, scenes = [], [], {}
    with Coder(path, film.size, film.fps) as coder:
        for index in range(film.frames):
            scene = world.at(film.time(index))
            image = scene.paint()  # not scene.image, which would be kept
            coder.add(image)
            moments.append(Moment.of(scene))
            pictures.append(reduced(image))
            if index % STEP == 0:
                scenes[index] = scene
    seen = [moment.objects[moment.visible >= SEEN] for moment in moments]
    known.write(path.with_name(f"{film.name}{known.SUFFIX}"), film.fps, seen)
    last = (world.at(film.time(film.frames - back)) for back in (1 + BETWEEN, 1))
    return Footage(film, path, tuple(moments), tuple(pictures), scenes, field(world.between(*last)))
