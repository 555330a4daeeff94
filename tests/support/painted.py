"""A few small scenes with masks, always the same: discs, squares and crosses on noise, some of them behind others."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from engines.manifest import Manifest
from engines.rle import encode
from engines.train.data.masked import MaskedScene, in_cells, stacked
from engines.types import Array, Bool

LABELS = ("disc", "square", "cross")
SIZE = (96, 128)
_COLOURS = np.array([(220, 40, 40), (40, 200, 60), (60, 80, 230)], np.uint8)


class Scenes:
    """The same few scenes, to learn and to be measured by."""

    labels = LABELS

    def __init__(self, count: int = 3) -> None:
        self._scenes = [scene(number) for number in range(count)]

    def learn(self, number: int) -> MaskedScene:
        return self._scenes[number % len(self._scenes)]

    calm = learn

    def held_out(self) -> Sequence[MaskedScene]:
        return self._scenes


def scene(seed: int) -> MaskedScene:
    """Paint four objects, the later before the earlier."""
    random = np.random.default_rng(seed)
    image = random.integers(70, 140, (*SIZE, 3)).astype(np.uint8)
    owner, classes = np.zeros(SIZE, np.uint8), [0, 1, 2, 0]
    for number, kind in enumerate(classes, 1):
        corner = np.array((number % 2, number // 2 % 2)) * (60, 44) + random.integers(4, 14, 2)
        shape = _shape(kind, corner, int(random.integers(26, 44)))
        image[shape], owner[shape] = _COLOURS[kind], number
    masks = [owner == number for number in range(1, len(classes) + 1)]
    boxes = np.array([_box(mask) for mask in masks], np.float32)
    cells = [in_cells(mask, box) for mask, box in zip(masks, boxes, strict=True)]
    hidden = np.zeros(len(classes), np.bool_)
    return MaskedScene(image, boxes, np.array(classes, np.int32), hidden, stacked(cells), tuple(map(encode, masks)))


def _shape(kind: int, corner: Array, side: int) -> Bool:
    canvas = np.zeros(SIZE, np.uint8)
    x, y = (int(each) for each in corner)
    if kind == 0:
        cv2.circle(canvas, (x + side // 2, y + side // 2), side // 2, (1,), -1)
    if kind == 1:
        cv2.rectangle(canvas, (x, y), (x + side, y + side), (1,), -1)
    if kind == 2:
        cv2.rectangle(canvas, (x, y + side // 3), (x + side, y + 2 * side // 3), (1,), -1)
        cv2.rectangle(canvas, (x + side // 3, y), (x + 2 * side // 3, y + side), (1,), -1)
    return canvas.astype(np.bool_)


def _box(mask: Bool) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def manifest(architecture: str) -> Manifest:
    """Make the manifest of a small network for such scenes."""
    background = () if architecture == "retinanet" else ("background",)
    decoders = {
        "retinanet": {"kind": "retinanet", "sizes": [[s, s * 1.26, s * 1.59] for s in (12, 24, 48, 64, 80)]},
        "rcnn": {"kind": "rcnn", "proposals": 60, "detections": 20},
    }
    return Manifest.model_validate(
        {
            "name": f"{architecture}-pico",
            "task": "segment" if architecture == "mask-rcnn" else "detect",
            "architecture": architecture,
            "variant": "pico",
            "labels": (*background, *LABELS),
            "preprocess": {
                "size": SIZE,
                "align": "top-left",
                "mean": (123.675, 116.28, 103.53),
                "std": (58.395, 57.12, 57.375),
            },
            "decoder": decoders.get(architecture, decoders["rcnn"]),
            "weights": {"checkpoint": {"file": "weights.pt"}},
        }
    )
