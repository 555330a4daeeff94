"""Images made of others: mirrored, cropped and scaled, in other colours, four in one. Boxes go with them.

Each takes a scene and a generator of random numbers, and gives a scene. What is left of an object must be enough to
know it by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from engines.geometry import Size
from engines.train.data.scene import Random, Scene
from engines.types import Float

Augment = Callable[[Scene, Random], Scene]

_GREY = 114  # around images, as YOLOX pads
_LEAST = 0.3  # of an object's area that must be left
_THIN = 2.0  # pixels: what is thinner is gone
_HSV = (0.015, 0.7, 0.4)  # how far hue, saturation and value may go: as YOLO's trainers have it


def mirror(scene: Scene, random: Random) -> Scene:
    """Turn left and right around, every other time."""
    if random.random() < 0.5:
        return scene
    boxes = scene.boxes.copy()
    boxes[:, [0, 2]] = scene.image.shape[1] - scene.boxes[:, [2, 0]]
    return replace(scene, image=np.ascontiguousarray(scene.image[:, ::-1]), boxes=boxes)


def recolour(scene: Scene, random: Random) -> Scene:
    """Shift the hue, and scale saturation and value."""
    hue, saturation, value = 1 + np.array(_HSV) * random.uniform(-1, 1, 3)
    steps = np.arange(256)
    tables = ((steps + (hue - 1) * 180) % 180, (steps * saturation).clip(0, 255), (steps * value).clip(0, 255))
    planes = cv2.split(cv2.cvtColor(scene.image, cv2.COLOR_RGB2HSV))
    turned = [cv2.LUT(plane, table.astype(np.uint8)) for plane, table in zip(planes, tables, strict=True)]
    return replace(scene, image=np.asarray(cv2.cvtColor(cv2.merge(turned), cv2.COLOR_HSV2RGB), np.uint8))


def zoom(scene: Scene, random: Random, least: float = 0.5, most: float = 1.5) -> Scene:
    """Scale the image within its own frame and shift it at random; grey lies where nothing is."""
    height, width = scene.image.shape[:2]
    scale = float(random.uniform(least, most))
    shift = random.uniform(0, 1, 2) * (np.array((width, height)) * (1 - scale))
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
    image = cv2.warpAffine(scene.image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=(_GREY,) * 3)
    boxes = scene.boxes * np.float32(scale) + np.tile(shift, 2).astype(np.float32)
    return cut(replace(scene, image=np.asarray(image, np.uint8), boxes=boxes), (height, width))


def mosaic(scenes: Sequence[Scene], size: Size, random: Random) -> Scene:
    """Lay four scenes around a random point, each scaled to fill about a quarter of *size* and more.

    Bochkovskiy et al. 2020, "YOLOv4", https://arxiv.org/abs/2004.10934, section 3.4.
    """
    height, width = size
    image = np.full((height, width, 3), _GREY, np.uint8)
    x, y = int(random.uniform(0.3, 0.7) * width), int(random.uniform(0.3, 0.7) * height)
    parts = []
    for scene, (left, top) in zip(scenes, ((True, True), (False, True), (True, False), (False, False)), strict=True):
        x1, x2 = (0, x) if left else (x, width)
        y1, y2 = (0, y) if top else (y, height)
        part = _corner(scene, (y2 - y1, x2 - x1), random)
        image[y1:y2, x1:x2] = part.image
        parts.append(replace(part, boxes=part.boxes + np.array((x1, y1, x1, y1), np.float32)))
    boxes, classes = np.concatenate([part.boxes for part in parts]), np.concatenate([part.classes for part in parts])
    return Scene(image, boxes, classes, np.concatenate([part.hidden for part in parts]))


def _corner(scene: Scene, size: Size, random: Random) -> Scene:
    """Scale a scene so that it covers *size*, or up to half as much more, and cut that out of it."""
    height, width = scene.image.shape[:2]
    scale = max(size[0] / height, size[1] / width) * random.uniform(1.0, 1.5)
    spare = (width * scale - size[1], height * scale - size[0])
    shift = [-random.uniform(0, max(each, 0)) for each in spare]
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
    image = cv2.warpAffine(scene.image, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    boxes = scene.boxes * np.float32(scale) + np.tile(shift, 2).astype(np.float32)
    return cut(replace(scene, image=np.asarray(image, np.uint8), boxes=boxes), size)


def cut(scene: Scene, size: Size) -> Scene:
    """Cut boxes off where the image ends, and leave out objects of which too little is left."""
    limit = np.array((size[1], size[0]) * 2, np.float32)
    boxes = scene.boxes.clip(0, limit)
    sides = boxes[:, 2:] - boxes[:, :2]
    left = sides.prod(1) >= _LEAST * _area(scene.boxes)
    return replace(scene, boxes=boxes).only(left & (sides.min(1, initial=np.inf) >= _THIN))


def _area(boxes: Float) -> Float:
    area: Float = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return area
