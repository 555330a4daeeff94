"""Images of a folder with COCO annotations, shuffled and augmented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from engines.geometry import Size
from engines.metrics.truth import Annotation, Picture, Truth
from engines.train.data.augment import mirror, mosaic, recolour, zoom
from engines.train.data.scene import Random, Scene
from engines.train.errors import TrainingError
from engines.types import Image

_EVERY = 20  # of the images: one is held out, where nothing else is named to measure by
_MOSAICS = 0.5  # of the images


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """Annotated images."""

    truth: Truth
    images: Path

    @classmethod
    def open(cls, annotations: Path, images: Path) -> Folder:
        """Read annotations (JSON). Raises TrainingError."""
        try:
            truth = Truth.parse(annotations.read_bytes())
        except OSError as error:
            raise TrainingError(f"{annotations} cannot be read ({error.strerror}): correct --data") from error
        except ValueError as error:
            raise TrainingError(f"{annotations} holds no COCO annotations ({error}): mend it") from error
        if not truth.pictures or not images.is_dir():
            raise TrainingError(f"{annotations} lists no images, or {images} is no folder: correct --data")
        return cls(truth, images)

    def parts(self, measured: Folder | None = None) -> tuple[Sequence[Picture], Sequence[Picture]]:
        """Give the images to learn from, and those to be measured by: of another folder, else every twentieth."""
        pictures = self.truth.pictures
        if measured is not None:
            return pictures, measured.truth.pictures
        held = pictures[:: min(_EVERY, max(len(pictures), 1))]
        return [each for each in pictures if each not in set(held)] or list(pictures), held


class CocoScenes:
    """A folder's images in an order that is another each time around, four in one half of the time."""

    def __init__(self, folder: Folder, size: Size, seed: int, measured: Folder | None = None) -> None:
        """Make mosaics of *size*."""
        self._size, self._seed = size, seed
        self._truth, self._measured = _Reader(folder), _Reader(measured or folder)
        self._learnt, self._held = folder.parts(measured)
        self.labels = tuple(folder.truth.categories[each] for each in sorted(folder.truth.categories))

    def learn(self, number: int) -> Scene:
        random = np.random.default_rng((self._seed, 1, number))
        if random.random() < _MOSAICS:
            others = random.integers(0, 4 * len(self._learnt), 3)
            scene = mosaic([self._take(number), *map(self._take, others.tolist())], self._size, random)
        else:
            scene = zoom(self._take(number), random)
        return recolour(mirror(scene, random), random)

    def calm(self, number: int) -> Scene:
        random = np.random.default_rng((self._seed, 2, number))
        return recolour(mirror(self._take(number), random), random)

    def held_out(self) -> Sequence[Scene]:
        return [self._measured(picture) for picture in self._held]

    def _take(self, number: int) -> Scene:
        turn, place = divmod(number, len(self._learnt))
        return self._truth(self._learnt[_order(self._seed, turn, len(self._learnt))[place]])


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, count: int) -> list[int]:
    order: list[int] = _random(seed, turn).permutation(count).tolist()
    return order


def _random(seed: int, turn: int) -> Random:
    return np.random.default_rng((seed, 3, turn))


class _Reader:
    """Read an image, and its objects; crowds are hidden."""

    def __init__(self, folder: Folder) -> None:
        self._images = folder.images
        self._rows = {category: row for row, category in enumerate(sorted(folder.truth.categories))}
        self._objects = _by_picture(folder.truth)

    def __call__(self, picture: Picture) -> Scene:
        found = self._objects.get(picture.id, ())
        xywh = np.array([each.xywh for each in found], np.float32).reshape(-1, 4)
        boxes = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])
        classes = np.array([self._rows[each.category] for each in found], np.int32)
        return Scene(
            _image(self._images / picture.file_name), boxes, classes, np.array([*map(_hidden, found)], np.bool_)
        )


def _by_picture(truth: Truth) -> Mapping[int, Sequence[Annotation]]:
    grouped: dict[int, list[Annotation]] = {}
    for each in truth.annotations:
        grouped.setdefault(each.picture, []).append(each)
    return grouped


def _hidden(each: Annotation) -> bool:
    return each.crowd or each.difficult


def _image(path: Path) -> Image:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise TrainingError(f"{path} cannot be read as an image: replace it, or take it out of the annotations")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
