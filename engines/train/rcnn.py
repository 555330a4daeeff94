"""Detectors that look twice: Faster R-CNN, and Mask R-CNN, which paints what it finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from engines.manifest import Manifest
from engines.masks import encode_masks
from engines.metrics.coco import evaluate
from engines.metrics.truth import Found, Truth
from engines.networks.rcnn import MaskedRoiHeads, Rcnn
from engines.rle import area
from engines.train.data.masked import MaskedFolder, MaskedScene, MaskedWorlds
from engines.train.data.scene import Scene, Scenes
from engines.train.data.sources import open_folders, open_scenes
from engines.train.detection import Batch, Detection, in_columns
from engines.train.initial import kaiming, little
from engines.train.losses.matching import Instances
from engines.train.losses.rcnn import Lesson, RcnnLoss
from engines.train.measure import box_figures, detections, truth_of
from engines.train.task import Subject
from engines.types import Detections

_LESSONS = {"pico": Lesson(anchors=128, proposals=200, regions=64)}  # of variants that are not full-size


class RcnnCriterion:
    """See `RcnnLoss`."""

    def __init__(self, manifest: Manifest) -> None:
        self._size, self._lesson = manifest.preprocess.size, _LESSONS.get(manifest.variant or "", Lesson())
        self._loss: RcnnLoss | None = None

    def __call__(self, model: nn.Module, images: Tensor, batch: Batch, /) -> Mapping[str, Tensor]:
        assert isinstance(model, Rcnn)  # noqa: S101 - by the table
        if self._loss is None:
            self._loss = RcnnLoss(self._size, model.variant.search, self._lesson).to(images.device)
        losses: Mapping[str, Tensor] = self._loss(model, images, batch.truth)
        return losses


class Segmentation(Detection):
    """Learn to find and paint the objects of scenes."""

    def batch(self, step: int, size: int) -> Batch:
        placed = [self._placed(self._scenes.learn(step * size + i)) for i in range(size)]
        frames = torch.from_numpy(np.stack([scene.image for scene in placed]))
        return Batch(frames, with_masks(placed), torch.tensor(0.0))

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        told = self._subject.manifest
        found = detections(model, told, self._held_out)
        boxes = box_figures(self._held_out, found, told.labels)
        return mask_figures(self._held_out, found, told.labels) | boxes


def with_masks(scenes: Sequence[Scene]) -> Instances:
    """Pad the objects of scenes to the most that one has, but one at least."""
    truth = in_columns(scenes)
    masks = [scene.masks for scene in scenes if isinstance(scene, MaskedScene)]
    cells = torch.zeros(*truth.there.shape, *masks[0].shape[1:], dtype=torch.uint8)
    for row, each in enumerate(masks):
        cells[row, : len(each)] = torch.from_numpy(each)
    return Instances(truth.boxes, truth.classes, truth.there, cells)


def mask_figures(scenes: Sequence[Scene], found: Sequence[Detections], labels: Sequence[str]) -> dict[str, float]:
    """Measure what was painted in scenes, whose classes are rows of *labels*, as COCO does: in 0..1."""
    painted = {number: _painted(*pair) for number, pair in enumerate(zip(scenes, found, strict=True))}
    summary = evaluate(outlined_truth(scenes, labels), painted, "masks").summary
    return {"mask_map50": summary.ap50, "mask_map": summary.ap}


def outlined_truth(scenes: Sequence[Scene], labels: Sequence[str]) -> Truth:
    """Write scenes with outlines as annotations; hidden objects are crowds, which may be found or not."""
    truth = truth_of(scenes, labels)
    outlines = [each for scene in scenes if isinstance(scene, MaskedScene) for each in scene.outlines]
    pairs = zip(truth.annotations, outlines, strict=True)
    return replace(truth, annotations=tuple(replace(a, segmentation=rle, area=float(area(rle))) for a, rle in pairs))


def _painted(scene: Scene, found: Detections) -> Found:
    assert found.masks is not None  # noqa: S101 - a segmenter paints
    return Found(found, tuple(encode_masks(found.masks, found.xyxy, scene.image.shape[:2])))


def faster_rcnn_task(subject: Subject) -> Detection:
    """Teach a Faster R-CNN. Raises TrainingError, ManifestError."""
    task = Detection(subject, open_scenes(subject), RcnnCriterion(subject.learnt))
    begin(task.model)
    return task


def mask_rcnn_task(subject: Subject) -> Segmentation:
    """Teach a Mask R-CNN. Raises TrainingError, ManifestError."""
    task = Segmentation(subject, open_masked(subject), RcnnCriterion(subject.learnt))
    begin(task.model)
    return task


def open_masked(subject: Subject) -> Scenes:
    """Open what `open_scenes` does, with masks. Raises TrainingError."""
    kind, _, rest = subject.data.partition(":")
    if kind == "world" and not rest:
        return MaskedWorlds(subject.seed, size=subject.learnt.preprocess.size)
    folder, measured = open_folders(subject.data, "a segmenter")
    return MaskedFolder(folder, subject.seed, measured)


def begin(model: nn.Module) -> None:
    """Give a network the random weights that its authors began with."""
    assert isinstance(model, Rcnn)  # noqa: S101 - by the table
    kaiming(model.backbone.body)
    kaiming(model.backbone.fpn, before="linear")
    little(model.rpn)
    heads = model.roi_heads
    little(heads.box_predictor.cls_score)
    little(heads.box_predictor.bbox_pred, 0.001)
    if isinstance(heads, MaskedRoiHeads):
        kaiming(heads.mask_head)
        kaiming(heads.mask_predictor.conv5_mask)
        little(heads.mask_predictor.mask_fcn_logits, 0.001)
