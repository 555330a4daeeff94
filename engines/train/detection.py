"""Detectors that see an image once: YOLOX and SSD."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from engines.anchors import default_boxes
from engines.feeds import feed_of
from engines.load import preprocess_spec
from engines.manifest import Manifest
from engines.networks import build_network
from engines.networks.served import Feeding
from engines.networks.yolox import AnchorPoints, Yolox
from engines.outputs import SsdDecoder, YoloxDecoder
from engines.preprocess import place
from engines.train.data.augment import cut
from engines.train.data.scene import Scene, Scenes
from engines.train.data.sources import open_scenes
from engines.train.errors import TrainingError
from engines.train.losses.ssd import multibox_loss
from engines.train.losses.yolox import Objects, yolox_loss
from engines.train.measure import box_figures, detections
from engines.train.task import Subject

_CALM = 0.85  # of the steps are done when images stop being distorted
_PRIOR = 0.01  # what a score is at first: objects are rare


@dataclass(frozen=True, slots=True)
class Batch:
    """Images as a served graph is fed them, and what is in them."""

    frames: Tensor  # uint8 (N, H, W, 3) RGB
    truth: Objects
    calm: Tensor  # 0, or 1 towards the end of the training


class Criterion(Protocol):
    """Run a network on images (N, 3, H, W), and rate what it says."""

    def __call__(self, model: nn.Module, images: Tensor, batch: Batch, /) -> Mapping[str, Tensor]: ...


class Detection:
    """Learn to find the objects of scenes."""

    def __init__(self, subject: Subject, scenes: Scenes, criterion: Criterion) -> None:
        """Make the network, with random weights of the subject's seed. Raises TrainingError, ManifestError."""
        told = subject.manifest
        self._subject, self._scenes, self._criterion = subject, scenes, criterion
        self._rows = _rows(scenes.labels, told)
        torch.manual_seed(subject.seed)
        network = build_network(told.architecture or "", told.variant, len(told.labels))
        self.model = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stubs lack it
        self._feeding = Feeding(feed_of(told))

    def batch(self, step: int, size: int) -> Batch:
        calm = step >= _CALM * self._subject.steps
        take = self._scenes.calm if calm else self._scenes.learn
        placed = [self._placed(take(step * size + i)) for i in range(size)]
        frames = torch.from_numpy(np.stack([scene.image for scene in placed]))
        return Batch(frames, in_columns(placed), torch.tensor(float(calm)))

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        images = self._feeding.to(batch.frames.device)(batch.frames)
        return self._criterion(self.model, images, batch)

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        told = self._subject.manifest
        return box_figures(self._held_out, detections(model, told, self._held_out), told.labels)

    @cached_property
    def _held_out(self) -> list[Scene]:
        return [self._named(scene) for scene in self._scenes.held_out()]

    def _named(self, scene: Scene) -> Scene:
        """Number the classes as the model does."""
        return replace(scene, classes=self._rows[scene.classes])

    def _placed(self, scene: Scene) -> Scene:
        """Bring a scene into the network's input, without what is not to be found."""
        image, geometry = place(scene.image, preprocess_spec(self._subject.learnt))
        boxes = geometry.to_input(scene.boxes)
        kept = self._named(replace(scene, image=image, boxes=boxes)).only(~scene.hidden)
        return cut(kept, (image.shape[0], image.shape[1]))


def _rows(labels: Sequence[str], told: Manifest) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Say which of the model's classes each of the data's is. Raises TrainingError where one is missing."""
    missing = [label for label in labels if label not in told.labels]
    if missing:
        raise TrainingError(
            f"{told.name} has no label {missing[0]!r}, but the data has: write a manifest with all of its classes"
        )
    return np.array([told.labels.index(label) for label in labels], np.int32)


def in_columns(scenes: Sequence[Scene]) -> Objects:
    """Pad the objects of scenes to the most that one has, but one at least."""
    most = max(1, *(len(scene.boxes) for scene in scenes))
    boxes = torch.zeros(len(scenes), most, 4)
    classes = torch.zeros(len(scenes), most, dtype=torch.int64)
    there = torch.zeros(len(scenes), most, dtype=torch.bool)
    for row, scene in enumerate(scenes):
        count = len(scene.boxes)
        boxes[row, :count] = torch.from_numpy(scene.boxes)
        classes[row, :count] = torch.from_numpy(scene.classes)
        there[row, :count] = True
    return Objects(boxes, classes, there)


# --- YOLOX ---


class YoloxCriterion:
    """See `yolox_loss`."""

    def __init__(self, manifest: Manifest) -> None:
        assert isinstance(manifest.decoder, YoloxDecoder)  # noqa: S101 - by its network
        self._points = AnchorPoints(manifest.preprocess.size, manifest.decoder.strides)

    def __call__(self, model: nn.Module, images: Tensor, batch: Batch, /) -> Mapping[str, Tensor]:
        return yolox_loss(model(images), self._points.to(images.device), batch.truth, exact=batch.calm)


def yolox_task(subject: Subject) -> Detection:
    """Teach a YOLOX. Raises TrainingError, ManifestError."""
    task = Detection(subject, open_scenes(subject), YoloxCriterion(subject.learnt))
    assert isinstance(task.model, Yolox)  # noqa: S101 - by the table
    expect_little(task.model)
    return task


@torch.no_grad()
def expect_little(model: Yolox) -> None:
    """Let every score begin low: Lin et al. 2017, "Focal Loss", https://arxiv.org/abs/1708.02002, section 4.1."""
    for last in (*model.head.obj_preds, *model.head.cls_preds):
        assert isinstance(last, nn.Conv2d) and last.bias is not None  # noqa: S101, PT018 - for the type checker
        last.bias.fill_(-math.log((1 - _PRIOR) / _PRIOR))


# --- SSD ---


class SsdCriterion:
    """See `multibox_loss`."""

    def __init__(self, manifest: Manifest) -> None:
        told = manifest.decoder
        assert isinstance(told, SsdDecoder)  # noqa: S101 - by its network
        boxes = default_boxes(manifest.preprocess.size, told.maps, told.scales, told.ratios, told.steps)
        self._defaults, self._weights = torch.from_numpy(boxes), told.weights

    def __call__(self, model: nn.Module, images: Tensor, batch: Batch, /) -> Mapping[str, Tensor]:
        logits, offsets = model(images)
        self._defaults = self._defaults.to(images.device)
        return multibox_loss(logits, offsets, self._defaults, batch.truth, self._weights)


def ssd_task(subject: Subject) -> Detection:
    """Teach an SSD. Raises TrainingError, ManifestError."""
    return Detection(subject, open_scenes(subject), SsdCriterion(subject.manifest))
