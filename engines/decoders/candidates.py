"""Candidates, as every served detector gives them, to detections: threshold, suppression, geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engines.boxes import nms
from engines.decoders import DetectOptions
from engines.errors import ModelError
from engines.types import Array, Detections, Geometry

_HIGHEST = 1.01  # of a score: some kernels overshoot one by a rounding


class DecodeCandidates:
    """Select among `boxes` (N, K, 4) xyxy in input pixels, `scores` (N, K) and `classes` (N, K).

    Scores that are NaN never pass; boxes that are not finite, or outside the image, are left out. Scores above one
    raise ModelError: the network lacks the sigmoid.
    """

    def __init__(self, classes: int, options: DetectOptions) -> None:
        self._classes, self._options = classes, options
        self._wanted = None if options.classes is None else np.array(options.classes, np.int32)

    def __call__(self, outputs: Mapping[str, Array], geometry: Sequence[Geometry], /) -> list[Detections]:
        """Decode each row with its geometry; boxes in pixels of the source images, best first."""
        columns = self._check(outputs, len(geometry))
        return [self._decode(*row) for row in zip(*columns, geometry, strict=True)]

    def _check(self, outputs: Mapping[str, Array], rows: int) -> tuple[Array, Array, Array]:
        shapes = {name: array.shape for name, array in outputs.items()}
        count = shapes.get("scores", (0, 0))[-1]
        if shapes != {"boxes": (rows, count, 4), "scores": (rows, count), "classes": (rows, count)}:
            given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ModelError(
                f"a served detector gives boxes, scores and classes, but this file gives {given}: build it anew"
            )
        return outputs["boxes"], outputs["scores"], outputs["classes"]

    def _decode(self, boxes: Array, scores: Array, classes: Array, geometry: Geometry) -> Detections:
        keep = scores > self._options.confidence
        if self._wanted is not None:
            keep &= np.isin(classes, self._wanted)
        xyxy, confidence, class_id = boxes[keep], scores[keep], classes[keep]
        if confidence.max(initial=0) > _HIGHEST:
            raise ModelError(
                f"a score is in 0..1, but the network gives {confidence.max():.3g}: export it with the sigmoid in the "
                "graph, or correct 'decoder' in its manifest"
            )
        if class_id.max(initial=0) >= self._classes:
            raise ModelError(f"the network found class {class_id.max()}, but its manifest has {self._classes} labels")
        kept = nms(xyxy, confidence, class_id, self._options.iou)
        placed = geometry.to_source(xyxy[kept])
        inside = (placed[:, :2] < placed[:, 2:]).all(1)
        best = kept[inside][: self._options.max_detections]
        # Copies, for the runtime writes into its outputs again.
        return Detections(placed[inside][: len(best)], class_id[best], np.minimum(confidence[best], 1))
