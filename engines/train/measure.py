"""A network that is being trained, measured as it will be served: by our own preprocessing, heads and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from engines.boxes import Suppression
from engines.decoders import DetectOptions
from engines.feeds import feed_of
from engines.load import as_detector
from engines.manifest import Manifest
from engines.metrics.coco import evaluate
from engines.metrics.truth import Annotation, Found, Picture, Truth, xywh_of
from engines.networks.served import serve
from engines.train.data.scene import Scene
from engines.types import Array, Detections, TensorSpec

_HARDLY = 0.02  # confidence from which objects count: average precision sees them all


class InMemory:
    """A runtime that is a network in torch, as it stands."""

    outputs: tuple[TensorSpec, ...] = ()  # they are known when they come

    def __init__(self, network: nn.Module, manifest: Manifest, max_batch: int = 16) -> None:
        feed = feed_of(manifest)
        self._device = next(network.parameters()).device
        self._served = serve(network, manifest, torch.float32).to(self._device)
        self._name = feed.name
        self.inputs = (TensorSpec(feed.name, feed.dtype, (None, *feed.shape)),)
        self.max_batch = max_batch
        self.description = f"torch {torch.__version__} {self._device.type} fp32"

    @torch.inference_mode()
    def infer(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        outputs = self._served(torch.from_numpy(feeds[self._name]).to(self._device))
        return {name: value.cpu().numpy() for name, value in outputs.items()}

    def close(self) -> None:
        """Leave the network to whom it belongs."""


def detections(network: nn.Module, manifest: Manifest, scenes: Sequence[Scene]) -> list[Detections]:
    """Find what there is in scenes, as the served model would."""
    options = DetectOptions(_HARDLY, Suppression(iou=manifest.defaults.iou))
    return as_detector(manifest, InMemory(network, manifest), options)([scene.image for scene in scenes])


def box_figures(scenes: Sequence[Scene], found: Sequence[Detections], labels: Sequence[str]) -> dict[str, float]:
    """Measure what was found in scenes, whose classes are rows of *labels*, as COCO does: in 0..1."""
    by_image = {number: Found(each) for number, each in enumerate(found)}
    summary = evaluate(truth_of(scenes, labels), by_image).summary
    return {"map50": summary.ap50, "map": summary.ap}


def truth_of(scenes: Iterable[Scene], labels: Sequence[str]) -> Truth:
    """Write scenes as annotations; hidden objects are crowds, which may be found or not."""
    pictures, annotations = [], []
    for number, scene in enumerate(scenes):
        pictures.append(Picture(number, str(number), scene.image.shape[:2]))
        objects = Detections(scene.boxes, scene.classes, np.ones(len(scene.boxes), np.float32))
        for xywh, category, hidden in zip(xywh_of(objects).tolist(), scene.classes, scene.hidden, strict=True):
            x, y, w, h = xywh
            annotations.append(Annotation(number, int(category), (x, y, w, h), w * h, crowd=bool(hidden)))
    return Truth(tuple(pictures), dict(enumerate(labels)), tuple(annotations))
