"""What is true of a world, in the forms that models, metrics and data sets have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from engines.crops import Box, Rect, around, cut_flow, cut_image, middle_and_size, smoothed
from engines.flowfiles import FlowField
from engines.metrics.truth import Annotation, Picture, Truth
from engines.recognition import ClipSpec
from engines.rle import Rle, compress, from_runs
from engines.types import Bool, Clip, Detections, Float, Flow, Masks
from engines.world.catalogue import CLASSES
from engines.world.motion import Motion
from engines.world.scene import Scene
from engines.world.world import World

_LEAST_SEEN, _LEAST_PIXELS = 0.25, 64  # of an object: below it nobody can be blamed for missing it


def doubtful(scene: Scene) -> Bool:
    """Say which objects (N,) are hidden so far, or so small, that to miss them or to find them is no fault."""
    pixels = np.bincount(scene.labels.reshape(-1), minlength=len(scene) + 1)[1:]
    out: Bool = (scene.visible < _LEAST_SEEN) | (pixels < _LEAST_PIXELS)
    return out


def detections(scene: Scene, cells: int = 28) -> Detections:
    """Give all objects as a perfect model would: masks of *cells* a side, on boxes round what is seen."""
    masks = [_soft(scene.mask(row)[2], cells) for row in range(len(scene))]
    probs = np.stack(masks) if masks else np.zeros((0, cells, cells), np.float32)
    confidence = np.ones(len(scene), np.float32)
    return Detections(scene.xyxy, scene.class_id, confidence, scene.track_id, Masks(probs))


def _soft(mask: Bool, cells: int) -> Float:
    fine = mask.astype(np.float32)
    return np.asarray(cv2.resize(fine, (cells, cells), interpolation=cv2.INTER_AREA), np.float32)


def outlines(scene: Scene) -> list[Rle]:
    """Encode the pixels of each object, as COCO does."""
    parts = [scene.mask(row) for row in range(len(scene))]
    return compress([from_runs(top, left, mask.T, scene.size) for top, left, mask in parts], scene.size)


def annotated(scenes: Sequence[Scene]) -> Truth:
    """Make scenes a data set to evaluate on: pictures numbered from nought, and the doubtful objects as crowds."""
    pictures = tuple(Picture(i, f"{i:06}.png", scene.size) for i, scene in enumerate(scenes))
    annotations = tuple(one for i, scene in enumerate(scenes) for one in _annotations(i, scene))
    return Truth(pictures, dict(enumerate(CLASSES)), annotations)


def _annotations(picture: int, scene: Scene) -> Iterator[Annotation]:
    crowds, pixels = doubtful(scene).tolist(), np.bincount(scene.labels.reshape(-1), minlength=len(scene) + 1)
    for row, rle in enumerate(outlines(scene)):
        x1, y1, x2, y2 = scene.xyxy[row].tolist()
        area, category = float(pixels[row + 1]), int(scene.class_id[row])
        yield Annotation(picture, category, (x1, y1, x2 - x1, y2 - y1), area, crowds[row], segmentation=rle)


def coco(scenes: Sequence[Scene]) -> Mapping[str, Any]:
    """Write the annotations of scenes as COCO's JSON has them."""
    truth = annotated(scenes)
    return {
        "images": [
            {"id": each.id, "file_name": each.file_name, "height": each.size[0], "width": each.size[1]}
            for each in truth.pictures
        ],
        "categories": [{"id": number, "name": name} for number, name in truth.categories.items()],
        "annotations": [_coco(number, each) for number, each in enumerate(truth.annotations, 1)],
    }


def _coco(number: int, each: Annotation) -> Mapping[str, Any]:
    rle: Rle = each.segmentation
    return {
        "id": number,
        "image_id": each.picture,
        "category_id": each.category,
        "bbox": list(each.xywh),
        "area": each.area,
        "iscrowd": int(each.crowd),
        "segmentation": {"size": list(rle.size), "counts": rle.counts.decode("ascii")},
    }


def field(motion: Motion) -> FlowField:
    """Give a motion as a field for a file or for `flow_error`: known where what moves can be seen in both pictures."""
    return FlowField(motion.uv, ~motion.occluded)


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A clip around an object that does one thing all the while."""

    clip: Clip
    action: int
    track_id: int


@dataclass(frozen=True, slots=True)
class Cut:
    """How clips are cut: as the streamer's node of kind clips does it."""

    margin: float = 0.1  # beside a box at each side, as a share of it
    smooth: float = 0.5  # seconds over which boxes are smoothed
    least: float = 0.4  # share of an object that is seen in every sample


_USUAL = Cut()


def clips(world: World, t: float, spec: ClipSpec, cut: Cut = _USUAL) -> list[Example]:
    """Cut the clips that end at *t*, one around each object that is seen, doing one thing, from their beginning on.

    Pictures are painted once for all of them. Raises ValueError when the world is too young.
    """
    first = t - spec.length / spec.fps
    if first < 0:
        raise ValueError(f"a clip of {spec.length / spec.fps:g} s cannot end {t:g} s after the beginning of the world")
    scenes = [world.at(first + i / spec.fps) for i in range(spec.length + 1)]
    before, scenes = scenes[:-1], scenes[1:]
    flows: list[Flow] = []
    if "flow" in spec.inputs:
        flows = [Flow(world.between(*pair).uv, 1 / spec.fps) for pair in zip(before, scenes, strict=True)]
    found = _acting(scenes, cut.least)
    return [_example(rows, scenes, flows, spec, cut) for rows in found]


def _acting(scenes: Sequence[Scene], least: float) -> list[tuple[int, ...]]:
    """List, for each object that does one thing in all scenes and is well seen, its row in each."""
    rows = [
        {
            (track, action): row
            for row, (track, action) in enumerate(zip(scene.track_id.tolist(), scene.action.tolist(), strict=True))
            if scene.visible[row] >= least
        }
        for scene in scenes
    ]
    everywhere = [key for key in rows[0] if all(key in each for each in rows)]
    return [tuple(each[key] for each in rows) for key in everywhere]


def _example(rows: Sequence[int], scenes: Sequence[Scene], flows: Sequence[Flow], spec: ClipSpec, cut: Cut) -> Example:
    rects = _rects(rows, scenes, spec, cut)
    rgb = [cut_image(scene.image, rect, spec.size) for scene, rect in zip(scenes, rects, strict=True)]
    size = scenes[0].size
    uv = [cut_flow(flow, rect, size, spec.size) for flow, rect in zip(flows, rects, strict=False)]
    clip = Clip(np.stack(rgb), np.stack(uv) if uv else None)
    return Example(clip, int(scenes[0].action[rows[0]]), int(scenes[0].track_id[rows[0]]))


def _rects(rows: Sequence[int], scenes: Sequence[Scene], spec: ClipSpec, cut: Cut) -> list[Rect]:
    """Follow an object's box."""
    rects: list[Rect] = []
    box: Box | None = None
    for row, scene in zip(rows, scenes, strict=True):
        now = middle_and_size(scene.xyxy[row], scene.size)
        box = now if box is None else smoothed(box, now, 1 / spec.fps, cut.smooth)
        rects.append(around(box, cut.margin, scene.size, spec.size))
    return rects
