"""A few images with coloured shapes on noise, and networks small enough to learn them within seconds."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from engines.manifest import Manifest, find
from engines.outputs import SsdDecoder
from engines.train.data.scene import Scene
from engines.types import Image

LABELS = ("brick", "ball")
SIZE = (64, 96)  # height, width
_COLOURS = ((220, 60, 40), (40, 90, 230))


def scene(seed: int, size: tuple[int, int] = SIZE, objects: int = 3) -> Scene:
    """Draw up to so many objects that do not overlap."""
    random = np.random.default_rng(seed)
    image = random.integers(90, 150, (*size, 3), np.uint8)
    boxes: list[tuple[int, int, int, int]] = []
    classes = []
    for _ in range(10 * objects):
        side, label = int(random.integers(14, 28)), int(random.integers(len(LABELS)))
        x, y = (int(random.integers(0, limit - side)) for limit in (size[1], size[0]))
        box = (x, y, x + side, y + side)
        if len(boxes) < objects and all(_apart(box, other) for other in boxes):
            _draw(image, box, label)
            boxes.append(box)
            classes.append(label)
    hidden = np.zeros(len(boxes), np.bool_)
    return Scene(image, np.array(boxes, np.float32), np.array(classes, np.int32), hidden)


class Few:
    """The same images, to learn from and to be measured by: what is asked is whether they can be learnt at all."""

    labels = LABELS

    def __init__(self, count: int) -> None:
        self._scenes = [scene(seed) for seed in range(count)]

    def learn(self, number: int) -> Scene:
        return self._scenes[number % len(self._scenes)]

    def calm(self, number: int) -> Scene:
        return self.learn(number)

    def held_out(self) -> Sequence[Scene]:
        return self._scenes


def yolox() -> Manifest:
    """Make yolox-pico a model of these."""
    return _small("yolox-pico", LABELS, {})


def ssd() -> Manifest:
    """Make ssd-pico a model of these."""
    cells = [(-(-SIZE[0] // stride), -(-SIZE[1] // stride)) for stride in (8, 16, 32, 64, 128, 256)]
    return _small("ssd-pico", ("background", *LABELS), {"maps": tuple(cells)})


def _small(name: str, labels: tuple[str, ...], told: dict[str, object]) -> Manifest:
    ours = find(name)
    preprocess = ours.preprocess.model_copy(update={"size": SIZE})
    decoder = ours.decoder.model_copy(update=told)
    assert not told or isinstance(decoder, SsdDecoder)
    return ours.model_copy(update={"labels": labels, "preprocess": preprocess, "decoder": decoder})


def _apart(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[2] + 4 < b[0] or b[2] + 4 < a[0] or a[3] + 4 < b[1] or b[3] + 4 < a[1]


def _draw(image: Image, box: tuple[int, int, int, int], label: int) -> None:
    x1, y1, x2, y2 = box
    if LABELS[label] == "brick":
        image[y1:y2, x1:x2] = _COLOURS[label]
    else:
        half = (x2 - x1) // 2
        cv2.circle(image, (x1 + half, y1 + half), half, _COLOURS[label], -1)
