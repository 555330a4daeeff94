"""Clips around the objects of the world, each of one action, as a stream gives them to a recogniser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from engines.crops import Rect, around, cut_flow, cut_image, middle_and_size, smoothed
from engines.geometry import Size
from engines.metrics.baselines import dense_inverse_search
from engines.train.data.clips import ClipSpec, Example
from engines.train.data.photometry import Photometry, disturb
from engines.train.data.worldpairs import HELD_OUT
from engines.types import Array, Clip, Float, Flow, Image
from engines.world import ACTIONS, Scene, World

Generator = np.random.Generator

_TIMES = 600.0  # seconds of a world that clips are taken from
_LOAN = 12  # steps that clips are taken from a world for, as it takes long to paint one
_SEEN = 0.4  # of an object, at every time: else nobody could say what it does
_MOVING = ACTIONS.index("moving")
_KEEP_MOVING = 0.4  # of these: objects are on their way more often than they do anything else
_CAMERAS = np.array([10.0, 12.5, 15.0, 20.0, 25.0, 30.0])  # pictures a second that motion is found between
_SEARCHED = 0.4  # of the windows show motion as it is found, and not as it is
_LIGHT = Photometry(both=0.5, each=0.0, noise=0.0, blur=0.1)  # the world has noise of its own
HELD_RATE = 25.0  # pictures a second, between which the motion of clips is searched that figures are taken of


@dataclass(frozen=True, slots=True)
class Handling:
    """How clips are cut around boxes; by default as a clips node does, around boxes that are as they should be."""

    wobble: float = 0.0  # of boxes, from picture to picture, as a share of their size
    margin: tuple[float, float] = (0.1, 0.1)  # beside them, as a share
    smooth: tuple[float, float] = (0.5, 0.5)  # seconds


_LEARNT = Handling(0.015, (0.05, 0.2), (0.25, 0.75))


class WorldClips:
    """Clips for each step, the same for the same seed."""

    def __init__(self, seed: int, spec: ClipSpec) -> None:
        self._seed, self._spec = seed, spec
        self._world = lru_cache(maxsize=4)(self._make)

    def batch(self, step: int, count: int) -> list[Example]:
        """Take as many windows as it needs for so many clips."""
        found: list[Example] = []
        window = 0
        while len(found) < count:
            rng = np.random.default_rng((self._seed, 31, step, window))
            found += self._window(rng, self._world((step + 5 * window) // _LOAN, window))
            window += 1
        return found[:count]

    def _window(self, rng: Generator, world: World) -> Iterator[Example]:
        told = self._spec.told
        shown = Shown(world, told.length, told.fps, rng.uniform(1, _TIMES))
        chosen = [each for each in shown.subjects() if each[1] != _MOVING or rng.random() < _KEEP_MOVING]
        if not chosen:
            return
        frames = shown.images() if told.input == "rgb" else _some_motion(rng, shown)
        for track, label in chosen:
            clip = shown.cut(rng, frames, track, self._spec.size, _LEARNT)
            yield Example(np.stack(disturb(rng, tuple(clip), _LIGHT)) if told.input == "rgb" else clip, label)

    def _make(self, number: int, place: int) -> World:
        rng = np.random.default_rng((self._seed, 32, number, place))
        width = int(rng.integers(400, 660))
        return World(int(rng.integers(HELD_OUT)), (width, width * 9 // 16), objects=int(rng.integers(8, 18)))


def held_out(spec: ClipSpec, windows: int) -> Iterator[Example]:
    """Take clips, as a stream gives them, from worlds that nothing has learnt from."""
    told = spec.told
    for number in range(windows):
        shown = held_window(number, told.length, told.fps)
        frames: Sequence[Array] = shown.images() if told.input == "rgb" else shown.searched(HELD_RATE)
        for track, label in shown.subjects():
            yield Example(shown.cut(np.random.default_rng(0), frames, track, spec.size, Handling()), label)


def held_clips(length: int, fps: float, size: Size, windows: int) -> Iterator[tuple[Clip, int]]:
    """Take clips for several streams at once, of pictures and of motion that was searched for, and their actions."""
    for number in range(windows):
        shown = held_window(number, length, fps)
        images, motion = shown.images(), shown.searched(HELD_RATE)
        for track, label in shown.subjects():
            rng = np.random.default_rng(0)
            rgb, flow = (shown.cut(rng, frames, track, size, Handling()) for frames in (images, motion))
            yield Clip(rgb, flow), label


def held_window(number: int, length: int, fps: float) -> Shown:
    """Look at a world that nothing has learnt from."""
    return Shown(World(HELD_OUT + 100 + number), length, fps, 5.0 + 3 * number)


class Shown:
    """What a world shows at every tick of a clip."""

    def __init__(self, world: World, length: int, fps: float, start: float) -> None:
        self._world, self._fps = world, fps
        self.scenes = [world.at(start + tick / fps) for tick in range(length)]

    def subjects(self) -> list[tuple[int, int]]:
        """Find who is seen all the time and does one thing: tracks, and their actions."""
        seen = [_doing(scene) for scene in self.scenes]
        return [(track, action) for track, action in seen[0].items() if all(s.get(track) == action for s in seen)]

    def images(self) -> list[Image]:
        return [scene.image for scene in self.scenes]

    def motion(self, rate: float) -> list[Float]:
        """Tell how everything moves, in pixels a tick, to the pictures of a camera with *rate* of them a second."""
        times = np.float32(rate / self._fps)
        return [self._world.between(before, now).uv * times for before, now in self._steps(rate)]

    def searched(self, rate: float) -> list[Float]:
        """Find the same by looking at pictures, at half their size."""
        times = np.float32(2 * rate / self._fps)
        pairs = [(_half(before.image), _half(now.image)) for before, now in self._steps(rate)]
        return [dense_inverse_search(*pair) * times for pair in pairs]

    def cut(self, rng: Generator, frames: Sequence[Array], track: int, size: Size, how: Handling) -> Array:
        """Cut a clip (T, H, W, C) around an object out of pictures or motion."""
        places = self._places(rng, track, size, how)
        if frames[0].dtype == np.uint8:
            return np.stack([cut_image(frame, place, size) for frame, place in zip(frames, places, strict=True)])
        source = self.scenes[0].size
        return np.stack([cut_flow(Flow(uv), place, source, size) for uv, place in zip(frames, places, strict=True)])

    def _places(self, rng: Generator, track: int, size: Size, how: Handling) -> list[Rect]:
        """Follow an object as a clips node does."""
        image = self.scenes[0].size
        boxes = np.stack([scene.xyxy[scene.track_id == track][0] for scene in self.scenes])
        boxes = boxes + rng.normal(0, how.wobble, boxes.shape) * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        margin, smooth = rng.uniform(*how.margin), rng.uniform(*how.smooth)
        found = [middle_and_size(box, image) for box in boxes]
        for i in range(1, len(found)):
            found[i] = smoothed(found[i - 1], found[i], 1 / self._fps, smooth)
        return [around(box, margin, image, size) for box in found]

    def _steps(self, rate: float) -> Iterator[tuple[Scene, Scene]]:
        """Go with each scene to the picture that a camera took before it."""
        for scene in self.scenes:
            yield self._world.at(scene.t - 1 / rate), scene


def _doing(scene: Scene) -> dict[int, int]:
    rows = scene.visible >= _SEEN
    return dict(zip(scene.track_id[rows].tolist(), scene.action[rows].tolist(), strict=True))


def _some_motion(rng: Generator, shown: Shown) -> list[Float]:
    """Take motion as it is, as coarse as networks give it, or as it is found."""
    rate = float(rng.choice(_CAMERAS))
    if rng.random() < _SEARCHED:
        return shown.searched(rate)
    coarse = rng.uniform(1, 5)
    return [_smaller(uv, coarse) for uv in shown.motion(rate)]


def _smaller(uv: Float, times: float) -> Float:
    size = max(1, round(uv.shape[1] / times)), max(1, round(uv.shape[0] / times))
    return np.asarray(cv2.resize(uv, size, interpolation=cv2.INTER_AREA), np.float32)


def _half(image: Image) -> Image:
    size = image.shape[1] // 2, image.shape[0] // 2
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
