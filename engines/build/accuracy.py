"""What a precision costs: the detections of one graph against those of the same model in fp32."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from engines.boxes import Suppression
from engines.build.base import Material, Recipe
from engines.decoders import DetectOptions
from engines.load import as_detector
from engines.metrics.coco import MeanAp, mean_ap
from engines.runtimes import open_runtime
from engines.runtimes.base import RuntimeOptions
from engines.types import Detections, Image

_HARDLY = 0.05  # confidence from which average precision sees what is found: more would count thresholds, not objects


def sure_of(bench: Material, images: Sequence[Image]) -> list[Detections]:
    """Find in images (H, W, 3) what a detector's fp32 graph is sure of, in ONNX Runtime.

    Raises RuntimeUnavailable, BuildError, ModelError.
    """
    return _detect(bench, Recipe(), images, bench.manifest.defaults.confidence)


def accuracy(bench: Material, recipe: Recipe, images: Sequence[Image], truth: Sequence[Detections]) -> MeanAp:
    """Measure another graph of a detector on images (H, W, 3) in ONNX Runtime, against what is true in each.

    Raises RuntimeUnavailable, BuildError, ModelError.
    """
    return mean_ap(truth, _detect(bench, recipe, images, _HARDLY))


def _detect(bench: Material, recipe: Recipe, images: Sequence[Image], confidence: float) -> list[Detections]:
    options = RuntimeOptions(recipe.precision, max_batch=1)
    with closing(open_runtime("onnxruntime", bench.graph(recipe), options)) as runtime:
        wanted = DetectOptions(confidence, Suppression(iou=bench.manifest.defaults.iou))
        return as_detector(bench.manifest, runtime, wanted)(images)
