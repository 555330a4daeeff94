"""RetinaNet: a detector that sees an image once, and learns from every anchor."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from engines.anchors import level_anchors
from engines.manifest import Manifest
from engines.networks.retinanet import Classes, RetinaNet
from engines.outputs import RetinaNetDecoder
from engines.train.data.sources import open_scenes
from engines.train.detection import Batch, Detection
from engines.train.initial import kaiming, little
from engines.train.losses.focal import retinanet_losses
from engines.train.task import Subject

_PRIOR = 0.01  # what a score is at first: else the background would drown everything


class RetinaNetCriterion:
    """See `retinanet_losses`."""

    def __init__(self, manifest: Manifest) -> None:
        told = manifest.decoder
        assert isinstance(told, RetinaNetDecoder)  # noqa: S101 - by its network
        ratios = [told.ratios] * len(told.strides)
        levels = level_anchors(manifest.preprocess.size, told.strides, told.sizes, ratios)
        self._anchors = torch.from_numpy(np.concatenate(levels))

    def __call__(self, model: nn.Module, images: Tensor, batch: Batch, /) -> Mapping[str, Tensor]:
        logits, offsets = model(images)
        self._anchors = self._anchors.to(images.device)
        return retinanet_losses(logits, offsets, self._anchors, batch.truth)


def retinanet_task(subject: Subject) -> Detection:
    """Teach a RetinaNet. Raises TrainingError, ManifestError."""
    task = Detection(subject, open_scenes(subject), RetinaNetCriterion(subject.learnt))
    begin(task.model)
    return task


@torch.no_grad()
def begin(model: nn.Module) -> None:
    """Give a network the random weights that its authors began with."""
    assert isinstance(model, RetinaNet)  # noqa: S101 - by the table
    kaiming(model.backbone.body)
    kaiming(model.backbone.fpn, before="linear")
    little(model.head)
    classes = model.head["classification_head"]
    assert isinstance(classes, Classes) and classes.cls_logits.bias is not None  # noqa: S101, PT018 - for the type checker
    classes.cls_logits.bias.fill_(-math.log((1 - _PRIOR) / _PRIOR))
