"""A user's own actions: videos in folders named by what is done in them, as `streamer eval --clips` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np

from engines.crops import Rect, cut_flow, cut_image
from engines.metrics.baselines import dense_inverse_search
from engines.metrics.classes import match, some
from engines.train.data.clips import ClipSpec, Example
from engines.train.data.photometry import Photometry, disturb
from engines.train.errors import TrainingError
from engines.types import Array, Float, Flow, Image

Generator = np.random.Generator

_SUFFIXES = frozenset({".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})
_ONE_IN = 10  # of each label's videos is measured on, and not learnt from
_LEAST = 0.65  # of the side of the largest part in the shape of a clip, that is cut out
_LARGE = 4  # times as large as a clip, a frame is made smaller before it is searched for motion
_LIGHT = Photometry(both=0.5, each=0.0, noise=0.01, blur=0.1)


@dataclass(frozen=True, slots=True)
class Video:
    """A file, and the class of what it shows."""

    path: Path
    label: int


class FolderClips:
    """Clips out of videos, from a place and a time of chance; whole scenes, as a recogniser of scenes sees them."""

    def __init__(self, folder: Path, labels: Sequence[str], spec: ClipSpec, seed: int) -> None:
        """Look for videos. Raises TrainingError where there are too few, and for labels that the model lacks."""
        videos = find_videos(folder, labels)
        places = _places(videos)
        self._held = [video for video, at in zip(videos, places, strict=True) if at % _ONE_IN == 1]
        self._learnt = [video for video, at in zip(videos, places, strict=True) if at % _ONE_IN != 1]
        if not self._held:
            raise TrainingError(f"{folder} has no label with two videos, one of which to measure on: give more")
        self._spec, self._seed = spec, seed

    def batch(self, step: int, count: int) -> list[Example]:
        """Take videos in an order of chance, each as often as any other."""
        return [self._example(step * count + i) for i in range(count)]

    def measured(self) -> Sequence[Example]:
        """Take the middle of the middle of each video that is not learnt from."""
        return [Example(self._clip(video, None), video.label) for video in self._held]

    def _example(self, number: int) -> Example:
        turn, at = divmod(number, len(self._learnt))
        order = np.random.default_rng((self._seed, 35, turn)).permutation(len(self._learnt))
        video = self._learnt[order[at]]
        return Example(self._clip(video, np.random.default_rng((self._seed, 36, number))), video.label)

    def _clip(self, video: Video, rng: Generator | None) -> Array:
        """Cut a clip out of a video: at random, or without *rng* out of its middle."""
        told, size = self._spec.told, self._spec.size
        frames = sampled(video.path, told.fps, told.length + (told.input == "flow"), rng)
        area = _area(rng, frames[0], size[1] / size[0])
        if told.input == "rgb":
            clip = [cut_image(frame, area, size) for frame in frames]
            return np.stack(clip if rng is None else disturb(rng, tuple(clip), _LIGHT))
        source = frames[0].shape[0], frames[0].shape[1]
        motion = [_motion(before, now, max(size)) for before, now in pairwise(frames)]
        return np.stack([cut_flow(Flow(uv), area, source, size) for uv in motion])


def find_videos(folder: Path, labels: Sequence[str]) -> list[Video]:
    """Find the videos of each label. Raises TrainingError where there are none, or one of no class of the model."""
    files = [path for path in sorted(folder.glob("*/*")) if path.suffix.lower() in _SUFFIXES]
    if not files:
        raise TrainingError(f"{folder} holds no videos: give a folder with videos in folders named by label")
    names = sorted({path.parent.name for path in files})
    try:
        matching = match(labels, dict(enumerate(names)))
    except ValueError as error:
        raise TrainingError(f"{folder}: {error.args[0]}: rename its folders, or correct 'labels'") from error
    if matching.unknown:
        raise TrainingError(f"{folder}: the model has no label for {some(matching.unknown)}: correct 'labels'")
    classes = {names[category]: class_id for class_id, category in matching.categories.items()}
    return [Video(path, classes[path.parent.name]) for path in files]


def sampled(path: Path, fps: float, count: int, rng: Generator | None) -> list[Image]:
    """Read so many frames of a video at steady steps; one that is too short begins again at its end.

    They begin at random, or without *rng* lie in the middle. Raises TrainingError for a video that cannot be read.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            every = float(stream.average_rate or fps) / fps
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    except (av.FFmpegError, IndexError, OSError) as error:
        raise TrainingError(f"{path} cannot be read ({error}): replace it, or take it out") from error
    if not frames:
        raise TrainingError(f"{path} holds no frame: replace it, or take it out")
    room = max(len(frames) - round((count - 1) * every) - 1, 0)
    first = room // 2 if rng is None else int(rng.integers(room + 1))
    return [np.asarray(frames[(first + round(i * every)) % len(frames)], np.uint8) for i in range(count)]


def _places(videos: Sequence[Video]) -> list[int]:
    """Number the videos of each label, from 0 on."""
    seen: dict[int, int] = {}
    places = []
    for video in videos:
        places.append(seen.get(video.label, 0))
        seen[video.label] = places[-1] + 1
    return places


def _area(rng: Generator | None, frame: Image, shape: float) -> Rect:
    """Choose a part of a frame; *shape* is its width by its height."""
    height, width = frame.shape[:2]
    rows = min(height, width / shape) * (1 if rng is None else rng.uniform(_LEAST, 1))
    columns = rows * shape
    x, y = (0.5, 0.5) if rng is None else rng.uniform(0, 1, 2)
    return Rect(round(x * (width - columns)), round(y * (height - rows)), max(1, round(columns)), max(1, round(rows)))


def _motion(before: Image, now: Image, side: int) -> Float:
    """Search for motion, in frames that are not much larger than they need be; in pixels of the frames."""
    shrunk = min(1.0, _LARGE * side / min(now.shape[:2]))
    size = max(16, round(now.shape[1] * shrunk)), max(16, round(now.shape[0] * shrunk))
    small = [np.asarray(cv2.resize(each, size, interpolation=cv2.INTER_AREA), np.uint8) for each in (before, now)]
    times = np.array([now.shape[1] / size[0], now.shape[0] / size[1]], np.float32)
    return np.asarray(dense_inverse_search(small[0], small[1]) * times, np.float32)
