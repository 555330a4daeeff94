"""The tracker on what our detector finds in worlds that nobody learnt from: objects keep their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from engines import zoo
from engines.boxes import Suppression, iou
from engines.decoders import DetectOptions
from engines.load import open_detector
from engines.manifest import find
from engines.metrics import mot
from engines.runtimes.base import RuntimeOptions
from engines.track.tracker import Tracker
from engines.types import Detections
from engines.world import Scene, World
from engines.world.truth import detections, doubtful

_WORLDS, _FRAMES, _FPS = 8, 75, 25
_FIRST = 900_000  # of seeds below those that are trained on
_APART = 1_000_000  # between the numbers of two worlds
_SAME = 0.5  # IoU from which two boxes are of the same object


def seen(number: int) -> Iterator[Scene]:
    world = World(_FIRST + number, (640, 360), 12)
    return (world.at(10 + frame / _FPS) for frame in range(_FRAMES))


def without(found: Detections, unsure: Detections) -> Detections:
    """Leave out what shows an object that nobody can be blamed for finding."""
    if not len(found) or not len(unsure):
        return found
    return found[iou(found.xyxy, unsure.xyxy).max(axis=1) < _SAME]


def numbered(found: Detections, number: int) -> Detections:
    assert found.track_id is not None
    return replace(found, track_id=found.track_id + np.int32(number * _APART))


def test_objects_keep_their_numbers() -> None:
    manifest = find("yolox-pico")
    if (weights := zoo.find_local(manifest, environ={"XDG_CACHE_HOME": "/nowhere"})) is None:
        pytest.skip("config/weights holds no yolox-pico.onnx: train and adopt it")
    detect = DetectOptions(0.05, Suppression(iou=manifest.defaults.iou))
    opened = open_detector(manifest, weights, detect, ["onnxruntime"], RuntimeOptions(precision="fp32", max_batch=_FPS))
    true: list[Detections] = []
    tracked: list[Detections] = []
    try:
        for number in range(_WORLDS):
            tracker, scenes = Tracker(), [*seen(number)]
            found = [
                each for first in range(0, _FRAMES, _FPS) for each in opened([s.image for s in scenes[first:][:_FPS]])
            ]
            for frame, (scene, each) in enumerate(zip(scenes, found, strict=True)):
                objects, unsure = detections(scene), doubtful(scene)
                here = tracker.update(each, frame / _FPS)
                true.append(numbered(objects[~unsure], number))
                tracked.append(numbered(without(here, objects[unsure]), number))
    finally:
        opened.close()
    assert mot.evaluate(true, tracked).idf1 >= 0.85
